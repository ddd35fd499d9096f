"""The report of a run: what came out, what the networks learned, what was assumed, how to do it again."""

from __future__ import annotations

import platform
import shlex

import numpy as np
import torch

import udehydro
from udehydro import data
from udehydro.config import DEMO, Experiment
from udehydro.experiment.folder import CONFIG
from udehydro.experiment.pictures import MOST_BASINS, Drawn, learned_names
from udehydro.experiment.prepare import Record
from udehydro.experiment.results import Variant
from udehydro.report import Block, Code, Items, Picture, Section, Table, Text, number, write_report

EDGE = 0.01
"""A parameter closer to an end of its range than this share of it is pointed out."""
SHOWN_BASINS = 60


def tell(
    path, experiment: Experiment, record: Record, variants: list[Variant], found: dict, drawn: list[Drawn]
) -> None:
    """Write ``report.html``."""
    figures = {kind: [Picture(d.png, d.caption) for d in drawn if d.kind == kind] for kind in {d.kind for d in drawn}}
    sections = [
        Section("Scores", _scores(record, variants, found)),
        Section("Discharge", _discharge(record, figures.get("hydrograph", []))),
    ]
    if len(variants) > 1:
        sections.append(Section("What the networks learned", _learned(experiment, variants, figures.get("laws", []))))
    if variants[-1].distilled:
        sections.append(
            Section("From networks to formulas", _formulas(experiment, record, variants, figures.get("formulas", [])))
        )
    sections += [
        Section("Water: storages and balance", [_closure(record, variants), *figures.get("water", [])]),
        Section("Training and choices", [*_choices(experiment, record, variants), *figures.get("training", [])]),
        Section("Parameters", _parameters(record, variants)),
        Section("Data and assumptions", _data(experiment, record)),
        Section("How to reproduce this", _reproduce(experiment)),
    ]
    names = ", ".join(record.basins[:3]) + (f" and {len(record.basins) - 3} more" if len(record.basins) > 3 else "")
    title = f"{' and '.join(v.name for v in variants)}: {names}"
    write_report(path, title, headline(record, variants, found), sections)


def headline(record: Record, variants: list[Variant], found: dict) -> str:
    """One or two sentences: what scored how on the test period."""
    test = record.named_periods["test"]
    several = len(record.basins) > 1
    medians = {}
    for v in variants:
        values = [found["basins"][b][v.name]["test"]["nse"] for b in record.basins]
        medians[v.name] = float(np.nanmedian(values)) if np.isfinite(values).any() else float("nan")
    parts = [f"{name} {number(value)}" for name, value in medians.items()]
    text = f"On the test period {test.start} to {test.end}, opened once after every choice was made, "
    text += f"{'the median NSE over ' + str(len(record.basins)) + ' basins' if several else 'the NSE'} is "
    text += f"{', '.join(parts)}."
    if len(variants) > 1:
        gain = medians[variants[1].name] - medians[variants[0].name]
        if gain > 0.005:
            text += f" The learned laws improve on the calibrated formula by {gain:.3f}."
        else:
            text += f" The learned laws do not improve on the calibrated formula here ({gain:+.3f})."
        if variants[-1].distilled:
            written = medians[variants[-1].name] - medians[variants[0].name]
            text += f" Written as formulas and put back, they differ from it by {written:+.3f}."
    return text


def _scores(record: Record, variants: list[Variant], found: dict) -> list[Block]:
    p = record.periods
    columns = [(period, score) for score in ("nse", "kge") for period in ("train", "valid", "test")]
    rows, best = [], set()
    for basin in record.basins[:SHOWN_BASINS]:
        first = len(rows)
        for v in variants:
            values = found["basins"][basin][v.name]
            rows.append([basin, v.name, *(values[period][score] for period, score in columns)])
        for j in range(2, 2 + len(columns)) if len(variants) > 1 else ():
            top = max(range(first, len(rows)), key=lambda i: np.nan_to_num(rows[i][j], nan=-np.inf))  # noqa: B023
            best.add((top, j))
    headers = ["basin", "model", *(f"{score.upper()} {period}" for period, score in columns)]
    caption = (
        f"1 is perfect; NSE 0 is as good as the mean of the observations. Train {' to '.join(p.train)}, validation "
        f"{' to '.join(p.valid)}, test {' to '.join(p.test)}. Bold: the best model of a basin."
    )
    note = (
        "All scores are of the final models, which were refitted with the validation period included, from one "
        "continuous run. Only the test scores are on years that played no part in training or choice."
    )
    blocks: list[Block] = [Table(headers, rows, caption, best=frozenset(best)), Text(note)]
    if len(record.basins) > SHOWN_BASINS:
        blocks.append(Text(f"The first {SHOWN_BASINS} of {len(record.basins)} basins; all are in metrics.json."))
    return blocks


