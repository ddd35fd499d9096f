"""Infiltration from rings: soils found by inversion of a column, and formulas; judged by the last third of each run."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from _soils_data import Ring
from scipy.optimize import least_squares
from scipy.special import lambertw

from udehydro import Forcing
from udehydro.richards.column import Adaptive, Column, FreeDrainage, Grid, Head, Layer, WaterContent
from udehydro.richards.inversion import Free, Inversion, Observed, fit
from udehydro.richards.laws import MonotoneSpline, VanGenuchten

MINUTES = np.array([0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30, 36, 42, 50, 58, 66, 76, 88], float)
"""Where cumulative curves are compared [min]; between readings they are interpolated."""
GRID = Grid.graded(200.0, 1.0, 1.1)
STEPS = Adaptive(tolerance=5e-3, first=1e-7)
READING, SHARE = 0.1, 0.02
"""Error of a cumulative volume: cm, and share of it."""
SOIL = {"theta_r": 0.07, "theta_s": 0.45, "n": 1.6, "entry": 1.0, "alpha": 0.03, "Ks": 300.0}
ITERATIONS = {VanGenuchten: 40, MonotoneSpline: 15}
"""Most of a search; columns of splines are not compiled."""
BEFORE = 0.15
"""Water content at the start: a number, or with a prior of 0.05."""
KNOTS = (0.0, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 8.0)

Volumes = Callable[[np.ndarray], np.ndarray]


def settings(rings: list[Ring]) -> dict[str, dict[str, tuple]]:
    """Columns with what is free in them, by family and setting: layers, ``p`` of each, ``psi0``."""
    count = len(rings)

    def free(value, low=None, high=None, prior=None) -> Free:
        return Free(torch.full((count,), float(value), dtype=torch.float64), low, high, prior)

    # one unknown for all cells of a column
    uniform = torch.ones(GRID.cells, 1, dtype=torch.float64)
    content = torch.full((count, 1), BEFORE, dtype=torch.float64)
    known, start = WaterContent(BEFORE), WaterContent(Free(content, 0.08, 0.4, 0.05, spread=uniform))
    vg = VanGenuchten()
    last = torch.tensor([np.diff(last_rate(r)[-2:])[0] / np.diff(MINUTES[-2:])[0] for r in rings]) * 1440.0
    ks = Free(0.5 * last, 1.0, 1e5)  # gravity alone would drive less than what goes in at the end
    two = SOIL | {"alpha": free(SOIL["alpha"], 1e-4, 1.0), "Ks": ks}
    five = two | {
        "alpha": free(SOIL["alpha"], 1e-4, 1.0, 1.0),
        "n": free(1.6, prior=0.3),
        "theta_s": free(0.45, prior=0.05),
    }
    found = {
        "van Genuchten, alpha and Ks free": {"": ([Layer(vg)], [two], known)},
        "van Genuchten, all free, priors": {"": ([Layer(vg)], [five], start)},
        "two layers, same but for Ks": {},
        "spline, priors": {},
    }
    for cells in (8, 13):
        depth = GRID.edges[cells]
        lower = two | {"Ks": Free(0.5 * last, 0.1, 1e5)}
        found["two layers, same but for Ks"][f"{depth:.0f} cm"] = ([Layer(vg, depth), Layer(vg)], [two, lower], known)
    law = MonotoneSpline(KNOTS, free="parameters")
    loam = {n: float(v) for n, v in law.imitate(vg, SOIL).items()}
    for prior in (0.3, 1.0):
        p = {n: free(v, prior=prior) if n[0] in "GH" else v for n, v in loam.items()}
        p |= {"Ks": ks, "theta_s": free(0.45, prior=0.05)}
        found["spline, priors"][f"prior {prior}"] = ([Layer(law)], [p], start)
    return found


def weather(rings: list[Ring]) -> Forcing:
    """No weather: a record of the minutes, a column for every run."""
    edges = np.datetime64("2000-01-01", "ns") + (MINUTES * 60e9).astype("timedelta64[ns]")
    nothing = torch.zeros(len(MINUTES) - 1, len(rings), dtype=torch.float64)
    return Forcing({"nothing": nothing}, {"nothing": "1"}, edges, tuple(r.plot for r in rings))


def series(rings: list[Ring]) -> tuple[np.ndarray, np.ndarray]:
    """Volumes that are fitted to (minute, run), NaN elsewhere, and their errors [cm]."""
    values = np.full((len(MINUTES), len(rings)), np.nan)
    for i, ring in enumerate(rings):
        inside = (MINUTES >= ring.time[0]) & (MINUTES <= ring.split)
        values[inside, i] = np.interp(MINUTES[inside], ring.time, ring.volume)
    return values, np.sqrt(READING**2 + (SHARE * np.nan_to_num(values)) ** 2)


def invert(rings: list[Ring], progress=print) -> dict[str, dict]:
    """All columns fitted to all runs: volumes (minute, run), misfits, and how many directions the data know."""
    values, sigma = series(rings)
    seen, found = Observed("infiltration", values, sigma, cumulative=True), {}
    for family, tried in settings(rings).items():
        for name, (layers, p, psi0) in tried.items():
            began = time.perf_counter()
            column = Column(GRID, layers, top=Head(0.0), bottom=FreeDrainage())
            inversion = Inversion(column, weather(rings), p, psi0, [seen], steps=STEPS)
            fitted = fit(inversion, steps=ITERATIONS[type(layers[0].law)], tolerance=1e-2)
            run = fitted.run()
            volume = torch.cat([torch.zeros(1, len(rings)), run.infiltration.cumsum(0)])
            spectrum = inversion.information(fitted.x).spectrum()
            found[f"{family}; {name}" if name else family] = {
                "volume": volume.T.tolist(),
                "misfit": (fitted.parts["cumulative infiltration"] / counts(values)).tolist(),
                "free": len(fitted.names),
                "known": (spectrum.sd < 1.0).sum(-1).tolist(),
                "best": [spectrum[i].direction(0) for i in range(len(rings))],
                "values": dict(zip(fitted.names, fitted.values.T.tolist(), strict=True)),
                "converged": fitted.converged.tolist(),
                "seconds": time.perf_counter() - began,
            }
            progress(family, name, found[f"{family}; {name}" if name else family]["seconds"])
    return found


def counts(values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor((~np.isnan(values)).sum(0))


def philip(q, t):
    """Two terms (Philip 1957): S sqrt(t) + A t."""
    return np.exp(q[0]) * np.sqrt(t) + np.exp(q[1]) * t


def horton(q, t):
    """Horton (1940): a rate that falls exponentially to a constant one."""
    return np.exp(q[0]) * t + np.exp(q[1]) * -np.expm1(-np.exp(q[2]) * t)


def green_ampt(q, t):
    """Green and Ampt (1911): I - F ln(1 + I / F) = K t, solved by Lambert's function."""
    F, K = np.exp(q[0]), np.exp(q[1])
    inner = -np.exp(-1.0 - np.minimum(K * np.asarray(t) / F, 600.0))
    return np.where(np.asarray(t) > 0.0, -F * (1.0 + lambertw(inner, -1).real), 0.0)


