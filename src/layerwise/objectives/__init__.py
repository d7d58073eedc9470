"""What a model is asked to do: one module an objective, found by name."""

from layerwise.data.text import TextData
from layerwise.errors import BadInputError
from layerwise.models.kind import ModelKind
from layerwise.objectives.causal_lm import CAUSAL_LM
from layerwise.objectives.masked_lm import MASKED_LM
from layerwise.objectives.record import Objective
from layerwise.objectives.seq2seq import decoder_start
from layerwise.objectives.sft import SFT
from layerwise.objectives.simcse import SIMCSE
from layerwise.registry import Registry

__all__ = ["OBJECTIVES", "Objective", "decoder_start", "resolve"]

OBJECTIVES = Registry[Objective]("objective")
for _objective in (CAUSAL_LM, SFT, MASKED_LM, SIMCSE):
    OBJECTIVES.add(_objective.name, _objective)


def resolve(name: str, *, kind: ModelKind, data: TextData) -> Objective:
    """The objective called `name`; for ``auto``, the natural one for the model and the data.

    ``auto`` takes causal-lm for causal models and encoder-decoders (sft where the data has prompts
    or chats), masked-lm for models with that head, simcse for encoders without one.

    Args:
        name: An objective, or ``auto``.
        kind: What the model's head does.
        data: The examples.

    Raises:
        UnknownNameError: No objective has that name.
        BadInputError: The objective is not for that kind of model, or has no use for a column.
    """
    objective = OBJECTIVES[_auto(kind, data) if name == "auto" else name]
    _check_kind(objective, kind)
    _check_columns(objective, kind, data)
    return objective


def _has_prompt(data: TextData) -> bool:
    return "prompt" in data.columns or "messages" in data.columns


def _auto(kind: ModelKind, data: TextData) -> str:
    if kind in ("causal", "seq2seq"):
        return "sft" if _has_prompt(data) else "causal-lm"
    return "masked-lm" if kind == "masked" else "simcse"


def _check_kind(objective: Objective, kind: ModelKind) -> None:
    if kind not in objective.kinds:
        fitting = [name for name, other in OBJECTIVES.items() if kind in other.kinds]
        raise BadInputError(
            what=f"objective is not for a model of kind {kind}",
            value=objective.name,
            expected="one of " + ", ".join(fitting),
            hint=f"--objective {fitting[0]}",
        )


def _check_columns(objective: Objective, kind: ModelKind, data: TextData) -> None:
    """Every column that was asked for has a meaning to `objective`."""
    if "label" in data.columns:
        raise BadInputError(
            what=f"label column has no meaning for {objective.name}",
            value=data.columns["label"],
            expected="text alone" if not objective.needs_prompt else "a prompt and a text",
            hint="drop --label-column",
        )
    if objective.needs_prompt and not _has_prompt(data):
        raise BadInputError(
            what=f"{objective.name} needs a prompt column or chats",
            value=", ".join(data.columns.values()),
            expected="prompts beside the text",
            hint="--prompt-column NAME, or --objective causal-lm",
        )
    if kind == "seq2seq" and "messages" in data.columns:
        raise BadInputError(
            what="chats have no meaning for an encoder-decoder",
            value=data.columns["messages"],
            expected="a prompt and a text column",
            hint="--prompt-column NAME --text-column NAME",
        )
    if _has_prompt(data) and not objective.needs_prompt:
        raise BadInputError(
            what=f"prompts and chats have no meaning for {objective.name}",
            value=data.columns.get("prompt", data.columns.get("messages")),
            expected="text alone",
            hint=_without_prompt(kind),
        )


def _without_prompt(kind: ModelKind) -> str:
    fits = "sft" if kind in ("causal", "seq2seq") else ""
    return f"--objective {fits}" if fits else "--text-column NAME, and no --prompt-column"
