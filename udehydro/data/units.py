"""Units: how they are spelled, and how values reach the canonical ones (mm/d, degC, h, W/m2, Pa).

Rates stay rates for any time step: an hourly depth of 1 mm is a rate of 24 mm/d.
"""

from __future__ import annotations

import re

import numpy as np

from ..errors import DataError
from .names import CANONICAL

MM_PER_INCH = 25.4
M3_PER_FT3 = 0.3048**3
SECONDS_PER_DAY = 86400.0

# Spellings after `normalise`; the first of each line is the name used in messages.
_SPELLINGS: dict[str, tuple[str, ...]] = {
    "mm/d": ("mm/day", "mmd-1", "mmday-1", "mm.d-1", "mm/24h", "mmperday"),
    "mm/h": ("mm/hr", "mm/hour", "mmh-1", "mmhr-1", "mmhour-1", "mm.h-1"),
    "mm": ("mm/step", "mm/timestep", "mm/dt", "mmstep-1"),
    "m/d": ("m/day", "md-1", "mday-1"),
    "inch/d": ("inch/day", "in/d", "in/day", "inches/day", "inches/d", "ind-1", "inday-1"),
    "kg/m2/s": ("kgm-2s-1",),
    "m3/s": ("m3s-1", "cms", "cumecs", "cumec", "m3/sec", "m3.s-1"),
    "L/s": ("l/s", "ls-1", "l/sec", "l.s-1"),
    "cfs": ("ft3/s", "ft3s-1", "cuft/s", "ft3/sec"),
    "degC": (
        "c",
        "degc",
        "celsius",
        "deg_c",
        "degreec",
        "degreescelsius",
        "degreecelsius",
        "degree_celsius",
        "degrees_celsius",
    ),
    "K": ("k", "kelvin", "degk"),
    "degF": ("f", "degf", "fahrenheit"),
    "W/m2": ("w/m2", "wm-2", "w.m-2"),
    "MJ/m2/d": ("mj/m2/d", "mj/m2/day", "mjm-2d-1", "mjm-2day-1", "mj/m2d"),
    "Pa": ("pa",),
    "hPa": ("hpa", "mbar", "mb"),
    "kPa": ("kpa",),
    "h": ("hr", "hrs", "hour", "hours"),
    "s": ("sec", "second", "seconds"),
}
_LOOKUP = {spelling: name for name, more in _SPELLINGS.items() for spelling in (name.lower(), *more)}

_ACCEPTED: dict[str, tuple[str, ...]] = {
    "rate": ("mm/d", "mm/h", "mm", "m/d", "inch/d", "kg/m2/s"),
    "flow": ("mm/d", "mm/h", "mm", "m/d", "inch/d", "m3/s", "L/s", "cfs"),
    "temperature": ("degC", "K", "degF"),
    "radiation": ("W/m2", "MJ/m2/d"),
    "pressure": ("Pa", "hPa", "kPa"),
    "duration": ("h", "s"),
}
_DEPTH_RATE = {"mm/d": 1.0, "mm/h": 24.0, "m/d": 1000.0, "inch/d": MM_PER_INCH, "kg/m2/s": SECONDS_PER_DAY}
_M3_PER_S = {"m3/s": 1.0, "L/s": 1e-3, "cfs": M3_PER_FT3}
_SIMPLE = {"W/m2": 1.0, "Pa": 1.0, "hPa": 100.0, "kPa": 1000.0, "h": 1.0, "s": 1.0 / 3600.0}


def normalise(unit: str) -> str | None:
    """The table's name of a unit as written by somebody, or None if it is not known."""
    text = unit.strip().replace("²", "2").replace("³", "3").replace("⁻¹", "-1").replace("⁻²", "-2")
    text = re.sub(r"[°º^*·\s\u00c2]", "", text).lower()
    return _LOOKUP.get(text)


def is_unit(text: str) -> bool:
    """Whether a piece of text is a unit of the table (used to recognise a row of units)."""
    return normalise(text) is not None


