"""The report on what a record tells: which values it determines, which it confuses, and when it tells of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from udehydro.cli.sensitivity.record import Told
from udehydro.cli.sensitivity.written import pictures
from udehydro.experiment.pictures import MOST_BASINS, Drawn
from udehydro.report import Block, Items, Section, Table, Text, number

CONFUSED = 10.0
"""Collinearity index from which on values are hardly told apart (Brun et al. 2001: 10 to 15)."""
OPEN = 0.5
"""Content below which a record is said to leave a value open."""
NOTHING = 0.05
"""Content below which it is said to tell nothing."""
SHOWN = 60
LISTED = 6


def headline(told: Told) -> str:
    """How well values are known, and which are confused, of the first basin."""
    case = told.case
    first, more = case.basins[0], len(case.basins) - 1
    text = f"{first}: with errors of {told.error}, discharge from {case.period.start} to {case.period.end} would tell "
    rows = told.parameters(0)
    order = sorted(rows, key=lambda n: -np.nan_to_num(rows[n]["content"], nan=-1.0))
    others = f" and {len(order) - LISTED} others less" if len(order) > LISTED else ""
    text += f"{', '.join(_known(told, n, rows[n]) for n in order[:LISTED])}{others}. {_confused(told, 0)}"
    return text + (f" {more} more basin(s) below." if more else "")


def sections(told: Told, figures: Sequence[Drawn]) -> list[Section]:
    """All but those that every analysis has."""
    return [
        Section("In words", [Items(_words(told))]),
        Section("How well values are known", [*_values(told), *pictures(figures, "spectrum")]),
        Section("Which values are confused", _pairs(told)),
        Section("When the record tells of them", [_windows(told), *pictures(figures, "identifiability")]),
        Section("How the hydrograph responds", pictures(figures, "hydrograph")),
        Section("How far these numbers go", [Items(_limits(told))]),
    ]


def _known(told: Told, name: str, p: dict) -> str:
    if not np.isfinite(p["sd"]) or p["content"] < NOTHING:
        return f"nothing of {name}"
    if p["unit"] == "degC" or p["value"] == 0.0:  # a percent of degrees has no meaning
        return f"{name} to {number(p['sd'])} {p['unit']}"
    return f"{name} to {_percent(p['relative_sd'])}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.2g} %" if share < 1.0 else "no better than 100 %"


def _confused(told: Told, i: int) -> str:
    pairs = told.pairs(i)
    if not pairs:
        return ""
    pair, index = pairs[0]["names"], pairs[0]["index"]
    text = f"Hardest to tell apart are {pair[0]} and {pair[1]} (collinearity index {number(index, 1)})"
    return f"{text}; they are hardly told apart." if index > CONFUSED else f"{text}; they can be told apart."


def _words(told: Told) -> list[str]:
    said = []
    for i, basin in enumerate(told.case.basins[:MOST_BASINS]):
        rows = told.parameters(i)
        known = sorted(rows, key=lambda n: -np.nan_to_num(rows[n]["content"], nan=-1.0))
        said.append(f"{basin}: best known, measured by its range: {_known(told, known[0], rows[known[0]])}.")
        if left := [n for n in known if rows[n]["content"] < OPEN]:
            said.append(f"{basin}: left open, with less than half of the range ruled out: {', '.join(left)}.")
        said += [f"{basin}: {text}" for text in [_confused(told, i)] if text]
        spectrum = told.information.spectrum()[i]
        least, sd = spectrum.direction(-1), float(spectrum.sd[-1])
        said.append(f"{basin}: the least known combination of relative changes is {least}, known to {_percent(sd)}.")
        best = known[0], *rows[known[0]]["best_window"]
        said.append(f"{basin}: {best[0]} is told best from {best[1]} to {best[2]}.")
    return said


def _values(told: Told) -> list[Block]:
    rows = [
        [b, n, p["value"], p["unit"], p["sd"], 100.0 * p["relative_sd"], 100.0 * p["sd_by_range"], p["content"]]
        for i, b in enumerate(told.case.basins[:SHOWN])
        for n, p in told.parameters(i).items()
    ]
    headers = ["basin", "value of", "value", "unit", "sd", "sd [% of value]", "sd [% of range]", "content"]
    caption = (
        "Standard deviation of an efficient estimate (Cramer-Rao bound), all values of the table unknown. Content: "
        "what the record adds to knowing the range, 0 nothing, 1 all."
    )
    return [Table(headers, rows, caption)]


def _pairs(told: Told) -> list[Block]:
    rows, wholes = [], []
    for i, basin in enumerate(told.case.basins[:SHOWN]):
        rows += [[basin, " and ".join(p["names"]), p["index"]] for p in told.pairs(i)]
        wholes.append(f"{basin}: {number(told.collinearity(i), 1)} of all {len(told.names)} values together.")
    text = (
        "Of a collinearity index of 10, other values make up for all but a tenth of what a change of one does to the "
        "hydrograph; above 10 to 15 they are hardly told apart (Brun et al. 2001), whatever the size of the errors."
    )
    return [Text(text), Items(wholes), Table(["basin", "pair", "collinearity index"], rows)]


def _windows(told: Told) -> Block:
    rows = [
        [b, n, *p["best_window"], p["best_window_content"], p["content"]]
        for i, b in enumerate(told.case.basins[:SHOWN])
        for n, p in told.parameters(i).items()
    ]
    headers = ["basin", "value of", "from", "to", "content of that window alone", "of the whole period"]
    return Table(headers, rows, "The window that alone tells most of each value.")


def _limits(told: Told) -> list[str]:
    gaps = "count for nothing" if told.gaps else "are not known: every interval of the period is taken for measured"
    said = [
        f"Errors of measured discharge: {told.error}. Standard deviations are proportional to their size. Residuals of "
        "a calibration hold errors of model and weather too, and last for days (--correlation): a record tells less.",
        f"Intervals without an observation {gaps}.",
        "All of this is local: of the model linearised at these values, its structure taken for true.",
        "Derivatives are those of the discrete run, exact, and one-sided at a kink.",
        f"{told.case.whence} They are taken for known unless they are among the values (--names).",
    ]
    if told.case.run.model.laws:
        said.append("Weights of learned laws are taken for known.")
    if told.error.share:
        said.append("A share of the flow is taken of the flow plus one percent of its mean: no error is zero.")
    return said
