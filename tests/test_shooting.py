"""Multiple shooting: closes its gaps, ends where single shooting does, and its gradient is right."""

import numpy as np
import pytest
import torch
from tables import weather
from toy import U0, lotka_volterra

from udehydro import Balance, Calibrated, ConfigError, Forcing, Range, simulate
from udehydro.models import exphydro_mended
from udehydro.solvers import RK4, Compiled, Stepping
from udehydro.training import NSE, Gaussian, Observed, Stage, fit, multiple_shooting
from udehydro.training.run import Run
from udehydro.training.shooting import Shooting

BUCKET = Balance(exphydro_mended)
WEATHER = weather(401, 1, seed=3)  # 401 days: no number of segments divides it
INITIAL = {"snow": Range(0.0, 100.0, "mm", 5.0), "soil": Range(0.0, 900.0, "mm", 450.0)}
TRUTH = {"f": 0.03, "qmax": 15.0, "ddf": 3.0}


def dates(forcing):
    return tuple(str(forcing.time[k])[:10] for k in (0, -1))


def free(members, seed=0):
    held = [n for n in BUCKET.parameter_names if n not in TRUTH]
    parameters = Calibrated.of(BUCKET, (members, 1), initial=INITIAL, fixed=held)
    parameters.scatter(torch.Generator().manual_seed(seed), keep_first=False, margin=0.3)
    return parameters


@pytest.fixture(scope="module")
def flow():
    """Discharge (T, 1) with noise, so that the optimum is not a perfect fit."""
    torch.set_default_dtype(torch.float64)
    theta = {n: r.default for n, r in exphydro_mended.parameters.items()} | TRUTH
    run = simulate(BUCKET, WEATHER, theta=theta, storage0={"snow": 0.0, "soil": 300.0}, solver=Compiled())
    return run.discharge * torch.exp(0.1 * torch.randn(run.discharge.shape, generator=torch.Generator().manual_seed(0)))


def options(record):
    return {"train": dates(record), "solver": Compiled(), "warmup_days": 0, "progress": None}


def test_it_ends_at_the_optimum_of_single_shooting(flow):
    record = WEATHER.independent(2)
    observed = flow.expand(-1, 2)[..., None]
    one, many = free(2), free(2)
    single = fit(BUCKET, one, record, observed, stages=[Stage("lbfgs", 150)], **options(record))
    left = multiple_shooting(BUCKET, many, record, observed, segments=5, **options(record))
    assert bool((left < 0.05).all())
    joined = fit(BUCKET, many, record, observed, stages=[Stage("lbfgs", 60)], **options(record))
    best = int(single.train.argmin())
    # from both starts, of which one leads single shooting elsewhere
    assert torch.allclose(single.train[best], joined.train, rtol=1e-4)
    for name in TRUTH:
        assert torch.allclose(one()[name][best], many()[name][best], rtol=0.03)


def shooting(record, observed, parameters, segments=3):
    run = Run(BUCKET, parameters, record, observed, dates(record), None, None, _discharge, Compiled(), 0, None, 0.0)
    start = parameters.storage0(BUCKET.store_names).detach()
    with torch.no_grad():
        first = simulate(BUCKET, record, theta=parameters(), storage0=start, solver=Compiled())
    return Shooting.of(run, segments, first.storage), first


def _discharge(simulation):
    return simulation.discharge


def test_closed_segments_are_the_run_itself(flow):
    """Segments that start at the storages of a run: no gap, the same series; the last segment is shorter."""
    record = WEATHER.independent(2)
    objective, first = shooting(record, flow.expand(-1, 2)[..., None], free(2))
    joined = objective.simulate()
    assert torch.allclose(joined.storage, first.storage, atol=1e-6) and bool((objective.gaps < 1e-12).all())
    assert joined.volume.shape == first.volume.shape and torch.allclose(joined.volume, first.volume, atol=1e-6)


def test_gradient_agrees_with_finite_differences(flow):
    record = WEATHER.isel(slice(0, 40)).independent(2)
    objective, _ = shooting(record, flow[:40].expand(-1, 2)[..., None], free(2))
    objective.penalty = 0.7
    generator = torch.Generator().manual_seed(1)
    x = objective.members.read()
    x = x + 0.1 * torch.randn(x.shape, generator=generator)
    _, gradient = objective(x)
    for column in range(x.shape[1]):
        step = torch.zeros_like(x)
        step[:, column] = 1e-5
        slope = (objective(x + step)[0] - objective(x - step)[0]) / 2e-5
        assert torch.allclose(slope, gradient[:, column], rtol=1e-4, atol=1e-7)


def test_a_system_with_both_states_observed():
    """Rates far from the truth; segments start at the samples."""
    record = Forcing.clock(days=np.linspace(0.0, 3.0, 31), batch=(1, 1))
    model, solver = Balance(lotka_volterra), Stepping(RK4, stability="ignore")
    truth = simulate(model, record, storage0=U0, solver=solver).storage
    observed = [Observed(n, truth[..., i], Gaussian(0.1)) for i, n in enumerate(U0)]
    initial = {n: Range(0.1, 10.0, "1", v) for n, v in U0.items()}
    start = {"beta": 4.0, "gamma": 4.0}
    parameters = Calibrated.of(model, (1, 1), initial=initial, start=start, fixed=["alpha", "delta"])
    given = {"train": ("2000-01-01", "2000-01-03"), "warmup_days": 0, "solver": solver}
    left = multiple_shooting(model, parameters, record, observed, segments=6, states=truth, **given)
    assert float(left) < 1e-3
    assert float(parameters()["beta"].detach()) == pytest.approx(0.9, rel=1e-3)
    assert float(parameters()["gamma"].detach()) == pytest.approx(0.8, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"segments": 1}, "between 2 and half"),
        ({"weights": ()}, "weights above zero"),
        ({"stage": Stage("adam", 5, window=10)}, "without window"),
        ({"states": torch.zeros(5, 1, 1, 2)}, "states has shape"),
    ],
)
def test_settings_that_do_not_fit_are_errors(flow, change, said):
    record = WEATHER.independent(1)
    given = {"segments": 4, "loss": NSE()} | options(record) | change
    with pytest.raises(ConfigError, match=said):
        multiple_shooting(BUCKET, free(1), record, flow[..., None], **given)


def test_initial_storages_must_be_free(flow):
    record = WEATHER.independent(1)
    with pytest.raises(ConfigError, match="initial="):
        multiple_shooting(BUCKET, Calibrated.of(BUCKET, (1, 1)), record, flow[..., None], segments=4, **options(record))
