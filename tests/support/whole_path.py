"""A tiny model of any type, from its card to the profile of what training it changed.

Each type goes in a process of its own, so that neither a crash nor a hang stops the others:
``python -m support.whole_path [TYPE ...]`` prints a line for each.
"""

import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import torch
import transformers
from dataclasses import replace
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer

import layerwise as lw
from layerwise.capture import capture, plan
from layerwise.seeds import torch_generator
from layerwise.data.text import Example, TextData
from layerwise.errors import LayerwiseError
from layerwise.models.load import load
from layerwise.objectives import resolve
from layerwise.objectives.forward import accepted
from layerwise.placement.verify import apply
from support import architectures as zoo

COLOURS = "red green blue cyan pink gold grey teal".split()
TEXTS = tuple(Example(f"{n} {c} birds{' sing' * (i % 3)}.") for i, (n, c) in enumerate(
    (n, c) for n in ("two", "ten") for c in COLOURS[:4]))  # fmt: skip
DATA = TextData("text", "0" * 64, TEXTS, {}, len(TEXTS))
SECONDS = 60


def one_step(adapted, objective, batch):
    """Train one step of plain SGD; every adapter must get a gradient, and the loss be its own."""
    losses = objective.losses(adapted, batch)
    losses.mean().backward()
    ups = {n: p for n, p in adapted.named_parameters() if "lora_B" in n}
    dead = [n for n, p in ups.items() if p.grad is None or not p.grad.abs().max() > 0]
    assert not dead, f"{len(dead)} of {len(ups)} adapters get no gradient, the first {dead[0]}"
    with torch.no_grad():
        for p in ups.values():
            p -= p.grad / p.grad.norm() * 0.3
    adapted.zero_grad()


def first_row(batch):
    """The first example, without its padding."""
    width = (
        int(batch.token_mask[0].sum())
        if batch.decoder_mask is None
        else int(batch.inputs["attention_mask"][0].sum())
    )
    cut = lambda x, w: None if x is None else x[:1, :w]  # noqa: E731
    inputs = {k: cut(v, None if "decoder" in k else width) for k, v in batch.inputs.items()}
    if batch.decoder_mask is None and batch.labels is not None:
        labels = batch.labels[:1, :width]
    else:
        labels = cut(batch.labels, None)
    return replace(
        batch,
        inputs=inputs,
        labels=labels,
        token_mask=batch.token_mask[:1, :width],
        index=batch.index[:1],
        decoder_mask=cut(batch.decoder_mask, None),
        pooled=None if batch.pooled is None else batch.pooled[:1],
    )


def check_gradients(base, batch, objective):
    """Hold the card's adapter gradients against those of PEFT's adapters with the same A."""
    loaded, one = load(base, device="cpu"), first_row(batch)
    stats = capture(loaded, objective, [one], plan(["gradients"], rank=4))
    names = [m.name for m in stats.modules]
    model = get_peft_model(loaded.model, LoraConfig(r=4, lora_alpha=4, target_modules=names))
    layers = {n: m for n, m in model.get_base_model().named_modules() if isinstance(m, LoraLayer)}
    for name in names:
        wide = layers[name].lora_A["default"].weight
        drawn = torch.randn(wide.shape, generator=torch_generator(0, "lora_A", name))
        wide.data = drawn / wide.shape[1] ** 0.5
    with objective.prepare(loaded.model):
        objective.losses(model.eval(), one).sum().backward()
    got = {n: layers[n].lora_B["default"].weight.grad for n in names}
    wrong = []
    for m, name in enumerate(names):
        expected = torch.zeros(4) if got[name] is None else got[name].square().sum(0)
        found = torch.as_tensor(stats.column_energy[0, m], dtype=torch.float32)
        if not torch.allclose(found, expected, rtol=2e-3, atol=1e-12):
            wrong.append(f"{name}: {found[0]:.3e} for {expected[0]:.3e}")
    assert not wrong, f"{len(wrong)} of {len(names)} modules' gradients differ: {wrong[0]}"
    return [f"{len(names)} modules"]


