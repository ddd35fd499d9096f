"""Basins of CAMELS-US as flat batches."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache

import torch

_cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
from peers.daily_loops import LOOPS  # noqa: E402
from peers.task import Task, many_stores, plain  # noqa: E402

if _cores:
    # importing the contest puts the process on one core, which only timing needs
    os.sched_setaffinity(0, _cores)

__all__ = ["LOOPS", "Task", "hydrology", "published"]

EVERY = 6
"""Of the 120 basins every sixth, where not all are run."""


RECORD = 10957
"""Days of the record; what is longer repeats it."""


@cache
def _whole(name: str) -> Task:
    return plain(120, 30) if name == "exphydro" else many_stores(name, 120, 30)


def published(every: int = 1, years: float = 30) -> Task:
    """EXP-HYDRO with its published parameters and initial storages."""
    return _part(_whole("exphydro"), every, years)


def hydrology(name: str, every: int = EVERY, years: float = 10) -> Task:
    """Forcing for ``exphydro``, ``hbv`` or ``gr4j``; PET by the formula of EXP-HYDRO."""
    return _part(_whole(name), every, years)


def _part(task: Task, every: int, years: float) -> Task:
    task = task.first(min(round(365.25 * years), RECORD))
    some = torch.arange(0, task.basins, every)
    values = {n: v[:, some].contiguous() for n, v in task.forcing.values.items()}
    basins = tuple(task.forcing.basins[i] for i in some.tolist())
    return replace(
        task,
        forcing=replace(task.forcing, values=values, basins=basins),
        theta={n: v[some] for n, v in task.theta.items()},
        storage0=task.storage0[some],
        observed=task.observed[:, some],
    )
