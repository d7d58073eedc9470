"""The hidden states of a model on the probes, mean over tokens, at every block."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from layerwise.capture.restore import frozen
from layerwise.capture.tokens import by_token, floating
from layerwise.card.describe import model_info
from layerwise.card.record import ModelInfo
from layerwise.compat.torch import FSDPModule, eagerly, widened
from layerwise.data.batches import Row, by_length, input_tensors, text_rows
from layerwise.data.text import Example, TextData
from layerwise.errors import BadInputError, DataError, ModelError, UnknownNameError
from layerwise.models.load import LoadedModel, inside
from layerwise.models.parts import final_norm, is_compiled, position_limit, reads_tokens
from layerwise.models.stack import Stack
from layerwise.objectives.forward import accepted, body, decoder_start
from layerwise.options.groups import Pooling, Readout
from layerwise.progress import Progress, silent
from layerwise.resources import enough_memory
from layerwise.shapes import Tensor

#: Tokens of a probe that are kept.
MAX_LENGTH = 64
#: Probes below this many cannot be split into halves that vary.
FEWEST = 8


@dataclass(frozen=True)
class ProbeSet:
    """The inputs that both models are shown, with the hash of their texts."""

    source: str
    sha256: str
    texts: tuple[str, ...]
    notes: tuple[str, ...] = ()


def make_probe_set(texts: Sequence[str], *, source: str, notes: Sequence[str] = ()) -> ProbeSet:
    """Return `texts` as a probe set, with their hash.

    Raises:
        DataError: There are too few of them.
    """
    if len(texts) < FEWEST:
        msg = "too few probes"
        raise DataError(msg, value=len(texts), expected=f"at least {FEWEST} texts")
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return ProbeSet(source, digest, tuple(texts), tuple(notes))


@dataclass(frozen=True)
class States:
    """The hidden states of one model on the probes: what a profile is computed from.

    Attributes:
        model: The model.
        stack: The stack of blocks that was followed.
        token_ids: The tokens of each probe, as the model read them.
        pooled: Mean over a probe's tokens, (l, n, p) float64: ``residual``, the blocks' outputs,
            and, where the stack ends in a norm, ``normed``, those under that norm.
        notes: What was assumed on the way.
    """

    model: ModelInfo
    stack: str
    token_ids: tuple[tuple[int, ...], ...]
    pooled: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()

    @property
    def blocks(self) -> int:
        """Return how many blocks the stack has."""
        return len(self.pooled["residual"])

    def keys(self, readout: Readout) -> tuple[tuple[str, int], ...]:
        """Return where in `pooled` the readout finds each block: equal keys are equal states.

        What transformers returns as hidden states is the blocks' outputs, but the last of them
        after the final norm; without such a norm all three readouts are one.
        """
        normed = "normed" if "normed" in self.pooled else "residual"
        inner, last = {
            "hf": ("residual", normed),
            "residual": ("residual", "residual"),
            "normed": (normed, normed),
        }[readout]
        return (*((inner, i) for i in range(self.blocks - 1)), (last, self.blocks - 1))

    def at(self, key: tuple[str, int]) -> np.ndarray:
        """Return the states under a key of `keys`, (n, p)."""
        name, block = key
        return np.asarray(self.pooled[name][block])


def observe(
    loaded: LoadedModel,
    probes: ProbeSet,
    *,
    stack: str | None = None,
    batch_size: int = 32,
    max_length: int = MAX_LENGTH,
    title: str = "reading the probes",
    pooling: Pooling = "mean",
    progress: Progress = silent,
) -> States:
    """Return the states of every block of one stack of `loaded` on `probes`, from one forward.

    No head is run, no gradient kept; the model is left as it was, also when this raises. An
    encoder-decoder's decoder reads the probe too, shifted right after its start token (ours).
    Without a name, the last stack that reads text is followed: a decoder's, if any. A probe's state
    is the mean over its tokens, or that of the first ([CLS], where there is one) or of the last.

    Raises:
        UnknownNameError: There is no such stack.
        BadInputError: The probes are longer than the model's positions reach.
        DataError: A probe has no tokens.
        ModelError: The stack does not run on text.
        LayerwiseError: The device ran out of memory.
    """
    run = body(loaded.model)
    if isinstance(loaded.model, FSDPModule):
        run = loaded.model  # Its forward alone gathers the weights that lie outside blocks.
    loaded = inside(loaded)
    followed = _stack(loaded, stack)
    rows, notes = _rows(loaded, probes, max_length)
    pooled: dict[str, np.ndarray] = {}
    groups = _oblong(by_length(rows, batch_size=batch_size))
    with (
        enough_memory("a smaller --batch-size or --max-length"),
        frozen(loaded.model, training=False, seed=0),
        torch.no_grad(),
        _resharded(run),
        eagerly() if is_compiled(loaded.model) else nullcontext(),
    ):
        for group in progress(groups, title, len(groups)):
            for name, values in _pooled(loaded, run, group, followed, pooling=pooling).items():
                if name not in pooled:
                    pooled[name] = np.empty((len(values), len(rows), values.shape[-1]))
                pooled[name][:, [row.index for row in group]] = values
    if _has_encoder(loaded):
        notes.append("the decoder reads each probe too, shifted right after its start token")
    return States(
        model=model_info(loaded),
        stack=followed.name,
        token_ids=tuple(tuple(row.ids) for row in rows),
        pooled=pooled,
        notes=(*loaded.notes, *notes),
    )


def _stack(loaded: LoadedModel, name: str | None) -> Stack:
    """Return the stack called `name`, or the last one that reads text."""
    if name is None:
        texts = [stack for stack in loaded.stacks if reads_tokens(loaded.model, stack.name)]
        return (texts or list(loaded.stacks))[-1]
    known = {stack.name: stack for stack in loaded.stacks}
    if name not in known:
        raise UnknownNameError(what="stack", value=name, known=known)
    return known[name]


def _rows(loaded: LoadedModel, probes: ProbeSet, max_length: int) -> tuple[list[Row], list[str]]:
    """Return the probes as tokens, in their order, and a note where some were cut."""
    examples = tuple(Example(text) for text in probes.texts)
    data = TextData(probes.source, probes.sha256, examples, {}, len(examples))
    tokens = text_rows(loaded.tokenizer, data, max_length=max_length)
    rows = sorted(tokens.rows, key=lambda row: row.index)
    if len(rows) < len(examples):
        first = min(set(range(len(examples))) - {row.index for row in rows})
        msg = "probe without a token"
        raise DataError(msg, value=probes.texts[first], expected="text in every probe")
    limit, longest = position_limit(loaded.model), max(len(row.ids) for row in rows)
    if limit is not None and longest > limit:
        msg = "probes longer than the model's positions"
        expected = f"at most {limit} tokens"
        raise BadInputError(msg, value=longest, expected=expected, hint=f"--max-length {limit}")
    cut = tokens.truncated
    return rows, [f"{cut} probes were cut at {max_length} tokens"] if cut else []


def _oblong(groups: Sequence[Sequence[Row]]) -> list[Sequence[Row]]:
    """Part groups of as many rows as tokens, whose two axes could not be told by their sizes."""
    parted: list[Sequence[Row]] = []
    for group in groups:
        is_square = len(group) == max(len(row.ids) for row in group) > 1
        parted += [group[:-1], group[-1:]] if is_square else [group]
    return parted


def _has_encoder(loaded: LoadedModel) -> bool:
    return any(stack.side == "encoder" for stack in loaded.stacks)


@contextmanager
def _resharded(model: nn.Module) -> Iterator[None]:
    """Spread weights again that forwards inside have gathered."""
    try:
        yield
    finally:
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def _pooled(
    loaded: LoadedModel, run: nn.Module, group: Sequence[Row], stack: Stack, *, pooling: Pooling
) -> dict[str, np.ndarray]:
    """Return each block's output, pooled over the tokens of each row, (l, n, p), by readout.

    They pass by while `run` runs: the model without its head, or around it.
    """
    norm = final_norm(loaded.model, stack)
    pad = loaded.tokenizer.pad_token_id
    inputs = input_tensors(group, pad=pad)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    if _has_encoder(loaded):
        start = decoder_start(loaded.model)
        first = torch.full_like(ids[:, :1], pad if start is None else start)
        inputs["decoder_input_ids"] = torch.cat([first, ids[:, :-1]], 1)
        inputs["decoder_attention_mask"] = mask
    counted = mask.bool().to(loaded.device)
    if pooling != "mean":
        place = counted.cumsum(1)
        counted &= place == (1 if pooling == "first" else place[:, -1:])
    counted = widened(counted)
    weights = (counted / counted.sum(1, keepdim=True))[:, None, :]
    found: dict[str, dict[int, Tensor]] = {"residual": {}}

    def keep(block: int, _: nn.Module, __: Any, output: Any) -> None:
        hidden = next(floating(output))
        rows = by_token(hidden, *ids.shape)
        if rows is None:
            msg = f"block {stack.blocks[block]} with an output of shape"
            expected = f"a row for each of {ids.shape[1]} tokens of {ids.shape[0]} probes"
            raise ModelError(msg, value=tuple(hidden.shape), expected=expected)
        states = {"residual": rows}
        # Parallel streams are one state, side by side; the final norm is of what comes of them.
        if norm is not None and rows.shape[-1] == hidden.shape[-1]:
            states["normed"] = norm(rows)
        for name, values in states.items():
            found.setdefault(name, {})[block] = (weights @ widened(values))[:, 0]

    with ExitStack() as hooks:
        for block, name in enumerate(stack.blocks):
            module = loaded.model.get_submodule(name)
            hooks.callback(module.register_forward_hook(partial(keep, block)).remove)
        # Told a number, Gemma 4 cuts its blocks' states too.
        inputs["logits_to_keep"] = torch.tensor([ids.shape[1] - 1])
        on_device = {name: value.to(loaded.device) for name, value in inputs.items()}
        run(**accepted(run, **on_device, use_cache=False))
    silent = [name for block, name in enumerate(stack.blocks) if block not in found["residual"]]
    if silent:
        msg = f"{len(silent)} of {len(stack.blocks)} blocks do not run on text alone, the first"
        others = ", ".join(s.name for s in loaded.stacks if s is not stack)
        hint = f"--stack {others}" if others and len(silent) == len(stack.blocks) else ""
        raise ModelError(msg, value=silent[0], expected="a stack whose blocks all run", hint=hint)
    return {
        name: torch.stack([means[b] for b in sorted(means)]).cpu().numpy()
        for name, means in found.items()
    }
