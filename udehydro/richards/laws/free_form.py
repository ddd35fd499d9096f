"""Laws without a formula: two rising curves over pF, one for water content and one for conductivity."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from udehydro.errors import ConfigError
from udehydro.richards.laws.base import DRY, LIMITS, RelativeLaw, Values


class FreeForm(RelativeLaw):
    """``S = exp(-G(x))`` and ``K = Ks exp(-H(x))`` over ``x = log10(1 + (s / offset)^2) / 2`` at suction s = -psi.

    x is pF - log10(offset) in dry soil and grows with s^2 in wet soil, so that both curves are smooth at saturation.
    G and H start from zero at x = 0 and rise; then all limits hold, whatever their shape. ``theta_r``, ``theta_s`` and
    ``Ks`` are parameters.

    Parameters
    ----------
    retention, conductance : G and H, modules that answer ``curve(x, p)`` and ``curve.slope(x, p)``, and
        ``curve.fit(function, x)``, which follows a function at points and returns what parameters are then in ``p``.
    offset : suction [cm] below which curves are flattened towards saturation.
    """

    def __init__(self, retention: nn.Module, conductance: nn.Module, offset: float = 0.1):
        super().__init__()
        if not 0.0 < offset < -DRY:
            raise ConfigError(f"offset={offset} must be a suction in cm above zero, such as 0.1.")
        self.retention, self.conductance, self.offset = retention, conductance, offset
        self.ranges = LIMITS | getattr(retention, "ranges", {}) | getattr(conductance, "ranges", {})

    @property
    def driest(self) -> float:
        """x at oven dryness."""
        return math.log10(-DRY / self.offset)

    def place(self, psi: Tensor) -> Tensor:
        """x at a head [cm]; zero where the soil is saturated."""
        return torch.log1p((psi.clamp_max(0.0) / self.offset) ** 2) / (2.0 * math.log(10.0))

    def suction(self, x: Tensor) -> Tensor:
        """Suction [cm] at x."""
        return self.offset * torch.sqrt(torch.expm1(2.0 * math.log(10.0) * x))

    def log_saturation(self, psi: Tensor, p: Values) -> Tensor:
        return -self.retention(self.place(psi), p)

    def log_relative(self, psi: Tensor, p: Values) -> Tensor:
        return -self.conductance(self.place(psi), p)

    def capacity(self, psi: Tensor, p: Values) -> Tensor:
        v, x, s = self.values(p, psi), self.place(psi), (-psi).clamp_min(0.0)
        growth = self.retention.slope(x, p) * s / (math.log(10.0) * (self.offset**2 + s * s))
        return (v["theta_s"] - v["theta_r"]) * torch.exp(-self.retention(x, p)) * growth

    def imitate(self, law: RelativeLaw, p: Values, points: int = 200) -> dict[str, Tensor | float]:
        """Take the shape of another law, between saturation and oven dryness; returns ``p`` of this one.

        Parameters
        ----------
        p : its parameters, one value each.
        points : places, evenly spaced in x, at which the logarithms of saturation and conductivity are matched.
        """
        device = next(iter((*self.parameters(), *self.buffers()))).device

        with torch.no_grad():
            x = torch.linspace(0.0, self.driest, points, dtype=torch.float64, device=device)
            added = self.retention.fit(lambda x: -law.log_saturation(-self.suction(x), p), x)
            added |= self.conductance.fit(lambda x: -law.log_relative(-self.suction(x), p), x)
        return {n: p[n] for n in LIMITS} | added
