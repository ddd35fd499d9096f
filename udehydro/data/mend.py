"""Explicit repairs: closing gaps, setting tmin and tmax right. Each is recorded in the notes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from ..errors import DataError
from .axis import interval_days, stamp
from .names import FORCING
from .provenance import with_notes
from .suspicions import runs

METHODS = ("linear", "zero", "previous")
DEFAULT_METHODS = {"prcp": "zero"}


def fill_gaps(ds: xr.Dataset, method: str | Mapping[str, str] | None = None, *, max_steps: int = 5) -> xr.Dataset:
    """Insert missing time steps and fill missing forcing; discharge stays missing.

    Parameters
    ----------
    ds : Dataset
        As read with ``gaps="keep"``, sorted and without duplicates.
    method : {"linear", "zero", "previous"} or mapping, optional
        For all forcings or by variable. Default: linear in time, precipitation with zero.
    max_steps : int
        The longest stretch, in steps, that may be filled.

    Returns
    -------
    Dataset
        With every filled number of values in the notes.

    Raises
    ------
    DataError
        A stretch is longer than ``max_steps``, or lies at the start or end; names basin and date.
    """
    names = [n for n in FORCING if n in ds]
    chosen = _methods(method, names)
    time = pd.DatetimeIndex(ds["time"].values)
    if not time.is_monotonic_increasing or time.has_duplicates:
        raise DataError("fill_gaps: time has to be sorted and unique first; see udehydro.data.check.")
    full, said = _full_axis(time)
    order = {n: ds[n].dims for n in ds.data_vars}
    out = ds.reindex(time=full)
    for name in order:
        out[name].attrs = ds[name].attrs
    out["time"].attrs = ds["time"].attrs
    for name in names:
        values = out[name].transpose("time", "basin").values.copy()
        for column, basin in enumerate(out["basin"].values):
            count = _fill(values[:, column], chosen[name], max_steps, name, str(basin), full)
            said += [f"{name}: {count} value(s) filled ({chosen[name]}), basin {basin}"] if count else []
        out[name] = (("time", "basin"), values, ds[name].attrs)
    return with_notes(out, said)


def _methods(method, names) -> dict[str, str]:
    if method is None:
        chosen = {n: DEFAULT_METHODS.get(n, "linear") for n in names}
    elif isinstance(method, str):
        chosen = dict.fromkeys(names, method)
    else:
        chosen = {n: DEFAULT_METHODS.get(n, "linear") for n in names} | dict(method)
    bad = next((m for m in chosen.values() if m not in METHODS), None)
    if bad is not None:
        raise DataError(f"fill_gaps: method '{bad}' is not known; use {', '.join(METHODS)}.")
    strange = [n for n in chosen if n not in names]
    if strange:
        raise DataError(f"fill_gaps: '{strange[0]}' is no forcing of this dataset; it has {', '.join(names)}.")
    return chosen


def _full_axis(time: pd.DatetimeIndex) -> tuple[pd.DatetimeIndex, list[str]]:
    step = pd.Timedelta(interval_days(time), "D")
    full = pd.date_range(time[0], time[-1], freq=step).as_unit("ns")
    if not time.isin(full).all():
        off = time[~time.isin(full)][0]
        raise DataError(
            f"fill_gaps: {stamp(off)} is not on an even axis of {step}; bring the record to one step first."
        )
    new = full.difference(time)
    return full, ([f"time: {len(new)} missing step(s) inserted, first {stamp(new[0])}"] if len(new) else [])


def _fill(values: np.ndarray, method: str, max_steps: int, name: str, basin: str, time) -> int:
    """Fill one series ``(T,)`` in place; the number of filled values."""
    gap = np.isnan(values)
    if not gap.any():
        return 0
    length, start = runs(gap)
    if length > max_steps:
        raise DataError(
            f"fill_gaps: {name} of basin {basin} lacks {length} steps from {stamp(time[start])}, more than "
            f"max_steps={max_steps}. Cut the period, bring other data, or raise max_steps."
        )
    if gap[0] or gap[-1]:
        raise DataError(
            f"fill_gaps: {name} of basin {basin} is missing at the {'start' if gap[0] else 'end'}. "
            "Cut the period with ds.sel(time=slice(...))."
        )
    if method == "zero":
        values[gap] = 0.0
    elif method == "linear":
        steps = np.arange(len(values))
        values[gap] = np.interp(steps[gap], steps[~gap], values[~gap])
    else:
        last = np.maximum.accumulate(np.where(gap, 0, np.arange(len(values))))
        values[:] = values[last]
    return int(gap.sum())


def swap_t(ds: xr.Dataset, method: str = "swap") -> xr.Dataset:
    """Mend steps with tmin above tmax.

    Parameters
    ----------
    ds : Dataset
        With ``tmin`` and ``tmax``, degC.
    method : {"swap", "mean"}
        Exchange the two, or set both to their mean. The mean temperature is the same either way.

    Returns
    -------
    Dataset
        With the number of steps per basin in the notes.
    """
    if method not in ("swap", "mean"):
        raise DataError(f"swap_t: method '{method}' is not known; use 'swap' or 'mean'.")
    absent = [n for n in ("tmin", "tmax") if n not in ds]
    if absent:
        raise DataError(f"swap_t: the dataset has no {' and no '.join(absent)}.")
    low, high = ds["tmin"], ds["tmax"]
    wrong = low > high
    if method == "swap":
        new_low, new_high = low.where(~wrong, high), high.where(~wrong, low)
    else:
        new_low, new_high = low.where(~wrong, (low + high) / 2), high.where(~wrong, (low + high) / 2)
    out = ds.assign(tmin=new_low.assign_attrs(low.attrs), tmax=new_high.assign_attrs(high.attrs))
    done = "exchanged" if method == "swap" else "set to their mean"
    counts = {str(b): int(n) for b, n in zip(ds["basin"].values, wrong.sum("time").values, strict=True)}
    return with_notes(out, [f"tmin, tmax: {done} on {n} step(s), basin {b}" for b, n in counts.items() if n])
