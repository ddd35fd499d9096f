"""Van Genuchten retention with Mualem conductivity, with an optional air entry."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from udehydro.richards.laws.base import DRY, LIMITS, RelativeLaw, Values, suction
from udehydro.structure import Range


class VanGenuchten(RelativeLaw):
    """``S = (1 + (alpha s)^n)^-m`` at suction s = -psi, m = 1 - 1/n, and Mualem's conductivity
    ``K = Ks S^l (1 - (1 - S^(1/m))^m)^2`` (van Genuchten 1980, eqs 3 and 8, with Mualem's exponent l).

    With ``entry`` > 0 soil is saturated up to that suction [cm], and both curves are rescaled to start there (Vogel and
    Cislerova 1988; Ippisch et al. 2006). Without it the slope dK/dpsi of soils with n < 2 grows without
    limit towards saturation (as s^(n - 2)), and with it the iterations of a solver: an entry of 1 or 2 cm mends that.
    """

    ranges = LIMITS | {
        "alpha": Range(1e-3, 0.5, "1/cm", default=0.075),
        "n": Range(1.01, 10.0, "1", default=1.89),
        "l": Range(-1.0, 3.0, "1", default=0.5, fixed=True),
        "entry": Range(0.0, 50.0, "cm", default=0.0, fixed=True),
    }

    def air_entry(self, p: Values, like: Tensor) -> Tensor:
        return -self.values(p, like)["entry"]

    def log_saturation(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        dry, s = suction(psi, v["entry"])
        return torch.where(dry, -_m(v) * (softplus(_x(s, v)) - _at_entry(v)), 0.0)

    def log_relative(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        dry, s = suction(psi, v["entry"])
        m, x, x0 = _m(v), _x(s, v), _x(_safe(v["entry"]), v)
        saturation = -m * (softplus(x) - _at_entry(v))
        pores0 = torch.where(v["entry"] > 0.0, _log_pores(x0, m), 0.0)
        return torch.where(dry, v["l"] * saturation + 2.0 * (_log_pores(x, m) - pores0), 0.0)

    def capacity(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        dry, s = suction(psi, v["entry"])
        x = _x(s, v)
        saturation = torch.exp(-_m(v) * (softplus(x) - _at_entry(v)))
        slope = (v["theta_s"] - v["theta_r"]) * (v["n"] - 1.0) / s * torch.sigmoid(x) * saturation
        return torch.where(dry, slope, 0.0)

    def head(self, theta: Tensor, p: Values) -> Tensor:
        v = self.values(p, theta)
        y = _at_entry(v) - torch.log(self._saturation(theta, v)) / _m(v)  # log(1 + (alpha s)^n)
        y = y.clamp_min(torch.finfo(y.dtype).tiny)
        x = y + torch.log(-torch.expm1(-y))
        return -torch.exp((x / v["n"] - torch.log(v["alpha"])).clamp_max(math.log(-DRY)))


def _m(v: dict[str, Tensor]) -> Tensor:
    return 1.0 - 1.0 / v["n"]


def _x(s: Tensor, v: dict[str, Tensor]) -> Tensor:
    """Logarithm of (alpha s)^n."""
    return v["n"] * torch.log(v["alpha"] * s)


def _safe(entry: Tensor) -> Tensor:
    return torch.where(entry > 0.0, entry, 1.0)


def _at_entry(v: dict[str, Tensor]) -> Tensor:
    """log(1 + (alpha s)^n) at the air entry."""
    return torch.where(v["entry"] > 0.0, softplus(_x(_safe(v["entry"]), v)), 0.0)


def _log_pores(x: Tensor, m: Tensor) -> Tensor:
    """log(1 - F^m), F = (alpha s)^n / (1 + (alpha s)^n): Mualem's integral over the pores that still hold water."""
    y = m * softplus(-x)  # -log F^m, which is m exp(-x) to rounding in dry soil
    dry = x > 15.0
    far, near = torch.where(dry, x, 15.0), torch.where(dry, 1.0, y)
    series = torch.log(m) - far - 0.5 * torch.exp(-far) * (1.0 + m)
    return torch.where(dry, series, torch.log(-torch.expm1(-near)))
