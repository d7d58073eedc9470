"""What of a config does nothing, or more than it says: told from what really trains.

A finding comes with the arguments of PEFT that would mend it, where they can be told.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from layerwise.errors import one_line
from layerwise.models.heads import head_modules
from layerwise.models.linear import widths
from layerwise.models.load import LoadedModel
from layerwise.models.parts import halves
from layerwise.models.stack import BlockRef, all_refs
from layerwise.models.targets import fused_experts, is_bypassed
from layerwise.placement.check.adapted import Adapted, keyed
from layerwise.placement.check.reading import ConfigFile
from layerwise.placement.check.record import Finding
from layerwise.placement.check.request import ARGUMENTS, DIALECTS, Dialect, Recipe, listed
from layerwise.placement.check.trainers import last_parts
from layerwise.placement.exports.lora import target_regex

Fix = dict[str, Any]
Found = tuple[Finding, Fix]

_OUT, _TARGETS, _LAYERS = "leave it out", "target_modules", "layers_to_transform"
_NOTHING = "it matches nothing of the model, and PEFT does not say so"
#: By code: PEFT's argument, and what happens.
SAID = {
    "key-ignored": ("", "no effect: {why}"),
    "key-unknown": ("", "{why} does not read it"),
    "refused": (_TARGETS, "PEFT refuses it: {why}"),
    "text-with-layers": (_TARGETS, "PEFT refuses text beside {layers}"),
    "text-is-a-pattern": (_TARGETS, "text is a pattern of whole names, here of none"),
    "target-unmatched": (_TARGETS, _NOTHING),
    "target-idle": (_TARGETS, "it matches modules, and none of them is adapted"),
    "parameter-unmatched": ("target_parameters", _NOTHING),
    "exclude-unmatched": ("exclude_modules", _NOTHING),
    "saved-unmatched": ("modules_to_save", _NOTHING),
    "pattern-unmatched": ("", "it ends the name of no adapted module, or an earlier key decides"),
    "layers-empty": (_LAYERS, "an empty list adapts every block"),
    "layers-out-of-range": (
        _LAYERS, "the blocks are 0 to {last}; PEFT drops the others without a word",
    ),
    "layers-bare": (_LAYERS, "blocks {blocks} have none of the targets: no adapter"),
    "layers-other-number": (
        _LAYERS, "PEFT takes another number in the name for the block's: {blocks} are hit",
    ),
    "full-name": (_TARGETS, "a full name is adapted whatever {layers} says: blocks {blocks}"),
    "parameters-ignore-layers": (
        "target_parameters", "fused experts are adapted whatever {layers} says: blocks {blocks}",
    ),
    "second-stack": ("", "it means every stack: {told} are adapted"),
    "pattern-too-much": (_TARGETS, "as a pattern it also hits blocks {blocks}"),
    "saved-too-much": ("modules_to_save", "PEFT compares ends of names as text: {more} trains too"),
    "head-frozen": (
        "modules_to_save", "the head for classes ({head}) is frozen: a new one stays random",
    ),
    "tied-embeddings": (
        "modules_to_save", "it trains, and is tied to the other end of the model: they part",
    ),
    "experts-left-out": (_TARGETS, "the fused experts are no linear modules, and stay frozen"),
    "bypassed": (
        _TARGETS, "the model uses these {count} weights without calling their modules: no effect",
    ),
    "freeze-unmatched": ("", "{why}"),
    "nothing-trains": (_TARGETS, "no weight trains"),
}  # fmt: skip
#: Codes of lists whose entries match nothing.
_UNMATCHED = {
    "target_parameters": "parameter-unmatched", "exclude_modules": "exclude-unmatched",
    "modules_to_save": "saved-unmatched", "rank_pattern": "pattern-unmatched",
    "alpha_pattern": "pattern-unmatched",
}  # fmt: skip
_EVERY = {"all-linear", "all", "all-embedding", "all-norm"}
# A number that stands alone in a pattern: not part of a range, a class or a repeat.
_NUMBER = re.compile(r"(?<![\w\[{,-])(\d+)(?!\w|[\[\]{,*+?-]|\\[dwDW])")
#: Keys of lists of weights that a user writes; the others are switches.
_LISTS = {"unfrozen_parameters", "freeze_parameters", "trainable_parameters"}


@dataclass(frozen=True)
class Case:
    """All that a finding is told from."""

    dialect: Dialect
    file: ConfigFile
    recipe: Recipe
    loaded: LoadedModel
    adapted: Adapted
    lora: Mapping[str, Any]

    @cached_property
    def tails(self) -> dict[str, list[str]]:
        """The names of modules, and of weights, by each end that they have."""
        found: dict[str, list[str]] = {}
        model = self.loaded.model
        for name, _ in (*model.named_modules(), *model.named_parameters()):
            parts = name.split(".")
            for start in range(len(parts)):
                found.setdefault(".".join(parts[start:]), []).append(name)
        return found

    @cached_property
    def places(self) -> dict[str, BlockRef]:
        """The block of each trained module that lies in one."""
        return located([site.name for site in self.adapted.sites], self.loaded)

    @cached_property
    def adapters(self) -> list[str]:
        """The names of modules with adapters."""
        return [site.name for site in self.adapted.sites if site.how == "adapter"]

    @cached_property
    def targets(self) -> list[str]:
        """The modules that the user named; none where a pattern or a word stands for them."""
        value, name = self.said(_TARGETS), self.dialect.name
        if isinstance(value, str) and name not in {"llamafactory", "ms-swift"}:
            return []
        names = listed(value, commas=name == "llamafactory")
        means_all = name in {"llamafactory", "ms-swift"} or (name == "trl" and len(names) == 1)
        return [each for each in names if not (means_all and each in _EVERY)]

    @property
    def by_parts(self) -> bool:
        """Return whether the trainer takes names of targets as parts of names, anywhere."""
        return self.dialect.name == "llamafactory" and self.lora[_TARGETS] != self.targets

    @property
    def model(self) -> tuple[Any, Any]:
        """The model and its stacks."""
        return self.loaded.model, self.loaded.stacks

    @property
    def depth(self) -> int:
        """The number of blocks of the longest stack."""
        return max(len(stack.blocks) for stack in self.loaded.stacks)

    @property
    def layers(self) -> list[int]:
        """The blocks that the config asks for, by index; empty where it asks for none."""
        asked = self.lora.get(_LAYERS)
        return [asked] if isinstance(asked, int) else list(asked or ())

    def said(self, argument: str) -> Any:
        """Return what the config itself says of PEFT's `argument`."""
        return self.file.values.get(self.dialect.key(argument))

    def hits(self, argument: str) -> dict[str, list[str]]:
        """Return the modules or weights that each entry of PEFT's `argument` means."""
        asked, config = self.lora.get(argument) or (), self.adapted.config
        if argument.endswith("_pattern"):
            decided = keyed(getattr(config, argument, None) or (), self.adapters)
            return {key: decided.get(key, []) for key in asked}
        if isinstance(asked, str):
            every = (name for name, _ in self.loaded.model.named_modules())
            return {asked: [name for name in every if re.fullmatch(asked, name)]}
        if argument == "modules_to_save":
            whole = [site.name for site in self.adapted.sites if site.how == "whole"]
            own = [name for name in asked if name != "v_head"]  # Put on later, by ms-swift.
            return {name: [each for each in whole if each.endswith(name)] for name in own}
        return {name: self.tails.get(name, []) for name in asked}

    def found(
        self,
        code: str,
        value: object,
        fix: Fix | None = None,
        *,
        key: str = "",
        write: object = _OUT,
        **parts: object,
    ) -> Found:
        """Return a finding under `key`, or that of its argument, and what would mend it."""
        argument, text = SAID[code]
        told = text.format(layers=self.dialect.key(_LAYERS), last=self.depth - 1, **parts)
        key = key or self.dialect.key(argument)
        return Finding(code, key, shown(value), told, shown(write, limit=10_000)), fix or {}


