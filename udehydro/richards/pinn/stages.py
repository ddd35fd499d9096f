"""One loop over stages of training, for solving and for learning: with guards, a table of how it went, and checkpoints.

A stage is an optimiser, the problem with the weights it has then, and points of its own. Between stages all there is to
know is the search vector, so that a run that was stopped goes on from the last whole stage with the same bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from udehydro.errors import ConfigError, SolverError
from udehydro.richards.pinn.causal import causal
from udehydro.richards.pinn.field import Field
from udehydro.richards.pinn.problem import Counts, Problem
from udehydro.richards.pinn.system import Extra, System
from udehydro.training import checkpoint

UNSEEN = 50
"""Number of a stage that never comes: where its points would be, nothing is trained."""
LEAK = 3.0
"""Residuals at points not trained on, over those trained on, from which a warning is due."""
GIVEN = 1.1
"""How much of its fit to data a member may give for physics that holds better: misfit over the best so far, or over one
where that is less."""

Optimiser = Callable[[System, "str | None", "list[dict] | None"], Tensor]
"""Moves a system, shows a bar of some words, adds rows to a history; chi2 (members,), infinite where one failed."""


@dataclass(frozen=True, eq=False)
class Stage:
    """What is trained how, on how many points; ``causal`` is the epsilon of causal weights, or None for none."""

    name: str
    optimiser: Optimiser
    problem: Problem
    counts: Counts
    causal: float | None = None

    def system(self, fields: Sequence[Field], number: int, extra: Extra | None) -> System:
        return self.problem.system(fields, 100 * number, self.counts, extra)

    def told(self) -> str:
        return f"{self.name}: {self.optimiser}, {self.counts}, {self.problem.weights}, causal={self.causal}"

    def run(self, system: System, progress: bool, rows: list[dict]) -> Tensor:
        """Train a system, and say which members (members,) have failed."""
        trained = system if self.causal is None else causal(system, self.causal)
        try:
            chi2 = self.optimiser(trained, self.name if progress else None, rows)
        except SolverError as error:
            return error.failed
        system.load(trained.start())
        return ~chi2.isfinite()


def ramped(
    problem: Problem, readings: int, optimisers: Sequence[Optimiser], ramp: Sequence[float], counts: Counts
) -> list[Stage]:
    """Stages in which physics gets heavier: the first of the optimisers at the first size of residuals, in units of the
    scales, that counts as one standard deviation, the others at one of the ramp each.

    Raises
    ------
    ConfigError
        For a ramp without stages.
    """
    if len(ramp) < 1 or len(optimisers) != len(ramp) + 1:
        raise ConfigError(f"ramp={list(ramp)} needs a size of the physics' residuals for every stage.")
    plan = []
    for optimiser, tolerance in zip(optimisers, [ramp[0], *ramp], strict=True):
        weights = replace(problem.weights, physics=readings / tolerance**2)
        name = f"{type(optimiser).__name__}, physics to {tolerance:g}"
        plan.append(Stage(name, optimiser, replace(problem, weights=weights), counts))
    return plan


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run of stages came to.

    Attributes
    ----------
    system : of the last stage that a member stands at, with what was found.
    history : rows by stage and step, see :class:`~udehydro.richards.pinn.watch.Watch`.
    failed : (members,) whether residuals were not finite in the last stage; such a member is where it last was well.
    leak : (members,) size of the physics' residuals at points no stage has seen, over that at points of the last one;
        nine tenths of the points are below this size.
    stands : (members,) number of the stage whose result a member has: of the last one, where it did not cost its fit.
    """

    system: System
    history: list[dict]
    failed: Tensor
    leak: Tensor
    stands: Tensor

    def back(self, stages: Sequence[Stage]) -> Trained:
        """The same on the CPU."""
        if self.failed.device.type == "cpu":
            return self
        for f in self.system.fields:
            f.network.cpu()
        last = int(self.stands.max())
        system = stages[last].system(self.system.fields, last, self.system.extra.to("cpu"))
        return Trained(system, self.history, self.failed.cpu(), self.leak.cpu(), self.stands.cpu())


def train(
    stages: Sequence[Stage],
    fields: Sequence[Field],
    extra: Extra | None = None,
    *,
    misfit: Callable[[System], Tensor] | None = None,
    given: float = GIVEN,
    keep: str | Path | None = None,
    progress: bool = False,
) -> Trained:
    """Run stages one after the other, all members at once.

    Parameters
    ----------
    misfit : (members,) chi2 by reading of a system. With it, a member that a stage but the first two leaves with more
        than ``given`` times the least one so far, or one, goes back to where it was, and stays there: the networks
        cannot hold the physics to that tolerance, and data would pay for it (the discrepancy principle, Morozov 1966).
    keep : folder for a checkpoint after every stage. Where it holds one of the same stages, these go on from there.

    Raises
    ------
    ConfigError
        Where the checkpoint is of other stages, or of another problem.
    SolverError
        Where no member has finite residuals.

    Warns
    -----
    UserWarning
        For members whose residuals are not finite in a stage, and where residuals are much larger between the points
        trained on.
    """
    system = stages[0].system(fields, 0, extra)
    run = _Run(system, stages, misfit, given, keep)
    for number in range(run.done, len(stages)):
        if run.rests:
            break
        stage, before = stages[number], system.start()
        system = stage.system(fields, number, system.extra) if number else system
        rows: list[dict] = []
        failed = stage.run(system, progress, rows)
        run.judge(system, before)
        run.save(system, failed, [{"stage": stage.name, **row} for row in rows])
    last = int(run.stands.max())
    system = stages[last].system(fields, last, system.extra)
    return Trained(system, run.history, run.failed, _leak(stages[last], system, fields), run.stands)


