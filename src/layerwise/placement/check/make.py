"""A check from a model and a config: read, handed to PEFT, judged, and corrected where asked."""

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from layerwise.card.describe import model_info
from layerwise.errors import BadInputError, one_line
from layerwise.models.load import LoadedModel
from layerwise.models.parts import embeddings, halves
from layerwise.models.stack import around, find_stacks
from layerwise.placement.check import trainers
from layerwise.placement.check.adapted import TrainedModule, refuse_endless, replicated, train
from layerwise.placement.check.case import Case, Fix
from layerwise.placement.check.findings import findings
from layerwise.placement.check.fix import corrected
from layerwise.placement.check.reading import ConfigFile, read_config_file
from layerwise.placement.check.record import Check, KindCoverage, OutsideModule
from layerwise.placement.check.request import DIALECTS, Dialect, listed
from layerwise.placement.record import PlacedBlock
from layerwise.provenance import collect

ROWS = trainers
"""The module whose import adds the trainers."""
#: Makes the model without weights, with a head for classes where that is asked for.
Build = Callable[[bool], LoadedModel]
_REGEX = ("target_modules", "exclude_modules")
_KEYS = ("rank_pattern", "alpha_pattern", "modules_to_save", "layers_pattern")


def check(build: Build, file: ConfigFile, *, fix: bool = False) -> Check:
    """Return what `file` trains of the model that `build` makes, and what is wrong with it.

    Raises:
        BadInputError: The config cannot be read, or is of no trainer that is known.
        ModelError, StackError: The model cannot be built, or has no blocks.
    """
    case = _case(build, file, _dialect(file))
    found, sites = list(findings(case)), case.adapted.sites
    outside = (site for site in sites if site.name not in case.places)
    lowest, backward = _depth(case)
    made = Check(
        model=model_info(case.loaded),
        config=file.name,
        trainer=case.dialect.name,
        findings=tuple(finding for finding, _ in found),
        kinds=tuple(_kinds(case)),
        outside=tuple(OutsideModule(s.name, s.how, s.parameters) for s in outside),
        parameters=sum(site.parameters for site in sites),
        lowest=lowest,
        backward_blocks=backward,
        fixed=None,
        notes=tuple(one_line(note, limit=400) for note in case.notes),
        provenance=collect(device="meta"),
    )
    if not (fix and found):
        return made
    changes: Fix = {}
    for _, change in found:
        changes |= {key: value for key, value in change.items() if key not in changes}
    return _fixed(made, case, build, changes)


def _fixed(made: Check, case: Case, build: Build, changes: Fix) -> Check:
    """Return `made` with the corrected config, which is checked itself before it is shown."""
    text = corrected(case.file, case.dialect, changes) if changes else None
    if text is None:
        form = {"shell": "command line"}.get(case.file.form, case.file.form)
        why = f"a {form} is not rewritten" if changes else "what is meant cannot be told"
        return replace(made, notes=(*made.notes, f"no corrected config: {why}"))
    with tempfile.TemporaryDirectory() as folder:
        suffix = {"python": ".py", "yaml": ".yaml"}.get(case.file.form, ".json")
        path = Path(folder) / f"config{suffix}"
        path.write_text(text, encoding="utf-8")
        file = read_config_file(path)
        again = check(build, file)
        if (not again.parameters, len(again.findings)) >= (not made.parameters, len(made.findings)):
            return replace(made, notes=(*made.notes, "no corrected config: it would be no better"))
        if again.findings:
            again = check(build, file, fix=True)
    said = "the corrected config still has" if again.fixed is None else "corrected too:"
    left = [f"{said} {f.code} in {f.key} ({f.value})" for f in again.findings]
    notes = dict.fromkeys([*made.notes, *left, *again.notes])
    return replace(made, fixed=again.fixed or text, notes=tuple(notes))


def _dialect(file: ConfigFile) -> Dialect:
    """Return whose config it is: the trainer of most of its keys, its own ones counting more."""
    if file.form in {"python", "notebook"}:
        return DIALECTS["unsloth" if file.caller.startswith("Fast") else "peft"]
    if file.form == "object":
        return DIALECTS["peft"]
    keys = file.values.keys()
    scores = {n: 2 * len(keys & d.marks) + len(keys & {*d.defaults}) for n, d in DIALECTS.items()}
    scores |= {"ms-swift": 99} if file.caller == "swift" else {}
    name = max(scores, key=lambda each: scores[each])
    told = keys & {*DIALECTS[name].marks, *DIALECTS[name].defaults}
    if not scores[name] or told == {"model"}:  # A key that many files have.
        msg = "config of no trainer that is known"
        hint = "the script that it runs, where adapters are made" if file.form == "shell" else ""
        known = "keys of " + ", ".join(DIALECTS)
        raise BadInputError(msg, value=file.name, expected=known, hint=hint)
    return DIALECTS[name]


