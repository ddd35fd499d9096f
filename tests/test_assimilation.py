"""4D-Var: its gradient, the linear case in closed form, planted storages and rain, windows, forecasts and skill."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tables import weather

from udehydro import Balance, ConfigError, DataError, Forcing, SolverError, StructureError, data, simulate
from udehydro.assimilation import (
    Background,
    Windows,
    assimilate,
    error_correlation,
    flow_error,
    forecast,
    skill,
)
from udehydro.assimilation.background import Controls
from udehydro.assimilation.cost import Cost
from udehydro.models import exphydro_mended, linear
from udehydro.plot.assimilation import assimilated, skill_by_lead
from udehydro.solvers import AllAtOnce, Automatic
from udehydro.training import Observed
from udehydro.training.gaussian import Gaussian
from udehydro.training.metrics import nse, rmse

TIGHT = AllAtOnce(warm_start=False, tolerance=1e-12)
MODEL = Balance(exphydro_mended)
THETA = {"f": 0.02, "smax": 350.0, "qmax": 15.0, "ddf": 2.5, "tmax": 0.5, "tmin": -0.5}
NAMES = ["prcp", "temp", "dayl"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(forcing, storage0, solver=TIGHT):
    return simulate(MODEL, forcing, theta=THETA, storage0=storage0, solver=solver)


@pytest.mark.parametrize("errors", [Gaussian(0.3), Gaussian(0.2, 0.1), Gaussian(0.3, correlation=0.6)])
def test_the_gradient_agrees_with_central_differences(errors):
    record = weather(60, 2, seed=3)
    truth = run(record, {"snow": 25.0, "soil": 320.0}).discharge
    observed = truth * (1.0 + 0.2 * torch.randn(truth.shape, generator=generator()))
    observed[7:9] = torch.nan
    background = Background(
        {"snow": torch.tensor([18.0, 3.0]), "soil": 290.0}, {"snow": 8.0, "soil": 30.0}, {"prcp": 0.4}, 20, 0.5
    )
    controls = Controls.of(background, MODEL, record)
    cost = Cost(MODEL, record, observed, controls, errors, THETA, TIGHT)
    x = 0.5 * torch.randn(2, controls.size, generator=generator(1))
    loss, gradient = cost(x)
    for i in range(controls.size):
        central = []
        for h in (1e-3, 1e-4, 1e-5):
            step = torch.zeros_like(x)
            step[:, i] = h
            central.append((cost(x + step)[0] - cost(x - step)[0]) / (2 * h))
        # the best of three steps: rounding spoils the small one, a day on which melt switches the large ones
        worst = ((torch.stack(central) - gradient[:, i]).abs().amin(0) / (loss + gradient[:, i].abs())).max()
        assert worst < 1e-6, (i, worst)


def test_storages_stay_above_zero_and_zero_controls_are_the_background():
    record = weather(3, 4)
    storage = torch.tensor([[0.0, 300.0], [1e-6, 300.0], [5.0, 300.0], [80.0, 300.0]])
    controls = Controls.of(Background(storage, {"snow": 10.0}), MODEL, record)
    zero = torch.zeros(4, 2)
    assert torch.allclose(controls.storage0(zero), storage, rtol=1e-12, atol=0.0)
    low, high = controls.storage0(zero - 6.0), controls.storage0(zero + 1.0)
    assert (low[:, 0] >= 0.0).all() and (low[0, 0], high[0, 0]) == (0.0, 0.0)
    assert torch.equal(low[:, 1], storage[:, 1])  # soil is not named: held
    # eight standard deviations above zero a step of one is one standard deviation, up to exp(-8); near zero a factor e
    assert float(high[3, 0]) == pytest.approx(90.0, abs=10.0 * np.exp(-8.0))
    assert float(high[1, 0]) == pytest.approx(np.e * 1e-6, rel=1e-5)


def test_stores_that_may_be_negative_are_gaussian():
    model = Balance(replace(linear, signed_stores=("storage",)))
    controls = Controls.of(Background({"storage": -2.0}, 3.0), model, weather(2, 1))
    assert controls.storage0(torch.tensor([[-1.0]])).item() == -5.0


def test_multipliers_are_blocks_counted_from_the_end_and_correlated():
    record = weather(11, 2)
    background = Background({"snow": 0.0, "soil": 300.0}, 10.0, {"prcp": 0.5, "dayl": 0.1}, block=4, correlation=0.6)
    controls = Controls.of(background, MODEL, record)
    assert controls.block_of.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    lag = torch.arange(3.0)
    assert torch.allclose(controls.colour @ controls.colour.T, 0.6 ** (lag[:, None] - lag).abs())
    z = torch.randn(2, controls.size, generator=generator())
    factors = controls.multipliers(z)
    assert torch.allclose(factors["prcp"][0], torch.exp(0.5 * z[:, 2]))
    assert torch.allclose(factors["dayl"][-1], torch.exp(0.1 * (z[:, 5:8] @ controls.colour[2])))


def test_an_element_that_cannot_be_simulated_leaves_the_others_alone():
    def picky(problem, storage0):
        bad = storage0[..., 1] > 320.0
        if bad.any():
            raise SolverError("too wet", failed=bad)
        return TIGHT(problem, storage0)

    record = weather(20, 2)
    observed = run(record, {"snow": 0.0, "soil": 290.0}).discharge
    controls = Controls.of(Background({"snow": 0.0, "soil": 300.0}, 10.0), MODEL, record)
    cost = Cost(MODEL, record, observed, controls, Gaussian(0.1), THETA, picky)
    plain = replace(cost, solver=TIGHT)
    x = torch.tensor([[0.0, 5.0], [0.0, 1.0]])
    loss, gradient = cost(x)
    assert torch.isinf(loss[0]) and torch.allclose(loss[1], plain(x)[0][1])
    assert torch.allclose(gradient[1], plain(x)[1][1])
    with pytest.raises(SolverError, match="too wet"):
        replace(cost, controls=replace(controls, storage=controls.storage + 50.0))(x)


def test_correlated_errors_and_controls_have_the_cost_of_their_dense_covariances():
    record, rho = weather(30, 1, seed=1), 0.6
    observed = run(record, {"snow": 5.0, "soil": 330.0}).discharge + 0.1
    observed[5:8] = torch.nan
    errors = flow_error(observed, 0.1, 0.05, correlation=rho)
    background = Background({"snow": 5.0, "soil": 300.0}, 10.0, {"prcp": 0.3}, block=7, correlation=-0.4)
    controls = Controls.of(background, MODEL, record)
    cost = Cost(MODEL, record, observed, controls, errors, THETA, TIGHT)
    z = 0.4 * torch.randn(1, controls.size, generator=generator(2))
    seen = ~observed[:, 0].isnan()

    def residual(z):
        return (cost.run(z).discharge - observed)[seen, 0]

    time, piece = torch.arange(30)[seen], (torch.arange(30)[seen] > 7).double()  # a gap starts anew
    errors_covariance = rho ** (time[:, None] - time).abs() * (piece[:, None] == piece)
    errors_covariance *= errors.sigma[seen] * errors.sigma[seen].T
    r, slope = residual(z), torch.autograd.functional.jacobian(residual, z)[:, 0]
    wanted = 0.5 * z.square().sum() + 0.5 * r @ torch.linalg.solve(errors_covariance, r)
    assert cost(z)[0].item() == pytest.approx(wanted.item(), rel=1e-12)
    hessian = torch.eye(controls.size) + slope.T @ torch.linalg.solve(errors_covariance, slope)
    assert torch.allclose(cost.covariance(z)[0], torch.linalg.inv(hessian), atol=1e-12)


def kalman(observed, rain, k_step, k_rain, mean, variance, sigma):
    """Filter of S' = R S + g P with Q = (1 - R) S + (1 - g) P observed, no noise in the model: final mean, variance."""
    for q, p in zip(observed, rain, strict=True):
        h = 1.0 - k_step
        if np.isfinite(q):
            gain = variance * h / (h * h * variance + sigma**2)
            mean, variance = mean + gain * (q - h * mean - (1.0 - k_rain) * p), (1.0 - gain * h) * variance
        mean, variance = k_step * mean + k_rain * p, k_step**2 * variance
    return mean, variance


