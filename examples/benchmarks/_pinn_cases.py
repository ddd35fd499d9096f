"""Problems with known solutions for physics-informed networks, one dimension: what is solved, and how far it is off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from _richards_common import relative

from udehydro import Forcing
from udehydro.richards import exact, laws
from udehydro.richards.column import Adaptive, Column, Flux, FreeDrainage, Grid, flow
from udehydro.richards.pinn import Box, Problem, Profile, Region, Soil, Solution, Wall
from udehydro.richards.pinn.points import grid

HOURS = 10.0 / 24.0
SOFT = {"theta_r": 0.06, "theta_s": 0.40, "alpha": 1.0, "Ks": 24.0}
BEFORE, AFTER = 2.4, 21.6
"""Recharge [cm/d] of the start and of what is solved."""
LOAM = {"theta_r": 0.078, "theta_s": 0.43, "alpha": 0.036, "n": 1.56, "Ks": 24.96, "entry": 2.0}
EVENTS, RATES, LAST, HEIGHT, DRY = (0.0, 0.5, 1.5, 2.0), (-5.0, 0.3, -8.0, 0.0), 3.0, 40.0, -100.0
"""Times [d] at which the flux [cm/d] at the loam's surface jumps, the end, its depth [cm] and first head [cm]."""
COLUMN_CELLS, EVERY = 800, 8
SIDE = 101
"""Times, and heights in a region, of the grid that errors are taken on."""


@dataclass(frozen=True, eq=False)
class Case:
    """A problem, points (n, D), what is true there, and whether it is solved slab of time after slab."""

    problem: Problem
    points: np.ndarray
    theta: np.ndarray
    psi: np.ndarray
    slabs: bool = False

    def errors(self, found: Solution) -> dict[str, list]:
        """Relative L2 errors of all members, of theta by time as well."""
        theta, psi = (f(self.points).numpy() for f in (found.theta, found.psi))
        days = np.unique(self.points[:, 0])
        then = [self.points[:, 0] == t for t in days]
        return {
            "theta": [relative(x, self.theta) for x in theta],
            "psi": [relative(x, self.psi) for x in psi],
            "days": days.tolist(),
            "by time": [[relative(x[at], self.theta[at]) for at in then] for x in theta],
        }


def constant(value: float) -> Callable:
    """A head that is the same everywhere."""
    return lambda places: torch.full_like(places[:, 0], value)


def judged(problem: Problem, truth) -> Case:
    """A case with an exact solution of height and time, on a grid over each region; faces are taken from both sides."""
    parts = []
    for i, region in enumerate(problem.regions):
        at, (low, high) = grid(region.box, SIDE, SIDE).numpy(), (region.box.low[1], region.box.high[1])
        at[:, 1] = _within(at[:, 1], low, high, i > 0, i + 1 < len(problem.regions))
        parts.append((at, truth.theta(at[:, 1], at[:, 0]), truth.psi(at[:, 1], at[:, 0])))
    return Case(problem, *(np.concatenate(p) for p in zip(*parts, strict=True)))


def _within(z: np.ndarray, low: float, high: float, below: bool, above: bool) -> np.ndarray:
    """Heights that belong to a layer without doubt, where others are below or above."""
    return np.clip(z, low + 1e-9 * below, high - 1e-9 * above)


def one(**options) -> Case:
    """Srivastava and Yeh (1991): 10 cm above a water table, 10 h after a step of recharge."""
    truth, z = exact.SrivastavaYeh(0.06, 0.40, 1.0, 24.0, 10.0, BEFORE, AFTER), np.linspace(0.0, 10.0, 401)
    soil, start = Soil(laws.Gardner(), SOFT), Profile(z, truth.psi(z, 0.0))
    region = Region(Box((0.0, 0.0), (HOURS, 10.0)), soil, start, (0.0,), (1,))
    walls = [Wall("flux", -AFTER), Wall("kept", upper=False)]
    return judged(Problem([region], walls, flux=AFTER, head=1.0, **options), truth)


