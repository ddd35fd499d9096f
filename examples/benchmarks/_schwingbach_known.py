"""What the probes say of curves: bands of diffusivity, conductivity and heads over water content, and heads moved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from _schwingbach_column import STEPS, number, observed
from _schwingbach_data import Record
from torch import Tensor

from udehydro.richards.column import Column, Layer, flow
from udehydro.richards.inversion import Fitted
from udehydro.richards.laws import Gauged, SoilLaw
from udehydro.training.levenberg import covariance_of

POINTS, DIFFERENCE = 25, 1e-5
NAMES = ("ln D", "ln dK/dtheta", "ln K", "pF")
INNER = (0.05, 0.95)
"""Share of readings between which curves are looked at."""


def curves(law: SoilLaw, p: dict, theta: np.ndarray) -> np.ndarray:
    """(4, points) :data:`NAMES` at water contents, NaN where a soil cannot have them."""
    found = np.full((4, len(theta)), np.nan)
    inside = (theta > p["theta_r"] + 1e-4) & (theta < p["theta_s"] - 1e-4)
    if inside.sum() < 3:
        return found
    with torch.no_grad():
        at = torch.as_tensor(theta[inside])
        psi = law.head(at, p)
        k, d = law.log_conductivity(psi, p).numpy(), law.diffusivity(psi, p).log().numpy()
    slope = k + np.log(np.maximum(np.gradient(k, theta[inside]), 1e-12))
    found[:, inside] = d, slope, k, np.log10(-psi.numpy())
    return found


def contents(theta: Tensor) -> np.ndarray:
    """Between which most readings of some probes lie (points,)."""
    values = theta.numpy().ravel()
    low, high = np.nanquantile(values, INNER)
    return np.linspace(low, high, POINTS)


def dependence(residual: np.ndarray) -> float:
    """By what standard deviations are too small, where errors (T, probe) follow one another with the lag-1 correlation
    they have: the root of the time over which they forget."""
    r = residual - np.nanmean(residual, 0)
    lag = np.nansum(r[1:] * r[:-1]) / np.nansum(r[1:] ** 2)
    return float(np.sqrt((1.0 + lag) / (1.0 - lag)))


def bands(fitted: Fitted, theta: np.ndarray, layer: int, wider: float) -> dict:
    """Curves found (4, points), and their standard deviations before and after data, all linearised at what was found.

    Data count ``wider`` squared times the misfit less than independent errors of sigma would; priors count in full.
    """
    task, u = fitted.inversion, fitted.inversion.unknowns
    law, x, prior = task.column.layers[layer].law, fitted.x[0], torch.diag(u.precision[0])
    data = (fitted.normal[0] - prior) / (wider**2 * float(fitted.misfit[0].clamp_min(1.0)))

    def at(x: Tensor) -> np.ndarray:
        return curves(law, number(task.at(x[None]).p)[layer], theta)

    steps = DIFFERENCE * torch.eye(len(x), dtype=x.dtype)
    slopes = np.array([(at(x + step) - at(x - step)) / (2.0 * DIFFERENCE) for step in steps])  # (P, 4, points)
    known = {"before": torch.linalg.inv(prior).numpy(), "after": covariance_of((data + prior)[None])[0].numpy()}
    sd = {n: np.sqrt(np.einsum("pcn,pq,qcn->cn", slopes, c, slopes)).tolist() for n, c in known.items()}
    return {"theta": theta.tolist(), "found": at(x).tolist(), **sd}


def moved(column: Column, p: Sequence[dict], psi0: Tensor, here: Record, shift: float, theta: Tensor) -> float:
    """By how much probes (T + 1, 3) change at most, if all heads of all soils are moved [cm]."""
    layers = [Layer(Gauged(layer.law), layer.thickness) for layer in column.layers]
    other = Column(column.grid, layers, column.top, column.bottom, column.sinks)
    with torch.no_grad():
        run = flow(other, here.weather, [q | {"shift": shift} for q in p], psi0 + shift, steps=STEPS)
    return float((observed(here).of(run, other) - theta).abs().max())
