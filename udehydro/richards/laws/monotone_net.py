"""Soil law of two monotone networks over pF."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from udehydro.errors import ConfigError
from udehydro.richards.laws.base import Values
from udehydro.richards.laws.free_form import FreeForm

_STEPS = 300


class MonotoneNet(FreeForm):
    """Free-form law (:class:`FreeForm`) of two networks that are monotone by construction, with weights of their own.

    Parameters
    ----------
    units : width of the one hidden layer, half of it steps (tanh), half ramps (softplus).
    members : None, or the number M of independent laws; psi then has shape (..., M, B, cell).
    seed : of the start weights, of no soil in particular; :meth:`imitate` a law to start from one.

    Raises
    ------
    ConfigError
        For fewer than two units.
    """

    def __init__(self, units: int = 16, *, offset: float = 0.1, members: int | None = None, seed: int = 0):
        if units < 2:
            raise ConfigError(f"units={units} must be two or more: half of them are steps, half ramps.")
        generator = torch.Generator().manual_seed(seed)
        super().__init__(*(RisingNet(units, members, generator) for _ in range(2)), offset)


class RisingNet(nn.Module):
    """``y(x) = a x + sum_j w_j (act(v_j (x - c_j)) - act(-v_j c_j))`` with a, v, w above zero: rises from y(0) = 0.

    They are the softplus of weights, not squares, whose gradient vanishes at zero. ``weights`` (*lead, 3 units + 1)
    holds v, w, c and a one after the other, where lead is () or (members, 1, 1).
    """

    def __init__(self, units: int, members: int | None, generator: torch.Generator):
        super().__init__()
        lead = () if members is None else (members, 1, 1)
        self.units = units
        start = torch.rand(*lead, 3 * units + 1, generator=generator, dtype=torch.float64, device="cpu")
        v, w, c, a = start.split([units, units, units, 1], -1)
        spread = torch.linspace(0.0, 7.0, (units + 1) // 2, dtype=start.dtype, device="cpu").repeat(2)[:units]
        self.weights = nn.Parameter(torch.cat([v + 1.0, 2.0 * w - 4.0, spread + c, a - 4.0], -1))

    def forward(self, x: Tensor, p: Values | None = None) -> Tensor:
        return self._value(x, self.weights)

    def slope(self, x: Tensor, p: Values | None = None) -> Tensor:
        """dy / dx."""
        v, w, c, a = self._split(self.weights)
        return a.squeeze(-1) + (w * v * self._gain(v * (x.unsqueeze(-1) - c))).sum(-1)

    def fit(self, curve: Callable[[Tensor], Tensor], x: Tensor) -> dict[str, Tensor]:
        """Follow a curve at points (N,), y(0) = 0, by Levenberg-Marquardt steps; every member from its own start."""
        y, w = curve(x), self.weights.detach().reshape(-1, self.weights.shape[-1])
        damping = torch.full_like(w[:, :1], 1e-2)
        gap = y - self._value(x, w[:, None])  # (members, N)
        for _ in range(_STEPS):
            jacobian = self._jacobian(x, w[:, None])
            normal, pull = jacobian.mT @ jacobian, jacobian.mT @ gap.unsqueeze(-1)
            ridge = damping * normal.diagonal(dim1=-2, dim2=-1) + 1e-10
            trial = w + torch.linalg.solve(normal + torch.diag_embed(ridge), pull).squeeze(-1)
            left = y - self._value(x, trial[:, None])
            better = left.square().sum(-1, keepdim=True) < gap.square().sum(-1, keepdim=True)
            w, gap = torch.where(better, trial, w), torch.where(better, left, gap)
            damping = torch.where(better, damping / 3.0, damping * 4.0).clamp(1e-12, 1e12)
        self.weights.data.copy_(w.reshape(self.weights.shape))
        return {}

    def _value(self, x: Tensor, weights: Tensor) -> Tensor:
        v, w, c, a = self._split(weights)
        x = x.unsqueeze(-1)
        return (a * x).squeeze(-1) + (w * (self._units(v * (x - c)) - self._units(-v * c))).sum(-1)

    def _jacobian(self, x: Tensor, weights: Tensor) -> Tensor:
        """dy / dweights, (*lead, N, 3 units + 1) at x (N,)."""
        v, w, c, _ = self._split(weights)
        x = x.unsqueeze(-1)
        z, z0 = v * (x - c), -v * c
        gain, gain0 = self._gain(z), self._gain(z0)
        by_v = w * (gain * (x - c) + gain0 * c)
        columns = (by_v, self._units(z) - self._units(z0), w * v * (gain0 - gain), x.expand(*by_v.shape[:-1], 1))
        through = torch.sigmoid(weights).split([self.units, self.units, self.units, 1], -1)  # slope of softplus
        return torch.cat([columns[0] * through[0], columns[1] * through[1], columns[2], columns[3] * through[3]], -1)

    def _units(self, z: Tensor) -> Tensor:
        step, ramp = z.tensor_split([self.units // 2], -1)
        return torch.cat([torch.tanh(step), softplus(ramp)], -1)

    def _gain(self, z: Tensor) -> Tensor:
        """Slope of the units."""
        step, ramp = z.tensor_split([self.units // 2], -1)
        return torch.cat([1.0 - torch.tanh(step) ** 2, torch.sigmoid(ramp)], -1)

    def _split(self, weights: Tensor) -> tuple[Tensor, ...]:
        v, w, c, a = weights.split([self.units, self.units, self.units, 1], -1)
        return softplus(v), softplus(w), c, softplus(a)
