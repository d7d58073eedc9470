"""What each trainer makes of its config: arguments of PEFT, or lists of weights to train.

After the trainers' own sources of July and August 2026; where the meaning of a key takes more than
its name, the function that gives it is named. Nothing of a trainer is imported.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from layerwise.errors import BadInputError
from layerwise.models.parts import Halves, halves
from layerwise.models.stack import Stack
from layerwise.placement.check.request import (
    DIALECTS,
    NAMES,
    Dialect,
    Recipe,
    WeightRule,
    compiled,
    listed,
)

Stacks = Sequence[Stack]


def _linear(model: Any) -> list[str]:
    """Return the names of modules whose class calls itself linear."""
    return [name for name, module in model.named_modules() if "Linear" in type(module).__name__]


def _last(names: Collection[str]) -> set[str]:
    return {name.rpartition(".")[2] for name in names}


def _inside(module: str) -> Callable[[str], bool]:
    return lambda name: f"{name}.".startswith(f"{module}.")


def _within(name: str, modules: Collection[str]) -> bool:
    return any(_inside(module)(name) for module in modules)


# --- PEFT, and TRL, which hands its options on ---------------------------------------------------

_PEFT = {
    "peft_type": "LORA", "task_type": "", "r": 8, "lora_alpha": 8.0, "target_modules": NAMES,
    "exclude_modules": NAMES, "modules_to_save": NAMES, "target_parameters": NAMES,
    "layers_to_transform": [], "layers_pattern": NAMES, "rank_pattern": {}, "alpha_pattern": {},
    "bias": "none", "use_dora": False, "ensure_weight_tying": False,
}  # fmt: skip


def _peft(s: SimpleNamespace, _model: Any, _stacks: Stacks) -> Recipe:
    return Recipe({"peft_type": s.peft_type, **s.lora}, classifier=s.task_type == "SEQ_CLS")


_marks = frozenset({"peft_type", "r", "inference_mode", "lora_dropout", "target_modules"})
DIALECTS.add(Dialect("peft", "PEFT", _PEFT, _peft, _marks))

_TRL = {
    "use_peft": False, "lora_r": 16, "lora_alpha": 32, "lora_target_modules": NAMES,
    "lora_target_parameters": NAMES, "lora_modules_to_save": NAMES, "use_dora": False,
    "lora_task_type": "CAUSAL_LM",
}  # fmt: skip


def _trl(s: SimpleNamespace, _model: Any, _stacks: Stacks) -> Recipe:
    """`trl.get_peft_config`: a list of one module is handed on as text, which is a pattern."""
    classifier, targets = s.lora_task_type == "SEQ_CLS", s.lora_target_modules
    if not s.use_peft:
        why = "use_peft is not true: all weights train"
        ignored = {key: why for key in s.given if key.startswith("lora_t")}
        return Recipe(trains=True, classifier=classifier, ignored=ignored)
    named = {"target_modules": targets[0] if len(targets) == 1 else _several(targets)}
    return Recipe({**s.lora, **(named if targets else {})}, classifier=classifier)


def _several(names: Any) -> Any:
    return names if isinstance(names, str) else list(names)


_marks = frozenset({"use_peft", "lora_task_type", "model_name_or_path"})
DIALECTS.add(Dialect("trl", "TRL", _TRL, _trl, _marks, "lora_"))


# --- Axolotl -------------------------------------------------------------------------------------

_AXOLOTL = {
    "adapter": "", "lora_model_dir": "", "lora_r": 0, "lora_alpha": 8, "lora_target_modules": NAMES,
    "lora_target_parameters": NAMES, "lora_target_linear": False, "lora_modules_to_save": NAMES,
    "lora_exclude_modules": NAMES, "lora_rank_pattern": {}, "lora_alpha_pattern": {},
    "peft_layers_to_transform": [], "peft_layers_pattern": NAMES, "peft_use_dora": False,
    "peft_ensure_weight_tying": False, "unfrozen_parameters": NAMES, "freeze_mm_modules": False,
    "reward_model": False, "num_labels": 0,
}  # fmt: skip
#: `axolotl.utils.freeze._MM_MODULE_PREFIXES`
_MULTIMODAL = re.compile(
    r"(^|\.)(vision_(tower|model|encoder)|audio_(tower|model)|embed_(vision|audio)|visual"
    r"|multi_modal_projector)(\.|$)"
)


def _axolotl(s: SimpleNamespace, model: Any, _stacks: Stacks) -> Recipe:
    """`axolotl.loaders.adapter._build_peft_lora_config`, `axolotl.utils.freeze`."""
    rules = [_unfrozen(line) for line in listed(s.unfrozen_parameters)]
    if s.freeze_mm_modules:
        hits = lambda name: _MULTIMODAL.search(name) is not None  # noqa: E731
        rules.append(WeightRule("freeze_mm_modules", "true", hits, trains=False))
    classifier, trains = bool(s.reward_model or s.num_labels), not s.unfrozen_parameters
    if s.adapter not in {"lora", "qlora"}:
        if s.adapter:
            msg = "adapter of a kind that is not read"
            raise BadInputError(msg, value=s.adapter, expected="lora or qlora")
        ignored = {k: "there is no adapter: lora" for k in s.given if k[:6] == "lora_t"}
        return Recipe(None, tuple(rules), trains, classifier, ignored)
    lora = {"target_modules": [], **s.lora}
    lora["task_type"] = "SEQ_CLS" if is_classifier(model) else "CAUSAL_LM"
    if s.lora_target_linear:  # `axolotl.loaders.adapter.find_all_linear_names`
        head = {"gpt_neox": "embed_out"}.get(model.config.model_type, "lm_head")
        named = {*listed(s.lora_target_modules), *_last(_linear(model))} - {head}
        lora["target_modules"] = sorted(named)
    notes = [] if s.lora_r else ["lora_r is not given: parameters are counted for rank 8"]
    if s.lora_model_dir:
        notes.append("lora_model_dir goes on with an adapter of its own targets, not with these")
    if any("[" in line.rsplit("$", 1)[-1] for line in listed(s.unfrozen_parameters)):
        notes.append("rows of a weight are unfrozen alone; it is counted whole")
    return Recipe(lora, tuple(rules), None if trains else False, classifier, notes=tuple(notes))


def is_classifier(model: Any) -> bool:
    """Return whether the class of `model` tells classes apart."""
    return "SequenceClassification" in type(model).__name__


def _unfrozen(line: str) -> WeightRule:
    """`axolotl.utils.freeze.LayerNamePattern`: from the start of a name, each dot taken as one."""
    plain = re.sub(r"\[[0-9]*(:[0-9]*)?\]$", "", line)
    pattern = compiled(re.sub(r"\.(?!\+)", r"\\.", plain), key="unfrozen_parameters")
    return WeightRule("unfrozen_parameters", line, lambda name: pattern.match(name) is not None)


_keys = {n: f"peft_{n}" for n in ("layers_to_transform", "layers_pattern", "use_dora",
                                  "ensure_weight_tying")}  # fmt: skip
_marks = frozenset({"base_model", "lora_target_linear", "unfrozen_parameters", "adapter"})
DIALECTS.add(Dialect("axolotl", "Axolotl", _AXOLOTL, _axolotl, _marks, "lora_", _keys))


# --- LLaMA-Factory -------------------------------------------------------------------------------

_FACTORY = {
    "finetuning_type": "lora", "lora_rank": 8, "lora_alpha": 0, "lora_target": "all",
    "additional_target": NAMES, "use_dora": False, "use_llama_pro": False,
    "freeze_trainable_layers": 2, "freeze_trainable_modules": "all", "freeze_extra_modules": NAMES,
    "freeze_vision_tower": True, "freeze_multi_modal_projector": True,
    "freeze_language_model": False,
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
    if kind not in _UNREAD:
        msg = "fine-tuning that is not read"
        raise BadInputError(msg, value=kind, expected="finetuning_type lora, freeze or full")
    whole = halves(model, stacks)
    parts = whole if _COMPOSITE.fullmatch(model.config.model_type) else None
    frozen = _factory_frozen(s, model, parts)
    ignored = {k: f"finetuning_type is {kind}" for k in s.given if k.startswith(_UNREAD[kind])}
    if parts is None and whole is not None and s.freeze_vision_tower:
        why = f"LLaMA-Factory knows no parts of {model.config.model_type} to freeze"
        ignored["freeze_vision_tower"] = why
    if kind != "lora":
        rules = list(_factory_rules(s, model, parts)) if kind == "freeze" else []
        rules += [
            WeightRule("freeze_...", name, _inside(name), trains=False) for name in sorted(frozen)
        ]
        return Recipe(None, tuple(rules), kind == "full", ignored=ignored)
    targets = listed(s.lora_target, commas=True)
    if targets == ["all"]:  # `model_utils.misc.find_all_linear_modules`
        aside = {*frozen, *(parts.aligners if parts else ())}
        targets = sorted(
            _last([n for n in _linear(model) if "lm_head" not in n and not _within(n, aside)])
        )
    if parts is not None:  # `model_utils.visual.patch_target_modules`: parts of names, anywhere
        kept = [n for n, _ in model.named_modules() if not _within(n, frozen)]
        kept = [name for name in kept if "patch_embed" not in name]
        targets = [name for name in kept if any(part in name for part in targets)]
    saved = listed(s.additional_target, commas=True)
    own = {"target_modules": targets, "modules_to_save": saved or None, "task_type": "CAUSAL_LM"}
    return Recipe({**s.lora, **own}, ignored=ignored)


def _factory_frozen(s: SimpleNamespace, model: Any, parts: Halves | None) -> set[str]:
    """Return the parts that are frozen (`model_utils.visual.get_forbidden_modules`)."""
    if parts is None:
        return set()
    frozen = {*(parts.aligners if s.freeze_multi_modal_projector else ())}
    frozen |= {parts.text, "lm_head"} if s.freeze_language_model else set()
    towers = parts.towers if s.freeze_vision_tower else ()
    inner = {f"{t}.{name}" for t in towers for name, _ in model.get_submodule(t).named_children()}
    return frozen | (inner - {*parts.aligners})


def _factory_rules(s: SimpleNamespace, model: Any, parts: Halves | None) -> Iterator[WeightRule]:
    """Yield what trains, by parts of names (`llamafactory.model.adapter._setup_freeze_tuning`).

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
    for key, known in (
        ("freeze_trainable_modules", inner | {"all"}),
        ("freeze_extra_modules", outer),
    ):
        in_blocks = key == "freeze_trainable_modules"
        for module in listed(getattr(s, key), commas=True):
            if module not in known:
                msg = f"{key} that LLaMA-Factory refuses"
                raise BadInputError(msg, value=module, expected=", ".join(sorted(known)))
            last = "" if module == "all" else module
            ends = tuple(f".{i}.{last}" for i in indices) if in_blocks else (module,)
            yield WeightRule(
                "freeze_trainable_layers" if in_blocks else key,
                str(asked) if in_blocks else module,
                partial(_holds, ends),
                blocks=frozenset(indices) if in_blocks else None,
            )
    if parts is not None and not s.freeze_multi_modal_projector:
        for name in parts.aligners:
            yield WeightRule("freeze_multi_modal_projector", name, _inside(name))