def layers(lengths: Sequence[float], **options) -> Case:
    """The same in two layers, from the lower one up; the upper conducts ten times as well."""
    conducts, regions = (24.0, 240.0), []
    truth = exact.SrivastavaYehLayers((0.06, 0.06), (0.40, 0.40), 1.0, conducts, tuple(lengths), BEFORE, AFTER)
    for i, (low, high) in enumerate([(0.0, lengths[0]), (lengths[0], sum(lengths))]):
        z = np.linspace(low, high, 401)
        start = Profile(z, truth.psi(_within(z, low, high, i == 1, i == 0), 0.0))
        soil = Soil(laws.Gardner(), SOFT | {"Ks": conducts[i]})
        regions.append(Region(Box((0.0, low), (HOURS, high)), soil, start, (0.0,), (1,)))
    walls = [Wall("flux", -AFTER, region=1), Wall("kept", upper=False, region=0)]
    return judged(Problem(regions, walls, flux=AFTER, head=1.0, **options), truth)


def versatile(C: float, depth: float, **options) -> Case:
    """Broadbridge and White (1988): half of Ks into soil at a fifth of saturation."""
    truth = exact.BroadbridgeWhite(0.06, 0.40, 24.0, 10.0, C, 12.0, 0.06 + 0.34 * 0.2)
    soil = Soil(laws.BroadbridgeWhite(), {"theta_r": 0.06, "theta_s": 0.40, "Ks": 24.0, "lambda": 10.0, "C": C})
    start = constant(float(truth.psi(-depth, 0.0)))
    region = Region(Box((0.0, -depth), (0.28, 0.0)), soil, start, (0.0,), (1,))
    walls = [Wall("flux", -12.0), Wall("kept", upper=False)]
    return judged(Problem([region], walls, flux=12.0, head=10.0, **options), truth)


def loam(**options) -> Case:
    """A van Genuchten loam under rain that comes and goes, draining freely, against the column."""
    regions, walls = [], []
    for k, (begin, end) in enumerate(zip(EVENTS, [*EVENTS[1:], LAST], strict=True)):
        box = Box((begin, -HEIGHT), (end, 0.0))
        start = constant(DRY) if k == 0 else None
        regions.append(Region(box, Soil(laws.VanGenuchten(), LOAM), start, (begin,), (1,)))
        walls += [Wall("flux", RATES[k], region=k), Wall("drainage", upper=False, region=k)]
    problem = Problem(regions, walls, flux=8.0, head=30.0, stretch=True, **options)
    return Case(problem, *_by_column(), slabs=True)


def _by_column() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, contents and heads of the loam by the column, at 160 times, closer together after each jump."""
    spans = zip(EVENTS, [*EVENTS[1:], LAST], strict=True)
    days = np.unique(np.concatenate([a + (b - a) * np.linspace(0.0, 1.0, 41) ** 2 for a, b in spans]))
    middle = 0.5 * (days[1:] + days[:-1])
    q = torch.as_tensor(np.asarray(RATES)[np.searchsorted(EVENTS, middle, side="right") - 1])
    column = Column(Grid.uniform(HEIGHT, COLUMN_CELLS), laws.VanGenuchten(), Flux("q"), FreeDrainage())
    forcing = Forcing({"q": q}, {"q": "cm/d"}, Forcing.clock(days=days).time_edge)
    with torch.no_grad():
        run = flow(column, forcing, LOAM, DRY, steps=Adaptive(1e-6))
    some = slice(EVERY // 2, None, EVERY)
    z = -np.asarray(column.grid.depth)[some]
    points = np.stack(np.meshgrid(days[1:], z, indexing="ij"), -1).reshape(-1, 2)
    return points, *(x[1:, some].reshape(-1).numpy() for x in (run.theta, run.psi))
