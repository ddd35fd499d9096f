"""The protocol of a contestant, and helpers that all of them share."""

from __future__ import annotations

import numpy as np

from .task import Task


class Contestant:
    """One solver on one task.

    Parameters
    ----------
    name : as printed.
    task : what it solves.
    days : length of the record it is timed on where the whole one takes too long; times are then scaled.
    repeats : most repeats it gets, for the slow ones.
    """

    gradient = True
    """Whether it has one."""

    def __init__(self, name: str, task: Task, days: int | None = None, repeats: int | None = None):
        self.name, self.repeats = name, repeats
        self.task = task.first(days or task.days)
        self.scale = task.days / self.task.days
        self.note = ""

    def prepare(self) -> float:
        """Get ready; returns the seconds spent compiling."""
        return 0.0

    def prime(self) -> None:
        """What comes before every timed call and is not timed."""

    def forward(self) -> np.ndarray:
        """Daily discharge volumes (T, B), mm."""
        raise NotImplementedError

    def value_and_gradient(self, days: int) -> tuple[float, np.ndarray]:
        """Mean squared error of the first ``days`` days, from a run over the whole record, and its flat gradient."""
        raise NotImplementedError
