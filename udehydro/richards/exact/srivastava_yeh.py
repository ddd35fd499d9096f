"""Srivastava and Yeh (1991): a step of recharge into a column of Gardner's soil above a water table.

K = Ks exp(alpha psi) and theta = theta_r + (theta_s - theta_r) exp(alpha psi) make the equation linear in k = K / Ks:
with Z = alpha z and T = alpha Ks t / (theta_s - theta_r), k_T = k_ZZ + k_Z and the downward flux over Ks is k + k_Z.
Before t = 0 the column is steady.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from udehydro.richards.exact._common import (
    FORGOTTEN,
    Array,
    bisect,
    by_time,
    contents,
    need,
    positive,
    step_response,
    times,
    within,
)


@dataclass(frozen=True)
class SrivastavaYeh:
    """One layer. z [cm] is the height above the base, t [d] the time since the step, fluxes are positive upward.

    Attributes
    ----------
    theta_r, theta_s : water contents; alpha : [1/cm]; Ks : [cm/d].
    length : of the column [cm].
    recharge_before, recharge_after : downward flux at the surface [cm/d], negative for evaporation.
    psi_base : pressure head at z = 0 [cm], at most 0.

    Accuracy is round-off: eigenfunctions once the base is felt, until then the response of a deep soil, which has no
    trouble at early times or in long columns.

    Raises
    ------
    ConfigError
        For recharge above Ks (the soil would pond), or evaporation that no steady state can supply.
    """

    theta_r: float
    theta_s: float
    alpha: float
    Ks: float
    length: float
    recharge_before: float
    recharge_after: float
    psi_base: float = 0.0

    def __post_init__(self):
        positive("Srivastava-Yeh", alpha=self.alpha, Ks=self.Ks, length=self.length)
        contents("Srivastava-Yeh", self.theta_r, self.theta_s)
        need(self.psi_base <= 0, f"Srivastava-Yeh: psi_base = {self.psi_base} cm must not be above zero.")
        for q in (self.recharge_before, self.recharge_after):
            fits = q <= self.Ks and self._steady(self.length, q) > 0
            need(fits, f"Srivastava-Yeh: no unsaturated steady state has a recharge of {q} cm/d (Ks = {self.Ks} cm/d).")

    def psi(self, z: ArrayLike, t: ArrayLike) -> Array:
        """Pressure head [cm], of the shape of z and t broadcast."""
        return np.log(self._relative(z, t)[0]) / self.alpha

    def theta(self, z: ArrayLike, t: ArrayLike) -> Array:
        """Water content."""
        return self.theta_r + (self.theta_s - self.theta_r) * self._relative(z, t)[0]

    def flux(self, z: ArrayLike, t: ArrayLike) -> Array:
        """Darcy flux, positive upward [cm/d]; at t = 0 the steady one of before, also at the surface."""
        return -self.Ks * self._relative(z, t)[1]

    def _steady(self, z, recharge: float):
        q = recharge / self.Ks
        return q + (np.exp(self.alpha * self.psi_base) - q) * np.exp(-self.alpha * z)

    def _relative(self, z: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
        """k and the downward flux over Ks."""
        z, t = within("z", z, 0, self.length), times(t)
        scaled = t * (self.alpha * self.Ks / (self.theta_s - self.theta_r))
        gain, flow = by_time(lambda x, now: _unit_step(x, now, self.alpha * self.length), self.alpha * z, scaled)
        step = (self.recharge_after - self.recharge_before) / self.Ks
        return self._steady(z, self.recharge_before) + step * gain, self.recharge_before / self.Ks + step * flow


def _unit_step(z: Array, t: float, depth: float) -> tuple[Array, Array]:
    """Change of k and of the downward flux by a unit step of flux at z = depth, with k kept at z = 0; dimensionless."""
    if t == 0:
        return np.zeros_like(z), np.zeros_like(z)
    if depth > FORGOTTEN or (t < 2 * depth and depth**2 / t + t / 4 > FORGOTTEN):
        # the first image of the surface in the base; the second is smaller by exp(-depth^2 / t - t / 4) or exp(-depth)
        near, far = step_response(depth - z, t), step_response(depth + z, t)
        image = np.exp(-z)
        return near[0] - image * far[0], near[1] - image * (far[0] - far[1])
    root = characteristic_roots(int(np.sqrt(FORGOTTEN / t) * depth / np.pi) + 2, depth)
    weight = np.sin(root * depth) * np.exp(-(root**2) * t) / (1 + depth / 2 + 2 * root**2 * depth)
    angle = z[..., None] * root
    scale = 4 * np.exp((depth - z) / 2 - t / 4)
    gain = 1 - np.exp(-z) - scale * (np.sin(angle) @ weight)
    return gain, 1 - scale * ((np.sin(angle) / 2 + root * np.cos(angle)) @ weight)


def characteristic_roots(count: int, depth: float) -> Array:
    """The first roots of sin(l depth) + 2 l cos(l depth), one in each ((n - 1/2) pi / depth, n pi / depth)."""
    n = np.arange(1, count + 1)

    def surface_flux(l: Array) -> Array:
        return np.sin(l * depth) + 2 * l * np.cos(l * depth)

    return bisect(surface_flux, (n - 0.5) * np.pi / depth, n * np.pi / depth)
