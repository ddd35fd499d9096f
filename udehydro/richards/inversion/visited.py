"""What a run has seen of its soils: heads visited, and curves with bands that say where they are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, jvp, vmap

from udehydro.errors import ConfigError
from udehydro.richards.column.result import ColumnRun
from udehydro.richards.inversion.curve_search import Curves
from udehydro.richards.inversion.curves import Bands
from udehydro.richards.inversion.free import Free

if TYPE_CHECKING:
    from udehydro.richards.inversion.fit import Fitted


def visited(run: ColumnRun, layer: int = 0, share: float = 0.9) -> tuple[Tensor, Tensor]:
    """Driest and wettest head (*batch,) between which the middle ``share`` of a layer's cells and times lie [cm].

    Beyond them curves are extrapolated: their errors there are not the data's.
    """
    if not 0.0 < share <= 1.0:
        raise ConfigError(f"share={share} is above zero, at most one.")
    psi = run.psi[..., run.column.cells_of_layers[layer]].detach().movedim(0, -1).flatten(-2)
    tail = 0.5 * (1.0 - share)
    return torch.quantile(psi, tail, dim=-1), torch.quantile(psi, 1.0 - tail, dim=-1)


def bands(fitted: Fitted, psi: Tensor, layer: int = 0) -> Bands:
    """Curves of a layer at heads ``psi`` (N,), and their standard deviations by Laplace's approximation (*batch, N)."""
    check_one_curve(fitted, layer)
    inversion, u = fitted.inversion, fitted.inversion.unknowns
    law, values = inversion.column.layers[layer].law, fitted.setting.p[layer]
    batch, along = inversion.forcing.batch, u.along(fitted.x)
    psi = torch.as_tensor(psi).to(u.like)
    names = [n for n in values if n in law.ranges]
    p = {n: torch.as_tensor(values[n]).to(psi).expand(batch).unsqueeze(-1).contiguous() for n in names}
    moves = {n: _by_column(along["soil", layer, n], batch) for n in names if ("soil", layer, n) in along}
    every = {id(w): i for i, w in enumerate(inversion.column.weights())}
    weights = {n: w.detach() for n, w in law.named_parameters()}
    turns = {n: along[every[id(w)]] for n, w in law.named_parameters() if every[id(w)] in along}
    ask = Curves(law)

    def curves(p_moved, weights_moved):
        own = {f"law.{n}": w for n, w in {**weights, **weights_moved}.items()}
        return functional_call(ask, own, ({**p, **p_moved}, psi, psi))

    def one(by_p, by_weights):
        point = ({n: p[n] for n in moves}, {n: weights[n] for n in turns})
        return jvp(curves, point, (by_p, by_weights))[1]

    with torch.no_grad():
        found = curves({}, {})
        if not moves and not turns:
            return Bands(found[0], torch.zeros_like(found[0]), found[1], torch.zeros_like(found[1]))
        slopes = vmap(one)(moves, turns)
        covariance = fitted.covariance
        if not u.apart:
            covariance = covariance[0][u.where[:, :, None], u.where[:, None, :]]
        sd = []
        for value, slope in zip(found, slopes, strict=True):
            slope = slope.reshape(len(slope), -1, len(psi))
            spread = torch.einsum("pcn,cpq,qcn->cn", slope, covariance, slope).clamp_min(0.0).sqrt()
            sd.append(spread.reshape(value.shape))
    return Bands(found[0], sd[0], found[1], sd[1])


def check_one_curve(fitted: Fitted, layer: int) -> None:
    """Refuse parameters that differ from cell to cell."""
    u, batch = fitted.inversion.unknowns, fitted.inversion.forcing.batch
    by_cell = [n for n, v in u.setting.p[layer].items() if not isinstance(v, Free) and np.ndim(v) > len(batch)]
    by_cell += [k[2] for i in u.items for k in i.keys if k[:2] == ("soil", layer) and i.free.spread is not None]
    if by_cell:
        raise ConfigError(
            f"'{by_cell[0]}' of layer {layer} differs by cell: its soil has no one curve. Ask the law at the values of "
            "a cell, fitted.setting.p, or make layers of what differs."
        )


def _by_column(moves: Tensor, batch: tuple[int, ...]) -> Tensor:
    """Changes (D, *batch or nothing) of a parameter as (D, *batch, 1)."""
    shape = moves.shape[1:] or (1,) * len(batch)
    return moves.reshape(len(moves), *shape).expand(-1, *batch).unsqueeze(-1)
