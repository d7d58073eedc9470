"""Every layer group takes a relative step of the same size, in the direction that was chosen.

After a step dW = W_after - W_before of the wrapped optimizer, W becomes W_before + s dW with
s = tau ||W_before|| / (||dW|| + 1e-12), the tensors of a group taken together (arXiv 2604.17177).
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from layerwise.errors import BadInputError, NonFiniteError, UnknownNameError
from layerwise.seeds import derive
from layerwise.tuning import adamw, norms

METHODS = ("auto", "exact", "sampled", "copy")
SAMPLE = 400_000
KEY = "equal_step"

logger = logging.getLogger(__name__)

ParamGroup = dict[str, Any]


@dataclass(frozen=True)
class StepRatio:
    """||dW|| / ||W|| of one layer group in one step, W taken before it.

    Attributes:
        natural: What the wrapped optimizer alone would have done; None where ||W|| is 0.
        asked: What was asked for; None where the step was only measured.
        achieved: What was done: `natural` times the scale that was applied.
        stored: What the stored weights show, where they are in half precision and rounding may
            swallow the step; None elsewhere.
    """

    natural: float | None
    asked: float | None = None
    achieved: float | None = None
    stored: float | None = None


@dataclass(frozen=True)
class _Sizes:
    """What a layer group's step is scaled by."""

    weight: float
    update: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.weight) and math.isfinite(self.update)

    def check(self, name: str) -> None:
        """Raise NonFiniteError in the name of the layer group."""
        if not self.finite:
            sizes = f"||W|| = {self.weight}, ||dW|| = {self.update}"
            message = f"step of layer group {name}"
            raise NonFiniteError(message, value=sizes, expected="finite gradients and weights")

    def scale(self, tau: float | None) -> float:
        """Return the factor on dW; 1 for a group that is left alone."""
        if tau is None or self.weight == 0 or self.update == 0:
            return 1.0
        return tau * self.weight / (self.update + 1e-12)

    def ratio(self, tau: float | None, stored: float | None) -> StepRatio:
        if self.weight == 0:
            return StepRatio(None, tau)
        natural = self.update / self.weight
        kept = None if stored is None else stored / self.weight
        return StepRatio(natural, tau, self.scale(tau) * natural, kept)


def _of_wrapped(name: str) -> Any:
    """Make a property that is the wrapped optimizer's."""
    return property(
        lambda self: getattr(self.optimizer, name),
        lambda self, value: setattr(self.optimizer, name, value),
        doc=f"The wrapped optimizer's {name}.",
    )


