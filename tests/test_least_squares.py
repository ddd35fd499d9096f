"""Least squares through the solver, against SciPy, finite differences and planted truth; Gaussian losses."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
import torch
from tables import weather
from toy import U0, lotka_volterra

from udehydro import Balance, Calibrated, ConfigError, DataError, Forcing, Range, SolverError, simulate
from udehydro.models import exphydro_mended
from udehydro.simulate import pose
from udehydro.solvers import RK4, AllAtOnce, Compiled, forward_sensitivity
from udehydro.training import Gaussian, Observed, Stage, fit, least_squares

RATES = Compiled(RK4, stability="ignore")
RECORD = Forcing.clock(days=np.linspace(0.0, 3.0, 31))
TRUTH = {"alpha": 1.3, "beta": 0.9, "gamma": 0.8, "delta": 1.8}
SIGMA = 0.02
PREDATOR_PREY = Balance(lotka_volterra)
BUCKET = Balance(exphydro_mended)
STORAGE0 = {"snow": 0.0, "soil": 300.0}
WEATHER = weather(400, 1, seed=3)


def record(members=1):
    return Forcing.clock(days=np.linspace(0.0, 3.0, 31), batch=(members, 1))


def states(**values):
    """Both states (31, 2), the start among them, at given parameters and starts."""
    given = {**TRUTH, **U0, **values}
    theta = {n: given[n] for n in TRUTH}
    return simulate(PREDATOR_PREY, RECORD, theta=theta, storage0={n: given[n] for n in U0}, solver=RATES).storage


@pytest.fixture(scope="module")
def noisy():
    """Both states with noise (31, 2)."""
    torch.set_default_dtype(torch.float64)
    return states() + SIGMA * torch.randn(31, 2, generator=torch.Generator().manual_seed(1))


def series(values, **more):
    return [Observed(n, values[:, i], Gaussian(SIGMA, **more)) for i, n in enumerate("xy")]


def solved(values, free=("beta", "gamma", "x", "y"), members=1, start=None, **more):
    begin = {**TRUTH, **U0, "beta": 0.5, "gamma": 0.5, **(start or {})}
    observed = values if isinstance(values, list) else series(values)
    return least_squares(PREDATOR_PREY, record(members), observed, begin, free, solver=RATES, **more)


def residuals(values, x, names):
    found = states(**dict(zip(names, x, strict=True)))
    return ((found - values) / SIGMA).T.flatten()


def test_it_agrees_with_scipy(noisy):
    names = ("beta", "gamma", "x", "y")
    found = solved(noisy, names)
    other = scipy.optimize.least_squares(
        lambda x: residuals(noisy, x, names).numpy(), [0.5, 0.5, *U0.values()], xtol=1e-12, ftol=1e-12, gtol=1e-12
    )
    assert [float(found.values[n]) for n in names] == pytest.approx(other.x.tolist(), rel=1e-5)
    assert float(found.chi2) == pytest.approx(2 * other.cost, rel=1e-9)
    assert bool(found.converged) and found.count == 62 and sum(found.parts.values()) == found.chi2
    # the same Fisher information, in the order of `free` (parameters, then stores)
    _, covariance = found.covariance()
    expected = np.linalg.inv(other.jac.T @ other.jac)
    assert np.allclose(covariance.numpy(), expected, rtol=1e-3)


def test_planted_parameters_are_found_from_noisy_discharge():
    """Within four standard errors, and from two starts nearly alike (days of melt make small local minima)."""
    truth = {"f": 0.03, "smax": 600.0, "qmax": 15.0, "ddf": 3.0}
    sim = simulate(BUCKET, WEATHER, theta={**defaults(), **truth}, storage0=STORAGE0, solver=Compiled())
    noise = 0.05 * torch.randn(sim.discharge.shape, generator=torch.Generator().manual_seed(0))
    flow = (sim.discharge + 0.02) * torch.exp(noise) - 0.02
    observed = [Observed("discharge", flow, Gaussian(0.05, log_offset=0.02))]
    start = {**STORAGE0, "smax": torch.tensor([900.0, 400.0]), "f": torch.tensor([0.01, 0.05])}
    free = (*truth, "soil")
    found = least_squares(BUCKET, WEATHER.with_members(2), observed, start, free, solver=Compiled())
    names, covariance = found.covariance(0)
    assert set(names) == set(free) and bool(found.converged.all())
    for n, sd in zip(names, covariance.diagonal().sqrt().tolist(), strict=True):
        assert float(found.values[n][0]) == pytest.approx({**truth, "soil": 300.0}[n], abs=4 * sd)
        assert float(found.values[n][1]) == pytest.approx(float(found.values[n][0]), abs=0.5 * sd)
    assert 320 < float(found.chi2[0]) < 480


def defaults():
    return {n: r.default for n, r in exphydro_mended.parameters.items()}


def test_every_driver_gives_the_same():
    """With several basins and series, one of them of a store at edges."""
    sim = simulate(BUCKET, weather(40, 2), storage0=STORAGE0)
    observed = [
        Observed(n, 1.1 * v, Gaussian(0.1)) for n, v in (("discharge", sim.discharge), ("snow", sim.store("snow")))
    ]
    forcing, free = weather(40, 2).with_members(1), ("ddf", "f")
    one, two = (
        least_squares(BUCKET, forcing, observed, STORAGE0, free, solver=s, steps=10) for s in (AllAtOnce(), Compiled())
    )
    assert one.counts == two.counts == {"discharge": 80, "snow": 82}
    assert one.free == ("f", "ddf")
    assert all(float(one.values[n]) == pytest.approx(float(two.values[n]), rel=1e-6) for n in free)
    assert torch.allclose(one.normal, two.normal, rtol=1e-6)


def test_values_stay_inside_their_ranges(noisy):
    """At a bound the others are at the best they can be given it."""
    found = solved(noisy, ranges={"beta": Range(0.1, 0.85, "1/d")})
    assert float(found.values["beta"]) == 0.85 and bool(found.converged)
    held = solved(noisy, ("gamma", "x", "y"), start={"beta": 0.85})
    assert float(found.chi2) == pytest.approx(float(held.chi2), rel=1e-6)
    outside = solved(noisy, start={"beta": 3.0}, ranges={"beta": Range(0.1, 2.0, "1/d")}, steps=0)
    assert float(outside.values["beta"]) == 2.0


def test_members_with_different_free_values_are_single_fits(noisy):
    masks = {
        "beta": torch.tensor([True, True, False]),
        "gamma": torch.tensor([True, False, False]),
        "x": torch.tensor([True, True, True]),
    }
    found = solved(noisy, masks, members=3)
    assert found.free == ("beta", "gamma", "x")
    for i, free in enumerate((("beta", "gamma", "x"), ("beta", "x"), ("x",))):
        single = solved(noisy, free)
        assert float(found.chi2[i]) == pytest.approx(float(single.chi2), rel=1e-6)
        for n in (*TRUTH, *U0):
            assert float(found.values[n][i]) == pytest.approx(float(single.values[n]), rel=1e-4)
        names, covariance = found.covariance(i)
        assert names == single.free and torch.allclose(covariance, single.covariance()[1], rtol=1e-3)
        assert bool((found.normal[i][~found.mask[i]] == 0).all())


def test_a_member_that_cannot_be_simulated_harms_no_other(noisy):
    """One fails at its start, one is fitted as it would be alone; if all fail that is an error."""
    start = {"alpha": torch.tensor([1.3, 1e150, 1.3])}
    found = solved(noisy, members=3, start=start)
    single = solved(noisy)
    assert found.chi2.isinf().tolist() == [False, True, False] and not bool(found.converged[1])
    for i in (0, 2):
        assert float(found.values["beta"][i]) == pytest.approx(float(single.values["beta"]), rel=1e-9)
    with pytest.raises(SolverError, match="No member can be simulated"):
        solved(noisy, members=2, start={"alpha": 1e150})


@pytest.mark.parametrize("range_", [Range(0.1, 5.0, "1/d"), Range(1e-3, 10.0, "1/d")], ids=["linear", "logarithmic"])
def test_covariance_is_that_of_finite_differences(range_):
    """Without noise the Hessian of chi2 is twice the normal matrix."""
    exact, names = states(), ("beta", "gamma", "x")
    found = solved(exact, names, start={"beta": 0.9, "gamma": 0.8}, steps=0, ranges={"beta": range_, "gamma": range_})
    centre, step = np.array([0.9, 0.8, U0["x"]]), 1e-4

    def chi2(*moves):
        return float(residuals(exact, centre + step * np.sum(moves, axis=0), names).square().sum())

    e = np.eye(3)
    hessian = [[(chi2(a, b) - chi2(a, -b) - chi2(-a, b) + chi2(-a, -b)) / (4 * step**2) for b in e] for a in e]
    assert found.free == names
    assert np.allclose(found.normal[0].numpy(), 0.5 * np.array(hessian), rtol=1e-4)
    assert np.allclose(found.covariance()[1].numpy(), np.linalg.inv(0.5 * np.array(hessian)), rtol=1e-3)


def test_wide_ranges_are_searched_in_the_logarithm(noisy):
    ranges = {n: Range(1e-4, 1e3, "1/d") for n in ("beta", "gamma")}
    found = solved(noisy, start={"beta": 0.05, "gamma": 0.05}, ranges=ranges)
    plain = solved(noisy)
    for n in ("beta", "gamma"):
        assert float(found.values[n]) == pytest.approx(float(plain.values[n]), rel=1e-4)
    assert torch.allclose(found.covariance()[1], plain.covariance()[1], rtol=1e-3)


def test_missing_values_do_not_count(noisy):
    holes = noisy.clone()
    holes[::3, 0] = torch.nan
    found = solved(holes)
    assert found.counts == {"x": 20, "y": 31}
    filled = torch.where(holes.isnan(), 1e6, holes)
    sigma = torch.where(holes[:, :1].isnan(), 1e30, SIGMA)
    other = [Observed("x", filled[:, 0], Gaussian(sigma[:, 0])), Observed("y", filled[:, 1], Gaussian(SIGMA))]
    weighed = solved(other)
    assert float(found.values["beta"]) == pytest.approx(float(weighed.values["beta"]), rel=1e-6)
    assert float(found.chi2) == pytest.approx(float(weighed.chi2), rel=1e-9)


def test_intervals_that_count(noisy):
    """The first edge belongs to the first interval, every other to the interval it ends."""
    inside = solved(noisy, score=slice(10, 20), steps=0)
    assert inside.counts == {"x": 10, "y": 10}
    ends = solved(noisy[1:], score=slice(10, 20), steps=0)
    assert ends.counts == inside.counts and float(ends.chi2) == pytest.approx(float(inside.chi2), rel=1e-12)
    assert solved(noisy, score=slice(0, 20), steps=0).counts == {"x": 21, "y": 21}
    assert solved(noisy[1:], score=slice(0, 20), steps=0).counts == {"x": 20, "y": 20}


def test_sigma_by_time_and_member(noisy):
    """A member's own sigma and observations, also while other members are done."""
    sigma = SIGMA * torch.tensor([1.0, 2.0])[None, :, None].expand(31, 2, 1)
    values = torch.stack([noisy, states() + 0.01], 1)
    both = solved([Observed(n, values[..., i, None], Gaussian(sigma)) for i, n in enumerate("xy")], members=2)
    for m in range(2):
        own = [Observed(n, values[:, m, i], Gaussian(float(sigma[0, m]))) for i, n in enumerate("xy")]
        assert float(both.chi2[m]) == pytest.approx(float(solved(own).chi2), rel=1e-6)


