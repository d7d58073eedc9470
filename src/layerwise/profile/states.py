"""The hidden states of a model on the probes, mean over tokens, at every block."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from layerwise.capture.restore import frozen
from layerwise.card.describe import model_info
from layerwise.card.record import ModelInfo
from layerwise.data.batches import Row, by_length, input_tensors, text_rows
from layerwise.data.text import Example, TextData
from layerwise.errors import BadInputError, DataError, ModelError, UnknownNameError
from layerwise.models.load import LoadedModel
from layerwise.models.parts import final_norm, owner, position_limit
from layerwise.models.stack import Stack, find_stacks
from layerwise.objectives.forward import accepted, body, without_adapter
from layerwise.objectives.seq2seq import decoder_start
from layerwise.profile.record import Readout
from layerwise.progress import Progress, silent
from layerwise.resources import enough_memory
from layerwise.shapes import Tensor

__all__ = ["MAX_LENGTH", "Probes", "States", "observe", "probes_of"]

#: Tokens of a probe that are kept.
MAX_LENGTH = 64
#: Probes below this many cannot be split into halves that vary.
FEWEST = 8


@dataclass(frozen=True)
class Probes:
    """The inputs that both models are shown."""

    source: str
    sha256: str
    texts: tuple[str, ...]
    notes: tuple[str, ...] = ()


def probes_of(texts: Sequence[str], *, source: str, notes: Sequence[str] = ()) -> Probes:
    """`texts` as probes, with their hash.

    Raises:
        DataError: There are too few of them.
    """
    if len(texts) < FEWEST:
        msg = "too few probes"
        raise DataError(msg, value=len(texts), expected=f"at least {FEWEST} texts")
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return Probes(source, digest, tuple(texts), tuple(notes))


@dataclass(frozen=True)
class States:
    """What one model made of the probes: what a profile is computed from, and cheap to keep.

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
        """How many blocks the stack has."""
        return len(self.pooled["residual"])

    @property
    def width(self) -> int:
        """How many features a hidden state has."""
        return int(self.pooled["residual"].shape[-1])

    def keys(self, readout: Readout) -> tuple[tuple[str, int], ...]:
        """For each block, where in `pooled` the readout finds it: equal keys are equal states.

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
        """The states under a key of `keys`, (n, p)."""
        name, block = key
        return np.asarray(self.pooled[name][block])


@dataclass
class _Pool:
    """Takes each block's output as it comes and keeps its mean over the tokens that count."""

    norm: nn.Module | None
    weights: Tensor | None = None
    found: dict[str, dict[int, Tensor]] = field(default_factory=dict)

    def start(self, mask: Tensor) -> None:
        """Begin a batch whose tokens count by `mask`, (n, t)."""
        counted = mask.double()
        self.weights = (counted / counted.sum(1, keepdim=True))[:, None, :]
        self.found = {"residual": {}}
        if self.norm is not None:
            self.found["normed"] = {}

    def hear(self, block: int, _: nn.Module, __: Any, output: Any) -> None:
        """A block's forward hook."""
        hidden = _hidden(output)
        self._keep("residual", block, hidden)
        if self.norm is not None:
            self._keep("normed", block, self.norm(hidden))

    def _keep(self, name: str, block: int, hidden: Tensor) -> None:
        if self.weights is not None:
            self.found[name][block] = (self.weights @ hidden.double())[:, 0]

    def finish(self) -> dict[str, np.ndarray]:
        """The batch's means, (l, n, p) each."""
        return {
            name: torch.stack([means[b] for b in sorted(means)]).cpu().numpy()
            for name, means in self.found.items()
        }


def _hidden(output: Any) -> Tensor:
    """The hidden states in a block's output: itself, or the first tensor in it."""
    while not isinstance(output, Tensor):
        output = next(iter(output.values() if isinstance(output, Mapping) else output))
    return output


def observe(
    loaded: LoadedModel,
    probes: Probes,
    *,
    stack: str | None = None,
    batch_size: int = 32,
    max_length: int = MAX_LENGTH,
    title: str = "reading the probes",
    progress: Progress = silent,
) -> States:
    """The states of every block of one stack of `loaded` on `probes`, from one forward.

    No head is run, no gradient kept; the model is left as it was, also when this raises. An
    encoder-decoder's decoder reads the probe too, shifted right after its start token (ours).

    Args:
        loaded: The model.
        probes: The inputs.
        stack: The stack to follow; the last that reads text where None: a decoder's, if any.
        batch_size: Probes in a forward.
        max_length: Tokens of a probe that are kept.
        title: What `progress` is told.
        progress: Hears how far the forward is.

    Raises:
        UnknownNameError: There is no such stack.
        BadInputError: The probes are longer than the model's positions reach.
        DataError: A probe has no tokens.
        ModelError: The stack does not run on text.
        LayerwiseError: The device ran out of memory.
    """
    loaded = _unwrapped(loaded)
    followed = _followed(loaded, stack)
    rows, notes = _rows(loaded, probes, max_length)
    pool = _Pool(final_norm(loaded.model, followed))
    pooled: dict[str, np.ndarray] = {}
    groups = by_length(rows, batch_size=batch_size)
    with (
        enough_memory("a smaller --batch-size or --max-length"),
        _heard(loaded, followed, pool),
        torch.no_grad(),
    ):
        for group in progress(groups, title, len(groups)):
            _forward(loaded, group, pool, followed)
            which = [row.index for row in group]
            for name, means in pool.finish().items():
                if name not in pooled:
                    pooled[name] = np.empty((len(means), len(rows), means.shape[-1]))
                pooled[name][:, which] = means
    if _has_encoder(loaded):
        notes.append("the decoder reads each probe too, shifted right after its start token")
    return States(
        model=model_info(loaded),
        stack=followed.name,
        token_ids=tuple(tuple(row.ids) for row in rows),
        pooled=pooled,
        notes=(*loaded.notes, *notes),
    )


