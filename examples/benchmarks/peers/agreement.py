"""Before anything is timed: all right-hand sides give the same numbers."""

from __future__ import annotations

import numpy as np
import torch

from udehydro.simulate import pose
from udehydro.structure import OUTLET

from .jax_models import Jax, potential_evaporation, rates, weather
from .numba_loop import soil_fluxes
from .task import Task
from .torchdiffeq_calls import RightHandSide, Torchdiffeq

ALLOWED = 1e-12
DAYS = 100


def check(task: Task) -> float:
    """Largest relative difference of tendencies and discharge at random storages; raises where it is not round-off."""
    task = task.first(DAYS)
    draws = torch.Generator().manual_seed(0)
    shape = (task.days, task.basins)
    snow = 300.0 * torch.rand(shape, generator=draws, dtype=torch.float64) ** 3
    soil = 2000.0 * torch.rand(shape, generator=draws, dtype=torch.float64) - 1.0
    ours = _ours(task, snow, soil)
    found = [_torchdiffeq(task, snow, soil, ahead) for ahead in (True, False)] + [_jax(task, snow, soil)]
    if not task.neural:
        found.append(np.stack([*ours[:2], _numba_discharge(task, soil)]))
    worst = max(float((np.abs(f - ours) / (1.0 + np.abs(ours))).max()) for f in found)
    if not worst <= ALLOWED:
        raise SystemExit(f"{task.name}: the right-hand sides of the contestants differ by {worst:.1e}.")
    return worst


@torch.no_grad()
def _ours(task: Task, snow, soil) -> np.ndarray:
    model = task.model
    fluxes = model.fluxes((snow, soil), *pose(model, task.forcing, task.theta).at(slice(None)))
    out = sum(rate for rate, f in zip(fluxes, model.structure.fluxes, strict=True) if f.sink == OUTLET)
    return torch.stack([*model.tendency(fluxes), out]).numpy()


@torch.no_grad()
def _torchdiffeq(task: Task, snow, soil, ahead: bool) -> np.ndarray:
    rhs = RightHandSide(task, task.theta, Torchdiffeq("", task, "rk4").networks(), ahead)
    days = [rhs(torch.tensor(k + 0.5), torch.stack([snow[k], soil[k], snow[k]])) for k in range(task.days)]
    return torch.stack(days, dim=1).numpy()


def _jax(task: Task, snow, soil) -> np.ndarray:
    peer = Jax("", task)
    params, data = peer.complete(peer.params), peer.data
    pet = potential_evaporation(data["temp"], data["dayl"])
    days = weather(params["theta"], data["prcp"], data["temp"], pet)
    return np.stack([np.asarray(x) for x in rates(peer.fluxes, params, days, snow.numpy(), soil.numpy())])


def _numba_discharge(task: Task, soil) -> np.ndarray:
    f, smax, qmax = (task.theta[n].numpy() for n in ("f", "smax", "qmax"))
    points = np.empty(soil.shape)
    for k, b in np.ndindex(points.shape):
        points[k, b] = soil_fluxes(soil[k, b].item(), 1.0, f[b], smax[b], qmax[b])[1]
    return points
