"""Diffusivity and conductivity from moisture sensors alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from udehydro.errors import ConfigError
from udehydro.richards.exact import SrivastavaYeh
from udehydro.richards.inversion import Observed
from udehydro.richards.laws import Gardner, VanGenuchten
from udehydro.richards.pinn import Adam, ContentLaw, Counts, learn_contents
from udehydro.richards.pinn.contents import HEADS, _start, values
from udehydro.richards.pinn.doubt import excess
from udehydro.richards.pinn.scales import storage_rate

DEPTHS = (0.5, 2.5, 4.5, 6.5, 8.5)
DAYS = np.linspace(0.05, 10.0, 61) / 24.0
GUESS = (Gardner(), {"theta_r": 0.05, "theta_s": 0.45, "alpha": 0.5, "Ks": 8.0})
SMALL = dict(guess=GUESS, ramp=(0.1, 0.03), steps=25, first=Adam(150), counts=Counts(400, 50), width=8, knots=6)


def truth() -> SrivastavaYeh:
    return SrivastavaYeh(0.06, 0.40, 1.0, 24.0, 10.0, recharge_before=2.4, recharge_after=21.6)


def sensors(members: int = 1, sigma: float = 0.002) -> Observed:
    exact = torch.as_tensor(truth().theta(10.0 - np.array(DEPTHS), DAYS[:, None]))
    noise = torch.Generator().manual_seed(0)
    draws = torch.randn(len(DAYS), members, len(DEPTHS), generator=noise, dtype=torch.float64)
    return Observed("theta", exact.unsqueeze(1) + sigma * draws, sigma, DEPTHS)


@pytest.fixture(scope="module")
def found():
    return learn_contents(DAYS, sensors(2), seeds=(0, 1), events=(DAYS[0],), **SMALL)


def test_gardner(found):
    """Gardner's soil is linear in contents: D = Ks / (alpha span), dK/dtheta = Ks / span."""
    theta = torch.linspace(float(found.law.knots[0]) + 0.02, float(found.law.knots[-1]) - 0.02, 50, dtype=torch.float64)
    curves, span = found.curves(theta), 0.34
    assert (found.misfit - 1.0).abs().max() < 0.4 and not found.solution.failed.any()
    assert (curves.diffusivity / (24.0 / span) - 1.0).abs().median() < 0.1
    rise = (curves.conductivity[:, -1] - curves.conductivity[:, 0]) / (theta[-1] - theta[0])
    assert (rise / (24.0 / span) - 1.0).abs().max() < 0.1
    driest = 24.0 / span * (theta - found.law.knots[0])
    for mine, true, sd in (
        (curves.diffusivity, 24.0 / span, curves.log_diffusivity_sd),
        (curves.conductivity, driest, curves.log_conductivity_sd),
    ):
        off = (mine / true).log().abs() / sd
        assert 0.1 < off.median() < 2.0, "bands have the size of the errors"


def test_flux_but_for_an_offset(found):
    """What passes a level differs from the truth by the conductivity of the driest knot alone."""
    z = torch.tensor([5.0], dtype=torch.float64)
    days = torch.linspace(0.1, 0.4, 7, dtype=torch.float64)
    at = torch.stack([days, -z.expand(7)], 1)
    exact = torch.as_tensor(truth().flux(5.0, days.numpy()))
    off = found.solution.flux(at) - exact
    assert (off - off.mean(1, keepdim=True)).abs().max() < 0.05 * exact.abs().max()


def test_heads_are_a_family(found):
    """With one head and the flux the retention curve is the true one; with others it is another of the same data."""
    theta = torch.linspace(0.12, 0.36, 20, dtype=torch.float64)
    true = torch.log((theta - 0.06) / 0.34)
    k0 = 24.0 * float((found.law.knots[0] - 0.06) / 0.34)
    psi = found.heads(theta, 0.36, float(true[-1]), offset=k0)
    assert (psi - true).abs().max() < 0.25 * (true[-1] - true[0])
    assert (found.heads(theta, 0.36, float(true[-1]) - 5.0, offset=k0) - (psi - 5.0)).abs().max() < 1e-9
    with pytest.raises(ConfigError, match="offset"):
        found.heads(theta, 0.36, 0.0, offset=0.0)
    with pytest.raises(ConfigError, match="above zero"):
        found.heads(theta, 0.20, -0.1, offset=k0)
    with pytest.raises(ConfigError, match="within"):
        found.heads(theta, 0.9, 0.0, offset=k0)
    with pytest.raises(ConfigError, match="within"):
        found.curves([0.9])


