"""Which libraries are installed, for what a test can ask of them."""

import pytest
import transformers
from packaging.version import Version

from layerwise.compat.peft import converted_names


def since(version, reason):
    """Marks what transformers before `version` has otherwise, for `reason`."""
    is_older = Version(transformers.__version__) < Version(version)
    return pytest.mark.skipif(is_older, reason=reason)


FOUR = transformers.__version__.startswith("4.")
FUSED = since("5", "transformers fuses experts since 5")
CONVERTED = pytest.mark.skipif(
    FOUR or not converted_names("mixtral"), reason="PEFT knows fused experts since 0.19"
)
