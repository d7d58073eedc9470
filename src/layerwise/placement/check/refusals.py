"""What PEFT refuses a config for: told by what it says where one argument is another."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from layerwise.models.linear import widths
from layerwise.placement.check.adapted import default, refusal
from layerwise.placement.check.case import EVERY, LAYERS, OUT, TARGETS, Case, Fix, Found
from layerwise.placement.check.request import listed
from layerwise.placement.check.trainers import last_parts
from layerwise.placement.exports.lora import target_regex


def refusals(case: Case) -> Iterator[Found]:
    """Yield each thing that PEFT refuses: with another value there it says something else."""
    lora, why = dict(case.lora), case.adapted.refused
    for _ in case.lora:
        changed = list[tuple[str, Fix, Found]]()
        for trial, found in _reasons(case, lora, why):
            said = refusal({**lora, **trial}, case.loaded.model)
            if said != why:
                changed.append((said, trial, found))
            if not said:
                break
        if not changed:
            targets = lora.get(TARGETS) or ""
            named = [name for name in lora if re.search(rf"\b{name}\b", why)] or [TARGETS]
            write = (
                _instead(case, listed(targets or [])) if TARGETS in named else "what it asks for"
            )
            yield case.found(
                "refused", targets, key=case.dialect.key(named[0]), why=why, write=write
            )
            return
        why, trial, found = min(changed, key=lambda each: bool(each[0]))
        yield found
        lora |= trial
        if not why:
            return


def _reasons(case: Case, lora: Fix, why: str) -> Iterator[tuple[Fix, Found]]:
    """Yield what `lora` may be refused for: another value to try, and the finding if it is that."""
    yield from _refused_targets(case, lora, why)
    if case.layers and not {*case.layers} & {*range(case.depth)}:
        yield {LAYERS: [*range(case.depth)]}, case.out_of_range()
    elif case.layers:
        fix: Fix = {"layers_pattern": [case.list_of_blocks]}
        named = "layers_pattern" if lora.get("layers_pattern") else LAYERS
        yield fix, case.found("refused", lora[named], fix, key=case.dialect.key(named), why=why)
    for argument, value in lora.items():
        plain = default(lora, argument)
        if value != plain and argument not in {"peft_type", TARGETS}:
            key, is_told = case.dialect.key(argument), isinstance(plain, str | int | float)
            write = f"{plain}, PEFT's own value" if is_told else OUT
            fix = {argument: plain if is_told else None}
            yield (
                {argument: plain},
                case.found("refused", value, fix, key=key, write=write, why=why),
            )


def _refused_targets(case: Case, lora: Fix, why: str) -> Iterator[tuple[Fix, Found]]:
    """Yield what of the targets may be refused: a text, names of nothing, what takes no adapter."""
    targets, modules = lora.get(TARGETS), dict(case.loaded.model.named_modules())
    names, fix = listed(targets), dict[str, Any]()
    if isinstance(targets, str) and LAYERS in lora:
        names = [targets] if targets in case.tails else last_parts(case.linear)
        fix = {TARGETS: names} if targets.lower() in {*EVERY, *case.tails} else {}
        yield {TARGETS: names}, case.found("text-with-layers", targets, fix, write=names)
    elif isinstance(targets, str) and targets in case.tails:
        fix = {TARGETS: [targets]}
        yield fix, case.found("text-is-a-pattern", targets, fix, write="a list")
    elif isinstance(targets, str):
        taken = [name for name in case.hits(TARGETS)[targets] if _takes_adapter(modules[name])]
        fix = {TARGETS: target_regex(taken)} if taken else {}
        yield fix, case.found("refused", targets, fix, why=why)
    elif "all-linear" in names:
        fix, write = {TARGETS: "all-linear"}, "all-linear as text, no list"
        yield fix, case.found("target-unmatched", targets, fix, write=write)
    elif not names:
        yield {TARGETS: None}, case.found("refused", targets, {TARGETS: None}, why=why)
    else:
        hits = {name: case.tails.get(name, []) for name in names}
        kept = [
            n for n in names if hits[n] and all(_takes_adapter(modules.get(h)) for h in hits[n])
        ]
        lost = [name for name in names if name not in kept]
        near = [case.near(name, case.linear) for name in lost if not hits[name]]
        kept += sorted({each[0] for each in near if len(each) == 1} - {*kept})
        fix = {TARGETS: kept} if kept and lost else {}
        yield fix, case.found("refused", lost, fix, write=_instead(case, lost), why=why)


def _takes_adapter(module: Any) -> bool:
    """Return whether `module` is linear, or has another weight of two dimensions or more."""
    weight = getattr(module, "weight", None)
    return bool(module and widths(module)) or getattr(weight, "ndim", 0) > 1


def _instead(case: Case, names: Sequence[str]) -> str:
    """Return what to write for names of targets that are not taken."""
    lost = [name for name in names if name not in case.tails]
    near = {name: " or ".join(case.near(name, case.linear)) for name in lost}
    if not any(near.values()):
        every = "names of linear modules: " + ", ".join(last_parts(case.linear)[:10])
        return OUT if len(names) < len(listed(case.lora.get(TARGETS))) else every
    told = {name: near.get(name) or OUT for name in names}
    return "; ".join(v if len(told) == 1 else f"{v} for {name}" for name, v in told.items())
