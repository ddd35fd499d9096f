"""``udehydro data``: look at data before anything is computed."""

from __future__ import annotations

from pathlib import Path

import typer

from udehydro.cli import options as o
from udehydro.cli.hints import in_flags
from udehydro.files import write_json_atomic

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at data before anything is computed.")


@app.callback()
def _data() -> None:
    """Look at data before anything is computed."""


@app.command("check")
def check(
    path: str = typer.Argument(..., metavar="FILE_OR_FOLDER", help="What --data of the other commands takes."),
    basin: str = typer.Option(None, "--basin", metavar="ID[,ID]|all", help="Only these basins. [default: all]"),
    area: float = o.AREA,
    lat: float = o.LAT,
    column: list[str] = o.COLUMN,
    unit: list[str] = o.UNIT,
    dayfirst: bool = o.DAYFIRST,
    json: Path = typer.Option(None, "--json", metavar="FILE", help="Write the findings as JSON, too."),
) -> None:
    """Read data and print all that is wrong or suspicious with them, and how to mend it.

    \b
    udehydro data check mybasin.csv --area 412.5 --unit discharge=m3/s

    Nothing is changed. Exit code 0: fit for modelling, perhaps with warnings; 2: there are errors.
    """
    from udehydro import data

    dataset = o.source(path, basin or "all", area, lat, column, unit, dayfirst, None).read(gaps="keep")
    report = data.check(dataset)
    first, last = (str(dataset["time"].values[i].astype("datetime64[D]")) for i in (0, -1))
    print(f"{dataset.sizes['basin']} basin(s), {dataset.sizes['time']} steps, {first} to {last}")
    for name, values in dataset.data_vars.items():
        missing = int(values.isnull().sum())
        print(f"  {name} [{values.attrs.get('units', '')}]: mean {float(values.mean()):.3g}, {missing} missing")
    for line in data.notes(dataset):
        print(f"  note: {line}")
    print(in_flags(report.to_text()))
    if json is not None:
        write_json_atomic(json, report.to_dict())
    if not report.ok:
        raise typer.Exit(2)
