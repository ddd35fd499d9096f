"""Do the solvers converge, is what they return right, and how large is the error of a day's step?

Parts: ``a`` published EXP-HYDRO against an independent scalar solution; ``b`` random parameters, and networks with
weights too large; ``c`` HBV and GR4J with random parameters; ``d`` the error of each tableau's daily step; ``e`` the
same for HBV and GR4J, with daily loops beside them.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import matplotlib
import numpy as np
import torch
from _report import DOCS, table, write
from robustness import accuracy, basins, scalar
from robustness.runs import Batch, Tally, WatchedBlocks, WatchedCompiled, batches, drawn, guarded, repeated

from udehydro import Balance
from udehydro.models import exphydro, exphydro_mended, m50
from udehydro.solvers import BACKWARD_EULER, EXPLICIT_EULER, HEUN, RK4, SDIRK2, TR_BDF2

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

SCHEMES = (BACKWARD_EULER, SDIRK2)
BLOCKS = ("auto", 32, 128, 1024)
PARAMETERS = ("f", "smax", "qmax", "ddf", "tmax", "tmin")


def drivers(tableau, blocks=("auto",)):
    """Names and fresh drivers; every run starts cold."""
    yield "Compiled", WatchedCompiled(tableau, warm_start=False)
    for block in blocks:
        yield f"AllAtOnce, block {block}", WatchedBlocks(tableau, block=block, warm_start=False)


def publish(part: str, title: str, body: str, options) -> None:
    """Write a section of the page, or print it where the run is a quick one."""
    if options.quick:
        print(f"## {title}\n\n{body}\n")
    else:
        write(f"solver_robustness_{part}", f"Solver robustness: {title}", body, "solver_robustness")


def part_a(options) -> None:
    task = basins.published(*((20, 2) if options.quick else (1, 30)))
    batch = Batch(task.model, task.forcing, task.theta, task.storage0)
    forcing = {n: v.numpy() for n, v in task.forcing.values.items()}
    theta = torch.stack([task.theta[n] for n in PARAMETERS], -1).numpy()
    rows = []
    for tableau in SCHEMES:
        started = time.perf_counter()
        exact = torch.from_numpy(scalar.solve(forcing, theta, task.storage0.numpy(), tableau.a[0][0]))
        rows.append([tableau.name, "scalar root finding", *[""] * 7, f"{time.perf_counter() - started:.0f}"])
        for name, solver in drivers(tableau, BLOCKS):
            tally, returned = guarded(batch, solver)
            difference = (returned.simulation.storage - exact[:, returned.index]).abs().max().item()
            rows.append(
                [
                    *(tableau.name, name, str(tally.raised), str(tally.audit.unsolved + tally.audit.broken)),
                    _fallbacks(tally, solver),
                    f"{tally.iterations:,}",
                    *(f"{v:.1e}" for v in (difference, tally.audit.residual, tally.audit.closure)),
                    f"{tally.seconds:.0f}",
                ]
            )
            print(rows[-1], flush=True)
    head = ["scheme", "driver", "runs raised", "steps unsolved", "halved / stepped / intervals cut", "iterations"]
    head += ["largest difference, mm", "largest residual, mm", "balance error, mm", "s"]
    body = f"""EXP-HYDRO with the published parameters and initial storages, {task.basins} basins x {task.days} days,
one step a day. The scalar solution finds the root of every store's equation within a bracket, to round-off, from the
equations and without the package. Differences are those of storages. Residuals are computed from the storages returned;
a step is unsolved where its residual is above 1e-7 (1 + 1e-3 |S|) mm. Halved: blocks solved again in parts; stepped:
parts stepped through one day after the other; cut: days of a basin in sub-steps. Iterations are evaluations of a
block's rates and Jacobians, and of one store's of one step in the compiled driver.

