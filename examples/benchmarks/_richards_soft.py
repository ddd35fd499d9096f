"""The column of Srivastava and Yeh that networks which know the equation are judged on: errors, and what moves them."""

from __future__ import annotations

import gzip

import numpy as np
import torch
from _report import SHARED, table
from _richards_common import lost, order, relative, timed, with_ends
from scipy.interpolate import CubicSpline
from torch import Tensor

from udehydro.richards import exact, laws
from udehydro.richards.column import Adaptive, Column, Flux, Grid, Head, arithmetic, geometric, harmonic

HOUR = 1.0 / 24.0
SOFT = {"theta_r": 0.06, "theta_s": 0.40, "Ks": 24.0, "alpha": 1.0}
ONE = exact.SrivastavaYeh(0.06, 0.40, 1.0, 24.0, 10.0, 2.4, 21.6)
TIGHT = Adaptive(1e-8)
FINE = (25, 50, 100, 200, 400)
PUBLISHED = SHARED / "richards-reference" / "srivastava_yeh_homogeneous_psi_cm.csv.gz"


def run() -> dict:
    found = {f"{w.__name__} {n}": soft(Grid.uniform(10.0, n), w) for n in FINE for w in (arithmetic, geometric)}
    return found | {name: soft(**change) for name, change in VARIANTS.items()}


def soft(grid: Grid, weighting=arithmetic, means: bool = False) -> dict:
    """Srivastava and Yeh's column as Bandai and Ghezzehei (2022) set it: 10 cm, 101 times to 10 h.

    ``means`` : start with the mean water content of every cell, not with that at its centre.
    """
    days, z = np.linspace(0.0, 10.0 * HOUR, 101), 10.0 - grid.depth
    column = Column(grid, laws.Gardner(), Flux(-21.6), Head(0.0), weighting=weighting)
    psi0 = mean_heads(grid) if means else ONE.psi(z, 0.0)
    found, seconds = timed(column, days, SOFT, psi0, TIGHT)
    late = slice(20, None, 20)
    theta, psi = (np.stack([f(z, t) for t in days]) for f in (ONE.theta, ONE.psi))
    off = np.abs(found.theta.numpy() - theta)
    worst = np.unravel_index(off.argmax(), off.shape)
    return {
        "theta": relative(found.theta.numpy(), theta),
        "psi": relative(found.psi.numpy(), psi),
        "theta late": relative(found.theta.numpy()[late], theta[late]),
        "psi late": relative(found.psi.numpy()[late], psi[late]),
        "published": published(found),
        "largest": [float(off.max()), float(days[worst[0]] / HOUR), float(z[worst[1]])],
        "by hour": [relative(found.theta.numpy()[10 * h], theta[10 * h]) for h in range(1, 11)],
        "lost": lost(found),
        "steps": int(found.accepted),
        "seconds": seconds,
    }


def mean_heads(grid: Grid) -> np.ndarray:
    """Heads at which cells hold their mean water at the start."""
    node, weight = np.polynomial.legendre.leggauss(6)
    z = 10.0 - grid.depth[:, None] + 0.5 * grid.thickness[:, None] * node
    held = (ONE.theta(z, 0.0) @ weight / 2.0 - SOFT["theta_r"]) / (SOFT["theta_s"] - SOFT["theta_r"])
    return np.log(held) / SOFT["alpha"]


