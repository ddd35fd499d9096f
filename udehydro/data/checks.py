"""The single tests behind `udehydro.data.check`: each yields dicts with the fields of a Finding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from .axis_checks import found, time_axis, variables
from .names import CANONICAL, FORCING
from .suspicions import constant_flow, flow_against_rain, swapped_columns, zero_spells

_RATE = "A rate in mm/d is expected"
_KELVIN = "Is it Kelvin or Fahrenheit? Pass units={{'{}': 'K'}}."
_T = "temperature_range"
# variable: (low, high, kind below, kind above, remedy); limits in canonical units
_LIMITS = {
    "prcp": (
        0.0,
        2000.0,
        "negative_rain",
        "rain_too_high",
        f"{_RATE}; the record for a day is about 1800 mm.",
    ),
    "discharge": (0.0, np.inf, "negative_flow", "", "Declare sentinels with missing=[...], or set NaN."),
    "pet": (0.0, 30.0, "negative_pet", "pet_too_high", f"{_RATE}; condensation is not modelled: clip at 0."),
    "temp": (-60.0, 60.0, _T, _T, _KELVIN.format("temp")),
    "tmin": (-60.0, 60.0, _T, _T, _KELVIN.format("tmin")),
    "tmax": (-60.0, 60.0, _T, _T, _KELVIN.format("tmax")),
    "dayl": (0.0, 24.0, "day_length_range", "day_length_range", "Is it seconds? Pass units={'dayl': 's'}."),
    "srad": (0.0, 1500.0, "radiation_range", "radiation_range", "W/m2, mean over daylight, is expected."),
    "vp": (0.0, 1e4, "vapour_pressure_range", "vapour_pressure_range", "Pa is expected; is it hPa or kPa?"),
}
_SURE = ("negative_rain", "negative_flow", "temperature_range", "day_length_range")


def series(ds: xr.Dataset, names=tuple(CANONICAL)) -> Iterator[tuple[str, str, np.ndarray]]:
    """Basin, variable and values ``(T,)`` of what the dataset has."""
    for name in names:
        if name in ds:
            values = ds[name].transpose("time", "basin").values
            for column, basin in enumerate(ds["basin"].values):
                yield str(basin), name, values[:, column]


def finite(ds: xr.Dataset) -> Iterator[dict]:
    """NaN, all NaN and infinite values."""
    time = ds["time"].values
    for basin, name, values in series(ds):
        nan, infinite = np.isnan(values), np.isinf(values)
        place = {"basin": basin, "variable": name}
        if infinite.any():
            place |= {"count": infinite.sum(), "first": time[infinite.argmax()]}
            yield found("error", "infinite", "infinite values.", "Correct them.", **place)
        if not nan.any():
            continue
        place |= {"count": nan.sum(), "first": time[nan.argmax()]}
        if nan.all():
            severity = "error" if name in FORCING else "warning"
            yield found(severity, "all_nan", "no value at all.", "Drop the variable or the basin.", **place)
        elif name in FORCING:
            remedy = "Fill them with udehydro.data.fill_gaps, or cut the period."
            yield found("error", "nan_forcing", f"{nan.sum()} missing value(s) in a forcing.", remedy, **place)
        else:
            message = f"{nan.sum()} of {len(nan)} values missing ({nan.mean():.0%}); left out of scores."
            yield found("info", "nan_discharge", message, **place)


def periods(ds: xr.Dataset) -> Iterator[dict]:
    """Basins whose precipitation starts or ends at different times."""
    spans = {}
    for basin, _, values in series(ds, ("prcp",)):
        there = np.flatnonzero(~np.isnan(values))
        if there.size:
            spans[basin] = (there[0], there[-1])
    if len(set(spans.values())) > 1:
        message, remedy = "the forcing of the basins covers different periods.", "Select a common period."
        yield found("warning", "different_periods", message, remedy, count=len(set(spans.values())))


def limits(ds: xr.Dataset) -> Iterator[dict]:
    """Values outside what is physically possible in canonical units."""
    time = ds["time"].values
    for basin, name, values in series(ds):
        low, high, below, above, remedy = _LIMITS[name]
        for kind, out in ((below, values < low), (above, (values > high) & np.isfinite(values))):
            if not out.any() or not kind:
                continue
            worst = values[out].min() if kind == below and (values < low).any() else values[out].max()
            unit = CANONICAL[name].units
            message = f"{out.sum()} value(s) outside {low:g} to {high:g} {unit}, as far as {worst:g}."
            severity = "error" if kind in _SURE else "warning"
            yield found(
                severity,
                kind,
                message,
                remedy,
                basin=basin,
                variable=name,
                count=out.sum(),
                first=time[out.argmax()],
            )


def temperature_order(ds: xr.Dataset) -> Iterator[dict]:
    """tmin above tmax."""
    if "tmin" not in ds or "tmax" not in ds:
        return
    low, high = (ds[n].transpose("time", "basin").values for n in ("tmin", "tmax"))
    for column, basin in enumerate(ds["basin"].values):
        wrong = low[:, column] > high[:, column]
        if wrong.any():
            message = f"tmin is above tmax on {wrong.sum()} step(s)."
            remedy = "Mend with udehydro.data.swap_t; are the columns swapped?"
            severity = "error" if wrong.mean() > 0.5 else "warning"
            yield found(
                severity, "tmin_above_tmax", message, remedy, basin=str(basin), variable="tmin",
                count=wrong.sum(), first=ds["time"].values[wrong.argmax()],
            )  # fmt: skip


def suspicions(ds: xr.Dataset) -> Iterator[dict]:
    """Possible, but improbable: see `udehydro.data.suspicions`."""
    for test in (swapped_columns, flow_against_rain, constant_flow, zero_spells):
        for fields in test(ds):
            yield found(**fields)


TESTS = (variables, time_axis, finite, periods, limits, temperature_order, suspicions)
