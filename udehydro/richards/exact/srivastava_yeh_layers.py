"""Srivastava and Yeh (1991) for two layers of Gardner's soil with the same alpha above a water table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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
from udehydro.richards.exact.srivastava_yeh import characteristic_roots


@dataclass(frozen=True)
class SrivastavaYehLayers:
    """Two layers of the same alpha; pairs are (lower, upper). Heights, times and fluxes as of `SrivastavaYeh`.

    Attributes
    ----------
    theta_r, theta_s, Ks, length : pairs; alpha : of both layers.
    recharge_before, recharge_after, psi_base : as of `SrivastavaYeh`.

    theta jumps at the interface, which counts as the lower layer; psi and the flux do not. The cases A, B and C of the
    paper are one here: with E = l^2 + 1/4, and beta E = m^2 + 1/4 in the upper layer, eigenfunctions are entire in l^2
    and m^2, whatever their sign. Coefficients are those of the self-adjoint problem; they agree with the paper's in all
    cases.

    Raises
    ------
    ConfigError
        As of `SrivastavaYeh`, and for alpha (length) above 40, where the series loses its digits.
    """

    theta_r: tuple[float, float]
    theta_s: tuple[float, float]
    alpha: float
    Ks: tuple[float, float]
    length: tuple[float, float]
    recharge_before: float
    recharge_after: float
    psi_base: float = 0.0

    def __post_init__(self):
        positive("Srivastava-Yeh", alpha=self.alpha, Ks=self.Ks, length=self.length)
        contents("Srivastava-Yeh", self.theta_r, self.theta_s)
        need(self.psi_base <= 0, f"Srivastava-Yeh: psi_base = {self.psi_base} cm must not be above zero.")
        for q in (self.recharge_before, self.recharge_after):
            least = self._steady(np.cumsum(self.length), q).min()
            fits = q <= min(self.Ks) and least > 0
            need(fits, f"Srivastava-Yeh: no unsaturated steady state has a recharge of {q} cm/d (Ks = {self.Ks} cm/d).")
        deep = self.alpha * sum(self.length)
        need(deep <= 40, f"Srivastava-Yeh: alpha x length = {deep:.3g} is above 40; take shorter layers.")

    def psi(self, z: ArrayLike, t: ArrayLike) -> Array:
        """Pressure head [cm], of the shape of z and t broadcast."""
        return np.log(self._relative(z, t)[0]) / self.alpha

    def theta(self, z: ArrayLike, t: ArrayLike) -> Array:
        """Water content."""
        upper = (np.asarray(z, dtype=float) > self.length[0]).astype(int)
        low, high = np.asarray(self.theta_r)[upper], np.asarray(self.theta_s)[upper]
        return low + (high - low) * self._relative(z, t)[0]

    def flux(self, z: ArrayLike, t: ArrayLike) -> Array:
        """Darcy flux, positive upward [cm/d]; at t = 0 the steady one of before, also at the surface."""
        return -self._relative(z, t)[1]

    def _steady(self, z, recharge: float) -> Array:
        below, above = (recharge / k for k in self.Ks)
        under, over = np.minimum(z, self.length[0]), np.maximum(z - self.length[0], 0)
        lower = below + (np.exp(self.alpha * self.psi_base) - below) * np.exp(-self.alpha * under)
        return above + (lower - above) * np.exp(-self.alpha * over)

    def _relative(self, z: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
        """k, over the layer's Ks, and the downward flux [cm/d]."""
        z, t = within("z", z, 0, sum(self.length)), times(t)
        scaled = t * (self.alpha * self.Ks[0] / (self.theta_s[0] - self.theta_r[0]))
        gain, flow = by_time(self._unit_step, z * self.alpha, scaled)
        step = self.recharge_after - self.recharge_before
        return self._steady(z, self.recharge_before) + step / self.Ks[0] * gain, self.recharge_before + step * flow

    def _unit_step(self, z: Array, t: float) -> tuple[Array, Array]:
        """Change of k and downward flux by a step at the surface, of one in units of the lower Ks; dimensionless."""
        lower, upper = (self.alpha * x for x in self.length)
        ratio = self.Ks[1] / self.Ks[0]
        beta = (self.theta_s[1] - self.theta_r[1]) / (self.theta_s[0] - self.theta_r[0]) / ratio
        if t == 0:
            return np.zeros_like(z), np.zeros_like(z)
        if t / beta < upper**2 / (4 * FORGOTTEN):  # the interface is not felt yet
            gain, flow = step_response(lower + upper - z, t / beta)
            return gain / ratio, flow
        count = int(np.sqrt(FORGOTTEN / t) * (lower + np.sqrt(beta) * upper) / np.pi) + 3
        count = 1 << count.bit_length()  # so that most times share their roots
        rate = _layered_roots(count, lower, upper, ratio, beta)
        value, flux, surface, norm = _eigenfunctions(z[..., None], rate, lower, upper, ratio, beta)
        weight = surface / (rate * norm) * np.exp(-rate * t)
        steady = 1 - np.exp(-np.minimum(z, lower))
        steady = 1 / ratio + (steady - 1 / ratio) * np.exp(-np.maximum(z - lower, 0))
        scale = np.exp((lower + upper - z) / 2)
        return steady - scale * (value @ weight), 1 - scale * (flux @ weight)


