"""What the exact solutions share: checks of numbers and coordinates, roots, series by time, the response to a step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfc, erfcx

from udehydro.errors import ConfigError, DataError

Array = NDArray[np.float64]

FORGOTTEN = 40.0
"""exp(-40) is below round-off: where a series stops, and where a far boundary is not felt."""


def need(true: bool, message: str) -> None:
    """ConfigError with the message unless true."""
    if not true:
        raise ConfigError(message)


def positive(where: str, **values) -> None:
    """ConfigError unless every value, a number or a tuple of numbers, is finite and above zero."""
    for name, value in values.items():
        array = np.asarray(value, dtype=float)
        need(bool(np.all(np.isfinite(array) & (array > 0))), f"{where}: {name} = {value} must be above zero.")


def contents(where: str, theta_r, theta_s) -> None:
    """ConfigError unless 0 <= theta_r < theta_s <= 1, for numbers or tuples of numbers."""
    low, high = np.asarray(theta_r, dtype=float), np.asarray(theta_s, dtype=float)
    fits = bool(np.all((low >= 0) & (low < high) & (high <= 1)))
    need(fits, f"{where}: theta_r = {theta_r} and theta_s = {theta_s} must be 0 <= theta_r < theta_s <= 1.")


def within(name: str, values: ArrayLike, low: float, high: float) -> Array:
    """Values as float64; DataError outside [low, high], where a billionth of it counts as round-off and is cut."""
    array = np.asarray(values, dtype=float)
    slack = 1e-9 * (high - low) if np.isfinite(high - low) else 1e-9
    outside = ~((array >= low - slack) & (array <= high + slack))  # also true of NaN
    if outside.any():
        raise DataError(f"{name} = {array[outside].flat[0]} is outside [{low}, {high}], where the solution holds.")
    return np.clip(array, low, high)


def times(t: ArrayLike) -> Array:
    """Times as float64; DataError where one is negative or not finite."""
    array = np.asarray(t, dtype=float)
    if not (np.isfinite(array) & (array >= 0)).all():
        raise DataError("Times must be finite and not negative: the solution starts at t = 0.")
    return array


def bisect(function: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """The root in each of consecutive brackets of a function that is positive at the start of the first.

    Its sign is taken to alternate from bracket to bracket, so that one of no width gives its end.
    """
    sign = (-1.0) ** np.arange(len(low))
    for _ in range(64):
        middle = (low + high) / 2
        before = sign * function(middle) > 0
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    return (low + high) / 2


def by_time(evaluate: Callable[[Array, float], tuple[Array, ...]], x: Array, t: Array) -> tuple[Array, ...]:
    """``evaluate(x, t)`` for each distinct time of the broadcast arrays, as times need series of different length."""
    x, t = np.broadcast_arrays(x, t)
    found: list[Array] = []
    for one in np.unique(t) if t.size else [0.0]:
        at = t == one
        parts = evaluate(x[at], float(one))
        found = found or [np.empty(x.shape) for _ in parts]
        for whole, part in zip(found, parts, strict=True):
            whole[at] = part
    return tuple(found)


def step_response(x: Array, t: Array | float) -> tuple[Array, Array]:
    """Conductivity and downward flux at depth x of a deep linear soil since a unit step of flux at its surface, t > 0.

    Solves g_t = g_xx - g_x on x > 0 with g - g_x = 1 at x = 0 and g = 0 at the start, as g and g - g_x: the third-type
    solution of the advection-dispersion equation (Lindstrom et al. 1967). Dimensionless; the exponential factor
    of its last term is taken into the scaled complement, so that nothing overflows.
    """
    root = np.sqrt(t)
    bell = np.exp(-((x - t) ** 2) / (4 * t))
    ahead = erfc((x - t) / (2 * root)) / 2
    behind = erfcx((x + t) / (2 * root)) * bell / 2
    return ahead + root / np.sqrt(np.pi) * bell - (1 + x + t) * behind, ahead + behind
