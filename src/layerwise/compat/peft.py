"""What depends on the version of PEFT."""

from collections.abc import Sequence
from typing import Any


def added_modules(switch: Any) -> Sequence[str]:
    """Return the attributes in which `switch` keeps what an adapter added to a module.

    Before 0.18, a module that is trained whole did not say.
    """
    return getattr(switch, "adapter_layer_names", ("modules_to_save",))
