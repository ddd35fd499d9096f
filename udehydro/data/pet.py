"""Day length and potential evapotranspiration from temperature and latitude."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from ..errors import DataError
from .axis import interval_days
from .build import attributes_of
from .provenance import with_notes

METHODS = {
    "oudin": ("temp",),
    "hamon": ("temp",),
    "hargreaves": ("temp", "tmin", "tmax"),
}
_SOURCES = {
    "oudin": "Oudin et al. 2005, eq. 3",
    "hamon": "Hamon 1963, as in Oudin et al. 2005",
    "hargreaves": "Hargreaves and Samani 1982",
}


def sunset_angle(lat: np.ndarray, time) -> tuple[np.ndarray, np.ndarray]:
    """Sunset hour angle (rad; FAO-56, Allen et al. 1998, eq. 25) and solar declination (rad; eq. 24).

    Parameters
    ----------
    lat : array (basin,)
        Degrees north.
    time : array (T,)
        Dates.

    Returns
    -------
    angle : array (T, basin)
        Between 0 (polar night) and pi (midnight sun).
    declination : array (T, 1)
    """
    day = pd.DatetimeIndex(time).dayofyear.to_numpy()[:, None]
    declination = 0.409 * np.sin(2 * np.pi * day / 365 - 1.39)
    phi = np.deg2rad(np.atleast_1d(lat))[None, :]
    return np.arccos(np.clip(-np.tan(phi) * np.tan(declination), -1.0, 1.0)), declination


def day_length(lat: float | np.ndarray, time) -> np.ndarray:
    """Day length in h, FAO-56 (Allen et al. 1998) eq. 34; 0 in polar night, 24 under the midnight sun.

    Parameters
    ----------
    lat : float or array (basin,)
        Degrees north, -90 to 90.
    time : array (T,)
        Dates.

    Returns
    -------
    array ``(T,)`` for one latitude, ``(T, basin)`` for several.
    """
    hours = 24 / np.pi * sunset_angle(np.asarray(lat, dtype=float), time)[0]
    return hours[:, 0] if np.ndim(lat) == 0 else hours


def extraterrestrial_radiation(lat: float | np.ndarray, time) -> np.ndarray:
    """Daily radiation at the top of the atmosphere in MJ/m2/d, FAO-56 (Allen et al. 1998) eqs. 21 and 23.

    Shapes as in `day_length`.
    """
    angle, declination = sunset_angle(np.asarray(lat, dtype=float), time)
    day = pd.DatetimeIndex(time).dayofyear.to_numpy()[:, None]
    phi = np.deg2rad(np.atleast_1d(np.asarray(lat, dtype=float)))[None, :]
    distance = 1 + 0.033 * np.cos(2 * np.pi * day / 365)
    height = angle * np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.sin(angle)
    radiation = 24 * 60 / np.pi * 0.0820 * distance * height
    return radiation[:, 0] if np.ndim(lat) == 0 else radiation


def _latitudes(ds: xr.Dataset) -> np.ndarray:
    if "lat" not in ds.coords or not np.isfinite(ds["lat"].values.astype(float)).all():
        lost = (
            "" if "lat" not in ds.coords else f" (NaN for {', '.join(ds['basin'].values[np.isnan(ds['lat'].values)])})"
        )
        raise DataError(
            f"The latitude of the basins is needed and not known{lost}. Pass lat= to the reader, or "
            "ds.assign_coords(lat=('basin', [50.7])), degrees north."
        )
    return ds["lat"].values.astype(float)


def add_day_length(ds: xr.Dataset, *, force: bool = False) -> xr.Dataset:
    """A dataset with ``dayl`` in h from latitude and date.

    Raises
    ------
    DataError
        No latitude, or ``dayl`` is there already and ``force`` is False.
    """
    if "dayl" in ds and not force:
        raise DataError("The dataset has a day length already; force=True replaces it.")
    hours = day_length(_latitudes(ds), ds["time"].values)
    out = ds.assign(dayl=(("time", "basin"), hours, attributes_of("dayl")))
    return with_notes(out, ["dayl: computed from latitude and date (FAO-56 eq. 34)"])


def add_pet(ds: xr.Dataset, method: str = "oudin", *, force: bool = False) -> xr.Dataset:
    """A dataset with ``pet`` in mm/d, computed by the package pyet.

    Parameters
    ----------
    ds : Dataset
        With ``temp`` in degC (``hargreaves``: also ``tmin`` and ``tmax``) and the coordinate ``lat``. For
        steps shorter than a day the daily mean temperature gives the day's rate, held over the day.
    method : {"oudin", "hamon", "hargreaves"}
        Oudin et al. 2005 eq. 3; Hamon 1963; Hargreaves and Samani 1982.
    force : bool
        Replace a ``pet`` that is there.

    Raises
    ------
    DataError
        Unknown method, missing variable or latitude, tmin above tmax, or pyet not installed.
    """
    if method not in METHODS:
        raise DataError(f"PET method '{method}' is not known; use {', '.join(METHODS)}.")
    if "pet" in ds and not force:
        raise DataError("The dataset has potential evapotranspiration already; force=True replaces it.")
    absent = [n for n in METHODS[method] if n not in ds]
    if absent:
        raise DataError(
            f"PET by {method} needs {', '.join(absent)}; the dataset has {', '.join(map(str, ds.data_vars))}."
        )
    lat = _latitudes(ds)
    if method == "hargreaves" and bool((ds["tmin"] > ds["tmax"]).any()):
        raise DataError("PET by hargreaves: tmin is above tmax on some days. Mend with udehydro.data.swap_t first.")
    daily = interval_days(ds.indexes["time"]) < 1
    values = np.stack([_pet_of_basin(ds.isel(basin=b), float(lat[b]), method, daily) for b in range(len(lat))], axis=1)
    out = ds.assign(pet=(("time", "basin"), values, attributes_of("pet")))
    held = ", from daily means" if daily else ""
    return with_notes(out, [f"pet: computed by {method} ({_SOURCES[method]}; pyet){held}"])


def _pet_of_basin(ds: xr.Dataset, lat: float, method: str, daily: bool) -> np.ndarray:
    pyet = _pyet()
    time = ds.indexes["time"]
    input_ = pd.DataFrame({n: ds[n].values for n in METHODS[method]}, index=time)
    if daily:
        input_ = input_.groupby(time.normalize()).agg({n: _DAILY[n] for n in METHODS[method]})
    known = input_.dropna()
    arguments = {n if n != "temp" else "tmean": known[n] for n in METHODS[method]}
    got = getattr(pyet, method)(**arguments, lat=float(np.deg2rad(lat)))
    got = pd.Series(np.asarray(got, dtype=float), index=known.index)
    # beyond the polar circles pyet leaves the polar night undefined: no sun, no demand
    dark = day_length(lat, known.index) == 0
    got[dark] = 0.0
    days = time.normalize() if daily else time
    return got.reindex(days).to_numpy()


_DAILY = {"temp": "mean", "tmin": "min", "tmax": "max"}


def _pyet():
    try:
        import pyet
    except ImportError as error:
        raise DataError('PET needs the package pyet. Install it with: pip install "udehydro[demo]".') from error
    return pyet
