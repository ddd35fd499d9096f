"""Soils with exact solutions as sensors see them: Srivastava and Yeh's, and Broadbridge and White's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from udehydro import Forcing
from udehydro.richards import exact, laws
from udehydro.richards.column import Column, Flux, Grid, Head
from udehydro.richards.inversion import Free, Inversion, Observed

PRIORS = {"theta_r": 0.05, "theta_s": 0.05, "Ks": 2.0, "G": 1.0, "H": 1.0}
"""Standard deviations of what is known beforehand around the guess: of Ks and of rises G and H those of logarithms."""
CELLS = 50


@dataclass(frozen=True, eq=False)
class Exact:
    """A soil whose states are known in closed form.

    Attributes
    ----------
    law, p : the soil; ``theta`` and ``psi`` (T, n) at times [d] and depths [cm].
    height : of the column [cm]; ``infiltration`` through its surface [cm/d].
    days : of readings (T,); ``depths`` of sensors [cm].
    knots : of the free-form law, in its x; ``guess`` law and values that the search begins with.
    """

    law: laws.SoilLaw
    p: dict[str, float]
    theta: Callable
    psi: Callable
    height: float
    infiltration: float
    days: np.ndarray
    depths: np.ndarray
    knots: tuple[float, ...]
    guess: tuple[laws.SoilLaw, dict[str, float]]
    known: dict[str, float]

    def heads(self, points: int = 100) -> Tensor:
        """Where curves are compared: the middle 90 % of heads in the column, over its time."""
        depth = (np.arange(200) + 0.5) * self.height / 200
        dry, wet = np.quantile(self.psi(depth[None, :], self.days[:, None]), [0.05, 0.95])
        return -torch.logspace(np.log10(-wet), np.log10(-dry), points, dtype=torch.float64)

    def errors(self, bands) -> dict[str, list]:
        """Relative L2 norms of theta and K, and root mean square of log10 K, over those heads."""
        psi = self.heads()
        theta, k = self.law.theta(psi, self.p), self.law.conductivity(psi, self.p)
        off = (bands.log_k - torch.log(k)) / np.log(10.0)
        return {
            "theta": ((bands.theta - theta).norm(dim=1) / theta.norm()).tolist(),
            "K": ((torch.exp(bands.log_k) - k).norm(dim=1) / k.norm()).tolist(),
            "log10 K": off.square().mean(1).sqrt().tolist(),
        }

    def task(self, seeds: Sequence[int], sigma: tuple[float, float], noisy: bool, tensiometers: int) -> Inversion:
        """Readings of contents and of the uppermost tensiometers, a known flux, an unknown start and end."""
        shape, many = (len(self.days), len(seeds)), len(seeds)
        theta, psi = (f(self.depths[None, :], self.days[:, None]) for f in (self.theta, self.psi))
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        draws = [[torch.randn(theta.shape, generator=g, dtype=torch.float64) for _ in "ab"] for g in generators]
        error = [noisy * torch.stack(d, 1) for d in zip(*draws, strict=True)]
        theta = torch.as_tensor(theta).unsqueeze(1) + sigma[0] * error[0]
        psi = (torch.as_tensor(psi).unsqueeze(1) * torch.exp(sigma[1] * error[1]))[..., :tensiometers]
        law = laws.MonotoneSpline(self.knots, free="parameters")
        p = {n: self.known.get(n, _free(n, v, many)) for n, v in law.imitate(*self.guess).items()}
        end = Head(Free(torch.full((many,), -1.0, dtype=torch.float64), low=-1e4))
        column = Column(Grid.uniform(self.height, CELLS), law, Flux(-self.infiltration), end)
        record = Forcing.clock(days=self.days - self.days[0])
        q = torch.full((len(self.days) - 1, many), -self.infiltration, dtype=torch.float64)
        start = Free(
            torch.full((many, 1), -1.0), low=-1e4, high=-1e-3, spread=torch.ones(CELLS, 1, dtype=torch.float64)
        )
        sensors = [
            Observed("theta", theta.reshape(*shape, -1), sigma[0], self.depths),
            Observed("psi", psi, sigma[1], self.depths[:tensiometers], log=True),
        ]
        return Inversion(column, Forcing({"q": q}, {"q": "cm/d"}, record.time_edge), p, start, sensors)


def _free(name: str, value: float, members: int) -> Free:
    sd = PRIORS.get(name, PRIORS.get(name.rstrip("0123456789")))
    return Free(torch.full((members,), float(value), dtype=torch.float64), prior=sd)


def gardner() -> Exact:
    """Ten centimetres above a water table, from 3 min to 10 h after a step of recharge."""
    p = {"theta_r": 0.06, "theta_s": 0.40, "alpha": 1.0, "Ks": 24.0}
    truth = exact.SrivastavaYeh(0.06, 0.40, 1.0, 24.0, 10.0, 2.4, 21.6)
    return Exact(
        laws.Gardner(),
        p,
        lambda depth, t: truth.theta(10.0 - depth, t),
        lambda depth, t: truth.psi(10.0 - depth, t),
        10.0,
        21.6,
        np.linspace(0.05, 10.0, 101) / 24.0,
        np.arange(0.5, 10.0, 1.0),
        (0.0, *np.arange(0.1, 1.45, 0.1).round(1).tolist(), 1.6, 2.0, 3.0, 8.0),
        (laws.Gardner(), {"theta_r": 0.05, "theta_s": 0.38, "alpha": 0.7, "Ks": 15.0}),
        {"theta_r": 0.06},
    )


def broadbridge_white() -> Exact:
    """Half of Ks into soil at a fifth of saturation, C = 1.5, from 15 min on."""
    p = {"theta_r": 0.06, "theta_s": 0.40, "Ks": 24.0, "lambda": 10.0, "C": 1.5}
    truth = exact.BroadbridgeWhite(0.06, 0.40, 24.0, 10.0, 1.5, 12.0, 0.06 + 0.34 * 0.2)
    return Exact(
        laws.BroadbridgeWhite(),
        p,
        lambda depth, t: truth.theta(-depth, t),
        lambda depth, t: truth.psi(-depth, t),
        30.0,
        12.0,
        np.linspace(0.01, 0.28, 101),
        np.arange(1.5, 30.0, 3.0),
        (0.0, 1.0, 1.4, 1.7, *np.arange(1.8, 2.95, 0.1).round(1).tolist(), 3.2, 4.0, 8.0),
        (laws.VanGenuchten(), laws.soil_class("sandy clay loam") | {"entry": 2.0}),
        {"theta_r": 0.06},
    )
