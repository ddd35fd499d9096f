"""Networks in a box of three dimensions, against a solution in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from udehydro.richards.laws import Gardner
from udehydro.richards.pinn import Adam, Box, Counts, Levenberg, Problem, Region, Soil, Wall, solve

ALPHA, SPAN, KS, SIDE, LAST = 0.1, 0.3, 20.0, 10.0, 0.3
WAVE = 0.5 * math.pi / SIDE
FALL = KS / (ALPHA * SPAN) * (3.0 * WAVE**2 + 0.25 * ALPHA**2)
SOIL = {"theta_r": 0.1, "theta_s": 0.1 + SPAN, "alpha": ALPHA, "Ks": KS}


def exact(at: torch.Tensor) -> torch.Tensor:
    """Head at points (n, 4): with Gardner's law exp(alpha psi) obeys a linear equation, of which this is a mode."""
    t, x, y, z = at.unbind(-1)
    wave = torch.cos(WAVE * x) * torch.cos(WAVE * y) * torch.cos(WAVE * z)
    return torch.log(0.5 + 0.3 * torch.exp(-FALL * t - 0.5 * ALPHA * z) * wave) / ALPHA


def test_mode_solves_the_equation():
    at = torch.rand(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * SIDE
    at[:, 0] *= LAST / SIDE
    at.requires_grad_()

    def d(y: torch.Tensor, i: int) -> torch.Tensor:
        return torch.autograd.grad(y.sum(), at, create_graph=True)[0][:, i]

    law, psi = Gardner(), exact(at)
    k, theta = law.conductivity(psi, SOIL), law.theta(psi, SOIL)
    divergence = sum(d(k * (d(psi, i) + (i == 3)), i) for i in (1, 2, 3))
    assert (d(theta, 0) - divergence).abs().max() < 1e-10


@pytest.mark.parametrize("form", ["mixed", "pointwise"])
def test_box(form):
    box = Box((0.0, 0.0, 0.0, 0.0), (LAST, SIDE, SIDE, SIDE))
    start = lambda places: exact(torch.cat([torch.zeros_like(places[:, :1]), places], 1))  # noqa: E731
    region = Region(box, Soil(Gardner(), SOIL), start)
    walls = [Wall("head", exact, axis=axis, upper=upper) for axis in (1, 2, 3) for upper in (False, True)]
    problem = Problem([region], walls, flux=KS, head=10.0, form=form)
    found = solve(problem, seeds=(0,), stages=(Adam(100), Levenberg(15)), counts=Counts(300, 40), width=8, depth=2)
    at = torch.rand(300, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    at = at * torch.tensor(box.high)
    off, moved = found.psi(at)[0] - exact(at), start(at[:, 1:]) - exact(at)
    assert off.norm() < 0.02 * exact(at).norm()
    assert off.norm() < 0.1 * moved.norm(), "better by far than the start that holds from the outset"
