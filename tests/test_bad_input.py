"""Bad input, one entry of `CASES` per kind: what goes in, and what the user must be told.

``run`` gets a folder to write to and does what a user would do. ``says`` are texts that the error has to contain
(culprit and remedy). A case with ``noted`` instead must be treated, not refused, and leave that text in the notes; with
``found`` it must be read and reported by `check` under that kind.
"""

import gzip
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from udehydro import data
from udehydro.errors import UdehydroError


@dataclass(frozen=True)
class Case:
    name: str
    run: Callable
    says: tuple[str, ...] = ()
    noted: str = ""
    found: str = ""
    error: type[Exception] = UdehydroError
    patch: Callable | None = field(default=None)


def days(n=20, start="2000-01-01"):
    return [str(d.date()) for d in pd.date_range(start, periods=n)]


def frame(n=20, **columns):
    base = {
        "date": days(n),
        "prcp(mm/d)": [1.0 + (i % 7) for i in range(n)],
        "temp(C)": [float(i % 9) for i in range(n)],
    }
    return pd.DataFrame(base | columns)


def text(content, name="rain.csv", **options):
    """A file with this content, read as a table."""

    def run(folder: Path):
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return data.read(path, **options)

    return run


def table(change=None, n=20, name="rain.csv", columns=None, **options):
    """A good table after ``change(frame)``, written and read."""

    def run(folder: Path):
        good = frame(n, **(columns or {}))
        good = good if change is None else change(good)
        good.to_csv(folder / name, index=False)
        return data.read(folder / name, **options)

    return run


def put(column, row, value):
    def change(good):
        good = good.astype({column: object})
        good.loc[row, column] = value
        return good

    return change


def netcdf(change, **options):
    def run(folder):
        change(data.from_frame(frame(), lat=50.0)).to_netcdf(folder / "rain.nc")
        return data.read(folder / "rain.nc", **options)

    return run


def basins(change=None, basins="all", ids=("01013500", "01022500"), **options):
    """A folder with a table per basin."""

    def run(folder):
        for id_ in ids:
            frame().to_csv(folder / f"{id_}.csv", index=False)
        if change:
            change(folder)
        return data.read(folder, basins, **options)

    return run


def camels(change):
    def run(folder):
        from test_data_camels import write_attributes, write_camels

        write_attributes(write_camels(folder))
        change(folder)
        return data.read(folder, ["01013500"])

    return run


def caravan(change):
    def run(folder):
        from test_data_caravan import write_caravan

        change(write_caravan(folder, "csv"))
        return data.read(folder, ["camels_01013500"])

    return run


def edit(pattern, old, new):
    def change(folder):
        for path in sorted(folder.glob(pattern)):
            path.write_text(path.read_text().replace(old, new))

    return change


def remove(pattern):
    def change(folder):
        for path in folder.glob(pattern):
            path.unlink()

    return change


def write(name, content):
    def change(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)

    return change


def long(**columns):
    """Three years, for what only `check` can see."""
    weather = data.weather(1100, seed=1)
    values = {
        "date": weather.indexes["time"],
        "prcp(mm/d)": weather["prcp"].values[:, 0],
        "temp(C)": weather["temp"].values[:, 0],
    }
    values["Q(mm/d)"] = 0.4 * weather["prcp"].rolling(time=30, min_periods=1).mean().values[:, 0] + 0.01

    def run(folder):
        whole = pd.DataFrame(values)
        for name, change in columns.items():
            header = {"rain": "prcp(mm/d)", "flow": "Q(mm/d)", "temp": "temp(C)"}.get(
                name, name.replace("__", "(") + ")"
            )
            whole[header] = change(whole[header] if header in whole else whole["temp(C)"])
        whole.to_csv(folder / "long.csv", index=False)
        return data.read(folder / "long.csv")

    return run


def at(rows, value):
    def change(series):
        series = series.copy()
        series.iloc[rows] = value
        return series

    return change


def without(module):
    """Pretend that a package is not installed."""
    real = importlib.util.find_spec
    return lambda mp: mp.setattr(importlib.util, "find_spec", lambda n, *a: None if n == module else real(n, *a))


HEAD = "date,prcp(mm/d)\n"
ROWS = "2000-01-01,1\n2000-01-02,2\n2000-01-03,3\n"

