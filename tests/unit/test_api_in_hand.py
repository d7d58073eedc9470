"""Models, cards and pairs as people have them in their own Python."""

from types import SimpleNamespace

import pandas as pd
import peft
import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

import layerwise as lw
from layerwise.errors import BadInputError, DataError, ModelError, OutputError
from layerwise.models.load import load
from support import text
from support.examples import words
from support.profiles import PROBES

# PEFT reads an attribute that transformers is renaming.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning")

TEXTS = [words(3 + i % 5, start=i) for i in range(12)]
HOW = {"signals": ["activation_gradient", "residual_norm"], "examples": 8, "rank": 2}
TINY = {"steps": 1, "batch_size": 4}


@pytest.fixture
def tokenizer():
    return text.tokenizer(frame="causal")


@pytest.fixture
def base(tmp_path):
    return text.save(tmp_path / "base", "llama")


def adapted(model, **config):
    """The model with adapters that change nothing yet."""
    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"], **config))


def rows(card):
    """What a card measured of each block, by its name."""
    return {r.name: (r.activation_gradient, r.residual_norm) for r in card.layers}


def test_a_model_without_a_name_takes_the_tokenizer_that_is_given(tokenizer):
    """As the message that refuses it without one says."""
    model, other = text.model("llama"), text.model("llama")
    model.name_or_path = other.name_or_path = ""
    with pytest.raises(BadInputError, match=r"try: tokenizer=\.\.\."):
        lw.card(model, TEXTS, **HOW)
    assert lw.card(model, TEXTS, tokenizer=tokenizer, **HOW).model.architecture.startswith("Llama")
    assert lw.profile(other, model, tokenizer=tokenizer, probes=PROBES).slope == 0
    audit = lw.audit(adapted(model), tokenizer=tokenizer, probes=PROBES)
    assert [module.dead for module in audit.modules] == [True] * len(audit.modules)


def test_models_cards_and_probes_may_be_named_by_paths(base, tmp_path):
    card = lw.card(base, TEXTS, **HOW)
    card.save(tmp_path / "card")
    assert lw.place(tmp_path / "card", blocks="0") == card.place(blocks="0")
    assert lw.compare(tmp_path / "card", card).pairs[0].spearman == pytest.approx(1)
    (tmp_path / "probes.txt").write_text("\n".join(PROBES))
    assert lw.profile(base, base, probes=tmp_path / "probes.txt").slope == 0
    with pytest.raises(BadInputError, match="no card: 'int'"):
        lw.place(3)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_taken_whatever_mode_the_caller_is_in(base, mode):
    card, tuned = lw.card(str(base), TEXTS, **HOW), lw.tune(str(base), TEXTS, **TINY)
    with mode():
        assert rows(lw.card(str(base), TEXTS, **HOW)) == rows(card)
        again = lw.tune(str(base), TEXTS, **TINY)
        assert not torch.is_grad_enabled()
    assert again.record.outcome.loss == tuned.record.outcome.loss


def test_a_card_of_a_model_with_adapters_has_the_base_s_own_names(base):
    plain, model = lw.card(base, TEXTS, **HOW), load(str(base)).model
    card = lw.card(adapted(model), TEXTS, **HOW)
    assert rows(card) == rows(plain)
    assert "the model has adapters, which were on as it was measured" in card.capture.notes
    placed = card.place(blocks="1")
    trained = peft.get_peft_model(load(str(base)).model, placed.lora_config())
    names = {n.partition(".lora_")[0] for n, p in trained.named_parameters() if p.requires_grad}
    assert names == {f"base_model.model.{name}" for name in placed.modules}
    assert trained.get_nb_trainable_parameters()[0] == placed.adapter_parameters


def test_an_audit_of_adapters_in_hand_is_printed_alone_and_of_a_profile(base, tokenizer):
    model = adapted(text.model("llama"))
    audit = lw.audit(model, tokenizer=tokenizer, probes=PROBES)
    profile = lw.profile(None, model, tokenizer=tokenizer, probes=PROBES)
    for one in (audit, profile.audit):
        assert one.dead == tuple(f"model.layers.{i}.self_attn.q_proj" for i in range(len(one.dead)))
        assert "All adapters are dead: the model is its base." in str(one)
        assert one._repr_html_()
    assert profile.slope == profile.noise_floor == 0