def kirchhoff(upper: Tensor, lower: Tensor, drive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of K over the heads between two nodes, exact for Gardner's law: the logarithmic mean of both values."""
    log = torch.log(upper / lower)
    near, root = log.abs() < 1e-3, torch.sqrt(upper * lower)
    log = torch.where(near, 1.0, log)
    mean = torch.where(near, (upper + lower + 4.0 * root) / 6.0, (upper - lower) / log)
    by_upper = torch.where(near, 1.0 / 6.0 + lower / root / 3.0, (1.0 - mean / upper) / log)
    by_lower = torch.where(near, 1.0 / 6.0 + upper / root / 3.0, (mean / lower - 1.0) / log)
    return mean, by_upper, by_lower


def graded(cells: int, ratio: float) -> Grid:
    """Thicknesses change evenly, the lowest cell ``1 / ratio`` of that at the surface."""
    thickness = np.geomspace(1.0, 1.0 / ratio, cells)
    edges = np.concatenate([[0.0], np.cumsum(thickness)])
    return Grid(tuple(10.0 * edges / edges[-1]))


VARIANTS = {
    "harmonic mean": {"grid": Grid.uniform(10.0, 200), "weighting": harmonic},
    "mean of K over the heads between": {"grid": Grid.uniform(10.0, 200), "weighting": kirchhoff},
    "lowest cell 1.5 times finer than the first": {"grid": graded(200, 1.5)},
    "lowest cell 3 times finer": {"grid": graded(200, 3.0)},
    "first cell 2 times finer than the lowest": {"grid": graded(200, 0.5)},
    "start with means of cells": {"grid": Grid.uniform(10.0, 200), "means": True},
    "geometric mean, 1.5 times finer": {"grid": graded(200, 1.5), "weighting": geometric},
    "250 cells": {"grid": Grid.uniform(10.0, 250)},
}
"""What may move the error of 200 cells."""


def published(found) -> list[float] | None:
    """Errors of theta and psi at the 101 heights and 101 times of the published array, by a cubic spline of the heads;
    None where the array is not there."""
    if not PUBLISHED.exists():
        return None
    with gzip.open(PUBLISHED, "rt") as file:
        rows = np.genfromtxt(file, delimiter=",", skip_header=1)
    z, psi = rows[:, 0], rows[:, 1:].T
    depth, heads = with_ends(found, ONE.psi([10.0, 0.0], 0.0))
    ours = CubicSpline(depth, heads, axis=1)(10.0 - z)
    law = [SOFT["theta_r"] + (SOFT["theta_s"] - SOFT["theta_r"]) * np.exp(v) for v in (ours, psi)]
    return [relative(*law), relative(ours, psi)]


def section(found: dict) -> str:
    at = {w: [found[f"{w} {n}"] for n in FINE] for w in ("arithmetic", "geometric")}
    mine, other = (at[w][FINE.index(200)] for w in at)
    worst, by_hour = mine["largest"], mine["by hour"]
    return f"""**Srivastava and Yeh**, one layer (10 cm, Gardner's alpha 1/cm, Ks 1 cm/h, recharge 0.1 to 0.9 cm/h),
cells compared with the exact value at their centre, at 101 times from 0 to 10 h as in published studies, and at 2, 4,
6, 8 and 10 h:

{soft_table(at)}

Published for this problem (Bandai and Ghezzehei 2022, their result files): theta 1.2e-3 by the median of ten networks
that know the equation, 3.5e-4 by the best of all settings, 2.3e-4 by finite differences of 0.1 cm and 1.0e-5 by those
of 0.01 cm. Interpolated to their 101 heights, 200 cells have {told(mine["published"])} (geometric mean:
{told(other["published"])}) against their array.

The goal of 1e-5 at 200 cells is missed over all times: {mine["theta"]:.2e} with the arithmetic mean of
conductivities, the default, {other["theta"]:.2e} with the geometric one, which meets it at the five late times
({other["theta late"]:.1e}). The error is that of space: it falls by four with the size of cells, and is largest while
the front goes down ({", ".join(f"{e:.1e}" for e in by_hour[:4])} at 1, 2, 3, 4 h, {by_hour[9]:.1e} at
10 h), at a point ({worst[0]:.1e}) near the surface when the flux jumps ({worst[1]:.1f} h, {worst[2]:.2f} cm
high). What else may move it, 200 cells and the arithmetic mean where nothing is said:

{variant_table(found)}

Nothing halves it but cells: 250 are enough. Geometric means are not the default because they stop fronts in dry
soil."""


def soft_table(at: dict) -> str:
    rows = []
    for i, n in enumerate(FINE):
        row = [str(n)]
        for runs in at.values():
            r, before = runs[i], runs[i - 1] if i else None
            rate = f" ({order(before['theta'], r['theta']):.2f})" if before else ""
            row += [f"{r['theta']:.2e}{rate}", f"{r['psi']:.2e}", f"{r['theta late']:.2e}"]
        rows.append([*row, str(at["arithmetic"][i]["steps"])])
    head = [f"{w}: {q}" for w in at for q in ("theta (order)", "psi", "theta, five times")]
    return table(["cells", *head, "steps"], rows)


def variant_table(runs: dict) -> str:
    names = {"arithmetic 200": "as it is", "geometric 200": "geometric mean"} | {n: n for n in VARIANTS}
    rows = [[label, *(f"{runs[n][q]:.2e}" for q in ("theta", "psi", "theta late"))] for n, label in names.items()]
    return table(["", "theta", "psi", "theta, five times"], rows)


def told(errors: list[float] | None) -> str:
    return "no errors, as the array is not there" if errors is None else f"theta {errors[0]:.2e}, psi {errors[1]:.2e}"
