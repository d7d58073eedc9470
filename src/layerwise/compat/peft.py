"""What depends on the version of PEFT."""

from collections.abc import Sequence
from typing import Any

import torch


def added_modules(switch: Any) -> Sequence[str]:
    """Return the attributes in which `switch` keeps what an adapter added to a module.

    Before 0.18, a module that is trained whole did not say.
    """
    return getattr(switch, "adapter_layer_names", ("modules_to_save",))


def converted_names(model_type: str) -> frozenset[str]:
    """Return the module names that PEFT takes for weights of fused experts, in such a model.

    Since 0.19 it reads adapters from before transformers fused experts; whatever has a name that
    experts had then (a gate of attention, a shared expert) cannot get an adapter of its own.
    """
    try:
        from peft.utils import transformers_weight_conversion as conversion
    except ImportError:
        return frozenset()
    patterns = getattr(conversion, "_MODEL_TO_CONVERSION_PATTERN", {})
    kind = patterns.get(model_type)
    if not getattr(conversion, "_MOE_FUSED_TARGETS", {}).get(kind):
        return frozenset()
    return frozenset(getattr(conversion, "_MOE_TARGET_MODULE_MAPPING", {}).get(kind, ()))


def unreadable_names(model: Any, names: Sequence[str]) -> frozenset[str]:
    """Return those of `names`, modules of `model`, whose adapter PEFT would not find again.

    Since 0.19 it renames the weights of an adapter that it reads as transformers does those of an
    old checkpoint. Where a pattern also fits the new name, the adapter it saved itself is lost.
    """
    try:
        from peft.utils.transformers_weight_conversion import (
            convert_peft_adapter_state_dict_for_transformers as convert,
        )
    except ImportError:
        return frozenset()
    from peft import LoraConfig

    kept = {f"base_model.model.{name}.lora_A.weight": name for name in names}
    found = convert(model, LoraConfig(), dict.fromkeys(kept, torch.zeros(1, 1)))
    return frozenset(name for key, name in kept.items() if key not in found)
