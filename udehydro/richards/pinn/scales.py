"""Scales that readings set."""

from __future__ import annotations

import torch
from torch import Tensor

LAGS = 50
"""Into how many spans a record is cut: over each, water moves by more than readings err."""


def storage_rate(days: Tensor, theta: Tensor, height: float) -> float:
    """Flux [cm/d] that fills or empties a height [cm] of soil, seldom more: from contents (T, ...) of sensors, NaN
    where there are none."""
    water = theta.reshape(len(days), -1).nanmean(1) * height
    lag = max(len(days) // LAGS, 1)
    rates = ((water[lag:] - water[:-lag]) / (days[lag:] - days[:-lag])).abs()
    return max(float(torch.nanquantile(rates, 0.95).nan_to_num()), 1e-3)
