"""What is analysed: a model with its values and initial storages over a record, and the dates that count."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import typer
import xarray as xr
from torch import Tensor

from udehydro.cli import options as o
from udehydro.cli.simulate import load_model, new_folder, read_forcing, require_cover, run_chosen
from udehydro.errors import ConfigError, DataError
from udehydro.experiment.prepare import observations
from udehydro.experiment.source import Source
from udehydro.forcing import Forcing, date
from udehydro.saved import Saved
from udehydro.settings import Period
from udehydro.simulation import Simulation
from udehydro.structure import Range

FILES = ("sensitivity.nc", "summary.json", "report.html", "figures")
WARM_UP = 365
"""Days at the start of the record that do not count unless a period is given."""


@dataclass(frozen=True)
class Case:
    """A model over a record that ends with the period.

    Attributes
    ----------
    model : with its values.
    dataset : what was read, with notes.
    run : (T, basin) from ``start`` (basin, S), which is where the model's own storages, or the first year repeated,
        put it; ``own_start`` tells which.
    observed : discharge (T, basin) mm/d, NaN where missing.
    period : inclusive dates that count.
    out : folder to write to.
    said : the command as it was typed.
    """

    model: Saved
    source: Source
    dataset: xr.Dataset
    run: Simulation = field(repr=False)
    observed: Tensor = field(repr=False)
    period: Period
    out: Path
    said: str
    progress: bool

    @property
    def forcing(self) -> Forcing:
        return self.run.forcing

    @property
    def basins(self) -> tuple[str, ...]:
        return self.forcing.basins

    @property
    def start(self) -> Tensor:
        """Initial storages (basin, S)."""
        return self.run.storage[0]

    @property
    def given(self) -> Mapping[str, object]:
        """Values and initial storages, as the functions of :mod:`udehydro.sensitivity` take them."""
        return {"theta": self.model.theta, "storage0": self.start}

    @property
    def ranges(self) -> Mapping[str, Range]:
        """What the model's laws read, in order."""
        declared = self.run.model.structure.parameters
        return {n: declared[n] for n in self.run.model.parameter_names}

    @property
    def whence(self) -> str:
        """Where the initial storages come from."""
        found = [n for n in self.run.report.notes if n.startswith("initial storage")]
        if not found:
            return "Initial storages are those saved with the model."
        return (
            f"Initial storages were found beforehand, and are held fixed: {found[0].removeprefix('initial storage ')}."
        )

    def require_observed(self, why: str) -> None:
        """DataError where a basin has no observation in the period."""
        seen = self.observed[self.forcing.between(*self.period)].isfinite().sum(0) > 1
        if empty := [b for b, some in zip(self.basins, seen.tolist(), strict=True) if not some]:
            raise DataError(
                f"{why} needs observed discharge, and basin {', '.join(empty[:5])} has none in {self.period}. Name its "
                "column (--column discharge=COLUMN), choose another --period or leave the basin out."
            )


def read_case(
    context: typer.Context,
    model: str = o.MODEL,
    data: str = o.MODELLED,
    out: str = typer.Option(..., "--out", metavar="DIR", help=f"Folder for {', '.join(FILES)}."),
    basin: str = o.BASIN,
    parameters: Path = o.PARAMETERS,
    period: str = typer.Option(
        None,
        "--period",
        metavar="A/B",
        help=f"Dates that count. The run always starts with the record. [default: all but the first {WARM_UP} days]",
    ),
    area: float = o.AREA,
    lat: float = o.LAT,
    column: list[str] = o.COLUMN,
    unit: list[str] = o.UNIT,
    dayfirst: bool = o.DAYFIRST,
    fill_gaps: int = o.FILL_GAPS,
    device: str = o.DEVICE,
    overwrite: bool = o.OVERWRITE,
    quiet: bool = o.QUIET,
) -> Case:
    """The case that flags describe, run once."""
    target = new_folder(Path(out), overwrite, FILES)
    chosen = load_model(model, parameters)
    asked = Period.parse(period, "--period") if period else None
    source = o.source(data, basin, area, lat, column, unit, dayfirst, fill_gaps)
    dataset, forcing = read_forcing(source, chosen, device or "cpu")
    require_cover(forcing, asked)
    asked = asked or _after_warm_up(forcing)
    forcing = forcing.isel(slice(0, forcing.between(*asked).stop))
    observed = observations(dataset.isel(time=slice(0, len(forcing))), forcing, 0)
    arguments = context.find_root().obj or []
    said = shlex.join(["udehydro", *arguments])
    return Case(chosen, source, dataset, run_chosen(chosen, forcing), observed, asked, target, said, not quiet)


def _after_warm_up(forcing: Forcing) -> Period:
    first, last = forcing.time[0] + np.timedelta64(WARM_UP, "D"), forcing.time[-1]
    if first > last:
        raise ConfigError(
            f"The record, {date(forcing.time[0])} to {date(last)}, is not longer than the {WARM_UP} days that are left "
            "out by default: give the dates that count, --period A/B."
        )
    return Period(*(str(t.astype("datetime64[D]")) for t in (first, last)))