def test_a_linear_reservoir_has_the_analysis_of_the_kalman_filter():
    model, theta = Balance(linear), {"k": 0.1}
    record, sd, sigma = weather(25, 1, seed=4), 2.0, 0.3
    options = {"theta": theta, "solver": TIGHT}
    dry = replace(record, values={**record.values, "prcp": torch.zeros(25, 1)})
    wet = replace(record, values={**record.values, "prcp": torch.ones(25, 1)})
    k_step = simulate(model, dry, storage0={"storage": 1.0}, **options).storage[1].item()
    k_rain = simulate(model, wet, storage0={"storage": 0.0}, **options).storage[1].item()
    observed = simulate(model, record, storage0={"storage": 103.0}, **options).discharge
    observed = observed + sigma * torch.randn(observed.shape, generator=generator())
    observed[5:8] = torch.nan
    found = assimilate(
        model, record, observed, Background({"storage": 100.0}, sd), Gaussian(sigma), spread=True, **options
    )
    mean, variance = kalman(
        observed[:, 0].tolist(), record.values["prcp"][:, 0].tolist(), k_step, k_rain, 100.0, sd**2, sigma
    )
    # 50 standard deviations above zero the softplus is the identity to round-off; the gradient stops at 1e-6
    assert found.run.storage[-1].item() == pytest.approx(mean, abs=1e-5)
    assert k_step**25 * found.storage0_sd.item() == pytest.approx(variance**0.5, rel=1e-7)
    assert found.converged.all() and found.storage0_sd.item() < sd


