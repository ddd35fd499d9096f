"""``udehydro sensitivity adjoint``: what one number depends on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import typer
from tqdm import tqdm

from udehydro import plot
from udehydro.cli.sensitivity.adjoint_words import headline, sections
from udehydro.cli.sensitivity.asking import asking
from udehydro.cli.sensitivity.case import Case, read_case
from udehydro.cli.sensitivity.effects import Effects
from udehydro.cli.sensitivity.goal import Asked, read_asked
from udehydro.cli.sensitivity.written import close, drawn, several, write
from udehydro.cli.tables import table
from udehydro.experiment.pictures import MOST_BASINS, Drawn
from udehydro.sensitivity import adjoint, verify

LIMIT = 1e-3
"""Relative error from which on derivatives are called wrong; differences of right ones stay far below."""
LONG = np.timedelta64(730, "D")
"""Where water matters for longer than this, each store is drawn by years and days of the year, too."""

CAPTIONS = {
    "flood": "Rain; what 1 mm/d more rain on that day alone would have added to the peak; that times the rain that "
    "fell; what one degree more on that day would have done. Contributions are first-order and need not add up.",
    "tornado": "How much the result changes where one parameter alone grows by 1 %, the largest on top.",
    "year": "When weather matters: all of a month, in all years, raised at once.",
    "lambda": "Lambda: what a millimetre more in a store would have been worth to the result, by the day it is added. "
    "Before the first date shown it is below a hundredth of its largest value: the catchment has forgotten.",
    "score": " Blue: with more water there the score would be higher, the model was too dry; red: too wet.",
}


@asking(case=read_case, asked=read_asked)
def command(
    case: Case,
    asked: Asked,
    fluxes: bool = typer.Option(
        False, "--fluxes", help="Also by the rate of every flux in every interval, into sensitivity.nc."
    ),
    check: bool = typer.Option(
        False, "--verify", help="Compare the derivatives with differences of runs; takes many runs."
    ),
) -> None:
    """What does one number depend on? Its derivatives by parameters, initial storages and each day of weather.

    \b
    udehydro sensitivity adjoint --model exphydro --data demo:fulda --objective flood_peak \\
      --period 1984-01-01/1984-12-31 --out out/flood

    One run and one backward pass, exact for the discrete run, basin by basin. The report tells the numbers in words.
    Exit code 1: a derivative is not finite, or --verify found it wrong.
    """
    goal = asked.goal(case)
    model, forcing = case.run.model, case.forcing
    found = adjoint(model, forcing, goal.objective, **case.given, fluxes=fluxes)
    objectives = {goal.name: goal.objective}
    table_ = verify(model, forcing, objectives, **case.given, progress=case.progress) if check else None
    effects = Effects(case, goal, found, table_)
    figures = list(_draw(effects))
    title = f"What {goal.said} depends on: {several(case.basins)}"
    write(case, found.to_xarray(goal.unit), effects.summary(), figures, title, headline(effects),
          sections(effects, figures))  # fmt: skip
    rows = [[b, float(effects.values[i]), *(p["by_percent"] for p in effects.parameters(i).values())]
            for i, b in enumerate(case.basins)]  # fmt: skip
    print(f"{goal.said} [{goal.unit}], and its change [{effects.told_in}] for 1 % of each parameter")
    print(table(["basin", "value", *effects.parameters(0)], rows[:40]))
    close(case, list(_complaints(effects)))


def _complaints(effects: Effects) -> Iterator[str]:
    for i, basin in enumerate(effects.case.basins):
        numbers = [effects.values[i], *(p["derivative"] for p in effects.parameters(i).values())]
        if not np.isfinite(numbers).all():
            yield f"basin {basin}: the objective or a derivative of it is not finite"
    worst = effects.worst()
    if worst is not None and worst["error"] > LIMIT and not worst["error"] <= worst["round_off"] < np.inf:
        what = f"basin {worst['basin']}: derivatives by {worst['quantity']}"
        yield f"{what} are wrong by {worst['error']:.1e} of their size"


def _draw(effects: Effects) -> Iterator[Drawn]:
    """The figures of the first basins."""
    case, goal, found = effects.case, effects.goal, effects.found
    unit = None if effects.relative else goal.shown
    basins = list(enumerate(case.basins[:MOST_BASINS]))
    for i, basin in tqdm(basins, "figures", disable=not case.progress, leave=False, delay=2.0):
        if goal.name == "flood_peak" and "prcp" in found.forcing:
            yield drawn(basin, "flood", plot.flood_attribution(found, element=i), CAPTIONS["flood"])
        shown = plot.tornado(found, element=i, unit=unit, title=f"Parameters ({basin})")
        yield drawn(basin, "tornado", shown, CAPTIONS["tornado"])
        shown = plot.elasticity_through_year(found, element=i, unit=unit, title="Weather through the year")
        yield drawn(basin, "year", shown, CAPTIONS["year"])
        if (dates := effects.felt(i)) is None:
            continue
        shown = plot.lambda_map(found, unit=goal.shown, element=i, window=dates)
        yield drawn(basin, "lambda", shown, CAPTIONS["lambda"] + CAPTIONS["score"] * goal.score)
        if np.datetime64(dates[1]) - np.datetime64(dates[0]) > LONG:
            for store in found.storage:
                shown = plot.lambda_map(found, store, unit=goal.shown, element=i)
                yield drawn(basin, f"lambda_{store}", shown, f"The same of '{store}', a row for each year.")