def _holds(parts: Sequence[str], name: str) -> bool:
    return any(part in name for part in parts)


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
}  # fmt: skip
_SWIFT_TASKS = {"embedding": None, "reranker": "SEQ_CLS", "generative_reranker": "CAUSAL_LM"}
_MAMBA = {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}
_PARTS = ("freeze_llm", "freeze_vit", "freeze_aligner")


def _swift(s: SimpleNamespace, model: Any, stacks: Stacks) -> Recipe:
    """`swift.pipelines.train.tuner`: `get_target_modules`, `prepare_adapter`, `TunerMixin`."""
    kind, parts = s.tuner_type or s.train_type or "lora", halves(model, stacks)
    classifier = s.task_type.lower() in {"seq_cls", "reranker"}
    if kind not in {"lora", "full"}:
        msg = "tuner_type that is not read"
        raise BadInputError(msg, value=kind, expected="lora or full")
    if kind == "full":
        ignored = {k: "tuner_type is full" for k in s.given if k.startswith("target_")}
        rules = tuple(_swift_rules(s, model, parts))
        return Recipe(rules=rules, trains=True, classifier=classifier, ignored=ignored)
    lists = {k for k in s.given if "_parameters" in k} - {"target_parameters"}
    ignored = dict.fromkeys(lists, "tuner_type is lora")
    targets: Any = s.target_regex or listed(s.target_modules)
    if s.target_regex and "target_modules" in s.given:
        ignored["target_modules"] = "target_regex stands in its place"
    if "all-linear" not in targets:
        why = "it counts with target_modules: all-linear alone"
        ignored |= {key: why for key in _PARTS if key in s.given and parts}
    elif parts is not None and not s.target_regex:
        targets = _swift_regex(s, model, parts)
    elif not s.target_regex:
        targets = [
            *(t for t in targets if t != "all-linear"),
            *_swift_linear(model, _linear(model)),
        ]
        dropped = {"out_proj", "conv1d"} if model.config.model_type in _MAMBA else set()
        targets = [t for t in targets if t not in dropped]
    saved = [*listed(s.modules_to_save), *(["v_head"] if classifier else [])]
    task = _SWIFT_TASKS.get(s.task_type.lower(), s.task_type.upper())
    lora = {**s.lora, "target_modules": targets, "modules_to_save": saved, "task_type": task}
    return Recipe(lora, classifier=classifier, ignored=ignored)


