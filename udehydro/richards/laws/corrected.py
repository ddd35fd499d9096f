"""A soil law corrected by a small network that starts as no correction."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from udehydro.richards.laws.base import SoilLaw, Values


class Corrected(SoilLaw):
    """A law that reads a warped head: ``theta(psi) = law.theta(w1(psi))``, and conductivity with a warp of its own.

    A warp rises, leaves saturated soil alone and is the identity at first, so that limits and monotonicity are those of
    the law, and so are its values, until training moves it. In the logarithm of suction its slope stays between 0 and
    2: curves become flatter or up to twice as steep, and shift by some factor of suction. Where the law has an air
    entry, which a warp moves, the Kirchhoff integral is good to 1e-5.

    Parameters
    ----------
    law : the law to correct; its parameters are those of the corrected law.
    units : steps of each warp; ``offset`` : suction [cm] below which the logarithm is flattened.
    members : None, or the number M of independent corrections; psi then has shape (..., M, B, cell).
    """

    def __init__(self, law: SoilLaw, units: int = 8, *, offset: float = 1.0, members: int | None = None):
        super().__init__()
        self.law, self.ranges = law, law.ranges
        self.retention, self.conductance = (Warp(units, offset, members) for _ in range(2))

    def theta(self, psi: Tensor, p: Values) -> Tensor:
        return self.law.theta(self.retention(psi), p)

    def conductivity(self, psi: Tensor, p: Values) -> Tensor:
        return self.law.conductivity(self.conductance(psi), p)

    def log_conductivity(self, psi: Tensor, p: Values) -> Tensor:
        return self.law.log_conductivity(self.conductance(psi), p)

    def capacity(self, psi: Tensor, p: Values) -> Tensor:
        return self.law.capacity(self.retention(psi), p) * self.retention.slope(psi)


class Warp(nn.Module):
    """psi -> psi', rising: ``log(1 + s'/offset) = t + sum_j u_j / v_j (tanh(v_j (t - c_j)) + tanh(v_j c_j))`` with
    t = log(1 + s/offset) at suction s = -psi, v_j > 0 and sum |u_j| < 1. ``weights`` (*lead, 3, units) holds what u, v
    and c are made of.
    """

    def __init__(self, units: int, offset: float, members: int | None):
        super().__init__()
        self.offset = offset
        lead = () if members is None else (members, 1, 1)
        centre = torch.linspace(0.0, 14.0, units, dtype=torch.float64, device="cpu")
        start = torch.stack([torch.zeros_like(centre), torch.zeros_like(centre), centre])
        self.weights = nn.Parameter(start.expand(*lead, 3, units).clone())

    def forward(self, psi: Tensor) -> Tensor:
        t, u, v, c = self._place(psi)
        shift = (u / v * (torch.tanh(v * (t - c)) + torch.tanh(v * c))).sum(-1)
        return psi - (self.offset + (-psi).clamp_min(0.0)) * torch.expm1(shift)

    def slope(self, psi: Tensor) -> Tensor:
        """d psi' / d psi."""
        t, u, v, c = self._place(psi)
        step = torch.tanh(v * (t - c))
        shift = (u / v * (step + torch.tanh(v * c))).sum(-1)
        return torch.where(psi < 0.0, torch.exp(shift) * (1.0 + (u * (1.0 - step**2)).sum(-1)), 1.0)

    def _place(self, psi: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        t = torch.log1p((-psi).clamp_min(0.0) / self.offset).unsqueeze(-1)
        u, v, c = self.weights.unbind(-2)
        return t, u / (1.0 + u.abs().sum(-1, keepdim=True)), softplus(v), c