def _case(build: Build, file: ConfigFile, dialect: Dialect) -> Case:
    """Return the config as its trainer understands it, and what it trains."""
    notes = [*file.notes, *_assumed(file, dialect)]
    given = {**file.values, "caller": file.caller} if dialect.name == "unsloth" else file.values
    settings = dialect.read(given)
    if getattr(settings, "target_regex", ""):  # It stands in the place of names.
        dialect = replace(dialect, keys={**dialect.keys, "target_modules": "target_regex"})
    loaded = build(file.classifier)
    recipe = dialect.recipe(settings, loaded.model, loaded.stacks)
    if recipe.classifier and loaded.kind != "classifier":
        loaded = build(True)  # noqa: FBT003  # as `Build` is called
        recipe = dialect.recipe(settings, loaded.model, loaded.stacks)
    lora = dict(recipe.lora or {})
    patterns = {lora[a]: dialect.key(a) for a in _REGEX if isinstance(lora.get(a), str)}
    patterns |= {str(p): dialect.key(a) for a in _KEYS for p in listed(lora.get(a))}
    patterns.pop("all-linear", None)
    patterns |= {r.value: r.key for r in recipe.rules if re.search("regex|^unfrozen", r.key)}
    model = loaded.model
    every = (*model.named_modules(), *model.named_parameters())
    refuse_endless(patterns, {name for name, _ in every})
    adapted = train(recipe, model)
    if (replication := lora.get("layer_replication")) and not adapted.refused:
        replicated(model, replication)
        loaded = replace(loaded, stacks=find_stacks(model))
    notes += [*recipe.notes, *adapted.said]
    return Case(dialect, file, recipe, loaded, adapted, lora, tuple(dict.fromkeys(notes)))


def _assumed(file: ConfigFile, dialect: Dialect) -> Iterator[str]:
    """Yield what is counted in place of each argument that does not say where adapters go.

    Raises:
        BadInputError: One says where.
    """
    sizes = {dialect.key(name) for name in ("r", "lora_alpha", "use_dora", "lora_dropout", "bias")}
    if placing := sorted({"*", "**", *dialect.defaults} & file.unknown.keys() - sizes):
        told = "; ".join(file.unknown[key] for key in placing)
        raise BadInputError(told, expected="a literal or a constant")
    for key, why in file.unknown.items():
        default = dialect.defaults.get(key)
        yield f"{why}: {'it is left out' if default is None else f'{default} is assumed'}"


def _depth(case: Case) -> tuple[PlacedBlock | None, int]:
    """Return the lowest block that trains, and how many blocks a backward pass goes through.

    Stacks count in the order in which they run: what reads pictures before the text.
    """
    model, stacks = case.loaded.model, case.loaded.stacks
    parts = halves(model, stacks)
    text = f"{parts.text}." if parts else "?"
    order = sorted(stacks, key=lambda stack: stack.name.startswith(text))
    rows = [PlacedBlock(stack.name, n) for stack in order for n in range(len(stack.blocks))]
    trained = {(ref.stack, ref.index) for ref in case.places.values()}
    hit = [row for row, block in enumerate(rows) if (block.stack, block.index) in trained]
    outside = {site.name for site in case.adapted.sites} - case.places.keys()
    inputs = {id(module) for module in embeddings(model)}
    reached = [len(rows) - hit[0]] if hit else [0]
    if any(id(m) in inputs for name, m in model.named_modules() if name in outside):
        reached.append(len(rows))
    if parts and any(around(name, parts.aligners) for name in outside):
        reached.append(len(order[-1].blocks))
    return rows[hit[0]] if hit else None, max(reached)


def _kinds(case: Case) -> Iterator[KindCoverage]:
    """Yield every kind of module in blocks that could train so, by stack, with what does."""
    loaded, sites = case.loaded, {site.name: site for site in case.adapted.sites}
    known = {*case.linear, *case.experts, *case.places}
    if case.recipe.lora is None:
        weights = (name for name, _ in loaded.model.named_parameters())
        known = {name.rpartition(".")[0] for name in weights}
    order = {name: n for n, name in enumerate(case.modules)}
    groups: dict[tuple[str, str], list[tuple[int, TrainedModule | None]]] = {}
    for name, ref in case.blocks(sorted(known, key=lambda n: order.get(n, len(order)))).items():
        inner = name.removeprefix(ref.name).lstrip(".") or "(the block itself)"
        kind = re.sub(r"((?:^|\.)experts?(?:_\w+)?)\.\d+", r"\1.*", inner)
        groups.setdefault((ref.stack, kind), []).append((ref.index, sites.get(name)))
    stacks = [stack.name for stack in loaded.stacks]
    for stack, kind in sorted(groups, key=lambda key: stacks.index(key[0])):
        found = groups[stack, kind]
        trained = [(index, site) for index, site in found if site is not None]
        blocks = {index for index, _ in trained}
        yield KindCoverage(
            stack=stack,
            kind=kind,
            modules=len(found),
            trained=len(trained),
            how=" and ".join(sorted({site.how for _, site in trained})),
            blocks=tuple(sorted(blocks)),
            missed=tuple(sorted({index for index, _ in found} - blocks)),
            ranks=tuple(sorted({site.rank for _, site in trained if site.rank})),
            parameters=sum(site.parameters for _, site in trained),
        )
