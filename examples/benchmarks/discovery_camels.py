"""What networks find in CAMELS basins, written as formulas: bucket, hybrid and formula on the same unseen years.

For every basin: train the hybrid M50 (Hoege et al. 2022) inside the calibrated bucket M0, read what its networks do,
let them nominate formulas for evapotranspiration and discharge, refit every candidate through the ODE, choose on
validation years, refit, and open the test years once. M0 and M50 are those of bucket_and_hybrids.py, whose results are
needed. Results are kept, and a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter

import numpy as np
import torch
from _report import table, write
from bucket_and_hybrids import HYBRIDS, TRAIN, VALID, WARMUP, Unit, by_period, cache, chosen_basins, data, formula

from udehydro import Balance, Range, simulate
from udehydro.discovery import Samples, Task, Union, discover, sample, usual
from udehydro.discovery.judge import preferred, score
from udehydro.errors import UdehydroError
from udehydro.files import write_json_atomic
from udehydro.models import exphydro_mended
from udehydro.solvers import Compiled
from udehydro.training import Observed, nse
from udehydro.training.gaussian import Gaussian
from udehydro.training.recipes import Periods, hybridise

SCRIPT = "discovery_camels"
MARGIN = 0.005
"""NSE of validation within which the law with the fewest constants is taken."""
INNER = Periods.of(("1980-10-01", "1995-09-30"), valid=("1990-10-01", "1995-09-30"))
"""Years that networks for nomination see: none of those that candidates are chosen on."""
FREE = ("smax", "ddf", "tmax", "tmin", "soil")
SOLVER = Compiled(warm_start=False)
NETWORKS, KEEP, STARTS = 2, 5, 1


def networks(bucket, record, target) -> Samples:
    """What M50, trained on the inner years, does in them."""
    kind = HYBRIDS["M50"]
    known = record.between(*INNER.train).stop
    forcing, observed = record.isel(slice(0, known)), target[:known]
    hybrid = hybridise(
        bucket, kind.laws, forcing, observed, INNER, seeds=NETWORKS, steps=kind.steps, learning_rate=kind.learning_rate,
        teach_steps=kind.teach_steps, refit_all=True, progress=False,
    )  # fmt: skip
    model, parameters = hybrid.candidates
    many = forcing.independent(NETWORKS)
    with torch.no_grad():
        start = parameters.storage0(model.store_names)
        ran = simulate(model, many, theta=parameters(many), storage0=start)
    losses = 1.0 - nse(ran.discharge[WARMUP:], observed[WARMUP:, None].expand(-1, NETWORKS, -1))[:, 0]
    return sample(model, ran, ("et", "discharge"), structure=exphydro_mended, member=int(losses.argmin()), alone=True)


def start_of(bucket) -> dict[str, float]:
    values = {n: float(v) for n, v in bucket.before_refit().items()}
    storages = bucket.before_refit.storage0(bucket.model.store_names).reshape(-1)
    return values | {n: float(s) for n, s in zip(bucket.model.store_names, storages, strict=True)}


def distil(basin: str, union: Union, results: dict) -> dict:
    """Everything for one basin; only the last lines look at test years."""
    began = time.perf_counter()
    forcing, observed = data(basin)
    known = forcing.between(*TRAIN).stop
    record, target, periods = forcing.isel(slice(0, known)), observed[:known], Periods.of(TRAIN, valid=VALID)
    bucket = formula(results[Unit(basin, "M0").key], basin)
    samples = networks(bucket, record, target)
    trained = time.perf_counter()
    fitted, valid = record.between(*periods.fit_on), record.between(*VALID)
    start = start_of(bucket)
    start = {n: v for n, v in start.items() if n in (*union.model.parameter_names, *union.model.store_names)}

    def task(part: slice, values: dict) -> Task:
        end = record.isel(slice(0, part.stop))
        q = Observed("discharge", target[: part.stop, None], Gaussian(float(np.nanstd(target[part]))))
        return Task(end, [q], values, FREE, score=slice(WARMUP, part.stop), solver=SOLVER, ranges=RANGES, steps=40)

    first = task(fitted, start)
    ranked = discover(union, None, first, samples=samples, keep=KEEP, starts=STARTS, again=5, every=0)
    judged = score(ranked, task(slice(0, known), start), target, valid)
    ranked = preferred(ranked, judged, MARGIN)
    chosen = ranked.candidates[ranked.chosen]
    values = ranked.values(ranked.chosen)
    final = task(slice(0, known), start)
    refit = final.fit(union, [chosen], [values])
    found = {n: float(v[0]) for n, v in refit.values.items()}
    terms = [[lib.terms[j].text for j in c] for lib, c in zip(union.libraries.values(), chosen, strict=True)]
    result = {
        "terms": terms,
        "laws": {n: law.text for n, law in union.laws(chosen, found).items()},
        "values": {n: found[n] for n in (*union.free(chosen), *FREE)},
        "valid": float(-ranked.criterion[ranked.chosen]),
        "best valid": float(-ranked.criterion[0]),
        "class": [
            [
                [lib.terms[j].text for j in c]
                for lib, c in zip(union.libraries.values(), ranked.candidates[i], strict=True)
            ]
            for i in ranked.rivals
        ],
        "candidates": len(ranked.candidates),
        "diverged": int(judged.isinf().sum()),
        "support": {n: samples.support[n] for n in ("soil", "snow")},
        "seconds": [trained - began, time.perf_counter() - trained],
    }
    return result | tested(union, chosen, found, forcing, observed)


def tested(union: Union, chosen, found: dict, forcing, observed) -> dict:
    """Scores of the formula, put back into the model, from one continuous run; its balance error."""
    model = Balance(exphydro_mended, **union.laws(chosen, found))
    declared = model.structure.parameters
    theta = {n: found.get(n, declared[n].default) for n in model.parameter_names}
    run_ = simulate(model, forcing, theta=theta, storage0={n: found[n] for n in model.store_names})
    return {"balance": float(run_.max_balance_error().max())} | by_period(run_, observed)


RANGES = {"soil": Range(0.0, 3000.0, "mm", 100.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="write the page from what is there, run nothing")
    parser.add_argument("basins", nargs="*", help="some basins only; nothing is written then")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not cache().exists():
        raise SystemExit("Run bucket_and_hybrids.py first: this goes on from its buckets and hybrids.")
    before, kept = json.loads(cache().read_text()), cache().with_name(f"{SCRIPT}.json")
    results = json.loads(kept.read_text()) if kept.exists() else {}
    basins = options.basins or chosen_basins()
    union = Union(exphydro_mended, {n: usual(exphydro_mended, n) for n in ("et", "discharge")})
    for i, basin in enumerate(basins):
        if basin not in results and not options.report:
            try:
                results[basin] = distil(basin, union, before)
            except UdehydroError as error:
                results[basin] = {"failure": str(error)}
            write_json_atomic(kept, results)
            r = results[basin]
            told = r.get("failure") or f"validation {r['valid']:.3f}, {sum(r['seconds']):.0f} s, {r['laws']}"
            print(f"{i + 1}/{len(basins)} {basin}: {told}", flush=True)
    if not options.basins:
        report(union, {b: results[b] for b in basins if b in results}, before)


def report(union: Union, results: dict, before: dict) -> None:
    """The table, constants with units, and which terms were chosen how often."""
    rows, found, constants = [], [], []
    for basin, r in results.items():
        bucket, hybrid = (before[Unit(basin, m).key] for m in ("M0", "M50"))
        if "failure" in r or "failure" in hybrid:
            rows.append([basin, *[""] * 5, r.get("failure", "")])
            continue
        found.append((bucket, hybrid, r))
        constants.append([basin, told(union, r)])
        each = [f"{x['valid']:.3f}" for x in (bucket, hybrid, r)], [f"{x['test']:.3f}" for x in (bucket, hybrid, r)]
        laws = "; ".join(f"{n} = {law}" for n, law in r["laws"].items())
        rows.append([basin, " / ".join(each[0]), " / ".join(each[1]), f"{r['test kge']:.3f}", str(len(r["class"])),
                     f"{r['balance']:.0e}", f"`{laws}`"])  # fmt: skip
    gains = [np.median([three[i]["test"] - three[0]["test"] for three in found]) for i in (1, 2)]
    behind = np.median([r["test"] - h["test"] for _, h, r in found])
    ended = [[n for n in at_ends(union, r) if n not in FREE] for *_, r in found]
    medians = np.median([[x["test"] for x in three] for three in found], axis=0)
    kept = (medians[2] - medians[0]) / (medians[1] - medians[0])
    diverged = sum(r["diverged"] for *_, r in found), sum(r["candidates"] for *_, r in found)
    counts = [table(["term", "basins"], _shares([r["terms"][i] for *_, r in found])) for i in range(2)]
    head = ["basin", "validation: M0 / M50 / formula", "test", "KGE of formula", "class", "balance, mm", "laws"]
    minutes = sum(sum(r["seconds"]) for *_, r in found) / 60
    body = BODY.format(
        count=len(found), medians=" / ".join(f"{m:.3f}" for m in medians), kept=f"{100 * kept:.0f}",
        gains=" and ".join(f"{g:+.3f}" for g in gains), behind=f"{behind:+.3f}", ended=sum(map(bool, ended)),
        better=sum(r["test"] > b["test"] for b, _, r in found), ahead=sum(r["test"] > h["test"] for _, h, r in found),
        worst=" / ".join(f"{min(t[i]['test'] for t in found):.3f}" for i in range(3)),
        diverged=f"{diverged[0]} of {diverged[1]}", table=table(head, rows), et=counts[0], discharge=counts[1],
        constants=table(["basin", "constants"], constants),
        failed=len(results) - len(found), minutes=f"{minutes:.0f}", margin=MARGIN, years=INNER.train[1][:4],
    )  # fmt: skip
    write(SCRIPT, "Discovery: what M50's networks turn into", body)


def told(union: Union, result: dict) -> str:
    """Constants of the laws of a basin, and what was refitted with them, with units."""
    texts = [[t.text for t in library.terms] for library in union.libraries.values()]
    chosen = tuple(tuple(own.index(t) for t in terms) for own, terms in zip(texts, result["terms"], strict=True))
    values, short = result["values"], union.short(chosen)
    units = {n: r.unit for n, r in union.model.structure.parameters.items()} | union.structure.stores
    names = {n: short.get(n, n) for n in (*short, *FREE)}
    ends = at_ends(union, result)
    words = {n: f"{label} {values[n]:.3g} {units[n]}".removesuffix(" 1") for n, label in names.items()}
    return ", ".join(f"{text} (end)" if n in ends else text for n, text in words.items())


def at_ends(union: Union, result: dict) -> list[str]:
    """What was refitted and lies within a thousandth of its range from an end of it."""
    ranges = {n: RANGES.get(n, union.model.structure.parameters.get(n)) for n in result["values"]}
    ranges |= {n: r for n, r in union.coefficients().items() if n in ranges}
    near = {n: 1e-3 * (r.high - r.low) if not r.logarithmic else None for n, r in ranges.items()}
    return [
        n for n, v in result["values"].items()
        if (near[n] is None and (v < 1.001 * ranges[n].low or v > 0.999 * ranges[n].high))
        or (near[n] is not None and min(v - ranges[n].low, ranges[n].high - v) < near[n])
    ]  # fmt: skip


def _shares(chosen: list[list[str]]) -> list[list[str]]:
    counts = Counter(t for terms in chosen for t in terms)
    return [[f"`{t}`", f"{n} ({100 * n / len(chosen):.0f} %)"] for t, n in counts.most_common()]


BODY = """One model a basin; the basins, the bucket M0 and the hybrid M50 are those of the table above, same split, same
solver (SDIRK2, one step a day). Networks for nomination were trained on years to {years}. Candidates were refitted
through the ODE up to the validation years and chosen there (fewest constants within {margin} of the best NSE), and the
choice was refitted on all twenty years. Test years were opened once, by this script.

**{count} basins: median test NSE of M0 / M50 / formula {medians}**: by these medians the formulas keep {kept} % of
what the hybrid gains. Basin by basin it is less: the median gain over M0 is {gains} for M50 and the formula, the median
of formula minus M50 {behind}. Better than M0 in {better} basins, than M50 in {ahead}; worst {worst}. Runs of refitted
candidates that diverged: {diverged}; basins without a result: {failed}. {minutes} minutes in all, networks included.

{table}

Class: laws within {margin} of the best in validation. Laws read storages [mm], `rainfall`, `melt` and `pet` [mm/d],
`dayl` [h] and `temp` [degC], and give mm/d. Their constants (those without a unit are dimensionless), and what was
refitted with them (`soil` is the initial storage). "(end)": at an end of the range allowed; in {ended} basins that is
so for some constant of the laws, whose form is then a limit of the term's, or beyond what the library can say:

{constants}

Evapotranspiration:

{et}

Discharge:

{discharge}"""

if __name__ == "__main__":
    main()
