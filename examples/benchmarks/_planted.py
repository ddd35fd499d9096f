"""A bucket on real weather with planted laws: structure, true runs, what is observed of them, and a search."""

from __future__ import annotations

import csv
import math
import time
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from _report import camels
from torch import Tensor

from udehydro import Balance, Forcing, FormulaLaw, Range, Structure, flux, simulate
from udehydro.data import read
from udehydro.discovery import Candidate, Ranked, Task, Union, discover, outflows, shares
from udehydro.discovery.again import discover_again
from udehydro.discovery.identify import offset_profile, run, visited
from udehydro.discovery.library import OUTFLOWS, SHAPES
from udehydro.discovery.verdict import candidate, verdict, whitened, with_halved_steps
from udehydro.laws.smooth import excess, saturation
from udehydro.models import exphydro_mended
from udehydro.models.exphydro import pet
from udehydro.simulate import pose
from udehydro.simulation import Simulation
from udehydro.solvers import BACKWARD_EULER, SDIRK2, AllAtOnce, Compiled
from udehydro.structure import ATMOSPHERE, OUTLET
from udehydro.training import Observed
from udehydro.training.gaussian import Gaussian

DAYS, WARMUP, SUBSTEPS = 3652, 180, 24
"""Ten years from 1980-10-01; the first days are not scored; steps a day of the truth."""
SMAX, OFFSET, NOISE, WEEKLY = 250.0, 0.02, 0.05, 0.05
"""True capacity [mm]; discharge residuals are of log(Q + offset [mm/d]); noise of both kinds of observations."""
S = "saturation(soil, smax)"
ET = {
    "linear": f"pet*{S}",
    "saturating exponential": f"pet*(1 - exp(-3.0*{S}))",
    "threshold": f"pet*min(1, {S}/0.5)",
    "parabola": f"pet*{S}*(2 - {S})",
}
DRAINAGE = {"exponential": f"rate*exp(f*({S} - 1))", "power": f"rate*{S}**4", "linear": f"rate*{S}"}
RATES = {"exponential": 15.0, "power": 10.0, "linear": 2.5}
SNOW = ("Df", "Tmax", "Tmin")
SOLVERS = {"": Compiled(SDIRK2), "backward Euler": Compiled(BACKWARD_EULER), "SDIRK2 x2": Compiled(SDIRK2, substeps=2)}
START = {"smax": 400.0, "tau": 1.0, "soil": 200.0}
RANGES = {"soil": Range(1.0, 3000.0, "mm", 200.0)}


@flux(ATMOSPHERE, "soil")
def infiltration(inflow):
    """Rain and melt."""
    return inflow


@flux("soil", ATMOSPHERE)
def et(soil, pet, smax):
    """To be found."""
    return pet * saturation(soil, smax)


@flux("soil", OUTLET)
def drainage(soil, smax):
    """To be found."""
    return 5.0 * saturation(soil, smax)


@flux("soil", OUTLET)
def overflow(soil, smax, tau):
    """Spill at capacity."""
    return excess(soil, smax) / tau


bucket = Structure(
    name="planted bucket",
    stores={"soil": "mm"},
    forcings={"inflow": "mm/d", "pet": "mm/d"},
    parameters={
        "smax": Range(50.0, 3000.0, "mm", default=400.0),
        "tau": Range(0.005, 1.0, "d", default=1.0, fixed=True),
    },
    fluxes=(infiltration, et, drainage, overflow),
)


@lru_cache
def union() -> Union:
    """All 9 x 7 pairs of laws."""
    return Union(bucket, {"et": shares("pet", S), "drainage": outflows(S, Range(0.01, 200.0, "mm/d", 5.0))})


NAMES = (tuple(SHAPES), (*OUTFLOWS, "quadratic"))
"""Names of the terms of both libraries, in their order."""


@lru_cache
def published(basin: str) -> dict[str, float]:
    """EXP-HYDRO parameters of a basin."""
    with open(camels() / "reference" / "exphydro_parameters.csv", newline="") as file:
        row = next(r for r in csv.DictReader(file) if r["gauge_id"] == basin)
    return {n: float(v) for n, v in row.items() if n != "gauge_id"}


