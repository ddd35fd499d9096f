"""Real soil moisture adds what discharge cannot: both laws of a soil bucket from three years of a measured profile.

Networks learn evapotranspiration and drainage first and say how the data are best read; then all pairs of laws of the
library are refitted, and chosen on the second half of 2015. 2016 is run at the end. No discharge is measured
at the site: what it would have said is asked of twins whose truth is what was found. Takes some minutes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace

import torch
from _schwingbach_data import LATE
from _soil_moisture import (
    FIT,
    LINEAR,
    METHODS,
    READINGS,
    TEST,
    TRAIN,
    VALID,
    Setting,
    climatology,
    hybrid,
    named,
    scores,
    trusted,
    union,
)
from _soil_moisture_report import report
from torch import Tensor
from tqdm import tqdm

from udehydro import Balance
from udehydro.discovery import Candidate, Ranked, Samples, Task, discover, fisher_spectrum, preferred, sample
from udehydro.discovery.again import discover_again
from udehydro.discovery.identify import Profile, offset_profile, profile, run, run_members, visited
from udehydro.discovery.judge import simulated
from udehydro.discovery.verdict import candidate, differences_of, verdict, whitened, with_halved_steps
from udehydro.simulate import pose
from udehydro.simulation import Simulation
from udehydro.solvers import SDIRK2, AllAtOnce
from udehydro.structure import Range
from udehydro.training import Gaussian, LeastSquares, Observed, least_squares, nse

MEMBERS, STEPS, LONG, MARGIN = 5, 60, 200, 0.01
"""Networks, their steps of Levenberg-Marquardt on real data, where more would learn errors, and on the twins'; NSE of
validation within which the shortest laws are taken."""
CLOCKS = (LATE, 0)
"""Hours by which the clock of the probe at 25 cm is put right; the series as stored is there to compare only."""
CAPACITY = {"residual": 100.0, "smax": 80.0}
"""Where networks spill: at 180 mm to begin with. Their laws know no residual water."""
DISCHARGE = Gaussian(0.05, log_offset=0.02)
"""Errors of the twins' discharge: 5 %."""
SHIFTS = (-40.0, -20.0, -10.0, -5.0, -2.0, 0.0, 2.0, 5.0, 10.0, 20.0, 40.0)
RESIDUALS = (0.0, 20.0, 40.0, 60.0, 70.0, 80.0, 85.0, 90.0, 95.0, 100.0, 105.0, 109.0)
"""Where the zero of available water is held [mm]: from the truth in the twins; in reality, up to the driest day."""


def learn(task: Task, begin: LeastSquares | None = None, steps: int = STEPS) -> LeastSquares:
    """Networks of several start weights, or further on from where others ended."""
    generator, weights = torch.Generator().manual_seed(0), {}
    for name in ("et", "drainage"):
        drawn = hybrid().structure.flux(name).law.initial(generator, MEMBERS)
        weights |= {n: w[:, 0] for n, w in drawn.items()}
    start = {**task.start, **CAPACITY, **weights} if begin is None else begin.values
    free = (*weights, *(n for n in task.free if n != "residual"))
    return least_squares(
        hybrid(), task.forcing.with_members(MEMBERS), task.observed, start, free, solver=task.solver, steps=steps,
        ranges={**task.ranges, "smax": Range(40.0, 150.0, "mm", 80.0)}, isotropic=1.0,
    )  # fmt: skip


def validation(simulation: Simulation, late: int = LATE) -> Tensor:
    """NSE of storage (M,) over the validation period, on a clock."""
    part = simulation.forcing.between(*VALID)
    ends = simulation.store("soil")[1:][part][..., 0]
    return nse(ends, trusted(late)[1:][part].expand_as(ends))


def find(task: Task, samples: Samples | None = None) -> Ranked:
    """All pairs of laws, from what networks nominate, and then as likenesses of the best."""
    return discover_again(discover(union(), None, task, samples=samples, starts=1, again=0), task)


def chosen_on_validation(setting: Setting, samples: Samples) -> dict:
    """What both ways to see errors choose from fits that end before the validation period; the better of them."""
    task, results = setting.task(FIT), {}
    plain = find(task, samples)
    white = whitened(union().model, task, plain.values(0))
    for errors, found in (("independent", plain), ("AR(1)", find(white, samples))):
        judged = validation(simulated(found, setting.task(TRAIN)))
        decided, likely = preferred(found, judged, MARGIN), found.candidates[found.chosen]
        pair = decided.candidates[decided.chosen]
        nse_of = dict(zip(found.candidates, judged.tolist(), strict=True))
        results[errors] = {"chosen": pair, "nse": nse_of[pair], "likely": likely, "likely nse": nse_of[likely]}
    return max(results.values(), key=lambda r: r["nse"]) | {"errors": results}


