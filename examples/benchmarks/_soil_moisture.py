"""Water of a soil profile: three measured years by day, and a bucket whose two outflows are to be found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from _schwingbach_data import DEPTHS, LATE, clocked, daily
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

LAYERS = dict(zip(DEPTHS, (175.0, 150.0, 175.0), strict=True))
"""Depth [mm] that each probe stands for: half way to its neighbours, 50 cm in all."""
DEPTH = sum(LAYERS.values())
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
def weather(method: str) -> Forcing:
    """Daily rain without the storm, the storm as an event of one day, and PET of grass by pyet; batch (1,).

    Penman-Monteith as in FAO-56 (Allen et al. 1998), or Priestley and Taylor (1972), from measured radiation, humidity,
    pressure and (the first) wind.
    """
    import pyet

    day, given = daily(clocked())
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
def storage(late: int = LATE) -> Tensor:
    """Water of the upper 50 cm [mm] at midnights (T + 1, 1): medians of the 24 hours around, without brief spikes.

    NaN in the first days, where the probe at 25 cm is missing once its clock is put right by ``late`` hours.
    """
    return at_midnights(sum(layer * clocked(late)[[probe]].to_numpy() for probe, layer in LAYERS.items()))


def at_midnights(hourly: np.ndarray) -> Tensor:
    """Medians (T + 1, K) of the 24 hours around midnights, of K series by hour."""
    hours = clocked().index
    middle = pd.DataFrame(hourly, hours).rolling(25, center=True, min_periods=12).median()
    midnights = pd.date_range(hours[0], hours[-1] + pd.Timedelta("1h"), freq="D")
    return torch.as_tensor(middle.reindex(midnights, method="nearest").to_numpy())


@lru_cache
def unexplained(late: int = LATE) -> list[tuple[np.datetime64, float]]:
    """Days on which storage rose by more than the rain around, and by how many mm more; the storm among them."""
    rain = weather(METHODS[0]).values["rain"][:, 0]
    around = torch.nn.functional.pad(rain, (1, 1)).unfold(0, 3, 1).sum(-1)
    more = storage(late).diff(dim=0)[:, 0] - around
    days = weather(METHODS[0]).time.astype("datetime64[D]")
    return [(days[k], float(more[k])) for k in (more > RISE).nonzero()[:, 0].tolist()]


@lru_cache
def trusted(late: int = LATE) -> Tensor:
    """Storage [mm] (T + 1, 1), NaN at the midnights that follow an unexplained rise."""
    seen, days = storage(late).clone(), weather(METHODS[0]).time.astype("datetime64[D]")
    for day, _ in unexplained(late):
        k = int(np.searchsorted(days, day))
        seen[k + 1 : k + 1 + HIDDEN] = torch.nan
    return seen


@dataclass(frozen=True)
class Setting:
    """What is not a law: the method for PET, how rain and what probes show are read (:data:`READINGS`), and by how
    many hours the clock of the probe at 25 cm is put right."""

    pet: str
    reading: str
    late: int = LATE

    def task(self, period: tuple[str, str], error: Gaussian | None = None) -> Task:
        """Storage from the first day of the record to the last of a period, with independent errors by default."""
        record = weather(self.pet)
        record = record.isel(slice(0, record.between(*period).stop))
        start = {n: r.default for n, r in bucket.parameters.items()} | {"soil": float(first_known(storage(self.late)))}
        start |= dict.fromkeys(READINGS[self.reading], 0.6)
        seen = Observed("soil", trusted(self.late)[: len(record) + 1], error or Gaussian(SIGMA))
        ranges = {"soil": Range(50.0, 250.0, "mm", 150.0)}
        return Task(record, [seen], start, (*FREE, *READINGS[self.reading]), None, SOLVER, ranges)


def first_known(series: Tensor) -> Tensor:
    """The first of a series (T, 1) that is not NaN."""
    return series[~series.isnan()][0]


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
    seen = storage()[: weather(METHODS[0]).between(*TRAIN).stop, 0]
    known = ~seen.isnan()
    apart = (days[:, None] - days[: len(seen)][known]).abs()
    near = (torch.minimum(apart, 365 - apart) <= 15).to(torch.float64)
    return near @ seen[known] / near.sum(1)
