"""Training in stages: a first-order phase, then Levenberg-Marquardt steps on frozen points, all members at once.

An optimiser moves the weights and unknowns of a system and says what chi2 (members,) they come to: infinite for members
that failed. These stay at the last state with finite residuals; the others go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from udehydro.richards.pinn.system import System
from udehydro.richards.pinn.watch import Watch
from udehydro.training.levenberg import Normal, minimise

EVERY = 10
"""Steps of Adam between those that are kept in a history."""
REST = 10
"""Steps of Levenberg's over which a stage is judged to have settled."""


@dataclass(frozen=True)
class Adam:
    """Steps of Adam (Kingma and Ba 2015) with a rate that falls as a cosine."""

    steps: int = 300
    rate: float = 5e-3

    def __call__(self, system: System, progress: str | None = None, history: list[dict] | None = None) -> Tensor:
        networks = [f.network for f in system.fields]
        extra = system.extra.values.clone().requires_grad_()
        moved = [w for n in networks for w in n.parameters() if w.requires_grad]
        moved += [extra] * bool(extra.numel())
        optimiser = torch.optim.Adam(moved, lr=self.rate)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        guard = _Guard(moved)
        with Watch(system, self.steps, progress, history, EVERY) as watch:
            for _ in range(self.steps):
                optimiser.zero_grad()
                half = _gradients(system, networks, extra)
                watch(2.0 * half.T)
                guard.look(half.sum(0))
                optimiser.step()
                guard.hold()
                fall.step()
        low, high = system.limits()
        with torch.no_grad():
            extra.clamp_(low[:, system.last], high[:, system.last])
        arrived = system.chi2(torch.cat([*(n.vector() for n in networks), extra.detach()], dim=1)).sum(1)
        guard.look(arrived)
        guard.hold()
        system.extra.values = extra.detach()
        for n in networks:
            n.absorb()
        return torch.where(guard.going, arrived, torch.inf)


class _Guard:
    """Holds members whose loss or gradient is not finite where they were the step before."""

    def __init__(self, moved: Sequence[Tensor]):
        self.moved = moved
        self.good = [w.detach().clone() for w in moved]
        self.going = torch.ones(len(moved[0]), dtype=torch.bool, device=moved[0].device)

    def look(self, loss: Tensor) -> None:
        """Stop members whose loss (members,) or gradient is not finite; remember where the others are."""
        slopes = [w.grad.flatten(1).isfinite().all(1) for w in self.moved if w.grad is not None]
        self.going = self.going & torch.stack([loss.isfinite(), *slopes]).all(0)
        for w, good in zip(self.moved, self.good, strict=True):
            good[self.going] = w.detach()[self.going]

    @torch.no_grad()
    def hold(self) -> None:
        """Put stopped members back, whatever a step has made of them."""
        if not bool(self.going.all()):
            for w, good in zip(self.moved, self.good, strict=True):
                w[~self.going] = good[~self.going]


def _gradients(system: System, networks: Sequence, extra: Tensor) -> Tensor:
    """Halves of chi2 by term (terms, members); gradients are left at the parameters and at ``extra``."""
    weights = [n.weights() for n in networks]
    leaves = [[w.detach().requires_grad_() for w in ws] for ws in weights]
    half = system.loss(leaves, extra)
    pairs = [(w, x.grad) for ws, xs in zip(weights, leaves, strict=True) for w, x in zip(ws, xs, strict=True)]
    torch.autograd.backward([w for w, _ in pairs], [g for _, g in pairs])
    return half


class _Settled(Exception):
    """The search has come to rest."""


class _Search:
    """Normal equations, and the best that each member has come to: what a search stays at."""

    def __init__(self, system: System, watch: Watch, settled: float):
        self.system, self.watch, self.settled = system, watch, settled
        self.x = system.start()
        self.chi2 = torch.full_like(self.x[:, 0], torch.inf)
        self.parts = self.x.new_full((len(self.x), len(system.names)), torch.nan)
        self.past: list[Tensor] = []

    def __call__(self, x: Tensor, index: Tensor) -> Normal:
        found = self.system.normal(x, index)
        better = found.chi2 < self.chi2[index]
        for mine, new in zip((self.x, self.chi2, self.parts), (x, found.chi2, found.parts), strict=True):
            mine[index[better]] = new[better]
        self.watch(self.parts)
        self.past = [*self.past[-REST:], self.chi2.clone()]
        # of members that failed the gain is not a number, and nothing to wait for
        going = self.past[0] - self.chi2 > self.settled * self.past[0]
        if len(self.past) > REST and not bool(going.any()):
            raise _Settled
        return found


@dataclass(frozen=True)
class Levenberg:
    """Levenberg-Marquardt steps with the damping the same for all weights.

    Weights of a network have curvatures that differ by many orders; Marquardt's scaling by them lets those that matter
    little run away, and took ten times as many steps on every problem tried.

    Attributes
    ----------
    steps : at most.
    tolerance : relative gain of chi2 in a step, and promise of another, with which a member has converged.
    stop : chi2 with which it has.
    settled : relative gain of every member in REST steps with which the stage is over.
    """

    steps: int = 100
    tolerance: float = 1e-5
    stop: float | None = None
    settled: float = 0.0

    def __call__(self, system: System, progress: str | None = None, history: list[dict] | None = None) -> Tensor:
        low, high = system.limits()
        with Watch(system, self.steps + 1, progress, history) as watch, suppress(_Settled):
            search = _Search(system, watch, self.settled)
            minimise(
                search,
                search.x,
                low,
                high,
                torch.ones_like(low, dtype=torch.bool),
                steps=self.steps,
                tolerance=self.tolerance,
                stop=self.stop,
                isotropic=1.0,
            )
        system.load(search.x)
        return search.chi2