class EqualStep(Optimizer):
    """An optimizer whose steps move every group by the same share of its norm.

    It stands in for the optimizer that it wraps: parameter groups, state and learning rates are
    that one's, so schedulers, trainers and checkpoints see nothing new. A common learning rate
    cancels out; rates that differ inside a group keep their proportions, and a rate of 0 makes no
    step. Gradients are clipped before, and unscaled: a GradScaler must be given this optimizer, not
    the wrapped one.

    ``copy`` follows the definition with any optimizer that treats each tensor by itself. It steps
    one layer group at a time, so that the wrapped optimizer's hooks run once a group, and keeps
    room for a copy of the largest. ``exact`` and ``sampled`` are for `torch.optim.AdamW` and copy
    nothing: the update is linear in the learning rate, so its size is worked out first, from every
    entry or from a sample, and the step made once at the right rate.

    Args:
        optimizer: What chooses the direction.
        groups: Layer groups by name; together they hold each of the optimizer's parameters once.
        tau: The relative step; None changes nothing and only measures.
        method: ``exact``, ``sampled``, ``copy``, or ``auto``: exact where that is possible.
        sample: Entries of a group that ``sampled`` looks at, at least; four times as many, and so
            on up to all, while they differ so much that the ratio would be uncertain by 0.17%.
        seed: Fixes where the sample lies; it moves from step to step.

    Raises:
        BadInputError: Parameters in two groups, in none, or not the optimizer's; a tau that is
            not positive; a method that the optimizer does not allow (AMSGrad, LBFGS).
        UnknownNameError: No such method.

    Attributes:
        tau: The relative step.
        method: How it is measured: ``exact``, ``sampled`` or ``copy``.
        steps: The last step's size by layer group; empty where it was not measured.
        measuring: Whether steps are measured where nothing is scaled (tau None), and stored steps
            compared where the weights are in half precision. Switch it off between logged steps.
    """

    param_groups: list[ParamGroup] = _of_wrapped("param_groups")
    state: Any = _of_wrapped("state")
    defaults: dict[str, Any] = _of_wrapped("defaults")

    def __init__(
        self,
        optimizer: Optimizer,
        groups: Mapping[str, Sequence[Tensor]],
        tau: float | None,
        *,
        method: str = "auto",
        sample: int = SAMPLE,
        seed: int = 0,
    ) -> None:
        if tau is not None and not (tau > 0 and math.isfinite(tau)):
            message = "tau"
            raise BadInputError(
                message, value=tau, expected="a positive number, or None to measure"
            )
        if sample < 1:
            message = "sample"
            raise BadInputError(message, value=sample, expected="a whole number of at least 1")
        self.optimizer = optimizer
        self.tau = tau
        self.method = _method(optimizer, method)
        self.measuring = True
        self._layout = _layout(optimizer, groups)
        self._sample, self._seed = sample, seed
        self._room = norms.Workspace()
        self.steps: Mapping[str, StepRatio] = {}
        # Optimizer.__init__ would make parameter groups and state of its own; this does the rest
        # of what it does: hooks and profiling.
        self.__setstate__({})

    def __getstate__(self) -> dict[str, Any]:
        # A scheduler replaces `step` on the object with a closure, which nothing can pickle.
        return {name: value for name, value in self.__dict__.items() if name != "step"}

    def add_param_group(self, param_group: ParamGroup) -> None:
        """Refuse: the new parameters would be in no layer group."""
        message = "parameter group"
        raise BadInputError(
            message,
            value=f"{len(param_group.get('params', ()))} parameters",
            expected="every parameter in a layer group from the start",
            hint="add it to the optimizer first, then wrap it in EqualStep",
        )

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT001, FBT002 -- torch's signature.
        """Clear the gradients of all parameters."""
        self.optimizer.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the wrapped optimizer's state, and tau and the sample's seed beside it."""
        own = {"tau": self.tau, "sample": self._sample, "seed": self._seed}
        return {**self.optimizer.state_dict(), KEY: own}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from `state_dict`: its tau and seed too, where it has them.

        Raises:
            BadInputError: It was saved by an optimizer that only measured, and this one scales,
                or the reverse.
        """
        plain = dict(state_dict)
        own = plain.pop(KEY, None)
        if own is not None:
            kinds = {True: "of a run that only measured", False: "of equal steps"}
            theirs, mine = (kinds[tau is None] for tau in (own["tau"], self.tau))
            if theirs != mine:
                raise BadInputError(what="optimizer state", value=theirs, expected=f"one {mine}")
            self.tau, self._sample, self._seed = own["tau"], own["sample"], own["seed"]
        self.optimizer.load_state_dict(plain)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step; every group's ||dW|| / ||W|| is tau, and `steps` says what was done.

        Args:
            closure: Computes the loss and the gradients anew; called once.

        Raises:
            NonFiniteError: A group's step is NaN or infinite; that group has not been moved.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.steps = {}
        if self.tau is None and not self.measuring:
            self.optimizer.step()
        else:
            self._step_groups()
        return loss

    def _step_groups(self) -> None:
        parts = {
            name: [
                {**(group := self.param_groups[i]), "params": [group["params"][j] for j in rows]}
                for i, rows in where
            ]
            for name, where in self._layout.items()
        }
        make = self._copied if self.method == "copy" else self._foreseen
        self.steps = {name: make(name, groups) for name, groups in parts.items()}
        for name, where in self._layout.items():
            for (i, _), part in zip(where, parts[name], strict=True):
                # Some optimizers count in their groups; each layer group counted from the same.
                kept = {k: v for k, v in part.items() if k not in ("params", "lr")}
                self.param_groups[i].update(kept)

    def _copied(self, name: str, groups: list[ParamGroup]) -> StepRatio:
        """Return the definition: step, look at what happened, rescale it."""
        moving = _moving(groups)
        before, squares = self._room.copies(moving)
        still = [p for group in groups for p in group["params"] if p.grad is None]
        squares += [square for tensor in still for square in norms.squares(tensor)]
        weight = norms.total(squares) ** 0.5
        self._step_only(groups)
        sizes = _Sizes(weight, self._room.change(before, moving))
        scale = sizes.scale(self.tau) if sizes.finite else 0.0
        for old, new in zip(before, moving, strict=True):
            if scale != 1:
                after = norms.local(new)
                was = old.view_as(after)
                if scale == 0:  # Whatever `after` is, a NaN too.
                    after.copy_(was)
                else:
                    torch.lerp(was, after, scale, out=after)
        sizes.check(name)
        return sizes.ratio(self.tau, self._stored(before, moving))

    def _foreseen(self, name: str, groups: list[ParamGroup]) -> StepRatio:
        """AdamW: work out the size of the step, set the rate, make it."""
        wanted = self._sample if self.method == "sampled" else None
        draw = self._draw(name, groups) if wanted else 0
        found = adamw.foreseen(self.optimizer, groups, wanted=wanted, draw=draw, room=self._room)
        sizes = _Sizes(found.weight, found.update)
        sizes.check(name)
        for group in groups:
            group["lr"] = group["lr"] * sizes.scale(self.tau)
        moving = _moving(groups)
        before = self._room.copies(moving)[0] if self.measuring and _coarse(moving) else []
        self._step_only(groups)
        return sizes.ratio(self.tau, self._stored(before, moving))

    def _stored(self, before: Sequence[Tensor], moving: Sequence[Tensor]) -> float | None:
        if not (self.measuring and _coarse(moving)):
            return None
        return self._room.change(before, moving)

    def _draw(self, name: str, groups: Sequence[ParamGroup]) -> int:
        """Give where this step's sample lies: elsewhere each step, and the same after a resume."""
        states = (self.state[p] for group in groups for p in group["params"] if p in self.state)
        made = next((int(state["step"]) for state in states if "step" in state), 0)
        return derive(self._seed, KEY, name, made)

    def _step_only(self, groups: list[ParamGroup]) -> None:
        with _param_groups(self.optimizer, groups):
            self.optimizer.step()


