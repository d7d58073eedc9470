"""Hidden states at every block: those of transformers, without a trace."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers as tf

from layerwise.errors import BadInputError, DataError, LayerwiseError, ModelError, UnknownNameError
from layerwise.models.load import wrap_model
from layerwise.objectives.forward import accepted
from layerwise.profile.states import make_probe_set, observe
from support.batches import FAMILIES
from support.versions import FOUR

TEXTS = tuple(" ".join(f"w{(i * j + 3 * i + j) % 50}" for j in range(2 + i % 6)) for i in range(12))
PROBES = make_probe_set(TEXTS, source="words")
#: These hand out what leaves each block, and the last once more, after the norm.
NO_EMBEDDING = {"mamba", "mamba2", "rwkv"}


@pytest.fixture(scope="module")
def subject(tiny, tiny_text):
    """A tiny model with a tokenizer."""

    def made(name, **options):
        tokenizer = tiny_text.tokenizer(frame="bert" if name in tiny.MASKED else "causal")
        return replace(tiny.build(name, **options), tokenizer=tokenizer)

    return made


def hidden_states(loaded, ids, side, pool=lambda h: h.mean(0)):
    """What transformers returns for one probe on its own, without any padding: l + 1 arrays."""
    inputs = {"input_ids": torch.tensor([ids])}
    if loaded.kind == "seq2seq":
        start = loaded.model.config.decoder_start_token_id
        inputs["decoder_input_ids"] = torch.tensor([[start, *ids[:-1]]])
    with torch.no_grad():
        options = accepted(loaded.model, use_cache=False)
        output = loaded.model(**inputs, output_hidden_states=True, **options)
    name = f"{side}_hidden_states" if loaded.kind == "seq2seq" else "hidden_states"
    return [pool(h[0].double()).numpy() for h in output[name]]


def expected(loaded, states):
    """(l, n, p) under the readout hf, and the last block's output where transformers has it."""
    side = next(s.side for s in loaded.stacks if s.name == states.stack)
    rows = [hidden_states(loaded, ids, side) for ids in states.token_ids]
    every = np.stack([np.stack(row) for row in rows], axis=1)
    if loaded.source in NO_EMBEDDING:
        return np.concatenate([every[:-2], every[-1:]]), every[-2]
    return every[1:], None


