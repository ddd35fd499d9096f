"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from udehydro.config import STRUCTURES
from udehydro.errors import ConfigError
from udehydro.experiment.source import Source
from udehydro.settings import names

MODEL = typer.Option(
    ..., "--model", metavar="FOLDER|NAME", help=f"Folder of a saved model, or one of: {', '.join(STRUCTURES)}."
)
PARAMETERS = typer.Option(
    None,
    "--parameters",
    metavar="JSON",
    help='Values for a model given by NAME, e.g. {"smax": 350.0}; defaults else.',
)
MODELLED = typer.Option(
    ..., "--data", metavar="FILE_OR_FOLDER", help="As for fit; discharge is needed only to be compared with."
)
DATA = typer.Option(
    None, "--data", metavar="FILE_OR_FOLDER",
    help="CSV, Parquet, NetCDF or Zarr file; folder with <id>.csv files; CAMELS-US; Caravan; or demo:fulda.",
)  # fmt: skip
BASIN = typer.Option(
    None, "--basin", metavar="ID[,ID]|all", help="Basins; may be left out where the data hold one basin only."
)
AREA = typer.Option(None, "--area", metavar="KM2", help="Basin area; turns m3/s into mm/d where the data have none.")
LAT = typer.Option(None, "--lat", metavar="DEG", help="Latitude in degrees north; gives the day length.")
COLUMN = typer.Option(
    None, "--column", metavar="NAME=COLUMN", help="Which column holds a variable, e.g. prcp=rain. Repeatable."
)
UNIT = typer.Option(None, "--unit", metavar="NAME=UNIT", help="Unit of a variable, e.g. discharge=m3/s. Repeatable.")
DAYFIRST = typer.Option(None, "--dayfirst/--monthfirst", help="How dates such as 03/04/1999 are meant.")
FILL_GAPS = typer.Option(
    None,
    "--fill-gaps",
    metavar="N",
    help="Fill forcing gaps of up to N steps (rain with zero, others linearly).",
)
OUT = typer.Option(None, "--out", metavar="DIR", help="Folder for everything that is written.")
DEVICE = typer.Option(None, "--device", metavar="NAME", help="cpu or cuda. [default: cpu]")
OVERWRITE = typer.Option(False, "--overwrite", help="Replace the results in --out.")
RESUME = typer.Option(False, "--resume", help="Go on with an interrupted run in --out; same numbers, bit for bit.")
QUIET = typer.Option(False, "--quiet", "-q", help="No progress lines and bars.")


def pairs(values: Sequence[str] | None, flag: str) -> dict[str, str] | None:
    """``NAME=VALUE`` options as a mapping, None where there are none."""
    found = {}
    for text in values or ():
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise ConfigError(f"{flag}: '{text}' has to be NAME=VALUE, e.g. {flag} discharge=flow.")
        found[name] = value
    return found or None


def source(data, basin, area, lat, column, unit, dayfirst, fill_gaps) -> Source:
    """What to read, from the flags of a command."""
    return Source(
        data, names(basin, "basins") if basin else (), area, lat, pairs(column, "--column"), pairs(unit, "--unit"),
        dayfirst, fill_gaps or 0,
    )  # fmt: skip
