"""Fluxes of dry soil in Darcy's law: counted by their size, or by their ratio."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_pinn_solve import layered, unknowns

from udehydro.errors import ConfigError
from udehydro.richards import exact, laws
from udehydro.richards.pinn import Adam, Box, Clock, Counts, Levenberg, Problem, Profile, Region, Soil, Wall, solve
from udehydro.richards.pinn.jets import Jet, Orders
from udehydro.richards.pinn.points import grid
from udehydro.richards.pinn.residuals import compared, mixed

T = torch.float64
P = {"theta_r": 0.06, "theta_s": 0.40, "alpha": 0.1, "Ks": 24.0}
BEFORE, AFTER = 0.0024, 12.0
"""Recharge [cm/d]: almost none, then half of the conductivity."""


def darcy_rows(fluxes, floor):
    """Residuals of steady flow -BEFORE above a water table, where fluxes are taken to be these."""
    z = torch.linspace(0.0, 100.0, 11, dtype=T)
    k = BEFORE + (P["Ks"] - BEFORE) * torch.exp(-P["alpha"] * z)
    slope = -(P["Ks"] - BEFORE) * torch.exp(-P["alpha"] * z) / k  # of ln(k / Ks) / alpha
    nothing = torch.zeros_like(z)
    psi = Jet(torch.stack([torch.log(k / P["Ks"]) / P["alpha"], nothing, slope]).unsqueeze(1), Orders((0, 1)))
    q = Jet(torch.stack([fluxes.expand_as(z), nothing, nothing]).unsqueeze(1), Orders((0, 1)))
    points = torch.stack([torch.full_like(z, 0.3), z], 1)
    box, soil = Box((0.0, 0.0), (1.0, 100.0)), Soil(laws.Gardner(), P)
    term = mixed("balance", points, box, 0, soil, AFTER, Clock(0.0, 1.0), floor=floor)
    return term.rows([[psi, q]], torch.zeros(1, 1, 0, dtype=T), slice(0, 11), torch.tensor([0]))[0]


@pytest.mark.parametrize("floor", [None, 0.1, 1e-3])
def test_nothing_is_left_of_what_is_exact(floor):
    rows = darcy_rows(torch.tensor(-BEFORE, dtype=T), floor)
    assert float(rows.abs().max()) < 1e-12


def test_dry_rows_count():
    """Twice the flux of dry soil: 2e-4 of the scale, seen a tenth, or as large as it is."""
    off = torch.tensor(-2.0 * BEFORE, dtype=T)
    sizes = [float(darcy_rows(off, floor)[:, 1].abs().max()) for floor in (None, 0.1, 1e-6)]
    assert sizes == pytest.approx([BEFORE / AFTER, 10.0 * BEFORE / AFTER, np.log(2.0)], rel=1e-3)
    wet, moved = torch.tensor([-1.0, 0.5], dtype=T), torch.tensor([-1.01, 0.505], dtype=T)
    torch.testing.assert_close(
        compared(2.0 * wet, 2.0 * moved, 2.0, 0.1), torch.tensor([0.01, -0.01], dtype=T), rtol=0.05, atol=0.0
    )


def test_normal_equations():
    problem = replace(layered(), flux_floor=0.1)
    system = problem.system(problem.fields((0, 1), width=4, depth=2), 0, Counts(20, 8), unknowns(2))
    x, h = system.start(), 1e-6
    d = torch.randn(x.shape, dtype=T, generator=torch.Generator().manual_seed(0))
    now, up, down = (system.normal(x + k * d) for k in (0.0, h, -h))
    torch.testing.assert_close((up.chi2 - down.chi2) / (4 * h), (now.gradient * d).sum(1), rtol=1e-6, atol=1e-7)
    other = replace(problem, flux_floor=None).system(system.fields, 0, Counts(20, 8), unknowns(2))
    assert not torch.allclose(other.normal(x).parts[:, 0], now.parts[:, 0])


def test_fluxes_of_dry_soil_are_found():
    """A front into dry soil, Srivastava and Yeh (1991): the flux ahead of it is 2e-4 of that behind."""
    truth, z = exact.SrivastavaYeh(0.06, 0.40, 0.1, 24.0, 100.0, BEFORE, AFTER), np.linspace(0.0, 100.0, 401)
    box = Box((0.0, 0.0), (1.0, 100.0))
    region = Region(box, Soil(laws.Gardner(), P), Profile(z, truth.psi(z, 0.0)), (0.0,), (1,))
    at = grid(box, 21, 31)[31:]
    t, z = at.numpy().T
    flux = truth.flux(z, t)
    dry = np.abs(flux) < 0.01 * AFTER
    off = {}
    for floor in (None, 0.1):
        walls = [Wall("flux", -AFTER), Wall("kept", upper=False)]
        problem = Problem([region], walls, AFTER, 20.0, stretch=True, flux_floor=floor)
        stages = (Adam(200), Levenberg(30), Levenberg(30))
        found = solve(problem, seeds=(0,), stages=stages, counts=Counts(500, 80), width=10)
        gap = found.flux(at)[0].numpy() - flux
        off[floor] = [np.linalg.norm(gap[m]) / np.linalg.norm(flux[m]) for m in (dry, ~dry)]
    assert dry.mean() > 0.1
    assert off[0.1][0] < 0.5 * off[None][0] and off[0.1][1] < 1.2 * off[None][1], off


def test_a_floor_is_for_fluxes_that_are_outputs():
    for how in ({"form": "pointwise", "flux_floor": 0.1}, {"flux_floor": 0.0}):
        with pytest.raises(ConfigError, match="flux_floor"):
            replace(layered(), **how)