def test_two_sensors_of_one_store(noisy):
    found = solved([*series(noisy), Observed("x", noisy[:, 0] + 0.1, Gaussian(0.1))], steps=0)
    assert found.counts == {"x (0)": 31, "y": 31, "x (2)": 31}
    assert float(found.chi2) == pytest.approx(float(sum(found.parts.values())))


def test_residuals_are_whitened():
    """As by the inverse of the correlation matrix; behind a gap the series starts anew."""
    rho, residual = 0.8, torch.randn(20, 1)
    inverse = torch.linalg.inv(rho ** (torch.arange(20)[:, None] - torch.arange(20)).abs())
    loss, valid = Gaussian(1.0, correlation=rho), torch.ones(20, 1, dtype=torch.bool)
    assert float(loss.whiten(residual, valid).square().sum()) == pytest.approx(float(residual.T @ inverse @ residual))
    valid[7] = False
    residual = torch.where(valid, residual, 0.0)
    parts = sum(float(loss.whiten(r, torch.ones_like(r, dtype=torch.bool)).square().sum())
                for r in (residual[:7], residual[8:]))  # fmt: skip
    assert float(loss.whiten(residual, valid).square().sum()) == pytest.approx(parts)


def test_whitened_fits_are_generalised_least_squares(noisy):
    names, rho = ("beta", "gamma", "x", "y"), 0.7
    found = solved(series(noisy, correlation=rho), names)
    lag = (torch.arange(31)[:, None] - torch.arange(31)).abs()
    root = torch.linalg.cholesky(torch.linalg.inv(rho**lag)).T

    def whitened(x):
        return (residuals(noisy, x, names).reshape(2, 31) @ root.T).flatten().numpy()

    other = scipy.optimize.least_squares(whitened, [0.5, 0.5, *U0.values()], xtol=1e-12, ftol=1e-12, gtol=1e-12)
    assert float(found.chi2) == pytest.approx(2 * other.cost, rel=1e-8)
    assert [float(found.values[n]) for n in names] == pytest.approx(other.x.tolist(), rel=1e-5)