@pytest.fixture(scope="module")
def twin():
    """Four winters of synthetic weather with planted snow, soil and rain; flow measured to 1 %."""
    torch.set_default_dtype(torch.float64)
    days = 365 * 5
    sky = Forcing.from_dataset(data.weather(days, seed=2, mean_temp=4.0, start="1990-10-01"), NAMES)
    windows = Windows(sky, [f"{y}-06-01" for y in (1991, 1992, 1993, 1994)], 150, 10)
    before = windows.before
    planted = run(sky, {"snow": 0.0, "soil": 250.0})
    start = windows.start(planted.storage)
    factor = torch.exp(0.4 * torch.randn(15, 4, 1, generator=generator(5))).repeat_interleave(10, 0)
    truth = {"same rain": run(before, start), "other rain": run(_rain(before, factor), start)}
    return windows, before, start, factor, truth


def _rain(forcing, factor):
    return replace(forcing, values={**forcing.values, "prcp": forcing.values["prcp"] * factor})


def noisy(flow, share=0.01):
    return flow * (1.0 + share * torch.randn(flow.shape, generator=generator(9)))


def wrong(start):
    """A background that is wrong by 30 % in snow and 30 mm in soil, to either side."""
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0]).reshape(4, 1)
    return torch.stack([start[..., 0] * (1.0 + 0.3 * sign), start[..., 1] - 30.0 * sign], dim=-1)


def test_planted_storages_are_found(twin):
    windows, before, start, _, truth = twin
    observed = noisy(truth["same rain"].discharge)
    assert (start[..., 0] > 15.0).all()
    background = Background(wrong(start), {"snow": 20.0, "soil": 30.0})
    found = assimilate(MODEL, before, observed, background, flow_error(observed, 0.01, 1e-3), theta=THETA, spread=True)
    error, first = (found.storage0 - start).abs(), (wrong(start) - start).abs()
    assert (first / error).min() > 10.0, first / error
    assert (error < 4.0 * found.storage0_sd).all()  # four standard deviations, of eight numbers
    assert (0.5 < found.chi2).all() and (found.chi2 < 1.5).all()  # 150 residuals: 1 +- 0.12
    assert found.converged.all() and (found.cost_observations < found.cost_start).all()


def test_planted_rain_is_found_where_the_flow_tells_of_it(twin):
    """Not where little rain fell, or at the end of the window: its spread says so."""
    windows, before, start, factor, truth = twin
    observed = noisy(truth["other rain"].discharge)
    errors = flow_error(observed, 0.01, 1e-3)
    with_rain = Background(wrong(start), {"snow": 20.0, "soil": 30.0}, {"prcp": 0.4}, block=10)
    both = assimilate(MODEL, before, observed, with_rain, errors, theta=THETA, spread=True)
    alone = assimilate(MODEL, before, observed, replace(with_rain, multiplier_sd={}), errors, theta=THETA)
    share = both.multiplier_sd["prcp"] / both.multipliers["prcp"]
    told, error = share < 0.1, (both.multipliers["prcp"] / factor).log()
    assert told.double().mean() > 0.3
    assert error[told].square().mean().sqrt() < 0.25 * factor.log()[told].square().mean().sqrt()
    assert 0.5 < (error / share).square().mean().sqrt() < 1.5  # in units of its spread, of 60 blocks
    end = truth["other rain"].storage[-1]
    left = [(a.run.storage[-1] - end).square().mean().sqrt() for a in (both, alone)]
    assert left[0] < 0.2 * left[1], left


