"""CAMELS-US as distributed (Newman et al. 2015, hydrometeorology v1.2; Addor et al. 2017, attributes v2.0).

Layout::

    basin_mean_forcing/<source>/<huc>/<id>_lump_*_forcing_leap.txt
    usgs_streamflow/<huc>/<id>_streamflow_qc.txt
    camels_attributes_v2.0/camels_*.txt

The first three lines of a forcing file are latitude (degrees), elevation (m) and area (m2). That area is
what the flow depths in circulation were made with; it can differ by about 1 % from ``area_gages2``, and by
far more where the delineation is in doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from ..errors import DataError
from .build import combine
from .frame import from_frame
from .provenance import notes, with_notes
from .stations import attach, coords_from, join_tables, select

FORCINGS = {"daymet": "cida", "maurer": "maurer", "nldas": "nldas"}
FLAGS = {"A": 0, "A:e": 1, "M": 2}
OTHER_FLAG = 3
_HEADER_LINES = 3


def find_root(path: Path) -> Path | None:
    """The folder that holds ``basin_mean_forcing``, or None."""
    for root in (
        path,
        path / "basin_dataset_public_v1p2",
        path / "basin_timeseries_v1p2_metForcing_obsFlow" / "basin_dataset_public_v1p2",
    ):
        if (root / "basin_mean_forcing").is_dir():
            return root
    return None


def read_camels_us(
    root: str | Path,
    basins: str | Sequence[str] | None = None,
    *,
    forcing: str = "daymet",
    area: str = "header",
    drop_estimated: bool = False,
    attributes: bool = True,
    gaps: str = "error",
) -> xr.Dataset:
    """Read CAMELS-US in its official layout.

    Parameters
    ----------
    root : path
        The folder with ``basin_mean_forcing`` and ``usgs_streamflow``.
    basins : list of str, "all" or None
        Gauge ids with their leading zeros.
    forcing : {"daymet", "maurer", "nldas"}
    area : str
        Area that turns cfs into mm/d: ``"header"`` (forcing file) or a column of the attributes, such as
        ``"area_gages2"`` or ``"area_geospa_fabric"``.
    drop_estimated : bool
        Leave out flows whose flag is not ``A`` (approved); the number is noted.
    attributes : bool
        Attach ``camels_*.txt`` as variables on ``basin``.
    gaps : {"error", "keep"}

    Returns
    -------
    Dataset
        ``prcp temp tmin tmax dayl srad vp discharge`` and ``discharge_flag`` (0 approved, 1 estimated,
        2 missing, 3 other; CF ``flag_meanings``).

    Raises
    ------
    DataError
    """
    base = find_root(Path(root))
    if base is None:
        raise DataError(
            f"{root}: not CAMELS-US: there is no folder basin_mean_forcing. Point to the folder that holds it."
        )
    files = _forcing_files(base, forcing)
    chosen = select(basins, list(files), str(root))
    table, said = _attributes(base) if attributes or area != "header" else (None, [])
    areas = _other_areas(table, chosen, area, root)
    parts = {b: _one(base, files[b], b, areas.get(b), drop_estimated, gaps) for b in chosen}
    ds = with_notes(combine(parts, str(root), gaps=gaps), said)
    if table is None or not attributes:
        return ds
    return attach(ds, table, str(root), {n: v for n, v in coords_from(table, chosen).items() if n in ("lon", "name")})


def _forcing_files(base: Path, forcing: str) -> dict[str, Path]:
    if forcing not in FORCINGS:
        raise DataError(f"forcing='{forcing}' is not known; use {', '.join(FORCINGS)}.")
    folder = base / "basin_mean_forcing" / forcing
    if not folder.is_dir():
        there = [p.name for p in (base / "basin_mean_forcing").iterdir() if p.is_dir()]
        raise DataError(f"{folder}: no such folder. Forcings there: {', '.join(sorted(there)) or 'none'}.")
    found = sorted(folder.glob(f"**/*_lump_{FORCINGS[forcing]}_forcing_leap.txt"))
    return {p.name.split("_")[0]: p for p in found}


def _attributes(base: Path) -> tuple[pd.DataFrame | None, list[str]]:
    for folder in (base / "camels_attributes_v2.0", base.parent / "camels_attributes_v2.0", base):
        files = sorted(folder.glob("camels_*.txt"))
        if files:
            table, said = join_tables(files, ";")
            table.index = table.index.str.zfill(8)
            return table, said
    return None, ["attributes: no folder camels_attributes_v2.0 with camels_*.txt found, none attached"]


def _other_areas(table, chosen, area: str, root) -> dict[str, float]:
    if area == "header":
        return {}
    if table is None or area not in table:
        raise DataError(f"{root}: area='{area}' is not a column of camels_*.txt; use 'header' or 'area_gages2'.")
    return {b: float(a) for b, a in table[area].reindex(chosen).items()}


def _one(base: Path, path: Path, basin: str, area: float | None, drop_estimated: bool, gaps: str) -> xr.Dataset:
    lat, elevation, header_area = _header(path)
    km2 = header_area if area is None else area
    try:
        frame = pd.read_csv(path, sep=r"\s+", skiprows=_HEADER_LINES)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CAMELS forcing file: {error}.") from error
    forcing = from_frame(frame, basin=basin, lat=lat, area=km2, source=str(path), gaps=gaps)
    flow = _streamflow(base, basin, km2, drop_estimated)
    lost = int(np.isfinite(flow["discharge"]).sum() - np.isfinite(flow["discharge"].reindex(time=forcing.time)).sum())
    said = [*notes(flow), f"area: {'header of the forcing file' if area is None else 'attribute table'}"]
    said += [f"discharge: {lost} value(s) outside the period of the forcing not used"] if lost else []
    ds = forcing.merge(
        flow.drop_vars(["area"]).reindex(time=forcing.time),
        combine_attrs="override",
        compat="override",
        join="left",
    )
    return with_notes(
        ds.assign_coords(elevation=("basin", [elevation], {"units": "m", "long_name": "mean elevation"})),
        said,
    )


def _header(path: Path) -> tuple[float, float, float]:
    """Latitude (degrees), elevation (m), area (km2) of a forcing file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [file.readline().strip() for _ in range(_HEADER_LINES)]
    try:
        lat, elevation, area = (float(line.split()[0]) for line in lines)
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{path}: the first three lines should be latitude, elevation (m) and area (m2), found {lines}."
        ) from error
    return lat, elevation, area / 1e6


