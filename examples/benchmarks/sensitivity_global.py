"""Which parameter dominates the bucket M0 where, over 120 CAMELS-US basins: total Sobol indices, and exact derivatives.

Also: what each method of global sensitivity costs and whether they rank parameters alike, whether the bound from
derivatives holds, and what becomes of the answer under other ranges. ``--report`` writes the page from what was kept.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from _report import DOCS, camels, table, write
from bucket_and_hybrids import cache

from udehydro import Balance, Forcing, Range, Simulation
from udehydro.data import read
from udehydro.files import write_atomic, write_netcdf_atomic
from udehydro.models import exphydro_mended
from udehydro.plot import style
from udehydro.plot.screening import dominant
from udehydro.sensitivity.delsa import delsa
from udehydro.sensitivity.response import Response
from udehydro.sensitivity.screening import dgsm, morris, pawn, rank_agreement, sobol
from udehydro.sensitivity.space import Space
from udehydro.solvers import Automatic
from udehydro.training import nse
from udehydro.training.metrics import log_flow, mean_flow

SCRIPT = "sensitivity_global"
FIRST, SCORED, YEARS = "1989-10-01", "1990-10-01", 3
"""Start of the runs, of what is judged, and how many water years that is."""
BASIN = "01013500"
SAMPLES, POINTS, REFERENCE = 512, 128, 4096
INITIAL = {"soil": Range(0.0, 500.0, "mm")}
PUBLISHED = {
    "f": Range(0.0, 0.1, "1/mm"), "smax": Range(100.0, 1500.0, "mm"), "qmax": Range(10.0, 50.0, "mm/d"),
    "ddf": Range(0.01, 5.0, "mm/d/K"), "tmax": Range(0.0, 3.0, "degC"), "tmin": Range(-3.0, 0.0, "degC"),
}  # fmt: skip
MEANING = {"mean": "mean discharge", "high": "annual maxima", "low": "logarithm of flow", "fit": "bounded NSE"}
MODEL, SOLVER = Balance(exphydro_mended), Automatic(compile=True, warm_start=False)
SPACES = {"declared": Space.of(MODEL, INITIAL), "published": Space.of(MODEL, PUBLISHED | INITIAL)}
PARAMETERS = [n for n in SPACES["declared"].names if n not in INITIAL]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="write the page from what was kept, run nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.report:
        every, one = response("all"), response([BASIN])
        space = SPACES["declared"]
        sobol(one, space, samples=2, progress=None)  # compiles
        delsa(one, space, samples=2, progress=None)
        keep("sobol", lambda: sobol(every, space, samples=SAMPLES))
        for name, wide in SPACES.items():
            keep(f"delsa {name}", lambda wide=wide: delsa(every, wide, samples=POINTS))
        keep("one reference", lambda: sobol(one, space, samples=REFERENCE, seed=1))
        for name, method in ONE.items():
            keep(f"one {name}", lambda method=method: method(one, space))
    report()


ONE = {
    "Sobol": lambda *a: sobol(*a, samples=SAMPLES),
    "Morris": lambda *a: morris(*a, trajectories=32),
    "DGSM": lambda *a: dgsm(*a, samples=POINTS),
    "PAWN": lambda *a: pawn(*a, samples=1024),
    "DELSA": lambda *a: delsa(*a, samples=POINTS),
}
MEASURES = {"Sobol": ("ST",), "Morris": ("mu_star",), "DGSM": ("nu",), "PAWN": ("median",), "DELSA": ("nu", "mean")}


def keep(name: str, method: Callable[[], xr.Dataset]) -> None:
    """Run, time, and write a result where ``kept`` finds it."""
    clock, processor = time.perf_counter(), time.process_time()
    found = method()
    found.attrs |= {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}
    write_netcdf_atomic(found, path(name))
    print(f"{name}: {found.attrs['runs']} runs, {found.attrs['clock']:.1f} s", flush=True)


def kept(name: str) -> xr.Dataset:
    return xr.load_dataset(path(name), engine="h5netcdf")


def path(name: str) -> Path:
    return cache().parent / f"{SCRIPT}_{name.replace(' ', '_')}.nc"


def response(basins: str | list[str]) -> Response:
    """M0 from an empty snow pack, and what is asked of its discharge."""
    record = read(camels(), basins).sel(time=slice(FIRST, f"{int(SCORED[:4]) + YEARS}-09-30"))
    forcing = Forcing.from_dataset(record, ["prcp", "temp", "dayl"])
    observed = torch.as_tensor(record.discharge.values)
    return Response(MODEL, forcing, objectives(forcing, observed), storage0={"snow": 0.0}, solver=SOLVER)


def objectives(forcing: Forcing, observed: torch.Tensor) -> dict[str, Callable[[Simulation], torch.Tensor]]:
    start = int(SCORED[:4])
    years = [forcing.between(f"{y}-10-01", f"{y + 1}-09-30") for y in range(start, start + YEARS)]
    part = slice(years[0].start, years[-1].stop)
    seen = observed[part]
    offset = mean_flow(seen)[0] / 100

    def fit(run: Simulation) -> torch.Tensor:
        """NSE, within (-1, 1] (Mathevet et al. 2006): else its variance is that of the few worst runs."""
        score = nse(run.discharge[part], seen)
        return score / (2.0 - score)

    return {
        "mean": lambda run: run.discharge[part].mean(0),
        "high": lambda run: torch.stack([run.discharge[y].amax(0) for y in years]).mean(0),
        "low": lambda run: log_flow(run.discharge[part], offset).mean(0),
        "fit": fit,
    }


def attributes() -> dict[str, np.ndarray]:
    with open(camels() / "basins.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {"lon": "gauge_lon", "lat": "gauge_lat", "aridity": "aridity", "snow": "frac_snow"}
    found = {n: np.array([float(r[c]) for r in rows]) for n, c in columns.items()}
    found["gauge"] = np.array([r["gauge_id"] for r in rows])
    found["class"] = np.where(found["snow"] >= 0.25, "snowy", np.where(found["aridity"] >= 1.0, "arid", "humid"))
    return found


def first_of(measure: xr.DataArray) -> xr.DataArray:
    """The parameter with the largest measure (objective, basin); empty where there is none."""
    return measure.sel(factor=PARAMETERS).idxmax("factor", fill_value="")


def report() -> None:
    total, local = kept("sobol"), {n: kept(f"delsa {n}") for n in SPACES}
    places = attributes()
    chosen = {n: np.isin(places["gauge"], total.basin.values) for n in places}["gauge"]
    places = {n: v[chosen] for n, v in places.items()}
    total = total.sel(basin=places["gauge"])
    local = {n: d.sel(basin=places["gauge"]) for n, d in local.items()}
    picture(total, places)
    runs = {n: kept(n) for n in ["sobol", *(f"delsa {n}" for n in SPACES), "one reference", *(f"one {n}" for n in ONE)]}
    minutes = {n: sum(r.attrs[n] for r in runs.values()) / 60 for n in ("processor", "clock")}
    shown = ", ".join(f"{n} {r.low:g} to {r.high:g} {r.unit}" for n, r in SPACES["declared"].ranges.items())
    body = f"""Mended EXP-HYDRO (M0) on {total.sizes["basin"]} basins, from {FIRST} with an empty snow pack, judged over
