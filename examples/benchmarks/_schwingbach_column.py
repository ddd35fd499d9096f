"""The column of Schwingbach: soils under measured rain, fitted to probes, and what it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from _schwingbach_data import DEPTHS, SIGMA, Record
from torch import Tensor

from udehydro.richards.column import (
    Adaptive,
    Atmospheric,
    Column,
    ColumnRun,
    FreeDrainage,
    Grid,
    Layer,
    RootUptake,
    WaterContent,
    flow,
)
from udehydro.richards.inversion import Fitted, Free, Inversion, Observed, fit, knots
from udehydro.richards.laws import CLASSES, MonotoneSpline, SoilLaw, VanGenuchten, soil_class

EDGES = (0.0, 1.0, *np.arange(2.5, 45.1, 2.5), 50.0, 55.0, 60.0, 70.0, 80.0, 90.0, 100.0)
"""Of cells [cm]."""
FACES = {"one soil": (), "two soils": (17.5,), "three soils": (17.5, 32.5)}
"""Depths of faces between soils [cm], midway between probes."""
STEPS, ITERATIONS, ENTRY, POND, ROOTS = Adaptive(1e-3), 30, 2.0, 0.5, 10.0
DRY = -10_000.0
"""Head [cm] below which no soil starts: its surface is in balance with air at -15 000 cm."""
GUESS, KNOTS = "silt loam", (0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 8.0)
"""Where searches start (no texture is given), and knots of free forms, half a decade of suction apart."""
PRIORS = {"theta_r": 0.05, "theta_s": 0.05, "Ks": 2.0, "alpha": 1.5, "n": 0.5, "G": 1.0, "H": 1.0}
"""Standard deviations of what is known around the start; of Ks, alpha, and rises G and H those of logarithms."""
WETTEST = 0.03
"""By how much theta_s is above the wettest reading at the start."""


@dataclass(frozen=True)
class Setting:
    """What is not fitted: soils, where PET is taken, the law, and how wide priors of its shape are."""

    soils: str = "two soils"
    evaporation: str = "surface"
    law: str = "van Genuchten"
    wide: float = 1.0

    @property
    def form(self) -> SoilLaw:
        return VanGenuchten() if self.law == "van Genuchten" else MonotoneSpline(KNOTS, free="parameters")

    def column(self) -> Column:
        grid, law = Grid(EDGES), self.form
        layers = [Layer(law, float(d)) for d in np.diff((0.0, *FACES[self.soils], EDGES[-1]))]
        surface = self.evaporation == "surface"
        top = Atmospheric("rain", "pet" if surface else 0.0, pond=POND)
        roots = RootUptake("pet", torch.as_tensor(np.exp(-grid.depth / ROOTS)))
        return Column(grid, layers, top, FreeDrainage(), () if surface else (roots,))

    def parameters(self, theta: Tensor, guess: Sequence[dict] | None = None) -> list[dict]:
        """Free values of every layer, from a guess on (van Genuchten's), by default a texture class."""
        law, found = self.form, []
        for i, _ in enumerate((0.0, *FACES[self.soils])):
            start = dict(soil_class(GUESS) if guess is None else guess[i], entry=ENTRY)
            if guess is None:
                start["theta_s"] = min(float(theta[:, self.probes(i)].nan_to_num(0.0).max()) + WETTEST, 0.55)
            if self.law != "van Genuchten":
                start = law.imitate(VanGenuchten(), start)
            found.append({n: self._free(law, n, v) for n, v in start.items()})
        return found

    def _free(self, law: SoilLaw, name: str, value) -> Free | float:
        if name in ("entry", "l"):
            return value
        wide = self.wide if name in ("alpha", "n") or name[0] in "GH" else 1.0
        prior = PRIORS[name if name in PRIORS else name[0]] * wide
        limits = {"theta_r": (0.0, 0.2), "theta_s": (0.22, 0.6), "Ks": (1e-2, 1e4)}.get(name, (None, None))
        return Free(float(value), *limits, prior=prior)

    def probes(self, layer: int) -> list[int]:
        """Of a layer."""
        edges = (0.0, *FACES[self.soils], EDGES[-1])
        return [k for k, d in enumerate(DEPTHS) if edges[layer] <= d < edges[layer + 1]]


def observed(record: Record, probes: Sequence[int] = (0, 1, 2)) -> Observed:
    depths = tuple(DEPTHS[k] for k in probes)
    return Observed("theta", record.theta[:, list(probes)], SIGMA, depths)


def task(setting: Setting, record: Record, probes: Sequence[int] = (0, 1, 2), guess=None) -> Inversion:
    """Soils and the state at the start from some of the probes."""
    column = setting.column()
    spread = knots((10.0, 40.0, 100.0), column.grid.depth)
    psi0 = Free(torch.full((3,), -300.0), low=-15000.0, high=-1.0, prior=2.0, spread=spread)
    p, seen = setting.parameters(record.theta[:, :], guess), observed(record, probes)
    return Inversion(column, record.weather, p, psi0, [seen], steps=STEPS)


def fitted(
    setting: Setting, record: Record, probes: Sequence[int] = (0, 1, 2), guess=None, steps: int = ITERATIONS
) -> Fitted:
    return fit(task(setting, record, probes, guess), steps=steps, gauge="ignore")


def start(column: Column, p: Sequence[dict], theta: Tensor) -> WaterContent:
    """Contents of cells from readings (3,): those of the probe, or between probes, of the same soil, kept between
    those of nearly saturated soil and at the head DRY."""
    cells = torch.empty(column.grid.cells, dtype=torch.float64)
    edges, depth, ends = column.grid.edges, np.asarray(column.grid.depth), torch.tensor([DRY, 0.0], dtype=torch.float64)
    for layer, values, part in zip(column.layers, p, column.cells_of_layers, strict=True):
        mine = [k for k, d in enumerate(DEPTHS) if edges[part.start] <= d < edges[part.stop]]
        between = np.interp(depth[part], [DEPTHS[k] for k in mine], theta[mine].numpy())
        low, high = layer.law.theta(ends, {n: torch.as_tensor(v).mean() for n, v in values.items()}).tolist()
        cells[part] = torch.as_tensor(between).clamp(low, high - 0.02 * (high - low))
    return WaterContent(cells)


def predict(column: Column, p: Sequence[dict], record: Record) -> tuple[ColumnRun, Tensor]:
    """A run from the readings at the start of a record on, under its weather, and what probes (T + 1, 3) show."""
    with torch.no_grad():
        run = flow(column, record.weather, p, start(column, p, record.theta[0]), steps=STEPS)
    return run, observed(record).of(run, column)


def number(p: Sequence[dict]) -> list[dict[str, float]]:
    """Parameters of every layer of one column as numbers."""
    return [{n: float(torch.as_tensor(v).mean()) for n, v in values.items()} for values in p]


def classes(record: Record, soils: str = "one soil") -> dict[str, Tensor]:
    """What probes show in soils of texture classes, not fitted, by name; those that cannot hold the readings are the
    wettest or driest they can be at the start."""
    column, found = Setting(soils).column(), {}
    for name in CLASSES:
        p = [dict(soil_class(name), entry=ENTRY)] * len(column.layers)
        found[name] = predict(column, p, record)[1]
    return found
