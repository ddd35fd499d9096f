"""How far what was learned is to be trusted: bands that widen, and a warning, where networks miss data or physics."""

from __future__ import annotations

import warnings

from torch import Tensor

MISFIT = 1.5
"""chi2 by reading from which a warning is due."""


def excess(misfit: Tensor, physics: Tensor, tolerance: Tensor) -> Tensor:
    """What standard deviations (members,) are multiplied by: the root of chi2 by reading, or the residuals of the
    physics at points not trained on over their tolerance, the larger one where it is above one. Both say how much
    larger errors are than was taken for granted."""
    return misfit.sqrt().maximum(physics / tolerance).clamp_min(1.0)


def heed_misfit(misfit: Tensor) -> None:
    """Warn of members (members,) that do not follow their readings."""
    bad = ~(misfit <= MISFIT)
    if bool(bad.any()):
        warnings.warn(
            f"chi2 by reading is {float(misfit[bad].max()):.3g} where one is expected, for {int(bad.sum())} of "
            f"{len(bad)} members: a unit, a depth, sigma, or what is known of ends and start is wrong, or networks "
            "have too few points (counts), units (width) or steps. Take curves as rough.",
            stacklevel=3,
        )
