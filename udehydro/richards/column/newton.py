"""Newton's iteration for an implicit stage of many columns at once, each with a line search of its own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from udehydro.richards.column import tridiagonal
from udehydro.richards.column.problem import Problem
from udehydro.richards.column.system import Linear

ITERATIONS = 25
HALVINGS = 8
TOLERANCE = 1e-10
"""What may be left of the equation of a node [cm of water], besides round-off of its terms, in double precision."""


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
        self.problem, self.values, self.psi, self.known, self.tau = problem, values, psi, known, tau
        self.linear = problem.system(values).linear(psi, known, tau) if linear is None else linear
        self.stuck = torch.zeros_like(tau, dtype=torch.bool) if stuck is None else stuck
        self.size = self.linear.row.square().sum(1)

    def select(self, keep: Tensor) -> _Work:
        values = [v if v.shape[0] == 1 else v[keep] for v in self.values]
        linear = Linear(*(t[keep] for t in self.linear))
        return _Work(self.problem, values, self.psi[keep], self.known[keep], self.tau[keep], linear, self.stuck[keep])

    @property
    def done(self) -> Tensor:
        return _met(self.psi, self.linear)

    def step(self) -> None:
        """One iteration; the step of a column is halved until its equations are better met."""
        a = self.linear
        step = tridiagonal.solve(a.lower, a.diagonal, a.upper, -a.row)
        system = self.problem.system(self.values)
        psi, factor = self.psi + step, 1.0
        linear = system.linear(psi, self.known, self.tau)
        size = linear.row.square().sum(1)
        bad = ~(size <= (1.0 - 1e-4) * self.size)
        for _ in range(HALVINGS):
            worse = bad & ~_met(psi, linear)
            if not bool(worse.any()):
                break
            factor *= 0.5
            at = worse.nonzero()[:, 0]
            trial = self.select(at)
            tried = trial.psi + factor * step[at]
            again = _Work(self.problem, trial.values, tried, trial.known, trial.tau, stuck=trial.stuck)
            psi = psi.index_copy(0, at, tried)
            linear = Linear(*(t.index_copy(0, at, n) for t, n in zip(linear, again.linear, strict=True)))
            bad = bad.index_copy(0, at, ~(again.size <= (1.0 - 1e-4 * factor) * trial.size))
        self.psi, self.linear = psi, linear
        self.size = linear.row.square().sum(1)
        self.stuck = (bad & ~self.done) | ~self.size.isfinite()


def _met(psi: Tensor, linear: Linear) -> Tensor:
    """Whether the equations of a column (columns,) are met."""
    eps = torch.finfo(psi.dtype).eps
    round_off = 8.0 * eps * linear.diagonal.abs() * (1.0 + psi.abs())
    return (linear.row.abs() <= TOLERANCE * (eps / torch.finfo(torch.float64).eps) + round_off).all(1)
