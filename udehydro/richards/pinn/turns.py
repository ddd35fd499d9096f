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
    late or not at all; a clear step is put up to ``after`` - 1 readings early, where the mean first has some of it.

    Parameters
    ----------
    days : times of the readings (T,) [d], rising.
    sensors : one record of theta, values (T,) or (T, sensor), with the standard deviation of its errors. The uppermost
        sensor with readings enough for a trend and a mean is asked.
    before, after : readings of the trend, at most, and of the mean.
    level : standard deviations of the difference that count as a turn.
    most : times at most, the start among them; the clearest are taken.

    Returns
    -------
    Times [d], rising: the start, and of every turn the reading before the first that the mean takes in.

    Raises
    ------
    ConfigError
        For other kinds than theta, readings of several members, other lengths, times that do not rise, sensors with too
        few readings, and numbers of readings or times that make no sense.
    """
    if sensors.kind != "theta":
        raise ConfigError(f"Turns are those of water contents, theta, not of {sensors.name}.")
    if before < 2 or after < 1 or most < 1:
        raise ConfigError(f"before={before}, after={after}, most={most} have to be at least 2, 1 and 1.")
    days, depth = np.asarray(days, float), np.atleast_1d(np.asarray(sensors.depth, float))
    values = sensors.values.reshape(len(sensors.values), -1).numpy()
    fits = sensors.values.ndim <= 2 and values.shape == (len(days), len(depth))
    if not fits or not bool((np.diff(days) > 0.0).all()):
        raise ConfigError(
            f"Readings {tuple(sensors.values.shape)} at {len(days)} times: give one record, a row for each of the "
            "times, which rise, and a column for each sensor."
        )
    enough = np.flatnonzero((~np.isnan(values)).sum(0) >= LEAST + after)
    if not len(enough):
        raise ConfigError(f"No sensor has {LEAST + after} readings, which a turn takes: {sensors.name}.")
    upper = enough[depth[enough].argmin()]
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
