"""Tracy (2006): two- and three-dimensional infiltration into a dry box of Gardner's soil, wetted from above.

K = Ks exp(alpha psi) and theta = theta_r + (theta_s - theta_r) exp(alpha psi). The head is psi_r at first, and stays so
at the base and, with ``sides="head"``, on the sides; ``sides="no-flux"`` closes the sides. At the top,
exp(alpha psi) = exp(alpha psi_r) + (1 - exp(alpha psi_r)) phi with phi the product over the horizontal axes of
sin(pi x / L), or of (1 - cos(2 pi x / L)) / 2, so that the middle of the top is saturated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erfc, erfcx

from udehydro.richards.exact._common import FORGOTTEN, Array, by_time, contents, need, positive, times, within

IMAGES = 4
"""Pairs of images of the top; the next is smaller by exp(-16 / t), t in units of length^2 over diffusivity."""


@dataclass(frozen=True)
class Tracy:
    """Box of edge ``length``; coordinates [cm] run from 0 to length, z upward from the base; t [d] since the wetting.

    Attributes
    ----------
    theta_r, theta_s : water contents; alpha : [1/cm]; Ks : [cm/d].
    length : edge of the square or cube [cm]; psi_r : head of the dry soil [cm], in [-30 / alpha, 0).
    sides : "head" or "no-flux".

    A point is (x, z) or (x, y, z). Accuracy is round-off relative to exp(alpha psi), at early times, too: the series of
    the paper is summed where it converges fast, the equivalent series of images elsewhere.
    """

    theta_r: float
    theta_s: float
    alpha: float
    Ks: float
    length: float
    psi_r: float
    sides: Literal["head", "no-flux"] = "head"

    def __post_init__(self):
        positive("Tracy", alpha=self.alpha, Ks=self.Ks, length=self.length)
        contents("Tracy", self.theta_r, self.theta_s)
        # below, exp(alpha psi_r) is lost beside the round-off of what is added to it
        need(-30 <= self.alpha * self.psi_r < 0, f"Tracy: psi_r = {self.psi_r} cm must be in [-30 / alpha, 0).")
        need(self.sides in ("head", "no-flux"), f"Tracy: sides = '{self.sides}' must be 'head' or 'no-flux'.")

    def psi(self, *point: ArrayLike, t: ArrayLike) -> Array:
        """Pressure head [cm] at (x, z) or (x, y, z), of the shape of all arguments broadcast."""
        return np.log(self._relative(point, t)) / self.alpha

    def theta(self, *point: ArrayLike, t: ArrayLike) -> Array:
        """Water content at (x, z) or (x, y, z)."""
        return self.theta_r + (self.theta_s - self.theta_r) * self._relative(point, t)

    def _relative(self, point: tuple[ArrayLike, ...], t: ArrayLike) -> Array:
        """K / Ks."""
        need(len(point) in (2, 3), f"Tracy: a point has two or three coordinates, not {len(point)}.")
        *sides, z = (within("A coordinate", x, 0, self.length) for x in point)
        dry = np.exp(self.alpha * self.psi_r)
        scaled = times(t) * (self.Ks / (self.alpha * (self.theta_s - self.theta_r) * self.length**2))
        gravity, height = self.alpha * self.length / 2, z / self.length
        risen = 0.0
        for shape, rate in self._modes(sides):
            root = np.sqrt(gravity**2 + rate)
            risen = risen + shape * by_time(lambda y, now, b=root: (_diffused(y, now, b, gravity),), height, scaled)[0]
        return dry + (1 - dry) * risen

    def _modes(self, sides: list[Array]) -> Iterator[tuple[Array | float, float]]:
        """Parts of phi and the eigenvalues of each, with the edge as the unit of length."""
        angles = [np.pi * x / self.length for x in sides]
        if self.sides == "head":
            yield np.prod(np.broadcast_arrays(*(np.sin(x) for x in angles)), axis=0), len(sides) * np.pi**2
            return
        for waves in product((0, 1), repeat=len(sides)):
            parts = [-np.cos(2 * x) / 2 if k else np.full_like(x, 0.5) for k, x in zip(waves, angles, strict=True)]
            yield np.prod(np.broadcast_arrays(*parts), axis=0), sum(waves) * (2 * np.pi) ** 2


def _diffused(z: Array, t: float, b: float, gravity: float) -> Array:
    """exp(gravity (1 - z)) U, where U_t = U_zz - b^2 U on (0, 1) from nothing, with U = 0 at z = 0 and 1 at z = 1."""
    if t == 0:
        return (z == 1).astype(float)
    if t < 16 / FORGOTTEN or 2 * IMAGES * b > FORGOTTEN:
        tilt = gravity * (1 - z)
        odd = 2 * np.arange(IMAGES) + 1
        return sum(_entering(n - z, t, b, tilt) - _entering(n + z, t, b, tilt) for n in odd)
    k = np.arange(1, int(np.sqrt(FORGOTTEN / t) / np.pi) + 2) * np.pi
    steady = np.sinh(b * z) / np.sinh(b)
    rate = b**2 + k**2
    weight = 2 * np.cos(k) * k / rate * np.exp(-rate * t)
    return np.exp(gravity * (1 - z)) * (steady + np.sin(z[..., None] * k) @ weight)


def _entering(x: Array, t: float, b: float, tilt: Array) -> Array:
    """exp(tilt) times U at depth x of a half-space with U = 1 at its surface."""
    near, far = x / (2 * np.sqrt(t)) - b * np.sqrt(t), x / (2 * np.sqrt(t)) + b * np.sqrt(t)
    bell = tilt - x**2 / (4 * t) - b**2 * t
    behind = erfc(np.minimum(near, 0)) * np.exp(tilt - b * x)
    ahead = np.where(near > 0, erfcx(np.maximum(near, 0)) * np.exp(bell), behind)
    return (ahead + erfcx(far) * np.exp(bell)) / 2
