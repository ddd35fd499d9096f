"""One file of one basin, whatever its format: CSV, TSV, semicolons, gzip, Parquet, NetCDF, Zarr."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import xarray as xr

from ..errors import DataError
from .frame import MISSING, from_frame
from .gridded import GRIDDED, from_xarray, is_zarr, open_gridded
from .textfile import read_text

TEXT = (".csv", ".tsv", ".txt", ".dat", ".csv.gz", ".tsv.gz", ".txt.gz", ".dat.gz")
PARQUET = (".parquet", ".pq")


def suffix_of(path: Path) -> str:
    """The suffix in lower case, ``.csv.gz`` as one."""
    parts = [s.lower() for s in path.suffixes]
    return "".join(parts[-2:]) if parts[-1:] == [".gz"] else (parts[-1] if parts else "")


def stem_of(path: Path) -> str:
    """The file name without its (double) suffix: the basin id of a file that does not say."""
    suffix = suffix_of(path)
    return path.name[: len(path.name) - len(suffix)] if suffix else path.name


def is_table(path: Path) -> bool:
    """Whether a path looks like a file this module reads."""
    return suffix_of(path) in (*TEXT, *PARQUET, *GRIDDED) or is_zarr(path)


def read_table(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    units: Mapping[str, str] | str | None = None,
    basin: str | None = None,
    area: float | None = None,
    lat: float | None = None,
    missing: Sequence[str] = MISSING,
    dayfirst: bool | None = None,
    time: str | None = None,
    extra: Sequence[str] = (),
    gaps: str = "error",
) -> xr.Dataset:
    """Read a file into a dataset with dims ``(time, basin)`` and canonical units.

    Parameters
    ----------
    path : path
        ``.csv``, ``.tsv``, ``.txt`` (also ``.gz``), ``.parquet``, ``.nc`` or ``.zarr``.
    basin : str, optional
        Basin id; the file name without suffix if not given (NetCDF and Zarr may hold their own ids).
    columns, units, area, lat, missing, dayfirst, time, extra, gaps
        See `udehydro.data.from_frame`. NetCDF and Zarr carry their units, and need neither
        ``missing`` nor ``dayfirst``.

    Returns
    -------
    Dataset
        ``prcp``, ``pet``, ``discharge`` in mm/d (rates for any step), ``temp``, ``tmin``, ``tmax`` in degC,
        ``dayl`` h, ``srad`` W/m2, ``vp`` Pa: those the file has.
        `udehydro.data.notes` tells what was done.

    Raises
    ------
    DataError
        Names the file, column, date or unit at fault, and the remedy.
    """
    path = Path(path)
    if not path.exists():
        raise missing_path(path)
    kind = suffix_of(path)
    shared = {
        "columns": columns,
        "units": units,
        "area": area,
        "lat": lat,
        "time": time,
        "extra": extra,
        "gaps": gaps,
    }
    if kind in GRIDDED or is_zarr(path):
        ds = open_gridded(path)
        return from_xarray(ds, basin=basin, default_basin=stem_of(path), source=str(path), **shared)
    unit_row = None
    if kind in PARQUET:
        frame = _read_parquet(path)
    elif kind in TEXT:
        frame, layout = read_text(path)
        unit_row = dict(zip(layout.headers, layout.units, strict=False)) if layout.units else None
    else:
        raise DataError(f"{path}: unknown kind of file '{kind}'. Known: {' '.join((*TEXT, *PARQUET, *GRIDDED))}.")
    return from_frame(
        frame, basin=basin or stem_of(path), missing=missing, dayfirst=dayfirst, unit_row=unit_row,
        source=str(path), **shared,
    )  # fmt: skip


def missing_path(path: Path) -> DataError:
    """The error for a path that is not there, with what is close to it."""
    import difflib

    parent = path.parent
    names = sorted(p.name for p in parent.iterdir()) if parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=3)
    hint = f" Did you mean {', '.join(close)}?" if close else ("" if names else f" The folder {parent} has nothing.")
    return DataError(f"{path}: no such file or folder.{hint}")


def _read_parquet(path: Path) -> pd.DataFrame:
    if importlib.util.find_spec("pyarrow") is None:
        raise DataError(
            f'{path}: reading Parquet needs pyarrow. Install it with: pip install "udehydro[scale]", or convert to CSV.'
        )
    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}.") from error
    if frame.empty:
        raise DataError(f"{path}: has a header but no rows. Columns: {', '.join(map(str, frame.columns))}.")
    return frame
