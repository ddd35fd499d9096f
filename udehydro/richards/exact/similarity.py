"""Horizontal absorption by Boltzmann's similarity (Philip 1955): water content depends on x / sqrt(t) alone.

With w = theta - theta_i, phi = x / sqrt(t) at w and F = integral of phi from 0 to w, Philip's equation is
F = -2 D dw / dphi. It is solved for G = F / w in y = ln w: dphi/dy = -2 D / G, dG/dy = phi - G. From the dry end these
are stable, whatever D is there, and one number, phi at the start, is found such that phi = 0 at the boundary's content.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import OdeSolution, quad, solve_ivp
from scipy.optimize import brentq

from udehydro.richards.exact._common import Array, need, times, within

DRIEST = 1e-10
"""Share of the change of water content at which the solution begins; ahead of it the soil counts as undisturbed."""
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Absorption:
    """Water entering (or leaving) a half-space x >= 0 [cm] without gravity, theta held at x = 0 from t = 0 [d] on.

    Attributes
    ----------
    theta_i, theta_b : water contents at the start and at x = 0.
    sorptivity : water taken up over sqrt(t) [cm/d^0.5], negative for drying.
    """

    theta_i: float
    theta_b: float
    sorptivity: float
    _unit: float = field(repr=False)
    _solution: OdeSolution = field(repr=False)

    def theta(self, x: ArrayLike, t: ArrayLike) -> Array:
        """Water content, of the shape of x and t broadcast."""
        return self.theta_i + (self.theta_b - self.theta_i) * self._change(x, t)[0]

    def flux(self, x: ArrayLike, t: ArrayLike) -> Array:
        """Flux in the direction of x, -D dtheta/dx [cm/d]; at t = 0 zero inside and infinite at x = 0."""
        x, t = np.broadcast_arrays(np.asarray(x, dtype=float), times(t))
        share, G = self._change(x, t)
        with np.errstate(divide="ignore", invalid="ignore"):
            flux = (self.theta_b - self.theta_i) * share * G / (2 * np.sqrt(t))
        return np.where((t == 0) & (x > 0), 0.0, flux)

    def infiltration(self, t: ArrayLike) -> Array:
        """Water taken up since t = 0 [cm]."""
        return self.sorptivity * np.sqrt(times(t))

    def phi(self, theta: ArrayLike) -> Array:
        """x / sqrt(t) [cm/d^0.5] at a water content between theta_i and theta_b."""
        theta = within("theta", theta, *sorted((self.theta_i, self.theta_b)))
        share = (theta - self.theta_i) / (self.theta_b - self.theta_i)
        with np.errstate(divide="ignore"):
            return self._at(np.log(share))[0]

    def _at(self, y: Array) -> Array:
        """phi and G at logarithms of w over its greatest value."""
        low, high = self._solution.t_min, self._solution.t_max
        return self._unit * self._solution(np.clip(y, low, high).ravel()).reshape(2, *np.shape(y))

    def _change(self, x: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
        """w over its greatest value, and G, at x and t."""
        x, t = np.broadcast_arrays(within("x", x, 0, np.inf), times(t))
        phi = np.divide(x, np.sqrt(t), out=np.where(x > 0, np.inf, 0.0), where=t > 0)
        low = np.full(phi.shape, self._solution.t_min)
        high = np.full(phi.shape, self._solution.t_max)
        for _ in range(54):
            middle = (low + high) / 2
            ahead = self._at(middle)[0] > phi
            low, high = np.where(ahead, middle, low), np.where(ahead, high, middle)
        return np.where(low == self._solution.t_min, 0.0, np.exp(high)), self._at(high)[1]


def absorption(diffusivity: Callable[[Array], Array], theta_i: float, theta_b: float) -> Absorption:
    """Similarity solution for any diffusivity D(theta) [cm2/d], finite up to and including theta_b and not negative.

    Places phi are accurate to about 1e-9 of that of the front, the sorptivity to about 1e-9 of itself; water contents
    to 1e-8 of the change, less on fronts that D = 0 in the driest soil makes infinitely steep.

    Raises
    ------
    ConfigError
        For equal contents, or a diffusivity that is not finite, or negative, between them.
    """
    need(theta_b != theta_i, f"Absorption: theta_i and theta_b are both {theta_i}.")
    grid = diffusivity(theta_i + (theta_b - theta_i) * np.linspace(0, 1, 1001)[1:])
    sound = bool(np.all(np.isfinite(grid) & (grid >= 0)) and grid.any())
    span = f"between {theta_i} and {theta_b}"
    need(sound, f"Absorption: the diffusivity must be finite, not negative, and not zero throughout {span}.")

    def weighted(share: float) -> float:
        return float((1 + share) * diffusivity(np.asarray(theta_i + (theta_b - theta_i) * share)))

    # Parlange's (1975) estimate of the sorptivity over the change, here the unit of phi
    unit = float(np.sqrt(quad(weighted, 0, 1, epsrel=1e-4, limit=200)[0]))

    def scaled(y: float) -> float:
        return float(diffusivity(np.asarray(theta_i + (theta_b - theta_i) * np.exp(y)))) / unit**2

    solution = _shoot(scaled)
    total = (theta_b - theta_i) * unit * solution(solution.t_max)[1]
    return Absorption(theta_i, theta_b, float(total), unit, solution)


def _shoot(diffusivity: Callable[[float], float]) -> OdeSolution:
    """(phi, G) over y = ln(w / change), such that phi is zero at y = 0."""
    start = np.log(DRIEST)
    at_start = diffusivity(start)

    def slope(y: float, v: Array) -> tuple[float, float]:
        return -2 * diffusivity(y) / v[1], v[0] - v[1]

    def empty(y: float, v: Array) -> float:
        return v[0]

    empty.terminal = True

    def run(phi: float):
        v = (phi, (phi + np.sqrt(phi**2 + 8 * at_start)) / 2)  # G of a diffusivity that is constant from here on
        return solve_ivp(
            slope, (start, 0), v, "LSODA", dense_output=True, events=empty, rtol=TOLERANCE, atol=TOLERANCE / 100
        )  # fmt: skip

    def miss(phi: float) -> float:
        end = run(phi)
        return end.y[0, -1] if end.status == 0 else end.t[-1]

    high = 1.0
    while miss(high) <= 0:
        high *= 2
    return run(brentq(miss, 1e-6, high, xtol=1e-13, rtol=1e-13)).sol
