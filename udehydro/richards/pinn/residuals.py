"""Residuals: what a solution of the Richards equation has to fulfil at points.

    d theta / d t = - div q - sink,    q = - K (grad psi + e_z)

Each is a :class:`~udehydro.richards.pinn.system.Term`, in units of a flux ``scale`` [cm/d] over the height of the box.
Where a boundary flux has jumped, rates are infinite like one over the root of the time since; residuals of the balance
are those of the clock of :mod:`.clock`, by which they are regular.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from udehydro.richards.pinn.clock import Clock
from udehydro.richards.pinn.field import Box
from udehydro.richards.pinn.jets import Jet, Orders
from udehydro.richards.pinn.soil import Here, Soil
from udehydro.richards.pinn.system import Term

Value = Callable[[Tensor], Tensor]
"""A function of points (n, D), such as a boundary flux of time: (n,)."""


def darcy(here: Here, psi: Jet, axis: int, vertical: bool) -> Tensor:
    """Flux [cm/d] along an axis, positive upward along the vertical."""
    spread, fall = here.coefficients()
    return -(spread * psi.d(axis) + fall) if vertical else -spread * psi.d(axis)


def flux_along(outputs: Sequence[Jet], soil: Soil, extra: Tensor, axis: int, vertical: int) -> Tensor:
    """The flux of a field: its own output, or by Darcy's law from the head."""
    psi, *fluxes = outputs
    return fluxes[axis - 1].value if fluxes else darcy(soil.at(extra, psi.value), psi, axis, axis == vertical)


def pointwise(
    name: str,
    points: Tensor,
    box: Box,
    field: int,
    soil: Soil,
    scale: float,
    clock: Clock,
    weight=1.0,
    sink: Value = None,
) -> Term:
    """C psi_t = div(K (grad psi + e_z)) - sink, expanded, from the head alone; second derivatives."""
    axes = range(1, box.vertical + 1)
    scaled = _balance(points, box, clock, scale, sink)

    def rows(outputs, extra: Tensor, part: slice, index: Tensor) -> Tensor:
        psi = outputs[0][0]
        here = soil.at(extra, psi.value)
        k, slope = here.conductivity_slope()
        moved = sum(slope * psi.d(i) ** 2 + k * psi.dd(i) for i in axes) + slope * psi.d(box.vertical)
        return scaled(here.capacity() * psi.d(0) - moved, part).unsqueeze(-1)

    return Term(name, points, (field,), Orders((0, *axes), tuple(axes)), rows, weight)


def mixed(
    name: str,
    points: Tensor,
    box: Box,
    field: int,
    soil: Soil,
    scale: float,
    clock: Clock,
    weight=1.0,
    sink: Value = None,
    floor: float | None = None,
) -> Term:
    """Balance and Darcy's law apart, from head and fluxes: C psi_t + div q + sink = 0 and q + K (grad psi + e_z) = 0;
    first derivatives only. ``floor`` is as of :func:`compared`."""
    axes = range(1, box.vertical + 1)
    scaled = _balance(points, box, clock, scale, sink)

    def rows(outputs, extra: Tensor, part: slice, index: Tensor) -> Tensor:
        psi, *fluxes = outputs[0]
        here = soil.at(extra, psi.value)
        balance = here.capacity() * psi.d(0) + sum(q.d(i) for q, i in zip(fluxes, axes, strict=True))
        found = [scaled(balance, part)]
        for q, i in zip(fluxes, axes, strict=True):
            found.append(compared(q.value, darcy(here, psi, i, i == box.vertical), scale, floor))
        return torch.stack(found, dim=-1)

    return Term(name, points, (field,), Orders((0, *axes)), rows, weight)


def compared(one: Tensor, other: Tensor, scale: float, floor: float | None) -> Tensor:
    """Difference of fluxes in units of a scale: as it is, or, above the share ``floor`` of the scale, in units of the
    flux itself.

    The difference of asinh(q / floor) is that of q / floor for small fluxes, and of their logarithms for large ones: it
    goes through zero where fluxes turn, and gains nothing from a large conductivity, as division by that would.
    """
    if floor is None:
        return (one - other) / scale
    return torch.asinh(one / (floor * scale)) - torch.asinh(other / (floor * scale))


def flux_through(
    name: str, points: Tensor, box: Box, field: int, soil: Soil, scale: float, q: Value, weight=1.0, axis: int = -1
) -> Term:
    """The flux [cm/d] along an axis, the vertical unless told, is q."""
    axis = axis % (box.vertical + 1)
    wanted = q(points)

    def rows(outputs, extra: Tensor, part: slice, index: Tensor) -> Tensor:
        found = flux_along(outputs[0], soil, extra, axis, box.vertical)
        return ((found - wanted[part]) / scale).unsqueeze(-1)

    return Term(name, points, (field,), Orders((axis,)), rows, weight)


