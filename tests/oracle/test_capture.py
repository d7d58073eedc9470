"""One fused pass against slow independent ways to the same numbers."""

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch.overrides import TorchFunctionMode

from layerwise.capture import capture, plan
from layerwise.models.parts import embeddings
from layerwise.models.targets import resolve_targets
from layerwise.objectives import OBJECTIVES
from layerwise.seeds import torch_generator
from layerwise.signals import spectrum
from layerwise.signals.inputs import (
    activation_energy,
    effective_rank,
    effective_rank_uncentred,
)
from layerwise.signals.projected import norm_budget, projected_residual
from layerwise.signals.residual import (
    coherence,
    coherence_floor,
    residual_norm,
    residual_norm_interval,
)
from layerwise.signals.saturation import activation_gradient, attention_entropy
from support import architectures
from support.batches import row

CAUSAL = ["llama", "gpt2", "opt", "gpt_neox", "codegen", "gemma3", "qwen3_moe", "mamba", "rwkv"]
EVERY = [*CAUSAL, "mamba2", "bert", "modernbert", "t5", "bart"]
RANK = 3


def objective(name):
    return OBJECTIVES["masked-lm" if name in {"bert", "modernbert"} else "causal-lm"]


def measure(tiny, name, batches, **options):
    loaded = tiny.build(name)
    return loaded, capture(loaded, objective(name), batches, plan(rank=RANK, **options))


@cache
def measured(tiny, name):
    """`measure` of the usual batch, once for all tests that only read it."""
    return measure(tiny, name, [tiny.batch(name)])


def first_weights(target, draw):
    """Return the A of a target that the pass has as its `draw`."""
    purpose = f"lora_A {draw}" if draw else "lora_A"
    a = torch.randn((RANK, target.in_features), generator=torch_generator(0, purpose, target.name))
    return a / target.in_features**0.5


def peft_gradients(tiny, name, example, draw=0):
    """B gradients of real LoRA modules with the pass's A and B = 0, on one example alone."""
    loaded = tiny.build(name)
    targets = resolve_targets(loaded.model, loaded.stacks, None)
    names = [t.name for t in targets]
    model = inject_adapter_in_model(
        LoraConfig(r=RANK, lora_alpha=RANK, target_modules=names, lora_dropout=0.0,
                   fan_in_fan_out=targets[0].transposed), loaded.model
    )  # fmt: skip
    for t in targets:
        weight = model.get_submodule(t.name).lora_A["default"].weight
        weight.data.copy_(first_weights(t, draw))
    objective(name).losses(model, example).sum().backward()
    weights = {t.name: model.get_submodule(t.name).lora_B["default"].weight for t in targets}
    return {name: weight.grad.double() for name, weight in weights.items()
            if weight.grad is not None}  # fmt: skip


@cache
def references(tiny, name, draw=0):
    """`peft_gradients` on each example of the usual batch."""
    batch = tiny.batch(name)
    return [peft_gradients(tiny, name, row(batch, i), draw) for i in range(len(batch))]


@pytest.mark.parametrize("name", EVERY)
def test_adapter_gradients_are_those_of_peft_for_each_example(tiny, name):
    _, stats = measured(tiny, name)
    rows = {m.name: i for i, m in enumerate(stats.modules)}
    reference = references(tiny, name)
    gram, scaled = np.zeros_like(stats.gram), np.zeros_like(stats.gram)
    for module, i in rows.items():
        gradients = torch.stack([r[module] for r in reference])
        columns = gradients.square().sum(1).numpy()
        near = {"rtol": 2e-5, "atol": max(1e-10, 1e-6 * columns.max())}
        np.testing.assert_allclose(stats.column_energy[:, i, :RANK], columns, **near)
        mean = gradients.mean(0).square().sum(0).numpy()
        np.testing.assert_allclose(stats.mean_column_energy[i, :RANK], mean, **near)
        flat = gradients.flatten(1)
        gram[stats.modules[i].row] += (flat @ flat.T).numpy()
        scaled[stats.modules[i].row] += adam_products(flat.numpy())
    scale = np.sqrt(np.einsum("lii,ljj->lij", gram, gram))
    assert np.abs(stats.gram - gram).max() <= 1e-5 * scale.max()
    assert (np.abs(stats.gram - gram) <= 1e-5 * scale).all()
    # Rounding beside a coordinate that is next to nothing is a large part of its own size.
    assert np.abs(stats.adam_gram - scaled).max() <= 1e-3 * scaled.max()