FILES = [
    Case("missing file", lambda f: (table()(f), data.read(f / "rian.csv")), ("rian.csv", "rain.csv", "Did you mean")),
    Case("missing folder", lambda f: data.read(f / "no" / "such"), ("such", "no such file or folder")),
    Case("empty file", text(""), ("rain.csv", "empty")),
    Case("only comments", text("# a\n# b\n"), ("rain.csv", "empty")),
    Case("header only", text(HEAD), ("rain.csv", "no rows", "prcp(mm/d)")),
    Case("binary junk", text(bytes(range(256)) * 8), ("rain.csv", "not a text table")),
    Case("unknown suffix", text(HEAD + ROWS, "rain.xyz"), (".xyz", ".csv", ".parquet")),
    Case("wrong separator", text("date|prcp(mm/d)\n2000-01-01|1\n"), ("only one column", "semicolon")),
    Case("spaces as separator", text("date prcp\n2000-01-01 1\n"), ("only one column", "comma")),
    Case("corrupt gzip", text(b"\x1f\x8b\x08" + b"junk" * 9, "rain.csv.gz"), ("rain.csv.gz", "unpack")),
    Case(
        "truncated gzip",
        text(gzip.compress((HEAD + ROWS * 9999).encode(), mtime=0)[:-400], "rain.csv.gz"),
        ("rain.csv.gz",),
    ),
    Case("no gzip at all", text(HEAD + ROWS, "rain.csv.gz"), ("rain.csv.gz", "unpack")),
    Case("junk named NetCDF", text("hello" * 99, "rain.nc"), ("rain.nc", "not a readable NetCDF")),
    Case("junk named Parquet", text("hello" * 99, "rain.parquet"), ("rain.parquet", "Parquet")),
    Case(
        "Parquet without pyarrow",
        text("x", "rain.parquet"),
        ("pyarrow", 'pip install "udehydro[scale]"'),
        patch=without("pyarrow"),
    ),
    Case(
        "Zarr without zarr",
        lambda f: ((f / "a.zarr").mkdir(), (f / "a.zarr" / "zarr.json").write_text("{}"), data.read(f / "a.zarr")),
        ("zarr", 'pip install "udehydro[scale]"'),
        patch=without("zarr"),
    ),
    Case("empty folder", lambda f: data.read(f), ("no tables found", "empty", "<id>.csv")),
    Case("folder of other files", lambda f: ((f / "a.doc").write_text("x"), data.read(f)), ("a.doc", "<id>.csv")),
]

COLUMNS = [
    Case("duplicate columns", text("date,Q(mm/d),Q(mm/d)\n2000-01-01,1,2\n"), ("Q(mm/d)", "2 times")),
    Case("more fields than names", text(HEAD + "2000-01-01,1,5\n2000-01-02,2,5\n"), ("2 columns", "3")),
    Case("ragged row", text(HEAD + ROWS + "2000-01-04,1,7,8,9\n"), ("rain.csv", "regular table")),
    Case("decimal commas in a comma table", text(HEAD + "2000-01-01,1,5\n"), ("decimal commas",)),
    Case("missing date column", table(lambda t: t.drop(columns="date")), ("no date column", "prcp(mm/d)", "time='")),
    Case("two date columns", table(columns={"time": days()}), ("'date', 'time'", "time='date'")),
    Case("date column misnamed", table(time="dat"), ("time='dat'", "'date'")),
    Case(
        "no known column",
        table(lambda t: t.rename(columns=lambda c: "date" if c == "date" else "x" + c)),
        ("columns={",),
    ),
    Case(
        "mapping to a missing column",
        text(HEAD + ROWS, columns={"prcp": "rain"}),
        ("'rain'", "Columns found: prcp(mm/d)"),
    ),
    Case("mapping of an unknown variable", text(HEAD + ROWS, columns={"rain": "prcp"}), ("'rain'", "prcp", "extra=")),
    Case("ambiguous alias", table(columns={"rain(mm/d)": 1.0}), ("prcp(mm/d)", "rain(mm/d)", "columns={'prcp'")),
    Case("extra column missing", table(extra=["sca"]), ("sca", "Columns found")),
    Case(
        "text in a number column",
        table(put("prcp(mm/d)", 3, "trace")),
        ("trace", "2000-01-04", "prcp(mm/d)", "missing="),
    ),
    Case("thousands separator", table(put("prcp(mm/d)", 3, "1'000")), ("1'000", "2000-01-04")),
    Case("sentinel -999", table(put("prcp(mm/d)", 3, -999)), noted="1 value(s) -999 read as missing"),
    Case("sentinel -999 is then a hole in the forcing", table(put("prcp(mm/d)", 3, -999)), found="nan_forcing"),
    Case("sentinel of their own", table(put("prcp(mm/d)", 3, "n/k"), missing="n/k"), noted="'n/k' read as missing"),
    Case("unused columns are said", table(columns={"sca": 1.0}), noted="columns not used: sca"),
]

