"""Weather out of a seeded generator, for tests and for experiments with a known truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from ..errors import DataError
from .build import assemble
from .pet import day_length, extraterrestrial_radiation


def weather(
    days: int,
    *,
    seed: int,
    lat: float | Sequence[float] = 45.0,
    mean_temp: float = 8.0,
    seasonal_amplitude: float = 12.0,
    wet_probability: float = 0.45,
    wet_persistence: float = 0.25,
    mean_wet_rain: float = 6.0,
    start: str = "1990-01-01",
    basins: Sequence[str] = ("synthetic",),
    step_hours: float = 24.0,
) -> xr.Dataset:
    """Daily or sub-daily weather: Markov chain rain, autoregressive temperature with a season, Oudin PET.

    Rain: two states, wet and dry, first-order Markov; exponential amounts on wet steps (Richardson 1981).
    Temperature: a cosine over the year (coldest in January in the north), plus AR(1) noise of 3 K with a
    memory of 2 d, plus for sub-daily steps a cosine over the day. PET: Oudin et al. 2005, eq. 3.

    Parameters
    ----------
    days : int
        Length of the record, d.
    seed : int
    lat : float or sequence
        Degrees north, one or one per basin.
    mean_temp, seasonal_amplitude : float
        degC; half the difference between the warmest and the coldest day.
    wet_probability : float
        Fraction of wet steps, in (0, 1).
    wet_persistence : float
        Correlation of the state from day to day, in [0, 1).
    mean_wet_rain : float
        Mean rain on a wet step, mm/d.
    start : str
    basins : sequence of str
        Each has weather of its own.
    step_hours : float
        Divides 24.

    Returns
    -------
    Dataset
        ``prcp temp tmin tmax pet dayl``, dims ``(time, basin)``.
    """
    _check(days, wet_probability, wet_persistence, mean_wet_rain, step_hours)
    rng = np.random.default_rng(seed)
    per_day = round(24 / step_hours)
    shape = (days * per_day, len(basins))
    time = pd.date_range(start, periods=shape[0], freq=pd.Timedelta(hours=step_hours))
    lats = np.broadcast_to(np.asarray(lat, dtype=float), (len(basins),))
    wet = _wet(rng, shape, wet_probability, wet_persistence ** (1 / per_day))
    rain = np.where(wet, rng.exponential(mean_wet_rain, shape), 0.0)
    daily = _daily_temperature(rng, days, time[::per_day], lats, mean_temp, seasonal_amplitude)
    spread = np.abs(rng.normal(8.0, 2.0, daily.shape)) + 1.0  # K, between tmin and tmax
    hours = (time.hour + time.minute / 60).to_numpy()[:, None]
    cycle = -0.5 * np.cos(2 * np.pi * (hours - 3) / 24) if per_day > 1 else np.zeros((shape[0], 1))
    mean, swing = np.repeat(daily, per_day, axis=0), np.repeat(spread, per_day, axis=0)
    variables = {
        "prcp": rain,
        "temp": mean + swing * cycle,
        "tmin": mean - swing / 2,
        "tmax": mean + swing / 2,
        "pet": oudin(mean, lats, time),
        "dayl": day_length(lats, time),
    }
    said = [f"synthetic weather, seed {seed}; pet: Oudin et al. 2005 eq. 3 on daily mean temperature"]
    return assemble(variables, time, basins, source="synthetic", coords={"lat": lats}, said=said)


def oudin(temp: np.ndarray, lat: np.ndarray, time) -> np.ndarray:
    """Potential evapotranspiration in mm/d: Ra (T + 5) / (100 lambda), 0 below -5 degC.

    Oudin et al. 2005, eq. 3.

    Parameters
    ----------
    temp : array (T, basin)
        Daily mean, degC.
    lat : array (basin,)
        Degrees north.
    time : array (T,)
    """
    latent_heat = 2.45  # MJ/kg, the constant of the paper
    return extraterrestrial_radiation(lat, time) / latent_heat * np.maximum(temp + 5.0, 0.0) / 100.0


def _check(days, wet_probability, wet_persistence, mean_wet_rain, step_hours) -> None:
    if days < 1:
        raise DataError(f"weather: days={days} has to be at least 1.")
    if not 0 < wet_probability < 1 or not 0 <= wet_persistence < 1:
        raise DataError("weather: wet_probability lies in (0, 1) and wet_persistence in [0, 1).")
    if mean_wet_rain <= 0:
        raise DataError(f"weather: mean_wet_rain={mean_wet_rain} has to be positive, mm/d.")
    if step_hours <= 0 or abs(24 / step_hours - round(24 / step_hours)) > 1e-9:
        raise DataError(f"weather: step_hours={step_hours} has to divide 24.")


def _wet(rng: np.random.Generator, shape, fraction: float, persistence: float) -> np.ndarray:
    """Two-state chain of wet fraction p and lag-1 correlation r: P(wet | state) = p + r (state - p)."""
    uniform = rng.random(shape)
    wet = np.empty(shape, dtype=bool)
    wet[0] = uniform[0] < fraction
    for step in range(1, shape[0]):
        wet[step] = uniform[step] < fraction + persistence * (wet[step - 1] - fraction)
    return wet


def _daily_temperature(rng, days: int, time, lats, mean: float, amplitude: float) -> np.ndarray:
    memory, noise = np.exp(-1 / 2.0), 3.0
    shocks = rng.normal(0.0, noise * np.sqrt(1 - memory**2), (days, len(lats)))
    wander = np.empty_like(shocks)
    wander[0] = rng.normal(0.0, noise, len(lats))
    for day in range(1, days):
        wander[day] = memory * wander[day - 1] + shocks[day]
    season = -np.cos(2 * np.pi * (time.dayofyear.to_numpy() - 20) / 365.25)[:, None]
    return mean + amplitude * season * np.where(lats < 0, -1.0, 1.0)[None, :] + wander