def test_elements_do_not_depend_on_each_other(twin):
    windows, before, start, _, truth = twin
    observed = noisy(truth["other rain"].discharge)
    background = Background(wrong(start), {"snow": 20.0, "soil": 30.0}, {"prcp": 0.4}, block=30)
    options = {"theta": THETA, "solver": TIGHT, "steps": 15}
    found = assimilate(MODEL, before, observed, background, flow_error(observed, 0.02, 0.01), **options)
    one = replace(before, values={n: v[:, 2, :] for n, v in before.values.items()}, members=())
    alone = assimilate(
        MODEL, one, observed[:, 2], replace(background, storage=wrong(start)[2]),
        flow_error(observed[:, 2], 0.02, 0.01), **options,
    )  # fmt: skip
    # the same steps up to rounding, which fifteen of them may enlarge
    assert torch.allclose(found.controls[2], alone.controls, atol=1e-6)


def test_missing_observations_are_masked_and_none_leave_the_background():
    record = weather(30, 2, seed=1)
    observed = run(record, {"snow": 10.0, "soil": 320.0}).discharge
    observed[:, 0] = torch.nan
    observed[10:, 1] = torch.nan
    background = Background({"snow": 10.0, "soil": 300.0}, 20.0, {"prcp": 0.3})
    found = assimilate(MODEL, record, observed, background, Gaussian(0.1), theta=THETA, solver=TIGHT, spread=True)
    assert found.count.tolist() == [0, 10] and found.chi2.isnan().tolist() == [True, False]
    assert torch.equal(found.run.storage[:, 0], found.open_loop.storage[:, 0])
    assert (found.multipliers["prcp"][:, 0] == 1.0).all() and found.converged[0]
    assert (found.multipliers["prcp"][10:, 1] == 1.0).all()  # rain after the last observation
    # without observations the spread is that of the background: 20 mm far above zero, 0.3 for a factor of one
    assert float(found.storage0_sd[0, 1]) == pytest.approx(20.0, rel=1e-5)
    assert torch.allclose(found.multiplier_sd["prcp"][:, 0], torch.tensor(0.3))
    assert (found.multiplier_sd["prcp"][:, 1] <= found.multipliers["prcp"][:, 1] * 0.3 + 1e-12).all()
    short = assimilate(
        MODEL, record.isel(slice(0, 10)), observed[:10], background, Gaussian(0.1), theta=THETA, solver=TIGHT
    )
    assert torch.allclose(short.storage0, found.storage0, atol=1e-6)


def test_an_empty_snow_store_stays_empty():
    record = weather(30, 2, seed=1, warm=12.0)
    observed = run(record, {"snow": 0.0, "soil": 330.0}).discharge
    background = Background(torch.tensor([[0.0, 300.0], [-1e-13, 300.0]]), 20.0)
    found = assimilate(MODEL, record, observed, background, Gaussian(0.05), theta=THETA, spread=True)
    assert (found.storage0[:, 0] == 0.0).all() and (found.storage0_sd[:, 0] == 0.0).all()
    # flow is a steep function of the soil store here: a planted 30 mm is found to a tenth
    assert ((found.storage0[:, 1] - 330.0).abs() < 3.0).all()


def test_measured_snow_is_assimilated_beside_discharge():
    """Snow that does not melt is its start plus what fell: its mean and spread are those of repeated measurements."""
    record, sd, sigma = weather(12, 2, seed=1, warm=-40.0), 20.0, 5.0
    start = {"snow": 200.0, "soil": 320.0}
    truth = run(record, start)
    measured = truth.store("snow") + sigma * torch.randn(13, 2, generator=generator())
    measured[4:9, 0] = torch.nan
    options = {"theta": THETA, "solver": TIGHT, "spread": True}
    background = Background({**start, "snow": 170.0}, {"snow": sd})
    found = assimilate(
        MODEL, record, truth.discharge, background, Gaussian(0.1),
        also=Observed("snow", measured, Gaussian(sigma)), **options,
    )  # fmt: skip
    count = torch.tensor([8.0, 13.0])
    precision = 1.0 / sd**2 + count / sigma**2
    fallen = truth.store("snow") - 200.0
    wanted = (170.0 / sd**2 + (measured - fallen).nansum(0) / sigma**2) / precision
    # the softplus is the identity up to exp(-8) standard deviations
    assert torch.allclose(found.storage0[:, 0], wanted, atol=sd * 1e-3)
    assert torch.allclose(found.storage0_sd[:, 0], precision**-0.5, rtol=1e-3)
    assert torch.equal(found.count, 12 + count.long()) and found.converged.all()
    without = assimilate(MODEL, record, truth.discharge, background, Gaussian(0.1), **options)
    assert torch.allclose(without.storage0[:, 0], torch.tensor(170.0), atol=1e-6)
    rate = Observed("et", truth.rate("et"), Gaussian(1.0))
    both = assimilate(
        MODEL, record, truth.discharge, background, Gaussian(0.1),
        also=[Observed("snow", measured[1:], Gaussian(sigma), at="end"), rate], **options,
    )  # fmt: skip
    assert torch.equal(both.count, 24 + (~measured[1:].isnan()).sum(0))


