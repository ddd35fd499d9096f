"""``udehydro sensitivity forward``: what a record of discharge tells of parameters, and when."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import typer
from tqdm import tqdm

from udehydro import plot
from udehydro.cli.sensitivity.asking import asking
from udehydro.cli.sensitivity.case import Case, read_case
from udehydro.cli.sensitivity.forward_words import headline, sections
from udehydro.cli.sensitivity.record import Error, Told
from udehydro.cli.sensitivity.written import close, drawn, several, write
from udehydro.cli.tables import table
from udehydro.experiment.pictures import MOST_BASINS, Drawn
from udehydro.sensitivity import forward
from udehydro.settings import names as listed

YEARS = np.timedelta64(730, "D")
"""How much of the period the sensitivities of the hydrograph are drawn of, its end."""
OVERLAP = 6
"""Windows begin this often within their width."""
CAPTIONS = {
    "hydrograph": "The end of the period: discharge, and its change where each value alone grows by 10 %, to first "
    "order. Values with curves of the same shape make up for each other.",
    "identifiability": "What each window alone adds to knowing a value within its range (0 nothing, 1 all); right: the "
    "whole period. Dark: the weather and flow that tell of it.",
    "spectrum": "Combinations of values, the best known first: the standard deviation of a relative change along each, "
    "and what it is made of. Above 100 % the record says nothing.",
}


@asking(case=read_case)
def command(
    case: Case,
    sigma: str = typer.Option(
        "10%", "--sigma", metavar="MM/D|PERCENT", help="Standard deviation of errors of measured discharge: 0.3 or 10%."
    ),
    correlation: float = typer.Option(0.0, "--correlation", help="Of the errors from one step to the next, 0 to 1."),
    names: str = typer.Option(
        None, "--names", metavar="NAME[,NAME]",
        help="Parameters, and stores for their initial storage. [default: all parameters that are no constants]",
    ),
    window_days: float = typer.Option(60.0, "--window-days", help="Width of the windows that are told apart."),
) -> None:  # fmt: skip
    """What would a record of discharge tell of each parameter, which combinations does it leave open, and when?

    \b
    udehydro sensitivity forward --model exphydro --data demo:fulda --sigma 10% --out out/identifiability

    Derivatives of the whole hydrograph, its Fisher information for errors of the size that is given, collinearity,
    and the windows of the record that tell most. Local: of the model linearised at its values, taken for true.
    Exit code 1: a derivative is not finite.
    """
    error = Error.parse(sigma, correlation)
    moved = listed(names, "--names") if names else [n for n, r in case.ranges.items() if not r.fixed]
    told = _told(case, error, moved, window_days)
    figures = list(_draw(told))
    title = f"What a record of discharge tells: {several(case.basins)}"
    write(case, told.to_xarray(), told.summary(), figures, title, headline(told), sections(told, figures))
    rows = [[b, *(100.0 * p["relative_sd"] for p in told.parameters(i).values())] for i, b in enumerate(case.basins)]
    print(f"Standard deviation [% of the value] for errors of {error}")
    print(table(["basin", *told.names], rows[:40]))
    close(case, [] if bool(told.information.matrix.isfinite().all()) else ["a derivative is not finite"])


def _told(case: Case, error: Error, moved: list[str] | tuple[str, ...], window_days: float) -> Told:
    found = forward(case.run.model, case.forcing, moved, **case.given)
    within, part = tuple(case.period), case.forcing.between(*case.period)
    seen = case.observed[part].isfinite()
    gaps = bool(seen.any(0).all())
    options = {"observed": case.observed if gaps else None, "within": within}
    step = max(1, round(window_days / float(case.forcing.days.median()) / OVERLAP))
    errors = error.of(case)
    windows = found.windows(errors, OVERLAP * step, step, **options)
    return Told(case, error, found, windows.whole, windows, gaps)


def _draw(told: Told) -> Iterator[Drawn]:
    """The figures of the first basins."""
    case, (start, end) = told.case, told.case.period
    window = str(max(np.datetime64(start), np.datetime64(end) - YEARS)), end
    basins = list(enumerate(case.basins[:MOST_BASINS]))
    for i, basin in tqdm(basins, "figures", disable=not case.progress, leave=False, delay=2.0):
        shown = plot.sensitivities(told.found, element=i, window=window)
        yield drawn(basin, "hydrograph", shown, CAPTIONS["hydrograph"])
        yield drawn(
            basin, "identifiability", plot.identifiability(told.windows, element=i), CAPTIONS["identifiability"]
        )
        yield drawn(basin, "spectrum", plot.spectrum(told.information.spectrum()[i]), CAPTIONS["spectrum"])
