"""Tables of one basin and folders of them: formats, names, units, dates."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from udehydro import data
from udehydro.data.names import split_unit
from udehydro.data.units import normalise
from udehydro.errors import DataError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
DAYS = pd.date_range("2000-01-01", periods=20, freq="D")


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"real data needed: there is no {path}")
    return path


def table(n=20, **columns):
    rng = np.random.default_rng(1)
    base = {"date": DAYS[:n].strftime("%Y-%m-%d"), "prcp(mm/d)": rng.exponential(3.0, n).round(3)}
    return pd.DataFrame(base | columns)


@pytest.mark.parametrize(
    ("header", "name", "unit"),
    [
        ("prcp(mm/day)", "prcp", "mm/day"),
        ("rainfall[mm]", "rainfall", "mm"),
        ("TURC [mm d-1]", "TURC", "mm d-1"),
        ("Q", "Q", None),
        ("P_mm_h", "P_mm_h", None),
        ("flow ()", "flow", None),
    ],
)
def test_unit_in_header(header, name, unit):
    assert split_unit(header) == (name, unit)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("mm d-1", "mm/d"), ("mm/day", "mm/d"), ("mm h-1", "mm/h"), ("ls-1", "L/s"), ("m³/s", "m3/s"), ("°C", "degC"),
        ("deg C", "degC"), ("W/m^2", "W/m2"), ("W m-2", "W/m2"), ("hPa", "hPa"), ("kelvin", "K"), ("ft3/s", "cfs"),
        ("kg m-2 s-1", "kg/m2/s"), ("furlong", None),
    ],
)  # fmt: skip
def test_unit_spellings(text, unit):
    assert normalise(text) == unit


@pytest.mark.parametrize(
    ("column", "raw", "name", "expected"),
    [
        ("P (mm/h)", 1.0, "prcp", 24.0),
        ("P (inch/day)", 1.0, "prcp", 25.4),
        ("P [mm]", 2.0, "prcp", 2.0),
        ("Q (m3/s)", 1.0, "discharge", 8.64),  # 86.4 / 10 km2
        ("Q (L/s)", 1000.0, "discharge", 8.64),
        ("Q (cfs)", 1.0, "discharge", 8.64 * 0.028316846592),
        ("T (K)", 273.15, "temp", 0.0),
        ("T (F)", 212.0, "temp", 100.0),
        ("vp (hPa)", 10.0, "vp", 1000.0),
        ("dayl (s)", 43200.0, "dayl", 12.0),
    ],
)
def test_conversion(column, raw, name, expected):
    frame = pd.DataFrame({"date": DAYS, column: raw})
    ds = data.from_frame(frame, area=10.0)
    assert ds[name].dims == ("time", "basin")
    np.testing.assert_allclose(ds[name], expected, rtol=1e-12, atol=1e-12)
    converted = any(name in line and "converted" in line for line in data.notes(ds))
    assert converted == (raw != expected)


def test_radiation_sum_needs_day_length():
    frame = pd.DataFrame({"date": DAYS, "srad (MJ/m2/d)": 10.8, "dayl (h)": 12.0})
    # 10.8 MJ spread over 12 h is 250 W
    np.testing.assert_allclose(data.from_frame(frame)["srad"], 250.0)
    with pytest.raises(DataError, match="day length"):
        data.from_frame(frame.drop(columns="dayl (h)"))


@pytest.mark.parametrize("kind", ["csv", "tsv", "semicolon", "comma decimals", "gz", "parquet", "nc", "zarr", "frame"])
def test_every_format_gives_the_same(tmp_path, kind):
    frame = table(**{"temp(degC)": np.linspace(-3, 4, 20).round(2), "Q(m3/s)": np.r_[np.nan, np.linspace(1, 2, 19)]})
    want = data.from_frame(frame, area=100.0, basin="007", lat=50.0)
    path = {
        "csv": "007.csv", "tsv": "007.tsv", "semicolon": "007.csv", "comma decimals": "007.csv", "gz": "007.csv.gz",
        "parquet": "007.parquet", "nc": "007.nc", "zarr": "007.zarr", "frame": "",
    }[kind]  # fmt: skip
    path = tmp_path / path
    if kind in ("csv", "gz"):
        frame.to_csv(path, index=False)
    elif kind == "tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif kind == "semicolon":
        frame.to_csv(path, index=False, sep=";")
    elif kind == "comma decimals":
        frame.to_csv(path, index=False, sep=";", decimal=",")
    elif kind == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    elif kind == "frame":
        got = data.from_frame(
            frame.set_index("date").rename_axis("date").reset_index(), area=100.0, basin="007", lat=50.0
        )
    if kind in ("nc", "zarr"):
        if kind == "zarr":
            pytest.importorskip("zarr")
        getattr(want, {"nc": "to_netcdf", "zarr": "to_zarr"}[kind])(path)
        got = data.read(path)
    elif kind != "frame":
        got = data.read_table(path, area=100.0, lat=50.0)
    assert list(got["basin"].values) == ["007"]
    xr.testing.assert_allclose(got.drop_attrs(), want.drop_attrs())
    for name in want.data_vars:
        assert got[name].dtype == np.float64
        assert got[name].attrs == want[name].attrs
    assert got.attrs["interval_days"] == 1.0


def test_contract_attributes():
    ds = data.from_frame(table(), lat=47.0, area=3.0)
    assert ds["prcp"].attrs == {
        "units": "mm/d", "long_name": "precipitation rate", "standard_name": "lwe_precipitation_rate",
    }  # fmt: skip
    assert ds["lat"].attrs["units"] == "degrees_north"
    assert ds["time"].dtype == "datetime64[ns]"
    assert ds["prcp"].dims == ("time", "basin")


def test_hourly_depths_become_rates():
    time = pd.date_range("2000-01-01", periods=48, freq="h")
    ds = data.from_frame(pd.DataFrame({"time": time, "P [mm]": 1.0}))
    assert ds.attrs["interval_days"] == pytest.approx(1 / 24)
    np.testing.assert_allclose(ds["prcp"], 24.0)
    assert "step of 1 h" in data.notes(ds)[0]


def test_unit_row_below_header(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("date,Prec,Q\n#,mm/day,m³/s\n13.01.1999,1,2\n14.01.1999,2,3\n", encoding="utf-8")
    ds = data.read_table(path, area=86.4)
    np.testing.assert_allclose(ds["discharge"].values[:, 0], [2.0, 3.0])
    assert any("day first" in line for line in data.notes(ds))


def test_mean_temperature_is_derived_and_said():
    ds = data.from_frame(pd.DataFrame({"date": DAYS, "tmin(C)": 1.0, "tmax(C)": 4.0}))
    np.testing.assert_allclose(ds["temp"], 2.5)
    assert "temp: derived as (tmin + tmax) / 2" in data.notes(ds)


def test_units_by_argument_and_extra_columns():
    frame = pd.DataFrame({"date": DAYS, "P_mm_h": 1.0, "SCA1": 0.5, "junk": 3.0})
    ds = data.from_frame(frame, columns={"prcp": "P_mm_h"}, units={"prcp": "mm/h"}, extra=["SCA1"])
    np.testing.assert_allclose(ds["prcp"], 24.0)
    np.testing.assert_allclose(ds["SCA1"], 0.5)
    assert any("junk" in line for line in data.notes(ds))


@pytest.mark.parametrize(
    "texts",
    [
        ["13/01/1999", "14/01/1999"], ["01/13/1999", "01/14/1999"], ["1999-01-13", "1999-01-14"],
        ["1999/1/13", "1999/1/14"], ["19990113", "19990114"], ["13.1.1999 00:00", "14.1.1999 00:00"],
        ["1999-01-13T00:00:00Z", "1999-01-14T00:00:00Z"], ["1999-01-13 00:00+02:00", "1999-01-14 00:00+01:00"],
    ],
)  # fmt: skip
def test_dates(texts):
    ds = data.from_frame(pd.DataFrame({"date": texts, "prcp(mm/d)": [1.0, 2.0]}))
    assert list(ds.indexes["time"]) == [pd.Timestamp("1999-01-13"), pd.Timestamp("1999-01-14")]


def test_day_first_is_obeyed():
    frame = pd.DataFrame({"date": ["03/04/1999", "04/04/1999"], "prcp(mm/d)": [1.0, 2.0]})
    assert data.from_frame(frame, dayfirst=True).indexes["time"][0] == pd.Timestamp("1999-04-03")


def test_year_month_day_columns():
    frame = pd.DataFrame({"Year": 1999, "Mnth": 1, "Day": [13, 14], "Hr": 12, "prcp(mm/day)": 1.0})
    ds = data.from_frame(frame)
    assert ds.indexes["time"][0] == pd.Timestamp("1999-01-13")
    assert any("constant hour" in line for line in data.notes(ds))


def folder(tmp_path, **files):
    for name, frame in files.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


def test_folder_joins_periods_and_attributes(tmp_path):
    folder(tmp_path, **{"0012": table(), "0034": table(10)})
    (tmp_path / "basins.csv").write_text("gauge_id,area,gauge_lat,soil\n0012,5,40,clay\n0034,7,41,\n")
    ds = data.read(tmp_path, basins="all")
    assert dict(ds.sizes) == {"time": 20, "basin": 2}
    assert np.isnan(ds["prcp"].sel(basin="0034").values[10:]).all()
    assert any("shorter" in line and "0034" in line for line in data.notes(ds))
    assert list(ds["area"].values) == [5.0, 7.0]
    assert list(ds["soil"].values) == ["clay", ""]
    assert "different_periods" in data.check(ds).kinds()
    assert list(data.read(tmp_path, basins=["0034"])["basin"].values) == ["0034"]


def test_single_basin_folder_needs_no_id(tmp_path):
    assert data.read(folder(tmp_path, only=table()))["basin"].item() == "only"


def test_area_of_the_table_converts_flow(tmp_path):
    folder(tmp_path, a=table(**{"Q(m3/s)": 1.0}))
    (tmp_path / "basins.csv").write_text("id,area_km2\na,86.4\n")
    np.testing.assert_allclose(data.read(tmp_path)["discharge"], 1.0)


def test_round_trip_of_a_folder_through_netcdf(tmp_path):
    folder(tmp_path, **{"01": table(), "02": table()})
    (tmp_path / "basins.csv").write_text("id,area_km2,kind\n01,86.4,x\n02,1,y\n")
    ds = data.read(tmp_path, basins="all")
    ds.to_netcdf(tmp_path / "all.nc")
    back = data.read(tmp_path / "all.nc", basins=["02"])
    assert back["basin"].item() == "02"
    assert back["kind"].item() == "y" and set(back.data_vars) == set(ds.data_vars)
    np.testing.assert_array_equal(back["prcp"], ds["prcp"].sel(basin=["02"]))


def test_gzip_is_read_by_content(tmp_path):
    with gzip.open(tmp_path / "b.csv.gz", "wt") as file:
        file.write("date,prcp(mm/d)\n2000-01-01,1\n2000-01-02,2\n")
    assert data.read(tmp_path / "b.csv.gz")["basin"].item() == "b"


def test_dataset_in_memory():
    ds = data.weather(30, seed=1, basins=("01", "02"))
    one = data.from_xarray(ds.isel(basin=1))
    assert one["basin"].values.tolist() == ["02"] and one["lat"].values.tolist() == [45.0]
    renamed = data.from_xarray(ds.rename(time="date", basin="station", prcp="rain"), area=5.0)
    np.testing.assert_array_equal(renamed["prcp"], ds["prcp"])
    assert renamed["area"].values.tolist() == [5.0, 5.0]
    kelvin = ds.assign(temp=(ds["temp"] + 273.15).assign_attrs(units="K"))
    np.testing.assert_allclose(data.from_xarray(kelvin)["temp"], ds["temp"])


def test_real_camels_us():
    path = shared("camels-us")
    ds = data.read(path, basins=["01013500"])
    assert ds.sizes == {"time": 10957, "basin": 1}
    assert data.check(ds).ok
    assert float(ds["prcp"].mean()) * 365.25 == pytest.approx(1135.49, abs=0.01)  # basins.csv
    assert float(ds["frac_snow"].item()) == pytest.approx(0.3134, abs=1e-4)


def test_real_camels_fr_flow_in_two_units():
    path = shared("camels-fr")
    units = {"prcp": "mm/d", "temp": "degC", "pet": "mm/d"}
    one = data.read(path, ["A273011002"], columns={"discharge": "Qmmd"}, units=units | {"discharge": "mm/d"})
    two = data.read(path, ["A273011002"], columns={"discharge": "Qls"}, units=units | {"discharge": "L/s"})
    # three decimals are printed
    np.testing.assert_allclose(one["discharge"], two["discharge"], atol=6e-4)


def test_real_hourly_wye():
    path = shared("wye-hourly") / "wye.csv.gz"
    names = {"prcp": "P_mm_h", "discharge": "Q_mm_h"}
    ds = data.read_table(path, columns=names, units=dict.fromkeys(names, "mm/h"))
    assert ds.sizes["time"] == 17544
    assert float(ds["prcp"].mean()) * 365.25 == pytest.approx(2478, abs=2)
