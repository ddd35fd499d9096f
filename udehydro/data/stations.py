"""Tables with one row per basin: ids, positions, areas and static attributes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from ..errors import DataError
from .build import COORDS, check_coordinate
from .names import key
from .provenance import with_notes

_ID = ("gauge_id", "basin", "basin_id", "station", "station_id", "code", "id", "gauge", "site_no", "site")
_COORDS = {
    "lat": ("gauge_lat", "lat", "latitude", "lat_deg"),
    "lon": ("gauge_lon", "lon", "longitude", "lon_deg", "long"),
    "area": ("area_km2", "area", "area_gages2"),
    "elevation": ("elev_mean", "elevation", "elev", "elevation_m", "elevation_mean"),
    "name": ("gauge_name", "station_name", "name"),
}


def unknown_basins(asked: Iterable[str], known: Sequence[str], where: str) -> DataError | None:
    """The error for ids that are not there, with what was probably meant; None if all are known."""
    lost = [b for b in asked if b not in set(known)]
    if not lost:
        return None
    id_ = str(lost[0])
    zeros = [k for k in known if k.lstrip("0") == id_.lstrip("0") or k.endswith(f"_{id_}")]
    close = zeros or difflib.get_close_matches(id_, known, n=3)
    if zeros and zeros[0].lstrip("0") == id_:
        hint = f"Did you mean '{zeros[0]}'? Ids are text, leading zeros count (quote them in YAML)."
    elif close:
        hint = f"Did you mean {', '.join(map(repr, close))}?"
    else:
        shown = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")
        hint = f"{len(known)} basins are there: {shown}." if known else "No basin is there."
    more = f" ({len(lost)} unknown ids in all)" if len(lost) > 1 else ""
    return DataError(f"{where}: unknown basin '{id_}'{more}. {hint}")


def select(basins: str | Sequence[str] | None, known: Sequence[str], where: str) -> list[str]:
    """The ids asked for: a list, one id, ``"all"``, or None when there is only one to choose."""
    if not known:
        raise DataError(f"{where}: no basin found in this folder.")
    if basins is None:
        if len(known) == 1:
            return list(known)
        raise DataError(f"{where}: {len(known)} basins; say which, basins=['{known[0]}', ...], or basins='all'.")
    if isinstance(basins, str):
        if basins == "all":
            return list(known)
        basins = [basins]
    asked = [str(b) for b in basins]
    if not asked:
        raise DataError(f"{where}: basins=[] selects nothing. Give ids or 'all'.")
    if len(set(asked)) < len(asked):
        twice = next(b for b in asked if asked.count(b) > 1)
        raise DataError(f"{where}: basin '{twice}' is asked for twice.")
    error = unknown_basins(asked, known, where)
    if error:
        raise error
    return asked


def read_station_table(path: Path, separator: str | None = None) -> pd.DataFrame:
    """A table of basins indexed by id, ids as text."""
    try:
        head = path.read_text(encoding="utf-8-sig").split("\n", 1)[0]
        separator = separator or max((",", ";", "\t"), key=head.count)
        columns = [c.strip().strip('"') for c in head.split(separator)]
        ids = [c for c in columns if key(c) in _ID]
        ids.sort(key=lambda c: _ID.index(key(c)))
        if not ids:
            raise DataError(
                f"{path}: no column of basin ids among {', '.join(columns[:8])}. Name it 'gauge_id' or 'basin'."
            )
        table = pd.read_csv(path, sep=separator, dtype={ids[0]: str}, encoding="utf-8-sig", low_memory=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: not a readable table of basins: {error}.") from error
    table[ids[0]] = table[ids[0]].str.strip()
    twice = table[ids[0]].duplicated()
    if twice.any():
        raise DataError(f"{path}: basin '{table[ids[0]][twice].iloc[0]}' has two rows. Remove one.")
    return table.set_index(ids[0])


def join_tables(paths: Iterable[Path], separator: str | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Several station tables side by side; a column met twice is taken from the first that has it."""
    joined, notes = pd.DataFrame(), []
    for path in paths:
        table = read_station_table(path, separator)
        again = [c for c in table.columns if c in joined.columns]
        differing = [c for c in again if not _agree(joined[c], table[c])]
        if differing:
            notes.append(f"attributes: {', '.join(differing)} of {path.name} differ(s) from an earlier table, not used")
        table = table.drop(columns=again)
        joined = table if joined.empty else joined.join(table, how="outer")
    return joined, notes


def _agree(a: pd.Series, b: pd.Series) -> bool:
    common = a.index.intersection(b.index)
    both = a.loc[common].notna() & b.loc[common].notna()
    one, two = a.loc[common][both], b.loc[common][both]
    if pd.api.types.is_numeric_dtype(one) and pd.api.types.is_numeric_dtype(two):
        return bool(np.allclose(one, two))
    return bool((one.astype(str).str.strip() == two.astype(str).str.strip()).all())


def coords_from(table: pd.DataFrame, basins: Sequence[str], area_column: str | None = None) -> dict[str, list]:
    """``lat``, ``lon``, ``area``, ``elevation``, ``name`` of the basins, as far as the table has them."""
    found = {}
    rows = table.reindex(list(basins))
    for name, aliases in _COORDS.items():
        choice = (area_column,) if name == "area" and area_column else aliases
        column = next((c for a in choice for c in table.columns if c == a or key(c) == a), None)
        if name == "area" and area_column and column is None:
            raise DataError(f"area_column='{area_column}' is not in the tables. Columns: {', '.join(table.columns)}.")
        if column is not None:
            found[name] = rows[column].tolist()
    return found


def attach(ds: xr.Dataset, table: pd.DataFrame, where: str, coords: dict[str, list] | None = None) -> xr.Dataset:
    """A dataset with coordinates and static attributes of its basins from a station table."""
    basins = [str(b) for b in ds["basin"].values]
    notes = []
    lacking = [b for b in basins if b not in table.index]
    if lacking:
        notes.append(f"attributes: none for basin {', '.join(lacking[:5])}{' ...' if len(lacking) > 5 else ''}, NaN")
    for name, values in (coords_from(table, basins) if coords is None else coords).items():
        if name in ds.coords:
            continue
        if name == "name":
            values = ["" if pd.isna(v) else str(v) for v in values]
        else:
            values = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=float)
            check_coordinate(name, values, where)
        ds = ds.assign_coords(
            {name: ("basin", np.asarray(values, dtype=object if name == "name" else float), COORDS[name])}
        )
    rows = table.reindex(basins)
    clash = [c for c in rows.columns if c in ds.data_vars or c in ("time", "basin")]
    if clash:
        notes.append(f"attributes: {', '.join(clash)} not used, the name is that of a series")
    static = {}
    for column in rows.columns:
        if column in clash or column in ds.coords:
            continue
        if pd.api.types.is_numeric_dtype(rows[column]) or rows[column].isna().all():
            static[column] = ("basin", rows[column].to_numpy(dtype=float))
        else:
            texts = rows[column].where(rows[column].notna(), "").astype(str).str.strip()
            static[column] = ("basin", texts.to_numpy(dtype=object))
    return with_notes(ds.assign(static), notes)
