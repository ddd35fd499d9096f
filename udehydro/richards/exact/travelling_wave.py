"""Travelling wave (Philip 1957; Vanderborght et al. 2005): the shape to which a front settles far below the surface.

Infiltration at a steady rate into deep soil at a uniform head ends as a profile that moves down unchanged at the speed
(K_b - K_i) / (theta_b - theta_i). Its shape is exact; where it is at a time is not part of the theory, and it is put
here with the mean of the two water contents at z = -speed x t.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import brentq
from scipy.special import expit

from udehydro.richards.exact._common import Array, need, positive
from udehydro.richards.exact.curves import MualemVanGenuchten

REACH, PANELS = 18.0, 1800
"""Logit of the saturation between the two ends up to which the shape is computed, in so many panels."""


@dataclass(frozen=True)
class TravellingWave:
    """z [cm] upward, any t [d]; align a simulated profile with it before comparing.

    Attributes
    ----------
    soil : hydraulic curves.
    psi_i : head ahead of the front [cm]; infiltration : downward flux behind it [cm/d]. From Ks on, the soil behind the
        front is saturated and carries Ks.

    Water contents are accurate to about 1e-7 of the change.

    Raises
    ------
    ConfigError
        For an infiltration that is not above the conductivity at psi_i.
    """

    soil: MualemVanGenuchten
    psi_i: float
    infiltration: float

    def __post_init__(self):
        positive("Travelling wave", infiltration=self.infiltration)
        need(self.psi_i < 0, f"Travelling wave: psi_i = {self.psi_i} cm must be below zero.")
        drains, rate = float(self.soil.conductivity(self.theta_i)), self.infiltration
        need(rate > drains, f"Travelling wave: infiltration = {rate} cm/d must be above K(psi_i) = {drains:.4g} cm/d.")

    @cached_property
    def theta_i(self) -> float:
        """Water content ahead of the front."""
        return float(self.soil.theta(self.psi_i))

    @cached_property
    def theta_b(self) -> float:
        """Water content behind the front, where K is the infiltration; theta_s at most."""
        s = self.soil
        if self.infiltration >= s.Ks:
            return s.theta_s
        return brentq(lambda x: float(s.conductivity(x)) - self.infiltration, self.theta_i, s.theta_s, xtol=1e-16)

    @cached_property
    def speed(self) -> float:
        """Of the front, downward [cm/d]."""
        ahead, behind = self.soil.conductivity([self.theta_i, self.theta_b])
        return float((behind - ahead) / (self.theta_b - self.theta_i))

    def theta(self, z: ArrayLike, t: ArrayLike) -> Array:
        """Water content, of the shape of z and t broadcast."""
        return self.theta_i + (self.theta_b - self.theta_i) * self._share(z, t)

    def psi(self, z: ArrayLike, t: ArrayLike) -> Array:
        """Pressure head [cm]."""
        return self.soil.psi(self.theta(z, t))

    def flux(self, z: ArrayLike, t: ArrayLike) -> Array:
        """Darcy flux, positive upward [cm/d]."""
        ahead = float(self.soil.conductivity(self.theta_i))
        return -(ahead + self.speed * (self.theta_b - self.theta_i) * self._share(z, t))

    def _share(self, z: ArrayLike, t: ArrayLike) -> Array:
        shape = self._shape
        place = np.asarray(z, dtype=float) + self.speed * np.asarray(t, dtype=float)
        inside = expit(shape(np.clip(place, shape.x[0], shape.x[-1])))
        return np.where(place <= shape.x[0], 0.0, np.where(place >= shape.x[-1], 1.0, inside))

    @cached_property
    def _shape(self) -> CubicHermiteSpline:
        """Logit of the share of the change as a function of height relative to the mean's."""
        edge = np.linspace(-REACH, REACH, PANELS + 1)
        node, weight = np.polynomial.legendre.leggauss(6)
        step = edge[1] - edge[0]
        height = step / 2 * (self._slope((edge[:-1] + edge[1:])[:, None] / 2 + step / 2 * node) @ weight)
        place = np.concatenate([[0.0], np.cumsum(height)])
        return CubicHermiteSpline(place - place[PANELS // 2], edge, 1 / self._slope(edge))

    def _slope(self, y: Array) -> Array:
        """dz/dy of the shape: D dtheta/dz is the difference of the wave's flux and the conductivity."""
        change = self.theta_b - self.theta_i
        ahead, behind = self.soil.conductivity([self.theta_i, self.theta_b])
        theta = self.theta_i + change * expit(y)
        surplus = np.where(
            y < 0,
            (behind - ahead) * expit(y) - (self.soil.conductivity(theta) - ahead),
            behind - self.soil.conductivity(theta) - (behind - ahead) * expit(-y),
        )
        return change * self.soil.diffusivity(theta) * expit(y) * expit(-y) / surplus