def test_members_stop_early(noisy):
    found = solved(noisy, members=2, stop=torch.tensor([1e4, 0.0]))
    assert found.iterations[0] < found.iterations[1] and 100 < float(found.chi2[0]) <= 1e4
    both = found.take(torch.tensor([1])).joined(found)
    assert both.chi2.tolist() == [*found.chi2[1:].tolist(), *found.chi2.tolist()]
    assert both.values["beta"].shape == (3,) and both.normal.shape == (3, 4, 4) and both.count == found.count


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"free": ()}, ConfigError, "Nothing is free"),
        ({"free": ("betta",)}, ConfigError, "No parameter or store is called 'betta'.*beta"),
        ({"start": {"x": 1.0}}, ConfigError, "no initial storage of y"),
        ({"start": {**U0, "beta": torch.ones(3)}}, ConfigError, "3 values for 2 members"),
        ({"forcing": RECORD}, ConfigError, "with_members"),
        ({"observed": [Observed("z", torch.ones(31), Gaussian())]}, ConfigError, "called 'z'"),
        ({"observed": [Observed("x", torch.ones(31))]}, ConfigError, "Gaussian loss for 'x'"),
        ({"observed": [Observed("x", torch.ones(31), Gaussian(), at="mean")]}, ConfigError, "at='mean'"),
        ({"observed": [Observed("x", torch.ones(29), Gaussian())]}, DataError, "29 values for 30 intervals"),
        ({"observed": [Observed("x", torch.full((31,), torch.nan), Gaussian())]}, DataError, "no value"),
        ({"observed": [Observed("x", torch.ones(31, 3), Gaussian())]}, DataError, "needs .1, basins."),
    ],
)
def test_what_does_not_fit_is_an_error(change, error, message):
    given = {"forcing": record(2), "observed": [Observed("x", torch.ones(31), Gaussian())], "start": U0}
    given |= {"free": ("beta",)} | change
    with pytest.raises(error, match=message):
        least_squares(PREDATOR_PREY, **given, solver=RATES)


