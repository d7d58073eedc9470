"""The options of every command, composed from groups that commands share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from layerwise.options.declaration import Option, defaults
from layerwise.options.groups import (
    Batches,
    Conditions,
    Examples,
    FittedBatches,
    Judging,
    Loading,
    Loss,
    Packing,
    Pooling,
    Probes,
    Proof,
    Readout,
    Residual,
    RowFilter,
    Seed,
    Steps,
    TextOptions,
    Training,
    Trust,
    Views,
    Watching,
    Writing,
)

if TYPE_CHECKING:
    from layerwise.card.record import LayerCard
    from layerwise.placement.record import PlacedBlock, Placement


#: Replicates behind a slope's interval: its ends then move by a percent (ours).
BOOTSTRAP = 1000
#: Random placements of a measurement, and the learning rates that its arms choose from (ours).
DRAWS, LADDER = 5, (2e-4, 6e-4, 2e-3)


class CardOptions(TextOptions, FittedBatches, Loading, Loss, total=False):
    """`layerwise card`."""

    signals: Annotated[
        Sequence[str] | None, Option("Only these columns{names}.", unset="all", metavar="A,B")
    ]
    rank: Annotated[int, Option("Adapter rank that is simulated.", 8, least=1)]
    targets: Annotated[
        Sequence[str] | None,
        Option(
            "Modules adapted in each block, such as q_proj,v_proj.",
            unset="the model's usual",
            metavar="A,B",
        ),
    ]
    readout: Annotated[Readout, Option("Which tensor stands for a block's output.", "residual")]
    residual: Annotated[
        Residual,
        Option(
            "The residual norm: inputs by their mean entry or norm, the norm of each gradient or "
            "of their mean.",
            "algorithm-1",
        ),
    ]
    exact_entropy: Annotated[
        bool, Option("Attention entropy from every query row, not from a sample.", default=False)
    ]


class GoalOptions(TypedDict, total=False):
    """How costly a placement may be; `place` takes it as its second argument."""

    goal: Annotated[
        str | None,
        Option(
            "How long a step may take{names}.",
            unset="quality, or any length where a policy is named",
        ),
    ]


class PlaceOptions(TypedDict, total=False):
    """`layerwise place`: what chooses the blocks, and the adapters on them."""

    policy: Annotated[str | None, Option("What chooses the blocks{names}.", unset="gain")]
    layers: Annotated[
        int | None, Option("How many.", unset="the policy's", flags=("-k", "--layers"))
    ]
    blocks: Annotated[
        "str | Sequence[int | PlacedBlock] | None",
        Option(
            "These blocks, in place of a policy; STACK:3,7 where there are several stacks.",
            text=str | None,
            metavar="3,7,11",
        ),
    ]
    stack: Annotated[str | None, Option("Only blocks of this stack.", unset="any")]
    reference: Annotated[
        "LayerCard | Path | str | None",
        Option(
            "A like card on which `layerwise measure` compared policies: take the best.",
            text=Path | None,
            metavar="CARD",
        ),
    ]
    seed: Annotated[int, Option("Of policy random.", 0)]
    ski_alpha: Annotated[float, Option("Share of the entropy in SKI.", 0.5, least=0, most=1)]
    ski_reach: Annotated[int, Option("Neighbours on either side of an inflection.", 1, least=0)]
    ski_threshold: Annotated[
        float, Option("Share of the largest gradient below which ski-greedy acts.", 0.25, above=0)
    ]
    rank: Annotated[int | None, Option("LoRA rank.", unset="the card's")]
    alpha: Annotated[int | None, Option("LoRA alpha.", unset="twice the rank")]
    ranks: Annotated[
        "str | Mapping[int | PlacedBlock, int] | None",
        Option(
            "Blocks that have another rank; STACK:3=4 where there are several stacks.",
            text=str | None,
            metavar="3=4,7=16",
        ),
    ]


class ExportOptions(Trust, total=False):
    """`layerwise place`: what is written."""

    trainer: Annotated[
        str,
        Option(
            "Whose configuration to write{names}; freeze: lists of weights, for training "
            "blocks whole.",
            "peft",
            flags=("--for",),
        ),
    ]
    model: Annotated[
        str | None,
        Option("Where the card's model lies now.", unset="as in the card", metavar="MODEL"),
    ]


@defaults(batch_size=32, examples=None, save_every=0)
class TuneOptions(TextOptions, Loading, Loss, Training, Writing, total=False):
    """`layerwise tune`."""

    condition: Annotated[
        str | None,
        Option(
            "What is frozen, what moves, at which rate{names}.",
            unset="standard; lora with a placement or quantised weights; uniform with blocks that "
            "train whole",
        ),
    ]
    placement: Annotated[
        "Placement | Path | str | Sequence[int | PlacedBlock] | None",
        Option(
            "Where LoRA goes, or the blocks that train whole.",
            unset="all blocks",
            text=str | None,
            metavar="FILE|3,7,11",
        ),
    ]
    from_config: Annotated[
        "Path | str | None",
        Option(
            "Random weights of this configuration; MODEL names the tokenizer.",
            text=Path | None,
            metavar="FILE.json",
        ),
    ]
    resume: Annotated[bool, Option("Go on from the last checkpoint in --out.", default=False)]


@defaults(batch_size=32, max_length=64, examples=None)
class ProfileSettings(Seed, Batches, Examples, Views, Probes, total=False):
    """How a profile is taken."""

    bootstrap: Annotated[
        int, Option("Resamples of the probes behind the slope's interval.", BOOTSTRAP, least=1)
    ]
    pca_components: Annotated[int, Option("Components of the shared PCA.", 256, least=1)]


@defaults(batch_size=32, max_length=64, examples=290)
class ProfileOptions(ProfileSettings, Loading, Proof, total=False):
    """`layerwise profile`."""

    card: Annotated[
        "LayerCard | Path | str | None",
        Option(
            "A Layer Card of BEFORE: what it would have placed, beside where the adapter is.",
            text=Path | None,
            metavar="CARD",
        ),
    ]


@defaults(batch_size=32, max_length=64, examples=290)
class AuditOptions(Seed, Batches, Examples, Probes, Loading, Proof, total=False):
    """`layerwise audit`."""

    card: Annotated[
        "LayerCard | Path | str | None",
        Option(
            "A Layer Card of its base: what it would have placed, beside where the adapter is.",
            text=Path | None,
            metavar="CARD",
        ),
    ]


@defaults(batch_size=32, examples=None)
class ControlOptions(
    TextOptions, Loading, Loss, FittedBatches, Packing, Steps, Conditions, Watching, Views, Probes,
    Judging, Writing, total=False,
):  # fmt: skip
    """`layerwise control`."""

    seeds: Annotated[
        Sequence[int],
        Option(
            "Of the runs: data order, masks, dropout. A pair of runs each; three decide at least.",
            (0, 1, 2),
            metavar="0,1,2",
            once=True,
        ),
    ]
    match: Annotated[
        Literal["steps", "movement"],
        Option(
            "What tau makes alike under both conditions: the median relative step, or how far all "
            "depths move together, by up to four trial runs more a seed.",
            "steps",
        ),
    ]
    keep_weights: Annotated[bool, Option("Keep the fine-tuned models too.", default=False)]


class FinishedOptions(Seed, Loading, Views, Probes, Judging, total=False):
    """`layerwise control --runs`: what finished runs leave to choose."""


@defaults(batch_size=32, examples=1000)
class DistanceOptions(Seed, Batches, Examples, Loading, RowFilter, total=False):
    """`layerwise distance`."""

    objectives: Annotated[
        Sequence[str] | None,
        Option("What is compared.", unset="all that the model can do", metavar="A,B"),
    ]
    reference: Annotated[
        str | None, Option("The objective they are compared with.", unset="masked-lm or causal-lm")
    ]


@defaults(batch_size=32, examples=1000)
class ProbeOptions(Seed, Batches, Examples, Loading, RowFilter, Views, total=False):
    """`layerwise probe`."""

    label_column: Annotated[str, Option("The class.", "label")]
    pooling: Annotated[
        Pooling,
        Option(
            "A text's state: the mean of its tokens', the first's ([CLS]) or the last's.", "mean"
        ),
    ]
    epochs: Annotated[int, Option("Passes of a probe over its examples.", 20, least=1)]
    test_share: Annotated[
        float, Option("Share of each class that probes are judged on.", 0.2, above=0, below=1)
    ]


@defaults(batch_size=32, max_length=64, examples=None)
class EraseOptions(Seed, Batches, Examples, Loading, Views, total=False):
    """`layerwise erase`."""

    folds: Annotated[
        int, Option("Parts of the pairs; each is judged by an eraser of the others.", 5, least=2)
    ]
    draws: Annotated[int, Option("Random directions that the eraser is held against.", 20, least=1)]
    standardise: Annotated[
        bool, Option("Divide each feature by its standard deviation first.", default=False)
    ]


@defaults(batch_size=32, examples=None)
class MeasureOptions(TextOptions, FittedBatches, Loading, Loss, Steps, total=False):
    """`layerwise measure`."""

    card: Annotated[
        "LayerCard | Path | str | None",
        Option(
            "The model's card, which gets the results.",
            unset="one is made for the purpose",
            text=Path | None,
            metavar="CARD",
        ),
    ]
    quality: Annotated[
        str,
        Option(
            "What is to get better: loss, accuracy; of generated text exact-match, number-match, "
            "bleu, chrf, chrf++, ter, rouge, meteor, nist, cider, bertscore:MODEL; or "
            "harness:TASK of lm-evaluation-harness.",
            "loss",
        ),
    ]
    layers: Annotated[
        int | None, Option("Blocks a placement.", unset="a sixth", flags=("-k", "--layers"))
    ]
    rank: Annotated[int | None, Option("LoRA rank.", unset="the card's")]
    arms: Annotated[
        Sequence[str] | None,
        Option(
            "What is compared: recommended, a goal or policy of `layerwise place`, eva, kappa, "
            "snr, gradient, random, low-rank, all.",
            unset="every one",
            metavar="A,B",
        ),
    ]
    draws: Annotated[int, Option("Random placements.", DRAWS, least=0)]
    seeds: Annotated[
        Sequence[int],
        Option(
            "Of the trials: the same batches for every arm.", (0, 1, 2), metavar="0,1,2", once=True
        ),
    ]
    ladder: Annotated[
        Sequence[float],
        Option(
            "Learning rates that each arm chooses from.",
            LADDER,
            metavar="A,B",
            above=0,
            below=1e3,
            once=True,
        ),
    ]
    eval_examples: Annotated[
        int, Option("Examples that score, and as many for the ladder.", 64, least=1)
    ]
    limit: Annotated[
        int | None, Option("Examples of a harness task that are asked.", unset="all", least=1)
    ]


class StatusOptions(TypedDict, total=False):
    """`layerwise study status`."""

    out: Annotated[
        "Path | str | None",
        Option("The ledger's folder.", unset="NAME-study", text=Path | None, metavar="LEDGER"),
    ]


class StudyOptions(StatusOptions, Trust, total=False):
    """`layerwise study run`."""

    engine: Annotated[Literal["local", "ray", "slurm"], Option("Where runs happen.", "local")]
    workers: Annotated[
        int | None, Option("Runs at once.", unset="1; with ray, as many as fit", least=1)
    ]
    address: Annotated[
        str | None, Option("Of a Ray cluster.", unset="a local one", metavar="ADDRESS")
    ]
    cpus: Annotated[int | None, Option("Cores of a run; ray, slurm.", least=1)]
    gpus: Annotated[int | None, Option("GPUs of a run; ray, slurm.", least=0)]
    partition: Annotated[str | None, Option("Where slurm sends runs.")]
    minutes: Annotated[int | None, Option("A run's time; slurm.", least=1)]
    memory_gb: Annotated[int | None, Option("Its memory; slurm.", least=1)]
    retry_failed: Annotated[bool, Option("Run again what failed before.", default=False)]


class AnalyseOptions(TypedDict, total=False):
    """`layerwise analyse`."""

    placement: Annotated[
        str, Option("Which runs are compared with each other; all are those on all blocks.", "all")
    ]
    threshold: Annotated[
        float,
        Option("Residual standard deviations beyond which a slope is an anomaly.", 1.5, above=0),
    ]


class CompareOptions(TypedDict, total=False):
    """`layerwise compare`."""

    threshold: Annotated[
        float,
        Option(
            "The agreement from which on one card may stand for the other.", 0.9, least=-1, most=1
        ),
    ]


class CheckOptions(Trust, total=False):
    """`layerwise check`."""

    fix: Annotated[bool, Option("Show the config corrected, in its own format.", default=False)]
