"""The problem of Bandai and Ghezzehei (2021): ten moisture sensors in a column, nothing known of state and boundaries.

Their soils are taken from their papers; their fluxes are out of reach and are ours: two rains on a dry column, and
evaporation between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from udehydro import Forcing
from udehydro.richards.column import Adaptive, Column, Flux, FreeDrainage, Grid, flow
from udehydro.richards.inversion import Observed
from udehydro.richards.laws import VanGenuchten, soil_class

SOILS = ("sandy loam", "loam", "silt loam")
SIGMAS = (0.0, 0.005, 0.01)
GUESS = "sandy clay loam"
"""Where searches begin: none of the three."""
ENTRY = 2.0
"""Air entry [cm]: without one the conductivity of the loams is singular at saturation."""
HEIGHT, CELLS = 20.0, 200
DRY, MOIST = -1000.0, -150.0
"""Heads at the start [cm]: of the contest, and of a look at bands where soil never gets dry."""
DAYS = np.linspace(0.0, 3.0, 251)
DEPTHS = tuple(range(1, 20, 2))
RAIN, EVAPORATION = -10.0, 0.3
"""Fluxes through the surface [cm/d], upwards."""
RAINS = ((0.0, 0.25), (1.5, 1.75))
JUMPS = tuple(t for rain in RAINS for t in rain)
HEADS = -np.logspace(4.5, -1.0, 4000)
"""Where curves of a soil are taken [cm], to be turned into functions of the content."""


@dataclass(frozen=True, eq=False)
class Truth:
    """A soil, what its sensors would read without errors (T, sensor), and its contents at all cells (T, cell)."""

    soil: str
    read: Tensor
    theta: np.ndarray

    @property
    def contents(self) -> np.ndarray:
        """Where curves are compared: between the 5 and 95 % quantiles of what sensors read."""
        return np.linspace(*np.quantile(self.read.numpy(), [0.05, 0.95]), 500)

    def curves(self, at: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """D [cm2/d] and K [cm/d] at contents, those where curves are compared unless told."""
        at = self.contents if at is None else at
        law, p, psi = VanGenuchten(), soil_class(self.soil) | {"entry": ENTRY}, torch.as_tensor(HEADS)
        p = {name: torch.as_tensor(v, dtype=torch.float64) for name, v in p.items()}
        theta, k, capacity = (f(psi, p).numpy() for f in (law.theta, law.conductivity, law.capacity))
        wet = theta < float(p["theta_s"]) - 1e-9
        return tuple(np.interp(at, theta[wet], y[wet]) for y in (k / np.maximum(capacity, 1e-300), k))

    def errors(self, diffusivity: np.ndarray, conductivity: np.ndarray) -> dict[str, float]:
        """What is off in D and in K: relative L2 norms, K moved by the offset that suits best, as contents alone do not
        know it, and in units of its own variation; root mean square of log10 D; and the share of contents that a curve
        does not reach, where nothing counts. NaN where it reaches none."""
        (d, k), there = self.curves(), np.isfinite(diffusivity) & np.isfinite(conductivity)
        if not there.any():
            return {"D": np.nan, "K": np.nan, "log10 D": np.nan, "not reached": 1.0}
        off, d, k, found = (conductivity - k)[there], d[there], k[there], diffusivity[there]
        return {
            "D": float(np.linalg.norm(found - d) / np.linalg.norm(d)),
            "K": float(np.linalg.norm(off - off.mean()) / np.linalg.norm(k - k.mean())),
            "log10 D": float(np.sqrt(np.mean(np.log10(found / d) ** 2))),
            "not reached": float(1.0 - there.mean()),
        }


def truth(soil: str, psi0: float = DRY) -> Truth:
    """From a head at the start [cm], the same everywhere."""
    middle = 0.5 * (DAYS[1:] + DAYS[:-1])
    raining = np.any([(middle > a) & (middle < b) for a, b in RAINS], axis=0)
    column = Column(
        Grid.uniform(HEIGHT, CELLS),
        VanGenuchten(),
        Flux(torch.as_tensor(np.where(raining, RAIN, EVAPORATION))),
        FreeDrainage(),
    )
    with torch.no_grad():
        start = torch.full((CELLS,), psi0, dtype=torch.float64)
        p = soil_class(soil) | {"entry": ENTRY}
        run = flow(column, Forcing.clock(days=DAYS), p, start, steps=Adaptive(1e-4))
    blank = torch.zeros(len(DAYS), len(DEPTHS), dtype=torch.float64)
    return Truth(soil, Observed("theta", blank, 1.0, DEPTHS).of(run, column), run.theta.numpy())


def observe(true: Truth, sigma: float, seeds) -> Tensor:
    """(T, seed, sensor) with errors, each seed its own."""
    draws = [
        torch.randn(true.read.shape, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in seeds
    ]
    return torch.stack([true.read + sigma * d for d in draws], 1)
