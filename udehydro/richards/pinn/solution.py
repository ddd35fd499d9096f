"""Solving: stages of training of a problem, slab of time after slab if asked for, and the solution they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.richards.pinn.field import Field, Profile
from udehydro.richards.pinn.jets import Orders
from udehydro.richards.pinn.problem import Counts, Problem, Region
from udehydro.richards.pinn.residuals import flux_along
from udehydro.richards.pinn.stages import Stage, Trained, train
from udehydro.richards.pinn.system import Extra
from udehydro.richards.pinn.train import Adam, Levenberg
from udehydro.richards.pinn.watch import table

FORWARD = (Adam(300), Levenberg(100), Levenberg(100))
"""A rough shape first, then Gauss-Newton steps, on new points in the second half."""
PROFILE = 401
"""Places at which the end of a slab of time is handed to the next."""


@dataclass(eq=False)
class Solution:
    """Fields of all members, and how well they fulfil their problem.

    Attributes
    ----------
    problem, fields, extra : what was solved, with what was found.
    chi2 : (members,) weighted mean squares of residuals at the last stage's points, and of data; parts : by term.
    history, failed, leak : how training went, see :class:`~udehydro.richards.pinn.stages.Trained`.
    """

    problem: Problem
    fields: list[Field]
    extra: Extra
    chi2: Tensor
    parts: dict[str, Tensor]
    history: list[dict]
    failed: Tensor
    leak: Tensor

    def table(self) -> pd.DataFrame:
        """How training went, see :func:`~udehydro.richards.pinn.watch.table`."""
        return table(self.history)

    @property
    def members(self) -> int:
        return self.fields[0].network.members

    def psi(self, points) -> Tensor:
        """Head [cm] (members, n) at points (n, D): time [d], then places [cm], the vertical last."""
        return self._at(points, lambda outputs, soil, extra, box: outputs[0].value, Orders())

    def theta(self, points) -> Tensor:
        """Water content."""
        return self._at(points, lambda o, soil, extra, box: soil.at(extra, o[0].value).theta(), Orders())

    def flux(self, points) -> Tensor:
        """Vertical flux [cm/d], positive upward."""

        def of(outputs, soil, extra, box):
            return flux_along(outputs, soil, extra, box.vertical, box.vertical)

        return self._at(points, of, None)

    def held_out(self, seed: int = 10_000, counts: Counts | None = None) -> dict[str, Tensor]:
        """Root mean squares (members,) of residuals by term, in units of the scales, at points no stage has seen."""
        system = self.problem.system(self.fields, seed, counts, self.extra)
        found = system.residuals(system.start())
        return {n: r.square().mean((1, 2)).sqrt() for n, r in zip(system.names, found, strict=False)}

    @torch.no_grad()
    def _at(self, points, of, orders: Orders | None) -> Tensor:
        points = torch.as_tensor(points).to(self.extra.values)
        found = points.new_full((self.members, len(points)), torch.nan)
        extra = self.extra.values.unsqueeze(1)
        for field, region in zip(self.fields, self.problem.regions, strict=True):
            low, high = (points.new_tensor(x) for x in (region.box.low, region.box.high))
            inside = ((points >= low) & (points <= high)).all(1)
            if inside.any():
                outputs = field(points[inside], orders or Orders((region.box.vertical,)))
                found[:, inside] = of(outputs, region.soil.to(points), extra, region.box)
        if bool(found.isnan().all(0).any()):
            raise ConfigError(f"The point {points[found.isnan().all(0)][0].tolist()} is in no region.")
        return found


def solve(
    problem: Problem,
    *,
    seeds: Sequence[int] = (0,),
    stages: Sequence[Adam | Levenberg] = FORWARD,
    counts: Counts | Sequence[Counts] | None = None,
    width: int = 14,
    depth: int = 3,
    extra: Extra | None = None,
    causal: float | None = None,
    device: torch.device | str = "cpu",
    keep: str | Path | None = None,
    progress: bool = False,
) -> Solution:
    """Train the fields of a problem, one member for each seed, all at once.

    Every stage has points of its own, so that none is fitted at the expense of what is between. A member whose
    residuals are not finite stays where it last was well, and is tried again in the next stage.

    Parameters
    ----------
    stages, counts : optimisers in turn, and the points of all or of each.
    width, depth : of the networks.
    extra : unknowns beside the fields.
    causal : epsilon of causal weights, see :mod:`~udehydro.richards.pinn.causal`, made anew for every stage; None for
        none.
    keep : folder for a checkpoint after every stage, from which the same call goes on, with the same bits as if it had
        not been stopped.

    Raises
    ------
    ConfigError
        Where the checkpoint is of another problem, or of other stages.
    SolverError
        Where residuals are not finite for any member.

    Warns
    -----
    UserWarning
        For members whose residuals are not finite, and residuals that are much larger between the points trained on.
    """
    counts = [counts or Counts()] * len(stages) if counts is None or isinstance(counts, Counts) else list(counts)
    fields = problem.fields(seeds, width, depth, device)
    names = [f"{type(s).__name__} {i}/{len(stages)}" for i, s in enumerate(stages, start=1)]
    plan = [Stage(n, s, problem, c, causal) for n, s, c in zip(names, stages, counts, strict=True)]
    return solution_of(problem, train(plan, fields, extra, keep=keep, progress=progress))


def solution_of(problem: Problem, trained: Trained) -> Solution:
    """What stages have found, as a solution."""
    system = trained.system
    parts = system.chi2(system.start())
    named = dict(zip(system.names, parts.unbind(1), strict=True))
    how = trained.history, trained.failed, trained.leak
    return Solution(problem, system.fields, system.extra, parts.sum(1), named, *how)


def march(problem: Problem, *, keep: str | Path | None = None, **how) -> Solution:
    """Solve slab of time after slab, each from the end of the one before; ``how`` as for :func:`solve`.

    For boundaries that jump: a network need not learn what was before the jump. Regions of one dimension. ``keep`` is a
    folder with one for each slab.
    """
    starts = sorted({r.box.low[0] for r in problem.regions})
    done: dict[int, Field] = {}
    slabs: list[Solution] = []
    for k, t in enumerate(starts):
        at = [i for i, r in enumerate(problem.regions) if r.box.low[0] == t]
        regions = [_continued(problem.regions[i], problem.regions, done) for i in at]
        walls = [replace(w, region=at.index(w.region)) for w in problem.walls if w.region in at]
        data = [replace(d, region=at.index(d.region)) for d in problem.data if d.region in at]
        folder = None if keep is None else Path(keep) / f"slab {k}"
        slabs.append(solve(replace(problem, regions=regions, walls=walls, data=data), keep=folder, **how))
        done |= dict(zip(at, slabs[-1].fields, strict=True))
    said = [f" from {t:g} d" for t in starts]
    pairs = list(zip(said, slabs, strict=True))
    return Solution(
        problem,
        [done[i] for i in range(len(problem.regions))],
        slabs[-1].extra,
        sum(s.chi2 for s in slabs),
        {name + when: p for when, s in pairs for name, p in s.parts.items()},
        [row | {"stage": row["stage"] + when} for when, s in pairs for row in s.history],
        torch.stack([s.failed for s in slabs]).any(0),
        torch.stack([s.leak for s in slabs]).amax(0),
    )


def _continued(region: Region, regions: Sequence[Region], done: dict[int, Field]) -> Region:
    """A region that starts from where another has ended."""
    for i, field in done.items():
        before = regions[i].box
        if before.high[0] == region.box.low[0] and before.low[1:] == region.box.low[1:]:
            z = np.linspace(before.low[1], before.high[1], PROFILE)
            points = torch.from_numpy(np.stack([np.full_like(z, before.high[0]), z], axis=1)).to(
                field.network.matrices[0]
            )
            return replace(region, psi0=Profile(z, field(points)[0].value.cpu().numpy()))
    return region
