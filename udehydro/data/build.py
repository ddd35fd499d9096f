"""The dataset itself: variables with units and names on ``(time, basin)``, and many basins in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from ..errors import DataError
from .axis import interval_days, require_contiguous
from .names import CANONICAL
from .provenance import merge_notes, notes, with_notes

COORDS = {
    "lat": {"units": "degrees_north", "long_name": "latitude", "standard_name": "latitude"},
    "lon": {"units": "degrees_east", "long_name": "longitude", "standard_name": "longitude"},
    "area": {"units": "km2", "long_name": "basin area"},
    "elevation": {"units": "m", "long_name": "mean elevation", "standard_name": "surface_altitude"},
    "name": {"long_name": "basin name"},
}
_TIME = {"standard_name": "time", "long_name": "start of the interval"}
_BASIN = {"cf_role": "timeseries_id", "long_name": "basin id"}


def attributes_of(variable: str) -> dict[str, str]:
    """``units``, ``long_name`` and, where CF has one, ``standard_name`` of a canonical variable."""
    quantity = CANONICAL[variable]
    attrs = {"units": quantity.units, "long_name": quantity.long_name}
    if quantity.standard_name:
        attrs["standard_name"] = quantity.standard_name
    return attrs


def assemble(
    variables: Mapping[str, np.ndarray],
    time: pd.DatetimeIndex,
    basins: Sequence[str],
    *,
    source: str,
    coords: Mapping[str, object] | None = None,
    extra_attrs: Mapping[str, Mapping[str, object]] | None = None,
    said: Sequence[str] = (),
) -> xr.Dataset:
    """A dataset that keeps the contract of the data layer.

    Parameters
    ----------
    variables : mapping
        Name to values in canonical units, shape ``(T,)`` or ``(T, basin)``.
    time : DatetimeIndex
        Interval starts, sorted and unique.
    basins : sequence of str
    source : str
        Where it came from, kept in ``attrs["source"]``.
    coords : mapping, optional
        ``lat``, ``lon`` (degrees), ``area`` (km2), ``elevation`` (m), ``name``: one value or one per basin.
    extra_attrs : mapping, optional
        Attributes of the variables that are not canonical.
    said : sequence of str
        Notes.
    """
    shape = (len(time), len(basins))
    data = {}
    for name, values in variables.items():
        attrs = attributes_of(name) if name in CANONICAL else dict((extra_attrs or {}).get(name, {}))
        data[name] = (("time", "basin"), np.asarray(values).reshape(shape), attrs)
    ds = xr.Dataset(
        data,
        coords={
            "time": ("time", pd.DatetimeIndex(time).as_unit("ns"), _TIME),
            "basin": ("basin", np.asarray([str(b) for b in basins], dtype=object), _BASIN),
        },
        attrs={"source": str(source), "interval_days": interval_days(time), "notes": "[]"},
    )
    return with_notes(_with_coords(ds, coords or {}, source), said)


def _with_coords(ds: xr.Dataset, coords: Mapping[str, object], where: str) -> xr.Dataset:
    for name, value in coords.items():
        if value is None:
            continue
        kind = object if name == "name" else float
        values = np.broadcast_to(np.asarray(value, dtype=kind), (ds.sizes["basin"],)).copy()
        if name != "name":
            check_coordinate(name, values, where)
        ds = ds.assign_coords({name: ("basin", values, COORDS[name])})
    return ds


def check_coordinate(name: str, values: np.ndarray, where: str) -> None:
    """Raise for an area that is not positive or a latitude or longitude off the globe (NaN passes)."""
    low, high = {"lat": (-90.0, 90.0), "lon": (-180.0, 360.0), "area": (0.0, 2e7)}.get(name, (-np.inf, np.inf))
    values = np.atleast_1d(values)
    bad = (values < low) | (values > high) | ((values <= 0) if name == "area" else False)
    if bad.any():
        value = values[bad][0]
        remedy = {
            "area": "The area is in km2 and positive.",
            "lat": "Latitude is in degrees north, -90 to 90; were latitude and longitude swapped?",
            "lon": "Longitude is in degrees east, -180 to 360.",
        }[name]
        raise DataError(f"{where}: {name}={value:g} is out of range. {remedy}")


def combine(parts: Mapping[str, xr.Dataset], source: str, *, gaps: str = "error") -> xr.Dataset:
    """Basins joined on the union of their periods; what a basin does not cover is NaN, and said so.

    Parameters
    ----------
    parts : mapping
        Basin id to a dataset of one basin.
    source : str
    gaps : {"error", "keep"}
        What to do when the joined axis has holes (periods that do not meet).
    """
    if len(parts) == 1:
        ds = next(iter(parts.values()))
        return ds.assign_attrs(source=str(source))
    time = pd.DatetimeIndex(np.unique(np.concatenate([p["time"].values for p in parts.values()])))
    if gaps != "keep":
        require_contiguous(time, f"{source}, {len(parts)} basins together")
    names = list(dict.fromkeys(str(n) for p in parts.values() for n in p.data_vars))
    values = {n: np.full((len(time), len(parts)), np.nan) for n in names}
    said = {}
    for column, (basin, part) in enumerate(parts.items()):
        rows = time.get_indexer(pd.DatetimeIndex(part["time"].values))
        for name in part.data_vars:
            values[str(name)][rows, column] = part[name].values[:, 0]
        said[basin] = notes(part) + _coverage(part, time, names)
    attrs = {str(n): p[n].attrs for p in parts.values() for n in p.data_vars}
    coords = {c: [p[c].values[0] if c in p.coords else np.nan for p in parts.values()] for c in COORDS}
    coords = {c: v for c, v in coords.items() if not pd.isna(np.asarray(v, dtype=object)).all()}
    if "name" in coords:
        coords["name"] = ["" if pd.isna(v) else v for v in coords["name"]]
    return assemble(values, time, list(parts), source=source, coords=coords, extra_attrs=attrs, said=merge_notes(said))


def _coverage(part: xr.Dataset, time: pd.DatetimeIndex, names: Sequence[str]) -> list[str]:
    said = []
    short = len(time) - part.sizes["time"]
    if short:
        first, last = (pd.Timestamp(part["time"].values[i]).date() for i in (0, -1))
        said.append(f"period {first} to {last} is shorter than that of the other basins: {short} steps are NaN")
    absent = [n for n in names if n not in part]
    if absent:
        said.append(f"no {', '.join(absent)}: NaN")
    return said