def test_law_against_quadrature():
    law = ContentLaw(torch.tensor([0.1, 0.15, 0.25, 0.4]))
    x = torch.tensor([[1.0, 0.5, -0.3, 0.8, 0.2, 1.0, 0.0, 2.0]], dtype=torch.float64)
    p = values(x)
    theta = torch.linspace(0.05, 0.45, 4001, dtype=torch.float64)
    k = law.conductivity(theta, p)
    slope = torch.as_tensor(np.exp(np.interp(theta, law.knots, p["S"][0])))
    inner = (theta > 0.1) & (theta < 0.4)
    assert torch.allclose(torch.gradient(k, spacing=(theta,))[0][inner], slope[inner], rtol=2e-3)
    assert float(law.conductivity(law.knots, p)[0]) == 0.0
    assert torch.allclose(law.log_diffusivity(law.knots, p), p["D"][0])
    assert torch.autograd.gradcheck(
        lambda u, x: law.conductivity(u, values(x)) * law.diffusivity(u, values(x)),
        (theta[::401].clone().requires_grad_(), x.clone().requires_grad_()),
    )


def test_bad_input():
    def refused(match, days=DAYS, seen=None, **how):
        with pytest.raises(ConfigError, match=match):
            learn_contents(days, sensors() if seen is None else seen, **SMALL | how)

    refused("61 rows of readings for 60 times", DAYS[:-1])
    refused("row 7", np.where(np.arange(61) == 7, DAYS[6], DAYS))
    refused("as many seeds", seen=sensors(2), seeds=(0, 1, 2))
    refused("at 2 depths", seen=Observed("theta", torch.zeros(61, 2), 0.01, (1.0, 2.0)))
    refused("at 2 depths", seen=Observed("theta", torch.zeros(61, 3), 0.01, (1.0, 1.0, 2.0)))
    refused("all 0.2", seen=Observed("theta", torch.full((61, 5), 0.2), 0.01, DEPTHS))
    refused("knots=2", knots=2)
    silent = sensors(2)
    silent.values[:, 1] = torch.nan
    refused("Member 1 has no readings", seen=silent, seeds=(0, 1))
    dead = sensors()
    dead.values[..., :3] = torch.nan
    refused("at 2 depths", seen=dead)
    refused("ramp", ramp=())


@pytest.mark.filterwarnings("ignore:chi2 by reading", "ignore:Residuals of the physics")
def test_doubts():
    """Depths in other units than cm, and readings that the networks do not follow."""
    none = SMALL | {"first": Adam(1), "steps": 0, "ramp": (0.1,)}
    seen = sensors()
    with pytest.warns(UserWarning, match="depths are in cm"):
        learn_contents(DAYS, Observed("theta", seen.values, 0.01, tuple(d / 100.0 for d in DEPTHS)), **none)
    with pytest.warns(UserWarning, match="chi2 by reading is .* for 1 of 1"):
        learn_contents(DAYS, seen, **none)
    one, ten = torch.ones(3), torch.tensor([0.5, 4.0, 100.0])
    assert excess(ten, 0.1 * one, torch.tensor([0.05, 0.1, 0.1])).tolist() == [2.0, 2.0, 10.0]


@pytest.mark.parametrize(("low", "saturation"), [(0.03, 0.05), (0.17, 0.25), (0.40, 0.8)])
def test_the_guess_is_as_dry_as_the_readings(low, saturation):
    """The first knot begins at the guess's D for its content, as far as it has such a content."""
    law, p = VanGenuchten(), {"theta_r": 0.08, "theta_s": 0.44, "alpha": 0.036, "n": 1.6, "Ks": 25.0, "entry": 2.0}
    start = _start(ContentLaw(torch.linspace(low, 0.42, 5, dtype=torch.float64)), law, p, 1).values
    p = {n: torch.tensor(v, dtype=torch.float64) for n, v in p.items()}
    dry = law.theta(HEADS[:1], p)  # which a sensor never meets
    psi = law.head(dry + saturation * (0.44 - dry), p)
    expected = torch.log(law.conductivity(psi, p) / law.capacity(psi, p))
    assert abs(float(start[0, 0] - expected)) < 0.02


def test_sensors_that_drop_out_move_no_water():
    days = torch.linspace(0.0, 1.0, 101, dtype=torch.float64)
    theta = torch.tensor([0.1, 0.3]).double().expand(101, 2).clone()
    assert storage_rate(days, theta, 10.0) == 1e-3
    theta[50:, 0] = torch.nan
    assert storage_rate(days, theta, 10.0) == 1e-3
    assert storage_rate(days, theta + 0.1 * days[:, None], 10.0) == pytest.approx(1.0)
