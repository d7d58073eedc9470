"""What of a config does nothing, or more than it says: told from what really trains.

A finding comes with the arguments of PEFT that would mend it, where they can be told.
"""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from layerwise.errors import one_line
from layerwise.models.heads import head_modules
from layerwise.models.load import LoadedModel
from layerwise.models.parts import halves
from layerwise.models.stack import BlockRef, all_refs
from layerwise.models.targets import fused_experts, is_bypassed
from layerwise.placement.check.adapted import Adapted, TrainedModule, keyed
from layerwise.placement.check.reading import ConfigFile
from layerwise.placement.check.record import Finding
from layerwise.placement.check.request import DIALECTS, Dialect, Recipe, WeightRule
from layerwise.placement.check.trainers import listed
from layerwise.placement.exports.lora import target_regex

Fix = dict[str, Any]
Found = Iterator[tuple[Finding, Fix]]

_NOTHING, _OUT = "it matches nothing of the model, and PEFT does not say so", "leave it out"
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
    request: Recipe
    loaded: LoadedModel
    adapted: Adapted
    lora: Mapping[str, Any] = field(default_factory=dict)

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
    def adapters(self) -> list[TrainedModule]:
        """The modules with adapters."""
        return [site for site in self.adapted.sites if site.how == "adapter"]

    @cached_property
    def targets(self) -> list[str]:
        """The modules that the user named; none where a pattern or a word stands for them."""
        value = self.file.values.get(self.dialect.key("target_modules"))
        names = listed(value, commas=self.dialect.name == "llamafactory")
        is_pattern = isinstance(value, str) and self.dialect.name not in {
            "llamafactory",
            "ms-swift",
        }
        return [] if is_pattern else [name for name in names if name not in _EVERY]

    @property
    def model(self) -> tuple[Any, Any]:
        """The model and its stacks."""
        return self.loaded.model, self.loaded.stacks

    @property
    def depth(self) -> int:
        """The number of blocks of the longest stack."""
        return max(len(stack.blocks) for stack in self.loaded.stacks)

    @property
    def by_parts(self) -> bool:
        """Return whether the trainer takes names of targets as parts of names, anywhere."""
        return self.dialect.name == "llamafactory" and self.lora["target_modules"] != self.targets

    def line(
        self, code: str, key: str, value: object, text: str, remedy: str = _OUT
    ) -> tuple[Finding, Fix]:
        """Return a finding under a key of the config."""
        return Finding(code, key, shown(value), text, remedy), {}

    def found(
        self, code: str, argument: str, value: object, text: str, remedy: str = _OUT, **fix: Any
    ) -> tuple[Finding, Fix]:
        """Return a finding under the config's key for PEFT's `argument`, and what would mend it."""
        key = self.dialect.key(argument)
        return Finding(code, key, shown(value), text, remedy), fix


def shown(value: object, *, limit: int = 120) -> str:
    """Return a value of a config on one line."""
    told = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return one_line(told, limit=limit)


def few(indices: Collection[int] | Iterator[int]) -> str:
    """Return some indices, the first ones of many."""
    told = sorted(set(indices))
    more = f" and {len(told) - 8} more" if len(told) > 8 else ""
    return ", ".join(map(str, told[:8])) + more


def located(names: Collection[str], loaded: LoadedModel) -> dict[str, BlockRef]:
    """Return the block of each of `names` that lies in one."""
    blocks, found = {ref.name: ref for ref in all_refs(loaded.stacks)}, {}
    for name in names:
        parts = name.split(".")
        for end in range(len(parts), 0, -1):
            ref = blocks.get(".".join(parts[:end]))
            if ref is not None:
                found[name] = ref
    return found


def findings(case: Case) -> Found:
    """Yield what is found, with what would mend it."""
    yield from _keys(case)
    if case.adapted.refused:
        yield _refused(case)
        return
    if case.request.lora is not None:
        for look in (_targets, _layers, _stacks, _patterns, _saved, _tied, _experts, _bypassed):
            yield from look(case)
    yield from _rules(case)
    if not case.adapted.sites:
        remedy = "name what is to train"
        yield case.found("nothing-trains", "target_modules", "", "no weight trains", remedy)


# --- Keys ----------------------------------------------------------------------------------------


