"""Newton's iteration for an implicit stage of many columns at once, each with a line search of its own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from udehydro.richards.column import tridiagonal
from udehydro.richards.column.problem import Problem
from udehydro.richards.column.system import Linear, System

ITERATIONS = 25
SHORTER = 14
TOLERANCE, WATER = 1e-6, 1e-10
"""What may be left of the equation of a node besides round-off: the lesser of a rate [cm/d] and of water [cm]."""
FLOOR = 1e-6
"""Added to the diagonal of nodes that store nothing, as a share of it. All heads between air entry and pond may move
together without any change of water: without this a stage of such soil between closed ends has no step."""

BEYOND, NO_WORSE = 1e-12, 1.0 + 1e-6
"""How far beyond its air entry soil counts as unsaturated, as a share of it, and by how much a step to there may raise
the sum of squares."""


class Solved(NamedTuple):
    """Heads (columns, node), the stage at them, whether it was solved, and the iterations (columns,)."""

    psi: Tensor
    linear: Linear
    done: Tensor
    iterations: Tensor


@torch.no_grad()
def solve(problem: Problem, values: list[Tensor], psi: Tensor, known: Tensor, tau: Tensor) -> Solved:
    """Solve a stage from a first guess ``psi``. Columns that fail keep the last iterate and are not done."""
    work = _Work(problem, values, psi, known, tau)
    size = torch.arange(len(psi), device=psi.device)
    result: Solved | None = None
    count = torch.zeros_like(size)
    for _ in range(ITERATIONS):
        over = work.done | work.stuck
        if bool(over.all()):
            break
        if bool(over.any()):
            result = _put(result, size, work, count, len(psi))
            keep = (~over).nonzero()[:, 0]
            work, size, count = work.select(keep), size[keep], count[keep]
        work.step()
        count = count + 1
    return _put(result, size, work, count, len(psi))


def _put(result: Solved | None, at: Tensor, work: _Work, count: Tensor, columns: int) -> Solved:
    """Write the state of some columns into the result of all."""
    new = (work.psi, *work.linear, work.done, count)
    if len(at) == columns:
        return Solved(work.psi, work.linear, work.done, count)
    old = (result.psi, *result.linear, result.done, result.iterations)
    parts = [o.index_copy(0, at, n) for o, n in zip(old, new, strict=True)]
    return Solved(parts[0], Linear(*parts[1:-2]), *parts[-2:])


class _Work:
    """Columns under iteration."""

    def __init__(self, problem, values, psi, known, tau, linear=None, stuck=None):
        self.problem, self.values, self.known, self.tau = problem, values, known, tau
        self.stuck = torch.zeros_like(tau, dtype=torch.bool) if stuck is None else stuck
        self.at(psi, problem.system(values).linear(psi, known, tau) if linear is None else linear)

    def at(self, psi: Tensor, linear: Linear) -> None:
        """Move to other heads."""
        self.psi, self.linear = psi, linear
        self.size = linear.row.square().sum(1)
        eps = torch.finfo(psi.dtype).eps
        round_off = 8.0 * eps * (linear.diagonal.abs() * (1.0 + psi.abs()) + self.known.abs())
        allowed = (max(TOLERANCE, 100.0 * eps) * self.tau).clamp_max(max(WATER, 10.0 * eps))
        self.done = (linear.row.abs() <= allowed.unsqueeze(1) + round_off).all(1)

    def select(self, keep: Tensor) -> _Work:
        values = [v if v.shape[0] == 1 else v[keep] for v in self.values]
        linear = Linear(*(t[keep] for t in self.linear))
        return _Work(self.problem, values, self.psi[keep], self.known[keep], self.tau[keep], linear, self.stuck[keep])

    def step(self) -> None:
        """One iteration; the step of a column is shortened until its equations are better met, or no worse with cells
        that begin to store water."""
        a, size, system = self.linear, self.size, self.problem.system(self.values)
        before, diagonal = self.psi, a.diagonal + FLOOR * a.diagonal.abs() * (a.capacity <= 0.0)
        step = tridiagonal.solve(a.lower, diagonal, a.upper, -a.row)
        psi, factor = system.project(before + step), torch.ones_like(size)
        self.at(psi, system.linear(psi, self.known, self.tau))
        least = 1.0 - 1e-4 * factor
        for i in range(SHORTER):
            worse = ~(self.size <= least * size) & ~self.done
            if not bool(worse.any()):
                return
            at = worse.nonzero()[:, 0]
            part = self.select(at)
            system = self.problem.system(part.values)
            cut, stores = torch.full_like(size[at], 0.5 if i < 3 else 0.25), torch.zeros_like(at, dtype=torch.bool)
            if i == 0:
                cut, stores = _first_cut(system, before[at], step[at])
            factor = factor.index_copy(0, at, factor[at] * cut)
            least = least.index_copy(0, at, torch.where(stores, NO_WORSE, 1.0 - 1e-4 * factor[at]))
            tried = system.project(before[at] + factor[at].unsqueeze(1) * step[at])
            again = system.linear(tried, part.known, part.tau)
            linear = Linear(*(t.index_copy(0, at, n) for t, n in zip(self.linear, again, strict=True)))
            self.at(self.psi.index_copy(0, at, tried), linear)
        self.stuck = ~(self.size <= least * size) & ~self.done


def _first_cut(system: System, before: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """By how much a step is cut first (columns,), and whether that takes a cell to where it begins to store water."""
    dries, wets = _to_air_entry(system, before, step), _to_saturation(before, step)
    return torch.minimum(dries, wets), dries < wets


def _to_air_entry(system: System, before: Tensor, step: Tensor) -> Tensor:
    """The part of a step (columns,) that takes the first saturated cell just beyond an air entry below zero: how far
    the heads of soil that stores nothing have to fall, no equation tells; one where none gets there."""
    psi, step = system.geometry.cells(before), system.geometry.cells(step)
    entry = system.air_entry(psi)
    falls = (entry < 0.0) & (psi >= entry) & (psi + step < entry)
    return torch.where(falls, (entry * (1.0 + BEYOND) - psi) / torch.where(falls, step, 1.0), 1.0).amin(1)


def _to_saturation(psi: Tensor, step: Tensor) -> Tensor:
    """The part of a step (columns,), at most half, that takes no node drier than 1 cm beyond saturation."""
    rises = (psi < -1.0) & (step > 0.0)
    return torch.where(rises, -psi / torch.where(rises, step, 1.0), 0.5).amin(1).clamp_max(0.5)
