"""Schwingbach: hourly weather and soil moisture at 10, 25 and 40 cm, with the clock of the middle probe put right."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from _report import SHARED
from torch import Tensor

from udehydro import Forcing

DEPTHS = (10.0, 25.0, 40.0)
LATE, MOST = 140, 240
"""Hours by which the clock of the probe at 25 cm is early (see :func:`lags`), and the largest lag that is tried."""
HOURS = 3
"""Length of an interval."""
STORM, SUDDEN = 240.0, 120.0
"""Rain [mm/d] beyond which an hour counts as doubtful and is cut (two of 2014-07-24), and beyond which an hour between
dry ones counts as an error of the gauge if no probe has felt it (see :func:`silent`)."""
SITE = {"elevation": 240.0, "lat": math.radians(50.5)}
SIGMA = 0.005
"""Standard deviation that an error of a probe is said to have: readings go up and down by that without any rain."""
TABLES = ("forcing", "soil_moisture")
PERIODS = {
    "fit": ("2015-10-05", "2015-11-29"),
    "validation": ("2015-12-05", "2016-01-31"),
    "test": ("2016-10-01", "2016-12-31"),
}
"""First and last days: autumn and winter, when little evaporates and roots rest."""


@lru_cache
def raw() -> pd.DataFrame:
    """Weather and moisture by hour as they are stored; columns of moisture are depths [cm]."""
    folder = SHARED / "schwingbach"
    if not folder.exists():
        raise SystemExit(f"This benchmark needs the Schwingbach tables in {folder}, which are not there.")
    weather, moisture = (pd.read_csv(folder / f"{n}_hourly.csv.gz", index_col=0, parse_dates=True) for n in TABLES)
    moisture.columns = DEPTHS
    return weather.join(moisture)


@lru_cache
def clocked(late: int = LATE) -> pd.DataFrame:
    """The same on one clock: the probe at 25 cm so many hours later, which leaves out its first (0: as stored)."""
    table = raw().copy()
    table[DEPTHS[1]] = table[DEPTHS[1]].shift(late)
    return table


def daily(table: pd.DataFrame) -> tuple[pd.DataFrame, dict]:
    """Means of days, and what pyet needs beside their temperature."""
    day, air = table.resample("D").mean(), table["airtemp_degC"].resample("D")
    given = dict(
        rs=0.0864 * day["solarrad_Wm2"], tmax=air.max(), tmin=air.min(), rh=day["relhum_perc"],
        pressure=0.1 * day["airpressure_hPa"], **SITE,
    )  # fmt: skip
    return day, given


@lru_cache
def hourly() -> pd.DataFrame:
    """The same with doubtful rain cut, and with PET of grass [mm/d] by Priestley and Taylor (1972): that of a
    day (pyet), in its hours like radiation."""
    import pyet

    table = clocked().copy()
    table["rain_mmday"] = table["rain_mmday"].clip(upper=STORM).where(~silent(table), 0.0)
    (day, given), sun = daily(table), table["solarrad_Wm2"]
    pet = pyet.priestley_taylor(day["airtemp_degC"], **given).clip(lower=0.0)
    share = sun / sun.resample("D").transform("mean")
    table["pet_mmday"] = pet.reindex(table.index, method="ffill") * share.fillna(1.0)
    return table


def silent(table: pd.DataFrame) -> pd.Series:
    """Hours of heavy rain, dry before and after, behind which no probe rises by more than its noise in a day."""
    rain, rise = table["rain_mmday"], pd.Series(0.0, table.index)
    for depth in DEPTHS:
        later = table[depth][::-1].rolling(24, min_periods=1).max()[::-1]
        rise = np.maximum(rise, later - table[depth].shift(1))
    return (rain > SUDDEN) & (rain.shift(1) == 0.0) & (rain.shift(-1) == 0.0) & (rise < SIGMA)


@dataclass(frozen=True)
class Record:
    """Weather of T intervals, mm/d, and readings (T + 1, 3) at their edges."""

    weather: Forcing
    theta: Tensor

    @property
    def edges(self) -> np.ndarray:
        return self.weather.time_edge

    @property
    def days(self) -> np.ndarray:
        """Since the start (T + 1,)."""
        return (self.edges - self.edges[0]) / np.timedelta64(1, "D")

    @property
    def rain(self) -> np.ndarray:
        """cm in each interval."""
        return 0.1 * (self.weather.values["rain"] * self.weather.days).numpy()


def record(first: str, last: str, hours: int = HOURS) -> Record:
    """From the first hour of a day to the last of another, in intervals of some hours; readings are means of the
    interval around an edge."""
    table, step = hourly(), f"{hours}h"
    part = table.loc[first:last]
    mean = part[["rain_mmday", "pet_mmday"]].resample(step).mean()
    edges = pd.date_range(mean.index[0], periods=len(mean) + 1, freq=step)
    around = table[list(DEPTHS)].rolling(hours, center=True, min_periods=1).mean().reindex(edges)
    series = {"rain": mean["rain_mmday"], "pet": mean["pet_mmday"]}
    values = {n: torch.as_tensor(v.to_numpy(), dtype=torch.float64) for n, v in series.items()}
    return Record(Forcing(values, dict.fromkeys(values, "mm/d"), edges.to_numpy()), torch.as_tensor(around.to_numpy()))


def period(name: str) -> Record:
    return record(*PERIODS[name])


def whole() -> Record:
    """Fitting and validation together; between them, where water stood at 40 cm, readings are missing."""
    here = record(PERIODS["fit"][0], PERIODS["validation"][1])
    gap = (here.edges > np.datetime64(PERIODS["fit"][1]) + 1) & (here.edges < np.datetime64(PERIODS["validation"][0]))
    return replace(here, theta=here.theta.masked_fill(torch.as_tensor(gap)[:, None], torch.nan))


def as_stored(here: Record) -> Record:
    """With the clock of 25 cm as it is in the file."""
    stored = raw()[DEPTHS[1]].reindex(here.edges).to_numpy()
    theta = here.theta.clone()
    theta[:, 1] = torch.as_tensor(stored)
    return replace(here, theta=theta)


def rises(series: pd.Series, least: float = 0.0015) -> pd.Series:
    """How much rises by more than the noise, as a root, over seven hours: what lags are found by."""
    up = series.diff()
    return np.sqrt(up.where(up > least, 0.0)).rolling(7, center=True, min_periods=1).mean()


def lags(first: str, last: str) -> dict[float, tuple[int, float, float]]:
    """By depth: hours by which its rises follow those of rain, their correlation at this lag, and without a lag."""
    table, found = raw(), {}
    rain = np.sqrt(table["rain_mmday"].clip(upper=STORM)).rolling(7, center=True, min_periods=1).mean()
    for depth in DEPTHS:
        up, hours = rises(table[depth]), np.arange(-MOST, MOST + 1)
        r = np.array([up.shift(-h)[first:last].corr(rain[first:last]) for h in hours])
        found[depth] = (int(hours[r.argmax()]), float(r.max()), float(r[MOST]))
    return found
