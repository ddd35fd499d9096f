"""flow: one verb that moves water through a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from udehydro.richards.column.steps import Adaptive, Fixed, check
from udehydro.richards.column.system import BOTTOM, DEFICIT, RUNOFF, TOP
from udehydro.solvers.tableau import SDIRK2, Tableau


@dataclass(frozen=True)
class ColumnRun:
    """Water in a column over T intervals; volumes are cm of water per interval.

    Attributes
    ----------
    psi : (T + 1, *batch, cell) pressure head at the edges of intervals [cm].
    theta : (T + 1, *batch, cell) water content there.
    ends : (T, *batch, 2) head of the surface and of the bottom of the column at the ends of intervals [cm].
    pond : (T + 1, *batch) water that stands on the surface [cm].
    top, bottom : (T, *batch) moved through the two ends, positive upwards: rain and runoff count at the top.
    runoff : (T, *batch); ``evaporation`` : (T, *batch) what an Atmospheric top delivered of its potential.
    uptake : (T, *batch, sink) taken out by every sink.
    storage : (T + 1, *batch) water in the column and on it [cm].
    accepted, rejected, iterations : (*batch) steps, and iterations of Newton's method.
    """

    column: Column
    forcing: Forcing
    psi: Tensor
    theta: Tensor
    ends: Tensor
    pond: Tensor
    top: Tensor
    bottom: Tensor
    runoff: Tensor
    evaporation: Tensor
    uptake: Tensor
    storage: Tensor
    accepted: Tensor
    rejected: Tensor
    iterations: Tensor

    @property
    def infiltration(self) -> Tensor:
        """Water that entered the soil through its surface, (T, *batch) cm; negative where more left it."""
        return -self.top - self.pond.diff(dim=0)

    @property
    def recharge(self) -> Tensor:
        """Water that left through the bottom, (T, *batch) cm."""
        return -self.bottom

    @property
    def balance_error(self) -> Tensor:
        """Change of storage minus what moved in, (T, *batch) cm: round-off."""
        return self.storage.diff(dim=0) - (self.bottom - self.top - self.uptake.sum(-1))

    def to_xarray(self):
        """CF-style Dataset with units: heads and contents on ``time_edge``, volumes on ``time``."""
        import xarray as xr

        batch, edges = self.forcing.batch, self.forcing.time_edge
        dims = ("member", "column")[2 - len(batch) :] if batch else ()

        def put(values: Tensor, at: str, unit: str, name: str, *behind: str):
            sums = {"cell_methods": "time: sum"} if at == "time" else {"cell_methods": "time_edge: point"}
            return ((at, *dims, *behind), values.detach().cpu().numpy(), {"units": unit, "long_name": name, **sums})

        data = {
            "psi": put(self.psi, "time_edge", "cm", "pressure head", "depth"),
            "theta": put(self.theta, "time_edge", "1", "volumetric water content", "depth"),
            "pond": put(self.pond, "time_edge", "cm", "water on the surface"),
            "storage": put(self.storage, "time_edge", "cm", "water in the column and on it"),
            "top": put(self.top, "time", "cm", "water moved up through the surface"),
            "bottom": put(self.bottom, "time", "cm", "water moved up through the bottom"),
            "infiltration": put(self.infiltration, "time", "cm", "water that entered the soil"),
            "runoff": put(self.runoff, "time", "cm", "runoff"),
            "evaporation": put(self.evaporation, "time", "cm", "actual evaporation"),
            "uptake": put(self.uptake, "time", "cm", "water taken out by sinks", "sink"),
        }
        grid = self.column.grid
        depth = {"units": "cm", "positive": "down", "long_name": "depth of the centres of cells", "axis": "Z"}
        coords = {
            "time": ("time", edges[:-1], {"standard_name": "time", "long_name": "start of interval"}),
            "time_edge": ("time_edge", edges, {"standard_name": "time", "long_name": "edges of intervals"}),
            "depth": ("depth", grid.depth, depth),
            "thickness": ("depth", grid.thickness, {"units": "cm", "long_name": "thickness of cells"}),
        }
        if self.forcing.basins and batch:
            coords["column"] = ("column", list(self.forcing.basins))
        worst = float(self.balance_error.detach().abs().max())
        return xr.Dataset(data, coords, {"Conventions": "CF-1.11", "max_balance_error_cm": worst})


def flow(
    column: Column,
    forcing: Forcing,
    p: Mapping[str, Tensor | float] | Sequence[Mapping[str, Tensor | float]] | None = None,
    psi0: Tensor | float = -100.0,
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
        Differentiable (once) by p, weights of laws, psi0, pond0 and every value of boundaries and sinks.

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
