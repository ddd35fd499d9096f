"""Caravan (Kratzert et al. 2023): ERA5-Land forcing, flow in mm/d and attributes, worldwide.

Layout::

    timeseries/{netcdf,csv}/<dataset>/<dataset>_<id>.{nc,csv}
    attributes/<dataset>/attributes_{caravan,hydroatlas,other}_<dataset>.csv

The files carry no units per variable; those of the paper's table are stated here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import xarray as xr

from ..errors import DataError
from .build import combine
from .frame import from_frame
from .gridded import open_gridded
from .provenance import with_notes
from .stations import attach, join_tables, select
from .textfile import read_text

COLUMNS = {
    "prcp": "total_precipitation_sum",
    "temp": "temperature_2m_mean",
    "tmin": "temperature_2m_min",
    "tmax": "temperature_2m_max",
    "discharge": "streamflow",
}
# From version 1.5 on there are two; the ERA5-Land one is known to be too high, hence last.
PET_COLUMNS = (
    "potential_evaporation_sum_FAO_PENMAN_MONTEITH",
    "potential_evaporation_sum",
    "potential_evaporation_sum_ERA5_LAND",
)
_UNITS = {"prcp": "mm/d", "temp": "degC", "tmin": "degC", "tmax": "degC", "pet": "mm/d", "discharge": "mm/d"}
_KINDS = {"netcdf": "nc", "csv": "csv"}


def is_caravan(path: Path) -> bool:
    """Whether a folder has the time series folders of Caravan."""
    return any((path / "timeseries" / kind).is_dir() for kind in _KINDS)


def read_caravan(
    root: str | Path,
    basins: str | Sequence[str] | None = None,
    *,
    pet: str | None = None,
    attributes: bool = True,
    extra: Sequence[str] = (),
    gaps: str = "error",
) -> xr.Dataset:
    """Read Caravan from its NetCDF or CSV files (NetCDF first).

    Parameters
    ----------
    root : path
        The folder with ``timeseries`` and ``attributes``.
    basins : list of str, "all" or None
        Full ids such as ``camels_01013500``.
    pet : str, optional
        Column for potential evapotranspiration; by default Penman-Monteith if there, else the
        ERA5-Land one. The choice is noted.
    attributes : bool
        Attach the attribute tables as variables on ``basin``.
    extra : sequence of str
        Further columns kept under their own name, for example ``surface_net_solar_radiation_mean``.
    gaps : {"error", "keep"}

    Returns
    -------
    Dataset
        ``prcp temp tmin tmax pet discharge``; days in the local time of the gauge, as Caravan defines them.

    Raises
    ------
    DataError
    """
    root = Path(root)
    files = _files(root)
    chosen = select(basins, list(files), str(root))
    parts = {b: _one(files[b], b, pet, extra, gaps) for b in chosen}
    ds = combine(parts, str(root), gaps=gaps)
    datasets = sorted({files[b].parent.name for b in chosen})
    tables = [t for d in datasets for t in [_tables(root, d)] if t is not None]
    if not tables:
        return with_notes(ds, ["attributes: no attributes/<dataset>/attributes_*.csv found, none attached"])
    table = pd.concat([t for t, _ in tables])
    ds = with_notes(ds, [line for _, said in tables for line in said])
    return attach(ds, table if attributes else _places(table), str(root))


def _files(root: Path) -> dict[str, Path]:
    if not is_caravan(root):
        raise DataError(
            f"{root}: not Caravan: there is no timeseries/netcdf or timeseries/csv. Point to the folder above."
        )
    found: dict[str, Path] = {}
    for kind, suffix in _KINDS.items():
        for path in sorted((root / "timeseries" / kind).glob(f"*/*.{suffix}")):
            found.setdefault(path.stem, path)
    return found


def _one(path: Path, basin: str, pet: str | None, extra: Sequence[str], gaps: str) -> xr.Dataset:
    if path.suffix == ".nc":
        frame = open_gridded(path).to_dataframe().reset_index()
    else:
        frame, _ = read_text(path)
    column = _pet_column(frame, pet, path)
    columns = {n: c for n, c in COLUMNS.items() if c in frame}
    if "prcp" not in columns:
        raise DataError(f"{path}: no column {COLUMNS['prcp']}. Columns found: {', '.join(map(str, frame.columns))}.")
    said = []
    if column:
        columns["pet"] = column
        said.append(f"pet: taken from {column}")
    keep = [*(c for c in frame.columns if c in ("date", "time")), *columns.values(), *extra]
    absent = [c for c in keep if c not in frame]
    if absent:
        raise DataError(f"{path}: no column {', '.join(absent)}. Columns found: {', '.join(map(str, frame.columns))}.")
    return from_frame(
        frame[keep],
        columns=columns,
        units=_UNITS,
        basin=basin,
        extra=extra,
        gaps=gaps,
        source=str(path),
        said=said,
    )


def _pet_column(frame: pd.DataFrame, pet: str | None, path: Path) -> str | None:
    there = [c for c in frame.columns if str(c).startswith("potential_evaporation")]
    if pet is None:
        return next((c for c in PET_COLUMNS if c in there), None)
    if pet not in frame:
        raise DataError(f"{path}: pet='{pet}' is not a column. Candidates: {', '.join(there) or 'none'}.")
    return pet


def _tables(root: Path, dataset: str) -> tuple[pd.DataFrame, list[str]] | None:
    files = sorted((root / "attributes" / dataset).glob("attributes_*.csv"))
    # positions and areas first, so that they win where a name occurs twice
    files.sort(key=lambda p: not p.name.startswith("attributes_other"))
    return join_tables(files) if files else None


def _places(table: pd.DataFrame) -> pd.DataFrame:
    return table[[c for c in ("gauge_lat", "gauge_lon", "area", "gauge_name") if c in table]]