def _method(optimizer: Optimizer, method: str) -> str:
    if method not in METHODS:
        raise UnknownNameError(what="method", value=method, known=METHODS)
    if isinstance(optimizer, LBFGS):
        message = "optimizer"
        raise BadInputError(message, value="LBFGS", expected="one that steps without a closure")
    obstacle = "" if method == "copy" else adamw.obstacle(optimizer)
    if obstacle and method != "auto":
        message = f"method for an optimizer whose step cannot be foreseen ({obstacle})"
        raise BadInputError(message, value=method, expected="copy or auto")
    if obstacle:
        logger.info("equal step keeps a copy of one layer group: %s", obstacle)
        return "copy"
    return "exact" if method == "auto" else method


def _layout(
    optimizer: Optimizer, groups: Mapping[str, Sequence[Tensor]]
) -> dict[str, list[tuple[int, list[int]]]]:
    """Return where each layer group's tensors are: (parameter group, positions in it)."""
    places = {
        id(p): (i, j)
        for i, group in enumerate(optimizer.param_groups)
        for j, p in enumerate(group["params"])
    }
    layout: dict[str, list[tuple[int, list[int]]]] = {}
    for name, tensors in groups.items():
        rows: dict[int, list[int]] = {}
        for tensor in tensors:
            place = places.pop(id(tensor), None)
            if place is None:
                message = f"layer group {name}"
                raise BadInputError(
                    message,
                    value=f"a parameter of shape {tuple(tensor.shape)}",
                    expected="parameters that the optimizer holds, each in one group",
                )
            rows.setdefault(place[0], []).append(place[1])
        if rows:
            layout[name] = sorted(rows.items())
    if places:
        message = "layer groups"
        raise BadInputError(
            message,
            value=f"{len(places)} parameters of the optimizer are in none",
            expected="each parameter in one group",
        )
    return layout


def _moving(groups: Sequence[ParamGroup]) -> list[Tensor]:
    return [p for group in groups for p in group["params"] if p.grad is not None]


def _coarse(tensors: Sequence[Tensor]) -> bool:
    return any(tensor.dtype.itemsize < 4 for tensor in tensors)


@contextmanager
def _param_groups(optimizer: Optimizer, groups: list[ParamGroup]) -> Iterator[None]:
    """Let `optimizer` have `groups` alone inside."""
    every = optimizer.param_groups
    optimizer.param_groups = groups
    try:
        yield
    finally:
        optimizer.param_groups = every
