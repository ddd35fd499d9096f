"""verify: are the adjoint sensitivities of a model right? Every kind of them against central differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from udehydro.balance import Balance
from udehydro.errors import ConfigError
from udehydro.forcing import Forcing
from udehydro.sensitivity.adjoint import Adjoint, adjoint
from udehydro.sensitivity.checks import STEPS, differences, own_size
from udehydro.sensitivity.objectives import Objective
from udehydro.sensitivity.perturbed import PREFIX, perturbed
from udehydro.sensitivity.start import given_start
from udehydro.simulate import simulate
from udehydro.simulation import Simulation
from udehydro.solvers import Automatic
from udehydro.solvers.one_step import OneStep
from udehydro.structure import suggest

KINDS = ("parameters", "storage0", "lambda", "forcing", "flux", "weights")
TOLERANCE = 1e-12
BYTES = 2**28
"""Memory that the copies run side by side may take."""


def verify(
    model: Balance,
    forcing: Forcing,
    objectives: Mapping[str, Objective],
    *,
    theta: Mapping[str, Tensor | float] | None = None,
    storage0: Tensor | Mapping[str, Tensor | float],
    solver: OneStep | None = None,
    days: int = 4,
    steps: Sequence[float] = STEPS,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Compare :func:`adjoint` with central differences for every quantity it returns.

    Quantities are ``parameters`` and ``storage0`` (all of them, by relative changes), ``lambda`` (all stores at some
    edges), ``forcing`` and ``flux`` series by name (some intervals), and ``weights`` (random directions, of the sum
    over the batch). Copies of the record are run side by side, and all objectives are taken from the same runs.

    Parameters
    ----------
    objectives : by name.
    theta, storage0 : as in :func:`adjoint`; parameters that vary in time are left out.
    solver : ``Automatic`` with a residual of 1e-12 mm by default, which leaves differences little noise.
    days : random intervals of every series, edges, and directions; the interval that matters most to each objective
        is added to those of a series.
    steps : relative for parameters, storages and weights, in their units for series.
    kinds : of quantities, if not all.

    Returns
    -------
    Table with a row per objective, quantity and basin: ``error`` (relative, in norm, at the best step), ``kinks`` left
    out of ``entries`` there, ``round_off`` of the differences as a share of the gradient, below which an error means
    nothing, and ``unseen``: whether that leaves nothing to compare.

    Raises
    ------
    ConfigError
        For a forcing with members, or in another precision than float64.
    """
    if len(forcing.batch) > 1:
        raise ConfigError(f"verify() makes members of its own; the forcing has a batch of shape {forcing.batch}.")
    if forcing.like.dtype != torch.float64:
        raise ConfigError(
            f"Differences of runs in {forcing.like.dtype} are round-off: take forcing.to(dtype=torch.float64)."
        )
    solver = Automatic(tolerance=TOLERANCE, warm_start=False) if solver is None else solver
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"There is no kind '{kind}' of derivatives.{suggest(kind, KINDS)}")
    task = _Task(model, forcing, objectives, theta, storage0, solver, days, seed, tuple(kinds))
    rows = []
    for make in tqdm(task.makers, "verify", disable=not progress, leave=False):
        kind, gradient, function = make()
        zero = torch.zeros(len(gradient), dtype=gradient.dtype, device=gradient.device)
        found = differences(function, zero, steps=steps).against(gradient)
        whole = found.error.ndim == 1  # of the sum over the batch
        parts = (found.error, found.excluded, found.round_off, found.unseen)
        parts = [v.reshape(len(objectives), -1).tolist() for v in parts]  # [objective][basin]
        for i, objective in enumerate(objectives):
            for b, name in enumerate(["all"] if whole else forcing.basins or range(math.prod(forcing.batch))):
                error, kinks, *rest = (v[i][b] for v in parts)
                rows.append((objective, kind, str(name), error, kinks, found.size, *rest))
    names = ["objective", "quantity", "basin", "error", "kinks", "entries", "round_off", "unseen"]
    return pd.DataFrame(rows, columns=names)


Quantity = tuple[str, Tensor, Callable[[Tensor], Tensor]]
"""Name, gradient (n, objectives, *batch), and points (N, n) -> objectives (N, objectives, *batch)."""


