"""Systems of residuals: exact derivatives, and solutions of problems whose solution is known."""

import numpy as np
import pytest
import torch

from udehydro.errors import ConfigError
from udehydro.richards import exact, laws
from udehydro.richards.pinn import points
from udehydro.richards.pinn.field import Box, Profile
from udehydro.richards.pinn.problem import Counts, Problem, Region, Wall
from udehydro.richards.pinn.residuals import Data
from udehydro.richards.pinn.soil import Soil
from udehydro.richards.pinn.solution import march, solve
from udehydro.richards.pinn.system import Extra, System
from udehydro.richards.pinn.train import Adam, Levenberg

T = torch.float64
SOFT = {"theta_r": 0.06, "theta_s": 0.40, "alpha": 1.0, "Ks": 24.0}
TRUTH = exact.SrivastavaYeh(0.06, 0.40, 1.0, 24.0, 10.0, 2.4, 21.6)
END = 10.0 / 24.0
LOAM = {"theta_r": 0.078, "theta_s": 0.43, "alpha": 0.036, "n": 1.56, "Ks": 24.96, "entry": 2.0}


def soft(form="mixed", soil=None, **more):
    """A step of recharge above a water table."""
    z = np.linspace(0.0, 10.0, 201)
    region = Region(
        Box((0.0, 0.0), (END, 10.0)), soil or Soil(laws.Gardner(), SOFT), Profile(z, TRUTH.psi(z, 0.0)), (0.0,), (1,)
    )
    return Problem([region], [Wall("flux", -21.6), Wall("kept", upper=False)], 21.6, 1.0, form=form, **more)


def layered(form="mixed", stretch=True):
    """Two loams one above the other, in two slabs of time, with data; two unknowns of the upper soil."""
    regions, walls = [], []
    for k, (a, b) in enumerate([(0.0, 0.5), (0.5, 1.0)]):
        for i, (low, high) in enumerate([(-20.0, -8.0), (-8.0, 0.0)]):
            free = i == 1
            soil = Soil(
                laws.VanGenuchten(),
                (lambda e: LOAM | {"alpha": torch.exp(e[..., 0]), "Ks": torch.exp(e[..., 1])}) if free else LOAM,
            )
            start = (lambda x: torch.full_like(x[:, 0], -60.0)) if k == 0 else None
            regions.append(Region(Box((a, low), (b, high)), soil, start, (a,), (1,)))
        walls += [Wall("flux", [-2.0, 0.2][k], region=2 * k + 1), Wall("drainage", upper=False, region=2 * k)]
    at = torch.tensor([[0.2, -3.0], [0.4, -6.0]], dtype=T)
    data = [
        Data("theta", at, torch.tensor([0.3, 0.25], dtype=T), 0.01, region=1),
        Data("psi", at, torch.tensor([-40.0, -55.0], dtype=T), 0.1, log=True, region=1),
        Data("flux", at, torch.tensor([-0.5, -0.4], dtype=T), 0.1, region=1),
    ]
    return Problem(regions, walls, 2.0, 30.0, data, form=form, stretch=stretch)


def unknowns(members):
    values = torch.log(torch.tensor([0.03, 20.0], dtype=T)).expand(members, 2).clone()
    return Extra(values, values - 2.0, values + 2.0, values + 0.1, torch.full_like(values, 4.0))


