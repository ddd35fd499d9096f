"""``udehydro simulate``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import typer

from udehydro import data as datasets
from udehydro import plot, saved
from udehydro.balance import Balance
from udehydro.cli import options as o
from udehydro.cli.tables import table
from udehydro.config import STRUCTURES
from udehydro.errors import ConfigError
from udehydro.experiment.folder import safe_name
from udehydro.experiment.prepare import observations
from udehydro.experiment.results import by_basin, run_saved, scores
from udehydro.experiment.source import Source, complete
from udehydro.files import write_atomic, write_json_atomic, write_netcdf_atomic
from udehydro.forcing import Forcing
from udehydro.settings import Period
from udehydro.simulation import Simulation
from udehydro.solvers import Automatic
from udehydro.structure import suggest

FILES = ("simulation.nc", "summary.json", "figures")
MOST_BASINS = 6


def command(
    model: str = o.MODEL,
    data: str = o.MODELLED,
    out: str = typer.Option(..., "--out", metavar="DIR", help="Folder for simulation.nc, summary.json and figures."),
    basin: str = o.BASIN,
    parameters: Path = o.PARAMETERS,
    period: str = typer.Option(
        None, "--period", metavar="A/B", help="Dates to score and to draw. The run always starts with the record."
    ),
    warmup_days: int = typer.Option(365, "--warmup-days", help="Days at the start of the record that are not scored."),
    area: float = o.AREA,
    lat: float = o.LAT,
    column: list[str] = o.COLUMN,
    unit: list[str] = o.UNIT,
    dayfirst: bool = o.DAYFIRST,
    fill_gaps: int = o.FILL_GAPS,
    device: str = o.DEVICE,
    overwrite: bool = o.OVERWRITE,
) -> None:
    """Run a model over data: storages and fluxes as NetCDF, figures, and scores where discharge was observed.

    \b
    udehydro simulate --model out/demo/models/hybrid/fulda --data demo:fulda --out out/again
    udehydro simulate --model exphydro --parameters p.json --data mybasin.csv --out out/run
    """
    target = new_folder(Path(out), overwrite, FILES)
    chosen = load_model(model, parameters)
    shown = Period.parse(period, "--period") if period else None
    source = o.source(data, basin, area, lat, column, unit, dayfirst, fill_gaps)
    dataset, forcing = read_forcing(source, chosen, device or "cpu")
    require_cover(forcing, shown)
    simulation = run_chosen(chosen, forcing)
    observed = observations(dataset, forcing, warmup_days)
    _write(target, simulation, observed, shown)
    rows = _summary(simulation, observed, shown)
    write_json_atomic(target / "summary.json", {"schema": 1, "basins": {str(r["basin"]): r for r in rows}})
    print(table(list(rows[0]), [list(r.values()) for r in rows[:40]]))
    print(f"\nWritten to {target}: {', '.join(FILES)}")
    if not bool((simulation.max_balance_error() <= simulation.balance_tolerance()).all()):
        typer.echo("Bad result: the water balance is open.", err=True)
        raise typer.Exit(1)


def load_model(model: str, parameters: Path | None = None) -> saved.Saved:
    """A saved model from its folder, or a structure by name with values from a JSON file or its defaults."""
    if (Path(model) / saved.MODEL).is_file():
        if parameters is not None:
            raise ConfigError("--parameters goes with a model given by name; a saved model has its own values.")
        return saved.load(model, STRUCTURES)
    if model not in STRUCTURES:
        hint = suggest(model, STRUCTURES)
        raise ConfigError(f"--model: '{model}' is neither a folder with a {saved.MODEL} nor the name of a model.{hint}")
    balance = Balance(STRUCTURES[model])
    ranges, values = balance.structure.parameters, parameter_values(parameters)
    for name, value in values.items():
        if name in ranges and not ranges[name].low <= value <= ranges[name].high:
            r = ranges[name]
            typer.echo(f"Warning: {name} = {value:g} is outside its range, {r.low:g} to {r.high:g} {r.unit}.", err=True)
    theta = {n: ranges[n].default for n in balance.parameter_names}
    return saved.Saved(balance, {**theta, **values})


def parameter_values(path: Path | None) -> dict[str, float]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text())
        return {n: float(v["value"] if isinstance(v, dict) else v) for n, v in found.items()}
    except OSError as error:
        raise ConfigError(f"--parameters: {path} cannot be read ({error.strerror}).") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError(f'--parameters: {path} has to be JSON such as {{"smax": 350.0}}.') from None


def read_forcing(source: Source, model: saved.Saved, device: str) -> tuple:
    """Checked data and the forcing the model needs."""
    dataset = source.read()
    datasets.check(dataset).raise_if_errors()
    dataset = complete(dataset, model.model.forcing_names)
    forcing = Forcing.from_dataset(dataset, list(model.model.forcing_names), device=torch.device(device))
    return dataset, forcing


def require_cover(forcing: Forcing, period: Period | None) -> None:
    """A period to score has to lie within the record."""
    first, last = (str(forcing.time[i].astype("datetime64[D]")) for i in (0, -1))
    if period and (period.start < first or period.end > last):
        raise ConfigError(f"--period ({period}) reaches beyond the record, which runs from {first} to {last}.")


def run_chosen(chosen: saved.Saved, forcing: Forcing) -> Simulation:
    """The run of a model, with a warning where it was trained with another scheme."""
    simulation = run_saved(chosen, forcing, Automatic())
    trained, used = chosen.about.get("scheme"), simulation.report.scheme
    if trained not in (None, used):
        typer.echo(f"Warning: the model was trained with {trained} and is run with {used} here.", err=True)
    return simulation


def new_folder(out: Path, overwrite: bool, files: Sequence[str]) -> Path:
    """The folder to write to; ConfigError where it holds some of the files, which may not be replaced."""
    present = [n for n in files if (out / n).exists()]
    if present and not overwrite:
        raise ConfigError(f"{out}: holds {', '.join(present)} already. Add --overwrite, or choose another --out.")
    return out


def _summary(simulation: Simulation, observed: torch.Tensor, period: Period | None) -> list[dict]:
    """Per basin: mean discharge, balance error and, where there are observations, scores."""
    forcing, flow = simulation.forcing, simulation.discharge
    period = period or Period(*(str(forcing.time[i].astype("datetime64[D]")) for i in (0, -1)))
    found = scores(flow, observed, forcing, period)
    part, errors = forcing.between(*period), simulation.max_balance_error()
    rows = []
    for i, basin in enumerate(forcing.basins):
        means = {"discharge [mm/d]": float(flow[part, i].mean())}
        rows.append({"basin": basin, **means, **found[i], "balance error [mm]": float(errors[i])})
    return rows


def _write(out: Path, simulation: Simulation, observed: torch.Tensor, period: Period | None) -> None:
    forcing = simulation.forcing
    write_netcdf_atomic(by_basin(simulation, forcing.basins), out / "simulation.nc")
    flow, known = simulation.discharge, bool(observed.isfinite().any())
    for i, basin in enumerate(forcing.basins[:MOST_BASINS]):
        seen = observed[:, i].cpu().numpy() if known else None
        series = {simulation.model.structure.name: flow[:, i].cpu().numpy()}
        prcp = forcing.values["prcp"][:, i].cpu().numpy() if "prcp" in forcing.values else None
        part = forcing.between(*period) if period else slice(None)
        cut = seen[part] if known else None
        figures = {
            "hydrograph": plot.hydrograph(forcing.time, seen, series, None, prcp, window=period, title=basin),
            "flow_duration": plot.flow_duration(cut, {n: q[part] for n, q in series.items()}, title=basin),
            "storages": plot.storages(simulation, element=i),
            "water_balance": plot.water_balance(simulation, seen, element=i),
        }
        for name, figure in figures.items():
            write_atomic(out / "figures" / f"{safe_name(basin)}_{name}.png", plot.png(figure))
