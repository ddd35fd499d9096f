"""What networks learn of curves: in layers, of laws with weights, by several seeds; and what is distilled from them."""

import numpy as np
import pytest
import torch
from test_pinn_learn import SOFT, task

from udehydro import Forcing
from udehydro.errors import ConfigError
from udehydro.richards.column import Adaptive, Column, Flux, FreeDrainage, Grid, Head, Layer, flow
from udehydro.richards.inversion import Bands, Free, Inversion, Observed, fit_curves
from udehydro.richards.laws import BrooksCorey, Gardner, MonotoneNet, MonotoneSpline, VanGenuchten
from udehydro.richards.pinn import Adam, Counts, learn
from udehydro.richards.pinn.bridge import Bridge
from udehydro.richards.pinn.distil import distil_curves

T = torch.float64
UPPER = {"theta_r": 0.07, "theta_s": 0.42, "alpha": 0.04, "n": 1.6, "Ks": 25.0, "entry": 2.0}
LOWER = UPPER | {"theta_s": 0.38, "alpha": 0.03, "Ks": 10.0}
DAYS = np.linspace(0.0, 1.0, 31)


def test_layers_have_unknowns_of_their_own():
    """Rain into two loams, read in both: each has the values it was given."""
    column = Column(
        Grid.uniform(20.0, 80), [Layer(VanGenuchten(), 8.0), Layer(VanGenuchten())], Flux(-4.0), FreeDrainage()
    )
    clock, cells = Forcing.clock(days=DAYS), [8, 24, 44, 64]
    run = flow(column, clock, [UPPER, LOWER], -100.0, steps=Adaptive(1e-5))
    noise = torch.Generator().manual_seed(0)
    theta, psi = (x[:, cells] for x in (run.theta, run.psi))
    theta = theta + 0.003 * torch.randn(theta.shape, generator=noise, dtype=T)
    psi = psi * torch.exp(0.03 * torch.randn(psi.shape, generator=noise, dtype=T))
    depth = np.asarray(column.grid.depth)[cells]
    sensors = [Observed("theta", theta, 0.003, depth), Observed("psi", psi, 0.03, depth, log=True)]
    p = [UPPER | {"Ks": Free(10.0), "alpha": Free(0.02)}, LOWER | {"Ks": Free(20.0), "alpha": Free(0.05)}]
    asked = Inversion(column, clock, p, -100.0, sensors)
    how = {"ramp": (0.1, 0.02), "steps": 30, "first": Adam(150), "counts": Counts(300, 60), "width": 8}
    found = learn(asked, gauge="ignore", **how)
    names = dict(zip(asked.unknowns.names, found.values[0].tolist(), strict=True))
    for i, true in enumerate((UPPER, LOWER)):
        assert names[f"layer {i} alpha"] == pytest.approx(true["alpha"], rel=0.03)
        assert names[f"layer {i} Ks"] == pytest.approx(true["Ks"], rel=0.1)
    assert float(found.misfit) < 1.5 and float(found.physics) < 0.05
    heads = -torch.logspace(0.3, 2.0, 9, dtype=T)
    for i, true in enumerate((UPPER, LOWER)):
        off = found.curves(heads, i).theta[0] - VanGenuchten().theta(heads, true)
        assert float(off.abs().max()) < 0.01
    assert {"theta in 0", "theta in 1", "psi in 0", "psi in 1", "face of 0 and 1"} < found.solution.parts.keys()


def of_weights(law, sd=1.0, **more):
    """The wetting soil, known but for its curves."""
    column = Column(Grid.uniform(10.0, 40), law, Flux(-21.6), Head(0.0))
    p = law.imitate(Gardner(), SOFT | {"alpha": 0.4}) | more
    return task(column=column, p=p, weights=sd)


LAWS = {"net": lambda: MonotoneNet(4), "spline": lambda: MonotoneSpline((0.0, 0.4, 0.7, 0.9, 1.05, 1.2, 1.35, 8.0))}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_weights_of_laws_are_unknowns_of_a_column(law):
    """The gradient by them is that of chi2, and they come back to where the column has them."""
    asked = of_weights(law(), Ks=Free(20.0))
    bridge = Bridge(asked, (0, 1), True, True)
    problem, extra = bridge.problem(stretch=True), bridge.extra()
    assert extra.values.shape == (2, 1 + sum(w.numel() for w in asked.column.weights()))
    torch.testing.assert_close(bridge.x(extra), asked.unknowns.start.expand(2, -1))
    system = problem.system(problem.fields((0, 1), width=4, depth=2), 0, Counts(12, 4), extra)
    x, h = system.start(), 1e-6
    d = torch.zeros_like(x)
    d[:, system.last] = torch.randn(d[:, system.last].shape, dtype=T, generator=torch.Generator().manual_seed(0))
    now, up, down = (system.normal(x + k * d) for k in (0.0, h, -h))
    torch.testing.assert_close((up.chi2 - down.chi2) / (4 * h), (now.gradient * d).sum(1), rtol=1e-5, atol=1e-6)


