"""``udehydro richards example``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import typer

from udehydro.cli import options as o
from udehydro.cli.richards.table import HPA
from udehydro.cli.simulate import new_folder
from udehydro.files import write_atomic
from udehydro.forcing import Forcing
from udehydro.richards.column import Adaptive, Atmospheric, Column, FreeDrainage, Grid, flow
from udehydro.richards.inversion.observed import weights
from udehydro.richards.laws import VanGenuchten

FILES = ("soil.yaml", "weather.csv", "logger.csv")
SOIL = {"theta_r": 0.06, "theta_s": 0.42, "alpha": 0.04, "n": 2.2, "Ks": 20.0}
"""The soil that the readings are made with."""
START, DEPTH, STEP = -80.0, 40.0, np.timedelta64(2, "h")
MOISTURE, TENSIOMETER = (5.0, 15.0, 25.0, 35.0), 10.0
NOISE = {"theta": 0.005, "psi": 0.03}
FILE = """\
# Four days in 40 cm of soil under two storms, with four moisture sensors and a tensiometer.
# Lengths are in cm, times in d, unless a unit says otherwise; heads are negative in unsaturated soil.
# The readings are made up: theta_r 0.06, theta_s 0.42, alpha 0.04 1/cm, n 2.2, Ks 20 cm/d, from -80 cm on.

grid: {depth: 40, cells: 20}

soil:                       # layers from the surface down; the last may leave out its thickness
  - law: van_genuchten
    theta_r: 0.06
    theta_s: {free: 0.45}   # to be found, from this start; limits (low:, high:) are those of the law
    alpha: {free: 0.08}     # 1/cm
    n: {free: 1.8}
    Ks: {free: 60}          # cm/d

top: {kind: atmospheric, rain: rain, evaporation: evaporation, pond: 0.5}   # columns of the weather
bottom: free_drainage
start:                      # a line between two heads that nobody knows
  psi: {free: [-150, -150], low: -5000, high: -1}
  at: [0, 40]

weather:                    # rows are starts of intervals
  file: weather.csv

sensors:
  - file: logger.csv
    tolerance: 10min        # readings this far from the start of an interval count as taken there
    columns:
      moisture 5 cm: {kind: theta, depth: 5, sigma: 0.5}     # sigma in the unit of the column, here %
      moisture 15 cm: {kind: theta, depth: 15, sigma: 0.5}
      moisture 25 cm: {kind: theta, depth: 25, sigma: 0.5}
      moisture 35 cm: {kind: theta, depth: 35, sigma: 0.5}
      tensiometer: {kind: suction, depth: 10, sigma: 3%, valid: [0, 850]}   # beyond, air enters the cup

tolerance: 1e-3             # of steps in time, in water content
"""


FOLDER = typer.Argument(..., metavar="DIR", help=f"Folder for {', '.join(FILES)}.")


def command(
    folder: Path = FOLDER,
    seed: int = typer.Option(0, "--seed", min=0, help="Draws the errors of the readings."),
    overwrite: bool = o.OVERWRITE,
) -> None:
    """Write a soil file with weather and a logger's readings, to run at once and to begin one's own from.

    The readings come from the column itself, with errors, and with what loggers do: times a little off, a row out of
    order, a row twice, a reading that is missing.
    """
    target = new_folder(folder, overwrite, FILES)
    rows, forcing = _weather()
    write_atomic(target / "weather.csv", rows.to_csv(index=False))
    write_atomic(target / "logger.csv", _readings(forcing, np.random.default_rng(seed)).to_csv(index=False))
    write_atomic(target / "soil.yaml", FILE)
    print(f"Written to {target}: {', '.join(FILES)}\n\nNext:")
    print(f"  udehydro richards run {target / 'soil.yaml'} --out out/run")
    print(f"  udehydro richards gauge {target / 'soil.yaml'}")
    print(f"  udehydro richards learn {target / 'soil.yaml'} --out out/learned")


def _weather() -> tuple[pd.DataFrame, Forcing]:
    """Two storms in four days, as rows of a file and as forcing."""
    time = np.datetime64("2021-06-01T00:00") + STEP * np.arange(48)
    rain, evaporation = np.zeros(len(time)), np.full(len(time), 2.0)
    rain[3:6], rain[27:30] = 6.0, 5.0  # mm/h
    rows = {"time": time.astype(str), "rain (mm/h)": rain, "evaporation (mm/d)": evaporation}
    values = {"rain": torch.as_tensor(2.4 * rain), "evaporation": torch.as_tensor(0.1 * evaporation)}
    forcing = Forcing(values, dict.fromkeys(values, "cm/d"), np.append(time, time[-1] + STEP))
    return pd.DataFrame(rows), forcing


def _readings(forcing: Forcing, noise: np.random.Generator) -> pd.DataFrame:
    """What a logger wrote: per cent and hPa of suction, with its troubles."""
    top = Atmospheric("rain", "evaporation", pond=0.5)
    column = Column(Grid.uniform(DEPTH, 40), VanGenuchten(), top, FreeDrainage())
    run = flow(column, forcing, SOIL, START, steps=Adaptive(1e-4))
    edges = forcing.time_edge
    theta = (run.theta @ weights(column, MOISTURE, 0.0).T).numpy()
    psi = (run.psi @ weights(column, (TENSIOMETER,), 0.0).T).numpy()
    theta = 100.0 * (theta + NOISE["theta"] * noise.standard_normal(theta.shape))
    suction = -psi * np.exp(NOISE["psi"] * noise.standard_normal(psi.shape)) / HPA
    off = noise.integers(-60, 61, len(edges)).astype("timedelta64[s]")
    frame = pd.DataFrame({"time": (edges + off).astype("datetime64[s]").astype(str)})
    for d, series in zip(MOISTURE, theta.T, strict=True):
        frame[f"moisture {d:g} cm (%)"] = series.round(2)
    frame["tensiometer (hPa)"] = suction[:, 0].round(1)
    frame.loc[9, "moisture 15 cm (%)"] = -9999.0
    order = np.r_[0:20, 21, 20, 22:33, 32, 33 : len(frame)]  # a row out of order, a row twice
    return frame.iloc[order]
