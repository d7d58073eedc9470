"""Findings of a config, told from what really trains: it does nothing, or more than it says."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields

from layerwise.models.heads import head_modules
from layerwise.models.parts import halves
from layerwise.models.stack import around
from layerwise.models.targets import is_bypassed
from layerwise.placement.check.case import EVERY, LAYERS, OUT, SAVED, TARGETS, Case, Fix, Found
from layerwise.placement.check.refusals import refusals
from layerwise.placement.check.request import ARGUMENTS, DIALECTS, Dialect, listed
from layerwise.placement.check.trainers import last_parts
from layerwise.placement.exports.lora import target_regex

#: Codes of lists whose entries match nothing.
_UNMATCHED = {
    "target_parameters": "parameter-unmatched", "exclude_modules": "exclude-unmatched",
    SAVED: "saved-unmatched", "rank_pattern": "pattern-unmatched",
    "alpha_pattern": "pattern-unmatched",
}  # fmt: skip
# A number that stands alone in a pattern: not part of a range, a class or a repeat.
_NUMBER = re.compile(r"(?<![\w\[{,-])(\d+)(?!\w|[\[\]{,*+?-]|\\[dwDW])")
#: Keys of lists of weights that a user writes; the others are switches.
_LISTS = {"unfrozen_parameters", "freeze_parameters", "trainable_parameters"}


def findings(case: Case) -> Iterator[Found]:
    """Yield what is found, with what would mend it."""
    yield from _keys(case)
    if case.adapted.refused:
        yield from refusals(case)
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
        is_own = key in values and "lora_t" not in key and dialect.key(key) == key
        fix: Fix = {key: None} if is_own else {}
        if key.startswith("lora_t"):
            fix = dict(case.recipe.switch)
        yield case.found("key-ignored", values.get(key, ""), fix, key=key, why=why)
    spelled = {named: a for a in ARGUMENTS for named in (a, f"peft_{a}", f"lora_{a}")}
    spelled |= {d.key(a): a for d in DIALECTS.values() for a in ARGUMENTS}
    owned = {key for d in DIALECTS.values() for key in d.defaults} | spelled.keys()
    further = _further(dialect.name)
    for key in sorted(values.keys() - dialect.defaults.keys() - _COMMON - further):
        if dialect.name == "peft" and key not in case.adapted.dropped:
            continue  # PEFT has more keys than those that are looked at here.
        near = _misspelt(key, {*dialect.defaults, *further}, dialect)
        if dialect.name == "unsloth" and not near and key not in case.adapted.dropped:
            continue
        same = [dialect.key(spelled[key])] if key in spelled else []
        if near or key in owned or dialect.name == "peft":
            known = {*dialect.defaults, *further}
            write = next((name for name in (*near, *same) if name in known), OUT)
            fix = {key: None} if write in {OUT, *values} else {key: None, write: values[key]}
            yield case.found(
                "key-unknown", values[key], fix, key=key, why=dialect.title, write=write
            )


_COMMON = {"task_type", "use_dora", "bias", "num_labels", "reward_model", "lora_alpha"}
#: Keys of adapters that some trainer reads beside those that decide what trains.
_LORA = {
    "lora_bias", "lora_dtype", "lora_embedding_kernel", "lora_exclude_modules",
    "lora_fan_in_fan_out", "lora_ga_batch_size", "lora_ga_direction", "lora_ga_iters",
    "lora_ga_max_length", "lora_ga_scale", "lora_ga_stable_gamma", "lora_mlp_kernel",
    "lora_modules", "lora_o_kernel", "lora_on_cpu", "lora_qkv_kernel", "lora_quick_svd",
    "lora_quick_svd_niter", "lora_lr_ratio",
}  # fmt: skip
#: What else Unsloth's `get_peft_model` takes.
_UNSLOTH = {
    "model", "use_gradient_checkpointing", "random_state", "max_seq_length", "use_rslora",
    "init_lora_weights", "loftq_config", "temporary_location", "qat_scheme",
}  # fmt: skip


def _further(trainer: str) -> set[str]:
    """Return keys that a trainer reads for something else than what trains."""
    from transformers import TrainingArguments

    if trainer == "peft":
        return set()
    if trainer == "unsloth":
        return _UNSLOTH
    return _LORA | {key.name for key in fields(TrainingArguments)}


def _misspelt(key: str, known: Collection[str], dialect: Dialect) -> list[str]:
    """Return the one of the `known` keys that `key` is likely to mean, if any.

    Keys of adapters have few letters beside their prefix, so they may differ in more of them.
    """
    alike = 0.88
    if key.startswith("lora_"):
        alike, known = 0.75, [name for name in dialect.defaults if name.startswith("lora_")]
    plain = [f"lora_{key}"] if dialect.name in {"axolotl", "llamafactory"} else []
    named = [name for name in plain if name in dialect.defaults]
    return named or difflib.get_close_matches(key, known, 1, alike)


def _targets(case: Case) -> Iterator[Found]:
    """Yield targets that match nothing, nothing that is adapted, or more blocks than they say."""
    trained, config = {site.name for site in case.adapted.sites}, case.adapted.config
    asked = {*listed(case.said("target_parameters"))}
    converted = {*(getattr(config, "target_parameters", None) or ())} - asked  # To fused experts.
    fused = last_parts(case.experts)
    weights = f"{case.dialect.key('target_parameters')}, for the weights of fused experts"
    for target in case.targets:
        hits = [n for n in trained if target in n] if case.by_parts else case.tails.get(target, [])
        if trained & {*hits} or (converted and target not in config.target_modules):
            continue
        code, near = ("target-idle", []) if hits else ("target-unmatched", case.near(target))
        fix = case.replaced(TARGETS, target, near)
        write = " or ".join(near) or (weights if target in fused else OUT)
        yield case.found(code, target, fix, write=write)
    pattern = case.lora.get(TARGETS)
    if isinstance(pattern, str) and (strays := _alike(pattern, case.adapters, case)):
        fix = {TARGETS: _without(case.adapters, strays, case)}
        yield case.found("pattern-too-much", pattern, fix, blocks=strays)


def _layers(case: Case) -> Iterator[Found]:
    """Yield indices of blocks that do not do what they say."""
    if case.lora.get(LAYERS) is None:
        return
    if not case.layers:
        write = "leave it out, or list blocks"
        yield case.found("layers-empty", "[]", {LAYERS: None}, write=write)
        return
    there = sorted(i for i in {*case.layers} if 0 <= i < case.depth)
    if {*case.layers} - {*there}:
        yield case.out_of_range()
    hit = {name: ref.index for name, ref in case.places.items() if name in {*case.adapters}}
    if bare := [i for i in there if i not in hit.values()]:
        rest = [i for i in there if i not in bare]
        yield case.found("layers-bare", bare, {LAYERS: rest} if rest else {}, blocks=bare)
    strays = {name: index for name, index in hit.items() if index not in case.layers}
    experts = case.experts
    if named := [name for name in strays if name in case.targets]:
        ends = [name for name in case.targets if name not in named]
        fix: Fix = {TARGETS: ends} if ends else {}
        blocks, write = {strays[name] for name in named}, "the end of the name"
        yield case.found("full-name", named, fix, blocks=blocks, write=write)
    if fused := [name for name in strays if name in experts]:
        asked = tuple(case.lora.get("target_parameters") or ())
        inside = [n for n, ref in case.blocks(experts).items() if ref.index in case.layers]
        mine = sorted(name for name in inside if asked and name.endswith(asked))
        fix, write = {"target_parameters": mine} if mine else {}, "their full names in those blocks"
        blocks = {strays[name] for name in fused}
        yield case.found("parameters-ignore-layers", asked, fix, blocks=blocks, write=write)
    if others := strays.keys() - {*named, *fused}:
        blocks = {strays[name] for name in others}
        write = f"{case.dialect.key('layers_pattern')}: {case.list_of_blocks}"
        yield case.found("layers-other-number", case.layers, blocks=blocks, write=write)


def _stacks(case: Case) -> Iterator[Found]:
    """Yield a second stack that is hit by names, or by numbers, that mean both."""
    hit: dict[str, list[str]] = {}
    for name in case.adapters:
        if name in case.places:
            hit.setdefault(case.places[name].stack, []).append(name)
    parts, named = halves(case.loaded.model, case.loaded.stacks), {*case.targets}
    by_name = parts and named and not case.by_parts and not named & {*case.adapters}
    if len(hit) > 1 and (case.layers or by_name):
        text = next((s for s in hit if parts and s.startswith(f"{parts.text}.")), list(hit)[-1])
        told = " and ".join(f"{len(names)} in {stack}" for stack, names in hit.items())
        key = case.dialect.key(LAYERS if case.layers else TARGETS)
        fix = {TARGETS: hit[text], LAYERS: None, "layers_pattern": None}
        value, write = case.layers or case.targets, f"full names, such as those in {text} alone"
        yield case.found("second-stack", value, fix, key=key, told=told, write=write)


def _entries(case: Case) -> Iterator[Found]:
    """Yield entries of PEFT's other lists and patterns that match nothing, or too much."""
    for argument, code in _UNMATCHED.items():
        asked, key = case.lora.get(argument), case.dialect.key(argument)
        for name, found in case.hits(argument).items():
            more = [each for each in found if each not in case.tails.get(name, ())]
            if argument == SAVED and more:
                instead = [name] if isinstance(asked, str) else found
                fix = case.replaced(argument, name, instead, every=True)
                yield case.found("saved-too-much", name, fix, key=key, more=more)
            elif isinstance(asked, dict) and (strays := _alike(name, found, case)):
                exact = f"^{_without(found, strays, case)}"
                fix = case.replaced(argument, name, [exact])
                yield case.found("pattern-too-much", name, fix, key=key, blocks=strays, write=exact)
            elif not found:
                near = case.near(name, case.modules) if argument == SAVED else []
                fix = case.replaced(argument, name, near)
                yield case.found(code, name, fix, key=key, write=" or ".join(near) or OUT)


