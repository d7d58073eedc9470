"""What a user means by a better model, by name."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from layerwise.data.batches import IGNORED, Batch
from layerwise.data.text import TextData
from layerwise.errors import BadInputError, UnknownNameError
from layerwise.measure.harness import harness_quality
from layerwise.measure.text_quality import TEXT_QUALITIES, TextQuality
from layerwise.measure.trial import Quality, validation_batches
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.objectives.forward import accepted, token_logits
from layerwise.shapes import Tensor
from layerwise.tuning.record import TuneSettings

__all__ = ["HARNESS", "LOSS", "known_qualities", "named_quality"]

LOSS = "loss"
ACCURACY = "accuracy"
HARNESS = "harness:"


def known_qualities() -> tuple[str, ...]:
    """Return what can be named; ``harness:TASK`` stands for any task of lm-evaluation-harness."""
    return (LOSS, ACCURACY, *TEXT_QUALITIES, f"{HARNESS}TASK")


def named_quality(
    name: str, objective: Objective, settings: TuneSettings, *, limit: int | None = None
) -> Quality | None:
    """Return the quality called `name`; None for the loss, which every trial has.

    Args:
        name: ``loss``, ``accuracy``, ``exact-match``, ``bleu``, ``chrf``, ``rouge`` or
            ``harness:TASK``.
        objective: The loss: accuracy is of what it predicts, text is what follows its prompts.
        settings: Batch size, length and seed of the validation batches.
        limit: Examples of a harness task that are asked; None asks all.

    Raises:
        UnknownNameError: There is no such quality or task.
        BadInputError: It has no meaning under the objective, or needs what is not installed.
    """
    if name == LOSS:
        return None
    if name.startswith(HARNESS):
        task = name.removeprefix(HARNESS)
        return harness_quality(task, batch_size=settings.batch_size, limit=limit)
    if name == ACCURACY:
        return Quality(name, partial(_accuracy, objective, settings))
    if name not in TEXT_QUALITIES:
        kind = "quality"
        raise UnknownNameError(kind, value=name, known=known_qualities())
    _refuse_without_prompt(name, objective)
    quality = TEXT_QUALITIES[name]
    quality(["a b c d"], ["a b c d"])  # What is not installed shall be said before any training.
    return Quality(name, partial(_of_text, objective, settings, quality))


def _refuse_without_prompt(name: str, objective: Objective) -> None:
    if not objective.needs_prompt:
        message = f"{name} of generated text under {objective.name}, which has no prompts"
        hint = "--prompt-column NAME, or --quality loss"
        raise BadInputError(message, value=name, expected="objective sft", hint=hint)


@torch.no_grad()
def _accuracy(
    objective: Objective, settings: TuneSettings, loaded: LoadedModel, data: TextData
) -> float:
    """Return the share of right predictions: of classes, or of the tokens that the loss counts.

    Raises:
        BadInputError: The objective predicts neither.
    """
    right, total = 0, 0
    with objective.prepare(loaded.model):
        for batch in validation_batches(loaded, data, objective, settings):
            output = loaded.model(**batch.inputs, **accepted(loaded.model, use_cache=False))
            wanted = batch.classes if batch.classes is not None else batch.labels
            if wanted is None:
                message = f"accuracy under {objective.name}, which predicts no class or token"
                raise BadInputError(message, value="accuracy", hint="--quality loss")
            logits = output.logits if batch.classes is not None else token_logits(output)
            counted = wanted != IGNORED
            right += int(((logits.argmax(-1) == wanted) & counted).sum())
            total += int(counted.sum())
    return right / total


def _of_text(
    objective: Objective,
    settings: TuneSettings,
    quality: TextQuality,
    loaded: LoadedModel,
    data: TextData,
) -> float:
    """Return what `quality` says of greedily generated answers, beside the answers of `data`."""
    generated: list[str] = []
    wanted: list[str] = []
    for batch in validation_batches(loaded, data, objective, settings):
        prompts, answers = _parted(loaded, batch)
        longest = max(len(answer) for answer in answers)
        generated += _answers(loaded, prompts, longest=longest)
        wanted += _decoded(loaded, answers)
    return quality(generated, wanted)


def _parted(loaded: LoadedModel, batch: Batch) -> tuple[list[list[int]], list[list[int]]]:
    """Return each row's tokens up to its first answer, and that answer's."""
    if loaded.kind == "seq2seq":
        return _read_and_said(batch)
    prompts: list[list[int]] = []
    answers: list[list[int]] = []
    rows = zip(batch.inputs["input_ids"], batch.token_mask, strict=True)
    for ids, counted in rows:
        start = int(counted.int().argmax())
        run = (~counted[start:]).nonzero()
        end = start + int(run[0]) if len(run) else len(counted)
        attended = _attended(batch, len(prompts))[:start]
        prompts.append(ids[:start][attended].tolist())
        answers.append(ids[start:end].tolist())
    return prompts, answers


def _attended(batch: Batch, row: int) -> Tensor:
    """Return which tokens of a row are not padding."""
    mask = batch.inputs.get("attention_mask")
    return batch.inputs["input_ids"][row] >= 0 if mask is None else mask[row].bool()


def _read_and_said(batch: Batch) -> tuple[list[list[int]], list[list[int]]]:
    labels = batch.labels if batch.labels is not None else batch.inputs["decoder_input_ids"]
    rows = range(len(batch))
    prompts = [batch.inputs["input_ids"][row][_attended(batch, row)].tolist() for row in rows]
    return prompts, [labels[row][labels[row] != IGNORED].tolist() for row in rows]


@torch.no_grad()
def _answers(loaded: LoadedModel, prompts: Sequence[Sequence[int]], *, longest: int) -> list[str]:
    """Return what the model says after each prompt, greedily, as long as the longest answer."""
    device = next(loaded.model.parameters()).device
    width = max(len(prompt) for prompt in prompts)
    pad = loaded.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(p)) + [*p] for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    generate: Callable[..., Tensor] = loaded.model.generate
    out = generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=longest,
        do_sample=False,
        num_beams=1,
        pad_token_id=pad,
    )
    return _decoded(loaded, [row.tolist() for row in _new(loaded, out, width)])


def _new(loaded: LoadedModel, out: Tensor, width: int) -> Tensor:
    """Return the tokens that were added: a decoder alone repeats its prompt."""
    return out if loaded.kind == "seq2seq" else out[:, width:]


def _decoded(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> list[str]:
    decode: Any = loaded.tokenizer.batch_decode
    return [str(text).strip() for text in decode(rows, skip_special_tokens=True)]
