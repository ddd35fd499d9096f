"""Scales that readings set."""

from __future__ import annotations

import torch
from torch import Tensor

LAGS = 50
"""Into how many spans a record is cut: over each, water moves by more than readings err."""


def storage_rate(days: Tensor, theta: Tensor, height: float) -> float:
    """Flux [cm/d] that fills or empties a height [cm] of soil, seldom more: from contents (T, ...) of sensors, NaN
    where there are none."""
    contents, lag = theta.reshape(len(days), -1), max(len(days) // LAGS, 1)
    rises = (contents[lag:] - contents[:-lag]).nanmean(1)  # of each sensor by itself: some may be missing
    rates = (rises * height / (days[lag:] - days[:-lag])).abs()
    return max(float(torch.nanquantile(rates, 0.95).nan_to_num()), 1e-3)