def test_adapters_that_are_switched_off_or_not_active_are_no_part_of_what_is_read(base):
    model = adapted(load(str(base)).model)
    model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    model.base_model.model.model.layers[0].self_attn.q_proj.lora_B["default"].weight.data += 0.3
    moved = lw.profile(None, model, probes=PROBES)
    assert moved.slope != 0
    assert moved.notes == ()  # On v_proj is the other alone.
    assert moved.untrained_modules == ("model.layers.1.self_attn.q_proj",)
    with model.disable_adapter():
        card, still = lw.card(model, TEXTS, **HOW), lw.profile(None, model, probes=PROBES)
    assert rows(card) == rows(lw.card(base, TEXTS, **HOW)) != rows(lw.card(model, TEXTS, **HOW))
    assert "the model has adapters, which were off as it was measured" in card.capture.notes
    assert (still.slope, still.untrained_modules) == (0, moved.untrained_modules)
    assert still.notes == ("the adapters are switched off: what the model computes is its base's",)


def test_weights_that_are_not_there_are_refused_in_words(tokenizer):
    with torch.device("meta"):
        nowhere = text.model("llama")
    for use in (
        lambda **how: lw.card(nowhere, TEXTS, **how),
        lambda **how: lw.tune(nowhere, TEXTS, **how, **TINY),
        lambda **how: lw.distance(nowhere, TEXTS * 4, **how, objectives=["causal-lm", "simcse"]),
    ):
        with pytest.raises(ModelError, match="weights that are offloaded, or on the meta device"):
            use(tokenizer=tokenizer)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")
def test_blocks_that_were_compiled_get_no_card_under_names_that_no_one_has(tokenizer):
    model = text.model("llama")
    for i, block in enumerate(model.model.layers):
        model.model.layers[i] = torch.compile(block)
    with pytest.raises(BadInputError, match=r"compiled: 'model.layers.0'.*make the card, then"):
        lw.card(model, TEXTS, tokenizer=tokenizer, **HOW)


def test_a_model_in_pieces_is_refused_whatever_it_is_for(tokenizer):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        pieces = FullyShardedDataParallel(
            text.model("llama"),
            device_id=torch.device("cpu"),
            sharding_strategy=ShardingStrategy.NO_SHARD,
        )
        for use in (lw.card, lw.tune, lw.profile):
            with pytest.raises(ModelError, match="sharded over processes: 'FSDP1'"):
                use(pieces, TEXTS, tokenizer=tokenizer)
    finally:
        dist.destroy_process_group()


PAIRS = [(f"w{i} w{i + 1}", f"w{i} w{i + 1} w{49 - i}") for i in range(0, 24, 2)]


@pytest.mark.parametrize(
    "form",
    [
        lambda pairs: [{"a": a, "b": b, "id": 7} for a, b in pairs],
        lambda pairs: ([a, b] for a, b in pairs),
        lambda pairs: pd.DataFrame(pairs, columns=["a", "b"]),
    ],
    ids=["mappings", "iterator", "frame"],
)
def test_pairs_of_any_form_are_the_same_pairs(base, form):
    found = [lw.erase(base, pairs, draws=2) for pairs in (PAIRS, form(PAIRS))]
    assert found[0].pairs == found[1].pairs
    assert found[0].data.sha256 == found[1].data.sha256
    assert found[0].depths == found[1].depths


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["ab", "cd"], "pair on line 1 without both members"),
        ([(a, b, "third") for a, b in PAIRS], "pair on line 1 without both members"),
        (None, "no pairs: 'NoneType'"),
        ([SimpleNamespace(a="a", b="b")], "pair on line 1 without both members"),
    ],
)
def test_what_are_no_pairs_are_not_cut_into_pairs(pairs, said):
    with pytest.raises(DataError, match=said):
        lw.erase("none", pairs)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_model_that_is_of_no_run_is_never_written_over(base, overwrite):
    before = {file: file.read_bytes() for file in base.iterdir()}
    with pytest.raises(OutputError, match="output folder holds a model that is of no run"):
        lw.tune(str(base), TEXTS, out=base, overwrite=overwrite, **TINY)
    assert {file: file.read_bytes() for file in base.iterdir()} == before
