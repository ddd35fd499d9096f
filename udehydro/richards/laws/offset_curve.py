"""The heads of a soil whose conductivity has an offset and whose diffusivity is kept."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from udehydro.richards.laws.base import DRY, SoilLaw, Values

_NEAR, _FAR = 1e-9, -20.0 * DRY
"""Suctions [cm] beyond the air entry: nearer it, K counts as saturated; to half the other the curve goes at most."""
_PANELS, _CLOSE = 480, 18.0
_GAUSS = np.polynomial.legendre.leggauss(8)
_SECTIONS, _ROUNDS, _ITERATIONS = 1024, 4, 6


class OffsetCurve:
    """q(s) = integral of K / (K + offset) over the suction beyond air entry of a law, from 0 to s.

    In w = log(s / (far - s)) the integrand is smooth at both ends: at saturation as in the logarithm of suction, and at
    ``far`` where K is -offset, which is a pole. Without such a place far is 2e8 cm, and the curve ends at half of it.
    ``edges`` and ``table`` hold w and q at the edges of panels, by parameters, not by heads.
    """

    def __init__(self, law: SoilLaw, offset: Tensor, like: Tensor, p: Values):
        self.law, self.p, self.offset, self.entry = law, p, offset, law.air_entry(p, like)
        self.rule = [torch.as_tensor(a, dtype=like.dtype, device=like.device) for a in _GAUSS]
        self.wet = self._rate(torch.zeros_like(like))
        one = like.detach().new_zeros((1,) * like.ndim)
        self.far = self._far(one)
        low = math.log(_NEAR) - torch.log(self.far)
        self.endless = self.far > 0.99 * _FAR
        high = torch.where(self.endless, torch.zeros_like(low), _CLOSE)
        steps = torch.linspace(0.0, 1.0, _PANELS + 1, dtype=like.dtype, device=like.device)
        edges = torch.lerp(low, high, steps.reshape(-1, *one.shape))
        if len(law.breaks):
            kinks = torch.as_tensor(law.breaks, dtype=like.dtype, device=like.device).reshape(-1, *one.shape)
            kinks = self._place(torch.minimum(kinks, self._suction(high)))
            edges = torch.cat([edges, kinks.expand(-1, *edges.shape[1:])]).sort(0).values
        self.edges = edges
        parts = self._part(edges[:-1], edges[1:])
        film = _NEAR * self._rate(one)
        self.table = torch.cat([film.expand(1, *parts.shape[1:]), parts]).cumsum(0)

    def warped(self, s: Tensor) -> Tensor:
        """q at a suction."""
        w = self._place(torch.minimum(s.clamp_min(_NEAR), self._suction(self.edges[-1])))
        panel = (w.detach() >= self.edges[1:-1]).sum(0)
        inner = _pick(self.table, panel) + self._part(_pick(self.edges, panel), w)
        return torch.where(s > _NEAR, inner, s * self.wet)

    def unwarped(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Suction at q, and its derivative by q; the driest suction beyond the end."""
        dry = q >= self.table[-1]
        q = torch.where(dry, self.table[-1].detach(), q)
        with torch.no_grad():
            panel = (q >= self.table[1:-1]).sum(0)
            w = self._solve(q, panel)
            s = self._suction(w)
            rate = self._rate(s)
        miss = (q - _pick(self.table, panel) - self._part(_pick(self.edges, panel), w)) / rate
        s = s + (miss - miss.detach())  # the derivative of the inverse function
        film = q <= self.table[0]
        s = torch.where(film, q / self.wet, torch.where(dry & self.endless, s.detach(), s))
        return s, torch.where(dry, 0.0, 1.0 / torch.where(film, self.wet, self._rate(s)))

    def _solve(self, q: Tensor, panel: Tensor) -> Tensor:
        """w at q by Newton's iteration, kept within its panel, where the integrand hardly bends."""
        start, low, high = _pick(self.table, panel), _pick(self.edges, panel), _pick(self.edges, panel + 1)
        w = 0.5 * (low + high)
        for _ in range(_ITERATIONS):
            miss = start + self._part(low, w) - q
            new = w - miss / (self._rate(self._suction(w)) * self._stretch(w))
            w = torch.minimum(torch.maximum(new, low), high)
        return w

    def _far(self, like: Tensor) -> Tensor:
        """Suction up to which K is above -offset, at most 2e8 cm; by repeated section of its logarithm."""
        with torch.no_grad():
            low = math.log(_NEAR) + 0.0 * (self.law.conductivity(like, self.p) + self.offset)
            width = torch.full_like(low, math.log(_FAR / _NEAR))
            steps = torch.arange(1, _SECTIONS + 1, dtype=like.dtype, device=like.device).reshape(-1, *(1,) * low.ndim)
            for _ in range(_ROUNDS):
                width = width / _SECTIONS
                k = self.law.conductivity(self.entry - torch.exp(low + width * steps), self.p)
                low = low + width * (k + self.offset > 0.0).sum(0).to(low.dtype)
            return torch.exp(low).clamp_max(_FAR)

    def _rate(self, s: Tensor) -> Tensor:
        """dq / ds."""
        k = self.law.conductivity(self.entry - s, self.p)
        eps, tiny = torch.finfo(k.dtype).eps, torch.finfo(k.dtype).tiny ** 0.25
        k = k.clamp_min(tiny)  # gradients stay finite where nothing flows
        return k / torch.maximum(k + self.offset, eps * k)

    def _suction(self, w: Tensor) -> Tensor:
        return self.far * torch.sigmoid(w)

    def _stretch(self, w: Tensor) -> Tensor:
        """ds / dw."""
        return self.far * torch.sigmoid(w) * torch.sigmoid(-w)

    def _place(self, s: Tensor) -> Tensor:
        """w of a suction."""
        return torch.log(s) - torch.log((self.far - s).clamp_min(torch.finfo(s.dtype).tiny))

    def _part(self, a: Tensor, b: Tensor) -> Tensor:
        """Integral from w = a to b, by Gauss's rule."""
        nodes, weights = (r.reshape(-1, *(1,) * b.ndim) for r in self.rule)
        w = a + (b - a) * (0.5 + 0.5 * nodes)
        return (b - a) * (0.5 * weights * self._rate(self._suction(w)) * self._stretch(w)).sum(0)


def _pick(table: Tensor, row: Tensor) -> Tensor:
    """Values of a table (rows, ...) at a row for every place."""
    shape = torch.broadcast_shapes(table.shape[1:], row.shape)
    return table.expand(-1, *shape).gather(0, row.expand(shape).unsqueeze(0)).squeeze(0)
