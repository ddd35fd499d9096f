"""Controls for M50 and its formulas on CAMELS basins: what part of their score needs no physics, and no networks?

In every third basin of the table of bucket_and_hybrids.py, same years, same training: M50 in the sensible and in the
senseless structure, M50 whose networks read shuffled weather, a free network with as many weights, and the search among
all pairs of one-term laws without any network. Results of bucket_and_hybrids.py and discovery_camels.py are needed.
Results are kept, and a stopped run goes on; ``--report`` writes the page from what there is.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from _report import table, write
from bucket_and_hybrids import HYBRIDS, TRAIN, VALID, WARMUP, Unit, by_period, cache, chosen_basins, data, formula
from discovery_camels import MARGIN, RANGES, SOLVER, start_of, tested
from tqdm import tqdm

from udehydro import Balance, Forcing, NeuralLaw
from udehydro.discovery import Library, Task, Union, discover, free_network, reading_shuffled, shuffled, usual
from udehydro.discovery.judge import preferred, score
from udehydro.errors import UdehydroError
from udehydro.files import write_json_atomic
from udehydro.laws import Positive
from udehydro.models import exphydro_mended, nonsense
from udehydro.parameters import Calibrated
from udehydro.structure import Range
from udehydro.training import Observed, fit
from udehydro.training.gaussian import Gaussian
from udehydro.training.recipes import Periods, Trained, calibrate, hybridise
from udehydro.training.stage import Stage

SCRIPT = "discovery_controls"
EVERY = 3
WEATHER = {"prcp": "mm/d", "temp": "degC", "dayl": "h"}
HIDDEN = (22, 22)
"""Widths that give the free network about as many weights as both networks of M50 have."""
PERIODS = Periods.of(TRAIN, valid=VALID)
FREE = ("smax", "ddf", "tmax", "tmin", "soil")


def blind(members: int | None, seed: int) -> dict:
    """M50 whose networks read another day's weather."""
    same = {"members": members, "seed": seed}
    return {
        "et": NeuralLaw("snow", "soil", "temp_shuffled", output=Positive(0.1, "dayl_shuffled"), **same),
        "discharge": NeuralLaw("soil", "prcp_shuffled", **same),
    }


def hybrid(bucket: Trained, laws: Callable, record: Forcing, target: torch.Tensor) -> Trained:
    kind = HYBRIDS["M50"]
    return hybridise(
        bucket, laws, record, target, PERIODS, seeds=1, steps=kind.steps, learning_rate=kind.learning_rate,
        teach_steps=kind.teach_steps, progress=False,
    )  # fmt: skip


def free(record: Forcing, target: torch.Tensor) -> Trained:
    """The free network, trained as hybrids are: fit, number of steps by validation, the same again with it."""
    kind, made = HYBRIDS["M50"], []
    first = kind.steps // 5
    stages = [Stage("adam", first, learning_rate=kind.learning_rate), Stage("lbfgs", kind.steps - first)]
    many, frozen = record.independent(), None
    for years, valid in ((PERIODS.fit_on, PERIODS.valid), (PERIODS.refit_on, None)):
        model = free_network(WEATHER, hidden=HIDDEN, members=1, seed=0)
        network = model.structure.quantities[0].law
        moments = {n: (float(record.values[n].mean()), float(record.values[n].std())) for n in WEATHER}
        network.standardise(moments | {n: (0.0, 3.0) for n in model.store_names})
        initial = dict.fromkeys(model.store_names, Range(-1.0, 1.0, "1", 0.0))
        parameters = Calibrated.of(model, (1, 1), initial=initial)
        chosen = {"valid": valid} if valid else {"select": "frozen", "frozen_steps": frozen}
        result = fit(
            model, parameters, many, target[..., None], train=years, stages=stages, warmup_days=WARMUP, progress=None,
            **chosen,
        )  # fmt: skip
        frozen = result.steps if valid else frozen
        made.append((model, parameters, result))
    (_, _, chosen), (model, parameters, _) = made
    told = [{"valid_loss": float(chosen.valid[0]), "step": int(chosen.best_step[0])}]
    return Trained(model, parameters, record.basins, told, [], [])


def without_networks(bucket: Trained, record: Forcing, target: torch.Tensor) -> tuple[Union, tuple, dict, float]:
    """All pairs of one-term laws of the usual libraries, refitted from their defaults, chosen on validation."""
    union = Union(exphydro_mended, {n: Library(usual(exphydro_mended, n).terms) for n in ("et", "discharge")})
    start = {n: v for n, v in start_of(bucket).items() if n in (*union.model.parameter_names, *union.model.store_names)}

    def task(end: int) -> Task:
        q = Observed("discharge", target[:end, None], Gaussian(float(np.nanstd(target[WARMUP:end]))))
        return Task(record.isel(slice(0, end)), [q], start, FREE, score=slice(WARMUP, end), solver=SOLVER,
                    ranges=RANGES, steps=40)  # fmt: skip

    valid = record.between(*VALID)
    ranked = discover(union, None, task(valid.start), starts=1, again=5, keep=len(target))
    ranked = preferred(ranked, score(ranked, task(len(record)), target, valid), MARGIN)
    chosen = ranked.candidates[ranked.chosen]
    refit = task(len(record)).fit(union, [chosen], [ranked.values(ranked.chosen)])
    found = {n: float(v[0]) for n, v in refit.values.items()}
    return union, chosen, found, float(-ranked.criterion[ranked.chosen])


