"""Each difference of transformers' versions is met whatever version is installed."""

import pytest
import transformers

from layerwise.compat.transformers import checkpointing, dequantized


@pytest.mark.parametrize("wanted", [True, False])
def test_trainer_is_told_in_its_own_words_to_recompute(tmp_path, wanted):
    made = transformers.TrainingArguments(tmp_path, **checkpointing(wanted=wanted), report_to=[])
    known = vars(made)
    asked = [known[n] for n in ("activation_checkpointing", "gradient_checkpointing") if n in known]
    assert any(asked) is wanted


def test_a_gguf_file_is_read_as_plain_weights():
    asked = dequantized("model.gguf")
    assert asked.pop("gguf_file") == "model.gguf"
    assert all(config.dequantize for config in asked.values())
    assert bool(asked) is hasattr(transformers, "GgufConfig")