def shown(value: object, *, limit: int = 120) -> str:
    """Return a value of a config on one line."""
    told = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return one_line(told, limit=limit)


def few(indices: Iterable[int]) -> str:
    """Return some indices, the first ones of many."""
    told = sorted(set(indices))
    return ", ".join(map(str, told[:8])) + (f" and {len(told) - 8} more" if told[8:] else "")


def located(names: Iterable[str], loaded: LoadedModel) -> dict[str, BlockRef]:
    """Return the block of each of `names` that lies in one."""
    blocks, found = {ref.name: ref for ref in all_refs(loaded.stacks)}, {}
    for name in names:
        parts = name.split(".")
        around = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        if ref := next((blocks[path] for path in around if path in blocks), None):
            found[name] = ref
    return found


def linear_names(loaded: LoadedModel) -> list[str]:
    """Return the names of the linear modules in blocks."""
    every = loaded.model.named_modules()
    return list(located((name for name, module in every if widths(module)), loaded))


def findings(case: Case) -> Iterator[Found]:
    """Yield what is found, with what would mend it."""
    yield from _keys(case)
    if case.adapted.refused:
        yield _refused(case)
        return
    if case.recipe.lora is not None and case.adapted.sites:
        for look in (_targets, _layers, _stacks, _entries, _heads, _in_vain):
            yield from look(case)
    yield from _rules(case)
    if not case.adapted.sites:
        yield case.found("nothing-trains", "", write="what is to train")


