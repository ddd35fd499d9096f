"""A run of a column as a dataset: its states, the fluxes through the faces of its cells, and its balance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import xarray as xr
from torch import Tensor

from udehydro.richards.column import ColumnRun
from udehydro.richards.column.problem import bind


def dataset(run: ColumnRun, p: Sequence[Mapping]) -> xr.Dataset:
    """All series of the run of one column, with ``q`` [cm/d] on ``face`` and ``balance_error`` [cm] on ``time``."""
    found, edges = run.to_xarray(), run.column.grid.edges
    depth = {"units": "cm", "positive": "down", "long_name": "depth of the faces of cells"}
    mean = {"units": "cm/d", "long_name": "mean flux, positive upwards", "cell_methods": "time: mean"}
    error = {"units": "cm", "long_name": "change of storage minus what moved in", "cell_methods": "time: sum"}
    return found.assign_coords(face=("face", list(edges), depth)).assign(
        q=(("time", "face"), through_faces(run, p).numpy(), mean),
        balance_error=("time", run.balance_error.detach().numpy(), error),
    )


def through_faces(run: ColumnRun, p: Sequence[Mapping]) -> Tensor:
    """Mean flux (T, cell + 1) through the faces of cells from the surface down [cm/d], positive upwards.

    By the balance of the cells above: exact without roots. What roots take in an interval is shared out over cells as
    the mean of their shares at its two ends.
    """
    column, days = run.column, run.forcing.days.unsqueeze(-1)
    thickness = torch.as_tensor(column.grid.thickness)
    stores = torch.zeros_like(thickness)
    for layer, cells in zip(column.layers, column.cells_of_layers, strict=True):
        stores[cells] = layer.specific_storage
    water = (run.theta + stores * run.psi.clamp_min(0.0)) * thickness
    gained = (water.diff(dim=0) + _uptake_by_cell(run, p)).detach()
    surface = -run.infiltration.detach().unsqueeze(-1)
    return torch.cat([surface, surface + gained.cumsum(-1)], dim=-1) / days


@torch.no_grad()
def _uptake_by_cell(run: ColumnRun, p: Sequence[Mapping]) -> Tensor:
    """(T, cell) cm."""
    problem, found = bind(run.column, run.forcing, list(p)), torch.zeros_like(run.theta[1:])
    thickness = torch.as_tensor(run.column.grid.thickness)
    for i, sink in enumerate(run.column.sinks):
        v = {k[2]: x for k, x in zip(problem.keys, problem.inputs, strict=True) if k[:2] == ("sink", i)}
        share = sum(sink.uptake(psi.unsqueeze(1), v, thickness)[:, 0] for psi in (run.psi[:-1], run.psi[1:]))
        share = torch.where(share.sum(-1, keepdim=True) > 0.0, share, v["density"][:, 0].expand_as(share))
        found += run.uptake[:, i : i + 1] * share / share.sum(-1, keepdim=True)
    return found
