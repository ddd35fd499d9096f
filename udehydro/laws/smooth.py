"""Switches and limiters that formulas share. Finite, with finite derivatives, for every real storage."""

from __future__ import annotations

import torch
from torch import Tensor


def switch(x: Tensor, width: Tensor | float = 0.2) -> Tensor:
    """Smooth step from 0 (x << 0) to 1 (x >> 0): ``(1 + tanh(x / width)) / 2``.

    ``width`` has the unit of ``x``; 0.2 is the published choice of EXP-HYDRO (Hoege et al. 2022, sigma(x) with a
    factor 5). ``switch(x) + switch(-x)`` is exactly one, so a partition by switches loses no water.
    """
    return 0.5 * (1.0 + torch.tanh(x / width))


def limiter(storage: Tensor, potential: Tensor, tau: Tensor | float = 1.0) -> Tensor:
    """Outflow that storage can sustain [mm/d]: ``min(storage / tau, potential)``, with ``tau`` in days.

    Linear below zero, so that a store that an iterate or a high-order stage pushed below zero refills. The kink is
    hard on purpose: smoothing by softplus or square root moves water out of empty stores. Keep ``tau`` above 0.1 h.
    """
    return torch.minimum(storage / tau, potential)


def excess(storage: Tensor, capacity: Tensor | float) -> Tensor:
    """Storage above a capacity [mm]: ``storage - min(storage, capacity)``, zero below it."""
    return (storage - capacity).clamp_min(0.0)


def saturation(storage: Tensor, capacity: Tensor | float) -> Tensor:
    """Relative filling in [0, 1], continued as a constant below empty and above full.

    The constant continuation keeps the slope from turning negative where iterates leave the physical range.
    """
    return (storage / capacity).clamp(0.0, 1.0)


def power(base: Tensor, exponent: Tensor | float) -> Tensor:
    """``max(base, 0) ** exponent``, zero with zero derivatives for ``base <= 0``, whatever the exponent.

    An exponent below one has a slope that grows without bound towards zero: cap such a flux with :func:`limiter`.
    """
    below = base <= 0
    # the inner choice keeps a slope that is not finite, at zero, out of the derivative of the outer one
    return torch.where(below, 0.0, torch.where(below, 1.0, base) ** exponent)
