"""The fixtures of the package's tests, and a model of some depth."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.conftest import small_card, tuning

__all__ = ["deep", "small_card", "tuning"]


@pytest.fixture(scope="session")
def deep(tuning):
    """A llama of six blocks as it is loaded, with the texts and helpers of `tuning`."""

    def loaded():
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        from layerwise.models.stack import find_stacks

        shallow = tuning.loaded("llama")
        shape = shallow.model.config.to_dict() | {"num_hidden_layers": 6, "layer_types": None}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = LlamaForCausalLM(LlamaConfig(**shape)).eval()
        return replace(shallow, model=model, stacks=find_stacks(model))

    return SimpleNamespace(**{**vars(tuning), "loaded": loaded})
