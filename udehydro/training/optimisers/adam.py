"""Adam for independent members, and a cosine schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.training.optimisers.base import Evaluate, Saved, evaluated, merged


@dataclass(frozen=True)
class AdamState(Saved):
    """Point of every member, where loss and gradient are finite, and the moments of its gradients."""

    x: Tensor  # (M, P)
    loss: Tensor  # (M,) there
    gradient: Tensor  # (M, P) there
    mean: Tensor  # (M, P) running mean of gradients
    square: Tensor  # (M, P) running mean of their squares
    iterations: Tensor  # (M,) updates made
    skipped: Tensor  # (M,) updates refused because they led to a non-finite loss or gradient
    caution: Tensor  # (M,) factor on the step, halved by a refusal and doubled, up to 1, by a success

    @property
    def active(self) -> Tensor:
        """``(M,)``, always true: Adam knows no end."""
        return torch.ones_like(self.loss, dtype=torch.bool)


@dataclass(frozen=True)
class Cosine:
    """Factor on the learning rate: half a cosine from 1 to ``floor`` (Loshchilov and Hutter 2017, eq. 5)."""

    steps: int
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not (self.steps >= 1 and 0 <= self.floor <= 1):
            raise ConfigError(f"Cosine needs steps >= 1 and floor in [0, 1], not {self.steps}, {self.floor}.")

    def __call__(self, step: Tensor) -> Tensor:
        phase = (step / self.steps).clamp(max=1) * math.pi
        return self.floor + (1 - self.floor) * (1 + phase.cos()) / 2


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015, alg. 1) for every member on its own.

    An update that leads to a non-finite loss or gradient is refused: the member stays where it was, the
    refusal is counted, its momentum is dropped, and its next step is half as long.

    Parameters
    ----------
    learning_rate : float
        Size of a step in units of x.
    schedule : callable, optional
        Factor on it from the number of steps done ``(M,)``, e.g. ``Cosine(500)``; constant by default.
    clip : float
        Longest gradient, Euclidean norm per member; longer ones are shortened to it.
    """

    learning_rate: float = 1e-2
    schedule: Callable[[Tensor], Tensor] | None = None
    clip: float = math.inf
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        if not (self.learning_rate > 0 and self.clip > 0 and self.epsilon > 0):
            raise ConfigError("Adam needs positive learning_rate, clip and epsilon.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"Adam needs both betas in [0, 1), not {self.betas}.")

    def init(self, x: Tensor, evaluate: Evaluate) -> AdamState:
        x = x.detach().clone()
        loss, gradient, _ = evaluated(evaluate, x)
        zero, count = torch.zeros_like(x), torch.zeros_like(loss, dtype=torch.int64)
        return AdamState(x, loss, gradient, zero, zero, count, count, torch.ones_like(loss))

    def step(self, state: AdamState, evaluate: Evaluate) -> AdamState:
        shrink = (self.clip / state.gradient.norm(dim=1)).clamp(max=1)  # gradient 0: infinity, so 1
        clipped = state.gradient * shrink[:, None]
        first, second = self.betas
        mean = first * state.mean + (1 - first) * clipped
        square = second * state.square + (1 - second) * clipped.square()
        count = (state.iterations + 1).to(state.loss.dtype)[:, None]
        unbiased = mean / (1 - first**count)
        spread = (square / (1 - second**count)).sqrt() + self.epsilon
        x = state.x - self._rate(state)[:, None] * unbiased / spread
        loss, gradient, finite = evaluated(evaluate, x)
        iterations, caution = state.iterations + 1, (2 * state.caution).clamp(max=1)
        done = AdamState(x, loss, gradient, mean, square, iterations, state.skipped, caution)
        refused = replace(
            state,
            mean=(1 - first**count) * clipped,  # momentum would run into the same wall again
            skipped=state.skipped + 1,
            caution=state.caution / 2,
        )
        return merged(finite, done, refused)

    def resume(self, tensors: dict[str, Tensor]) -> AdamState:
        return AdamState.from_tensors(tensors)

    def _rate(self, state: AdamState) -> Tensor:
        rate = self.learning_rate * state.caution
        if self.schedule is None:
            return rate
        return rate * self.schedule((state.iterations + state.skipped).to(rate.dtype))