def _streamflow(base: Path, basin: str, area: float, drop_estimated: bool) -> xr.Dataset:
    found = sorted((base / "usgs_streamflow").glob(f"**/{basin}_streamflow_qc.txt"))
    if not found:
        raise DataError(
            f"{base / 'usgs_streamflow'}: no {basin}_streamflow_qc.txt for basin '{basin}'. "
            "Complete the data set, or leave the basin out."
        )
    names = ["gauge", "year", "month", "day", "discharge(cfs)", "flag"]
    try:
        frame = pd.read_csv(found[0], sep=r"\s+", header=None, names=names, dtype={"gauge": str, "flag": str})
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{found[0]}: not a CAMELS streamflow file: {error}.") from error
    flags = frame["flag"].fillna("").str.strip()
    said = _flag_notes(flags)
    frame["discharge_flag"] = flags.map(FLAGS).fillna(OTHER_FLAG)
    if drop_estimated:
        out = (frame["discharge_flag"] != 0) & (frame["discharge(cfs)"] >= 0)
        frame.loc[out, "discharge(cfs)"] = np.nan
        said.append(f"discharge: {int(out.sum())} value(s) with a flag other than A left out")
    frame = frame.drop(columns=["gauge", "flag"])
    ds = from_frame(
        frame, basin=basin, area=area, extra=["discharge_flag"], source=str(found[0]), gaps="keep", said=said
    )
    ds["discharge_flag"].attrs = {
        "long_name": "quality flag of discharge", "flag_values": [0.0, 1.0, 2.0, 3.0],
        "flag_meanings": "approved estimated missing other",
    }  # fmt: skip
    return ds


def _flag_notes(flags: pd.Series) -> list[str]:
    other = flags[~flags.isin(FLAGS)]
    if other.empty:
        return []
    counts = ", ".join(f"'{f}' {n} times" for f, n in other.value_counts().items())
    return [f"discharge_flag: unknown flag {counts}, coded {OTHER_FLAG} (other); known {', '.join(FLAGS)}"]
