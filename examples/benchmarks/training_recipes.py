"""What each training recipe buys: many starts, growing horizon, multiple shooting, a taught start; waterfall of losses.

Two problems: the missing term of Lotka-Volterra from random weights, and M50 on a CAMELS basin. Results are kept recipe
by recipe; ``--fresh`` forgets them, ``--starts`` changes the numbers of starts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from _recipes_basin import BASIN, BASIN_RECIPES, BUCKET, EVALUATIONS, PIECES, TEACH, TRAIN, UNSEEN, Basin
from _recipes_lotka_volterra import BFGS, LM, LV_RECIPES, SHOOT
from _report import DOCS, SHARED, table, write

from udehydro.errors import UdehydroError
from udehydro.files import write_atomic, write_json_atomic
from udehydro.plot import style
from udehydro.plot.waterfall import draw_waterfall

SCRIPT = "training_recipes"
NEAR = 1.5
"""A start succeeded where its loss is at most so many times the best of all recipes."""
NOISE = 1.5
"""Where the noise is known, it did so, too, where chi2 per sample is at most this."""
STARTS = {"lv": 100, "basin": 10}


def measured(recipe, *arguments) -> dict:
    """What a recipe found, with processor seconds a start; or why it failed."""
    began, members = time.process_time(), arguments[-1]
    try:
        found = recipe(*arguments)
    except UdehydroError as error:
        found = {"loss": [float("inf")] * members, "unseen": [float("nan")] * members, "failure": str(error)}
    return found | {"seconds": (time.process_time() - began) / members}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="forget the cache")
    parser.add_argument("--starts", type=int, nargs=2, default=tuple(STARTS.values()), help="of the two problems")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cache = Path(os.environ.get("UDEHYDRO_CACHE") or Path.home() / ".cache" / "udehydro") / f"{SCRIPT}.json"
    results = {} if options.fresh or not cache.exists() else json.loads(cache.read_text())
    starts = dict(zip(STARTS, options.starts, strict=True))

    def once(name: str, recipe, *arguments) -> dict:
        key = f"{name}, {arguments[-1]} starts"
        if key not in results:
            measured(recipe, *arguments[:-1], 2)  # what compiling takes is not counted
            results[key] = measured(recipe, *arguments)
            write_json_atomic(cache, results)
            print(key, summary(results[key]["loss"], min(results[key]["loss"])), flush=True)
        return results[key]

    found = {"lv": {n: once(n, r, starts["lv"]) for n, r in LV_RECIPES.items()}, "basin": {}}
    if (SHARED / "camels-us").exists():
        basin = Basin()
        found["basin"] = {n: once(n, r, basin, starts["basin"]) for n, r in BASIN_RECIPES.items()}
        found["bucket"] = basin.score | {"seconds": basin.seconds, "scale": basin.scale()}
    else:
        print(f"The basin is left out: it needs the CAMELS-US tables in {SHARED / 'camels-us'}.")
    report(found, starts)


def summary(losses: list[float], best: float) -> list[str]:
    """Starts within ``NEAR`` times ``best``, starts for 95 % chance of one, best, median and worst loss, failures."""
    finite = [v for v in losses if np.isfinite(v)]
    good = sum(v <= NEAR * best for v in finite)
    share = good / len(losses)
    needed = "1" if share >= 0.95 else f"{np.ceil(np.log(0.05) / np.log1p(-share)):.0f}" if good else "-"
    figures = [f"{f(finite):.3g}" for f in (min, statistics.median, max)] if finite else ["-"] * 3
    return [f"{good} of {len(losses)}", needed, *figures, str(len(losses) - len(finite))]


HEAD = [f"within {NEAR} x best", "starts for 95 %", "best", "median", "worst", "failed"]


def rows(found: dict[str, dict], unseen) -> list[list[str]]:
    """A row per recipe; ``unseen`` makes the last columns of its result."""
    best = min(min(r["loss"]) for r in found.values())
    return [[n, *summary(r["loss"], best), *unseen(r), f"{r['seconds']:.2f}"] for n, r in found.items()]


def learned(result: dict) -> list[str]:
    """Starts that fit the noise, median error of the learned terms, %."""
    fine = sum(v <= NOISE for v in result["loss"])
    return [f"{fine} of {len(result['loss'])}", f"{100 * np.nanmedian(result['unseen']):.0f}"]


def later(result: dict) -> list[str]:
    """NSE of the unseen years: of the start of lowest training loss, median, worst."""
    values, best = result["unseen"], int(np.argmin(result["loss"]))
    return [f"{v:.3f}" for v in (values[best], np.nanmedian(values), np.nanmin(values))]


def report(found: dict, starts: dict[str, int]) -> None:
    """The section of docs/benchmarks.md, and its picture."""
    lv = table(
        ["recipe", *HEAD, f"at most {NOISE}", "error of learned terms, %, median", "s per start"],
        rows(found["lv"], learned),
    )
    basin = "The basin was left out: no data."
    if found["basin"]:
        head = ["recipe", *HEAD, "NSE unseen: of the best", "median", "worst", "s per start"]
        loss, unseen = (found["bucket"][n][0] for n in ("loss", "unseen"))
        basin = table(head, rows(found["basin"], later)) + BUCKET_SAYS.format(
            loss=loss, unseen=unseen, seconds=found["bucket"]["seconds"], **BUCKET
        )
        basin += RUN_OFF.format(**run_off(found["basin"], *found["bucket"]["scale"]))
    failures = {r["failure"] for part in ("lv", "basin") for r in found[part].values() if "failure" in r}
    shots = SHOOT["stage"].steps * len(SHOOT["weights"])
    body = BODY.format(
        near=NEAR, lv=lv, basin=basin, members=starts, gauge=BASIN, train=TRAIN, later=UNSEEN, lm=LM, bfgs=BFGS,
        shots=shots, third=LM // 3, rest=BFGS - shots, noise=NOISE,
        evaluations=EVALUATIONS, teach=TEACH, shoot=SHOOT["segments"], pieces=PIECES["segments"],
        failures="\n\nFailures: " + " ".join(sorted(failures)) if failures else "",
    )  # fmt: skip
    if list(starts.values()) == list(STARTS.values()) and found["basin"]:
        picture(found)
        write(SCRIPT, "Training recipes", body)
        write_page(found)
    else:
        print(body)


def write_page(found: dict) -> None:
    """The short table and the picture in docs/recipes.md."""
    parts = []
    for part, title, unseen, index, name in (
        ("lv", "Lotka-Volterra, chi2 per sample", learned, 7, f"at most {NOISE}"),
        ("basin", "M50, 1 - NSE", later, 8, "NSE unseen, median"),
    ):
        short = [[*row[:6], row[index], row[-1]] for row in rows(found[part], unseen)]
        parts.append(table([f"{title}: recipe", *HEAD[:5], name, "s per start"], short))
    page, (start, end) = DOCS / "recipes.md", (f"<!-- measured: {w} -->" for w in ("start", "end"))
    before, rest = page.read_text().split(start, 1)
    text = "\n\n".join([*parts, f"![Sorted final losses of all starts]({SCRIPT}.png)"])
    write_atomic(page, before + start + "\n" + text + "\n" + end + rest.split(end, 1)[1])


def run_off(recipes: dict[str, dict], centre: float, spread: float) -> dict[str, object]:
    """How far [sd] the mean soil storage of random starts lies from what their networks were scaled for."""
    best = min(min(r["loss"]) for r in recipes.values())
    random = [p for n, r in recipes.items() if "random" in n for p in zip(r["loss"], r.get("soil", ()), strict=False)]
    away = [(loss <= NEAR * best, abs(soil - centre) / spread) for loss, soil in random]
    told = {"centre": centre, "spread": spread}
    for name, wanted in (("near", True), ("other", False)):
        values = [a for near, a in away if near == wanted]
        told[f"{name}_count"] = len(values)
        told[name] = "{:.0f} to {:.0f}, median {:.0f}".format(*(f(values) for f in (min, max, statistics.median)))
    return told


def picture(found: dict) -> None:
    """A waterfall for each problem."""
    figure = style.figure(11.0, 4.6)
    panels = figure.subplots(1, 2)
    for axes, part, title in zip(panels, ("lv", "basin"), ("Lotka-Volterra", f"M50, {BASIN}"), strict=True):
        draw_waterfall(axes, {n: r["loss"] for n, r in found[part].items()}, near=NEAR, title=title)
        axes.legend(frameon=False, fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.14))
    panels[0].set_ylabel("chi2 per sample [-]")
    panels[1].set_ylabel("1 - NSE, training [-]")
    write_atomic(DOCS / f"{SCRIPT}.png", style.png(figure, dpi=110))


BUCKET_SAYS = """