def _keys(case: Case) -> Found:
    """Yield keys that the trainer does not read: without effect, another's, or misspelt."""
    dialect, values = case.dialect, case.file.values
    for key, why in case.request.ignored.items():
        finding, _ = case.line("key-ignored", key, values.get(key, ""), f"no effect: {why}")
        yield finding, {key: None} if key in values and "lora_t" not in key else {}
    others = {k: d for d in DIALECTS.values() for k in d.defaults if k not in dialect.defaults}
    for key in values.keys() - dialect.defaults.keys() - _COMMON:
        if dialect.name in {"peft", "unsloth"} and key not in case.adapted.dropped:
            continue  # PEFT has more keys than those that are looked at here.
        near, owner = difflib.get_close_matches(key, dialect.defaults, 1, 0.88), others.get(key)
        text = f"{dialect.title} does not read it"
        if near:
            yield case.line("key-unknown", key, values[key], text, near[0])
        elif owner:
            argument = next((a for a in _ARGUMENTS if owner.key(a) == key), None)
            remedy = dialect.key(argument) if argument else "leave it out"
            text += f"; it is a key of {owner.title}"
            yield case.line("key-unknown", key, values[key], text, remedy)


_COMMON = {"task_type", "r", "use_dora", "bias", "num_labels", "reward_model", "lora_alpha"}
_ARGUMENTS = ("target_modules", "target_parameters", "modules_to_save", "exclude_modules", "r",
              "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern")  # fmt: skip


def _refused(case: Case) -> tuple[Finding, Fix]:
    """Return why PEFT does not adapt the model, with the reasons that can be told."""
    targets, layers = case.lora.get("target_modules"), case.lora.get("layers_to_transform")
    linear = sorted({name.rpartition(".")[2] for name in linear_names(case.loaded)})
    said = f"PEFT refuses it: {shown(case.adapted.refused, limit=300)}"
    if isinstance(targets, str) and layers is not None:
        text = f"PEFT refuses text beside {case.dialect.key('layers_to_transform')}"
        names = linear if targets.lower() in _EVERY else []
        fix: Fix = {"target_modules": names} if names else {}
        remedy = ", ".join(linear)
        return case.found("text-with-layers", "target_modules", targets, text, remedy, **fix)
    if isinstance(targets, str) and case.tails.get(targets):
        text = "as text it is a pattern of whole names, which no module has: PEFT refuses it"
        fix = {"target_modules": [targets]}
        remedy = f"a list, [{targets}]"
        return case.found("text-is-a-pattern", "target_modules", targets, text, remedy, **fix)
    asked = [layers] if isinstance(layers, int) else list(layers or ())
    wrong = [i for i in asked if not 0 <= i < case.depth]
    if wrong and len(wrong) == len(asked):
        there = sorted({i + case.depth for i in wrong if -case.depth <= i < 0})
        text = f"the blocks are 0 to {case.depth - 1}: PEFT finds no module, and refuses it"
        remedy = few(there) or f"0 to {case.depth - 1}"
        fix = {"layers_to_transform": there} if there else {}
        key = "layers_to_transform"
        return case.found("layers-out-of-range", key, asked, text, remedy, **fix)
    if layers is not None and case.targets and not case.lora.get("layers_pattern"):
        last = case.loaded.stacks[-1].name.rpartition(".")[2]
        remedy, fix = f"{case.dialect.key('layers_pattern')}: {last}", {"layers_pattern": [last]}
        return case.found("refused", "layers_to_transform", asked, said, remedy, **fix)
    named = [name for name in case.targets if name in case.tails]
    fix = {"target_modules": named} if 0 < len(named) < len(case.targets) else {}
    remedy = f"modules that the model has and PEFT can adapt: {', '.join(linear[:10])}"
    return case.found("refused", "target_modules", targets or "", said, remedy, **fix)


def linear_names(loaded: LoadedModel) -> list[str]:
    """Return the names of all modules in blocks that are linear, by what they have."""
    inside = [
        name
        for name, module in loaded.model.named_modules()
        if hasattr(module, "weight")
        and (hasattr(module, "in_features") or type(module).__name__ == "Conv1D")
    ]
    return list(located(inside, loaded))


# --- Adapters ------------------------------------------------------------------------------------