def _swift_linear(model: Any, names: Collection[str]) -> list[str]:
    """Return the ends of the linear `names` (`swift.utils.find_all_linears`, `find_layers`).

    Each with as many parts as tell it from modules that are no linear ones.
    """
    heads = ("lm_head", "score", "v_head", "classifier")
    linear = {name for name in names if not any(head in name for head in heads)}
    every = (name for name, _ in model.named_modules())
    others = {re.sub(r"\d+\.", "{}.", name) for name in every if name not in linear}
    ends = set()
    for name in linear:
        parts = name.split(".")
        tails = (".".join(parts[-k:]) for k in range(1, len(parts) + 1))
        starred = ((tail, re.sub(r"\d+\.", "{}.", tail)) for tail in tails)
        ends.add(next((t for t, s in starred if not any(o.endswith(s) for o in others)), name))
    return sorted(ends)


def _swift_regex(s: SimpleNamespace, model: Any, parts: Halves) -> str:
    """Return the pattern of the linear modules of some parts (`get_multimodal_target_regex`)."""
    chosen = [] if s.freeze_llm else [parts.text]
    chosen += [] if s.freeze_vit else parts.towers
    chosen += [] if s.freeze_aligner else parts.aligners
    found = []
    for part in chosen:
        inner = model.get_submodule(part)
        ends = _swift_linear(inner, _linear(inner))
        rejected = [a for a in parts.aligners if a.startswith(f"{part}.")]
        before = f"(?!({'|'.join(rejected)}))" if rejected else ""
        if any(ends):
            found.append(rf"{before}{re.escape(part)}(?=\.).*\.({'|'.join(filter(None, ends))})")
    return f"^({'|'.join(found)})$"


