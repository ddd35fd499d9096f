"""Forward sensitivities: how storages and volumes of every interval respond to parameters and initial storages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from udehydro.balance import Balance
from udehydro.errors import ConfigError
from udehydro.solvers import adjoint
from udehydro.solvers.one_step import OneStep
from udehydro.solvers.problem import Problem, SolverReport
from udehydro.structure import suggest


class Sensitivity(NamedTuple):
    """Derivatives by ``names``: storage (P, T + 1, *batch, S) [mm per unit], volume (P, T, *batch, F)."""

    names: tuple[str, ...]
    storage: Tensor
    volume: Tensor
    report: SolverReport


def forward_sensitivity(problem: Problem, storage0: Tensor, names: Sequence[str], solver: OneStep) -> Sensitivity:
    """Derivatives of the whole trajectory by a few parameters and initial storages.

    One run, then one linear recurrence per name with the Jacobians of that run: exact for the discrete solution. For a
    scalar objective and many inputs the adjoint (``backward``) is cheaper.

    Parameters
    ----------
    problem : from :func:`udehydro.simulate.pose`.
    storage0 : initial storages (*batch, S) in mm.
    names : parameters, which respond basin by basin, or stores for their initial storage. A parameter that varies in
        time is moved by the same amount at all times.
    solver : any driver of a one-step scheme.

    Raises
    ------
    ConfigError
        For a name that is neither, and for torchdiffeq.
    """
    if not isinstance(solver, OneStep):
        raise ConfigError(f"forward_sensitivity needs a one-step solver such as AllAtOnce(), not {solver!r}.")
    model = problem.model
    known = (*model.parameter_names, *model.store_names)
    for name in names:
        if name not in known:
            raise ConfigError(f"No parameter or store is called '{name}'.{suggest(name, known)}")
    report = SolverReport(f"{type(solver).__name__}({solver.tableau.name})", solver.scheme)
    with torch.no_grad():
        march = solver.run(problem, storage0, report)
        tangents = [_tangent(problem, name) for name in names]
        starts = [_start(model, storage0, name) for name in names]
        storage, volume = adjoint.push(problem, solver.tableau, march, tangents, starts)
    return Sensitivity(tuple(names), storage, volume, report)


def _start(model: Balance, storage0: Tensor, name: str) -> Tensor | None:
    if name not in model.store_names:
        return None
    tangent = torch.zeros_like(storage0)
    tangent[..., model.store_names.index(name)] = 1.0
    return tangent


def _tangent(problem: Problem, name: str) -> Problem:
    """The problem with, in place of forcing and parameters, what they change by as parameter ``name`` grows by one."""
    model = problem.model
    theta = tuple(
        torch.ones_like(v) if n == name else torch.zeros_like(v)
        for n, v in zip(model.parameter_names, problem.theta, strict=True)
    )
    raw = [f.detach() for f in problem.forcing[: len(model.forcing_names)]]
    with forward_ad.dual_level():
        dual = [forward_ad.make_dual(v.detach(), t) for v, t in zip(problem.theta, theta, strict=True)]
        prepared = model.prepare(raw, dual)
        moved = [forward_ad.unpack_dual(f).tangent for f in prepared]
    shape = problem.forcing[0].shape if problem.forcing else ()
    forcing = tuple(torch.zeros_like(raw[0][:1, ...]).expand(shape) if t is None else t.expand(shape) for t in moved)
    return problem.replace(forcing=forcing, theta=theta)
