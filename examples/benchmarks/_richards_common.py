"""What the parts of the Richards column's benchmark share."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from udehydro import Forcing
from udehydro.richards.column import Adaptive, Column, ColumnRun, flow
from udehydro.solvers import SDIRK2

SCRIPT = "richards_column"


def relative(found: np.ndarray, true: np.ndarray) -> float:
    """||found - true|| / ||true||"""
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


def timed(
    column: Column, days, p, psi0, steps=None, series: dict | None = None, tableau=SDIRK2
) -> tuple[ColumnRun, float]:
    """A run without gradients through edges of intervals [d], and its seconds. ``series`` are fluxes by name [cm/d]."""
    forcing = Forcing.clock(days=days)
    if series:
        values = {n: torch.as_tensor(v, dtype=torch.float64) for n, v in series.items()}
        forcing = Forcing(values, dict.fromkeys(values, "cm/d"), forcing.time_edge)
    psi0 = torch.as_tensor(psi0, dtype=torch.float64)
    with torch.no_grad():
        return clocked(lambda: flow(column, forcing, p, psi0, tableau=tableau, steps=steps or Adaptive()))


def clocked(call: Callable):
    """What a call returns, and its seconds."""
    started = time.perf_counter()
    found = call()
    return found, time.perf_counter() - started


def lost(run: ColumnRun) -> float:
    """Largest error of the water balance over the water in the column."""
    return float((run.balance_error.abs() / run.storage[1:].abs()).max())


def with_ends(run: ColumnRun, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depths (node,) [cm] of the surface, all cells and the bottom, and heads there (T + 1, node).

    ``start`` : heads of both ends at the start, which a run does not know.
    """
    grid = run.column.grid
    ends = np.vstack([start, run.ends.numpy()])
    depth = np.concatenate([[0.0], grid.depth, [grid.edges[-1]]])
    return depth, np.concatenate([ends[:, :1], run.psi.numpy(), ends[:, 1:]], axis=1)


def order(coarse: float, fine: float, ratio: float = 2.0) -> float:
    """Order of convergence from two errors."""
    return float(np.log(coarse / fine) / np.log(ratio))
