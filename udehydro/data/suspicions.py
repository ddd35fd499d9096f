"""Tests for what is possible but improbable: wrong units, swapped columns, stuck gauges."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from .axis import interval_days

MAX_CONSTANT_DAYS = 60
MAX_ZERO_DAYS = 365
UNIT_RATIO = 3.0


def flow_against_rain(ds: xr.Dataset) -> Iterator[dict]:
    """Runoff ratio (mean flow over mean rain where both are known) and what it may mean."""
    if "prcp" not in ds or "discharge" not in ds:
        return
    rain, flow = (ds[n].transpose("time", "basin").values for n in ("prcp", "discharge"))
    for column, basin in enumerate(ds["basin"].values):
        both = np.isfinite(rain[:, column]) & np.isfinite(flow[:, column])
        total = rain[both, column].sum()
        # below 90 d storage decides, not the balance
        if both.sum() * interval_days(ds.indexes["time"]) < 90 or total <= 0:
            continue
        ratio = flow[both, column].sum() / total
        place = {"basin": str(basin), "variable": "discharge", "count": int(both.sum())}
        if ratio > UNIT_RATIO:
            message = f"mean flow is {ratio:.3g} times mean rain: is it m3/s, L/s or cfs read as mm/d?"
            yield {"severity": "error", "kind": "flow_unit", "message": message,
                   "remedy": "Pass units={'discharge': 'm3/s'} and area=<km2>.", **place}  # fmt: skip
        elif ratio > 1:
            message = f"runoff ratio {ratio:.2f}: more water leaves than falls."
            yield {"severity": "warning", "kind": "runoff_ratio", "message": message,
                   "remedy": "Undercatch, imported groundwater or a wrong area.", **place}  # fmt: skip
        elif 0 <= ratio < 0.01:
            message = f"runoff ratio {ratio:.4f}: almost nothing leaves."
            yield {"severity": "warning", "kind": "runoff_ratio", "message": message,
                   "remedy": "A dry basin, a wrong area, or flow in m3/s read as mm/d.", **place}  # fmt: skip


def swapped_columns(ds: xr.Dataset) -> Iterator[dict]:
    """Rain that looks like a temperature: often negative, hardly ever zero."""
    if "prcp" not in ds:
        return
    values = ds["prcp"].transpose("time", "basin").values
    for column, basin in enumerate(ds["basin"].values):
        rain = values[:, column][np.isfinite(values[:, column])]
        if rain.size and (rain < 0).mean() > 0.05 and (rain == 0).mean() < 0.05:
            yield {
                "severity": "error", "kind": "swapped_columns", "basin": str(basin), "variable": "prcp",
                "message": f"{(rain < 0).mean():.0%} of the rain is negative: is the column a temperature?",
                "remedy": "Check columns={'prcp': ..., 'temp': ...}.", "count": int((rain < 0).sum()),
            }  # fmt: skip


def runs(same: np.ndarray) -> tuple[int, int]:
    """Length and start of the longest run of True in a mask ``(T,)``."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], same.astype(np.int8), [0]))))
    if not edges.size:
        return 0, 0
    lengths = edges[1::2] - edges[::2]
    longest = int(lengths.argmax())
    return int(lengths[longest]), int(edges[::2][longest])


def constant_flow(ds: xr.Dataset) -> Iterator[dict]:
    """Flow above zero that does not move: a stuck gauge, an interpolation, ice."""
    for basin, flow, time in _flows(ds):
        length, start = runs((np.diff(flow) == 0) & (flow[1:] > 0))
        length += 1  # equal neighbours, plus one, are equal values
        days = length * interval_days(ds.indexes["time"])
        if days > MAX_CONSTANT_DAYS:
            yield {
                "severity": "warning", "kind": "constant_flow", "basin": basin, "variable": "discharge",
                "message": f"the same flow for {days:.0f} d.",
                "remedy": "Ice, a stuck gauge or a filled gap?",
                "count": length, "first": time[start],
            }  # fmt: skip


def zero_spells(ds: xr.Dataset) -> Iterator[dict]:
    """No flow, or no rain, for longer than a year."""
    for name in ("discharge", "prcp"):
        for basin, values, time in _flows(ds, name):
            length, start = runs(values == 0)
            days = length * interval_days(ds.indexes["time"])
            if days > MAX_ZERO_DAYS:
                yield {
                    "severity": "warning", "kind": "zero_spell", "basin": basin, "variable": name,
                    "message": f"zero for {days:.0f} d.", "remedy": "Was a gap written as zero?",
                    "count": length, "first": time[start],
                }  # fmt: skip


def _flows(ds: xr.Dataset, name: str = "discharge") -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    if name in ds:
        values = ds[name].transpose("time", "basin").values
        for column, basin in enumerate(ds["basin"].values):
            yield str(basin), values[:, column], ds["time"].values
