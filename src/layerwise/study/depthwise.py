"""Stages that look at a model by depth: probes, erasure, the ladder of blocks, interventions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from layerwise.capture.restore import weights_kept
from layerwise.card.record import ModelInfo
from layerwise.data.text import TextData
from layerwise.errors import BadInputError
from layerwise.files import write_atomic
from layerwise.measure.interventions import adapter_placement
from layerwise.measure.trial import bench
from layerwise.models.load import LoadedModel
from layerwise.objectives import Objective, labels_for, resolve
from layerwise.objectives.classification import label_names
from layerwise.probing.erase import make_erasure
from layerwise.probing.ladder import adaptation_depth, rungs_of
from layerwise.probing.mean_states import ReadoutSettings
from layerwise.probing.pairs import read_pairs
from layerwise.probing.probe import make_probing
from layerwise.probing.record import ErasureSettings, ProbeSettings
from layerwise.profile.probe_reading import as_readout, make_reading
from layerwise.provenance import collect
from layerwise.records import to_plain
from layerwise.study.checker import Checker
from layerwise.study.record import Cell
from layerwise.study.tasks import Task, facts
from layerwise.tuning.material import held_out
from layerwise.tuning.run import fine_tune

#: Held-out examples of a training where no number is given (ours).
_HELD_OUT = 64

#: What probes read where their settings do not say it.
_LABELLED: Mapping[str, Any] = {"label_column": "label", "examples": 1000}


def _readout(task: Task, *, max_length: int) -> ReadoutSettings:
    """Return how texts are shown to the model."""
    settings = task.cell.settings
    return ReadoutSettings(
        as_readout(settings.get("readout", "hf")),
        settings.get("stack"),
        max(1, settings.get("batch_size", 32) >> task.halvings),
        settings.get("max_length", max_length),
    )


def _trainable(task: Task) -> tuple[LoadedModel, TextData, Objective]:
    """Return the cell's model, its text, and the loss that its settings name."""
    task.begins("reading")
    text, name = task.text(), task.cell.settings["objective"]
    loaded = task.model(labels_for(name, text))
    task.begins(task.cell.stage)
    return loaded, text, resolve(name, loaded=loaded, data=text)


