"""A small basin with a known truth, for the tests of figures, report and command line; a system without water."""

from pathlib import Path

import xarray as xr

from udehydro import Balance, Range, Structure, flux
from udehydro.data import planted_truth, weather
from udehydro.models import exphydro

TRAIN, TEST = "1990-06-01/1991-06-30", "1991-07-01/1992-03-31"
BUDGET = {"starts": 2, "steps": 4, "refit_steps": 2, "seeds": 2, "neural_steps": 3, "warmup_days": 100}


def dataset(days: int = 830) -> xr.Dataset:
    """Weather and the discharge that EXP-HYDRO with default parameters makes of it."""
    storage0 = {"snow": 0.0, "soil": 400.0}
    return planted_truth(
        Balance(exphydro), None, weather(days, seed=3, mean_temp=7.0), seed=1, noise=0.05, storage0=storage0
    )


def write_csv(path: Path, ds: xr.Dataset) -> Path:
    """The first basin as a table with units in its header."""
    names = ["prcp", "temp", "dayl", "discharge"]
    frame = ds[names].isel(basin=0).to_dataframe()[names]
    frame.columns = [f"{n}({ds[n].attrs['units']})" for n in names]
    frame.to_csv(path, index_label="date")
    return path


def flags(data: Path, out: Path, **more: object) -> list[str]:
    """Arguments of ``udehydro fit`` with a budget of seconds; an argument of True is a bare flag."""
    given = {"data": data, "train": TRAIN, "test": TEST, "out": out, **BUDGET, **more}
    arguments = ["fit", "--quiet"]
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        arguments += [flag] if value is True else [flag, str(value)]
    return arguments


U0 = {"x": 0.44249296, "y": 4.6280594}
"""Start of the benchmark of Rackauckas et al. (2020)."""


@flux("outside", "x", signed=True)
def growth(x, alpha):
    """Known growth of the prey, alpha x."""
    return alpha * x


@flux("y", "outside", signed=True)
def decay(y, delta):
    """Known decay of the predator, delta y."""
    return delta * y


@flux("outside", "x", signed=True)
def u_x(x, y, beta):
    """What a network is to find: -beta x y."""
    return -beta * x * y


@flux("outside", "y", signed=True)
def u_y(x, y, gamma):
    """What a network is to find: gamma x y."""
    return gamma * x * y


lotka_volterra = Structure(
    name="lotka_volterra",
    stores={"x": "1", "y": "1"},
    forcings={},
    parameters={
        "alpha": Range(0.1, 5.0, "1/d", default=1.3),
        "beta": Range(0.1, 5.0, "1/d", default=0.9),
        "gamma": Range(0.1, 5.0, "1/d", default=0.8),
        "delta": Range(0.1, 5.0, "1/d", default=1.8),
    },
    fluxes=(growth, decay, u_x, u_y),
    boundaries=("outside",),
)
"""Predator and prey, the classic test of universal differential equations; 31 samples of t in [0, 3]."""
