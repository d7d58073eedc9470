"""GPTQ and AWQ, which need a GPU: their path on stand-ins of GPT-QModel's modules."""

import pytest

from support import quantised


@pytest.fixture
def modules(monkeypatch):
    yield quantised.stand_ins(monkeypatch)
    quantised.forget_stand_ins()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["BaseQuantLinear", "AwqLinear"])
@pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning")
def test_the_whole_path(modules, kind, tmp_path):
    made = getattr(modules, kind)
    card, placed = quantised.whole_path(lambda: quantised.in_hand(made), tmp_path, within=1e-3)
    assert card.model.quantisation.bits == 4
    adapted = placed.apply(quantised.in_hand(made).model)
    expected = "AwqLoraLinear" if kind == "AwqLinear" else "GPTQLoraLinear"
    found = {type(adapted.get_submodule(f"base_model.model.{m}")).__name__ for m in placed.modules}
    assert found == {expected}
