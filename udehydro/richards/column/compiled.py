"""Columns as tables for the loops of :mod:`.kernels`, which do most of the work on the CPU.

Values are those of the laws and of :class:`.system.System` to rounding. What has no loop (laws and weightings of one's
own, other devices, single precision, gradients) goes by those themselves.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from udehydro.richards.column import kernels
from udehydro.richards.column.boundary import Atmospheric, Flux, FreeDrainage, Head, SeepageFace, WaterTable
from udehydro.richards.column.sinks import RootUptake, Source
from udehydro.richards.column.weighting import arithmetic, geometric, harmonic, upwind
from udehydro.richards.laws.base import SoilLaw
from udehydro.richards.laws.brooks_corey import BrooksCorey
from udehydro.richards.laws.gardner import Gardner
from udehydro.richards.laws.haverkamp import Haverkamp, HaverkampLog
from udehydro.richards.laws.monotone_net import MonotoneNet
from udehydro.richards.laws.monotone_spline import MonotoneSpline
from udehydro.richards.laws.van_genuchten import VanGenuchten
from udehydro.solvers import chain_numba

Local = tuple[Tensor, Tensor, Tensor, Tensor]
"""Water content, its slope, conductivity, its slope, each of the shape of the heads."""


def local(law: SoilLaw, psi: Tensor, p: dict[str, Tensor]) -> Local:
    """Answers of a law at heads (columns, node) and their derivatives by the head, without a graph."""
    if _known(law) and _takes(psi):
        found = np.empty((4, *psi.shape))
        kernels.curves(LAWS[type(law)][0], array(psi), _soil(law, p, psi), found)
        return tuple(torch.from_numpy(found).unbind())
    with torch.enable_grad():
        a, b = psi.detach().requires_grad_(), psi.detach().requires_grad_()
        theta, k = law.theta(a, p), law.conductivity(b, p)
        total = theta.sum() + k.sum()
        slopes = torch.autograd.grad(total, [a, b], allow_unused=True, materialize_grads=True)
    return theta.detach(), slopes[0], k.detach(), slopes[1]


@torch.no_grad()
def linear(system, psi: Tensor, known: Tensor, tau: Tensor) -> list[Tensor]:
    """The fields of `Linear` at heads (columns, node)."""
    room, moved = psi.new_empty(len(psi), kernels.START, psi.shape[1]), psi.new_empty(len(psi), system.channels)
    room[:, kernels.PSI], room[:, kernels.KNOWN] = psi, known
    kernels.equations(tables(system, psi), room.numpy(), array(tau), moved.numpy())
    row, rate, *rest = room.unbind(1)[kernels.ROW :]
    return [row, rate, moved, *rest]


def usable(column, like: Tensor) -> bool:
    """Whether the loops take a column, with values like a tensor."""
    return (
        _takes(like)
        and any(column.weighting is w for w, _ in WEIGHTINGS)
        and all(type(end) in ENDS for end in (column.top, column.bottom))
        and all(type(sink) in SINKS for sink in column.sinks)
        and all(_known(layer.law) for layer in column.layers)
    )


def _takes(like: Tensor) -> bool:
    return like.dtype == torch.float64 and chain_numba.usable(like)


def _known(law: SoilLaw) -> bool:
    return type(law) in LAWS and all(w.ndim == 1 for w in law.parameters())  # members have more


@torch.no_grad()
def tables(system, like: Tensor) -> kernels.Tables:
    """All that the loops read of a system; values of its ends and sinks may have a dimension of time in front."""
    column, g = system.column, system.geometry
    ends = ((column.top, system.top, 1.0), (column.bottom, system.bottom, -1.0))
    sizes = [*(g.spread(x.unsqueeze(0)) for x in (g.thickness, g.storage)), F.pad(g.distance, (1, 0)).unsqueeze(0)]
    kinds = [number for w, number in WEIGHTINGS if w is column.weighting]
    kinds += [*(ENDS[type(end)][0] for end, *_ in ends), *(SINKS[type(sink)][0] for sink in column.sinks)]
    limits = _rows(x for end, v, outward in ends for x in ENDS[type(end)][1](v, outward))
    layers, soil = _layers(system, like)
    flat = array(torch.cat(sizes)), g.gravity, layers, soil, np.array(kinds), array(_lead(limits, 3))
    return kernels.Tables(*flat, *_sinks(system))


def array(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().numpy()


def _rows(values) -> Tensor:
    """Values side by side, in a dimension behind the others."""
    return torch.stack(torch.broadcast_tensors(*values), -1)


def _lead(x: Tensor, dimensions: int) -> Tensor:
    return x[(None,) * (dimensions - x.ndim)]


def _layers(system, like: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Where layers and their parameters are, and the parameters of all layers."""
    laws, rows, start = [layer.law for layer in system.column.layers], [], 0
    parts = [_soil(law, p, like) for law, p in zip(laws, system.soil, strict=True)]
    for law, part, nodes in zip(laws, parts, system.geometry.nodes, strict=True):
        rows.append((LAWS[type(law)][0], nodes.start, nodes.stop - 1, start, int(part.shape[1] > 1)))
        start += part.shape[1]
    if len(parts) == 1:
        return np.array(rows), parts[0]
    soil = np.zeros((max(len(p) for p in parts), start, max(p.shape[2] for p in parts)))
    for row, part in zip(rows, parts, strict=True):
        soil[:, row[3] : row[3] + part.shape[1], : part.shape[2]] = part
    return np.array(rows), soil


