"""Ends of a column as walls of networks: what is known of them, and when it jumps."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.richards.column.boundary import Atmospheric, Flux, FreeDrainage, Head, WaterTable
from udehydro.richards.column.problem import place
from udehydro.richards.inversion.free import Free
from udehydro.richards.inversion.inversion import Inversion
from udehydro.richards.pinn.problem import Wall

EVENTS = 12
"""Most jumps that clocks run from; of weather with more the largest."""
READ = {Flux: ("q",), Atmospheric: ("evaporation", "rain"), Head: ("psi",), WaterTable: ("depth",)}
KIND = {Flux: "flux", Atmospheric: "flux", Head: "head", WaterTable: "head"}


class End(NamedTuple):
    """A wall, the largest flux through it [cm/d] (zero where it has none), and by how much it jumps at which times."""

    wall: Wall | None = None
    flux: float = 0.0
    jumps: tuple[tuple[float, float], ...] = ()


def end_of(task: Inversion, where: str, days: Tensor, region: int) -> End:
    """An end, ``"top"`` or ``"bottom"``, as far as numbers say what it is: Free ones are left to the networks.

    Atmospheric tops count as rain less evaporation at all times.

    Raises
    ------
    ConfigError
        For columns of a batch with ends that differ.

    Warns
    -----
    UserWarning
        For ends that networks do not know.
    """
    end, upper = getattr(task.column, where), where == "top"
    if isinstance(end, FreeDrainage):
        return End(Wall("drainage", upper=upper, region=region))
    if type(end) not in READ:
        warnings.warn(f"{type(end).__name__} at the {where}: networks leave this end open.", stacklevel=5)
        return End()
    given = {n: getattr(end, n) for n in READ[type(end)]}
    if any(isinstance(v, Free) for v in given.values()):
        return End()
    series = _series(task, where, given)
    if bool((series != series[:, :1]).any()):
        raise ConfigError(f"Columns whose {where} differs are learned one by one.")
    series = series[:, 0].expand(len(days) - 1)
    kind = KIND[type(end)]
    change = series.diff()
    at = change.nonzero()[:, 0]
    jumps = tuple(zip(days[1:-1][at].tolist(), change[at].abs().tolist(), strict=True))
    largest = float(series.abs().max()) if kind == "flux" else 0.0
    return End(Wall(kind, _steps(series, days), upper=upper, region=region), largest, jumps)


def _series(task: Inversion, where: str, given: dict) -> Tensor:
    """(T or 1, columns or 1) of an end: the flux or the head."""
    found = {n: place(task.column, task.forcing, (where, 0, n), v)[..., 0] for n, v in given.items()}
    if "rain" in found:
        return found["evaporation"] - found["rain"]
    if "depth" in found:
        return float(task.column.grid.edges[-1]) - found["depth"]
    return next(iter(found.values()))


def _steps(series: Tensor, days: Tensor) -> Callable[[Tensor], Tensor]:
    """A series of intervals as a function of points."""
    inner = days[1:-1].contiguous()

    def at(points: Tensor) -> Tensor:
        return series.to(points)[torch.bucketize(points[:, 0].contiguous(), inner.to(points), right=True)]

    return at


def events_of(ends: list[End], start: float) -> tuple[float, ...]:
    """The start, and the times of the largest jumps of all ends, each in units of its own largest."""
    if not any(e.wall is not None and e.wall.kind != "drainage" for e in ends):
        return ()
    sized: dict[float, float] = {}
    for e in ends:
        most = max((size for _, size in e.jumps), default=1.0)
        for t, size in e.jumps:
            sized[t] = max(sized.get(t, 0.0), size / most)
    largest = sorted(sized, key=lambda t: -sized[t])[: EVENTS - 1]
    return tuple(sorted({start, *largest}))
