"""``udehydro evaluate``."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import typer

from udehydro import saved
from udehydro.cli import options as o
from udehydro.cli.simulate import read_forcing, require_cover
from udehydro.cli.tables import table
from udehydro.config import STRUCTURES, Experiment
from udehydro.errors import ConfigError, DataError
from udehydro.experiment.folder import CONFIG, MODELS
from udehydro.experiment.prepare import observations
from udehydro.experiment.results import run_saved, scores
from udehydro.experiment.source import Source
from udehydro.files import write_json_atomic
from udehydro.settings import Period, names
from udehydro.structure import suggest


def command(
    run: Path = typer.Argument(..., metavar="DIR", help="Output folder of udehydro fit."),
    period: str = typer.Option(None, "--period", metavar="A/B", help="Dates to score. [default: the test period]"),
    data: str = typer.Option(None, "--data", metavar="FILE_OR_FOLDER", help="Other data than those of the run."),
    variant: str = typer.Option(None, "--variant", metavar="NAME[,NAME]", help="Only these, e.g. hybrid."),
    min_nse: float = typer.Option(None, "--min-nse", help="Exit code 1 where any NSE is below this."),
    json: Path = typer.Option(None, "--json", metavar="FILE", help="Write the scores as JSON, too."),
    device: str = o.DEVICE,
) -> None:
    """Score the saved models of a run on any period: a table, and JSON if asked for.

    \b
    udehydro evaluate out/demo --period 1986-01-01/1988-12-31 --min-nse 0.6
    """
    if not (run / CONFIG).is_file():
        raise ConfigError(f"{run}: is no output folder of udehydro fit, it has no {CONFIG}.")
    experiment = Experiment.from_yaml(run / CONFIG, data=data)
    dates = Period.parse(period, "--period") if period else experiment.test
    found: dict[str, dict[str, dict]] = {}
    for model in _models(run, names(variant, "--variant") if variant else None):
        basin, name = str(model.about["basin"]), str(model.about["variant"])
        found.setdefault(basin, {})[name] = _score(experiment, model, basin, dates, device or experiment.device)
    rows = [[b, n, s["nse"], s["kge"], s["balance_error_mm"]] for b, v in found.items() for n, s in v.items()]
    print(f"Period {dates}")
    print(table(["basin", "model", "NSE", "KGE", "balance [mm]"], rows))
    if json is not None:
        write_json_atomic(json, {"schema": 1, "period": str(dates), "basins": found})
    _judge(rows, min_nse)


def _models(run: Path, variants: tuple[str, ...] | None) -> list[saved.Saved]:
    folders = {f.name: f for f in sorted((run / MODELS).glob("*")) if f.is_dir()}
    for name in variants or ():
        if name not in folders:
            raise ConfigError(f"--variant: '{name}' is not in {run / MODELS}.{suggest(name, folders)}")
    chosen = [f for n, f in folders.items() if variants is None or n in variants]
    models = [saved.load(f.parent, STRUCTURES) for folder in chosen for f in sorted(folder.glob(f"*/{saved.MODEL}"))]
    if not models:
        raise DataError(f"{run / MODELS}: holds no models. Was the run interrupted? Add --resume to its command.")
    return models


def _score(experiment: Experiment, model: saved.Saved, basin: str, period: Period, device: str) -> dict:
    """Scores of one model, from one continuous run over the data of its basin."""
    source = Source.of(experiment.with_(basins=(basin,)))
    dataset, forcing = read_forcing(source, model, device)
    require_cover(forcing, period)
    simulation = run_saved(model, forcing, experiment.make_solver())
    observed = observations(dataset, forcing, experiment.warmup_days)
    found = scores(simulation.discharge, observed, forcing, period)[0]
    return {**found, "balance_error_mm": float(simulation.max_balance_error().max())}


def _judge(rows: list[list], min_nse: float | None) -> None:
    said = [f"basin {b}, {n}: NSE or KGE is not finite" for b, n, *s, _ in rows if not all(map(math.isfinite, s))]
    if min_nse is not None:
        said += [f"basin {b}, {n}: NSE {x:.3f} is below {min_nse:g}" for b, n, x, *_ in rows if x < min_nse]
    for text in said:
        print(f"Bad result: {text}", file=sys.stderr)
    if said:
        raise typer.Exit(1)
