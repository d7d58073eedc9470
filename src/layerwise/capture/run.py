"""The pass itself: batches through a frozen model, `LayerStats` out."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from layerwise import distributed
from layerwise.capture.attention import intercepted, sample_rows
from layerwise.capture.clock import clock_for
from layerwise.capture.hooks import WHOLE, BatchRecord, Listener, Site, Wiring, attached
from layerwise.capture.memory import peak_memory_bytes, reset_peak_memory
from layerwise.capture.plan import Plan
from layerwise.capture.restore import frozen, weights_shown
from layerwise.capture.result import to_stats
from layerwise.capture.stats import LayerStats
from layerwise.capture.sums import PassSums, batch_columns, entropy_columns
from layerwise.capture.tokens import floating
from layerwise.compat.torch import eagerly
from layerwise.data.batches import Batch
from layerwise.errors import ModelError, NonFiniteError, is_bug, one_line
from layerwise.models.linear import plain_parts
from layerwise.models.load import LoadedModel
from layerwise.models.parts import embeddings, final_norm, is_compiled, reads_tokens
from layerwise.models.stack import BlockRef, all_refs
from layerwise.models.targets import Target, resolve_targets
from layerwise.objectives.record import Objective
from layerwise.progress import Progress, silent
from layerwise.seeds import derive, torch_generator
from layerwise.shapes import Tensor

_HEAD = "the head, after the last block"


@dataclass(frozen=True)
class CaptureSetup:
    """What is measured: the model taken apart, and how its parts are heard."""

    loaded: LoadedModel
    objective: Objective
    plan: Plan
    blocks: tuple[BlockRef, ...]
    sides: tuple[str, ...]
    targets: tuple[Target, ...]
    sites: tuple[Site, ...]
    wiring: Wiring
    implementation: str | None
    shows_weights: bool
    absent: Mapping[str, str]
    weights: frozenset[int]


def capture(
    loaded: LoadedModel,
    objective: Objective,
    batches: Sequence[Batch],
    plan: Plan,
    *,
    progress: Progress = silent,
) -> LayerStats:
    """Return the statistics that `plan` asks for, of `loaded` on `batches`, in one pass.

    Under torch.distributed each process takes every world-size-th batch and all hold the same
    result. The model is left as it was, also when this raises.

    Raises:
        NonFiniteError: A loss, activation or gradient is NaN or infinite.
        ModelError: Nothing that was to be measured ran.
        UnknownNameError: A target names no module.
    """
    model, device = loaded.model, loaded.device
    every = sorted({int(i) for batch in batches for i in batch.index})
    kept = frozenset(every[: plan.gram_examples])  # The first examples, on any sharding.
    numbered = list(enumerate(batches))[distributed.rank() :: distributed.world_size()]
    resettable = reset_peak_memory(device)
    start, sums = time.perf_counter(), PassSums()
    with (
        frozen(model, training=objective.stochastic, seed=plan.seed),
        objective.prepare(model) as changed,
        eagerly() if is_compiled(model) else nullcontext(),
    ):
        subject = _subject(loaded, objective, plan, shows=any(batch.seen for batch in batches))
        listener = Listener(sites=subject.sites, needs=plan.needs, clock=clock_for(device))
        heard = intercepted(model, subject.implementation, listener.hear_attention)
        square = [b for b in batches if any(len(b) == x.shape[1] for x in b.inputs.values())]
        if square:
            listener.tokens_first = _tokens_first(subject, square[0].to(device))
        with attached(listener, subject.wiring), heard:
            for number, batch in progress(numbered, "measuring", len(numbered)):
                _measure(subject, listener, sums, batch.to(device), number=number, kept=kept)
        sums.take_inputs(listener)
        if "entropy" in plan.needs and subject.shows_weights:
            _weigh(subject, sums, [batch for _, batch in numbered])
    seconds, peak = time.perf_counter() - start, peak_memory_bytes(device)
    gathered = distributed.all_gather((sums, seconds, peak))
    unsure = () if resettable else ("peak memory is of the whole process, not of the pass alone",)
    return to_stats(
        reduce(PassSums.merge, (part for part, _, _ in gathered)),
        plan,
        blocks=subject.blocks,
        targets=subject.targets,
        absent=subject.absent,
        seconds=max(s for _, s, _ in gathered),
        peak_memory_bytes=max(p for _, _, p in gathered),
        notes=(*loaded.notes, *changed, *unsure),
    )


def _subject(loaded: LoadedModel, objective: Objective, plan: Plan, *, shows: bool) -> CaptureSetup:
    """Return what is measured; where batches show pictures, blocks that read no tokens are not."""
    model, stacks = loaded.model, loaded.stacks
    targets = resolve_targets(model, stacks, plan.targets) if "inputs" in plan.needs else ()
    implementation = getattr(model.config, "_attn_implementation", None)
    listens, known = "entropy" in plan.needs, implementation in {None, "eager", "sdpa"}
    weighs = listens and implementation in {None, "eager"} and not objective.stochastic
    outputs, absent = _outputs(loaded, plan)
    if listens and objective.stochastic:
        absent["entropy"] = "attention weights come with dropout under this objective"
    elif not known:
        absent["entropy"] = f"attention runs in {implementation}; load the model in sdpa"
    else:
        absent["entropy"] = "the model shows no attention weights"
    return CaptureSetup(
        loaded=loaded,
        objective=objective,
        plan=plan,
        blocks=all_refs(stacks),
        sides=tuple(s.side for s in stacks for _ in s.blocks),
        targets=targets,
        sites=tuple(_site(model, target, plan) for target in targets),
        wiring=Wiring(
            blocks=[model.get_submodule(name) for s in stacks for name in s.blocks],
            outputs=outputs,
            embeddings=[m for m in embeddings(model) if not shows or isinstance(m, nn.Embedding)],
            weigh_attention=weighs,
            unheard=frozenset(
                row
                for row, ref in enumerate(all_refs(stacks))
                if shows and not reads_tokens(model, ref.name)
            ),
        ),
        implementation=implementation if listens and known else None,
        shows_weights=known and not objective.stochastic,
        absent=absent,
        weights=frozenset(
            part.untyped_storage().data_ptr()
            for t in chain(model.parameters(), model.buffers())
            for part in plain_parts(t)
        ),
    )


def _site(model: nn.Module, target: Target, plan: Plan) -> Site:
    """Give a target its simulated adapters' A: Gaussian / sqrt(d_in), by seed, name and draw.

    The draws lie below each other; the first is the one whose gradients are kept.
    """
    module = model.get_submodule(target.name)
    device = next(chain(module.parameters(), module.buffers())).device
    size = (plan.rank, target.in_features)
    names = ("lora_A", *((f"lora_A {draw}") for draw in range(1, plan.draws)))
    drawn = [torch.randn(size, generator=torch_generator(plan.seed, n, target.name)) for n in names]
    normal = torch.cat(drawn)
    sketch = None
    if target.out_features > plan.sketch_width:
        size = (plan.sketch_width, target.out_features)
        wide = torch.randn(size, generator=torch_generator(plan.seed, "sketch", target.name))
        sketch = (wide / plan.sketch_width**0.5).to(device)
    return Site(
        name=target.name,
        row=target.row,
        module=module,
        projection=(normal / target.in_features**0.5).to(device),
        rank=plan.rank,
        sketch=sketch,
    )


def _outputs(loaded: LoadedModel, plan: Plan) -> tuple[dict[int, nn.Module], dict[str, str]]:
    """Return the module whose output stands for each block under the readout, and what has none.

    Transformers' last hidden state is after the final norm, so under ``hf`` the final norm stands
    for the last block of a stack that has one.
    """
    if plan.readout == "normed":
        reason = "only the last block's output passes the final norm, so others have no gradient"
        return {}, {"outputs": reason}
    outputs: dict[int, nn.Module] = {}
    for stack in loaded.stacks:
        for name in stack.blocks:
            outputs[len(outputs)] = loaded.model.get_submodule(name)
        norm = final_norm(loaded.model, stack)
        if plan.readout == "hf" and norm is not None:
            outputs[len(outputs) - 1] = norm
    return outputs, {}


def _tokens_first(subject: CaptureSetup, batch: Batch) -> frozenset[nn.Module]:
    """Return the modules that take tokens first, from a forward without the last of `batch`.

    Where there are as many examples as tokens, sizes alone do not tell the two axes apart.
    """
    batch = batch.without_last()
    n = len(batch)
    lengths = {x.shape[1] for x in batch.inputs.values() if x.ndim > 1}
    found: set[nn.Module] = set()

    def look(module: nn.Module, args: Any, output: Any) -> None:
        for x in (next(floating(args), None), next(floating(output), None)):
            if x is not None and any(tuple(x.shape[:2]) == (t, n) for t in lengths):
                found.add(module)

    with ExitStack() as stack, torch.no_grad():
        for module in (*subject.wiring.blocks, *(site.module for site in subject.sites)):
            stack.callback(module.register_forward_hook(look).remove)
        if n:
            _losses(subject, batch)
    return frozenset(found)


def _weigh(subject: CaptureSetup, sums: PassSums, batches: Sequence[Batch]) -> None:
    """Add to `sums` the entropy of blocks that attend by code of their own, in a second forward.

    Under eager attention, modules hand out their weights; where none does, one batch is tried.
    """
    examples, model = sums.examples.result(), subject.loaded.model
    blocks, device = len(subject.blocks), subject.loaded.device
    ran = np.array([row in sums.runs for row in range(blocks)])
    if not batches or not np.isnan(examples["entropy"][:, ran]).all(0).any():
        return
    wiring = replace(subject.wiring, embeddings=(), outputs={}, weigh_attention=True)
    listener = Listener(sites=(), needs=frozenset({"entropy"}), clock=clock_for(device))
    with weights_shown(model), attached(listener, wiring), torch.no_grad():
        for batch in batches:
            heard, keys = _heard(subject, batch.to(device), frozenset())
            listener.start(heard)
            try:
                _losses(subject, batch.to(device))
            finally:
                listener.stop()
            if not heard.entropy:
                return
            sums.weighed.update(entropy_columns(heard, blocks=blocks), key=keys)


def _measure(
    subject: CaptureSetup,
    listener: Listener,
    sums: PassSums,
    batch: Batch,
    *,
    number: int,
    kept: frozenset[int],
) -> None:
    """Run one batch forward and backward, and add what was heard to `sums`."""
    heard, keys = _heard(subject, batch, kept)
    listener.start(heard)
    # Dropout draws by batch, not by what ran before: sharded runs see the same masks.
    torch.manual_seed(derive(subject.plan.seed, "dropout", number))
    try:
        listener.mark("forward start", WHOLE)
        with saved_tensors_hooks(partial(listener.hear_saved, subject.weights), lambda x: x):
            losses = _losses(subject, batch)
        listener.mark("forward end", WHOLE)
        listener.mark("backward start", WHOLE)
        _check_forward(subject, heard, losses, number)
        torch.autograd.backward(losses.sum())
        listener.mark("backward end", WHOLE)
        listener.take_waiting()
    finally:
        listener.stop()
    _check_backward(subject, heard, number)
    blocks = len(subject.blocks)
    sums.add_examples(heard, losses, keys, sites=subject.sites, blocks=blocks)
    tokens = batch.token_mask.numel()
    columns = batch_columns(heard, listener.clock, blocks=blocks, tokens=tokens)
    sums.batches.update(columns, key=np.array([number]))


def _losses(subject: CaptureSetup, batch: Batch) -> Tensor:
    """Return the losses of `batch`; what the model asks for beside text, as a `ModelError`."""
    try:
        return subject.objective.losses(subject.loaded.model, batch)
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        if is_bug(error):
            raise
        message = f"model that does not run on text alone ({one_line(error, limit=160)})"
        raise ModelError(message, value=subject.loaded.source) from error


def _heard(
    subject: CaptureSetup, batch: Batch, kept: frozenset[int]
) -> tuple[BatchRecord, np.ndarray]:
    """Return an empty `BatchRecord` for `batch`, and the keys of its examples."""
    index = batch.index.cpu()
    keys, fold = torch.unique(index, return_inverse=True)
    if len(keys) == len(index):
        keys, fold = index, torch.arange(len(index))
    masks = {"encoder": batch.token_mask, "decoder": batch.token_mask}
    if batch.decoder_mask is not None:
        masks["decoder"] = batch.decoder_mask
    sides, plan = dict(enumerate(subject.sides)), subject.plan
    drawn = {}
    if "entropy" in plan.needs:
        drawn = {
            side: sample_rows(masks[side], batch.index, rows=plan.entropy_rows, seed=plan.seed)
            for side in set(subject.sides)
        }
    device = batch.token_mask.device
    heard = BatchRecord(
        masks={row: masks[side] for row, side in sides.items()},
        fold=fold.to(device),
        examples=len(keys),
        keep=torch.tensor(
            [i for i, k in enumerate(keys) if int(k) in kept], dtype=torch.long, device=device
        ),
        query_rows={row: drawn[side] for row, side in sides.items() if drawn},
        crossed=batch.token_mask if batch.decoder_mask is not None else None,
    )
    return heard, keys.numpy()


def _check_forward(subject: CaptureSetup, heard: BatchRecord, losses: Tensor, number: int) -> None:
    """Stop at the first block, from the input, whose output is not finite, or at the loss."""
    bad = [row for row in sorted(heard.checks) if not bool(heard.checks[row].isfinite())]
    if bad or not bool(losses.isfinite().all()):
        what, block = ("activation", subject.blocks[bad[0]].name) if bad else ("loss", _HEAD)
        raise _non_finite(number, block, what=what)


def _check_backward(subject: CaptureSetup, heard: BatchRecord, number: int) -> None:
    """Stop at the first block, from the output, whose gradient is not finite."""
    energies = [*heard.gradient_energy.items()]
    energies += [(subject.sites[m].row, e) for m, e in heard.column_energy.items()]
    bad = [row for row, energy in energies if not bool(energy.isfinite().all())]
    if bad:
        raise _non_finite(number, subject.blocks[max(bad)].name, what="gradient")


def _non_finite(number: int, block: str, *, what: str) -> NonFiniteError:
    return NonFiniteError(
        what=f"non-finite {what}",
        value=f"batch {number}, block {block}",
        expected="finite numbers",
        hint="--dtype float32, or look at the examples of that batch",
    )
