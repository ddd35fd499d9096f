"""The inverse twin: three soils in a column under a known flux, and what sensors would have read of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from udehydro import Forcing
from udehydro.richards.column import Adaptive, Atmospheric, Column, ColumnRun, FreeDrainage, Grid, flow
from udehydro.richards.inversion import Observed, visited
from udehydro.richards.laws import SoilLaw, VanGenuchten, soil_class

SOILS = ("sandy loam", "loam", "silt loam")
GUESS = "sandy clay loam"
"""Where every search starts: none of the three."""
ENTRY = 2.0
"""Air entry of the true soils [cm]: without one the conductivity of the loams is singular at saturation."""

HEIGHT = 20.0
CELLS, TRUE_CELLS = 40, 160
STEPS, TRUE_STEPS = Adaptive(1e-3), Adaptive(1e-4)
SCHEDULE = (
    (0.25, -8.0, 8),
    (1.25, 0.2, 8),
    (0.5, -8.0, 12),
    (2.0, 0.2, 8),
    (4.0, 0.08, 8),
    (5.0, 0.03, 6),
    (13.0, 0.015, 8),
)
"""Days, flux through the surface [cm/d, positive upwards], and intervals at whose ends sensors are read."""
DRIEST, POND = -15000.0, 1.0
"""Limits of the surface [cm], which true soils never meet; a trial soil may."""

DEPTHS = tuple(range(1, 20, 2))
TENSIOMETER = 5.0
SIGMA_THETA, SIGMA_PSI = 0.005, 0.03


def edges() -> tuple[np.ndarray, np.ndarray]:
    """Edges of intervals [d], closer after every change of the flux, and the flux in them [cm/d]."""
    days, flux = [np.zeros(1)], []
    for length, q, count in SCHEDULE:
        days.append(days[-1][-1] + length * (np.arange(1, count + 1) / count) ** 1.5)
        flux.append(np.full(count, q))
    return np.concatenate(days), np.concatenate(flux)


def weather(batch: tuple[int, ...] = ()) -> Forcing:
    """Rain and evaporation of the schedule."""
    days, q = edges()
    q = torch.as_tensor(q).reshape(-1, *(1,) * len(batch)).expand(-1, *batch)
    series = {"rain": (-q).clamp_min(0.0), "evaporation": q.clamp_min(0.0)}
    return Forcing(series, dict.fromkeys(series, "cm/d"), Forcing.clock(days=days).time_edge)


def column(law: SoilLaw, cells: int = CELLS) -> Column:
    top = Atmospheric("rain", "evaporation", POND, DRIEST)
    return Column(Grid.uniform(HEIGHT, cells), law, top, FreeDrainage())


def initial_at(depth) -> Tensor:
    """Heads at the start at depths [cm]: from -200 cm at the surface to -100 cm at the bottom."""
    return -200.0 + 100.0 * torch.as_tensor(depth, dtype=torch.float64) / HEIGHT


@dataclass(frozen=True)
class Truth:
    """A soil as it is, and its run.

    Attributes
    ----------
    theta (T + 1, sensor), psi (T + 1,) : what sensors would read without errors.
    """

    soil: str
    p: dict[str, float]
    run: ColumnRun
    theta: Tensor
    psi: Tensor

    @property
    def law(self) -> VanGenuchten:
        return VanGenuchten()

    @property
    def range(self) -> tuple[float, float]:
        """Suctions [cm] between which the middle 90 % of heads lie, of all cells at all edges of intervals."""
        dry, wet = visited(self.run)
        return -float(wet), -float(dry)

    def heads(self, points: int = 100) -> Tensor:
        """Heads (points,) over that range, even in the logarithm of suction: where curves are compared."""
        low, high = self.range
        return -torch.logspace(np.log10(low), np.log10(high), points, dtype=torch.float64)


def truth(soil: str, cells: int = TRUE_CELLS, steps=TRUE_STEPS) -> Truth:
    """A run on a finer grid, with shorter steps, than those of a search."""
    p = soil_class(soil) | {"entry": ENTRY}
    where = column(VanGenuchten(), cells)
    with torch.no_grad():
        run = flow(where, weather(), p, initial_at(where.grid.depth), steps=steps)
    _check(run)
    blank = torch.zeros(len(run.psi), dtype=torch.float64)
    theta = Observed("theta", blank.unsqueeze(1).expand(-1, len(DEPTHS)), SIGMA_THETA, DEPTHS).of(run, where)
    return Truth(soil, p, run, theta, Observed("psi", blank, SIGMA_PSI, TENSIOMETER).of(run, where))


def _check(run: ColumnRun) -> None:
    """The flux through the surface is the known one: no runoff, no pond, no missing evaporation."""
    missed = float((run.top - torch.as_tensor(edges()[1]) * run.forcing.days).abs().max())
    if missed > 1e-9 or float(run.pond.max()) > 1e-9:
        raise SystemExit(f"The schedule does not suit this soil: {missed:.3g} cm differ from it.")


def observe(true: Truth, seeds) -> tuple[Tensor, Tensor]:
    """Water contents (T + 1, seed, sensor) and heads (T + 1, seed) with errors, each seed its own."""
    theta, psi = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        noise = lambda x, g=generator: torch.randn(x.shape, generator=g, dtype=x.dtype)  # noqa: E731
        theta.append(true.theta + SIGMA_THETA * noise(true.theta))
        psi.append(true.psi * torch.exp(SIGMA_PSI * noise(true.psi)))
    return torch.stack(theta, 1), torch.stack(psi, 1)
