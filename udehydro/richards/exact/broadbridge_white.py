"""Broadbridge and White (1988): infiltration at a constant rate into deep soil of their law, K not exponential in psi.

With S = (theta - theta_r) / (theta_s - theta_r): K = Ks (C - 1) S^2 / (C - S), and the diffusivity is
Ks lambda C (C - 1) / ((theta_s - theta_r) (C - S)^2). Storm's and the Hopf-Cole transformation make it linear: S and
depth follow in closed form from u(zeta, tau), with zeta a parameter of depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import erfc, erfcx, logsumexp

from udehydro.errors import DataError
from udehydro.richards.exact._common import Array, contents, need, positive, times, within

ITERATIONS = 100


@dataclass(frozen=True)
class BroadbridgeWhite:
    """z [cm] is zero at the surface and negative below, t [d] the time since the start, fluxes are positive upward.

    Attributes
    ----------
    theta_r, theta_s : water contents; Ks : [cm/d].
    sorptive_length : lambda [cm].
    C : > 1; near 1 fronts are steep as Green and Ampt's, from 2 the soil is mildly nonlinear.
    infiltration : downward flux at the surface [cm/d], above the conductivity of the initial water content.
    theta_i : water content at the start, at least theta_r (where psi is -inf: it has no conductivity).

    Raises
    ------
    ConfigError
        For values out of range.
    DataError
        For times at which the surface is saturated: see `ponding_time`.
    """

    theta_r: float
    theta_s: float
    Ks: float
    sorptive_length: float
    C: float
    infiltration: float
    theta_i: float

    def __post_init__(self):
        where = "Broadbridge-White"
        positive(where, Ks=self.Ks, sorptive_length=self.sorptive_length, infiltration=self.infiltration)
        contents(where, self.theta_r, self.theta_s)
        need(self.C > 1, f"{where}: C = {self.C} must be above one.")
        inside = self.theta_r <= self.theta_i < self.theta_s
        need(inside, f"{where}: theta_i = {self.theta_i} must be in [theta_r, theta_s).")
        drains, rate = self.Ks * _conductivity(self._start, self.C), self.infiltration
        need(rate > drains, f"{where}: infiltration = {rate} cm/d must be above K(theta_i) = {drains:.4g} cm/d.")

    def theta(self, z: ArrayLike, t: ArrayLike) -> Array:
        """Water content, of the shape of z and t broadcast."""
        return self.theta_r + (self.theta_s - self.theta_r) * self._saturation(z, t)[0]

    def psi(self, z: ArrayLike, t: ArrayLike) -> Array:
        """Pressure head [cm]."""
        S, C = self._saturation(z, t)[0], self.C
        with np.errstate(divide="ignore"):
            return self.sorptive_length * (1 - 1 / S - np.log((C - S) / ((C - 1) * S)) / C)

    def flux(self, z: ArrayLike, t: ArrayLike) -> Array:
        """Darcy flux, positive upward [cm/d]; at t = 0 that of the initial state, also at the surface."""
        return -self.Ks * self._saturation(z, t)[1]

    @cached_property
    def ponding_time(self) -> float:
        """Time at which the surface saturates [d]; infinite where the infiltration is at most Ks."""
        if self.infiltration <= self.Ks:
            return np.inf

        def lacks(t: float) -> float:
            return 1 - float(self._parametric(np.zeros(()), np.asarray(t))[1])

        late = 1.0
        while lacks(late) > 0:
            late *= 2
        return brentq(lacks, 1e-300, late, xtol=1e-300) * self._unit_time

    @property
    def _start(self) -> float:
        return (self.theta_i - self.theta_r) / (self.theta_s - self.theta_r)

    @property
    def _unit_time(self) -> float:
        return self.sorptive_length * (self.theta_s - self.theta_r) / self.Ks

    def _saturation(self, z: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
        """S and the downward flux over Ks at z and t."""
        z, t = np.broadcast_arrays(within("z", z, -np.inf, 0), times(t))
        if t.size and t.max() > (ponds := self.ponding_time):
            raise DataError(f"The surface is saturated from t = {ponds:.6g} d on; t = {t.max()} d is later.")
        S = np.full(z.shape, self._start)
        flux = np.full(z.shape, _conductivity(self._start, self.C))
        on = t > 0
        S[on], flux[on] = self._invert(-z[on] / self.sorptive_length, t[on] / self._unit_time)
        return S, flux

    def _invert(self, depth: Array, t: Array) -> tuple[Array, Array]:
        """S and flux at depths, by Newton's iteration on zeta from below: depth is a concave function of it."""
        zeta = np.zeros_like(depth)
        for _ in range(ITERATIONS):
            here, S, flux = self._parametric(zeta, t)
            step = (depth - here) * (self.C - S)
            zeta = zeta + step
            if (np.abs(step) <= 1e-13 * (1 + zeta)).all():
                break
        return S, flux

    def _parametric(self, zeta: Array, t: Array) -> tuple[Array, Array, Array]:
        """Depth over lambda, S, and downward flux over Ks, of the parameter zeta at dimensionless times t > 0."""
        C, start = self.C, self._start
        rho = self.infiltration / self.Ks / (4 * C * (C - 1))
        tau = 4 * C * (C - 1) * t
        kappa, c = 2 * rho - start / (C - start), np.sqrt(rho * (rho + 1))
        a, rates = zeta / np.sqrt(tau), np.array([2 * c, -2 * c, kappa, -kappa])
        logs = np.stack([kappa * zeta + kappa**2 * tau / 4, *(_scaled(a, r * np.sqrt(tau) / 2) for r in rates)])
        weights, rates = np.array([1, 0.5, 0.5, -0.5, -0.5]), np.array([kappa, *rates])
        log_u = logsumexp(logs, axis=0, b=weights.reshape(5, *(1,) * a.ndim))
        share = np.exp(logs - log_u)
        # in the derivatives by zeta the bells that the error functions leave cancel
        first, second = (np.tensordot(weights * rates**power, share, 1) for power in (1, 2))
        steep = 1 + 2 * rho - first
        S = C * (1 - 1 / steep)
        slope = -C * (second - first**2) / steep**2
        diffusivity = C * (C - 1) / (C - S)
        depth = (rho * (rho + 1) * tau + (2 * rho + 1) * zeta - log_u) / C
        return depth, S, _conductivity(S, C) - diffusivity * slope


def _conductivity(S, C: float):
    return (C - 1) * S**2 / (C - S)


def _scaled(a: Array, x: Array) -> Array:
    """Logarithm of exp((a + x)^2 - a^2) erfc(a + x)."""
    y = a + x
    scaled = np.log(erfcx(np.maximum(y, 0))) - a**2
    return np.where(y >= 0, scaled, x * (2 * a + x) + np.log(erfc(np.minimum(y, 0))))