def kostiakov(q, t):
    """Kostiakov (1932): a t^b."""
    return np.exp(q[0]) * np.asarray(t) ** q[1]


FORMULAS = {
    "Philip, two terms": (philip, (0.0, -2.0)),
    "Green-Ampt": (green_ampt, (1.0, -1.5)),
    "Horton": (horton, (-1.0, 1.0, -2.0)),
    "Kostiakov": (kostiakov, (0.0, 0.6)),
}


def formulas(rings: list[Ring]) -> dict[str, dict]:
    """Formulas fitted to the same readings, and the last rate carried on."""
    found = {}
    for name, (curve, start) in FORMULAS.items():
        rows, misfit = [], []
        for ring in rings:
            use = ring.time <= ring.split
            t, v = ring.time[use], ring.volume[use]
            sigma = np.sqrt(READING**2 + (SHARE * v) ** 2)
            best = least_squares(lambda q, c=curve, t=t, v=v, s=sigma: (c(q, t) - v) / s, start, x_scale=1.0)
            rows.append(curve(best.x, MINUTES).tolist())
            misfit.append(2.0 * best.cost / len(t))
        found[name] = {"volume": rows, "misfit": misfit, "free": len(start)}
    found["the rate of the last third fitted"] = {"volume": [last_rate(r) for r in rings]}
    return found


def last_rate(ring: Ring) -> list[float]:
    """Volumes, beyond what was fitted with the mean rate of its last third."""
    since, until = 2.0 / 3.0 * ring.split, ring.split
    at = lambda t: np.interp(t, ring.time, ring.volume)  # noqa: E731
    rate = (at(until) - at(since)) / (until - since)
    return (at(np.minimum(MINUTES, until)) + rate * np.maximum(MINUTES - until, 0.0)).tolist()


def held_out(rings: list[Ring], volume: list) -> np.ndarray:
    """Relative error (run,) of the volume that went in during the last third of a run."""
    found = []
    for ring, row in zip(rings, volume, strict=True):
        modelled = np.interp(ring.time[-1], MINUTES, row) - np.interp(ring.split, MINUTES, row)
        measured = ring.volume[-1] - np.interp(ring.split, ring.time, ring.volume)
        found.append(modelled / measured - 1.0)
    return np.array(found)
