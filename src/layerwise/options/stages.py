"""The settings of a study's stages, by stage; files say them, and a call what code may run."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

from layerwise.options.declaration import Option, defaults
from layerwise.options.groups import Batches, Columns, Device, Examples, Training, Views

#: A ladder is saturated within this share of the full run's loss. Source: arXiv 2604.17177.
TOLERANCE = 0.05


#: What a study that does not say it is run with, as arXiv 2604.17177 is; null is from the data.
_PAPERS = defaults(max_length=128)


class RunStart(Device, total=False):
    """What a run starts from."""

    source: Annotated[str | None, Option("The model.", metavar="MODEL")]
    pretrained: Annotated[str | None, Option("The run that makes the model, by its id.")]


class RunText(Columns, Examples, total=False):
    """What a run reads."""

    data: Annotated[str | None, Option("The text.", metavar="DATA")]


class ProfileMapping(TypedDict, total=False):
    """How a run is profiled."""

    profile: Annotated[
        Mapping[str, Any] | None, Option("How its profile is taken, a mapping of settings.")
    ]


class StageObjective(TypedDict, total=False):
    """What a stage trains that looks at a model by depth."""

    objective: Annotated[str, Option("The loss.", "")]


@_PAPERS
class SourceStage(RunStart, RunText, Training, total=False):
    """Fine-tuning on other text first, which other runs start from."""


@_PAPERS
class PretrainStage(Device, RunText, Training, total=False):
    """Training from random weights, which other runs start from."""

    config: Annotated[Mapping[str, Any], Option("A transformers configuration.", text=Mapping)]
    tokenizer: Annotated[str | None, Option("Where the tokenizer is.", metavar="MODEL")]


@_PAPERS
class TuneStage(SourceStage, ProfileMapping, total=False):
    """A run of the matrix."""

    placement: Annotated[
        str | Mapping[str, Any] | None, Option("Its blocks, or how they are chosen.")
    ]


@defaults(batch_size=32, examples=1000)
class DistanceStage(RunStart, RunText, Batches, total=False):
    """How far objectives are apart."""

    objectives: Annotated[Sequence[str] | None, Option("What is compared.")]
    reference: Annotated[str | None, Option("What they are compared with.")]


@defaults(batch_size=32, examples=1000)
class ProbeStage(RunStart, RunText, Batches, Views, total=False):
    """Probes by depth."""

    epochs: Annotated[int, Option("Passes of a probe over its examples.", 20, least=1)]
    test_share: Annotated[
        float, Option("Share of each class that probes are judged on.", 0.2, above=0, below=1)
    ]


@defaults(batch_size=32, max_length=64, examples=None)
class EraseStage(RunStart, Examples, Batches, Views, total=False):
    """Concept erasure by depth."""

    pairs: Annotated[str | None, Option("The pairs, a JSON Lines file.", metavar="PAIRS")]
    folds: Annotated[int, Option("Parts of the pairs.", 5, least=2)]
    draws: Annotated[int, Option("Random directions.", 20, least=1)]
    standardise: Annotated[bool, Option("Divide features by their spread.", default=False)]


@_PAPERS
class LadderStage(SourceStage, StageObjective, total=False):
    """The loss as more of the top blocks train."""

    tops: Annotated[Sequence[int] | None, Option("Numbers of top blocks.", least=0)]
    tolerance: Annotated[float, Option("What counts as saturated, a share.", TOLERANCE, least=0)]


@_PAPERS
class InterventionsStage(SourceStage, StageObjective, ProfileMapping, total=False):
    """Adapters on the blocks that moved most, and elsewhere."""

    blocks: Annotated[int | None, Option("Blocks of an arm.", least=1)]
    rank: Annotated[int, Option("LoRA rank.", 8, least=1)]
    draws: Annotated[int, Option("Random placements.", 5, least=0)]


class PlacementSettings(TypedDict, total=False):
    """A placement as a study describes it; defaults are those of the condition ``lora``."""

    policy: Annotated[str | None, Option("What chooses the blocks, by a card.")]
    blocks: Annotated[str | None, Option("The blocks themselves.", metavar="3,7,11")]
    layers: Annotated[int | None, Option("How many blocks the policy takes.", least=1)]
    examples: Annotated[int, Option("Texts that the card is made of.", 64, least=1)]
    rank: Annotated[int, Option("LoRA rank.", 8, least=1)]
    alpha: Annotated[int, Option("LoRA alpha.", 16, least=1)]
    dropout: Annotated[float, Option("LoRA dropout.", 0.1, least=0, below=1)]
    targets: Annotated[Sequence[str] | None, Option("Modules adapted in each block.")]
