"""The weather of a soil file: intervals, and the series that boundaries and roots name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from udehydro.cli.richards import table
from udehydro.cli.richards.values import only, whole
from udehydro.data.axis import gaps, stamp
from udehydro.data.suspicions import runs
from udehydro.errors import DataError
from udehydro.forcing import Forcing, edges_of
from udehydro.richards.column import Column
from udehydro.richards.column.problem import parts

KINDS = {"cm/d": "rate", "cm": "head"}


def weather(given: object, beside: Path, column: Column, where: str) -> tuple[Forcing, list[str]]:
    """Forcing in cm and d, and what was done to the data.

    Rows are the starts of intervals that follow each other; ``split`` makes of each as many equal ones, with the same
    rates; ``fill_gaps`` fills stretches of so many rows, rain by zero and all else linearly.
    """
    given = only(given, (*table.OPTIONS, "fill_gaps", "split"), where, ("file",))
    table.options(given, where)
    wanted = _wanted(column, where)
    found, headers = table.read(given, beside, list(wanted), where)
    frame = pd.DataFrame(index=found.frame.index)
    for name, (unit, place) in wanted.items():
        frame[name] = found.frame[headers[name]] * found.factor(headers[name], KINDS[unit], place)
    rain = getattr(column.top, "rain", None)
    frame = _without_gaps(frame, whole(given.get("fill_gaps", 0), f"{where}, fill_gaps", 0), found, rain)
    split = whole(given.get("split", 1), f"{where}, split")
    edges = _split(edges_of(frame.index.values), split)
    if not wanted:
        return Forcing.clock(edges), found.notes
    values = {n: torch.as_tensor(np.repeat(frame[n].to_numpy(float), split)) for n in wanted}
    return Forcing(values, {n: unit for n, (unit, _) in wanted.items()}, edges), found.notes


def _wanted(column: Column, where: str) -> dict[str, tuple[str, str]]:
    """Columns that something names, with the unit that it takes and who it is."""
    found: dict[str, tuple[str, str]] = {}
    for kind, _, part in parts(column):
        for name, unit in part.units.items():
            if isinstance(given := getattr(part, name), str):
                place = f"{'roots' if kind == 'sink' else kind}, {name}"
                if found.setdefault(given, (unit, place))[0] != unit:
                    raise DataError(f"{where}: column '{given}' is a {KINDS[unit]} for {place} and another thing else.")
    return found


def _without_gaps(frame: pd.DataFrame, most: int, found: table.Table, rain: object) -> pd.DataFrame:
    """Rows one step apart, with all values."""
    step = pd.Timedelta(table.step_of(frame.index, str(found.path)), "D").round("ms")
    full = pd.date_range(frame.index[0], frame.index[-1], freq=step).as_unit("ns")
    off = frame.index[~frame.index.isin(full)]
    if len(off):
        raise DataError(
            f"{found.path}: {stamp(off[0])} is not on an even axis of {step / pd.Timedelta(1, 'h'):g} h from "
            f"{stamp(frame.index[0])} on ({len(off)} such row(s)). Bring the weather to one step."
        )
    if holes := gaps(frame.index):
        found.notes.append(f"{found.path.name}: {sum(n for _, n in holes)} row(s) missing, first {stamp(holes[0][0])}")
    frame = frame.reindex(full)
    filled = {n: _filled(frame[n], most, found, n == rain) for n in frame.columns}
    if not filled and holes and max(n for _, n in holes) > most:
        raise _gap(found.path, "rows", max(n for _, n in holes), holes[0][0], most)
    return pd.DataFrame(filled, full)


def _filled(series: pd.Series, most: int, found: table.Table, rain: bool) -> pd.Series:
    gap = series.isna().to_numpy()
    if not gap.any():
        return series
    longest, first = runs(gap)
    if longest > most or gap[0] or gap[-1]:
        where = 0 if gap[0] else first
        raise _gap(found.path, f"values of '{series.name}'", longest, series.index[where], most, gap[0] or gap[-1])
    way = "by zero" if rain else "linearly"
    found.notes.append(f"{found.path.name}: {series.name}: {int(gap.sum())} value(s) filled {way}")
    return series.fillna(0.0) if rain else series.interpolate("linear")


def _gap(path: Path, what: str, longest: int, first, most: int, end: bool = False) -> DataError:
    remedy = "Cut the record there" if end else f"Complete the file, or allow it: fill_gaps: {longest}"
    return DataError(
        f"{path}: {what} are missing, {longest} in a row from {stamp(first)} on, and fill_gaps is {most}. {remedy}."
    )


def _split(edges: np.ndarray, count: int) -> np.ndarray:
    """Every interval in ``count`` equal ones."""
    at = edges.astype("datetime64[ns]").astype("int64")
    inner = at[:-1, None] + (np.diff(at)[:, None] * np.arange(count)) // count
    return np.append(inner.ravel(), at[-1]).astype("datetime64[ns]")
