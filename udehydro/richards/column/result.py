"""ColumnRun: what a run of a column returns, with names, units and the balance."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from udehydro.forcing import Forcing, date
from udehydro.richards.column.column import Column


@dataclass(frozen=True)
class States:
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
    """

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


@dataclass(frozen=True)
class ColumnRun(States):
    """What a run of a column returns: its :class:`States`, and how it was found.

    Attributes
    ----------
    column, forcing : what was run.
    accepted, rejected, iterations : (*batch) steps, and iterations of Newton's method.
    """

    column: Column
    forcing: Forcing
    accepted: Tensor
    rejected: Tensor
    iterations: Tensor

    def __repr__(self) -> str:
        steps = f"{int(self.accepted.sum())} steps, {int(self.rejected.sum())} more rejected"
        first, last = date(self.forcing.time_edge[0]), date(self.forcing.time_edge[-1])
        worst = float(self.balance_error.detach().abs().max())
        return (
            f"ColumnRun({len(self.forcing)} intervals from {first} to {last}, batch {self.forcing.batch}, "
            f"{self.column.grid.cells} cells; {steps}; balance error {worst:.1e} cm)"
        )

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
