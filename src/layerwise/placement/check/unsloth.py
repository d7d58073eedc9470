"""What Unsloth's `get_peft_model` makes of its arguments, after its sources of August 2026.

`FastLanguageModel` hands a list on to PEFT; `FastVisionModel` and `FastModel` choose by parts of
names. Both adapt the fused experts of a mixture too where the MLP is asked for.
"""

import re
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from torch import nn

from layerwise.models.stack import Stack
from layerwise.placement.check.request import DIALECTS, NAMES, Dialect, Recipe, listed
from layerwise.placement.check.trainers import is_classifier

_MLP = ("gate_proj", "up_proj", "down_proj")
_USUAL = ("q_proj", "k_proj", "v_proj", "o_proj", *_MLP)
_UNSLOTH = {
    "r": 16, "target_modules": NAMES, "lora_alpha": 16, "layers_to_transform": [],
    "layers_pattern": NAMES, "finetune_last_n_layers": 0, "modules_to_save": NAMES,
    "target_parameters": NAMES, "exclude_modules": NAMES, "rank_pattern": {}, "alpha_pattern": {},
    "finetune_vision_layers": True, "finetune_language_layers": True, "bias": "none",
    "finetune_attention_modules": True, "finetune_mlp_modules": True, "use_dora": False,
    "ensure_weight_tying": False, "task_type": "CAUSAL_LM", "?caller": "FastLanguageModel",
}  # fmt: skip
#: `unsloth_zoo.peft_utils.get_peft_regex`: what a name must hold, by the flag that asks for it.
_PLACES = {
    "finetune_vision_layers": "vision|image|visual|patch",
    "finetune_language_layers": "language|text",
}
_PARTS = {
    "finetune_attention_modules": "self_attn|attention|attn|mixer",
    "finetune_mlp_modules": "mlp|feed_forward|ffn|dense|mixer",
}


def _unsloth(s: SimpleNamespace, model: Any, stacks: Sequence[Stack]) -> Recipe:
    """`unsloth.models.llama` and `vision`: `get_peft_model`."""
    targets, ignored, own = s.target_modules, dict[str, str](), dict[str, Any]()
    asked, saved = listed(targets), listed(s.modules_to_save)
    if vars(s)["?caller"] == "FastLanguageModel":
        asked = asked if "target_modules" in s.given else list(_USUAL)
        targets = [name for name in asked if name != "embed_tokens"]
        saved += [name for name in asked if name == "embed_tokens"]
        unread = {"layers_pattern", *_PLACES, *_PARTS} & s.given
        ignored = dict.fromkeys(unread, "FastLanguageModel does not read it")
        own["layers_pattern"] = None
    elif not asked or targets == "all-linear":
        targets, asked = _regex(s, model, None), ["mlp"] if s.finetune_mlp_modules else []
    elif not isinstance(targets, str) and not all(getattr(s, k) for k in (*_PLACES, *_PARTS)):
        targets = _regex(s, model, asked)
    if s.finetune_last_n_layers and "layers_to_transform" not in s.given:
        depth = len(stacks[-1].blocks)
        own["layers_to_transform"] = list(range(depth))[-s.finetune_last_n_layers :]
    own |= {"target_modules": targets, "modules_to_save": saved or None}
    own["target_parameters"] = listed(s.target_parameters) or _experts(model, asked)
    own |= {"task_type": "SEQ_CLS"} if is_classifier(model) else {}
    return Recipe({**s.lora, **own}, ignored=ignored)


def _regex(s: SimpleNamespace, model: Any, asked: list[str] | None) -> str:
    """Return the pattern of linear modules under the places and parts that are asked for."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    counts = Counter(name.rpartition(".")[2] for name in linear)
    names = asked or [name for name, count in counts.items() if count > 1]  # A head stands alone.
    ends = f"(?:{'|'.join(map(re.escape, names))})"
    places = "|".join(tags for key, tags in _PLACES.items() if getattr(s, key))
    parts = "|".join(tags for key, tags in _PARTS.items() if getattr(s, key))
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


DIALECTS.add(Dialect("unsloth", "Unsloth", _UNSLOTH, _unsloth, frozenset({"?caller"})))
