"""simulate: one verb that joins a model, a forcing and a solver."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import DataError, StepBoundWarning, StructureError
from udehydro.forcing import Forcing
from udehydro.laws.neural import Perceptron
from udehydro.simulation import Simulation
from udehydro.solvers import Automatic, Problem, Solver
from udehydro.solvers.one_step import OneStep

SPIN_UP_CYCLES = 10
SPIN_UP_CHANGE = 0.1
"""Initial storage: the first year is repeated until it changes by less than this [mm]."""
_YEAR = np.timedelta64(365, "D")


def simulate(
    model: Balance,
    forcing: Forcing,
    *,
    theta: Mapping[str, Tensor | float] | None = None,
    storage0: Tensor | Mapping[str, Tensor | float] | None = None,
    solver: Solver | None = None,
) -> Simulation:
    """Run a model over a forcing record.

    Parameters
    ----------
    model : Balance
    forcing : Forcing with T intervals and batch shape ``batch``.
    theta : parameters in physical units. Static values have at most ``len(batch)`` dimensions; time-varying ones
        exactly one more, leading T or 1. ``None`` takes the declared defaults.
    storage0 : initial storages [mm], a tensor (*batch, S) or a value per store; ``None`` repeats the first year
        until storages change by less than 0.1 mm (at most 10 times), without gradient. A model that reads no weather
        has no such year and needs them given.
    solver : ``Automatic()`` (SDIRK2, one step per interval, by the driver that suits the problem) by default.

    Returns
    -------
    Simulation

    Raises
    ------
    DataError, StructureError
        For forcings or parameters that are missing, unknown, of the wrong shape or unit, or not finite.
    SolverError
        Where the solver cannot vouch for its numbers; names basin and date.
    """
    solver = solver or Automatic()
    problem = pose(model, forcing, theta)
    if storage0 is None:
        start, cycles, settled = spin_up(model, forcing, theta=theta, solver=solver)
    else:
        start, cycles = initial_storage(model, forcing, storage0), None
    storage, volume, report = solver(problem, start)
    for message in report.bounds:
        warnings.warn(message, StepBoundWarning, stacklevel=2)
    if cycles is not None:
        ending = (
            "" if bool(settled.all()) else f", not settled to {SPIN_UP_CHANGE} mm in {int((~settled).sum())} element(s)"
        )
        report.notes.append(f"initial storage from {cycles} repetition(s) of the first year{ending}")
    return Simulation(
        model, forcing, storage, volume, report, dict(zip(model.parameter_names, problem.theta, strict=True))
    )


def pose(model: Balance, forcing: Forcing, theta: Mapping[str, Tensor | float] | None = None) -> Problem:
    """Bind a model to forcing and parameters: shapes checked and aligned, store-free terms evaluated for all times."""
    if not isinstance(model, Balance):
        raise StructureError(f"A {type(model).__name__} cannot be simulated, a Balance can: Balance(structure).")
    if not isinstance(forcing, Forcing):
        raise DataError(
            f"The forcing is a {type(forcing).__name__}; make a Forcing of it: Forcing.from_dataset(dataset, names)."
        )
    given = forcing.tensors(model.forcing_names)
    for name in model.forcing_names:
        unit, wanted = forcing.units.get(name, ""), model.structure.forcings[name]
        if unit and unit != wanted:
            raise DataError(
                f"Forcing '{name}' comes in {unit}, the model '{model.structure.name}' needs {wanted}: convert it."
            )
    _check_weights(model, forcing)
    values = model.theta(theta, forcing.like)
    aligned, varying = [], []
    for name, value in zip(model.parameter_names, values, strict=True):
        value, varies = _align(name, value, len(forcing), forcing.batch)
        aligned.append(value)
        varying.append(varies)
    shape = (len(forcing), *forcing.batch)
    prepared = model.prepare(given, aligned)
    prepared = tuple(p if p.shape == shape else p.expand(shape) for p in prepared)
    return Problem(model, prepared, tuple(aligned), tuple(varying), forcing.days, forcing)


def _check_weights(model: Balance, forcing: Forcing) -> None:
    """Law weights have to live where the forcing lives, and their members have to be those of the batch."""
    like, batch = forcing.like, forcing.batch
    for name, weight in model.named_parameters():
        if weight.dtype != like.dtype or weight.device != like.device:
            raise StructureError(
                f"The weights '{name}' are {weight.dtype} on {weight.device}, the forcing is {like.dtype} on "
                f"{like.device}: move one of them, e.g. model.to(forcing.like)."
            )
    for name, part in model.named_modules():
        members = getattr(part, "members", None)
        if isinstance(part, Perceptron) and members is not None and (len(batch) != 2 or batch[0] != members):
            raise StructureError(
                f"The network '{name}' has {members} member(s), the forcing a batch of shape {batch}: it needs "
                f"({members}, basins). See Forcing.with_members and Forcing.independent, or build it without members."
            )


def _align(name: str, value: Tensor, intervals: int, batch: tuple[int, ...]) -> tuple[Tensor, bool]:
    """Check the shape of a parameter against the batch; a time-varying one is expanded to all intervals."""
    if not value.is_meta and not bool(torch.isfinite(value).all()):
        raise StructureError(f"Parameter '{name}' is not finite: {value.detach().flatten()[:5].tolist()}.")
    try:
        if value.ndim <= len(batch):
            if torch.broadcast_shapes(value.shape, batch) == torch.Size(batch):
                return value, False
        elif value.ndim == len(batch) + 1 and value.shape[0] in (1, intervals):
            return value.expand(intervals, *batch), True
    except RuntimeError:
        pass
    raise StructureError(
        f"Parameter '{name}' has shape {tuple(value.shape)}; for forcing of {intervals} intervals and batch {batch} it "
        f"may be static, broadcastable to {batch}, or time-varying, ({intervals} or 1, *{batch})."
    )


def initial_storage(model: Balance, forcing: Forcing, given) -> Tensor:
    """Initial storages as a tensor (*batch, S)."""
    like, shape = forcing.like, (*forcing.batch, len(model.store_names))
    if isinstance(given, Mapping):
        if set(given) != set(model.store_names):
            raise StructureError(f"storage0 names {sorted(given)}, the stores are {list(model.store_names)}.")
        parts = {n: torch.as_tensor(given[n], dtype=like.dtype, device=like.device) for n in model.store_names}
        for name, part in parts.items():
            if not _fits(part.shape, forcing.batch):
                raise StructureError(
                    f"Storage '{name}' has shape {tuple(part.shape)}, needs {forcing.batch} or a number."
                )
        given = torch.stack([p.expand(forcing.batch) for p in parts.values()], dim=-1)
    given = torch.as_tensor(given, dtype=like.dtype, device=like.device)
    if given.shape[-1:] != shape[-1:] or not _fits(given.shape, shape):
        raise StructureError(f"storage0 has shape {tuple(given.shape)}, needs {shape} for stores {model.store_names}.")
    if not given.is_meta and not bool(torch.isfinite(given).all()):
        raise StructureError(f"storage0 is not finite: {given.detach().flatten()[:5].tolist()}.")
    return given.expand(shape)


def _fits(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether an array of ``shape`` expands to ``target``."""
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(a in (1, b) for a, b in pairs)


