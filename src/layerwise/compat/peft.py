"""What depends on the version of PEFT."""

from collections.abc import Sequence
from typing import Any


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
