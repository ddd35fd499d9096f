"""NetCDF, Zarr and datasets in memory: names and units mapped, values converted, no guessed reshaping."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from ..errors import DataError
from .axis import interval_days, is_uniform, require_contiguous, stamp
from .build import COORDS, assemble, check_coordinate
from .frame import add_mean_temperature
from .names import CANONICAL, TIME_ALIASES, find_columns, key, nothing_found
from .provenance import notes as notes_of
from .units import convert, resolve

GRIDDED = (".nc", ".nc4", ".netcdf")
_OURS = ("truth_", "discharge_flag")  # written by this package, kept under their names
_BASIN_DIMS = ("basin", "gauge_id", "station", "gauge", "id", "catchment", "site")
_COORD_NAMES = {
    "lat": ("lat", "latitude", "gauge_lat"),
    "lon": ("lon", "longitude", "gauge_lon"),
    "area": ("area", "area_km2"),
    "elevation": ("elevation", "elev", "elev_mean"),
    "name": ("name", "gauge_name", "station_name"),
}


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return path.is_dir() and any((path / n).exists() for n in ("zarr.json", ".zgroup", ".zmetadata"))


def open_gridded(path: Path) -> xr.Dataset:
    """Open NetCDF or Zarr; times decoded, day lengths in hours left as numbers."""
    zarr = is_zarr(path)
    if zarr and importlib.util.find_spec("zarr") is None:
        raise DataError(f'{path}: reading Zarr needs zarr. Install it with: pip install "udehydro[scale]".')
    try:
        # decode_timedelta: xarray may otherwise turn a variable with unit "h" into durations
        with xr.open_dataset(path, engine="zarr" if zarr else None, decode_timedelta=False) as ds:
            return ds.load()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a readable {'Zarr' if zarr else 'NetCDF'} file: {error}.") from error


def from_xarray(
    ds: xr.Dataset,
    *,
    columns: Mapping[str, str] | None = None,
    units: Mapping[str, str] | str | None = None,
    basin: str | None = None,
    default_basin: str = "basin",
    area: float | None = None,
    lat: float | None = None,
    time: str | None = None,
    extra: Sequence[str] = (),
    gaps: str = "error",
    source: str = "dataset",
) -> xr.Dataset:
    """A dataset with any usual names and with ``units`` attributes as one that keeps the contract.

    Parameters
    ----------
    ds : Dataset
        Variables over time, or over time and one dimension of basins.
    basin : str, optional
        Id for a dataset without a basin dimension.
    columns, units, area, lat, time, extra, gaps, source
        See `udehydro.data.from_frame`.

    Raises
    ------
    DataError
    """
    ds, basins = _standard_dims(ds, time, basin or default_basin, source)
    series = [str(n) for n in ds.data_vars if "time" in ds[n].dims]
    chosen = find_columns(series, columns, where=source)
    if not chosen:
        raise nothing_found(series, source)
    stated = {n: resolve(n, _unit(ds, n, c, units), where=source, column=c) for n, c in chosen.items()}
    ds, said = _ordered(ds, source)
    index = pd.DatetimeIndex(ds["time"].values)
    if gaps == "error":
        require_contiguous(index, source)
    coords = _coords(ds, area, lat, source)
    said = notes_of(ds) + said
    values = _converted(ds, chosen, stated, index, coords.get("area"), source, said)
    kept = [n for n in series if n not in chosen.values() and (n in extra or n.startswith(_OURS))]
    values.update({n: ds[n].values for n in kept})
    unused = [n for n in series if n not in chosen.values() and n not in kept]
    said += [f"variables not used: {', '.join(unused)}"] if unused else []
    attrs = {n: dict(ds[n].attrs) for n in values if n in ds and n not in CANONICAL}
    out = assemble(values, index, basins, source=source, coords=coords, extra_attrs=attrs, said=said)
    out = out.assign_attrs({k: v for k, v in ds.attrs.items() if k not in out.attrs})
    return _with_static(out, ds, coords)


def _standard_dims(ds: xr.Dataset, time: str | None, basin: str, where: str) -> tuple[xr.Dataset, list[str]]:
    dims = [str(d) for d in ds.dims]
    times = [time] if time else [d for d in dims if key(d) in TIME_ALIASES]
    if len(times) != 1 or times[0] not in dims:
        raise DataError(f"{where}: no time dimension found among {', '.join(dims)}. Name it with time='...'.")
    if not np.issubdtype(ds[times[0]].dtype, np.datetime64):
        raise DataError(
            f"{where}: '{times[0]}' holds no dates ({ds[times[0]].dtype}). It needs a CF unit such as "
            "'days since 1980-01-01' and the standard calendar."
        )
    if times[0] != "time":
        ds = ds.rename({times[0]: "time"})
    places = [d for d in dims if key(d) in _BASIN_DIMS]
    scalar = [c for c in _BASIN_DIMS if c in ds.coords and ds[c].ndim == 0]
    if not places and scalar:
        ds = ds.expand_dims(scalar[0])  # one basin selected from many
        places = scalar
    if not places:
        ds = ds.expand_dims(basin=[basin])
    elif places[0] != "basin":
        ds = ds.rename({places[0]: "basin"})
    for name in list(ds.data_vars):
        if "time" in ds[name].dims:
            other = set(ds[name].dims) - {"time", "basin"}
            if other:
                raise DataError(
                    f"{where}: variable '{name}' has the dimension(s) {', '.join(map(str, sorted(other)))}; "
                    "average over the basin first, dims are (time, basin)."
                )
            ds[name] = ds[name].transpose("time", "basin") if "basin" in ds[name].dims else ds[name]
    ids = ds["basin"].values if "basin" in ds.coords else np.arange(ds.sizes["basin"])
    return ds, [i.decode() if isinstance(i, bytes) else str(i) for i in ids]


def _unit(ds: xr.Dataset, name: str, column: str, units) -> str | None:
    if isinstance(units, Mapping) and (name in units or column in units):
        return units.get(name, units.get(column))
    own = ds[column].attrs.get("units")
    return own or ("canonical" if units == "canonical" else None)


def _ordered(ds: xr.Dataset, where: str) -> tuple[xr.Dataset, list[str]]:
    index = pd.DatetimeIndex(ds["time"].values)
    if not len(index):
        raise DataError(f"{where}: holds no time steps.")
    said = []
    if not index.is_monotonic_increasing:
        ds = ds.sortby("time")
        index = pd.DatetimeIndex(ds["time"].values)
        said.append("time: steps were not in order, sorted")
    if index.has_duplicates:
        first = stamp(index[index.duplicated()][0])
        raise DataError(f"{where}: {int(index.duplicated().sum())} time(s) occur twice, first {first}. Remove them.")
    return ds, said


def _coords(ds: xr.Dataset, area, lat, where: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, aliases in _COORD_NAMES.items():
        hit = next((a for a in aliases if a in ds.variables and ds[a].dims in ((), ("basin",))), None)
        if hit:
            values = np.broadcast_to(ds[hit].values, (ds.sizes["basin"],))
            found[name] = values.astype(object if name == "name" else float)
    for name, value in (("area", area), ("lat", lat)):
        if value is not None:
            found[name] = np.broadcast_to(np.asarray(value, dtype=float), (ds.sizes["basin"],))
            check_coordinate(name, found[name], where)
    return {n: found[n] for n in COORDS if n in found}


def _converted(ds, chosen, stated, index, area, where, said) -> dict[str, np.ndarray]:
    step = interval_days(index) if is_uniform(index) else None
    values: dict[str, np.ndarray] = {}
    for name in sorted(chosen, key=lambda n: n != "dayl"):
        raw = ds[chosen[name]]
        if not np.issubdtype(raw.dtype, np.number):
            raise DataError(f"{where}: variable '{chosen[name]}' holds {raw.dtype}, not numbers.")
        values[name], note = convert(
            raw.values.astype(float), stated[name], name, where=where, column=chosen[name],
            area=area, step_days=step, dayl=values.get("dayl"),
        )  # fmt: skip
        said.extend([note] if note else [])
    add_mean_temperature(values, said)
    return {n: values[n] for n in CANONICAL if n in values}


def _with_static(out: xr.Dataset, ds: xr.Dataset, coords: Mapping) -> xr.Dataset:
    taken = {next((a for a in _COORD_NAMES[c] if a in ds.variables), None) for c in coords if c not in ds.coords}
    for name in ds.data_vars:
        if ds[name].dims == ("basin",) and name not in taken:
            values = ds[name].values
            out[name] = (
                "basin",
                values if values.dtype.kind in "OUST" else values.astype(float),
                ds[name].attrs,
            )
    return out
