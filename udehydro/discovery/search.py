"""The search: every candidate is refitted through the ODE, and data choose among what then remains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import comb

import torch
from torch import Tensor

from udehydro.discovery.library import Term
from udehydro.discovery.union import Candidate, Union
from udehydro.errors import ConfigError, SolverError
from udehydro.forcing import Forcing
from udehydro.laws import FormulaLaw
from udehydro.simulate import pose
from udehydro.solvers.one_step import OneStep
from udehydro.structure import Range, suggest
from udehydro.training.least_squares import LeastSquares, least_squares
from udehydro.training.observed import Observed

GAMMA, MARGIN = 1.0, 6.0
"""Weight of the search penalty of EBIC, and the gap within which laws count as equally good."""
FEW = 4
"""Candidates that are fitted at once at least, copies among them."""
ROUNDS, DONORS, GAIN = 2, 3, 1e-3
"""Rounds of fitting the best again, from the values of how many others, as long as some chi2 falls by so much."""


@dataclass(frozen=True)
class Task:
    """Data and settings of all fits.

    Attributes
    ----------
    forcing : record with batch (basins,): the data of one experiment.
    start : values of all parameters that are no constants of candidates, and of all initial storages.
    free : those of them that every candidate is refitted with.
    score, solver, ranges, steps : as in :func:`udehydro.training.least_squares`.
    """

    forcing: Forcing
    observed: Sequence[Observed]
    start: Mapping[str, float]
    free: Sequence[str] = ()
    score: slice | None = None
    solver: OneStep | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    steps: int = 60
    progress: bool = False

    @property
    def scored(self) -> slice:
        """The intervals whose residuals count, from start to stop."""
        start, stop, _ = (self.score or slice(None)).indices(len(self.forcing))
        return slice(start, stop)

    def fit(self, union: Union, candidates: Sequence[Candidate], starts: Sequence[Mapping[str, float]]) -> LeastSquares:
        """Fit candidates as members of one batch, each from its own start (missing values: those of the task)."""
        if len(candidates) < FEW:
            # so few would go another way than the many before them: not compiled yet, or not at all
            copies = self.fit(union, [*candidates, *[candidates[0]] * FEW], [*starts, *[starts[0]] * FEW])
            return copies.take(torch.arange(len(candidates)))
        model, members = union.model, len(candidates)
        known = (*model.parameter_names, *model.store_names)
        for name in (*self.start, *self.free):
            if name not in known and name not in union.structure.parameters:
                raise ConfigError(f"The task names '{name}', which is no parameter or store.{suggest(name, known)}")
        values = [{**union.values(c), **self.start, **s} for c, s in zip(candidates, starts, strict=True)]
        given = {n: torch.tensor([v[n] for v in values], dtype=torch.float64) for n in known if n in values[0]}
        trained = [set(union.free(c)) for c in candidates]
        constants = [n for law in union.names for term in law for n in (term.factor, *term.own.values())]
        free = {n: torch.tensor([n in t for t in trained]) for n in constants}
        free |= {n: torch.ones(members, dtype=torch.bool) for n in self.free}
        # the model of all candidates allows factors of zero, a candidate that has the term need not
        ranges = union.coefficients() | dict(self.ranges)
        try:
            return least_squares(
                model, self.forcing.with_members(members), self.observed, given, free, score=self.score,
                solver=self.solver, steps=self.steps, ranges=ranges,
                progress="refit candidates" if self.progress else None,
            )  # fmt: skip
        except SolverError as error:
            raise SolverError(f"{error}{self._blame(union, given)}", failed=error.failed) from None

    def _blame(self, union: Union, given: Mapping[str, Tensor]) -> str:
        """Which terms are not finite at the start: all candidates share a model, where 0 times infinity stops them."""
        at = {n: v[0].to(self.forcing.like) for n, v in given.items()}
        problem = pose(union.model, self.forcing, {n: at[n] for n in union.model.parameter_names if n in at})
        stores = [at[n].expand(self.forcing.like.shape) for n in union.model.store_names]
        with torch.no_grad():
            known = union.model.named(stores, *problem.at(slice(None)))
            bad = [
                f"'{term}' of {law}"
                for (law, library), names in zip(union.libraries.items(), union.names, strict=True)
                for term, own in zip(library.terms, names, strict=True)
                if not _finite(term, own.own, known)
            ]
        if not bad:
            return ""
        return f" Not finite there: {', '.join(bad)}. Guard such terms, e.g. by max(..., 0), or change constants."


@dataclass(frozen=True)
class Ranked:
    """Candidates, refitted, best first.

    Attributes
    ----------
    candidates : of n; ``fits`` : their refits, n members.
    criterion : what orders them (n,), lower is better: the extended BIC with ``gamma``, or, where ``by_score``, minus a
        score (:func:`preferred`); ``margin`` is in its units.
    terms, constants : numbers of terms and of trained values.
    chosen : index of the decision: the fewest terms, then the fewest constants, within ``margin`` of the best.
    """

    union: Union
    candidates: tuple[Candidate, ...]
    fits: LeastSquares
    criterion: Tensor
    constants: tuple[int, ...]
    margin: float
    chosen: int
    gamma: float = GAMMA
    by_score: bool = False

    @property
    def terms(self) -> tuple[int, ...]:
        return tuple(sum(len(chosen) for chosen in c) for c in self.candidates)

    @property
    def rivals(self) -> list[int]:
        """Indices of the class: all within the margin of the best, the chosen one among them."""
        return (self.criterion <= self.criterion[0] + self.margin).nonzero()[:, 0].tolist()

    def decided_by_likelihood(self) -> None:
        """ConfigError for a ranking by a score, whose margin is another one."""
        if self.by_score:
            raise ConfigError("This ranking was decided by a score: hand in the one that discover() returned.")

    def pareto(self) -> list[int]:
        """Indices of candidates that no other beats in both fit and number of constants, by number of constants."""
        order = sorted(range(len(self.candidates)), key=lambda i: (self.constants[i], float(self.misfit[i])))
        front, best = [], math.inf
        for i in order:
            if float(self.misfit[i]) < best:
                best = float(self.misfit[i])
                front.append(i)
        return front

    @property
    def misfit(self) -> Tensor:
        """Minus twice the log-likelihood (n,), up to a constant, each series having its own unknown variance."""
        return misfit(self.fits)

    def values(self, index: int) -> dict[str, float]:
        """All values of a candidate."""
        return {n: float(v[index]) for n, v in self.fits.values.items()}

    def laws(self, index: int) -> dict:
        """The laws of a candidate as formulas, constants at their refitted values."""
        return self.union.laws(self.candidates[index], self.values(index))


def _finite(term: Term, names: Mapping[str, str], known: Mapping[str, Tensor]) -> bool:
    law = FormulaLaw(term.text, term.constants)
    value = law(*(known[names.get(n, n)] for n in law.reads))
    return bool(torch.as_tensor(value).isfinite().all())


def misfit(fits: LeastSquares) -> Tensor:
    """Sum over series of n log(chi2 / n), (M,): the errors' variance is estimated for each series."""
    total = torch.zeros_like(fits.chi2)
    for name, part in fits.parts.items():
        total = total + fits.counts[name] * torch.log(part / fits.counts[name])
    return torch.where(fits.chi2.isfinite(), total, torch.inf)