the water years {int(SCORED[:4]) + 1} to {int(SCORED[:4]) + YEARS} by four numbers: mean discharge; the mean of annual
maxima of daily flow; the mean of log(flow + 1 % of the observed mean), for low flows; and NSE / (2 - NSE). Parameters
are uniform over their declared ranges, in the logarithm where a range spans more than a factor of 100:
{shown}. The last of these is the initial soil storage, varied too: its index tells whether a year of warm-up is enough.

{total.attrs["samples"]} x {total.sizes["factor"] + 2} = {total.attrs["runs"]} runs of each basin for Sobol indices took
{spent(runs["sobol"])}; DELSA, {POINTS} runs of each basin with one backward pass for each of the four numbers,
{spent(runs["delsa declared"])}; all of this page {minutes["processor"]:.1f} minutes of processor time,
{minutes["clock"]:.1f} by the clock, on one thread and beside other work, without compiling and reading.

### Dominant parameter

Number of basins where a parameter has the largest total Sobol index. Snowy: a quarter or more of precipitation falls
as snow; arid: of the others, potential evapotranspiration is no less than precipitation; humid: the rest.

{by_class(total, places)}

![Dominant parameter of each basin](sensitivity_map.png)

{certainty(total)}

### By derivatives

{by_derivatives(total, local)}

