"""What all contestants solve: daily discharge of CAMELS basins, and the gradient of its mean squared error."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
import torch
from _report import camels
from torch import Tensor

from udehydro import Balance, Forcing, Fraction, NeuralLaw, Positive, simulate
from udehydro.data import read
from udehydro.models import exphydro, gr4j, hbv
from udehydro.training.teach import teach

FORCINGS = ("prcp", "temp", "dayl")
COLUMNS = {"f": "f", "smax": "Smax", "qmax": "Qmax", "ddf": "Df", "tmax": "Tmax", "tmin": "Tmin"}
STORAGES = ["S0_init_mm", "S1_init_mm"]
FIRST = "01013500"
HIDDEN = (32, 32)
TEACHER_DAYS, TEACHER_STEPS = 1461, 300
CHOSEN = {"gr4j": {"x4": 12.0, "x2": -0.5}}
"""A cascade slow enough for explicit steps of a day."""
STARTS = {"hbv": {"soil": 100.0, "upper": 5.0, "lower": 20.0}, "gr4j": {"production": 175.0, "routing": 45.0}}
WIDTH = exphydro.parameters["width"].default


@dataclass(frozen=True)
class Task:
    """Discharge from forcing, and the mean squared error of discharge with its gradient.

    Attributes
    ----------
    forcing : prcp, temp, dayl (T, B).
    theta : parameters the model needs, (B,) each.
    storage0 : (B, 2) snow and soil at the start [mm].
    observed : (T, B) [mm/d].
    """

    name: str
    model: Balance
    forcing: Forcing
    theta: dict[str, Tensor]
    storage0: Tensor
    observed: Tensor

    @property
    def days(self) -> int:
        return len(self.forcing)

    @property
    def basins(self) -> int:
        return self.observed.shape[1]

    @property
    def neural(self) -> bool:
        return len(self.model.laws) > 0

    def first(self, days: int) -> Task:
        """The same task on the first days of the record."""
        if days >= self.days:
            return self
        return replace(self, forcing=self.forcing.isel(slice(0, days)), observed=self.observed[:days])

    def arrays(self) -> dict[str, np.ndarray]:
        """Forcing and observed discharge (T, B) as NumPy arrays."""
        return {n: self.forcing.values[n].numpy() for n in FORCINGS} | {"observed": self.observed.numpy()}

    def networks(self) -> dict[str, dict]:
        """Inputs, scales, weights and biases of every network, by the flux it computes."""
        return {
            name: {
                "inputs": law.inputs,
                "centre": law.centre.numpy(),
                "spread": law.spread.numpy(),
                "weights": [w.detach().numpy() for w in law.net.weights],
                "biases": [b.detach().numpy()[0] for b in law.net.biases],
            }
            for name, law in self.model.laws.items()
        }

    def flatten(self, theta, networks, storage0) -> np.ndarray:
        """One gradient vector, in the same order for all: parameters, weights and biases by network, storages."""
        parts = [*theta]
        for law in networks:
            parts += [*law["weights"], *law["biases"]]
        return np.concatenate([np.asarray(p).ravel() for p in [*parts, storage0]])

    def gradient_error(self, gradient: np.ndarray, exact: np.ndarray) -> float:
        """Relative error of the whole vector, with parameters in units of their values."""
        size = np.ones_like(exact)
        theta = torch.cat([*self.theta.values()]).abs().numpy()
        size[: len(theta)] = theta
        return float(np.linalg.norm(size * (gradient - exact)) / np.linalg.norm(size * exact))


def plain(basins: int, years: int) -> Task:
    """EXP-HYDRO with published parameters; basins and record are repeated where more are asked for."""
    theta, storage0, forcing, observed = _data(basins, years)
    return Task("EXP-HYDRO", Balance(exphydro), forcing, theta, storage0, observed)


def neural(basins: int, years: int) -> Task:
    """ET and discharge replaced by two networks that all basins share, taught what the formulas do in one basin."""
    theta, storage0, forcing, observed = _data(basins, years)
    model = taught()
    theta = {n: v for n, v in theta.items() if n in model.parameter_names}
    # all basins start where the networks know their way
    return Task("EXP-HYDRO, two networks", model, forcing, theta, storage0[:1].repeat(basins, 1), observed)


def many_stores(name: str, basins: int, years: int) -> Task:
    """HBV or GR4J with default parameters, PET by the formula of EXP-HYDRO."""
    structure = {"hbv": hbv, "gr4j": gr4j}[name]
    _, _, forcing, observed = _data(basins, years)
    temp, dayl = forcing.values["temp"], forcing.values["dayl"]
    pet = exphydro.quantities[0].law(temp, dayl)
    values = {n: v for n, v in (*forcing.values.items(), ("pet", pet)) if n in structure.forcings}
    chosen = {n: r.default for n, r in structure.parameters.items() if not r.fixed} | CHOSEN.get(name, {})
    theta = {n: torch.full((basins,), v, dtype=torch.float64) for n, v in chosen.items()}
    storage0 = torch.zeros(basins, len(structure.stores), dtype=torch.float64)
    for store, value in STARTS[name].items():
        storage0[:, list(structure.stores).index(store)] = value
    return Task(structure.name, Balance(structure), replace(forcing, values=values), theta, storage0, observed)


@cache
def taught() -> Balance:
    """The hybrid; its inputs and output frames are those the peers write out in their own right-hand sides."""
    model = Balance(
        exphydro,
        et=NeuralLaw("snow", "soil", "temp", output=Fraction(of="pet"), hidden=HIDDEN, seed=0),
        discharge=NeuralLaw("soil", "prcp", output=Positive(), hidden=HIDDEN, seed=1),
    )
    task = plain(1, 4).first(TEACHER_DAYS)
    teach(model, simulate(task.model, task.forcing, theta=task.theta, storage0=task.storage0), steps=TEACHER_STEPS)
    return model


@cache
def _tables(count: int) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor], Tensor, np.ndarray]:
    folder = camels()
    table = pd.read_csv(folder / "reference" / "exphydro_parameters.csv", dtype={"gauge_id": str}).set_index("gauge_id")
    names = sorted(p.name.split(".")[0] for p in (folder / "daily").iterdir())
    names = [FIRST, *(n for n in names if n != FIRST)][:count]
    dataset, table = read(folder, names).sel(basin=names), table.loc[names]
    forcing = Forcing.from_dataset(dataset, FORCINGS)
    theta = {n: torch.as_tensor(table[c].to_numpy().copy()) for n, c in COLUMNS.items()}
    observed = torch.as_tensor(dataset.discharge.transpose("time", "basin").values.copy())
    return theta, torch.as_tensor(table[STORAGES].to_numpy().copy()), dict(forcing.values), observed, forcing.time_edge


def _data(basins: int, years: int):
    """Parameters, storages, forcing and discharge of ``basins`` basins over ``years`` years."""
    theta, storage0, values, observed, edges = _tables(min(basins, 120))
    days = round(365.25 * years)
    there, length = observed.shape[1], len(observed)
    columns = torch.arange(basins) % there
    rows = torch.arange(days) % length
    edges = edges[0] + np.arange(days + 1) * (edges[1] - edges[0])
    values = {n: v[rows][:, columns].contiguous() for n, v in values.items()}
    forcing = Forcing(values, {}, edges, tuple(str(i) for i in range(basins)))
    theta = {n: v[columns] for n, v in theta.items()}
    return theta, storage0[columns], forcing, observed[rows][:, columns].contiguous()
