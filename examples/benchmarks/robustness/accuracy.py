"""How far runs are from a reference, run by run."""

from __future__ import annotations

import numpy as np
import torch

from udehydro.simulation import Simulation
from udehydro.solvers import Compiled, Stepping

from .runs import Batch, guarded

STILL = 1e-6
"""Standard deviation of discharge [mm/d] below which a run has no NSE."""
MOST = 256
"""Substeps at which an explicit scheme gives up."""


def nse(discharge, reference) -> np.ndarray:
    """Nash-Sutcliffe efficiency per run, of (T, B); -inf where discharge is not finite, NaN where nothing flows."""
    q, r = np.asarray(discharge), np.asarray(reference)
    spread = ((r - r.mean(0)) ** 2).sum(0)
    with np.errstate(all="ignore"):
        score = 1.0 - ((q - r) ** 2).sum(0) / spread
    score = np.where(np.isfinite(q).all(0), score, -np.inf)
    return np.where(r.std(0) > STILL, score, np.nan)


def quantiles(score: np.ndarray) -> list[str]:
    """Median, lowest tenth and lowest, as text."""
    some = np.sort(score[~np.isnan(score)])
    picked = [some[len(some) // 2], some[len(some) // 10], some[0]]
    return [f"{v:.5f}" if v > -9.0 else f"{v:.1e}" for v in picked]


def compiled(batch: Batch, tableau, substeps: int) -> Simulation:
    """All elements of a batch by the compiled driver; a refusal is an error here."""
    tally, returned = guarded(batch, Compiled(tableau, substeps=substeps, warm_start=False))
    if tally.raised:
        raise RuntimeError(f"{tableau.name}, {substeps} steps: {tally.messages}")
    return returned.simulation


def explicit(batch: Batch, tableau) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Storage, discharge and substeps per element: as few, of 1, 2, 4, ..., as pass the check of stability."""
    steps, waiting = torch.ones(batch.size, dtype=torch.long), torch.arange(batch.size)
    storage = discharge = None
    count = 1
    while len(waiting) and count <= MOST:
        _, returned = guarded(batch.part(waiting), Stepping(tableau, substeps=count))
        if returned is not None:
            run, index = returned.simulation, waiting[returned.index]
            if storage is None:
                storage = torch.full((len(run.storage), batch.size, run.storage.shape[-1]), torch.nan).double()
                discharge = torch.full((len(run.forcing), batch.size), torch.nan).double()
            storage[:, index], discharge[:, index], steps[index] = run.storage, run.discharge, count
            keep = torch.ones(len(waiting), dtype=torch.bool)
            keep[returned.index] = False
            waiting = waiting[keep]
        count *= 2
    return storage, discharge, steps