@pytest.mark.parametrize("form", ["mixed", "pointwise"])
def test_normal_equations(form):
    """The gradient is that of chi2, and the matrix that of linear changes of residuals."""
    problem = layered(form)
    system = problem.system(problem.fields((0, 1), width=4, depth=2), 0, Counts(20, 8), unknowns(2))
    x = system.start()
    generator = torch.Generator().manual_seed(0)
    d = torch.randn(x.shape, dtype=T, generator=generator)
    now, h = system.normal(x), 1e-6
    up, down = system.normal(x + h * d), system.normal(x - h * d)
    torch.testing.assert_close((up.chi2 - down.chi2) / (4 * h), (now.gradient * d).sum(1), rtol=1e-6, atol=1e-7)
    moved = sum(
        t.scale**2 * ((a - b) / (2 * h)).square().sum((1, 2))
        for t, a, b in zip(system.terms, system.residuals(x + h * d), system.residuals(x - h * d), strict=True)
    )
    moved = moved + (system.extra.precision * d[:, system.last] ** 2).sum(1)
    torch.testing.assert_close((d.unsqueeze(1) @ now.normal @ d.unsqueeze(2))[:, 0, 0], moved, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(now.parts.sum(1), now.chi2)
    one = system.normal(x[1:], torch.tensor([1]))
    torch.testing.assert_close(one.normal[0], now.normal[1])


@pytest.mark.parametrize("form", ["mixed", "volume"])
def test_loss_is_half_of_chi2(form, monkeypatch):
    monkeypatch.setattr(System, "_cached", lambda system, term: 20)  # blocks take arrays from each other
    problem = layered(form) if form == "mixed" else soft(form)
    extra = unknowns(2) if form == "mixed" else None
    fields = problem.fields((0, 1), width=4, depth=2)
    system = problem.system(fields, 0, Counts(48, 8), extra)
    weights = [[w.detach().requires_grad_() for w in f.network.weights()] for f in fields]
    values = system.extra.values.clone().requires_grad_()
    half, now = system.loss(weights, values), system.normal(system.start())
    torch.testing.assert_close(2.0 * half.T, now.parts)
    grads = [torch.cat([w.grad.flatten(1) for w in ws], 1) for ws in weights]
    whole = torch.cat([*grads, values.grad] if extra else grads, 1)
    torch.testing.assert_close(whole, now.gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("law", [laws.MonotoneNet(members=None), laws.MonotoneSpline()], ids=["net", "spline"])
def test_weights_of_laws_are_unknowns(law):
    """Networks as laws: their weights by name, each point with a copy of its own."""
    named = {n: w.detach() for n, w in law.named_parameters()}
    sizes = [w.numel() for w in named.values()]

    def weights(extra):
        parts = extra.split(sizes, dim=-1)
        return {n: p.reshape(*p.shape[:2], *((1,) * (w.ndim - 1 > 0)), *w.shape) if w.ndim > 1 else p.unsqueeze(-2)
                for (n, w), p in zip(named.items(), parts, strict=True)}  # fmt: skip

    p = {n: r.default for n, r in law.ranges.items()}
    soil = Soil(law, p, weights)
    values = torch.cat([w.flatten() for w in named.values()]).expand(2, -1).clone()
    psi = -torch.logspace(-1, 3, 7, dtype=T).expand(2, -1)
    here = soil.at(values.unsqueeze(1), psi)
    torch.testing.assert_close(here.theta().detach(), law.theta(psi, p).detach())
    torch.testing.assert_close(here.capacity().detach(), law.capacity(psi, p).detach())


@pytest.mark.parametrize(("form", "inside"), [("mixed", 1000), ("pointwise", 1000), ("volume", 4800)])
def test_srivastava_yeh(form, inside):
    stages = (Adam(150), Levenberg(40), Levenberg(40))
    found = solve(soft(form), seeds=(0,), stages=stages, counts=Counts(inside, 150), width=12)
    at = points.grid(found.problem.regions[0].box, 31, 31)
    t, z = at.numpy().T
    off = found.theta(at)[0].numpy() - TRUTH.theta(z, t)
    assert np.linalg.norm(off) < 4e-3 * np.linalg.norm(TRUTH.theta(z, t))
    start = t == 0.0
    assert np.abs(found.psi(at)[0].numpy() - TRUTH.psi(z, t))[start].max() < 1e-4  # exactly, up to the spline
    later = (t > 0.1 * END) & (z < 9.0)
    assert np.abs(found.flux(at)[0].numpy() - TRUTH.flux(z, t))[later].max() < 0.05 * 21.6
    assert float(found.held_out()["balance"]) < 0.1


@pytest.mark.slow
def test_march_over_jumps_against_the_column():
    from udehydro import Forcing
    from udehydro.richards.column import Adaptive, Column, Flux, FreeDrainage, Grid, flow

    edges, q = (0.0, 0.5, 1.5), (-3.0, 0.3)
    regions, walls = [], []
    for k in range(2):
        start = (lambda x: torch.full_like(x[:, 0], -100.0)) if k == 0 else None
        box = Box((edges[k], -40.0), (edges[k + 1], 0.0))
        regions.append(Region(box, Soil(laws.VanGenuchten(), LOAM), start, (edges[k],), (1,)))
        walls += [Wall("flux", q[k], region=k), Wall("drainage", upper=False, region=k)]
    problem = Problem(regions, walls, 3.0, 30.0, stretch=True)
    stages = (Adam(200), Levenberg(50), Levenberg(50))
    found = march(problem, seeds=(0,), stages=stages, counts=Counts(1000, 150))
    days = np.linspace(0.0, 1.5, 61)
    series = torch.tensor([q[int(m >= 0.5)] for m in 0.5 * (days[1:] + days[:-1])], dtype=T)
    column = Column(Grid.uniform(40.0, 400), laws.VanGenuchten(), Flux("q"), FreeDrainage())
    forcing = Forcing({"q": series}, {"q": "cm/d"}, Forcing.clock(days=days).time_edge)
    true = flow(column, forcing, LOAM, -100.0, steps=Adaptive(1e-5))
    depth = np.asarray(column.grid.depth)[::10]
    at = np.stack(np.meshgrid(days, -depth, indexing="ij"), -1).reshape(-1, 2)
    off = found.theta(at)[0] - true.theta[:, ::10].reshape(-1)
    assert float(off.norm() / true.theta[:, ::10].norm()) < 5e-3
    assert "balance from 0.5 d" in found.parts


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="A wall is"):
        Wall("suction")
    with pytest.raises(ConfigError, match="form is"):
        soft("mixd")
    found = solve(soft(), stages=(Adam(1),), counts=Counts(20, 5), width=3)
    with pytest.raises(ConfigError, match="in no region"):
        found.psi([[2.0, 5.0]])


def test_nothing_is_made_elsewhere():
    """With another default device than the CPU, all stays where the networks are."""
    from test_device import elsewhere

    for form in ("mixed", "pointwise", "volume"):
        problem = soft(form)
        with elsewhere():
            fields = problem.fields((0, 1), width=3, depth=2)
            system = problem.system(fields, 0, Counts(24, 4))
            Adam(1)(system)
            Levenberg(1)(system)
