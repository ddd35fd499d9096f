"""Tests of a dataset's skeleton: dimensions, variables, units, and the time axis."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

from .axis import gaps, interval_days, stamp, steps_days
from .names import CANONICAL

MIN_YEARS = 2.0


def found(
    severity: str,
    kind: str,
    message: str,
    remedy: str = "",
    *,
    basin=None,
    variable=None,
    count=1,
    first=None,
):
    """The fields of a finding."""
    first = None if first is None else stamp(first)
    return {
        "severity": severity, "kind": kind, "basin": basin, "variable": variable, "count": int(count),
        "first": first, "message": message, "remedy": remedy,
    }  # fmt: skip


def structure(ds: xr.Dataset) -> Iterator[dict]:
    """Dimensions, presence of data, units attributes, basin ids."""
    for dim in ("time", "basin"):
        if dim not in ds.dims or dim not in ds.coords:
            yield found(
                "error",
                "structure",
                f"no dimension '{dim}' with a coordinate.",
                "Use from_xarray or a reader.",
            )
            return
    if not np.issubdtype(ds["time"].dtype, np.datetime64):
        yield found(
            "error",
            "structure",
            f"'time' holds {ds['time'].dtype}, not dates.",
            "Use from_xarray or a reader.",
        )
        return
    if not ds.sizes["time"] or not ds.sizes["basin"] or not any(n in ds for n in CANONICAL):
        yield found(
            "error",
            "empty",
            "no data: no time steps, no basins or no known variable.",
            "Is it the right file?",
        )
        return
    if "prcp" not in ds:
        yield found(
            "error",
            "missing_variable",
            "there is no precipitation.",
            "Give columns={'prcp': ...}.",
            variable="prcp",
        )
    if "discharge" not in ds:
        yield found("info", "missing_variable", "no observed discharge: simulation only.", variable="discharge")
    for name in CANONICAL:
        if name in ds and ds[name].attrs.get("units") != CANONICAL[name].units:
            has = ds[name].attrs.get("units", "none")
            yield found(
                "error", "units", f"unit is {has}, expected {CANONICAL[name].units}.",
                "Use from_xarray to convert.", variable=name,
            )  # fmt: skip
    ids = pd.Index(ds["basin"].values)
    if ids.has_duplicates:
        yield found(
            "error",
            "duplicate_basin",
            "basin occurs twice.",
            "Remove one.",
            basin=str(ids[ids.duplicated()][0]),
        )


def time_axis(ds: xr.Dataset) -> Iterator[dict]:
    """Order, duplicates, gaps, uneven steps, length."""
    time = pd.DatetimeIndex(ds["time"].values)
    steps = steps_days(time)
    if (steps < 0).any():
        row = int(np.flatnonzero(steps < 0)[0]) + 1
        yield found(
            "error",
            "unsorted",
            "dates are not in order.",
            "ds.sortby('time').",
            count=(steps < 0).sum(),
            first=time[row],
        )
        time = time.sort_values()
    if time.has_duplicates:
        twice = time[time.duplicated()]
        yield found(
            "error",
            "duplicate_dates",
            "dates occur more than once.",
            "Remove the wrong rows.",
            count=len(twice),
            first=twice[0],
        )
        time = time.unique()
    usual, steps = interval_days(time), steps_days(time)
    if len(steps) and (steps < 0.5 * usual).any():
        row = int(np.flatnonzero(steps < 0.5 * usual)[0])
        message = f"steps of {steps.min() * 24:g} h to {steps.max() * 24:g} h."
        yield found(
            "error",
            "uneven_steps",
            message,
            "Bring the record to one step.",
            count=(steps < 0.5 * usual).sum(),
            first=time[row],
        )
    holes = gaps(time)
    if holes:
        count = sum(n for _, n in holes)
        message = f"{len(holes)} gap(s), {count} step(s) missing."
        yield found("error", "gap", message, "Close it with udehydro.data.fill_gaps.", count=count, first=holes[0][0])
    years = len(time) * usual / 365.25
    if years < MIN_YEARS:
        message = f"the record has {years:.2f} years; with a warm-up year little is left to learn from."
        yield found("warning", "short_record", message, "Use at least 2, better 10 years.", first=time[0])
