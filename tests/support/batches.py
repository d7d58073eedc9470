"""Models of the zoo whose signals can be told apart, and batches for them."""

from dataclasses import replace

import torch

from layerwise.data.batches import Batch, BatchSet
from layerwise.data.text import Example, TextData
from layerwise.models.load import LoadedModel
from layerwise.models.stack import find_stacks
from layerwise.objectives import OBJECTIVES, Objective
from support import zoo

FAMILIES = [
    "llama", "gpt2", "opt", "gpt_neox", "codegen", "gemma3", "qwen3_moe", "mamba", "mamba2",
    "rwkv", "bert", "modernbert", "t5", "bart",
]  # fmt: skip
VOCAB = zoo.MIDDLE.words
MASKED, SEQ2SEQ = {"bert", "modernbert"}, {"t5", "bart"}


def build(name, *, seed=0, attention=None):
    """A `LoadedModel` of the family `name`, its weights large enough to tell signals apart."""
    model = zoo.build(name, seed=seed)
    if attention is not None:
        model.set_attn_implementation(attention)
    if name == "rwkv":
        model.config.use_cache = False
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    return LoadedModel(
        model=model, tokenizer=None, source=name, kind=zoo.kind(name), stacks=find_stacks(model)
    )


def lengths(n, *, longest=12):
    return [longest - (3 * i) % 8 for i in range(n)]


def batch(name, *, n=4, first=0, seed=1, longest=12):
    """Right-padded random text for `name`, with a prompt of two tokens in causal rows' statistics.

    Row i depends on `first` + i alone, so that any split into batches has the same examples.
    """
    sizes = [lengths(first + n, longest=longest)[first + i] for i in range(n)]
    width = max(sizes)
    ids = torch.zeros(n, width, dtype=torch.long)
    mask = torch.zeros(n, width, dtype=torch.bool)
    for i, size in enumerate(sizes):
        generator = torch.Generator().manual_seed(seed * 1000 + first + i)
        ids[i, :size] = torch.randint(5, VOCAB, (size,), generator=generator)
        mask[i, :size] = True
    index = torch.arange(first, first + n)
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    if name in SEQ2SEQ:
        start = torch.zeros(n, 1, dtype=torch.long)
        return Batch(
            inputs={
                **inputs,
                "decoder_input_ids": torch.cat([start, ids[:, :-1]], 1),
                "decoder_attention_mask": mask.long(),
            },
            labels=ids.masked_fill(~mask, -100),
            token_mask=mask,
            index=index,
            decoder_mask=mask,
        )
    if name in MASKED:
        labels = torch.full_like(ids, -100)
        labels[:, 1:4] = ids[:, 1:4]
        return Batch(inputs=inputs, labels=labels, token_mask=mask, index=index)
    labels = torch.cat([ids[:, 1:], torch.zeros(n, 1, dtype=torch.long)], 1)
    inside = torch.cat([mask[:, 1:], torch.zeros(n, 1, dtype=torch.bool)], 1)
    counted = mask.clone()
    counted[:, :2] = False
    inside[:, 0] = False
    return Batch(
        inputs={"input_ids": ids} if name == "rwkv" else inputs,
        labels=labels.masked_fill(~inside, -100),
        token_mask=counted,
        index=index,
    )


def text(n):
    """`n` examples that stand for whatever the batches hold."""
    return TextData("text", "0" * 64, tuple(Example(str(i)) for i in range(n)), {}, n)


def objective_on(batch, *, base="causal-lm", **said):
    """The objective `base` whose batches are `batch` alone, whatever the text."""
    found = BatchSet((batch,), **({"truncated": 0, "dropped": 0, "tokens": 9} | said))
    known = OBJECTIVES[base]
    return Objective(known.name, known.kinds, lambda *_, **__: found, known.losses)


def row(batch, i):
    """Row `i` of `batch` alone, without padding."""
    read, spoken = batch.inputs.get("attention_mask"), batch.decoder_mask
    width = None if read is None else int(read[i].sum())
    ends = (width, width if spoken is None else int(spoken[i].sum()))
    cut = lambda x, end: None if x is None else x[i : i + 1, :end]  # noqa: E731
    return replace(
        batch,
        inputs={k: cut(x, ends["decoder" in k]) for k, x in batch.inputs.items()},
        labels=cut(batch.labels, ends[1]),
        token_mask=cut(batch.token_mask, width),
        index=batch.index[i : i + 1],
        decoder_mask=cut(spoken, ends[1]),
    )
