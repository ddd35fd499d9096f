"""Brooks and Corey's power laws above an air entry."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from udehydro.richards.laws.base import DRY, LIMITS, RelativeLaw, Values, suction
from udehydro.structure import Range


class BrooksCorey(RelativeLaw):
    """``S = (entry / s)^lambda`` at suction s = -psi beyond the air entry [cm], ``K = Ks S^(l + 2 + 2 / lambda)``.

    ``l`` = 1 is Burdine's exponent, of the original law (Brooks and Corey 1964); 0.5 that of Mualem (1976). Slopes jump
    at the air entry.
    """

    ranges = LIMITS | {
        "entry": Range(0.5, 200.0, "cm", default=15.0),
        "lambda": Range(0.05, 5.0, "1", default=0.6),
        "l": Range(-1.0, 3.0, "1", default=1.0, fixed=True),
    }

    def air_entry(self, p: Values, like: Tensor) -> Tensor:
        return -self.values(p, like)["entry"]

    def log_saturation(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        dry, s = suction(psi, v["entry"])
        return torch.where(dry, -v["lambda"] * torch.log(s / v["entry"]), 0.0)

    def log_relative(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        dry, s = suction(psi, v["entry"])
        return torch.where(dry, -_exponent(v) * torch.log(s / v["entry"]), 0.0)

    def capacity(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        dry, s = suction(psi, v["entry"])
        slope = (v["theta_s"] - v["theta_r"]) * v["lambda"] / s * torch.exp(self.log_saturation(psi, p))
        return torch.where(dry, slope, 0.0)

    def head(self, theta: Tensor, p: Values) -> Tensor:
        v = self.values(p, theta)
        x = torch.log(v["entry"]) - torch.log(self._saturation(theta, v)) / v["lambda"]
        return -torch.exp(x.clamp_max(math.log(-DRY)))

    def kirchhoff(self, psi: Tensor, p: Values, start: float = DRY) -> Tensor:
        v = self.values(p, psi)
        power = _exponent(v) - 1.0  # above one for every lambda > 0 and l > -2
        inner = torch.exp(-power * torch.log(torch.maximum(-psi, v["entry"]) / v["entry"]))
        dry = torch.exp(-power * torch.log(-start / v["entry"]))
        return v["Ks"] * (v["entry"] / power * (inner - dry) + (psi + v["entry"]).clamp_min(0.0))


def _exponent(v: dict[str, Tensor]) -> Tensor:
    """Exponent of entry / s in the conductivity."""
    return (v["l"] + 2.0) * v["lambda"] + 2.0
