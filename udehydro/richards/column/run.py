"""flow: one verb that moves water through a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from udehydro.errors import ConfigError, SolverError
from udehydro.forcing import Forcing
from udehydro.richards.column.adjoint import attach
from udehydro.richards.column.boundary import Atmospheric
from udehydro.richards.column.checks import check_start, check_values, warn_of
from udehydro.richards.column.column import Column
from udehydro.richards.column.compiled_march import march
from udehydro.richards.column.march import March
from udehydro.richards.column.problem import Problem, bind, ordinary
from udehydro.richards.column.result import ColumnRun
from udehydro.richards.column.steps import Adaptive, Fixed, check
from udehydro.richards.column.system import BOTTOM, DEFICIT, RUNOFF, TOP
from udehydro.solvers.tableau import SDIRK2, Tableau


def flow(
    column: Column,
    forcing: Forcing,
    p: Mapping[str, Tensor | float] | Sequence[Mapping[str, Tensor | float]] | None,
    psi0: Tensor | float | WaterContent,
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
    psi0 : initial heads [cm], broadcast to (*batch, cell), or WaterContent(theta0) from which the law of every layer
        has them. ``pond0`` : water on the surface [cm], (*batch).
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
        For values that are missing, unknown, not finite, impossible, or of a wrong shape or unit.
    SolverError
        Where a step cannot be solved; names column, date and cell.

    Warns
    -----
    UserWarning
        For parameters outside the ranges of their law, and heads at the start that are all above zero although nothing
        at the ends saturates the soil.
    """
    if torch.is_inference_mode_enabled():  # slopes of laws and sinks without loops need autograd
        with torch.inference_mode(False), torch.no_grad():
            how = {"pond0": pond0, "tableau": tableau, "steps": steps, "progress": progress}
            return flow(column, forcing, p, psi0, **how)
    start = begin(column, forcing, p, psi0, pond0, tableau)
    warn_of(start.problem, start.psi, start.pond, stacklevel=2)
    leaves = (start.mass, *start.problem.inputs, *column.weights())
    graph = torch.is_grad_enabled() and any(t.requires_grad for t in leaves)
    found = go(start, tableau, steps, graph, progress)
    states = attach(start.problem, tableau, found, start.mass) if graph else (found.psi, found.mass, found.volume)
    return collect(start, *states, found)


@dataclass(frozen=True, eq=False)
class WaterContent:
    """Initial state of a column given as water content [-], broadcast to (*batch, cell), in place of heads."""

    theta: Tensor | float


class Start(NamedTuple):
    """A problem, its initial heads (columns, cell), pond (columns, 1), and water of all nodes (columns, node);
    ``contents`` : whether heads follow from water contents."""

    problem: Problem
    psi: Tensor
    pond: Tensor
    mass: Tensor
    contents: bool


def begin(column: Column, forcing: Forcing, p, psi0, pond0, tableau: Tableau) -> Start:
    check(tableau)
    problem = bind(column, forcing, p)
    check_values(problem)
    _check_shapes(problem)
    if isinstance(psi0, WaterContent):
        psi = _heads(problem, _initial(problem, "theta0", psi0.theta, column.grid.cells))
    else:
        psi = _initial(problem, "psi0", psi0, column.grid.cells)
    pond = _initial(problem, "pond0", pond0, 1)
    if bool((pond < 0.0).any()):
        raise ConfigError(f"pond0 is a depth of water, zero or more; got {float(pond.detach().min()):g} cm.")
    if bool((pond != 0.0).any()) and not isinstance(column.top, Atmospheric):
        raise ConfigError(f"A {type(column.top).__name__} at the top holds no pond: pond0 needs an Atmospheric top.")
    check_start(problem, psi, pond)
    return Start(problem, psi, pond, _water(problem, psi, pond), isinstance(psi0, WaterContent))


@torch.no_grad()
def _check_shapes(problem: Problem) -> None:
    """Refuse laws that answer more than one value for a head: those with members."""
    every = torch.arange(problem.columns, device=problem.forcing.like.device)
    soil = problem.system(problem.take(torch.zeros_like(every), every)).soil
    for i, (layer, p, cells) in enumerate(zip(problem.column.layers, soil, problem.geometry.layers, strict=True)):
        psi = problem.forcing.like.new_full((problem.columns, cells.stop - cells.start), -1.0)
        if (found := layer.law.theta(psi, p).shape) != psi.shape:
            raise ConfigError(
                f"{type(layer.law).__name__} of layer {i} answers {tuple(found)} for heads {tuple(psi.shape)}: laws "
                "with members do not go into a column. Give columns of a batch parameters of their own, such as "
                'those of MonotoneSpline(free="parameters"), or run one column for each law.'
            )


