"""Networks learn soil curves from the inversion that the column is fitted to."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from udehydro import Forcing
from udehydro.errors import ConfigError
from udehydro.richards.column import Column, Flux, Grid, Head, Layer, RootUptake
from udehydro.richards.exact import SrivastavaYeh
from udehydro.richards.inversion import Free, Inversion, Observed
from udehydro.richards.laws import Gardner, MonotoneSpline, VanGenuchten
from udehydro.richards.pinn import Adam, Counts, Learned, learn
from udehydro.richards.pinn.bridge import Bridge

T = torch.float64
TRUTH = SrivastavaYeh(0.06, 0.40, 1.0, 24.0, 10.0, 2.4, 21.6)
DAYS = np.linspace(0.05, 10.0, 41) / 24.0
DEPTHS = (0.5, 2.5, 4.5, 6.5, 8.5)
SOFT = {"theta_r": 0.06, "theta_s": 0.40, "alpha": 1.0, "Ks": 24.0}
QUICK = {"steps": 60, "first": Adam(200), "counts": Counts(600, 80), "width": 10, "gauge": "ignore"}


def task(batch=(), column=None, p=None, psi0=None, **more):
    """Readings of a wetting soil over a water table."""
    size = batch or (1,)
    generator = torch.Generator().manual_seed(0)
    theta = torch.as_tensor(TRUTH.theta(10.0 - np.array(DEPTHS), DAYS[:, None])).unsqueeze(1).repeat(1, *size, 1)
    psi = torch.as_tensor(TRUTH.psi(9.5, DAYS)).unsqueeze(1).repeat(1, *size)
    theta = theta + 0.005 * torch.randn(theta.shape, generator=generator, dtype=T)
    psi = psi * torch.exp(0.03 * torch.randn(psi.shape, generator=generator, dtype=T))
    theta[3, 0, 2] = torch.nan
    if not batch:
        theta, psi = theta[:, 0], psi[:, 0]
    sensors = [Observed("theta", theta, 0.005, DEPTHS), Observed("psi", psi, 0.03, 0.5, log=True)]
    column = column or Column(Grid.uniform(10.0, 40), Gardner(), Flux(-21.6), Head(0.0))
    q = torch.full((len(DAYS) - 1, *batch), -21.6, dtype=T)
    record = Forcing({"q": q}, {"q": "cm/d"}, Forcing.clock(days=DAYS - DAYS[0]).time_edge)
    own = torch.ones(batch, dtype=T)
    p = p or {"theta_r": 0.06, "theta_s": Free(0.38 * own), "alpha": Free(0.2 * own, high=3.0), "Ks": Free(10.0 * own)}
    psi0 = Free(-1.0 * own.unsqueeze(-1), low=-100.0, high=-1e-3, spread=np.ones((40, 1))) if psi0 is None else psi0
    return Inversion(column, record, p, psi0, sensors, **more)


def test_parameters_and_polish():
    asked = task()
    found = learn(asked, seeds=(0, 1), ramp=(0.1, 0.01), **QUICK)
    values = dict(zip(asked.unknowns.names, found.values.T, strict=True))
    for name in ("theta_s", "alpha", "Ks"):
        assert float((values[name] / SOFT[name] - 1.0).abs().max()) < 0.1
    assert float(found.misfit.max()) < 1.6 and float(found.physics.max()) < 0.05
    psi = -torch.logspace(-1, 0.2, 20, dtype=T)
    curves, true = found.curves(psi), Gardner()
    assert curves.theta.shape == (2, 20) and bool((curves.theta_sd > 0).all())
    off = (curves.theta - true.theta(psi, SOFT)).abs()
    assert float(off.max()) < 0.02
    polished = found.polish(steps=10)
    names = dict(zip(asked.unknowns.names, polished.values[0], strict=True))
    assert all(abs(float(names[n]) / SOFT[n] - 1.0) < 0.1 for n in ("theta_s", "alpha", "Ks"))
    at = [[DAYS[-1] - DAYS[0], -5.0]]
    assert float((found.solution.theta(at) - TRUTH.theta(5.0, DAYS[-1])).abs().max()) < 0.02


@pytest.mark.filterwarnings("ignore:chi2 by reading")  # after a few steps
def test_columns_are_members():
    """With the same scales, which are those of all readings, each is as if it were alone."""
    quick = QUICK | {"steps": 5, "first": Adam(20)}
    pair = task((2,))
    for series in pair.observed:
        series.values[:, 1] = series.values[:, 0]
    together = learn(pair, seeds=(5, 6), ramp=(0.1,), **quick)
    assert together.x.shape[0] == 2 and together.misfit.shape == (2,)
    single = task()
    for series, whole in zip(single.observed, pair.observed, strict=True):
        series.values.copy_(whole.values[:, 0])
    alone = learn(single, seeds=(5,), ramp=(0.1,), **quick)
    torch.testing.assert_close(together.x[0, :3], alone.x[0, :3], rtol=1e-5, atol=1e-6)


def test_values_by_column_are_refused():
    own = torch.ones(2, dtype=T)
    asked = task((2,), p=SOFT | {"alpha": Free(0.2 * own), "Ks": 24.0 * own})
    with pytest.raises(ConfigError, match="Ks of layer 0"):
        learn(asked, gauge="ignore")


def test_bridge_layers_boundaries_and_data():
    grid = Grid.uniform(20.0, 40)
    column = Column(grid, [Layer(VanGenuchten(), 8.0), Layer(VanGenuchten())], Flux("q"), Flux(0.0))
    soil = {"theta_r": 0.07, "theta_s": 0.42, "alpha": 0.03, "n": 1.6, "Ks": 20.0, "entry": 1.0}
    p = [soil | {"Ks": Free(10.0)}, soil | {"alpha": Free(0.02)}]
    asked = task(column=column, p=p, psi0=-50.0)
    bridge = Bridge(asked, (0,), True, True)
    problem = bridge.problem()
    assert [r.box.low[1] for r in problem.regions] == [-20.0, -8.0]  # from the bottom upwards
    assert [w.kind for w in problem.walls] == ["flux", "flux"] and problem.walls[0].region == 1
    assert problem.regions[1].events == (0.0,)
    assert sorted((d.kind, d.region, len(d.points)) for d in problem.data) == [
        ("psi", 1, 41), ("theta", 0, 41), ("theta", 1, 41 * 4 - 1)
    ]  # fmt: skip
    extra = bridge.extra()
    values = bridge._values(0, extra.values.unsqueeze(1))
    assert float(values["Ks"]) == pytest.approx(10.0) and values["alpha"] == 0.03
    assert float(bridge._values(1, extra.values.unsqueeze(1))["alpha"]) == pytest.approx(0.02)
    without = Bridge(asked, (0,), False, False).problem()
    assert without.walls == [] and without.regions[0].psi0 is None and without.regions[1].events == ()


def test_what_networks_do_not_know():
    roots = Column(Grid.uniform(10.0, 40), Gardner(), Flux(-21.6), Head(0.0), [RootUptake(0.1, torch.ones(40))])
    with pytest.raises(ConfigError, match="without sinks"):
        learn(task(column=roots), **QUICK)
    shared = {"theta_r": 0.06, "theta_s": 0.4, "alpha": 1.0, "Ks": Free(10.0)}
    with pytest.raises(ConfigError, match="share unknowns"):
        learn(task((2,), p=shared), **QUICK)
    with pytest.raises(ConfigError, match="values of soils"):
        learn(task(p=SOFT), **QUICK)


@pytest.mark.parametrize("free", ["values", "weights"])
def test_residuals_of_another_device(free):
    """On tensors without values: all that the task knows comes along, and no value is looked at."""
    if free == "values":
        column = Column(Grid.uniform(10.0, 40), Gardner(), Flux("q"), Head(0.0))
        known = {"theta_r": torch.tensor(0.06, dtype=T), "alpha": Free(0.2 * torch.ones(2, dtype=T))}
        asked = task((2,), column, psi0=-50.0, p=SOFT | known)
    else:
        law = MonotoneSpline((0.0, 0.4, 0.9, 1.4, 8.0))
        column = Column(Grid.uniform(10.0, 40), law, Flux("q"), Head(0.0))
        asked = task(column=column, p=law.imitate(Gardner(), SOFT), psi0=-50.0, weights=0.5)
    bridge = Bridge(asked, (0, 1), True, True)
    problem, extra = bridge.problem(), bridge.extra().to("meta")
    system = problem.system(problem.fields(bridge.seeds, 4, 2, "meta"), 0, Counts(12, 4), extra)
    normal = system.normal(system.start())
    assert normal.normal.is_meta and normal.normal.shape == (2, system.last.stop, system.last.stop)
    weights = [[w.detach().requires_grad_() for w in f.network.weights()] for f in system.fields]
    assert system.loss(weights, extra.values.requires_grad_()).is_meta
    assert all(w.grad.is_meta for w in weights[0]) and extra.values.grad.is_meta
    assert all(w.device.type == "cpu" for w in asked.column.weights())


@pytest.mark.parametrize(
    ("chi2", "tolerance", "failed", "best"),
    [
        ((3.0, 2.0, 1.0), (0.1, 0.1, 0.3), (), 1),  # closest to the physics first
        ((1.0, torch.nan, 2.0), (0.1, 0.03, 0.1), (), 0),
        ((1.0, 5.0, 2.0), (0.03, 0.1, 0.1), (0,), 2),
    ],
)
def test_the_best_member(chi2, tolerance, failed, best):
    lost = torch.tensor([i in failed for i in range(3)])
    found = SimpleNamespace(
        solution=SimpleNamespace(failed=lost),
        normal=SimpleNamespace(chi2=torch.tensor(chi2, dtype=T)),
        tolerance=torch.tensor(tolerance, dtype=T),
    )
    assert Learned.best.fget(found) == best
