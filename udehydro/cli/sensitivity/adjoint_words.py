"""The report on adjoint sensitivities: what the numbers mean, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from udehydro.cli.sensitivity.effects import Effects
from udehydro.cli.sensitivity.written import pictures
from udehydro.experiment.pictures import MOST_BASINS, Drawn
from udehydro.forcing import date
from udehydro.plot.style import MEANINGS
from udehydro.report import Block, Items, Section, Table, Text, number

MATTERS = 1.0
"""Share of the objective [%] that the initial storages may make before the report warns of them."""
SMALL = 0.1
"""Degrees, hours: what is told of values that have no percent; one would be more than a slope can tell."""
SHOWN = 60


def headline(effects: Effects) -> str:
    """What it is, and what matters most, of the first basin."""
    first, more = effects.case.basins[0], len(effects.case.basins) - 1
    text = f"{_value(effects, 0)} {' '.join(_by_parameters(effects, 0, 2))}"
    return f"{first}: {text}" + (f" {more} more basin(s) below." if more else "")


def sections(effects: Effects, figures: Sequence[Drawn]) -> list[Section]:
    """All but those that every analysis has."""
    stores = [d.kind for d in figures if d.kind.startswith("lambda")]
    found = [
        Section("In words", _words(effects)),
        Section("Parameters", [*_parameters(effects), *pictures(figures, "tornado")]),
        Section("Weather", [*_weather(effects), *pictures(figures, "flood", "year")]),
        Section("Water in store", [*_storages(effects), *pictures(figures, *stores)]),
    ]
    if effects.checked is not None:
        found.append(Section("Are the derivatives right?", _check(effects)))
    return [*found, Section("How far these numbers go", _limits(effects))]


def _words(effects: Effects) -> list[Block]:
    items = []
    for i, basin in enumerate(effects.case.basins[:MOST_BASINS]):
        items.append(f"{basin}: {_value(effects, i)}")
        items += [f"{basin}: {text}" for text in _by_parameters(effects, i, 3)]
        items += [f"{basin}: {_by_weather(effects, n, i)}" for n in effects.found.forcing]
        items.append(f"{basin}: {_by_start(effects, i)}")
    return [Items(items)]


def _value(effects: Effects, i: int) -> str:
    goal, said = effects.goal, effects.goal.said
    day = f", on {date(effects.case.forcing.time[effects.peak(i)])}" if goal.name == "flood_peak" else ""
    return f"{said} is {number(effects.values[i])}{_unit(goal.unit)}{day}.".replace("the", "The", 1)


def _by_parameters(effects: Effects, i: int, most: int) -> list[str]:
    """The parameters that matter most, a change across one percent of the range each being the measure."""
    rows = effects.parameters(i)
    order = sorted((n for n in rows if rows[n]["by_range"] != 0.0), key=lambda n: -abs(rows[n]["by_range"]))
    said = []
    for name in order[:most]:
        r = rows[name]
        warm = r["unit"] == "degC"  # a percent of degrees has no meaning
        amount = effects.change(r["derivative"] * (SMALL if warm else 0.01 * r["value"]), i)
        grown = f"{f'+{SMALL} degC' if warm else '+1 %'} of {name} ({r['value']:.4g}{_unit(r['unit'])})"
        said.append(f"{grown} {_moves(effects, amount)}.")
    return said or ["No parameter changes it."]


def _by_weather(effects: Effects, name: str, i: int) -> str:
    rate = effects.series(name, i)[2]
    unit = effects.case.run.model.structure.forcings[name]
    whole = f"{'+1 %' if rate else f'+{SMALL} {unit}'} of {MEANINGS.get(name, name)} throughout"
    amount = effects.throughout(name, i) * (1.0 if rate else SMALL)
    days = effects.days(name, i)
    if not days:
        return f"{MEANINGS.get(name, name)} does not change it."
    most = ", ".join(f"{d['date']} ({number(d['value'], 1)} {unit})" if rate else f"{d['date']}" for d in days[:3])
    return f"{whole} {_moves(effects, amount)}; the days that matter most are {most}."


def _by_start(effects: Effects, i: int) -> str:
    share = 100.0 * sum(abs(r["by_percent"]) for r in effects.storages(i).values())
    unit = " %" if effects.relative else _unit(effects.goal.unit)
    size = f"{number(share)}{unit}" if share >= 1e-3 else f"less than 0.001{unit}"
    text = f"water in store at the start of the record makes {size} of it, to first order"
    if effects.goal.score or share < MATTERS:
        return f"{text}."
    return f"{text}: these storages are not known, so let the record start earlier, or the period later."


def _moves(effects: Effects, amount: float) -> str:
    if not np.isfinite(amount):
        return "changes it by an amount that is not finite"
    if amount == 0.0:
        return "does not change it"
    size = f"{number(abs(amount))} %" if effects.relative else f"{number(abs(amount))}{_unit(effects.goal.unit)}"
    return f"{'raises' if amount > 0.0 else 'lowers'} it by {size}"


def _unit(unit: str) -> str:
    return "" if unit in ("", "1") else f" {unit}"


def _parameters(effects: Effects) -> list[Block]:
    rows = [
        [b, n, p["value"], p["unit"], p["derivative"], p["by_percent"], p["by_range"]]
        for i, b in enumerate(effects.case.basins[:SHOWN])
        for n, p in effects.parameters(i).items()
    ]
    headers = ["basin", "parameter", "value", "unit", "derivative"]
    headers += [f"per 1 % of {what} [{effects.told_in}]" for what in ("value", "range")]
    caption = (
        f"Derivative: {effects.goal.shown} per unit of the parameter. Then the change where the parameter grows by 1 % "
        f"of its value{' (the elasticity)' if effects.relative else ''}, and where it moves across 1 % of its range."
    )
    note = (
        "A percent of a temperature depends on where zero lies: compare parameters by the last column, which depends "
        "on ranges instead. A parameter is moved alone; in a calibration others would make up for part of it."
    )
    return [Table(headers, rows, caption, digits=4), Text(note)]


def _weather(effects: Effects) -> list[Block]:
    forcings = effects.case.run.model.structure.forcings
    rows = [
        [b, n, d["date"], d["value"], d["derivative"], d.get("contribution")]
        for i, b in enumerate(effects.case.basins[:MOST_BASINS])
        for n in effects.found.forcing
        for d in effects.days(n, i)
    ]
    units = ", ".join(f"{n} [{forcings[n]}]" for n in effects.found.forcing)
    caption = (
        f"The days that matter most, of {units}. Derivative: {effects.goal.shown} per unit of that day's mean; "
        f"contribution: derivative times value [{effects.goal.shown}]."
    )
    return [Table(["basin", "forcing", "date", "value", "derivative", "contribution"], rows, caption)]


def _storages(effects: Effects) -> list[Block]:
    rows = [
        [b, n, s["value"], s["unit"], s["derivative"], s["by_percent"]]
        for i, b in enumerate(effects.case.basins[:SHOWN])
        for n, s in effects.storages(i).items()
    ]
    headers = ["basin", "store", "at the start", "unit", "derivative", f"per 1 % of it [{effects.told_in}]"]
    return [Table(headers, rows, "What the initial storages still do to the result.")]


def _check(effects: Effects) -> list[Block]:
    found, worst = effects.checked, effects.worst()
    text = (
        "Every kind of derivative was compared with central differences of runs at several steps, some days of each "
        f"series included. {int(found['kinks'].sum())} of {int(found['entries'].sum())} entries lie at a kink, where "
        f"both sides differ, and were left out; {int(found['unseen'].sum())} of {len(found)} gradients are too small "
        "for differences."
    )
    if worst is not None:
        text += (
            f" The largest relative error is {worst['error']:.1e}, by {worst['quantity']} of basin {worst['basin']}."
        )
    if lost := int((found["kinks"] == found["entries"]).sum()):
        text += f" {lost} gradient(s) could not be compared: all of their entries lie at kinks."
    rows = [
        [r.basin, r.quantity, f"{r.error:.1e}", f"{r.round_off:.1e}", int(r.kinks), int(r.entries), "yes" * r.unseen]
        for r in found.head(SHOWN).itertuples()
    ]
    headers = ["basin", "derivative by", "relative error", "round-off", "kinks", "entries", "too small"]
    return [Text(text), Table(headers, rows, "Errors below the round-off of the differences mean nothing.")]


def _limits(effects: Effects) -> list[Block]:
    items = [
        "Derivatives are local: they tell of small changes about these values. A change of 1 % is told from the slope; "
        "a change of 50 % would come out otherwise.",
        "They are exact derivatives of the discrete run, with its steps, not of the differential equations, and they "
        "tell of the model, not of the catchment: a process that the model lacks has no derivative.",
        "At a kink (snow that has just melted out, a store that has just emptied) they are those of one side.",
        effects.case.whence + " They do not move with the parameters here.",
    ]
    if effects.goal.name == "flood_peak":
        items.insert(2, "The peak is that of one day: a second flood that would become the largest is not seen.")
    if effects.goal.name == "low_flow_days":
        items.insert(
            2, "Days are counted smoothly about the threshold: with a larger width, days farther from it count."
        )
    return [Items(items)]
