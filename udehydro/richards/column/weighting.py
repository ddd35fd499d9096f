"""Conductivity between two neighbouring nodes of one soil, from that at both.

Every weighting returns the conductivity and its derivatives by that of the upper and of the lower node. The layers of
a column meet in nodes of their own, so that no weighting ever mixes two soils: at an interface conductivities act in
series whatever is chosen here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Weighting = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(upper, lower, drive) -> conductivity and its two derivatives; water moves up where the drive is positive."""


def arithmetic(upper: Tensor, lower: Tensor, drive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of both. Second order; a wetting front enters dry soil with half the conductivity behind it.

    The default: geometric and harmonic means shut the front off where the soil ahead conducts nothing, and upwind
    values are of first order (compared by Haverkamp and Vauclin 1979, Water Resour. Res. 15:181).
    """
    half = torch.full_like(drive, 0.5)
    return 0.5 * (upper + lower), half, half


def geometric(upper: Tensor, lower: Tensor, drive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Square root of the product. Second order, close to the truth in drying soil; too small at fronts in dry soil."""
    tiny = torch.finfo(upper.dtype).tiny ** 0.5
    up, low = torch.sqrt(upper.clamp_min(tiny)), torch.sqrt(lower.clamp_min(tiny))
    return up * low, 0.5 * low / up, 0.5 * up / low


def harmonic(upper: Tensor, lower: Tensor, drive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two resistances in series. Second order; far too small at fronts in dry soil."""
    total = (upper + lower).clamp_min(torch.finfo(upper.dtype).tiny ** 0.5)
    up, low = upper / total, lower / total
    return 2.0 * up * lower, 2.0 * low.square(), 2.0 * up.square()


def upwind(upper: Tensor, lower: Tensor, drive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """That of the node the water leaves. First order, and free of oscillations on any grid."""
    rises = (drive > 0.0).to(upper.dtype)
    return torch.where(drive > 0.0, lower, upper), 1.0 - rises, rises