def _keys(case: Case) -> Iterator[Found]:
    """Yield keys that the trainer does not read: without effect, another's, or misspelt."""
    dialect, values = case.dialect, case.file.values
    for key, why in case.recipe.ignored.items():
        fix: Fix = {key: None} if key in values and "lora_t" not in key else {}
        yield case.found("key-ignored", values.get(key, ""), fix, key=key, why=why)
    for key in sorted(values.keys() - dialect.defaults.keys() - _COMMON):
        if dialect.name in {"peft", "unsloth"} and key not in case.adapted.dropped:
            continue  # PEFT has more keys than those that are looked at here.
        near = difflib.get_close_matches(key, dialect.defaults, 1, 0.88)
        owners = [d for d in DIALECTS.values() if key in d.defaults]
        same = [dialect.key(a) for d in owners for a in ARGUMENTS if d.key(a) == key]
        if near or owners or dialect.name == "peft":
            write = [*near, *same, _OUT][0]
            yield case.found("key-unknown", values[key], key=key, why=dialect.title, write=write)


_COMMON = {"task_type", "r", "use_dora", "bias", "num_labels", "reward_model", "lora_alpha"}


def _refused(case: Case) -> Found:
    """Return why PEFT does not adapt the model, with the reasons that can be told."""
    targets, names = case.lora.get(_TARGETS), last_parts(linear_names(case.loaded))
    if isinstance(targets, str) and _LAYERS in case.lora:
        fix: Fix = {_TARGETS: names} if targets.lower() in _EVERY else {}
        return case.found("text-with-layers", targets, fix, write=names)
    if "all-linear" in case.targets:
        fix = {_TARGETS: "all-linear"}
        return case.found("target-unmatched", targets, fix, write="all-linear as text, no list")
    if isinstance(targets, str) and targets in case.tails:
        return case.found("text-is-a-pattern", targets, {_TARGETS: [targets]}, write="a list")
    if case.layers and not {*case.layers} & {*range(case.depth)}:
        there = sorted({i + case.depth for i in case.layers if -case.depth <= i < 0})
        fix = {_LAYERS: there} if there else {}
        write = few(there) or f"0 to {case.depth - 1}"
        return case.found("layers-out-of-range", case.layers, fix, write=write)
    why = shown(case.adapted.refused, limit=300)
    if case.layers and case.targets and not case.lora.get("layers_pattern"):
        key, fix = case.dialect.key(_LAYERS), {"layers_pattern": [_list_of_blocks(case)]}
        return case.found("refused", case.layers, fix, key=key, why=why, write=_pattern(case))
    kept = [name for name in case.targets if name in case.tails]
    fix = {_TARGETS: kept} if 0 < len(kept) < len(case.targets) else {}
    return case.found("refused", targets or "", fix, why=why, write=names[:10])


