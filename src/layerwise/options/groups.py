"""The options that commands share, in groups."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from layerwise.options.declaration import Option, declared, defaults

if TYPE_CHECKING:
    from layerwise.data.text import TextData

Readout = Literal["hf", "residual", "normed"]
Pooling = Literal["mean", "first", "last"]
Residual = Literal["algorithm-1", "equation-1", "algorithm-1-of-mean", "equation-1-of-mean"]


class Trust(TypedDict, total=False):
    """Whose code may run: for a call to say, and never for a file."""

    trust_remote_code: Annotated[
        bool, Option("Run code that the model's repository brings.", default=False, call_only=True)
    ]


(CALL_ONLY,) = declared(Trust)


class Device(TypedDict, total=False):
    """Where a model is worked on."""

    device: Annotated[str, Option("auto, cpu, cuda, cuda:N or mps.", "auto")]
    dtype: Annotated[str, Option("auto, float32, bfloat16 or float16.", "auto")]


class Loading(Device, Trust, total=False):
    """How a model is loaded."""

    quantize: Annotated[
        Literal["nf4", "int8"] | None,
        Option("Quantise the weights of its blocks as it is loaded.", unset="as they are"),
    ]


class Batches(TypedDict, total=False):
    """How examples go through a model."""

    batch_size: Annotated[int, Option("Examples in a batch.", 8, least=1)]
    max_length: Annotated[int, Option("Tokens of an example that are kept.", 128, least=2)]


class FittedBatches(TypedDict, total=False):
    """Batches of examples, at a length that suits them."""

    batch_size: Annotated[int, Option("Examples in a batch.", 8, least=1)]
    max_length: Annotated[
        int | None,
        Option(
            "Tokens of an example that are kept.",
            unset="what 95 % of the examples need, up to the model's limit and 2,048",
            least=2,
        ),
    ]


class Packing(TypedDict, total=False):
    """Packing: examples that share rows."""

    packing: Annotated[
        bool,
        Option(
            "Put several examples into each row of a training batch, up to --max-length tokens; "
            "none sees another.",
            default=False,
        ),
    ]


class Seed(TypedDict, total=False):
    """What is random."""

    seed: Annotated[int, Option("Fixes all randomness.", 0)]


class Examples(TypedDict, total=False):
    """How much is read."""

    examples: Annotated[int | None, Option("Examples that are read.", 64, unset="all", least=1)]


class RowFilter(TypedDict, total=False):
    """Which texts of a data set are read."""

    text_column: Annotated[str | None, Option("The text.", unset="found by its name")]
    where: Annotated[
        Sequence[str],
        Option("Only such rows; may be repeated.", (), metavar="COLUMN=VALUE", repeat=True),
    ]


class Columns(RowFilter, total=False):
    """What is read of a data set."""

    prompt_column: Annotated[str | None, Option("What precedes it, outside the loss.")]
    label_column: Annotated[str | None, Option("The class.")]


class TextOptions(Seed, Examples, Columns, total=False):
    """How text is read."""


class Loss(TypedDict, total=False):
    """What is trained."""

    objective: Annotated[
        str, Option("The loss; auto takes what the model's head and the columns call for.", "auto")
    ]


class Views(TypedDict, total=False):
    """How a model is looked at by depth."""

    readout: Annotated[Readout, Option("Which tensor stands for a depth.", "hf")]
    stack: Annotated[str | None, Option("The stack of blocks.", unset="the last that reads text")]


class Probes(TypedDict, total=False):
    """What models are shown to be compared."""

    probes: Annotated[
        "str | TextData | Sequence[str] | None",
        Option(
            "Text that the models are shown.",
            unset="290 short statements of the package's own",
            text=str | None,
            metavar="DATA",
        ),
    ]


class Judging(TypedDict, total=False):
    """By what a control is judged."""

    share: Annotated[
        float,
        Option(
            "Of the standard slope, what must be left under equal-step to be the model's.",
            0.5,
            least=0,
        ),
    ]


class Proof(TypedDict, total=False):
    """A further proof that an adapter was read right; each of its modules always is proven."""

    verify: Annotated[
        bool,
        Option("Hold the whole forward of the merged model against PEFT's own too.", default=False),
    ]


class Steps(TypedDict, total=False):
    """How any training goes."""

    steps: Annotated[int, Option("Optimizer steps.", 100, least=1)]
    accumulation: Annotated[int, Option("Batches that one step sums up.", 1, least=1)]
    weight_decay: Annotated[float, Option("AdamW's, on every parameter.", 0.01, least=0)]
    max_grad_norm: Annotated[
        float, Option("Gradients are clipped at this norm, all together.", 1.0, above=0)
    ]
    bf16: Annotated[bool, Option("Forward and backward under bfloat16 autocast.", default=False)]
    gradient_checkpointing: Annotated[
        bool, Option("Recompute activations in the backward.", default=False)
    ]


class Conditions(TypedDict, total=False):
    """What conditions go by."""

    learning_rate: Annotated[
        float | None, Option("The top rate.", unset="2e-5; 2e-4 for lora", above=0, metavar="RATE")
    ]
    decay: Annotated[
        float, Option("Rate per block from the top down, under standard.", 0.95, above=0, most=1)
    ]
    tau: Annotated[
        float | None,
        Option("Relative step under equal-step.", unset="matched to standard", above=0),
    ]
    match_steps: Annotated[int, Option("Steps of standard that the match looks at.", 50, least=1)]
    equal_step: Annotated[
        Literal["exact", "sampled", "copy"], Option("How equal-step takes its norms.", "exact")
    ]


class Watching(TypedDict, total=False):
    """What is looked at while a model trains."""

    eval_examples: Annotated[int, Option("Examples held out for evaluation.", 0, least=0)]
    eval_every: Annotated[
        int, Option("Steps between evaluations; 0 evaluates at the start and the end.", 0, least=0)
    ]
    track: Annotated[
        Literal["trackio", "wandb", "tensorboard"] | None,
        Option("Report to an experiment tracker too."),
    ]


@defaults(batch_size=32)
class Training(FittedBatches, Packing, Steps, Conditions, Watching, total=False):
    """How a run is optimised; defaults are arXiv 2604.17177's where it names one."""

    top: Annotated[
        int | None, Option("Blocks that train under top-m, from the output.", metavar="M")
    ]
    log_every: Annotated[int, Option("Steps between lines of log.jsonl.", 1, least=1)]
    save_every: Annotated[int, Option("Steps between checkpoints; 0 keeps none.", 0, least=0)]


class Writing(TypedDict, total=False):
    """Where results go."""

    out: Annotated["Path | str | None", Option("Output folder.", text=Path | None, metavar="DIR")]
    overwrite: Annotated[bool, Option("Replace a result that the folder holds.", default=False)]


@defaults(batch_size=32, max_length=128)
class Settings(Seed, Training, total=False):
    """What the record of a run keeps of how it was optimised."""
