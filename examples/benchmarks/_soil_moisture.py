"""Water of a soil profile: three measured years by day, and a bucket whose two outflows are to be found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from _report import SHARED
from torch import Tensor

from udehydro import Balance, Forcing, Fraction, Positive, Range, Structure, flux, quantity
from udehydro.discovery import Candidate, Task, Union, outflows, shares
from udehydro.discovery.library import OUTFLOWS, SHAPES
from udehydro.laws import SmallNetwork
from udehydro.laws.smooth import excess, saturation
from udehydro.solvers import SDIRK2, Compiled
from udehydro.structure import ATMOSPHERE, OUTLET
from udehydro.training import Gaussian, Observed, kge, nse
from udehydro.training.metrics import rmse

LAYERS = {"10cm": 175.0, "25cm": 150.0, "40cm": 175.0}
"""Depth [mm] that each probe stands for: half way to its neighbours, 50 cm in all."""
DEPTH = sum(LAYERS.values())
LATITUDE, ELEVATION = 50.5, 240.0
"""Degrees north, and metres: those of the groundwater level measured beside."""
TABLES = ("forcing", "soil_moisture")
STORM = "2014-07-24"
FIT, VALID = ("2014-01-01", "2015-06-30"), ("2015-07-01", "2015-12-31")
TRAIN, TEST = ("2014-01-01", "2015-12-31"), ("2016-01-01", "2016-12-31")
METHODS = ("Penman-Monteith", "Priestley-Taylor")
RISE, HIDDEN = 3.0, 3
"""A rise of storage is unexplained where it exceeds the rain of that day and both neighbours by so many mm; so many
midnights from it on are not fitted to."""
SIGMA = 2.0
"""Error of storage [mm] before residuals say better."""
S = "saturation(available, smax)"
SOLVER = Compiled(SDIRK2)


@quantity(unit="mm")
def available(soil, residual):
    """Water above what plants and drainage leave behind."""
    return (soil - residual).clamp_min(0.0)


@quantity(unit="mm/d")
def demand(pet, gain):
    """PET as the probes would see it taken out."""
    return gain * pet


@flux(ATMOSPHERE, "soil")
def infiltration(rain, share, gain, storm, amount):
    """Rain that the profile gets, as the probes see it; of the doubtful storm this is fitted."""
    return gain * share * rain + storm * amount


@flux("soil", ATMOSPHERE)
def et(demand, available, smax):
    """To be found."""
    return demand * saturation(available, smax)


@flux("soil", OUTLET)
def drainage(available, smax):
    """To be found."""
    return 5.0 * saturation(available, smax)


@flux("soil", OUTLET)
def overflow(available, smax, tau):
    """What is above capacity leaves within a day."""
    return excess(available, smax) / tau


bucket = Structure(
    name="soil profile",
    stores={"soil": "mm"},
    forcings={"rain": "mm/d", "storm": "1/d", "pet": "mm/d"},
    parameters={
        "residual": Range(0.0, 110.0, "mm", default=90.0),
        "smax": Range(10.0, 400.0, "mm", default=60.0),
        "share": Range(0.1, 1.0, "1", default=1.0),
        "gain": Range(0.1, 1.5, "1", default=1.0),
        "amount": Range(0.0, 160.0, "mm", default=30.0),
        "tau": Range(0.005, 1.0, "d", default=1.0, fixed=True),
    },
    quantities=(available, demand),
    fluxes=(infiltration, et, drainage, overflow),
)
FREE = ("residual", "smax", "amount", "soil")
READINGS = {"face value": (), "share of rain": ("share",), "gain": ("gain",)}
"""What is fitted besides: nothing; how much of the rain the profile gets; by how much probes change per mm of water."""
NAMES = (tuple(SHAPES), (*OUTFLOWS, "quadratic"))
"""Names of the terms of both libraries, in their order."""
LINEAR: Candidate = ((0,), (0,))


@lru_cache
def hybrid() -> Balance:
    """Networks (1-3-1) of the water content for the share of PET that is met, and for drainage."""
    like = {"hidden": (3,), "scale": {"soil": (145.0, 15.0)}}
    return Balance(
        bucket, et=SmallNetwork("soil", name="met", output=Fraction("demand"), **like),
        drainage=SmallNetwork("soil", name="drain", output=Positive(2.0), **like),
    )  # fmt: skip


@lru_cache
def union() -> Union:
    """All 9 x 7 pairs of laws."""
    return Union(bucket, {"et": shares("demand", S), "drainage": outflows(S, Range(0.01, 200.0, "mm/d", 5.0))})


@lru_cache
def hourly() -> pd.DataFrame:
    """Weather and moisture by hour."""
    folder = SHARED / "schwingbach"
    if not folder.exists():
        raise SystemExit(f"This benchmark needs the Schwingbach tables in {folder}, which are not there.")
    read = {n: pd.read_csv(folder / f"{n}_hourly.csv.gz", index_col=0, parse_dates=True) for n in TABLES}
    return read[TABLES[0]].join(read[TABLES[1]])


@lru_cache
def weather(method: str) -> Forcing:
    """Daily rain without the storm, the storm as an event of one day, and PET of grass by pyet; batch (1,).

    Penman-Monteith as in FAO-56 (Allen et al. 1998), or Priestley and Taylor (1972), from measured radiation, humidity,
    pressure and (the first) wind.
    """
    import pyet

    table = hourly()
    day = table.resample("D").mean()
    air = table["airtemp_degC"].resample("D")
    given = dict(
        rs=0.0864 * day["solarrad_Wm2"], tmax=air.max(), tmin=air.min(), rh=day["relhum_perc"],
        pressure=0.1 * day["airpressure_hPa"], elevation=ELEVATION, lat=math.radians(LATITUDE),
    )  # fmt: skip
    if method == "Penman-Monteith":
        pet = pyet.pm_fao56(day["airtemp_degC"], day["windspeed_ms"], **given)
    else:
        pet = pyet.priestley_taylor(day["airtemp_degC"], **given)
    storm = day.index == STORM
    series = {"rain": np.where(storm, 0.0, day["rain_mmday"]), "storm": storm.astype(float), "pet": pet.to_numpy()}
    edges = pd.date_range(day.index[0], periods=len(day) + 1).to_numpy()
    values = {n: torch.as_tensor(v, dtype=torch.float64)[:, None] for n, v in series.items()}
    return Forcing(values, bucket.forcings, edges, ("Schwingbach",))


@lru_cache
def storage() -> Tensor:
    """Water of the upper 50 cm [mm] at midnights (T + 1, 1): medians of the 24 hours around, without brief spikes."""
    table = hourly()
    water = sum(depth * table[f"soil_moisture_{probe}"] for probe, depth in LAYERS.items())
    middle = water.rolling(25, center=True, min_periods=12).median()
    midnights = pd.date_range(table.index[0], table.index[-1] + pd.Timedelta("1h"), freq="D")
    return torch.as_tensor(middle.reindex(midnights, method="nearest").to_numpy())[:, None]


@lru_cache
def unexplained() -> list[tuple[np.datetime64, float]]:
    """Days on which storage rose by more than the rain around, and by how many mm more; the storm among them."""
    rain = weather(METHODS[0]).values["rain"][:, 0]
    around = torch.nn.functional.pad(rain, (1, 1)).unfold(0, 3, 1).sum(-1)
    more = storage().diff(dim=0)[:, 0] - around
    days = weather(METHODS[0]).time.astype("datetime64[D]")
    return [(days[k], float(more[k])) for k in (more > RISE).nonzero()[:, 0].tolist()]


@lru_cache
def trusted() -> Tensor:
    """Storage [mm] (T + 1, 1), NaN at the midnights that follow an unexplained rise."""
    seen, days = storage().clone(), weather(METHODS[0]).time.astype("datetime64[D]")
    for day, _ in unexplained():
        k = int(np.searchsorted(days, day))
        seen[k + 1 : k + 1 + HIDDEN] = torch.nan
    return seen


@dataclass(frozen=True)
class Setting:
    """What is not a law: the method for PET, and how rain and what probes show are read (:data:`READINGS`)."""

    pet: str
    reading: str

    def task(self, period: tuple[str, str], error: Gaussian | None = None) -> Task:
        """Storage from the first day of the record to the last of a period, with independent errors by default."""
        record = weather(self.pet)
        record = record.isel(slice(0, record.between(*period).stop))
        start = {n: r.default for n, r in bucket.parameters.items()} | {"soil": float(storage()[0])}
        start |= dict.fromkeys(READINGS[self.reading], 0.6)
        seen = Observed("soil", trusted()[: len(record) + 1], error or Gaussian(SIGMA))
        ranges = {"soil": Range(50.0, 250.0, "mm", 150.0)}
        return Task(record, [seen], start, (*FREE, *READINGS[self.reading]), None, SOLVER, ranges)


def named(pair: Candidate) -> str:
    """Names of a pair of laws."""
    return ", ".join(names[c[0]] for names, c in zip(NAMES, pair, strict=True))


def scores(series: Tensor) -> dict[str, float]:
    """RMSE [mm], NSE and KGE of storage (T + 1,) in the test year; RMSE without the days after unexplained rises."""
    part = weather(METHODS[0]).between(*TEST)
    simulated, seen, kept = (x[1:][part] for x in (series, storage()[:, 0], trusted()[:, 0]))
    found = {n: float(f(simulated, seen)) for n, f in {"rmse": rmse, "nse": nse, "kge": kge}.items()}
    return found | {"explained": float(rmse(simulated, kept))}


def climatology() -> Tensor:
    """Mean storage [mm] (T + 1,) of the date in 2014 and 2015, over 31 days around."""
    days = torch.as_tensor(pd.DatetimeIndex(weather(METHODS[0]).time_edge).dayofyear.to_numpy())
    part = days[: weather(METHODS[0]).between(*TRAIN).stop], storage()[:, 0]
    apart = (days[:, None] - part[0]).abs()
    near = (torch.minimum(apart, 365 - apart) <= 15).to(torch.float64)
    return near @ part[1][: len(part[0])] / near.sum(1)