def _list_of_blocks(case: Case) -> str:
    return case.loaded.stacks[-1].name.rpartition(".")[2]


def _pattern(case: Case) -> str:
    return f"{case.dialect.key('layers_pattern')}: {_list_of_blocks(case)}"


def _targets(case: Case) -> Iterator[Found]:
    """Yield targets that match nothing, nothing that is adapted, or more blocks than they say."""
    trained, config = {site.name for site in case.adapted.sites}, case.adapted.config
    asked = {*(case.lora.get("target_parameters") or ())}
    converted = {*(getattr(config, "target_parameters", None) or ())} - asked  # To fused experts.
    known, fused = last_parts(linear_names(case.loaded)), last_parts(fused_experts(*case.model))
    weights = f"{case.dialect.key('target_parameters')}, for the weights of fused experts"
    lost, kept = list[tuple[str, str, str]](), list[str]()
    for target in case.targets:
        hits = case.tails.get(target, [])
        if case.by_parts:
            hits = [name for name in trained if target in name]
        if trained & {*hits} or (converted and target not in config.target_modules):
            kept.append(target)
            continue
        near = [] if hits else difflib.get_close_matches(target, known, 1, cutoff=0.75)
        write = near[0] if near else weights if target in fused else _OUT
        lost.append(("target-idle" if hits else "target-unmatched", target, write))
        kept += [name for name in near if name not in case.targets]
    for code, target, write in lost:
        yield case.found(code, target, {_TARGETS: kept} if kept else {}, write=write)
    pattern = case.lora.get(_TARGETS)
    if isinstance(pattern, str) and (strays := _alike(pattern, case.adapters, case)):
        exact = _without(case.adapters, strays, case)
        fix = {_TARGETS: exact}
        yield case.found("pattern-too-much", pattern, fix, blocks=few(strays), write=exact)


def _layers(case: Case) -> Iterator[Found]:
    """Yield indices of blocks that do not do what they say."""
    if case.lora.get(_LAYERS) is None:
        return
    if not case.layers:
        write = "leave it out, or list blocks"
        yield case.found("layers-empty", "[]", {_LAYERS: None}, write=write)
        return
    there = sorted({i % case.depth for i in case.layers if -case.depth <= i < case.depth})
    if wrong := [i for i in case.layers if not 0 <= i < case.depth]:
        yield case.found("layers-out-of-range", wrong, {_LAYERS: there}, write=few(there))
    hit = {name: ref.index for name, ref in case.places.items() if name in {*case.adapters}}
    if bare := [i for i in there if i in case.layers and i not in hit.values()]:
        rest = [i for i in there if i not in bare]
        yield case.found("layers-bare", bare, {_LAYERS: rest}, blocks=few(bare), write=few(rest))
    strays = {name: index for name, index in hit.items() if index not in case.layers}
    experts = fused_experts(*case.model)
    if named := [name for name in strays if name in case.targets]:
        ends = [name for name in case.targets if name not in named]
        fix: Fix = {_TARGETS: ends} if ends else {}
        blocks, write = few(strays[name] for name in named), "the end of the name"
        yield case.found("full-name", named, fix, blocks=blocks, write=write)
    if fused := [name for name in strays if name in experts]:
        asked = tuple(case.lora.get("target_parameters") or ())
        inside = {n for n, ref in located(experts, case.loaded).items() if ref.index in case.layers}
        mine = sorted(name for name in inside if asked and name.endswith(asked))
        fix, write = {"target_parameters": mine} if mine else {}, "their full names in those blocks"
        blocks = few(strays[name] for name in fused)
        yield case.found("parameters-ignore-layers", asked, fix, blocks=blocks, write=write)
    if others := strays.keys() - {*named, *fused}:
        blocks = few(strays[name] for name in others)
        yield case.found("layers-other-number", case.layers, blocks=blocks, write=_pattern(case))


