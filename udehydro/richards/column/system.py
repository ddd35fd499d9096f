"""The equations of an implicit stage, and their tridiagonal Jacobian.

Nodes are the cells and, without thickness, the two ends of the column and the interfaces between layers. Every segment
between two nodes lies in one soil. A stage of length tau solves, for the water M(psi) that every node holds [cm],

    M(psi) - known - tau F(psi) = 0 ,     F = flux from below - flux to above - uptake

and, at the ends, the equation of the boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from udehydro.richards.column import compiled
from udehydro.richards.column.boundary import Closure, Node
from udehydro.richards.column.column import Column
from udehydro.richards.column.geometry import Geometry

TOP, BOTTOM, RUNOFF, DEFICIT = range(4)
"""What is counted [cm]: inflow through both ends, runoff, and evaporation the soil did not deliver; then every sink."""


class Stage(NamedTuple):
    """A stage at some heads: its equations, and the rates that follow from them.

    Attributes
    ----------
    row : (columns, node) what has to vanish.
    rate : (columns, node) change of the water in nodes [cm/d].
    moved : (columns, 4 + sinks) rates that are counted [cm/d], by TOP, BOTTOM, RUNOFF, DEFICIT and sink.
    """

    row: Tensor
    rate: Tensor
    moved: Tensor


class Linear(NamedTuple):
    """A stage with the three diagonals of d row / d psi, each (columns, node), and the capacity d M / d psi."""

    row: Tensor
    rate: Tensor
    moved: Tensor
    lower: Tensor
    diagonal: Tensor
    upper: Tensor
    capacity: Tensor


@dataclass(frozen=True)
class System:
    """The equations of some columns; values are (columns or 1, width), those of the ends (columns or 1,)."""

    column: Column
    geometry: Geometry
    soil: tuple[dict[str, Tensor], ...]
    top: dict[str, Tensor]
    bottom: dict[str, Tensor]
    sinks: tuple[dict[str, Tensor], ...]

    @classmethod
    def of(cls, column: Column, geometry: Geometry, keys, values: Sequence[Tensor]) -> System:
        soil, sinks = tuple({} for _ in column.layers), tuple({} for _ in column.sinks)
        top, bottom = {}, {"bottom": geometry.depth}
        for (kind, i, name), value in zip(keys, values, strict=True):
            if kind in ("top", "bottom"):
                (top if kind == "top" else bottom)[name] = value[..., 0]
            else:
                (soil if kind == "soil" else sinks)[i][name] = value
        return cls(column, geometry, soil, top, bottom, sinks)

    @property
    def channels(self) -> int:
        """How much is counted."""
        return 4 + len(self.sinks)

    def project(self, psi: Tensor) -> Tensor:
        """Heads with those of both ends where the boundaries may have them."""
        top = self.column.top.project(psi[:, 0], psi[:, 1], self.top).unsqueeze(1)
        bottom = self.column.bottom.project(psi[:, -1], psi[:, -2], self.bottom).unsqueeze(1)
        return torch.cat([top, psi[:, 1:-1], bottom], dim=1)

    def stage(self, psi: Tensor, known: Tensor, tau: Tensor) -> Stage:
        """Equations and rates at heads ``psi`` (columns, node), differentiable by everything."""
        cells = self.geometry.cells(psi)
        flux = self._flux(psi, self._conductivity([psi[:, n] for n in self.geometry.nodes]))[0]
        ends = self._ends(*self._end_nodes(psi, flux, known, tau))
        return self._assemble(psi, known, tau, self.water(cells), flux, self._uptakes(cells), ends)

    def linear(self, psi: Tensor, known: Tensor, tau: Tensor) -> Linear:
        """A stage and its Jacobian, without a graph."""
        if compiled.usable(self.column, psi):
            return Linear(*compiled.linear(self, psi, known, tau))
        g, points = self.geometry, self._points()
        parts = zip(self.column.layers, g.nodes, points, strict=True)
        found = [compiled.local(layer.law, psi[:, n], p) for layer, n, p in parts]
        theta, c, conductivity, k_slope = zip(*found, strict=True)
        cells = g.cells(psi)
        wet = cells > 0.0
        mass = g.thickness * (_inner(theta) + g.storage * torch.where(wet, cells, 0.0))
        c_slope = g.thickness * (_inner(c) + g.storage * wet)
        uptakes, u_slope = self._uptakes_with_slope(cells)
        flux, value, drive, by_upper, by_lower = self._flux(psi, conductivity)
        # flux = value * drive; drive = (lower - upper) / distance - gravity
        upper_slope, lower_slope = _segments(k_slope)
        by_upper = by_upper * upper_slope * drive - value / g.distance
        by_lower = by_lower * lower_slope * drive + value / g.distance
        ends = self._ends(*self._end_nodes(psi, flux, known, tau))
        stage = self._assemble(psi, known, tau, mass, flux, uptakes, ends)
        t, zero = tau.unsqueeze(-1), torch.zeros_like(psi[:, :1])
        pond = (psi[:, :1] >= 0.0).to(psi.dtype) if self.column.top.ponds else None
        capacity = g.spread(c_slope, pond)
        inner = torch.cat([zero, by_lower], 1) - torch.cat([by_upper, zero], 1)
        diagonal = capacity + t * (g.spread(u_slope) + inner)
        upper, lower = torch.cat([-t * by_lower, zero], 1), torch.cat([zero, t * by_upper], 1)
        node, beside, supply = ends[0].slopes
        diagonal[:, 0], upper[:, 0] = node + supply * by_upper[:, 0], beside + supply * by_lower[:, 0]
        node, beside, supply = ends[1].slopes
        diagonal[:, -1], lower[:, -1] = node - supply * by_lower[:, -1], beside - supply * by_upper[:, -1]
        return Linear(*stage, lower, diagonal, upper, capacity)

    def water(self, cells: Tensor) -> Tensor:
        """Water in every cell at their heads (columns, cell), cm."""
        g, parts = self.geometry, []
        for layer, p, where in zip(self.column.layers, self.soil, g.layers, strict=True):
            psi = cells[:, where]
            theta = layer.law.theta(psi, p)
            if layer.specific_storage:
                theta = theta + layer.specific_storage * psi.clamp_min(0.0)
            parts.append(g.thickness[where] * theta)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def air_entry(self, cells: Tensor) -> Tensor:
        """Heads from which upwards the soil of cells is saturated (columns, cell), in the shape of their heads."""
        parts = zip(self.column.layers, self.soil, self.geometry.layers, strict=True)
        return torch.cat([layer.law.air_entry(p, cells).expand_as(cells[:, where]) for layer, p, where in parts], 1)

    def _conductivity(self, points: Sequence[Tensor]) -> list[Tensor]:
        """Conductivity at the nodes of every layer, its ends with the values of the cells beside."""
        parts = zip(self.column.layers, self._points(), points, strict=True)
        return [layer.law.conductivity(psi, p) for layer, p, psi in parts]

    def _points(self) -> list[dict[str, Tensor]]:
        """Parameters at the nodes of every layer: those at its ends are of the cells beside."""
        return [
            {n: v if v.shape[1] == 1 else torch.cat([v[:, :1], v, v[:, -1:]], 1) for n, v in p.items()}
            for p in self.soil
        ]

    def _uptakes(self, cells: Tensor) -> list[Tensor]:
        pairs = zip(self.column.sinks, self.sinks, strict=True)
        return [sink.uptake(cells, v, self.geometry.thickness) for sink, v in pairs]

    def _uptakes_with_slope(self, cells: Tensor) -> tuple[list[Tensor], Tensor]:
        if not self.column.sinks:
            return [], torch.zeros_like(cells)
        with torch.enable_grad():
            leaf = cells.detach().requires_grad_()
            uptakes = self._uptakes(leaf)
            (slope,) = torch.autograd.grad(sum(u.sum() for u in uptakes), leaf)
        return [u.detach() for u in uptakes], slope

    def _flux(self, psi: Tensor, conductivity: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Flux of every segment, positive upwards; its conductivity, drive, and derivatives by both conductivities."""
        drive = psi.diff(dim=1) / self.geometry.distance - self.geometry.gravity
        value, by_upper, by_lower = self.column.weighting(*_segments(conductivity), drive)
        return value * drive, value, drive, by_upper, by_lower

    def _end_nodes(self, psi: Tensor, flux: Tensor, known: Tensor, tau: Tensor) -> tuple[Node, Node]:
        top = Node(psi[:, 0], psi[:, 1], flux[:, 0], known[:, 0], tau)
        return top, Node(psi[:, -1], psi[:, -2], -flux[:, -1], known[:, -1], tau)

    def _ends(self, top: Node, bottom: Node) -> tuple[Closure, Closure]:
        return self.column.top.close(top, self.top, 1.0), self.column.bottom.close(bottom, self.bottom, -1.0)

    def _assemble(self, psi, known, tau, mass, flux, uptakes, ends) -> Stage:
        top, bottom = ends
        zero = torch.zeros_like(psi[:, :1])
        rate = torch.cat([flux, zero], 1) - torch.cat([zero, flux], 1)
        if uptakes:
            rate = rate - self.geometry.spread(sum(uptakes))
        inner = self.geometry.spread(mass, zero) - known - tau.unsqueeze(-1) * rate
        row = torch.cat([top.row.unsqueeze(1), inner[:, 1:-1], bottom.row.unsqueeze(1)], 1)
        inflow = [top.inflow.unsqueeze(1), bottom.inflow.unsqueeze(1)]
        rate = torch.cat([rate[:, :1] + inflow[0], rate[:, 1:-1], rate[:, -1:] + inflow[1]], 1)
        excess = zero if top.excess is None else top.excess.unsqueeze(1)
        counted = [*inflow, excess.clamp_min(0.0), (-excess).clamp_min(0.0), *(u.sum(1, keepdim=True) for u in uptakes)]
        return Stage(row, rate, torch.cat(counted, 1))


def _segments(points: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Values at the upper and at the lower end of every segment, from those at the nodes of every layer."""
    if len(points) == 1:
        return points[0][:, :-1], points[0][:, 1:]
    return torch.cat([x[:, :-1] for x in points], 1), torch.cat([x[:, 1:] for x in points], 1)


def _inner(points: Sequence[Tensor]) -> Tensor:
    """Values of the cells, from those at the nodes of every layer."""
    parts = [x[:, 1:-1] for x in points]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
