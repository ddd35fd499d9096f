"""Forward sensitivities: how storages and volumes of every interval respond to parameters and initial storages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from udehydro.balance import Balance
from udehydro.errors import ConfigError
from udehydro.solvers.adjoint import Tangents
from udehydro.solvers.one_step import OneStep
from udehydro.solvers.problem import Problem, SolverReport
from udehydro.structure import suggest


class Sensitivity(NamedTuple):
    """Derivatives in P directions: storage (P, T + 1, *batch, S) [mm per unit], volume (P, T, *batch, F).

    ``run`` holds what was differentiated: storage (T + 1, *batch, S) and volume (T, *batch, F), of all stores and
    fluxes.
    """

    storage: Tensor
    volume: Tensor
    report: SolverReport
    run: tuple[Tensor, Tensor]


def forward_sensitivity(
    problem: Problem,
    storage0: Tensor,
    moved: Sequence[str] | Tensor,
    solver: OneStep,
    *,
    stores: Sequence[str] | None = None,
    fluxes: Sequence[str] | None = None,
) -> Sensitivity:
    """Derivatives of the whole trajectory by a few parameters and initial storages.

    One run, then one linear recurrence per direction with the Jacobians of that run: exact for the discrete solution.
    For a scalar objective and many inputs the adjoint (``backward``) is cheaper.

    Parameters
    ----------
    problem : from :func:`udehydro.simulate.pose`.
    storage0 : initial storages (*batch, S) in mm.
    moved : per direction the name of a parameter, or of a store for its initial storage; or, where elements of the
        batch respond to different ones, whole numbers (P, *batch) from :func:`directions`. A parameter that varies in
        time is moved by the same amount at all times.
    solver : any driver of a one-step scheme.
    stores, fluxes : those whose derivatives are wanted, by default all.

    Raises
    ------
    ConfigError
        For an unknown name, and for torchdiffeq.
    """
    if not isinstance(solver, OneStep):
        raise ConfigError(f"forward_sensitivity needs a one-step solver such as AllAtOnce(), not {solver!r}.")
    model = problem.model
    count = len(model.parameter_names) + len(model.store_names)
    if not isinstance(moved, Tensor):
        moved = directions(model, [[name] for name in moved]).reshape(-1, *(1,) * len(problem.batch))
    elif moved.is_floating_point() or len(moved) and not -1 <= int(moved.min()) <= int(moved.max()) < count:
        raise ConfigError(f"moved has to hold whole numbers from directions(), -1 to {count - 1}.")
    if not len(moved):
        raise ConfigError("Nothing is moved: name at least one parameter or store.")
    which = moved.to(problem.days.device).expand(len(moved), *problem.batch)
    kept = [
        [_index(name, known) for name in (known if names is None else names)]
        for names, known in ((stores, model.store_names), (fluxes, model.flux_names))
    ]
    report = SolverReport(f"{type(solver).__name__}({solver.tableau.name})", solver.scheme)
    with torch.no_grad():
        march = solver.run(problem, storage0, report)
        read = torch.tensor(model.driven_parameters, device=which.device)
        tangents = Tangents(which, [_forcing(problem, w) if torch.isin(w, read).any() else None for w in which])
        storage, volume = march.push(problem, solver.tableau, tangents, *kept)
    return Sensitivity(storage, volume, report, (march.storage, march.volume))


def directions(model: Balance, names: Sequence[Sequence[str | None]]) -> Tensor:
    """Whole numbers (P, n) for ``forward_sensitivity``: per direction and batch element a parameter or store."""
    known = (*model.parameter_names, *model.store_names)
    return torch.tensor([[-1 if n is None else _index(n, known) for n in row] for row in names], device="cpu")


def _index(name: str, known: Sequence[str]) -> int:
    if name not in known:
        raise ConfigError(f"No parameter, store or flux is called '{name}' here.{suggest(name, known)}")
    return known.index(name)


def _forcing(problem: Problem, which: Tensor) -> tuple[Tensor, ...] | None:
    """What the terms that no store influences change by, among the forcings of the problem; None for nothing."""
    model = problem.model
    given = [f.detach() for f in problem.forcing[: len(model.forcing_names)]]
    with forward_ad.dual_level():
        theta = list(problem.theta)
        for i in model.driven_parameters:
            shape = torch.broadcast_shapes(theta[i].shape, which.shape)
            moves = (which == i).to(theta[i].dtype).expand(shape).clone()
            theta[i] = forward_ad.make_dual(theta[i].detach().expand(shape).clone(), moves)
        changes = [forward_ad.unpack_dual(f).tangent for f in model.prepare(given, theta)]
    if all(c is None or not bool(c.any()) for c in changes):
        return None
    like = problem.forcing[0]
    return tuple(torch.zeros_like(like) if c is None else c.expand(like.shape) for c in changes)
