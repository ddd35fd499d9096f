"""Nonlinear least squares through the solver: many members side by side, each with its own free values.

Levenberg-Marquardt on forward sensitivities. For some tens of free values it needs a small part of the runs that a
gradient method does, and its last normal equations are the Fisher information. A member is a start, a seed, or a
candidate: what is free may differ between members, so candidates of unlike structure that share one model are fitted as
one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import ConfigError, DataError, SolverError
from udehydro.forcing import Forcing
from udehydro.parameters import INITIAL
from udehydro.simulate import pose
from udehydro.solvers import Automatic, forward_sensitivity
from udehydro.solvers.one_step import OneStep
from udehydro.solvers.problem import Problem
from udehydro.structure import OUTLET, Range, suggest
from udehydro.training.gaussian import Gaussian
from udehydro.training.levenberg import Normal, minimise
from udehydro.training.observed import Observed

BYTES = 2**28
"""Memory that the derivatives of members solved together may take."""
RUNS = 100
"""Runs that a solver which chooses its driver is told to expect."""
_PER_MEMBER = ("mask", "chi2", "normal", "iterations", "converged")


@dataclass(frozen=True)
class LeastSquares:
    """Result for M members.

    Attributes
    ----------
    values : parameters and initial storages by name, (M,), physical units.
    free : names that were free in some member; ``mask`` (M, P) says in which.
    chi2 : sum of squared residuals in units of their standard deviation (M,); infinite where no run succeeded.
    parts : chi2 by observed series; ``counts`` : residuals by series.
    normal : J^T J at the solution (M, P, P), physical units, zero where a value is not free.
    iterations : accepted and refused steps (M,); ``converged`` (M,) where they stopped gaining.
    """

    values: dict[str, Tensor]
    free: tuple[str, ...]
    mask: Tensor
    chi2: Tensor
    parts: dict[str, Tensor]
    counts: dict[str, int]
    normal: Tensor = field(repr=False)
    iterations: Tensor = field(repr=False)
    converged: Tensor = field(repr=False)

    @property
    def count(self) -> int:
        """Residuals in all."""
        return sum(self.counts.values())

    def take(self, index: Tensor) -> LeastSquares:
        """Some members, in the order of ``index``."""
        own = {n: getattr(self, n)[index] for n in _PER_MEMBER}
        values, parts = ({n: v[index] for n, v in d.items()} for d in (self.values, self.parts))
        return replace(self, values=values, parts=parts, **own)

    def joined(self, other: LeastSquares) -> LeastSquares:
        """These members and, behind them, those of another fit of the same values."""
        own = {n: torch.cat([getattr(self, n), getattr(other, n)]) for n in _PER_MEMBER}
        values = {n: torch.cat([v, other.values[n]]) for n, v in self.values.items()}
        parts = {n: torch.cat([v, other.parts[n]]) for n, v in self.parts.items()}
        return replace(self, values=values, parts=parts, **own)

    def best_by(self, owner: Tensor, count: int) -> LeastSquares:
        """Of ``count`` owners the member of lowest chi2 each, ``owner`` (M,) saying whose the members are."""
        own = [(owner == i).nonzero()[:, 0] for i in range(count)]
        return self.take(torch.stack([members[self.chi2[members].argmin()] for members in own]))

    def covariance(self, member: int = 0) -> tuple[tuple[str, ...], Tensor]:
        """Names of the free values of a member, and their covariance for residuals of unit variance.

        The pseudo-inverse of the normal matrix where that is singular (scaled, at 1e-12).
        """
        index = self.mask[member].nonzero()[:, 0]
        normal = self.normal[member][index][:, index]
        scale = normal.diagonal().clamp_min(1e-300).rsqrt()
        inverse = torch.linalg.pinv(scale[:, None] * normal * scale, hermitian=True, rtol=1e-12)
        return tuple(self.free[i] for i in index.tolist()), scale[:, None] * inverse * scale


def least_squares(
    model: Balance,
    forcing: Forcing,
    observed: Sequence[Observed],
    start: Mapping[str, Tensor | float],
    free: Sequence[str] | Mapping[str, Tensor],
    *,
    score: slice | None = None,
    solver: OneStep | None = None,
    steps: int = 50,
    tolerance: float = 1e-6,
    stop: float | Tensor | None = None,
    isotropic: float = 0.0,
    ranges: Mapping[str, Range] | None = None,
    progress: str | None = None,
) -> LeastSquares:
    """Fit parameters and initial storages of every member to observed series.

    Parameters
    ----------
    forcing : record with batch (members, basins); the basins of a member share its values.
    observed : series with :class:`Gaussian` losses; their values may have the batch (1, basins), the same for all
        members. Weights are not used: ``sigma`` weighs.
    start : value (M,) or number of every parameter and of every store's initial storage.
    free : names to fit, or name -> mask (M,) of the members in which it is free.
    score : intervals whose residuals count; all by default.
    steps : most runs. A member stops where a step gains less than ``tolerance`` of its chi2.
    stop : chi2 at which a member stops early, a number or (M,): against fitting the noise with a network.
    isotropic : 0 damps every value by its own curvature (Marquardt), whatever its unit; 1 all alike (Levenberg), which
        keeps weights of a network that matter little from running off.
    ranges : of initial storages (0 to 2000 mm where none is given), and in place of what the model declares; values
        stay inside, and are moved in the logarithm where the range is above zero and spans more than a factor of 100.
    progress : label of the progress bar.

    Raises
    ------
    ConfigError, DataError
        For names or shapes that do not fit.
    """
    observed = (observed,) if isinstance(observed, Observed) else observed
    free = (free,) if isinstance(free, str) else free
    if isinstance(observed, Tensor) or not all(isinstance(o, Observed) for o in observed):
        raise ConfigError("observed is one or several Observed(name, values, Gaussian(sigma)).")
    task = _Task(model, forcing, observed, start, free, score, solver or Automatic(), ranges or {})
    return task.fit(steps, tolerance, stop, isotropic, progress)


class _Task:
    """What is fitted, in the coordinates that Levenberg-Marquardt moves: values, or logarithms of them."""

    def __init__(self, model, forcing, observed, start, free, score, solver, ranges):
        if len(forcing.batch) != 2:
            raise ConfigError(f"The forcing has batch {forcing.batch}, needs (members, basins): with_members(M).")
        if isinstance(solver, Automatic):
            # many runs are to come, of members that leave one by one: compiling pays, guesses do not
            solver = replace(solver, runs=max(solver.runs, RUNS), warm_start=False)
        self.model, self.forcing, self.solver = model, forcing, solver
        self.members, self.like = forcing.batch[0], forcing.like
        known = (*model.parameter_names, *model.store_names)
        for name in (*start, *free):
            if name not in known:
                raise ConfigError(f"No parameter or store is called '{name}'.{suggest(name, known)}")
        missing = [n for n in known if n not in start]
        declared = model.structure.parameters
        if absent := [n for n in missing if n not in declared]:
            raise ConfigError(f"The start has no initial storage of {', '.join(absent)}.")
        values = {n: start.get(n, declared[n].default if n in declared else None) for n in known}
        self.values = {n: self._column(n, v) for n, v in values.items()}
        self.free = tuple(n for n in known if n in free)
        if not self.free:
            raise ConfigError("Nothing is free to be fitted: name parameters, or stores for their initial storage.")
        masks = free if isinstance(free, Mapping) else dict.fromkeys(free, torch.ones(self.members, dtype=torch.bool))
        device = self.like.device
        self.mask = torch.stack([self._mask(n, masks[n]).to(device) for n in self.free], dim=1)
        ranges = {n: ranges.get(n) or declared.get(n) or self._storage_range(n) for n in self.free}
        self.logarithmic = torch.tensor([bool(r and r.logarithmic) for r in ranges.values()], device=device)
        bounds = [(r.low, r.high) if r else (-torch.inf, torch.inf) for r in ranges.values()]
        self.low, self.high = self._coordinates(torch.tensor(bounds, dtype=self.like.dtype, device=device).T)
        names = [o.name for o in observed]
        labels = [f"{n} ({i})" if names.count(n) > 1 else n for i, n in enumerate(names)]
        self.series = [_Series(o, n, model, forcing, score) for o, n in zip(observed, labels, strict=True)]
        self.wanted_stores = tuple(dict.fromkeys(s.store for s in self.series if s.store))
        self.wanted_fluxes = tuple(dict.fromkeys(f for s in self.series for f in s.fluxes))
        # where a member has fewer free values than others, its last columns are idle
        order = torch.argsort((~self.mask).to(torch.int8), dim=1, stable=True)
        self.columns = order[:, : max(1, int(self.mask.sum(1).max()))]
        self.active = torch.gather(self.mask, 1, self.columns)
        place = torch.tensor([known.index(n) for n in self.free], device=device)
        self.which = torch.where(self.active, place[self.columns], -1)

    def _storage_range(self, store: str) -> Range | None:
        """Of an initial storage for which none is given: where the data do not feel it, it would run off."""
        s = self.model.structure
        if s.stores[store] != INITIAL.unit or store in s.signed_stores:
            return None
        low, high = float(self.values[store].min()), 2.0 * float(self.values[store].max())
        return replace(INITIAL, low=min(INITIAL.low, low), high=max(INITIAL.high, high))

    def _column(self, name: str, value) -> Tensor:
        value = torch.as_tensor(value, dtype=self.like.dtype, device=self.like.device).reshape(-1)
        if len(value) not in (1, self.members):
            raise ConfigError(f"The start of '{name}' has {len(value)} values for {self.members} members.")
        return value.expand(self.members).clone()

    def _mask(self, name: str, mask) -> Tensor:
        mask = torch.as_tensor(mask).reshape(-1)
        if mask.dtype != torch.bool or len(mask) not in (1, self.members):
            raise ConfigError(f"free['{name}'] has to be a mask of {self.members} booleans, one for each member.")
        return mask.expand(self.members)

    def _coordinates(self, values: Tensor) -> Tensor:
        return torch.where(self.logarithmic, torch.log(values.clamp_min(1e-300)), values)

    def _physical(self, x: Tensor) -> Tensor:
        return torch.where(self.logarithmic, torch.exp(x), x)

    def start(self) -> Tensor:
        """Coordinates (M, P) of the columns of every member."""
        x = self._coordinates(torch.stack([self.values[n] for n in self.free], dim=1))
        return torch.gather(torch.minimum(torch.maximum(x, self.low), self.high), 1, self.columns)

    def all_values(self, x: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Every value by name (m,) of the members ``index`` at x (m, P)."""
        every = torch.stack([self.values[n][index] for n in self.free], dim=1)
        moved = torch.gather(self._coordinates(every), 1, self.columns[index])
        full = self._coordinates(every).scatter(1, self.columns[index], torch.where(self.active[index], x, moved))
        full = torch.where(self.mask[index], self._physical(full), every)
        return {n: v[index] for n, v in self.values.items()} | dict(zip(self.free, full.unbind(1), strict=True))

    def fit(self, steps: int, tolerance: float, stop, isotropic: float, progress) -> LeastSquares:
        everyone = torch.arange(self.members, device=self.low.device)
        low, high = (b[self.columns] for b in (self.low, self.high))
        x, now, iterations, converged = minimise(
            self.evaluate, self.start(), low, high, self.active,
            steps=steps, tolerance=tolerance, stop=stop, isotropic=isotropic, progress=progress,
        )  # fmt: skip
        return self._result(x, now, everyone, iterations, converged)

    def _result(self, x, now, everyone, iterations, converged) -> LeastSquares:
        values = self.all_values(x, everyone)
        scale = torch.where(self.logarithmic[self.columns], self._physical_columns(x), torch.ones_like(x))
        scale = torch.where(self.active, scale, torch.ones_like(x))
        normal = now.normal / (scale[:, :, None] * scale[:, None, :])
        full = normal.new_zeros(self.members, len(self.free), len(self.free))
        rows = self.columns[:, :, None].expand(-1, -1, normal.shape[-1])
        columns = self.columns[:, None, :].expand(-1, len(self.free), -1)
        wide = torch.zeros_like(full[:, :, : normal.shape[-1]]).scatter(1, rows, normal)
        full = full.scatter(2, columns, wide)
        parts = {s.name: now.parts[:, i] for i, s in enumerate(self.series)}
        counts = {s.name: s.count for s in self.series}
        return LeastSquares(values, self.free, self.mask, now.chi2, parts, counts, full, iterations, converged)

    def _physical_columns(self, x: Tensor) -> Tensor:
        return torch.where(self.logarithmic[self.columns], torch.exp(x), x)

    def evaluate(self, x: Tensor, index: Tensor) -> Normal:
        """Normal equations of the members ``index`` at x (m, P); infinite chi2 where a member cannot be simulated."""
        per = 8 * self.columns.shape[1] * len(self.forcing) * self.forcing.batch[1]
        size = max(1, BYTES // (per * (len(self.wanted_stores) + len(self.wanted_fluxes))))
        parts = [self._evaluate(x[i : i + size], index[i : i + size]) for i in range(0, len(index), size)]
        return Normal(*(torch.cat(p) for p in zip(*(p.tensors() for p in parts), strict=True)))

    def _evaluate(self, x: Tensor, index: Tensor) -> Normal:
        try:
            normal = self._linearise(x, index)
        except SolverError as error:
            failed = _members(error, len(index))
            if not bool(failed.any()):
                raise
            # others need not suffer: once more without those that failed
            keep = (~failed).nonzero()[:, 0]
            if not len(keep):
                return Normal.failed(len(index), x.shape[1], len(self.series), x)
            return self._evaluate(x[keep], index[keep]).spread(keep, len(index))
        normal.chi2[~normal.chi2.isfinite()] = torch.inf
        return normal

    def _linearise(self, x: Tensor, index: Tensor) -> Normal:
        values = self.all_values(x, index)
        theta = {n: values[n][:, None] for n in self.model.parameter_names}
        storage0 = torch.stack([values[n] for n in self.model.store_names], dim=-1)[:, None]
        record = _some(self.forcing, index)
        problem = pose(self.model, record, theta)
        found = forward_sensitivity(
            problem, storage0.expand(*record.batch, -1), self.which[index].T[..., None], self.solver,
            stores=self.wanted_stores, fluxes=self.wanted_fluxes,
        )  # fmt: skip
        scale = torch.where(self.logarithmic[self.columns[index]], self._by_columns(values, index), torch.ones_like(x))
        rows, residuals = [], []
        for s in self.series:
            residual, jacobian = s.residuals(problem, found, self.wanted_stores, self.wanted_fluxes, index)
            residuals.append(residual)
            rows.append(jacobian)
        jacobian = torch.cat(rows, dim=-1) * scale[:, :, None]  # (m, P, N)
        residual = torch.cat(residuals, dim=-1)
        parts = torch.stack([r.square().sum(-1) for r in residuals], dim=-1)
        normal = jacobian @ jacobian.mT
        gradient = (jacobian @ residual[..., None])[..., 0]
        return Normal(parts.sum(-1), gradient, normal, parts)

    def _by_columns(self, values: dict[str, Tensor], index: Tensor) -> Tensor:
        return torch.gather(torch.stack([values[n] for n in self.free], dim=1), 1, self.columns[index])


class _Series:
    """An observed series bound to a model: how to read it from a run, and where it counts."""

    def __init__(self, observed: Observed, label: str, model: Balance, forcing: Forcing, score: slice | None):
        self.name, self.error, name = label, observed.loss, observed.name
        structure = model.structure
        groups = dict(structure.groups)
        self.store = name if name in model.store_names else None
        self.fluxes = () if self.store else tuple(groups.get(name, (name,)))
        if not self.store and not set(self.fluxes) <= set(model.flux_names):
            known = (*model.store_names, *model.flux_names, *groups)
            raise ConfigError(f"No store, flux or group is called '{name}'.{suggest(name, known)}")
        sinks = {f.name: (f.sink, f.source) for f in structure.fluxes}
        self.signs = [-1.0 if name == "discharge" and sinks[f][1] == OUTLET else 1.0 for f in self.fluxes]
        values = observed.values.to(forcing.like)
        if not isinstance(self.error, Gaussian):
            raise ConfigError(f"Least squares need a Gaussian loss for '{self.name}', not {self.error!r}.")
        self.edges = bool(self.store) and len(values) == len(forcing) + 1
        if observed.at not in (None, ("edge" if self.edges else "end") if self.store else "mean"):
            raise ConfigError(
                f"Least squares take '{self.name}' at edges or ends of intervals, not at={observed.at!r}."
            )
        if len(values) != len(forcing) + self.edges:
            raise DataError(f"'{self.name}' has {len(values)} values for {len(forcing)} intervals.")
        values = self._by_member(values, forcing)
        if isinstance(self.error.sigma, Tensor) and self.error.sigma.ndim:
            if len(self.error.sigma) != len(values):
                raise DataError(f"'{self.name}' has {len(values)} values and {len(self.error.sigma)} of sigma.")
            sigma = self._by_member(self.error.sigma.to(forcing.like), forcing)
            self.error = replace(self.error, sigma=sigma.expand(len(values), -1, -1))
        if score is not None:
            inside = torch.zeros(len(values), dtype=torch.bool, device=values.device)
            start, stop, _ = score.indices(len(forcing))
            # the first edge belongs to the first interval, every other to the interval it ends
            inside[start + (self.edges and start > 0) : stop + self.edges] = True
            values = torch.where(inside[:, None, None], values, torch.nan)
        if bool(values.isinf().any()) or bool((values <= -(self.error.log_offset or torch.inf)).any()):
            raise DataError(
                f"'{self.name}' has values that no model can be compared with: infinite, or not above -log_offset "
                f"({self.error.log_offset}). Make them NaN, or raise log_offset."
            )
        rows = (~values.isnan()).reshape(len(values), -1).any(1)
        if not bool(rows.any()):
            raise DataError(f"'{self.name}' has no value in the intervals that count.")
        self.values = values
        self.count = int((~values.isnan()).sum() / values.shape[1])

    def _by_member(self, values: Tensor, forcing: Forcing) -> Tensor:
        """A series as (T, members or 1, basins)."""
        values = values.reshape(len(values), *(1,) * (3 - values.ndim), *values.shape[1:])
        if values.shape[1] not in (1, forcing.batch[0]) or values.shape[2] not in (1, forcing.batch[1]):
            raise DataError(
                f"'{self.name}' has batch {tuple(values.shape[1:])}, needs (1, basins) or (members, basins) = "
                f"{forcing.batch}."
            )
        return values.expand(-1, -1, forcing.batch[1])

    def _of(self, series: Tensor, index: Tensor) -> Tensor:
        return series if series.shape[1] == 1 else series[:, index]

    def residuals(self, problem: Problem, found, stores, fluxes, index: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals (m, N) and their derivatives (m, P, N), whitened; N runs over time and basins."""
        if self.store:
            part = slice(None) if self.edges else slice(1, None)
            simulated = found.run[0][part, ..., problem.model.store_names.index(self.store)]
            moved = found.storage[:, part, ..., stores.index(self.store)]
        else:
            days = problem.days.reshape(-1, 1, 1)
            names, volume = problem.model.flux_names, found.run[1]
            signed = list(zip(self.signs, self.fluxes, strict=True))
            simulated = sum(s * volume[..., names.index(f)] for s, f in signed) / days
            moved = sum(s * found.volume[..., fluxes.index(f)] for s, f in signed) / days
        observed, error = self._of(self.values, index).expand(simulated.shape), self.error
        if isinstance(error.sigma, Tensor) and error.sigma.ndim:
            error = replace(error, sigma=self._of(error.sigma, index))
        residual, slope = error.residual(simulated, observed)
        valid = ~observed.isnan()
        residual, jacobian = error.whiten(residual, valid), error.whiten(moved * slope, valid)
        return residual.movedim(1, 0).flatten(1), jacobian.movedim(2, 0).flatten(2)


def _members(error: SolverError, count: int) -> Tensor:
    if error.failed is None or error.failed.numel() % count:
        return torch.ones(count, dtype=torch.bool)
    return error.failed.reshape(count, -1).any(1)


def _some(forcing: Forcing, index: Tensor) -> Forcing:
    """Some members of a record (a view where all share one series)."""
    if len(index) == forcing.batch[0]:
        return forcing
    names = tuple(forcing.members[i] for i in index.tolist()) if forcing.members else ()

    def part(values: Tensor) -> Tensor:
        if values.stride(1) == 0:
            return values[:, :1].expand(-1, len(index), -1)
        return values[:, index]

    return replace(forcing, values={n: part(v) for n, v in forcing.values.items()}, members=names)