{table(head, rows)}"""
    publish("a", "published EXP-HYDRO against an independent solution", body, options)


def _fallbacks(tally: Tally, solver) -> str:
    if isinstance(solver, WatchedCompiled):
        return f"- / - / {tally.cut}"
    return f"{tally.halved} / {tally.stepped} / {tally.cut}"


def part_b(options) -> None:
    years, sets, few, size = (1, 4, 2, 2) if options.quick else (5, 1000, 50, 50)
    rows = []
    for structure in (exphydro, exphydro_mended):
        task, model = basins.hydrology("exphydro", years=years), Balance(structure)
        theta = drawn(structure, sets, task.basins)
        half_full = torch.stack([torch.zeros_like(theta["smax"]), 0.5 * theta["smax"]], -1)
        make = partial(batches, model, task.forcing, theta, half_full, size=size)
        rows += compare(structure.name, make, (sets, few), few // size)
    seeds, years_networks = (2, 1) if options.quick else (100, 2)
    task = basins.hydrology("exphydro", years=years_networks)
    rows += compare("m50, weights x 10", partial(networks, m50(), task), (seeds, seeds), seeds)
    body = f"""{task.basins} basins. The formulas: {sets} parameter sets drawn uniformly over the declared ranges, each
in every basin for {years} years from a half-full bucket; `AllAtOnce` runs the first {few} sets. M50: {seeds} draws of
both networks with all weights times 10, inputs in units of plausible storages and weather, published parameters and
initial storages, {years_networks} years. A run is one set or draw in one basin. What raises is run again without the
runs that `SolverError.failed` marks, so every other run is returned; it is checked as above, steps of cut intervals by
the stages recorded for them. Where a law falls with its donor store, as these networks do, a step may have several
solutions, and drivers may find different ones, or one cut an interval that the other solves whole: "unlike" counts runs
whose storages differ by more than {SAME:g} mm, and gives the largest difference. Below zero: intervals that end with a
store below -1e-9 mm; EXP-HYDRO as published leaks there.

{table(COUNTED, rows)}"""
    publish("b", "random parameters, and networks with large weights", body, options)


SCALE = {"snow": (30.0, 60.0), "soil": (300.0, 200.0), "temp": (8.0, 10.0), "prcp": (3.0, 7.0)}
"""Centre and spread of the inputs of the networks."""

SAME = 1e-6
"""Runs whose storages differ by more [mm] are counted as unlike."""

COUNTED = ["model", "scheme", "driver", "runs", "raised", "converged", "intervals cut", "blocks halved / stepped"]
COUNTED += ["steps unsolved", "not finite", "largest residual, mm", "balance error, mm", "runs unlike Compiled, mm"]
COUNTED += ["below zero", "s"]


def networks(model: Balance, task, seeds: int):
    """Batches of the basins with fresh weights, drawn into one model so that it is compiled once."""
    for law in model.laws.values():
        law.standardise(SCALE)
    theta = {n: v for n, v in task.theta.items() if n in model.parameter_names}
    for seed in range(seeds):
        fresh = m50(seed=seed)
        with torch.no_grad():
            for weight, drawn_weight in zip(model.parameters(), fresh.parameters(), strict=True):
                weight.copy_(10.0 * drawn_weight)
        fixed = {
            n: torch.tensor(model.structure.parameters[n].default) for n in model.parameter_names if n not in theta
        }
        yield Batch(model, task.forcing, theta | fixed, task.storage0)


def compare(model: str, make, counts: tuple[int, int], kept: int) -> list[list[str]]:
    """Rows of both drivers by both schemes on the batches ``make(count)``; the first ``kept`` batches are compared."""
    rows = []
    for tableau in SCHEMES:
        first = []
        for (driver, solver), count in zip(drivers(tableau), counts, strict=True):
            whole, differ = Tally(), []
            for number, batch in enumerate(make(count)):
                tally, returned = guarded(batch, solver)
                whole.add(tally)
                if number >= kept:
                    continue
                storage = torch.full((len(batch.forcing) + 1, *batch.storage0.shape), np.nan, dtype=torch.float64)
                if returned is not None:
                    storage[:, returned.index] = returned.simulation.storage
                if driver == "Compiled":
                    first.append(storage)
                else:
                    differ.append((storage - first[number]).abs().amax((0, 2)))
            rows.append(_counts(model, tableau, driver, whole, torch.cat(differ) if differ else None))
            for message in whole.messages[:3]:
                print(message, flush=True)
    return rows


def _counts(model: str, tableau, driver: str, tally: Tally, differ: torch.Tensor | None) -> list[str]:
    share, blocks = tally.converged / tally.runs, isinstance(differ, torch.Tensor)
    row = [
        *(model, tableau.name, driver, f"{tally.runs:,}", str(tally.raised), f"{100 * share:.2f} %"),
        f"{tally.cut:,} of {tally.intervals:,}",
        f"{tally.halved} / {tally.stepped}" if blocks else "",
        *(str(tally.audit.unsolved), str(tally.audit.broken)),
        *(f"{v:.1e}" for v in (max(tally.audit.residual, tally.audit.cut), tally.audit.closure)),
        f"{int((differ > SAME).sum())}, {differ.nan_to_num(0.0).max():.1e}" if blocks else "",
        f"{tally.undershoots:,}",
        f"{tally.seconds:.0f}",
    ]
    print(row, tally.audit, flush=True)
    return row


STEPS = (*((BACKWARD_EULER, n) for n in (1, 2, 4)), (SDIRK2, 1), (SDIRK2, 2), (SDIRK2, 16), (TR_BDF2, 1))
YEAR = 366


def part_c(options) -> None:
    years, sets, few, size = (1, 4, 2, 2) if options.quick else (10, 400, 20, 20)
    rows = []
    for name in ("hbv", "gr4j"):
        task = basins.hydrology(name, years=years)
        theta = many_store_sets(task.model.structure, sets, task.basins)
        storage0 = many_store_starts(task.model, theta)
        make = partial(batches, task.model, task.forcing, theta, storage0, size=size)
        rows += compare(name, make, (sets, few), few // size)
    body = f"""{task.basins} basins x {years} years, {sets} parameter sets drawn uniformly over the declared ranges
