"""The soils that some data cannot tell from a soil: a law with its gauges, to show and to check what data leave open.

theta_t = d/dz [D(theta) theta_z + K(theta)], D = K dpsi/dtheta, knows neither the zero of the head nor that of K.
"""

from __future__ import annotations

import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.richards.laws.base import DRY, SoilLaw, Values
from udehydro.richards.laws.offset_curve import OffsetCurve
from udehydro.structure import Range

GAUGES = {
    "shift": Range(-1e4, 1e4, "cm", default=0.0, fixed=True),
    "offset": Range(-1e3, 1e3, "cm/d", default=0.0, fixed=True),
    "scale": Range(1e-3, 1e3, "1", default=1.0, fixed=True),
    "level": Range(-1.0, 1.0, "1", default=0.0, fixed=True),
}
"""What data may leave open; the defaults change nothing."""


class Gauged(SoilLaw):
    """A member of the family of laws that some data cannot tell from ``law``.

    Where ``law`` has (psi, theta, K) on its curve, this one has

        psi' = P(psi) + shift ,    theta' = theta_r + scale (theta - theta_r) + level ,    K' = scale (K + offset) ,

    with dP/dpsi = K / (K + offset) and P(psi) = psi at the air entry of the law. Diffusivity is kept. With it, water
    contents see none of ``shift`` and ``offset`` in a homogeneous column, if fluxes through its ends are q - offset
    (positive upwards); heads do not see ``scale``, if fluxes are scale q, nor ``level``. All follow from
    the equation in theta.

    It is there to build such soils, not to fit with: **soil is saturated from psi = shift on, not from 0** (from the
    air entry, which moves along), so that ponds, seepage faces and specific storage, which start at 0, mean something
    else; K' ends at scale (Ks + offset), theta' at theta_r + scale (theta_s - theta_r) + level. An offset above zero
    has a driest head, P(-1e8), below which nothing changes any more; one below zero needs |offset| < K, and the curve
    ends where K is -offset. P is good to 1e-11 of the suction as long as K' is not a small difference.

    Parameters
    ----------
    law : the law; its parameters are those of the family, besides ``shift`` [cm], ``offset`` [cm/d], ``scale``
        and ``level`` [1].

    Raises
    ------
    ConfigError
        For a law that has parameters of these names.
    """

    def __init__(self, law: SoilLaw):
        super().__init__()
        if taken := sorted(GAUGES.keys() & law.ranges.keys()):
            raise ConfigError(f"{type(law).__name__} has parameters named {taken} itself; they cannot be gauges, too.")
        self.law, self.ranges = law, {**law.ranges, **GAUGES}

    def origin(self, psi: Tensor, p: Values) -> Tensor:
        """Head of ``law`` [cm] at the place of the curve where this law has head ``psi``."""
        return self._trace(psi, p)[0]

    def image(self, psi: Tensor, p: Values) -> Tensor:
        """Head of this law [cm] where ``law`` has head ``psi``; the inverse of :meth:`origin`."""
        v = self.values(p, psi)
        if "offset" not in p:
            return psi + v["shift"]
        curve, psi = self._curve(psi, v, p)
        return curve.entry - curve.warped(curve.entry - psi) + v["shift"]

    def air_entry(self, p: Values, like: Tensor) -> Tensor:
        return self.law.air_entry(p, like) + self.values(p, like)["shift"]

    def theta(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        return torch.lerp(v["theta_r"], self.law.theta(self.origin(psi, p), p), v["scale"]) + v["level"]

    def conductivity(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        return v["scale"] * (self.law.conductivity(self.origin(psi, p), p) + v["offset"]).clamp_min(0.0)

    def log_conductivity(self, psi: Tensor, p: Values) -> Tensor:
        if "offset" in p:
            return super().log_conductivity(psi, p)
        return torch.log(self.values(p, psi)["scale"]) + self.law.log_conductivity(self.origin(psi, p), p)

    def capacity(self, psi: Tensor, p: Values) -> Tensor:
        psi, slope = self._trace(psi, p)
        return self.values(p, psi)["scale"] * slope * self.law.capacity(psi, p)

    def diffusivity(self, psi: Tensor, p: Values) -> Tensor:
        return self.law.diffusivity(self.origin(psi, p), p)

    def head(self, theta: Tensor, p: Values) -> Tensor:
        """Head [cm] at water content ``theta``, that of ``law`` moved along; above zero where the shift takes it."""
        v = self.values(p, theta)
        held = v["theta_r"] + (theta - v["level"] - v["theta_r"]) / v["scale"]
        return self.image(self.law.head(held, p), p)

    def kirchhoff(self, psi: Tensor, p: Values, start: float = DRY) -> Tensor:
        """As K' dpsi' = scale K dpsi, the integral of the law between the same places of the curve, times scale."""
        ends = psi.clamp_min(start), torch.full_like(psi, start)
        upper, lower = (self.law.kirchhoff(self.origin(end, p), p) for end in ends)
        return self.values(p, psi)["scale"] * (upper - lower)

    def _trace(self, psi: Tensor, p: Values) -> tuple[Tensor, Tensor]:
        """The origin of a head, and its derivative by the head."""
        v = self.values(p, psi)
        if "offset" not in p:  # no integral, and no rounding
            return psi - v["shift"], torch.ones_like(psi)
        curve, psi = self._curve(psi, v, p)
        suction, slope = curve.unwarped(curve.entry + v["shift"] - psi)
        return curve.entry - suction, slope

    def _curve(self, psi: Tensor, v: dict[str, Tensor], p: Values) -> tuple[OffsetCurve, Tensor]:
        """The integrated curve, and heads in the shape of answers."""
        psi = psi + torch.zeros_like(self.law.conductivity(psi, p) + v["offset"] + v["shift"])
        return OffsetCurve(self.law, v["offset"], psi, p), psi