def _discharge(record: Record, pictures: list[Picture]) -> list[Block]:
    more = len(record.basins) - MOST_BASINS
    said = [Text(f"Figures of the first {MOST_BASINS} basins; {more} more are in simulation.nc.")] if more > 0 else []
    return [*said, *pictures]


def _learned(experiment: Experiment, variants: list[Variant], pictures: list[Picture]) -> list[Block]:
    structure = variants[1].simulation.model.structure
    items = []
    for name in learned_names(structure, experiment.neural):
        law = variants[1].simulation.model.laws[name]
        items.append(f"{name}: a network of {', '.join(law.inputs)}; output {law.output}.")
    text = (
        "Each learned flux starts as the calibrated formula and leaves its store as any flux does, so water is "
        "conserved whatever the network answers. The curves are drawn only where the model went: beyond that a network "
        "extrapolates. A learned law can differ from the formula because the formula is wrong, and just as well "
        "because it makes up for errors of the data or of other parts of the model."
    )
    return [Text(text), Items(items), *pictures]


def _formulas(experiment: Experiment, record: Record, variants: list[Variant], pictures: list[Picture]) -> list[Block]:
    from udehydro.discovery.judge import outside  # needs sympy, which other runs do not

    own = [n for n in experiment.discover if n in (experiment.libraries or {})]
    usual = [n for n in experiment.discover if n not in own]
    terms = [f"for {', '.join(usual)} of the usual terms"] * bool(usual)
    terms += [f"for {', '.join(own)} of the terms in the experiment file"] * bool(own)
    text = (
        "Networks that were fitted without the validation period, which only chose seed and step, nominated formulas, "
        f"{' and '.join(terms)}, checked for units. Every candidate was refitted through the differential equations "
        "without it, together with all calibrated parameters; the validation period chose the law with the fewest "
        f"constants within {variants[-1].distilled[0].margin:g} NSE of the best, which was then refitted on all of the "
        "training period. Laws within the margin are listed: the data do not tell them apart. A law says nothing about "
        "states that were not visited."
    )
    known, asked = (record.forcing.between(*p) for p in (record.periods.refit_on, record.periods.test))
    beyond = outside(variants[-1].simulation, known, asked)
    blocks: list[Block] = [Text(text)]
    for i, (basin, found) in enumerate(list(zip(record.basins, variants[-1].distilled, strict=True))[:MOST_BASINS]):
        values = ", ".join(
            f"{n} = {number(found.values[n])} {r.unit}" for n, r in found.model.structure.parameters.items()
            if n in found.values and n not in variants[0].simulation.model.structure.parameters
        )  # fmt: skip
        laws = "\n".join(f"{n} = {law}" for n, law in found.laws.items())
        blocks.append(Code(f"# {basin}\n{laws}" + (f"\n# {values}" if values else "")))
        store = {n: v for n, v in found.support.items() if n in found.model.store_names}
        visited = ", ".join(f"{n} {v[1]:.0f} to {v[2]:.0f} mm" for n, v in store.items())
        new = ", ".join(f"{n} on {100 * float(v.flatten()[i]):.1f} %" for n, v in beyond.items())
        blocks.append(
            Text(
                f"Visited by the networks (5 to 95 %): {visited}; {found.diverged} candidate(s) diverged. Test days on "
                f"which the formulas' own storage is beyond what it was in training: {new}."
            )
        )
        rows = [["; ".join(f"{n} = {t}" for n, t in r["laws"].items()), r["constants"], r["fit"], r["valid"]]
                for r in found.rivals]  # fmt: skip
        caption = "Laws within the margin of the best in validation, before the refit on all of the training period."
        blocks.append(Table(["laws", "constants", "NSE fit", "NSE validation"], rows, caption))
        for v in found.verdicts:
            verdict = "determined by these data" if v["determined"] else "not determined by these data"
            words = (
                f"Laws of fluxes that leave '{v['store']}' are {verdict}. Whether smaller steps would change this was"
            )
            blocks.append(Text(f"{words} not asked. What the verdict rests on:"))
            blocks.append(Items([*v["reasons"], *v["notes"]]))
    return [*blocks, *pictures]


def _closure(record: Record, variants: list[Variant]) -> Block:
    rows = []
    for v in variants:
        worst = max(v.balance_error(i) for i in range(len(record.basins)))
        report = v.simulation.report
        rows.append([v.name, f"{worst:.1e}", "yes" if all(v.closes(i) for i in range(len(record.basins))) else "NO",
                     report.solver, report.split_intervals, report.undershoots])  # fmt: skip
    headers = ["model", "largest error [mm]", "closes to round-off", "solver", "intervals split", "undershoots"]
    caption = "Storage change minus net inflow, of any store, interval and basin; and what the solver met on its way."
    return Table(headers, rows, caption)


