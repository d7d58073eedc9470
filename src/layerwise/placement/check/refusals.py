"""Reasons for which PEFT refuses a config, told by what it says where an argument is another."""

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
    for _ in case.lora:  # At most as many as there are arguments.
        changed = list[tuple[str, Fix, Found]]()
        for trial, found in _reasons(case, lora, why):
            said = refusal({**lora, **trial}, case.loaded.model)
            changed += [(said, trial, found)] if said != why else []
            if not said:
                break
        if not changed:
            yield _unexplained(case, lora, why)
            return
        why, trial, found = min(changed, key=lambda each: bool(each[0]))
        lora |= trial
        yield found
        if not why:
            return


def _reasons(case: Case, lora: Fix, why: str) -> Iterator[tuple[Fix, Found]]:
    """Yield what `lora` may be refused for: another value to try, and the finding if it is that."""
    yield from (
        _text(case, lora, why) if isinstance(lora.get(TARGETS), str) else _names(case, lora, why)
    )
    if case.layers and not {*case.layers} & {*range(case.depth)}:
        yield {LAYERS: [*range(case.depth)]}, case.out_of_range()
    elif case.layers:
        named = "layers_pattern" if lora.get("layers_pattern") else LAYERS
        fix: Fix = {"layers_pattern": [case.list_of_blocks]}
        yield fix, case.found("refused", lora[named], fix, key=case.dialect.key(named), why=why)
        inside = (n for n, ref in case.blocks(case.linear).items() if ref.index in case.layers)
        ends = tuple(f".{name}" for name in case.targets)
        fix = {
            TARGETS: [n for n in inside if n.endswith(ends)],
            LAYERS: None,
            "layers_pattern": None,
        }
        key = case.dialect.key(LAYERS)
        yield fix, case.found("refused", case.layers, fix, key=key, why=why)
    if isinstance(text := lora.get("target_parameters"), str):
        fix, key = {"target_parameters": [text]}, case.dialect.key("target_parameters")
        yield fix, case.found("refused", text, fix, key=key, write="a list", why=why)
    for argument in sorted(lora, key=lambda name: not _is_named(name, why)):
        plain, key = default(lora, argument), case.dialect.key(argument)
        if lora[argument] != plain and argument not in {"peft_type", TARGETS}:
            is_told = isinstance(plain, str | int | float)
            parts = {"why": why, "write": f"{plain}, PEFT's own value" if is_told else OUT}
            fix = {argument: plain if is_told else None}
            yield {argument: plain}, case.found("refused", lora[argument], fix, key=key, **parts)


def _is_named(argument: str, why: str) -> bool:
    return re.search(rf"\b{argument}\b", why) is not None


def _text(case: Case, lora: Fix, why: str) -> Iterator[tuple[Fix, Found]]:
    """Yield what of a text for targets may be refused: beside layers, a name, what it reaches."""
    text, linear = lora[TARGETS], last_parts(case.linear)
    parts = re.split(r"[\s,|]+", text)
    names = parts if all(part in case.tails for part in parts) else linear
    if LAYERS in lora:
        if text.lower() not in EVERY and names == linear:
            names = last_parts(n for n in case.linear if re.fullmatch(text, n)) or linear
        fix: Fix = {TARGETS: names} if text.lower() in EVERY or names != linear else {}
        yield {TARGETS: names}, case.found("text-with-layers", text, fix, write=names)
    elif names != linear:  # TRL hands on a list of one as text.
        is_text = isinstance(case.said(TARGETS), str)
        fix = {TARGETS: names if is_text else rf".*\.({'|'.join(map(re.escape, names))})"}
        write = f"a list: {', '.join(names)}" if is_text else fix[TARGETS]
        yield fix, case.found("text-is-a-pattern", text, fix, write=write)
    elif text.lower() in EVERY:
        yield {TARGETS: "all-linear"}, case.found("refused", text, {TARGETS: "all-linear"}, why=why)
    else:
        every = case.modules.items()  # Another text than the config's, after a trial.
        taken = [name for name, m in every if re.fullmatch(text, name) and _takes_adapter(m)]
        fix = {TARGETS: target_regex(taken)} if taken else {}
        yield fix, case.found("refused", text, fix, why=why)


def _names(case: Case, lora: Fix, why: str) -> Iterator[tuple[Fix, Found]]:
    """Yield what of names of targets may be refused: all at once, none, those of nothing."""
    names = listed(lora.get(TARGETS))
    hits = {name: [case.modules.get(hit) for hit in case.tails.get(name, ())] for name in names}
    kept = [name for name, found in hits.items() if found and all(map(_takes_adapter, found))]
    lost = [name for name in names if name not in kept]
    near = [case.near(name) for name in lost if not hits[name]]
    kept += sorted({found[0] for found in near if len(found) == 1} - {*kept})
    if "all-linear" in names:
        fix: Fix = {TARGETS: "all-linear"}
        write = "all-linear as text, no list"
        yield fix, case.found("target-unmatched", names, fix, write=write)
    elif kept and lost:
        fix = {TARGETS: kept}
        yield fix, case.found("refused", lost, fix, write=_instead(case, lost), why=why)
    elif lost and case.layers and not any(near) and (ends := last_parts(case.linear)):
        write = f"names such as {', '.join(ends[:10])}"
        yield {TARGETS: ends}, case.found("refused", lost, write=write, why=why)
    elif not names and case.said(TARGETS) is not None:
        yield {TARGETS: None}, case.found("refused", "", {TARGETS: None}, why=why)


def _takes_adapter(module: Any) -> bool:
    """Return whether `module` is linear, or has another weight of two dimensions or more."""
    weight = getattr(module, "weight", None)
    return bool(module and widths(module)) or getattr(weight, "ndim", 0) > 1


def _instead(case: Case, names: Sequence[str]) -> str:
    """Return what to write for each of `names`: those that it is nearest to, or nothing."""
    near = {n: [] if n in case.tails else case.near(n) for n in names}
    told = {name: " or ".join(found) or OUT for name, found in near.items()}
    return "; ".join(v if len(told) == 1 else f"{v} for {name}" for name, v in told.items())


def _unexplained(case: Case, lora: Fix, why: str) -> Found:
    """Return a refusal that no other value mends: names that are near, or that PEFT would take."""
    argument = next((name for name in lora if _is_named(name, why)), TARGETS)
    value, write = lora.get(argument) or "", "what PEFT asks for"
    if argument == TARGETS:
        ends, model = last_parts(case.linear), case.loaded.model
        near = [n for n in listed(value) if n not in case.tails and case.near(n)]
        taken = [end for end in ends if refusal({**lora, TARGETS: [end]}, model) != why]
        write = _instead(case, listed(value)) if near else f"names such as {', '.join(taken[:10])}"
        write = write if near or taken else "another kind of adapters"
    return case.found("refused", value, key=case.dialect.key(argument), why=why, write=write)