def scored(trained: Trained, forcing: Forcing, observed: torch.Tensor) -> dict:
    """NSE and KGE by period from one continuous run."""
    return {"valid": 1.0 - trained.chosen[0]["valid_loss"]} | by_period(trained.simulate(forcing), observed)


def control(kind: str, basin: str, before: dict) -> dict:
    """Train one control at a basin; only the last line looks at test years."""
    forcing, observed = data(basin)
    known = forcing.between(*TRAIN).stop
    forcing = shuffled(forcing, ["prcp", "temp", "dayl"])
    record, target = forcing.isel(slice(0, known)), observed[:known]
    bucket = formula(before[Unit(basin, "M0").key], basin)
    if kind == "search without networks":
        union, chosen, found, valid = without_networks(bucket, record, target)
        laws = {n: law.text for n, law in union.laws(chosen, found).items()}
        return {"valid": valid, "laws": laws} | tested(union, chosen, found, forcing, observed)
    if kind == "free network":
        return scored(free(record, target), forcing, observed)
    if kind == "M50, shuffled weather":
        blinded = Balance(reading_shuffled(exphydro_mended, ["prcp", "temp", "dayl"]))
        return scored(hybrid(replace(bucket, model=blinded), blind, record, target), forcing, observed)
    senseless = calibrate(nonsense, record, target, PERIODS, starts=4, steps=80, refit_steps=40, progress=False)
    if kind == "M0, senseless":
        return scored(senseless, forcing, observed)
    return scored(hybrid(senseless, HYBRIDS["M50"].laws, record, target), forcing, observed)


KINDS = ("search without networks", "M50, shuffled weather", "free network", "M0, senseless", "M50, senseless")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="write the page from what is there, run nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept, distilled = (cache().with_name(f"{name}.json") for name in (SCRIPT, "discovery_camels"))
    if not cache().exists() or not distilled.exists():
        raise SystemExit("Run bucket_and_hybrids.py and discovery_camels.py first: this compares with them.")
    before, formulas = json.loads(cache().read_text()), json.loads(distilled.read_text())
    results = json.loads(kept.read_text()) if kept.exists() else {}
    units = [(k, b) for b in chosen_basins()[::EVERY] for k in KINDS]
    for kind, basin in tqdm([] if options.report else units):
        if (key := f"{basin} {kind}") in results:
            continue
        began = time.process_time()
        try:
            results[key] = control(kind, basin, before)
        except UdehydroError as error:
            results[key] = {"failure": str(error)}
        results[key]["seconds"] = time.process_time() - began
        write_json_atomic(kept, results)
    report(results, before, formulas)


def report(results: dict, before: dict, formulas: dict) -> None:
    """A row for each model, a column for each basin; medians."""
    basins = [b for b in chosen_basins()[::EVERY] if b in formulas and all(f"{b} {k}" in results for k in KINDS)]
    basins = [b for b in basins if not any("failure" in results[f"{b} {k}"] for k in KINDS)]
    rows = {
        "M0": [before[Unit(b, "M0").key] for b in basins],
        "M50": [before[Unit(b, "M50").key] for b in basins],
        "formula read off M50": [formulas[b] for b in basins],
        **{k: [results[f"{b} {k}"] for b in basins] for k in KINDS},
    }
    shown = []
    for name, found in rows.items():
        valid, test = ([r[k] for r in found] for k in ("valid", "test"))
        shown.append([name, f"{np.median(valid):.3f}", f"{np.median(test):.3f}", *(f"{t:.3f}" for t in test)])
    models = Balance(exphydro_mended, **HYBRIDS["M50"].laws(1, 0)), free_network(WEATHER, hidden=HIDDEN, members=1)
    weights = " and ".join(str(sum(p.numel() for p in m.parameters())) for m in models)
    failed = sum("failure" in r for r in results.values())
    body = BODY.format(
        table=table(["model", "validation, median", "test, median", *basins], shown), weights=weights, failed=failed,
        minutes=f"{sum(r['seconds'] for r in results.values()) / 60:.0f}",
    )  # fmt: skip
    write(SCRIPT, "Discovery: controls", body)


BODY = """Every third basin of the table of M0 and M50, same years, same training (one seed). NSE; test years opened
once.

{table}

**Senseless**: `udehydro.models.nonsense`, in which rain is stored until it freezes. **Shuffled weather**: networks of
M50 that read the weather of another day, inside the sensible structure, which reads the right one. **Free network**:
two states with memory and no balance ({weights} weights in M50 and here). **Search without networks**: all pairs of
one-term laws of the usual libraries, refitted from their default constants. It is held back by that: formulas read off
M50 may have two terms for each law, of which there would be 2565 pairs. Failed: {failed}. {minutes} minutes of
processor time in all."""

if __name__ == "__main__":
    main()
