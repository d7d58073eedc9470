"""Measures of a better model, by name: of predictions, of generated text, of a task."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch

from layerwise.data.batches import IGNORED, Batch
from layerwise.data.text import TextData
from layerwise.errors import BadInputError, UnknownNameError, one_line
from layerwise.extras import require
from layerwise.measure.text_qualities import BERT_SCORE, TEXT_QUALITIES, TextQuality, bert_score
from layerwise.measure.trial import Quality, validation_batches
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective
from layerwise.objectives.forward import accepted, token_logits, told
from layerwise.shapes import Tensor
from layerwise.tuning.record import TuneSettings

LOSS = "loss"
ACCURACY = "accuracy"
HARNESS = "harness:"


# --- Tasks of the LM Evaluation Harness -----------------------------------------------------------

_import = partial(require, extra="harness", purpose="run tasks of lm-evaluation-harness")


def harness_quality(task: str, *, batch_size: int, limit: int | None, tasks: Any = None) -> Quality:
    """Return a task's figure as a quality, by lm-evaluation-harness on the model in hand.

    Args:
        task: The harness's name for it; ``TASK/METRIC`` names one of its figures, of which the
            first is taken otherwise.
        batch_size: Requests a forward.
        limit: How many examples of the task are asked; None asks all.
        tasks: The harness's ``TaskManager``, for tasks of one's own.

    Raises:
        BadInputError: The harness is not installed, or the task's examples cannot be had.
        UnknownNameError: There is no such task, or it has no such figure.
    """
    _import("lm_eval")
    name, _, metric = task.partition("/")
    manager = tasks or _import("lm_eval.tasks").TaskManager()
    if name not in manager.all_tasks:
        kind = "task of lm-evaluation-harness"
        start = name.partition("_")[0]  # There are thousands: a few that have something of it.
        near = [other for other in manager.all_tasks if start in other][:20]
        raise UnknownNameError(kind, value=name, known=near)
    directions = _directions(manager, name)
    metric = metric or next(iter(directions))
    if metric not in directions:
        raise UnknownNameError(what=f"figure of task {name}", value=metric, known=directions)

    def run(loaded: LoadedModel, validation: TextData) -> float:
        del validation  # A task brings its own.
        wrapper = _import("lm_eval.models.huggingface").HFLM(
            pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch_size
        )
        results = _import("lm_eval").simple_evaluate(
            model=wrapper,
            tasks=[name],
            task_manager=manager,
            limit=limit,
            bootstrap_iters=0,
            log_samples=False,
        )
        found = results["results"][name]  # A figure's key has its filter behind a comma.
        return next(float(found[key]) for key in found if key.partition(",")[0] == metric)

    return Quality(f"harness:{name}/{metric}", run, directions[metric])


def _directions(manager: Any, name: str) -> dict[str, bool]:
    """Return whether larger is better, for each figure of a task or of a group's first task."""
    try:
        found = manager.load([name])["tasks"]
    except Exception as error:  # a task's own code and its data set's loader run
        message = f"task of lm-evaluation-harness that cannot be loaded ({one_line(error)})"
        raise BadInputError(message, value=name, expected="a task whose data is there") from error
    task = next(iter(found.values()))
    return {metric: bool(higher) for metric, higher in task.higher_is_better().items()}


# --- By name --------------------------------------------------------------------------------------


def known_qualities() -> tuple[str, ...]:
    """Return what can be named; ``harness:TASK`` stands for any task of lm-evaluation-harness."""
    return (LOSS, ACCURACY, *TEXT_QUALITIES, f"{BERT_SCORE}MODEL", f"{HARNESS}TASK")


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
    if name not in TEXT_QUALITIES and not name.startswith(BERT_SCORE):
        raise UnknownNameError(what="quality", value=name, known=known_qualities())
    if not objective.needs_prompt:
        message = f"{name} of generated text under {objective.name}, which has no prompts"
        hint = "--prompt-column NAME, or --quality loss"
        raise BadInputError(message, value=name, expected="objective sft", hint=hint)
    by_model = name.startswith(BERT_SCORE)
    quality = bert_score(name.removeprefix(BERT_SCORE)) if by_model else TEXT_QUALITIES[name]
    # What is not installed shall be said before any training.
    quality.compare(["a b c d e f"] * 2, [["a b c d e f"]] * 2)
    return Quality(name, partial(_of_text, objective, settings, quality), quality.higher_is_better)


