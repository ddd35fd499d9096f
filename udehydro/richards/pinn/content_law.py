"""Soil as moisture sensors know it: diffusivity and conductivity as functions of the water content.

    theta_t = d/dz [D(theta) theta_z + K(theta)]

In this form the equation has neither a head nor its zero, and K counts by its differences alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class ContentLaw:
    """D(theta) and K(theta) through knots, for fields whose state is the water content.

    ln D is a cubic curve through its values at the knots, linear beyond them. K rises: ln dK/dtheta is linear from knot
    to knot, so that K is an integral in closed form; it is zero at the first knot.

    Parameters
    ----------
    knots : rising water contents (k,).

    Values ``p`` are ``"D"``, ln D [cm2/d], and ``"S"``, ln dK/dtheta [cm/d], each (..., k).
    """

    def __init__(self, knots: Tensor):
        self.knots = torch.as_tensor(knots, dtype=torch.float64)

    def theta(self, theta: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        return theta

    def capacity(self, theta: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        return torch.ones_like(theta)

    def diffusivity(self, theta: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        """D [cm2/d]."""
        return torch.exp(self.log_diffusivity(theta, p))

    def log_diffusivity(self, theta: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        """ln D, with slopes at knots of the parabola through three of them."""
        widths, knots = self.knots.to(theta).diff(), p["D"]
        secant = knots.diff() / widths
        a, b = widths[:-1], widths[1:]
        middle = (b * secant[..., :-1] + a * secant[..., 1:]) / (a + b)
        slopes = torch.cat([secant[..., :1], middle, secant[..., -1:]], -1)
        cell, h, t = self._cell(theta)
        y0, y1 = _pick(knots, cell, 0), _pick(knots, cell, 1)
        m0, m1 = h * _pick(slopes, cell, 0), h * _pick(slopes, cell, 1)
        s = t.clamp(0.0, 1.0)
        inner = y0 + (y1 - y0) * s * s * (3.0 - 2.0 * s) + s * (1.0 - s) * (m0 * (1.0 - s) - m1 * s)
        return inner + torch.where(t > 1.0, m1 * (t - 1.0), 0.0) + torch.where(t < 0.0, m0 * t, 0.0)

    def conductivity(self, theta: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        """K [cm/d], above what it is at the first knot."""
        logs = p["S"]
        rises = logs.diff()
        areas = self.knots.to(theta).diff() * torch.exp(logs[..., :-1]) * _mean_exp(rises)
        below = torch.cat([torch.zeros_like(areas[..., :1]), areas.cumsum(-1)], -1)
        cell, h, t = self._cell(theta)
        start, rise = torch.exp(_pick(logs, cell, 0)), _pick(rises, cell, 0)
        return _pick(below, cell, 0) + h * t * start * _mean_exp(rise * t)

    def _cell(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Interval of contents, its width, and the place in it from 0 to 1 (outside beyond the ends)."""
        knots = self.knots.to(theta)
        cell = (theta.detach().unsqueeze(-1) >= knots[1:-1]).sum(-1)
        h = knots.diff()[cell]
        return cell, h, (theta - knots[cell]) / h


def _pick(values: Tensor, cell: Tensor, shift: int) -> Tensor:
    """Values (..., k) at cells (...)."""
    shape = torch.broadcast_shapes(values.shape[:-1], cell.shape)
    index = (cell + shift).expand(shape).unsqueeze(-1)
    return values.expand(*shape, -1).gather(-1, index).squeeze(-1)


def _mean_exp(x: Tensor) -> Tensor:
    """Mean of exp over 0 to x: (exp(x) - 1) / x."""
    small = x.abs() < 1e-4
    safe = torch.where(small, 1.0, x)
    return torch.where(small, 1.0 + x / 2.0 + x * x / 6.0, torch.expm1(safe) / safe)