### The bound

{bound(total, local["declared"])}

### Methods on one basin, {BASIN}

{methods(runs)}"""
    write(SCRIPT, "Which parameter matters where", body)


def spent(found: xr.Dataset) -> str:
    return f"{found.attrs['processor']:.0f} s of processor time"


def by_class(total: xr.Dataset, places: dict) -> str:
    first, rows = first_of(total.ST), []
    for objective, meaning in MEANING.items():
        names = first.sel(objective=objective).values
        for kind in ("arid", "snowy", "humid"):
            here = places["class"] == kind
            counts = [str(int((names[here] == p).sum())) for p in PARAMETERS]
            rows.append([meaning, f"{kind} ({int(here.sum())})", *counts])
    return table(["", "climate (basins)", *PARAMETERS], rows)


def clearly(total: xr.Dataset) -> xr.DataArray:
    """Whether the first place is beyond the intervals of all others (objective, basin)."""
    st, conf = (total[n].sel(factor=PARAMETERS) for n in ("ST", "ST_conf"))
    first = st.argmax("factor")
    others = (st + conf).where(st.factor != st.factor.isel(factor=first)).max("factor")
    return st.isel(factor=first) - conf.isel(factor=first) > others


def certainty(total: xr.Dataset) -> str:
    """How many first places are beyond the intervals; what the initial storage still does; what failed."""
    clear, start, first = clearly(total).sum("basin"), total.ST.sel(factor="soil"), first_of(total.ST)
    counts = ", ".join(f"{meaning} {int(clear.sel(objective=o))}" for o, meaning in MEANING.items())
    sizes = ", ".join(
        f"{meaning} {float(start.sel(objective=o).median()):.3f} ({float(start.sel(objective=o).max()):.2f})"
        for o, meaning in MEANING.items()
    )
    alike = int((first == first.isel(objective=0)).all("objective").sum())
    return f"""Basins where the first place is beyond the 95 % intervals of all others: {counts}. Elsewhere two or more
parameters tie within sampling error. The answer is that of the number asked: in {alike} basins the same parameter comes
first for all four. Total index of the initial soil storage, median of basins (largest): {sizes}.
{int(total.failed.sum())} results are missing."""


def by_derivatives(total: xr.Dataset, local: dict[str, xr.Dataset]) -> str:
    rows, first, clear = [], first_of(total.ST), clearly(total)
    for label, measure in (("mean local share", local["declared"]["mean"]), ("nu", local["declared"].nu)):
        same = first_of(measure) == first
        agreement = rank_agreement(total.ST.sel(factor=PARAMETERS), measure.sel(factor=PARAMETERS))
        row = []
        for o in MEANING:
            rho, named, sure = (x.sel(objective=o) for x in (agreement, same, clear))
            row.append(f"{int(named.sum())}; {int(named[sure].sum())} of {int(sure.sum())}; {float(rho.median()):.2f} "
                       f"({float(rho.min()):.2f})")  # fmt: skip
        rows.append([label, *row])
    names = {n: first_of(found["mean"]) for n, found in local.items()}
    moved = [[n, *(counted(found.sel(objective=o)) for o in MEANING)] for n, found in names.items()]
    kept_first = (names["declared"] == names["published"]).sum("basin")
    moved.append(["same parameter", *(str(int(kept_first.sel(objective=o))) for o in MEANING)])
    wide = local["declared"].sel(factor="smax")
    return f"""Basins of {total.sizes["basin"]} where {POINTS} runs with derivatives name the parameter that the Sobol
indices name; of the basins where that is beyond intervals; median rank correlation of the {len(PARAMETERS)} parameters
with the indices (lowest).