@torch.no_grad()
def _accuracy(
    objective: Objective, settings: TuneSettings, loaded: LoadedModel, data: TextData
) -> float:
    """Return the share of right predictions: of classes, or of the tokens that the loss counts."""
    right, total = 0, 0
    with objective.prepare(loaded.model):
        for batch in validation_batches(loaded, data, objective, settings):
            more = accepted(loaded.model, use_cache=False, **batch.shown())
            output = loaded.model(**batch.inputs, **more)
            wanted = batch.classes if batch.classes is not None else batch.labels
            if wanted is None:
                message = f"accuracy under {objective.name}, which predicts no class or token"
                raise BadInputError(message, value="accuracy", hint="--quality loss")
            logits = output.logits if batch.classes is not None else token_logits(output)
            if wanted.is_floating_point() and wanted.shape[1] == 1:
                message = "accuracy of scores, which are right by more or less"
                raise BadInputError(message, value="accuracy", hint="--quality loss")
            counted = wanted != IGNORED
            right += int(((told(logits, wanted) == wanted) & counted).sum())
            total += int(counted.sum())
    return right / total


def _of_text(
    objective: Objective,
    settings: TuneSettings,
    quality: TextQuality,
    loaded: LoadedModel,
    data: TextData,
) -> float:
    """Return what `quality` says of greedily generated answers, beside the answers of `data`.

    Answers of one prompt are references of one generated text.
    """
    if data.has_pictures:
        message = f"{objective.name} answers that are generated after pictures or sounds"
        hint = "--quality loss or accuracy"
        raise BadInputError(message, value="pictures", expected="prompts of text", hint=hint)
    wanted: dict[tuple[int, ...], list[list[int]]] = {}
    for batch in validation_batches(loaded, data, objective, settings):
        for prompt, answer in zip(*_parted(loaded, batch), strict=True):
            wanted.setdefault(tuple(prompt), []).append(answer)
    longest = max(len(answer) for own in wanted.values() for answer in own)
    said = _generated(loaded, [*wanted], longest=longest, batch_size=settings.batch_size)
    texts = [_decoded(loaded, own) for own in wanted.values()]
    return quality.compare([said[prompt] for prompt in wanted], texts)


def _generated(
    loaded: LoadedModel,
    prompts: Sequence[tuple[int, ...]],
    *,
    longest: int,
    batch_size: int,
) -> dict[tuple[int, ...], str]:
    """Return what the model says after each prompt, by prompt.

    Prompts of one length go together, so that none is padded: not every model is blind to padding,
    and what is said must not depend on who shares a batch.
    """
    found: dict[tuple[int, ...], str] = {}
    for _, group in groupby(sorted(prompts, key=len), key=len):
        same = list(group)
        for start in range(0, len(same), batch_size):
            some = same[start : start + batch_size]
            found |= zip(some, _answers(loaded, some, longest=longest), strict=True)
    return found


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
    """Return what the model says after prompts of one length, greedily, up to `longest` tokens."""
    ids = torch.tensor([[*prompt] for prompt in prompts], device=loaded.device)
    generate: Callable[..., Tensor] = loaded.model.generate
    out = generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=longest,
        do_sample=False,
        num_beams=1,
        pad_token_id=loaded.tokenizer.pad_token_id,
    )
    # A decoder alone repeats its prompt.
    said = out if loaded.kind == "seq2seq" else out[:, ids.shape[1] :]
    return _decoded(loaded, said.tolist())


def _decoded(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> list[str]:
    decode: Any = loaded.tokenizer.batch_decode
    return [str(text).strip() for text in decode(rows, skip_special_tokens=True)]
