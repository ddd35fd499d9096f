"""Jets: a quantity at points together with its derivatives by coordinates, and arithmetic on them.

A jet holds the value, the first derivative by each of some coordinates, and the second by each of fewer. Derivatives of
products and functions follow by the rules of Leibniz and Faa di Bruno, forward, so that one backward pass gives the
gradient of a residual, instead of three nested ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Orders:
    """Which derivatives jets carry: the first by ``first`` coordinates and the second by ``second`` ones of these.

    Coordinate 0 is time, then follow those of space; for one dimension ``Orders((0, 1), (1,))`` is (t, z, zz).
    """

    first: tuple[int, ...] = ()
    second: tuple[int, ...] = ()

    @property
    def channels(self) -> int:
        return 1 + len(self.first) + len(self.second)

    @property
    def pairs(self) -> tuple[int, ...]:
        """The channel of the first derivative that belongs to each second one."""
        return tuple(1 + self.first.index(i) for i in self.second)


@dataclass(frozen=True)
class Jet:
    """Channels (channel, ...) of a quantity: the value, first and second derivatives, in the order of ``orders``."""

    channels: Tensor
    orders: Orders

    @property
    def value(self) -> Tensor:
        return self.channels[0]

    def d(self, coordinate: int) -> Tensor:
        """First derivative by a coordinate."""
        return self.channels[1 + self.orders.first.index(coordinate)]

    def dd(self, coordinate: int) -> Tensor:
        """Second derivative by a coordinate."""
        return self.channels[1 + len(self.orders.first) + self.orders.second.index(coordinate)]

    def __add__(self, other: Jet | float) -> Jet:
        if isinstance(other, Jet):
            return Jet(self.channels + other.channels, self.orders)
        return self.through(self.value + other, torch.ones_like(self.value), None)

    def __mul__(self, other: Jet | float) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.channels * other, self.orders)
        a, b, n = self.channels, other.channels, len(self.orders.first)
        first = a[0] * b[1 : 1 + n] + a[1 : 1 + n] * b[0]
        parts = [(a[0] * b[0]).unsqueeze(0), first]
        if self.orders.second:
            pairs = list(self.orders.pairs)
            parts.append(a[0] * b[1 + n :] + 2.0 * a[pairs] * b[pairs] + a[1 + n :] * b[0])
        return Jet(torch.cat(parts), self.orders)

    __radd__, __rmul__ = __add__, __mul__

    def through(self, value: Tensor, slope: Tensor, bend: Tensor | None) -> Jet:
        """The jet of a function f of this one, from f, f' and f'' (None for zero) at its value."""
        n = len(self.orders.first)
        first, second = slope * self.channels[1 : 1 + n], slope * self.channels[1 + n :]
        if bend is not None and self.orders.second:
            second = second + bend * self.channels[list(self.orders.pairs)] ** 2
        return Jet(torch.cat([value.unsqueeze(0), first, second]), self.orders)

    def tanh(self) -> Jet:
        y = torch.tanh(self.value)
        return self.through(y, 1.0 - y**2, -2.0 * y * (1.0 - y**2))

    def sinh(self) -> Jet:
        y = torch.sinh(self.value)
        return self.through(y, torch.cosh(self.value), y)

    def log1p(self) -> Jet:
        over = 1.0 / (1.0 + self.value)
        return self.through(torch.log1p(self.value), over, -(over**2))

    def sqrt(self) -> Jet:
        """Square root; of zero with zero derivatives."""
        y = torch.sqrt(self.value.clamp_min(0.0))
        over = torch.where(y > 0.0, 1.0 / torch.where(y > 0.0, y, 1.0), 0.0)
        return self.through(y, 0.5 * over, -0.25 * over**3)


def coordinates(points: Tensor, orders: Orders) -> list[Jet]:
    """The jets of coordinates themselves at points (..., D)."""
    found = []
    for i in range(points.shape[-1]):
        channels = points.new_zeros(orders.channels, *points.shape[:-1])
        channels[0] = points[..., i]
        if i in orders.first:
            channels[1 + orders.first.index(i)] = 1.0
        found.append(Jet(channels, orders))
    return found
