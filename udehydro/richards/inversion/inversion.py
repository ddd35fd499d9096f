"""Inversion: a column, what of it is to be found, and what was measured in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.forcing import Forcing
from udehydro.richards.column.along import flow_along
from udehydro.richards.column.column import Column
from udehydro.richards.column.result import ColumnRun, States
from udehydro.richards.column.run import WaterContent, flow
from udehydro.richards.column.steps import Adaptive, Fixed
from udehydro.richards.inversion.free import Free
from udehydro.richards.inversion.observed import Observed
from udehydro.richards.inversion.setting import Setting, setting
from udehydro.richards.inversion.unknowns import Unknowns
from udehydro.sensitivity.information import Information
from udehydro.solvers.tableau import SDIRK2, Tableau

NEAR = 1e-3
"""Suctions [cm] and other magnitudes below which logarithms are continued, to zero and beyond it."""


@dataclass(frozen=True, eq=False)
class Inversion:
    """A column in which some values are :class:`Free`, and what was observed of it.

    Parameters
    ----------
    column, forcing, p, psi0 : as of :func:`~udehydro.richards.column.flow`, with Free values where they are unknown:
        in ``p``, as ``psi0`` (or within ``WaterContent``), in boundaries and sinks, such as ``Flux(q=Free(...))``.
    observed : the series; the edges of the forcing's intervals are where they were measured.
    weights : standard deviation of what is known of the weights of laws around their present values, which then are
        unknowns too; None leaves them alone.
    tableau, steps : of the runs.

    Attributes
    ----------
    unknowns : the search vector x (members, P), with names, start, bounds and priors.

    Raises
    ------
    ConfigError, DataError
        For unknowns and observations that do not fit the column, and where there is nothing to find.
    """

    column: Column
    forcing: Forcing
    p: Mapping | Sequence[Mapping] | None
    psi0: Tensor | float | Free | WaterContent
    observed: Sequence[Observed]
    weights: float | None = None
    tableau: Tableau = SDIRK2
    steps: Fixed | Adaptive = field(default_factory=Adaptive)
    unknowns: Unknowns = field(init=False, repr=False)

    def __post_init__(self):
        observed = (self.observed,) if isinstance(self.observed, Observed) else tuple(self.observed)
        object.__setattr__(self, "observed", observed)
        if not observed or not all(isinstance(series, Observed) for series in observed):
            raise ConfigError("An inversion needs what was observed: one Observed, or several.")
        for series in observed:
            series.check(self.column, len(self.forcing), self.forcing.batch)
        where = setting(self.column, self.p, self.psi0)
        object.__setattr__(self, "unknowns", Unknowns(where, self.forcing, self.weights))

    def at(self, x: Tensor) -> Setting:
        """Column, ``p`` and ``psi0`` with numbers in place of what is free; weights of laws stay as they are."""
        return self.unknowns.put(x)

    def run(self, x: Tensor, progress: bool = False) -> ColumnRun:
        """The column at x (members, P)."""
        now, how = self.at(x), {"tableau": self.tableau, "steps": self.steps, "progress": progress}
        with self.unknowns.weights_at(x):
            return flow(now.column, self.forcing, now.p, now.psi0, **how)

    def run_along(self, x: Tensor) -> tuple[ColumnRun, States]:
        """The column at x, and its derivatives along all D directions of a column's search."""
        now, how = self.at(x), {"tableau": self.tableau, "steps": self.steps}
        with self.unknowns.weights_at(x):
            return flow_along(now.column, self.forcing, now.p, now.psi0, self.unknowns.along(x), **how)

    def residuals(self, x: Tensor) -> tuple[ColumnRun, list[Tensor], Tensor]:
        """The run at x; residuals (members, n) of every series in units of sigma, simulated minus observed; and their
        derivatives (members, P, N), the series one after the other. What is missing counts zero."""
        run, slopes = self.run_along(x)
        found, jacobian = self.compare(run, slopes)
        members = len(x)
        return run, [f.reshape(members, -1) for f in found], self._by_members(found, jacobian)

    def compare(self, run: ColumnRun, slopes: States) -> tuple[list[Tensor], list[Tensor]]:
        """Residuals (columns, n) and derivatives (columns, D, n) of every series, in units of sigma."""
        batch, found, rows = len(self.forcing.batch), [], []
        for series in self.observed:
            simulated, slope = series.of(run, run.column), series.of(slopes, run.column)
            values, measured = series.values.to(simulated), ~series.values.isnan().to(simulated.device)
            sigma = series.sigma.to(simulated).expand_as(values)
            if series.log:
                sign = torch.where(values < 0.0, -1.0, 1.0)
                simulated, by = _logarithm(sign * simulated)
                slope, values = (sign * by).unsqueeze(1) * slope, torch.log(values.abs())
            residual = torch.where(measured, (simulated - values) / sigma, 0.0)
            slope = torch.where(measured, 1.0 / sigma, 0.0).unsqueeze(1) * slope
            found.append(_by_column(residual, 1, batch))
            rows.append(_by_column(slope.movedim(1, 0), 2, batch).movedim(0, 1))
        return found, rows

    def measured(self, members: int) -> list[Tensor]:
        """How many values every series has of each member (members,)."""
        batch = len(self.forcing.batch)
        rows = [_by_column(~series.values.isnan(), 1, batch).sum(-1) for series in self.observed]
        return [row.reshape(members, -1).sum(-1) for row in rows]

    def _by_members(self, found: list[Tensor], rows: list[Tensor]) -> Tensor:
        """Derivatives (members, P, N): within a member series by series, within a series column by column."""
        return torch.cat([self.unknowns.join(slope) for slope in rows], dim=-1)

    def information(self, x: Tensor | None = None) -> Information:
        """Fisher information of the observations on all unknowns, in physical units, at x or at the start.

        Priors are left out: an unknown that is known by its prior alone has no information here.
        """
        u = self.unknowns
        x = u.start if x is None else x
        jacobian, values = self.residuals(x)[2], u.physical(x)
        by_value = torch.where(u.logarithmic, values, 1.0)  # d value / d x
        jacobian = jacobian / by_value.unsqueeze(-1)
        span = (u.high - u.low) * by_value.abs()
        parts = (jacobian @ jacobian.mT, values, torch.where(span.isfinite(), span, torch.nan))
        return Information(u.names, *(parts if self.forcing.batch and u.apart else (t[0] for t in parts)))


def _logarithm(magnitude: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithm of magnitudes and its slope. Below NEAR it goes on falling, ever more slowly, also where values have
    the other sign: saturated soil is on the wet side of any tensiometer, and the search knows the way back."""
    inside = torch.where(magnitude > NEAR, magnitude, NEAR)
    beyond = torch.where(magnitude > NEAR, 0.0, NEAR - magnitude)
    return torch.log(inside) - torch.log1p(beyond / NEAR), 1.0 / (inside + beyond)


def _by_column(series: Tensor, behind: int, batch: int) -> Tensor:
    """(..., T, *batch, sensors) -> (..., columns, n), ``behind`` axes up to and with T."""
    first, rest = series.shape[:behind], series.shape[behind:]
    series = series.reshape(*first, -1, *rest[batch:])
    return series.movedim(behind - 1, behind).flatten(behind)
