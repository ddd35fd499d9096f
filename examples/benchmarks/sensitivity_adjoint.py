"""Adjoint sensitivities on real basins: against central differences, in time per sensitivity, and against Sobol.

Part a checks every kind of derivative for 21 CAMELS-US basins, part b times 30 years of one basin and of all, part c
ranks the rain of the months before a flood by one adjoint run and by total Sobol indices. ``--part`` runs some only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from _report import camels, table, write
from bucket_and_hybrids import cache, chosen_basins
from scipy.stats import spearmanr
from torch import Tensor

from udehydro import Balance, Forcing, Range, simulate
from udehydro.data import read
from udehydro.files import write_json_atomic
from udehydro.models import exphydro_mended, m50
from udehydro.sensitivity import (
    Space,
    adjoint,
    delsa,
    flood_peak,
    low_flow_days,
    score,
    sobol,
    storage_at,
    verify,
    volume,
)
from udehydro.sensitivity.verify import KINDS
from udehydro.simulation import Simulation
from udehydro.solvers import AllAtOnce, Automatic, Compiled, Solver
from udehydro.training import nse, teach

SCRIPT = "sensitivity_adjoint"
YEARS_A, DAYS = 4, 3
FIRST, LAST = "1982-10-01", "1984-09-30"
BASIN = "01013500"
SHARP = 1e-6
"""Round-off of the differences, as a share of the gradient, below which they can tell an error of that size."""
REPEATS = 5
MONTHS, SAMPLES, POINTS, SPREADS = 12, 512, 64, (0.01, 0.1)
COLUMNS = {"f": "f", "smax": "Smax", "qmax": "Qmax", "ddf": "Df", "tmax": "Tmax", "tmin": "Tmin"}


class Basins:
    """Records of some basins with published parameters and initial storages (`HydroNODE`)."""

    def __init__(self, ids: list[str], years: int = 30):
        end = f"{1980 + years}-09-30"
        dataset = read(camels(), ids).sel(time=slice("1980-10-01", end))
        self.forcing = Forcing.from_dataset(dataset, ["prcp", "temp", "dayl"])
        self.observed = torch.as_tensor(dataset["discharge"].values)
        p = pd.read_csv(camels() / "reference" / "exphydro_parameters.csv", dtype={"gauge_id": str})
        p = p.set_index("gauge_id").loc[list(self.forcing.basins)]
        self.theta = {n: torch.as_tensor(p[c].to_numpy()) for n, c in COLUMNS.items()}
        self.start = {s: torch.as_tensor(p[c].to_numpy()) for s, c in (("snow", "S0_init_mm"), ("soil", "S1_init_mm"))}

    def of(self, model: Balance) -> dict:
        """What :func:`simulate` and the others need, by name."""
        declared = model.structure.parameters
        theta = {n: self.theta.get(n, declared[n].default) for n in model.parameter_names}
        return {"theta": theta, "storage0": self.start}

    def run(self, model: Balance, solver: Solver | None = None) -> Simulation:
        with torch.no_grad():
            return simulate(model, self.forcing, **self.of(model), solver=solver)


def hybrid(basins: Basins) -> Balance:
    """M50 with networks shared by all basins, taught what M0 does there."""
    bucket, model = Balance(exphydro_mended), m50(seed=0)
    teach(model, basins.run(bucket), steps=200)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=list("abc"), action="append", help="only this part; the rest as kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = cache().with_name(f"{SCRIPT}.json")
    found = json.loads(kept.read_text()) if kept.exists() else {}
    for part, run in (("a", differences), ("b", times), ("c", months)):
        if part in (options.part or "abc"):
            found[part] = run()
            write_json_atomic(kept, found)
    report(found)


# --- a: every kind of derivative -------------------------------------------------------------------------------------


def differences() -> dict:
    basins = Basins(chosen_basins(), YEARS_A)
    flow = basins.observed[basins.forcing.between(FIRST, LAST)]
    low = float(flow.quantile(0.1))
    objectives = {
        "volume": volume("discharge", FIRST, LAST),
        "volume of et": volume("et", FIRST, LAST),
        "flood peak": flood_peak(FIRST, LAST),
        "low-flow days": low_flow_days(low, 0.3 * low, FIRST, LAST),
        "storage": storage_at("soil", LAST),
        "NSE": score(nse, basins.observed, FIRST, LAST),
    }
    result = {"basins": len(basins.forcing.basins), "low": low}
    for name, model in (("M0", Balance(exphydro_mended)), ("hybrid", hybrid(basins))):
        solver = Automatic(compile=True, tolerance=1e-12, warm_start=False)
        began = time.perf_counter()
        options = dict(solver=solver, days=DAYS)
        found = verify(
            model, basins.forcing, objectives, **basins.of(model), **options, kinds=KINDS[:-1], progress=True
        )
        if name == "hybrid":  # weights are shared by the basins: each by itself
            alone = [Basins([b], YEARS_A) for b in basins.forcing.basins]
            found = pd.concat([found, *(of_weights(model, b, objectives, options) for b in alone)], ignore_index=True)
        found["kind"] = found["quantity"].str.split(" ").str[0]
        found["sharp"] = found["round_off"] < SHARP
        rows = []
        for (objective, kind), part in found.groupby(["objective", "kind"], sort=False):
            sharp, blunt = part[part["sharp"]], part[~part["sharp"]]
            rows.append([objective, kind, sharp["error"].median(), sharp["error"].max(), len(sharp), len(part),
                         (blunt["error"] / blunt["round_off"]).max(), int(part["kinks"].sum()),
                         int(part["entries"].sum())])  # fmt: skip
        worst = found[found["sharp"]].sort_values("error").iloc[-1]
        result[name] = {"rows": rows, "seconds": time.perf_counter() - began, "worst": worst.astype(str).to_dict()}
        print(name, worst.to_dict(), flush=True)
    return result


def of_weights(model: Balance, basins: Basins, objectives: dict, options: dict) -> pd.DataFrame:
    own = objectives | {"NSE": score(nse, basins.observed, FIRST, LAST)}
    found = verify(model, basins.forcing, own, **basins.of(model), **options, kinds=["weights"])
    return found.assign(basin=basins.forcing.basins[0])


# --- b: time --------------------------------------------------------------------------------------------------------


def times() -> list[dict]:
    found = []
    for ids in ([BASIN], chosen_basins()):
        basins = Basins(ids)
        models = {"M0": Balance(exphydro_mended)} | ({"hybrid": hybrid(basins)} if len(ids) == 1 else {})
        for name, model in models.items():
            for driver in (AllAtOnce, Compiled):
                found.append(
                    {"model": name, "basins": len(ids), "driver": driver.__name__} | timed(basins, model, driver)
                )
                print(found[-1], flush=True)
    return found


def timed(basins: Basins, model: Balance, driver: type) -> dict:
    """Forward run, adjoint, and what a forward run costs where many are run side by side, in turn."""
    forcing, given = basins.forcing, basins.of(model)
    objective = flood_peak("2005-10-01", "2010-09-30")
    solver = driver(warm_start=False)
    members = max(1, 40 // len(forcing.basins))
    many = forcing.with_members(members)

    def forward(record: Forcing) -> None:
        with torch.no_grad():
            objective(simulate(model, record, **given, solver=solver))

    calls: dict[str, Callable[[], object]] = {
        "forward": partial(forward, forcing),
        "adjoint": lambda: adjoint(model, forcing, objective, **given, solver=solver),
        "with fluxes": lambda: adjoint(model, forcing, objective, **given, solver=solver, fluxes=True),
        "side by side": partial(forward, many),
    }
    seconds: dict[str, list[float]] = {n: [] for n in calls}
    for call in calls.values():
        call()
    for _ in range(REPEATS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    found = {n: statistics.median(s) for n, s in seconds.items()}
    found["ratio"] = statistics.median(a / f for a, f in zip(seconds["adjoint"], seconds["forward"], strict=True))
    found["side by side"] /= members
    return found | {"sensitivities": len(forcing) * len(model.forcing_names)}


# --- c: the rain of which month? ------------------------------------------------------------------------------------


def months() -> dict:
    """One adjoint run against total Sobol indices: rain of the twelve months before the largest flood."""
    basins, model = Basins([BASIN]), Balance(exphydro_mended)
    given, solver = basins.of(model), Automatic(compile=True, warm_start=False)
    run = basins.run(model, solver)
    late = basins.forcing.between("1985-10-01", "2010-09-30")
    peak = late.start + int(run.discharge[late].argmax())
    first = peak - 30 * MONTHS + 1
    cut = basins.forcing.isel(slice(first, peak + 1))
    start = dict(zip(model.store_names, run.storage[first].unbind(-1), strict=True))
    theta, day = given["theta"], str(cut.time[-1])[:10]
    objective = flood_peak(day, day)
    adjoint(model, cut, objective, theta=theta, storage0=start, solver=solver)  # compiles
    began = time.perf_counter()
    found = adjoint(model, cut, objective, theta=theta, storage0=start, solver=solver)
    seconds = time.perf_counter() - began
    rain = cut.values["prcp"]
    local = (found.forcing["prcp"] * rain).reshape(MONTHS, 30, -1).sum((1, 2)).abs()
    names = [f"rain of month {i - MONTHS}" for i in range(MONTHS)]

    def function(values: dict[str, Tensor]) -> Tensor:
        factors = torch.stack([values[n] for n in names]).repeat_interleave(30, 0).unsqueeze(-1)  # (T, N, 1)
        many = cut.with_members(factors.shape[1])
        many = replace(many, values={**many.values, "prcp": many.values["prcp"] * factors})
        return objective(simulate(model, many, theta=theta, storage0=start, solver=solver))[:, 0]

    for call in (sobol, delsa):  # compiles
        call(function, Space({n: Range(0.9, 1.1, "1", 1.0) for n in names}), samples=2, progress=None)
    result = {"flood": day, "value": float(found.value), "adjoint": local.tolist(), "seconds": seconds, "spreads": {}}
    for spread in SPREADS:
        space = Space({n: Range(1.0 - spread, 1.0 + spread, "1", 1.0) for n in names})
        began = time.perf_counter()
        total = sobol(function, space, samples=SAMPLES, progress=None)
        middle = time.perf_counter()
        mean = delsa(function, space, samples=POINTS, progress=None)
        result["spreads"][str(spread)] = {
            "ST": total["ST"].values.tolist(), "conf": total["ST_conf"].values.tolist(), "runs": total.attrs["runs"],
            "sobol": middle - began, "nu": mean["nu"].values.tolist(), "delsa": time.perf_counter() - middle,
        }  # fmt: skip
    return result


# --- page -----------------------------------------------------------------------------------------------------------


def report(found: dict) -> None:
    parts = [text(found[p]) for p, text in (("a", of_differences), ("b", of_times), ("c", of_months)) if p in found]
    write(SCRIPT, "Adjoint sensitivities", "\n\n".join(parts))


def of_differences(found: dict) -> str:
    rows = []
    for model in ("M0", "hybrid"):
        for objective, kind, median, worst, sharp, cases, blunt, kinks, entries in found[model]["rows"]:
            errors = [f"{median:.0e}", f"{worst:.1e}", f"{sharp} of {cases}", "" if sharp == cases else f"{blunt:.2f}"]
            rows.append([model, objective, kind, *(e.replace("nan", "") for e in errors), f"{kinks} of {entries}"])
    seconds = ", ".join(f"{n} {found[n]['seconds']:.0f} s" for n in ("M0", "hybrid"))
    cases = [(model, *r) for model in ("M0", "hybrid") for r in found[model]["rows"]]
    above = "; ".join(f"{m}, {o} by {k} {worst:.1e}" for m, o, k, _, worst, *_ in cases if worst > SHARP) or "none"
    head = ["model", "objective", "derivative by", "error, median", "worst", "sharp cases", "rest: error / round-off",
            "kinks left out"]  # fmt: skip
    return f"""### Against central differences, {found["basins"]} basins