def _alike(pattern: str, names: Collection[str], case: Case) -> list[int]:
    """Return blocks that are hit since their number holds one that `pattern` names, as 11 does 1.

    None where others are hit too: the number in the pattern is then no block's.
    """
    said = set(_NUMBER.findall(pattern))
    hit = {ref.index for ref in case.blocks(names).values()}
    others = {i for i in hit if str(i) not in said}
    like = {i for i in others if any(str(i).startswith(s) or str(i).endswith(s) for s in said)}
    return sorted(like) if like == others else []


def _without(names: Iterable[str], strays: Collection[int], case: Case) -> str:
    """Return the pattern of those of `names` that lie in other blocks."""
    return target_regex(n for n in names if n in case.places and case.places[n].index not in strays)


def _heads(case: Case) -> Iterator[Found]:
    """Yield a head for classes that stays frozen, and embeddings that part from theirs."""
    model, trained = case.loaded.model, {site.name: site.how for site in case.adapted.sites}
    heads = [head for head in head_modules(model) if "." not in head]
    task = next((t for part, t in _TASKS.items() if part in type(model).__name__), "SEQ_CLS")
    if task != "SEQ_CLS":
        own = (name for name, _ in model.named_children() if name != model.base_model_prefix)
        heads = [name for name in own if any(True for _ in model.get_submodule(name).parameters())]
    if heads and not any(around(name, heads) for name in trained):
        wanted = listed(case.lora.get(SAVED))
        usual = {*heads} & {"score", "classifier", "qa_outputs"} and case.dialect.name in _TASKED
        fix: Fix = {"task_type": task} if usual else {SAVED: [*wanted, *heads]}
        yield case.found("head-frozen", wanted, fix, head=heads)
    ends = {id(m) for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m}
    tied = [n for n, m in model.named_modules() if id(m) in ends and n in trained]
    is_tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    if is_tied and len(ends) > 1 and tied and not case.lora.get("ensure_weight_tying"):
        name = case.dialect.key("ensure_weight_tying")
        fix = {"ensure_weight_tying": True} if name in case.dialect.defaults else {}
        argument = SAVED if "whole" in {trained[n] for n in tied} else TARGETS
        write = f"{name}: true" if fix else OUT
        yield case.found("tied-embeddings", tied, fix, key=case.dialect.key(argument), write=write)


