"""Solving: stages of training of a problem, slab of time after slab if asked for, and the solution they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from udehydro.errors import ConfigError, SolverError
from udehydro.richards.pinn.field import Field, Profile
from udehydro.richards.pinn.jets import Orders
from udehydro.richards.pinn.problem import Counts, Problem, Region
from udehydro.richards.pinn.residuals import flux_along
from udehydro.richards.pinn.system import Extra
from udehydro.richards.pinn.train import Adam, Levenberg

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
    """

    problem: Problem
    fields: list[Field]
    extra: Extra
    chi2: Tensor
    parts: dict[str, Tensor]

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
        return {t.name: r.square().mean((1, 2)).sqrt() for t, r in zip(system.terms, found, strict=True)}

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
                found[:, inside] = of(outputs, region.soil, extra, region.box)
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
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Solution:
    """Train the fields of a problem, one member for each seed, all at once.

    Every stage has points of its own, so that none is fitted at the expense of what is between.

    Raises
    ------
    SolverError
        Where residuals are not finite for any member.
    """
    counts = [counts or Counts()] * len(stages) if counts is None or isinstance(counts, Counts) else list(counts)
    fields = problem.fields(seeds, width, depth, device)
    system, last = None, None
    for i, (stage, count) in enumerate(zip(stages, counts, strict=True)):
        extra = extra if system is None else system.extra
        system = problem.system(fields, 100 * i, count, extra)
        last = stage(system, f"{type(stage).__name__} {i + 1}/{len(stages)}" if progress else None)
    names = [t.name for t in system.terms] + ["known beforehand"] * bool(system.extra.values.shape[1])
    if not isinstance(last, Tensor):
        chi2, parts = last.chi2, last.parts
    else:
        chi2, parts = 2.0 * last, system.normal(system.start()).parts
    if bool(chi2.isinf().all()) or bool(chi2.isnan().all()):
        raise SolverError("No member has finite residuals.", failed=~chi2.isfinite())
    return Solution(problem, fields, system.extra, chi2, dict(zip(names, parts.unbind(1), strict=True)))


def march(problem: Problem, **how) -> Solution:
    """Solve slab of time after slab, each from the end of the one before; ``how`` as for :func:`solve`.

    For boundaries that jump: a network need not learn what was before the jump. Regions of one dimension.
    """
    starts = sorted({r.box.low[0] for r in problem.regions})
    done: dict[int, Field] = {}
    last, chi2, parts = None, 0.0, {}
    for t in starts:
        at = [i for i, r in enumerate(problem.regions) if r.box.low[0] == t]
        regions = [_continued(problem.regions[i], problem.regions, done) for i in at]
        walls = [replace(w, region=at.index(w.region)) for w in problem.walls if w.region in at]
        data = [replace(d, region=at.index(d.region)) for d in problem.data if d.region in at]
        last = solve(replace(problem, regions=regions, walls=walls, data=data), **how)
        done |= dict(zip(at, last.fields, strict=True))
        chi2 = chi2 + last.chi2
        parts |= {f"{name} from {t:g} d": p for name, p in last.parts.items()}
    return Solution(problem, [done[i] for i in range(len(problem.regions))], last.extra, chi2, parts)


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
