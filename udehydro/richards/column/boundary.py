"""What happens at the two ends of a column.

Each end has a node without thickness, whose head is an unknown like those of the cells. A boundary adds one equation
for it, so that limits which switch (a pond that overflows, a seepage face that opens) are found inside Newton's
iteration, by its own equation, not by trial around it. ``project`` puts a head where the boundary may have it: heads
that are given or limited then never leave a residual, and all that does is water.

A value is a number, a tensor that broadcasts to the batch, or the name of a series of the forcing. ``impossible`` and
``unusual`` say which values a boundary cannot have, or hardly has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from udehydro.richards.laws.limits import Wrong


class Node(NamedTuple):
    """An end node within an implicit stage; every field is (columns,).

    Attributes
    ----------
    psi, neighbour : head of the node and of the cell beside it [cm].
    supply : what the column moves into the node [cm/d].
    known : water the node holds at the end of the stage without the stage's own rate [cm].
    tau : length of the stage [d].
    """

    psi: Tensor
    neighbour: Tensor
    supply: Tensor
    known: Tensor
    tau: Tensor


class Closure(NamedTuple):
    """A boundary's equation ``row = 0``, and what it moves.

    Attributes
    ----------
    row : (columns,) what has to vanish.
    slopes : its derivatives by the head of the node, by that of the cell beside it, and by the supply.
    inflow : (columns,) what enters the node from outside [cm/d]; ``excess`` : what the boundary refuses.
    """

    row: Tensor
    slopes: tuple[Tensor | float, Tensor | float, Tensor | float]
    inflow: Tensor
    excess: Tensor | None = None


@dataclass(frozen=True)
class Head:
    """Pressure head at the end of the column [cm]."""

    psi: float | str | Tensor = 0.0

    units = {"psi": "cm"}
    ponds = False

    def close(self, node: Node, v: dict[str, Tensor], outward: float) -> Closure:
        return Closure(node.psi - v["psi"], (1.0, 0.0, 0.0), -node.supply)

    def project(self, psi: Tensor, neighbour: Tensor, v: dict[str, Tensor]) -> Tensor:
        return v["psi"].expand_as(psi)


@dataclass(frozen=True)
class WaterTable:
    """Water table at ``depth`` below the surface [cm], hydrostatic from the bottom of the column to it; where water is
    artesian, above the surface, the depth is negative."""

    depth: float | str | Tensor

    units = {"depth": "cm"}
    ponds = False

    def unusual(self, v: dict[str, Tensor]) -> Iterator[Wrong]:
        if bool((wrong := v["depth"] < 0.0).any()):
            yield Wrong("depth", "artesian water, above the surface? A depth is positive downwards", wrong)

    def close(self, node: Node, v: dict[str, Tensor], outward: float) -> Closure:
        return Closure(node.psi - (v["bottom"] - v["depth"]), (1.0, 0.0, 0.0), -node.supply)

    def project(self, psi: Tensor, neighbour: Tensor, v: dict[str, Tensor]) -> Tensor:
        return (v["bottom"] - v["depth"]).expand_as(psi)


@dataclass(frozen=True)
class Flux:
    """Flux through the end of the column [cm/d], positive upwards: at the surface evaporation, minus infiltration."""

    q: float | str | Tensor = 0.0

    units = {"q": "cm/d"}
    ponds = False

    def close(self, node: Node, v: dict[str, Tensor], outward: float) -> Closure:
        inflow = -outward * v["q"]
        row = -node.known - node.tau * (node.supply + inflow)
        return Closure(row, (0.0, 0.0, -node.tau), inflow.expand_as(node.psi))

    def project(self, psi: Tensor, neighbour: Tensor, v: dict[str, Tensor]) -> Tensor:
        return psi


@dataclass(frozen=True)
class FreeDrainage:
    """Water leaves by gravity alone, d psi / dz = 0."""

    units = {}
    ponds = False

    def close(self, node: Node, v: dict[str, Tensor], outward: float) -> Closure:
        return Closure(node.psi - node.neighbour, (1.0, -1.0, 0.0), -node.supply)

    def project(self, psi: Tensor, neighbour: Tensor, v: dict[str, Tensor]) -> Tensor:
        return neighbour


@dataclass(frozen=True)
class SeepageFace:
    """Water leaves at atmospheric pressure, and none enters: psi <= 0, outflow >= 0, and one of them is zero."""

    units = {}
    ponds = False

    def close(self, node: Node, v: dict[str, Tensor], outward: float) -> Closure:
        closed = -node.tau * node.supply
        opens = node.psi >= closed
        slopes = (opens.to(closed.dtype), 0.0, torch.where(opens, 0.0, -node.tau))
        return Closure(torch.where(opens, node.psi, closed), slopes, -node.supply)

    def project(self, psi: Tensor, neighbour: Tensor, v: dict[str, Tensor]) -> Tensor:
        return psi.clamp_max(0.0)


@dataclass(frozen=True)
class Atmospheric:
    """Rain and evaporation as far as the soil can take and give them.

    The surface holds a pond of ``max(psi, 0)``. Its head stays between two limits: at the upper one what does not
    infiltrate runs off, at the lower one evaporation is what the soil delivers.

    Parameters
    ----------
    rain, evaporation : potential rates [cm/d]; evaporation below zero is dew.
    pond : depth at which the surface overflows [cm].
    driest : lowest head of the surface [cm], in balance with the air. Soil below it would be wetted by the air.
    """

    rain: float | str | Tensor = 0.0
    evaporation: float | str | Tensor = 0.0
    pond: float | str | Tensor = 0.0
    driest: float | str | Tensor = -15000.0

    units = {"rain": "cm/d", "evaporation": "cm/d", "pond": "cm", "driest": "cm"}
    ponds = True

    def impossible(self, v: dict[str, Tensor]) -> Iterator[Wrong]:
        if bool((wrong := v["rain"] < 0.0).any()):
            yield Wrong("rain", "zero or more: a sign, or a number for what is missing?", wrong)
        if bool((wrong := v["pond"] < 0.0).any()):
            yield Wrong("pond", "zero or more, a depth of water", wrong)
        if bool((wrong := v["driest"] >= 0.0).any()):
            yield Wrong("driest", "below zero, a head such as -15000", wrong)

    def close(self, node: Node, v: dict[str, Tensor], outward: float) -> Closure:
        held, potential = node.psi.clamp_min(0.0), v["rain"] - v["evaporation"]
        free = held - node.known - node.tau * (node.supply + potential)
        above, below = node.psi - v["pond"], node.psi - v["driest"]
        limited = (above >= free) | (below <= free)
        row = torch.where(above >= free, above, torch.where(below <= free, below, free))
        holds = torch.where(free > 0.0, node.psi > 0.0, node.psi >= 0.0)  # a pond that is empty cannot sink
        slopes = ((limited | holds).to(free.dtype), 0.0, torch.where(limited, 0.0, -node.tau))
        inflow = (held - node.known) / node.tau - node.supply
        excess = torch.where(limited, potential - inflow, 0.0)
        return Closure(row, slopes, potential - excess, excess)

    def project(self, psi: Tensor, neighbour: Tensor, v: dict[str, Tensor]) -> Tensor:
        return torch.minimum(torch.maximum(psi, v["driest"]), v["pond"])


TOPS = (Head, Flux, Atmospheric, SeepageFace)
BOTTOMS = (Head, Flux, FreeDrainage, SeepageFace, WaterTable)