def _targets(case: Case) -> Found:
    """Yield targets, parameters and exclusions that match nothing, or nothing that is adapted."""
    trained, key = {site.name for site in case.adapted.sites}, "target_modules"
    config, asked = case.adapted.config, {*(case.lora.get("target_parameters") or ())}
    converted = {*(getattr(config, "target_parameters", None) or ())} - asked  # To fused experts.
    fused = {name.rpartition(".")[2] for name in fused_experts(*case.model)}
    lasts = {name.rpartition(".")[2] for name in linear_names(case.loaded)}
    lost, kept = list[tuple[str, str, str]](), list[str]()
    for target in case.targets:
        hits = case.tails.get(target, [])
        if case.by_parts:
            hits = [name for name in trained if target in name]
        if trained & {*hits} or (converted and target not in config.target_modules):
            kept.append(target)
            continue
        near = [] if hits else difflib.get_close_matches(target, lasts, 1, cutoff=0.75)
        text = f"it matches {len(hits)} modules, none of which is adapted" if hits else _NOTHING
        weights = f"{case.dialect.key('target_parameters')}, for the weights of fused experts"
        lost.append((target, text, near[0] if near else weights if target in fused else _OUT))
        kept += [name for name in near if name not in case.targets]
    fix: Fix = {key: kept} if kept else {}
    for target, text, remedy in lost:
        yield case.found("target-unmatched", key, target, text, remedy, **fix)
    for key, code in (("target_parameters", "parameter"), ("exclude_modules", "exclude")):
        names = case.lora.get(key) or ()
        if isinstance(names, str):
            every = (name for name, _ in case.loaded.model.named_modules())
            if not any(re.fullmatch(names, name) for name in every):
                remedy = "a list of ends of names"
                yield case.found(f"{code}-unmatched", key, names, "it is no whole name", remedy)
            continue
        for name in names:
            if name not in case.tails:
                fix = {key: [other for other in names if other != name] or None}
                yield case.found(f"{code}-unmatched", key, name, _NOTHING, **fix)


def _layers(case: Case) -> Found:
    """Yield indices of blocks that do not do what they say."""
    key, asked = "layers_to_transform", case.lora.get("layers_to_transform")
    if asked is None:
        return
    indices = [asked] if isinstance(asked, int) else list(asked)
    if not indices:
        text, remedy = "an empty list adapts every block", "leave it out, or list blocks"
        yield case.found("layers-empty", key, "[]", text, remedy, layers_to_transform=None)
        return
    wrong = [i for i in indices if not 0 <= i < case.depth]
    there = sorted({i % case.depth for i in indices if -case.depth <= i < case.depth})
    if wrong:
        text = f"the blocks are 0 to {case.depth - 1}; PEFT drops the others without a word"
        yield case.found("layers-out-of-range", key, wrong, text, few(there), **{key: there})
    yield from _strays(case, {*indices})
    hit = {case.places[s.name].index for s in case.adapters if s.name in case.places}
    if bare := [i for i in indices if 0 <= i < case.depth and i not in hit]:
        text = f"blocks {few(bare)} have none of the targets, and get no adapter"
        rest = [i for i in there if i not in bare]
        yield case.found("layers-bare", key, bare, text, few(rest), **{key: rest})


def _strays(case: Case, asked: set[int]) -> Found:
    """Yield what is adapted in blocks that were not asked for, by the reason."""
    strays: dict[str, list[str]] = {}
    experts = fused_experts(*case.model)
    for site in case.adapters:
        if site.name in case.places and case.places[site.name].index not in asked:
            why = "full-name" if site.name in case.targets else "other-number"
            strays.setdefault("experts" if site.name in experts else why, []).append(site.name)
    layers = case.dialect.key("layers_to_transform")
    for why, names in strays.items():
        blocks = few(case.places[name].index for name in names)
        if why == "full-name":
            rest = [name for name in case.targets if name not in names]
            text = f"a full name is adapted whatever {layers} says, here in blocks {blocks}"
            fix = {"target_modules": rest} if rest else {}
            yield case.found(why, "target_modules", names, text, "the end of the name", **fix)
        elif why == "experts":
            ends = case.lora.get("target_parameters") or ()
            mine = [n for n in names_in(experts, case, asked) if n.endswith(tuple(ends))]
            text = f"weights of fused experts are adapted whatever {layers} says: blocks {blocks}"
            fix = {"target_parameters": mine} if ends and mine else {}
            remedy, key = "their full names in those blocks", "target_parameters"
            yield case.found("parameters-ignore-layers", key, ends, text, remedy, **fix)
        else:
            last = case.loaded.stacks[-1].name.rpartition(".")[2]
            text = f"PEFT takes another number in the name for the block's: {blocks} are hit"
            remedy = f"{case.dialect.key('layers_pattern')}: {last}"
            key = "layers_to_transform"
            yield case.found("layers-other-number", key, sorted(asked), text, remedy)


