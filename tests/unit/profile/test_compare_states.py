"""Before and after, from what a user names: the right model at the right time, one at a time."""

import gc
import json
import shutil
import warnings
import weakref
from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import layerwise as lw
from layerwise.data.text import Example, TextData
from layerwise.errors import BadInputError, ModelError, SchemaError
from layerwise.models.load import load
from layerwise.profile.compare_states import read_pair
from layerwise.profile.probe_reading import ProbeReading, as_probe_set

TEXTS = [" ".join(f"w{(i * j + 3 * i + j) % 50}" for j in range(2 + i % 6)) for i in range(12)]
READING = ProbeReading(as_probe_set(TEXTS), bootstrap=20, batch_size=4)
# PEFT reads an attribute that transformers is renaming.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning")


def moved(model, share, *names):
    """`model` with noise on the parameters whose names hold one of `names`."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if any(part in name for part in names):
            noise = torch.randn_like(parameter)
            parameter.data.add_(share * parameter.std() * noise)
    return model


@pytest.fixture(scope="module")
def folders(tiny_text, tmp_path_factory):
    """A model, the same with its last block moved, an adapter on it, and an untrained one."""
    root = tmp_path_factory.mktemp("pair")

    def adapter(name, scale):
        config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"])
        model = peft.get_peft_model(load(str(root / "base")).model, config)
        torch.manual_seed(2)
        for key, parameter in model.named_parameters():
            if "lora_B" in key and "layers.1" in key:
                torch.nn.init.normal_(parameter, std=scale)
        model.save_pretrained(root / name)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tiny_text.save(root / "base")
        tiny_text.save(root / "tuned", change=lambda model: moved(model, 0.5, "layers.1."))
        adapter("adapter", 0.5)
        adapter("fresh", 0.0)
    return {path.name: str(path) for path in root.iterdir()}


class Loads:
    """Loads what is named, and keeps count of the models that are there."""

    def __init__(self):
        self.sources, self.most, self.alive = [], 0, weakref.WeakSet()

    def __call__(self, source, *, labels=None):
        gc.collect()
        loaded = load(source, labels=labels)
        self.sources.append(source)
        self.alive.add(loaded.model)
        self.most = max(self.most, len(self.alive))
        return loaded


def read(before, after, *, load=load, **options):
    return read_pair(before, after, reading=READING, load=load, **options)


def distances(pair):
    made = pair.profile(READING)
    return [block.procrustes for block in made.readouts["residual"].blocks]


def test_two_checkpoints_one_at_a_time(folders):
    loads = Loads()
    pair = read(folders["base"], folders["tuned"], load=loads)
    assert loads.sources == [folders["base"], folders["tuned"]]
    assert loads.most == 1
    assert pair.before.model.source == folders["base"]
    assert pair.after.model.source == folders["tuned"]
    assert pair.device == "cpu"
    first, last = distances(pair)
    assert first == 0.0
    assert last > 0.01


@pytest.mark.parametrize("before", ["base", None])
def test_an_adapter_goes_onto_its_base_once(folders, before):
    loads = Loads()
    named = folders[before] if before else None
    pair = read(named, folders["adapter"], load=loads)
    assert loads.sources == [folders["base"]]
    assert pair.after.model.base == pair.before.model.source == folders["base"]
    assert pair.after.model.parameters > pair.before.model.parameters
    merged = READING.states(load(folders["adapter"]))
    for readout, states in merged.pooled.items():
        assert pair.after.pooled[readout] == pytest.approx(states, abs=1e-5)
    plain = READING.states(load(folders["base"]))
    assert np.array_equal(pair.before.pooled["residual"], plain.pooled["residual"])
    assert pair.untrained_modules == tuple(
        f"model.layers.0.{name}" for name in ("self_attn.q_proj", "mlp.down_proj")
    )


def test_an_adapter_that_never_trained_moves_nothing(folders, caplog):
    pair = read(folders["base"], folders["fresh"])
    assert distances(pair) == [0.0, 0.0]
    assert len(pair.untrained_modules) == 4
    assert "4 adapted modules never trained, first model.layers.0.self_attn.q_proj" in caplog.text


def test_an_adapter_against_another_model_is_read_with_its_own_base(folders):
    loads = Loads()
    pair = read(folders["tuned"], folders["adapter"], load=loads)
    assert loads.sources == [folders["tuned"], folders["adapter"]]
    assert pair.after.model.base == folders["base"]


def test_an_adapter_whose_base_has_moved_goes_onto_the_one_named(folders, tmp_path):
    shutil.copytree(folders["adapter"], tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    config = json.loads(file.read_text()) | {"base_model_name_or_path": "/gone/base"}
    file.write_text(json.dumps(config))
    elsewhere = str(tmp_path / "adapter")
    pair = read(folders["base"], elsewhere, audit=True)
    assert len(pair.audit.modules) == 4
    assert pair.notes == (
        f"the adapter names a base that is not there (/gone/base); it was put on {folders['base']}",
    )
    with pytest.raises(ModelError, match="/gone/base"):
        read(None, elsewhere)


def test_an_adapter_that_trained_biases_goes_onto_its_base_too(tiny_text, tmp_path):
    base = str(tiny_text.save(tmp_path / "base", "gpt2"))
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, bias="all")
    model = peft.get_peft_model(load(base).model, config)
    model.save_pretrained(tmp_path / "biased")
    loads = Loads()
    pair = read(None, str(tmp_path / "biased"), load=loads)
    assert loads.sources == [base]
    assert pair.notes == ("the adapter trained its base's biases too",)
    plain = READING.states(load(base))
    assert np.array_equal(pair.before.pooled["residual"], plain.pooled["residual"])


@pytest.fixture
def in_hand(folders):
    """A model with a trained adapter on it, as training leaves it."""
    loaded = load(folders["base"])
    model = peft.PeftModel.from_pretrained(loaded.model, folders["adapter"], is_trainable=True)
    return replace(loaded, model=model)


@pytest.mark.parametrize("before", ["nothing", "name", "object"])
def test_adapters_in_hand_are_switched_off_for_the_base(folders, in_hand, before):
    loads = Loads()
    base = load(folders["base"])
    given = {
        "nothing": None,
        "name": folders["base"],
        "object": replace(base, model=in_hand.model.get_base_model()),
    }[before]
    pair = read(given, in_hand, load=loads)
    assert loads.sources == []
    plain = READING.states(base)
    assert np.array_equal(pair.before.pooled["residual"], plain.pooled["residual"])
    assert pair.before.model.source == folders["base"]
    assert pair.before.model.parameters == plain.model.parameters
    assert distances(pair)[1] > 0.001
    assert pair.untrained_modules[0] == "model.layers.0.self_attn.q_proj"
    assert any(p.requires_grad for p in in_hand.model.parameters())


def test_adapters_in_hand_against_another_model(folders, in_hand):
    loads = Loads()
    read(folders["tuned"], in_hand, load=loads)
    assert loads.sources == [folders["tuned"]]


def test_a_transformers_model_will_do(folders):
    model = load(folders["tuned"]).model
    pair = read(folders["base"], model)
    assert distances(pair)[1] > 0.01


def test_states_read_before_training_stand_for_the_model(folders):
    loaded = load(folders["base"])
    before = READING.states(loaded)
    moved(loaded.model, 0.5, "layers.1.")
    first, last = distances(read(before, loaded))
    assert first == 0.0
    assert last > 0.01


def test_what_tune_returns_is_a_model_in_hand(folders, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS))
    tuned = lw.tune(folders["base"], str(texts), steps=2, batch_size=2, learning_rate=1e-2)
    made = lw.profile(folders["base"], tuned, probes=TEXTS, bootstrap=20)
    assert made.blocks[-1].procrustes > 0
    lora = lw.tune(folders["base"], str(texts), condition="lora", steps=2, batch_size=2)
    made = lw.profile(None, lora, probes=TEXTS, bootstrap=20)
    assert made.before.source == folders["base"]
    assert made.blocks[-1].procrustes > 0
    assert made.untrained_modules == ()


def test_a_model_before_is_needed_that_training_did_not_change(folders):
    with pytest.raises(BadInputError, match=r"no model to compare with; .*an adapter"):
        read(None, folders["tuned"])
    loaded = load(folders["base"])
    with pytest.raises(BadInputError, match="one object: training changed it in place"):
        read(loaded, loaded)


@pytest.mark.parametrize(
    ("name", "frame", "says"),
    [
        ("llama", "bert", "models of different tokenizers"),
        ("gpt2", "causal", r"different stacks: 'transformer\.h'"),
    ],
)
def test_another_tokenizer_or_architecture_is_refused(
    folders, tiny_text, tmp_path, name, frame, says
):
    tiny_text.model(name).save_pretrained(tmp_path)
    tiny_text.tokenizer(frame=frame).save_pretrained(tmp_path)
    with pytest.raises(BadInputError, match=says):
        lw.profile(folders["base"], str(tmp_path), probes=TEXTS)


@pytest.mark.slow
def test_a_profile_is_the_same_each_time(folders):
    options = {"probes": TEXTS, "bootstrap": 20, "readout": "residual"}
    one, two = (lw.profile(folders["base"], folders["tuned"], **options) for _ in range(2))
    assert one.readouts == two.readouts
    assert one.readout == "residual"
    assert one.probes.sha256 == as_probe_set(TEXTS).sha256
    assert (one.probes.source, one.probes.inputs) == ("given", 12)
    assert "Depth profile: base" in str(one)
    assert one._repr_html_().startswith("<iframe srcdoc=")


# --- The audit --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def card(folders):
    """A card of the base, made of the same texts."""
    made = tuple(Example(text) for text in TEXTS)
    return lw.card(folders["base"], TextData("made", "0" * 64, made, {"text": "text"}, len(made)))


def test_an_adapter_on_its_base_is_audited(folders):
    made = lw.profile(folders["base"], folders["adapter"], probes=TEXTS, bootstrap=10)
    audit = made.audit
    assert audit.dead == made.untrained_modules
    assert [m.index for m in audit.modules] == [0, 0, 1, 1]
    assert {m.output_change > 0 for m in audit.modules if not m.dead} == {True}


def test_in_hand_and_on_disk_are_one_audit(folders, in_hand):
    from_disk = lw.profile(None, folders["adapter"], probes=TEXTS, bootstrap=10).audit
    found = lw.profile(None, in_hand, probes=TEXTS, bootstrap=10).audit
    assert [m.name for m in found.modules] == [m.name for m in from_disk.modules]
    for one, other in zip(found.modules, from_disk.modules, strict=True):
        assert one.update == other.update
        assert one.output_change == pytest.approx(other.output_change)


def test_two_models_and_a_study_s_pairs_have_no_audit(folders):
    assert read(None, folders["adapter"]).audit is None
    assert lw.profile(folders["base"], folders["tuned"], probes=TEXTS, bootstrap=10).audit is None


def test_an_adapter_that_cannot_be_audited_is_noted(folders, caplog):
    why = "no audit of the adapter: it was read on its own base"
    pair = read(folders["tuned"], folders["adapter"], audit=True)
    assert pair.audit is None
    assert pair.notes[0].startswith(why)
    assert why in caplog.text


def test_in_hand_the_audit_is_against_its_own_base(folders, in_hand):
    pair = read(folders["tuned"], in_hand, audit=True)
    assert len(pair.audit.modules) == 4
    assert pair.notes == ("the audit holds the adapter against its own base, not the model before",)
    states = READING.states(load(folders["base"]))
    pair = read(states, in_hand, audit=True)
    assert (len(pair.audit.modules), pair.notes) == (4, ())


def test_a_card_stands_beside_the_adapter_in_hand_and_on_disk(folders, in_hand, card):
    held = lw.profile(None, in_hand, probes=TEXTS, bootstrap=10, card=card)
    assert held.audit.card.policy == "gain"
    made = lw.profile(folders["base"], folders["adapter"], probes=TEXTS, bootstrap=10, card=card)
    assert made.audit.card.policy == "gain"
    assert made.audit.card.objective == "causal-lm"
    assert {b.carded for b in made.audit.blocks} <= {True, False}
    assert "The card (gain) would have taken block" in " ".join(str(made).split())


def test_a_card_of_another_model_is_refused_before_any_probe_is_read(folders, card):
    other = replace(card, model=replace(card.model, files={"model.safetensors": "0" * 64}))
    with pytest.raises(SchemaError, match="a card of other weights"):
        lw.profile(folders["base"], folders["adapter"], probes=TEXTS, card=other)


@pytest.mark.parametrize("after", ["tuned", "adapter"])
def test_a_card_without_an_adapter_to_audit_is_refused(folders, card, after):
    before = "base" if after == "tuned" else "tuned"
    with pytest.raises(BadInputError, match="card beside what cannot be audited"):
        lw.profile(folders[before], folders[after], probes=TEXTS, card=card)


def test_an_adapter_with_nan_is_refused_by_name(folders, tmp_path):
    shutil.copytree(folders["adapter"], tmp_path / "broken")
    file = tmp_path / "broken" / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(n for n in weights if "layers.1" in n and "lora_B" in n)
    weights[name][0, 0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"NaN or infinite values, first in .*layers\.1"):
        lw.profile(folders["base"], str(tmp_path / "broken"), probes=TEXTS)


def test_the_whole_forward_is_verified_where_that_is_asked_for(folders):
    pair = read(folders["base"], folders["adapter"], verify=True)
    assert pair.notes[-1].startswith("verified: the merged model's states are PEFT's to ")
    loads = iter([folders["base"], folders["tuned"]])  # Planted: another base the second time.
    with pytest.raises(ModelError, match=r"merged model is off by .* at block 1.*PEFT's own"):
        read(
            folders["base"], folders["adapter"], verify=True,
            load=lambda _, labels=None: load(next(loads), labels=labels),
        )  # fmt: skip
    with pytest.raises(BadInputError, match=r"nothing to verify.*BASE ADAPTER --verify"):
        read(folders["base"], folders["tuned"], verify=True)