#: PEFT's tasks that train a head, by what the model's class is called; who may say one.
_TASKS = {"TokenClassification": "TOKEN_CLS", "QuestionAnswering": "QUESTION_ANS"}
_TASKED = {"peft", "trl"}


def _in_vain(case: Case) -> Iterator[Found]:
    """Yield fused experts that "all linear" leaves frozen, and adapters on what is never called."""
    experts, key = case.experts, case.dialect.key("target_parameters")
    asked = str(case.said(TARGETS) or "")
    every = any(word in asked for word in EVERY) or case.file.values.get("lora_target_linear")
    if experts and every and not {*case.adapters} & {*experts}:
        ends = sorted({".".join(name.split(".")[-2:]) for name in experts if "bias" not in name})
        fix: Fix = {"target_parameters": ends} if key in case.dialect.defaults else {}
        write = f"{key}: {', '.join(ends)}, if they are meant"
        yield case.found("experts-left-out", asked, fix, write=write)
    if (wanted := str(case.lora.get("bias") or "none")) != "none":
        meant = case.adapters if wanted == "lora_only" else case.modules
        if all(getattr(case.modules.get(name), "bias", None) is None for name in meant):
            yield case.found("bias-in-vain", wanted, {"bias": None})
    if vain := [name for name in case.adapters if is_bypassed(case.loaded.model, name)]:
        names = last_parts(vain)
        rest = [target for target in case.targets if target not in names]
        yield case.found("bypassed", names, {TARGETS: rest} if rest else {}, count=len(vain))


