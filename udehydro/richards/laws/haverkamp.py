"""Haverkamp's laws: the form for sand, and the one for clay with the logarithm of suction."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from udehydro.richards.laws.base import DRY, LIMITS, RelativeLaw, Values, suction
from udehydro.structure import Range


class Haverkamp(RelativeLaw):
    """``S = alpha / (alpha + s^beta)``, ``K = Ks A / (A + s^gamma)`` at suction s [cm] (Haverkamp et al. 1977).

    Defaults are the sand of Celia et al. (1990), as used there. The units of alpha and A follow their exponents.
    """

    ranges = LIMITS | {
        "alpha": Range(1.0, 1e8, "cm^beta", default=1.611e6),
        "beta": Range(1.01, 8.0, "1", default=3.96),
        "A": Range(1.0, 1e8, "cm^gamma", default=1.175e6),
        "gamma": Range(1.01, 8.0, "1", default=4.74),
    }

    def log_saturation(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        dry, s = suction(psi)
        return torch.where(dry, -softplus(v["beta"] * torch.log(s) - torch.log(v["alpha"])), 0.0)

    def log_relative(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        dry, s = suction(psi)
        return torch.where(dry, -softplus(v["gamma"] * torch.log(s) - torch.log(v["A"])), 0.0)

    def capacity(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        dry, s = suction(psi)
        x = v["beta"] * torch.log(s) - torch.log(v["alpha"])
        shape = torch.sigmoid(x) * torch.sigmoid(-x)
        return torch.where(dry, (v["theta_s"] - v["theta_r"]) * v["beta"] / s * shape, 0.0)

    def head(self, theta: Tensor, p: Values) -> Tensor:
        v = self.values(p, theta)
        return -torch.exp(_inverse(self._saturation(theta, v), v).clamp_max(math.log(-DRY)))


class HaverkampLog(Haverkamp):
    """``S = alpha / (alpha + (ln s)^beta)`` beyond s = 1 cm, conductivity as in :class:`Haverkamp`.

    Defaults are Yolo light clay (Haverkamp et al. 1977).
    """

    ranges = LIMITS | {
        "theta_r": Range(0.0, 0.2, "1", default=0.124),
        "theta_s": Range(0.2, 0.95, "1", default=0.495),
        "Ks": Range(1e-3, 1e4, "cm/d", default=1.23e-5 * 86400.0),
        "alpha": Range(1.0, 1e6, "1", default=739.0),
        "beta": Range(1.01, 8.0, "1", default=4.0),
        "A": Range(1.0, 1e8, "cm^gamma", default=124.6),
        "gamma": Range(1.01, 8.0, "1", default=1.77),
    }

    def log_saturation(self, psi: Tensor, p: Values) -> Tensor:
        dry, x, _ = self._place(psi, p)
        return torch.where(dry, -softplus(x), 0.0)

    def capacity(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        dry, x, s = self._place(psi, p)
        slope = (v["theta_s"] - v["theta_r"]) * v["beta"] / (s * torch.log(s)) * torch.sigmoid(x) * torch.sigmoid(-x)
        return torch.where(dry, slope, 0.0)

    def head(self, theta: Tensor, p: Values) -> Tensor:
        v = self.values(p, theta)
        return -torch.exp(torch.exp(_inverse(self._saturation(theta, v), v).clamp_max(math.log(math.log(-DRY)))))

    def _place(self, psi: Tensor, p: Values) -> tuple[Tensor, Tensor, Tensor]:
        """Mask of suctions beyond 1 cm, log of (ln s)^beta / alpha there, and the suction."""
        v = self.values(p, psi)
        dry, s = suction(psi, 1.0)
        return dry, v["beta"] * torch.log(torch.log(s)) - torch.log(v["alpha"]), s


def _inverse(saturation: Tensor, v: dict[str, Tensor]) -> Tensor:
    """x with alpha / (alpha + exp(beta x)) = saturation."""
    wet = torch.finfo(saturation.dtype).tiny
    return (torch.log(v["alpha"]) + torch.log((1.0 - saturation).clamp_min(wet) / saturation)) / v["beta"]