@pytest.mark.skipif(not hasattr(tf, "Gemma4TextConfig"), reason="newer than this transformers")
def test_blocks_that_share_keys_show_every_token(tiny_text):
    """Gemma 4 cuts what enters them to the tokens whose logits are asked for."""
    kinds = ["sliding_attention", "full_attention"] * 3
    config = tf.Gemma4TextConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=6, head_dim=8,
        num_attention_heads=2, num_key_value_heads=1, num_kv_shared_layers=2, layer_types=kinds,
        vocab_size_per_layer_input=64, hidden_size_per_layer_input=8, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    words = tiny_text.tokenizer(frame="causal")
    loaded = wrap_model(tf.Gemma4ForCausalLM(config), words)
    states = observe(loaded, PROBES)
    found = np.stack([states.at(key) for key in states.keys("hf")])
    assert found == pytest.approx(expected(loaded, states)[0], abs=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_hf_is_what_transformers_returns(subject, name):
    if name == "modernbert" and FOUR:
        pytest.skip("its last hidden state is before the norm in transformers 4")
    loaded = subject(name)
    for stack in loaded.stacks:
        states = observe(loaded, PROBES, batch_size=5, stack=stack.name)
        found = np.stack([states.at(key) for key in states.keys("hf")])
        wanted, last = expected(loaded, states)
        assert found == pytest.approx(wanted, abs=1e-4)
        if last is not None:
            assert states.at(states.keys("residual")[-1]) == pytest.approx(last, abs=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_batches_and_padding_change_nothing(subject, name):
    loaded = subject(name)
    one, all_at_once = (observe(loaded, PROBES, batch_size=size) for size in (1, 12))
    for readout in one.pooled:
        assert all_at_once.pooled[readout] == pytest.approx(one.pooled[readout], abs=1e-4)


@pytest.mark.parametrize(("pooling", "place"), [("first", 0), ("last", -1)])
@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_the_state_of_one_token(subject, name, pooling, place):
    loaded = subject(name)
    states = observe(loaded, PROBES, batch_size=5, pooling=pooling)
    side = next(s.side for s in loaded.stacks if s.name == states.stack)
    found = np.stack([states.at(key) for key in states.keys("hf")])
    for probe, ids in enumerate(states.token_ids):
        every = hidden_states(loaded, ids, side, pool=lambda h: h[place])
        assert found[:, probe] == pytest.approx(np.stack(every[1:]), abs=1e-4)


def test_normed_is_the_final_norm_at_every_depth(subject):
    loaded = subject("llama")
    heard = {}
    loaded.model.model.layers[0].register_forward_hook(
        lambda _, __, out: heard.update(out=out if torch.is_tensor(out) else out[0])
    )
    states = observe(loaded, PROBES, batch_size=12)
    normed = loaded.model.model.norm(heard["out"]).detach().double()
    order = sorted(range(12), key=lambda i: (-len(states.token_ids[i]), i))
    for row, probe in enumerate(order):
        size = len(states.token_ids[probe])
        mean = normed[row, :size].mean(0).numpy()
        assert states.pooled["normed"][0, probe] == pytest.approx(mean, rel=1e-9)


def test_where_the_readouts_meet(subject):
    states = observe(subject("llama"), PROBES)
    hf, residual, normed = (states.keys(r) for r in ("hf", "residual", "normed"))
    assert hf[:-1] == residual[:-1]
    assert hf[-1] == normed[-1] == ("normed", 2)
    assert residual[-1] == ("residual", 2)
    assert not set(normed) & set(residual)


def test_without_a_final_norm_all_readouts_are_one(subject):
    states = observe(subject("bert"), PROBES)
    assert states.keys("hf") == states.keys("residual") == states.keys("normed")
    assert set(states.pooled) == {"residual"}


FED = ("the decoder reads each probe too, shifted right after its start token",)


@pytest.mark.parametrize(
    ("name", "stack", "notes"), [("t5", "decoder.block", FED), ("llama", "model.layers", ())]
)
def test_the_last_stack_is_followed_and_how_a_decoder_was_fed_noted(subject, name, stack, notes):
    states = observe(subject(name), PROBES)
    assert (states.stack, states.notes) == (stack, notes)


def test_the_model_is_left_as_it_was(subject, tuning):
    loaded = subject("llama")
    with tuning.untouched(loaded):
        observe(loaded, PROBES)
    loaded.model.model.norm.weight = torch.nn.Parameter(torch.ones(31))
    with pytest.raises(RuntimeError, match="size"), tuning.untouched(loaded):
        observe(loaded, PROBES)


def test_no_head_is_run(subject):
    loaded = subject("llama")
    loaded.model.lm_head.weight = torch.nn.Parameter(torch.ones(97, 1))  # would not multiply
    assert observe(loaded, PROBES).blocks == 3


def test_long_probes_are_cut_and_noted(subject):
    states = observe(subject("llama"), PROBES, max_length=4)
    assert max(map(len, states.token_ids)) == 4
    cut = sum(len(text.split()) > 3 for text in TEXTS)
    assert states.notes == (f"{cut} probes were cut at 4 tokens",)


def test_stacks_are_known_by_name(subject):
    with pytest.raises(UnknownNameError, match=r"did you mean 'model\.layers'"):
        observe(subject("llama"), PROBES, stack="model.layer")


def test_probes_need_text(subject):
    with pytest.raises(DataError, match="too few probes: '7'; expected at least 8 texts"):
        make_probe_set(TEXTS[:7], source="words")
    with pytest.raises(DataError, match="probe without a token: ''; expected text in every probe"):
        observe(subject("llama"), make_probe_set([*TEXTS, " "], source="words"))


def test_probes_must_fit_the_positions(subject):
    long = make_probe_set([*TEXTS, " ".join(["w1"] * 70)], source="words")
    with pytest.raises(BadInputError, match=r"positions: '71'; .* 64 tokens; try: --max-length 64"):
        observe(subject("gpt2"), long, max_length=80)


def test_a_stack_that_text_does_not_reach_is_refused(subject):
    loaded = subject("llama")
    layers = loaded.model.model.layers
    loaded.model.model.config.num_hidden_layers = 2  # the body runs so many of its blocks
    with pytest.raises(
        ModelError, match=r"^1 of 3 blocks do not run on text alone.*'model\.layers\.2'"
    ):
        observe(loaded, PROBES)
    assert len(layers) == 3


def test_out_of_memory_says_what_to_make_smaller(subject):
    loaded = subject("llama")

    def full(*_):
        raise torch.OutOfMemoryError

    loaded.model.model.layers[1].register_forward_pre_hook(full)
    with pytest.raises(LayerwiseError, match="out of memory; try: a smaller --batch-size"):
        observe(loaded, PROBES)


def test_the_same_texts_have_the_same_hash():
    assert make_probe_set(TEXTS, source="a").sha256 == PROBES.sha256
    assert make_probe_set(TEXTS[::-1], source="a").sha256 != PROBES.sha256