def check_entropy(base, batch, objective, card):
    """Hold the entropy against attention weights that the model itself returns under eager."""
    loaded, one = load(base, device="cpu"), first_row(batch)
    stats = capture(loaded, objective, [one], plan(["entropy"], exact_entropy=True))
    heard = [] if stats.entropy is None else stats.entropy[0]
    got = sum(x == x for x in heard)
    inner = loaded.model
    try:
        inner.set_attn_implementation("eager")
        with torch.no_grad(), objective.prepare(inner):
            out = inner(**one.inputs, **accepted(inner, use_cache=False), output_attentions=True)
    except Exception as error:  # noqa: BLE001
        return [f"entropy {got}/{len(card.layers)} unchecked ({type(error).__name__})"]
    maps = []
    for key in ("encoder_attentions", "decoder_attentions", "attentions"):
        maps += [a for a in (out.get(key) or ()) if a is not None]
    square = [a for a in maps if a.ndim == 4]
    if not square:
        return [f"entropy {got}/{len(card.layers)} of no maps"]
    expected = []
    for a in square:
        p = a[0].double()
        expected.append(float(-(p * p.clamp_min(1e-300).log()).sum(-1).mean(0).sum()))
    if len(heard) == len(expected):
        expected = [e for e, h in zip(expected, heard) if h == h]
    elif len(heard) == 1:
        expected = [sum(expected) / len(expected)]
    elif len(heard) and len(expected) % len(heard) == 0:
        expected = [e for e, h in zip(expected[:: len(expected) // len(heard)], heard) if h == h]
    found = [float(x) for x in heard if x == x]
    if len(found) != len(expected):
        return [f"entropy {got}/{len(card.layers)} of {len(expected)} maps"]
    off = max(abs(f - e) / abs(e) for f, e in zip(found, expected))
    return [f"entropy {got}/{len(card.layers)} off {off:.0e}" + (" WRONG" if off > 1e-3 else "")]


def logits(model, objective, batch):
    with torch.no_grad():
        return objective.losses(model, batch)


def walk(name, kind, folder):
    """Take the model the whole way; return what there is to say of it."""
    base, said = str(folder / "base"), []
    model = zoo.tiny_model(name, kind)
    model.save_pretrained(base)
    zoo.tokenizer().save_pretrained(base)
    del model
    TIMES = [time.time()]
    T = lambda x: (
        TIMES.append(time.time()),
        os.environ.get("TIME") and print(x, round(TIMES[-1] - TIMES[-2], 2)),
    )
    card = lw.card(base, DATA, batch_size=3, device="cpu")
    said.append(f"{sum(s.blocks for s in card.model.stacks)} blocks")
    T("before placed = lw.")
    placed = lw.place(card, policy="all")
    loaded = load(base, device="cpu")
    objective = resolve("auto", loaded=loaded, data=DATA)
    batches = objective.batches_for(loaded, DATA, batch_size=3, max_length=64, seed=0).batches
    T("before said += chec")
    said += check_gradients(base, batches[0], objective)
    T("before said += chec")
    said += check_entropy(base, batches[0], objective, card)
    T("before with objecti")
    with objective.prepare(loaded.model):
        adapted = apply(placed, loaded.model)
        one_step(adapted, objective, batches[0])
        adapted.eval()
        after = logits(adapted, objective, batches[0])
    T("before adapted.save")
    adapted.save_pretrained(str(folder / "adapter"))
    fresh = load(base, device="cpu")
    with objective.prepare(fresh.model):
        before = logits(fresh.model, objective, batches[0])
        again = logits(
            PeftModel.from_pretrained(fresh.model, folder / "adapter").eval(), objective, batches[0]
        )
    assert not torch.allclose(before, after, rtol=1e-6, atol=0), "the step changed nothing"
    assert torch.allclose(again, after, rtol=1e-4, atol=1e-5), (
        "an adapter read back says other things"
    )
    T("before tuned =")
    tuned = lw.tune(
        base, DATA, condition="lora", steps=2, batch_size=4, device="cpu", out=folder / "tuned"
    )
    T("before made =")
    made = lw.profile(base, tuned, batch_size=32, probes=[e.text for e in TEXTS])
    T("before assert made")
    assert made is not None
    return ", ".join(said)


def outcome(name, kind):
    """Return ``whole``, ``refused``, ``unbuilt`` or ``fell``, and why."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    try:
        zoo.tiny_model(name, kind)
    except Exception as error:  # noqa: BLE001 - whatever a configuration makes happen
        return "unbuilt", f"{type(error).__name__}: {error}"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        try:
            return "whole", walk(name, kind, Path(folder))
        except LayerwiseError as error:
            where = [
                f.name
                for f in traceback.extract_tb(error.__traceback__)
                if "whole_path" in f.filename
            ]
            at = [
                f"{f.lineno}"
                for f in traceback.extract_tb(error.__traceback__)
                if "whole_path" in f.filename
            ][-1]
            return "refused", f"@{at} {error}"
        except BaseException as error:  # noqa: BLE001 - this is what is counted
            frames = [
                f"{Path(f.filename).stem}:{f.lineno}"
                for f in traceback.extract_tb(error.__traceback__)
            ]
            return (
                "fell",
                f"{type(error).__name__}: {error} [{' '.join(frames[1:3] + frames[-3:])}]",
            )


def apart(name, kind, seconds=SECONDS):
    """Give the outcome from a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer if False else reader)
        signal.alarm(seconds)
        null = os.open(os.devnull, os.O_WRONLY)
        if not os.environ.get("SHOW"):
            os.dup2(null, 1)
            os.dup2(null, 2)
        what, why = outcome(name, kind)
        os.write(writer, f"{what}\n{' '.join(why.split())}".encode()[:60000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    os.waitpid(child, 0)
    return tuple(said.split("\n", 1)) if said else ("fell", "the process died or took too long")


def main(names):
    for each in [
        ("llama", "causal"),
        ("bert", "masked"),
        ("t5", "seq2seq"),
        ("llava", "image-text"),
    ]:
        print(each, *outcome(*each))  # What all share is imported once.
    popular = "llama qwen2 qwen3 qwen3_moe qwen3_5 gemma2 gemma3 gemma3_text mistral mixtral phi3 gpt_oss deepseek_v3 olmo2 olmo3 smollm3 granite glm4 mamba mamba2 jamba nemotron lfm2 roberta modernbert bart mt5 whisper qwen2_vl qwen2_5_vl qwen3_vl idefics3 smolvlm internvl mllama".split()
    for name, kind in sorted(zoo.types(), key=lambda x: x[0] not in popular):
        if names and name not in names and f"{name}/{kind}" not in names:
            continue
        start = time.time()
        what, why = apart(name, kind)
        print(f"{name:26} {kind:10} {what:8} {time.time() - start:5.1f}s {why[:300]}", flush=True)


if __name__ == "__main__":
    main(set(sys.argv[1:]))
