"""The record of a march: every step taken, so that it can be replayed with a graph."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from udehydro.solvers.problem import Problem

POINTS = 65536
"""Step-and-batch points replayed at once; bounds the memory of the backward pass."""


class Steps(NamedTuple):
    """Some steps side by side: interval (n,), h (n, *batch or ones), y (S, n, *batch), stages of the same shape."""

    interval: Tensor
    h: Tensor
    y: Tensor
    solved: tuple[Tensor, ...]


class March:
    """Steps of a march, in order. A point whose interval was not split takes zero-length steps beside one that was."""

    def __init__(self, y0: Tensor, intervals: int):
        self.y0 = self.last = y0
        self._intervals = intervals
        self._edges = [y0]
        self._k: list[int] = []
        self._h: list[Tensor] = []
        self._y: list[Tensor] = []
        self._solved: list[tuple[Tensor, ...]] = []
        self._volumes: list[Tensor] = []

    def append(self, k: int, steps, end: Tensor) -> None:
        """Add the steps (h, y, solved stages, volume) through interval ``k`` and the state at its end."""
        total = None
        for h, y, solved, volume in steps:
            self._k.append(k)
            self._h.append(h)
            self._y.append(y)
            self._solved.append(solved)
            total = volume if total is None else total + volume
        self._volumes.append(total)
        self._edges.append(end)
        self.last = end

    def extend(self, interval: Tensor, h: Tensor, starts: Tensor, solved, volume: Tensor, ends: Tensor) -> None:
        """Add steps that were solved together: the steps lie along dimension 1, as many for every interval."""
        n = len(interval)
        intervals = interval.unique_consecutive()
        per = n // len(intervals)
        self._k += interval.tolist()
        self._h += [h[i].reshape(()) for i in range(n)]
        self._y += starts.unbind(1)
        self._solved += list(zip(*(s.unbind(1) for s in solved), strict=True))
        self._volumes += volume.unflatten(1, (len(intervals), per)).sum(2).unbind(1)
        self._edges += ends[:, per - 1 :: per].unbind(1)
        self.last = self._edges[-1]

    def finish(self) -> March:
        """Stack the record; intervals never reached (a march that blew up) are NaN."""
        self.reached = len(self._volumes)
        missing = self._intervals - self.reached
        nan_edge, nan_volume = torch.full_like(self.y0, math.nan), torch.full_like(self._volumes[0], math.nan)
        self.storage = torch.stack(self._edges + [nan_edge] * missing).movedim(1, -1)
        self.volume = torch.stack(self._volumes + [nan_volume] * missing).movedim(1, -1)
        self.interval = torch.as_tensor(self._k, device=self.y0.device)
        batch = self.y0.shape[1:]
        if any(h.ndim for h in self._h):
            self.h = torch.stack([h.expand(batch) for h in self._h])
        else:
            self.h = torch.stack(self._h).reshape(-1, *(1,) * len(batch))
        return self

    def __len__(self) -> int:
        return len(self._k)

    def steps(self, start: int, stop: int) -> Steps:
        y = torch.stack(self._y[start:stop], dim=1)
        return Steps(self.interval[start:stop], self.h[start:stop], y, self.stages(start, stop))

    def stages(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Solved stages of some steps, (S, n, *batch) each; none for explicit tableaux."""
        return tuple(torch.stack(s, dim=1) for s in zip(*self._solved[start:stop], strict=True))

    def chunks(self, problem: Problem, reverse: bool = False) -> Iterator[Steps]:
        """Steps in pieces of at most ``POINTS`` points."""
        size = max(1, POINTS // max(1, math.prod(problem.batch)))
        starts = range(0, len(self), size)
        for start in reversed(starts) if reverse else starts:
            yield self.steps(start, min(start + size, len(self)))
