"""From a pandas table of one basin to the dataset: find columns, read dates, clean, convert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from ..errors import DataError
from .axis import interval_days, is_uniform, order, require_contiguous, stamp
from .build import assemble, check_coordinate
from .dates import find_time, parse_time
from .names import CANONICAL, find_columns, nothing_found, split_unit
from .units import convert, resolve

MISSING = ("-999", "-9999", "-999.0", "-9999.0")


def from_frame(
    frame: pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    units: Mapping[str, str] | str | None = None,
    basin: str = "basin",
    area: float | None = None,
    lat: float | None = None,
    missing: Sequence[str] = MISSING,
    dayfirst: bool | None = None,
    time: str | None = None,
    extra: Sequence[str] = (),
    gaps: str = "error",
    unit_row: Mapping[str, str] | None = None,
    source: str = "table",
    said: Sequence[str] = (),
) -> xr.Dataset:
    """A table of one basin as a dataset in canonical units.

    Parameters
    ----------
    frame : DataFrame
        One row per time step.
    columns : mapping, optional
        Variable to column, ``{"prcp": "rain_col"}``; what is not named is found by its usual names,
        and ``None`` as a value leaves a variable out.
    units : mapping or "canonical", optional
        Unit by variable or by column; ``"canonical"`` declares all columns to be mm/d, degC, h, W/m2, Pa.
        Units in the header, ``prcp(mm/day)``, need no mention.
    basin : str
    area : float, optional
        km2; turns m3/s, L/s and cfs into mm/d.
    lat : float, optional
        Degrees north.
    missing : sequence of str
        Texts and numbers that stand for "no value".
    dayfirst : bool, optional
        For dates such as 03/04/1999.
    time : str, optional
        The date column.
    extra : sequence of str
        Further columns kept under their own name and without conversion.
    gaps : {"error", "keep"}
        Holes in the time axis: refuse, or read as it is (see `udehydro.data.fill_gaps`).
    unit_row : mapping, optional
        Column to unit, as found below the header.
    source : str
        Named in messages and in ``attrs["source"]``.
    said : sequence of str
        Notes from before.

    Raises
    ------
    DataError
    """
    _check_options(area, lat, gaps, source)
    missing = [str(m) for m in ([missing] if isinstance(missing, str | int | float) else missing)]
    frame = _flat(frame)
    when = find_time(frame, time, source)
    dates = when if isinstance(when, list) else [when]
    headers = [h for h in frame.columns if h not in dates]
    chosen = find_columns(headers, columns, where=source)
    if not chosen:
        raise nothing_found(headers, source)
    unknown = [c for c in extra if c not in headers]
    if unknown:
        raise DataError(f"{source}: extra={unknown}: no such column. Columns found: {', '.join(headers)}.")
    stated = {n: resolve(n, _unit(n, c, units, unit_row), where=source, column=c) for n, c in chosen.items()}
    index, notes = parse_time(frame, when, dayfirst=dayfirst, where=source)
    keep = list(dict.fromkeys([*chosen.values(), *extra]))
    table, more = order(frame[keep], index, source)
    notes = [*said, *notes, *more, *_unused(headers, keep)]
    if gaps == "error":
        require_contiguous(table.index, source)
    numbers = {c: numbers_of(table[c], missing, source, notes) for c in keep}
    values = _to_canonical(chosen, stated, numbers, table.index, area, source, notes)
    values.update({c: numbers[c] for c in extra})
    return assemble(
        values, table.index, [basin], source=source, coords={"lat": lat, "area": area}, said=notes,
        extra_attrs={c: {"long_name": c, "units": split_unit(c)[1] or ""} for c in extra},
    )  # fmt: skip


def _check_options(area, lat, gaps: str, source: str) -> None:
    if gaps not in ("error", "keep"):
        raise DataError(f"gaps='{gaps}' is not known; use 'error' or 'keep'.")
    for name, value in (("area", area), ("lat", lat)):
        if value is not None:
            check_coordinate(name, np.asarray(value, dtype=float), source)


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    if isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.reset_index(names=frame.index.name or "time")
    return frame.rename(columns=str)


def _unit(name: str, column: str, units, unit_row) -> str | None:
    bare, bracket = split_unit(column)
    if units == "canonical":
        return bracket or (unit_row or {}).get(column) or "canonical"
    if isinstance(units, str):
        raise DataError(f"units='{units}' is not known; use a mapping such as {{'prcp': 'mm/d'}}, or 'canonical'.")
    for label in (name, column, bare):
        if units and label in units:
            return units[label]
    return bracket or (unit_row or {}).get(column) or None


def _unused(headers: Sequence[str], used: Sequence[str]) -> list[str]:
    left = [h for h in headers if h not in used]
    return [f"columns not used: {', '.join(left)}"] if left else []


def numbers_of(column: pd.Series, missing: Sequence[str], where: str, notes: list[str]) -> np.ndarray:
    """A column as float64 with sentinels as NaN; any other text is an error that names it."""
    values = pd.to_numeric(column, errors="coerce")
    if not pd.api.types.is_numeric_dtype(column):
        text = column.astype("string").str.strip()
        declared = values.isna() & text.isin([m for m in missing if m])
        if declared.any():
            notes.append(f"{column.name}: {int(declared.sum())} value(s) '{text[declared].iloc[0]}' read as missing")
        bad = values.isna() & text.notna() & ~declared & (text != "")
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"{where}: column '{column.name}': '{text.iloc[row]}' at {stamp(column.index[row])} is not "
                f"a number ({int(bad.sum())} such value(s)). Correct it, or declare it with "
                f"missing=['{text.iloc[row]}']."
            )
    out = values.to_numpy(dtype=float, copy=True)
    sentinels = [float(m) for m in missing if _is_float(m)]
    hit = np.isin(out, sentinels)
    if hit.any():
        notes.append(f"{column.name}: {int(hit.sum())} value(s) {out[hit][0]:g} read as missing")
        out[hit] = np.nan
    return out


def _is_float(text: str) -> bool:
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False


def _to_canonical(chosen, stated, numbers, index, area, where, notes) -> dict[str, np.ndarray]:
    step = interval_days(index) if is_uniform(index) else None
    values: dict[str, np.ndarray] = {}
    for name in sorted(chosen, key=lambda n: n != "dayl"):  # srad in MJ/m2/d needs the day length first
        values[name], note = convert(
            numbers[chosen[name]], stated[name], name, where=where, column=chosen[name],
            area=area, step_days=step, dayl=values.get("dayl"),
        )  # fmt: skip
        notes.extend([note] if note else [])
    add_mean_temperature(values, notes)
    return {n: values[n] for n in CANONICAL if n in values}


def add_mean_temperature(values: dict, notes: list[str]) -> None:
    """``temp`` as the mean of ``tmin`` and ``tmax`` where a source has only those (FAO-56, eq. 9)."""
    if "temp" not in values and "tmin" in values and "tmax" in values:
        values["temp"] = (values["tmin"] + values["tmax"]) / 2
        notes.append("temp: derived as (tmin + tmax) / 2")