def test_the_loss_is_the_mean_square_of_residuals():
    simulated, observed = torch.rand(50, 3), torch.rand(50, 3)
    observed[:5, 0] = torch.nan
    found = Gaussian(0.3).prepare(observed)(simulated, observed)
    expected = ((simulated - observed) / 0.3).square().nanmean(0)
    assert torch.allclose(found, expected)
    log = Gaussian(0.3, log_offset=0.1).prepare(observed)(simulated, observed)
    assert torch.allclose(log, ((simulated + 0.1).log() - (observed + 0.1).log()).div(0.3).square().nanmean(0))
    below = torch.tensor([[-1.0]], requires_grad=True)
    Gaussian(log_offset=0.1).prepare(observed[9:, :1])(below, torch.ones(1, 1)).backward()
    assert bool(below.grad.isfinite().all()) and float(below.grad) < 0


@pytest.mark.parametrize("wrong", [{"correlation": 1.0}, {"log_offset": 0.0}])
def test_a_loss_that_makes_no_sense(wrong):
    with pytest.raises(ConfigError):
        Gaussian(**wrong)


def test_the_loss_trains():
    forcing = weather(60, 1).with_members(1)
    sim = simulate(BUCKET, forcing, storage0=STORAGE0)
    flow = Observed("discharge", sim.discharge, Gaussian(0.05, log_offset=0.02, correlation=0.5))
    parameters = Calibrated(exphydro_mended.parameters, forcing.batch, start={"f": 0.05})
    train, start = ("2001-12-05", "2002-01-20"), torch.tensor([[[0.0, 300.0]]])
    found = fit(
        BUCKET, parameters, forcing, flow, train=train, warmup_days=0, storage0=start, stages=[Stage("lbfgs", 5)]
    )
    assert float(found.train[0]) < 0.5 * found.history[0]["train"][0]
    with pytest.raises(ConfigError, match="one sigma"):
        Gaussian(torch.ones(60, 1)).prepare(sim.discharge)
    with pytest.raises(DataError, match="no observation"):
        Gaussian().prepare(torch.full((60, 1), torch.nan))


