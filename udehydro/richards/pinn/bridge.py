"""An inversion of a column as a problem of networks: regions, walls, data, and unknowns of soils."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.richards.inversion.inversion import Inversion
from udehydro.richards.laws import SoilLaw
from udehydro.richards.pinn.ends import end_of, events_of
from udehydro.richards.pinn.field import Box, Profile
from udehydro.richards.pinn.problem import Problem, Region
from udehydro.richards.pinn.residuals import Data
from udehydro.richards.pinn.scales import storage_rate
from udehydro.richards.pinn.soil import Soil
from udehydro.richards.pinn.system import Extra, System


class Bridge:
    """An inversion as a problem of networks."""

    def __init__(self, task: Inversion, seeds: Sequence[int], boundaries: bool, start: bool):
        self.task, self.boundaries, self.start = task, boundaries, start
        batch, unknowns = task.forcing.batch, task.unknowns
        _check(task)
        self.members = task.unknowns.columns if batch else len(seeds)
        if batch and len(seeds) not in (1, self.members):
            raise ConfigError(f"{self.members} columns are as many members: give as many seeds, or one.")
        offset = np.arange(self.members) if len(seeds) == 1 and batch else 0
        self.seeds = (np.asarray(list(seeds)) + offset).tolist()
        self.items = [u for u in unknowns.items if u.keys[0][0] == "soil"]
        if not self.items and not unknowns.weights:
            raise ConfigError("Networks find values of soils: put Free(start) in place of one in p, or weights=sd.")
        first = sum(u.free.size for u in unknowns.items)
        own = [w.numel() for w in unknowns.weights]
        self.places = [u.place for u in self.items] + _in_turn(own, first)
        self.inner = _in_turn([p.stop - p.start for p in self.places])

    def extra(self) -> Extra:
        u = self.task.unknowns

        def pick(x: Tensor) -> Tensor:
            found = torch.cat([u.spread(x)[:, p] for p in self.places], dim=1)
            return found.expand(self.members, -1).clone()

        return Extra(pick(u.start), pick(u.low), pick(u.high), pick(u.start), pick(u.precision))

    def x(self, extra: Extra) -> Tensor:
        """The search vector of the task (members, P)."""
        x = self.task.unknowns.start.expand(self.members, -1).clone()
        for place_, inner in zip(self.places, self.inner, strict=True):
            x[:, place_] = extra.values[:, inner]
        return x

    def measured(self) -> Tensor:
        counts = [
            (~o.values.isnan()).reshape(len(o.values), self.task.unknowns.columns, -1) for o in self.task.observed
        ]
        return sum(c.sum((0, 2)) for c in counts).expand(self.members)

    def misfit(self, system: System) -> Tensor:
        """chi2 by reading (members,) at what a system of the problem holds."""
        chi2 = system.of_data(system.chi2(system.start()))
        return chi2 / self.measured().to(chi2)

    @property
    def readings(self) -> int:
        """Of the member with most; physics has the same weight in all."""
        return int(self.measured().max())

    def problem(self, **how) -> Problem:
        """Without the weights of a stage."""
        task = self.task
        column, days = task.column, torch.as_tensor(days_of(task))
        last = len(column.layers) - 1
        ends = [end_of(task, w, days, r) for w, r in (("top", last), ("bottom", 0))] if self.boundaries else []
        events, scale = events_of(ends, float(days[0])), max((e.flux for e in ends), default=0.0)
        box = [(-float(column.grid.edges[c.stop]), -float(column.grid.edges[c.start])) for c in column.cells_of_layers]
        regions = [self._region(i, days, edges, events) for i, edges in enumerate(box)][::-1]
        count = len(regions)
        walls = [e.wall for e in ends if e.wall is not None]
        return Problem(regions, walls, scale or self._flux(days), self._head(), self._data(days, count), **how)

    def _region(self, i: int, days: Tensor, edges: tuple[float, float], events) -> Region:
        low, high = edges
        law = self.task.column.layers[i].law
        soil = Soil(law, lambda extra: self._values(i, extra), self._weights(law))
        return Region(Box((0.0, low), (float(days[-1]), high)), soil, self._psi0(i), events, (1,) if i == 0 else ())

    def _values(self, layer: int, extra: Tensor) -> dict:
        known = self.task.unknowns.setting.p[layer]
        values = {n: v.to(extra).flatten() if isinstance(v, Tensor) else v for n, v in known.items()}
        for u, inner in zip(self.items, self.inner, strict=False):
            for _, i, name in u.keys:
                if i == layer:
                    values[name] = u.coordinate.back(extra[..., inner])[..., 0]
        return values

    def _weights(self, law: SoilLaw):
        """Weights of a law by name as a function of the unknowns, or None where they are left alone."""
        if not self.task.unknowns.weights:
            return None
        first, every = len(self.items), [id(w) for w in self.task.column.weights()]
        inner = {n: (self.inner[first + every.index(id(w))], w.shape) for n, w in law.named_parameters()}

        def at(extra: Tensor) -> dict[str, Tensor]:
            return {n: extra[..., p].reshape(*extra.shape[:-1], 1, *shape) for n, (p, shape) in inner.items()}

        return at if inner else None

    def _psi0(self, layer: int):
        psi0, grid = self.task.psi0, self.task.column.grid
        if not self.start or not isinstance(psi0, int | float | Tensor | np.ndarray):
            return None
        psi0 = torch.as_tensor(psi0, dtype=torch.float64)
        if not psi0.ndim:
            return lambda places: torch.full_like(places[:, 0], float(psi0))
        cells = self.task.column.cells_of_layers[layer]
        z, values = -np.asarray(grid.depth)[cells][::-1], psi0.numpy()[..., cells][..., ::-1]
        return Profile(z, values)

    def _data(self, days: Tensor, count: int) -> list[Data]:
        """Observations by series and layer; points where no member has any are left out."""
        found, edges = [], [self.task.column.grid.edges[c.stop] for c in self.task.column.cells_of_layers]
        for o in self.task.observed:
            depth = np.atleast_1d(np.asarray(o.depth, float))
            shape = (len(days), self.task.unknowns.columns, len(depth))
            values, sigma = o.values.reshape(shape), o.sigma.expand_as(o.values).reshape(shape)
            at = torch.stack(torch.meshgrid(days, -torch.as_tensor(depth), indexing="ij"), dim=-1)
            there = ~values.isnan().all(1)
            layer = torch.as_tensor(np.searchsorted(edges, depth))
            for i in sorted(set(layer.tolist())):
                mine = there & (layer == i)
                v, s = (x.movedim(1, -1)[mine].T for x in (values, sigma))
                found.append(Data(o.kind, at[mine], v, s, o.log, count - 1 - i))
        return found

    def _head(self) -> float:
        """Scale of heads: the median of measured suctions, or 30 cm."""
        heads = [o.values[~o.values.isnan()].abs() for o in self.task.observed if o.kind == "psi"]
        return float(torch.cat(heads).median()) if heads else 30.0

    def _flux(self, days: Tensor) -> float:
        """Scale of fluxes where none is known."""
        contents = [o.values for o in self.task.observed if o.kind == "theta"]
        return storage_rate(days, contents[0], float(self.task.column.grid.edges[-1])) if contents else 1.0


def _in_turn(sizes: Sequence[int], first: int = 0) -> list[slice]:
    """Places of so many values one after the other."""
    edges = [first + sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]


def days_of(task: Inversion) -> np.ndarray:
    """Edges of intervals (T + 1,), days since the first."""
    edges = task.forcing.time_edge
    return (edges - edges[0]) / np.timedelta64(1, "D")


def _check(task: Inversion) -> None:
    if task.column.sinks:
        raise ConfigError("Networks learn columns without sinks.")
    for o in task.observed:
        if o.kind not in ("theta", "psi") or o.support:
            raise ConfigError(f"Networks learn from theta and psi at points, not from {o.name}.")
    for layer, p in enumerate(task.unknowns.setting.p):
        for name, v in p.items():
            if isinstance(v, Tensor | np.ndarray) and np.prod(v.shape) > 1:
                raise ConfigError(
                    f"{name} of layer {layer} has {tuple(v.shape)} values: networks know one for all columns and "
                    "cells; give a number, or learn columns one by one."
                )
    if not task.unknowns.apart:
        raise ConfigError("Columns that share unknowns cannot be learned side by side: give every column its own.")
    for u in task.unknowns.items:
        if u.keys[0][0] == "soil" and u.free.size > 1:
            raise ConfigError(f"{u.label}: networks do not know soils by cell.")
