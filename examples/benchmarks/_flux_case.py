"""Bandai and Ghezzehei's (2022) loam over sandy loam with the flux through its surface unknown: truth, data, errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import torch
from _richards_common import relative
from _richards_hydrus import DEPTH, FLUXES, FOLDER, LOAM, PSI0, SAND, reference, simulate

from udehydro.richards.column import Grid
from udehydro.richards.laws import VanGenuchten
from udehydro.richards.pinn import Adam, Box, Counts, Data, Levenberg, Problem, Region, Soil, Solution, Wall
from udehydro.richards.pinn.solution import solution_of
from udehydro.richards.pinn.stages import ramped, train

CELLS, EVERY, SIGMA = 2000, 10, 0.005
"""Cells of the column that is the truth, of which every tenth is compared; noise of water contents."""
LAYERS = ((-20.0, -10.0, SAND), (-10.0, 0.0, LOAM))
HOURS = np.linspace(0.0, 20.0, 201)
TIMES = 0.05 * np.arange(400) + 0.025
"""Hours at which surface fluxes are compared, in the middle of spans."""
SHOWN = (2, 6, 10, 14, 18)
"""Hours of profiles for the figure."""
FLUX, HEAD, WIDTH = 24.0, 300.0, 14
"""Scales of fluxes [cm/d] and heads [cm]; units of a layer of the networks."""
RAMP, STEPS, FIRST, COUNTS = (0.1, 0.03, 0.01), 80, 300, Counts(2000, 200)
"""Residuals of the physics that count as one standard deviation, by stage; steps of Levenberg's in each and of Adam's
before; points."""


@dataclass(frozen=True)
class Case:
    """What is measured and what else is known.

    Attributes
    ----------
    sensors : depths [cm].
    seeds : of noise and weights together.
    base, start, jumps : whether the head at the base, the heads at the start, and the times at which the surface flux
        jumps are known.
    published : whether data and truth are those published with the paper, by HYDRUS-1D, and seeds of weights only.
    """

    sensors: tuple[int, ...]
    seeds: Sequence[int]
    base: bool = True
    start: bool = False
    jumps: bool = False
    published: bool = False


@dataclass(frozen=True, eq=False)
class Truth:
    """Water contents and heads (201, depth) at rising depths [cm], and contents with noise where they come with it."""

    depth: np.ndarray
    theta: np.ndarray
    psi: np.ndarray
    noisy: np.ndarray | None = None

    def at(self, sensors: Sequence[int], noisy: bool = False) -> np.ndarray:
        """Water contents (201, sensor); no sensor is at the interface."""
        values = self.noisy if noisy else self.theta
        return np.stack([[np.interp(d, self.depth, row) for row in values] for d in sensors], axis=1)


@cache
def truth(published: bool) -> Truth:
    """By our column of 2000 cells, or by HYDRUS."""
    if not published:
        run, _ = simulate(VanGenuchten(), Grid.uniform(20.0, CELLS), 10.0, 1e-4)
        return Truth(np.asarray(run.column.grid.depth), run.theta.numpy(), run.psi.numpy())
    _, psi, theta = reference()
    noisy = pd.read_csv(FOLDER / "hydrus_loam_over_sandyloam_theta_noisy.csv.gz").drop(columns="t_h").to_numpy()
    apart = np.delete(np.arange(len(DEPTH)), [100, 101])  # both nodes at the interface
    return Truth(DEPTH[apart], theta[:, apart], psi[:, apart], noisy[:, apart])


def measured(case: Case) -> list[Data]:
    """Each seed's water contents, a series for each layer that has sensors: points and (seed, reading)."""
    known = truth(case.published)
    if case.published:
        values = np.repeat(known.at(case.sensors, noisy=True)[None], len(case.seeds), axis=0)
    else:
        exact = known.at(case.sensors)
        values = np.stack([exact + SIGMA * np.random.default_rng(s).normal(size=exact.shape) for s in case.seeds])
    depths, found = np.array(case.sensors, float), []
    for i, (low, high, _) in enumerate(LAYERS):
        mine = (low < -depths) & (-depths < high)
        points = np.stack(np.meshgrid(HOURS / 24.0, -depths[mine], indexing="ij"), -1).reshape(-1, 2)
        readings = torch.from_numpy(values[:, :, mine].reshape(len(values), -1))
        found.append(Data("theta", torch.from_numpy(points), readings, SIGMA, region=i))
    return found


def problem(case: Case) -> Problem:
    """Two soils with known curves; nothing is said of the surface."""
    events = (0.0, *(hour / 24.0 for hour, _ in FLUXES[:-1])) if case.jumps else ()
    start = (lambda places: torch.full_like(places[:, 0], PSI0)) if case.start else None
    regions = [
        Region(Box((0.0, low), (HOURS[-1] / 24.0, high)), Soil(VanGenuchten(), p), start, events)
        for low, high, p in LAYERS
    ]
    walls = [Wall("head", PSI0, upper=False)] if case.base else []
    return Problem(regions, walls, FLUX, HEAD, measured(case), stretch=True)


def solved(case: Case) -> Solution:
    """Networks of all seeds, trained while the physics gets heavier."""
    asked = problem(case)
    stages = ramped(asked, readings(case), [Adam(FIRST), *[Levenberg(STEPS)] * len(RAMP)], RAMP, COUNTS)
    return solution_of(stages[-1].problem, train(stages, asked.fields(case.seeds, WIDTH)))


def surface_flux(hours: np.ndarray) -> np.ndarray:
    """The true flux through the surface [cm/h], positive upwards."""
    until, rate = np.array(FLUXES).T
    return rate[np.searchsorted(until, hours)]


def errors(case: Case, found: Solution) -> dict:
    """Errors of each seed; surface fluxes [cm/h] and profiles for the figure."""
    known = truth(case.published)
    some = slice(None) if case.published else slice(EVERY // 2, None, EVERY)
    depth, true_theta, true_psi = known.depth[some], known.theta[:, some], known.psi[:, some]
    points = np.stack(np.meshgrid(HOURS / 24.0, -depth, indexing="ij"), -1).reshape(-1, 2)
    theta, psi = (f(points).numpy() for f in (found.theta, found.psi))
    flux = found.flux(np.stack([TIMES / 24.0, np.zeros_like(TIMES)], axis=1)).numpy() / 24.0
    true_flux, step = surface_flux(TIMES), TIMES[1] - TIMES[0]
    fields = theta.reshape(len(theta), len(HOURS), -1)
    profiles = [fields[:, round(hour / (HOURS[1] - HOURS[0]))] for hour in SHOWN]
    return {
        "theta": [relative(x, true_theta.ravel()) for x in theta],
        "psi": [relative(x, true_psi.ravel()) for x in psi],
        "flux": [relative(x, true_flux) for x in flux],
        "entered": (step * (true_flux - flux).sum(1)).tolist(),
        "after": [relative(x, true_theta[1:]) for x in fields[:, 1:]],
        "failed": found.failed.tolist(),
        "misfit": [float(x) for x in sum(p for n, p in found.parts.items() if "theta" in n) / readings(case)],
        "fluxes": flux.round(5).tolist(),
        "depth": depth.round(4).tolist(),
        "profiles": np.stack(profiles, axis=1).round(5).tolist(),
        "true profiles": [true_theta[10 * hour].round(5).tolist() for hour in SHOWN],
    }


def readings(case: Case) -> int:
    return len(HOURS) * len(case.sensors)