def at_face_value(setting: Setting) -> dict:
    """What the best of all pairs of laws does in validation where rain and PET are taken as they are."""
    face = replace(setting, reading="face value")
    found = find(face.task(FIT))
    judged = validation(simulated(found, face.task(TRAIN))).nan_to_num(-math.inf)
    return {"nse": float(judged.max()), "pair": found.candidates[int(judged.argmax())]}


def examined(found: Ranked, task: Task, pair: Candidate) -> dict:
    """How sure laws are: verdict, profiles and spectrum, with errors correlated as the residuals are."""
    here = replace(found, chosen=found.candidates.index(pair))
    model, ranged, fit, member = candidate(here, task)
    profiles = [profile(model, ranged, fit, "residual", RESIDUALS, member=member)]
    profiles += [profile(model, ranged, fit, n, member=member) for n in ("gain", *union().free(pair))]
    offset = offset_profile(model, ranged, fit, "soil", member=member)
    halved = with_halved_steps(here, task)
    soil = run(model, task, here.values(here.chosen)).store("soil")
    water = (soil - fit.values["residual"][member]).flatten()
    return {
        "verdict": verdict(here, task, "soil", profiles=profiles, offset=offset, halved=halved),
        "behind": float(found.criterion[here.chosen] - found.criterion[0]),
        "differences": differences_of(here, task, "soil")[1], "profiles": profiles, "offset": offset,
        "spectrum": fisher_spectrum(fit, member), "values": here.values(here.chosen), "available": visited(water),
    }  # fmt: skip


def twin(setting: Setting, values: Mapping[str, float], pair: Candidate, error: Gaussian) -> dict[str, dict]:
    """Laws found are the truth of the same days, in 24 steps a day: what do discharge, moisture and both say of them?

    Moisture has the errors of the real one (``error``), or independent ones of 1 mm. Rain and gain are known.
    """
    task = setting.task(TRAIN)
    truth = run(union().model, replace(task, solver=AllAtOnce(SDIRK2, substeps=24)), values)
    flow, soil = truth.discharge, truth.store("soil")
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(x.shape, generator=generator, dtype=soil.dtype) for x in (flow, soil)]
    wrong = drawn[1].clone()
    for k in range(1, len(wrong)):
        wrong[k] = error.correlation * wrong[k - 1] + math.sqrt(1.0 - error.correlation**2) * drawn[1][k]
    discharge = Observed("discharge", flow * torch.exp(DISCHARGE.sigma * drawn[0]), DISCHARGE)
    moisture = Observed("soil", soil + error.sigma * wrong, error)
    seen = {"discharge": [discharge], "moisture, errors as real": [moisture],
            "moisture, errors 1 mm": [Observed("soil", soil + drawn[1], Gaussian(1.0))],
            "discharge + moisture as real": [discharge, moisture]}  # fmt: skip
    start = {**task.start, **{n: values[n] for n in ("gain", "share", "amount")}}
    results = {}
    for name, observed in seen.items():
        # discharge shows no total: nothing says what of it is residual, so that is given
        total = ("residual",) if any(o.name == "soil" for o in observed) else ()
        given = {} if total else {"residual": values["residual"]}
        this = replace(task, observed=observed, start={**start, **given}, free=("smax", "soil", *total))
        results[name] = {"formulas": by_formulas(this, truth, pair), "networks": by_networks(this, truth)}
    return results


def by_formulas(task: Task, truth: Simulation, pair: Candidate) -> dict:
    """A search beside the truth: laws, class, errors, and where available water begins."""
    found = find(task)
    model, ranged, fit, member = candidate(found, task)
    rivals = [found.candidates[i] for i in found.rivals]
    result = {"chosen": named(found.candidates[found.chosen])} | errors(model, task, found.values(found.chosen), truth)
    for i, law in enumerate(("et", "drainage")):
        kinds = {c[i] for c in rivals}
        result |= {f"{law} class": len(kinds), f"{law} in class": pair[i] in kinds}
    if "residual" in task.free:
        true = float(truth.theta["residual"].mean())
        p = profile(model, ranged, fit, "residual", [true + c for c in SHIFTS], member=member)
        return result | {"zero": (p.grid - true, p.ratio, tuple(end - true for end in p.interval))}
    p = offset_profile(model, ranged, fit, "soil", SHIFTS, member=member)
    return result | {"zero": turned(p, result["moved"])}


def by_networks(task: Task, truth: Simulation) -> dict:
    """Networks for both laws beside the truth; their zero is that of total storage, which moves against the laws."""
    fit = learn(task, steps=LONG)
    member = int(fit.chi2.argmin())
    result = errors(hybrid(), task, {n: float(v[member]) for n, v in fit.values.items()}, truth)
    p = offset_profile(hybrid(), task, fit, "soil", SHIFTS, member=member, isotropic=1.0, rounds=2)
    return result | {"zero": turned(p, result["moved"])}


