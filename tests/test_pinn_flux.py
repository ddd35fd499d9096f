"""A flux through the surface that nobody measured, from water contents below it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from udehydro.richards.exact import SrivastavaYeh
from udehydro.richards.laws import Gardner
from udehydro.richards.pinn import Adam, Box, Counts, Data, Levenberg, Problem, Region, Soil, Wall, Weights
from udehydro.richards.pinn.solution import solution_of
from udehydro.richards.pinn.stages import Stage, train

RAIN = 12.0
SOFT = {"theta_r": 0.06, "theta_s": 0.40, "alpha": 1.0, "Ks": 24.0}
TRUTH = SrivastavaYeh(0.06, 0.40, 1.0, 24.0, 10.0, 2.4, RAIN)
END, SIGMA = 10.0 / 24.0, 0.005
LATER = np.linspace(0.1, 0.95, 60) * END
"""Times at which the flux is judged: the networks know of no rain before the first one and so take a while."""


def readings(seeds):
    """Water contents at three depths and 41 times, each seed with noise of its own."""
    t, z = (a.ravel() for a in np.meshgrid(np.linspace(0.005, 1.0, 41) * END, [9.5, 7.0, 4.0], indexing="ij"))
    exact = TRUTH.theta(z, t)
    noisy = [exact + SIGMA * np.random.default_rng(s).normal(size=exact.shape) for s in seeds]
    return Data("theta", torch.from_numpy(np.stack([t, z], axis=1)), torch.from_numpy(np.stack(noisy)), SIGMA)


def found(data, seeds):
    """Surface flux [cm/d] (seed, time), with nothing known of the top and of the start."""
    region = Region(Box((0.0, 0.0), (END, 10.0)), Soil(Gardner(), SOFT))
    problem = Problem([region], [Wall("head", 0.0, upper=False)], 24.0, 1.0, [data], stretch=True)
    stages = []
    for optimiser, size in ((Adam(150), 0.1), (Levenberg(25), 0.1), (Levenberg(25), 0.02)):
        heavy = replace(problem, weights=Weights(physics=data.points.shape[0] / size**2))
        stages.append(Stage(f"{optimiser}", optimiser, heavy, Counts(400, 60)))
    solution = solution_of(stages[-1].problem, train(stages, problem.fields(seeds, width=10)))
    assert not bool(solution.failed.any())
    return solution.flux(np.stack([LATER, np.full_like(LATER, 10.0)], axis=1)).numpy()


@pytest.fixture(scope="module")
def seeds():
    return (0, 1)


def off(flux):
    """Relative L2 error against the rain, of every seed."""
    return np.sqrt(((flux + RAIN) ** 2).mean(1)) / RAIN


def test_surface_flux_is_found(seeds):
    flux = found(readings(seeds), seeds)
    assert off(flux).max() < 0.05, f"the flux through the surface is off by {off(flux)}"
    assert np.abs(flux.mean(1) + RAIN).max() < 0.03 * RAIN, f"water that entered is off: {flux.mean(1)} cm/d"


def test_it_comes_from_the_data(seeds):
    """Without readings nothing tells of the rain: a saturated soil fulfils all the rest."""
    data = readings(seeds)
    flux = found(replace(data, values=torch.full_like(data.values, torch.nan)), seeds)
    assert off(flux).min() > 0.5, f"the flux through the surface is off by {off(flux)} without any data"