def search(
    union: Union,
    candidates: Sequence[Candidate],
    task: Task,
    starts: Sequence[Sequence[Mapping[str, float]]],
    *,
    again: int = 10,
    gamma: float = GAMMA,
    margin: float = MARGIN,
) -> Ranked:
    """Refit all candidates from their starts, the best ones again from each other's values, and rank them.

    Parameters
    ----------
    starts : per candidate one or more dictionaries of start values.
    again : how many of the best are fitted again, from what the others found for the values they share.
    gamma : 0 is BIC; 1 counts the laws that were searched (Chen and Chen 2008, extended BIC).
    """
    if not candidates:
        raise ConfigError("There is no candidate to refit.")
    fits = _fit(union, candidates, task, [(i, s) for i, own in enumerate(starts) for s in own])
    if failed := fits.chi2.isinf().nonzero()[:, 0].tolist():
        # a sum of terms may blow up from any start but that of no terms at all
        nothing = [(i, {n: 0.0 for n in union.factors(candidates[i])}) for i in failed]
        fits = _fit(union, candidates, task, nothing, fits)
    for _ in range(ROUNDS if again else 0):
        best = ranked(union, candidates, fits, len(task.free), gamma, margin)
        places = [candidates.index(c) for c in best.candidates[:again]]
        shared = [{n: float(fits.values[n][j]) for n in task.free} for j in places[:DONORS]]
        own = [{n: float(fits.values[n][i]) for n in union.free(candidates[i])} for i in places]
        mixed = [(i, {**mine, **other}) for i, mine in zip(places, own, strict=True) for other in shared]
        before = fits.chi2.clone()
        fits = _fit(union, candidates, task, mixed, fits)
        if not bool((fits.chi2 < before - GAIN).any()):
            break
    return ranked(union, candidates, fits, len(task.free), gamma, margin)


def ranked(union, candidates, fits: LeastSquares, shared: int, gamma: float, margin: float) -> Ranked:
    """Candidates by extended BIC; ``shared``: free values that all of them have."""
    own = [len(union.free(c)) for c in candidates]
    penalty = [
        (k + shared) * math.log(fits.count)
        + 2.0
        * gamma
        * sum(math.log(comb(len(lib), len(c))) for lib, c in zip(union.libraries.values(), chosen, strict=True))
        for k, chosen in zip(own, candidates, strict=True)
    ]
    criterion = misfit(fits) + torch.tensor(penalty, dtype=torch.float64)
    order = torch.argsort(criterion)
    candidates = tuple(candidates[i] for i in order.tolist())
    criterion, constants = criterion[order], tuple(own[i] for i in order.tolist())
    within = (criterion <= criterion[0] + margin).nonzero()[:, 0].tolist()
    size = {i: (sum(len(c) for c in candidates[i]), constants[i], float(criterion[i])) for i in within}
    chosen = min(within, key=size.__getitem__) if within else 0
    return Ranked(union, candidates, fits.take(order), criterion, constants, margin, chosen, gamma)


def _fit(union, candidates, task: Task, starts, fits: LeastSquares | None = None) -> LeastSquares:
    """Fit candidates from ``starts`` (index, values), and keep the best fit of each, those in ``fits`` among them."""
    new = task.fit(union, [candidates[i] for i, _ in starts], [s for _, s in starts])
    owner = torch.tensor([i for i, _ in starts])
    if fits is not None:
        new, owner = fits.joined(new), torch.cat([torch.arange(len(candidates)), owner])
    return new.best_by(owner, len(candidates))