def turned(p: Profile, moved: float) -> tuple[Tensor, Tensor, tuple[float, float]]:
    """A profile of storage as one of its zero: storage that is higher against the same laws means a lower zero."""
    return -(p.grid + moved).flip(0), p.ratio.flip(0), tuple(-(end + moved) for end in reversed(p.interval))


def share_of(series: Tensor, truth: Tensor) -> float:
    """Root mean square of a difference, as a share of the mean of the truth."""
    return float((series - truth).square().mean().sqrt() / truth.mean().abs())


def errors(model: Balance, task: Task, values: Mapping[str, float], truth: Simulation) -> dict[str, float]:
    """Daily ET, and both laws at true water contents visited, as shares of means; how much storage is too high [mm]."""
    simulation, soil = run(model, task, values), truth.store("soil")
    low, high = visited(soil)
    inside = (soil[:-1] >= low) & (soil[:-1] <= high)
    result = {"daily et": share_of(simulation.rate("et"), truth.rate("et"))}
    said = []
    for m, theta in ((model, simulation.theta), (truth.model, truth.theta)):
        with torch.no_grad():
            laws = m.named([soil[:-1]], *pose(m, task.forcing, theta).at(slice(None)))
        # networks may share the outflow otherwise between drainage and overflow
        said.append({"et": laws["et"][inside], "drainage": (laws["drainage"] + laws["overflow"])[inside]})
    result |= {f"{law} error": share_of(*(x[law] for x in said)) for law in ("et", "drainage")}
    return result | {"moved": float((simulation.store("soil") - soil).mean())}


def work() -> dict:
    """Everything, in the order in which it was to be known."""
    began, networks = time.perf_counter(), {}
    bar = tqdm(total=len(CLOCKS) * len(METHODS) * len(READINGS) + 6)

    def done(what: str) -> None:
        bar.set_description(what)
        bar.update()

    for setting in (Setting(p, r, late) for late in CLOCKS for r in READINGS for p in METHODS):
        fit = learn(setting.task(FIT))
        networks[setting] = fit, validation(run_members(hybrid(), setting.task(TRAIN), fit), setting.late)
        done("networks")
    setting = max((s for s in networks if s.late == LATE), key=lambda s: float(networks[s][1].median()))
    first, judged = networks[setting]
    went = run_members(hybrid(), setting.task(FIT), first)
    samples = sample(hybrid(), went, ("et", "drainage"), member=int(first.chi2.argmin()))
    choice, face = chosen_on_validation(setting, samples), at_face_value(setting)
    done("search to mid-2015")
    task = setting.task(TRAIN)
    found = find(task, samples)
    white = whitened(union().model, task, found.values(found.chosen))
    correlated = find(white, samples)
    done("search of both years")
    pairs = {"by validation": choice["chosen"], "by likelihood": found.candidates[found.chosen]}
    fitted = {n: found.values(found.candidates.index(p)) for n, p in pairs.items()}
    exams, twins = {}, {}
    for name, pair in pairs.items():
        exams[name] = examined(correlated, white, pair)
        done("profiles")
    for name, pair in pairs.items():
        twins[name] = twin(setting, fitted[name], pair, white.observed[0].loss)
        done("twins")
    # what is compared in the test year, on which nothing was chosen
    whole, plain = setting.task(TEST), replace(setting, reading="face value")
    linear = plain.task(TRAIN).fit(union(), [LINEAR] * 2, [{}, {"smax": 200.0, "residual": 50.0}])
    best = linear.take(linear.chi2.argmin()[None])
    learned = run_members(hybrid(), whole, learn(task, first))
    simulations = {
        "linear bucket, face value": run_members(union().model, plain.task(TEST), best),
        "linear bucket, gain": run(union().model, whole, found.values(found.candidates.index(LINEAR))),
        "networks": learned,
        **{f"formula {n}": run(union().model, whole, v) for n, v in fitted.items()},
    }
    column = {"networks": int(judged.argmax())}
    series = {"climatology of 2014 and 2015": climatology()}
    series |= {n: s.store("soil").flatten(1)[:, column.get(n, 0)] for n, s in simulations.items()}
    scored = {n: scores(s) for n, s in series.items()}
    bar.close()
    return {
        "networks": networks, "setting": setting, "choice": choice, "face": face, "found": found,
        "correlated": correlated, "white": white, "pairs": pairs, "fitted": fitted, "exams": exams, "twins": twins,
        "simulations": simulations, "series": series, "scores": scored, "seconds": time.perf_counter() - began,
    }  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    report(work())


if __name__ == "__main__":
    main()
