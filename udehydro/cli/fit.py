"""``udehydro fit``."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from udehydro.cli import options as o
from udehydro.cli.tables import scores_table
from udehydro.config import LOSSES, SCHEMES, SOLVERS, STRUCTURES, Experiment


def command(
    context: typer.Context,
    config: Path = typer.Option(None, "--config", "-c", metavar="YAML", help="Experiment file; flags override it."),
    data: str = o.DATA,
    basin: str = o.BASIN,
    model: str = typer.Option(None, "--model", help=f"One of: {', '.join(STRUCTURES)}. [default: exphydro]"),
    neural: str = typer.Option(
        None, "--neural", metavar="FLUX[,FLUX]", help="Fluxes to be learned by networks, e.g. et,discharge."
    ),
    discover: str = typer.Option(
        None, "--discover", metavar="FLUX[,FLUX]", help="Learned fluxes to be written as formulas and put back."
    ),
    train: str = typer.Option(None, "--train", metavar="A/B", help="Dates to learn from, both inclusive."),
    valid: str = typer.Option(
        None,
        "--valid",
        metavar="A/B",
        help="Dates to choose on, at the end of train or after it. [default: last 20 %]",
    ),
    test: str = typer.Option(None, "--test", metavar="A/B", help="Dates for the final scores, used for no choice."),
    out: str = o.OUT,
    seed: int = typer.Option(None, "--seed", help="Draws starts and initial weights. [default: 0]"),
    device: str = o.DEVICE,
    resume: bool = o.RESUME,
    overwrite: bool = o.OVERWRITE,
    loss: str = typer.Option(None, "--loss", help=f"One of: {', '.join(LOSSES)}. [default: nse]"),
    starts: int = typer.Option(None, "--starts", help="Starts of the calibration per basin. [default: 8]"),
    steps: int = typer.Option(None, "--steps", help="Steps of the calibration. [default: 100]"),
    refit_steps: int = typer.Option(None, "--refit-steps", help="Steps of its refit on all of train. [default: 40]"),
    seeds: int = typer.Option(None, "--seeds", help="Networks per basin, validation picks one. [default: 2]"),
    neural_steps: int = typer.Option(None, "--neural-steps", help="Steps of training networks. [default: 150]"),
    learning_rate: float = typer.Option(None, "--learning-rate", help="Of training networks. [default: 0.01]"),
    penalty: float = typer.Option(None, "--penalty", help="Weight of the mean square of network weights. [default: 0]"),
    warmup_days: int = typer.Option(
        None, "--warmup-days", help="Days at the start of the record that are not scored. [default: 365]"
    ),
    solver: str = typer.Option(None, "--solver", help=f"One of: {', '.join(SOLVERS)}. [default: automatic]"),
    scheme: str = typer.Option(None, "--scheme", help=f"One of: {', '.join(SCHEMES)}. [default: sdirk2]"),
    substeps: int = typer.Option(None, "--substeps", help="Equal steps per interval of the data. [default: 1]"),
    area: float = o.AREA,
    lat: float = o.LAT,
    column: list[str] = o.COLUMN,
    unit: list[str] = o.UNIT,
    dayfirst: bool = o.DAYFIRST,
    fill_gaps: int = o.FILL_GAPS,
    quiet: bool = o.QUIET,
) -> None:
    """Calibrate a model and, with --neural, train networks for some of its fluxes; report both.

    With --discover, or as ``udehydro discover`` for all learned fluxes (et and discharge by default), networks are then
    written as formulas, which are put back, refitted and compared on the same unseen years.

    \b
    udehydro fit --data mybasin.csv --model exphydro --neural et,discharge \\
      --train 1981-10-01/1995-09-30 --test 1995-10-01/2005-09-30 --out out/mybasin
    udehydro fit --config out/mybasin/config.yaml --out out/again

    Every basin is fitted on its own, all of them side by side. Starts and networks are chosen on the validation
    period, then everything is fitted again to all of train, and the test period is scored once.

    Written to --out: report.html, metrics.json, simulation.nc, models/, figures/, config.yaml (every setting, so that
    --config repeats the run), checkpoints/ (for --resume).
    """
    from udehydro.experiment import run

    discovering = context.info_name == "discover"
    given = dict(
        data=data, basins=basin, model=model, neural=neural, discover=discover, train=train, valid=valid, test=test,
        out=out, seed=seed, device=device, loss=loss, starts=starts, steps=steps, refit_steps=refit_steps, seeds=seeds,
        neural_steps=neural_steps, learning_rate=learning_rate, penalty=penalty, warmup_days=warmup_days, solver=solver,
        scheme=scheme, substeps=substeps, area=area, lat=lat, columns=o.pairs(column, "--column"),
        units=o.pairs(unit, "--unit"), dayfirst=dayfirst, fill_gaps=fill_gaps,
    )  # fmt: skip
    experiment = Experiment.from_flags(config, **given)
    if discovering and not experiment.discover:
        learned = experiment.neural or ("et", "discharge")
        experiment = experiment.with_(neural=learned, discover=learned)
    try:
        found = run(experiment, resume=resume, overwrite=overwrite, progress=not quiet)
    except KeyboardInterrupt:
        print(f"\nInterrupted. Add --resume to go on, with what is in {experiment.out}.", file=sys.stderr)
        raise typer.Exit(130) from None
    finish(found, experiment.out)


def finish(found: dict, out: str) -> None:
    """Print the scores and where the rest is; exit code 1 where something speaks against the result."""
    print(scores_table(found))
    print(f"\nReport: {Path(out) / 'report.html'}")
    for text in found["complaints"]:
        print(f"Bad result: {text}", file=sys.stderr)
    if found["complaints"]:
        raise typer.Exit(1)
