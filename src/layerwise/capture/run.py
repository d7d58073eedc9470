"""The pass itself: batches through a frozen model, `LayerStats` out."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from layerwise import distributed
from layerwise.capture.attention import QueryRows, intercepted, sample_rows
from layerwise.capture.clock import clock_for
from layerwise.capture.hooks import BatchRecord, Listener, Site, Wiring, attached
from layerwise.capture.memory import peak_memory_bytes, reset_peak_memory
from layerwise.capture.plan import Plan
from layerwise.capture.restore import frozen
from layerwise.capture.result import to_stats
from layerwise.capture.stats import BlockName, LayerStats
from layerwise.capture.sums import PassSums, Timing, batch_columns
from layerwise.data.batches import Batch
from layerwise.errors import NonFiniteError
from layerwise.models.load import LoadedModel
from layerwise.models.parts import embeddings, final_norm
from layerwise.models.targets import Target, resolve_targets
from layerwise.objectives.record import Objective
from layerwise.progress import Progress, silent
from layerwise.seeds import derive, torch_generator
from layerwise.shapes import Bool, Tensor

__all__ = ["capture"]

HEAD = "the head, after the last block"


@dataclass(frozen=True)
class CaptureSetup:
    """What is measured: the model taken apart, and how its parts are heard."""

    loaded: LoadedModel
    objective: Objective
    plan: Plan
    blocks: tuple[BlockName, ...]
    sides: tuple[str, ...]
    targets: tuple[Target, ...]
    sites: tuple[Site, ...]
    wiring: Wiring
    implementation: str | None
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
    device = next(loaded.model.parameters()).device
    kept = _kept_examples(batches, plan)
    numbered = list(enumerate(batches))[distributed.rank() :: distributed.world_size()]
    resettable = reset_peak_memory(device)
    start = time.perf_counter()
    with _borrowed(loaded, objective, plan) as (subject, listener, changed):
        sums = PassSums()
        for number, batch in progress(numbered, "measuring", len(numbered)):
            _measure(subject, listener, sums, batch.to(device), number=number, kept=kept)
        sums.take_inputs(listener)
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


def _kept_examples(batches: Sequence[Batch], plan: Plan) -> frozenset[int]:
    """Return the first examples, whose gradients make the Gram matrices on any sharding."""
    every = sorted({int(i) for batch in batches for i in batch.index})
    return frozenset(every[: plan.gram_examples])


@contextmanager
def _borrowed(
    loaded: LoadedModel, objective: Objective, plan: Plan
) -> Iterator[tuple[CaptureSetup, Listener, Sequence[str]]]:
    """Freeze, prepare and hear the model inside; on any exit it is what it was."""
    device = next(loaded.model.parameters()).device
    with (
        frozen(loaded.model, training=objective.stochastic, seed=plan.seed),
        objective.prepare(loaded.model) as changed,
    ):
        subject = _subject(loaded, objective, plan)
        listener = Listener(sites=subject.sites, needs=plan.needs, clock=clock_for(device))
        wanted = subject.implementation if "entropy" in plan.needs else None
        with attached(listener, subject.wiring), intercepted(wanted, listener.hear_attention):
            yield subject, listener, changed


def _subject(loaded: LoadedModel, objective: Objective, plan: Plan) -> CaptureSetup:
    model, stacks = loaded.model, loaded.stacks
    targets = resolve_targets(model, stacks, plan.targets) if "inputs" in plan.needs else ()
    implementation = getattr(model.config, "_attn_implementation", None)
    weighs = "entropy" in plan.needs and implementation in {None, "eager"}
    outputs, absent = _outputs(loaded, plan)
    if weighs and objective.stochastic:
        weighs = False
        absent["entropy"] = "attention weights come with dropout under this objective"
    elif implementation not in {None, "eager", "sdpa"}:
        absent["entropy"] = f"attention runs in {implementation}; load the model in sdpa"
    else:
        absent["entropy"] = "the model shows no attention weights"
    return CaptureSetup(
        loaded=loaded,
        objective=objective,
        plan=plan,
        blocks=tuple(BlockName(r.stack, r.index, r.name) for s in stacks for r in s.refs),
        sides=tuple(s.side for s in stacks for _ in s.blocks),
        targets=targets,
        sites=tuple(_site(model, target, plan) for target in targets),
        wiring=Wiring(
            blocks=[model.get_submodule(name) for s in stacks for name in s.blocks],
            outputs=outputs,
            embeddings=embeddings(model),
            weigh_attention=weighs,
        ),
        implementation=implementation if implementation == "sdpa" else None,
        absent=absent,
        weights=frozenset(t.untyped_storage().data_ptr() for t in _state(model)),
    )


def _state(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _site(model: nn.Module, target: Target, plan: Plan) -> Site:
    """Give a target its simulated adapter's A: Gaussian / sqrt(d_in), by seed and name."""
    module = model.get_submodule(target.name)
    device = next(module.parameters()).device
    size = (plan.rank, target.in_features)
    normal = torch.randn(size, generator=torch_generator(plan.seed, "lora_A", target.name))
    sketch = None
    if target.out_features > plan.sketch_width:
        size = (plan.sketch_width, target.out_features)
        drawn = torch.randn(size, generator=torch_generator(plan.seed, "sketch", target.name))
        sketch = (drawn / plan.sketch_width**0.5).to(device)
    return Site(
        name=target.name,
        row=target.row,
        module=module,
        projection=(normal / target.in_features**0.5).to(device),
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
    clock = listener.clock
    listener.start(heard)
    # Dropout draws by batch, not by what ran before: sharded runs see the same masks.
    torch.manual_seed(derive(subject.plan.seed, "dropout", number))
    try:
        start = clock.mark()
        with saved_tensors_hooks(partial(listener.hear_saved, subject.weights), lambda x: x):
            losses = subject.objective.losses(subject.loaded.model, batch)
        turn, spans = clock.mark(), len(heard.spans)
        _check_forward(subject, heard, losses, number)
        torch.autograd.backward(losses.sum())
        timing = Timing(start, turn, clock.mark(), spans, batch.token_mask.numel())
    finally:
        listener.stop()
    _check_backward(subject, heard, number)
    blocks = len(subject.blocks)
    sums.add_examples(heard, losses, keys, sites=subject.sites, blocks=blocks)
    sums.batches.update(batch_columns(heard, timing, clock, blocks=blocks), key=np.array([number]))


def _heard(
    subject: CaptureSetup, batch: Batch, kept: frozenset[int]
) -> tuple[BatchRecord, np.ndarray]:
    """Return an empty `BatchRecord` for `batch`, and the keys of its examples."""
    index = batch.index.cpu()
    keys, fold = torch.unique(index, return_inverse=True)
    if len(keys) == len(index):
        keys, fold = index, torch.arange(len(index))
    masks = {row: _mask(batch, side) for row, side in enumerate(subject.sides)}
    device = batch.token_mask.device
    heard = BatchRecord(
        masks=masks,
        fold=fold.to(device),
        examples=len(keys),
        keep=torch.tensor(
            [i for i, k in enumerate(keys) if int(k) in kept], dtype=torch.long, device=device
        ),
        query_rows=_query_rows(subject, batch),
        crossed=batch.token_mask if batch.decoder_mask is not None else None,
    )
    return heard, keys.numpy()


def _mask(batch: Batch, side: str) -> Bool[Tensor, "n t"]:
    """Return the tokens that count on one side of the model."""
    crossing = batch.decoder_mask is not None and side == "decoder"
    return batch.decoder_mask if crossing and batch.decoder_mask is not None else batch.token_mask


def _query_rows(subject: CaptureSetup, batch: Batch) -> dict[int, QueryRows]:
    if "entropy" not in subject.plan.needs:
        return {}
    sampled = {
        side: sample_rows(
            _mask(batch, side),
            batch.index,
            rows=subject.plan.entropy_rows,
            seed=subject.plan.seed,
        )
        for side in set(subject.sides)
    }
    return {row: sampled[side] for row, side in enumerate(subject.sides)}


def _check_forward(subject: CaptureSetup, heard: BatchRecord, losses: Tensor, number: int) -> None:
    """Stop at the first block, from the input, whose output is not finite, or at the loss."""
    bad = [row for row in sorted(heard.checks) if not bool(heard.checks[row].isfinite())]
    if bad:
        raise _non_finite(number, subject.blocks[bad[0]].name, what="activation")
    if not bool(losses.isfinite().all()):
        raise _non_finite(number, HEAD, what="loss")


def _check_backward(subject: CaptureSetup, heard: BatchRecord, number: int) -> None:
    """Stop at the first block, from the output, whose gradient is not finite."""
    heard_of = [*heard.gradient_energy.items()]
    heard_of += [(subject.sites[m].row, e) for m, e in heard.column_energy.items()]
    bad = [row for row, energy in heard_of if not bool(energy.isfinite().all())]
    if bad:
        raise _non_finite(number, subject.blocks[max(bad)].name, what="gradient")


def _non_finite(number: int, block: str, *, what: str) -> NonFiniteError:
    return NonFiniteError(
        what=f"non-finite {what}",
        value=f"batch {number}, block {block}",
        expected="finite numbers",
        hint="--dtype float32, or look at the examples of that batch",
    )