DATES = [
    Case("unparseable date", table(put("date", 4, "5th of May")), ("5th of May", "row 5", "YYYY-MM-DD")),
    Case("no dates at all", table(lambda t: t.assign(date="spring")), ("spring", "YYYY-MM-DD")),
    Case("empty date", table(put("date", 4, "")), ("row 5", "empty")),
    Case("30 February", table(put("date", 4, "2000-02-30")), ("2000-02-30", "row 5")),
    Case("two-digit years", text(HEAD + "13.01.99,1\n14.01.99,1\n"), ("13.01.99", "four-digit")),
    Case("ambiguous day and month", text(HEAD + "03/04/1999,1\n04/04/1999,1\n"), ("03/04/1999", "dayfirst=True")),
    Case("dayfirst against the record", text(HEAD + "03/14/1999,1\n03/15/1999,1\n", dayfirst=True), ("03/14/1999",)),
    Case("mixed order", text(HEAD + "03/14/1999,1\n15/03/1999,1\n"), ("cannot be read", "row 1")),
    Case("bad month column", text("Year,Month,Day,P(mm)\n2000,13,1,1\n"), ("2000-13-1", "row 1")),
    Case("unsorted", table(lambda t: t.iloc[::-1]), noted="rows were not in order"),
    Case("identical duplicates", table(lambda t: pd.concat([t, t.iloc[[4]]])), noted="duplicate row(s) with identical"),
    Case(
        "conflicting duplicates",
        table(lambda t: pd.concat([t, t.iloc[[4]].assign(**{"prcp(mm/d)": 99})])),
        ("twice", "2000-01-05"),
    ),
    Case("gap", table(lambda t: t.drop(index=[4, 5])), ("gap", "2000-01-05", "2 step(s)", "fill_gaps")),
    Case("gap kept", table(lambda t: t.drop(index=[4, 5]), gaps="keep"), found="gap"),
    Case("gaps option misspelt", table(gaps="fill"), ("fill", "'keep'")),
    Case(
        "gap too long to fill",
        lambda f: data.fill_gaps(table(lambda t: t.drop(index=range(4, 12)), gaps="keep")(f)),
        ("8 steps", "2000-01-05", "max_steps"),
    ),
    Case(
        "mixed steps",
        text(HEAD + "".join(f"2000-01-{d:02d},1\n" for d in range(1, 9)) + "2000-01-08 01:00,1\n2000-01-08 02:00,1\n"),
        ("different length", "2000-01-08"),
    ),
    Case(
        "zone-aware time stamps",
        table(lambda t: t.assign(date=t["date"] + "T00:00:00+01:00")),
        noted="zone '+01:00' dropped",
    ),
    Case(
        "daylight saving",
        text(HEAD + "2000-03-26T01:00+01:00,1\n2000-03-26T03:00+02:00,1\n2000-03-26T04:00+02:00,1\n"),
        noted="converted to UTC",
    ),
]

UNITS = [
    Case(
        "no unit",
        table(lambda t: t.rename(columns={"prcp(mm/d)": "prcp"})),
        ("'prcp' (prcp) has no unit", "units={'prcp': 'mm/d'}"),
    ),
    Case("unknown unit", table(lambda t: t.rename(columns={"prcp(mm/d)": "prcp(furlong)"})), ("furlong", "mm/d, mm/h")),
    Case("unit of another kind", table(units={"temp": "mm/d"}), ("temp(C)", "mm/d", "degC, K")),
    Case("units of the wrong type", table(units="metric"), ("metric", "canonical")),
    Case("m3/s without area", table(columns={"Q(m3/s)": 1.0}), ("Q(m3/s)", "area=<km2>")),
    Case("cfs without area", table(columns={"Q(cfs)": 1.0}), ("Q(cfs)", "area=<km2>")),
    Case("negative area", table(columns={"Q(m3/s)": 1.0}, area=-5.0), ("area=-5", "positive")),
    Case("latitude out of range", table(lat=123.0), ("lat=123", "-90 to 90")),
    Case("radiation sum without day length", table(columns={"srad(MJ/m2/d)": 9.0}), ("srad", "dayl(h)")),
    Case(
        "depth per uneven step",
        table(
            lambda t: t.rename(columns={"prcp(mm/d)": "P(mm)"}).assign(date=[*days(19), "2000-01-19 12:00"]),
            gaps="keep",
        ),
        ("mm per step",),
    ),
    Case("NetCDF without units", netcdf(lambda ds: ds.drop_attrs()), ("prcp", "no unit", "units=")),
    Case("NetCDF without time", netcdf(lambda ds: ds.isel(time=0, drop=True)), ("no time dimension", "basin")),
    Case(
        "NetCDF with integer time",
        netcdf(lambda ds: ds.drop_attrs().assign_coords(time=np.arange(20))),
        ("no dates", "days since"),
    ),
    Case("NetCDF on a grid", netcdf(lambda ds: ds.expand_dims(x=3)), ("x", "average over")),
    Case("NetCDF with a gap", netcdf(lambda ds: ds.drop_isel(time=[3])), ("gap", "2000-01-04")),
]