def go(start: Start, tableau: Tableau, steps, keep: bool, progress: bool) -> March:
    if not (steps is None or isinstance(steps, Fixed | Adaptive)):
        raise ConfigError(f"steps is Fixed(4), Adaptive(), or the like, got {steps!r}.")
    nodes, mass = _nodes(start.problem, start.psi, start.pond), start.mass.detach().clone()
    with tqdm(total=len(start.problem.forcing), unit="interval", disable=not progress, leave=False) as bar:
        return march(start.problem, tableau, steps or Adaptive(), nodes, mass, keep, bar.update)


def _initial(problem: Problem, name: str, value, width: int) -> Tensor:
    """Initial values as (columns, width)."""
    like, batch = problem.forcing.like, problem.forcing.batch
    value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    value = value.unsqueeze(-1) if name == "pond0" else value
    try:
        value = ordinary(value).expand(*batch, width).reshape(-1, width)
    except RuntimeError:
        raise ConfigError(
            f"{name} has shape {tuple(value.shape)}, which does not expand to {(*batch, width)} (*batch, cell)."
        ) from None
    if not bool(torch.isfinite(value).all()):
        raise ConfigError(f"{name} is not finite: {value.detach().flatten()[:5].tolist()}.")
    return value


def _heads(problem: Problem, theta: Tensor) -> Tensor:
    """Heads (columns, cell) at which soil holds ``theta``.

    Raises
    ------
    SolverError
        For contents that the soil cannot have.
    """
    every = torch.arange(problem.columns, device=theta.device)
    system = problem.system(problem.take(torch.zeros_like(every), every))
    parts = zip(problem.column.layers, system.soil, problem.geometry.layers, strict=True)
    psi = torch.cat([layer.law.head(theta[:, cells], p) for layer, p, cells in parts], dim=1)
    held = system.water(psi) / problem.geometry.thickness
    wrong = (held - theta).abs() > 1e-6
    if bool(wrong.any()):
        column, cell = wrong.nonzero()[0].tolist()
        raise SolverError(
            f"theta0={float(theta[column, cell].detach()):.4g} of cell {cell} is beyond what its soil holds: it is at "
            f"{float(held[column, cell].detach()):.4g} between saturation and oven dryness."
            + (" Per cent? Divide by 100." if float(theta[column, cell]) > 1.0 else ""),
            wrong.any(1).reshape(problem.forcing.batch),
        )
    return psi


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


def series(problem: Problem, shape, first, last, wet, potential) -> dict[str, Tensor]:
    """The series of a run, or of its slopes, by the name of their field.

    Parameters
    ----------
    shape : batch of the answer.
    first : heads of cells and water of nodes at the start, (columns, ...); ``last`` : heads and water of nodes at the
        ends of intervals, and volumes, (T, columns, ...).
    wet : what of the heads (T + 1, columns, cell) compresses saturated soil.
    potential : evaporation of an Atmospheric top [cm], (T or 1, columns or 1).
    """
    (psi0, mass0), (psi, mass, volume), g = first, last, problem.geometry
    mass = torch.cat([mass0.unsqueeze(0), mass])

    def cells(nodes: Tensor) -> Tensor:
        return g.cells(nodes.flatten(0, 1)).reshape(*nodes.shape[:2], -1)

    heads = torch.cat([psi0.unsqueeze(0), cells(psi)])
    found = {
        "psi": heads,
        "theta": cells(mass) / g.thickness - g.storage * wet(heads),
        "ends": torch.stack([psi[..., 0], psi[..., -1]], dim=-1),
        "pond": mass[..., 0],
        "top": -volume[..., TOP],
        "bottom": volume[..., BOTTOM],
        "runoff": volume[..., RUNOFF],
        "evaporation": potential - volume[..., DEFICIT],
        "uptake": volume[..., 4:],
        "storage": mass.sum(-1),
    }
    return {n: v.reshape(len(v), *shape, *v.shape[2:]) for n, v in found.items()}


def evaporation(problem: Problem, inputs: Sequence[Tensor]) -> Tensor:
    """Potential evaporation of an Atmospheric top (..., T, columns or 1) in cm; zero of other tops."""
    if not isinstance(problem.column.top, Atmospheric):
        return problem.forcing.days.unsqueeze(-1) * 0.0
    return inputs[problem.keys.index(("top", 0, "evaporation"))][..., 0] * problem.forcing.days.unsqueeze(-1)


def collect(start: Start, psi: Tensor, mass: Tensor, volume: Tensor, found: March) -> ColumnRun:
    problem, batch = start.problem, start.problem.forcing.batch
    first, last = (start.psi, start.mass), (psi, mass, volume)
    potential = evaporation(problem, problem.inputs)
    states = series(problem, batch, first, last, lambda psi: psi.clamp_min(0.0), potential)
    counts = {n: getattr(found, n).reshape(batch) for n in ("accepted", "rejected", "iterations")}
    return ColumnRun(column=problem.column, forcing=problem.forcing, **states, **counts)
