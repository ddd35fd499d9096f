"""The figures of a run, as PNG bytes with captions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

from udehydro import plot
from udehydro.experiment.folder import safe_name
from udehydro.experiment.prepare import Record
from udehydro.experiment.results import Variant
from udehydro.simulation import Simulation
from udehydro.structure import Structure

MOST_BASINS = 6
"""Basins that get figures of their own; scores and series of all are in the files."""


CAPTIONS = {
    "test": "The first years of the test period, which no model was fitted to and nothing was chosen on.",
    "record": "The whole record as one continuous run. White: not scored (warm-up, years outside all periods).",
    "log": "The same years on a logarithmic axis, for low flows.",
    "duration": "Flow duration curves of the test period, over the days with an observation.",
    "storages": "Water in each store. Stores are not observed.",
    "balance": "By calendar year: what came in (left) against where it went (right). Black: observed discharge of "
    "complete years, drawn from the top of the evapotranspiration. In the warm-up the stores still fill or drain.",
    "law": "at the states the hybrid visited in the training period (grey: number of days). Dashed: the formula "
    "at the same states, with the parameter values of the hybrid; below: the ratio of both. Right: medians over the "
    "two inputs it depends on most.",
    "along": "of every model along its own run in the training period, against the filling of its store between the 1 "
    "and 99 % quantile: storage is not observed, so its zero and scale may differ between models. Line: median, band: "
    "quartiles.",
    "candidates": "NSE of every refitted candidate in fit (hollow) and validation (filled) by number of constants; "
    "line: best of that length or shorter in validation; star: the choice.",
    "profiles": "Profiles of the chosen laws: each constant, or the zero of the store, is held and everything else is "
    "fitted again. Dashed: the 95 % line; shaded: what stays below it, to the edge of the panel where neither the data "
    "nor the range allowed set an end. Correlation of the errors from day to day is allowed for.",
    "training": "Loss of every candidate (thin) and of the best one (thick): first with the validation period set "
    "aside, then the refit on all of the training period. A candidate is one start, or one set of initial weights.",
}


@dataclass(frozen=True)
class Drawn:
    """A figure: name of its file without suffix, kind (the report groups by it), image and caption."""

    name: str
    kind: str
    png: bytes
    caption: str


def learned_names(structure: Structure, neural: tuple[str, ...]) -> list[str]:
    """The learned fluxes and groups that the hybrid has."""
    known = {f.name for f in structure.fluxes} | set(structure.groups)
    return [n for n in neural if n in known]


def draw(record: Record, variants: list[Variant], neural: tuple[str, ...]) -> Iterator[Drawn]:
    """All figures, one after the other."""
    for i, basin in enumerate(record.basins[:MOST_BASINS]):
        runs = {v.name: named(v.simulation, record.basins) for v in variants}
        yield from _series(record, variants, runs, i, basin)
        for name in learned_names(variants[min(1, len(variants) - 1)].simulation.model.structure, neural):
            yield _law(record, variants, runs, name, i, basin)
        if variants[-1].distilled:
            yield from _formulas(record, variants, runs, i, basin)
    for v in variants:
        if v.history:
            fig = plot.training_curve(_rows(v), title=f"Training of {v.name}")
            yield Drawn(
                f"training_{v.name}", "training", plot.png(fig), f"Training of {v.name}. {CAPTIONS['training']}"
            )


def named(simulation: Simulation, basins: tuple[str, ...]) -> Simulation:
    """The same run with its members (basin, 1) named by their basins, for titles."""
    return replace(simulation, forcing=replace(simulation.forcing, members=basins))


def _series(record: Record, variants, runs, i: int, basin: str) -> Iterator[Drawn]:
    file, periods = safe_name(basin), record.named_periods
    observed = record.observed[:, i].cpu().numpy()
    flows = {v.name: v.discharge[:, i].cpu().numpy() for v in variants}
    prcp = record.forcing.values["prcp"][:, i].cpu().numpy() if "prcp" in record.forcing.values else None
    time, window = record.forcing.time, first_years(periods["test"])
    fig = plot.hydrograph(time, observed, flows, periods, prcp, window=window, title=f"{basin}: discharge, test period")
    yield Drawn(f"{file}_hydrograph_test", "hydrograph", plot.png(fig), CAPTIONS["test"])
    fig = plot.hydrograph(time, observed, flows, periods, None, window=window, log=True, title=f"{basin}: low flows")
    yield Drawn(f"{file}_hydrograph_log", "hydrograph", plot.png(fig), CAPTIONS["log"])
    fig = plot.hydrograph(time, observed, flows, periods, prcp, title=f"{basin}: discharge, whole record")
    yield Drawn(f"{file}_hydrograph", "hydrograph", plot.png(fig), CAPTIONS["record"])
    part = record.forcing.between(*periods["test"])
    fig = plot.flow_duration(observed[part], {n: q[part] for n, q in flows.items()}, title=f"{basin}: test period")
    yield Drawn(f"{file}_flow_duration", "hydrograph", plot.png(fig), CAPTIONS["duration"])
    fig = plot.storages(runs, periods, element=i)
    yield Drawn(f"{file}_storages", "water", plot.png(fig), CAPTIONS["storages"])
    for v in variants:
        fig = plot.water_balance(runs[v.name], observed, element=i)
        text = f"Water balance of {v.name}. {CAPTIONS['balance']}"
        yield Drawn(f"{file}_water_balance_{v.name}", "water", plot.png(fig), text)


def _law(record: Record, variants, runs, name: str, i: int, basin: str) -> Drawn:
    part = record.periods.refit_on
    hybrid, formula = (runs[v.name].between(*part) for v in (variants[1], variants[0]))
    fig = plot.learned_flux(hybrid, name, formula, element=i, title=f"{basin}: learned law of '{name}'")
    text = f"The learned law of '{name}' against each of its inputs, {CAPTIONS['law']}"
    return Drawn(f"{safe_name(basin)}_law_{name}", "laws", plot.png(fig), text)


def _formulas(record: Record, variants, runs, i: int, basin: str) -> Iterator[Drawn]:
    """Networks and formulas of every law, each along its own run, and all candidates by length."""
    found, part = variants[-1].distilled[i], record.periods.refit_on
    for name in found.laws:
        both = {v.name: runs[v.name].between(*part) for v in variants}
        fig = plot.laws_along_runs(both, name, element=i, title=f"{basin}: '{name}' of bucket, network and formula")
        yield Drawn(f"{safe_name(basin)}_formula_{name}", "formulas", plot.png(fig), f"'{name}' {CAPTIONS['along']}")
    fig = plot.candidates(found.rows, found.chosen, title=f"{basin}: candidates")
    yield Drawn(f"{safe_name(basin)}_candidates", "formulas", plot.png(fig), CAPTIONS["candidates"])
    if found.profiles:
        fig = plot.profiles(found.profiles, title=f"{basin}: how well constants are known")
        yield Drawn(f"{safe_name(basin)}_profiles", "formulas", plot.png(fig), CAPTIONS["profiles"])


def _rows(v: Variant) -> list[dict]:
    """Rows of both fits, the stage named by what it is for."""
    first = [{**row, "stage": "choose"} for row in v.history]
    return first + [{**row, "stage": "refit", "valid": None} for row in v.refit_history]


def first_years(period: tuple[str, str], years: int = 2) -> tuple[str, str]:
    """The first ``years`` years of a period, or all of a shorter one."""
    start, end = (date.fromisoformat(d) for d in period)
    return start.isoformat(), min(end, start + timedelta(days=round(365.25 * years) - 1)).isoformat()