BASINS = [
    Case("unknown basin", basins(basins=["0101350"]), ("0101350", "Did you mean '01013500'")),
    Case("leading zero lost", basins(basins=["1013500"]), ("'01013500'", "leading zeros")),
    Case("id given as a number", basins(basins=[1013500]), ("'01013500'", "leading zeros")),
    Case("basin not said", basins(basins=None), ("2 basins", "basins='all'")),
    Case("no basin asked", basins(basins=[]), ("selects nothing",)),
    Case("basin asked twice", basins(basins=["01013500", "01013500"]), ("01013500", "twice")),
    Case(
        "two files for a basin", basins(write("01013500.tsv", "date\tprcp(mm/d)\n")), ("01013500.csv", "01013500.tsv")
    ),
    Case("one area for many", basins(area=5.0), ("area=", "mapping")),
    Case(
        "area column missing",
        basins(write("basins.csv", "id,area\n01013500,1\n"), area_column="size"),
        ("size", "area"),
    ),
    Case("negative area in the table", basins(write("basins.csv", "id,area\n01013500,-1\n")), ("area=-1",)),
    Case("latitude in the table", basins(write("basins.csv", "id,lat\n01013500,-123\n")), ("lat=-123", "swapped")),
    Case("station table without ids", basins(write("basins.csv", "size,lat\n5,3\n")), ("basins.csv", "gauge_id")),
    Case("station twice in the table", basins(write("basins.csv", "id,lat\n01,3\n01,3\n")), ("'01'", "two rows")),
    Case(
        "attributes lack a basin",
        basins(write("attributes/a.csv", "id,clay\n01013500,3\n")),
        noted="none for basin 01022500",
    ),
    Case(
        "periods that differ", basins(lambda f: frame(9).to_csv(f / "01022500.csv", index=False)), noted="shorter than"
    ),
    Case(
        "periods that do not meet",
        basins(lambda f: frame(9, date=days(9, "2010-01-01")).to_csv(f / "01022500.csv", index=False)),
        ("basins together", "gap"),
    ),
    Case("single file of other basins", netcdf(lambda ds: ds, basins=["a", "b"]), ("unknown basin",)),
]

COLLECTIONS = [
    Case(
        "CAMELS lacking streamflow",
        camels(remove("usgs_streamflow/**/*.txt")),
        ("01013500_streamflow_qc.txt", "usgs_streamflow"),
    ),
    Case("CAMELS lacking the forcing", lambda f: data.read_camels_us(f), ("basin_mean_forcing",)),
    Case(
        "CAMELS forcing source misspelt",
        lambda f: (camels(lambda g: None)(f), data.read(f, forcing="dayment")),
        ("dayment", "daymet"),
    ),
    Case(
        "CAMELS header damaged",
        camels(edit("basin_mean_forcing/**/*.txt", "250.00\n", "high\n")),
        ("first three lines", "elevation"),
    ),
    Case(
        "CAMELS flow with text", camels(edit("usgs_streamflow/**/*.txt", "  101.00", "  Ice   ")), ("Ice", "1999-12-06")
    ),
    Case(
        "CAMELS gap in the forcing",
        camels(edit("basin_mean_forcing/**/*.txt", "1999 12 05", "1999 12 04")),
        ("twice", "1999-12-04"),
    ),
    Case("CAMELS flag unknown", camels(edit("usgs_streamflow/**/*.txt", "A:e", "Zz")), noted="unknown flag 'Zz'"),
    Case("CAMELS attributes missing", camels(remove("camels_attributes_v2.0/*")), noted="none attached"),
    Case(
        "CAMELS area column unknown",
        lambda f: (camels(lambda g: None)(f), data.read(f, area="size")),
        ("size", "area_gages2"),
    ),
    Case("CAMELS id without zero", lambda f: (camels(lambda g: None)(f), data.read(f, ["1013500"])), ("'01013500'",)),
    Case(
        "Caravan without rain",
        caravan(edit("timeseries/csv/camels/*.csv", "total_precip", "tp")),
        ("total_precipitation_sum",),
    ),
    Case("Caravan without attributes", caravan(remove("attributes/camels/*")), noted="none attached"),
    Case("Caravan without time series", lambda f: data.read_caravan(f), ("timeseries/netcdf",)),
]

