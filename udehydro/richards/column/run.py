"""flow: one verb that moves water through a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from tqdm.auto import tqdm

from udehydro.errors import ConfigError
from udehydro.forcing import Forcing
from udehydro.richards.column.adjoint import attach
from udehydro.richards.column.boundary import Atmospheric
from udehydro.richards.column.column import Column
from udehydro.richards.column.march import march
from udehydro.richards.column.problem import Problem, bind
from udehydro.richards.column.result import ColumnRun
from udehydro.richards.column.steps import Adaptive, Fixed, check
from udehydro.richards.column.system import BOTTOM, DEFICIT, RUNOFF, TOP
from udehydro.solvers.tableau import SDIRK2, Tableau


def flow(
    column: Column,
    forcing: Forcing,
    p: Mapping[str, Tensor | float] | Sequence[Mapping[str, Tensor | float]] | None,
    psi0: Tensor | float,
    *,
    pond0: Tensor | float = 0.0,
    tableau: Tableau = SDIRK2,
    steps: Fixed | Adaptive | None = None,
    progress: bool = False,
) -> ColumnRun:
    """Move water through a column, or through a batch of columns at once.

    Parameters
    ----------
    column : its description.
    forcing : T intervals with batch shape ``batch``, and the series that boundaries and sinks name, constant within
        each interval; ``Forcing.clock`` where they name none.
    p : parameters of the soil in physical units, one mapping for all layers or one for each; values broadcast to the
        batch, or have one dimension more, of the cells of their layer. None takes the defaults of the laws.
    psi0 : initial heads [cm], broadcast to (*batch, cell). ``pond0`` : water on the surface [cm], (*batch).
    tableau : SDIRK2 or BACKWARD_EULER.
    steps : lengths of steps, Adaptive() by default; those of an adaptive run are constants to the gradient.
    progress : whether to show a bar.

    Returns
    -------
    ColumnRun
        Differentiable (once) by p, weights of laws, psi0, pond0 and every value of boundaries and sinks. The steps are
        kept for that: three numbers a node and step with SDIRK2.

    Raises
    ------
    ConfigError, DataError
        For values that are missing, unknown, not finite, or of a wrong shape or unit.
    SolverError
        Where a step cannot be solved; names column, date and cell.
    """
    check(tableau)
    problem = bind(column, forcing, p)
    psi, cells = _initial(problem, "psi0", psi0, column.grid.cells), column.grid.cells
    pond = _initial(problem, "pond0", pond0, 1)
    if bool((pond != 0.0).any()) and not isinstance(column.top, Atmospheric):
        raise ConfigError(f"A {type(column.top).__name__} at the top holds no pond: pond0 needs an Atmospheric top.")
    mass = _water(problem, psi, pond)
    leaves = (mass, *problem.inputs, *column.weights())
    graph = torch.is_grad_enabled() and any(t.requires_grad for t in leaves)
    with tqdm(total=len(forcing), unit="interval", disable=not progress, leave=False) as bar:
        found = march(
            problem, tableau, steps or Adaptive(), _nodes(problem, psi, pond), mass.detach().clone(), graph, bar.update
        )
    states = attach(problem, tableau, found, mass) if graph else (found.psi, found.mass, found.volume)
    return _collect(problem, psi.reshape(*forcing.batch, cells), mass, *states, found)


def _initial(problem: Problem, name: str, value, width: int) -> Tensor:
    """Initial values as (columns, width)."""
    like, batch = problem.forcing.like, problem.forcing.batch
    value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    value = value.unsqueeze(-1) if name == "pond0" else value
    try:
        value = value.expand(*batch, width).reshape(-1, width)
    except RuntimeError:
        raise ConfigError(
            f"{name} has shape {tuple(value.shape)}, which does not expand to {(*batch, width)} (*batch, cell)."
        ) from None
    if not bool(torch.isfinite(value).all()):
        raise ConfigError(f"{name} is not finite: {value.detach().flatten()[:5].tolist()}.")
    return value


def _nodes(problem: Problem, psi: Tensor, pond: Tensor) -> Tensor:
    """First guess of the heads of all nodes: interfaces between their neighbours, ends like the cells beside them."""
    psi, pond = psi.detach(), pond.detach()
    parts = [torch.where(pond > 0.0, pond, psi[:, :1])]
    for cells in problem.column.cells_of_layers:
        last = psi[:, cells.stop - 1 : cells.stop]
        parts += [
            psi[:, cells],
            0.5 * (last + psi[:, cells.stop : cells.stop + 1]) if cells.stop < psi.shape[1] else last,
        ]
    return torch.cat(parts, dim=1)


def _water(problem: Problem, psi: Tensor, pond: Tensor) -> Tensor:
    """Water in all nodes at the start (columns, node), differentiable."""
    every = torch.arange(problem.columns, device=psi.device)
    system = problem.system(problem.take(torch.zeros_like(every), every))
    return problem.geometry.spread(system.water(psi), pond)


def _collect(problem: Problem, psi0: Tensor, mass0: Tensor, psi: Tensor, mass: Tensor, volume: Tensor, found):
    batch, g, column = problem.forcing.batch, problem.geometry, problem.column
    mass = torch.cat([mass0.unsqueeze(0), mass])

    def cells(nodes: Tensor) -> Tensor:
        return g.cells(nodes.flatten(0, 1)).reshape(nodes.shape[0], *batch, -1)

    heads = torch.cat([psi0.unsqueeze(0), cells(psi)])
    theta = cells(mass) / g.thickness - g.storage * heads.clamp_min(0.0)
    volume = volume.reshape(len(volume), *batch, -1)
    pond = mass[..., 0].reshape(-1, *batch)
    evaporation = torch.zeros_like(volume[..., TOP])
    if isinstance(column.top, Atmospheric):
        potential = (
            problem.inputs[problem.keys.index(("top", 0, "evaporation"))][..., 0] * problem.forcing.days[:, None]
        )
        evaporation = potential.expand(-1, problem.columns).reshape(-1, *batch) - volume[..., DEFICIT]
    return ColumnRun(
        column,
        problem.forcing,
        heads,
        theta,
        torch.stack([psi[..., 0], psi[..., -1]], dim=-1).reshape(-1, *batch, 2),
        pond,
        -volume[..., TOP],
        volume[..., BOTTOM],
        volume[..., RUNOFF],
        evaporation,
        volume[..., 4:],
        mass.sum(-1).reshape(-1, *batch),
        *(c.reshape(batch) for c in (found.accepted, found.rejected, found.iterations)),
    )
