"""What a solver sees: rates at any interval, and nothing of hydrology."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import StructureError
from udehydro.forcing import Forcing

Point = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
"""Forcing and parameters at some intervals."""


@dataclass(frozen=True)
class Problem:
    """A balance bound to a forcing record and parameters.

    Attributes
    ----------
    forcing : tuple of Tensor (T, ...) as :meth:`Balance.prepare` returns it.
    theta : tuple of Tensor, static (...) or varying (T, ...).
    varying : which of theta vary in time.
    days : (T,) interval lengths.
    record : the forcing record, for names in messages.
    """

    model: Balance
    forcing: tuple[Tensor, ...]
    theta: tuple[Tensor, ...]
    varying: tuple[bool, ...]
    days: Tensor
    record: Forcing

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of the batch behind time."""
        return self.record.batch

    def at(self, k: int | slice | Tensor) -> Point:
        """Forcing and parameters at interval ``k``; a slice or index tensor gives a leading time axis."""
        forcing = tuple(f[k] for f in self.forcing)
        theta = tuple(p[k] if v else p for p, v in zip(self.theta, self.varying, strict=True))
        return forcing, theta

    def leaves(self) -> list[Tensor]:
        """Every tensor besides the initial storage that a gradient can flow to: forcings, theta, law weights."""
        candidates = (*self.forcing, *self.theta, *self.model.parameters())
        return [t for t in candidates if t.requires_grad]

    def stray_flux(self) -> str | None:
        """Name of a flux whose law closes over a tensor that wants a gradient, outside forcing, theta and weights."""
        forcing, theta = ([t.detach() for t in part] for part in self.at(0))
        stores = [self.days.new_ones(self.batch)] * len(self.model.store_names)
        known = {id(p) for p in self.model.parameters()}
        with torch.enable_grad():
            rates = self.model.fluxes(stores, forcing, theta)
        for name, rate in zip(self.model.flux_names, rates, strict=True):
            if any(id(leaf) not in known for leaf in _leaves_behind(rate)):
                return name
        return None

    def check_reach(self) -> None:
        """Refuse laws that close over a tensor that wants a gradient: an adjoint would lose that gradient silently."""
        if (name := self.stray_flux()) is not None:
            raise StructureError(
                f"The law of flux '{name}' closes over a tensor that wants a gradient, which an adjoint cannot see. "
                "Register it in an nn.Module that is the law, pass it as a parameter, or use Stepping(gradient='tape')."
            )

    def label(self, k: int, element: Sequence[int] = ()) -> str:
        """Basin and date of interval ``k``, for messages."""
        return self.record.label(k, element)

    def replace(self, **changes) -> Problem:
        """The same problem with other tensors."""
        return replace(self, **changes)


def _leaves_behind(value: Tensor) -> list[Tensor]:
    """Leaf tensors that the graph of ``value`` ends in."""
    if value.grad_fn is None:
        return [value] if value.requires_grad else []
    leaves, queue, seen = [], [value.grad_fn], set()
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        queue += [following for following, _ in node.next_functions]
    return leaves


@dataclass
class SolverReport:
    """What a solver did besides the numbers; printed with results, never needed to use them.

    ``split_intervals`` counts (basin, interval) pairs that were cut into sub-steps; ``min_pivot`` is the smallest pivot
    of I - h a J met in Newton solves (below 1: a law breaks the slope rule).
    """

    solver: str
    newton_iterations: int = 0
    split_intervals: int = 0
    undershoots: int = 0
    min_pivot: float = float("inf")
    notes: list[str] = field(default_factory=list)
    pivots: list[Tensor] = field(default_factory=list, repr=False)


class Solver(Protocol):
    """``solver(problem, storage0) -> (storage, volume, report)``.

    storage0 (*batch, S) in mm; storage (T + 1, *batch, S) at the interval edges; volume (T, *batch, F) in mm per
    interval, with ``storage[k + 1] - storage[k] = volume[k] @ incidence`` to round-off.

    Raises SolverError (basin, date, what to do) instead of returning a number that is not trustworthy.
    """

    def __call__(self, problem: Problem, storage0: Tensor) -> tuple[Tensor, Tensor, SolverReport]: ...


def stack(parts: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Tuple of tensors broadcastable to ``shape`` -> (*shape, len(parts))."""
    return torch.stack([p.expand(shape) for p in parts], dim=-1)
