"""From the texts of a date column to a sorted, unique time axis; every doubt is an error or a note."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..errors import DataError
from .names import DAY, HOUR, MONTH, TIME_ALIASES, YEAR, key, split_unit

_ISO = r"^\d{4}-\d{1,2}-\d{1,2}([ T].*)?$"
_NUMERIC = r"^(\d{1,2})[./\-](\d{1,2})[./\-](\d{4})([ T].*)?$"
_COMPACT = r"^\d{8}$"
_YEAR_FIRST = r"^(\d{4})[./](\d{1,2})[./](\d{1,2})([ T].*)?$"
_ZONE = r"(?:[Zz]|UTC|[+\-]\d{2}:?\d{2})\s*$"


def find_time(frame: pd.DataFrame, time: str | None, where: str) -> str | list[str]:
    """The column of the dates, or the columns year, month, day (and hour).

    Raises
    ------
    DataError
        None or several found; lists the columns and shows how to give ``time=``.
    """
    headers = list(frame.columns)
    if time is not None:
        if time not in headers:
            raise DataError(f"{where}: time='{time}', but there is no such column. Columns found: {_listed(headers)}.")
        return time
    hits = [h for h in headers if key(split_unit(h)[0]) in TIME_ALIASES]
    if len(hits) == 1:
        return hits[0]
    if len(hits) > 1:
        raise DataError(f"{where}: several date columns: {_listed(hits)}. Say which one, for example time='{hits[0]}'.")
    parts = [next((h for h in headers if key(h) in names), None) for names in (YEAR, MONTH, DAY, HOUR)]
    if all(parts[:3]):
        return [p for p in parts if p]
    if headers and (headers[0] == "" or headers[0].startswith("Unnamed")):
        return headers[0]  # a pandas index written without a name
    raise DataError(
        f"{where}: no date column found. Columns found: {_listed(headers)}. "
        "Name it, for example time='my_date'; year, month and day columns are also understood."
    )


def _listed(headers) -> str:
    return ", ".join(map(repr, headers))


def parse_time(frame: pd.DataFrame, time: str | list[str], *, dayfirst: bool | None, where: str):
    """Time stamps of the rows, in file order.

    Returns
    -------
    index : DatetimeIndex
        Without time zone, nanoseconds.
    notes : list of str
    """
    if isinstance(time, list):
        return _from_parts(frame, time, where)
    column = frame[time]
    if pd.api.types.is_datetime64_any_dtype(column):
        index, said = _without_zone(pd.DatetimeIndex(column))
        if index.hasnans:
            raise _bad(where, int(np.flatnonzero(index.isna())[0]), "")
        return index.as_unit("ns"), said
    text = column.astype("string").str.strip()
    if text.isna().any() or (text == "").any():
        raise _bad(where, int(np.flatnonzero(text.isna() | (text == ""))[0]), "")
    if text.str.contains(r"\d:\d{2}.*" + _ZONE, regex=True).any():
        return _zoned(text, where)
    return _parse_text(text, dayfirst, where)


def _from_parts(frame: pd.DataFrame, columns: list[str], where: str):
    parts = {name: frame[c] for name, c in zip(("year", "month", "day", "hour"), columns, strict=False)}
    said = []
    if "hour" in parts and frame[columns[3]].nunique() == 1:
        # CAMELS writes Hr = 12 on every day: the label of a daily mean, not of an interval start
        if float(frame[columns[3]].iloc[0]) != 0:
            said.append(f"time: constant hour {frame[columns[3]].iloc[0]} dropped, days start at 00:00")
        del parts["hour"]
    index = pd.DatetimeIndex(pd.to_datetime(pd.DataFrame(parts), errors="coerce"))
    if index.hasnans:
        row = int(np.flatnonzero(index.isna())[0])
        raise _bad(where, row, "-".join(str(p.iloc[row]) for p in parts.values()))
    return index.as_unit("ns"), said


def _parse_text(text: pd.Series, dayfirst: bool | None, where: str):
    said: list[str] = []
    if text.str.match(_COMPACT).all():
        index = pd.to_datetime(text, format="%Y%m%d", errors="coerce")
    elif text.str.match(_ISO).mean() > 0.5:
        index = pd.to_datetime(text.where(text.str.match(_ISO)), format="ISO8601", errors="coerce")
    elif text.str.match(_YEAR_FIRST).mean() > 0.5:
        got = text.str.extract(_YEAR_FIRST)
        index = _assemble(got[0], got[1], got[2], got[3])
    elif text.str.match(_NUMERIC).mean() > 0.5:
        index, said = _two_orders(text, dayfirst, where)
    else:
        raise _bad(where, 0, text.iloc[0])
    if index.isna().any():
        row = int(np.flatnonzero(index.isna())[0])
        raise _bad(where, row, text.iloc[row])
    return pd.DatetimeIndex(index).as_unit("ns"), said


def _two_orders(text: pd.Series, dayfirst: bool | None, where: str):
    """Dates such as 03/04/1999: the record decides between day and month first, or the user does."""
    got = text.str.extract(_NUMERIC)
    first, second = (pd.to_numeric(got[i], errors="coerce") for i in (0, 1))
    said = []
    if dayfirst is None:
        if not ((first > 12).any() or (second > 12).any()):
            raise DataError(
                f"{where}: dates such as '{text.iloc[0]}' can be read day first or month first, "
                "and no date of the record decides. Pass dayfirst=True or dayfirst=False, "
                "or write dates as YYYY-MM-DD."
            )
        dayfirst = bool((first > 12).any())
        said = [f"time: dates such as '{text.iloc[0]}' read with the {'day' if dayfirst else 'month'} first"]
    day, month = (got[0], got[1]) if dayfirst else (got[1], got[0])
    return _assemble(got[2], month, day, got[3]), said


def _assemble(year, month, day, rest) -> pd.Series:
    iso = year + "-" + month.str.zfill(2) + "-" + day.str.zfill(2)
    clock = rest.fillna("").str.strip().str.lstrip("T")
    iso = iso.where(clock == "", iso + "T" + clock)
    return pd.to_datetime(iso, format="ISO8601", errors="coerce")


def _zoned(text: pd.Series, where: str):
    utc = pd.to_datetime(text, utc=True, errors="coerce", format="ISO8601")
    if utc.isna().any():
        row = int(np.flatnonzero(utc.isna())[0])
        raise _bad(where, row, text.iloc[row])
    zone = text.str.extract(rf"({_ZONE})")[0].str.strip()
    local = pd.DatetimeIndex(pd.to_datetime(text.str.replace(_ZONE, "", regex=True), format="ISO8601"))
    return _clock_or_utc(local, pd.DatetimeIndex(utc).tz_localize(None), zone.nunique() == 1, zone.iloc[0])


def _without_zone(index: pd.DatetimeIndex):
    if index.tz is None:
        return index, []
    local = index.tz_localize(None)
    utc = index.tz_convert("UTC").tz_localize(None)
    return _clock_or_utc(local, utc, len(set(local - utc)) <= 1, str(index.tz))


def _clock_or_utc(local, utc, constant: bool, zone: str):
    """Keep clock time where that is an even axis (one offset, or calendar days); else go to UTC."""
    if constant or (local == local.normalize()).all():
        return local.as_unit("ns"), [f"time: zone '{zone}' dropped, clock time kept"]
    return utc.as_unit("ns"), ["time: offsets differ (daylight saving?), converted to UTC"]


def _bad(where: str, row: int, text: str) -> DataError:
    shown = f"'{text}'" if text != "" else "empty"
    return DataError(
        f"{where}: data row {row + 1}: the date {shown} cannot be read. "
        "Write dates as YYYY-MM-DD (with HH:MM for shorter steps), four-digit years."
    )
