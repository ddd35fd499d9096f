"""Column: the description of a soil column; frozen, and without tensors of its own beyond those of its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.richards.column.boundary import BOTTOMS, TOPS, Flux, WaterTable
from udehydro.richards.column.grid import Grid, Layer, cells_of
from udehydro.richards.column.sinks import RootUptake, Source
from udehydro.richards.column.weighting import Weighting, arithmetic
from udehydro.richards.laws.base import SoilLaw


@dataclass(frozen=True)
class Column:
    """A column of soil, for the Richards equation in its mixed form (Celia et al. 1990), with finite volumes:

        d theta(psi) / dt = -dq/dz - uptake ,     q = -K(psi) (d psi/dz + 1)

    Parameters
    ----------
    grid : its cells, from the surface down.
    layers : a law, or layers from the surface down.
    top : Head, Flux, Atmospheric or SeepageFace; nothing passes by default.
    bottom : Head, Flux, FreeDrainage, SeepageFace or WaterTable; nothing passes by default.
    sinks : RootUptake and Source, any number.
    weighting : conductivity between nodes, see :mod:`udehydro.richards.column.weighting`.
    horizontal : without gravity; "top" is then one end and "bottom" the other.

    Raises
    ------
    ConfigError
        For layers that do not end at edges of cells, and boundaries at the wrong end.
    """

    grid: Grid
    layers: SoilLaw | Sequence[Layer]
    top: object = Flux()
    bottom: object = Flux()
    sinks: Sequence[RootUptake | Source] = ()
    weighting: Weighting = arithmetic
    horizontal: bool = False

    def __post_init__(self):
        layers = (Layer(self.layers),) if isinstance(self.layers, SoilLaw) else self.layers
        layers = (layers,) if isinstance(layers, Layer) else layers
        if not isinstance(self.grid, Grid):
            raise ConfigError(f"A column needs a Grid, got {type(self.grid).__name__}.")
        if not isinstance(layers, Sequence):
            got = f"the class {layers.__name__}" if isinstance(layers, type) else type(layers).__name__
            raise ConfigError(f"Layers are a law (an object, such as VanGenuchten()) or a list of Layer, got {got}.")
        layers = tuple(layers)
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "sinks", tuple(self.sinks) if isinstance(self.sinks, Sequence) else (self.sinks,))
        for layer in layers:
            if not isinstance(layer, Layer):
                raise ConfigError(f"Layers are Layer(law, thickness), got {type(layer).__name__}.")
        cells_of(self.grid, layers)
        _check("top", self.top, TOPS)
        _check("bottom", self.bottom, BOTTOMS)
        for sink in self.sinks:
            _check("sink", sink, (RootUptake, Source))
        if self.horizontal and isinstance(self.bottom, WaterTable):
            raise ConfigError("A horizontal column has no water table: give the head at its end, Head(psi).")

    @property
    def cells_of_layers(self) -> tuple[slice, ...]:
        return cells_of(self.grid, self.layers)

    def weights(self) -> list[Tensor]:
        """Weights of laws that are networks, each once."""
        found = {id(w): w for layer in self.layers for w in layer.law.parameters()}
        return list(found.values())

    def hydrostatic(self, depth: Tensor | float) -> Tensor:
        """Head (*batch, cell) of water at rest around a water table at ``depth`` [cm], a number or (*batch)."""
        depth = torch.as_tensor(depth, dtype=None if isinstance(depth, Tensor) else torch.float64)
        centres = torch.as_tensor(self.grid.depth, dtype=depth.dtype, device=depth.device)
        return centres - depth.unsqueeze(-1)


def _check(name: str, given, kinds: tuple[type, ...]) -> None:
    if not isinstance(given, kinds):
        got = given.__name__ if isinstance(given, type) else type(given).__name__
        raise ConfigError(f"The {name} is one of {', '.join(k.__name__ for k in kinds)} (an object), got {got}.")
