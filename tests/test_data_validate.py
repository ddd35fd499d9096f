"""What `check` finds, and what the explicit repairs do."""

import json

import numpy as np
import pytest

from udehydro import data
from udehydro.errors import DataError


def good(years=3, basins=("a", "b"), **options):
    ds = data.weather(round(years * 365.25), seed=3, basins=basins, **options)
    flow = 0.4 * ds["prcp"].rolling(time=20, min_periods=1).mean() + 0.01
    return ds.assign(discharge=flow.assign_attrs(units="mm/d"))


def spoiled(variable, change, rows=slice(100, 110), basin=1):
    ds = good()
    values = ds[variable].values.copy()
    values[rows, basin] = change(values[rows, basin])
    return ds.assign({variable: (("time", "basin"), values, ds[variable].attrs)})


def test_good_data_pass():
    report = data.check(good())
    assert report.findings == [] and report.ok and report.raise_if_errors() is report


@pytest.mark.parametrize(
    ("kind", "severity", "variable", "change"),
    [
        ("nan_forcing", "error", "prcp", lambda x: x * np.nan),
        ("nan_discharge", "info", "discharge", lambda x: x * np.nan),
        ("infinite", "error", "temp", lambda x: x + np.inf),
        ("negative_rain", "error", "prcp", lambda x: x - 100),
        ("negative_flow", "error", "discharge", lambda x: x - 999),
        ("rain_too_high", "warning", "prcp", lambda x: x + 3000),
        ("pet_too_high", "warning", "pet", lambda x: x + 50),
        ("negative_pet", "warning", "pet", lambda x: x - 50),
        ("temperature_range", "error", "temp", lambda x: x + 273.15),
        ("day_length_range", "error", "dayl", lambda x: x * 3600),
        ("tmin_above_tmax", "warning", "tmin", lambda x: x + 40),
    ],
)
def test_values(kind, severity, variable, change):
    report = data.check(spoiled(variable, change))
    finding = next(f for f in report.findings if f.kind == kind)
    assert (finding.severity, finding.basin, finding.variable, finding.count) == (severity, "b", variable, 10)
    assert finding.first == "1990-04-11"
    assert report.ok == (severity != "error")


@pytest.mark.parametrize(
    ("kind", "severity", "make"),
    [
        ("gap", "error", lambda ds: ds.drop_isel(time=[5, 6, 300])),
        ("duplicate_dates", "error", lambda ds: ds.isel(time=np.r_[0:10, 9, 10:1000])),
        ("unsorted", "error", lambda ds: ds.isel(time=np.r_[500:1000, 0:500])),
        ("short_record", "warning", lambda ds: ds.isel(time=slice(400))),
        ("empty", "error", lambda ds: ds.isel(time=slice(0))),
        ("missing_variable", "error", lambda ds: ds.drop_vars("prcp")),
        ("structure", "error", lambda ds: ds.rename(time="when")),
        ("units", "error", lambda ds: ds.assign(temp=ds["temp"].assign_attrs(units="K"))),
        ("all_nan", "error", lambda ds: ds.assign(pet=ds["pet"] * np.nan)),
        ("flow_unit", "error", lambda ds: ds.assign(discharge=ds["discharge"] * 30)),
        ("runoff_ratio", "warning", lambda ds: ds.assign(discharge=ds["discharge"] * 3)),
        ("runoff_ratio", "warning", lambda ds: ds.assign(discharge=ds["discharge"] * 1e-3)),
        ("constant_flow", "warning", lambda ds: ds.assign(discharge=ds["discharge"] * 0 + 0.5)),
        ("zero_spell", "warning", lambda ds: ds.assign(discharge=ds["discharge"] * 0)),
        ("swapped_columns", "error", lambda ds: ds.assign(prcp=ds["temp"])),
        ("duplicate_basin", "error", lambda ds: ds.assign_coords(basin=["a", "a"])),
    ],
)
def test_whole_series(kind, severity, make):
    attrs = {n: v.attrs for n, v in good(0.1).data_vars.items()}
    ds = make(good())
    for name in ds.data_vars:
        ds[name].attrs = ds[name].attrs or attrs[name]
    found = [f for f in data.check(ds).findings if f.kind == kind]
    assert found and found[0].severity == severity and found[0].message


def test_uneven_steps():
    hours = good(years=2.2, basins=("a",), step_hours=6)
    mixed = hours.isel(time=np.r_[0:200, 200:2000:4])
    report = data.check(mixed)
    assert {"uneven_steps", "gap"} & set(report.kinds("error"))


def test_report_forms():
    report = data.check(spoiled("prcp", lambda x: x - 100))
    assert "negative_rain" in report.to_text() and "basin b" in report.to_text()
    assert json.loads(json.dumps(report.to_dict()))["ok"] is False
    with pytest.raises(DataError, match="negative_rain"):
        report.raise_if_errors()
    assert "more" in report.to_text(limit=0)


def test_longest_constant_run_is_counted_in_days():
    ds = spoiled("discharge", lambda x: x * 0 + 0.7, slice(100, 170))
    finding = next(f for f in data.check(ds).findings if f.kind == "constant_flow")
    assert finding.count == 70 and finding.first == "1990-04-11"


def test_fill_gaps_inserts_and_records():
    whole = good()
    holed = whole.drop_isel(time=[50, 51, 200])
    full = data.fill_gaps(holed)
    assert full.sizes == whole.sizes
    np.testing.assert_array_equal(full["prcp"].values[50:52], 0.0)
    around = whole["temp"].values[[49, 52]]
    np.testing.assert_allclose(full["temp"].values[50], around[0] + (around[1] - around[0]) / 3)
    assert np.isnan(full["discharge"].values[50]).all()
    assert any("3 missing step(s) inserted" in line for line in data.notes(full))
    assert not data.check(full).kinds("error")
    assert full["temp"].attrs["units"] == "degC"


@pytest.mark.parametrize("method", ["zero", "linear", "previous"])
def test_fill_methods(method):
    ds = spoiled("prcp", lambda x: x * np.nan, slice(100, 103))
    got = data.fill_gaps(ds, {"prcp": method})["prcp"].values[100:103, 1]
    left, right = ds["prcp"].values[[99, 103], 1]
    want = {
        "zero": np.zeros(3),
        "linear": left + (right - left) * np.array([1, 2, 3]) / 4,
        "previous": left + np.zeros(3),
    }
    np.testing.assert_allclose(got, want[method], atol=1e-12)


@pytest.mark.parametrize("method", ["swap", "mean"])
def test_swap_t(method):
    ds = spoiled("tmin", lambda x: x + 40)
    mended = data.swap_t(ds, method)
    assert not bool((mended["tmin"] > mended["tmax"]).any())
    np.testing.assert_allclose(mended["tmin"] + mended["tmax"], ds["tmin"] + ds["tmax"])
    assert any("10 step(s), basin b" in line for line in data.notes(mended))
    assert mended["tmin"].attrs["units"] == "degC"
