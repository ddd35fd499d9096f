"""Stepping: any tableau, one step after the other. The reference that faster drivers are compared with.

The march itself builds no graph. Gradients come from the steps it took: all at once with the exact discrete adjoint
(default), or one after the other on the autograd tape.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from udehydro.solvers import newton
from udehydro.solvers.march import March
from udehydro.solvers.one_step import Cuts, OneStep, lengths, lowest
from udehydro.solvers.problem import Point, Problem, SolverReport
from udehydro.solvers.step import advance

CHECK_EVERY = 64


@dataclass(frozen=True)
class Stepping(OneStep):
    """Sequential solver for any tableau, in eager PyTorch; options in :class:`OneStep`.

    Explicit schemes check ``h * spectral radius`` against their stability limit at every step and raise, naming basin,
    date and the substeps needed.
    """

    splits_signed = True

    def march(self, problem: Problem, y: Tensor, cuts: Cuts, report: SolverReport) -> March:
        march = March(y, len(problem.days), len(problem.model.flux_names))
        for k in range(len(problem.days)):
            self.step(problem, march, cuts, k, report)
            blown = not self.tableau.implicit and k % CHECK_EVERY == CHECK_EVERY - 1
            if blown and not bool(march.last.isfinite().all()):
                break
        return march

    def step(self, problem: Problem, march: March, cuts: Cuts, k: int, report: SolverReport) -> None:
        """Add the steps through interval ``k`` to the march."""
        point = problem.at(k)
        y, steps, ok, _ = self._interval(problem, point, march.last, cuts.lengths(k), report)
        if (self.tableau.implicit or self.undershoot == "split") and not bool(ok.all()):
            y, steps = self._split(problem, point, march.last, cuts, k, ok, report)
        march.append(k, steps, y)

    def _interval(self, problem: Problem, point: Point, y: Tensor, steps: list[Tensor], report: SolverReport):
        """Steps of given lengths through one interval; returns end state, steps, where all is fine, and residual."""
        taken, ok, worst = [], torch.ones_like(y[0], dtype=torch.bool), torch.zeros_like(y[0])
        for h in steps:
            solver, stages = _StageSolver(self, problem.model, point, y, report), []
            end, volume = advance(problem.model, self.tableau, point, h, y, solver, stages)
            taken.append((h, y, tuple(stages) if self.tableau.implicit else (), volume))
            y = end
            if solver.converged is not None:
                ok, worst = ok & solver.converged, torch.maximum(worst, solver.residual)
        if self.undershoot == "split":
            ok = ok & (y >= lowest(problem.model, y)).all(0)
        return y, taken, ok, worst

    def _split(self, problem: Problem, point: Point, y: Tensor, cuts: Cuts, k: int, ok: Tensor, report: SolverReport):
        """Redo an interval with steps halved for every point as often as it needs, whatever its neighbours need."""
        planned = torch.as_tensor(cuts.at(k), device=y.device)
        pieces = torch.where(ok, planned, 2 * planned)
        self.check_rates(problem, y, k)
        for halving in range(1, self.splits + 1):
            steps = lengths(problem.days[k], pieces, cuts.most[k] * 2**halving)
            end, taken, fine, residual = self._interval(problem, point, y, steps, report)
            if bool(fine.all()):
                report.split_intervals += int((pieces > planned).sum())
                return end, taken
            pieces = torch.where(fine, pieces, 2 * pieces)
        self.fail(problem, k, ~fine, taken[-1][1], residual)


class _StageSolver:
    """Solves the implicit stages of one step by damped Newton, each started from the one before."""

    def __init__(self, options: Stepping, model, point: Point, y: Tensor, report: SolverReport):
        self.options, self.model, self.point, self.report = options, model, point, report
        self.state = y
        self.converged: Tensor | None = None
        self.residual: Tensor | None = None

    def __call__(self, i: int, base: Tensor, ha: Tensor) -> Tensor:
        del i
        stage, done, count = newton.solve_stage(self.model, self.point, base, ha, self.state, self.options.tolerance)
        self.report.newton_iterations += count
        self.report.pivots.append(stage.pivot)
        self.converged = done if self.converged is None else self.converged & done
        self.residual = stage.size if self.residual is None else torch.maximum(self.residual, stage.size)
        self.state = stage.state - stage.update
        return self.state