@lru_cache
def weather(basin: str) -> Forcing:
    """Rain and melt from the published snow module, and Hamon's PET; batch (1,)."""
    record = Forcing.from_dataset(read(camels(), [basin]), ["prcp", "temp", "dayl"]).isel(slice(0, DAYS))
    model = Balance(exphydro_mended)
    theta = {n: exphydro_mended.parameters[n].default for n in model.parameter_names}
    theta |= {n.lower().replace("df", "ddf"): published(basin)[n] for n in SNOW}
    simulation = simulate(model, record, theta=theta, storage0={"snow": 0.0, "soil": 300.0})
    inflow = simulation.rate("rainfall") + simulation.rate("melt")
    values = {"inflow": inflow, "pet": pet.law(record.values["temp"], record.values["dayl"])}
    return Forcing(values, dict.fromkeys(values, "mm/d"), record.time_edge, record.basins)


@dataclass(frozen=True)
class Case:
    """A truth (basin, both laws), a seed of its noise, and what is wrong with the data or the solver (``kind``)."""

    basin: str
    et: str
    drainage: str
    seed: int
    kind: str = "ideal"

    @property
    def key(self) -> str:
        return f"{self.kind}: {self.basin}, {self.et}, {self.drainage}, {self.seed}"

    @property
    def pair(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple((names.index(n),) for names, n in zip(NAMES, (self.et, self.drainage), strict=True))

    @property
    def capacity(self) -> float:
        return published(self.basin)["Smax"] if self.kind == "narrow" else SMAX

    def generator(self) -> torch.Generator:
        number = [self.basin, *ET, *DRAINAGE].index
        return torch.Generator().manual_seed(
            10007 * self.seed + 101 * int(self.basin[-4:]) + 11 * number(self.et) + number(self.drainage)
        )


@lru_cache
def truth(basin: str, et: str, drainage: str, narrow: bool) -> Simulation:
    """The true run, in 24 steps a day. ``narrow``: capacity and drainage as published."""
    theta = {"smax": SMAX, "tau": 1.0, "rate": RATES[drainage]}
    if drainage == "exponential":
        theta["f"] = 6.0
    if narrow:
        given = published(basin)
        # the library goes to 40
        theta |= {"smax": given["Smax"], "rate": given["Qmax"], "f": min(39.0, given["f"] * given["Smax"])}
    ranges = {n: Range(0.01, 200.0, u) for n, u in (("rate", "mm/d"), ("f", "1")) if n in theta}
    model = Balance(bucket, et=FormulaLaw(ET[et]), drainage=FormulaLaw(DRAINAGE[drainage], ranges))
    start = {"soil": 0.6 * theta["smax"]}
    return simulate(model, weather(basin), theta=theta, storage0=start, solver=AllAtOnce(SDIRK2, substeps=SUBSTEPS))


def true_run(case: Case) -> Simulation:
    return truth(case.basin, case.et, case.drainage, case.kind == "narrow")


def task_of(case: Case, weekly: bool = False) -> Task:
    """What is observed, with the errors of this kind of case, and how it is fitted: one setting for all."""
    simulation, generator = true_run(case), case.generator()
    flow, soil = simulation.discharge, simulation.store("soil")[1:]
    normal = torch.randn(flow.shape, generator=generator, dtype=flow.dtype)
    noise = 0.2 if case.kind == "AR(1) 20 %" else NOISE
    if case.kind.startswith("AR(1)"):
        for k in range(1, len(normal)):
            normal[k] = 0.95 * normal[k - 1] + math.sqrt(1.0 - 0.95**2) * normal[k]
    observed = [Observed("discharge", flow * torch.exp(noise * normal), Gaussian(NOISE, log_offset=OFFSET))]
    if weekly:
        sd = WEEKLY * case.capacity
        seen = soil + sd * torch.randn(soil.shape, generator=generator, dtype=soil.dtype)
        seen[torch.arange(len(seen)) % 7 != 0] = torch.nan
        observed.append(Observed("soil", seen, Gaussian(sd)))
    record = weather(case.basin)
    if case.kind.startswith("rain"):
        error = 0.3 if "30" in case.kind else 0.1
        normal = torch.randn(flow.shape, generator=generator, dtype=flow.dtype)
        wrong = record.values["inflow"] * torch.exp(error * normal - 0.5 * error**2)
        record = replace(record, values={**record.values, "inflow": wrong})
    return Task(
        record,
        observed,
        START,
        ("smax", "soil"),
        slice(WARMUP, DAYS),
        SOLVERS.get(case.kind, SOLVERS[""]),
        RANGES,
    )


def curve_errors(case: Case, model: Balance, simulation: Simulation, record: Forcing) -> dict[str, float]:
    """How far laws are from the truth: daily ET as a share of its mean; g = ET / PET over true storages that were
    visited (5 to 95 %), after storage is aligned by a constant and at equal storage; drainage likewise, of its mean."""
    true, part = true_run(case), slice(WARMUP, DAYS)
    soil = true.store("soil")[:-1]
    low, high = visited(soil[part])
    inside = ((soil >= low) & (soil <= high))[part]
    shift = (simulation.store("soil")[:-1] - soil)[part].mean()
    right = _laws(true.model, true.theta, weather(case.basin), soil)
    found = {"et error": series_error(simulation.rate("et")[part], true.rate("et")[part]), "shift": float(shift)}
    for name, moved in (("aligned", shift), ("equal", 0.0)):
        laws = _laws(model, simulation.theta, record, soil + moved)
        for law, scale in (("g", right["pet"]), ("drainage", right["drainage"][part][inside].mean())):
            flux_name = "et" if law == "g" else law
            gap = ((laws[flux_name] - right[flux_name]) / scale)[part][inside]
            found[f"{law} {name}"] = float(gap.square().mean().sqrt())
    return found


def series_error(series: Tensor, truth: Tensor) -> float:
    """Root mean square of the difference of two series, as a share of the mean of the second."""
    return float((series - truth).square().mean().sqrt() / truth.mean().abs())


def _laws(model: Balance, theta, record: Forcing, soil: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return model.named([soil], *pose(model, record, theta).at(slice(None)))


def treatments(case: Case) -> tuple[str, ...]:
    """Ways to fit the data of a kind of case."""
    if case.kind.startswith("AR(1)"):
        return ("plain", "whitened", "whitened + weekly storage")
    if case.kind.startswith("rain"):
        return ("plain", "whitened + weekly storage")
    return ("weekly storage",) if case.kind == "weekly storage" else ("plain",)


def find(task: Task) -> Ranked:
    """All pairs, first from the starts of the libraries, then as likenesses of the best."""
    return discover_again(discover(union(), None, task, starts=1, again=0), task)


def solve(case: Case) -> dict[str, dict]:
    """Results by treatment. Whitening takes the residuals of the plain search."""
    results, pilot = {}, None
    for treatment in treatments(case):
        task, began = task_of(case, "storage" in treatment), time.process_time()
        if "whitened" in treatment:
            task = whitened(union().model, task, pilot)
        found = find(task)
        pilot = found.values(found.chosen) if pilot is None else pilot
        results[treatment] = judged(case, task, found) | {"seconds": time.process_time() - began}
    return results


def judged(case: Case, task: Task, found: Ranked) -> dict:
    """The verdict on a search, and how it compares with the truth."""
    model, ranged, fit, member = candidate(found, task)
    profile = offset_profile(model, ranged, fit, "soil", member=member)
    says = verdict(found, task, "soil", offset=profile, halved=with_halved_steps(found, task))
    chosen, rivals = found.candidates[found.chosen], [found.candidates[i] for i in found.rivals]
    result = {
        "found": _named(chosen),
        "class": [_named(r) for r in rivals],
        "et": chosen[0] == case.pair[0],
        "drainage": chosen[1] == case.pair[1],
        "pair": chosen == case.pair,
        "et in class": case.pair[0] in [c[0] for c in rivals],
        "pair in class": case.pair in rivals,
        "gap": _gap(found, case),
        "behind": float(found.criterion[found.candidates.index(case.pair)] - found.criterion[0]),
        "chi2": float(fit.chi2[member] / fit.count),
        "smax": float(fit.values["smax"][member]) / case.capacity,
        "determined": says.determined,
        "reasons": list(says.reasons),
        "notes": list(says.notes),
        "offset": [profile.best, *profile.interval],
    }
    simulation = run(model, task, found.values(found.chosen))
    return result | curve_errors(case, model, simulation, task.forcing)


def _named(pair: Candidate) -> list[str]:
    return [names[c[0]] for names, c in zip(NAMES, pair, strict=True)]


def _gap(found: Ranked, case: Case) -> float:
    """From the best pair with the true ET law to the best with another."""
    right = torch.tensor([c[0] == case.pair[0] for c in found.candidates])
    return float(found.criterion[~right].min() - found.criterion[right].min())
