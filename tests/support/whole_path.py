"""A tiny model of any type, from its card to the profile of what training changed.

Every number that can be had in another way is held against that on the way. In `main`, each type
goes in a process of its own, so that neither a crash nor a hang stops the others.
"""

import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from math import isnan
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer

import layerwise as lw
from layerwise.capture import capture, plan
from layerwise.data.text import Example, TextData
from layerwise.errors import LayerwiseError
from layerwise.models.load import load
from layerwise.objectives import resolve
from layerwise.objectives.forward import accepted
from layerwise.placement.verify import apply
from layerwise.seeds import torch_generator
from support import architectures
from support.batches import row

TEXTS = tuple(f"{n} {c} birds{' sing' * (len(c) % 3)}." for n in ("two", "ten")
              for c in ("red", "green", "blue", "cyan"))  # fmt: skip
DATA = TextData("text", "0" * 64, tuple(map(Example, TEXTS)), {}, len(TEXTS))
SECONDS = 240
LARGEST = 150_000_000
HEAD = """# Architectures

Every causal, masked, sequence-to-sequence and image-text type of transformers {version}, made tiny
with random weights, on text: {said}. `whole` is card, placement, adapters, a training step, PEFT's
own round trip, tune and profile, with adapter gradients held against PEFT's and attention entropy
against the maps that the model returns in eager. `refused` is one line that says why. `unbuilt`
could not be made tiny here, which says nothing of real ones. `fell` is a fault, of ours or of a
library.

Made by `PYTHONPATH=tests python -m support.whole_path ROWS.tsv`, which goes on where it stopped, of
these states of the code (rows): {made}. Do not edit.
"""
PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"


def check_gradients(base, batch, objective):
    """Hold the card's adapter gradients against those of PEFT's own adapters with the same A."""
    loaded, one = load(base, device="cpu"), row(batch, 0)
    stats = capture(loaded, objective, [one], plan(["gradients"], rank=4))
    names = [module.name for module in stats.modules]
    model = get_peft_model(loaded.model, LoraConfig(r=4, lora_alpha=4, target_modules=names))
    layers = {n: m for n, m in model.get_base_model().named_modules() if isinstance(m, LoraLayer)}
    for name in names:
        down = layers[name].lora_A["default"].weight
        drawn = torch.randn(down.shape, generator=torch_generator(0, "lora_A", name))
        down.data = drawn / down.shape[1] ** 0.5
    objective.losses(model.eval(), one).sum().backward()
    for m, name in enumerate(names):
        expected = layers[name].lora_B["default"].weight.grad.square().sum(0)
        found = torch.as_tensor(stats.column_energy[0, m, :4], dtype=torch.float32)
        assert torch.allclose(found, expected, rtol=2e-3, atol=1e-12), f"gradient of {name}"
    return len(names)


