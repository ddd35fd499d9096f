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
    """What has to hold before anything else can be looked at: dimensions, dates, presence of data."""
    remedy = "Use from_xarray or a reader."
    for dim in ("time", "basin"):
        if dim not in ds.dims or dim not in ds.coords:
            yield found("error", "structure", f"no dimension '{dim}' with a coordinate.", remedy)
            return
    if not np.issubdtype(ds["time"].dtype, np.datetime64):
        yield found("error", "structure", f"'time' holds {ds['time'].dtype}, not dates.", remedy)
    elif not ds.sizes["time"] or not ds.sizes["basin"] or not any(n in ds for n in CANONICAL):
        yield found("error", "empty", "no time steps, no basins or no known variable.", "Is it the right file?")


def variables(ds: xr.Dataset) -> Iterator[dict]:
    """Presence of rain and flow, units attributes, basin ids."""
    if "prcp" not in ds:
        remedy = "Give columns={'prcp': ...}."
        yield found("error", "missing_variable", "there is no precipitation.", remedy, variable="prcp")
    if "discharge" not in ds:
        yield found("info", "missing_variable", "no observed discharge: simulation only.", variable="discharge")
    for name, quantity in CANONICAL.items():
        if name in ds and ds[name].attrs.get("units") != quantity.units:
            message = f"unit is {ds[name].attrs.get('units', 'not given')}, expected {quantity.units}."
            yield found("error", "units", message, "Use from_xarray to convert.", variable=name)
    ids = pd.Index(ds["basin"].values)
    if ids.has_duplicates:
        twice = ids[ids.duplicated()]
        yield found("error", "duplicate_basin", "basin occurs twice.", "Remove one.", basin=str(twice[0]))


def time_axis(ds: xr.Dataset) -> Iterator[dict]:
    """Order, duplicates, uneven steps, gaps, length."""
    time = pd.DatetimeIndex(ds["time"].values)
    back = np.flatnonzero(steps_days(time) < 0)
    if back.size:
        message, first = "dates are not in order.", time[back[0] + 1]
        yield found("error", "unsorted", message, "ds.sortby('time').", count=back.size, first=first)
    twice = time[time.duplicated()]
    if len(twice):
        message, remedy = "dates occur more than once.", "Remove the wrong rows."
        yield found("error", "duplicate_dates", message, remedy, count=len(twice), first=twice[0])
    yield from _steps(time.sort_values().unique())


def _steps(time: pd.DatetimeIndex) -> Iterator[dict]:
    usual, steps = interval_days(time), steps_days(time)
    short = np.flatnonzero(steps < 0.5 * usual)
    if short.size:
        message, remedy = f"steps of {steps.min() * 24:g} h to {steps.max() * 24:g} h.", "Bring the record to one step."
        yield found("error", "uneven_steps", message, remedy, count=short.size, first=time[short[0]])
    holes = gaps(time)
    if holes:
        count = sum(n for _, n in holes)
        message, remedy = f"{len(holes)} gap(s), {count} step(s) missing.", "Close it with udehydro.data.fill_gaps."
        yield found("error", "gap", message, remedy, count=count, first=holes[0][0])
    years = len(time) * usual / 365.25
    if years < MIN_YEARS:
        message = f"the record has {years:.2f} years; with a warm-up year little is left to learn from."
        yield found("warning", "short_record", message, "Use at least 2, better 10 years.", first=time[0])
