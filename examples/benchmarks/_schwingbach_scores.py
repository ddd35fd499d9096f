"""Scores at probes, and what any prediction has to beat."""

from __future__ import annotations

import numpy as np
from _schwingbach_data import DEPTHS, Record, hourly
from torch import Tensor

SKIP = 2
"""Days after the start of a run that are not judged."""
AROUND = 15
"""Days before and after a date whose readings of other years make its climatology."""


def scores(simulated: Tensor | np.ndarray, here: Record, probes=(0, 1, 2)) -> dict[str, list[float]]:
    """By probe: RMSE, RMSE without the mean error (ub), and NSE, of (T + 1, probe)."""
    seen = here.theta[:, list(probes)].numpy()
    late = here.days >= SKIP
    error = (np.asarray(simulated).reshape(seen.shape) - seen)[late]
    mean, square = np.nanmean(error, 0), np.nanmean(error**2, 0)
    ub = np.sqrt(np.maximum(square - mean**2, 0.0))
    return {
        "rmse": np.sqrt(square).tolist(),
        "ub": ub.tolist(),
        "nse": (1.0 - square / np.nanvar(seen[late], 0)).tolist(),
    }


def persistence(here: Record) -> np.ndarray:
    """Readings at the start, kept."""
    return np.broadcast_to(here.theta[0].numpy(), here.theta.shape)


def climatology(here: Record, years=(2014, 2015)) -> np.ndarray:
    """Means over the dates around in earlier years."""
    table = hourly().loc[str(years[0]) : str(years[-1]), list(DEPTHS)]
    mean = table.groupby(table.index.dayofyear).mean()
    day = (here.edges.astype("datetime64[D]") - here.edges.astype("datetime64[Y]")).astype(int) + 1
    apart = np.abs(day[:, None] - mean.index.to_numpy())
    near = np.minimum(apart, 365 - apart) <= AROUND
    return near @ mean.to_numpy() / near.sum(1, keepdims=True)


def interpolated(here: Record) -> np.ndarray:
    """25 cm (T + 1,), half-way between 10 and 40 cm."""
    return here.theta[:, [0, 2]].numpy().mean(1)


def as_below(here: Record) -> np.ndarray:
    """25 cm as at 40 cm."""
    return here.theta[:, 2].numpy()


def with_offset(here: Record, known: Record) -> np.ndarray:
    """25 cm half-way between 10 and 40 cm, moved by the mean difference of a known record."""
    return interpolated(here) + np.nanmean(known.theta[:, 1].numpy() - interpolated(known))


def regressed(here: Record, known: Record) -> np.ndarray:
    """25 cm as a line in 10 and 40 cm, fitted to a known record."""

    def rows(of: Record) -> np.ndarray:
        theta = of.theta.numpy()
        return np.stack([np.ones(len(theta)), theta[:, 0], theta[:, 2]], 1)

    left, right = rows(known), known.theta[:, 1].numpy()
    good = np.isfinite(left).all(1) & np.isfinite(right)
    return rows(here) @ np.linalg.lstsq(left[good], right[good], rcond=None)[0]