@pytest.mark.parametrize("batch", [(), (2,), (3, 2)])
def test_any_batch_and_precision(batch):
    record = weather(20, 2, seed=1)
    values = {n: record.values[n][:, 0] if batch == () else record.values[n] for n in NAMES}
    record = Forcing(values, record.units, record.time_edge)
    record = record.with_members(3) if len(batch) == 2 else record
    record = record.to(dtype=torch.float32)
    observed = run(record, {"snow": 5.0, "soil": 320.0}, AllAtOnce()).discharge.double()
    background = Background({"snow": 5.0, "soil": 300.0}, 20.0, {"prcp": 0.3}, block=5)
    found = assimilate(
        MODEL, record, observed, background, flow_error(observed, 0.1, 0.05), theta=THETA, steps=15, spread=True
    )
    assert found.controls.shape == (*batch, 6) and found.storage0.shape == (*batch, 2)
    assert found.multipliers["prcp"].shape == found.multiplier_sd["prcp"].shape == (20, *batch)
    assert {v.dtype for v in (found.controls, found.storage0, found.chi2, found.observed)} == {torch.float32}
    assert ((found.storage0[..., 1] - 320.0).abs() < 10.0).all()
    assert found.to_xarray()["discharge"].dims == ("time", *("member", "basin")[2 - len(batch) :])


def test_spread_in_single_precision_of_precise_observations():
    """The Hessian of thirty blocks is far from the identity: summed in single precision it is not positive."""
    record = weather(30, 2, seed=2)
    observed = run(record, {"snow": 5.0, "soil": 330.0}).discharge
    background = Background({"snow": 5.0, "soil": 300.0}, 20.0, {"prcp": 1.0})
    options = {"theta": THETA, "steps": 1, "spread": True}
    double, single = (
        assimilate(MODEL, r, observed, background, Gaussian(1e-4), **options)
        for r in (record, record.to(dtype=torch.float32))
    )
    assert torch.allclose(single.storage0_sd.double(), double.storage0_sd, rtol=1e-4)
    # rain of which flow says little suffers most, 4e-4
    assert torch.allclose(single.multiplier_sd["prcp"].double(), double.multiplier_sd["prcp"], rtol=2e-3)


def test_the_dataset_has_units(twin):
    windows, before, start, _, truth = twin
    observed = truth["same rain"].discharge
    background = Background(start, {"soil": 30.0}, {"prcp": 0.4}, block=50)
    found = assimilate(MODEL, before, observed, background, Gaussian(0.1), theta=THETA, steps=3, spread=True)
    ds = found.to_xarray()
    assert ds["storage0_soil"].attrs["units"] == "mm" and ds["multiplier_prcp"].attrs["units"] == "1"
    assert ds["discharge"].dims == ("time", "member", "basin") and ds["discharge"].attrs["units"] == "mm/d"
    assert ds["member"].values.tolist() == [f"{y}-06-01" for y in (1991, 1992, 1993, 1994)]
    assert float(ds["storage0_sd_snow"].max()) == 0.0  # held
    assert np.allclose(ds["soil"][0], ds["storage0_soil"]) and ds["soil"].dims[0] == "time_edge"


def test_windows_are_pieces_of_the_record():
    sky = weather(50, 2)
    days = [sky.time[20], sky.time[33]]
    windows = Windows(sky, days, 12, 5)
    before, after = windows.cut(sky.values["temp"])
    assert torch.equal(before[:, 1], sky.values["temp"][21:33]) and torch.equal(after[:, 0], sky.values["temp"][20:25])
    assert torch.equal(windows.before.values["prcp"][:, 0], sky.values["prcp"][8:20])
    assert windows.before.batch == windows.after.batch == (2, 2) and windows.after.basins == sky.basins
    assert windows.before.members == tuple(str(d)[:10] for d in days)
    assert windows.before.time_edge[-1] == windows.after.time_edge[0] == np.datetime64("2000-01-01")
    storage = torch.arange(51.0).reshape(-1, 1, 1).expand(51, 2, 3)
    assert windows.start(storage)[:, 0, 0].tolist() == [8.0, 21.0]