def resolve(variable: str, unit: str | None, *, where: str, column: str) -> str:
    """The unit of a column, checked against what the variable accepts.

    Raises
    ------
    DataError
        No unit, an unknown unit or one of another kind; names file, column, unit and the accepted ones.
    """
    quantity = CANONICAL[variable]
    accepted = ", ".join(_ACCEPTED[quantity.kind])
    if unit is None:
        raise DataError(
            f"{where}: column '{column}' ({variable}) has no unit. Write it in the header, as in "
            f"'{column}({quantity.units})', or pass units={{'{variable}': '{quantity.units}'}}; "
            f"units='canonical' declares every column to be in the package's units. Accepted: {accepted}."
        )
    if unit == "canonical":
        return quantity.units
    name = normalise(unit)
    if name is None or name not in _ACCEPTED[quantity.kind]:
        raise DataError(
            f"{where}: column '{column}': unit '{unit}' is not one for {variable}. Accepted: {accepted}. "
            f"Correct the header or pass units={{'{variable}': ...}}."
        )
    return name


def convert(
    values: np.ndarray,
    unit: str,
    variable: str,
    *,
    where: str,
    column: str,
    area: float | np.ndarray | None = None,
    step_days: float | None = None,
    dayl: np.ndarray | None = None,
) -> tuple[np.ndarray, str | None]:
    """Values in canonical units, and a note on what was done (None if nothing).

    Parameters
    ----------
    values : array
        Values in ``unit``, any shape ``(..., basin)``.
    unit : str
        A name of the table, as `resolve` returns it.
    area : float or array (basin,), optional
        Basin area in km2, needed for m3/s, L/s and cfs.
    step_days : float, optional
        Length of a time step in d, needed for ``mm`` (a depth per step).
    dayl : array, optional
        Day length in h, needed to turn MJ/m2/d into the mean over daylight in W/m2 (the convention of Daymet,
        Thornton et al. 2016).
    """
    target = CANONICAL[variable].units
    if unit == target:
        return values, None
    said = f"{variable}: '{column}' converted from {unit} to {target}"
    if unit == "K":
        return values - 273.15, said
    if unit == "degF":
        return (values - 32.0) / 1.8, said
    if unit in _DEPTH_RATE:
        return values * _DEPTH_RATE[unit], said
    if unit == "mm":
        return _depth_per_step(values, step_days, where, column, said)
    if unit in _M3_PER_S:
        return _flow_to_depth(values, unit, area, where, column, said)
    if unit == "MJ/m2/d":
        if dayl is None:
            raise DataError(
                f"{where}: column '{column}' in MJ/m2/d needs the day length to become the mean over "
                "daylight in W/m2. Add a column dayl(h), or give the radiation in W/m2 over daylight."
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(dayl > 0, values * 1e6 / (dayl * 3600.0), 0.0), said + " over daylight"
    return values * _SIMPLE[unit], said


def _depth_per_step(values, step_days, where, column, said):
    if step_days is None:
        raise DataError(
            f"{where}: column '{column}' is in mm per step, but the time steps differ in length. "
            "Give a rate (mm/d or mm/h)."
        )
    note = f"{said} with a step of {step_days * 24:g} h" if step_days != 1.0 else None
    return values / step_days, note


def _flow_to_depth(values, unit, area, where, column, said):
    missing = area is None or not np.all(np.isfinite(np.asarray(area, dtype=float)))
    if missing:
        raise DataError(
            f"{where}: column '{column}' is in {unit}; the basin area is needed to make it mm/d. "
            "Pass area=<km2>, or give discharge in mm/d."
        )
    # 1 m3/s over 1 km2 is 86.4 mm/d
    factor = _M3_PER_S[unit] * SECONDS_PER_DAY * 1e3 / (np.asarray(area, dtype=float) * 1e6)
    text = f" with area {float(area):g} km2" if np.ndim(area) == 0 else " with the basin areas"
    return values * factor, said + text
