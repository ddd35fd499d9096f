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
    origin : where only some elements of the record are run, their indices on its last batch axis.
    """

    model: Balance
    forcing: tuple[Tensor, ...]
    theta: tuple[Tensor, ...]
    varying: tuple[bool, ...]
    days: Tensor
    record: Forcing
    origin: Tensor | None = None

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of the batch behind time."""
        batch = self.record.batch
        return batch if self.origin is None else (*batch[:-1], len(self.origin))

    def at(self, k: int | slice | Tensor) -> Point:
        """Forcing and parameters at interval ``k``; a slice or index tensor gives a leading time axis."""
        forcing = tuple(f[k] for f in self.forcing)
        theta = tuple(p[k] if v else p for p, v in zip(self.theta, self.varying, strict=True))
        return forcing, theta

    def elements(self, index: Tensor) -> Problem:
        """The same problem for some elements of the last batch axis; all of them where there is no batch."""
        if not self.batch:
            return self
        width = self.batch[-1]

        def pick(value: Tensor, varies: bool) -> Tensor:
            if value.ndim > int(varies) and value.shape[-1] == width:
                return value[..., index]
            return value  # the same for all elements

        return replace(
            self,
            forcing=tuple(f[..., index] for f in self.forcing),
            theta=tuple(pick(p, v) for p, v in zip(self.theta, self.varying, strict=True)),
            origin=index if self.origin is None else self.origin[index],
        )

    def points(self, k: Tensor, element: tuple[Tensor, ...]) -> Point:
        """Forcing and parameters at scattered points: intervals ``k`` (n,) and batch indices, each (n,)."""
        forcing = tuple(f[k, *element] for f in self.forcing)
        theta = tuple(
            p[k, *element] if v else (p if p.ndim == 0 else p.expand(self.batch)[element])
            for p, v in zip(self.theta, self.varying, strict=True)
        )
        return forcing, theta

    def part(self, point: Point, steps: slice) -> Point:
        """Some steps of what :meth:`at` returned for a slice or an index tensor."""
        forcing, theta = point
        return tuple(f[steps] for f in forcing), tuple(
            p[steps] if v else p for p, v in zip(theta, self.varying, strict=True)
        )

    @property
    def separable(self) -> bool:
        """Whether the laws are the same for every batch element, so that points can be picked one by one."""
        return all(getattr(m, "members", None) is None for m in self.model.modules())

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
        if self.origin is not None and element:
            element = (*element[:-1], int(self.origin[element[-1]]))
        return self.record.label(k, element)

    def spread(self, mask: Tensor) -> Tensor:
        """A mask (*batch) of the elements that are run as one of the whole record's."""
        if self.origin is None:
            return mask
        whole = torch.zeros(self.record.batch, dtype=torch.bool, device=mask.device)
        whole[..., self.origin] = mask
        return whole

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

    Attributes
    ----------
    solver, scheme : the driver, and what decides the numbers.
    split_intervals : (basin, interval) pairs that were cut into sub-steps because they could not be solved otherwise.
    undershoots : (basin, interval) pairs at whose end a store is below zero.
    min_pivot : smallest pivot of I - h a J met in Newton solves; below 1 a law breaks the slope rule.
    substeps, error : (T, *batch), what ``accuracy=`` chose and the local error [mm] it left.
    bounds : which parameters lie beyond a bound of the model.
    adjoint : (T + 1, *batch, S), filled by the backward pass: the total derivative of the objective by the storage at
        every interval edge (lambda).
    """

    solver: str
    scheme: str = ""
    newton_iterations: int = 0
    split_intervals: int = 0
    undershoots: int = 0
    min_pivot: float = float("inf")
    notes: list[str] = field(default_factory=list)
    pivots: list[Tensor] = field(default_factory=list, repr=False)
    substeps: Tensor | None = field(default=None, repr=False)
    error: Tensor | None = field(default=None, repr=False)
    bounds: list[str] = field(default_factory=list)
    adjoint: Tensor | None = field(default=None, repr=False)


class Solver(Protocol):
    """``solver(problem, storage0) -> (storage, volume, report)``.

    storage0 (*batch, S) in mm; storage (T + 1, *batch, S) at the interval edges; volume (T, *batch, F) in mm per
    interval, with ``storage[k + 1] - storage[k] = volume[k] @ incidence`` to round-off.

    Raises SolverError (basin, date, what to do) instead of returning a number that is not trustworthy.
    """

    def __call__(self, problem: Problem, storage0: Tensor) -> tuple[Tensor, Tensor, SolverReport]: ...
