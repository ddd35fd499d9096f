"""Observed: what was measured in a column, where, and how well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from udehydro.errors import ConfigError, DataError
from udehydro.richards.column.column import Column
from udehydro.richards.column.result import States
from udehydro.richards.inversion.plausible import check_contents, check_heads
from udehydro.structure import suggest

POINTS = ("theta", "psi")
STATES = ("storage", "pond")
VOLUMES = ("infiltration", "recharge", "evaporation", "runoff", "top", "bottom")


@dataclass(frozen=True, eq=False)
class Observed:
    """A measured series with independent errors.

    Parameters
    ----------
    kind : ``theta`` or ``psi`` of sensors, ``storage`` or ``pond`` [cm], at the edges of intervals; or what moved in
        intervals [cm]: ``infiltration``, ``recharge`` (outflow through the bottom), ``evaporation``, ``runoff``,
        ``top``, ``bottom``.
    values : (T + 1, *batch) at edges, (T, *batch) in intervals; of several sensors (T + 1, *batch, sensor). NaN where
        nothing was measured.
    sigma : standard deviation of an error, broadcast to values.
    depth : of sensors [cm] below the surface, positive downward, a number or several.
    support : height of soil [cm] that a sensor averages over; 0 is a point.
    log : whether errors are of the logarithm of the magnitude (tensiometers of so many per cent).
    cumulative : whether volumes add up from the start: values (T + 1, ...), the first of them zero or missing.

    Raises
    ------
    ConfigError
        For a kind that is unknown, a depth that is missing or not asked for, and one above the surface.
    DataError
        For a sigma that is not above zero or not finite, for infinite values, water contents that are not 0 to 1, heads
        most of which stand above the surface, and where nothing is measured at all.

    Warns
    -----
    UserWarning
        For heads that are mostly above zero.
    """

    kind: str
    values: Tensor | np.ndarray
    sigma: Tensor | np.ndarray | float
    depth: float | Sequence[float] | None = None
    support: float = 0.0
    log: bool = False
    cumulative: bool = False

    def __post_init__(self):
        if self.kind not in (known := (*POINTS, *STATES, *VOLUMES)):
            raise ConfigError(
                f"'{self.kind}' cannot be observed; known: {', '.join(known)}.{suggest(self.kind, known)}"
            )
        if (self.depth is None) == (self.kind in POINTS):
            raise ConfigError(
                f"'{self.kind}' needs the depth of its sensor(s) [cm]."
                if self.kind in POINTS
                else f"'{self.kind}' has no depth: it is of the whole column."
            )
        for d in np.atleast_1d(self.depth) if self.depth is not None else ():
            if not 0.0 <= d < np.inf:
                raise ConfigError(f"'{self.kind}' at {d:g} cm: depths are cm below the surface, positive downward.")
        if self.cumulative and self.kind not in VOLUMES:
            raise ConfigError(f"'{self.kind}' is no volume: it does not add up.")
        values = self.values if isinstance(self.values, Tensor) else np.array(self.values, dtype="float64")  # of pandas
        values = torch.as_tensor(values, dtype=torch.float64).detach()
        sigma = torch.as_tensor(self.sigma, dtype=torch.float64).detach()
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "sigma", sigma)
        measured = ~values.isnan()
        if not bool(measured.any()) or bool(values.isinf().any()):
            raise DataError(
                f"The series '{self.kind}' has {'infinite values' if bool(measured.any()) else 'no values'}."
            )
        erring = sigma.expand_as(values)[measured]
        if not bool(((erring > 0.0) & ~erring.isinf()).all()):
            raise DataError(
                f"sigma of '{self.kind}' has to be above zero and finite where something was measured; what is not to "
                "count is NaN in values."
            )
        if self.log and bool((values[measured] == 0.0).any()):
            raise DataError(f"'{self.kind}' has zeros, which have no logarithm: mask them (NaN), or log=False.")
        if self.log and self.kind == "psi" and bool((values[measured] > 0.0).any() & (values[measured] < 0.0).any()):
            raise DataError(
                "'psi' has heads of both signs, which have no common logarithm: mask those above zero (NaN), where "
                "soil is saturated, or log=False."
            )
        if self.kind == "theta":
            check_contents(self.name, values[measured])
        if self.kind == "psi":
            depth = torch.as_tensor(self.depth, dtype=torch.float64)
            fits = depth.ndim == 0 or values.shape[-1:] == depth.shape  # else `check` refuses
            depth = depth.expand_as(values)[measured] if fits else depth.max()
            check_heads(self.name, values[measured], depth, stacklevel=3)

    @property
    def several(self) -> bool:
        """Whether values have an axis of sensors."""
        return self.depth is not None and np.ndim(self.depth) > 0

    @property
    def edges(self) -> bool:
        """Whether it stands at the T + 1 edges of intervals."""
        return self.cumulative or self.kind not in VOLUMES

    @property
    def name(self) -> str:
        where = "" if self.depth is None else " at " + ", ".join(f"{d:g}" for d in np.atleast_1d(self.depth)) + " cm"
        return ("cumulative " if self.cumulative else "") + self.kind + where

    def check(self, column: Column, intervals: int, batch: tuple[int, ...]) -> None:
        """Refuse what does not fit a column and its record.

        Raises
        ------
        ConfigError
            For depths outside the column.
        DataError
            For values of another shape.
        """
        bottom = column.grid.edges[-1]
        for d in np.atleast_1d(self.depth) if self.depth is not None else ():
            if not 0.0 <= d - 0.5 * self.support <= d + 0.5 * self.support <= bottom:
                raise ConfigError(f"A sensor at {d:g} cm (support {self.support:g} cm) is not in 0 to {bottom:g} cm.")
        expected = (intervals + self.edges, *batch, *((len(self.depth),) if self.several else ()))
        if tuple(self.values.shape) != expected:
            raise DataError(
                f"{self.name}: values have shape {tuple(self.values.shape)}, expected {expected}: "
                f"{'edges' if self.edges else 'intervals'} x batch{' x sensors' if self.several else ''}."
            )

    def of(self, states: States, column: Column) -> Tensor:
        """The series that a run has of it, as ``values``; linear in the states."""
        series = getattr(states, self.kind)
        if self.kind in POINTS:
            series = series @ weights(column, np.atleast_1d(self.depth), self.support).to(series).T
            return series if self.several else series.squeeze(-1)
        if self.cumulative:
            return torch.cat([torch.zeros_like(series[:1]), series.cumsum(0)])
        return series


def weights(column: Column, depth: np.ndarray, support: float) -> Tensor:
    """(sensor, cell) what sensors read of the values of cells.

    Points are interpolated between the centres of cells of their layer, and extrapolated beyond the outermost; a
    support takes cells by the height it shares with them.
    """
    grid, found = column.grid, []
    edges, centres = np.asarray(grid.edges), np.asarray(grid.depth)
    for d in depth:
        row = np.zeros(grid.cells)
        if support > 0.0:
            share = np.minimum(edges[1:], d + 0.5 * support) - np.maximum(edges[:-1], d - 0.5 * support)
            row = np.clip(share, 0.0, None) / support
        else:
            layer = next(c for c in column.cells_of_layers if d <= edges[c.stop] or c.stop == grid.cells)
            i = int(np.clip(np.searchsorted(centres, d) - 1, layer.start, max(layer.stop - 2, layer.start)))
            if layer.stop - layer.start == 1:
                row[i] = 1.0
            else:
                t = (d - centres[i]) / (centres[i + 1] - centres[i])
                row[i], row[i + 1] = 1.0 - t, t
        found.append(row)
    return torch.as_tensor(np.stack(found))
