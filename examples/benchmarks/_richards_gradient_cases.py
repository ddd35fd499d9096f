"""Columns of every law between all boundaries, and how far their adjoint is from central differences."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from udehydro import Forcing
from udehydro.richards.column import (
    Atmospheric,
    Column,
    Fixed,
    Flux,
    FreeDrainage,
    Grid,
    Head,
    SeepageFace,
    WaterTable,
    flow,
)
from udehydro.richards.laws import (
    BroadbridgeWhite,
    BrooksCorey,
    Corrected,
    Gardner,
    Haverkamp,
    HaverkampLog,
    MonotoneNet,
    MonotoneSpline,
    SoilLaw,
    VanGenuchten,
)
from udehydro.sensitivity.checks import differences
from udehydro.solvers import BACKWARD_EULER, SDIRK2

GRID = Grid.graded(30.0, 1.5, 1.15)
EDGES = np.array(["2000-01-01", "2000-01-02", "2000-01-04"], dtype="datetime64[ns]")
STEPS, DIRECTIONS = (1e-3, 3e-4, 1e-4, 3e-5), 4
COMMON = {"theta_r": 0.065, "theta_s": 0.41, "Ks": 10.0}
LOAM = COMMON | {"alpha": 0.05, "n": 2.2, "l": 0.5}
KNOTS = (0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
SCHEMES = (SDIRK2, BACKWARD_EULER)

TOPS = {
    "head": (Head("head"), {"head": (-20.0, -70.0)}),
    "flux": (Flux("flux"), {"flux": (-1.0, 0.02)}),
    "pond": (Atmospheric("rain", "pet", pond="pond"), {"rain": (30.0, 1.0), "pet": (0.2, 0.5), "pond": (0.5, 1.5)}),
    "drying": (
        Atmospheric("rain", "pet", driest="dry"), {"rain": (0.1, 0.0), "pet": (2.0, 3.0), "dry": (-300.0, -400.0)}
    ),
    "seepage face": (SeepageFace(), {}),
}  # fmt: skip
BOTTOMS = {
    "head": (Head("base"), {"base": (-50.0, -30.0)}),
    "flux": (Flux("rise"), {"rise": (0.3, -0.05)}),
    "free drainage": (FreeDrainage(), {}),
    "seepage face": (SeepageFace(), {}),
    "water table": (WaterTable("table"), {"table": (45.0, 25.0)}),
}
"""Kind -> boundary, and its values in the two intervals."""
ARTESIAN = {"base": (45.0, -30.0), "table": (-10.0, 40.0)}
"""Under a seepage face at the top, which is open in the first interval and closes in the second."""
UNITS = dict.fromkeys(("flux", "rain", "pet", "rise"), "cm/d") | dict.fromkeys(
    ("head", "pond", "dry", "base", "table"), "cm"
)


def soils() -> dict[str, tuple[SoilLaw, dict[str, float]]]:
    """Every law with parameters, and with weights that are not those of the start."""
    net, spline, free = MonotoneNet(4), MonotoneSpline(KNOTS), MonotoneSpline(KNOTS, free="parameters")
    corrected = Corrected(VanGenuchten(), 4)
    for law in (net, spline):
        law.imitate(VanGenuchten(), LOAM)
    generator = torch.Generator().manual_seed(0)
    for weights in corrected.parameters():
        weights.data.add_(0.3 * torch.randn(weights.shape, generator=generator, dtype=weights.dtype))
    values = {n: float(v) for n, v in free.imitate(VanGenuchten(), LOAM).items()}
    return {
        "VanGenuchten": (VanGenuchten(), LOAM),
        "VanGenuchten, entry": (VanGenuchten(), LOAM | {"n": 1.56, "entry": 2.0}),
        "BrooksCorey": (BrooksCorey(), COMMON | {"entry": 12.0, "lambda": 0.6, "l": 1.0}),
        "Gardner": (Gardner(), COMMON | {"alpha": 0.05}),
        "Haverkamp": (Haverkamp(), Haverkamp().defaults | {"Ks": 10.0}),
        "HaverkampLog": (HaverkampLog(), HaverkampLog().defaults | {"Ks": 10.0}),
        "BroadbridgeWhite": (BroadbridgeWhite(), COMMON | {"lambda": 20.0, "C": 1.5}),
        "MonotoneNet": (net, COMMON),
        "MonotoneSpline": (spline, COMMON),
        "MonotoneSpline, parameters": (free, values),
        "Corrected": (corrected, LOAM),
    }


def start(top: str, bottom: str) -> Tensor:
    """Initial heads: soil at rest to the surface under a face that opens, wet above faces that may, else moist."""
    if top == "seepage face" and bottom in ("head", "water table"):
        return torch.as_tensor(GRID.depth)
    wet = "seepage face" in (top, bottom)
    return torch.linspace(-35.0, -1.0, GRID.cells) if wet else torch.linspace(-60.0, -40.0, GRID.cells)


class Case:
    """A law between two boundaries, run by one scheme through two intervals of three steps.

    ``x`` holds ones: factors of every parameter, initial head and boundary value, so that all entries of a gradient
    count by what a relative change of theirs does.
    """

    def __init__(self, law: SoilLaw, p: dict[str, float], top: str, bottom: str, tableau, steps: int = 3):
        self.p, self.tableau, self.steps = p, tableau, steps
        (up, ups), (down, downs) = TOPS[top], BOTTOMS[bottom]
        self.series = ups | {n: ARTESIAN.get(n, v) if top == "seepage face" else v for n, v in downs.items()}
        self.column = Column(GRID, law, up, down)
        self.psi0 = start(top, bottom)
        self.x = torch.ones(len(p) + GRID.cells + 2 * len(self.series))

    def run(self, x: Tensor):
        """Of factors (N, entry)."""
        p, psi0, series = x.split([len(self.p), GRID.cells, 2 * len(self.series)], dim=-1)
        soil = {n: v * f for (n, v), f in zip(self.p.items(), p.T, strict=True)}
        base = torch.tensor(list(self.series.values())).reshape(-1, 2)
        values = (series.reshape(len(x), -1, 2) * base).permute(1, 2, 0)
        named = dict(zip(self.series, values, strict=True))
        forcing = (
            Forcing(named, {n: UNITS[n] for n in named}, EDGES)
            if named
            else Forcing.clock(EDGES, batch=(len(x),))
        )  # fmt: skip
        return flow(self.column, forcing, soil, self.psi0 * psi0, tableau=self.tableau, steps=Fixed(self.steps))

    def value(self, x: Tensor) -> Tensor:
        """A smooth function (N,) of all that a run returns."""
        r, w = self.run(x), torch.linspace(1.0, 2.0, GRID.cells)
        heads = 0.01 * (r.psi * w).sum((0, -1)) + 0.1 * r.ends.sum((0, -1))
        moved = (r.top + 2.0 * r.bottom.square() + r.runoff.square() + 3.0 * r.evaporation).sum(0)
        return heads + moved + (r.theta * w).sum((0, -1)) + r.storage.square().sum(0)

    def by_inputs(self) -> dict:
        point = self.x[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.value(point).sum(), point)
        return told(differences(self.value, self.x, steps=STEPS).against(gradient[0]))

    def by_weights(self) -> dict:
        """Along random directions, as every point is a law of its own and has a run of its own."""
        weights = self.column.weights()
        start = [w.detach().clone() for w in weights]
        generator = torch.Generator().manual_seed(1)
        along = [
            torch.randn(DIRECTIONS, *w.shape, generator=generator, dtype=w.dtype) for w in weights
        ]  # fmt: skip

        def moved(points: Tensor) -> Tensor:
            found = []
            for point in points:
                for w, s, d in zip(weights, start, along, strict=True):
                    w.data.copy_(s + torch.tensordot(point, d, 1))
                with torch.no_grad():
                    found.append(self.value(self.x[None])[0])
            for w, s in zip(weights, start, strict=True):
                w.data.copy_(s)
            return torch.stack(found)

        grads = torch.autograd.grad(self.value(self.x[None]).sum(), weights)
        gradient = sum((d * g).flatten(1).sum(1) for d, g in zip(along, grads, strict=True))
        zero = torch.zeros(DIRECTIONS)
        return told(differences(moved, zero, scale=0.1 * torch.ones(DIRECTIONS), steps=STEPS).against(gradient))


def told(agreement) -> dict:
    names = ("error", "round_off", "excluded", "unseen")
    return {n: float(getattr(agreement, n)) for n in names}
