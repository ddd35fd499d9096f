"""Stepping: any tableau, one step after the other. The reference that faster drivers are compared with.

The march itself builds no graph. Gradients come from replaying its steps: all at once with the exact discrete adjoint
(default), or one after the other on the autograd tape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from udehydro.errors import ConfigError, SolverError
from udehydro.solvers import newton
from udehydro.solvers.march import March, Steps
from udehydro.solvers.problem import Point, Problem, SolverReport
from udehydro.solvers.replay import replay_adjoint, replay_tape
from udehydro.solvers.step import advance, path
from udehydro.solvers.tableau import SDIRK2, Tableau

CHECK_EVERY = 64
NEGATIVE = -1e-9
PROBES = 8
SAFETY = 1.25
"""Reserve in the substeps suggested: the accurate path may visit steeper states than the one that was refused."""


@dataclass(frozen=True)
class Stepping:
    """Sequential one-step solver.

    Parameters
    ----------
    tableau : scheme; SDIRK2 by default. Explicit schemes check ``h * spectral radius`` against their stability limit at
        every step and raise, naming basin, date and the substeps needed.
    substeps : equal steps per interval.
    tolerance : residual of implicit stages [mm], scaled by 1 + 1e-3 |Y|.
    undershoot : what to do where a store ends an interval below zero: ``"report"`` counts it, ``"split"`` cuts that
        basin's interval into sub-steps, ``"raise"`` stops. Second-order schemes undershoot for fast decay (SDIRK2
        beyond h x rate = 2.414); backward Euler does not, for laws that vanish with their source. Nothing is ever
        clamped.
    splits : how often an interval may be halved, for undershoot or where Newton fails, before SolverError.
    gradient : ``"adjoint"``: exact discrete adjoint, steps linearised together in chunks, memory of one trajectory;
        ``"tape"``: autograd through the steps, needed for second derivatives.
    checkpoint : with ``"tape"``: steps per window that are recomputed in the backward pass, None to keep all.
    """

    tableau: Tableau = SDIRK2
    substeps: int = 1
    tolerance: float = 1e-9
    undershoot: Literal["report", "split", "raise"] = "report"
    splits: int = 6
    gradient: Literal["adjoint", "tape"] = "adjoint"
    checkpoint: int | None = None

    def __post_init__(self):
        if not (isinstance(self.substeps, int) and self.substeps >= 1):
            raise ConfigError(f"substeps must be a whole number of at least 1, got {self.substeps!r}.")
        if self.undershoot not in ("report", "split", "raise"):
            raise ConfigError(f"undershoot must be 'report', 'split' or 'raise', got {self.undershoot!r}.")
        if self.gradient not in ("adjoint", "tape"):
            raise ConfigError(f"gradient must be 'adjoint' or 'tape', got {self.gradient!r}.")
        if not self.tolerance > 0:
            raise ConfigError(f"tolerance must be above zero, got {self.tolerance!r}.")

    def __call__(self, problem: Problem, storage0: Tensor) -> tuple[Tensor, Tensor, SolverReport]:
        return self.run(problem, storage0, self._march, f"Stepping({self.tableau.name}, substeps={self.substeps})")

    def run(self, problem: Problem, storage0: Tensor, drive, name: str) -> tuple[Tensor, Tensor, SolverReport]:
        """March with a driver ``(problem, y0, report) -> March``, check the result, attach the gradient."""
        report = SolverReport(name)
        with torch.no_grad():
            march = drive(problem, storage0.detach().movedim(-1, 0), report)
        self._check(problem, march, report)
        wants = torch.is_grad_enabled() and (storage0.requires_grad or problem.leaves() or problem.stray_flux())
        if not wants:
            return march.storage, march.volume, report
        if self.gradient == "adjoint":
            problem.check_reach()
            return *replay_adjoint(problem, self.tableau, march, storage0), report
        return *replay_tape(problem, self.tableau, march, storage0, self.checkpoint), report

    def _march(self, problem: Problem, y: Tensor, report: SolverReport) -> March:
        march = March(y, len(problem.days))
        for k in range(len(problem.days)):
            self.step(problem, march, k, report)
            blown = not self.tableau.implicit and k % CHECK_EVERY == CHECK_EVERY - 1
            if blown and not bool(march.last.isfinite().all()):
                break
        return march.finish()

    def step(self, problem: Problem, march: March, k: int, report: SolverReport) -> None:
        """Add the steps through interval ``k`` to the march."""
        point, h = problem.at(k), problem.days[k] / self.substeps
        y, steps, ok = self._interval(problem, point, march.last, [h] * self.substeps, report)
        if (self.tableau.implicit or self.undershoot == "split") and not bool(ok.all()):
            y, steps = self._split(problem, point, march.last, k, ok, report)
        march.append(k, steps, y)

    def _interval(self, problem: Problem, point: Point, y: Tensor, lengths: list[Tensor], report: SolverReport):
        """Steps of given lengths through one interval; returns the end state, the steps, and where all is fine."""
        steps, ok = [], torch.ones_like(y[0], dtype=torch.bool)
        for h in lengths:
            solver = _StageSolver(self, problem.model, point, y, report)
            end, volume = advance(problem.model, self.tableau, point, h, y, solver)
            steps.append((h, y, tuple(solver.solved), volume))
            y = end
            ok = ok if solver.converged is None else ok & solver.converged
        if self.undershoot == "split":
            ok = ok & (y >= NEGATIVE).all(0)
        return y, steps, ok

    def _split(self, problem: Problem, point: Point, y: Tensor, k: int, ok: Tensor, report: SolverReport):
        """Redo an interval with steps halved for every point as often as it needs, whatever its neighbours need."""
        days = problem.days[k]
        pieces = torch.where(ok, self.substeps, 2 * self.substeps)
        self._check_rates(problem, point, y, k)
        for halving in range(1, self.splits + 1):
            h, zero = days / pieces, torch.zeros_like(days)
            lengths = [torch.where(p < pieces, h, zero) for p in range(self.substeps * 2**halving)]
            end, steps, fine = self._interval(problem, point, y, lengths, report)
            if bool(fine.all()):
                report.split_intervals += int((pieces > self.substeps).sum())
                return end, steps
            pieces = torch.where(fine, pieces, 2 * pieces)
        self._fail(problem, k, ~fine, steps)

    def _check_rates(self, problem: Problem, point: Point, y: Tensor, k: int) -> None:
        """Name a law that is not finite at the start of an interval: no step, however short, would help."""
        broken = ~newton.rates(problem.model, point, y).isfinite()
        if not bool(broken.any()):
            return
        flux, *element = broken.nonzero()[0].tolist()
        stores = zip(problem.model.store_names, y[(slice(None), *element)].tolist(), strict=True)
        raise SolverError(
            f"The law of flux '{problem.model.flux_names[flux]}' is not finite in {problem.label(k, element)}, at "
            f"{', '.join(f'{n} = {v:.6g} mm' for n, v in stores)}. Check its weights or parameters: training that "
            "diverged, or an input scale of zero.",
            failed=broken.any(0),
        )

    def _fail(self, problem: Problem, k: int, bad: Tensor, steps) -> None:
        element = bad.nonzero()[0].tolist()
        where = problem.label(k, element)
        model = problem.model
        h, y, guesses, _ = steps[-1]
        value = "; ".join(f"{n} = {y[(i, *element)].item():.6g} mm" for i, n in enumerate(model.store_names))
        raise SolverError(
            f"{self.tableau.name} failed in {where}: after {self.splits} halvings of the interval a stage is unsolved "
            f"or a store below zero ({value} at the last sub-step; {int(bad.sum())} of {bad.numel()} batch elements). "
            "Check the forcing and parameters there; a law that falls with its donor store can make the step "
            "unsolvable.",
            failed=bad,
        )

    def _check(self, problem: Problem, march: March, report: SolverReport) -> None:
        if report.pivots:
            report.min_pivot = (
                float(torch.stack([p.amin() for p in report.pivots]).amin()) if not march.y0.is_meta else math.nan
            )
            report.pivots.clear()
        if not self.tableau.implicit:
            self._check_stability(problem, march)
        if march.y0.is_meta:
            return
        below = (march.storage[1:] < NEGATIVE).any(-1)
        report.undershoots = int(below.sum())
        if report.undershoots and self.undershoot == "raise":
            k, *element = below.nonzero()[0].tolist()
            lowest = march.storage[k + 1][tuple(element)].min().item()
            raise SolverError(
                f"{self.tableau.name}: a store falls to {lowest:.3g} mm in {problem.label(k, element)} "
                f"({report.undershoots} such intervals). Use undershoot='split', more substeps, backward Euler, or "
                "laws that vanish with their source.",
                failed=below.any(0),
            )

    def _check_stability(self, problem: Problem, march: March) -> None:
        """Raise where h x spectral radius exceeds the real stability limit, or a state is not finite."""
        limit = self.tableau.real_stability_limit
        worst, first = None, None
        for steps in march.chunks(problem):
            z = torch.nan_to_num(self._steepest(problem, steps) * steps.h, nan=0.0, posinf=0.0)
            worst = z.amax(0) if worst is None else torch.maximum(worst, z.amax(0))
            broken = z > limit
            if first is None and bool(broken.any()):
                n, *element = broken.nonzero()[0].tolist()
                first = (int(steps.interval[n]), element)
        infinite = (~march.storage[: march.reached + 1].isfinite()).any(-1)
        if bool(infinite.any()):
            k, *element = infinite.nonzero()[0].tolist()
            k = max(k - 1, 0)
            if first is None or k < first[0]:
                self._check_rates(problem, problem.at(k), march.storage[k].movedim(-1, 0), k)
                first = (k, element)
        if first is None:
            return
        k, element = first
        product = worst[tuple(element)].item()
        needed = max(self.substeps + 1, math.ceil(SAFETY * self.substeps * worst.max().item() / limit))
        raise SolverError(
            f"{self.tableau.name} is unstable in {problem.label(k, element)}: h x spectral radius reaches "
            f"{product:.3g}, its limit is {limit:.3g}. Use substeps={needed}, or an implicit tableau "
            "(SDIRK2, backward Euler).",
            failed=(worst > limit) | infinite.any(0),
            substeps=needed,
        )

    def _steepest(self, problem: Problem, steps: Steps) -> Tensor:
        """Largest spectral radius (n, *batch) over the storages that each step passes.

        The start of a step alone does not tell: a bucket that fills within the day is carried across the range where
        baseflow is steep. So the start is judged, and points between the lowest and highest storage of stages and end.
        """
        model, point = problem.model, problem.at(steps.interval)
        low = high = steps.y
        with torch.no_grad():
            for state in path(model, self.tableau, point, steps.h, steps.y):
                low, high = torch.minimum(low, state), torch.maximum(high, state)
        radius = None
        for probe in (steps.y, *(low + (i / PROBES) * (high - low) for i in range(PROBES + 1))):
            _, jacobian = newton.rates_and_jacobian(model, point, probe)
            value = newton.spectral_radius(model, jacobian)
            radius = value if radius is None else torch.maximum(radius, value)
        return radius


class _StageSolver:
    """Solves the implicit stages of one step by damped Newton, each started from the one before."""

    def __init__(self, options: Stepping, model, point: Point, y: Tensor, report: SolverReport):
        self.options, self.model, self.point, self.report = options, model, point, report
        self.state = y
        self.solved: list[Tensor] = []
        self.converged: Tensor | None = None

    def __call__(self, i: int, base: Tensor, ha: Tensor) -> Tensor:
        del i
        stage, done, count = newton.solve_stage(self.model, self.point, base, ha, self.state, self.options.tolerance)
        self.report.newton_iterations += count
        self.report.pivots.append(stage.pivot)
        self.converged = done if self.converged is None else self.converged & done
        self.state = stage.state - stage.update
        self.solved.append(self.state)
        return self.state
