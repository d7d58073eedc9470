"""Every causal and masked model type that transformers knows, from its own default configuration.

On the meta device, so that size costs nothing. The count is the promise: a new version of
transformers that breaks the discovery of stacks shows here first.
"""

import warnings
from collections import Counter

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from layerwise.errors import StackError
from layerwise.models.stack import all_refs, find_stacks
from layerwise.models.targets import adaptable

pytestmark = [pytest.mark.sweep, pytest.mark.slow]

PROMISED = 190
# What these leave unset in their default configuration, and need.
SET = {
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 1},
    "esm": {"vocab_size": 33, "pad_token_id": 1},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 16},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 48},
    "reformer": {"is_decoder": True},
}
# Families with no stack of blocks that run once each, in plain order, and take examples first.
REFUSED = {
    "albert", "blt", "flaubert", "funnel", "hrm_text", "longformer", "perceiver", "reformer",
    "xlm", "xlnet",
}  # fmt: skip
# Default configurations that transformers itself cannot build, or not without further packages.
UNBUILT = {
    "cohere_compass_text", "dbrx", "gemma3n", "gemma4_assistant", "gemma4_unified_assistant",
    "musicgen", "musicgen_melody", "qwen4_exp", "qwen4_exp_text",
}  # fmt: skip


def build(kind):
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    auto = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Default configurations are not our concern here.
        return auto.from_config(CONFIG_MAPPING[kind](**SET.get(kind, {})))


def outcome(kind):
    """``found``, ``refused`` or ``unbuilt``, and what there is to say."""
    try:
        model = build(kind)
    except Exception as error:  # noqa: BLE001 - whatever a default configuration makes happen
        return "unbuilt", f"{type(error).__name__}: {error}"
    try:
        stacks = find_stacks(model)
    except StackError as error:
        return "refused", str(error)
    rows = len({target.row for target in adaptable(model, stacks)})
    refs = all_refs(stacks)
    assert all(model.get_submodule(ref.name) is not None for ref in refs)
    return "found", f"{[(s.name, len(s.blocks), s.residual) for s in stacks]}, {rows} adaptable"


@pytest.fixture(scope="module")
def outcomes():
    kinds = sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_MASKED_LM_MAPPING_NAMES})
    return {kind: outcome(kind) for kind in kinds}


def kinds(outcomes, which):
    return {kind for kind, (said, _) in outcomes.items() if said == which}


def test_at_least_as_many_as_promised(outcomes, capsys):
    counts = Counter(said for said, _ in outcomes.values())
    lines = [f"stacks found in {counts['found']} of {len(outcomes)} model types"]
    lines += [f"{said} {k}: {' '.join(w.split())[:120]}" for k, (said, w) in outcomes.items()]
    with capsys.disabled():
        print("", *(x for x in lines if not x.startswith("found")), sep="\n")  # noqa: T201 - the point
    assert counts["found"] >= PROMISED


def test_the_others_are_refused_by_name(outcomes):
    assert kinds(outcomes, "refused") <= REFUSED


def test_no_type_escapes_for_another_reason(outcomes):
    assert kinds(outcomes, "unbuilt") <= UNBUILT