def _stacks(case: Case) -> Iterator[Found]:
    """Yield a second stack that is hit by names, or by numbers, that mean both."""
    hit: dict[str, list[str]] = {}
    for name in case.adapters:
        if name in case.places:
            hit.setdefault(case.places[name].stack, []).append(name)
    parts, named = halves(*case.model), {*case.targets}
    by_name = parts and named and not case.by_parts and not named & {*case.adapters}
    if len(hit) > 1 and (case.layers or by_name):
        text = next((s for s in hit if parts and s.startswith(f"{parts.text}.")), list(hit)[-1])
        told = " and ".join(f"{len(names)} modules of {stack}" for stack, names in hit.items())
        key = case.dialect.key(_LAYERS if case.layers else _TARGETS)
        fix = {_TARGETS: hit[text], _LAYERS: None, "layers_pattern": None}
        value, write = case.layers or case.targets, f"full names, such as those in {text} alone"
        yield case.found("second-stack", value, fix, key=key, told=told, write=write)


def _entries(case: Case) -> Iterator[Found]:
    """Yield entries of PEFT's other lists and patterns that match nothing, or too much."""
    for argument, code in _UNMATCHED.items():
        asked, hits = case.lora.get(argument), case.hits(argument)
        kept = [name for name, found in hits.items() if found]
        for name, found in hits.items():
            others, instead = [each for each in kept if each != name], list[str]()
            parts: dict[str, Any] = {"key": case.dialect.key(argument)}
            more = [each for each in found if each not in case.tails.get(name, ())]
            if argument == "modules_to_save" and more:
                parts |= {"code": "saved-too-much", "more": shown(more), "write": found}
                instead = found
            elif isinstance(asked, dict) and (strays := _alike(name, found, case)):
                instead = [f"^{_without(found, strays, case)}"]
                parts |= {"code": "pattern-too-much", "blocks": few(strays), "write": instead}
            elif found:
                continue
            left: Any = [*others, *instead] or None
            if isinstance(asked, dict):
                left = {key: asked.get(key, asked[name]) for key in left or ()} or None
            fix = {} if isinstance(asked, str) else {argument: left}
            yield case.found(**{"code": code, "value": name, "fix": fix, **parts})


def _alike(pattern: str, names: Collection[str], case: Case) -> list[int]:
    """Return blocks that are hit since their number holds one that `pattern` names, as 11 does 1.

    None where others are hit too: the number in the pattern is then no block's.
    """
    said = set(_NUMBER.findall(pattern))
    hit = {ref.index for ref in located(names, case.loaded).values()}
    others = {i for i in hit if str(i) not in said}
    like = {i for i in others if any(str(i).startswith(s) or str(i).endswith(s) for s in said)}
    return sorted(like) if like == others else []


def _without(names: Iterable[str], strays: Collection[int], case: Case) -> str:
    """Return the pattern of those of `names` that lie in other blocks."""
    return target_regex(n for n in names if n in case.places and case.places[n].index not in strays)


