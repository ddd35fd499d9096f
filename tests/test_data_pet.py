"""Day length, PET and the demonstration basins."""

import sys

import numpy as np
import pandas as pd
import pytest

from udehydro import data
from udehydro.data.pet import extraterrestrial_radiation
from udehydro.errors import DataError


def year(lat=50.0, temp=10.0, freq="D"):
    time = pd.date_range("2001-01-01", "2001-12-31 23:00", freq=freq)
    frame = pd.DataFrame({"date": time, "temp(C)": temp, "tmin(C)": temp - 4, "tmax(C)": temp + 4})
    return data.from_frame(frame, lat=lat)


def test_day_length_example_of_fao56():
    # FAO-56 example 9: 20 degrees south on 3 September, 11.7 h; example 8: Ra = 32.2 MJ/m2/d
    time = pd.DatetimeIndex(["2001-09-03"])
    assert data.day_length(-20.0, time)[0] == pytest.approx(11.7, abs=0.05)
    assert extraterrestrial_radiation(-20.0, time)[0] == pytest.approx(32.2, abs=0.1)


def test_day_length_at_equator_and_pole():
    time = pd.date_range("2001-01-01", periods=365)
    np.testing.assert_allclose(data.day_length(0.0, time), 12.0, atol=1e-12)
    pole = data.day_length(85.0, time)
    assert pole.min() == 0.0 and pole.max() == pytest.approx(24.0)
    assert data.day_length(np.array([0.0, 50.0]), time).shape == (365, 2)


@pytest.mark.parametrize("method", ["oudin", "hamon", "hargreaves"])
def test_pet(method):
    pytest.importorskip("pyet")
    ds = data.add_pet(year(), method)
    pet = ds["pet"].values
    assert ds["pet"].dims == ("time", "basin") and ds["pet"].attrs["units"] == "mm/d"
    assert np.isfinite(pet).all() and (pet >= 0).all() and 0.5 < pet.mean() < 5
    assert any(method in line for line in data.notes(ds))


def test_oudin_by_hand():
    pytest.importorskip("pyet")
    ds = data.add_pet(year(temp=10.0))
    time = ds.indexes["time"]
    latent = 2.501 - 0.002361 * 10.0
    expected = extraterrestrial_radiation(50.0, time) * 15.0 / latent / 100.0
    # pyet's constants differ in the fifth digit
    np.testing.assert_allclose(ds["pet"].values[:, 0], expected, rtol=2e-3)


def test_polar_night_has_no_pet():
    pytest.importorskip("pyet")
    pet = data.add_pet(year(lat=80.0))["pet"].values
    assert np.isfinite(pet).all() and pet[0, 0] == 0.0


def test_hourly_pet_is_the_rate_of_the_day():
    pytest.importorskip("pyet")
    hourly, daily = data.add_pet(year(freq="h"))["pet"], data.add_pet(year())["pet"]
    np.testing.assert_allclose(hourly.values[::24], daily.values, rtol=1e-12)


def test_existing_pet_is_not_replaced_silently():
    pytest.importorskip("pyet")
    ds = data.add_pet(year())
    with pytest.raises(DataError, match="force"):
        data.add_pet(ds)
    data.add_pet(ds, "hamon", force=True)


def test_pyet_missing_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyet", None)
    with pytest.raises(DataError, match=r"udehydro\[demo\]"):
        data.add_pet(year())


def test_fulda():
    pytest.importorskip("spotpy")
    pytest.importorskip("pyet")
    ds = data.fulda()
    assert ds.sizes == {"time": 3653, "basin": 1}
    assert data.check(ds).ok
    # known from the source: 839 mm/yr of rain and a runoff ratio of 0.40 with the assumed area
    assert float(ds["prcp"].mean()) * 365.25 == pytest.approx(839, abs=1)
    assert float(ds["discharge"].mean() / ds["prcp"].mean()) == pytest.approx(0.40, abs=0.01)
    assert any("assumed" in line for line in data.notes(ds))
    assert ds["area"].item() == data.FULDA_AREA_KM2
    assert {"dayl", "pet", "tmin", "tmax", "temp"} <= set(ds.data_vars)


def test_hymod_basin():
    pytest.importorskip("spotpy")
    ds = data.hymod_basin()
    assert int(np.isnan(ds["discharge"]).sum()) == 366
    flow = ds["discharge"].dropna("time")
    assert float(flow.sum() / ds["prcp"].sel(time=flow.time).sum()) == pytest.approx(0.32, abs=0.01)