class _Run:
    """State of a run: how many stages are done, what they told, where members stand, and where it is kept."""

    def __init__(self, system: System, stages: Sequence[Stage], misfit, given: float, folder: str | Path | None):
        self.folder, self.stages, self.misfit, self.given = folder, stages, misfit, given
        self.done, self.history = 0, []
        like = system.extra.values
        self.failed = torch.zeros(len(like), dtype=torch.bool, device=like.device)
        self.stands = torch.zeros(len(like), dtype=torch.long, device=like.device)
        self.least = like.new_full((len(like),), torch.inf)
        if folder is None:
            return
        self.told = {
            "stages": [s.told() for s in stages],
            "probe": _probe(system),
            "given": None if misfit is None else str(given),
        }
        found = checkpoint.load_latest(folder)
        if found is not None:
            self._go_on(system, *found)

    def _go_on(self, system: System, tensors: dict[str, Tensor], meta: dict) -> None:
        told = meta.get("told", {})
        probes = [torch.tensor(t.get("probe", []), dtype=torch.float64) for t in (told, self.told)]
        same = all(told.get(n) == self.told[n] for n in ("stages", "given")) and probes[0].shape == probes[1].shape
        if not (same and torch.allclose(*probes, rtol=1e-8, atol=0.0)):
            raise ConfigError(
                f"The checkpoint in '{self.folder}' is of other stages, or of another problem: name another folder "
                "to begin anew, or ask for what it was made with."
            )
        system.load(tensors["x"].to(system.extra.values))
        for name in ("failed", "stands", "least"):
            setattr(self, name, tensors[name].to(getattr(self, name)))
        self.done, self.history = meta["done"], meta["history"]

    @property
    def rests(self) -> bool:
        """Whether all members have gone back from the last stage."""
        return self.done > 0 and bool((self.stands < self.done - 1).all())

    def judge(self, system: System, before: Tensor) -> None:
        """Put members back to ``before`` whose data paid for the stage."""
        number, worse = self.done, torch.zeros_like(self.failed)
        if self.misfit is not None and number:
            found = self.misfit(system)
            if number > 1:
                worse = (self.stands < number - 1) | ~(found <= self.given * self.least.clamp_min(1.0))
                system.load(torch.where(worse.unsqueeze(1), before, system.start()))
            self.least = torch.where(worse, self.least, torch.fmin(self.least, found))
        self.stands = torch.where(worse, self.stands, number)

    def save(self, system: System, failed: Tensor, rows: list[dict]) -> None:
        """A stage is over."""
        stage = self.stages[self.done]
        _heed(failed, system.fields[0].network.seeds, stage.name)
        self.failed, self.done, self.history = failed, self.done + 1, self.history + rows
        if self.folder is not None:
            meta = {"told": self.told, "done": self.done, "history": self.history}
            state = {"x": system.start(), "failed": failed, "stands": self.stands, "least": self.least}
            checkpoint.save(self.folder, self.done, state, meta)


def _probe(system: System) -> list[float]:
    """Numbers that tell one problem from another: its residuals at the start, and what is known of unknowns.

    A problem may hold functions, which have no text that could be compared.
    """
    chi2, extra = system.chi2(system.start()).flatten(), system.extra
    known = [t.clamp(-1e9, 1e9).flatten() for t in (extra.low, extra.high, extra.likely, extra.precision)]
    return torch.cat([chi2, *known]).nan_to_num().tolist()


def _heed(failed: Tensor, seeds: Sequence[int], stage: str) -> None:
    """Say which members failed."""
    who = ", ".join(str(s) for s, f in zip(seeds, failed.tolist(), strict=True) if f)
    if bool(failed.all()):
        raise SolverError(
            f"Stage '{stage}': no member has finite residuals (seeds {who}). Look for values that overflow in soils, "
            "walls and psi0; check the scales of heads and fluxes; take a lower rate of Adam, or stretch=False.",
            failed=failed,
        )
    if who:
        warnings.warn(
            f"Stage '{stage}': residuals of seeds {who} are not finite; these members stay where they last were well.",
            stacklevel=5,
        )


def _leak(stage: Stage, system: System, fields: Sequence[Field]) -> Tensor:
    """How much larger residuals of the physics are at points that no stage has seen; warns where that is much."""
    leak = _size(stage.system(fields, UNSEEN, system.extra)) / _size(system).clamp_min(1e-300)
    if bool((leak > LEAK).any()):
        warnings.warn(
            f"Residuals of the physics are up to {float(leak.max()):.1f} times as large between the points trained on: "
            "networks leak there. Take more points (counts), another stage of Levenberg, or a smaller network.",
            stacklevel=4,
        )
    return leak


def _size(system: System) -> Tensor:
    """Of the physics' residuals (members,): what nine tenths of the points are below. The largest are those of the few
    points next to jumps, which say nothing of what is between."""
    rows = system.residuals(system.start())
    squares = [r.square().sum(2).quantile(0.9, dim=1) for r in rows]
    return sum(t.weight * s for t, s in zip(system.terms, squares, strict=True) if t.mean).sqrt()
