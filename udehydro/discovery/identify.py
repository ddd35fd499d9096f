"""What data fix and what they leave open: profiles of values, of the zero of a store, and the spectrum of information.

Members that agree prove nothing: starts may all end on one side of a valley. A profile walks along it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from scipy.stats import chi2 as chi_squared
from torch import Tensor

from udehydro.balance import Balance
from udehydro.discovery.search import Task, misfit
from udehydro.errors import ConfigError
from udehydro.sensitivity.information import Spectrum
from udehydro.simulate import simulate
from udehydro.simulation import Simulation
from udehydro.structure import suggest
from udehydro.training.gaussian import Gaussian
from udehydro.training.least_squares import LeastSquares, least_squares
from udehydro.training.observed import Observed

FACTORS = (0.25, 0.5, 0.8, 1.25, 2.0, 4.0)
DEVIATIONS = (-4.0, -2.0, -1.0, 1.0, 2.0, 4.0)
SHIFTS = (-1.0, -0.5, -0.25, -0.1, -0.03, 0.03, 0.1, 0.25, 0.5, 1.0)
"""Grids by default: times the fitted value, and that value plus so many of its standard deviations; shares of the range
that a store visits (5 to 95 %)."""
OF_RANGE = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Grid from a value of zero, as shares of the ends of its range."""
PIN, MISSED = 1e-3, 0.1
"""Standard deviation that holds a store where a profile wants it, as a share of the visited range; share of a shift by
which it may be missed before that shift counts as out of reach."""
LEVEL, GAIN = 0.95, 1e-2


@dataclass(frozen=True)
class Profile:
    """Likelihood along one value, all others refitted at each of n grid points.

    Attributes
    ----------
    name : what is held; ``grid`` (n,) its values, ascending.
    rise : chi2 above its lowest (n,).
    ratio : twice the log-likelihood below its highest (n,): ``rise`` where the errors' variance is trusted; else with
        the variance of every series estimated.
    best : the grid point of highest likelihood.
    interval : where ``ratio`` stays below the quantile of chi2 with one degree of freedom; an end beyond the grid is
        infinite. Grid points whose refit failed say nothing.
    fits : the refits, n members.
    """

    name: str
    grid: Tensor
    rise: Tensor
    ratio: Tensor
    best: float
    interval: tuple[float, float]
    fits: LeastSquares = field(repr=False)

    @property
    def closed(self) -> tuple[bool, bool]:
        """Whether the interval ends within the grid, below and above."""
        return tuple(math.isfinite(end) for end in self.interval)

    def __str__(self) -> str:
        low, high = (f"{end:.4g}" if math.isfinite(end) else "open" for end in self.interval)
        return f"{self.name} {self.best:.4g} ({low} to {high})"


def best_of(fit: LeastSquares, member: int | None) -> tuple[int, dict[str, float], list[str]]:
    """A member (by default of lowest chi2), its values, and the names of those that were free."""
    member = int(fit.chi2.argmin()) if member is None else member
    values = {n: float(v[member]) for n, v in fit.values.items()}
    return member, values, [n for n, free in zip(fit.free, fit.mask[member].tolist(), strict=True) if free]


def profile(
    model: Balance,
    task: Task,
    fit: LeastSquares,
    name: str,
    grid: Sequence[float] | None = None,
    *,
    member: int | None = None,
    trusted: bool = False,
    level: float = LEVEL,
    rounds: int = 3,
    isotropic: float = 0.0,
) -> Profile:
    """Profile likelihood of a parameter, constant or initial storage (the store's name).

    All grid points are members of one batch, refitted from the fit and then from their neighbours for up to ``rounds``.

    Parameters
    ----------
    model, task : what was fitted, to what data; ``start`` and ``free`` of the task are not used.
    fit : result whose ``member`` (by default of lowest chi2) the profile starts from; what was free there is refitted.
    grid : values; by default :data:`FACTORS` times the fitted one, and :data:`DEVIATIONS` from it. That one is added.
    trusted : whether ``sigma`` of the errors is known, rather than estimated from the misfit.
    isotropic : as in :func:`least_squares`; 1 for networks.
    """
    member_, values, free = best_of(fit, member)
    if name not in values:
        raise ConfigError(f"No parameter or store is called '{name}'.{suggest(name, values)}")
    range_ = task.ranges.get(name, model.structure.parameters.get(name))
    if grid is None and values[name] == 0.0 and range_ is not None:
        grid = [end * f for end in (range_.low, range_.high) for f in OF_RANGE]  # no factor changes a zero
    wanted = [float(v) for v in grid] if grid is not None else [f * values[name] for f in FACTORS]
    if grid is None and name in free:
        wanted += [values[name] + d * _deviation(fit, member_, name, trusted) for d in DEVIATIONS]
    if range_ is not None:
        wanted = [v for v in wanted if range_.low <= v <= range_.high]
    points = torch.tensor(sorted({*wanted, values[name]}), dtype=torch.float64)
    others = [n for n in free if n != name]

    def fitted(index: Tensor, start: dict[str, Tensor]) -> LeastSquares:
        start[name] = points[index]
        # with nothing else to refit, no step is taken
        return _fit(model, task, task.observed, start, others or [name], isotropic, steps=None if others else 0)

    fits = _walk(fitted, [values] * len(points), rounds)
    return _profile(name, points, fits, trusted, level)


