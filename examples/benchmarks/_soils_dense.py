"""One evaporation experiment with hundreds of points: what is left of a formula's advantage when points are many."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from _soils_contest import families
from _soils_data import folder
from _soils_laws import Points

BLOCKS = 10
"""Blocks of neighbouring heads, evenly filled, of which one is held out at a time."""


def experiment() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heads [cm], contents, conductivities [cm/d, NaN where there are none], from wet to dry, below saturation."""
    table = pd.read_csv(folder("evaporation-shp") / "dataSHP.csv").sort_values("suc", ascending=False)
    table = table[table.suc < 0.0]
    return table.suc.to_numpy(), table.th.to_numpy(), table.Ku.to_numpy()


def dense(chosen: dict[str, dict]) -> dict:
    """Errors at heads held out, within the range and beyond its dry end, of every family with its setting for K."""
    psi, theta, k = experiment()
    place = np.arange(len(psi)) * BLOCKS // len(psi)
    every = np.stack([place == b for b in range(BLOCKS)])
    hide = lambda y: torch.tensor(np.where(every, np.nan, y))  # noqa: E731
    heads = torch.tensor(np.tile(psi, (BLOCKS, 1)))
    found, kept = {"points": len(psi), "conductivities": int(np.isfinite(k).sum())}, {}
    inner, outer = every.copy(), every.copy()
    inner[[0, -1]], outer[:-1] = False, False
    for family, settings in families(True).items():
        best = chosen[family]
        points = Points(heads, hide(theta), heads, hide(k), best["sigma"])
        curves = dict(settings)[best["setting"]](points, kept.setdefault(best["sigma"], {})).curves(heads)
        errors = {"theta": curves.theta.numpy() - theta, "k": (curves.log_k.numpy() - np.log(k)) / np.log(10.0)}
        found[family] = {
            f"{n} {w}": float(np.sqrt(np.nanmean(e[m] ** 2)))
            for n, e in errors.items()
            for w, m in (("within", inner), ("beyond", outer))
        }
    return found
