"""The last trajectory of a solver, kept as the first guess of its next run."""

from __future__ import annotations

from weakref import ref

import torch
from torch import Tensor

from udehydro.solvers.march import March
from udehydro.solvers.problem import Problem


class WarmStart:
    """Stages of the last run, keyed by absolute interval: training changes parameters little between runs.

    Guesses change the number of iterations; the numbers, beyond the tolerance, only where a step has several solutions.
    ``tensors`` and ``load`` let a checkpoint carry it, so that a resumed run repeats an uninterrupted one bit for bit.
    """

    def __init__(self):
        self._times: Tensor | None = None
        self._states: tuple[Tensor, ...] = ()
        self._model: ref | None = None

    def guess(self, problem: Problem, interval: Tensor, stages: int) -> list[Tensor] | None:
        """Stages (S, n, *batch) for steps in some intervals, or None where the last run does not cover them."""
        if not self._of(problem):
            return None
        wanted = _moments(problem)[interval.to("cpu")]
        start = int(torch.searchsorted(self._times, wanted[:1]))
        part = slice(start, start + len(wanted))
        if not torch.equal(self._times[part], wanted):
            return None
        like, batch = self._states[0], problem.batch
        if len(self._states) != stages or like.shape[0] != len(problem.model.store_names):
            return None
        if like.shape[2:] != batch or like.device != problem.days.device or like.dtype != problem.days.dtype:
            return None
        return [s[:, part].clone() for s in self._states]

    def _of(self, problem: Problem) -> bool:
        """Whether there is a trajectory, of this model as far as is known (a checkpoint does not say)."""
        return self._times is not None and (self._model is None or self._model() is problem.model)

    def keep(self, problem: Problem, march: March) -> None:
        """Remember a finished march."""
        steps, self._model = march.steps(), ref(problem.model)
        self._times = _moments(problem)[steps.interval.to("cpu")]
        self._states = steps.solved

    def tensors(self) -> dict[str, Tensor]:
        if self._times is None:
            return {}
        return {"times": self._times} | {str(i): s.contiguous() for i, s in enumerate(self._states)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        if tensors:
            self._times = tensors["times"].to("cpu")
            self._states = tuple(tensors[str(i)] for i in range(len(tensors) - 1))


def _moments(problem: Problem) -> Tensor:
    """Start of every interval in nanoseconds (T,)."""
    return torch.from_numpy(problem.record.time.astype("int64"))