def test_curves_with_weights_and_seeds():
    """Splines from sensors: nearer to the truth than where they started, by what every seed says and by all of them."""
    asked = of_weights(LAWS["spline"]())
    before = [w.detach().clone() for w in asked.column.weights()]
    how = {"ramp": (0.05,), "steps": 80, "first": Adam(150), "counts": Counts(200, 40), "width": 8}
    found = learn(asked, seeds=(0, 1), gauge="ignore", **how)
    assert all(torch.equal(a, b) for a, b in zip(before, asked.column.weights(), strict=True))
    heads = -torch.linspace(0.2, 2.0, 13, dtype=T)
    each, every = found.curves(heads), found.ensemble(heads)
    true = Gardner().theta(heads, SOFT)
    off = [float((c - true).square().mean().sqrt()) for c in (each.theta[0], each.theta[1], every.theta)]
    assert max(off) < 0.01 < float((Gardner().theta(heads, SOFT | {"alpha": 0.4}) - true).square().mean().sqrt())
    assert float(found.misfit.max()) < 1.3
    torch.testing.assert_close(every.theta, each.theta.mean(0))  # the median of two
    total = each.log_k_sd.square().mean(0) + (each.log_k[0] - each.log_k[1]).square() / 4.0
    torch.testing.assert_close(every.log_k_sd.square(), total)
    found.solution.failed[1] = True
    torch.testing.assert_close(found.ensemble(heads).theta, each.theta[0])


def curves(law, p, psi, sd=(0.003, 0.1)):
    theta, log_k = law.theta(psi, p), law.log_conductivity(psi, p)
    return Bands(theta, torch.full_like(psi, sd[0]), log_k, torch.full_like(psi, sd[1]))


def test_an_exponential_law_is_distilled():
    """Of a spline through noisy points of Gardner's soil, within its bands."""
    true, law = {"theta_r": 0.06, "theta_s": 0.40, "alpha": 0.05, "Ks": 24.0}, Gardner()
    noise, psi = torch.Generator().manual_seed(0), -torch.logspace(0.3, 1.9, 60, dtype=T)
    theta = law.theta(psi, true) + 0.004 * torch.randn(60, generator=noise, dtype=T)
    k = law.conductivity(psi, true) * torch.exp(0.1 * torch.randn(60, generator=noise, dtype=T))
    spline = MonotoneSpline((0.0, 1.2, 1.8, 2.2, 2.6, 3.0, 8.0))
    p = spline.imitate(VanGenuchten(), VanGenuchten().defaults) | {"theta_r": 0.06, "Ks": Free(30.0)}
    p |= {"theta_s": Free(0.42)}
    fitted = fit_curves(spline, p, theta=(psi, theta, 0.004), conductivity=(psi, k, 0.1), weights=3.0)
    found = distil_curves(fitted.curves(psi[::2]), psi[::2])
    best = next(iter(found.laws))
    assert best == "Gardner" and found.laws[best].size == 4
    assert found.laws[best].p["alpha"] == pytest.approx(0.05, rel=0.05)
    assert found.laws[best].p["Ks"] == pytest.approx(24.0, rel=0.1)
    assert found.laws["VanGenuchten"].off > 4.0 > 2.0 > found.laws[best].off
    assert found.theta[0].terms == ("1", "exp(-a*s)") and found.log_k[0].terms == ("1", "s")
    assert found.theta[0].constants["a1"] == pytest.approx(0.05, rel=0.1)
    torch.testing.assert_close(found.log_k[0](psi), law.log_conductivity(psi, true), rtol=0.0, atol=0.15)
    assert str(found.log_k[0]).endswith("*(s)") and " - 0.0" in str(found.log_k[0])


def test_laws_with_an_entry_are_told_apart():
    psi, true = -torch.logspace(0.0, 2.3, 30, dtype=T), {"theta_r": 0.05, "theta_s": 0.4, "Ks": 50.0, "lambda": 0.5}
    found = distil_curves(curves(BrooksCorey(), true | {"entry": 12.0}, psi), psi, most=1)
    assert next(iter(found.laws)) == "BrooksCorey" and found.laws["BrooksCorey"].off < 1e-3
    assert found.theta[0].terms[1] == "min(1, 1/(a*s)**b)" and found.log_k[0].terms[1] == "max(0, log(a*s))"
    assert 1.0 / found.theta[0].constants["a1"] == pytest.approx(12.0, rel=1e-3)
    wide = distil_curves(curves(BrooksCorey(), true | {"entry": 12.0}, psi, (0.2, 5.0)), psi, most=1)
    assert next(iter(wide.laws)) == "Gardner"  # nothing speaks against the shortest


def test_curves_of_many_soils_are_not_one():
    psi = -torch.ones(3, dtype=T)
    with pytest.raises(ConfigError, match="one soil"):
        distil_curves(Bands(*(torch.zeros(2, 3, dtype=T) for _ in range(4))), psi)
    with pytest.raises(ConfigError, match="below zero"):
        distil_curves(Bands(*(torch.zeros(3, dtype=T) for _ in range(4))), -psi)
    with pytest.raises(ConfigError, match="not finite"):
        distil_curves(Bands(*(torch.full((3,), x, dtype=T) for x in (0.3, 0.01, 0.0, torch.nan))), psi)