def offset_profile(
    model: Balance,
    task: Task,
    fit: LeastSquares,
    store: str,
    shifts: Sequence[float] | None = None,
    *,
    member: int | None = None,
    basin: int = 0,
    trusted: bool = False,
    level: float = LEVEL,
    rounds: int = 3,
    isotropic: float = 0.0,
) -> Profile:
    """Profile of where the zero of a store lies: is storage known, or only up to a constant?

    Discharge alone fixes the laws of a store up to a shift, S -> S + c in all of them, unless their form is tied to
    S = 0 or to a capacity. Here the storage in the middle of what is scored is drawn to c from where the fit has it,
    all free values are refitted, and what the data then lose is the rise at the shift that was reached: the grid.
    Nothing is asked about the laws: formulas and networks are treated alike. The profile is flat where the laws can
    follow, and the interval ends at the last shift reached where the model cannot be moved further.

    Parameters
    ----------
    shifts : c [mm], by default :data:`SHIFTS` times the range that the store visits (5 to 95 %); zero is added.
    basin : whose storage is held.
    rounds, trusted, level, isotropic : as in :func:`profile`, whose grid here is the shift.
    """
    _, values, free = best_of(fit, member)
    scored = task.scored
    series = run(model, task, values).store(store)[1:, basin]
    low, high = visited(series[scored])
    span = max(high - low, 1e-6 * max(abs(high), 1.0))
    wanted = [share * span for share in SHIFTS] if shifts is None else [float(c) for c in shifts]
    points = torch.tensor(sorted({*wanted, 0.0}), dtype=torch.float64)
    day = (scored.start + scored.stop) // 2

    def fitted(index: Tensor, start: dict[str, Tensor]) -> LeastSquares:
        held = series.new_full((len(task.forcing), len(index), task.forcing.batch[0]), torch.nan)
        held[day, :, basin] = series[day] + points[index].to(series)
        pin = Observed(store, held, Gaussian(PIN * span))
        return _fit(model, task, (*task.observed, pin), start, free, isotropic)

    moved = [{**values, store: values[store] + c} for c in points.tolist()]
    fits = _walk(fitted, moved, rounds)
    reached = _storage(model, task, fits, store)[day, :, basin] - series[day]
    missed = (reached - points).abs() > MISSED * points.abs()
    # what a fit that has converged cannot reach, no law of the model can
    walls = [bool(missed[i] & fits.converged[i] & fits.chi2[i].isfinite()) for i in (0, -1)]
    order = torch.argsort(reached)
    return _profile(f"offset of {store}", reached[order], _without_last(fits.take(order)), trusted, level, walls)


def _storage(model: Balance, task: Task, fits: LeastSquares, store: str) -> Tensor:
    """Storage (T, n, basins) at the ends of intervals, of all members; NaN where a fit failed."""
    fine = fits.chi2.isfinite().nonzero()[:, 0]
    found = run_members(model, task, fits.take(fine)).store(store)[1:]
    whole = found.new_full((len(found), len(fits.chi2), found.shape[-1]), torch.nan)
    whole[:, fine] = found
    return whole


def _deviation(fit: LeastSquares, member: int, name: str, trusted: bool) -> float:
    """Standard deviation of a free value from the normal matrix."""
    names, covariance = fit.covariance(member)
    i = names.index(name)
    return math.sqrt(_variance(fit, member, trusted) * max(0.0, float(covariance[i, i])))


def _variance(fit: LeastSquares, member: int, trusted: bool) -> float:
    """Of residuals, in units of sigma squared."""
    return 1.0 if trusted else float(fit.chi2[member]) / max(1, fit.count - int(fit.mask[member].sum()))


def run(model: Balance, task: Task, values: Mapping[str, float]) -> Simulation:
    """Simulation of a task's record with the parameters and initial storages of one member."""
    theta = {n: values[n] for n in model.parameter_names}
    start = {n: values[n] for n in model.store_names}
    with torch.no_grad():
        return simulate(model, task.forcing, theta=theta, storage0=start, solver=task.solver)


