"""Free: a value that data are to find, written where a number would stand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.structure import Range


@dataclass(frozen=True, eq=False)
class Free:
    """A value to find: of a soil parameter, of the state at the start, of a boundary, or of a sink.

    The same object at several places is one unknown.

    Parameters
    ----------
    start : where the search begins: a number, one for all columns, or (*batch), each column its own. With ``spread``
        (k,) or (*batch, k).
    low, high : limits. Soil parameters have those of their law where none are given. Between limits of one sign and
        more than a factor of 100 apart the logarithm of the magnitude is searched.
    prior : standard deviation of what is known beforehand, around the start: of the natural logarithm where that is
        searched, else of the value. None knows nothing.
    spread : (n, k) how k unknowns make the n values of cells or of intervals; see :func:`knots`.

    Raises
    ------
    ConfigError
        For limits in the wrong order, a start outside, a prior that is not positive, and shapes that do not fit.
    """

    start: Tensor | float
    low: float | None = None
    high: float | None = None
    prior: float | None = None
    spread: Tensor | np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self):
        start = torch.as_tensor(self.start, dtype=torch.float64).detach()
        object.__setattr__(self, "start", start)
        if self.spread is not None:
            spread = torch.as_tensor(self.spread, dtype=torch.float64)
            object.__setattr__(self, "spread", spread)
            if spread.ndim != 2 or not start.ndim or start.shape[-1] != spread.shape[1]:
                raise ConfigError(
                    f"spread is (values, unknowns), got {tuple(spread.shape)} for a start {tuple(start.shape)}."
                )
        if self.prior is not None and not self.prior > 0.0:
            raise ConfigError(f"prior={self.prior} is a standard deviation: above zero, or None for no prior.")
        if not bool(torch.isfinite(start).all()):
            raise ConfigError(f"A free value starts from a finite number, got {start.flatten()[:5].tolist()}.")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ConfigError(f"Limits need low < high, got {self.low} and {self.high}.")

    @property
    def size(self) -> int:
        """Unknowns of one column."""
        return 1 if self.spread is None else self.spread.shape[1]

    @property
    def lead(self) -> torch.Size:
        """Shape of the start before its unknowns: () where all columns share it."""
        return self.start.shape if self.spread is None else self.start.shape[:-1]

    def within(self, range_: Range | None, where: str) -> Coordinate:
        """How it is searched at a place whose law gives it a range."""
        low, high = self.low, self.high
        if range_ is not None:
            low, high = (range_.low if low is None else low), (range_.high if high is None else high)
        low, high = (-math.inf if low is None else low), (math.inf if high is None else high)
        slack = 1e-12 * self.start.abs()  # values found at a limit, by way of their logarithm
        if bool(((self.start < low - slack) | (self.start > high + slack)).any()):
            raise ConfigError(
                f"{where} starts from {self.start.flatten()[:5].tolist()}, outside its limits {low:g} to {high:g}: "
                "start inside, or give Free(low=, high=)."
            )
        return Coordinate(low, high)


@dataclass(frozen=True)
class Coordinate:
    """What is searched in place of a value between limits: its logarithm (of the magnitude), or the value."""

    low: float
    high: float

    @property
    def sign(self) -> float:
        """1 or -1 where the logarithm is searched, else 0."""
        near, far = sorted((abs(self.low), abs(self.high)))
        logarithmic = self.low * self.high > 0.0 and far / near > 100.0
        return math.copysign(1.0, self.low) if logarithmic else 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        """Of what is searched."""
        if not self.sign:
            return self.low, self.high
        low, high = sorted((abs(self.low), abs(self.high)))
        return math.log(low), math.log(high) if math.isfinite(high) else math.inf

    def forward(self, value: Tensor) -> Tensor:
        """Value -> what is searched."""
        return torch.log(value * self.sign) if self.sign else value

    def back(self, x: Tensor) -> Tensor:
        """What is searched -> value."""
        return self.sign * torch.exp(x) if self.sign else x

    def slope(self, x: Tensor) -> Tensor:
        """d value / d x."""
        return self.back(x) if self.sign else torch.ones_like(x)


def knots(at, points) -> Tensor:
    """``spread`` of values at ``points`` (n,) interpolated between unknowns at ``at`` (k,), constant beyond them.

    For heads over depth: ``Free(start, spread=knots((0, 30, 100), grid.depth))``.
    """
    at, points = np.asarray(at, float), np.asarray(points, float)
    if at.ndim != 1 or not len(at) or (np.diff(at) <= 0).any():
        raise ConfigError(f"Knots have to rise, got {at.tolist()}.")
    return torch.as_tensor(np.stack([np.interp(points, at, unit) for unit in np.eye(len(at))], axis=1))


def pieces(edges, points) -> Tensor:
    """``spread`` of values at ``points`` (n,) that are constant from edge to edge (k + 1,).

    For fluxes over time: ``Free(start, spread=pieces((0, 2, 5), middles))`` with the middles of intervals in days.

    Raises
    ------
    ConfigError
        For points outside.
    """
    edges, points = np.asarray(edges, float), np.asarray(points, float)
    at = np.searchsorted(edges, points, side="right") - 1
    if edges.ndim != 1 or (np.diff(edges) <= 0).any() or ((at < 0) | (at >= len(edges) - 1)).any():
        raise ConfigError("Pieces need rising edges with all points between the first and the last.")
    return torch.as_tensor(np.eye(len(edges) - 1)[at])