def _result(
    task: Task, loaded: LoadedModel, info: ModelInfo, stack: str | None, numbers: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the numbers of a table's rows with what the model is; blocks are those of `stack`."""
    return {"model": facts(info, loaded, stack), **numbers, "halvings": task.halvings}


def run_probe(task: Task) -> dict[str, Any]:
    """Measure what probes read of the labels of the cell's text at each depth."""
    task.begins("reading")
    text, loaded = task.text(**_LABELLED), task.model()
    task.begins("probe")
    made = make_probing(
        loaded,
        text,
        settings=ProbeSettings(**task.chosen("epochs", "test_share"), seed=task.cell.seed),
        readout=_readout(task, max_length=128),
    )
    write_atomic(task.folder / "probe.json", made.to_json())
    rows = [
        {"index": d.index, "relative": d.relative, "linear": d.linear.accuracy,
         "linear_low": d.linear.low, "linear_high": d.linear.high, "mlp": d.mlp.accuracy,
         "mlp_low": d.mlp.low, "mlp_high": d.mlp.high}
        for d in made.depths
    ]  # fmt: skip
    common = {"readout": made.readout, "majority": made.majority, "data_sha256": made.data.sha256}
    return _result(task, loaded, made.model, made.stack, {**common, "rows": rows})


def check_probe(checker: Checker, cell: Cell) -> None:
    """Raise where no probe can be trained."""
    label_names(checker.text(cell, **_LABELLED))
    checker.skeleton(cell)


def run_erase(task: Task) -> dict[str, Any]:
    """Measure what erasing the concept of the cell's pairs does at each depth."""
    task.begins("reading")
    loaded, cell = task.model(), task.cell
    task.begins("erase")
    settings = ErasureSettings(
        **task.chosen("folds", "draws"),
        standardised=cell.settings.get("standardise", False),
        seed=cell.seed,
    )
    made = make_erasure(
        loaded,
        read_pairs(cell.settings["pairs"], seed=cell.seed, **task.chosen("examples")),
        settings=settings,
        readout=_readout(task, max_length=64),
    )
    write_atomic(task.folder / "erase.json", made.to_json())
    common = {"readout": made.readout, "pairs": made.pairs, "data_sha256": made.data.sha256}
    numbers = {**common, "rows": to_plain(made.depths)}
    return _result(task, loaded, made.model, made.stack, numbers)


def check_erase(checker: Checker, cell: Cell) -> None:
    """Raise where no concept can be erased."""
    source = cell.settings["pairs"]
    checker.once(("pairs", source), lambda: read_pairs(source))
    checker.skeleton(cell)


def run_ladder(task: Task) -> dict[str, Any]:
    """Measure the final loss as more of the top blocks train."""
    loaded, text, objective = _trainable(task)
    made = adaptation_depth(
        loaded,
        text,
        objective,
        settings=replace(task.training(objective, eval_examples=_HELD_OUT), save_every=0),
        seeds=(task.cell.seed,),
        **task.chosen("tops", "tolerance"),
    )
    write_atomic(task.folder / "ladder.json", made.to_json())
    rows = [
        {"top": -1 if rung.top is None else rung.top, "loss": rung.loss, "trained": rung.trained}
        for rung in (*made.rungs, made.full)
    ]
    common = {
        "objective": objective.name,
        "measured": made.measured,
        "saturation": -1 if made.saturation is None else made.saturation,
        "data_sha256": made.data.sha256,
    }
    return _result(task, loaded, made.model, None, {**common, "rows": rows})


def check_ladder(checker: Checker, cell: Cell) -> None:
    """Raise where the ladder has no such rungs."""
    loaded = checker.trainable(cell, str(cell.settings.get("objective", "")), checker.text(cell))
    rungs_of(cell.settings.get("tops"), loaded)


def run_interventions(task: Task) -> dict[str, Any]:
    """Measure adapters on the blocks that moved most in a fine-tuning, and elsewhere.

    The model is fine-tuned under the standard condition, for as many steps as the adapters get, to
    see what moves; then it is what it was again.
    """
    loaded, text, objective = _trainable(task)
    settings = task.training(objective, eval_examples=_HELD_OUT)
    train, validation = held_out(text, examples=settings.eval_examples, seed=task.cell.seed)
    budget = replace(settings, save_every=0, eval_examples=0)
    reading = make_reading(**dict(task.cell.settings.get("profile") or {}))
    before = reading.states(loaded)
    with weights_kept(loaded.model):  # Moved at the condition's own rate.
        moving = replace(budget, learning_rate=None)
        after = reading.states(fine_tune(loaded, train, objective, settings=moving).loaded)
    profile = reading.profile(before, after, provenance=collect(device=str(loaded.device)))
    made = adapter_placement(
        bench(loaded, train, validation, objective, budget),
        profile,
        seeds=(task.cell.seed,),
        learning_rate=settings.learning_rate or 2e-4,
        **task.chosen("blocks", "rank", "draws"),
    )
    write_atomic(task.folder / "profile.json", profile.to_json())
    write_atomic(task.folder / "interventions.json", made.to_json())
    blocks = {arm.name: ",".join(map(str, arm.blocks)) for arm in made.arms}
    rows = [
        {**row, "blocks": blocks[row["arm"]]}
        for row in made.frame().drop(columns="seed").to_dict("records")
    ]
    common = {"objective": objective.name, "loss_before": made.loss_before}
    numbers = {**common, "data_sha256": text.sha256, "rows": rows}
    return _result(task, loaded, made.model, made.stack, numbers)


def check_interventions(checker: Checker, cell: Cell) -> None:
    """Raise where there are not as many blocks."""
    loaded = checker.trainable(cell, str(cell.settings.get("objective", "")), checker.text(cell))
    checker.reading(cell.settings.get("profile", {}))
    blocks, most = cell.settings.get("blocks"), max(len(stack.blocks) for stack in loaded.stacks)
    if blocks is None or blocks > most:
        message = "number of blocks of the interventions"
        raise BadInputError(message, value=blocks, expected=f"1 to {most}", hint="blocks: K")
