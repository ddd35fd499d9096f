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

DRAWS, POINTS = 300, 25
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


def draws(centre: Tensor, root: Tensor, low: Tensor, high: Tensor, seed: int) -> Tensor:
    """(DRAWS, P) of a normal distribution, cut at limits."""
    noise = torch.randn(DRAWS, len(centre), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.minimum(torch.maximum(centre + noise @ root.T, low), high)


def bands(fitted: Fitted, theta: np.ndarray, layer: int, wider: float) -> dict:
    """Curves found, and their standard deviations over draws: after data (``wider`` times Laplace's), and before."""
    task, u = fitted.inversion, fitted.inversion.unknowns
    law = task.column.layers[layer].law
    low, high = u.low[0], u.high[0]
    scale = wider * fitted.misfit[0].clamp_min(1.0).sqrt()
    values, vectors = torch.linalg.eigh(fitted.covariance[0])
    before = u.precision[0].clamp_min(1e-6) ** -0.5
    after = vectors * values.clamp_min(0.0).sqrt() * scale
    soils = {
        "after": draws(fitted.x[0], after, low, high, 1),
        "before": draws(u.start[0], torch.diag(before), low, high, 2),
    }
    found = {"theta": theta.tolist(), "found": curves(law, number(fitted.setting.p)[layer], theta).tolist()}
    for name, x in soils.items():
        each = np.array([curves(law, number(task.at(one[None]).p)[layer], theta) for one in x])
        ends = np.nanquantile(each, (0.16, 0.84), axis=0)
        found[name], found[f"{name} ends"] = (0.5 * (ends[1] - ends[0])).tolist(), ends.tolist()
    return found


def moved(column: Column, p: Sequence[dict], psi0: Tensor, here: Record, shift: float, theta: Tensor) -> float:
    """By how much probes (T + 1, 3) change at most, if all heads of all soils are moved [cm]."""
    layers = [Layer(Gauged(layer.law), layer.thickness) for layer in column.layers]
    other = Column(column.grid, layers, column.top, column.bottom, column.sinks)
    with torch.no_grad():
        run = flow(other, here.weather, [q | {"shift": shift} for q in p], psi0 + shift, steps=STEPS)
    return float((observed(here).of(run, other) - theta).abs().max())
