"""Objectives: one number per basin and member from a simulation, smooth enough to be differentiated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.simulation import Simulation

Objective = Callable[[Simulation], Tensor]
"""Simulation -> (*batch)."""


def volume(name: str, start: str, end: str) -> Objective:
    """Volume of ``"discharge"``, or of a flux or group, over inclusive dates [mm]: a seasonal volume, say."""

    def objective(simulation: Simulation) -> Tensor:
        part = simulation.forcing.between(start, end)
        return _sum(simulation, _series(simulation, name)[part], part)

    return objective


def flood_peak(start: str, end: str) -> Objective:
    """Largest discharge between inclusive dates [mm/d]. Its derivative is that of the day of the peak."""

    def objective(simulation: Simulation) -> Tensor:
        return simulation.discharge[simulation.forcing.between(start, end)].amax(0)

    return objective


def low_flow_days(threshold: float, width: float, start: str, end: str) -> Objective:
    """Smoothed number of days with discharge below ``threshold`` [mm/d] between inclusive dates.

    A day counts by 1 / (1 + exp((Q - threshold) / width)): wholly some ``width`` [mm/d] below, half at the threshold.
    """
    if not width > 0.0:
        raise ConfigError(f"The width of the threshold has to be above zero, got {width}.")

    def objective(simulation: Simulation) -> Tensor:
        part = simulation.forcing.between(start, end)
        return _sum(simulation, torch.sigmoid((threshold - simulation.discharge[part]) / width), part)

    return objective


def storage_at(name: str, date: str) -> Objective:
    """Storage at the edge of intervals nearest to a date [mm]."""

    def objective(simulation: Simulation) -> Tensor:
        edges = simulation.forcing.time_edge
        at = np.datetime64(date, "ns")
        if not edges[0] <= at <= edges[-1]:
            raise ConfigError(f"{date} lies outside the record, {edges[0]} to {edges[-1]}.")
        return simulation.store(name)[int(np.abs(edges - at).argmin())]

    return objective


def score(metric: Callable[[Tensor, Tensor], Tensor], observed: Tensor, start: str, end: str) -> Objective:
    """A metric of discharge, e.g. ``nse``, against observations (T, *batch), or (T, basins) for all members.

    ConfigError where the observations are not of the intervals of the record, whatever the dates.
    """

    def objective(simulation: Simulation) -> Tensor:
        if len(observed) != len(simulation.forcing):
            raise ConfigError(
                f"There are {len(observed)} observations for a record of {len(simulation.forcing)} intervals: cut both "
                "alike, NaN where nothing was measured."
            )
        part = simulation.forcing.between(start, end)
        flow, seen = simulation.discharge[part], observed.to(simulation.forcing.like)[part]
        seen = seen.reshape(len(seen), *(1,) * (flow.ndim - seen.ndim), *seen.shape[1:])
        return metric(flow, seen.expand(flow.shape))

    return objective


def _sum(simulation: Simulation, rate: Tensor, part: slice) -> Tensor:
    """Of a rate per day over some intervals, each by its length."""
    return (rate * simulation.forcing.days[part].reshape(-1, *(1,) * (rate.ndim - 1))).sum(0)


def _series(simulation: Simulation, name: str) -> Tensor:
    return simulation.discharge if name == "discharge" else simulation.rate(name)