{YEARS_A} years from 1980-10-01, published parameters (M0) and M50 whose networks, shared by all basins, were taught
what M0 does; objectives count from {FIRST} to {LAST}; low flow is {found["low"]:.2f} mm/d.
`sensitivity.verify`: for every basin, objective and quantity the relative difference in norm of {DAYS} random intervals
of each series and the one that matters most to each objective, all parameters, initial storages, lambda of all stores
at {DAYS} edges, and {DAYS} random directions of the weights; best of five steps. An entry with a kink within a stencil
is taken from the next smaller step; one that has a kink at every step is left out and counted.

Differences are the blunter of the two. Cases count as sharp where round-off of the differences (1e-14 of the value
by the step) is below {SHARP:g} of the gradient; errors in the first columns are theirs. The others are derivatives so
small beside the value that differences cannot tell an error of that size (initial storages that years have forgotten):
the column behind is the largest of their errors as a share of that round-off, some ones where nothing contradicts the
adjoint. Worst sharp cases above {SHARP:g}: {above}.
The first of them that was looked at (M0, volume by flux, 09497980) lies on a kink of the melt too weak to be told from
round-off by these steps: one-sided slopes differ by 6e-6 of the derivative, and the adjoint is the slope of one side.
{seconds}.

{table(head, rows)}"""


def of_times(found: list[dict]) -> str:
    rows = []
    for r in found:
        basins = r["basins"]
        each, difference = r["adjoint"] / r["sensitivities"] / basins, 2 * r["side by side"] / basins
        milliseconds = [f"{1e3 * r[n]:.1f}" for n in ("forward", "adjoint", "with fluxes")]
        rows.append([
            f"{r['model']}, {basins} basin{'s' if basins > 1 else ''}", r["driver"], *milliseconds, f"{r['ratio']:.2f}",
            f"{1e6 * each:.2f}", f"{1e3 * difference:.2f}", f"{difference / each:,.0f}",
        ])  # fmt: skip
    head = ["", "driver", "forward, ms", "adjoint, ms", "with fluxes, ms", "adjoint / forward",
            "adjoint, us per sensitivity", "difference, ms per sensitivity", "ratio"]  # fmt: skip
    return f"""### Time per sensitivity