def _swift_rules(s: SimpleNamespace, model: Any, parts: Halves | None) -> Iterator[WeightRule]:
    """Yield what is frozen, then what trains all the same (`swift.utils.freeze_parameters`)."""
    sizes = [(name, parameter.numel()) for name, parameter in model.named_parameters()]
    budget, lowest = int(sum(n for _, n in sizes) * s.freeze_parameters_ratio), set()
    for name, size in sizes:
        budget -= size
        if budget < 0:
            break
        lowest.add(name)
    if s.freeze_parameters_ratio:
        ratio = str(s.freeze_parameters_ratio)
        yield WeightRule("freeze_parameters_ratio", ratio, lowest.__contains__, trains=False)
    of = {"freeze_llm": (parts.text, "lm_head"), "freeze_vit": parts.towers,
          "freeze_aligner": parts.aligners} if parts else {}  # fmt: skip
    for key, prefixes in of.items():
        if getattr(s, key):
            yield from (WeightRule(key, p, _starts(p), trains=False) for p in prefixes)
    for key, trains in (("freeze_parameters", False), ("trainable_parameters", True)):
        yield from (WeightRule(key, p, _starts(p), trains=trains) for p in listed(getattr(s, key)))
        if trains and parts and not s.freeze_aligner:
            yield from (WeightRule("freeze_aligner", p, _starts(p)) for p in parts.aligners)
        if pattern := getattr(s, f"{key}_regex"):
            found = compiled(pattern, key=f"{key}_regex")
            hits = lambda name, found=found: found.search(name) is not None  # noqa: E731
            yield WeightRule(f"{key}_regex", pattern, hits, trains=trains)


def _starts(prefix: str) -> Callable[[str], bool]:
    return lambda name: name.startswith(prefix)


_marks = frozenset({"model", "tuner_type", "train_type", "target_regex", "freeze_vit"})
DIALECTS.add(Dialect("ms-swift", "ms-swift", _SWIFT, _swift, _marks, "", {"r": "lora_rank"}))