def names_in(names: Collection[str], case: Case, blocks: set[int]) -> list[str]:
    """Return those of `names` that lie in some blocks."""
    return [n for n, ref in located(names, case.loaded).items() if ref.index in blocks]


def _stacks(case: Case) -> Found:
    """Yield a second stack that is hit by names, or by numbers, that mean both."""
    hit: dict[str, list[str]] = {}
    for site in case.adapters:
        if (ref := case.places.get(site.name)) is not None:
            hit.setdefault(ref.stack, []).append(site.name)
    parts, layers = halves(*case.model), case.lora.get("layers_to_transform")
    adapted = {site.name for site in case.adapters}
    by_name = parts and case.targets and not case.by_parts and not adapted & {*case.targets}
    if len(hit) < 2 or not (layers or by_name):
        return
    text_stack = next((s for s in hit if parts and s.startswith(f"{parts.text}.")), list(hit)[-1])
    told = " and ".join(f"{len(names)} modules of {stack}" for stack, names in hit.items())
    key, value = ("layers_to_transform", layers) if layers else ("target_modules", case.targets)
    text = f"{'the indices' if layers else 'the names'} mean every stack: {told} are adapted"
    fix = {"target_modules": hit[text_stack], "layers_to_transform": None, "layers_pattern": None}
    remedy = f"full names, such as those in {text_stack} alone"
    yield case.found("second-stack", key, value, text, remedy, **fix)


def _patterns(case: Case) -> Found:
    """Yield patterns that decide on nothing, or on blocks whose number only looks alike."""
    names = [site.name for site in case.adapters]
    for argument in ("rank_pattern", "alpha_pattern"):
        mine = case.lora.get(argument) or {}
        hits = keyed(getattr(case.adapted.config, argument, None) or (), names)
        kept = {key: value for key, value in mine.items() if hits.get(key)}
        for key in mine:
            if key not in kept:
                text = "it is the end of no adapted module's name, or an earlier key decides"
                fix: Fix = {argument: kept or None}
                yield case.found("pattern-unmatched", argument, key, text, **fix)
            elif strays := alike(key, hits[key], case):
                meant = [n for n in hits[key] if case.places[n].index not in strays]
                exact = {(f"^{target_regex(meant)}" if k == key else k): v for k, v in kept.items()}
                text = f"a key is a pattern: it decides on blocks {few(strays)} too"
                fix = {argument: exact}
                yield case.found("pattern-too-much", argument, key, text, next(iter(exact)), **fix)
    target = case.lora.get("target_modules")
    if isinstance(target, str) and (strays := alike(target, names, case)):
        text = f"it also matches modules of blocks {few(strays)}"
        meant = [n for n in names if n in case.places and case.places[n].index not in strays]
        fix, key = {"target_modules": target_regex(meant)}, "target_modules"
        yield case.found("pattern-too-much", key, target, text, "escape its dots", **fix)


def alike(pattern: str, names: Collection[str], case: Case) -> list[int]:
    """Return blocks that are hit since their number holds one that `pattern` names, as 11 does 1.

    None where others are hit too: the number in the pattern is then no block's.
    """
    said = set(_NUMBER.findall(pattern))
    hit = {ref.index for ref in located(names, case.loaded).values()}
    others = {i for i in hit if str(i) not in said}
    like = {i for i in others if any(str(i).startswith(s) or str(i).endswith(s) for s in said)}
    return sorted(like) if like == others else []


def _saved(case: Case) -> Found:
    """Yield modules that should train whole and do not, or do unsaid."""
    key = "modules_to_save"
    wanted = [m for m in case.lora.get(key) or () if m != "v_head"]  # Put on later, by ms-swift.
    whole = [site.name for site in case.adapted.sites if site.how == "whole"]
    for module in wanted:
        hits = [name for name in whole if name.endswith(module)]
        more = [name for name in hits if f".{name}".removesuffix(f".{module}") == f".{name}"]
        fix: Fix = {key: [m for m in wanted if m != module] or None}
        if not hits:
            yield case.found("saved-unmatched", key, module, _NOTHING, **fix)
        elif more:
            text = f"PEFT compares ends of names as text: {shown(more, limit=80)} trains too"
            fix = {key: [other for m in wanted for other in ([m] if m != module else hits)]}
            yield case.found("saved-too-much", key, module, text, shown(hits), **fix)
    trained = {site.name for site in case.adapted.sites}
    heads = [head for head in head_modules(case.loaded.model) if "." not in head]
    if heads and not any(f"{name}.".startswith(f"{head}.") for name in trained for head in heads):
        text = f"the head for classes ({', '.join(heads)}) is frozen: a new one stays random"
        usual = case.dialect.name in {"peft", "trl"} and {*heads} & {"score", "classifier"}
        fix = {"task_type": "SEQ_CLS"} if usual else {key: [*wanted, *heads]}
        remedy = "; ".join(f"{case.dialect.key(k)}: {shown(v)}" for k, v in fix.items())
        yield case.found("head-frozen", key, wanted, text, remedy, **fix)