def _sine(square: Array, x: Array | float) -> Array:
    """sin(l x) / l for l^2 of either sign."""
    root = np.sqrt(np.abs(square))
    safe = np.where(root * x < 1e-8, 1.0, root)
    return np.where(root * x < 1e-8, x, np.where(square > 0, np.sin(root * x), np.sinh(root * x * (square < 0))) / safe)


def _cosine(square: Array, x: Array | float) -> Array:
    """cos(l x) for l^2 of either sign."""
    root = np.sqrt(np.abs(square))
    return np.where(square > 0, np.cos(root * x), np.cosh(root * x * (square < 0)))


@lru_cache(maxsize=64)
def _layered_roots(count: int, lower: float, upper: float, ratio: float, beta: float) -> Array:
    """The first rates of decay E: where value and flux of the solutions from the base and from the surface agree.

    The ratio of flux to value at the interface falls with E below it and rises above it, so that there is exactly one
    root before the first of their poles and between any two: none can be missed.
    """

    def mismatch(rate: Array) -> Array:
        l2, m2 = rate - 0.25, beta * rate - 0.25
        s, c = _sine(m2, upper), _cosine(m2, upper)
        return (_cosine(l2, lower) + _sine(l2, lower) / 2) * (c + s / 2) - ratio * beta * rate * _sine(l2, lower) * s

    from_base = 0.25 + (np.arange(1, count + 1) * np.pi / lower) ** 2
    from_surface = (0.25 + characteristic_roots(count, upper) ** 2) / beta
    poles = np.concatenate([[0.0], np.sort(np.concatenate([from_base, from_surface]))[:count]])
    return bisect(mismatch, poles[:-1], poles[1:])


def _eigenfunctions(z: Array, rate: Array, lower: float, upper: float, ratio: float, beta: float):
    """exp(z / 2) times value and flux at z (..., 1) of every root, value at the surface, and norm (N,)."""
    l2, m2 = rate - 0.25, beta * rate - 0.25

    def below(x):
        return _sine(l2, x), _cosine(l2, x) + _sine(l2, x) / 2

    def above(x):
        return _cosine(m2, x) + _sine(m2, x) / 2, ratio * beta * rate * _sine(m2, x)

    low, high = np.stack(below(lower)), np.stack(above(upper))
    # values or fluxes match the two halves, whichever are not both zero
    scale = np.where(np.hypot(low[0], high[0]) > np.hypot(low[1], high[1]), (high[0], low[0]), (high[1], low[1]))
    inside = z <= lower
    parts = [below(np.minimum(z, lower)), above(lower + upper - np.maximum(z, lower))]
    value, flux = (np.where(inside, scale[0] * parts[0][i], scale[1] * parts[1][i]) for i in (0, 1))
    norm = scale[0] ** 2 * _square_of_sine(l2, lower) + scale[1] ** 2 * ratio * beta * _square_above(m2, upper)
    return value, flux, scale[1], norm


def _square_of_sine(square: Array, x: float) -> Array:
    """Integral of sin(l x)^2 / l^2 from 0 to x."""
    small = np.abs(square) * x**2 < 1e-3
    series = x**3 / 3 - square * x**5 / 15 + 2 * square**2 * x**7 / 315
    return np.where(small, series, (x - _sine(square, x) * _cosine(square, x)) / np.where(small, 1, 2 * square))


def _square_above(square: Array, x: float) -> Array:
    """Integral of (cos(m x) + sin(m x) / (2 m))^2 from 0 to x."""
    s, c = _sine(square, x), _cosine(square, x)
    return (x + s * c + s**2) / 2 + _square_of_sine(square, x) / 4
