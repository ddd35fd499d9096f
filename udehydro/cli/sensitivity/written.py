"""What all analyses write: figures, NetCDF, a summary, and the parts of their reports that are alike."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterable, Sequence

import torch
import typer
import xarray as xr
from matplotlib.figure import Figure

import udehydro
from udehydro import data, plot
from udehydro.cli.sensitivity.case import Case
from udehydro.experiment.folder import safe_name
from udehydro.experiment.pictures import MOST_BASINS, Drawn
from udehydro.files import write_atomic, write_json_atomic, write_netcdf_atomic
from udehydro.report import Block, Code, Items, Picture, Section, Table, Text, write_report


def drawn(basin: str, kind: str, figure: Figure, caption: str) -> Drawn:
    """A figure of a basin, as PNG."""
    return Drawn(f"{safe_name(basin)}_{kind}", kind, plot.png(figure), caption)


def pictures(figures: Iterable[Drawn], *kinds: str) -> list[Picture]:
    """Those of some kinds, basin by basin."""
    return [Picture(d.png, d.caption) for d in figures if d.kind in kinds]


def write(
    case: Case, dataset: xr.Dataset, summary: dict, figures: Sequence[Drawn], title: str, headline: str,
    sections: Sequence[Section],
) -> None:  # fmt: skip
    """All files of an analysis; figures of an earlier one are removed."""
    out, run = case.out, case.run
    write_netcdf_atomic(dataset, out / "sensitivity.nc")
    about = {"schema": 1, "model": run.model.structure.name, "period": str(case.period)}
    write_json_atomic(out / "summary.json", {**about, **summary})
    shutil.rmtree(out / "figures", ignore_errors=True)
    for d in figures:
        write_atomic(out / "figures" / f"{d.name}.png", d.png)
    more = len(case.basins) - MOST_BASINS
    said = [Text(f"Figures of the first {MOST_BASINS} basins; all are in sensitivity.nc.")] if more > 0 else []
    first, *rest = sections
    parts = [Section(first.title, [*said, *first.blocks]), *rest, _given(case), _again(case)]
    write_report(out / "report.html", title, headline, parts)
    print(f"\nReport: {out / 'report.html'}")


def close(case: Case, complaints: Sequence[str] = ()) -> None:
    """Exit code 1 where something speaks against the result, or the balance of the run is open."""
    said = list(complaints)
    if not bool((case.run.max_balance_error() <= case.run.balance_tolerance()).all()):
        said.append("the water balance is open")
    for text in said:
        typer.echo(f"Bad result: {text}.", err=True)
    if said:
        raise typer.Exit(1)


def several(basins: Sequence[str]) -> str:
    return ", ".join(basins[:3]) + (f" and {len(basins) - 3} more" if len(basins) > 3 else "")


def _given(case: Case) -> Section:
    run, ds = case.run, case.dataset
    first, last = (str(t.astype("datetime64[D]")) for t in (run.forcing.time[0], run.forcing.time[-1]))
    names = run.model.store_names
    starts = [
        f"{b}: " + ", ".join(f"{n} {float(x):.4g} {run.unit(n)}" for n, x in zip(names, s, strict=True)) + "."
        for b, s in zip(case.basins[:MOST_BASINS], case.start, strict=False)
    ]
    learned = f", with learned laws for {', '.join(run.model.laws)}" if run.model.laws else ""
    values = [[n, case.model.theta.get(n), r.unit, f"{r.low:g} to {r.high:g}" + (" (fixed)" if r.fixed else "")]
              for n, r in case.ranges.items()]  # fmt: skip
    blocks: list[Block] = [
        Items(
            [
                f"Model: {run.model.structure.name}{learned}; solver: {run.report.solver}.",
                f"Data: {case.source.data}, {len(case.basins)} basin(s). The run goes from {first} to {last}; only "
                f"{case.period.start} to {case.period.end} counts, what comes before is warm-up.",
                case.whence,
            ]
        ),
        Items(starts),
        Table(["parameter", "value", "unit", "range"], values, "Values the model was run with.", digits=4),
        Text("Treatments and assumptions of the data, in order:"),
        Items(data.notes(ds) or ["none"]),
    ]
    return Section("Model, data, initial storages", blocks)


def _again(case: Case) -> Section:
    versions = f"udehydro {udehydro.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    return Section("How to reproduce this", [Text(f"With {versions}:"), Code(case.said)])
