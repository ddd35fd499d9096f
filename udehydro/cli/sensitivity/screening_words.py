"""The report on a global sensitivity analysis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from udehydro.cli.sensitivity.case import Case
from udehydro.cli.sensitivity.goal import Goal
from udehydro.cli.sensitivity.methods import LITTLE, Method
from udehydro.cli.sensitivity.written import pictures
from udehydro.experiment.pictures import MOST_BASINS, Drawn
from udehydro.report import Block, Items, Section, Table, Text, number

SHOWN = 60
ADDITIVE = 0.9
"""Sum of first-order shares from which on interactions are called small."""


def headline(case: Case, method: Method, goal: Goal, found: xr.Dataset) -> str:
    """What matters most in the first basin."""
    first, more = case.basins[0], len(case.basins) - 1
    text = f"{first}: over the ranges of the table below, {goal.said} depends most on "
    text += (
        f"{method.leading(found.sel(basin=first)) or 'nothing that could be told'}, measured by {method.measure} of "
    )
    text += f"{found.attrs['method']} from {found.attrs['runs']} runs."
    return text + (f" {more} more basin(s) below." if more else "")


def sections(case: Case, method: Method, goal: Goal, found: xr.Dataset, figures: Sequence[Drawn]) -> list[Section]:
    """All but those that every analysis has."""
    return [
        Section("In words", [Text(method.meaning), Items(_words(case, method, found))]),
        Section("Factors", [_measures(case, method, found), *pictures(figures, found.attrs["method"].lower())]),
        Section("What was varied", _varied(found)),
        Section("How far these numbers go", [Items(_limits(case, goal, found))]),
    ]


def _words(case: Case, method: Method, found: xr.Dataset) -> list[str]:
    said = []
    for basin in case.basins[:MOST_BASINS]:
        one = found.sel(basin=basin)
        if not (order := method.order(one)):
            said.append(f"{basin}: no result; too many runs failed, or the result never varies.")
            continue
        verb = "may matter" if method.measure == "bound" else "matters"
        said.append(f"{basin}: what {verb} most is {method.leading(one)}, what {verb} least {order[-1]}.")
        if method.idle is not None:
            idle = [str(n) for n, i in zip(one["factor"].values, method.idle(one), strict=True) if i]
            less = f"less than {100 * LITTLE:g} % of the variance"
            said.append(f"{basin}: can be fixed anywhere in their ranges, each making {less}: {', '.join(idle)}."
                        if idle else f"{basin}: no factor is sure to make {less}.")  # fmt: skip
        if "S1" in one:
            alone = float(one["S1"].sum())
            rest = "interactions are small" if alone > ADDITIVE else f"interactions make {number(1.0 - alone, 2)}"
            rest = rest if alone <= 1.0 else "what is above 1 is sampling error"
            said.append(f"{basin}: the factors alone make {number(alone, 2)} of the variance; {rest}.")
        if method.vague(one):
            said.append(f"{basin}: the intervals are wide. Take more samples before relying on these numbers.")
        if failed := int(one["failed"]):
            said.append(f"{basin}: {failed} of {found.attrs['runs']} runs failed and were left out.")
    return said


def _measures(case: Case, method: Method, found: xr.Dataset) -> Block:
    rows = [
        [b, n, *(float(found[m].sel(basin=b, factor=n)) for m in method.shown)]
        for b in case.basins[:SHOWN]
        for n in method.order(found.sel(basin=b))
    ]
    caption = "The largest first. 'conf' is half of a 95 % interval. Effects and derivatives are by the whole range."
    return Table(["basin", "factor", *method.shown], rows, caption)


def _varied(found: xr.Dataset) -> list[Block]:
    rows = [
        [str(n), *(float(found[end].sel(factor=n)) for end in ("low", "high")), str(found["unit"].sel(factor=n).values),
         "logarithm" if bool(found["logarithmic"].sel(factor=n)) else "value"]
        for n in found["factor"].values
    ]  # fmt: skip
    text = "Factors are independent of each other and uniform over their ranges."
    return [Text(text), Table(["factor", "from", "to", "unit", "uniform in the"], rows)]


def _limits(case: Case, goal: Goal, found: xr.Dataset) -> list[str]:
    days = (np.datetime64(case.period.start) - case.forcing.time[0]) / np.timedelta64(1, "D")
    said = [
        "The numbers are those of these ranges and this result: wider ranges make a factor matter more. Values that "
        "make no sense together were run like all others.",
        f"{case.whence} Every run starts from them, {days:.0f} days before the period: a sample whose stores need "
        "longer to forget them carries some of it. A store given as --range shows whether that matters.",
        "What is not varied has the value of the table of parameters.",
    ]
    if goal.score:
        said.append("A score has no lower end: its variance is that of the worst runs. Narrow the ranges (--range), or "
                    "take --method pawn, which does not look at the variance.")  # fmt: skip
    if goal.name == "flood_peak":
        said.append("In every run the peak is that of its own largest day.")
    return said
