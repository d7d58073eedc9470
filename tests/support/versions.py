"""Which of transformers is installed, for what a test can ask of it."""

import pytest
import transformers

FOUR = transformers.__version__.startswith("4.")


def since_5(reason):
    """Marks what transformers 4 has otherwise, for `reason`."""
    return pytest.mark.skipif(FOUR, reason=reason)