def _heads(case: Case) -> Iterator[Found]:
    """Yield a head for classes that stays frozen, and embeddings that part from theirs."""
    key, model, trained = "modules_to_save", case.loaded.model, [s.name for s in case.adapted.sites]
    heads = [head for head in head_modules(model) if "." not in head]
    task = next((t for part, t in _TASKS.items() if part in type(model).__name__), "SEQ_CLS")
    if task != "SEQ_CLS":
        own = (name for name, _ in model.named_children() if name != model.base_model_prefix)
        heads = [name for name in own if any(True for _ in model.get_submodule(name).parameters())]
    if heads and not any(f"{name}.".startswith(f"{h}.") for name in trained for h in heads):
        wanted = case.lora.get(key) or []
        usual = {*heads} & {"score", "classifier", "qa_outputs"} and case.dialect.name in _TASKED
        fix: Fix = {"task_type": task} if usual else {key: [*wanted, *heads]}
        write = "; ".join(f"{case.dialect.key(k)}: {shown(v)}" for k, v in fix.items())
        yield case.found("head-frozen", wanted, fix, head=shown(heads), write=write)
    ends = {id(m) for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m}
    tied = [n for n, m in model.named_modules() if id(m) in ends and n in trained]
    is_tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    if is_tied and len(ends) > 1 and tied and not case.lora.get("ensure_weight_tying"):
        name = case.dialect.key("ensure_weight_tying")
        fix = {"ensure_weight_tying": True} if name in case.dialect.defaults else {}
        yield case.found("tied-embeddings", tied, fix, write=f"{name}: true" if fix else _OUT)


#: PEFT's tasks that train a head, by what the model's class is called; who may say one.
_TASKS = {"TokenClassification": "TOKEN_CLS", "QuestionAnswering": "QUESTION_ANS"}
_TASKED = {"peft", "trl"}


def _in_vain(case: Case) -> Iterator[Found]:
    """Yield fused experts that "all linear" leaves frozen, and adapters on what is never called."""
    experts, key = fused_experts(*case.model), case.dialect.key("target_parameters")
    asked = str(case.said(_TARGETS) or "")
    every = any(word in asked for word in _EVERY) or case.file.values.get("lora_target_linear")
    if experts and every and not {*case.adapters} & experts.keys():
        ends = sorted({".".join(name.split(".")[-2:]) for name in experts if "bias" not in name})
        fix: Fix = {"target_parameters": ends} if key in case.dialect.defaults else {}
        write = f"{key}: {', '.join(ends)}, if they are meant"
        yield case.found("experts-left-out", asked, fix, write=write)
    if vain := [name for name in case.adapters if is_bypassed(case.loaded.model, name)]:
        names = last_parts(vain)
        rest = [target for target in case.targets if target not in names]
        yield case.found("bypassed", names, {_TARGETS: rest} if rest else {}, count=len(vain))


def _rules(case: Case) -> Iterator[Found]:
    """Yield lines of freeze lists that hit nothing, or more than they say."""
    names, inside = [name for name, _ in case.loaded.model.named_parameters()], case.recipe.inside
    for rule in case.recipe.rules:
        key, value = rule.key, rule.value
        hits = [name for name in names if rule.hits(inside + name)]
        is_line = key.removesuffix("_regex") in _LISTS
        strays = _alike(value, hits, case) if is_line else []
        if rule.blocks is not None:
            strays = sorted({r.index for r in located(hits, case.loaded).values()} - rule.blocks)
        if strays:
            write = "a dot at the end"
            yield case.found("pattern-too-much", value, key=key, blocks=few(strays), write=write)
        if key == "freeze_trainable_layers" and abs(int(value)) > case.depth:
            most = case.depth if int(value) > 0 else -case.depth
            yield case.found("layers-out-of-range", value, {key: most}, key=key, write=most)
        if is_line and not hits:
            why, write = "it hits no weight", _OUT
            lines = listed(case.file.values.get(key))
            rest = [line for line in lines if line != value]
            if inside:
                why += f": beside adapters names begin with {inside}, and adapters freeze"
            if key == "unfrozen_parameters" and r"\." in value:
                why, write = "Axolotl escapes dots itself: none matches", value.replace(r"\.", ".")
                rest = [write if line == value else line for line in lines]
            fix = {key: rest} if rest else {}
            yield case.found("freeze-unmatched", value, fix, key=key, why=why, write=write)
