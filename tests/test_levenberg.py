"""Levenberg-Marquardt iterations: what counts as converged, and covariances."""

import pytest
import torch

from udehydro import Forcing
from udehydro.richards.column import Atmospheric, Column, Fixed, FreeDrainage, Grid, flow
from udehydro.richards.inversion import Free, Inversion, Observed, fit
from udehydro.richards.laws import VanGenuchten
from udehydro.training.levenberg import UNTOLD, Normal, covariance_of, minimise

LOAM = {"theta_r": 0.065, "theta_s": 0.41, "Ks": 10.0, "alpha": 0.05, "n": 2.2}


def parabola(fails):
    """chi2 = |x - 2|^2, which cannot be evaluated where ``fails``."""

    def evaluate(x, index):
        off = x - 2.0
        chi2 = torch.where(fails(x, index), torch.inf, off.square().sum(-1))
        return Normal(chi2, off, torch.eye(1).expand(len(x), 1, 1).clone(), chi2[:, None])

    return evaluate


def search(fails, members=1):
    wide = torch.full((members, 1), 100.0)
    return minimise(parabola(fails), torch.zeros(members, 1), -wide, wide, wide > 0.0, steps=60)


def test_trials_that_all_fail_are_no_convergence():
    """The other member goes on, and arrives."""
    x, now, iterations, converged = search(lambda x, index: (index == 0) & (x[:, 0] != 0.0), 2)
    assert converged.tolist() == [False, True] and float(x[0]) == 0.0 and abs(float(x[1]) - 2.0) < 1e-3
    assert bool(now.chi2.isfinite().all()) and int(iterations[0]) < 60


class TestCovariance:
    def test_is_the_inverse(self):
        a = torch.rand(2, 7, 3)
        normal = a.mT @ a * torch.tensor([1e-8, 1.0, 1e8]).sqrt().outer(torch.tensor([1e-8, 1.0, 1e8]).sqrt())
        found = covariance_of(normal) @ normal
        assert torch.allclose(found, torch.eye(3).expand(2, 3, 3), atol=1e-8 * 1e8)
        assert torch.allclose(found.diagonal(dim1=1, dim2=2), torch.ones(2, 3), rtol=1e-8)

    def test_of_what_nothing_tells(self):
        """Large and finite, and of no influence on the others."""
        normal = torch.tensor([[4.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 2.0]])
        found = covariance_of(normal)
        assert float(found[1, 1]) == pytest.approx(UNTOLD) and not bool(found[1, ::2].any())
        assert torch.allclose(found[::2][:, ::2], torch.linalg.inv(normal[::2][:, ::2]))
        assert torch.allclose(covariance_of(torch.zeros(2, 2)), UNTOLD * torch.eye(2))

    def test_bands_of_a_fit_with_an_unknown_that_nothing_tells_of(self):
        """The driest head of a surface that is always wet."""
        grid, clock = Grid.uniform(30.0, 6), Forcing.clock(days=[0.0, 0.2, 0.5, 1.0])
        column = Column(grid, VanGenuchten(), Atmospheric(1.0, driest=Free(-15000.0, -1e5, -1e3)), FreeDrainage())
        blank = Observed("theta", torch.full((4,), 0.2), 0.005, depth=5.0)
        true = Column(grid, VanGenuchten(), Atmospheric(1.0), FreeDrainage())
        theta = blank.of(flow(true, clock, LOAM, -60.0, steps=Fixed(3)), true)
        seen = Observed("theta", theta, 0.005, depth=5.0)
        both = fit(Inversion(column, clock, LOAM | {"alpha": Free(0.06)}, -60.0, seen, steps=Fixed(3)))
        alone = fit(Inversion(true, clock, LOAM | {"alpha": Free(0.06)}, -60.0, seen, steps=Fixed(3)))
        assert both.names == ("alpha", "top driest") and float(both.sd[0, 1]) == pytest.approx(UNTOLD**0.5)
        psi = torch.tensor([-10.0, -100.0])
        found, expected = both.curves(psi), alone.curves(psi)
        assert torch.allclose(found.theta_sd, expected.theta_sd, rtol=1e-6) and float(found.theta_sd.min()) > 0.0
        assert torch.allclose(found.log_k_sd, expected.log_k_sd, rtol=1e-6)