def adam_products(rows):
    """Inner products of coordinates divided by the root mean square of their own gradient."""
    products = np.zeros((len(rows), len(rows)))
    for column in rows.T:
        if (size := np.sqrt(np.mean(column**2))) > 0:
            products += np.outer(column, column) / size
    return products


@pytest.mark.parametrize("name", EVERY)
def test_residual_norm_and_coherence_follow_their_formula(tiny, name):
    """Every module's own sigma, from features gathered one example at a time."""
    batch = tiny.batch(name)
    loaded, stats = measured(tiny, name)
    features = module_inputs(loaded, name, batch, [m.name for m in stats.modules])
    every = [references(tiny, name, draw) for draw in range(stats.draws)]
    squares, means, floors, budgets, pulls = np.zeros((5, len(stats.blocks)))
    targets = {t.name: t for t in resolve_targets(loaded.model, loaded.stacks, None)}
    for m in stats.modules:
        rows, n = features[m.name], len(batch)
        sigma = (rows**2).sum() / rows.size
        norms = np.array([[r[m.name].norm().item() for r in reference] for reference in every])
        mean = [sum(r[m.name] for r in reference) / n for reference in every]
        squares[m.row] += np.mean(norms) ** 2 / sigma
        means[m.row] += np.mean([each.norm().item() for each in mean]) ** 2 / sigma
        floors[m.row] += np.mean(np.sqrt((norms**2).sum(1)) / n) ** 2 / sigma
        phi = rows @ first_weights(targets[m.name], 0).double().numpy().T
        covariance, h = phi.T @ phi / len(phi), mean[0].numpy()
        pull = np.trace(h @ np.linalg.solve(covariance, h.T))
        pulls[m.row] += pull
        budgets[m.row] += pull / np.linalg.eigvalsh(covariance)[-1]
    np.testing.assert_allclose(residual_norm(stats), np.sqrt(squares), rtol=1e-5)
    np.testing.assert_allclose(coherence(stats), np.sqrt(means / squares), rtol=1e-5)
    np.testing.assert_allclose(coherence_floor(stats), np.sqrt(floors / squares), rtol=1e-5)
    np.testing.assert_allclose(projected_residual(stats), pulls, rtol=1e-3)
    np.testing.assert_allclose(norm_budget(stats), np.sqrt(budgets), rtol=1e-3)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "t5"])
def test_many_draws_come_to_the_closed_form(tiny, name):
    """E_A ||grad_B||^2 = r / d ||sum_t delta_t a_t^T||_F^2, the last the weight's own gradient."""
    batch = tiny.batch(name)
    draws = replace(plan(["gradients"], rank=8), draws=64)
    stats = capture(tiny.build(name), objective(name), [batch], draws)
    model, total = tiny.build(name).model, 0.0
    for i in range(len(batch)):
        model.zero_grad()
        objective(name).losses(model, row(batch, i)).sum().backward()
        for m, module in enumerate(stats.modules):
            own = model.get_submodule(module.name).weight.grad
            wanted = 8 / module.in_features * own.double().square().sum().item()
            found = stats.column_energy[i, m].sum() / 64
            # At most two in the root of the 512 rows, where the gradient has rank one.
            assert found == pytest.approx(wanted, rel=5 * np.sqrt(2 / 512))
            total += wanted
    assert stats.column_energy.sum() / 64 == pytest.approx(total, rel=0.03)


def test_cards_at_other_seeds_agree_within_their_intervals(tiny):
    """The truth over all draws of A lies in 95 % of the intervals, of which examples are a part."""
    loaded, batches, found = tiny.build("llama"), [tiny.batch("llama")], []
    for seed in range(30):
        stats = capture(loaded, objective("llama"), batches, plan(["gradients"], seed=seed))
        found.append(residual_norm_interval(stats))
    truth = np.mean([value for value, _, _ in found], axis=0)
    held = [(low <= truth) & (truth <= high) for _, low, high in found]
    assert np.mean(held) >= 0.93


