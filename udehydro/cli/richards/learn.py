"""``udehydro richards learn``."""

from __future__ import annotations

import math
from pathlib import Path

import typer

from udehydro.cli import options as o
from udehydro.cli.richards.answer import Answer, of_column, of_networks
from udehydro.cli.richards.case import FILE, Case, read_case
from udehydro.cli.richards.gauge import record, states
from udehydro.cli.richards.run import bars, say
from udehydro.cli.richards.words import told
from udehydro.cli.richards.written import FILES, summary_table, write
from udehydro.cli.simulate import new_folder
from udehydro.errors import ConfigError
from udehydro.richards.inversion import Gauges, Inversion, check_gauge, fit
from udehydro.richards.inversion.doubts import MISFIT
from udehydro.richards.inversion.gauge import WAYS, refuse
from udehydro.structure import suggest


def command(
    soil: Path = FILE,
    out: str = typer.Option(..., "--out", metavar="DIR", help=f"Folder for {', '.join(FILES)}."),
    networks: bool = typer.Option(
        True, "--networks/--column", help="Networks, which need no start and no fluxes; or the column alone, faster."
    ),
    polish: bool = typer.Option(True, "--polish/--no-polish", help="Fit the column from what networks found."),
    seeds: int = typer.Option(1, "--seeds", min=1, metavar="N", help="Networks, trained side by side."),
    steps: int = typer.Option(
        None, "--steps", min=1, metavar="N", help="Most steps of a stage. [default: 60 of networks, 40 of the column]"
    ),
    points: int = typer.Option(
        1000, "--points", min=50, metavar="N", help="Places and times at which networks obey the equation."
    ),
    gauge: str = typer.Option("warn", "--gauge", help="What sensors leave open: warn, refuse or ignore."),
    overwrite: bool = o.OVERWRITE,
    quiet: bool = o.QUIET,
) -> None:
    """Find the soil's curves from sensors: by networks and then the column, by either alone.

    \b
    udehydro richards learn soil.yaml --out out/learned
    udehydro richards learn soil.yaml --column --out out/fitted

    First says what the sensors can decide (see gauge). Networks need no state at the start and no fluxes at unknown
    ends; where these are known, the column is the better estimate, which --polish (the default) ends with.

    Written to --out: curves.csv (theta and K with bands of two standard deviations; visited: where data speak),
    parameters.json (for run --parameters), summary.json, figures. Exit code 1: the model does not fit the readings.
    """
    if gauge not in WAYS:
        raise ConfigError(f"--gauge: '{gauge}' is none of {', '.join(WAYS)}.{suggest(gauge, WAYS)}")
    target = new_folder(Path(out), overwrite, FILES)
    case = read_case(soil)
    say(case.notes)
    with told(str(soil)) as said:
        task = case.inversion()
        gauges = None if gauge == "ignore" else _gauges(task, gauge)
        answer = _by_networks(task, seeds, steps, points, polish, quiet) if networks else _by_column(task, steps, quiet)
    write(target, case, answer, {} if gauges is None else record(gauges), said)
    print(summary_table(answer))
    print(f"\nWritten to {target}: {', '.join(FILES)}")
    _close(answer, case)


def _gauges(task: Inversion, gauge: str) -> Gauges:
    found = check_gauge(task)
    print(states(found), end="\n\n")
    if gauge == "refuse":
        refuse(found)
    if found.open:
        typer.echo(
            f"Warning: open: {', '.join(found.open)}. Where that moves curves, what comes out is what the law or its "
            "start makes of it, not the data.",
            err=True,
        )
    return found


def _by_column(task: Inversion, steps: int | None, quiet: bool) -> Answer:
    return of_column(fit(task, steps=steps or 40, gauge="ignore", progress=bars(quiet)), "the column")


def _by_networks(task: Inversion, seeds: int, steps: int | None, points: int, polish: bool, quiet: bool) -> Answer:
    from udehydro.richards.pinn import Counts, learn

    counts = Counts(points, max(points // 10, 10))
    learned = learn(task, seeds=range(seeds), steps=steps or 60, counts=counts, gauge="ignore", progress=bars(quiet))
    if not polish:
        return of_networks(learned)
    fitted = learned.polish(steps=steps or 40, progress=bars(quiet))
    return of_column(fitted, "networks, then the column", learned.values)


def _close(answer: Answer, case: Case) -> None:
    """Exit code 1 where the model does not fit."""
    if not math.isfinite(answer.misfit) or answer.misfit > MISFIT:
        typer.echo(
            f"Bad result: chi2 by reading is {answer.misfit:.3g}, where one is expected: a unit, sigma, the start or "
            f"the model of {case.path} is wrong.",
            err=True,
        )
        raise typer.Exit(1)
