"""The record of a march: storages, volumes, and every step taken, so that it can be linearised again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from udehydro.solvers.problem import Problem
from udehydro.solvers.tableau import Tableau

POINTS = 8192
"""Step-and-batch points linearised at once: what stays in the cache of a CPU core with a network."""
POINTS_ACCELERATOR = 1 << 20


class Steps(NamedTuple):
    """Steps side by side: interval (n,), h (n, *batch or ones), y (S, n, *batch), stages of the same shape."""

    interval: Tensor
    h: Tensor
    y: Tensor
    solved: tuple[Tensor, ...]

    def __getitem__(self, part: slice) -> Steps:
        return Steps(self.interval[part], self.h[part], self.y[:, part], tuple(s[:, part] for s in self.solved))

    @property
    def last(self) -> Tensor:
        """Which steps end their interval (n,)."""
        return self.interval.diff(append=self.interval[-1:] + 1) > 0


class March:
    """Steps of a march, in order. A point whose interval was not split takes zero-length steps beside one that was."""

    def __init__(self, y0: Tensor, intervals: int, fluxes: int):
        batch = y0.shape[1:]
        self.last = y0
        self.reached = 0
        self._edges = y0.new_full((y0.shape[0], intervals + 1, *batch), math.nan)
        self._edges[:, 0] = y0
        self._volumes = y0.new_full((fluxes, intervals, *batch), math.nan)
        self._parts: list[Steps] = []

    @classmethod
    def of(cls, steps: Steps, volume: Tensor, edges: Tensor) -> March:
        """A finished march from its steps, volumes (F, T, *batch) and states at the edges (S, T + 1, *batch)."""
        march = object.__new__(cls)
        march._parts, march._volumes, march._edges = [steps], volume, edges
        march.last, march.reached = edges[:, -1], volume.shape[1]
        return march

    def append(self, k: int, steps, end: Tensor) -> None:
        """Add the steps (h, y, solved stages, volume) through interval ``k`` and the state at its end."""
        batch, total = end.shape[1:], None
        at = torch.full((1,), k, device=end.device)
        for h, y, solved, volume in steps:
            h = h.expand(1, *batch) if h.ndim else h.reshape(1, *(1,) * len(batch))
            self._parts.append(Steps(at, h, y.unsqueeze(1), tuple(s.unsqueeze(1) for s in solved)))
            total = volume if total is None else total + volume
        self._volumes[:, k], self._edges[:, k + 1] = total, end
        self.last, self.reached = end, k + 1

    def extend(self, segment: Segment) -> None:
        """Add the intervals of a segment that begins where the march ends."""
        first, self.reached = self.reached, self.reached + segment.volume.shape[1]
        self._volumes[:, first : self.reached] = segment.volume
        self._edges[:, first + 1 : self.reached + 1] = segment.edges
        self._parts.append(segment.steps)
        self.last = segment.edges[:, -1]

    @property
    def storage(self) -> Tensor:
        """Storages (T + 1, *batch, S); NaN where the march was not carried on (it blew up)."""
        return self._edges.movedim(0, -1)

    @property
    def volume(self) -> Tensor:
        """Volumes (T, *batch, F)."""
        return self._volumes.movedim(0, -1)

    def pull(
        self, problem: Problem, tableau: Tableau, g_storage: Tensor | None, g_volume: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Carry derivatives by storages and volumes back: see :func:`udehydro.solvers.adjoint.pull`."""
        from udehydro.solvers.adjoint import pull  # it reads marches, so it cannot be imported the other way

        return pull(problem, tableau, self, g_storage, g_volume)

    def push(
        self, problem: Problem, tableau: Tableau, tangents, stores: Sequence[int], fluxes: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Carry tangents along: see :func:`udehydro.solvers.adjoint.push`."""
        from udehydro.solvers.adjoint import push

        return push(problem, tableau, self, tangents, stores, fluxes)

    def steps(self) -> Steps:
        """All steps, stacked once and kept."""
        if len(self._parts) > 1:
            self._parts = [_concatenated(self._parts)]
        return self._parts[0]


class Segment(NamedTuple):
    """Some intervals solved together: their steps, volumes (F, K, *batch) and the states at their ends."""

    steps: Steps
    volume: Tensor
    edges: Tensor

    @classmethod
    def of(cls, steps: Steps, volume: Tensor, ends: Tensor) -> Segment:
        """From volumes and ends (., n, *batch) of the steps."""
        last = steps.last
        if bool(last.all()):
            return cls(steps, volume, ends)
        intervals = int(steps.interval[-1]) - int(steps.interval[0]) + 1
        total = volume.new_zeros(volume.shape[0], intervals, *volume.shape[2:])
        return cls(steps, total.index_add_(1, steps.interval - steps.interval[0], volume), ends[:, last])

    def then(self, later: Segment) -> Segment:
        """This segment and the one that follows it."""
        steps = _concatenated([self.steps, later.steps])
        return Segment(
            steps, torch.cat([self.volume, later.volume], dim=1), torch.cat([self.edges, later.edges], dim=1)
        )


def join(most: Segment, some: Segment, elements: Tensor) -> Segment:
    """Put ``some``, solved again for some elements of the last batch axis, into ``most``.

    Where the two cut an interval differently, the shorter list of steps is filled up with steps of no length.
    """
    counts = torch.maximum(_counts(most.steps), _counts(some.steps))
    steps, fresh = (_padded(s.steps, counts, s.edges) for s in (most, some))
    h = steps.h.expand(steps.y.shape[1:]).clone()
    h[..., elements] = fresh.h.expand(fresh.y.shape[1:])
    pairs = [(steps.y, fresh.y), *zip(steps.solved, fresh.solved, strict=True)]
    pairs += [(most.volume, some.volume), (most.edges, some.edges)]
    (y, *solved, volume, edges) = (_replaced(a, b, elements) for a, b in pairs)
    return Segment(Steps(steps.interval, h, y, tuple(solved)), volume, edges)


def _replaced(whole: Tensor, part: Tensor, elements: Tensor) -> Tensor:
    whole = whole.clone()
    whole[..., elements] = part
    return whole


def _counts(steps: Steps) -> Tensor:
    """Steps of every interval (K,)."""
    return torch.unique_consecutive(steps.interval, return_counts=True)[1]


def _padded(steps: Steps, counts: Tensor, edges: Tensor) -> Steps:
    """The same steps with as many of no length, at the end of every interval, as make up ``counts``."""
    own = _counts(steps)
    if torch.equal(own, counts):
        return steps
    batch = steps.y.shape[2:]
    interval = steps.interval.unique_consecutive().repeat_interleave(counts)
    starts = (counts.cumsum(0) - counts).repeat_interleave(own)
    at = starts + torch.arange(len(starts), device=own.device) - (own.cumsum(0) - own).repeat_interleave(own)

    def fill(values: Tensor) -> Tensor:
        out = edges.repeat_interleave(counts, dim=1)
        out[:, at] = values
        return out

    h = steps.h.new_zeros(len(interval), *batch)
    h[at] = steps.h.expand(len(steps.h), *batch)
    return Steps(interval, h, fill(steps.y), tuple(fill(s) for s in steps.solved))


def _concatenated(parts: Sequence[Steps]) -> Steps:
    batch = parts[0].y.shape[2:]
    split = any(p.h.shape[1:] != parts[0].h.shape[1:] for p in parts)
    return Steps(
        torch.cat([p.interval for p in parts]),
        torch.cat([p.h.expand(len(p.h), *batch) if split else p.h for p in parts]),
        torch.cat([p.y for p in parts], dim=1),
        tuple(torch.cat(s, dim=1) for s in zip(*(p.solved for p in parts), strict=True)),
    )


def evaluation_points(problem: Problem) -> int:
    """Points evaluated at once."""
    if problem.days.device.type != "cpu":
        return POINTS_ACCELERATOR
    # plain formulas need far less memory per point than networks
    return POINTS if any(True for _ in problem.model.parameters()) else 8 * POINTS


def chunks(problem: Problem, count: int, reverse: bool = False) -> Iterator[slice]:
    """Slices of ``count`` steps, of a bounded number of points each."""
    size = max(1, evaluation_points(problem) // max(1, math.prod(problem.batch)))
    starts: Sequence[int] = range(0, count, size)
    for start in reversed(starts) if reverse else starts:
        yield slice(start, min(start + size, count))