Derivatives of the largest flood peak of the last five years by {found[0]["sensitivities"]:,} daily values (30 years x 3
forcings) of every basin, by all parameters, storages at all dates and weights: one run and one backward pass. The
forward run is the same without derivatives. Medians of {REPEATS} calls in turn; "with fluxes" adds derivatives by every
flux of every day. A central difference needs two runs for each sensitivity of a basin, here at the price of a run where
some 40 are run side by side.

{table(head, rows)}"""


def of_months(found: dict) -> str:
    rows, local = [], np.array(found["adjoint"])
    spreads = found["spreads"]
    for i in np.argsort(local)[::-1]:
        total = [f"{r['ST'][i]:.4f} (+- {r['conf'][i]:.4f})" for r in spreads.values()]
        rows.append([f"{30 * (MONTHS - i)} to {30 * (MONTHS - i) - 29} days", f"{local[i]:.3f}", *total])
    said = []
    for spread, r in spreads.items():
        rank, mean = (spearmanr(v, r["ST"]).statistic for v in (local, r["nu"]))
        said.append([
            f"+- {100 * float(spread):.0f} %", f"{r['runs']:,}", f"{r['sobol']:.2f}", f"{rank:.2f}",
            f"{r['sobol'] / found['seconds']:,.0f}", f"{mean:.2f}", f"{r['sobol'] / r['delsa']:.0f}",
        ])  # fmt: skip
    head = ["rain varies by", "runs of Sobol", "seconds", "rank correlation with one adjoint run", "times its seconds",
            f"with the mean square of {POINTS} adjoint runs", "times their seconds"]  # fmt: skip
    totals = [f"ST for +- {100 * float(s):.0f} %" for s in spreads]
    return f"""### Which month's rain made a flood: adjoint runs against Sobol

Basin {BASIN}, M0, peak of {found["value"]:.2f} mm/d on {found["flood"]}. The rain (and snow) of each of the {MONTHS}
periods of 30 days up to it is a factor. One adjoint run ({1e3 * found["seconds"]:.1f} ms) sums derivative x rain by
period; SALib's Sobol varies each, all runs as one batch. A derivative is local: where rain varies by so much that snow
lasts to the flood or not, one derivative does not see it; the mean square over adjoint runs at {POINTS} points of the
range does.

{table(head, said)}

{table(["rain of days before", "adjoint: mm/d per 100 % of it", *totals], rows)}"""


if __name__ == "__main__":
    main()
