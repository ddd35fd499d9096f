"""Butcher tableaux: one object serves every one-step scheme, explicit or diagonally implicit.

A step from y of length h evaluates stages ``Y_i = y + h sum_j a_ij f(Y_j)`` and moves the volumes
``h sum_i b_i rate(Y_i)``. Forcing is constant within an interval, so the nodes c matter only for the order conditions
that validate a tableau.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from udehydro.errors import ConfigError


@dataclass(frozen=True)
class Tableau:
    """A one-step scheme.

    Parameters
    ----------
    name : for messages.
    a : (s, s) lower triangular; a zero diagonal entry is an explicit stage, others solve an equation.
    b : (s,) weights.
    order : claimed order, up to 4; checked against the order conditions (Hairer, Norsett and Wanner 1993, II.2).

    Raises
    ------
    ConfigError
        For a shape that does not fit, an upper triangle, or an order condition that does not hold.
    """

    name: str
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    order: int

    def __post_init__(self):
        a, b = np.asarray(self.a, float), np.asarray(self.b, float)
        if a.shape != (len(b), len(b)):
            raise ConfigError(f"Tableau '{self.name}': a has shape {a.shape}, b has {len(b)} weights.")
        if np.any(np.triu(a, 1)):
            raise ConfigError(f"Tableau '{self.name}' is not diagonally implicit: entries above the diagonal.")
        if np.any(np.diag(a) < 0):
            raise ConfigError(f"Tableau '{self.name}' has a negative diagonal entry: the stage is not solvable.")
        for condition, (value, target) in _conditions(a, b, self.order).items():
            if abs(value - target) > 1e-12:
                raise ConfigError(
                    f"Tableau '{self.name}' is not of order {self.order}: {condition} = {value:.6g}, "
                    f"should be {target:.6g}."
                )

    @property
    def stages(self) -> int:
        return len(self.b)

    @property
    def implicit(self) -> bool:
        return any(row[i] != 0 for i, row in enumerate(self.a))

    @property
    def stiffly_accurate(self) -> bool:
        """The last stage is the new state, so the scheme damps fast decay fully where it is A-stable."""
        return tuple(self.a[-1]) == tuple(self.b)

    def amplification(self, z: float) -> float:
        """Stability function R(z) = 1 + z b^T (I - z A)^-1 1."""
        a, b = np.asarray(self.a, float), np.asarray(self.b, float)
        return float(1.0 + z * b @ np.linalg.solve(np.eye(len(b)) - z * a, np.ones(len(b))))

    @property
    def real_stability_limit(self) -> float:
        """Largest z with |R(-x)| <= 1 for all x in [0, z]; infinite where nothing breaks below 1e6."""
        if self.implicit:
            return math.inf if all(abs(self.amplification(-z)) <= 1 for z in np.geomspace(0.1, 1e6, 200)) else 0.0
        z = np.arange(1, 200001) * 1e-4
        n = np.array([float(np.asarray(self.b) @ _power(self.a, k)) for k in range(self.stages)])
        r = 1.0 + sum(n[k] * (-z) ** (k + 1) for k in range(self.stages))
        beyond = np.flatnonzero(np.abs(r) > 1 + 1e-12)
        return float(z[beyond[0]] - 1e-4) if len(beyond) else float(z[-1])


def _power(a, k: int) -> np.ndarray:
    return np.linalg.matrix_power(np.asarray(a, float), k) @ np.ones(len(a))


def _conditions(a: np.ndarray, b: np.ndarray, order: int) -> dict[str, tuple[float, float]]:
    c = a.sum(axis=1)
    every = {
        1: {"sum b": (b.sum(), 1.0)},
        2: {"b c": (b @ c, 1 / 2)},
        3: {"b c^2": (b @ c**2, 1 / 3), "b A c": (b @ a @ c, 1 / 6)},
        4: {
            "b c^3": (b @ c**3, 1 / 4),
            "b c A c": ((b * c) @ a @ c, 1 / 8),
            "b A c^2": (b @ a @ c**2, 1 / 12),
            "b A A c": (b @ a @ a @ c, 1 / 24),
        },
    }
    if order not in every:
        raise ConfigError(f"Tableau order must be 1 to 4, got {order}.")
    return {name: pair for p in range(1, order + 1) for name, pair in every[p].items()}


_GAMMA = 1.0 - 1.0 / math.sqrt(2.0)

EXPLICIT_EULER = Tableau("explicit Euler", ((0.0,),), (1.0,), 1)
HEUN = Tableau("Heun", ((0.0, 0.0), (1.0, 0.0)), (0.5, 0.5), 2)
RK4 = Tableau(
    "RK4",
    ((0.0, 0.0, 0.0, 0.0), (0.5, 0.0, 0.0, 0.0), (0.0, 0.5, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
    (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    4,
)
BACKWARD_EULER = Tableau("backward Euler", ((1.0,),), (1.0,), 1)
SDIRK2 = Tableau("SDIRK2", ((_GAMMA, 0.0), (1.0 - _GAMMA, _GAMMA)), (1.0 - _GAMMA, _GAMMA), 2)
"""L-stable, second order (Alexander 1977); R(-z) turns negative beyond z = 1 + sqrt(2) = 2.414."""

_HALF = 1.0 - 0.5 * math.sqrt(2.0)
TR_BDF2 = Tableau(
    "TR-BDF2",
    ((0.0, 0.0, 0.0), (_HALF, _HALF, 0.0), (math.sqrt(2.0) / 4, math.sqrt(2.0) / 4, _HALF)),
    (math.sqrt(2.0) / 4, math.sqrt(2.0) / 4, _HALF),
    2,
)
"""L-stable, second order, an explicit first stage (Bank et al. 1985; Hosea and Shampine 1996)."""
