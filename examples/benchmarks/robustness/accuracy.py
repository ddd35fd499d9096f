"""How far runs are from a reference, run by run."""

from __future__ import annotations

import numpy as np
import torch

from udehydro.solvers import Compiled, Stepping

from .runs import Batch, guarded

STILL = 1e-6
"""Standard deviation of discharge [mm/d] below which a run has no NSE."""
AT_ONCE = 40
"""Elements, so that the steps of many substeps fit into memory."""
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


def compiled(batch: Batch, tableau, substeps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Storage and discharge of a batch by the compiled driver, some elements at a time; a refusal is an error here."""
    storage, discharge = [], []
    for some in torch.arange(batch.size).split(AT_ONCE):
        tally, returned = guarded(batch.part(some), Compiled(tableau, substeps=substeps, warm_start=False))
        if tally.raised:
            raise RuntimeError(f"{tableau.name}, {substeps} steps: {tally.messages}")
        storage.append(returned.simulation.storage)
        discharge.append(returned.simulation.discharge)
    return torch.cat(storage, 1), torch.cat(discharge, 1)


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