def module_inputs(loaded, name, batch, modules):
    """The counted tokens' features at each module's input, (tokens, d), by hooks on single rows."""
    seen = {module: [] for module in modules}
    for i in range(len(batch)):
        single = row(batch, i)
        handles = []
        for module in modules:
            mask = single.token_mask[0]

            def keep(_, args, module=module, mask=mask):
                flat = args[0].reshape(-1, args[0].shape[-1])
                seen[module].append(flat[mask].detach().double().numpy())

            handles.append(loaded.model.get_submodule(module).register_forward_pre_hook(keep))
        with torch.no_grad():
            objective(name).losses(loaded.model, single)
        for handle in handles:
            handle.remove()
    return {module: np.concatenate(rows) for module, rows in seen.items()}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("n", [2, 12], ids=["fewer rows than features", "more rows"])
def test_effective_rank_and_energy_are_numpys_on_the_full_features(tiny, name, n):
    batch = tiny.batch(name, n=n)
    loaded, stats = measure(tiny, name, [batch])
    features = module_inputs(loaded, name, batch, [m.name for m in stats.modules])
    ranks, energies, uncentred = ([[] for _ in stats.blocks] for _ in range(3))
    for m in stats.modules:
        rows = features[m.name]
        values = np.linalg.eigvalsh(np.cov(rows.T, bias=True))
        ranks[m.row].append(spectrum.effective_rank(np.maximum(values, 0)))
        values = np.linalg.eigvalsh(rows.T @ rows / len(rows))
        uncentred[m.row].append(spectrum.effective_rank(np.maximum(values, 0)))
        energies[m.row].append((rows**2).mean())
    found, wanted = effective_rank_uncentred(stats), [np.mean(x) for x in uncentred]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    expected = [np.mean(x) for x in ranks]
    np.testing.assert_allclose(effective_rank(stats), expected, rtol=1e-4)
    np.testing.assert_allclose(activation_energy(stats), [np.mean(x) for x in energies], rtol=1e-5)


ATTENTIVE = [n for n in EVERY if n not in {"mamba", "mamba2", "rwkv"}]


def eager_entropies(tiny, name, batch):
    """Mean entropy of eager attention's rows over counted tokens and heads, by block."""
    loaded = tiny.build(name, attention="eager")
    sums, count = None, 0
    with torch.no_grad():
        for i in range(len(batch)):
            single = row(batch, i)
            out = loaded.model(**single.inputs, output_attentions=True)
            maps = (
                [*out.encoder_attentions, *out.decoder_attentions]
                if name in tiny.SEQ2SEQ
                else out.attentions
            )
            rows = torch.stack([
                torch.special.entr(a[0].double()).sum(-1).mean(0)[single.token_mask[0]].sum()
                for a in maps
            ])  # fmt: skip
            sums = rows if sums is None else sums + rows
            count += int(single.token_mask.sum())
    return (sums / count).numpy()


@pytest.mark.parametrize("name", ATTENTIVE)
def test_exact_entropy_is_eager_attentions(tiny, name):
    batch = tiny.batch(name)
    _, stats = measure(tiny, name, [batch], exact_entropy=True)
    expected = eager_entropies(tiny, name, batch)
    entropy, error = attention_entropy(stats)
    np.testing.assert_allclose(entropy, expected, atol=1e-5)
    assert (error == 0).all()


@pytest.mark.parametrize("name", ["llama", "bert", "t5"])
def test_sampled_entropy_is_within_its_stated_interval(tiny, name):
    """99 % intervals over many seeds: at least 97 of 100 must hold the exact value."""
    batch = tiny.batch(name, n=8, longest=60)
    expected = eager_entropies(tiny, name, batch)
    held = []
    for seed in range(25):
        _, stats = measure(tiny, name, [batch], needs=["entropy"], seed=seed)
        entropy, error = attention_entropy(stats)
        assert (error > 0).all()
        held.append(np.abs(entropy - expected) <= error)
    assert np.mean(held) >= 0.97


@pytest.mark.parametrize("name", ["mamba", "mamba2", "rwkv"])
def test_models_without_attention_say_so(tiny, name):
    _, stats = measured(tiny, name)
    assert stats.entropy is None
    assert "attention" in stats.absent["entropy"]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("readout", ["hf", "residual"])