def test_a_forecast_goes_on_where_the_analysis_ends(twin):
    windows, before, start, _, truth = twin
    observed = noisy(truth["same rain"].discharge)
    background = Background(wrong(start), {"snow": 20.0, "soil": 30.0}, {"prcp": 0.2}, block=30)
    found = assimilate(MODEL, before, observed, background, flow_error(observed, 0.01, 1e-3), theta=THETA, steps=30)
    ahead = forecast(found, windows.after, correlation=0.5)
    joined = {n: torch.cat([found.run.forcing.values[n], windows.after.values[n]]) for n in NAMES}
    edges = np.concatenate([before.time_edge, windows.after.time_edge[1:]])
    whole = run(Forcing(joined, before.units, edges), found.storage0)
    # the same steps, each solved to 1e-9 mm: errors of 160 days add up to less than a thousand times that
    assert torch.allclose(ahead.series["4D-Var"], whole.discharge[150:], atol=1e-6)
    error = (observed - found.open_loop.discharge)[-1]
    corrected = ahead.series["open loop"] + torch.tensor(0.5) ** torch.arange(1, 11).reshape(-1, 1, 1) * error
    assert torch.allclose(ahead.series["open loop + AR(1)"], corrected.clamp_min(0.0))
    assert torch.equal(ahead.series["persistence"][3], observed[-1])
    ds = ahead.to_xarray()
    assert ds["discharge"].dims == ("forecast", "time", "member", "basin") and ds.discharge.attrs["units"] == "mm/d"
    kept = ds.discharge.sel(forecast="4D-Var", member="1993-06-01", time="2000-01-03", basin="synthetic")
    assert float(kept) == float(ahead.series["4D-Var"][2, 2, 0])
    truth_ahead = run(windows.after, truth["same rain"].storage[-1]).discharge
    scores = skill(ahead, truth_ahead)
    assert (scores.rmse.sel(forecast="4D-Var") < 0.1 * scores.rmse.sel(forecast="open loop")).all()


def test_baselines_go_back_to_the_last_observation():
    record = weather(12, 2)
    observed = run(record, {"snow": 5.0, "soil": 320.0}).discharge
    observed[9:, 0] = torch.nan
    observed[:, 1] = torch.nan
    part = record.isel(slice(0, 10))
    found = assimilate(
        MODEL, part, observed[:10], Background({"snow": 5.0, "soil": 300.0}, 1.0), Gaussian(1.0), theta=THETA, steps=1
    )
    assert (found.controls == 0.0).all() and found.evaluations == 1
    ahead = forecast(found, record.isel(slice(10, 12)), correlation=torch.tensor([0.8, 0.5]))
    assert torch.equal(ahead.series["persistence"][:, 0], observed[8, 0].expand(2))
    error = observed[8, 0] - found.open_loop.discharge[8, 0]
    wanted = ahead.series["open loop"][1, 0] + 0.8**3 * error
    assert torch.allclose(ahead.series["open loop + AR(1)"][1, 0], wanted)
    assert ahead.series["persistence"][:, 1].isnan().all() and ahead.series["open loop + AR(1)"][:, 1].isnan().all()


def test_a_basin_without_a_correlation_of_errors_does_without_that_forecast():
    record = weather(12, 2)
    observed = run(record, {"snow": 5.0, "soil": 320.0}).discharge
    background = Background({"snow": 5.0, "soil": 300.0}, 1.0)
    found = assimilate(MODEL, record.isel(slice(0, 10)), observed[:10], background, Gaussian(1.0), theta=THETA, steps=1)
    series = forecast(found, record.isel(slice(10, 12)), correlation=torch.tensor([0.5, torch.nan])).series
    assert series["4D-Var + AR(1)"].isfinite().all(0).tolist() == [True, False]
    assert series["4D-Var"].isfinite().all()


