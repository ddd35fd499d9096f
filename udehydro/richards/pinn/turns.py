"""When rain began and ended, from moisture alone: times at which a sensor leaves its own trend."""

from __future__ import annotations

import numpy as np

from udehydro.errors import ConfigError
from udehydro.richards.inversion.observed import Observed

LEAST = 3
"""Readings that make a trend with an error."""


def turns(
    days, sensors: Observed, *, before: int = 8, after: int = 3, level: float = 5.0, most: int = 12
) -> tuple[float, ...]:
    """The start of a record, and the times at which the uppermost sensor turns, for ``events`` of networks.

    A line through the last readings is carried on, and compared with the mean of the next ones. Where these are further
    from it than errors of both explain, the sensor has turned, and a new trend begins. What changes slowly is found
    late or not at all.

    Parameters
    ----------
    days : times of the readings (T,) [d], rising.
    sensors : one record, values (T,) or (T, sensor), with the standard deviation of its errors.
    before, after : readings of the trend, at most, and of the mean.
    level : standard deviations of the difference that count as a turn.
    most : of the turns, the clearest are taken.

    Returns
    -------
    Times [d], rising: of the last reading that still was in the trend.

    Raises
    ------
    ConfigError
        For readings of several members, other lengths, and times that do not rise.
    """
    days = np.asarray(days, float)
    values = sensors.values.reshape(len(sensors.values), -1).numpy()
    if sensors.values.ndim > 2 or len(values) != len(days) or not bool((np.diff(days) > 0.0).all()):
        raise ConfigError(
            f"Readings {tuple(sensors.values.shape)} at {len(days)} times: give one record, a row for each of the "
            "times, which rise."
        )
    upper = int(np.argmin(np.atleast_1d(np.asarray(sensors.depth, float))))
    sigma = sensors.sigma.expand_as(sensors.values).reshape(values.shape).numpy()[:, upper]
    there = ~np.isnan(values[:, upper])
    found = _breaks(days[there], values[there, upper], sigma[there], before, after, level)
    clearest = sorted(found, key=lambda pair: -pair[1])[: most - 1]
    return tuple(sorted({float(days[0]), *(float(t) for t, _ in clearest)}))


def _breaks(t: np.ndarray, y: np.ndarray, sigma: np.ndarray, before: int, after: int, level: float):
    """Places of turns and how clear they are. What follows at once and is less clear is the bend of the same."""
    found, first, told = [], 0, 0
    for i in range(LEAST, len(t) - after + 1):
        if i - first < LEAST or _apart(t, y, sigma, first, i, before, after) <= level:
            continue
        last = len(t) - after
        size = max(_apart(t, y, sigma, first, k, before, after) for k in range(i, min(i + after, last + 1)))
        if not found or i - told > before or size > found[-1][1]:
            found.append((t[i - 1], size))
            told = i
        first = i
    return found


def _apart(t, y, sigma, first: int, i: int, before: int, after: int) -> float:
    """What readings from i on are away from a line through earlier ones, in standard deviations."""
    past, ahead = slice(max(first, i - before), i), slice(i, i + after)
    line = np.stack([np.ones_like(t[past]), t[past] - t[i]], 1)
    weighted = line / sigma[past, None] ** 2
    covariance = np.linalg.inv(line.T @ weighted)
    at = np.array([1.0, t[ahead].mean() - t[i]])
    variance = at @ covariance @ at + (sigma[ahead] ** 2).sum() / after**2
    return float(abs(y[ahead].mean() - at @ covariance @ (weighted.T @ y[past])) / np.sqrt(variance))