def _tied(case: Case) -> Found:
    """Yield embeddings that train though they are tied to the head."""
    model, trained = case.loaded.model, {site.name for site in case.adapted.sites}
    ends = {id(m) for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m}
    tied = [n for n, m in model.named_modules() if id(m) in ends and n in trained]
    is_tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    if is_tied and len(ends) > 1 and tied and not case.lora.get("ensure_weight_tying"):
        text = f"{', '.join(tied)} trains, and is tied to the other end of the model: they part"
        name = case.dialect.key("ensure_weight_tying")
        fix = {"ensure_weight_tying": True} if name in case.dialect.defaults else {}
        remedy, key = f"{name}: true" if fix else _OUT, "modules_to_save"
        yield case.found("tied-embeddings", key, tied, text, remedy, **fix)


def _experts(case: Case) -> Found:
    """Yield fused experts that stay frozen though every linear module was asked for."""
    experts, key = fused_experts(*case.model), case.dialect.key("target_parameters")
    asked = str(case.file.values.get(case.dialect.key("target_modules"), ""))
    every = any(word in asked for word in _EVERY) or case.file.values.get("lora_target_linear")
    if experts and every and not {site.name for site in case.adapters} & experts.keys():
        ends = sorted({".".join(name.split(".")[-2:]) for name in experts if "bias" not in name})
        fix: Fix = {"target_parameters": ends} if key in case.dialect.defaults else {}
        text = "the fused experts are no linear modules, and stay frozen"
        remedy = f"{key}: {', '.join(ends)}, if they are meant"
        yield case.found("experts-left-out", "target_modules", asked, text, remedy, **fix)


def _bypassed(case: Case) -> Found:
    vain = [site.name for site in case.adapters if is_bypassed(case.loaded.model, site.name)]
    if vain:
        names = sorted({name.rpartition(".")[2] for name in vain})
        rest = [target for target in case.targets if target not in names]
        text = f"the model uses these {len(vain)} weights without calling their modules: no effect"
        fix: Fix = {"target_modules": rest} if rest else {}
        yield case.found("bypassed", "target_modules", names, text, **fix)


# --- Lists of weights ----------------------------------------------------------------------------


def _rules(case: Case) -> Found:
    """Yield lines of freeze lists that hit nothing, or more than they say."""
    names = [name for name, _ in case.loaded.model.named_parameters()]
    for rule in case.request.rules:
        hits, is_line = (
            [n for n in names if rule.hits(n)],
            rule.key.removesuffix("_regex") in _LISTS,
        )
        if is_line and not hits:
            yield _unhit(case, rule)
        strays = alike(rule.value, hits, case) if is_line else []
        if rule.blocks is not None:
            touched = {ref.index for ref in located(hits, case.loaded).values()}
            strays = sorted(touched - rule.blocks)
        if strays:
            text = f"it also hits weights of blocks {few(strays)}"
            yield case.line("pattern-too-much", rule.key, rule.value, text, "a dot at the end")
        if rule.key == "freeze_trainable_layers" and abs(int(rule.value)) > case.depth:
            count = case.depth if int(rule.value) > 0 else -case.depth
            text = f"the model has {case.depth} blocks: all of them train"
            finding, _ = case.line("layers-out-of-range", rule.key, rule.value, text, str(count))
            yield finding, {rule.key: count}


def _unhit(case: Case, rule: WeightRule) -> tuple[Finding, Fix]:
    lines, text = listed(case.file.values.get(rule.key)), "it hits no weight of the model"
    rest, remedy = [line for line in lines if line != rule.value], _OUT
    if rule.key == "unfrozen_parameters" and r"\." in rule.value:
        remedy = rule.value.replace(r"\.", ".")
        text = "Axolotl escapes dots itself: one that is escaped already matches nothing"
        rest = [remedy if line == rule.value else line for line in lines]
    finding, _ = case.line("freeze-unmatched", rule.key, rule.value, text, remedy)
    return finding, {rule.key: rest} if rest else {}
