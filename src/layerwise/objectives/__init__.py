"""What a model is asked to do: one module an objective, found by name."""

from layerwise.data.text import TextData
from layerwise.errors import BadInputError
from layerwise.models.head_kind import ModelKind, has_next_sentence_head
from layerwise.models.load import LoadedModel
from layerwise.objectives.barlow_twins import BARLOW_TWINS
from layerwise.objectives.causal_lm import CAUSAL_LM
from layerwise.objectives.causal_span import CAUSAL_SPAN
from layerwise.objectives.classification import CLASSIFICATION, label_names
from layerwise.objectives.forward import decoder_start
from layerwise.objectives.masked_lm import MASKED_LM
from layerwise.objectives.nsp import NSP
from layerwise.objectives.record import BatchRequest, Objective
from layerwise.objectives.sft import SFT
from layerwise.objectives.simcse import SIMCSE
from layerwise.objectives.span_denoise import SPAN_DENOISE
from layerwise.registry import Registry

__all__ = ["OBJECTIVES", "BatchRequest", "Objective", "decoder_start", "labels_for", "resolve"]

OBJECTIVES = Registry[Objective]("objective")
for _objective in (
    CAUSAL_LM, SFT, CAUSAL_SPAN, MASKED_LM, SPAN_DENOISE, NSP, SIMCSE, BARLOW_TWINS, CLASSIFICATION,
):  # fmt: skip
    OBJECTIVES.add(_objective)


def labels_for(name: str, data: TextData) -> tuple[str, ...] | None:
    """Return the classes that a model must be loaded for; None where `name` asks for none.

    ``auto`` takes classification where the data has labels.

    Raises:
        UnknownNameError: No objective has that name.
        BadInputError: Labels are needed and there are fewer than two.
    """
    is_needed = "label" in data.columns if name == "auto" else OBJECTIVES[name].needs_label
    return label_names(data) if is_needed else None


def resolve(name: str, *, loaded: LoadedModel, data: TextData) -> Objective:
    """Return the objective called `name`; for ``auto``, the natural one for the model and the data.

    ``auto`` takes classification where the data has labels; else causal-lm for causal models and
    encoder-decoders (sft where the data has prompts or chats), masked-lm for models with that
    head, simcse for encoders without one.

    Raises:
        UnknownNameError: No objective has that name.
        BadInputError: The objective is not for that kind of model, or needs a head or a column
            that is not there, or has no use for a column.
    """
    objective = OBJECTIVES[_auto(loaded.kind, data) if name == "auto" else name]
    _check_columns(objective, loaded.kind, data)
    _check_model(objective, loaded)
    return objective


def _auto(kind: ModelKind, data: TextData) -> str:
    if "label" in data.columns or kind == "classifier":
        return "classification"
    if kind in ("causal", "seq2seq"):
        return "sft" if data.has_prompts else "causal-lm"
    return "masked-lm" if kind == "masked" else "simcse"


def _check_model(objective: Objective, loaded: LoadedModel) -> None:
    """Refuse a model of a kind that `objective` is not for, or without the head for it."""
    if _fits(objective, loaded):
        return
    fitting = [name for name, other in OBJECTIVES.items() if _fits(other, loaded)]
    is_kind = loaded.kind in objective.kinds
    lacks = "without a pretrained next-sentence head" if is_kind else f"of kind {loaded.kind}"
    loading = ", or a model loaded with labels=[...]" if objective.needs_label else ""
    raise BadInputError(
        what=f"objective is not for a model {lacks}",
        value=objective.name,
        expected="one of " + ", ".join(fitting),
        hint=f"--objective {fitting[0]}{loading}",
    )


def _fits(objective: Objective, loaded: LoadedModel) -> bool:
    if loaded.kind not in objective.kinds:
        return False
    return not objective.needs_next_sentence or has_next_sentence_head(loaded.model)


def _check_columns(objective: Objective, kind: ModelKind, data: TextData) -> None:
    """Refuse a column that has no meaning to `objective`, or the lack of one that it needs."""
    columns, named = data.columns, ", ".join(data.columns.values())
    if objective.needs_label and "label" not in columns:
        raise BadInputError(
            what=f"{objective.name} needs a label column",
            value=named,
            expected="labels beside the text",
            hint="--label-column NAME",
        )
    if data.has_pictures and not objective.needs_prompt:
        raise BadInputError(
            what=f"{' and '.join(data.media)} have no meaning for {objective.name}",
            value=columns.get("pictures", columns.get("sounds", columns.get("messages"))),
            expected="objective sft, or text alone",
            hint="--objective sft, or --text-column NAME to leave them out",
        )
    if "label" in columns and not objective.needs_label:
        raise BadInputError(
            what=f"label column has no meaning for {objective.name}",
            value=columns["label"],
            expected="a prompt and a text" if objective.needs_prompt else "text alone",
            hint="drop --label-column, or --objective classification",
        )
    if objective.needs_prompt and not data.has_prompts:
        raise BadInputError(
            what=f"{objective.name} needs a prompt column or chats",
            value=named,
            expected="prompts beside the text",
            hint="--prompt-column NAME, or --objective causal-lm",
        )
    if kind == "seq2seq" and data.has_chats:
        raise BadInputError(
            what="chats have no meaning for an encoder-decoder",
            value=columns.get("messages", named),
            expected="a prompt and a text column",
            hint="--prompt-column NAME --text-column NAME",
        )
    if data.has_prompts and not objective.needs_prompt:
        generates = kind in ("causal", "seq2seq")
        raise BadInputError(
            what=f"prompts and chats have no meaning for {objective.name}",
            value=columns.get("prompt", columns.get("messages", named)),
            expected="text alone",
            hint="--objective sft" if generates else "--text-column NAME, and no --prompt-column",
        )