def test_correlation_of_errors():
    noise = torch.randn(20000, 2, generator=generator())
    error = torch.zeros_like(noise)
    for t in range(1, len(noise)):
        error[t] = torch.tensor([0.8, 0.2]) * error[t - 1] + noise[t]
    observed = torch.full_like(error, 3.0)
    observed[100:200, 0] = torch.nan
    # the standard error of the coefficient is at most 0.007
    assert torch.allclose(error_correlation(3.0 + error, observed), torch.tensor([0.8, 0.2]), atol=0.03)
    assert error_correlation(error, torch.full_like(error, torch.nan)).isnan().all()
    with pytest.raises(DataError, match="Simulated flow has shape"):
        error_correlation(error, observed[:, :1])


def test_skill_is_over_dates_of_issue(twin):
    windows, before, start, _, truth = twin
    found = assimilate(MODEL, before, truth["same rain"].discharge, Background(start, 10.0), Gaussian(1.0), theta=THETA)
    ahead = forecast(found, windows.after)
    seen = noisy(ahead.series["open loop"], 0.3)
    seen[2, 1] = torch.nan
    scores = skill(ahead, seen)
    assert scores.rmse.dims == ("forecast", "lead", "basin") and scores.lead.values.tolist() == list(range(1, 11))
    for metric, name in ((rmse, "rmse"), (nse, "nse")):
        wanted = metric(ahead.series["persistence"][2], seen[2])
        assert np.allclose(scores[name].sel(forecast="persistence", lead=3), wanted)
    assert scores["count"][:, 0].values.tolist() == [4, 4, 3, 4, 4, 4, 4, 4, 4, 4]
    assert scores.rmse.attrs["units"] == "mm/d" and scores.lead.attrs["units"] == "d"
    with pytest.raises(DataError, match="dates of issue"):
        skill(ahead, seen[:, 0])


def test_figures(twin):
    windows, before, start, _, truth = twin
    observed = truth["same rain"].discharge
    found = assimilate(MODEL, before, observed, Background(wrong(start), 20.0), Gaussian(1.0), theta=THETA, steps=2)
    ahead = forecast(found, windows.after)
    (axes,) = assimilated(found, ahead, 1, ahead.series["open loop"]).axes
    assert axes.get_title(loc="left") == "1992-06-01, synthetic" and axes.get_ylabel() == "discharge [mm/d]"
    assert axes.lines[0].get_xdata()[-1] == -0.5 and len(axes.lines) == 7
    scores = skill(ahead, ahead.series["open loop"])
    (axes,) = skill_by_lead(scores, score="rmse", forecasts=["4D-Var", "open loop"]).axes
    assert axes.get_ylabel() == "RMSE [mm/d]" and axes.lines[1].get_ydata().tolist() == [0.0] * 10


def test_backgrounds_that_make_no_sense():
    for bad in (
        {"storage_sd": 0.0},
        {"storage_sd": {"soil": -1.0}},
        {"storage_sd": {"soil": torch.tensor([1.0, torch.inf])}},
        {"storage_sd": 1.0, "multiplier_sd": {"prcp": 0.0}},
    ):
        with pytest.raises(ConfigError, match="finite and above zero"):
            Background({"snow": 0.0, "soil": 1.0}, **bad)
    with pytest.raises(ConfigError, match="block of at least 1"):
        Background({}, 1.0, block=0)
    with pytest.raises(ConfigError, match="correlation within"):
        Background({}, 1.0, correlation=1.0)
    record, fine = weather(5, 2), {"snow": 0.0, "soil": 300.0}
    for background, message in (
        (Background(fine, {"sol": 1.0}), "no store. Did you mean 'soil'"),
        (Background(fine, 1.0, {"prpc": 0.1}), "no forcing that the model reads"),
        (Background(fine, {"soil": torch.ones(3)}), "the batch is"),
    ):
        with pytest.raises(ConfigError, match=message):
            Controls.of(background, MODEL, record)
    with pytest.raises(DataError, match="'soil' is -30 mm in basin b0"):
        Controls.of(Background({"snow": 0.0, "soil": -30.0}, 1.0), MODEL, record)


