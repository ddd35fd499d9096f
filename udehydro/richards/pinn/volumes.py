"""Balances of control volumes: what comes in stays, in integrals over boxes of depth and time.

First derivatives of the head suffice, and no water is lost between points: storage by Gauss quadrature over the height
at both times, fluxes by Gauss quadrature over the clock at both ends.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.richards.pinn.clock import Clock
from udehydro.richards.pinn.field import Box
from udehydro.richards.pinn.jets import Orders
from udehydro.richards.pinn.residuals import balance_scale, darcy
from udehydro.richards.pinn.soil import Soil
from udehydro.richards.pinn.system import Term

NODES = 3
SHARE = 0.05
"""Of the clock and of the height that a volume takes."""


def volume(
    name: str, points: Tensor, box: Box, field: int, soil: Soil, scale: float, clock: Clock, weight=1.0, sink=None
) -> Term:
    """Balances of as many volumes as there are points / 12 (each has 12 of its own), from the head alone.

    Raises
    ------
    ConfigError
        For more than one dimension, and for sinks.
    """
    if box.vertical != 1 or sink is not None:
        raise ConfigError("Control volumes are for one dimension without sinks: take form='mixed' or 'pointwise'.")
    corners = points[: max(len(points) // (4 * NODES), 1)]
    nodes, gauss = (torch.from_numpy(a).to(points) for a in np.polynomial.legendre.leggauss(NODES))
    nodes, gauss = 0.5 + 0.5 * nodes, 0.5 * gauss
    start, share = _shares(corners[:, 0], clock), SHARE
    start = start.clamp_max(1.0 - share)
    low = (corners[:, 1] - 0.5 * share * box.sides[1]).clamp(box.low[1], box.high[1] - share * box.sides[1])
    high = low + share * box.sides[1]
    t, length = _times(start, share, nodes, clock)
    ends = clock.spread(torch.stack([start, start + share]))
    heights = low.unsqueeze(1) + share * box.sides[1] * nodes
    where = [
        *(torch.stack([e.unsqueeze(1).expand_as(heights), heights], -1) for e in ends),
        *(torch.stack([t, z.unsqueeze(1).expand_as(t)], -1) for z in (low, high)),
    ]
    every = torch.cat(where, dim=1).flatten(0, 1)
    middle = clock.spread(start + 0.5 * share)
    factor = balance_scale(middle, box, clock, scale) / (ends[1] - ends[0])

    def rows(outputs, extra: Tensor, part: slice, index: Tensor) -> Tensor:
        psi = outputs[0][0]
        here = soil.at(extra, psi.value)
        theta, flux = (x.unflatten(1, (-1, 4, NODES)) for x in (here.theta(), darcy(here, psi, 1, True)))
        cells = slice(part.start // (4 * NODES), part.stop // (4 * NODES))
        gained = ((theta[:, :, 1] - theta[:, :, 0]) * gauss).sum(-1)
        passed = ((flux[:, :, 3] - flux[:, :, 2]) * length[cells] * gauss).sum(-1) / (share * box.sides[1])
        return ((gained + passed) * factor[cells]).unsqueeze(-1)

    return Term(name, every, (field,), Orders((1,)), rows, weight, group=4 * NODES)


def _shares(t: Tensor, clock: Clock) -> Tensor:
    """u with clock.spread(u) = t, by bisection."""
    low, high = torch.zeros_like(t), torch.ones_like(t)
    for _ in range(50):
        middle = 0.5 * (low + high)
        after = clock.spread(middle) > t
        low, high = torch.where(after, low, middle), torch.where(after, middle, high)
    return 0.5 * (low + high)


def _times(start: Tensor, share: float, nodes: Tensor, clock: Clock) -> tuple[Tensor, Tensor]:
    """Times (n, NODES) within volumes, and dt of a whole share there."""
    u = (start.unsqueeze(1) + share * nodes).requires_grad_()
    with torch.enable_grad():
        t = clock.spread(u)
        slope = torch.autograd.grad(t.sum(), u)[0]
    return t.detach(), share * slope
