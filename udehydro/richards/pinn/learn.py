"""Learning the curves of soils from sensors by networks, from the same :class:`Inversion` that the column is fitted to.

The state between sensors, at the start and at unknown boundaries is what the networks find; known boundaries and known
states are used. Curves come out as unknowns of the inversion, ready to be polished on the column.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.richards.column.boundary import Atmospheric, Flux, FreeDrainage, Head
from udehydro.richards.column.problem import place
from udehydro.richards.inversion.curves import Bands
from udehydro.richards.inversion.fit import Fitted, fit
from udehydro.richards.inversion.free import Free
from udehydro.richards.inversion.gauge import check_gauge, refuse
from udehydro.richards.inversion.inversion import Inversion
from udehydro.richards.inversion.visited import bands
from udehydro.richards.pinn.field import Box, Profile
from udehydro.richards.pinn.problem import Counts, Data, Problem, Region, Wall, Weights
from udehydro.richards.pinn.soil import Soil
from udehydro.richards.pinn.solution import Solution
from udehydro.richards.pinn.system import Extra
from udehydro.richards.pinn.train import Adam, Levenberg
from udehydro.training.levenberg import Normal, covariance_of

RAMP = (0.1, 0.03, 0.01, 0.003)
"""Size of residuals of the physics, in units of the scales, that counts as one standard deviation: stage by stage."""


@dataclass(eq=False)
class Learned:
    """What networks have found of an inversion.

    Attributes
    ----------
    task : what was asked.
    solution : fields of all members.
    x : (members, P) search vector of the task, with the unknowns of soils as found; others where they started.
    misfit : (members,) chi2 by observation; ``physics`` (members,) root mean square of all residuals of the physics, in
        units of the scales, at points no stage has seen.
    """

    task: Inversion
    solution: Solution
    x: Tensor
    normal: Normal
    misfit: Tensor
    physics: Tensor
    places: list[slice]

    @property
    def values(self) -> Tensor:
        """(members, P) in physical units, in the order of ``task.unknowns.names``."""
        return self.task.unknowns.physical(self.x)

    def curves(self, psi: Tensor, layer: int = 0) -> Bands:
        """Curves (members, N) at heads [cm] with standard deviations, by Laplace's approximation: data, physics and
        priors linearised, networks marginal."""
        if self.task.forcing.batch:
            return bands(self._fitted(slice(None)), psi, layer)
        each = [bands(self._fitted(slice(m, m + 1)), psi, layer) for m in range(len(self.x))]
        return Bands(*(torch.stack(parts) for parts in zip(*each, strict=True)))

    def _fitted(self, which: slice) -> Fitted:
        """Members as the result of a fit of the column, with the networks marginal; nothing is known of what they do
        not find."""
        soils = self.solution.extra.values.shape[1]
        inner = covariance_of(self.normal.normal[which])[:, -soils:, -soils:]
        x = self.x[which]
        precision = torch.zeros(*x.shape, x.shape[1], dtype=x.dtype, device=x.device)
        at = torch.cat([torch.arange(p.start, p.stop, device=x.device) for p in self.places])
        precision[:, at[:, None], at[None, :]] = torch.linalg.inv(inner)
        none = torch.zeros(len(x), device=x.device)
        return Fitted(self.task, x, self.normal.chi2[which], {}, {}, precision, none, none)

    def polish(self, **how) -> Fitted:
        """Fit the column, from the curves found on; ``how`` as for :func:`~udehydro.richards.inversion.fit`.

        One column with several members starts from the one whose physics holds best.
        """
        x = self.x if self.task.forcing.batch else self.x[self.best : self.best + 1]
        return fit(self.task, x=x, **{"gauge": "ignore"} | how)

    @property
    def best(self) -> int:
        """The member with the least misfit of data and physics together."""
        return int(self.normal.chi2.argmin())


def learn(
    task: Inversion,
    *,
    seeds: Sequence[int] = (0,),
    ramp: Sequence[float] = RAMP,
    steps: int = 60,
    first: Adam | None = None,
    counts: Counts | None = None,
    width: int = 14,
    depth: int = 3,
    boundaries: bool = True,
    start: bool = True,
    gauge: Literal["warn", "refuse", "ignore"] = "warn",
    stretch: bool = True,
    early: float = 0.0,
    form: str = "mixed",
    progress: bool = False,
) -> Learned:
    """Find curves of soils from sensors.

    Parameters
    ----------
    task : column, forcing, soils with Free values, observations of theta and psi. Columns of a batch are members, each
        with data and unknowns of its own; one column has a member for every seed.
    seeds : of the networks.
    ramp, steps, first : stages: of Levenberg's steps as many for each of the ramp, after steps of Adam.
    counts, width, depth, stretch, early, form : of the networks and their problem, see :class:`Problem`.
    boundaries, start : whether known boundaries and a known state at the start are used.
    gauge : as for :func:`~udehydro.richards.inversion.fit`.

    Raises
    ------
    ConfigError
        For what networks do not know: sinks, observations but theta and psi, support of sensors, unknowns that columns
        share, and soils by cell.
    """
    if gauge != "ignore":
        found = check_gauge(task)
        if gauge == "refuse":
            refuse(found)
        if found.open:
            warnings.warn(f"The data do not determine the curves:\n{found}", stacklevel=2)
    bridge = Bridge(task, seeds, boundaries, start)
    fields, extra, last, system = None, bridge.extra(), None, None
    stages = [(first or Adam(500), ramp[0]), *((Levenberg(steps), tolerance) for tolerance in ramp)]
    for i, (stage, tolerance) in enumerate(stages):
        problem = bridge.problem(tolerance, form=form, stretch=stretch, early=early)
        fields = problem.fields(bridge.seeds, width, depth) if fields is None else fields
        system = problem.system(fields, 100 * i, counts or Counts(2000, 200), extra)
        name = f"{type(stage).__name__}, physics to {tolerance:g}" if progress else None
        last, extra = stage(system, name), system.extra
    terms = [t.name for t in system.terms]
    parts = dict(zip([*terms, "known beforehand"], last.parts.unbind(1), strict=True))
    solution = Solution(problem, fields, extra, last.chi2, parts)
    measured = [i for i, t in enumerate(system.terms) if not t.mean]
    counts_ = bridge.measured()
    misfit = sum(last.parts[:, i] for i in measured) / counts_
    held = [v for t, v in solution.held_out().items() if t in {u.name for u in system.terms if u.mean}]
    physics = torch.stack(held).square().mean(0).sqrt()
    return Learned(task, solution, bridge.x(extra), last, misfit, physics, bridge.places)


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
        self.places = [u.place for u in self.items]
        self.inner, edge = [], 0
        for u in self.items:
            self.inner.append(slice(edge, edge + u.free.size))
            edge += u.free.size
        self.count = edge

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

    def problem(self, tolerance: float, **how) -> Problem:
        task = self.task
        column, days = task.column, torch.as_tensor(_days(task))
        top, events = self._top(days)
        box = [(-float(column.grid.edges[c.stop]), -float(column.grid.edges[c.start])) for c in column.cells_of_layers]
        regions = [self._region(i, days, edges, events) for i, edges in enumerate(box)][::-1]
        count = len(regions)
        walls = [] if top is None else [Wall("flux", top, region=count - 1)]
        walls += self._bottom()
        scale = float(top(days.unsqueeze(1)).abs().max()) if top is not None else self._flux()
        weights = Weights(physics=float(self.measured().max()) / tolerance**2)
        return Problem(regions, walls, scale, self._head(), self._data(days, count), weights=weights, **how)

    def _region(self, i: int, days: Tensor, edges: tuple[float, float], events) -> Region:
        low, high = edges
        soil = Soil(self.task.column.layers[i].law, lambda extra: self._values(i, extra))
        return Region(Box((0.0, low), (float(days[-1]), high)), soil, self._psi0(i), events, (1,) if i == 0 else ())

    def _values(self, layer: int, extra: Tensor) -> dict:
        values = dict(self.task.unknowns.setting.p[layer])
        for u, inner in zip(self.items, self.inner, strict=True):
            for _, i, name in u.keys:
                if i == layer:
                    values[name] = u.coordinate.back(extra[..., inner])[..., 0]
        return values

    def _top(self, days: Tensor):
        """Known flux through the surface as a function of points, and when it jumps."""
        top, task = self.task.column.top, self.task
        names = {Flux: ("q",), Atmospheric: ("evaporation", "rain")}.get(type(top), ())
        values = [getattr(top, n) for n in names]
        if not self.boundaries or not names or any(isinstance(v, Free) for v in values):
            return None, ()
        series = [
            place(task.column, task.forcing, ("top", 0, n), v)[..., 0] for n, v in zip(names, values, strict=True)
        ]
        flux = (series[0] if len(series) == 1 else series[0] - series[1]).expand(len(days) - 1, -1)
        if bool((flux != flux[:, :1]).any()):
            raise ConfigError("Columns with surface fluxes of their own are learned one by one.")
        flux = flux[:, 0]
        jumps = torch.cat([torch.ones(1, dtype=torch.bool), flux.diff() != 0.0])
        inner = days[1:-1].contiguous()

        def at(points: Tensor) -> Tensor:
            return flux[torch.bucketize(points[:, 0].contiguous(), inner, right=True)]

        return at, tuple(days[:-1][jumps].tolist())

    def _bottom(self) -> list[Wall]:
        bottom = self.task.column.bottom
        if not self.boundaries:
            return []
        if isinstance(bottom, FreeDrainage):
            return [Wall("drainage", upper=False)]
        for kind, name, cls in (("flux", "q", Flux), ("head", "psi", Head)):
            value = getattr(bottom, name, None)
            if isinstance(bottom, cls) and isinstance(value, int | float):
                return [Wall(kind, float(value), upper=False)]
        return []

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

    def _flux(self) -> float:
        """Scale of fluxes where none is known: what data say of the change of water in a day."""
        for o in self.task.observed:
            if o.kind == "theta":
                rates = o.values.diff(dim=0).abs() / torch.as_tensor(_days(self.task)).diff().reshape(
                    -1, *(1,) * (o.values.ndim - 1)
                )
                return max(
                    float(rates[~rates.isnan()].quantile(0.9)) * float(self.task.column.grid.edges[-1]) * 0.5, 1e-3
                )
        return 1.0


def _days(task: Inversion) -> np.ndarray:
    edges = task.forcing.time_edge
    return (edges - edges[0]) / np.timedelta64(1, "D")


def _check(task: Inversion) -> None:
    if task.column.sinks:
        raise ConfigError("Networks learn columns without sinks.")
    if task.weights is not None:
        raise ConfigError("Weights of laws as unknowns are for the column's fit; take a law with free='parameters'.")
    for o in task.observed:
        if o.kind not in ("theta", "psi") or o.support:
            raise ConfigError(f"Networks learn from theta and psi at points, not from {o.name}.")
    if not task.unknowns.apart:
        raise ConfigError("Columns that share unknowns cannot be learned side by side: give every column its own.")
    for u in task.unknowns.items:
        if u.keys[0][0] == "soil" and u.free.size > 1:
            raise ConfigError(f"{u.label}: networks do not know soils by cell.")