def test_observations_and_errors_that_make_no_sense():
    record, background = weather(5, 2), Background({"snow": 0.0, "soil": 300.0}, 1.0)
    with pytest.raises(DataError, match="observed has shape"):
        assimilate(MODEL, record, torch.ones(5), background, Gaussian(1.0))
    infinite = torch.ones(5, 2)
    infinite[3, 1] = torch.inf
    with pytest.raises(DataError, match="infinite in basin b1, 2001-11-28"):
        assimilate(MODEL, record, infinite, background, Gaussian(1.0))
    with pytest.raises(ConfigError, match="sigma"):
        assimilate(MODEL, record, torch.ones(5, 2), background, Gaussian(torch.ones(4, 2)))
    for share, floor in ((0.1, 0.0), (0.1, torch.tensor([0.1, torch.nan])), (-0.1, 1.0)):
        with pytest.raises(ConfigError, match="share of 0 or more and a floor above 0 mm/d"):
            flow_error(torch.ones(5, 2), share, floor)
    with pytest.raises(ConfigError, match="steps"):
        assimilate(MODEL, record, torch.ones(5, 2), background, Gaussian(1.0), steps=0)
    for also, error, message in (
        (Observed("snow", torch.ones(5, 2)), ConfigError, "also takes Observed"),
        (Observed("snow", torch.ones(5, 2), Gaussian(1.0), weight=2.0), ConfigError, "without a weight"),
        ([torch.ones(5, 2)], ConfigError, "also takes Observed"),
        (Observed("snw", torch.ones(5, 2), Gaussian(1.0)), StructureError, "Did you mean 'snow'"),
        (Observed("snow", torch.ones(5), Gaussian(1.0)), DataError, r"observed has shape \(5,\).*\(snow\)"),
        (Observed("snow", infinite, Gaussian(1.0)), DataError, "Observed snow is infinite in basin b1"),
        (Observed("snow", torch.ones(5, 2), Gaussian(torch.ones(3, 2))), ConfigError, "sigma of the errors"),
    ):
        with pytest.raises(error, match=message):
            assimilate(MODEL, record, torch.ones(5, 2), background, Gaussian(1.0), also=also)
    negative = torch.ones(5, 2)
    negative[0, 1] = -2.0
    with pytest.raises(ConfigError, match="not finite in basin b1"):
        assimilate(MODEL, record, negative, background, Gaussian(1.0, log_offset=0.1), theta=THETA)
    with pytest.raises(ConfigError, match="not finite in basin b0"):
        assimilate(MODEL, record, negative, background, Gaussian(1e-200), theta=THETA)


def test_windows_and_forecasts_that_make_no_sense():
    sky = weather(50, 2)
    for issued, past, ahead in (
        ([sky.time[5]], 6, 1),
        ([sky.time[45]], 6, 6),
        (["2001-12-01T06"], 3, 3),
        (["1990"], 1, 1),
    ):
        with pytest.raises(DataError, match="No window of"):
            Windows(sky, issued, past, ahead)
    with pytest.raises(ConfigError, match="dates of issue"):
        Windows(sky, [], 3)
    with pytest.raises(DataError, match="basin"):
        Windows(sky.with_members(2), [sky.time[9]], 3)
    with pytest.raises(DataError, match="one length"):
        Windows(weather(4, 2, hours=[24.0, 12.0, 24.0, 24.0]), ["2001-11-27"], 1)
    windows = Windows(sky, [sky.time[9]], 3)
    with pytest.raises(ConfigError, match="end at their issue"):
        windows.after  # noqa: B018
    with pytest.raises(DataError, match="The series has shape"):
        windows.cut(torch.ones(3))
    with pytest.raises(DataError, match="storage has shape"):
        windows.start(torch.ones(50, 2, 2))
    record = sky.isel(slice(0, 10))
    theta = {**THETA, "ddf": torch.full((10, 2), 2.0)}
    found = assimilate(
        MODEL, record, torch.ones(10, 2), Background({"snow": 0.0, "soil": 300.0}, 1.0), Gaussian(1.0), theta=theta,
        steps=1, solver=Automatic(),
    )  # fmt: skip
    with pytest.raises(DataError, match="go on from there"):
        forecast(found, sky.isel(slice(11, 13)))
    with pytest.raises(ConfigError, match="ddf vary in time"):
        forecast(found, sky.isel(slice(10, 12)))
    for correlation, message in ((1.5, "has to lie within"), (torch.ones(3), r"has shape \(3,\), the batch is \(2,\)")):
        with pytest.raises(ConfigError, match=f"correlation of errors {message}"):
            forecast(found, sky.isel(slice(10, 12)), theta=THETA, correlation=correlation)
    # the time axes of windows agree whatever their dates
    one, other = (Windows(sky, [sky.time[k]], 5, 5) for k in (9, 19))
    fine = Background({"snow": 0.0, "soil": 300.0}, 1.0)
    found = assimilate(MODEL, one.before, torch.ones(5, 1, 2), fine, Gaussian(1.0), theta=THETA, steps=1)
    with pytest.raises(DataError, match="that of 2001-12-14, where the window has 2001-12-04"):
        forecast(found, other.after)