def test_activation_gradient_is_retain_grad_on_hidden_states(tiny, name, readout):
    batch = tiny.batch(name)
    _, stats = measure(tiny, name, [batch], readout=readout)
    expected = np.mean([retained(tiny, name, row(batch, i), readout) for i in
                        range(len(batch))], axis=0)  # fmt: skip
    np.testing.assert_allclose(activation_gradient(stats), expected, rtol=1e-5)


def retained(tiny, name, single, readout):
    """Norms over counted tokens of the gradient at each block's output, one example."""
    loaded = tiny.build(name)
    for parameter in loaded.model.parameters():
        parameter.requires_grad_(False)
    for module in embeddings(loaded.model):
        module.register_forward_hook(
            lambda _, __, out: out.requires_grad_() if out.is_leaf else None
        )
    kept = []
    if readout == "hf":
        handles = []
        losses, states = hidden_states(loaded, name, single)
        kept = states
    else:
        handles = [
            loaded.model.get_submodule(block).register_forward_hook(
                lambda _, __, out: kept.append(out[0] if isinstance(out, tuple) else out)
            )
            for stack in loaded.stacks
            for block in stack.blocks
        ]
        losses = objective(name).losses(loaded.model, single)
    gradients = torch.autograd.grad(losses.sum(), kept)
    for handle in handles:
        handle.remove()
    mask = single.token_mask[0]
    return [g[0][mask].norm().item() for g in gradients]


def hidden_states(loaded, name, single):
    """The loss and transformers' own hidden states after each block."""
    found = {}
    original = loaded.model.forward

    def listening(*args, **kwargs):
        found["out"] = original(*args, **{**kwargs, "output_hidden_states": True})
        return found["out"]

    loaded.model.forward = listening
    losses = objective(name).losses(loaded.model, single)
    out = found["out"]
    if name in {"t5", "bart"}:
        return losses, [*out.encoder_hidden_states[1:], *out.decoder_hidden_states[1:]]
    if name in {"mamba", "mamba2", "rwkv"}:  # no embedding entry, and one after the final norm
        blocks = len(loaded.stacks[0].blocks)
        return losses, [*out.hidden_states[: blocks - 1], out.hidden_states[-1]]
    return losses, list(out.hidden_states[1:])


class Rows(TorchFunctionMode):
    """Every softmax over words inside, and the log of each sum that a sink is held against."""

    def __init__(self):
        super().__init__()
        self.softmax, self.logsumexp = [], []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        heard = getattr(self, getattr(function, "__name__", ""), None)
        if isinstance(heard, list):
            heard.append(made)
        return made


@pytest.mark.parametrize(
    "name", ["gpt_oss", "flint", "granite_swa", "inkling2_text", "mimo_v2_flash", "deepseek_v4"]
)
def test_entropy_of_attention_with_a_sink_is_of_the_whole_softmax(name):
    """A sink's share is one outcome more, whether learned, drawn from the word or put in after."""
    loaded, batch = architectures.told(name, n=1, t=14)
    model = loaded.model
    sinks = [p for n, p in model.named_parameters() if re.search(r"sinks$|sink_proj", n)]
    for sink in sinks:
        torch.nn.init.normal_(sink, mean=1.0).requires_grad_(False)
    stats = capture(loaded, OBJECTIVES["causal-lm"], [batch], plan(["entropy"], exact_entropy=True))
    with Rows() as rows, torch.no_grad():
        model(**batch.inputs, use_cache=False)
    maps = [p[0].double() for p in rows.softmax if p.ndim == 4 and p.shape[3] >= 14 == p.shape[2]]
    if name == "granite_swa":  # What the sink leaves is multiplied with the words' own softmax.
        kept = [(x[0] - sink[:, None]).sigmoid().double()[..., None]
                for x, sink in zip(rows.logsumexp, sinks, strict=True)]  # fmt: skip
        maps = [torch.cat([p * k, 1 - k], -1) for p, k in zip(maps, kept, strict=True)]
    slow = [float(torch.special.entr(p).sum(-1).mean(0).sum()) for p in maps]
    np.testing.assert_allclose(stats.entropy[0], slow, rtol=1e-5)
