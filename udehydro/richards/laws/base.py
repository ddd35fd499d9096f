"""What every soil law answers: water content and conductivity at a pressure head, and what follows from the two.

Length is in cm, time in d. Pressure head psi is negative in unsaturated soil; from psi = 0 upwards the soil is
saturated. Laws are elementwise: psi may have any shape, and parameters broadcast to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from udehydro.errors import ConfigError
from udehydro.structure import Range, suggest

DRY = -1e7
"""Head of oven-dry soil [cm] (pF 7): where inverses stop and integrals of conductivity begin."""
_NEAR = 1e-6
"""Suction beyond the air entry [cm] up to which integrals take the conductivity for the saturated one."""
_EDGES = np.log(10.0) * np.linspace(-6.0, 8.0, 29)
_GAUSS = np.polynomial.legendre.leggauss(12)
_HALVINGS = 60

Values = Mapping[str, "Tensor | float"]


class SoilLaw(nn.Module):
    """Water content and conductivity of a soil. A law of your own defines `theta` and `conductivity`, and `ranges`.

    Parameters of a law live outside it, in a mapping ``p`` of physical values by name (numbers, or tensors that
    broadcast to psi); names that a law does not declare are ignored, those with a ``fixed`` range may be left out.
    Networks own their weights. All answers are differentiable once by psi, by parameters and by weights.

    Attributes
    ----------
    ranges : name -> Range of the parameters in ``p``.
    breaks : suctions [cm] beyond the air entry where the conductivity is not smooth, for the Kirchhoff integral.
    """

    ranges: Mapping[str, Range] = {}
    breaks: Sequence[float] = ()

    @property
    def defaults(self) -> dict[str, float]:
        """Default value of every parameter."""
        return {n: r.default for n, r in self.ranges.items()}

    def values(self, p: Values, like: Tensor) -> dict[str, Tensor]:
        """The law's parameters in ``p`` as tensors of the device and dtype of ``like``.

        Raises
        ------
        ConfigError
            For a parameter that is missing and not fixed.
        """
        found = {}
        for name, range_ in self.ranges.items():
            value = p.get(name, range_.default if range_.fixed else None)
            if value is None:
                hint = suggest(name, p)
                raise ConfigError(f"{type(self).__name__} needs the parameter '{name}' [{range_.unit}].{hint}")
            found[name] = torch.as_tensor(value, dtype=like.dtype, device=like.device)
        return found

    def theta(self, psi: Tensor, p: Values) -> Tensor:
        """Water content [-] at head ``psi`` [cm], between ``theta_r`` and ``theta_s``; rises with psi."""
        raise NotImplementedError

    def conductivity(self, psi: Tensor, p: Values) -> Tensor:
        """Hydraulic conductivity [cm/d]; rises with psi up to ``Ks``, which it is from psi = 0 upwards."""
        raise NotImplementedError

    def air_entry(self, p: Values, like: Tensor) -> Tensor:
        """Head [cm] from which upwards theta and conductivity are the saturated ones; 0 unless a law says otherwise."""
        return torch.zeros((), dtype=like.dtype, device=like.device)

    def capacity(self, psi: Tensor, p: Values) -> Tensor:
        """Water capacity d theta / d psi [1/cm]."""
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            psi = psi + torch.zeros_like(self.theta(psi, p).detach())  # in the shape of the answer
            psi = psi if psi.requires_grad else psi.requires_grad_()
            return torch.autograd.grad(self.theta(psi, p).sum(), psi, create_graph=again)[0]

    def log_conductivity(self, psi: Tensor, p: Values) -> Tensor:
        """Natural logarithm of the conductivity in cm/d."""
        k = self.conductivity(psi, p)
        return torch.log(k.clamp_min(torch.finfo(k.dtype).tiny))

    def diffusivity(self, psi: Tensor, p: Values) -> Tensor:
        """K / C [cm2/d]; infinite where the capacity is zero, as in saturated soil."""
        c = self.capacity(psi, p)
        stores = c > 0.0
        return torch.where(stores, self.conductivity(psi, p) / torch.where(stores, c, 1.0), torch.inf)

    def head(self, theta: Tensor, p: Values) -> Tensor:
        """Head [cm] at water content ``theta``, within [-1e7, 0]: the driest head at which soil holds that much.

        By bisection, with the derivative of the inverse function; zero derivative at and beyond both limits.
        """
        with torch.no_grad():
            low = torch.zeros_like(theta + self.theta(torch.zeros_like(theta), p))  # in log(1 + suction)
            high = torch.full_like(low, -DRY).log1p()
            held = self.theta(-torch.expm1(high), p)
            inside = (theta > held) & (theta < self.theta(low, p))
            low = torch.where(theta <= held, high, low)
            for _ in range(_HALVINGS):
                middle = 0.5 * (low + high)
                holds = self.theta(-torch.expm1(middle), p) >= theta
                low, high = torch.where(holds, middle, low), torch.where(holds, high, middle)
            psi = -torch.expm1(low)
            slope = self.capacity(psi, p)
            inside &= slope > 0.0
        step = (theta - self.theta(psi, p)) / torch.where(inside, slope, 1.0)
        return psi + torch.where(inside, step, 0.0)

    def kirchhoff(self, psi: Tensor, p: Values, start: float = DRY) -> Tensor:
        """Integral of the conductivity from head ``start`` to psi [cm2/d], the Kirchhoff or matric flux potential.

        By Gauss quadrature in the logarithm of suction; zero below ``start``. Good to 1e-9 of its value for curves as
        steep as that of sand, to 1e-5 for that of uniform gravel. Within 1e-6 cm of air entry K counts as saturated.
        """
        entry = self.air_entry(p, psi)
        psi = psi + torch.zeros_like(self.conductivity(psi, p))
        low, high = torch.log((entry - psi).clamp_min(_NEAR)), torch.log(entry - start)
        one = (1,) * psi.ndim
        rule = (np.sort(np.append(_EDGES, np.log(self.breaks))), *_GAUSS)
        edges, nodes, weights = (torch.as_tensor(a, dtype=psi.dtype, device=psi.device) for a in rule)
        edges = torch.minimum(torch.maximum(edges.reshape(-1, *one), low), high)  # their places do not move with psi
        width = edges.diff(dim=0)
        suction = torch.exp(edges[:-1, None] + width[:, None] * (0.5 + 0.5 * nodes).reshape(-1, *one))
        mean = (0.5 * weights.reshape(-1, *one) * suction * self.conductivity(entry - suction, p)).sum(1)
        beyond = (psi - entry + _NEAR).clamp_min(0.0)
        return (mean * width).sum(0) + beyond * self.conductivity(entry, p)


class RelativeLaw(SoilLaw):
    """A law made of two curves that start from zero at saturation: logarithms of relative content and conductivity.

    A subclass defines `log_saturation` and `log_relative`; limits then hold to the last bit, at the dry end, too.
    """

    def log_saturation(self, psi: Tensor, p: Values) -> Tensor:
        """Logarithm of the effective saturation (theta - theta_r) / (theta_s - theta_r)."""
        raise NotImplementedError

    def log_relative(self, psi: Tensor, p: Values) -> Tensor:
        """Logarithm of the relative conductivity K / Ks."""
        raise NotImplementedError

    def theta(self, psi: Tensor, p: Values) -> Tensor:
        v = self.values(p, psi)
        return torch.lerp(v["theta_r"], v["theta_s"], torch.exp(self.log_saturation(psi, p)))

    def conductivity(self, psi: Tensor, p: Values) -> Tensor:
        return self.values(p, psi)["Ks"] * torch.exp(self.log_relative(psi, p))

    def log_conductivity(self, psi: Tensor, p: Values) -> Tensor:
        return torch.log(self.values(p, psi)["Ks"]) + self.log_relative(psi, p)

    def _saturation(self, theta: Tensor, v: Mapping[str, Tensor]) -> Tensor:
        """Effective saturation of a water content, kept above zero and up to one."""
        tiny = torch.finfo(theta.dtype).tiny
        return ((theta - v["theta_r"]) / (v["theta_s"] - v["theta_r"])).clamp(tiny, 1.0)


LIMITS = {
    "theta_r": Range(0.0, 0.2, "1", default=0.065),
    "theta_s": Range(0.2, 0.95, "1", default=0.41),
    "Ks": Range(1e-3, 1e4, "cm/d", default=106.1),
}
"""Residual and saturated water content and saturated conductivity, which all laws have."""


def suction(psi: Tensor, entry: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Where soil is drier than the air entry ``-entry`` (a mask), and the suction -psi there; positive elsewhere.

    Curves are evaluated on that and masked afterwards, so that no derivative is infinite or undefined at saturation.
    """
    dry = psi < -entry
    return dry, torch.where(dry, -psi, 1.0 + entry)
