"""The weather generator and planted truth."""

import json

import numpy as np
import pytest

from udehydro import Balance, data
from udehydro.errors import DataError
from udehydro.models import linear


def test_weather_keeps_the_contract():
    ds = data.weather(800, seed=1, basins=("a", "b"), lat=(40.0, 60.0))
    assert dict(ds.sizes) == {"time": 800, "basin": 2}
    assert {"prcp", "temp", "tmin", "tmax", "pet", "dayl"} == set(ds.data_vars)
    assert data.check(ds).ok and ds["lat"].values.tolist() == [40.0, 60.0]
    assert ds["dayl"].values[:, 1].max() > ds["dayl"].values[:, 0].max()


def test_seed_decides():
    one, two, other = (data.weather(50, seed=s) for s in (1, 1, 2))
    assert one.identical(two) and not one.equals(other)


def test_statistics_of_rain_and_temperature():
    ds = data.weather(20_000, seed=5, wet_probability=0.4, wet_persistence=0.3, mean_wet_rain=5.0)
    rain = ds["prcp"].values[:, 0]
    wet = rain > 0
    # standard errors at 20 000 days: 0.005 for the fraction, 0.06 mm/d for the mean, 0.007 for the correlation
    assert wet.mean() == pytest.approx(0.4, abs=0.02)
    assert rain[wet].mean() == pytest.approx(5.0, abs=0.25)
    assert np.corrcoef(wet[:-1], wet[1:])[0, 1] == pytest.approx(0.3, abs=0.03)
    assert float(ds["temp"].mean()) == pytest.approx(8.0, abs=0.3)


def test_seasons_turn_around_on_the_southern_half():
    north, south = (data.weather(730, seed=1, lat=lat)["temp"] for lat in (45.0, -45.0))
    for temp, warm in ((north, 7), (south, 1)):
        monthly = temp.groupby("time.month").mean().values[:, 0]
        assert abs(int(monthly.argmax()) + 1 - warm) <= 1


def test_hourly_rates_have_the_same_mean():
    hourly = data.weather(2000, seed=1, step_hours=6)
    assert hourly.attrs["interval_days"] == 0.25
    assert float(hourly["prcp"].mean()) == pytest.approx(0.45 * 6.0, rel=0.06)
    assert bool((hourly["tmin"] <= hourly["temp"]).all() and (hourly["temp"] <= hourly["tmax"]).all())


def test_own_oudin_agrees_with_pyet():
    pytest.importorskip("pyet")
    ds = data.weather(730, seed=1)
    # pyet lets the latent heat follow temperature, the paper has it constant: 2.45 MJ/kg at 20 degC, 2.50 at 0
    np.testing.assert_allclose(data.add_pet(ds, force=True)["pet"], ds["pet"], rtol=0.04, atol=1e-3)


@pytest.mark.parametrize(
    "bad",
    [{"days": 0}, {"wet_probability": 1.5}, {"wet_persistence": 1.0}, {"mean_wet_rain": -1.0}, {"step_hours": 7}],
)
def test_senseless_weather_is_refused(bad):
    with pytest.raises(DataError):
        data.weather(**({"days": 10, "seed": 0} | bad))


def truth(noise, seed=0, hours=24):
    ds = data.weather(60, seed=2, basins=("a", "b"), step_hours=hours)
    return data.planted_truth(Balance(linear), {"k": 0.2}, ds, seed=seed, noise=noise, storage0={"storage": 20.0})


@pytest.mark.parametrize("hours", [24, 6])
def test_planted_truth_is_the_linear_reservoir(hours):
    ds = truth(0.0, hours=hours)
    np.testing.assert_array_equal(ds["discharge"], ds["truth_discharge"])
    storage, rain = ds["truth_storage"].values, ds["prcp"].values
    assert storage[0].tolist() == [20.0, 20.0]
    # exact solution over one interval of constant rain; SDIRK2 with k dt = 0.2 errs by about (k dt)^3 / 10
    decay = np.exp(-0.2 * hours / 24)
    np.testing.assert_allclose(storage[1:], storage[:-1] * decay + rain[:-1] / 0.2 * (1 - decay), rtol=2e-3)
    assert {"truth_rain", "truth_outflow"} <= set(ds.data_vars)
    assert ds["discharge"].attrs["units"] == "mm/d"
    assert json.loads(ds.attrs["truth"])["theta"]["k"] == 0.2


def test_noise_is_seeded_and_has_mean_one():
    noisy, again, other = truth(0.1), truth(0.1), truth(0.1, seed=1)
    assert noisy.equals(again) and not noisy.equals(other)
    ratio = np.log(noisy["discharge"] / noisy["truth_discharge"])
    # 120 values: standard error of the standard deviation 0.0065, of the mean 0.009
    assert float(ratio.std()) == pytest.approx(0.1, abs=0.025)
    assert float(ratio.mean()) == pytest.approx(0.0, abs=0.035)
    with pytest.raises(DataError, match="noise"):
        truth(-0.1)


def test_truth_survives_a_file(tmp_path):
    ds = truth(0.0)
    ds.to_netcdf(tmp_path / "truth.nc")
    back = data.read(tmp_path / "truth.nc")
    np.testing.assert_array_equal(back["truth_storage"], ds["truth_storage"])
    assert json.loads(back.attrs["truth"])["seed"] == 0
