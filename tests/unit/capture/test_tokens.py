"""Where tokens lie in what modules read and give, told by sizes and by what runs."""

import numpy as np
import pytest
import torch

from layerwise.capture import capture, plan
from layerwise.capture.tokens import by_token, hidden_in
from layerwise.objectives import OBJECTIVES
from support import architectures
from support.versions import since

N, T, D = 3, 5, 8
ROWS = torch.randn(N, T, D, generator=torch.Generator().manual_seed(0))
STREAMS = torch.randn(N, T, 4, D, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        (ROWS, ROWS),
        (ROWS.transpose(0, 1), ROWS),
        (ROWS.reshape(N * T, D), ROWS),
        (STREAMS, STREAMS.flatten(2)),
        (STREAMS.movedim(2, 0), STREAMS.flatten(2)),
        (STREAMS[:, :, :3].movedim(2, 0), STREAMS[:, :, :3].flatten(2)),  # As many as examples.
    ],
    ids=["usual", "tokens first", "flat", "streams last", "streams first", "as many streams"],
)
def test_rows_of_tokens_are_found_by_their_sizes(given, rows):
    assert torch.equal(by_token(given, N, T), rows)


def test_what_has_other_rows_has_none():
    assert by_token(torch.zeros(N, T + 1, D), N, T) is None
    assert by_token(torch.zeros(N, D), N, T) is None
    assert by_token(torch.zeros(N, 2 * T, D), N, T) is None


def test_the_last_axis_is_never_tokens():
    x = torch.randn(N, T, N)
    assert torch.equal(by_token(x, N, T), x)


def test_hidden_states_are_known_by_name_or_come_first():
    other = torch.zeros(2, 2, 2)
    assert hidden_in((other,), {"hidden_states": ROWS}) is ROWS
    assert hidden_in((torch.zeros(3), ROWS, other), {}) is ROWS
    assert hidden_in((torch.zeros(3),), {}) is None


def test_as_many_texts_as_tokens_are_not_mixed_up(tiny):
    """XLNet's blocks take tokens first: where there are as many examples, sizes do not tell."""
    loaded, square = architectures.told("xlnet", n=6, t=6)
    wanted, causal = plan(["gradients", "outputs"], rank=2), OBJECTIVES["causal-lm"]
    together = capture(loaded, causal, [square], wanted)
    apart = capture(loaded, causal, [tiny.row(square, i) for i in range(6)], wanted)
    np.testing.assert_allclose(together.column_energy, apart.column_energy, rtol=1e-3)
    np.testing.assert_allclose(together.gradient_energy, apart.gradient_energy, rtol=1e-3)


@pytest.mark.parametrize(
    "name", ["gemma3n_text", pytest.param("deepseek_v4", marks=since("5", "DeepSeek V4 is newer"))]
)
def test_parallel_streams_are_one_output(name):
    """The gradient of a block's output is that of all of its streams, as autograd has it."""
    loaded, batch = architectures.told(name, n=4, t=7)
    causal, found = OBJECTIVES["causal-lm"], []
    stats = capture(loaded, causal, [batch], plan(["outputs"]))

    def keep(_module, _args, output):
        output = output[0] if isinstance(output, tuple) else output
        output.register_hook(lambda g: found.append(float(g.double().square().sum())))

    for block in loaded.stacks[0].blocks:
        loaded.model.get_submodule(block).register_forward_hook(keep)
    causal.losses(loaded.model, batch).sum().backward()
    np.testing.assert_allclose(stats.gradient_energy.sum(0), found[::-1], rtol=1e-4)


def test_a_module_some_of_whose_calls_are_of_other_rows_is_left_out():
    loaded, batch = architectures.told("llama", n=2, t=5)
    block = loaded.model.model.layers[0]
    twice = block.self_attn.forward

    def forward(hidden_states, **kwargs):
        block.self_attn.o_proj(torch.cat([hidden_states, hidden_states], 1))
        return twice(hidden_states=hidden_states, **kwargs)

    block.self_attn.forward = forward
    stats = capture(loaded, OBJECTIVES["causal-lm"], [batch], plan(["gradients"]))
    names = [module.name for module in stats.modules]
    assert "model.layers.0.self_attn.o_proj" not in names
    assert len(names) == 15
    (note,) = (note for note in stats.notes if "left out" in note)
    assert "1 target modules ran on other rows than one for each token" in note
    assert "model.layers.0.self_attn.o_proj" in note


def test_a_second_forward_in_eager_leaves_the_model_as_it_was():
    loaded, batch = architectures.told("falcon", n=2, t=5)
    before = {name: dict(vars(m.config)) for name, m in loaded.model.named_modules()
              if hasattr(m, "config")}  # fmt: skip
    assert before[""]["_attn_implementation_internal"] == "sdpa"
    stats = capture(loaded, OBJECTIVES["causal-lm"], [batch], plan(["entropy"]))
    assert np.isfinite(stats.entropy).all()
    after = {name: dict(vars(loaded.model.get_submodule(name).config)) for name in before}
    assert after == before