def head_at(name: str, points: Tensor, field: int, scale: float, psi: Value, weight=1.0) -> Term:
    """The head [cm] is psi; ``scale`` is one of heads."""
    wanted = psi(points)

    def rows(outputs, extra: Tensor, part: slice, index: Tensor) -> Tensor:
        return ((outputs[0][0].value - wanted[part]) / scale).unsqueeze(-1)

    return Term(name, points, (field,), Orders(), rows, weight)


def free_drainage(name: str, points: Tensor, box: Box, field: int, scale: float, weight=1.0) -> Term:
    """The head does not change with height; ``scale`` is a gradient [cm/cm]."""

    def rows(outputs, extra: Tensor, part: slice, index: Tensor) -> Tensor:
        return (outputs[0][0].d(box.vertical) / scale).unsqueeze(-1)

    return Term(name, points, (field,), Orders((box.vertical,)), rows, weight)


def same_head(name: str, points: Tensor, fields: tuple[int, int], head: float, weight=1.0) -> Term:
    """Heads of two regions agree where one follows the other in time."""

    def rows(outputs, extra: Tensor, part: slice, index: Tensor) -> Tensor:
        return ((outputs[0][0].value - outputs[1][0].value) / head).unsqueeze(-1)

    return Term(name, points, fields, Orders(), rows, weight)


@dataclass(frozen=True, eq=False)
class Data:
    """Measured values at points (n, D) of a region, (n,) or each member its own (members, n); NaN where there are none.

    ``kind`` is theta, psi [cm] or flux [cm/d], vertical and upward; ``log`` is for errors of the logarithm of the
    magnitude.
    """

    kind: str
    points: Tensor
    values: Tensor
    sigma: Tensor | float
    log: bool = False
    region: int = 0

    def to(self, like: Tensor) -> Data:
        """On the device and in the precision of a tensor."""
        sigma = self.sigma.to(like) if isinstance(self.sigma, Tensor) else self.sigma
        return replace(self, points=self.points.to(like), values=self.values.to(like), sigma=sigma)


def measured(name: str, data: Data, box: Box, soil: Soil) -> Term:
    """Distance from data in units of sigma, summed. Heads with ``log`` go on linearly from -1e-3 cm upwards."""
    values = data.values if data.values.ndim == 2 else data.values.unsqueeze(0)
    sigma = torch.as_tensor(data.sigma, dtype=values.dtype, device=values.device).expand_as(values)
    wanted, kind, up = _log(values) if data.log else values, data.kind, box.vertical
    there = ~wanted.isnan()
    wanted = torch.where(there, wanted, 0.0)

    def rows(outputs, extra: Tensor, part: slice, index: Tensor) -> Tensor:
        psi = outputs[0][0]
        if kind == "theta":
            found = soil.at(extra, psi.value).theta()
        else:
            found = psi.value if kind == "psi" else flux_along(outputs[0], soil, extra, up, up)
        found = _log(found) if data.log else found
        mine = (slice(None) if len(values) == 1 else index, part)
        return torch.where(there[mine], (found - wanted[mine]) / sigma[mine], 0.0).unsqueeze(-1)

    orders = Orders((up,)) if kind == "flux" else Orders()
    return Term(name, data.points, (data.region,), orders, rows, mean=False, count=there.sum(1).clamp_min(1))


def _log(psi: Tensor, near: float = 1e-3) -> Tensor:
    """ln(-psi), continued linearly above -near."""
    dry = psi < -near
    return torch.where(dry, torch.log(torch.where(dry, -psi, near)), math.log(near) - (psi + near) / near)


def interface(
    name: str,
    points: Tensor,
    box: Box,
    fields: tuple[int, int],
    soils: tuple[Soil, Soil],
    head: float,
    scale: float,
    weight=1.0,
) -> Term:
    """Head and vertical flux of two regions agree; scales of heads [cm] and fluxes [cm/d]."""
    up = box.vertical

    def rows(outputs, extra: Tensor, part: slice, index: Tensor) -> Tensor:
        heads = outputs[0][0].value - outputs[1][0].value
        below, above = (flux_along(o, s, extra, up, up) for o, s in zip(outputs, soils, strict=True))
        return torch.stack([heads / head, (below - above) / scale], dim=-1)

    return Term(name, points, fields, Orders((up,)), rows, weight)


def _balance(points: Tensor, box: Box, clock: Clock, scale: float, sink: Value | None):
    """What makes a rate [1/d] at some of the points a residual: the sink is added, and it is scaled."""
    factor = balance_scale(points[:, 0], box, clock, scale)
    loss = torch.zeros_like(factor) if sink is None else sink(points)
    return lambda rate, part: (rate + loss[part]) * factor[part]


def balance_scale(t: Tensor, box: Box, clock: Clock, scale: float) -> Tensor:
    """What a rate [1/d] at times t is multiplied by: height / scale, times the rate of the clock."""
    return clock.rate(t) * (box.sides[-1] / scale)
