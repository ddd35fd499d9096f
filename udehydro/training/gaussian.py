"""Gaussian errors of known size: the loss that least squares lower, with correlated errors whitened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.training.losses import PreparedLoss, _check


@dataclass(frozen=True)
class Gaussian:
    """Errors of a measured series: Gaussian, of standard deviation ``sigma``, a number or a series (T, *batch).

    ``log_offset`` [mm/d]: of log(q + offset), for errors that grow with the flow. ``correlation``: lag-1 correlation of
    the errors; residuals are whitened with it, a gap starting anew. ConfigError for values that make no distribution.
    """

    sigma: float | Tensor = 1.0
    log_offset: float | None = None
    correlation: float = 0.0

    def __post_init__(self):
        sigma = self.sigma
        if not isinstance(sigma, Tensor | float | int):
            sigma = torch.from_numpy(np.array(sigma, dtype=float))
            object.__setattr__(self, "sigma", sigma)
        if not (bool((sigma > 0).all()) if isinstance(sigma, Tensor) else sigma > 0):
            raise ConfigError(f"Needs a sigma above zero everywhere: {self!r}.")
        if not abs(self.correlation) < 1.0 or (self.log_offset is not None and not self.log_offset > 0.0):
            raise ConfigError(f"Needs a log_offset above zero and a correlation within (-1, 1): {self!r}.")

    def prepare(self, observed_train: Tensor) -> PreparedLoss:
        """Mean of the squared residuals (*batch): one where the model is right and ``sigma`` is the errors'.

        Raises
        ------
        ConfigError
            Where ``sigma`` varies: a loss is asked about any window.
        DataError
            Without observations.
        """
        if isinstance(self.sigma, Tensor) and self.sigma.numel() > 1:
            raise ConfigError("fit takes a Gaussian loss with one sigma; least_squares takes a series of them.")
        _check(observed_train)

        def loss(simulated: Tensor, observed: Tensor) -> Tensor:
            valid = ~observed.isnan()
            residual = self.whiten(self.residual(simulated, observed)[0], valid)
            return residual.square().sum(0) / valid.sum(0).clamp(min=1)

        return loss

    def residual(self, simulated: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals before whitening and their derivatives by ``simulated``; zero where ``observed`` is NaN."""
        valid = ~observed.isnan()
        if self.log_offset is None:
            residual, slope = simulated - observed, torch.ones_like(simulated)
        else:
            # below zero the logarithm goes on as its tangent
            above, e = simulated.clamp_min(0.0), self.log_offset
            slope = 1.0 / (above + e)
            residual = torch.log(above + e) + (simulated - above) / e - torch.log(observed + e)
        return torch.where(valid, residual / self.sigma, 0.0), torch.where(valid, slope / self.sigma, 0.0)

    def whiten(self, residual: Tensor, valid: Tensor) -> Tensor:
        """Residuals (..., T, *batch) without their correlation, given where there are observations (T, *batch)."""
        if not self.correlation:
            return residual
        axis = residual.ndim - valid.ndim
        both = (valid[1:] & valid[:-1]).to(residual.dtype)
        first, rest = residual.narrow(axis, 0, 1), residual.narrow(axis, 1, len(valid) - 1)
        before = residual.narrow(axis, 0, len(valid) - 1)
        scale = 1.0 + ((1.0 - self.correlation**2) ** -0.5 - 1.0) * both
        return torch.cat([first, (rest - self.correlation * both * before) * scale], dim=axis)
