"""Runs that count what a driver had to do, and that go on without the batch elements it refused."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from udehydro import Balance, Forcing, SolverError
from udehydro.errors import StepBoundWarning
from udehydro.simulate import pose
from udehydro.simulation import Simulation
from udehydro.solvers import AllAtOnce, Compiled
from udehydro.structure import Structure

from .verify import Audit, audit


@dataclass(frozen=True)
class WatchedCompiled(Compiled):
    """Keeps the record of its last run."""

    kept: list = field(default_factory=list, compare=False)

    def march(self, *arguments):
        self.kept[:] = [super().march(*arguments)]
        return self.kept[0]


@dataclass(frozen=True)
class WatchedBlocks(AllAtOnce):
    """Keeps the record of its last run, and counts the blocks it solved again in halves or by stepping."""

    kept: list = field(default_factory=list, compare=False)
    counts: dict = field(default_factory=lambda: {"halved": 0, "stepped": 0}, compare=False)

    def march(self, *arguments):
        self.kept[:] = [super().march(*arguments)]
        return self.kept[0]

    def _range(self, *arguments):
        self.counts["halved"] += self.counts.get("inside", 0)  # a block solved while another is: a part of it
        outer = self.counts.get("inside", 0)
        self.counts["inside"] = 1
        try:
            return super()._range(*arguments)
        finally:
            self.counts["inside"] = outer

    def _stepped(self, *arguments):
        self.counts["stepped"] += 1
        return super()._stepped(*arguments)


@dataclass
class Tally:
    """What came of some runs; ``runs`` are pairs of a parameter set and a basin."""

    runs: int = 0
    intervals: int = 0
    raised: int = 0
    cut: int = 0
    halved: int = 0
    stepped: int = 0
    iterations: int = 0
    undershoots: int = 0
    seconds: float = 0.0
    audit: Audit = field(default_factory=Audit)
    messages: list[str] = field(default_factory=list)

    @property
    def converged(self) -> int:
        return self.runs - self.raised

    def add(self, other: Tally) -> None:
        for name in vars(other):
            if name == "audit":
                self.audit = self.audit.join(other.audit)
            else:
                setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class Batch:
    """A flat batch of runs of one model."""

    model: Balance
    forcing: Forcing
    theta: Mapping[str, Tensor]
    storage0: Tensor

    def part(self, index) -> Batch:
        index = torch.as_tensor(index)
        names = tuple(self.forcing.basins[i] for i in index.tolist()) if self.forcing.basins else ()
        values = {n: v[:, index].contiguous() for n, v in self.forcing.values.items()}
        return Batch(
            self.model,
            replace(self.forcing, values=values, basins=names),
            {n: v[index] if v.ndim else v for n, v in self.theta.items()},
            self.storage0[index],
        )

    @property
    def size(self) -> int:
        return len(self.storage0)


@dataclass(frozen=True)
class Returned:
    """What a run returned: a simulation of the elements ``index`` of its batch."""

    simulation: Simulation
    index: Tensor


def guarded(batch: Batch, solver) -> tuple[Tally, Returned | None]:
    """Run a batch, again without the elements that the solver refused; numbers returned by watched drivers are checked.

    Only SolverError with a mask is caught: anything else is a bug, and ends the benchmark.
    """
    tally, left, index = Tally(batch.size, batch.size * len(batch.forcing)), batch, torch.arange(batch.size)
    while left.size:
        problem = pose(left.model, left.forcing, left.theta)
        started = time.perf_counter()
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore", StepBoundWarning)
                storage, volume, report = solver(problem, left.storage0)
        except SolverError as error:
            tally.seconds += time.perf_counter() - started
            if error.failed is None or not bool(error.failed.any()):
                raise
            tally.raised += int(error.failed.sum())
            tally.messages.append(str(error))
            accepted = (~error.failed).nonzero()[:, 0]
            left, index = left.part(accepted), index[accepted]
            continue
        tally.seconds += time.perf_counter() - started
        tally.cut, tally.iterations, tally.undershoots = (
            report.split_intervals,
            report.newton_iterations,
            report.undershoots,
        )
        if isinstance(solver, WatchedBlocks):
            tally.halved, tally.stepped = solver.counts["halved"] // 2, solver.counts["stepped"]
            solver.counts.update(halved=0, stepped=0)
        if isinstance(solver, WatchedBlocks | WatchedCompiled):
            tally.audit = audit(problem, solver.tableau, storage, volume, solver.kept.pop().steps())
        theta = dict(zip(left.model.parameter_names, problem.theta, strict=True))
        return tally, Returned(Simulation(left.model, left.forcing, storage, volume, report, theta), index)
    return tally, None


def drawn(structure: Structure, sets: int, basins: int, seed: int = 0) -> dict[str, Tensor]:
    """Parameters drawn uniformly over their declared ranges, one set for all basins: (sets * basins,), sets outermost;
    those declared fixed keep their default."""
    rng = np.random.default_rng(seed)
    theta = {}
    for name, r in structure.parameters.items():
        value = rng.uniform(r.low, r.high, sets)
        theta[name] = torch.full((sets * basins,), r.default) if r.fixed else torch.tensor(value.repeat(basins))
    return {n: v.double() for n, v in theta.items()}


def repeated(forcing: Forcing, sets: int) -> Forcing:
    """Every basin once for every parameter set, as one flat batch."""
    names = forcing.basins or tuple(str(i) for i in range(forcing.batch[0]))
    values = {n: v.repeat(1, sets) for n, v in forcing.values.items()}
    return replace(forcing, values=values, basins=names * sets)


def batches(model: Balance, forcing: Forcing, theta: Mapping[str, Tensor], storage0: Tensor, sets: int, *, size: int):
    """Batches of ``size`` parameter sets on all basins; only one of them is in memory at a time."""
    basins = forcing.batch[0]
    for first in range(0, sets, size):
        some = slice(first * basins, min(first + size, sets) * basins)
        count = min(first + size, sets) - first
        yield Batch(model, repeated(forcing, count), {n: v[some] for n, v in theta.items()}, storage0[some])
