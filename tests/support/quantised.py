"""Models whose weights are codes, and the whole path of one: card, place, tune, profile, export."""

import json
import sys
import warnings
from importlib import invalidate_caches
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel, import_utils
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GptOssConfig, GptOssForCausalLM

import layerwise as lw
from layerwise.models.linear import packed_modules
from layerwise.models.load import LoadedModel
from layerwise.models.quantisation import unpack
from layerwise.models.stack import find_stacks
from support import text, tuning, zoo

STAND_INS = Path(__file__).parents[1] / "fixtures" / "stand_ins"
#: Widths that blocks of 32 and 64 codes fit into.
SIZE = zoo.Size(words=len(text.VOCABULARY), width=64, blocks=3, heads=4, inner=128)
COLUMNS = (
    "residual_norm", "coherence", "activation_energy", "effective_rank", "attention_entropy",
    "activation_gradient", "gain",
)  # fmt: skip
SETTINGS = {"batch_size": 4, "max_length": 16}
PROBES = [f"w{i} w{i + 1} w{2 * i}" for i in range(12)]


def save(folder):
    """A plain model that can be quantised, and its tokenizer, in `folder`."""
    with torch.random.fork_rng():
        zoo.build("llama", size=SIZE).save_pretrained(folder)
    text.tokenizer(frame="causal").save_pretrained(folder)
    return str(folder)


def in_hand(make=lambda linear: linear):
    """The same model in hand, `make` in place of each linear module of its blocks."""
    with torch.random.fork_rng():
        model = zoo.build("llama", size=SIZE)
    for block in model.model.layers:
        for name, module in list(block.named_modules()):
            if isinstance(module, nn.Linear):
                parent, _, own = name.rpartition(".")
                setattr(block.get_submodule(parent), own, make(module))
    tokenizer = text.tokenizer(frame="causal")
    return LoadedModel(model.eval(), tokenizer, "made", "causal", find_stacks(model))


def stand_ins(monkeypatch):
    """Put the stand-in of GPT-QModel where PEFT looks for it; return its linear modules."""
    monkeypatch.syspath_prepend(str(STAND_INS))
    invalidate_caches()
    for found in (import_utils.is_gptqmodel_available, import_utils.is_optimum_available):
        found.cache_clear()
    from gptqmodel.nn_modules import qlinear

    return qlinear


def forget_stand_ins():
    """Let PEFT look again, after the path is what it was."""
    for found in (import_utils.is_gptqmodel_available, import_utils.is_optimum_available):
        found.cache_clear()
    for name in [n for n in sys.modules if n.partition(".")[0] in {"gptqmodel", "optimum"}]:
        del sys.modules[name]


def declare(folder, **config):
    """Let ``config.json`` in `folder` say that its weights are quantised."""
    path = Path(folder) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": config}))


def save_fp8(folder, *, block=32):
    """A model whose linear weights are 8-bit floats, a scale a block; and what they stand for."""
    save(folder)
    file, made, meant = Path(folder) / "model.safetensors", {}, {}
    for name, value in load_file(file).items():
        if not name.endswith("proj.weight"):
            made[name] = value
            continue
        rows, columns = value.shape
        tiles = value.reshape(rows // block, block, columns // block, block)
        scales = tiles.abs().amax((1, 3), keepdim=True) / 448.0
        codes = (tiles / scales).reshape(rows, columns).to(torch.float8_e4m3fn)
        made |= {name: codes, f"{name}_scale_inv": scales[:, 0, :, 0].contiguous()}
        meant[name] = (codes.float().reshape(tiles.shape) * scales).reshape(rows, columns)
    save_file(made, file, metadata={"format": "pt"})
    declare(folder, quant_method="fp8", weight_block_size=[block, block])
    return meant


def save_mxfp4(folder):
    """A mixture whose experts are 4-bit floats, two to a byte, an exponent each 32."""
    config = GptOssConfig(
        vocab_size=len(text.VOCABULARY), hidden_size=64, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, num_local_experts=2,
        num_experts_per_tok=1, pad_token_id=0, max_position_embeddings=64, rope_parameters=None,
    )  # fmt: skip
    GptOssForCausalLM(config).save_pretrained(folder)
    text.tokenizer(frame="causal").save_pretrained(folder)
    file, made = Path(folder) / "model.safetensors", {}
    draw = torch.Generator().manual_seed(0)
    for name, value in load_file(file).items():
        if value.ndim == 3:
            experts, inputs, outputs = value.shape
            shape = (experts, outputs, inputs // 32)
            made[f"{name}_blocks"] = torch.randint(
                0, 256, (*shape, 16), dtype=torch.uint8, generator=draw
            )
            made[f"{name}_scales"] = torch.full(shape, 122, dtype=torch.uint8)
        else:
            made[name] = value
    save_file(made, file, metadata={"format": "pt"})
    declare(folder, quant_method="mxfp4", modules_to_not_convert=["self_attn", "router"])


def furthest(first, second):
    """Return how far the columns of two cards are apart, as a share of the second's."""
    pairs = [(first.column(name), second.column(name)) for name in COLUMNS]
    return max(float(np.max(np.abs(a - b) / np.abs(b))) for a, b in pairs)


def whole_path(make, folder, *, within):
    """Go the whole path with what `make` gives, beside the same model dequantised.

    What is measured and trained of both agrees as far as `within`; the adapter opens in plain PEFT
    on a fresh base, and computes what the trained one does.
    """
    data, coded, plain = tuning.data(16), make(), make()
    modules = unpack(plain.model)
    assert modules == 21
    card, wanted = (lw.card(it, data, **SETTINGS) for it in (coded, plain))
    assert furthest(card, wanted) < within
    assert card.model.parameters == wanted.model.parameters
    assert [x.parameters for x in card.layers] == [x.parameters for x in wanted.layers]
    assert card.capture.dtype == wanted.capture.dtype == "float32"
    assert card.model.quantisation is not None
    assert wanted.model.quantisation is None
    placed = card.place(layers=2)
    tuned, other = (
        lw.tune(it, data, placement=placed, steps=3, out=folder / name, **SETTINGS)
        for it, name in ((coded, "coded"), (plain, "plain"))
    )
    for group, same in zip(tuned.record.groups, other.record.groups, strict=True):
        assert (group.parameters, group.trained) == (same.parameters, same.trained)
        assert (group.step_ratio or 0) == pytest.approx(same.step_ratio or 0, rel=max(within, 1e-4))
    profiles = [lw.profile(None, it, probes=PROBES) for it in (tuned, other)]
    norms = [p.audit.relative_norm for p in profiles]
    assert norms[0] == pytest.approx(norms[1], rel=max(within, 1e-4))
    assert not [n for n in profiles[0].audit.notes if "packed" in n]
    assert len(packed_modules(tuned.loaded.model)) == modules
    ids = torch.arange(10, 30)[None]
    with warnings.catch_warnings():  # PEFT reads an attribute that transformers is renaming.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        opened = PeftModel.from_pretrained(make().model, folder / "coded").eval()
    with torch.no_grad():
        gap = opened(ids).logits - tuned.loaded.model(ids).logits
    assert float(gap.abs().max()) < 1e-5
    return card, placed
