"""Verdict: whether data determine a law where the model went, and if not, why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.discovery.identify import Profile, run, visited
from udehydro.discovery.judge import simulated
from udehydro.discovery.search import Ranked, Task, search
from udehydro.errors import ConfigError
from udehydro.simulate import pose
from udehydro.solvers import Automatic
from udehydro.training.least_squares import LeastSquares
from udehydro.training.observed import targets

AMOUNT = 0.03
"""Laws differ where the root mean square of their difference exceeds this share of their mean."""
APART = 0.25
"""The zero of a store is known where it is to within this share of the range that the store visits (5 to 95 %)."""
NARROW = 1 / 3
"""A store that moves by less than this share of its highest filling (95 %) shows too little of a law."""
CORRELATED, PAIRS = 0.3, 30
"""Lag-1 correlation of residuals from which a likelihood of independent errors claims too much; pairs it needs."""


@dataclass(frozen=True)
class Verdict:
    """Whether laws are determined over the range that was visited.

    Attributes
    ----------
    reasons : why not, in words; none where they are.
    notes : what else to know: laws that give the same curve under another name, the visited range.
    visited : 5 and 95 % quantile of the store [mm]. Claims hold within.
    """

    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    visited: tuple[float, float]

    @property
    def determined(self) -> bool:
        return not self.reasons

    def __str__(self) -> str:
        return "; ".join(["determined" if self.determined else "undetermined", *self.reasons, *self.notes])


def verdict(
    found: Ranked,
    task: Task,
    store: str,
    *,
    laws: Sequence[str] | None = None,
    profiles: Sequence[Profile] = (),
    offset: Profile | None = None,
    halved: Ranked | None = None,
    amount: float = AMOUNT,
) -> Verdict:
    """Judge the chosen laws of a search.

    Undetermined are laws with a rival in the class whose curve differs by more than ``amount`` over the visited range
    (a rival that contains the law and gives the same curve is none), or with rivals or an offset profile that put the
    zero of the store elsewhere (:data:`APART`); with an open profile; where the store hardly moved; where residuals are
    correlated although independent errors were assumed; and where another law is chosen once steps are halved.

    Parameters
    ----------
    store : the store whose filling the laws follow; ``laws`` : those to be judged, by default all that were searched.
    profiles : from :func:`profile`; ``offset`` from :func:`offset_profile`; ``halved`` from :func:`with_halved_steps`.
    """
    reasons, notes = [], []
    shifts, differences = differences_of(found, task, store)
    for law, by_rival in differences.items():
        if laws is not None and law not in laws:
            continue
        own, told = found.laws(found.chosen)[law].text, {_term(found, found.chosen, law)}
        apart = sorted((i for i, d in by_rival.items() if d > amount), key=lambda i: -by_rival[i])
        if apart:
            words = (
                f"{law}: {len(apart)} of {len(by_rival)} rivals differ from {own} by more than {100 * amount:g} %, most"
            )
            reasons.append(f"{words} {_said(found, apart[0], law)} by {100 * by_rival[apart[0]]:.1f} % of its mean")
        for index, difference in by_rival.items():
            if index not in apart and _term(found, index, law) not in told:
                words = f"{law}: {_said(found, index, law)} differs from {own} by {100 * difference:.1f} % of its mean"
                notes.append(f"{words}, storage aligned: the same curve there, by another formula")
            told.add(_term(found, index, law))
    reasons += [f"{p}: {_open(p)}" for p in profiles if not all(p.closed)]
    low, high = visited(run(found.union.model, task, found.values(found.chosen)).store(store)[1:][task.scored])
    unit = found.union.structure.stores[store]
    span = f"{_tidy(low)} to {_tidy(high)} {unit}"
    if offset is not None and offset.interval[1] - offset.interval[0] > APART * (high - low):
        reasons.append(f"{store} is known up to a constant only: {offset} {unit}")
    if (moved := max(shifts) - min(shifts)) > APART * (high - low):
        reasons.append(f"laws of the class put the zero of {store} up to {moved:.3g} {unit} apart")
    if high - low < NARROW * high:
        reasons.append(f"{store} stays within {span}, too narrow a range to show the form of a law")
    for name, lag, whitened in correlations(found.union.model, task, found.values(found.chosen)):
        if lag > CORRELATED:
            reasons.append(f"residuals of {name} are correlated ({lag:.2f} at lag 1), {_whitened(whitened)}")
    if halved is not None and not survives(found, halved):
        laws = "; ".join(f"{n} = {v.text}" for n, v in halved.laws(halved.chosen).items())
        reasons.append(f"with steps halved the choice is {laws}")
    return Verdict(tuple(reasons), (*notes, f"{store} from {span} in the run of these laws (5 to 95 %)"), (low, high))


def differences_of(found: Ranked, task: Task, store: str) -> tuple[list[float], dict[str, dict[int, float]]]:
    """How far rivals are from the chosen: mean differences of storages, and by law and index those of the curves.

    Curves are compared at equal storage where the chosen law went (5 to 95 %), after the mean difference of both
    storages is taken out: laws that differ by that shift alone fit the same discharge. The root mean square is given as
    a share of the mean.
    """
    members = [found.chosen, *(i for i in found.rivals if i != found.chosen)]
    simulation, model = simulated(found, task, members), found.union.model
    place, part = model.store_names.index(store), task.scored
    own = simulation.storage[:-1, :1, :, place]
    stores = list(simulation.storage[:-1].unbind(-1))
    shifts = (stores[place] - own)[part].mean((0, 2), keepdim=True)
    stores[place] = own + shifts
    problem = pose(model, simulation.forcing, simulation.theta)
    with torch.no_grad():
        values = model.named(stores, *problem.at(slice(None)))
    low, high = visited(own[part])
    inside = ((own >= low) & (own <= high))[part]
    shape = (len(task.forcing), len(members), own.shape[-1])
    result = {}
    for law in found.union.libraries:
        curves = values[law].expand(shape)[part]
        squares = torch.where(inside, curves - curves[:, :1], 0.0).square().sum((0, 2)) / inside.sum()
        mean = (torch.where(inside, curves[:, :1], 0.0).sum() / inside.sum()).abs().clamp_min(1e-300)
        result[law] = dict(zip(members[1:], (squares.sqrt() / mean)[1:].tolist(), strict=True))
    return shifts.flatten().tolist(), result


def with_halved_steps(found: Ranked, task: Task, keep: int = 10, factor: int = 2) -> Ranked:
    """The ``keep`` best candidates, and the whole class, refitted with ``factor`` times as many steps an interval."""
    found.decided_by_likelihood()
    solver = task.solver or Automatic()
    index = range(max(min(keep, len(found.candidates)), len(found.rivals)))
    finer = replace(task, solver=replace(solver, substeps=factor * solver.substeps))
    candidates, starts = [found.candidates[i] for i in index], [[found.values(i)] for i in index]
    return search(found.union, candidates, finer, starts, again=0, gamma=found.gamma, margin=found.margin)


def survives(found: Ranked, again: Ranked) -> bool:
    """Whether the chosen laws are still in the class of another search."""
    return found.candidates[found.chosen] in [again.candidates[i] for i in again.rivals]


def whitened(model: Balance, task: Task, values: Mapping[str, float]) -> Task:
    """The task with errors as an adequate fit shows them: standard deviation and lag-1 correlation of each series.

    ``values`` come from a pilot fit with independent errors; everything is to be fitted again with the new task. A
    model that lacks something leaves correlated residuals, too, which this would take for errors of the data.
    """
    observed = []
    for o, residual in zip(task.observed, residuals(model, task, values), strict=True):
        lag, pairs = lag_one(residual)
        if pairs >= PAIRS:
            sd = float(residual[~residual.isnan()].square().mean().sqrt())
            loss = replace(o.loss, sigma=o.loss.sigma * sd, correlation=min(max(lag, 0.0), 0.999))
            o = replace(o, loss=loss)
        observed.append(o)
    return replace(task, observed=tuple(observed))


def residuals(model: Balance, task: Task, values: Mapping[str, float], *, white: bool = False) -> list[Tensor]:
    """Residuals (T, basins) of every observed series, in units of sigma, NaN where nothing counts.

    ``white``: after the correlation is taken out.
    """
    simulation, found = run(model, task, values), []
    for o, target in zip(task.observed, targets(task.observed, model, task.forcing), strict=True):
        seen, loss = _by_basin(target.values, o.name).clone(), o.loss
        if isinstance(loss.sigma, Tensor) and loss.sigma.ndim:
            loss = replace(loss, sigma=_by_basin(loss.sigma.to(seen), o.name))
        outside = torch.ones(len(seen), dtype=torch.bool)
        outside[target.rows(task.scored)] = False
        seen[outside] = torch.nan
        valid, residual = ~seen.isnan(), loss.residual(target.observe(simulation), seen)[0]
        residual = loss.whiten(residual, valid) if white else residual
        found.append(torch.where(valid, residual, torch.nan))
    return found


def _by_basin(values: Tensor, name: str) -> Tensor:
    """A series (T, basins) of one given as (T, 1, basins), as least squares take it."""
    if values.ndim == 3 and values.shape[1] != 1:
        raise ConfigError(f"'{name}' differs between members, batch {tuple(values.shape[1:])}: give (time, basins).")
    return values[:, 0] if values.ndim == 3 else values.reshape(len(values), -1)


def lag_one(series: Tensor) -> tuple[float, int]:
    """Lag-1 correlation of a series (T, ...) about zero, and from how many pairs of neighbours."""
    both = ~(series[1:].isnan() | series[:-1].isnan())
    later, before = series[1:][both], series[:-1][both]
    size = float((later.square().sum() * before.square().sum()).sqrt())
    return (float(later @ before) / size if size else 0.0), len(later)


def correlations(model: Balance, task: Task, values: Mapping[str, float]) -> list[tuple[str, float, bool]]:
    """Per series that has enough neighbours: name, lag-1 correlation of what is left, and whether it was whitened."""
    lags = [lag_one(r) for r in residuals(model, task, values, white=True)]
    rows = zip(task.observed, lags, strict=True)
    return [(o.name, lag, o.loss.correlation != 0.0) for o, (lag, pairs) in rows if pairs >= PAIRS]


def candidate(found: Ranked, task: Task, index: int | None = None) -> tuple[Balance, Task, LeastSquares, int]:
    """Model, task, fit and member of a candidate (the chosen one by default), as :func:`profile` takes them."""
    member = found.chosen if index is None else index
    ranged = replace(task, ranges=found.union.coefficients() | dict(task.ranges))
    return found.union.model, ranged, found.fits, member


def _term(found: Ranked, index: int, law: str) -> tuple[int, ...]:
    return found.candidates[index][list(found.union.libraries).index(law)]


def _said(found: Ranked, index: int, law: str) -> str:
    """A rival of the chosen law, and by how much it is behind."""
    laws = found.laws(index)
    gap = f"{float(found.criterion[index] - found.criterion[0]):.{3 if found.by_score else 1}f}"
    gap += " of the best score" if found.by_score else ""
    if _term(found, index, law) != _term(found, found.chosen, law):
        return f"{laws[law].text} (within {gap})"
    beside = [f"{n} = {v.text}" for n, v in laws.items() if n != law]
    return f"the same form beside {', '.join(beside)} (within {gap})" if beside else f"the same form (within {gap})"


def _tidy(value: float) -> str:
    """A number without the round-off of a store that is empty."""
    return f"{0.0 if abs(value) < 1e-6 else value:.4g}"


def _open(p: Profile) -> str:
    sides = [side for side, closed in zip(("below", "above"), p.closed, strict=True) if not closed]
    return f"open {' and '.join(sides)}"


def _whitened(whitened: bool) -> str:
    return "even after whitening" if whitened else "and were taken as independent"
