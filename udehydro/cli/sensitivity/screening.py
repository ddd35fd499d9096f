"""``udehydro sensitivity global``: which parameters a result depends on, over all values they may have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import typer
import xarray as xr

from udehydro.cli.sensitivity.asking import asking
from udehydro.cli.sensitivity.case import Case, read_case
from udehydro.cli.sensitivity.goal import Asked, Goal, read_asked
from udehydro.cli.sensitivity.methods import METHODS, Method
from udehydro.cli.sensitivity.screening_words import headline, sections
from udehydro.cli.sensitivity.written import close, drawn, several, write
from udehydro.cli.tables import table
from udehydro.errors import ConfigError
from udehydro.experiment.pictures import MOST_BASINS, Drawn
from udehydro.sensitivity import Response, Space
from udehydro.sensitivity.response import ADDED, TIMES
from udehydro.settings import names
from udehydro.structure import Range, suggest


@asking(case=read_case, asked=read_asked)
def command(
    case: Case,
    asked: Asked,
    method: str = typer.Option("sobol", "--method", metavar="NAME", help=f"One of: {', '.join(METHODS)}."),
    samples: int = typer.Option(
        None, "--samples", min=2, metavar="N",
        help="Rows of the design, a power of two; trajectories of morris. [default: of the method]",
    ),
    seed: int = typer.Option(0, "--seed", min=0, help="Draws the design."),
    ranges: list[str] = typer.Option(
        None, "--range", metavar="NAME=LOW:HIGH",
        help="Range of a parameter in place of the declared one; or a further factor: the initial storage of a store, "
        "times_<forcing>, added_to_<forcing>. Repeatable.",
    ),
    without: str = typer.Option(None, "--without", metavar="NAME[,NAME]", help="Factors held at their values."),
) -> None:  # fmt: skip
    """Which parameters does a result depend on, over all values they may have?

    \b
    udehydro sensitivity global --method delsa --model exphydro --data demo:fulda --objective nse --out out/global

    A design of samples over the declared ranges is run at once and every basin is analysed by itself. All methods but
    delsa need SALib: pip install 'udehydro[sensitivity]'. Exit code 1: some basin has no result.
    """
    if method not in METHODS:
        raise ConfigError(f"--method: '{method}' is none of {', '.join(METHODS)}.{suggest(method, METHODS)}")
    chosen, goal = METHODS[method], asked.goal(case)
    space = Space.of(case.run.model, _ranges(ranges or (), case), without=names(without or "", "--without"))
    response = Response(case.run.model, case.forcing, goal.objective, theta=case.model.theta, storage0=case.start)
    size = {} if samples is None else {chosen.size: samples}
    found = chosen.run(response, space, **size, seed=seed, progress="runs" if case.progress else None)
    found = found.assign_attrs(objective=goal.said, unit_of_objective=goal.unit)
    figures = _draw(case, chosen, found)
    title = f"What {goal.said} depends on, over ranges: {several(case.basins)}"
    write(case, found, _summary(case, chosen, goal, found), figures, title, headline(case, chosen, goal, found),
          sections(case, chosen, goal, found, figures))  # fmt: skip
    rows = [[b, *found[chosen.measure].sel(basin=b).values.tolist()] for b in case.basins[:40]]
    print(f"{found.attrs['method']}, {chosen.measure}, of {goal.said}")
    print(table(["basin", *space.names], rows))
    bad = [b for b in case.basins if not np.isfinite(found[chosen.measure].sel(basin=b)).any()]
    close(case, [f"basin {b}: no result; too many runs failed, or the result never varies" for b in bad])


def _ranges(given: Sequence[str], case: Case) -> Mapping[str, Range]:
    s = case.run.model.structure
    units = {**{n: r.unit for n, r in s.parameters.items()}, **s.stores}
    units |= {TIMES + n: "1" for n in s.forcings} | {ADDED + n: unit for n, unit in s.forcings.items()}
    found = {}
    for text in given:
        name, _, ends = text.partition("=")
        try:
            low, high = (float(x) for x in ends.split(":"))
        except ValueError:
            low = high = math.nan
        if not -math.inf < low < high < math.inf:
            raise ConfigError(f"--range: '{text}' has to be NAME=LOW:HIGH, e.g. --range smax=100:500.")
        if name not in units:
            raise ConfigError(f"--range: the model has no factor '{name}'.{suggest(name, units)}")
        found[name] = Range(low, high, units[name])
    return found


def _draw(case: Case, method: Method, found: xr.Dataset) -> list[Drawn]:
    """A figure of each of the first basins that have results."""
    figures = []
    for basin in case.basins[:MOST_BASINS]:
        one = found.sel(basin=basin)
        if method.order(one):
            figures.append(drawn(basin, found.attrs["method"].lower(), method.figure(one, title=basin), method.caption))
    return figures


def _summary(case: Case, method: Method, goal: Goal, found: xr.Dataset) -> dict:
    """The content of ``summary.json``."""
    basins = {}
    for basin in case.basins:
        one = found.sel(basin=basin)
        by_factor = {str(n): {m: float(one[m].sel(factor=n)) for m in method.shown} for n in one["factor"].values}
        basins[basin] = {"factors": by_factor, "ranking": method.order(one), "failed": int(one["failed"])}
    ranges = {str(n): [float(found["low"].sel(factor=n)), float(found["high"].sel(factor=n))]
              for n in found["factor"].values}  # fmt: skip
    objective = {"name": goal.name, "unit": goal.unit, "said": goal.said}
    about = {n: v for n, v in found.attrs.items() if n in ("method", "samples", "trajectories", "runs", "seed")}
    return {"analysis": "global", **about, "objective": objective, "ranges": ranges, "basins": basins}
