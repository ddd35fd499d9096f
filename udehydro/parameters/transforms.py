"""Maps between a physical range and the real line: logit, in the logarithm for ranges beyond a factor of 100."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from udehydro.structure import Range


def from_unit(u: Tensor, range_: Range) -> Tensor:
    """Share of the range in [0, 1] -> physical value (log-spaced where the range is logarithmic)."""
    if range_.logarithmic:
        low, high = math.log(range_.low), math.log(range_.high)
        return torch.exp(low + (high - low) * u)
    return range_.low + (range_.high - range_.low) * u


def to_unit(value: Tensor, range_: Range) -> Tensor:
    """Physical value -> share of the range."""
    if range_.logarithmic:
        low, high = math.log(range_.low), math.log(range_.high)
        return (torch.log(value) - low) / (high - low)
    return (value - range_.low) / (range_.high - range_.low)
