"""Van Genuchten's retention and Mualem's conductivity as functions of water content, in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from udehydro.richards.exact._common import Array, contents, need, positive


@dataclass(frozen=True)
class MualemVanGenuchten:
    """S = (1 + (alpha |psi|)^n)^-m, m = 1 - 1/n, K = Ks S^l (1 - (1 - S^(1/m))^m)^2 (van Genuchten 1980, eqs. 3, 8).

    alpha [1/cm], Ks [cm/d]. Written in logarithms, so that digits are kept in nearly dry and nearly saturated soil.
    """

    theta_r: float
    theta_s: float
    alpha: float
    n: float
    Ks: float
    l: float = 0.5

    def __post_init__(self):
        contents("Van Genuchten", self.theta_r, self.theta_s)
        positive("Van Genuchten", alpha=self.alpha, Ks=self.Ks)
        need(self.n > 1, f"Van Genuchten: n = {self.n} must be above one.")

    @property
    def m(self) -> float:
        return 1 - 1 / self.n

    def theta(self, psi: ArrayLike) -> Array:
        """Water content at a pressure head [cm]."""
        suction = np.maximum(-np.asarray(psi, dtype=float), 0)
        return self.theta_r + (self.theta_s - self.theta_r) * (1 + (self.alpha * suction) ** self.n) ** -self.m

    def psi(self, theta: ArrayLike) -> Array:
        """Pressure head [cm] at a water content, -inf at theta_r."""
        with np.errstate(divide="ignore"):
            return -(np.expm1(-self._log_saturation(theta) / self.m) ** (1 / self.n)) / self.alpha

    def conductivity(self, theta: ArrayLike) -> Array:
        """[cm/d]."""
        with np.errstate(divide="ignore"):
            log = self._log_saturation(theta)
            return self.Ks * np.exp(self.l * log) * np.expm1(self.m * self._log_empty(log)) ** 2

    def diffusivity(self, theta: ArrayLike) -> Array:
        """K d psi / d theta [cm2/d], infinite at theta_s."""
        m = self.m
        with np.errstate(divide="ignore"):
            log = self._log_saturation(theta)
            shape = 4 * np.sinh(m / 2 * self._log_empty(log)) ** 2
        scale = (1 - m) * self.Ks / (self.alpha * m * (self.theta_s - self.theta_r))
        return scale * np.exp((self.l - 1 / m) * log) * shape

    def at_saturation(self, share: float) -> float:
        """Water content at an effective saturation."""
        return self.theta_r + (self.theta_s - self.theta_r) * share

    def _log_saturation(self, theta: ArrayLike) -> Array:
        theta = np.asarray(theta, dtype=float)
        span = self.theta_s - self.theta_r
        empty = (self.theta_s - theta) / span
        wet = empty < 0.5
        return np.where(
            wet, np.log1p(-np.where(wet, empty, 0)), np.log(np.where(wet, 1, (theta - self.theta_r) / span))
        )

    def _log_empty(self, log: Array) -> Array:
        """log(1 - S^(1/m)) from log S, accurate at both ends."""
        x = log / self.m
        return np.where(x < -np.log(2), np.log1p(-np.exp(x)), np.log(-np.expm1(x)))
