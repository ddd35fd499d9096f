"""Planted truth: observations made by a known model, to see whether it is found again."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import DataError
from udehydro.forcing import Forcing
from udehydro.simulate import simulate
from udehydro.solvers import Solver

from .build import attributes_of
from .provenance import with_notes


def planted_truth(
    model: Balance,
    theta: Mapping[str, Tensor | float] | None,
    ds: xr.Dataset,
    *,
    seed: int,
    noise: float = 0.0,
    solver: Solver | None = None,
    storage0: Tensor | Mapping[str, Tensor | float] | None = None,
) -> xr.Dataset:
    """A dataset with the discharge of a known model, and the truth behind it.

    Parameters
    ----------
    model : Balance
        The model that plays nature.
    theta : mapping or None
        Its parameters in physical units; None takes the declared defaults.
    ds : Dataset
        Forcing, dims ``(time, basin)``.
    seed : int
        Of the noise.
    noise : float
        Standard deviation of the logarithm of a multiplicative error with mean 1, independent from step to step.
    solver, storage0
        See `udehydro.simulate`.

    Returns
    -------
    Dataset
        ``ds`` with ``discharge`` (mm/d, with noise), ``truth_discharge`` (without), ``truth_<store>`` (mm, at the
        start of each interval) and ``truth_<flux>`` (mm/d, mean over the interval). ``attrs["truth"]`` holds model,
        parameters, noise and seed as JSON.

    Raises
    ------
    DataError
        For a negative noise; what `simulate` raises otherwise.
    """
    if noise < 0:
        raise DataError(f"planted_truth: noise={noise} is a standard deviation and cannot be negative.")
    forcing = Forcing.from_dataset(ds, list(model.forcing_names))
    with torch.no_grad():
        run = simulate(model, forcing, theta=theta, solver=solver, storage0=storage0)
        exact = run.discharge.cpu().numpy()
        stores = {n: run.store(n)[:-1].cpu().numpy() for n in model.store_names}
        fluxes = {n: run.rate(n).cpu().numpy() for n in model.flux_names}
    errors = np.random.default_rng(seed).normal(-(noise**2) / 2, noise, exact.shape)
    dims = ("time", "basin")
    truth = {"truth_discharge": (dims, exact, {"units": "mm/d", "long_name": "discharge without noise"})}
    for name, values in stores.items():
        truth[f"truth_{name}"] = (dims, values, {"units": "mm", "long_name": f"storage of {name} at interval start"})
    for name, values in fluxes.items():
        truth[f"truth_{name}"] = (dims, values, {"units": "mm/d", "long_name": f"mean rate of {name}"})
    out = ds.assign(discharge=(dims, exact * np.exp(errors), attributes_of("discharge")), **truth)
    record = {
        "model": model.structure.name,
        "theta": {n: np.asarray(v.detach().cpu()).squeeze().tolist() for n, v in run.theta.items()},
        "noise": noise,
        "seed": seed,
    }
    out = out.assign_attrs(truth=json.dumps(record))
    return with_notes(out, [f"discharge: made by the model {model.structure.name}, noise {noise:g}, seed {seed}"])
