"""Soil laws fitted to many sets of points at once: formulas, and free-form laws that start from one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from _soils_bimodal import Durner
from torch import Tensor

from udehydro.richards.inversion.curves import CurveFit, fit_curves
from udehydro.richards.inversion.free import Free
from udehydro.richards.laws import BrooksCorey, Corrected, MonotoneNet, MonotoneSpline, RelativeLaw, VanGenuchten

SIGMA = 0.01
"""Standard deviation of a water content, by which points are weighed against priors and conductivities."""
STARTS = ((0.1, 2.2), (0.03, 1.5), (0.008, 1.2))
"""alpha [1/cm] and n from which formulas are tried: sand, loam, clay."""
LOAM = {"theta_r": 0.02, "theta_s": 0.45, "alpha": 0.03, "n": 1.5, "Ks": 10.0}
"""Where free-form laws start that start from no fit."""
KNOTS = {
    "18 knots": (0.0, 0.5, 1.0, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.25, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0),
    "10 knots": (0.0, 1.0, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0),
}
LIMITS = {"Ks": (1e-5, 1e7), "alpha": (1e-4, 10.0), "l": (-5.0, 10.0), "theta_s": (0.15, 0.98)}
"""Wider than those of the laws: peat and macropores."""
SEARCH = {"steps": 60, "tolerance": 1e-5}


@dataclass(frozen=True)
class Points:
    """Points of many samples, NaN where there are none: (sample, N) heads and contents, (sample, M) heads and K."""

    psi: Tensor
    theta: Tensor
    psi_k: Tensor
    k: Tensor
    sigma_k: float = 0.5

    @property
    def flows(self) -> bool:
        return self.k.shape[1] > 0

    @property
    def wettest(self) -> Tensor:
        """Largest content (sample,), where theta_s starts."""
        return self.theta.nan_to_num(0.0).amax(1).clamp(0.21, 0.94)

    def fit(self, law, p, **more) -> CurveFit:
        flowing = (self.psi_k, self.k, self.sigma_k) if self.flows else None
        return fit_curves(law, p, theta=(self.psi, self.theta, SIGMA), conductivity=flowing, **SEARCH, **more)

    def all(self, value: float) -> Tensor:
        """The same number for every sample."""
        return torch.full((len(self.theta),), float(value), dtype=torch.float64)

    def free(self, name: str, value, prior: float | None = None) -> Free:
        start = value if isinstance(value, Tensor) else self.all(value)
        return Free(start, *LIMITS.get(name, (None, None)), prior)

    def conductive(self, value, prior: float | None = None) -> Free | Tensor:
        """Ks, free where there are conductivities."""
        value = value if isinstance(value, Tensor) else self.all(value)
        return self.free("Ks", value, prior) if self.flows else value


def padded(rows: list[np.ndarray], fill: float) -> Tensor:
    """(sample, N) of rows of any length."""
    width = max((len(r) for r in rows), default=0)
    return torch.tensor(np.array([np.pad(r, (0, width - len(r)), constant_values=fill) for r in rows]))


class Curves(NamedTuple):
    """Water contents and natural logarithms of conductivity (sample, N)."""

    theta: Tensor
    log_k: Tensor


@dataclass(frozen=True)
class Best:
    """The best of several fits of a formula to every sample; ``p`` (sample,) each."""

    law: RelativeLaw
    names: tuple[str, ...]
    p: dict[str, Tensor]

    @classmethod
    def of(cls, fits: list[CurveFit]) -> Best:
        best = torch.stack([f.chi2 for f in fits]).argmin(0, keepdim=True)
        every = {n: [torch.as_tensor(f.p[n]).expand(best.shape[1]) for f in fits] for n in fits[0].p}
        return cls(fits[0].law, fits[0].names, {n: torch.stack(v).gather(0, best)[0] for n, v in every.items()})

    def curves(self, psi: Tensor) -> Curves:
        column = {n: v.unsqueeze(1) for n, v in self.p.items()}
        return Curves(self.law.theta(psi, column), self.law.log_conductivity(psi, column))


def formula(points: Points, kind: str, prior: float | None = None) -> Best:
    """The best of three starts of a formula: "vg", "vg entry 2", "vg entry free", "vg l free", "bc", "two".

    ``prior`` is None, or the standard deviation of priors in units of how much soils differ.
    """
    tries = [_start(points, kind, *s, prior) for s in STARTS]
    return Best.of([points.fit(law, p) for law, p in tries])


def _start(points: Points, kind: str, alpha: float, n: float, prior: float | None) -> tuple[RelativeLaw, dict]:
    """Law and ``p`` of one start."""

    def free(name: str, value, sd: float) -> Free:
        return points.free(name, value, None if prior is None else prior * sd)

    p = {"theta_r": free("theta_r", 0.02, 0.05), "theta_s": free("theta_s", points.wettest, 0.05)}
    p["Ks"] = points.conductive(10.0)
    if kind == "bc":
        air = Free(points.all(1.0 / alpha), 0.1, 1000.0)
        return BrooksCorey(), p | {"entry": air, "lambda": Free(points.all(n - 1.0), 0.02, 5.0)}
    if kind == "two":
        p |= {"alpha": free("alpha", 0.1, 1.5), "n": free("n", 1.8, 0.5), "w": free("w", 0.3, 0.3)}
        return Durner(), p | {"ratio": free("ratio", alpha / 2.0, 1.5), "n2": free("n2", n, 0.3)}
    p |= {"alpha": free("alpha", alpha, 1.0), "n": free("n", n, 0.3)}
    more = {
        "vg entry 2": {"entry": points.all(2.0)},
        "vg entry free": {"entry": Free(points.all(2.0), 0.01, 50.0)},
        "vg l free": {"l": points.free("l", 0.5)},
    }
    return VanGenuchten(), p | more.get(kind, {})


def spline(points: Points, base: Best | None, prior: float, smooth: float | None, knots: str) -> CurveFit:
    """A spline whose rises differ from those of its start by a factor exp(+- prior).

    ``base``: the van Genuchten fit to the same points that it starts from, or None for a loam.
    """
    law, vg = MonotoneSpline(KNOTS[knots], free="parameters"), VanGenuchten()
    p = {n: points.all(v) for n, v in LOAM.items()} | {"theta_s": points.wettest} if base is None else base.p
    at, column = -law.suction(law.retention.knots), {n: v.unsqueeze(1) for n, v in p.items()}
    start = {"theta_r": p["theta_r"], "theta_s": points.free("theta_s", p["theta_s"], 0.02)}
    start["Ks"] = points.conductive(p["Ks"], None if base is None else 1.0)
    searched = "GH" if points.flows else "G"
    for name, curve in {"G": vg.log_saturation, "H": vg.log_relative}.items():
        rises = (-curve(at, column)).diff(dim=1).clamp(1e-7, 99.0)
        for i, rise in enumerate(rises.unbind(1), start=1):
            start[f"{name}{i}"] = Free(rise, prior=prior) if name in searched else rise
    return points.fit(law, start, smooth=None if smooth is None else dict.fromkeys(searched, smooth))


def corrected(points: Points, base: Best, sd: float) -> CurveFit:
    """The formula fitted to the same points, with a small network on its head, all free."""
    start = {n: points.free(n, v) if n in base.names else v for n, v in base.p.items()}
    return points.fit(Corrected(base.law, 6), start, weights=sd)


def network(points: Points, sd: float, units: int) -> CurveFit:
    """A monotone network that starts as a loam."""
    law = MonotoneNet(units)
    law.imitate(VanGenuchten(), LOAM)
    p = {"theta_r": points.free("theta_r", 0.02, 0.05), "theta_s": points.free("theta_s", points.wettest, 0.02)}
    return points.fit(law, p | {"Ks": points.conductive(10.0)}, weights=sd)