CHECKED = [
    Case("all-NaN column", long(temp=lambda x: x * np.nan), found="all_nan"),
    Case("infinite value", long(temp=at(slice(5, 6), np.inf)), found="infinite"),
    Case("negative rain", long(rain=at(slice(5, 9), -1.0)), found="negative_rain"),
    Case("negative flow", long(flow=at(slice(5, 9), -1.0)), found="negative_flow"),
    Case("temperature in Kelvin called Celsius", long(temp=lambda x: x + 273.15), found="temperature_range"),
    Case("day length in seconds called hours", long(dayl__h=lambda x: x * 0 + 43200.0), found="day_length_range"),
    Case("flow in m3/s called mm/d", long(flow=lambda x: x * 30), found="flow_unit"),
    Case("rain and temperature swapped", long(rain=lambda x: np.linspace(-9, 15, len(x))), found="swapped_columns"),
    Case("stuck gauge", long(flow=at(slice(200, 300), 0.5)), found="constant_flow"),
    Case("record too short", table(), found="short_record"),
    Case("rain in tenths of mm", long(rain=at(slice(4, 5), 2500.0)), found="rain_too_high"),
    Case("tmin above tmax", table(columns={"tmin(C)": 9.0, "tmax(C)": 1.0}), found="tmin_above_tmax"),
    Case("NaN in the forcing", long(rain=at(slice(4, 8), np.nan)), found="nan_forcing"),
]

TREATMENTS = [
    Case("PET without latitude", lambda f: data.add_pet(table()(f)), ("latitude", "lat=")),
    Case("PET without temperature", lambda f: data.add_pet(text(HEAD + ROWS, lat=50.0)(f)), ("temp", "oudin")),
    Case("PET method misspelt", lambda f: data.add_pet(table(lat=50.0)(f), "oudine"), ("oudine", "oudin, hamon")),
    Case(
        "Hargreaves with tmin above tmax",
        lambda f: data.add_pet(table(columns={"tmin(C)": 9.0, "tmax(C)": 1.0}, lat=50.0)(f), "hargreaves"),
        ("tmin", "swap_t"),
    ),
    Case("day length without latitude", lambda f: data.add_day_length(table()(f)), ("latitude", "lat=")),
    Case("swap_t without tmin", lambda f: data.swap_t(table()(f)), ("tmin",)),
    Case("fill method misspelt", lambda f: data.fill_gaps(table()(f), "cubic"), ("cubic", "linear")),
    Case("missing at the start", lambda f: data.fill_gaps(table(put("prcp(mm/d)", 0, ""))(f)), ("start", "ds.sel")),
    Case(
        "demo without spotpy",
        lambda f: data.fulda(),
        ("spotpy", 'pip install "udehydro[demo]"'),
        patch=without("spotpy"),
    ),
]

CASES = [*FILES, *COLUMNS, *DATES, *UNITS, *BASINS, *COLLECTIONS, *CHECKED, *TREATMENTS]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_bad_input(case, tmp_path, monkeypatch):
    if case.patch:
        case.patch(monkeypatch)
    if case.says:
        with pytest.raises(case.error) as caught:
            case.run(tmp_path)
        for part in case.says:
            assert part in str(caught.value)
        return
    ds = case.run(tmp_path)
    if case.noted:
        assert any(case.noted in line for line in data.notes(ds)), data.notes(ds)
    if case.found:
        finding = next((f for f in data.check(ds).findings if f.kind == case.found), None)
        assert finding is not None, data.check(ds).to_text()
        assert finding.message


def test_enough_kinds():
    assert len({c.name for c in CASES}) == len(CASES) >= 40
    assert all(c.says or c.noted or c.found for c in CASES)