(GR4J: `x2` from its lower end to the lesser of its upper end and 0.6 `x3`, within the bound of backward Euler);
`AllAtOnce` runs the first {few} sets. Columns as above: an interval cut, or a block halved or stepped, is one that
failed at first.

{table(COUNTED, rows)}"""
    publish("c", "HBV and GR4J", body, options)


def part_e(options) -> None:
    size = (1, 2) if options.quick else (10, 4)
    parts = [errors_of_the_step(name, *size) for name in ("hbv", "gr4j")]
    body = f"""Discharge of each run against SDIRK2 with 32 steps a day. HBV with a hard rain-snow threshold.
The operator-split loop passes through the processes of HBV once a day, one after the other (Feng et al. 2022); the loop
of GR4J is explicit Euler.

{(2 * chr(10)).join(parts)}"""
    publish("e", "error of the daily step, HBV and GR4J", body, options)


def many_store_sets(structure, sets: int, count: int) -> dict[str, torch.Tensor]:
    theta = drawn(structure, sets, count)
    if "x2" in theta:
        low, high = structure.parameters["x2"].low, structure.parameters["x2"].high
        theta["x2"] = low + (theta["x2"] - low) / (high - low) * ((0.6 * theta["x3"]).clamp(max=high) - low)
    return theta


def many_store_starts(model: Balance, theta) -> torch.Tensor:
    """Stores that have a capacity half full, some water above groundwater, no snow."""
    like = next(iter(theta.values()))
    level = {"upper": 5.0, "lower": 20.0} | {
        store: 0.5 * theta[size]
        for store, size in (("soil", "fc"), ("production", "x1"), ("routing", "x3"))
        if size in theta
    }
    return torch.stack([torch.zeros_like(like) + level.get(s, 0.0) for s in model.store_names], -1)


def errors_of_the_step(name: str, each: int, years: int) -> str:
    """Table of the error in discharge of schemes of one step a day or a few, after a first year.

    Every basin gets ``each`` sets of its own: sets that basins share would make runs alike.
    """
    task = basins.hydrology(name, years=years)
    theta = many_store_sets(task.model.structure, each * task.basins, 1)
    if name == "hbv":
        theta["width"] = torch.zeros_like(theta["width"])
    batch = Batch(task.model, repeated(task.forcing, each), theta, many_store_starts(task.model, theta))
    store = {"hbv": "soil", "gr4j": "production"}[name]
    where = task.model.store_names.index(store)
    storage, reference = accuracy.compiled(batch, SDIRK2, 32)
    rows = []
    for tableau, substeps in STEPS:
        run, discharge = accuracy.compiled(batch, tableau, substeps)
        error = (run - storage)[YEAR:, :, where].abs().mean().item()
        label = f"{tableau.name}, {substeps} step{'s' if substeps > 1 else ''} a day"
        rows.append(_error_row(label, discharge, reference, f"{error:.2g}"))
    loop = basins.LOOPS[name](batch.forcing.values, batch.theta, batch.storage0)
    rows.append(_error_row({"hbv": "operator-split loop", "gr4j": "explicit Euler loop"}[name], loop, reference, ""))
    head = [f"{name}: scheme", "NSE median", "lowest tenth", "lowest", "runs above 0.9995", "blown up"]
    head += ["largest error, mm/d", f"mean error of {store}, mm"]
    text = f"{batch.size} runs ({each} sets for each of {task.basins} basins) x {years} years, the first one dropped:"
    return f"{text}\n\n{table(head, rows)}"


def _error_row(label: str, discharge, reference, store: str) -> list[str]:
    q, r = discharge[YEAR:], reference[YEAR:]
    score = accuracy.nse(q, r)
    flowing = score[~np.isnan(score)]
    largest = (q - r).abs().nan_to_num(nan=float("inf")).max().item()
    good = f"{(flowing > 0.9995).sum()} of {len(flowing)}"
    return [label, *accuracy.quantiles(score), good, str(int((~np.isfinite(flowing)).sum())), f"{largest:.2g}", store]


def part_d(options) -> None:
    task = basins.published(*((30, 1) if options.quick else (3, 4)))
    batch = Batch(task.model, task.forcing, task.theta, task.storage0)
    exact, reference = accuracy.compiled(batch, SDIRK2, 64)
    rows, lines = [], {}
    for tableau in (BACKWARD_EULER, SDIRK2, TR_BDF2):
        for substeps in (1, 2, 4, 8):
            storage, discharge = accuracy.compiled(batch, tableau, substeps)
            row, error = _daily(tableau.name, str(substeps), storage - exact, discharge, reference)
            rows.append(row)
            lines.setdefault(tableau.name, []).append((substeps, error))
    for tableau in (EXPLICIT_EULER, HEUN, RK4):
        storage, discharge, steps = accuracy.explicit(batch, tableau)
        asked = f"{int(steps.min())} to {int(steps.max())}, median {int(steps.median())}"
        row, error = _daily(tableau.name, asked, storage - exact, discharge, reference)
        rows.append(row)
        lines[tableau.name] = [(steps.double().mean().item(), error)]
    head = ["scheme", "steps a day", "NSE median", "lowest tenth", "lowest", "mean snow error, mm", "largest"]
    head += ["mean soil error, mm", "largest"]
    body = f"""EXP-HYDRO with the published parameters and initial storages, {task.basins} basins x {task.days} days,
