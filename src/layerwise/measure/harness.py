"""Tasks of the LM Evaluation Harness as a quality."""

from functools import partial
from typing import Any

from layerwise.data.text import TextData
from layerwise.errors import BadInputError, UnknownNameError, one_line
from layerwise.measure.text_quality import installed
from layerwise.measure.trial import Quality
from layerwise.models.load import LoadedModel

_import = partial(installed, hint="pip install lm_eval")


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
        kind = f"figure of task {name}"
        raise UnknownNameError(kind, value=metric, known=directions)

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
