"""EXP-HYDRO one basin, one day and one store at a time, from its equations, by root finding inside a bracket.

Nothing of the package is used. Snow does not feel the soil, so every stage is two scalar equations, one after the
other, whose residual rises through its only zero; Chandrupatla's (1997) method closes in on it to round-off. Equations:
Hoege et al. (2022, HESS 26:5085), with the exponential of baseflow held at one above Smax, where it plays no part.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

WIDTH = 0.2
TOLERANCE = 1e-14
"""Of a root, relative to it; and absolute [mm]."""


@njit
def sigma(x):
    return 0.5 * (1.0 + math.tanh(x / WIDTH))


@njit
def snow_slope(s, day):
    fall, melting, potential = day[0], day[1], day[2]
    return fall - melting * sigma(s) * min(s, potential)


@njit
def soil_slope(s, day):
    inflow, pet, f, smax, qmax = day
    wet, full, dry = sigma(s), sigma(s - smax), sigma(smax - s)
    et = wet * (full * pet + dry * pet * s / smax)
    baseflow = wet * (full * qmax + dry * qmax * math.exp(-f * max(smax - s, 0.0)))
    return inflow - et - baseflow - wet * full * (s - smax)


@njit
def root(slope, base, h, day):
    """s with s = base + h slope(s)."""
    low, high, width = base - 1.0, base + 1.0, 1.0
    while low - base - h * slope(low, day) > 0.0:
        width *= 2.0
        low -= width
    width = 1.0
    while high - base - h * slope(high, day) < 0.0:
        width *= 2.0
        high += width
    a, b = low, high
    fa, fb = a - base - h * slope(a, day), b - base - h * slope(b, day)
    c, fc, t = a, fa, 0.5
    for _ in range(200):
        x = a + t * (b - a)
        fx = x - base - h * slope(x, day)
        if (fx > 0.0) == (fa > 0.0):
            c, fc = a, fa
        else:
            c, b, fc, fb = b, a, fb, fa
        a, fa = x, fx
        best, f_best = (a, fa) if abs(fa) < abs(fb) else (b, fb)
        share = TOLERANCE * (1.0 + abs(best)) / max(abs(b - a), 1e-300)
        if share > 0.5 or f_best == 0.0:
            break
        xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
        t = 0.5  # bisection, unless inverse quadratic interpolation is safe
        if phi * phi < xi and (1.0 - phi) * (1.0 - phi) < 1.0 - xi:
            t = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        t = min(1.0 - share, max(share, t))
    return best


@njit
def march(prcp, temp, dayl, theta, storage0, gamma, storage):
    """Fill storage (T + 1, 2) of one basin: backward Euler for gamma = 1, else Alexander's SDIRK of two stages."""
    f, smax, qmax, ddf, tmax, tmin = theta
    storage[0] = storage0
    for k in range(len(prcp)):
        t = temp[k]
        pet = 29.8 * dayl[k] * 0.611 * math.exp(17.3 * t / (t + 237.3)) / (t + 273.2)
        fall, rain = sigma(tmin - t) * prcp[k], sigma(t - tmin) * prcp[k]
        cold = np.array([fall, sigma(t - tmax), ddf * (t - tmax)])
        snow, soil = storage[k]
        first = root(snow_slope, snow, gamma, cold)
        gain = snow_slope(first, cold)
        wet = np.array([rain + fall - gain, pet, f, smax, qmax])
        middle = root(soil_slope, soil, gamma, wet)
        if gamma < 1.0:
            soil += (1.0 - gamma) * soil_slope(middle, wet)
            first = root(snow_slope, snow + (1.0 - gamma) * gain, gamma, cold)
            wet[0] = rain + fall - snow_slope(first, cold)
            middle = root(soil_slope, soil, gamma, wet)
        storage[k + 1, 0], storage[k + 1, 1] = first, middle


def solve(forcing: dict, theta: np.ndarray, storage0: np.ndarray, gamma: float) -> np.ndarray:
    """Storages (T + 1, B, 2); forcings (T, B), theta (B, 6) as f, smax, qmax, ddf, tmax, tmin, storage0 (B, 2)."""
    series = [np.ascontiguousarray(forcing[n].T) for n in ("prcp", "temp", "dayl")]
    storage = np.empty((len(theta), series[0].shape[1] + 1, 2))
    for b in range(len(theta)):
        march(series[0][b], series[1][b], series[2][b], theta[b], storage0[b], gamma, storage[b])
    return storage.transpose(1, 0, 2)