def _rules(case: Case) -> Iterator[Found]:
    """Yield lines of freeze lists that hit nothing, or more than they say."""
    names, inside = [name for name, _ in case.loaded.model.named_parameters()], case.recipe.inside
    for rule in case.recipe.rules:
        key, value = rule.key, rule.value
        hits = [name for name in names if rule.hits(inside + name)]
        is_line = key.removesuffix("_regex") in _LISTS
        strays = _alike(value, hits, case) if is_line else []
        if rule.blocks is not None:
            strays = sorted({r.index for r in case.blocks(hits).values()} - rule.blocks)
        if strays:
            write = "a dot at the end"
            yield case.found("pattern-too-much", value, key=key, blocks=strays, write=write)
        if key == "freeze_trainable_layers" and abs(int(value)) > case.depth:
            most, taken = max(-case.depth, min(int(value), case.depth)), "all of them train"
            fix: Fix = {key: most}
            yield case.found("layers-out-of-range", value, fix, key=key, write=most, taken=taken)
        if is_line and not hits:
            why, write = "it hits no weight", OUT
            lines = listed(case.file.values.get(key))
            rest = [line for line in lines if line != value]
            if inside:
                why += f": beside adapters names begin with {inside}, and adapters freeze"
            if key == "unfrozen_parameters" and r"\." in value:
                why, write = "Axolotl escapes dots itself: none matches", value.replace(r"\.", ".")
                rest = [write if line == value else line for line in lines]
            fix = {key: rest} if rest else {}
            yield case.found("freeze-unmatched", value, fix, key=key, why=why, write=write)
