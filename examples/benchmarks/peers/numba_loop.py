"""A hand-written scalar loop, compiled: backward Euler of EXP-HYDRO basin by basin, forward only.

Snow does not feel the soil, so every day is two scalar equations, one after the other: Newton, kept inside a bracket
that halves where Newton leaves it. This is about what one core can do for this scheme.
"""

from __future__ import annotations

import math
import time

import numpy as np
from numba import njit

from .contestant import Contestant
from .task import WIDTH, Task

TOLERANCE = 1e-9
"""Residual of a day [mm]."""


@njit
def switch(x):
    return 0.5 * (1.0 + math.tanh(x / WIDTH))


@njit
def snow_residual(s, before, fall, melting, potential):
    """Residual of the day's snow equation and its slope."""
    gate = switch(s)
    pool = min(s, potential)
    slope = 2.0 * gate * (1.0 - gate) / WIDTH * pool + (gate if s < potential else 0.0)
    return s - before - fall + melting * gate * pool, 1.0 + melting * slope


@njit
def soil_fluxes(s, pet, f, smax, qmax):
    """ET, discharge, and the slope of their sum."""
    full, wet = switch(s - smax), switch(s)
    dfull, dwet = 2.0 * full * (1.0 - full) / WIDTH, 2.0 * wet * (1.0 - wet) / WIDTH
    dry = 1.0 - full
    demand = pet * (full + dry * s / smax)
    decay = math.exp(-f * max(smax - s, 0.0))
    release = qmax * (full + dry * decay) + full * (s - smax)
    slope = pet * (dfull * (1.0 - s / smax) + dry / smax)
    slope += qmax * (dfull * (1.0 - decay) + (dry * f * decay if s < smax else 0.0)) + dfull * (s - smax) + full
    return wet * demand, wet * release, dwet * (demand + release) + wet * slope


@njit
def soil_residual(s, before, inflow, pet, f, smax, qmax):
    et, discharge, slope = soil_fluxes(s, pet, f, smax, qmax)
    return s - before - inflow + et + discharge, 1.0 + slope


@njit
def root(residual, guess, highest, args):
    """Zero of a residual that rises through it: Newton inside a bracket."""
    high, width = highest, 1.0
    while residual(high, *args)[0] < 0.0:
        high += width
        width *= 2.0
    low, width = min(guess, high) - 1.0, 1.0
    while residual(low, *args)[0] > 0.0:
        width *= 2.0
        low -= width
    s = min(max(guess, low), high)
    for _ in range(200):
        r, slope = residual(s, *args)
        if abs(r) <= TOLERANCE:
            break
        if r > 0.0:
            high = s
        else:
            low = s
        s = s - r / slope if slope > 0.0 else low
        if not low < s < high:
            s = 0.5 * (low + high)
    return s


@njit
def march(prcp, temp, dayl, theta, storage0, discharge):
    """Fill ``discharge`` (B, T); forcing (B, T), theta (B, 6), storage0 (B, 2)."""
    for b in range(len(theta)):
        f, smax, qmax, ddf, tmax, tmin = theta[b]
        snow, soil = storage0[b]
        for k in range(prcp.shape[1]):
            t = temp[b, k]
            pet = 29.8 * dayl[b, k] * 0.611 * math.exp(17.3 * t / (t + 237.3)) / (t + 273.2)
            fall = switch(tmin - t) * prcp[b, k]
            melting, potential = switch(t - tmax), ddf * (t - tmax)
            before, snow = snow, root(snow_residual, snow, snow + fall, (snow, fall, melting, potential))
            inflow = prcp[b, k] + before - snow
            soil = root(soil_residual, soil, soil + inflow, (soil, inflow, pet, f, smax, qmax))
            discharge[b, k] = soil_fluxes(soil, pet, f, smax, qmax)[1]


class NumbaLoop(Contestant):
    """No gradient: it shows how fast forward runs can be."""

    gradient = False

    def __init__(self, name: str, task: Task, **limits):
        super().__init__(name, task, **limits)
        values = self.task.arrays()
        # a basin after the other: its days lie side by side
        self.series = [np.ascontiguousarray(values[n].T) for n in ("prcp", "temp", "dayl")]
        self.theta = np.stack([v.numpy() for v in self.task.theta.values()], axis=1)
        self.storage0 = self.task.storage0.numpy()

    def prepare(self) -> float:
        started = time.perf_counter()
        first = [s[:1, :1] for s in self.series]
        march(*(np.ascontiguousarray(s) for s in first), self.theta[:1], self.storage0[:1], np.empty((1, 1)))
        return time.perf_counter() - started

    def forward(self) -> np.ndarray:
        discharge = np.empty_like(self.series[0])
        march(*self.series, self.theta, self.storage0, discharge)
        return discharge.T
