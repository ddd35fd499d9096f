"""Soil law of two monotone cubic splines over pF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from udehydro.errors import ConfigError
from udehydro.richards.laws.base import Values
from udehydro.richards.laws.free_form import FreeForm
from udehydro.richards.laws.van_genuchten import VanGenuchten
from udehydro.structure import Range

KNOTS = (0.0, 0.5, 1.0, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.25, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0)
"""Default knots in x, which is pF + 1 in dry soil: close together between pF 0.5 and 2.5."""
_GROWTH = Range(1e-8, 100.0, "1", default=0.1)


class MonotoneSpline(FreeForm):
    """Free-form law (:class:`FreeForm`) of two piecewise cubic curves through knots, linear beyond the last.

    Parameters
    ----------
    knots : x of the knots, rising; the first is 0.
    free : where the rises from knot to knot live: ``"weights"`` of the law, or ``"parameters"`` in ``p``, named
        ``G1``, ``G2``, ... and ``H1``, ``H2``, ...: -ln S and -ln(K / Ks) rise by that much from knot to knot.
    members : None, or the number M of independent laws, whose weights then act on psi of shape (..., M, B, cell).

    Both start as a sandy loam: weights do at once, parameters as their defaults.

    Raises
    ------
    ConfigError
        For knots that do not rise from zero.
    """

    def __init__(
        self,
        knots: Sequence[float] = KNOTS,
        *,
        offset: float = 0.1,
        free: Literal["weights", "parameters"] = "weights",
        members: int | None = None,
    ):
        places = [float(k) for k in knots]
        if len(places) < 3 or places[0] != 0.0 or any(b <= a for a, b in zip(places, places[1:], strict=False)):
            raise ConfigError(f"knots={places} must be three or more, rising from 0.")
        if free not in ("weights", "parameters"):
            raise ConfigError(f"free must be 'weights' or 'parameters', got {free!r}.")
        if free == "parameters" and members is not None:
            raise ConfigError("members is for weights; parameters get a member axis in p.")
        names = ("G", "H") if free == "parameters" else (None, None)
        super().__init__(*(RisingSpline(places, name, members) for name in names), offset)
        self.breaks = self.suction(self.retention.knots[1:]).tolist()
        soil = VanGenuchten()
        start = self.imitate(soil, soil.defaults)
        self.ranges = {n: Range(r.low, r.high, r.unit, float(start[n])) for n, r in self.ranges.items()}


class RisingSpline(nn.Module):
    """Cubic Hermite curve with y(0) = 0 and rises above zero, with the slopes of Fritsch and Butland (1984), which make
    it as monotone as its knots.

    ``name`` is None where the rises are softplus of the module's weights, or the prefix of their names in ``p``.
    """

    def __init__(self, knots: Sequence[float], name: str | None, members: int | None):
        super().__init__()
        self.register_buffer("knots", torch.tensor(knots, dtype=torch.float64, device="cpu"))
        self.names = () if name is None else tuple(f"{name}{i}" for i in range(1, len(knots)))
        self.ranges = dict.fromkeys(self.names, _GROWTH)
        if name is None:
            lead = () if members is None else (members, 1, 1)
            self.weights = nn.Parameter(torch.zeros(*lead, len(knots) - 1, dtype=torch.float64, device="cpu"))

    def forward(self, x: Tensor, p: Values) -> Tensor:
        t, h, y0, y1, d0, d1 = self._cell(x, p)
        inner = y0 + (y1 - y0) * t * t * (3.0 - 2.0 * t) + h * t * (1.0 - t) * (d0 * (1.0 - t) - d1 * t)
        return torch.where(t > 1.0, y1 + d1 * h * (t - 1.0), inner)

    def slope(self, x: Tensor, p: Values) -> Tensor:
        """dy / dx."""
        t, h, y0, y1, d0, d1 = self._cell(x, p)
        inner = 6.0 * t * (1.0 - t) * (y1 - y0) / h + d0 * (1.0 - t) * (1.0 - 3.0 * t) + d1 * t * (3.0 * t - 2.0)
        return torch.where(t > 1.0, d1, inner)

    def fit(self, curve: Callable[[Tensor], Tensor], x: Tensor) -> dict[str, Tensor]:
        """Go through the knots of a curve, y(0) = 0, wherever x is; returns the rises where they are parameters."""
        rise = curve(self.knots).diff().clamp(_GROWTH.low, _GROWTH.high)
        if self.names:
            return dict(zip(self.names, rise.unbind(), strict=True))
        self.weights.data.copy_((rise + torch.log(-torch.expm1(-rise))).expand_as(self.weights))
        return {}

    def _rises(self, x: Tensor, p: Values) -> Tensor:
        """(..., knots - 1)"""
        if not self.names:
            return softplus(self.weights)
        values = [torch.as_tensor(p[n], dtype=x.dtype, device=x.device) for n in self.names]
        return torch.stack(torch.broadcast_tensors(*values), -1)

    def _cell(self, x: Tensor, p: Values) -> tuple[Tensor, ...]:
        """Place within its interval, 0 to 1 (more beyond the last), its width, and values and slopes at its ends."""
        rises = self._rises(x, p)
        widths = self.knots.diff()
        y = torch.cat([torch.zeros_like(rises[..., :1]), rises.cumsum(-1)], -1)
        d = _slopes(rises, widths)
        at = (x.unsqueeze(-1) >= self.knots[1:-1]).sum(-1)  # searchsorted and knots[at] have no vmap

        def pick(values: Tensor, shift: int) -> Tensor:
            shape = torch.broadcast_shapes(values.shape[:-1], at.shape)
            index = (at + shift).expand(shape).unsqueeze(-1)
            return values.expand(*shape, -1).gather(-1, index).squeeze(-1)

        h = pick(widths, 0)
        return (x - pick(self.knots, 0)) / h, h, pick(y, 0), pick(y, 1), pick(d, 0), pick(d, 1)


def _slopes(rises: Tensor, widths: Tensor) -> Tensor:
    """Slopes at all knots: weighted harmonic means of the secants beside them, one-sided parabolas at the ends."""
    secant = rises / widths
    a, b = widths[:-1], widths[1:]
    left, right = secant[..., :-1], secant[..., 1:]
    inner = 3.0 * (a + b) / ((2.0 * b + a) / left + (b + 2.0 * a) / right)
    ends = [_end(secant[..., i], secant[..., j], widths[i], widths[j]) for i, j in ((0, 1), (-1, -2))]
    return torch.cat([ends[0], inner, ends[1]], -1)


def _end(near: Tensor, next_: Tensor, width: Tensor, beside: Tensor) -> Tensor:
    slope = ((2.0 * width + beside) * near - width * next_) / (width + beside)
    return torch.minimum(slope.clamp_min(0.0), 3.0 * near).unsqueeze(-1)