class SpinUp(NamedTuple):
    """Initial storages (*batch, S) in mm, the repetitions of the first year they took, and which elements settled."""

    storage: Tensor
    cycles: int
    settled: Tensor


@torch.no_grad()
def spin_up(
    model: Balance,
    forcing: Forcing,
    *,
    theta: Mapping[str, Tensor | float] | None = None,
    solver: Solver | None = None,
) -> SpinUp:
    """Storages after repeating the first year until they settle.

    Starts from empty stores; an element of the batch has settled where none of its storages changes by 0.1 mm. At most
    10 repetitions. Without gradient. Parameters and errors
    as in :func:`simulate`; of a parameter that varies in time the first year is taken. DataError for a model that
    reads no forcing, or none but ``time``: nothing in its record could be repeated.
    """
    solver = solver or Automatic()
    if isinstance(model, Balance) and set(model.forcing_names) <= {"time"}:
        raise DataError(
            f"The model '{model.structure.name}' reads no weather, so there is no first year to repeat: give initial "
            f"storages of {', '.join(model.store_names)}, as storage0 or calibrated (Calibrated(initial=...))."
        )
    year = forcing.isel(slice(0, int((forcing.time < forcing.time[0] + _YEAR).sum())))
    if theta is not None:
        like = forcing.like
        theta = {n: torch.as_tensor(v, dtype=like.dtype, device=like.device) for n, v in theta.items()}
        theta = {n: _first_year(v, len(forcing), len(year), forcing.batch) for n, v in theta.items()}
    solver = solver.over(slice(0, len(year))) if isinstance(solver, OneStep) else solver
    problem = pose(model, year, theta)
    storage = forcing.like.new_zeros(*forcing.batch, len(model.store_names))
    settled = torch.zeros_like(storage[..., :1], dtype=torch.bool)
    cycles = 0
    while cycles < SPIN_UP_CYCLES and not bool(settled.all()):
        cycles += 1
        end = solver(problem, storage)[0][-1]
        change = (end - storage).abs().amax(-1, keepdim=True)
        # an element that has settled keeps its storage: it must not depend on what else is in the batch
        storage = torch.where(settled, storage, end)
        settled = settled | (change < SPIN_UP_CHANGE)
    return SpinUp(storage, cycles, settled.squeeze(-1))


def _first_year(value: Tensor, intervals: int, kept: int, batch: tuple[int, ...]) -> Tensor:
    varies = value.ndim == len(batch) + 1 and value.shape[0] == intervals
    return value[:kept] if varies else value
