"""Small networks in place of the planted laws: what they learn, what they cannot know, and what is read off them."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache

import torch
from _planted import DAYS, WARMUP, Case, S, bucket, curve_errors, judged, task_of, true_run, union
from torch import Tensor

from udehydro import Balance, FormulaLaw, Fraction, Positive, Range
from udehydro.discovery import Task, discover, sample
from udehydro.discovery.again import discover_again
from udehydro.discovery.identify import best_of, offset_profile, run, run_members, visited
from udehydro.discovery.verdict import APART
from udehydro.laws import SmallNetwork
from udehydro.simulate import pose
from udehydro.training.least_squares import LeastSquares, least_squares

STARTS, GOOD, STEPS = 5, 1.02, 100
"""Networks a case, kept up to so many times the best chi2; steps of Levenberg-Marquardt."""
LIKE = {"hidden": (4,), "scale": {"soil": (125.0, 75.0)}}
RATE = Range(0.01, 200.0, "mm/d", 5.0)
DRAINS = {
    "exponential": FormulaLaw(f"k*exp(f*({S} - 1))", {"k": RATE, "f": Range(0.5, 40.0, "1", 6.0)}),
    "power": FormulaLaw(f"k*power({S}, n)", {"k": RATE, "n": Range(0.5, 20.0, "1", 3.0)}),
}


@lru_cache
def hybrid(drains: str) -> Balance:
    """The bucket with a network for evapotranspiration, and for drainage a network or a formula with free constants."""
    learned = SmallNetwork("soil", name="drain", output=Positive(5.0), **LIKE)
    law = SmallNetwork("soil", name="share", output=Fraction("pet"), **LIKE)
    return Balance(bucket, et=law, drainage=DRAINS.get(drains, learned))


def trained(model: Balance, task: Task, seed: int) -> LeastSquares:
    """Networks of different start weights; those that come near the best, best first."""
    generator, weights = torch.Generator().manual_seed(seed), {}
    for name in ("et", "drainage"):
        law = model.structure.flux(name).law
        if isinstance(law, SmallNetwork):
            weights |= {n: w[:, 0] for n, w in law.initial(generator, STARTS).items()}
    constants = [n for n in ("k", "f", "n") if n in model.parameter_names]
    start = {**task.start, **weights}
    start |= {n: model.structure.parameters[n].default for n in constants}
    fit = least_squares(
        model, task.forcing.with_members(STARTS), task.observed, start, (*weights, *constants, *task.free),
        score=task.score, solver=task.solver, steps=STEPS, ranges=task.ranges, isotropic=1.0,
    )  # fmt: skip
    order = torch.argsort(fit.chi2)
    return fit.take(order[fit.chi2[order] <= GOOD * fit.chi2.min()])


def learn(case: Case) -> dict[str, dict]:
    """Results by what is learned: both laws, from discharge and with storage; ET beside a formula for drainage."""
    results = {
        "both": _learned(case, "both", False),
        "both + weekly storage": _learned(case, "both", True),
    }
    if case.drainage in DRAINS:
        results[f"{case.drainage} drainage"] = _learned(case, case.drainage, False)
    return results


def _learned(case: Case, drains: str, weekly: bool) -> dict:
    """Train, compare with the truth, ask whether the zero of storage is known, and put formulas in their place."""
    model, task, began = hybrid(drains), task_of(case, weekly), time.process_time()
    fit = trained(model, task, case.seed)
    middle = time.process_time()
    wide = replace(task, ranges={**task.ranges, "smax": Range(10.0, 5000.0, "mm", 400.0)})
    profile = offset_profile(model, wide, fit, "soil", isotropic=1.0, rounds=2)
    low, high = visited(run(model, task, best_of(fit, 0)[1]).store("soil")[WARMUP:])
    errors = [
        curve_errors(case, model, run(model, task, best_of(fit, m)[1]), task.forcing) for m in range(len(fit.chi2))
    ]
    result = {
        "kept": len(fit.chi2),
        "chi2": float(fit.chi2[0] / fit.count),
        "offset": [profile.best, *profile.interval],
        "flagged": profile.interval[1] - profile.interval[0] > APART * (high - low),
        "spread": spread(case, model, fit),
        "shifts": [e["shift"] / case.capacity for e in errors],
        "worst et error": max(e["et error"] for e in errors),
    } | errors[0]
    last = time.process_time()
    if drains == "both" and not weekly:
        samples = sample(model, run_members(model, task, fit), ("et", "drainage"), alone=True)
        first = discover(union(), None, task, samples=samples, starts=1, again=0)
        result["discovered"] = judged(case, task, discover_again(first, task))
    return result | {"seconds": [middle - began, last - middle, time.process_time() - last]}


def spread(case: Case, model: Balance, fit: LeastSquares) -> float:
    """Standard deviation of g over networks at equal storage, root mean square over what was visited."""
    if len(fit.chi2) < 2:
        return float("nan")
    soil = true_run(case).store("soil")[:-1]
    low, high = visited(soil[WARMUP:DAYS])
    curves = [_share(model, task_of(case).forcing, best_of(fit, m)[1], soil) for m in range(len(fit.chi2))]
    inside = (soil >= low) & (soil <= high)
    return float(torch.stack([c[inside] for c in curves]).var(0).mean().sqrt())


def _share(model: Balance, record, values: dict[str, float], soil: Tensor) -> Tensor:
    theta = {n: values[n] for n in model.parameter_names}
    with torch.no_grad():
        laws = model.named([soil], *pose(model, record, theta).at(slice(None)))
    return laws["et"] / laws["pet"]
