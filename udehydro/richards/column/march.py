"""The march through time, without a graph: every column takes steps of its own, all columns at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from udehydro.richards.column import tridiagonal
from udehydro.richards.column.failure import GivenUp, refuse
from udehydro.richards.column.newton import ITERATIONS, solve
from udehydro.richards.column.problem import Problem
from udehydro.richards.column.steps import Adaptive, Fixed, error_weights
from udehydro.richards.column.system import DEFICIT, RUNOFF, Linear
from udehydro.solvers.tableau import Tableau


@dataclass(frozen=True)
class Taken:
    """One step of some columns: all that an adjoint needs.

    Attributes
    ----------
    columns, interval, h, ends : (n,) which columns, in which interval, step [d], and whether it ends the interval.
    mass : (n, node) water at its start; ``stages`` : heads (n, node) of every stage.
    """

    columns: Tensor
    interval: Tensor
    h: Tensor
    ends: Tensor
    mass: Tensor
    stages: tuple[Tensor, ...]

    def select(self, keep: Tensor) -> Taken:
        parts = (self.columns, self.interval, self.h, self.ends, self.mass)
        return Taken(*(t[keep] for t in parts), tuple(s[keep] for s in self.stages))


@dataclass
class March:
    """What a march found.

    Attributes
    ----------
    psi, mass : (T, columns, node) at the ends of intervals; ``volume`` : (T, columns, channel) moved in them [cm].
    accepted, rejected, iterations : (columns,) steps, and iterations of Newton's method.
    tape : the steps, where kept.
    """

    psi: Tensor
    mass: Tensor
    volume: Tensor
    accepted: Tensor
    rejected: Tensor
    iterations: Tensor
    tape: list[Taken] = field(default_factory=list)


@dataclass
class Trial:
    """A step that was tried; its error is in units of the tolerance, and one or less is accepted."""

    stages: tuple[Tensor, ...]
    mass: Tensor
    rate: Tensor
    moved: Tensor
    done: Tensor
    error: Tensor
    iterations: Tensor
    residual: Tensor


@torch.no_grad()
def march(
    problem: Problem, tableau: Tableau, steps: Fixed | Adaptive, psi: Tensor, mass: Tensor, keep: bool, tick=None
) -> March:
    """Step through all intervals.

    Parameters
    ----------
    psi, mass : (columns, node) first guess of heads, and water at the start.
    keep : whether to keep the tape.
    tick : called with the number of intervals all columns have finished, as it grows.

    Raises
    ------
    SolverError
        Where a step cannot be solved; names column, date and cell. The other columns go on to their ends before, so
        that all which fail are known.
    """
    days, columns = problem.forcing.days, len(psi)
    found = _empty(problem, psi, mass)
    rate, k = torch.zeros_like(mass), torch.zeros_like(found.accepted)
    rest, taken = days[:1].expand(columns).clone(), torch.zeros_like(k)
    fixed = isinstance(steps, Fixed)
    proposed = torch.full_like(rest, 0.0 if fixed else steps.first)
    finished, going, lost = 0, torch.ones_like(k, dtype=torch.bool), []
    while bool(going.any()):
        at = going.nonzero()[:, 0]
        ka = k[at]
        if fixed:
            h, ends = days[ka] / steps.steps, taken[at] + 1 == steps.steps
        else:
            h, ends = _length(proposed[at].clamp_max(steps.largest), rest[at])
        trial = attempt(problem, tableau, problem.take(ka, at), psi[at], mass[at], rate[at], h)
        found.iterations[at] += trial.iterations
        ok = trial.done if fixed else trial.done & (trial.error * (1.0 / steps.tolerance) <= 1.0)
        found.rejected[at] += (~ok).to(k.dtype)
        if not fixed:
            proposed[at] = _propose(tableau, steps, trial, h, proposed[at], ends & ok)
        given_up = ~ok if fixed else ~ok & ((h <= steps.smallest) | (taken[at] >= steps.most))
        if bool(given_up.any()):
            lost.append(GivenUp(at, ka, h, psi[at], trial.done, trial.residual).select(given_up))
            going[lost[-1].columns] = False
        taken[at] += 1
        on = ok.nonzero()[:, 0]
        step = Taken(at, ka, h, ends, mass[at], trial.stages).select(on)
        if keep:
            found.tape.append(step)
        at, ends = step.columns, step.ends
        psi[at], mass[at], rate[at] = step.stages[-1], trial.mass[on], trial.rate[on]
        found.volume.index_put_((step.interval, at), trial.moved[on], accumulate=True)
        found.accepted[at] += 1
        over = ends.nonzero()[:, 0]
        found.psi[step.interval[over], at[over]] = psi[at[over]]
        found.mass[step.interval[over], at[over]] = mass[at[over]]
        k[at] += ends.to(k.dtype)
        going[at] = k[at] < len(days)
        taken[at] = torch.where(ends, 0, taken[at])
        rest[at] = torch.where(ends, days[k[at].clamp_max(len(days) - 1)], rest[at] - step.h)
        if tick is not None and (now := int(k.min())) > finished:
            tick(now - finished)
            finished = now
    if lost:
        refuse(problem, GivenUp.join(lost))
    return found


def _empty(problem: Problem, psi: Tensor, mass: Tensor) -> March:
    intervals, columns = len(problem.forcing), len(psi)
    channels = 4 + len(problem.column.sinks)
    count = [torch.zeros(columns, dtype=torch.int64, device=psi.device) for _ in range(3)]
    edges = [psi.new_empty(intervals, *psi.shape) for _ in range(2)]
    return March(*edges, psi.new_zeros(intervals, columns, channels), *count)


def attempt(problem: Problem, tableau: Tableau, values, psi: Tensor, mass: Tensor, rate: Tensor, h: Tensor) -> Trial:
    """One step of every column from heads, water and rates (columns, node), with an estimate of its error."""
    width, stages, rates = h.unsqueeze(-1), [], []
    end, moved, done, iterations = mass, 0.0, torch.ones_like(h, dtype=torch.bool), 0
    psi = problem.system(values).project(psi)
    for i, (row, weight) in enumerate(zip(tableau.a, tableau.b, strict=True)):
        known = mass + sum((width * a * f for a, f in zip(row[:i], rates, strict=True) if a), torch.zeros_like(mass))
        solved = solve(problem, values, psi, known, h * row[i])
        psi = solved.psi
        stages.append(psi)
        rates.append(solved.linear.rate)
        end = end + width * weight * rates[-1]
        moved = moved + width * weight * solved.linear.moved
        done, iterations = done & solved.done, iterations + solved.iterations
    error = _error(problem, solved.linear, width * _weighted(error_weights(tableau), [rate, *rates]))
    done = done & error.isfinite()
    return Trial(tuple(stages), end, rates[-1], moved, done, error, iterations, solved.linear.row)


def _weighted(weights, rates: list[Tensor]) -> Tensor:
    return sum(float(w) * f for w, f in zip(weights, rates, strict=True))


def _error(problem: Problem, a: Linear, missed: Tensor) -> Tensor:
    """Error of a step (columns,), from water ``missed`` by its nodes: what is left after the soil has spread it."""
    refused = (a.moved[:, RUNOFF] > 0.0) | (a.moved[:, DEFICIT] > 0.0)
    missed[:, 0] = torch.where(refused, 0.0, missed[:, 0]) if problem.column.top.ponds else 0.0
    missed[:, -1] = 0.0
    wrong = a.capacity * tridiagonal.solve(a.lower, a.diagonal, a.upper, missed)
    theta = problem.geometry.cells(wrong) / problem.geometry.thickness
    return torch.maximum(theta.abs().amax(1), wrong[:, 0].abs())


def _length(proposed: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Length of the next step, and whether it ends the interval; what is left is never much less than a step."""
    ends = proposed >= rest * (1.0 - 1e-9)
    return torch.where(ends, rest, torch.where(2.0 * proposed > rest, 0.5 * rest, proposed)), ends


def _propose(tableau: Tableau, steps: Adaptive, trial: Trial, h: Tensor, before: Tensor, cut: Tensor) -> Tensor:
    """Length of the step after this one; one cut short by the end of its interval says nothing against a longer one."""
    relative = (trial.error / steps.tolerance).clamp_min(1e-8)
    factor = (0.8 * relative ** (-1.0 / (tableau.order + 1))).clamp(0.2, 3.0)
    factor = torch.where(trial.iterations > 0.6 * ITERATIONS, factor.clamp_max(1.0), factor)
    new = h * torch.where(trial.done, factor, 0.25)
    return torch.where(cut, torch.maximum(new, before), new).clamp(steps.smallest, steps.largest)