def _unwrapped(loaded: LoadedModel) -> LoadedModel:
    """The model inside an adapter's wrapper, adapters and all, with the base's own names."""
    inner = without_adapter(loaded.model)
    if inner is loaded.model:
        return loaded
    return replace(loaded, model=inner, stacks=find_stacks(inner))


def _followed(loaded: LoadedModel, name: str | None) -> Stack:
    """The stack called `name`, or the last one that reads text."""
    known = {stack.name: stack for stack in loaded.stacks}
    if name is None:
        texts = [stack for stack in loaded.stacks if _reads_text(loaded.model, stack)]
        return (texts or list(loaded.stacks))[-1]
    if name not in known:
        kind = "stack"
        raise UnknownNameError(kind, value=name, known=known)
    return known[name]


def _reads_text(model: nn.Module, stack: Stack) -> bool:
    held = owner(model, stack.name)
    try:
        return held is not None and isinstance(held[1].get_input_embeddings(), nn.Embedding)
    except NotImplementedError:  # A tower that embeds something other than tokens.
        return False


def _rows(loaded: LoadedModel, probes: Probes, max_length: int) -> tuple[list[Row], list[str]]:
    """The probes as tokens, in their order, and a note where some were cut."""
    examples = tuple(Example(text) for text in probes.texts)
    data = TextData(probes.source, probes.sha256, examples, {}, len(examples))
    made = text_rows(loaded.tokenizer, data, max_length=max_length)
    rows = sorted(made.rows, key=lambda row: row.index)
    if len(rows) < len(examples):
        there = {row.index for row in rows}
        first = next(i for i in range(len(examples)) if i not in there)
        msg = "probe without a token"
        raise DataError(msg, value=probes.texts[first], expected="text in every probe")
    limit, longest = position_limit(loaded.model), max(len(row.ids) for row in rows)
    if limit is not None and longest > limit:
        msg = "probes longer than the model's positions"
        expected = f"at most {limit} tokens"
        raise BadInputError(msg, value=longest, expected=expected, hint=f"--max-length {limit}")
    cut = made.truncated
    return rows, [f"{cut} probes were cut at {max_length} tokens"] if cut else []


@contextmanager
def _heard(loaded: LoadedModel, stack: Stack, pool: _Pool) -> Iterator[None]:
    """The model in eval mode with `pool` at every block of `stack`; as it was after."""
    with frozen(loaded.model, training=False, seed=0), ExitStack() as handles:
        for block, name in enumerate(stack.blocks):
            module = loaded.model.get_submodule(name)
            handle = module.register_forward_hook(partial(pool.hear, block))
            handles.callback(handle.remove)
        yield


def _forward(loaded: LoadedModel, group: Sequence[Row], pool: _Pool, stack: Stack) -> None:
    """One batch through the model without its head.

    Raises:
        ModelError: Not every block of the stack ran, each once.
    """
    inner = body(loaded.model)
    device = next(inner.parameters()).device
    inputs = input_tensors(group, pad=loaded.tokenizer.pad_token_id)
    pool.start(inputs["attention_mask"].bool().to(device))
    if _has_encoder(loaded):
        inputs |= _decoder_inputs(loaded, inputs["input_ids"], inputs["attention_mask"])
    given = accepted(inner, **inputs, use_cache=False)
    inner(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in given.items()})
    if len(pool.found["residual"]) < len(stack.blocks):
        msg = "stack that does not run on text alone"
        others = ", ".join(s.name for s in loaded.stacks if s is not stack)
        hint = f"--stack {others}" if others else ""
        raise ModelError(msg, value=stack.name, expected="blocks that all run", hint=hint)


def _has_encoder(loaded: LoadedModel) -> bool:
    return any(stack.side == "encoder" for stack in loaded.stacks)


def _decoder_inputs(loaded: LoadedModel, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The same text for the decoder, shifted right after its start token."""
    start = decoder_start(loaded.model)
    if start is None:
        start = loaded.tokenizer.pad_token_id
    first = torch.full_like(ids[:, :1], start)
    return {
        "decoder_input_ids": torch.cat([first, ids[:, :-1]], 1),
        "decoder_attention_mask": mask,
    }
