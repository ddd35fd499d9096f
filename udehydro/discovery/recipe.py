"""distil: from a trained hybrid to formulas put back into the model, every choice made on the validation period."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.discovery.discover import discover
from udehydro.discovery.examine import Examined, examine, leaving
from udehydro.discovery.judge import preferred, score
from udehydro.discovery.library import Library
from udehydro.discovery.sample import Samples, sample
from udehydro.discovery.search import Ranked, Task
from udehydro.discovery.union import Candidate, Union
from udehydro.errors import ConfigError, SolverError, UdehydroError
from udehydro.files import write_json_atomic
from udehydro.forcing import Forcing
from udehydro.simulate import simulate
from udehydro.simulation import Simulation
from udehydro.solvers import Automatic, Solver
from udehydro.solvers.one_step import OneStep
from udehydro.structure import Range
from udehydro.training.gaussian import Gaussian
from udehydro.training.observed import Observed
from udehydro.training.recipes import INITIAL, Periods, Trained

STEPS = 20
"""Most steps of a refit; the best are fitted again."""
MARGIN = 0.005
"""NSE of validation within which the law with the fewest constants is taken."""


@dataclass(frozen=True)
class Distilled:
    """The formulas of one basin, put back.

    Attributes
    ----------
    model : structure with the formulas; ``values`` : its parameters and initial storages, refitted on all training
        data; ``all_values`` : the same in the model of all candidates.
    rows : per candidate laws, constants, NSE of fit and validation, best first; ``chosen`` : that of ``model``.
    margin : NSE of validation within which laws count as equally good.
    support : name -> (lowest, 5 %, 95 %, highest) that the networks visited.
    diverged : candidates that could not be run over the validation period.
    verdicts : per store ``store``, ``determined``, ``reasons``, ``notes``, as in :class:`Verdict`.
    profiles : per constant and zero of a store ``name``, ``unit``, ``grid``, ``ratio``, ``best``, ``interval`` (None:
        open), as in :class:`Profile`.
    """

    basin: str
    model: Balance
    values: dict[str, float]
    all_values: dict[str, float] = field(repr=False)
    rows: list[dict] = field(repr=False)
    chosen: int
    margin: float
    support: dict[str, tuple[float, float, float, float]] = field(repr=False)
    diverged: int
    verdicts: list[dict] = field(default_factory=list, repr=False)
    profiles: list[dict] = field(default_factory=list, repr=False)

    @property
    def laws(self) -> dict[str, str]:
        """Text of every formula."""
        return dict(self.rows[self.chosen]["laws"])

    @property
    def rivals(self) -> list[dict]:
        """Rows within the margin of the best in validation, the chosen one among them."""
        return [r for r in self.rows if r["valid"] >= self.rows[0]["valid"] - self.margin]

    def theta(self) -> dict[str, float]:
        """Parameters of ``model``."""
        return {n: self.values[n] for n in self.model.parameter_names}

    def storage0(self) -> dict[str, float]:
        """Initial storages [mm]."""
        return {n: self.values[n] for n in self.model.store_names}


@dataclass(frozen=True)
class Distillation:
    """Formulas of several basins; what makes them comparable is the model of all candidates, ``union``."""

    union: Union
    basins: tuple[Distilled, ...]
    seconds: float = 0.0

    def simulate(self, forcing: Forcing, solver: Solver | None = None) -> Simulation:
        """One continuous run over a record of the same basins, batch (basins, 1)."""
        record, model = forcing.independent() if len(forcing.batch) < 2 else forcing, self.union.model
        values = {n: torch.tensor([b.all_values[n] for b in self.basins]) for n in self.basins[0].all_values}
        values = {n: v.to(record.like)[:, None] for n, v in values.items()}
        with torch.no_grad():
            start = torch.stack([values[n] for n in model.store_names], dim=-1)
            return simulate(
                model, record, theta={n: values[n] for n in model.parameter_names}, storage0=start, solver=solver
            )


def distil(
    bucket: Trained,
    hybrid: Trained,
    libraries: Mapping[str, Library],
    forcing: Forcing,
    observed: Tensor,
    periods: Periods,
    *,
    keep: int = 5,
    again: int = 5,
    margin: float = MARGIN,
    sure: bool = True,
    solver: OneStep | None = None,
    warmup_days: int = 365,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Distillation:
    """Write the learned laws of a hybrid as formulas, basin by basin.

    Networks fitted without the validation period, which only chose among them, nominate; candidates are refitted
    through the ODE without it, by least squares, together with all parameters the bucket calibrates; its NSE chooses
    among them, whatever bucket and hybrid were trained with; the choice is refitted on all training data.

    Parameters
    ----------
    bucket, hybrid : from ``calibrate`` and ``hybridise``, of the same basins and periods.
    libraries : learned flux or group -> candidate terms; :func:`usual` makes the usual ones.
    forcing, observed : record (T, basins), NaN where missing, as they were trained with.
    keep : laws of every length that are nominated; ``again`` : candidates fitted again from each other's values.
    sure : whether to ask how sure the chosen laws are (:func:`examine`).
    checkpoint, resume : folder for a file per basin, and whether basins that have one are done.
    """
    if hybrid.before_refit is None or hybrid.unrefitted is None:
        raise ConfigError("distil needs a hybrid trained by hybridise(), which keeps it as it was before the refit.")
    began = time.perf_counter()
    union = Union(bucket.model.structure, libraries)
    solver = solver or Automatic()
    found = []
    for i, basin in enumerate(bucket.basins):
        path = None if checkpoint is None else Path(checkpoint) / f"{i}.json"
        if resume and path is not None and path.exists():
            found.append(_read(path, union, basin))
            continue
        one = _one(forcing, i)
        flow = observed.reshape(len(forcing), -1)[:, i : i + 1]
        # nominated shapes go with the hybrid's own values; the bucket has those that the networks replaced
        known = _values(bucket, bucket.model, i) | _values(hybrid, hybrid.unrefitted, i)
        samples = _samples(bucket, hybrid, i, forcing, periods, tuple(libraries))
        work = _Work(union, one, flow, periods, known, solver, warmup_days, progress)
        content = work.search(samples, basin, keep, again, margin, sure)
        if path is not None:
            write_json_atomic(path, content)
        found.append(_distilled(content, union, basin))
    return Distillation(union, tuple(found), time.perf_counter() - began)


@dataclass
class _Work:
    """What is common to all fits of a basin."""

    union: Union
    forcing: Forcing
    observed: Tensor
    periods: Periods
    start: dict[str, float]
    solver: OneStep
    warmup: int
    progress: bool

    def task(self, end: int) -> Task:
        """Fits to everything between the warm-up and interval ``end``."""
        model = self.union.model
        first = int((self.forcing.time < self.forcing.time[0] + _days(self.warmup)).sum())
        seen = self.observed[first:end]
        sigma = float(seen[~seen.isnan()].std())
        declared = self.union.structure.parameters
        needed = {*model.parameter_names, *model.store_names}
        free = [n for n in self.start if n in needed and not (n in declared and declared[n].fixed)]
        return Task(
            self.forcing.isel(slice(0, end)), [Observed("discharge", self.observed[:end, None], Gaussian(sigma))],
            {n: v for n, v in self.start.items() if n in needed}, free, score=slice(first, end), solver=self.solver,
            ranges=dict.fromkeys(model.store_names, Range(INITIAL.low, INITIAL.high, "mm", 1.0)), steps=STEPS,
            progress=self.progress,
        )  # fmt: skip

    def units(self, candidate: Candidate) -> dict[str, str]:
        """Units of the constants of a candidate, by their short names."""
        declared = self.union.model.structure.parameters
        return {short: declared[n].unit for n, short in self.union.short(candidate).items()}

    def search(self, samples: Samples, basin: str, keep: int, again: int, margin: float, sure: bool) -> dict:
        p, record = self.periods, self.forcing
        fit_end, valid = record.between(*p.fit_on).stop, record.between(*p.valid)
        end = max(fit_end, record.between(*p.refit_on).stop)
        task = self.task(fit_end)
        ranked = discover(self.union, None, task, samples=samples, keep=keep, starts=1, again=again, every=0)
        judged = score(ranked, self.task(max(end, valid.stop)), self.observed, valid)
        if not bool(judged.isfinite().any()):
            raise SolverError(
                f"Basin {basin}: over the validation period {' to '.join(p.valid)} no candidate could be run, or "
                "discharge does not vary."
            )
        ranked = preferred(ranked, judged, margin)
        chosen = ranked.candidates[ranked.chosen]
        task = self.task(end)
        refit = task.fit(self.union, [chosen], [ranked.values(ranked.chosen)])
        values = {n: float(v[0]) for n, v in refit.values.items()}
        return {
            "basin": basin,
            "libraries": _texts(self.union),
            "margin": margin,
            "candidate": [list(c) for c in chosen],
            "values": values,
            "rows": _rows(ranked),
            "chosen": ranked.chosen,
            "support": {n: list(v) for n, v in samples.support.items()},
            "diverged": int(judged.isinf().sum()),
            **(self.examined(ranked, task, values) if sure else {}),
        }

    def examined(self, ranked: Ranked, task: Task, values: dict[str, float]) -> dict:
        """Profiles and verdicts, or why there are none: nothing that was found before is lost by it."""
        try:
            return _written(examine(ranked, task, values), self.units(ranked.candidates[ranked.chosen]))
        except UdehydroError as error:
            why = {"determined": False, "reasons": [f"could not be examined: {error}"], "notes": []}
            return {"profiles": [], "verdicts": [{"store": store, **why} for store in leaving(self.union)]}


def _rows(ranked: Ranked) -> list[dict]:
    """Candidates for tables and figures, best in validation first."""
    fit = 1.0 - ranked.fits.chi2 / ranked.fits.count
    return [
        {
            "laws": {n: law.text for n, law in ranked.laws(i).items()},
            "latex": {n: law.latex() for n, law in ranked.laws(i).items()},
            "constants": ranked.constants[i],
            "fit": float(fit[i]),
            "valid": float(-ranked.criterion[i]),
        }
        for i in range(len(ranked.candidates))
    ]


def _written(found: Examined, units: Mapping[str, str]) -> dict:
    """For JSON: ends that are open are None."""
    profiles = [
        {
            "name": p.name,
            "unit": units.get(n, "mm"),
            "grid": p.grid.tolist(),
            "ratio": [r if math.isfinite(r) else None for r in p.ratio.tolist()],
            "best": p.best,
            "interval": [end if math.isfinite(end) else None for end in p.interval],
        }
        for n, p in found.profiles.items()
    ]
    verdicts = [
        {"store": n, "determined": v.determined, "reasons": list(v.reasons), "notes": list(v.notes)}
        for n, v in found.verdicts.items()
    ]
    return {"profiles": profiles, "verdicts": verdicts}


def _samples(bucket: Trained, hybrid: Trained, i: int, forcing: Forcing, periods: Periods, laws) -> Samples:
    """What the networks of basin ``i`` did in the years they were fitted to."""
    from udehydro.training.members import take  # training imports what this module reads

    model, parameters = (take(m, [i]) for m in (hybrid.unrefitted, hybrid.before_refit))
    record = _one(forcing, i).independent()
    part = record.between(*periods.fit_on)
    with torch.no_grad():
        run = simulate(
            model, record.isel(slice(0, part.stop)), theta=parameters(),
            storage0=parameters.storage0(model.store_names),
        )  # fmt: skip
    return sample(model, run, laws, structure=bucket.model.structure, alone=True)


def _values(trained: Trained, model: Balance, i: int) -> dict[str, float]:
    """Parameters and initial storages of basin ``i``, before they have seen the validation period."""
    with torch.no_grad():
        values = {n: v.flatten() for n, v in trained.before_refit().items()}
        start = trained.before_refit.storage0(model.store_names).reshape(-1, len(model.store_names))
    values |= dict(zip(model.store_names, start.unbind(-1), strict=True))
    return {n: float(v[i if len(v) > 1 else 0]) for n, v in values.items()}


def _one(forcing: Forcing, i: int) -> Forcing:
    """Record of one basin, batch (1,)."""
    values = {n: v.reshape(len(forcing), -1)[:, i : i + 1] for n, v in forcing.values.items()}
    names = forcing.basins or forcing.members
    return replace(forcing, values=values, basins=names[i : i + 1], members=())


def _days(count: int):
    return np.timedelta64(count, "D")


def _texts(union: Union) -> dict[str, list[str]]:
    return {law: [str(term) for term in library.terms] for law, library in union.libraries.items()}


def _read(path: Path, union: Union, basin: str) -> Distilled:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        same = (content["basin"], content["libraries"]) == (basin, _texts(union))
        found = _distilled(content, union, basin) if same else None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged ({error}): remove it, or run anew without resuming.") from None
    if found is None:
        raise ConfigError(f"{path} is of another basin or other libraries: remove it, or run anew without resuming.")
    return found


def _distilled(content: dict, union: Union, basin: str) -> Distilled:
    chosen = tuple(tuple(c) for c in content["candidate"])
    laws = union.laws(chosen, content["values"])
    model = Balance(union.structure, **laws)
    own = {n: r.default for law in laws.values() for n, r in law.constants.items()}
    declared = model.structure.parameters
    values = {n: own.get(n, content["values"].get(n, declared[n].default)) for n in model.parameter_names}
    values |= {n: content["values"][n] for n in model.store_names}
    support = {n: tuple(v) for n, v in content["support"].items()}
    # the texts that are told have to be those of the model
    rows, text = content["rows"], {n: law.text for n, law in laws.items()}
    rows[content["chosen"]]["laws"] = text
    if any(set(r["laws"]) != set(text) for r in rows):
        raise ValueError("laws of other fluxes")
    return Distilled(
        basin, model, values, content["values"], rows, content["chosen"], float(content["margin"]), support,
        int(content["diverged"]), content.get("verdicts", []), content.get("profiles", []),
    )  # fmt: skip