def run_members(model: Balance, task: Task, fits: LeastSquares) -> Simulation:
    """One continuous run of all members of a fit over a task's record, side by side: batch (n, basins)."""
    record = task.forcing.with_members(len(fits.chi2))
    theta = {n: fits.values[n][:, None] for n in model.parameter_names}
    start = torch.stack([fits.values[n] for n in model.store_names], dim=-1)[:, None].expand(*record.batch, -1)
    with torch.no_grad():
        return simulate(model, record, theta=theta, storage0=start, solver=task.solver)


def visited(series: Tensor) -> tuple[float, float]:
    """5 and 95 % quantile."""
    return tuple(torch.quantile(series.flatten(), torch.tensor([0.05, 0.95], dtype=series.dtype)).tolist())


def _fit(model, task: Task, observed, start, free, isotropic: float, steps: int | None = None) -> LeastSquares:
    members = len(next(iter(start.values())))
    return least_squares(
        model, task.forcing.with_members(members), observed, start, free, score=task.score, solver=task.solver,
        steps=task.steps if steps is None else steps, ranges=task.ranges, isotropic=isotropic,
        progress="profile" if task.progress else None,
    )  # fmt: skip


def _walk(fitted: Callable, begin: Sequence[Mapping[str, float]], rounds: int) -> LeastSquares:
    """Fit all grid points, and again from where their neighbours ended as long as some chi2 falls."""
    count = len(begin)
    start = {n: torch.tensor([b[n] for b in begin], dtype=torch.float64) for n in begin[0]}
    best = fitted(torch.arange(count), start)
    pairs = torch.tensor([(i, j) for i in range(count) for j in (i - 1, i + 1) if 0 <= j < count]).reshape(-1, 2)
    for _ in range(rounds if len(pairs) else 0):
        new = fitted(pairs[:, 0], {n: v[pairs[:, 1]] for n, v in best.values.items()})
        before = best.chi2
        best = best.joined(new).best_by(torch.cat([torch.arange(count), pairs[:, 0]]), count)
        if not bool((best.chi2 < before - GAIN).any()):
            break
    return best


def _without_last(fit: LeastSquares) -> LeastSquares:
    """The same fit, judged without its last series."""
    name, part = list(fit.parts.items())[-1]
    parts = {n: p for n, p in fit.parts.items() if n != name}
    counts = {n: c for n, c in fit.counts.items() if n != name}
    return replace(fit, chi2=fit.chi2 - part, parts=parts, counts=counts)


def _profile(
    name: str, grid: Tensor, fits: LeastSquares, trusted: bool, level: float, walls: Sequence[bool] = (False, False)
) -> Profile:
    rise = fits.chi2 - fits.chi2.min()
    minus = rise if trusted else misfit(fits)
    ratio = minus - minus.min()
    lowest, threshold = int(ratio.argmin()), float(chi_squared.ppf(level, 1))
    known = ratio.isfinite() & grid.isfinite()
    points, heights = grid[known], ratio[known]
    at = int(known[:lowest].sum())
    ends = [_crossing(points, heights, at, step, threshold, w) for step, w in zip((-1, 1), walls, strict=True)]
    return Profile(name, grid, rise, ratio, float(grid[lowest]), tuple(ends), fits)


def _crossing(grid: Tensor, ratio: Tensor, lowest: int, step: int, threshold: float, wall: bool) -> float:
    """Where the ratio passes the threshold going by ``step`` from the lowest point; its root is nearly straight."""
    i = lowest
    while 0 <= i + step < len(grid):
        if float(ratio[i + step]) > threshold:
            a, b = math.sqrt(float(ratio[i])), math.sqrt(float(ratio[i + step]))
            share = (math.sqrt(threshold) - a) / (b - a)
            return float(grid[i] + share * (grid[i + step] - grid[i]))
        i += step
    return float(grid[i]) if wall else step * math.inf


def fisher_spectrum(
    fit: LeastSquares, member: int | None = None, scale: Mapping[str, float] | None = None, trusted: bool = False
) -> Spectrum:
    """Eigenvalues and eigenvectors of the scaled normal matrix of a member (by default of lowest chi2).

    ``scale``: size of a change that matters, by name; by default the value itself (one where that is zero), so that
    the spectrum is about relative changes. ``trusted``: errors have the sigma they were given; otherwise their variance
    is that of the residuals.
    """
    member, values, free = best_of(fit, member)
    index = fit.mask[member].nonzero()[:, 0]
    scale = scale or {}
    size = torch.tensor([scale.get(n, abs(values[n]) or 1.0) for n in free], dtype=torch.float64)
    normal = fit.normal[member][index][:, index].double().cpu()
    return Spectrum.of(free, normal, size, _variance(fit, member, trusted))
