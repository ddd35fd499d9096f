"""`read`: one entrance for files, folders of tables, CAMELS-US and Caravan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from ..errors import DataError
from .build import combine
from .camels import find_root, read_camels_us
from .caravan import is_caravan, read_caravan
from .gridded import is_zarr
from .provenance import with_notes
from .stations import attach, coords_from, join_tables, select, unknown_basins
from .table import is_table, missing_path, read_table, stem_of

STATION_TABLES = ("basins.csv", "stations.csv", "gauges.csv")
_SERIES_FOLDERS = ("daily", "hourly", "series")


def read(path: str | Path, basins: str | Sequence[str] | None = None, **options) -> xr.Dataset:
    """Read data from wherever they are into one dataset.

    Parameters
    ----------
    path : path
        A table (CSV, TSV, Parquet, NetCDF, Zarr); a folder with one table per basin (``<id>.csv``, perhaps in
        ``daily/``, with ``basins.csv`` and ``attributes/*.csv`` beside); CAMELS-US as distributed; Caravan.
    basins : list of str, str or None
        Ids, or ``"all"``. None is enough for a single file or a folder of one basin. For a single
        file without ids of its own a single id names the basin.
    **options
        Passed on to the reader in charge: `read_table`, `read_folder`, `read_camels_us` or `read_caravan`.

    Returns
    -------
    Dataset
        Dims ``(time, basin)``, canonical units; `udehydro.data.notes` tells what was done,
        `udehydro.data.check` looks for trouble.

    Raises
    ------
    DataError
    """
    path = Path(path)
    if not path.exists():
        raise missing_path(path)
    if path.is_file() or is_zarr(path):
        return _read_file(path, basins, options)
    if find_root(path) is not None:
        return read_camels_us(path, basins, **options)
    if is_caravan(path):
        return read_caravan(path, basins, **options)
    return read_folder(path, basins, **options)


def _read_file(path: Path, basins, options: Mapping) -> xr.Dataset:
    one = [basins] if isinstance(basins, str) and basins != "all" else basins
    single = one is not None and one != "all" and len(one) == 1
    ds = read_table(path, **({"basin": str(one[0])} if single else {}), **options)
    if one is None or one == "all":
        return ds
    known = [str(b) for b in ds["basin"].values]
    error = unknown_basins([str(b) for b in one], known, str(path))
    if error:
        raise error
    return ds.sel(basin=[str(b) for b in one])


def read_folder(
    path: str | Path,
    basins: str | Sequence[str] | None = None,
    *,
    area: Mapping[str, float] | float | None = None,
    area_column: str | None = None,
    attributes: bool = True,
    gaps: str = "error",
    **options,
) -> xr.Dataset:
    """Read a folder with one table per basin.

    Parameters
    ----------
    path : path
        Holds ``<id>.<suffix>`` itself or in ``daily/``, ``hourly/`` or ``series/``; ``basins.csv`` and
        ``attributes/*.csv`` are read if there.
    basins : list of str, "all" or None
    area : mapping or float, optional
        Basin areas in km2; by default the column ``area_km2``, ``area`` or ``area_gages2`` of the tables.
    area_column : str, optional
        Another column for the area.
    attributes : bool
        Whether static attributes are attached.
    gaps : {"error", "keep"}
    **options
        See `read_table`.

    Returns
    -------
    Dataset
        On the union of the periods; steps a basin does not cover are NaN, which is noted.
    """
    path = Path(path)
    files = _series_files(path)
    chosen = select(basins, list(files), str(path))
    tables = [path / t for t in STATION_TABLES if (path / t).is_file()]
    tables += sorted((path / "attributes").glob("*.csv")) if (path / "attributes").is_dir() else []
    table, said = join_tables(tables) if tables else (None, [])
    coords = coords_from(table, chosen, area_column) if table is not None else {}
    areas = _areas(area, coords.get("area"), chosen)
    parts = {b: read_table(files[b], basin=b, area=areas.get(b), gaps=gaps, **options) for b in chosen}
    ds = combine(parts, str(path), gaps=gaps)
    ds = with_notes(ds, said)
    if table is None:
        return ds
    coords = {n: v for n, v in coords.items() if n != "area"} | (
        {"area": [areas.get(b, np.nan) for b in chosen]} if areas else {}
    )
    return attach(ds, table if attributes else table[[]], str(path), coords)


def _areas(area, column, chosen: Sequence[str]) -> dict[str, float]:
    if isinstance(area, Mapping):
        return {str(b): float(a) for b, a in area.items()}
    if area is not None:
        if len(chosen) > 1:
            raise DataError(f"area={area} for {len(chosen)} basins: give a mapping, area={{'{chosen[0]}': ...}}.")
        return {chosen[0]: float(area)}
    return {b: float(a) for b, a in zip(chosen, column or [], strict=False) if np.isfinite(float(a))}


def _series_files(path: Path) -> dict[str, Path]:
    """Basin id to file, in the order of the ids."""
    for folder in (*(path / f for f in _SERIES_FOLDERS), path):
        if not folder.is_dir():
            continue
        found = [p for p in sorted(folder.iterdir()) if is_table(p) and p.name not in STATION_TABLES]
        found = [p for p in found if p.is_file() or is_zarr(p)]
        if found:
            break
    else:
        inside = sorted(p.name for p in path.iterdir())
        has = f"It has: {', '.join(inside[:8])}." if inside else "It is empty."
        raise DataError(
            f"{path}: no tables found. {has} Expected <id>.csv (or .csv.gz, .parquet, .nc), perhaps in "
            "daily/, or the layout of CAMELS-US (basin_mean_forcing/, usgs_streamflow/) "
            "or Caravan (timeseries/)."
        )
    files: dict[str, Path] = {}
    for file in found:
        if stem_of(file) in files:
            raise DataError(f"{path}: two files for basin '{stem_of(file)}': {files[stem_of(file)].name}, {file.name}.")
        files[stem_of(file)] = file
    return files
