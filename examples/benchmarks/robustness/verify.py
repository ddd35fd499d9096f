"""Residuals of a returned trajectory, computed again from its storages and the model's rates alone.

A stiffly accurate scheme ends a step on its last stage, so storages at the edges of an interval and rates at its end
give back the slope of the first of two stages: what storages have to satisfy needs nothing that the solver did inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from udehydro.solvers.march import Steps
from udehydro.solvers.problem import Problem
from udehydro.solvers.tableau import Tableau

POINTS = 1 << 18


@dataclass
class Audit:
    """Worst findings over some runs.

    Attributes
    ----------
    residual : largest one-step residual [mm], from storages, of intervals that are one step.
    relative : the same in units of 1 + 1e-3 |storage|.
    volume : largest difference between a volume and the rates of the stages [mm].
    cut : largest stage residual of the steps of intervals that were cut, in units of 1 + 1e-3 |storage|.
    unsolved : intervals with a residual beyond ``LIMIT`` mm times 1 + 1e-3 |storage|.
    broken : values that are not finite.
    closure : largest balance error [mm].
    """

    residual: float = 0.0
    relative: float = 0.0
    volume: float = 0.0
    cut: float = 0.0
    unsolved: int = 0
    broken: int = 0
    closure: float = 0.0

    def join(self, other: Audit) -> Audit:
        worst = {n: max(getattr(self, n), getattr(other, n)) for n in ("residual", "relative", "volume", "cut")}
        return Audit(
            **worst,
            unsolved=self.unsolved + other.unsolved,
            broken=self.broken + other.broken,
            closure=max(self.closure, other.closure),
        )


LIMIT = 1e-7
"""A hundred times the tolerance of a stage: rates that are steep magnify what a stage leaves."""


def audit(problem: Problem, tableau: Tableau, storage: Tensor, volume: Tensor, steps: Steps) -> Audit:
    """Check a run: storage (T + 1, *batch, S) and volume (T, *batch, F); ``steps`` tell which intervals were cut."""
    model, found = problem.model, Audit()
    whole = _whole(steps, len(problem.days), problem.batch)
    size = max(1, POINTS // max(1, storage[0, ..., 0].numel()))
    for start in range(0, len(problem.days), size):
        part = slice(start, min(start + size, len(problem.days)))
        found = found.join(_interval(problem, tableau, storage, volume, part, whole[part]))
    if not bool(whole.all()):
        found = found.join(_cut(problem, tableau, steps, whole))
    net = volume @ model.incidence
    found.closure = float((storage.diff(dim=0) - net).abs().max())
    found.broken += int((~storage.isfinite()).sum() + (~volume.isfinite()).sum())
    return found


def _interval(problem: Problem, tableau: Tableau, storage: Tensor, volume: Tensor, part: slice, whole: Tensor) -> Audit:
    """Intervals that are one step."""
    model, point = problem.model, problem.at(part)
    before, after = (storage[part.start + i : part.stop + i].movedim(-1, 0) for i in (0, 1))
    h = problem.days[part].reshape(-1, *(1,) * len(problem.batch))
    rates_end, slope_end = _rates(model, point, after)
    if tableau.stages == 1:
        residual, passed = after - before - h * slope_end, h * rates_end
    else:
        (g, _), (b, c) = tableau.a  # after = before + h (b k1 + c k2), first stage = before + h g k1
        first = ((after - before) / h - c * slope_end) / b
        rates, slope = _rates(model, point, before + h * g * first)
        residual, passed = h * g * (first - slope), h * (b * rates + c * rates_end)
    scale = 1.0 + 1e-3 * after.abs()
    relative = (residual.abs() / scale).amax(0) * whole
    return Audit(
        residual=float((residual.abs().amax(0) * whole).max()),
        relative=float(relative.max()),
        volume=float(((passed.movedim(0, -1) - volume[part]).abs().amax(-1) * whole).max()),
        unsolved=int((~(relative <= LIMIT)).sum()),
    )


def _cut(problem: Problem, tableau: Tableau, steps: Steps, whole: Tensor) -> Audit:
    """Steps of intervals that were cut, by the stages recorded for them."""
    some = (~whole).reshape(len(whole), -1).any(1)[steps.interval]
    interval, y = steps.interval[some], steps.y[:, some]
    h, cut = steps.h.expand(len(some), *problem.batch)[some], ~whole[interval]
    point, slopes, worst = problem.at(interval), [], torch.zeros_like(h)
    for i, stage in enumerate(s[:, some] for s in steps.solved):
        slopes.append(_rates(problem.model, point, stage)[1])
        known = y + h * sum(w * k for w, k in zip(tableau.a[i], slopes, strict=False))
        worst = torch.maximum(worst, ((stage - known).abs() / (1.0 + 1e-3 * stage.abs())).amax(0))
    worst = torch.where(cut & (h > 0), worst, 0.0)
    return Audit(cut=float(worst.max()), unsolved=int((~(worst <= LIMIT)).sum()))


def _rates(model, point, state: Tensor) -> tuple[Tensor, Tensor]:
    """Rates (F, n, *batch) and tendencies (S, n, *batch) at storages (S, n, *batch)."""
    with torch.no_grad():
        rates = model.fluxes(state.unbind(0), *point)
        rates = torch.stack([r.expand(state.shape[1:]) for r in rates])
        return rates, torch.einsum("f...,fs->s...", rates, model.incidence)


def _whole(steps: Steps, intervals: int, batch: tuple[int, ...]) -> Tensor:
    """Which intervals (T, *batch) are one step."""
    if len(steps.interval) == intervals:
        return torch.ones(intervals, *batch, dtype=torch.bool)
    taken = (steps.h > 0).expand(len(steps.interval), *batch).long()
    return torch.zeros(intervals, *batch, dtype=torch.long).index_add_(0, steps.interval, taken) == 1
