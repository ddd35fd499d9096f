"""Clocks: time as networks see it, in which solutions after a jump are smooth.

After a jump of a boundary flux heads change like the root of the time since. A clock runs with that root, and still
faster at first where ``early`` is above zero: s = ln(1 + early r) / ln(1 + early), r the root of the share of time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.richards.pinn.jets import Jet


@dataclass(frozen=True)
class Clock:
    """Time from ``start`` on to ``stop`` of the field, with jumps of boundaries at ``events`` [d]."""

    start: float
    stop: float
    events: tuple[float, ...] = ()
    early: float = 0.0

    def __post_init__(self):
        events = list(self.events)
        if any(not self.start <= e < self.stop for e in events) or any(
            b <= a for a, b in zip(events, events[1:], strict=False)
        ):
            raise ConfigError(f"Events {events} have to rise within {self.start:g} to {self.stop:g} d.")
        if self.early < 0.0:
            raise ConfigError(f"early={self.early} must not be negative.")

    @property
    def edges(self) -> tuple[float, ...]:
        """Of the spans of time between jumps."""
        first = () if self.events and self.events[0] == self.start else (self.start,)
        return (*first, *self.events, self.stop)

    def since(self, time: Jet, event: float) -> Jet:
        """s of the time since an event, from 0 (before it, too) to 1 at the end."""
        return self._bent(((time + -event) * (1.0 / (self.stop - event))).sqrt())

    def _bent(self, root: Jet) -> Jet:
        if not self.early:
            return root
        return (root * self.early).log1p() * (1.0 / math.log1p(self.early))

    def spread(self, u: Tensor) -> Tensor:
        """Times for shares u in [0, 1]: as many in a span as the root of its length, even in s within it."""
        edges = torch.tensor(self.edges, dtype=u.dtype, device=u.device)
        share = edges.diff().sqrt()
        places = torch.cat([share.new_zeros(1), (share / share.sum()).cumsum(0)])
        k = (torch.searchsorted(places, u.contiguous(), right=True) - 1).clamp(0, len(share) - 1)
        inner = ((u - places[k]) / places.diff()[k]).clamp(0.0, 1.0)
        jumped = torch.tensor([e in self.events for e in self.edges[:-1]], device=u.device)[k]
        root = torch.expm1(inner * math.log1p(self.early)) / self.early if self.early else inner
        return edges[k] + edges.diff()[k] * torch.where(jumped, root**2, inner)

    def rate(self, t: Tensor) -> Tensor:
        """d share / d s of the span that times are in: what rates are multiplied by to be regular after a jump."""
        found = torch.ones_like(t)
        for a, b in zip(self.edges, self.edges[1:], strict=False):
            if a in self.events:
                root = ((t - a).clamp(0.0, b - a) / (b - a)).sqrt()
                bent = (1.0 + self.early * root) * math.log1p(self.early) / self.early if self.early else 1.0
                found = torch.where((t >= a) & (t < b), 2.0 * root * bent, found)
        return found
