"""All steps of a block at once: Newton on the whole block, the linear recurrence solved by a sweep.

Every step of the block is linearised around its present guess, which makes it an affine map of the step before; a sweep
along the chain of maps solves them all; repeat. Rates and Jacobians of all steps and batch elements are evaluated
together, so the overhead of Python no longer grows with the record. After each sweep, only the points whose own
one-step residual did not fall are damped: the first unconverged step is then a damped one-step Newton, so the converged
front always advances. Steps behind the front and batch elements that are done leave the iteration. Elements that do not
converge are solved again in blocks of half the length, and at last stepped sequentially with sub-steps. The numbers are
those of :class:`Stepping`, to its tolerance.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.solvers import chain, newton
from udehydro.solvers.march import March, Segment, Steps, evaluation_points, join
from udehydro.solvers.one_step import Cuts, OneStep, lowest
from udehydro.solvers.problem import Problem, SolverReport
from udehydro.solvers.step import along_slopes
from udehydro.solvers.stepping import Stepping
from udehydro.solvers.tableau import BACKWARD_EULER, Tableau
from udehydro.solvers.warm import WarmStart

BLOCK_POINTS = 8192
LONGEST, SHORTEST = 2048, 32
HALVE_DOWN_TO = 16
SLOW, SHORTEST_WINDOW = 12, 128
"""Iterations after which the speed of the front is judged; steps that are always kept."""
PATIENCE = 60
"""Iterations in which the converged front has to advance by an eighth of the block."""
ROUGH = 0.1
"""Residual [mm] of the run of backward Euler that other tableaux start from."""
QUIET = 1e-4
"""Change of a state [mm] up to which its last linearisation serves."""
VERIFICATIONS = 3
TRIGGER = 0.9
"""A residual that did not fall to this share of the last one makes its point backtrack."""


@dataclass(frozen=True)
class AllAtOnce(OneStep):
    """Parallel-in-time Newton for implicit tableaux; options of every driver in :class:`OneStep`.

    Parameters
    ----------
    block : intervals solved together, or ``"auto"``: 32 to 2048, fewer the larger the batch.
    warm_start : start every run from the trajectory of the last one over the same intervals, where there is one; this
        solver object keeps it (in ``memory``).
    """

    _: KW_ONLY
    block: int | Literal["auto"] = "auto"
    warm_start: bool = True
    memory: WarmStart = field(default_factory=WarmStart, init=False, repr=False, compare=False)
    splits_signed = True

    def __post_init__(self):
        super().__post_init__()
        if not self.tableau.implicit:
            raise ConfigError(
                f"AllAtOnce needs an implicit tableau such as SDIRK2 or backward Euler, not '{self.tableau.name}'; use "
                "Stepping for explicit ones."
            )
        if self.block != "auto" and not (isinstance(self.block, int) and self.block >= 1):
            raise ConfigError(f"block must be 'auto' or at least 1 interval, got {self.block!r}.")

    def march(self, problem: Problem, y: Tensor, cuts: Cuts, report: SolverReport) -> March:
        march = March(y, len(problem.days), len(problem.model.flux_names))
        size = self.block
        if size == "auto":
            size = BLOCK_POINTS // max(1, math.prod(problem.batch) * max(cuts.most))
            size = min(LONGEST, max(SHORTEST, size))
        for start in range(0, len(problem.days), size):
            stop = min(start + size, len(problem.days))
            interval, _ = cuts.block(start, stop)
            guess = self.memory.guess(problem, interval, self.tableau.stages) if self.warm_start else None
            march.extend(self._range(problem, cuts, march.last, start, stop, guess, report))
        if self.warm_start:
            self.memory.keep(problem, march)
        return march

    def _range(
        self, problem: Problem, cuts: Cuts, y: Tensor, start: int, stop: int, guess, report: SolverReport
    ) -> Segment:
        """Solve intervals together; the elements that fail in halves, and at last one interval after the other."""
        interval, h = cuts.block(start, stop)
        block = _Block(problem, self.tableau, self.tolerance, interval, h, y)
        segment, done = block.solve(guess, report)
        if self.undershoot == "split":
            done = done & (segment.edges >= lowest(problem.model, segment.edges)).all(0).all(0)
        if bool(done.all()):
            return segment
        failed = _elements(~done)
        part, some = problem.elements(failed), cuts.elements(failed)
        first = y[..., failed] if y.ndim > 1 else y
        if stop - start > HALVE_DOWN_TO:
            middle = (start + stop) // 2
            left = self._range(part, some, first, start, middle, None, report)
            right = self._range(part, some, left.edges[:, -1], middle, stop, None, report)
            again = left.then(right)
        else:
            report.notes.append(f"stepped sequentially: {part.label(start)} to {part.label(stop - 1)}")
            again = self._stepped(part, some, first, start, stop, report)
        return join(segment, again, failed) if len(failed) < _width(y) else again

    def _stepped(self, problem: Problem, cuts: Cuts, y: Tensor, start: int, stop: int, report: SolverReport) -> Segment:
        stepping, march = Stepping(**self.options()), March(y, len(problem.days), len(problem.model.flux_names))
        for k in range(start, stop):
            stepping.step(problem, march, cuts, k, report)
        return Segment(
            march.steps(),
            march.volume[start:stop].movedim(-1, 0),
            march.storage[start + 1 : stop + 1].movedim(-1, 0),
        )


def _width(y: Tensor) -> int:
    return y.shape[-1] if y.ndim > 1 else 1


def _elements(mask: Tensor) -> Tensor:
    """Indices on the last batch axis where any of a mask (*batch) is True."""
    return mask.reshape(-1, mask.shape[-1]).any(0).nonzero()[:, 0] if mask.ndim else mask.new_zeros(1, dtype=torch.long)


class _Iterate(NamedTuple):
    """A guess of all stages with its tendencies and Jacobians, per stage (S, n, *batch) and (S, S, n, *batch)."""

    states: list[Tensor]
    slopes: list[Tensor]
    jacobians: list[Tensor]

    def part(self, steps: slice, elements: Tensor | None) -> _Iterate:
        """Some steps, and some elements of the last batch axis, as copies."""
        take = (lambda t: t) if elements is None else (lambda t: t[..., elements])
        return _Iterate(
            [take(t[:, steps]).clone() for t in self.states],
            [take(t[:, steps]).clone() for t in self.slopes],
            [take(t[:, :, steps]).clone() for t in self.jacobians],
        )

    def put(self, steps: slice, elements: Tensor | None, part: _Iterate) -> None:
        where = (slice(None), steps) if elements is None else (slice(None), steps, ..., elements)
        for mine, new in zip((*self.states, *self.slopes), (*part.states, *part.slopes), strict=True):
            mine[where] = new
        for mine, new in zip(self.jacobians, part.jacobians, strict=True):
            mine[(slice(None), *where)] = new


class _Block:
    """The steps of one block: what they read, and Newton on their chain."""

    def __init__(self, problem: Problem, tableau: Tableau, absolute: float, interval: Tensor, h: Tensor, y: Tensor):
        self.problem, self.tableau, self.absolute = problem, tableau, absolute
        self.interval, self.h, self.y = interval, h, y
        self.n, self.stages = len(interval), tableau.stages
        self.point = problem.at(interval)
        self.separable = problem.separable

    def part(self, steps: slice, elements: Tensor | None, y: Tensor) -> _Block:
        """Later steps of the block, of some elements, from a given state."""
        problem, h = self.problem, self.h[steps]
        if elements is not None:
            problem = problem.elements(elements)
            h = h[..., elements] if h.shape[-1] > 1 and h.ndim > 1 else h
        return _Block(problem, self.tableau, self.absolute, self.interval[steps], h, y)

    def solve(self, guess: list[Tensor] | None, report: SolverReport) -> tuple[Segment, Tensor]:
        """Newton until every step of every element is solved; returns the steps, and which elements are (*batch)."""
        whole = self.evaluate(self.guess(report) if guess is None else guess)
        for _ in range(VERIFICATIONS):
            done = self._iterate(whole, report)
            fluxes = self.fluxes(whole.states)
            whole.slopes[:] = [newton.tendency(self.problem.model, q) for q in fluxes]
            residuals = self.residuals(whole)
            solved, finite = self.converged(whole.states, residuals)
            if bool((solved.all(0) | ~done).all()) or not bool(finite):
                break
            whole = self.evaluate(whole.states)
        return self._finish(whole, residuals, fluxes, report), done & solved.all(0)

    def guess(self, report: SolverReport) -> list[Tensor]:
        """Stages to start from: the state held, or, for more stages than one, a rough run of backward Euler."""
        held = self.y.unsqueeze(1).expand(-1, self.n, *self.y.shape[1:]).clone()
        if self.stages == 1:
            return [held]
        rough = _Block(self.problem, BACKWARD_EULER, ROUGH, self.interval, self.h, self.y)
        live, own = rough.evaluate([held]), SolverReport(report.solver)
        rough._iterate(live, own)
        report.newton_iterations += own.newton_iterations
        ends = live.states[0]
        ends = torch.where(ends.isfinite(), ends, held)
        starts = torch.cat([self.y.unsqueeze(1), ends[:, :-1]], dim=1)
        return [starts + sum(row) * (ends - starts) for row in self.tableau.a]

    def _iterate(self, whole: _Iterate, report: SolverReport) -> Tensor:
        """Improve an iterate in place; returns which elements (*batch) are solved.

        Steps before the first that is not solved in some element leave the iteration, and so do elements all of whose
        steps are. Of a single element, steps far ahead of a slow front wait until it comes near.
        """
        done = torch.zeros_like(self.y[0], dtype=torch.bool)
        block, live, elements, previous = self, whole, None, None
        first, last, fronts, mark, patience = 0, self.n, [], 0, PATIENCE
        while True:
            report.newton_iterations += 1
            if previous is not None:
                block.damp(previous, live)
            residuals = block.residuals(live)
            solved, finite = block.converged(live.states, residuals)
            unsolved = (~solved).reshape(block.n, -1).any(1)
            ahead = int(unsolved.to(torch.int8).argmax()) if bool(unsolved.any()) else block.n
            fronts.append(first + ahead)
            patience -= 1
            if first + ahead >= mark + max(1, self.n // 8):
                mark, patience = first + ahead, PATIENCE
            if first + ahead == self.n or not bool(finite) or patience == 0:
                whole.put(slice(first, last), elements, live)
                _mark(done, elements, solved.all(0) if last == self.n else torch.zeros_like(solved[0]))
                return done
            remaining = _elements(~solved.all(0)) if solved.ndim > 1 else None
            single = remaining is None or solved.shape[-1] == 1
            fewer = not single and len(remaining) <= 0.7 * solved.shape[-1]
            size = _window(fronts, self.n) if single else self.n
            if ahead > 0.2 * block.n or fewer or size < 0.5 * block.n:
                whole.put(slice(first, last), elements, live)
                start = block.ends(live.states, live.slopes)[:, ahead - 1] if ahead else block.y
                if fewer:
                    _mark(done, elements, solved.all(0))
                    start = start[..., remaining]
                    elements = remaining if elements is None else elements[remaining]
                first, last = first + ahead, min(self.n, first + ahead + size)
                block, live = self.part(slice(first, last), elements, start), whole.part(slice(first, last), elements)
                residuals = block.residuals(live)
            update, pivot = block.update(live, residuals)
            report.pivots.append(pivot)
            previous, live = live, block.moved(live, update)

    def evaluate(self, states: list[Tensor]) -> _Iterate:
        """Tendencies and Jacobians of all stages."""
        pairs = [self._in_pieces(newton.rates_and_jacobian, y) for y in states]
        return _Iterate(states, [p[0] for p in pairs], [p[1] for p in pairs])

    def fluxes(self, states: list[Tensor]) -> list[Tensor]:
        """Rates (F, n, *batch) of all fluxes at all stages."""
        return [self._in_pieces(lambda *a: (newton.rates(*a),), y)[0] for y in states]

    def _in_pieces(self, function, state: Tensor) -> list[Tensor]:
        """Call (model, point, state) for some steps at a time, which stay in the cache; results joined along time."""
        size = max(1, evaluation_points(self.problem) // max(1, math.prod(self.problem.batch)))
        if self.n <= size:
            return list(function(self.problem.model, self.point, state))
        parts = [
            function(self.problem.model, self.problem.part(self.point, slice(k, k + size)), state[:, k : k + size])
            for k in range(0, self.n, size)
        ]
        time = -1 - len(self.problem.batch)
        return [torch.cat(p, dim=time) for p in zip(*parts, strict=True)]

    def moved(self, previous: _Iterate, states: list[Tensor]) -> _Iterate:
        """Tendencies and Jacobians at new states. Where these hardly moved the old linearisation is good enough: its
        error is quadratic, and what comes of it is verified with true rates before anything is returned."""
        slopes, jacobians = [], []
        for i, state in enumerate(states):
            delta = state - previous.states[i]
            far = ~(delta.abs() <= QUIET).all(0)
            rows = far if self.separable else far.reshape(self.n, -1).any(1)
            at = rows.nonzero(as_tuple=True)
            if len(at[0]) > 0.5 * rows.numel():
                slope, jacobian = self._in_pieces(newton.rates_and_jacobian, state)
            else:
                slope = previous.slopes[i] + chain.product(previous.jacobians[i], delta)
                jacobian = previous.jacobians[i].clone()
                if len(at[0]):
                    slope[:, *at], jacobian[:, :, *at] = newton.rates_and_jacobian(
                        self.problem.model, self._point(at), state[:, *at]
                    )
            slopes.append(slope)
            jacobians.append(jacobian)
        return _Iterate(states, slopes, jacobians)

    def _point(self, at: tuple[Tensor, ...]):
        """Forcing and parameters at scattered points (k, *element), or at whole steps (k,) of a model with members."""
        if self.separable:
            return self.problem.points(self.interval[at[0]], at[1:])
        return self.problem.at(self.interval[at[0]])

    def before(self, states: list[Tensor], slopes: list[Tensor]) -> Tensor:
        """State at the start of every step (S, n, *batch): the end of the step before."""
        return torch.cat([self.y.unsqueeze(1), self.ends(states, slopes)[:, :-1]], dim=1)

    def ends(self, states: list[Tensor], slopes: list[Tensor]) -> Tensor:
        """State at the end of every step: the last stage, or what the slopes add up to from the block's start."""
        if self.tableau.stiffly_accurate:
            return states[-1]
        change = sum((self.h * w) * f for w, f in zip(self.tableau.b, slopes, strict=True))
        return self.y.unsqueeze(1) + change.cumsum(1)

    def residual(self, i: int, state: Tensor, slopes: list[Tensor], before: Tensor, h: Tensor | None = None) -> Tensor:
        """One-step residual of stage ``i``; ``slopes`` are of the stages up to ``i``."""
        return state - along_slopes(before, self.h if h is None else h, self.tableau.a[i], slopes)

    def residuals(self, live: _Iterate) -> list[Tensor]:
        """One-step residuals of all stages."""
        before = self.before(live.states, live.slopes)
        return [self.residual(i, y, live.slopes[: i + 1], before) for i, y in enumerate(live.states)]

    def converged(self, states: list[Tensor], residuals: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Which steps are solved (n, *batch), and whether all residuals are finite."""
        solved, finite = None, None
        for state, r in zip(states, residuals, strict=True):
            fine = (r.abs() <= newton.tolerance(state, self.absolute)).all(0)
            solved = fine if solved is None else solved & fine
            finite = r.isfinite().all() if finite is None else finite & r.isfinite().all()
        return solved, finite

    def update(self, live: _Iterate, residuals: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Stages after one undamped Newton step on the whole block, and the smallest pivots met."""
        sources = [-r for r in residuals]
        if not self.tableau.stiffly_accurate:
            # ends are sums of slopes by construction, so they have no residual of their own
            sources.append(torch.zeros_like(sources[0]))
        moved, _, pivot = chain.forward(self.tableau, self.h, live.jacobians, sources)
        return [y + dy for y, dy in zip(live.states, moved, strict=True)], pivot

    def damp(self, previous: _Iterate, live: _Iterate) -> None:
        """Backtrack, in place, the points of the new iterate whose own residual did not fall; stage by stage."""
        for i in range(self.stages):
            # earlier stages may have been damped, and the state before a step too: judge against the present ones
            before = self.before(live.states, live.slopes)
            old = self.residual(i, previous.states[i], [*live.slopes[:i], previous.slopes[i]], before).abs().sum(0)
            new = self.residual(i, live.states[i], live.slopes[: i + 1], before).abs()
            fine = (new <= newton.tolerance(live.states[i], self.absolute)).all(0)
            bad = ~(fine | (new.sum(0) <= TRIGGER * old))
            at = bad.nonzero(as_tuple=True)
            if len(at[0]):
                self._backtrack(i, previous, live, old, before, at)

    def _backtrack(self, i: int, previous: _Iterate, live: _Iterate, old: Tensor, before: Tensor, at) -> None:
        """Shorten the step of stage ``i`` at some points (k, *element): the longest of six halvings that helps.

        All six are tried together, since a call costs more than the few points it is for.
        """
        wanted = None
        if not self.separable:  # every network of a member axis sees its own elements: take whole steps
            mask = torch.zeros(self.n, *self.problem.batch, dtype=torch.bool, device=self.y.device)
            mask[at] = True
            at = (at[0].unique(),)
            wanted = mask[at]
        base, full, count = previous.states[i][:, *at], live.states[i][:, *at], len(at[0])
        damping = 0.5 ** torch.arange(1, newton.HALVINGS + 1, dtype=full.dtype, device=full.device)
        damping = damping.reshape(-1, *(1,) * (full.ndim - 1))
        trials = base.unsqueeze(1) + damping * (full - base).unsqueeze(1)
        many = tuple(index.repeat(newton.HALVINGS) for index in at)
        slope, jacobian = newton.rates_and_jacobian(self.problem.model, self._point(many), trials.flatten(1, 2))
        h = self.h.expand(self.n, *self.problem.batch)[many]
        slopes = [*(s[:, *many] for s in live.slopes[:i]), slope]
        r = self.residual(i, trials.flatten(1, 2), slopes, before[:, *many], h)
        size = r.abs().sum(0).unflatten(0, (newton.HALVINGS, count))
        good = size <= (1.0 - newton.DECREASE * damping) * old[at]
        # the first that is good, or the shortest
        good[-1] = True
        chosen = good.to(torch.int8).argmax(0)

        def pick(values: Tensor, lead: int) -> Tensor:
            values = values.unflatten(lead, (newton.HALVINGS, count))
            index = chosen.reshape(*(1,) * (lead + 1), *chosen.shape).expand(*values.shape[:lead], 1, *chosen.shape)
            return values.gather(lead, index).squeeze(lead)

        new = pick(trials.flatten(1, 2), 1), pick(slope, 1), pick(jacobian, 2)
        targets = ((live.states[i], 1), (live.slopes[i], 1), (live.jacobians[i], 2))
        for value, (target, lead) in zip(new, targets, strict=True):
            where = (*(slice(None),) * lead, *at)
            target[where] = value if wanted is None else torch.where(wanted, value, target[where])

    def _finish(self, whole: _Iterate, residuals: list[Tensor], fluxes: list[Tensor], report: SolverReport) -> Segment:
        """The steps with their volumes.

        Residuals that could add up along the block get one more Newton step, unchecked: ends, which are sums of
        volumes, are then the solution to round-off.
        """
        model, states = self.problem.model, whole.states
        left = sum(r.abs().sum(1).amax() for r in residuals)
        if not bool(left <= 1e-3 * self.absolute):
            states, pivot = self.update(whole, residuals)
            report.pivots.append(pivot)
            fluxes = self.fluxes(states)
        volume = 0.0
        for weight, rates in zip(self.tableau.b, fluxes, strict=True):
            if weight:
                volume = volume + (self.h * weight) * rates
        ends = self.y.unsqueeze(1) + newton.tendency(model, volume).cumsum(1)
        starts = torch.cat([self.y.unsqueeze(1), ends[:, :-1]], dim=1)
        return Segment.of(Steps(self.interval, self.h, starts, tuple(states)), volume, ends)


def _window(fronts: list[int], n: int) -> int:
    """Steps worth iterating on: all, unless the front has moved so slowly that those far ahead would wait for long."""
    if len(fronts) <= SLOW:
        return n
    rate = (fronts[-1] - fronts[-1 - SLOW]) / SLOW
    return n if rate * 2 * SLOW > n - fronts[-1] else max(SHORTEST_WINDOW, round(8 * rate))


def _mark(done: Tensor, elements: Tensor | None, solved: Tensor) -> None:
    if elements is None:
        done |= solved
    else:
        done[..., elements] |= solved