{table(["", *MEANING.values()], rows)}

nu squares derivatives, so that few steep points make most of it, and few points say little: half of its 95 % interval
is {float((wide.nu_conf / wide.nu).median()):.0%} of it for Smax (median), whose small values are the steep ones. Shares
do not exceed one.

Ranges decide, too. Number of basins where a parameter has the largest mean local share, within the declared ranges and
within the narrower ones of the published calibration (f 0 to 0.1, Smax 100 to 1500, Qmax 10 to 50, Df 0.01 to 5, Tmax 0
to 3, Tmin -3 to 0; only Df in the logarithm):

{table(["ranges", *MEANING.values()], moved)}"""


def counted(names: xr.DataArray) -> str:
    """``f 60, smax 50``: how often each parameter is named."""
    found = {p: int((names == p).sum()) for p in PARAMETERS}
    return ", ".join(f"{p} {n}" for p, n in sorted(found.items(), key=lambda x: -x[1]) if n)


def bound(total: xr.Dataset, local: xr.Dataset) -> str:
    excess = total.ST - local.bound
    beyond = (total.ST - total.ST_conf) - (local.bound + local.bound_conf)
    worst = beyond.where(beyond == beyond.max(), drop=True)
    where = ", ".join(str(worst[d].values[0]) for d in ("factor", "objective", "basin"))
    ratio = (local.bound / total.ST).where(total.ST > 0.05)
    low, middle, high = (float(ratio.quantile(q)) for q in (0.1, 0.5, 0.9))
    return f"""nu / (pi^2 V) of {POINTS} points against the total index: above it in {int((excess <= 0).sum())} of
{excess.size} cases (factor, number, basin), below it by {float(excess.max()):.2f} at most; below it beyond both 95 %
intervals in {int((beyond > 0).sum())} (largest {float(beyond.max()):.1g}: {where}). Where the index exceeds 0.05 the
bound is {middle:.1f} times the index (median; a tenth of them below {low:.1f}, a tenth above {high:.1f}): it says what
does not matter, not how much the others do."""


def methods(runs: dict[str, xr.Dataset]) -> str:
    reference, rows = runs["one reference"].ST.sel(factor=PARAMETERS).isel(basin=0), []
    for name, measures in MEASURES.items():
        for measure in measures:
            found = runs[f"one {name}"]
            agreement = rank_agreement(reference, found[measure].sel(factor=PARAMETERS).isel(basin=0))
            cost = [str(found.attrs["runs"]), f"{found.attrs['clock']:.1f}"]
            rows.append([f"{name}: {measure}", *cost, *(f"{float(agreement.sel(objective=o)):.2f}" for o in MEANING)])
    head = ["", "runs", "seconds", *MEANING.values()]
    return f"""Rank correlation of the {len(PARAMETERS)} parameters with total Sobol indices of
{runs["one reference"].attrs["runs"]} runs. Runs of DELSA have four backward passes each.

{table(head, rows)}"""


def picture(total: xr.Dataset, places: dict) -> None:
    """Map, and aridity against share of snow, for each number."""
    first = first_of(total.ST)
    figure = style.figure(14.0, 6.2)
    axes = figure.subplots(2, len(MEANING))
    for i, (objective, meaning) in enumerate(MEANING.items()):
        names = first.sel(objective=objective).values
        where = {"xlabel": "longitude", "ylabel": "latitude" if i == 0 else "", "title": meaning}
        dominant(axes[0, i], places["lon"], places["lat"], names, order=PARAMETERS, **where)
        climate = {"xlabel": "aridity (PET / P)", "ylabel": "share of snow" if i == 0 else ""}
        dominant(axes[1, i], places["aridity"], places["snow"], names, order=PARAMETERS, **climate)
        axes[1, i].set_xscale("log")
        axes[1, i].set_xticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
        axes[1, i].minorticks_off()
        axes[1, i].get_legend().remove()
    write_atomic(DOCS / "sensitivity_map.png", style.png(figure, dpi=80))


if __name__ == "__main__":
    main()
