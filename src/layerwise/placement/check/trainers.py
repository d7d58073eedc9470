"""What each trainer makes of its config: arguments of PEFT, or lists of weights to train.

After the trainers' own sources of July and August 2026; where the meaning of a key takes more than
its name, the function that gives it is named. Nothing of a trainer is imported.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

from torch import nn

from layerwise.models.parts import Halves, halves
from layerwise.models.stack import Stack, around
from layerwise.placement.check.request import (
    DIALECTS,
    NAMES,
    Dialect,
    Recipe,
    WeightRule,
    compiled,
    listed,
    refuse_unread,
    rules,
)

Stacks = Sequence[Stack]


def _linear(model: Any) -> list[str]:
    """Return the names of modules whose class calls itself linear."""
    return [name for name, module in model.named_modules() if "Linear" in type(module).__name__]


def last_parts(names: Iterable[str]) -> list[str]:
    """Return the last parts of names, each once."""
    return sorted({name.rpartition(".")[2] for name in names})


def _unread(s: SimpleNamespace, beginnings: str | tuple[str, ...], why: str) -> dict[str, str]:
    """Return the given keys with one of these beginnings, and why they have no effect."""
    return {key: why for key in sorted(s.given) if key.startswith(beginnings)}


# --- PEFT, and TRL, which hands its options on ---------------------------------------------------

_PEFT = {
    "peft_type": "LORA", "task_type": "", "r": 8, "lora_alpha": 8.0, "target_modules": NAMES,
    "exclude_modules": NAMES, "modules_to_save": NAMES, "target_parameters": NAMES,
    "layers_to_transform": [], "layers_pattern": NAMES, "rank_pattern": {}, "alpha_pattern": {},
    "bias": "none", "use_dora": False, "ensure_weight_tying": False, "lora_dropout": 0.0,
}  # fmt: skip


def _peft(s: SimpleNamespace, _model: Any, _stacks: Stacks) -> Recipe:
    others = {k: v for k, v in s.values.items() if v is not None}
    lora = {**others, "peft_type": s.peft_type, **s.lora}
    return Recipe(lora, classifier=s.task_type == "SEQ_CLS")


_marks = frozenset({"peft_type", "r", "inference_mode", "lora_dropout", "target_modules"})
DIALECTS.add(Dialect("peft", "PEFT", _PEFT, _peft, _marks))

_TRL = {
    "use_peft": False, "lora_r": 16, "lora_alpha": 32, "lora_target_modules": NAMES,
    "lora_target_parameters": NAMES, "lora_modules_to_save": NAMES, "use_dora": False,
    "lora_task_type": "CAUSAL_LM", "lora_dropout": 0.05,
}  # fmt: skip


def _trl(s: SimpleNamespace, _model: Any, _stacks: Stacks) -> Recipe:
    """`trl.get_peft_config`: a list of one module is handed on as text, which is a pattern."""
    classifier, targets = s.lora_task_type == "SEQ_CLS", listed(s.lora_target_modules)
    if not s.use_peft:
        ignored = _unread(s, "lora_t", "use_peft is not true, so all weights train")
        switch = {"use_peft": True}
        return Recipe(trains=True, classifier=classifier, ignored=ignored, switch=switch)
    one = {"target_modules": targets[0]} if len(targets) == 1 else {}
    return Recipe({**s.lora, **one}, classifier=classifier)


_marks = frozenset({"use_peft", "lora_task_type", "model_name_or_path"})
DIALECTS.add(Dialect("trl", "TRL", _TRL, _trl, _marks, "lora_"))


# --- Axolotl -------------------------------------------------------------------------------------

_AXOLOTL = {
    "adapter": "", "lora_model_dir": "", "lora_r": 0, "lora_alpha": 8, "lora_target_modules": NAMES,
    "lora_target_parameters": NAMES, "lora_target_linear": False, "lora_modules_to_save": NAMES,
    "lora_exclude_modules": NAMES, "lora_rank_pattern": {}, "lora_alpha_pattern": {},
    "peft_layers_to_transform": [], "peft_layers_pattern": NAMES, "peft_use_dora": False,
    "peft_ensure_weight_tying": False, "unfrozen_parameters": NAMES, "freeze_mm_modules": False,
    "reward_model": False, "num_labels": 0, "lora_dropout": 0.0,
}  # fmt: skip
#: `axolotl.utils.freeze._MM_MODULE_PREFIXES`
_MULTIMODAL = re.compile(
    r"(^|\.)(vision_(tower|model|encoder)|audio_(tower|model)|embed_(vision|audio)|visual"
    r"|multi_modal_projector)(\.|$)"
)


def _axolotl(s: SimpleNamespace, model: Any, _stacks: Stacks) -> Recipe:
    """`axolotl.loaders.adapter._build_peft_lora_config`, `axolotl.utils.freeze`."""
    lines = listed(s.unfrozen_parameters)
    weights = [_unfrozen(line) for line in lines]
    if s.freeze_mm_modules:
        weights.append(WeightRule("freeze_mm_modules", "true", _MULTIMODAL.search, trains=False))
    classifier = bool(s.reward_model or s.num_labels)
    refuse_unread("adapter", s.adapter, ("lora", "qlora", ""))
    if not s.adapter:
        ignored = _unread(s, "lora_t", "adapter is not set, so no adapter is made")
        return Recipe(
            None, tuple(weights), not lines, classifier, ignored, switch={"adapter": "lora"}
        )
    lora = {"target_modules": [], **s.lora}
    lora["task_type"] = "SEQ_CLS" if is_classifier(model) else "CAUSAL_LM"
    if s.lora_target_linear:  # `axolotl.loaders.adapter.find_all_linear_names`
        head = {"gpt_neox": "embed_out"}.get(model.config.model_type, "lm_head")
        named = {*listed(s.lora_target_modules), *last_parts(_linear(model))} - {head}
        lora["target_modules"] = sorted(named)
    notes = {
        "lora_r is not given: parameters are counted for rank 8": "lora_r" not in s.given,
        "lora_model_dir goes on with an adapter of its own targets, not with these":
            s.lora_model_dir,
        "rows of a weight are unfrozen alone; it is counted whole":
            any("[" in line.rsplit("$", 1)[-1] for line in lines),
    }  # fmt: skip
    said = tuple(note for note, holds in notes.items() if holds)
    return Recipe(lora, tuple(weights), False if lines else None, classifier, notes=said)


def is_classifier(model: Any) -> bool:
    """Return whether the class of `model` tells classes apart."""
    return "SequenceClassification" in type(model).__name__


def _unfrozen(line: str) -> WeightRule:
    """`axolotl.utils.freeze.LayerNamePattern`: from the start of a name, each dot taken as one."""
    plain = re.sub(r"\[[0-9]*(:[0-9]*)?\]$", "", line)
    pattern = compiled(re.sub(r"\.(?!\+)", r"\\.", plain), key="unfrozen_parameters")
    return WeightRule("unfrozen_parameters", line, pattern.match)


_keys = {n: f"peft_{n}" for n in ("layers_to_transform", "layers_pattern", "use_dora",
                                  "ensure_weight_tying")}  # fmt: skip
_marks = frozenset({"base_model", "lora_target_linear", "unfrozen_parameters", "adapter"})
DIALECTS.add(Dialect("axolotl", "Axolotl", _AXOLOTL, _axolotl, _marks, "lora_", _keys))


# --- LLaMA-Factory -------------------------------------------------------------------------------

_FACTORY = {
    "finetuning_type": "lora", "lora_rank": 8, "lora_alpha": 0, "lora_target": ("all",),
    "additional_target": NAMES, "use_dora": False, "use_llama_pro": False,
    "freeze_trainable_layers": 2, "freeze_trainable_modules": ("all",),
    "freeze_extra_modules": NAMES, "freeze_vision_tower": True, "lora_dropout": 0.0,
    "freeze_multi_modal_projector": True, "freeze_language_model": False,
}  # fmt: skip
#: Types whose parts it can freeze (`model_utils.visual.COMPOSITE_MODELS`); for others it takes no
#: notice of `freeze_vision_tower`.
_COMPOSITE = re.compile(
    "dots_ocr|gemma(3|3n|4)|glm4v(_moe)?|glm_ocr|internvl|interns1|Keye|kimi_vl|llama4|mllama"
    "|llava(_next(_video)?)?|video_llava|minicpm(o|v|v4_6)|mistral3|moss_vl|paligemma|qwen2_audio"
    "|qwen2(_5)?_vl|qwen3_vl(_moe)?|qwen2_5_omni_thinker|qwen3_omni_moe_thinker"
    "|qwen3_5(_moe)?"
)
#: By fine-tuning type, the beginnings of keys that it does not read.
_UNREAD = {
    "lora": ("freeze_trainable", "freeze_extra"),
    "freeze": ("lora_target", "additional_target"),
    "full": ("freeze_trainable", "freeze_extra", "lora_target", "additional_target"),
}


def _factory(s: SimpleNamespace, model: Any, stacks: Stacks) -> Recipe:
    """`llamafactory.model.adapter.init_adapter`."""
    kind = "use_llama_pro" if s.use_llama_pro else s.finetuning_type
    refuse_unread("fine-tuning", kind, _UNREAD)
    ignored = _unread(s, _UNREAD[kind], f"finetuning_type is {kind}")
    parts = halves(model, stacks)
    if parts and not _COMPOSITE.fullmatch(model.config.model_type):
        if s.freeze_vision_tower:
            why = f"LLaMA-Factory knows no parts of {model.config.model_type} to freeze"
            ignored["freeze_vision_tower"] = why
        parts = None
    frozen = _factory_frozen(s, model, parts) if parts else set()
    if kind != "lora":
        weights = _factory_rules(s, model, parts) if kind == "freeze" else []
        weights += rules("freeze_...", sorted(frozen), trains=False)
        return Recipe(None, tuple(weights), kind == "full", ignored=ignored)
    targets = listed(s.lora_target, commas=True)
    if targets == ["all"]:  # `model_utils.misc.find_all_linear_modules`
        aside = {*frozen, *(parts.aligners if parts else ())}
        names = (n for n in _linear(model) if "lm_head" not in n and not around(n, aside))
        targets = last_parts(names)
    if parts is not None:  # `model_utils.visual.patch_target_modules`: parts of names, anywhere
        kept = [n for n, _ in model.named_modules() if not around(n, frozen)]
        kept = [name for name in kept if "patch_embed" not in name]
        targets = [name for name in kept if any(part in name for part in targets)]
    saved = listed(s.additional_target, commas=True)
    own = {"target_modules": targets, "modules_to_save": saved or None, "task_type": "CAUSAL_LM"}
    return Recipe({**s.lora, **own}, ignored=ignored)


def _factory_frozen(s: SimpleNamespace, model: Any, parts: Halves) -> set[str]:
    """Return the parts that are frozen (`model_utils.visual.get_forbidden_modules`)."""
    frozen = {*(parts.aligners if s.freeze_multi_modal_projector else ())}
    frozen |= {parts.text, "lm_head"} if s.freeze_language_model else set()
    towers = parts.towers if s.freeze_vision_tower else ()
    inner = {f"{t}.{name}" for t in towers for name, _ in model.get_submodule(t).named_children()}
    return frozen | (inner - {*parts.aligners})


def _factory_rules(s: SimpleNamespace, model: Any, parts: Halves | None) -> list[WeightRule]:
    """Return what trains, by parts of names (`llamafactory.model.adapter._setup_freeze_tuning`).

    Raises:
        BadInputError: A module is named that the trainer would refuse.
    """
    config = getattr(model.config, "text_config", model.config)
    depths = (getattr(config, key, 0) for key in ("num_hidden_layers", "num_layers", "n_layer"))
    depth, asked = next((d for d in depths if d), 0), s.freeze_trainable_layers
    indices = range(max(0, depth - asked), depth) if asked > 0 else range(min(-asked, depth))
    names = [name for name, _ in model.named_parameters()]
    inner = {n.split(f".{i}.")[-1].split(".")[0] for i in (0, 1) for n in names if f".{i}." in n}
    outer = {name.split(".")[-2] for name in names if not re.search(r"\.\d+\.", name)}
    found = []
    for module in listed(s.freeze_trainable_modules, commas=True):
        refuse_unread("freeze_trainable_modules", module, sorted({*inner, "all"}))
        inside = "" if module == "all" else re.escape(module)
        hits = re.compile(rf"\.({'|'.join(map(str, indices)) or '(?!)'})\.{inside}").search
        blocks = frozenset(indices)
        found.append(WeightRule("freeze_trainable_layers", str(asked), hits, blocks=blocks))
    for module in listed(s.freeze_extra_modules, commas=True):
        refuse_unread("freeze_extra_modules", module, sorted(outer))
        found += rules("freeze_extra_modules", [module], "{}")
    if parts is not None and not s.freeze_multi_modal_projector:
        found += rules("freeze_multi_modal_projector", parts.aligners)
    return found


_keys = {"r": "lora_rank", "target_modules": "lora_target", "modules_to_save": "additional_target"}
_marks = frozenset({"finetuning_type", "lora_target", "freeze_trainable_layers", "stage"})
DIALECTS.add(Dialect("llamafactory", "LLaMA-Factory", _FACTORY, _factory, _marks, "", _keys))


# --- ms-swift ------------------------------------------------------------------------------------

_SWIFT = {
    "tuner_type": "", "train_type": "", "task_type": "causal_lm", "lora_rank": 8, "lora_alpha": 32,
    "target_modules": ("all-linear",), "target_regex": "", "target_parameters": NAMES,
    "modules_to_save": NAMES, "use_dora": False, "freeze_llm": False, "freeze_vit": True,
    "freeze_aligner": True, "freeze_parameters": NAMES, "freeze_parameters_regex": "",
    "freeze_parameters_ratio": 0.0, "trainable_parameters": NAMES, "trainable_parameters_regex": "",
    "lora_dropout": 0.05, "lora_bias": "none",
}  # fmt: skip
_SWIFT_TASKS = {"embedding": None, "reranker": "SEQ_CLS", "generative_reranker": "CAUSAL_LM"}
_MAMBA = {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}
_PARTS = ("freeze_llm", "freeze_vit", "freeze_aligner")


def _swift(s: SimpleNamespace, model: Any, stacks: Stacks) -> Recipe:
    """`swift.pipelines.train.tuner`: `get_target_modules`, `prepare_adapter`, `TunerMixin`."""
    kind, parts = s.tuner_type or s.train_type or "lora", halves(model, stacks)
    classifier = s.task_type.lower() in {"seq_cls", "reranker"}
    refuse_unread("tuner_type", kind, ("lora", "full"))
    if kind == "full":
        ignored = _unread(s, "target_", "tuner_type is full")
        weights = tuple(_swift_rules(s, model, parts))
        return Recipe(rules=weights, trains=True, classifier=classifier, ignored=ignored)
    ignored = _unread(s, ("freeze_parameters", "trainable_parameters"), "tuner_type is lora")
    targets: Any = s.target_regex or listed(s.target_modules)
    if s.target_regex:
        ignored |= _unread(s, "target_modules", "target_regex stands in its place")
    if "all-linear" not in targets:
        why = "it counts with target_modules: all-linear alone"
        ignored |= _unread(s, _PARTS, why) if parts else {}
    elif parts is not None and not s.target_regex:
        targets = _swift_regex(s, model, parts)
    elif not s.target_regex:
        targets = [*(t for t in targets if t != "all-linear"), *_swift_linear(model)]
        dropped = {"out_proj", "conv1d"} if model.config.model_type in _MAMBA else set()
        targets = [t for t in targets if t not in dropped]
    saved = [*listed(s.modules_to_save), *(["v_head"] if classifier else [])]
    task = _SWIFT_TASKS.get(s.task_type.lower(), s.task_type.upper())
    lora = {**s.lora, "target_modules": targets, "modules_to_save": saved, "task_type": task}
    return Recipe(lora, classifier=classifier, ignored=ignored)


def _swift_linear(model: Any) -> list[str]:
    """Return the ends of its linear modules' names (`swift.utils.find_all_linears`, `find_layers`).

    Each with as many parts as tell it from modules that are no linear ones.
    """
    heads = ("lm_head", "score", "v_head", "classifier")
    linear = {name for name in _linear(model) if not any(head in name for head in heads)}
    every = (name for name, _ in model.named_modules() if name not in linear)
    others = {re.sub(r"\d+\.", "{}.", name) for name in every}
    ends = set()
    for name in linear:
        parts = name.split(".")
        tails = (".".join(parts[-k:]) for k in range(1, len(parts) + 1))
        starred = ((tail, re.sub(r"\d+\.", "{}.", tail)) for tail in tails)
        ends.add(next((t for t, s in starred if not any(o.endswith(s) for o in others)), name))
    return sorted(ends)


def _swift_regex(s: SimpleNamespace, model: Any, parts: Halves) -> str:
    """Return the pattern of the linear modules of some parts (`get_multimodal_target_regex`)."""
    found = []
    for key, names in zip(_PARTS, ((parts.text,), parts.towers, parts.aligners), strict=True):
        for part in () if getattr(s, key) else names:
            ends = [end for end in _swift_linear(model.get_submodule(part)) if end]
            rejected = [a for a in parts.aligners if a.startswith(f"{part}.")]
            before = f"(?!({'|'.join(rejected)}))" if rejected else ""
            if ends:
                found.append(rf"{before}{re.escape(part)}(?=\.).*\.({'|'.join(ends)})")
    return f"^({'|'.join(found)})$"


def _swift_rules(s: SimpleNamespace, model: Any, parts: Halves | None) -> list[WeightRule]:
    """Return what is frozen, then what trains all the same (`swift.utils.freeze_parameters`)."""
    sizes = [(name, parameter.numel()) for name, parameter in model.named_parameters()]
    sums, found = list(accumulate(size for _, size in sizes)), list[WeightRule]()
    if ratio := s.freeze_parameters_ratio:
        lowest = {
            n for (n, _), end in zip(sizes, sums, strict=True) if end <= int(sums[-1] * ratio)
        }
        key = "freeze_parameters_ratio"
        found.append(WeightRule(key, str(ratio), lowest.__contains__, trains=False))
    of = ((parts.text, "lm_head"), parts.towers, parts.aligners) if parts else ((), (), ())
    for key, names in zip(_PARTS, of, strict=True):
        found += rules(key, names if getattr(s, key) else (), "^{}", trains=False)
    for key, trains in (("freeze_parameters", False), ("trainable_parameters", True)):
        found += rules(key, listed(getattr(s, key)), "^{}", trains=trains)
        if trains and parts and not s.freeze_aligner:
            found += rules("freeze_aligner", parts.aligners, "^{}")
        if pattern := getattr(s, f"{key}_regex"):
            hits = compiled(pattern, key=f"{key}_regex").search
            found.append(WeightRule(f"{key}_regex", pattern, hits, trains=trains))
    return found


_keys = {"r": "lora_rank", "bias": "lora_bias"}
_marks = frozenset({"model", "dataset", "tuner_type", "train_type", "target_regex", "freeze_vit"})
DIALECTS.add(Dialect("ms-swift", "ms-swift", _SWIFT, _swift, _marks, "", _keys))


# --- Unsloth -------------------------------------------------------------------------------------

_USUAL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_ENDS = ("embed_tokens", "lm_head")
_UNSLOTH = {
    "r": 16, "target_modules": NAMES, "lora_alpha": 16, "layers_to_transform": [],
    "layers_pattern": NAMES, "finetune_last_n_layers": 0, "modules_to_save": NAMES,
    "target_parameters": NAMES, "exclude_modules": NAMES, "rank_pattern": {}, "alpha_pattern": {},
    "finetune_vision_layers": True, "finetune_language_layers": True, "bias": "none",
    "finetune_attention_modules": True, "finetune_mlp_modules": True, "use_dora": False,
    "ensure_weight_tying": False, "task_type": "CAUSAL_LM", "lora_dropout": 0.0,
    "caller": "FastLanguageModel",
}  # fmt: skip
#: `unsloth_zoo.peft_utils.get_peft_regex`: what a name must hold, by the flag that asks for it.
_PLACES = {
    "finetune_vision_layers": "vision|image|visual|patch",
    "finetune_language_layers": "language|text",
}
_KINDS = {
    "finetune_attention_modules": "self_attn|attention|attn|mixer",
    "finetune_mlp_modules": "mlp|feed_forward|ffn|dense|mixer",
}


#: `FastLanguageModel` hands a list on to PEFT; `FastVisionModel` and `FastModel` choose by parts of
#: names. Both adapt the fused experts of a mixture too where the MLP is asked for.
def _unsloth(s: SimpleNamespace, model: Any, stacks: Stacks) -> Recipe:
    """`unsloth.models.llama` and `vision`: `get_peft_model`."""
    targets, ignored, own = s.target_modules, dict[str, str](), dict[str, Any]()
    asked, saved = listed(targets), listed(s.modules_to_save)
    if s.caller == "FastLanguageModel":
        asked = targets = asked if "target_modules" in s.given else list(_USUAL)
        unread = ("layers_pattern", *_PLACES, *_KINDS)
        ignored = _unread(s, unread, "FastLanguageModel does not read it")
        own["layers_pattern"] = None
    elif not asked or targets == "all-linear":
        targets, asked = _regex(s, model, None), ["mlp"] if s.finetune_mlp_modules else []
    elif not isinstance(targets, str) and not all(getattr(s, k) for k in (*_PLACES, *_KINDS)):
        targets = _regex(s, model, asked)
    if s.finetune_last_n_layers and "layers_to_transform" not in s.given:
        depth = len(stacks[-1].blocks)
        own["layers_to_transform"] = list(range(depth))[-s.finetune_last_n_layers :]
    own["target_parameters"] = listed(s.target_parameters) or _experts(model, asked)
    if isinstance(targets, list) and own["target_parameters"] and not s.target_parameters:
        ends = last_parts(name for name, _ in model.named_modules())
        targets = [name for name in targets if name in ends or name not in _USUAL[-3:]]
    if not isinstance(targets, str):  # `_utils._redirect_embedding_targets`: they train whole.
        ends = [name for name in targets if name.rpartition(".")[2] in _ENDS]
        targets = [name for name in targets if name not in ends]
        saved += [name for name in ends if name not in saved]
    own |= {"target_modules": targets, "modules_to_save": saved or None}
    own |= {"task_type": "SEQ_CLS"} if is_classifier(model) else {}
    return Recipe({**s.lora, **own}, ignored=ignored)


def _regex(s: SimpleNamespace, model: Any, asked: list[str] | None) -> str:
    """Return the pattern of linear modules under the places and parts that are asked for."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    counts = Counter(name.rpartition(".")[2] for name in linear)
    names = asked or [name for name, count in counts.items() if count > 1]  # A head stands alone.
    ends = f"(?:{'|'.join(map(re.escape, names))})"
    places = "|".join(tags for key, tags in _PLACES.items() if getattr(s, key))
    parts = "|".join(tags for key, tags in _KINDS.items() if getattr(s, key))
    pattern = rf".*?(?:{places}).*?(?:{parts}).*?{ends}" if places else "(?!x)x"
    if s.finetune_language_layers and places:
        pattern = rf"(?:{pattern})|(?:\bmodel\.layers\.\d+\.(?:{parts})\.{ends})"
    if places and not any(re.search(pattern, name) for name in linear):
        pattern = rf".*?(?:{parts}).*?{ends}"
    return pattern


def _experts(model: Any, asked: list[str]) -> list[str]:
    """Return the fused weights of experts that go with `asked` (`get_moe_target_parameters`)."""
    names = {name for name, _ in model.named_parameters() if re.search(r"(^|\.)experts\.", name)}
    wanted = {"gate_up_proj": {"gate_proj", "up_proj", "gate_up_proj", "mlp"},
              "down_proj": {"down_proj", "mlp"}}  # fmt: skip
    ends = [end for end, of in wanted.items() if of & {*asked}]
    found = (next((n for n in names if n.endswith(f"experts.{end}")), "") for end in ends)
    return [".".join(name.split(".")[-3:] if ".mlp." in name else name.split(".")[-2:])
            for name in found if name]  # fmt: skip


DIALECTS.add(Dialect("unsloth", "Unsloth", _UNSLOTH, _unsloth, frozenset({"caller"})))
