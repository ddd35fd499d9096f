"""Real series to try things with, from the installed package spotpy (MIT licence; Houska et al. 2015).

spotpy is only located, never imported: its import pulls in far more than two CSV files.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import xarray as xr

from ..errors import DataError
from .pet import add_day_length, add_pet
from .provenance import with_notes
from .table import read_table

FULDA_LATITUDE = 50.7
"""Latitude assumed for the Fulda basin, degrees north."""
FULDA_AREA_KM2 = 2976.0
"""Basin area assumed for the Fulda series (gauge Grebenau), km2: spotpy does not state it."""
HYMOD_AREA_KM2 = 1.783
"""Area of the small basin of spotpy's HYMOD example, km2 (spotpy documentation)."""


def fulda() -> xr.Dataset:
    """The Fulda, Germany, daily 1979 to 1988: rain, temperatures, flow; day length and Oudin PET added.

    Returns
    -------
    Dataset
        ``prcp temp tmin tmax dayl pet discharge``. Area and latitude are assumptions (`FULDA_AREA_KM2`,
        `FULDA_LATITUDE`), recorded in the notes.

    Raises
    ------
    DataError
        spotpy or pyet is not installed.
    """
    path = _spotpy("examples/cmf_data/fulda_climate.csv")
    ds = read_table(path, basin="fulda", area=FULDA_AREA_KM2, lat=FULDA_LATITUDE, time="date", dayfirst=True)
    ds = with_notes(
        ds.assign_coords(name=("basin", ["Fulda at Grebenau"])),
        [f"area {FULDA_AREA_KM2:g} km2 and latitude {FULDA_LATITUDE:g} are assumed, the source does not state them"],
    )
    return add_pet(add_day_length(ds), "oudin")


def hymod_basin() -> xr.Dataset:
    """A small German basin (1.783 km2), daily 2012 to 2016: rain, Turc PET, flow (first year without).

    Returns
    -------
    Dataset
        ``prcp pet discharge``; no temperature.
    """
    path = _spotpy("examples/hymod_python/hymod_input.csv")
    ds = read_table(path, basin="hymod", area=HYMOD_AREA_KM2, dayfirst=True)
    return with_notes(ds, [f"area {HYMOD_AREA_KM2:g} km2 from the spotpy documentation"])


def _spotpy(inside: str) -> Path:
    spec = importlib.util.find_spec("spotpy")
    if spec is None or not spec.submodule_search_locations:
        raise DataError('The demonstration data come with spotpy. Install it with: pip install "udehydro[demo]".')
    path = Path(next(iter(spec.submodule_search_locations))) / inside
    if not path.is_file():
        raise DataError(f"{path}: this version of spotpy has no such file; version 1.6.7 has it.")
    return path