@torch.no_grad()
def _soil(law: SoilLaw, p: dict[str, Tensor], like: Tensor) -> np.ndarray:
    """Parameters of a law as its loop reads them, (columns or 1, cell or 1, parameter)."""
    v = {n: x[0] if x.ndim == 3 else x for n, x in law.values(p, like).items()}
    parts = [_lead(x, 3) for x in (_rows(v[n] for n in ("theta_r", "theta_s", "Ks")), *LAWS[type(law)][1](law, v))]
    shape = torch.broadcast_shapes(*(x.shape[:-1] for x in parts))
    return torch.cat([x.expand(*shape, -1) for x in parts], -1).numpy()


def _van_genuchten(law, v):
    yield _rows(v[n] for n in ("alpha", "n", "l", "entry"))
    if not bool((v["entry"] > 0.0).any()):
        yield _rows((ZERO, ZERO + 1.0))
        return
    plain = v | {n: torch.zeros_like(v[n]) for n in ("l", "entry")}
    yield _rows((law.log_saturation(-v["entry"], plain), torch.exp(law.log_relative(-v["entry"], plain))))


def _haverkamp(law, v):
    yield _rows((torch.log(v["alpha"]), v["beta"], torch.log(v["A"]), v["gamma"]))


def _spline(law, v):
    knots = law.retention.knots
    yield torch.tensor([law.offset, len(knots)], dtype=torch.float64, device="cpu")
    yield knots
    for curve in (law.retention, law.conductance):
        for function in (curve, curve.slope):
            yield function(knots[:, None, None], v).movedim(0, -1)


def _net(law, v):
    yield torch.tensor([law.offset, law.retention.units], dtype=torch.float64, device="cpu")
    for curve in (law.retention, law.conductance):
        v, w, c, a = curve._split(curve.weights)
        yield from (v, w, c, a, (w * curve._units(-v * c)).sum(-1, keepdim=True))


LAWS = {
    VanGenuchten: (kernels.VAN_GENUCHTEN, _van_genuchten),
    Gardner: (kernels.GARDNER, lambda law, v: (v["alpha"].unsqueeze(-1),)),
    Haverkamp: (kernels.HAVERKAMP, _haverkamp),
    HaverkampLog: (kernels.HAVERKAMP_LOG, _haverkamp),
    BrooksCorey: (kernels.BROOKS_COREY, lambda law, v: (_rows(v[n] for n in ("entry", "lambda", "l")),)),
    MonotoneSpline: (kernels.SPLINE, _spline),
    MonotoneNet: (kernels.NET, _net),
}
"""The number of every law that has a loop, and what it reads besides theta_r, theta_s and Ks."""

WEIGHTINGS = (
    (arithmetic, kernels.ARITHMETIC),
    (geometric, kernels.GEOMETRIC),
    (harmonic, kernels.HARMONIC),
    (upwind, kernels.UPWIND),
)

ZERO = torch.zeros((), dtype=torch.float64, device="cpu")
ENDS = {
    Head: (kernels.HEAD, lambda v, outward: (v["psi"], ZERO, ZERO)),
    WaterTable: (kernels.HEAD, lambda v, outward: (v["bottom"] - v["depth"], ZERO, ZERO)),
    Flux: (kernels.FLUX, lambda v, outward: (-outward * v["q"], ZERO, ZERO)),
    FreeDrainage: (kernels.DRAINAGE, lambda v, outward: (ZERO, ZERO, ZERO)),
    SeepageFace: (kernels.SEEPAGE, lambda v, outward: (ZERO, ZERO, ZERO)),
    Atmospheric: (kernels.ATMOSPHERE, lambda v, outward: (v["rain"] - v["evaporation"], v["pond"], v["driest"])),
}
"""The number of every boundary, and three values that its loop reads."""


def _roots(v, thickness):
    heads = [v[n] for n in ("anaerobic", "wet", "dry", "wilting")]
    return v["transpiration"][..., 0], heads, v["density"] / v["density"].sum(-1, keepdim=True)


def _source(v, thickness):
    return torch.ones_like(v["rate"][..., 0]), [torch.zeros_like(v["rate"][..., :1])] * 4, -v["rate"] * thickness


SINKS = {Source: (kernels.SOURCE, _source), RootUptake: (kernels.ROOTS, _roots)}
"""The number of every sink, and its amount, the four heads that reduce it, and its share by cell."""


def _sinks(system) -> tuple[np.ndarray, np.ndarray]:
    """Amounts and shares of sinks."""
    if not system.column.sinks:
        return np.empty((0, 1, 1)), np.empty((0, 1, 1, 1))
    amounts, shares = [], []
    for sink, v in zip(system.column.sinks, system.sinks, strict=True):
        amount, heads, share = SINKS[type(sink)][1](v, system.geometry.thickness)
        shape = torch.broadcast_shapes(*(x.shape[:-1] for x in (*heads, share)))
        amounts.append(_lead(amount, 2))
        shares.append(_lead(torch.cat([x.expand(*shape, -1) for x in (*heads, share)], -1), 3))
    return tuple(array(torch.stack(torch.broadcast_tensors(*x))) for x in (amounts, shares))