def _choices(experiment: Experiment, record: Record, variants: list[Variant]) -> list[Block]:
    p = record.periods
    items = [
        f"Fitted on {' to '.join(p.fit_on)}, chosen on {' to '.join(p.valid)}, then refitted on "
        f"{' to '.join(p.refit_on)} with those choices frozen; loss: {experiment.loss}, seed: {experiment.seed}.",
        f"The test period {' to '.join(p.test)} was used for no choice.",
        f"The first {experiment.warmup_days} days of the record were simulated but not scored.",
    ]
    rows = []
    for v in variants:
        for basin, c in zip(record.basins[:SHOWN_BASINS], v.chosen, strict=False):
            others = ", ".join(number(x) for x in c.get("valid_losses", []))
            rows.append(
                [basin, v.name, c.get("candidate"), c.get("step"), c.get("train_loss"), c.get("valid_loss"), others]
            )
    headers = ["basin", "model", "chosen candidate", "its best step", "train loss", "valid loss", "valid loss of all"]
    caption = (
        "Before the refit: candidates (starts of the calibration, initial weights of the networks), by validation loss."
    )
    return [Items(items), Table(headers, rows, caption)] if rows else [Items(items)]


def _parameters(record: Record, variants: list[Variant]) -> list[Block]:
    rows, edges = [], []
    ranges = variants[0].simulation.model.structure.parameters
    for i, basin in enumerate(record.basins[:MOST_BASINS]):
        values = {v.name: v.parameters(i) for v in variants}
        for name, r in ranges.items():
            row = [basin, name, r.unit, f"{r.low:g} to {r.high:g}" + (" (fixed)" if r.fixed else "")]
            rows.append(row + [values[v.name].get(name) for v in variants])
            for v in variants:
                value = values[v.name].get(name)
                if value is not None and not r.fixed and min(value - r.low, r.high - value) < EDGE * (r.high - r.low):
                    edges.append(f"{basin}, {v.name}: {name} = {value:.4g} {r.unit} is at an end of its range.")
    headers = ["basin", "parameter", "unit", "range", *(v.name for v in variants)]
    starts = [
        f"{basin}, {v.name}: " + ", ".join(f"{n} {number(x)} mm" for n, x in v.storage0(i).items()) + "."
        for i, basin in enumerate(record.basins[:MOST_BASINS])
        for v in variants
    ]
    return [
        Table(headers, rows, "A dash: no law of that model reads the parameter.", digits=4),
        Items(edges),
        Text(
            "Storages at the start of the record are calibrated, too. What is scored begins after the warm-up and "
            "hardly feels them: they are poorly determined, and need not be likely for that date."
        ),
        Items(starts),
    ]


def _data(experiment: Experiment, record: Record) -> list[Block]:
    ds = record.dataset
    first, last = (str(ds["time"].values[i].astype("datetime64[D]")) for i in (0, -1))
    source = "the Fulda series shipped with the package spotpy" if experiment.data == DEMO else experiment.data
    items = [
        f"Source: {source}; {first} to {last}, {len(record.basins)} basin(s), step {ds.attrs.get('interval_days')} d."
    ]
    for name, unit in (("area", "km2"), ("lat", "degrees north")):
        if name in ds.coords and ds.sizes["basin"] <= MOST_BASINS:
            values = ", ".join(f"{b}: {float(v):g}" for b, v in zip(record.basins, ds[name].values, strict=True))
            items.append(f"{name} [{unit}]: {values}.")
    missing = record.observed.isnan().sum(0).tolist()
    if len(missing) <= MOST_BASINS:
        counts = ", ".join(f"{b}: {m} of {len(record.observed)}" for b, m in zip(record.basins, missing, strict=True))
        items.append(f"Days without a scored observation (missing, or warm-up): {counts}.")
    blocks: list[Block] = [
        Items(items),
        Text("Treatments and assumptions, in order:"),
        Items(data.notes(ds) or ["none"]),
    ]
    if experiment.area is not None:
        blocks.append(
            Text(f"The area of {experiment.area:g} km2 was given by the user; discharge in mm/d scales with it.")
        )
    if record.findings:
        blocks += [Text("Warnings of the data check:"), Items(record.findings)]
    return blocks


def _reproduce(experiment: Experiment) -> list[Block]:
    out = experiment.out.rstrip("/")
    command = f"udehydro fit --config {shlex.quote(f'{out}/{CONFIG}')} --out {shlex.quote(f'{out}-again')}"
    versions = f"udehydro {udehydro.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    text = (
        f"With {versions}. config.yaml beside this report holds every setting, defaults included; the same versions, "
        "machine and number of threads give the same numbers, others the same up to round-off."
    )
    return [Text(text), Code(f"{command}\n\n# config.yaml\n{experiment.to_yaml()}")]
