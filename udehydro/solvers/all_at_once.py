"""All steps of a block at once: Newton on the whole block, the linear recurrence solved by a scan.

Every step of the block is linearised around its present guess, which makes it an affine map of the step before; a scan
solves the chain of maps; repeat. Rates and Jacobians of all steps and batch elements are evaluated together, so the
overhead of Python no longer grows with the record. After each scan, only the points whose own one-step residual did not
fall are damped: the first unconverged step is then a damped one-step Newton, so the converged front always advances.
A block that does not converge is halved, and at last stepped sequentially. The numbers are those of :class:`Stepping`,
to its tolerance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.solvers import newton
from udehydro.solvers.march import March
from udehydro.solvers.problem import Problem, SolverReport
from udehydro.solvers.scan import forward_scan, product
from udehydro.solvers.stepping import NEGATIVE, Stepping

BLOCK_POINTS = 2048
LONGEST, SHORTEST = 2048, 32
HALVE_DOWN_TO = 16


@dataclass(frozen=True)
class AllAtOnce:
    """Parallel-in-time Newton for implicit, stiffly accurate tableaux.

    Parameters
    ----------
    stepping : the scheme with its substeps, tolerance, undershoot treatment and gradient; also finishes the blocks that
        do not converge together.
    block : steps solved together; by default 32 to 2048, fewer the larger the batch.
    iterations : Newton iterations before a block is stepped sequentially instead.
    warm : trajectory of an earlier run, taken as the first guess and replaced by this run's; see :class:`WarmStart`.
    """

    stepping: Stepping = field(default_factory=Stepping)
    block: int | None = None
    iterations: int = 60
    warm: WarmStart | None = field(default=None, repr=False, compare=False)

    def __post_init__(self):
        tableau = self.stepping.tableau
        if not (tableau.stiffly_accurate and all(row[i] for i, row in enumerate(tableau.a))):
            raise ConfigError(
                f"AllAtOnce needs an implicit, stiffly accurate tableau such as SDIRK2 or backward Euler, not "
                f"'{tableau.name}'; use Stepping for explicit ones."
            )
        if self.block is not None and self.block < 1:
            raise ConfigError(f"block must be at least 1 step, got {self.block}.")

    def __call__(self, problem: Problem, storage0: Tensor) -> tuple[Tensor, Tensor, SolverReport]:
        return self.stepping.run(problem, storage0, self._march, f"AllAtOnce({self.stepping.tableau.name})")

    def _march(self, problem: Problem, y: Tensor, report: SolverReport) -> March:
        march = March(y, len(problem.days))
        size = self.block or min(LONGEST, max(SHORTEST, BLOCK_POINTS // max(1, math.prod(problem.batch))))
        size = max(1, size // self.stepping.substeps)
        for start in range(0, len(problem.days), size):
            self._range(problem, march, start, min(start + size, len(problem.days)), report)
        march.finish()
        if self.warm is not None:
            self.warm.keep(problem, march)
        return march

    def _range(self, problem: Problem, march: March, start: int, stop: int, report: SolverReport) -> None:
        """Solve intervals together; where that fails in halves, and at last one after the other."""
        block = _Block.open(problem, self.stepping, start, stop, march.last)
        if self._solve(block, march, report):
            return
        if stop - start > HALVE_DOWN_TO:
            middle = (start + stop) // 2
            self._range(problem, march, start, middle, report)
            self._range(problem, march, middle, stop, report)
            return
        report.notes.append(f"stepped sequentially: {problem.label(start)} to {problem.label(stop - 1)}")
        for k in range(start, stop):
            self.stepping.step(problem, march, k, report)

    def _solve(self, block: _Block, march: March, report: SolverReport) -> bool:
        """Solve a block and add its steps to the march; False (and nothing added) where that fails."""
        guess = self.warm.guess(block) if self.warm is not None else None
        if guess is None:
            guess = [block.y.unsqueeze(1).expand(-1, block.n, *block.y.shape[1:]).contiguous()] * block.stages
        point = block.evaluate(guess)
        previous = None
        for _ in range(self.iterations):
            report.newton_iterations += 1
            block.damp(previous, point)
            if bool(point.converged(block).all()):
                return block.commit(point, march, self.stepping, report)
            if not bool(point.finite()):
                return False
            previous, point = point, block.evaluate(block.update(point, report))
        return False


class WarmStart:
    """Stages of the last run, keyed by absolute interval: training changes parameters little between runs.

    Guesses change the number of iterations, never the numbers beyond the tolerance. ``tensors`` and ``load`` let a
    checkpoint carry it, so that a resumed run repeats an uninterrupted one bit for bit.
    """

    def __init__(self):
        self._times: Tensor | None = None
        self._states: list[Tensor] = []

    def guess(self, block: _Block) -> list[Tensor] | None:
        """Stages (S, n, *batch) for the steps of a block, or None where the last run does not cover them."""
        if self._times is None or len(self._states) != block.stages:
            return None
        wanted = _moments(block.problem)[block.interval.to("cpu")]
        start = int(torch.searchsorted(self._times, wanted[:1]))
        part = slice(start, start + block.n)
        if not torch.equal(self._times[part], wanted) or self._states[0].shape[2:] != block.y.shape[1:]:
            return None
        return [s[:, part].clone() for s in self._states]

    def keep(self, problem: Problem, march: March) -> None:
        """Remember a finished march."""
        self._times = _moments(problem)[march.interval.to("cpu")]
        self._states = list(march.stages(0, len(march)))

    def tensors(self) -> dict[str, Tensor]:
        if self._times is None:
            return {}
        return {"times": self._times} | {str(i): s for i, s in enumerate(self._states)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        if tensors:
            self._times = tensors["times"].to("cpu")
            self._states = [tensors[str(i)] for i in range(len(tensors) - 1)]


def _moments(problem: Problem) -> Tensor:
    """Start of every interval in nanoseconds (T,)."""
    return torch.from_numpy(problem.record.time.astype("int64"))


class _Iterate(NamedTuple):
    """A guess of all stages, (stages, S, n, *batch), with its tendencies, Jacobians and one-step residuals."""

    states: list[Tensor]
    slopes: list[Tensor]
    jacobians: list[Tensor]
    residuals: list[Tensor]

    def converged(self, block: _Block) -> Tensor:
        fine = [
            (r.abs() <= newton.tolerance(y, block.absolute)).all(0)
            for r, y in zip(self.residuals, self.states, strict=True)
        ]
        return torch.stack(fine).all(0)

    def finite(self) -> Tensor:
        return torch.stack([r.isfinite().all() for r in self.residuals]).all()


class _Block:
    """The steps of one block: what they read, and the linear algebra of their chain."""

    def __init__(self, problem: Problem, tableau, absolute: float, interval: Tensor, h: Tensor, y: Tensor):
        self.problem, self.tableau, self.absolute = problem, tableau, absolute
        self.interval, self.h, self.y = interval, h, y
        self.n, self.stages = len(interval), tableau.stages
        self.point = problem.at(interval)

    @classmethod
    def open(cls, problem: Problem, stepping: Stepping, start: int, stop: int, y: Tensor) -> _Block:
        interval = torch.arange(start, stop, device=y.device).repeat_interleave(stepping.substeps)
        h = problem.days[interval].reshape(-1, *(1,) * len(problem.batch)) / stepping.substeps
        return cls(problem, stepping.tableau, stepping.tolerance, interval, h, y)

    def before(self, states: list[Tensor]) -> Tensor:
        """State at the start of every step (S, n, *batch): the last stage of the step before."""
        return torch.cat([self.y.unsqueeze(1), states[-1][:, :-1]], dim=1)

    def residual(self, i: int, state: Tensor, slopes: list[Tensor], before: Tensor, at=slice(None)) -> Tensor:
        """One-step residual of stage ``i`` at some steps; ``slopes`` of the stages up to ``i`` are those steps'."""
        row, h = self.tableau.a[i], self.h[at]
        known = before[:, at]
        for j in range(i + 1):
            if row[j]:
                known = known + (h * row[j]) * slopes[j]
        return state - known

    def residuals(self, states: list[Tensor], slopes: list[Tensor]) -> list[Tensor]:
        """One-step residuals of all stages, each from the state before its step."""
        before = self.before(states)
        return [self.residual(i, state, slopes, before) for i, state in enumerate(states)]

    def evaluate(self, states: list[Tensor]) -> _Iterate:
        pairs = [newton.rates_and_jacobian(self.problem.model, self.point, y) for y in states]
        slopes, jacobians = [p[0] for p in pairs], [p[1] for p in pairs]
        return _Iterate(states, slopes, jacobians, self.residuals(states, slopes))

    def update(self, point: _Iterate, report: SolverReport) -> list[Tensor]:
        """Stages after one undamped Newton step on the whole block."""
        n_stores = len(self.y)
        eye = torch.eye(n_stores, dtype=self.y.dtype, device=self.y.device)
        eye = eye.reshape(n_stores, n_stores, 1, *(1,) * (self.y.ndim - 1)).expand(-1, -1, self.n, *self.y.shape[1:])
        maps: list[Tensor] = []
        for i, row in enumerate(self.tableau.a):
            # columns: response to the start of the step (S of them), and the part that follows from the residual
            right = torch.cat([eye, -point.residuals[i].unsqueeze(1)], dim=1)
            for j in range(i):
                if row[j]:
                    inner = (point.jacobians[j].unsqueeze(2) * maps[j].unsqueeze(0)).sum(1)
                    right = right + (self.h * row[j]) * inner
            solved, pivot = newton.eliminate(self.problem.model, point.jacobians[i], self.h * row[i], right)
            maps.append(solved)
        report.pivots.append(pivot)
        d = forward_scan(maps[-1][:, :n_stores], maps[-1][:, n_stores])
        before = torch.cat([torch.zeros_like(d[:, :1]), d[:, :-1]], dim=1)
        return [
            y + (product(m[:, :n_stores], before) + m[:, n_stores]) for y, m in zip(point.states, maps, strict=True)
        ]

    def damp(self, previous: _Iterate | None, point: _Iterate) -> None:
        """Backtrack, in place, the points of the new iterate whose own residual did not fall; stage by stage."""
        if previous is None:
            return
        for i in range(self.stages):
            # earlier stages may have been damped, and the state before a step too: judge against the present ones
            before = self.before(point.states)
            earlier = point.slopes[:i]
            old = self.residual(i, previous.states[i], [*earlier, previous.slopes[i]], before)
            new = self.residual(i, point.states[i], [*earlier, point.slopes[i]], before)
            self._backtrack(i, previous, point, old.abs().sum(0), new, before)
        point.residuals[:] = self.residuals(point.states, point.slopes)

    def _backtrack(self, i: int, previous: _Iterate, point: _Iterate, old: Tensor, new: Tensor, before: Tensor) -> None:
        size = new.abs().sum(0)
        fine = (new.abs() <= newton.tolerance(point.states[i], self.absolute)).all(0)
        bad = ~(fine | (size <= 0.9 * old))
        model, damping = self.problem.model, 1.0
        at = bad.flatten(1).any(1).nonzero()[:, 0] if bad.ndim > 1 else bad.nonzero()[:, 0]
        full = point.states[i]
        for _ in range(newton.HALVINGS):
            if not len(at):
                return
            damping *= 0.5
            mask = bad[at]
            base, target = previous.states[i][:, at], full[:, at]
            trial = torch.where(mask, base + damping * (target - base), point.states[i][:, at])
            where = self.problem.at(self.interval[at])
            slope, jacobian = newton.rates_and_jacobian(model, where, trial)
            point.states[i][:, at], point.slopes[i][:, at], point.jacobians[i][:, :, at] = trial, slope, jacobian
            r = self.residual(i, trial, [*(s[:, at] for s in point.slopes[:i]), slope], before, at)
            good = (r.abs().sum(0) <= (1.0 - newton.DECREASE * damping) * old[at]) | ~mask
            bad[at] = ~good
            at = at[(~good).flatten(1).any(1) if good.ndim > 1 else ~good]

    def commit(self, point: _Iterate, march: March, stepping: Stepping, report: SolverReport) -> bool:
        """Add the converged steps to the march, after one last Newton step of the block that needs no check."""
        states = self.update(point, report)
        volume = 0.0
        for weight, state in zip(self.tableau.b, states, strict=True):
            volume = volume + (self.h * weight) * newton.rates(self.problem.model, self.point, state)
        change = newton.tendency(self.problem.model, volume)
        ends = self.y.unsqueeze(1) + change.cumsum(1)
        if stepping.undershoot == "split" and bool((ends < NEGATIVE).any()):
            return False
        starts = torch.cat([self.y.unsqueeze(1), ends[:, :-1]], dim=1)
        march.extend(self.interval, self.h, starts, states, volume, ends)
        return True
