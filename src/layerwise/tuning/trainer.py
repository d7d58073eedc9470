"""Transformers' Trainer with an objective for a loss and forwards for data.

What comes with Trainer (bfloat16, accumulation, checkpointing, several processes, trackers) is
Trainer's. What is ours is here: the loss, evaluation on it, and a stop at the first number that is
not finite.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import Trainer

from layerwise import distributed
from layerwise.errors import NonFiniteError
from layerwise.objectives.record import Objective
from layerwise.seeds import derive
from layerwise.shapes import Tensor
from layerwise.tuning.groups import LayerGroup
from layerwise.tuning.order import Forward, Forwards

__all__ = ["ForwardTrainer", "collate"]

Inputs = dict[str, Any]


def collate(items: Sequence[Forward]) -> Inputs:
    """A data loader's batch: one forward, in the mapping that Trainer wants."""
    (only,) = items
    return {"forward": only}


class ForwardTrainer(Trainer):  # type: ignore[misc]  # transformers carries no types
    """A Trainer whose batches are forwards of an objective.

    Args:
        objective: Gives the losses.
        layer_groups: Names the part of the model at fault when a number is not finite.
        seed: Of the run; dropout is drawn by it and the forward's number.
        save: Called in place of Trainer's own saving, which it is given to call.
        options: Trainer's own.
    """

    def __init__(
        self,
        *,
        objective: Objective,
        layer_groups: Sequence[LayerGroup],
        seed: int,
        save: Callable[[Callable[[], None], int], None],
        **options: Any,
    ) -> None:
        super().__init__(**options, data_collator=collate)
        self.model_accepts_loss_kwargs = False  # The loss is a mean: Trainer divides it.
        self._objective, self._layer_groups = objective, layer_groups
        self._seed, self._save_with = seed, save
        #: Each layer group's gradient norm before the last step, before clipping.
        self.group_norms: Mapping[str, float] = {}

    def compute_loss(self, model: Any, inputs: Inputs, *_: Any, **__: Any) -> Tensor:
        """The mean loss of a forward's rows.

        Raises:
            NonFiniteError: It is NaN or infinite.
        """
        forward: Forward = inputs["forward"].to(self.args.device)
        # By number, not by what ran before: neither resuming nor sharing the work changes a mask.
        torch.manual_seed(derive(self._seed, "dropout", forward.number))
        loss = self._losses(model, forward).mean()
        if not bool(loss.detach().isfinite()):
            self._refuse_loss(model, forward, loss)
        return loss

    def _losses(self, model: Any, forward: Forward) -> Tensor:
        inner = self.accelerator.unwrap_model(model, keep_torch_compile=True)
        if inner is model:
            return self._objective.losses(model, forward.batch)
        with _routed(inner, lambda: self._objective.losses(inner, forward.batch)):
            losses: Tensor = model()
        return losses

    def training_step(self, *args: Any, **options: Any) -> Tensor:
        """The loss of one forward, its gradient added to what is there.

        Raises:
            NonFiniteError: A group's gradient is not finite once it is whole.
        """
        loss: Tensor = super().training_step(*args, **options)
        if self.accelerator.sync_gradients:
            self.group_norms = self._gradient_norms()
            bad = [name for name, norm in self.group_norms.items() if not norm < float("inf")]
            if bad:
                self._refuse("gradient", bad[-1])
        return loss

    def _gradient_norms(self) -> dict[str, float]:
        parameters = dict(self.model.named_parameters())
        found = {}
        for group in self._layer_groups:
            grads = [g for n in group.parameters if (g := parameters[n].grad) is not None]
            if grads:
                norms = torch.stack([_local(n) for n in torch._foreach_norm(grads)])
                found[group.name] = norms.double().norm()
        return {name: float(norm) for name, norm in found.items()}

    def _refuse_loss(self, model: Any, forward: Forward, loss: Tensor) -> None:
        inner = self.accelerator.unwrap_model(model, keep_torch_compile=True)
        with _first_bad(inner, self._layer_groups) as first, torch.no_grad():
            self._objective.losses(inner, forward.batch)
        self._refuse("loss", first() or "rest", value=float(loss))

    def _refuse(self, what: str, group: str, *, value: float | None = None) -> None:
        shown = f" ({value})" if value is not None else ""
        message = f"non-finite {what}{shown} in step {self.state.global_step + 1}"
        raise NonFiniteError(
            message,
            value=f"layer group {group}",
            expected="finite numbers",
            hint="a smaller --learning-rate, or --dtype float32",
        )

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The mean loss of the held-out examples, as ``eval_loss``."""
        forwards: Forwards = self.eval_dataset
        mine = range(distributed.rank(), len(forwards), distributed.world_size())
        was = self.model.training
        self.model.train(self._objective.stochastic)
        with torch.no_grad():
            losses = [self._eval_losses(forwards[i]) for i in mine]
        self.model.train(was)
        every = distributed.all_gather([x for part in losses for x in part.tolist()])
        flat = [x for part in every for x in part]
        metrics = {"eval_loss": sum(flat) / len(flat)}
        self.log(dict(metrics))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _eval_losses(self, forward: Forward) -> Tensor:
        torch.manual_seed(derive(self._seed, "evaluation", forward.number))
        with self.accelerator.autocast():
            losses = self._objective.losses(self.model, forward.to(self.args.device).batch)
        return losses.detach().float().cpu()

    def floating_point_ops(self, inputs: Inputs) -> int:
        """Nothing: Trainer's estimate is of full fine-tuning, whatever is adapted."""
        del inputs
        return 0

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = self.state.global_step
        self._save_with(lambda: Trainer._save_checkpoint(self, model, trial), step)


def _local(value: Any) -> Tensor:
    """`value` whole, where each process holds a shard of it."""
    whole: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return whole


@contextmanager
def _routed(inner: Any, losses: Callable[[], Tensor]) -> Iterator[None]:
    """Inside, calling the wrapper of `inner` runs `losses` where it would run the forward.

    Gradients are averaged over processes only for what runs in the wrapper's own forward, and an
    objective may need another part of the model than its head.
    """
    original = inner.forward

    def once(*_: Any, **__: Any) -> Tensor:
        inner.forward = original
        return losses()

    inner.forward = once
    try:
        yield
    finally:
        inner.forward = original


@contextmanager
def _first_bad(model: nn.Module, groups: Sequence[LayerGroup]) -> Iterator[Callable[[], str]]:
    """Inside, blocks are watched; the name of the first with a weight or output not finite."""
    bad: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def look(_module: nn.Module, _args: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            if not bad and isinstance(tensor, Tensor) and not bool(tensor.isfinite().all()):
                bad.append(name)

        return look

    named = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    bad += [
        group.name
        for group in groups
        if any(not bool(parameters[n].isfinite().all()) for n in group.parameters)
    ]
    handles = [
        named[g.name].register_forward_hook(watch(g.name)) for g in groups if g.row is not None
    ]
    try:
        yield lambda: bad[0] if bad else ""
    finally:
        for handle in handles:
            handle.remove()
