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

    Accuracy is of what `objective` predicts, text is what follows its prompts. `limit` is how many
    examples of a harness task are asked; None asks all.

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
    if not objective.needs_prompt:
        message = f"{name} of generated text under {objective.name}, which has no prompts"
        hint = "--prompt-column NAME, or --quality loss"
        raise BadInputError(message, value=name, expected="objective sft", hint=hint)
    quality = TEXT_QUALITIES[name]
    quality(["a b c d"], ["a b c d"])  # What is not installed shall be said before any training.
    return Quality(name, partial(_of_text, objective, settings, quality))


@torch.no_grad()
def _accuracy(
    objective: Objective, settings: TuneSettings, loaded: LoadedModel, data: TextData
) -> float:
    """Return the share of right predictions: of classes, or of the tokens that the loss counts."""
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
    read = batch.inputs["input_ids"]
    attended = batch.inputs.get("attention_mask", torch.ones_like(read)).bool()
    prompts: list[list[int]] = []
    answers: list[list[int]] = []
    if loaded.kind == "seq2seq":
        labels = batch.labels if batch.labels is not None else batch.inputs["decoder_input_ids"]
        for ids, shown, said in zip(read, attended, labels, strict=True):
            prompts.append(ids[shown].tolist())
            answers.append(said[said != IGNORED].tolist())
        return prompts, answers
    for ids, shown, counted in zip(read, attended, batch.token_mask, strict=True):
        start = int(counted.int().argmax())
        run = (~counted[start:]).nonzero()
        end = start + int(run[0]) if len(run) else len(counted)
        prompts.append(ids[:start][shown[:start]].tolist())
        answers.append(ids[start:end].tolist())
    return prompts, answers


@torch.no_grad()
def _answers(loaded: LoadedModel, prompts: Sequence[Sequence[int]], *, longest: int) -> list[str]:
    """Return what the model says after each prompt, greedily, as long as the longest answer."""
    width = max(len(prompt) for prompt in prompts)
    pad = loaded.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(p)) + [*p] for p in prompts], device=loaded.device)
    mask = torch.tensor(
        [[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=loaded.device
    )
    generate: Callable[..., Tensor] = loaded.model.generate
    out = generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=longest,
        do_sample=False,
        num_beams=1,
        pad_token_id=pad,
    )
    # A decoder alone repeats its prompt.
    return _decoded(loaded, (out if loaded.kind == "seq2seq" else out[:, width:]).tolist())


def _decoded(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> list[str]:
    decode: Any = loaded.tokenizer.batch_decode
    return [str(text).strip() for text in decode(rows, skip_special_tokens=True)]
