"""``udehydro richards run``."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from udehydro import plot
from udehydro.cli import options as o
from udehydro.cli.richards.case import FILE, read_case
from udehydro.cli.richards.flux import dataset
from udehydro.cli.richards.words import told
from udehydro.cli.simulate import new_folder, parameter_values
from udehydro.files import write_atomic, write_json_atomic, write_netcdf_atomic
from udehydro.richards.column import ColumnRun, flow

FILES = ("column.nc", "summary.json", "figures")
OPEN = 1e-9
"""Balance error, as a share of the water stored and moved, from which a balance is open: far above round-off."""
VOLUMES = {
    "net infiltration": "infiltration",
    "evaporation": "evaporation",
    "uptake": "uptake",
    "runoff": "runoff",
    "recharge": "recharge",
}
"""What the balance says, and the field of a run; infiltration is net of evaporation."""


def command(
    soil: Path = FILE,
    out: str = typer.Option(..., "--out", metavar="DIR", help=f"Folder for {', '.join(FILES)}."),
    parameters: Path = typer.Option(
        None, "--parameters", metavar="JSON", help="What learn found, in place of the starts of free values."
    ),
    overwrite: bool = o.OVERWRITE,
    quiet: bool = o.QUIET,
) -> None:
    """Move water through the column of a soil file: heads, contents and fluxes as NetCDF, figures, the balance.

    \b
    udehydro richards run soil.yaml --out out/run
    udehydro richards run soil.yaml --parameters out/learned/parameters.json --out out/again

    Lengths are in cm, times in d; fluxes are positive upwards. Exit code 1: a step failed, or the balance is open.
    """
    target = new_folder(Path(out), overwrite, FILES)
    case = read_case(soil, with_sensors=False)
    say(case.notes)
    values = None if parameters is None else parameter_values(parameters)
    if case.free and values is None:
        typer.echo("Warning: free values are run at their starts; --parameters takes what learn has found.", err=True)
    with told(str(soil)):
        now = case.at(values)
        run = flow(now.column, case.forcing, now.p, now.psi0, steps=case.steps, progress=bars(quiet))
    write_netcdf_atomic(dataset(run, now.p), target / "column.nc")
    for of in ("theta", "psi"):
        write_atomic(target / "figures" / f"{of}.png", plot.png(plot.soil_column(run, of)))
    summary = balance(run)
    write_json_atomic(target / "summary.json", {"schema": 1, **summary, "notes": case.notes})
    print(sentence(summary))
    print(f"\nWritten to {target}: {', '.join(FILES)}")
    close(summary)


def bars(quiet: bool) -> bool:
    """Whether bars are drawn: on a terminal only, for in a log each of their steps is a line."""
    return not quiet and sys.stderr.isatty()


def say(notes: list[str]) -> None:
    """What was done to the data."""
    for line in notes:
        print(f"note: {line}")


def balance(run: ColumnRun) -> dict:
    """Water moved in the whole record, the change of what is stored, and the worst error of an interval, cm."""
    found = {n: float(getattr(run, series).detach().sum()) for n, series in VOLUMES.items()}
    found["storage change"] = float((run.storage[-1] - run.storage[0]).detach())
    error = float(run.balance_error.detach().abs().max())
    moved = float(run.storage.detach().abs().max() + run.top.detach().abs().sum() + run.bottom.detach().abs().sum())
    return {"water_cm": found, "balance_error_cm": error, "closed": bool(error <= OPEN * moved)}


def sentence(summary: dict) -> str:
    """The balance in a line."""
    parts = [f"{n} {v:.3f}" for n, v in summary["water_cm"].items() if v or n in ("net infiltration", "recharge")]
    return f"Water [cm]: {', '.join(parts)}; balance error {summary['balance_error_cm']:.1e}"


def close(summary: dict) -> None:
    """Exit code 1 where the balance is open."""
    if not summary["closed"]:
        typer.echo("Bad result: the water balance is open.", err=True)
        raise typer.Exit(1)