def entropies(model, batch):
    """The entropy of each map of attention that `model` returns under eager, summed over tokens."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        said = model(**batch.inputs, **accepted(model, use_cache=False), output_attentions=True)
    keys = ("encoder_attentions", "decoder_attentions", "attentions")
    maps = [p for key in keys for p in said.get(key) or () if isinstance(p, torch.Tensor)]
    width = {x.shape[1] for x in batch.inputs.values()}
    maps = [p[0].double() for p in maps if p.ndim == 4]
    maps = [p for p in maps if p.shape[1] == p.shape[2] and p.shape[1] in width]
    lacks = [(1 - p.sum(-1, keepdim=True)).clamp_min(0) for p in maps]
    if any("sinks" in n for n, _ in model.named_parameters()) and all(
        x.max() < 1e-6 for x in lacks
    ):
        return []  # A sink of which the maps say nothing; see tests/oracle/test_capture.py.
    wholes = [torch.cat([p, lack], -1) for p, lack in zip(maps, lacks, strict=True)]
    return [float(torch.special.entr(p).sum(-1).mean(0).sum()) for p in wholes]


def check_entropy(base, batch, objective):
    """Hold attention entropy against the maps that the model returns; say of how many blocks."""
    loaded, one = load(base, device="cpu"), row(batch, 0)
    stats = capture(loaded, objective, [one], plan(["entropy"], exact_entropy=True))
    heard = [] if stats.entropy is None else list(stats.entropy[0])
    found = [x for x in heard if not isnan(x)]
    if not found:
        return 0
    try:
        maps = entropies(loaded.model, one)
    except (ValueError, RuntimeError):  # Some cannot return them; then nothing is held against it.
        return len(found)
    if len(heard) == 1:  # One block that runs often.
        maps = [sum(maps) / len(maps)]
    every = max(1, len(maps) // len(heard))
    maps = maps[::every] if len(maps) >= len(heard) else maps
    if len(maps) == len(heard):
        maps = [m for m, h in zip(maps, heard, strict=True) if not isnan(h)]
    if len(maps) == len(found):
        for block, (x, y) in enumerate(zip(found, maps, strict=True)):
            assert abs(x - y) <= 1e-4 * abs(y), f"entropy {x} of map {block}, which has {y}"
    return len(found)


def check_round_trip(base, batch, objective, card, folder):
    """Train the placed adapters for a step, save them, and hear PEFT alone say the same of them."""
    loaded = load(base, device="cpu")
    adapted = apply(lw.place(card, policy="all"), loaded.model)
    objective.losses(adapted, batch).mean().backward()
    ups = {n: p for n, p in adapted.named_parameters() if "lora_B" in n}
    still = [n for n, p in ups.items() if p.grad is None or not p.grad.any()]
    assert not still, f"no gradient for {still[0]}"
    with torch.no_grad():
        before = objective.losses(adapted.eval(), batch)
        for up in ups.values():
            up.sub_(up.grad / up.grad.norm() * 0.3)
        after = objective.losses(adapted, batch)
        adapted.save_pretrained(folder)
        read = PeftModel.from_pretrained(load(base, device="cpu").model, folder).eval()
        again = objective.losses(read, batch)
    assert not torch.allclose(before, after, rtol=1e-6, atol=0), "the step changed nothing"
    assert torch.allclose(again, after, rtol=1e-4, atol=1e-5), (
        "an adapter read back by PEFT differs"
    )


def walk(name, kind, folder):
    """Take the model the whole way; return its blocks, adapted modules and blocks with entropy."""
    base = str(folder / "base")
    architectures.tiny_model(name, kind).save_pretrained(base)
    architectures.tokenizer().save_pretrained(base)
    card = lw.card(base, DATA, batch_size=3, device="cpu")
    loaded = load(base, device="cpu")
    objective = resolve("auto", loaded=loaded, data=DATA)
    batch = objective.batches_for(loaded, DATA, batch_size=3, max_length=64, seed=0).batches[0]
    modules = check_gradients(base, batch, objective)
    heard = check_entropy(base, batch, objective)
    check_round_trip(base, batch, objective, card, folder / "adapter")
    tuned = lw.tune(base, DATA, condition="lora", steps=2, batch_size=4, device="cpu")
    profile = lw.profile(base, tuned, probes=TEXTS)
    assert profile is not None
    return f"{len(card.layers)} blocks, {modules} modules, entropy of {heard}"


def outcome(name, kind):
    """Return ``whole``, ``refused``, ``unbuilt`` or ``fell``, and what there is to say."""
    transformers.logging.set_verbosity_error()
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        try:
            size = sum(p.numel() for p in architectures.tiny_model(name, kind).parameters())
            if size > LARGEST:
                return "unbuilt", f"{size:,} parameters are left: no rule knows its sizes"
        except Exception as error:  # noqa: BLE001 - whatever a configuration makes happen
            return "unbuilt", architectures.BEYOND.get(name) or f"{type(error).__name__}: {error}"
        try:
            return "whole", walk(name, kind, Path(folder))
        except LayerwiseError as error:
            value = "" if folder in str(error.value) else error.value  # Another one each time.
            return "refused", error.what + (f": {value}" if value else "")
        except Exception as error:  # noqa: BLE001 - this is what is counted
            return "fell", f"{type(error).__name__}: {error}"


def apart(name, kind, *, seconds=SECONDS):
    """Give the outcome from a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.alarm(seconds)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        said = outcome(name, kind)
        os.write(writer, "\n".join(" ".join(part.split()) for part in said).encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    os.waitpid(child, 0)
    return tuple(said.split("\n", 1)) if said else ("fell", f"it died, or took over {seconds} s")


def page(rows):
    """The outcomes as a page of the documentation."""
    counts, states = Counter(row[2] for row in rows), Counter(row[4] for row in rows)
    said = ", ".join(f"{counts[what]} {what}" for what in ("whole", "refused", "unbuilt", "fell"))
    made = ", ".join(f"{state} ({n})" for state, n in states.most_common())
    head = HEAD.format(version=transformers.__version__, said=said, made=made)
    lines = [head, "| type | kind | outcome | what there is to say |", "|---|---|---|---|"]
    lines += [f"| {n} | {k} | {what} | {cell(why)} |" for n, k, what, why, _ in sorted(rows)]
    return "\n".join(lines) + "\n"


def cell(text, longest=160):
    text = text.replace("|", "\\|").replace("<", "&lt;")
    return text if len(text) <= longest else text[: longest - 1] + "…"


def main(kept, names):
    """Go on with the rows in the file `kept`, by type and kind, and write the page when all are in.

    Of `names` only theirs are made, anew.
    """
    torch.set_num_threads(1)  # A fork of a process with others would wait for them for ever.
    outcome("llama", "causal")  # What all need is imported once.
    state = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()
    lines = kept.read_text().splitlines() if kept.exists() else []
    rows = {tuple(row[:2]): row for row in (line.split("\t") for line in lines)}
    for each in architectures.types():
        if names & {each[0], "/".join(each)} or not (names or each in rows):
            rows[each] = (*each, *apart(*each), state)
            with kept.open("a") as stream:
                stream.write("\t".join(rows[each]) + "\n")
    if len(rows) == len(architectures.types()):
        PAGE.write_text(page(rows.values()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), set(sys.argv[2:]))
