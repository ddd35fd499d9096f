"""Cells of a soil column, and the layers of soil they lie in. Cells are counted from the surface down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from udehydro.errors import ConfigError
from udehydro.richards.laws.base import SoilLaw


@dataclass(frozen=True)
class Grid:
    """Cells of a column.

    Parameters
    ----------
    edges : (cells + 1,) depths of the edges of cells [cm], from 0 at the surface down.

    Raises
    ------
    ConfigError
        For edges that do not start at 0 or do not increase.
    """

    edges: tuple[float, ...]

    def __post_init__(self):
        edges = np.asarray(self.edges, float)
        if edges.ndim != 1 or len(edges) < 2 or edges[0] != 0.0 or not (np.diff(edges) > 0).all():
            raise ConfigError("A grid needs the depths of cell edges in cm, from 0 at the surface, increasing.")
        if not np.isfinite(edges).all():
            raise ConfigError("A grid needs finite depths.")
        object.__setattr__(self, "edges", tuple(edges.tolist()))

    @classmethod
    def uniform(cls, depth: float, cells: int) -> Grid:
        """``cells`` equal cells down to ``depth`` [cm]."""
        if not depth > 0 or cells < 1 or cells != int(cells):
            raise ConfigError(f"A uniform grid needs a depth above zero and whole cells, got {depth} cm and {cells}.")
        return cls(tuple(np.linspace(0.0, depth, int(cells) + 1)))

    @classmethod
    def graded(cls, depth: float, first: float, ratio: float) -> Grid:
        """Cells down to ``depth`` [cm], the first about ``first`` [cm] thick, each ``ratio`` times that above it."""
        if not (0 < first <= depth and ratio > 0):
            raise ConfigError(
                f"A graded grid needs 0 < first <= depth and a ratio above zero, got {first} and {ratio}."
            )
        thickness = [first]
        while (reached := sum(thickness)) < depth - 0.5 * thickness[-1] * ratio:
            thickness.append(thickness[-1] * ratio)
            if sum(thickness) <= reached:
                raise ConfigError(f"Cells that shrink by {ratio} from {first} cm never reach {depth} cm.")
        edges = np.concatenate([[0.0], np.cumsum(thickness)])
        return cls(tuple(edges * (depth / edges[-1])))

    @property
    def cells(self) -> int:
        return len(self.edges) - 1

    @property
    def thickness(self) -> np.ndarray:
        """Of every cell (cells,) cm."""
        return np.diff(self.edges)

    @property
    def depth(self) -> np.ndarray:
        """Of the centre of every cell (cells,) cm, positive downwards."""
        edges = np.asarray(self.edges)
        return 0.5 * (edges[:-1] + edges[1:])

    @property
    def z(self) -> np.ndarray:
        """Height of the centre of every cell (cells,) cm, positive upwards, zero at the surface."""
        return -self.depth


@dataclass(frozen=True)
class Layer:
    """Soil of one kind.

    Parameters
    ----------
    law : its water retention and conductivity.
    thickness : cm; None for what is left of the column.
    specific_storage : water stored per unit of positive head [1/cm], by compression: ``theta + Ss max(psi, 0)``.
    """

    law: SoilLaw
    thickness: float | None = None
    specific_storage: float = 0.0

    def __post_init__(self):
        if not isinstance(self.law, SoilLaw):
            raise ConfigError(f"A layer needs a SoilLaw, got {type(self.law).__name__}.")
        if self.thickness is not None and not self.thickness > 0:
            raise ConfigError(f"A layer needs a thickness above zero, got {self.thickness} cm.")
        if not self.specific_storage >= 0:
            raise ConfigError(f"A layer needs a specific storage of zero or more, got {self.specific_storage} 1/cm.")


def cells_of(grid: Grid, layers: Sequence[Layer]) -> tuple[slice, ...]:
    """The cells of every layer; layers have to end at edges of cells and fill the column.

    Raises
    ------
    ConfigError
        For layers that do not.
    """
    edges, start, top, found = np.asarray(grid.edges), 0, 0.0, []
    for i, layer in enumerate(layers):
        if layer.thickness is None and i + 1 < len(layers):
            raise ConfigError(f"Layer {i} needs a thickness: only the last one may take what is left of the column.")
        bottom = edges[-1] if layer.thickness is None else top + layer.thickness
        stop = int(np.abs(edges - bottom).argmin())
        if abs(edges[stop] - bottom) > 1e-9 * edges[-1] or stop <= start:
            raise ConfigError(
                f"Layer {i} reaches from {top:g} to {bottom:g} cm, which is no edge of cells below its top; the "
                f"nearest edge is at {edges[stop]:g} cm: put one there."
            )
        found.append(slice(start, stop))
        start, top = stop, float(edges[stop])
    if not layers or start != grid.cells:
        raise ConfigError(f"The layers end at {top:g} cm, the column at {edges[-1]:g} cm.")
    return tuple(found)