against SDIRK2 with 64 steps a day: NSE of daily discharge by basin, errors of storages at midnight. Explicit schemes
take as few steps a day, of 1, 2, 4, ..., as pass the check of their stability in a basin.

{table(head, rows)}"""
    if not options.quick:
        step_figure(lines).savefig(DOCS / "solver_robustness_d.png", dpi=110)
        body += "\n\n![Error of the step](solver_robustness_d.png)"
    publish("d", "error of the daily step by scheme", body, options)


def _daily(name: str, steps: str, error, discharge, reference) -> tuple[list[str], float]:
    mean, most = error.abs().mean((0, 1)), error.abs().amax((0, 1))
    score = accuracy.quantiles(accuracy.nse(discharge, reference))
    snow, soil = ([f"{mean[i]:.2g}", f"{most[i]:.2g}"] for i in (0, 1))
    return [name, steps, *score, *snow, *soil], mean[1].item()


def step_figure(lines):
    """Mean error of the soil store against steps a day."""
    figure, axes = plt.subplots(figsize=(6.0, 4.0), layout="constrained")
    for name, points in lines.items():
        axes.plot(*zip(*points, strict=True), "o-", label=name)
    axes.set(xscale="log", yscale="log", xlabel="steps a day (explicit: mean over basins)", ylabel="mm")
    axes.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    axes.minorticks_off()
    axes.set_title("Mean error of the soil store, EXP-HYDRO with published parameters", fontsize=10)
    axes.legend(fontsize=8)
    return figure


PARTS = {"a": part_a, "b": part_b, "c": part_c, "d": part_d, "e": part_e}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", default=",".join(PARTS), help="parts to run, by comma")
    parser.add_argument("--quick", action="store_true", help="small sizes, printed and not written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in options.part.split(","):
        PARTS[part.strip()](options)


if __name__ == "__main__":
    main()
