"""Forecasts of 1 to 10 days from 4D-Var analyses, and what they have to beat; settings chosen before the test."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from itertools import product

import numpy as np
import xarray as xr
from _assimilation_basins import MODEL, Basins
from bucket_and_hybrids import TEST, TRAIN, VALID
from tqdm import tqdm

from udehydro import Simulation
from udehydro.assimilation import Background, Windows, assimilate, error_correlation, flow_error, forecast, skill

LEADS, FLOOR, BLOCK = 10, 0.1, 5
WARMUP = 365


@dataclass(frozen=True)
class Setting:
    """Days of a window; standard deviations of storages as a share of those over the years, of the logarithm of rain
    multipliers, and of flow as a share of it."""

    past: int
    storage: float
    rain: float
    flow: float

    def __str__(self) -> str:
        return f"{self.past} d, {self.storage}, {self.rain}, {self.flow}"


GRID = [Setting(*s) for s in product((1, 3, 10, 30), (0.1, 0.3, 1.0, 3.0), (0.2, 0.4), (0.15, 0.3))]


@dataclass(frozen=True)
class Stage:
    """One use of the basins: parameters, the years all sizes of errors come from, dates of issue."""

    which: str
    known: tuple[str, str]
    period: tuple[str, str]
    every: int

    @property
    def issued(self) -> np.ndarray:
        """All observations compared lie within the period."""
        first, last = (np.datetime64(d, "D") for d in self.period)
        return np.arange(first, last - LEADS + 2, self.every, dtype="datetime64[D]")


CHOOSE = Stage("before", (TRAIN[0], str(np.datetime64(VALID[0]) - 1)), VALID, 5)
JUDGE = Stage("refitted", TRAIN, TEST, 1)


def scores(basins: Basins, stage: Stage, setting: Setting, run: Simulation, progress: str | None = None) -> xr.Dataset:
    """Skill of all forecasts of a stage; ``run`` is the open loop over the record until its end."""
    observed = basins.observed[: len(run.forcing)]
    known = slice(WARMUP, run.forcing.between(*stage.known).stop)
    usual = run.storage[known].std(0)
    sd = {n: setting.storage * usual[:, i].clamp_min(1.0) for i, n in enumerate(MODEL.store_names)}
    correlation = error_correlation(run.discharge[known], observed[known]).clamp_min(0.0)
    windows = Windows(run.forcing, stage.issued, setting.past, LEADS)
    past, ahead = windows.cut(observed)
    background = Background(windows.start(run.storage), sd, {"prcp": setting.rain}, block=BLOCK)
    errors = flow_error(past, setting.flow, FLOOR * observed[known].nanmean(0))
    theta = basins.theta(stage.which)
    found = assimilate(MODEL, windows.before, past, background, errors, theta=theta, steps=60, progress=progress)
    result = skill(forecast(found, windows.after, correlation=correlation), ahead)
    return result.assign(converged=("basin", found.converged.double().mean(0).numpy()))


def gain(found: xr.Dataset, kind: str = "4D-Var") -> np.ndarray:
    """Logarithm of the root mean square error by that of the open loop (lead, basin): below zero is better."""
    ratio = found.rmse.sel(forecast=kind) / found.rmse.sel(forecast="open loop")
    return np.log(ratio).transpose("lead", "basin").values


def choose(basins: Basins) -> dict:
    """Gain of every setting by basin, mean over leads (settings, basins), on the years that were left for choosing."""
    run = basins.open_loop(CHOOSE.which, CHOOSE.period[1])
    found = [gain(scores(basins, CHOOSE, s, run)).mean(0).tolist() for s in tqdm(GRID, desc="settings", leave=False)]
    return {"grid": [list(astuple(s)) for s in GRID], "gain": found}


def chosen(found: dict) -> tuple[Setting, list[Setting]]:
    """The setting that is best over all basins, and the best of each basin."""
    gains, grid = np.array(found["gain"]), [Setting(*s) for s in found["grid"]]
    return grid[int(gains.mean(1).argmin())], [grid[i] for i in gains.argmin(0)]


def judge(basins: Basins, found: dict) -> dict[str, dict]:
    """Opens the test years, with the setting of each basin and with one for all."""
    one, own = chosen(found)
    run = basins.open_loop(JUDGE.which, JUDGE.period[1])
    common = scores(basins, JUDGE, one, run, "test years, one setting")
    parts, order = [], []
    for setting in dict.fromkeys(own):
        index = [i for i, s in enumerate(own) if s == setting]
        some = basins.take(index)
        open_loop = some.open_loop(JUDGE.which, JUDGE.period[1])
        parts.append(scores(some, JUDGE, setting, open_loop, f"test years, {setting}"))
        order += index
    each = xr.concat(parts, dim="basin").isel(basin=np.argsort(order))
    return {"one": common.to_dict(), "own": each.to_dict()}
