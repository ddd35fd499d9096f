"""Batched optimisers: many independent members, one evaluation shared by all of them.

``x`` is ``(M, P)``, M members of P parameters; ``evaluate(x) -> (loss (M,), gradient (M, P))``. No member
sees another. ``state = optimiser.init(x, evaluate)``, then ``state = optimiser.step(state, evaluate)``: a
step is *one* evaluation, in which every active member tries its own next point and the others repeat the
point they have. So a long line search keeps nobody waiting, and work can be saved and resumed, bit for bit,
after any evaluation. A state holds nothing but tensors, members first, and is never changed in place.
Nothing here waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from udehydro.errors import ConfigError

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]


class Saved:
    """A dataclass of tensors that can be taken apart and put together again."""

    def tensors(self) -> dict[str, Tensor]:
        """Copies of all there is to save, none sharing memory with another."""
        return {field.name: getattr(self, field.name).clone() for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Self:
        """The state that `tensors` was called on; ConfigError if it was another kind of state."""
        names = {field.name for field in fields(cls)}
        if names != set(tensors):
            raise ConfigError(
                f"These tensors are not a {cls.__name__}: missing {sorted(names - set(tensors))}, "
                f"unknown {sorted(set(tensors) - names)}. Resume with the optimiser that saved them."
            )
        return cls(**tensors)


class Optimiser(Protocol):
    """What `LBFGS` and `Adam` have in common."""

    def init(self, x: Tensor, evaluate: Evaluate) -> Saved:
        """State at the start ``x (M, P)``, after one evaluation."""
        ...

    def step(self, state, evaluate: Evaluate) -> Saved:
        """State after one more evaluation."""
        ...

    def resume(self, tensors: dict[str, Tensor]) -> Saved:
        """State from what ``state.tensors()`` gave."""
        ...


def evaluated(evaluate: Evaluate, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, gradient and whether both are finite; where not, infinity and 0: harmless downstream."""
    if x.ndim != 2 or not x.is_floating_point():
        raise ConfigError(f"x is {tuple(x.shape)} {x.dtype}; optimisers need floating (member, parameter).")
    loss, gradient = evaluate(x)
    loss, gradient = loss.detach(), gradient.detach()
    if loss.shape != x.shape[:1] or gradient.shape != x.shape:
        raise ConfigError(
            f"evaluate returned loss {tuple(loss.shape)} and gradient {tuple(gradient.shape)} for x "
            f"{tuple(x.shape)}; it must return one loss per member and a gradient like x."
        )
    finite = loss.isfinite() & gradient.isfinite().all(1)
    return torch.where(finite, loss, math.inf), chosen(finite, gradient, torch.zeros_like(gradient)), finite


def chosen(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``a`` for members in ``mask (M,)``, else ``b``."""
    return torch.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, b)


def merged(mask: Tensor, new, old):
    """State ``new`` for members in ``mask``, else ``old``; what both share is not copied."""
    pairs = {field.name: (getattr(new, field.name), getattr(old, field.name)) for field in fields(old)}
    return replace(old, **{name: chosen(mask, a, b) for name, (a, b) in pairs.items() if a is not b})