def test_a_start_that_data_do_not_feel_stays_where_water_can_be():
    """Three years after a start its storage is forgotten: without any range it would run off to 1e80 mm."""
    record_ = weather(1100, 1, seed=3)
    sim = simulate(BUCKET, record_, theta=defaults(), storage0=STORAGE0, solver=Compiled())
    observed = Observed("discharge", sim.discharge * 1.05, Gaussian(0.1))
    found = least_squares(BUCKET, record_.with_members(1), observed, {**defaults(), **STORAGE0},
                          ("smax", "f", "qmax", "soil", "snow"), score=slice(800, None), steps=30)  # fmt: skip
    assert all(0.0 <= float(found.values[n]) <= 2000.0 for n in ("soil", "snow"))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_sigma_may_be_an_array(noisy, kind):
    plain = solved(noisy)
    varying = [replace(o, loss=Gaussian(kind(np.full((31, 1), SIGMA)))) for o in series(noisy)]
    assert torch.allclose(solved(varying).chi2, plain.chi2)
    with pytest.raises(DataError, match="31 values and 30 of sigma"):
        solved([replace(o, loss=Gaussian(kind(np.full(30, SIGMA)))) for o in series(noisy)])


@pytest.mark.parametrize("sigma", [0.0, -0.1, float("nan"), np.array([1.0, 0.0])])
def test_a_sigma_that_is_none(sigma):
    with pytest.raises(ConfigError, match="sigma above zero"):
        Gaussian(sigma)


def test_what_least_squares_cannot_use(noisy):
    infinite = noisy.clone()
    infinite[3, 0] = torch.inf
    with pytest.raises(DataError, match="'x' has values that no model"):
        solved(infinite)
    with pytest.raises(DataError, match="not above -log_offset"):
        solved(series(noisy - 10.0, log_offset=0.1))
    with pytest.raises(ConfigError, match="observed is one or several"):
        least_squares(PREDATOR_PREY, record(), noisy, {**TRUTH, **U0}, ("beta",), solver=RATES)
    with pytest.raises(ConfigError, match="mask of 2 booleans"):
        solved(noisy, {"beta": torch.ones(3, dtype=torch.bool)}, members=2)
    assert solved(noisy, "beta").free == ("beta",)
    with pytest.raises(ConfigError, match="Nothing is moved"):
        forward_sensitivity(pose(PREDATOR_PREY, RECORD, TRUTH), torch.tensor([1.0, 1.0]), [], RATES)
    with pytest.raises(ConfigError, match="whole numbers from directions"):
        forward_sensitivity(pose(PREDATOR_PREY, RECORD, TRUTH), torch.tensor([1.0, 1.0]), torch.tensor([99]), RATES)
