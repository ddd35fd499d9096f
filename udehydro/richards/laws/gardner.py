"""Gardner's exponential conductivity, with a water content that makes the Richards equation linear."""

from __future__ import annotations

import torch
from torch import Tensor

from udehydro.richards.laws.base import DRY, LIMITS, RelativeLaw, Values
from udehydro.structure import Range


class Gardner(RelativeLaw):
    """``K = Ks exp(alpha psi)`` (Gardner 1958) and ``S = exp(alpha psi)`` (as in Srivastava and Yeh 1991), psi < 0.

    Diffusivity is constant, so that K obeys a linear equation, which exact solutions use.
    """

    ranges = LIMITS | {"alpha": Range(1e-3, 1.0, "1/cm", default=0.1)}

    def log_saturation(self, psi: Tensor, p: Values) -> Tensor:
        return self.values(p, psi)["alpha"] * torch.where(psi < 0.0, psi, 0.0)

    def log_relative(self, psi: Tensor, p: Values) -> Tensor:
        return self.log_saturation(psi, p)

    def capacity(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        slope = (v["theta_s"] - v["theta_r"]) * v["alpha"] * torch.exp(self.log_saturation(psi, p))
        return torch.where(psi < 0.0, slope, 0.0)

    def diffusivity(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        return torch.where(psi < 0.0, v["Ks"] / (v["alpha"] * (v["theta_s"] - v["theta_r"])), torch.inf)

    def head(self, theta: Tensor, p: Values) -> Tensor:
        v = self.values(p, theta)
        return (torch.log(self._saturation(theta, v)) / v["alpha"]).clamp_min(DRY)

    def kirchhoff(self, psi: Tensor, p: Values, start: float = DRY) -> Tensor:
        v = self.values(p, psi)
        wet = v["Ks"] * psi.clamp_min(0.0)
        return wet + (self.conductivity(psi, p) - v["Ks"] * torch.exp(v["alpha"] * start)) / v["alpha"]
