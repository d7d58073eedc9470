"""Adapters audited by themselves: on their base, from their files alone, or refused."""

import json
import warnings
from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import layerwise as lw
from layerwise import report
from layerwise.errors import BadInputError, ModelError
from layerwise.profile.audit_adapter import audit_adapter
from layerwise.profile.audit_record import Audit
from layerwise.profile.probe_reading import ProbeReading, as_probe_set
from support.profiles import PROBES

# PEFT reads an attribute that transformers is renaming.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning")

HOW = {"probes": PROBES, "device": "cpu"}
FIGURES = ["rank", "spectral_norm", "frobenius_norm", "stable_rank", "energy_rank_90"]
CONFIGS = {
    "plain": {"target_modules": ["q_proj", "down_proj"]},
    "last block": {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
    "patterns": {
        "target_modules": "all-linear", "use_rslora": True, "rank_pattern": {"layers.1.*": 2},
        "alpha_pattern": {"q_proj": 32},
    },
    "pattern of targets": {"target_modules": r".*\.(1|2)\..*(q|k)_proj"},
    "embedding": {"target_modules": ["embed_tokens", "v_proj"]},
    "dora": {"target_modules": ["o_proj"], "use_dora": True},
    "head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "transposed": {"target_modules": ["c_attn"], "fan_in_fan_out": True},
}  # fmt: skip


@pytest.fixture
def saved(tiny_text, tmp_path):
    """Saves a small model, and an adapter that was trained on it; the adapter's folder."""

    def make(name="llama", config=None, **options):
        base, folder = tmp_path / "base", tmp_path / "adapter"
        model = tiny_text.model(name)
        model.save_pretrained(base)
        tiny_text.tokenizer().save_pretrained(base)
        model.name_or_path = str(base)
        torch.manual_seed(3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted = peft.get_peft_model(model, config or peft.LoraConfig(r=4, **options))
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.data += 0.1 * torch.randn_like(parameter)
            adapted.save_pretrained(folder)
        return folder

    return make


def without_base(folder, base="org/gone", **changes):
    """The adapter with another base in its configuration."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text()) | {"base_model_name_or_path": base} | changes
    file.write_text(json.dumps(config))
    return str(folder)


def test_it_says_what_a_profile_says_of_the_adapter(saved):
    folder = saved(**CONFIGS["plain"])
    audit = lw.audit(str(folder), **HOW)
    within = lw.profile(None, str(folder), **HOW, bootstrap=10).audit
    assert replace(audit, model=None, provenance=None) == within
    assert all(block.output_change > 0 for block in audit.blocks)
    assert (audit.model.source, audit.model.base) == (str(folder), str(folder.parent / "base"))
    assert within.model is within.provenance is None


@pytest.mark.parametrize("how", CONFIGS)
def test_without_its_base_the_files_tell_the_same_and_what_they_do_not(saved, how):
    folder = saved("gpt2" if how == "transposed" else "llama", **CONFIGS[how])
    whole = lw.audit(str(folder), **HOW)
    alone = lw.audit(without_base(folder))
    first, second = (each.frame().set_index("name").sort_index() for each in (whole, alone))
    assert list(first.index) == list(second.index)
    np.testing.assert_allclose(first[FIGURES], second[FIGURES], rtol=1e-6)
    assert alone.kinds == whole.kinds
    assert alone.enough_rank == whole.enough_rank
    assert [(b.stack, b.index) for b in alone.blocks] == [(b.stack, b.index) for b in whole.blocks]
    assert alone.saved_modules == (("lm_head",) if how == "head" else ())
    assert {(m.relative_norm, m.output_change) for m in alone.modules} == {(None, None)}
    assert alone.relative_norm is None
    assert alone.notes[0].startswith("read from the adapter's files alone (model not found on the")
    assert "is not known; " in alone.notes[0]
    assert " blocks or more" in alone.notes[0]


def test_every_form_of_it(saved, tmp_path):
    folder = saved(**CONFIGS["last block"])
    for audit in (lw.audit(str(folder), **HOW), lw.audit(without_base(folder))):
        (tmp_path / "audit.json").write_bytes(audit.to_json())
        assert Audit.load(tmp_path) == audit
        text, page = str(audit), report.html(audit).decode()
        for said in ("Audit of an adapter: adapter", "LORA: 2 modules in 1 block, rank 4"):
            assert said in text
        assert "How this audit was made" in page
        assert "The adapter by module" in report.markdown(audit)
        assert list(report.frames(audit)) == ["adapter", "modules"]
        assert list(report.frames(audit)["adapter"]["block"]) == ["1"]
        assert "moved" not in report.frames(audit)["adapter"]
        assert len(audit.frame()) == 2
        assert audit._repr_html_()
    assert "note: read from the adapter's files alone" in text


def test_a_model_in_hand_with_adapters(saved, tiny_text):
    folder = saved(**CONFIGS["plain"])
    named = lw.audit(str(folder), **HOW)
    model = peft.PeftModel.from_pretrained(tiny_text.model("llama"), folder)
    model.get_base_model().name_or_path = str(folder.parent / "base")
    held = lw.audit(model, **HOW)
    np.testing.assert_allclose(
        held.frame()[[*FIGURES, "output_change"]], named.frame()[[*FIGURES, "output_change"]]
    )
    with pytest.raises(BadInputError, match="model in hand without adapters: 'Llama"):
        lw.audit(model.unload(), **HOW)


def test_a_base_of_null_and_one_that_is_broken_are_not_to_be_had(saved):
    folder = saved(**CONFIGS["plain"])
    (folder.parent / "base" / "model.safetensors").write_bytes(b"no weights")
    broken = lw.audit(str(folder), **HOW)
    assert "files alone (model that cannot be read" in broken.notes[0]
    none = lw.audit(without_base(folder, base=None))
    assert "files alone (adapter that names no base model" in none.notes[0]
    assert none.model.base is None
    assert none.modules == broken.modules


def test_experts_side_by_side_are_named_as_unread(saved):
    folder = saved(**CONFIGS["plain"])
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    key = "base_model.model.model.layers.1.mlp.experts.lora_"
    weights |= {f"{key}A.weight": torch.ones(12, 8), f"{key}B.weight": torch.ones(16, 12)}
    save_file(weights, file)
    audit = lw.audit(without_base(folder))
    assert list(audit.unread) == ["model.layers.1.mlp.experts"]
    assert "1 adapted modules are not products" in " ".join(str(audit).split())
    assert len(audit.modules) == 4


DEEP = "base_model.model.model.layers.999999999.q_proj.lora_"
HOSTILE = {
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "without weights"),
    "cut": (
        lambda f: (f / "adapter_model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}"),
        "cannot be read",
    ),
    "no object": (lambda f: (f / "adapter_config.json").write_text("[1]"), "holds a JSON list"),
    "no json": (lambda f: (f / "adapter_config.json").write_text("{"), "unreadable adapter_config"),
    "no kind": (lambda f: without_base(f, peft_type="MAGIC"), r"not read here \(MAGIC\)"),
    "no rank": (lambda f: without_base(f, r=-1), "nothing can be told.*its files alone do not"),
    "a rank of text": (lambda f: without_base(f, r="4"), "nothing can be told"),
    "ranks of text": (lambda f: without_base(f, rank_pattern={".*": "4"}), "nothing can be told"),
    "no pattern": (lambda f: without_base(f, alpha_pattern=5), "do not tell the scale of model"),
    "an alpha of text": (
        lambda f: without_base(f, lora_alpha="4"),
        "do not tell the scale of model",
    ),
    "half a pattern": (
        lambda f: without_base(f, rank_pattern={"(": 4}),
        "do not tell the scale of model",
    ),
    "an alpha of nothing": (
        lambda f: without_base(f, lora_alpha=float("nan")),
        "do not tell the scale of model",
    ),
    "nothing whole": (lambda f: without_base(f, modules_to_save=5, alpha_pattern=5), "do not tell"),
    "a variant": (lambda f: without_base(f, use_qalora=True), "nothing can be told .*'use_qalora'"),
    "deep": (
        lambda f: save_file(
            {f"{DEEP}A.weight": torch.ones(4, 8), f"{DEEP}B.weight": torch.ones(8, 4)},
            f / "adapter_model.safetensors",
        ),
        r"adapter of a block with an unlikely number \(999999999\)",
    ),
    "no pair": (
        lambda f: save_file({f"{DEEP}A.weight": torch.ones(4, 8)}, f / "adapter_model.safetensors"),
        r"has of model\.layers\.999999999\.q_proj A \(4, 8\): .*B \(out, r\)",
    ),
    "a vector": (
        lambda f: save_file(
            {f"{DEEP[:31]}1.q.lora_{x}.weight": torch.ones(4) for x in "AB"},
            f / "adapter_model.safetensors",
        ),
        r"has of model\.layers\.91\.q A \(4,\), B \(4,\): ",
    ),
    "empty": (lambda f: save_file({}, f / "adapter_model.safetensors"), "hold no weights"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_hostile_files_end_in_one_line(saved, how):
    break_it, line = HOSTILE[how]
    folder = saved(**CONFIGS["plain"])
    without_base(folder)
    break_it(folder)
    with pytest.raises(ModelError, match=line) as raised:
        lw.audit(str(folder))
    assert "\n" not in str(raised.value)


def test_what_is_not_finite_is_refused_with_and_without_a_base(saved):
    folder = saved(**CONFIGS["plain"])
    file = folder / "adapter_model.safetensors"
    nan = {k: t * float("nan") if "lora_B" in k else t for k, t in load_file(file).items()}
    save_file(nan, file)
    for adapter in (str(folder), without_base(folder)):
        with pytest.raises(ModelError, match="NaN or infinite values, first in base_model"):
            lw.audit(adapter, **HOW)


def test_what_files_alone_do_not_tell_is_refused(saved, planted_card):
    config = peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[])
    folder = saved(config=config)
    with pytest.raises(ModelError, match=r"nothing can be told without its base \(.*'IA3'"):
        lw.audit(without_base(folder))
    lora = saved(**CONFIGS["plain"])
    with pytest.raises(BadInputError, match="card beside an adapter whose base is not to be had"):
        lw.audit(without_base(lora), card=planted_card())


def test_the_whole_forward_is_verified_only_where_there_is_one(saved):
    folder = saved(**CONFIGS["dora"])
    audit = lw.audit(str(folder), **HOW, verify=True)
    assert audit.notes[-1].startswith("verified: the merged model's states are PEFT's to ")
    loads = []

    def load(name, **options):  # The second is another model: that is no mere note.
        loads.append(lw.models.load.load(name, **options))
        loads[-1].model.model.layers[0].mlp.up_proj.weight.data *= len(loads)
        return loads[-1]

    reading = ProbeReading(as_probe_set(PROBES, examples=3, seed=0))
    with pytest.raises(ModelError, match=r"merged model is off by .* at block \d"):
        audit_adapter(str(folder), reading=reading, load=load, verify=True)
    with pytest.raises(BadInputError, match="model in hand to verify"):
        lw.audit(lw.models.load.load(str(folder.parent / "base")).model, **HOW, verify=True)
    with pytest.raises(BadInputError, match=r"proof of an adapter whose base.*no --verify"):
        lw.audit(without_base(folder), **HOW, verify=True)


@pytest.mark.parametrize("whole", ["layers.1", "norm"])
def test_blocks_and_norms_that_trained_whole_are_still_blocks_and_norms(
    saved, tiny_text, tmp_path, whole
):
    folder = saved(target_modules=["q_proj"], modules_to_save=[whole], layers_to_transform=[0])
    assert any(name.endswith(whole) for name in lw.audit(folder, **HOW).saved_modules)
    adapted = peft.AutoPeftModelForCausalLM.from_pretrained(folder)
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    tiny_text.tokenizer().save_pretrained(tmp_path / "merged")
    profiles = [
        lw.profile(tmp_path / "base", other, **HOW) for other in (folder, tmp_path / "merged")
    ]
    changes = [[depth.procrustes for depth in found.depths] for found in profiles]
    np.testing.assert_allclose(*changes, rtol=1e-4)
    assert len({tuple(found.readouts) for found in profiles}) == 1
