"""Fields: unknown functions of time and space, each a network of scaled coordinates with what is known built in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from udehydro.richards.pinn.clock import Clock
from udehydro.richards.pinn.jets import Jet, Orders, coordinates
from udehydro.richards.pinn.network import Network


class Box(NamedTuple):
    """Where a field lives: from ``low`` to ``high`` in time [d] and space [cm], time first, the vertical last."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def sides(self) -> tuple[float, ...]:
        return tuple(b - a for a, b in zip(self.low, self.high, strict=True))

    @property
    def vertical(self) -> int:
        return len(self.low) - 1


@dataclass(frozen=True)
class Features:
    """What a network sees of a point, scaled to [-1, 1]: the time since each event by the clock, and coordinates.

    Without events, time itself is among them.
    """

    box: Box
    clock: Clock

    @property
    def count(self) -> int:
        return max(len(self.clock.events), 1) + self.box.vertical

    def __call__(self, points: Tensor, orders: Orders) -> list[Jet]:
        """Jets of all features at points (n, D)."""
        now = coordinates(points, orders)
        found = [_unit(self.clock.since(now[0], e), 0.0, 1.0) for e in self.clock.events]
        spans = list(zip(now, self.box.low, self.box.high, strict=True))
        return found + [_unit(*s) for s in spans[bool(self.clock.events) :]]


def _unit(jet: Jet, low: float, high: float) -> Jet:
    """Scaled from [low, high] to [-1, 1]."""
    return (jet + -0.5 * (low + high)) * (2.0 / (high - low))


class Prepared(NamedTuple):
    """What a field needs of points that stay: jets of features (1, inputs, channel, n), and of the known part and the
    factor of the network, channels (channel, 1 or members, n)."""

    features: Tensor
    known: Jet | None
    gate: Jet | None

    def take(self, part: slice, index: Tensor | None = None) -> Prepared:
        """Some of the points, for some of the members."""

        def cut(jet: Jet | None) -> Jet | None:
            if jet is None:
                return None
            channels = jet.channels[..., part]
            return Jet(channels if index is None or channels.shape[1] == 1 else channels[:, index], jet.orders)

        return Prepared(self.features[..., part], cut(self.known), cut(self.gate))


@dataclass(frozen=True)
class Ansatz:
    """A form of the head of one's own, for what a network cannot follow, such as corners of time and space.

    Attributes
    ----------
    known, gate : jets that do not change with the weights, from the jets of coordinates.
    join : the jet of the head [cm], from those of the network's first output, of ``known`` and of ``gate``.
    """

    known: Callable[[Sequence[Jet]], Jet]
    gate: Callable[[Sequence[Jet]], Jet]
    join: Callable[[Jet, Jet, Jet], Jet]


@dataclass(eq=False)
class Field:
    """Pressure head (and flux) in a box: T(u) of u = known + gate x scale x network.

    Parameters
    ----------
    network : of ``features.count`` inputs; one output for u, a second and so on for fluxes.
    features : what it sees.
    head : scale h of the head [cm]: psi = h u, or with ``stretch`` psi = h sinh(u), which is linear near saturation,
        goes on smoothly into ponded heads, and is logarithmic in dry soil.
    flux : scale of the fluxes [cm/d].
    known : jets of u that the network is added to, from the jets of coordinates.
    gate : jets of the factor of the network, zero where ``known`` is to hold exactly.
    join : the jet of the head from those of the network, ``known`` and ``gate``, instead of the above; see Ansatz.
    """

    network: Network
    features: Features
    head: float = 1.0
    stretch: bool = False
    flux: float = 1.0
    known: Callable[[Sequence[Jet]], Jet] | None = field(default=None, repr=False)
    gate: Callable[[Sequence[Jet]], Jet] | None = field(default=None, repr=False)
    join: Callable[[Jet, Jet, Jet], Jet] | None = field(default=None, repr=False)

    def prepare(self, points: Tensor, orders: Orders) -> Prepared:
        """All that does not change with the weights at points (n, D)."""
        features = torch.stack([j.channels for j in self.features(points, orders)])
        now = coordinates(points, orders)
        made = [None if f is None else _wide(f(now)) for f in (self.known, self.gate)]
        return Prepared(features.unsqueeze(0), *made)

    def outputs(self, prepared: Prepared, channels: Tensor, orders: Orders) -> list[Jet]:
        """Jets of the head [cm] and of the fluxes [cm/d], channels (channel, members, n), from those of the network."""
        u, *fluxes = (Jet(c.movedim(1, 0), orders) for c in channels.unbind(1))
        psi = self._head(u, prepared) if self.join is None else self.join(u, prepared.known, prepared.gate)
        return [psi, *(q * self.flux for q in fluxes)]

    def _head(self, u: Jet, prepared: Prepared) -> Jet:
        if prepared.gate is not None:
            u = u * prepared.gate
        if prepared.known is not None:
            u = u + prepared.known
        return u.sinh() * self.head if self.stretch else u * self.head

    @torch.no_grad()
    def __call__(self, points: Tensor, orders: Orders | None = None) -> list[Jet]:
        """Jets at points (n, D) without a graph."""
        orders = orders or Orders()
        prepared = self.prepare(points, orders)
        return self.outputs(prepared, self.network(prepared.features, orders), orders)


def _wide(jet: Jet) -> Jet:
    """With an axis for members."""
    return jet if jet.channels.ndim == 3 else Jet(jet.channels.unsqueeze(1), jet.orders)


class Profile:
    """A known profile over a coordinate, the vertical unless told: the cubic spline through values.

    Parameters
    ----------
    z : rising places (n,) [cm].
    values : (n,), or (members, n), each its own.
    """

    def __init__(self, z, values, coordinate: int = -1):
        self.spline = CubicSpline(np.asarray(z, float), np.asarray(values, float), axis=-1)
        self.coordinate = coordinate

    def __call__(self, now: Sequence[Jet]) -> Jet:
        """Its jet at points with these coordinates: channels (channel, n) or (channel, members, n)."""
        jet = now[self.coordinate]
        at = jet.value.detach().cpu().numpy()
        f, slope, bend = (torch.from_numpy(self.spline(at, nu)).to(jet.value) for nu in range(3))
        wide = jet if f.ndim == 1 else Jet(jet.channels.unsqueeze(1), jet.orders)
        return wide.through(f, slope, bend)


def start_gate(clock: Clock, sharpness: float = 0.15) -> Callable[[Sequence[Jet]], Jet]:
    """tanh of the clock since the start, over ``sharpness``: zero at it, soon one."""
    return lambda now: (clock.since(now[0], clock.start) * (1.0 / sharpness)).tanh()


def wall_gate(coordinate: int, at: float, length: float) -> Callable[[Sequence[Jet]], Jet]:
    """tanh of twice the scaled distance from a wall."""
    return lambda now: ((now[coordinate] + -at) * (2.0 / length)).tanh()


def product(*gates: Callable[[Sequence[Jet]], Jet]) -> Callable[[Sequence[Jet]], Jet]:
    """Gates multiplied."""

    def gate(now: Sequence[Jet]) -> Jet:
        found = gates[0](now)
        for other in gates[1:]:
            found = found * other(now)
        return found

    return gate