@dataclass
class _Task:
    """What is differentiated. Points are shifts from where the model stands, each by its own size."""

    model: Balance
    forcing: Forcing
    objectives: Mapping[str, Objective]
    theta: Mapping[str, Tensor | float] | None
    storage0: Tensor | Mapping[str, Tensor | float]
    solver: OneStep
    days: int
    seed: int
    kinds: Sequence[str]

    def __post_init__(self):
        self.generator = torch.Generator().manual_seed(self.seed)
        self.start = given_start(self.model, self.forcing, self.storage0)
        batch, given = self.forcing.batch, self.model.theta(self.theta, self.forcing.like)
        self.given = {n: v.detach() for n, v in zip(self.model.parameter_names, given, strict=True)}
        self.static = {n: v.expand(batch) for n, v in self.given.items() if v.ndim <= len(batch)}
        fluxes = "flux" in self.kinds  # the only kind that needs the larger model
        options = dict(theta=self.given, storage0=self.start, solver=self.solver, fluxes=fluxes)
        self.found = [adjoint(self.model, self.forcing, o, **options) for o in self.objectives.values()]
        self.named, self.record = perturbed(self.model, self.forcing) if fluxes else (self.model, self.forcing)
        learned = any(p.requires_grad for p in self.model.parameters())
        makers: list[tuple[str, Callable[[], Quantity]]] = [("parameters", self.parameters)] if self.static else []
        makers += [("storage0", self.storages), ("lambda", self.edges)]
        for name in self.named.forcing_names:
            makers.append(("flux" if name.startswith(PREFIX) else "forcing", partial(self.series, name)))
        makers += [("weights", self.weights)] if learned else []
        self.makers = [make for kind, make in makers if kind in self.kinds]

    def gradient(self, of: Callable[[Adjoint], Sequence[Tensor]]) -> Tensor:
        """Entries of the adjoint of every objective, (n, objectives, *batch)."""
        return torch.stack([torch.stack(list(of(a))) for a in self.found], dim=1)

    def parameters(self) -> Quantity:
        static = self.static
        size = {n: own_size(v) for n, v in static.items()}

        def function(points: Tensor) -> Tensor:
            moved = {n: v + size[n] * self._per_member(points[:, j]) for j, (n, v) in enumerate(static.items())}
            return self.run(len(points), theta=moved)

        return "parameters", self.gradient(lambda a: [a.parameters[n] * size[n] for n in static]), function

    def storages(self) -> Quantity:
        size = own_size(self.start)

        def function(points: Tensor) -> Tensor:
            shifts = points.reshape(len(points), *(1,) * len(self.forcing.batch), -1)
            return self.run(len(points), storage0=self.start + size * shifts)

        grown = dict(zip(self.model.store_names, size.unbind(-1), strict=True))
        return "storage0", self.gradient(lambda a: [a.storage0[n] * grown[n] for n in grown]), function

    def edges(self) -> Quantity:
        """Lambda: water added to a store at an edge, the run going on from there."""
        base, names = self.found[0].run, self.model.store_names
        at = (1 + torch.randperm(len(self.forcing) - 1, generator=self.generator, device="cpu")[: self.days]).tolist()

        def function(points: Tensor) -> Tensor:
            here, shifts = self._evaluated(base), points.reshape(len(points), len(at), len(names))
            found = here.expand(len(points), *here.shape).clone()
            for i, k in enumerate(at):
                own = shifts[:, i].any(1).nonzero()[:, 0]
                if len(own):
                    found[own] += self._going_on(base, k, shifts[own, i]) - here
            return found

        return "lambda", self.gradient(lambda a: [a.storage[n][k] for k in at for n in names]), function

    def _going_on(self, base: Simulation, k: int, shifts: Tensor) -> Tensor:
        """Objectives (N, objectives, *batch) where the storage at edge k is shifted by (N, S)."""
        count, rest = len(shifts), slice(k, len(self.forcing))
        start = base.storage[k] + shifts.reshape(count, *(1,) * len(self.forcing.batch), -1)
        with torch.no_grad():
            tail = simulate(
                self.model, self.forcing.isel(rest).with_members(count), theta=self._theta(count, rest),
                storage0=start, solver=self.solver.over(rest),
            )  # fmt: skip
        joined = [
            torch.cat([head[:k].unsqueeze(1).expand(k, *own.shape[1:]), own])
            for head, own in ((base.storage, tail.storage), (base.volume, tail.volume))
        ]
        run = replace(tail, forcing=self.forcing.with_members(count), storage=joined[0], volume=joined[1])
        return self._evaluated(run)

    def series(self, name: str) -> Quantity:
        """A forcing, or the rate added to a flux: some random intervals, and those that matter most."""
        flux = name.startswith(PREFIX)
        key = name.removeprefix(PREFIX)
        adjoints = torch.stack([(a.fluxes if flux else a.forcing)[key] for a in self.found])  # (objectives, T, *batch)
        batch = self.forcing.batch
        drawn = torch.randperm(len(self.forcing), generator=self.generator, device="cpu")[: self.days]
        drawn = drawn.to(adjoints.device).reshape(-1, *(1,) * len(batch)).expand(-1, *batch)
        at = torch.cat([drawn, adjoints.abs().argmax(1)])
        here = torch.arange(len(self.forcing), device=at.device).reshape(-1, *(1,) * at.ndim)
        # an interval drawn twice counts once
        first = torch.stack([(at[:i] != at[i]).all(0) if i else torch.ones_like(at[0] == 0) for i in range(len(at))])
        hit = ((here == at) & first).to(adjoints.dtype)  # (T, n, *batch)

        def function(points: Tensor) -> Tensor:
            moves = torch.einsum("mn,tn...->tm...", points, hit)
            return self.run(len(points), moves={name: moves})

        gradient = torch.einsum("tn...,ot...->no...", hit, adjoints)
        return f"{'flux' if flux else 'forcing'} {key}", gradient, function

    def weights(self) -> Quantity:
        """Random directions in the space of all weights; of the sum over the batch."""
        own = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        begin = {n: p.detach().clone() for n, p in own.items()}
        directions = [{n: own_size(p) * self._drawn(p) for n, p in begin.items()} for _ in range(self.days)]

        def function(points: Tensor) -> Tensor:
            values = []
            try:
                for point in points:
                    for n, p in own.items():
                        p.data = begin[n] + sum(s * d[n] for s, d in zip(point, directions, strict=True))
                    values.append(self.run(1).reshape(len(self.objectives), -1).sum(1))
            finally:
                for n, p in own.items():
                    p.data = begin[n]
            return torch.stack(values)

        slopes = [[sum((a.weights[n] * d[n]).sum() for n in own) for a in self.found] for d in directions]
        return "weights", torch.stack([torch.stack(row) for row in slopes]), function

    def run(self, count: int, *, theta=None, storage0=None, moves: Mapping[str, Tensor] | None = None) -> Tensor:
        """Objectives (count, objectives, *batch) of copies that differ in what is given, as many at a time as fit."""
        named, record = (self.model, self.forcing) if moves is None else (self.named, self.record)
        one = len(record) * math.prod(record.batch) * record.like.element_size()
        one *= len(named.store_names) + len(named.flux_names) + len(named.forcing_names)
        most = max(1, BYTES // one)
        found = []
        for part in (slice(i, min(i + most, count)) for i in range(0, count, most)):
            here = record.with_members(part.stop - part.start)
            values = {n: here.values[n] + m[:, part] for n, m in (moves or {}).items()}
            here = replace(here, values={**here.values, **values})
            own = self._theta(part.stop - part.start) | {n: v[part] for n, v in (theta or {}).items()}
            start = self.start if storage0 is None else storage0[part]
            with torch.no_grad():
                found.append(self._evaluated(simulate(named, here, theta=own, storage0=start, solver=self.solver)))
        return torch.cat(found)

    def _theta(self, count: int, part: slice = slice(None)) -> dict[str, Tensor]:
        """Parameters for ``count`` members over some intervals."""
        varying = {n: v.expand(len(self.forcing), *v.shape[1:])[part] for n, v in self.given.items()
                   if n not in self.static}  # fmt: skip
        return self.static | {n: v.unsqueeze(1).expand(-1, count, *v.shape[1:]) for n, v in varying.items()}

    def _evaluated(self, run: Simulation) -> Tensor:
        """All objectives of a run, (objectives, *batch), with a leading axis where it has members."""
        axis = len(run.forcing.batch) - len(self.forcing.batch)
        return torch.stack([o(run) for o in self.objectives.values()], dim=axis)

    def _drawn(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype, device="cpu").to(like.device)

    def _per_member(self, column: Tensor) -> Tensor:
        return column.reshape(-1, *(1,) * len(self.forcing.batch))
