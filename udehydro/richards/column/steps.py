"""Steps in time: fixed, or chosen for every column by the error of its own step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import factorial

import numpy as np

from udehydro.errors import ConfigError
from udehydro.solvers.tableau import Tableau


@dataclass(frozen=True)
class Fixed:
    """``steps`` equal steps through every interval."""

    steps: int = 1

    def __post_init__(self):
        if self.steps < 1:
            raise ConfigError(f"An interval needs at least one step, got {self.steps}.")


@dataclass(frozen=True)
class Adaptive:
    """Steps whose local error stays below a tolerance; each column has its own.

    Parameters
    ----------
    tolerance : error of a step, in water content of any cell, and in cm of a pond.
    first, smallest, largest : length of the first step and limits of all others [d].
    most : steps that an interval may take, failed ones included.
    """

    tolerance: float = 1e-4
    first: float = 1e-4
    smallest: float = 1e-12
    largest: float = float("inf")
    most: int = 20_000

    def __post_init__(self):
        if not (
            self.tolerance > 0 and 0 < self.smallest <= self.first and self.smallest <= self.largest and self.most > 0
        ):
            raise ConfigError("Steps need tolerance, most > 0 and 0 < smallest <= first, largest; lengths are in days.")


def check(tableau: Tableau) -> None:
    """Refuse schemes that cannot end on the equations of saturated soil, which has no storage to integrate.

    Raises
    ------
    ConfigError
        For an explicit stage, which would need rates that saturated cells do not have where forcing jumps, and for a
        last stage that is not the new state.
    """
    explicit = [i for i, row in enumerate(tableau.a) if row[i] == 0.0]
    if explicit or not tableau.stiffly_accurate or tableau.stages != tableau.order:
        raise ConfigError(
            f"'{tableau.name}' does not suit soil columns, whose saturated cells store nothing: every stage has to be "
            "implicit, the last one the new state, and there have to be as many as the order. Take SDIRK2 or "
            "BACKWARD_EULER."
        )


@lru_cache
def error_weights(tableau: Tableau) -> np.ndarray:
    """Weights of the rates at the start of a step and at its stages that estimate its local error.

    The divided difference of order p over the start and the p stages, scaled so that it has the error of the scheme
    on a linear equation: for backward Euler h (F1 - F0) / 2 (Kavetski, Binning and Sloan 2001).
    """
    a, p = np.asarray(tableau.a, float), tableau.order
    nodes = np.concatenate([[0.0], a.sum(1)])
    apart = nodes[:, None] - nodes[None, :] + np.eye(p + 1)
    weights = 1.0 / apart.prod(1)
    response = np.linalg.matrix_power(a, p) @ np.ones(p)
    error = np.asarray(tableau.b) @ response - 1.0 / factorial(p + 1)
    return weights * (error / (weights[1:] @ response))