The bucket alone, calibrated from {starts} starts x {steps} evaluations in {seconds:.1f} s: loss {loss:.3g}, NSE of the
unseen years {unseen:.3f}."""
RUN_OFF = """

Networks of random starts are scaled for a soil storage of {centre:.0f} mm, sd {spread:.0f} mm, that of the bucket with
default parameters. In the {near_count} random starts within the band the mean storage ended {near} sd from there, in
the {other_count} others {other}: untaught networks mostly let the store fill until it lies where they are flat."""
BODY = """What a recipe buys, on two problems ([when to use which](recipes.md)). All starts of a recipe are members of
one batch. Within {near} x best: starts whose final loss is at most so many times the best of any recipe. Starts for
95 %: how many are needed for that chance of such a one. Every recipe of an optimiser has as many runs a start, unless
its name says otherwise. Times are processor seconds, the batch over its starts. But for what is said below, settings
were fixed before the full run. Choices by loss use training data only.

### Missing term of Lotka-Volterra, {members[lv]} starts

One data set: 31 samples of both states, 0.5 % noise, random weights (87), initial states free. Loss: chi2 per sample;
1 is the noise, less is overfitting. The band may lie below the noise, so starts at most at {noise} are counted, too
(added after the run). LM: Levenberg-Marquardt, {lm} runs. L-BFGS: {bfgs} runs. Multiple shooting: {shoot} segments that
start at the samples, {shots} runs of L-BFGS; then {third} of LM, or {rest} of L-BFGS. The learned terms are compared
with the true ones along the true trajectory, which no fit saw. There is no formula to teach.

A first full run had 100 steps of Adam in front of L-BFGS, at the usual rate of 0.01, which is 0.25 in a weight here. It
left more than half of the plain starts at a loss of 458. Adam was taken out after trials on another data set and other
weights.

{lv}

### M50 on CAMELS {gauge}, {members[basin]} starts

Fitted on {train[0]} to {train[1]}, the first year unscored, by {evaluations} evaluations; lowest training loss kept.
Loss: 1 - NSE. Unseen: {later[0]} to {later[1]}, used in no choice. Random: parameters and initial storages anywhere in
their ranges, random networks. Calibrated: parameters of the bucket, random networks. Taught: these networks taught its
fluxes first ({teach} steps). Multiple shooting: {pieces} segments of a year that start from the run at the start
values, half of the evaluations.

{basin}

![Sorted final losses of all starts]({name}.png){failures}"""
BODY = BODY.replace("{name}", SCRIPT)

if __name__ == "__main__":
    main()
