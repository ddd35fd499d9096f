"""Broadbridge and White's versatile law, for which infiltration has an exact solution."""

from __future__ import annotations

import torch
from torch import Tensor

from udehydro.richards.laws.base import DRY, LIMITS, RelativeLaw, Values, suction
from udehydro.structure import Range

_ITERATIONS = 12


class BroadbridgeWhite(RelativeLaw):
    """``K = Ks (C - 1) S^2 / (C - S)`` and ``D = Ks lambda C (C - 1) / ((theta_s - theta_r) (C - S)^2)``
    (Broadbridge and White 1988, with no conductivity at theta_r), which together give the head
    ``psi / lambda = 1 - 1/S - ln((C - S) / ((C - 1) S)) / C``.

    ``lambda`` [cm] is the sorptive length; ``C`` > 1 the nonlinearity: near 1 like Green and Ampt's soil, mild from 2.
    """

    ranges = LIMITS | {
        "lambda": Range(0.5, 200.0, "cm", default=10.0),
        "C": Range(1.01, 10.0, "1", default=1.5),
    }

    def log_saturation(self, psi: Tensor, p: Values) -> Tensor:
        return -torch.log1p(self._dryness(psi, self.values(p, psi)))

    def log_relative(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        r = self._dryness(psi, v)
        return -torch.log1p(r) - torch.log1p(v["C"] * r / (v["C"] - 1.0))

    def capacity(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        r = self._dryness(psi, v)
        slope = (v["theta_s"] - v["theta_r"]) / (v["lambda"] * (1.0 + r) ** 2 * _slope(r, v["C"]))
        return torch.where(psi < 0.0, slope, 0.0)

    def head(self, theta: Tensor, p: Values) -> Tensor:
        v = self.values(p, theta)
        r = 1.0 / self._saturation(theta, v).clamp_min(1e-12) - 1.0
        return (-v["lambda"] * _suction(r, v["C"])).clamp_min(DRY)

    def kirchhoff(self, psi: Tensor, p: Values, start: float = DRY) -> Tensor:
        """Closed form: the integral of D over theta."""
        v = self.values(p, psi)
        wet, dry = (1.0 / (v["C"] * (1.0 + self._dryness(x, v)) - 1.0) for x in (psi, torch.full_like(psi, start)))
        return v["Ks"] * ((wet - dry) * v["lambda"] * (v["C"] - 1.0) + psi.clamp_min(0.0))

    def _dryness(self, psi: Tensor, v: dict[str, Tensor]) -> Tensor:
        """r = 1/S - 1 at a head, zero from psi = 0 upwards.

        Newton's iteration on suction(r), which is concave and therefore reached from below; its last step carries the
        derivatives of the inverse function.
        """
        dry, s = suction(psi)
        u, C = s / v["lambda"], v["C"]
        with torch.no_grad():
            r = torch.maximum(u * (C - 1.0) / C, u - torch.log1p(C * u / (C - 1.0)) / C)
            for _ in range(_ITERATIONS):
                r = r + (u - _suction(r, C)) / _slope(r, C)
            slope = _slope(r, C)
        return torch.where(dry, r + (u - _suction(r, C)) / slope, 0.0)


def _suction(r: Tensor, C: Tensor) -> Tensor:
    """Suction over lambda at r = 1/S - 1."""
    return r + torch.log1p(C * r / (C - 1.0)) / C


def _slope(r: Tensor, C: Tensor) -> Tensor:
    return 1.0 + 1.0 / (C - 1.0 + C * r)
