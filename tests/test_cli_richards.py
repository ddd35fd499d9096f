"""udehydro richards: a soil file end to end, its files against the library's functions, and what it refuses."""

import json
import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import yaml

from udehydro.cli import main
from udehydro.cli.richards import example
from udehydro.cli.richards.answer import of_networks
from udehydro.cli.richards.case import read_case
from udehydro.cli.richards.ends import NAMES
from udehydro.cli.richards.run import bars
from udehydro.cli.richards.sensors import at_edges
from udehydro.cli.richards.soils import LAWS
from udehydro.cli.richards.table import UNITS
from udehydro.cli.richards.values import value
from udehydro.cli.richards.words import in_yaml
from udehydro.errors import ConfigError
from udehydro.richards import pinn
from udehydro.richards.column import Adaptive, Atmospheric, Column, FreeDrainage, Grid, flow
from udehydro.richards.inversion import Free, fit
from udehydro.richards.laws import MonotoneSpline, VanGenuchten, soil_class
from udehydro.richards.pinn import Learned

INTERVALS = 18
PAGE = Path(__file__).resolve().parent.parent / "docs/soil_commands.md"


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["richards", *(str(a) for a in arguments)])
    return end.value.code or 0


@pytest.fixture(scope="module")
def soil(tmp_path_factory) -> Path:
    """The example up to the night after the first storm, with fewer cells and larger steps."""
    folder = tmp_path_factory.mktemp("soil")
    assert call("example", folder) == 0
    rows = (folder / "weather.csv").read_text().splitlines()
    (folder / "weather.csv").write_text("\n".join(rows[: 1 + INTERVALS]))
    return changed(folder / "soil.yaml", grid={"depth": 40, "cells": 10}, tolerance=1e-2)


def changed(path: Path, to: Path | None = None, **settings: object) -> Path:
    """The file with other settings, None being left out, beside it or elsewhere."""
    given = yaml.safe_load(path.read_text()) | settings
    to = to or path
    to.write_text(yaml.safe_dump({n: v for n, v in given.items() if v is not None}, sort_keys=False))
    return to


def with_sensors(path: Path, to: Path, *names: str) -> Path:
    """The file with some of its sensors only."""
    sensors = yaml.safe_load(path.read_text())["sensors"]
    sensors[0]["columns"] = {n: s for n, s in sensors[0]["columns"].items() if n.startswith(names)}
    return changed(path, to, sensors=sensors)


@pytest.fixture(scope="module")
def short(soil: Path) -> Path:
    """The first half day, up to the end of the storm."""
    rows = (soil.parent / "weather.csv").read_text().splitlines()
    (soil.parent / "short.csv").write_text("\n".join(rows[:7]))
    return changed(soil, soil.parent / "short.yaml", weather={"file": "short.csv"})


@pytest.fixture(scope="module")
def fitted(soil: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "fitted"
    assert call("learn", soil, "--column", "--out", out, "-q") == 0
    return out


def test_run_writes_what_flow_returns(soil: Path, tmp_path: Path, capsys):
    values = tmp_path / "p.json"
    truth = {n: v for n, v in example.SOIL.items() if n != "theta_r"} | {"psi0[0]": -80.0, "psi0[1]": -80.0}
    values.write_text(json.dumps(truth))
    out = tmp_path / "out"
    assert call("run", soil, "--parameters", values, "--out", out, "-q") == 0
    assert "Water [cm]: net infiltration" in capsys.readouterr().out
    top = Atmospheric("rain", "evaporation", pond=0.5)
    column = Column(Grid.uniform(40.0, 10), VanGenuchten(), top, FreeDrainage())
    weather = read_case(soil, with_sensors=False).forcing
    np.testing.assert_allclose(weather.values["rain"][4], 14.4, rtol=1e-12)  # 6 mm/h in cm/d
    right = flow(column, weather, example.SOIL, -80.0, steps=Adaptive(1e-2))
    with xr.open_dataset(out / "column.nc", engine="h5netcdf") as ds:
        np.testing.assert_allclose(ds["theta"], right.theta, rtol=1e-10)
        np.testing.assert_allclose(ds["psi"], right.psi, rtol=1e-10)
        assert ds["q"].dims == ("time", "face") and ds["q"].attrs["units"] == "cm/d"
        # fluxes are sums of the balance of cells from the surface down: they have to arrive at the bottom
        np.testing.assert_allclose(ds["q"][:, -1], right.bottom / weather.days, atol=1e-10)
        np.testing.assert_allclose(ds["q"][:, 0], -right.infiltration / weather.days, atol=1e-10)
        assert float(abs(ds["balance_error"]).max()) < 1e-10
    told = json.loads((out / "summary.json").read_text())
    assert told["closed"] and told["balance_error_cm"] < 1e-10
    np.testing.assert_allclose(told["water_cm"]["recharge"], float(right.recharge.sum()), rtol=1e-9)
    assert {p.name for p in (out / "figures").glob("*.png")} == {"theta.png", "psi.png"}
    assert call("run", soil, "--out", out) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_steady_flow_is_the_same_through_all_faces(soil: Path, tmp_path: Path):
    layers = [{"law": "gardner", "theta_r": 0.05, "theta_s": 0.4, "alpha": 0.05, "Ks": 10, "thickness": 20},
              {"class": "loam", "entry": 1}]  # fmt: skip
    steady = changed(soil, soil.parent / "steady.yaml", soil=layers, top={"kind": "flux", "q": -8.0},
                     start={"psi": [-4, -12], "at": [0, 40]})  # fmt: skip
    assert call("run", steady, "--out", tmp_path, "-q") == 0
    with xr.open_dataset(tmp_path / "column.nc", engine="h5netcdf") as ds:
        np.testing.assert_allclose(ds["q"][-1], -8.0, rtol=5e-3)  # after a day and a half


def test_roots_and_a_water_table(soil: Path, tmp_path: Path):
    wet = changed(
        soil, soil.parent / "wet.yaml", soil=[{"class": "sandy loam", "specific_storage": 1e-6}],
        top={"kind": "atmospheric", "rain": "rain"}, bottom={"kind": "water_table", "depth": 30},
        start={"water_table": 30}, roots={"transpiration": "evaporation", "depth": 25, "wilting": -9000},
    )  # fmt: skip
    assert call("run", wet, "--out", tmp_path, "-q") == 0
    with xr.open_dataset(tmp_path / "column.nc", engine="h5netcdf") as ds:
        np.testing.assert_allclose(ds["psi"][0], ds["depth"] - 30.0)
        days = np.diff(ds["time_edge"]) / np.timedelta64(1, "D")
        np.testing.assert_allclose(ds["q"][:, -1], ds["bottom"] / days, atol=1e-9)
        # Feddes' optimum is at -25 cm and drier: of soil this wet roots take less than they might
        assert 0.0 < float(ds["uptake"].sum()) < 0.2 * INTERVALS / 12
        below = np.abs(np.diff(ds["q"][:10, -3:], axis=1))  # saturated cells below all roots
        np.testing.assert_allclose(below, 0.0, atol=1e-4)


def test_gauge_says_what_is_open(short: Path, capsys):
    assert call("gauge", short, "--strict") == 0
    told = capsys.readouterr().out
    assert "psi at 10 cm" in told and "FREE" not in told and "decided" in told
    for said in (
        "rows were not in order",
        "1 duplicate row",
        "-9999 read as missing",
        "moisture 5 cm: 7 of 49 readings used, 42 outside the weather",
    ):
        assert said in told, said
    alone = with_sensors(short, short.parent / "alone.yaml", "moisture")
    assert call("gauge", alone, "--strict") == 1
    captured = capsys.readouterr()
    assert "shift   FREE" in captured.out and "one tensiometer" in captured.out and "open: shift" in captured.err


def test_learn_by_the_column(soil: Path, fitted: Path, tmp_path: Path):
    found = json.loads((fitted / "parameters.json").read_text())
    task = read_case(soil).inversion()
    right = fit(task, gauge="ignore")
    np.testing.assert_allclose([found[n]["value"] for n in right.names], right.values[0], rtol=1e-6)
    np.testing.assert_allclose([found[n]["sd"] for n in right.names], right.sd[0], rtol=1e-4)
    for name, true in example.SOIL.items():
        if name in found:
            off = found[name]["value"] - true
            sd = found[name]["sd"] * (found[name]["value"] if found[name]["relative"] else 1.0)
            # 4 standard deviations, and the error of 10 cells, which is not in them
            assert abs(off) < 4.0 * sd + 0.05 * true, name
    told = json.loads((fitted / "summary.json").read_text())
    assert told["by"] == "the column" and 0.7 < told["chi2_by_reading"] < 2.0  # of cells as thick as the front
    assert told["gauges"]["shift"]["state"] == "decided" and told["sensors"]["moisture 15 cm"]["readings"] == INTERVALS
    curves = pd.read_csv(fitted / "curves.csv")
    assert (np.diff(curves["theta"]) <= 0).all() and (curves["K_low"] <= curves["K_cm_per_d"]).all()
    bands = right.curves(torch.as_tensor(curves["psi_cm"].to_numpy()))
    np.testing.assert_allclose(curves["K_cm_per_d"], bands.log_k.exp(), rtol=1e-3)
    np.testing.assert_allclose(curves["theta_high"] - curves["theta"], 2.0 * bands.theta_sd, rtol=2e-2, atol=1e-6)
    dry, wet = told["visited"][0].values()
    assert (curves["visited"] == curves["psi_cm"].between(dry, wet)).all() and 0 < curves["visited"].sum() < len(curves)
    assert {p.name for p in (fitted / "figures").glob("*.png")} == {"readings.png", "curves.png"}
    assert call("run", soil, "--parameters", fitted / "parameters.json", "--out", tmp_path, "-q") == 0
    with xr.open_dataset(tmp_path / "column.nc", engine="h5netcdf") as ds:
        np.testing.assert_allclose(ds["theta"], right.run().theta, rtol=1e-5)


@pytest.fixture(scope="module")
def networks(soil: Path) -> Learned:
    """Two networks, hardly trained."""
    task = read_case(soil).inversion()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they leak
        return pinn.learn(task, seeds=(0, 1), steps=6, counts=pinn.Counts(60, 10), gauge="ignore", first=pinn.Adam(150))


@pytest.fixture
def trained(networks: Learned, monkeypatch) -> list[dict]:
    """The command is given these networks; what it asked for."""
    asked = []
    monkeypatch.setattr("udehydro.richards.pinn.learn", lambda task, **how: asked.append(how) or networks)
    return asked


def test_learn_by_networks(soil: Path, networks: Learned, trained: list[dict], tmp_path: Path):
    words = ("--seeds", 2, "--steps", 6, "--points", 60, "-q", "--gauge", "ignore", "--no-polish")
    code = call("learn", soil, *words, "--out", tmp_path)
    how = {"steps": 6, "counts": pinn.Counts(60, 10), "gauge": "ignore", "progress": False}
    assert trained == [{"seeds": range(2), **how}]
    told, found = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("summary", "parameters"))
    assert told["by"] == "networks" and told["gauges"] == {}
    assert told["chi2_by_reading"] == pytest.approx(float(networks.misfit[networks.best]))
    assert code == (1 if told["chi2_by_reading"] > 4.0 else 0)  # so few steps hardly do
    at = networks.task.unknowns.names.index("Ks")
    assert found["Ks"]["seeds"] == pytest.approx(networks.values[:, at].tolist())
    assert found["Ks"]["value"] == found["Ks"]["seeds"][networks.best]
    # after so few steps physics is missed between points, which widens bands until Ks is unknown
    assert found["theta_s"]["known"] and not found["Ks"]["known"] and float(networks.excess[networks.best]) > 2.0
    assert not found["psi0[0]"]["known"]  # networks know no unknowns but those of soils
    assert found["psi0[0]"]["value"] == pytest.approx(-150.0)
    curves = pd.read_csv(tmp_path / "curves.csv")
    bands = networks.curves(torch.as_tensor(curves["psi_cm"].to_numpy()))
    np.testing.assert_allclose(curves["theta"], bands.theta[networks.best], rtol=1e-5)
    np.testing.assert_allclose(curves["K_cm_per_d"], bands.log_k[networks.best].exp(), rtol=1e-3)


def test_readings_of_networks_are_those_of_their_fields(soil: Path, networks: Learned):
    case, answer = read_case(soil), of_networks(networks)
    days = (case.forcing.time_edge - case.forcing.time_edge[0]) / np.timedelta64(1, "D")
    for sensor, series in zip(case.sensors, answer.read(case.sensors), strict=True):
        at = np.stack([days, np.full_like(days, -sensor.depth)], axis=1)
        field = getattr(networks.solution, sensor.kind)(at)[networks.best].detach().numpy()
        # between the centres of cells, 4 cm apart, fields are taken for straight
        assert np.abs(series - field).max() < 0.2 * np.ptp(field) + 1e-9, sensor.name
        at_centre = np.isclose(case.column.grid.depth, sensor.depth).any()
        assert not at_centre or np.allclose(series, field), sensor.name


def test_networks_are_polished_on_the_column(soil: Path, fitted: Path, trained: list[dict], tmp_path: Path):
    assert call("learn", soil, "-q", "--gauge", "ignore", "--out", tmp_path) == 0
    assert trained[0]["steps"] == 60 and trained[0]["seeds"] == range(1)
    found, by_column = (json.loads((f / "parameters.json").read_text()) for f in (tmp_path, fitted))
    assert json.loads((tmp_path / "summary.json").read_text())["by"] == "networks, then the column"
    for name in by_column:  # the same minimum from elsewhere
        assert found[name]["value"] == pytest.approx(by_column[name]["value"], rel=0.02), name


def test_learn_refuses_where_asked(short: Path, tmp_path: Path, capsys):
    alone = with_sensors(short, short.parent / "alone.yaml", "moisture")
    assert call("learn", alone, "--column", "--gauge", "refuse", "--out", tmp_path / "out", "-q") == 2
    captured = capsys.readouterr()
    assert "leave these families of curves open" in captured.err and "shift   FREE" in captured.out
    assert not (tmp_path / "out").exists()
    assert call("learn", alone, "--gauge", "refuze", "--out", tmp_path / "out") == 2
    assert "Did you mean 'refuse'" in capsys.readouterr().err


def test_what_networks_do_not_know_is_for_the_column(soil: Path, tmp_path: Path, capsys):
    sensors = yaml.safe_load(soil.read_text())["sensors"]
    sensors[0]["columns"]["moisture 5 cm"] |= {"support": 4, "depth": 5.5}
    roots = {"transpiration": 0.1, "depth": 30}
    for settings, said in (
        ({"sensors": sensors}, "at 5.5 cm: --column takes those."),
        ({"roots": roots}, "--column fits"),
    ):
        path = changed(soil, soil.parent / "more.yaml", **settings)
        assert call("learn", path, "--gauge", "ignore", "--out", tmp_path / "out", "-q") == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_that_does_not_fit_is_a_bad_result(soil: Path, tmp_path: Path, capsys):
    wrong = changed(soil, soil.parent / "wrong.yaml", start={"psi": -30})
    assert call("learn", wrong, "--column", "--steps", 2, "--gauge", "ignore", "--out", tmp_path, "-q") == 1
    captured = capsys.readouterr()
    assert "Bad result: chi2" in captured.err and "more --steps" in captured.err  # of the library: fit(steps=)
    assert json.loads((tmp_path / "summary.json").read_text())["warnings"]


def test_curves_without_a_formula(soil: Path):
    layer = {"law": "spline", "class": "sandy loam", "theta_s": {"free": 0.4, "prior": 0.05}, "Ks": {"free": 100},
             "knots": [0, 1, 2, 3], "prior": 0.7}  # fmt: skip
    case = read_case(changed(soil, soil.parent / "spline.yaml", soil=[layer]))
    law, p = case.column.layers[0].law, case.p[0]
    assert isinstance(law, MonotoneSpline) and {n[0] for n in p} == {"t", "K", "G", "H"}
    assert all(isinstance(p[n], Free) and p[n].prior == 0.7 for n in ("G1", "H4")) and p["theta_r"] == 0.065
    start = law.imitate(VanGenuchten(), soil_class("sandy loam"))
    assert float(p["G2"].start) == pytest.approx(float(start["G2"]))
    assert len(case.inversion().unknowns.names) == 2 + 8 + 2  # limits, rises of two curves, ends of the start
    p = read_case(changed(soil, soil.parent / "spline.yaml", soil=[layer | {"entry": 1}])).p[0]
    assert isinstance(p["G1"], float) and isinstance(p["G2"], Free)  # flat up to 1 cm


class TestLogger:
    """What loggers do to data."""

    EDGES = np.datetime64("2021-06-01", "ns") + np.timedelta64(2, "h") * np.arange(5)

    def test_readings_go_to_the_nearest_edge(self):
        time = ["2021-05-31 20:00", "2021-06-01 00:04", "2021-06-01 00:02", "2021-06-01 01:00", "2021-06-01 03:52",
                "2021-06-01 06:00", "2021-06-01 07:49"]  # fmt: skip
        readings = pd.Series([9.0, 1.0, 2.0, 3.0, 4.0, np.nan, 5.0], pd.DatetimeIndex(time)).sort_index()
        values, said = at_edges(readings, self.EDGES, pd.Timedelta("10min").as_unit("ns"))
        np.testing.assert_array_equal(values, [2.0, np.nan, 4.0, np.nan, np.nan])
        assert said == ["1 missing", "1 outside the weather", "3 between edges"]

    def table(self, folder: Path, logger: str, weather: str = "", **sensor: object) -> Path:
        rows = [f"2021-06-01 {h:02d}:00,{0.1 * h}" for h in range(0, 8, 2)]
        (folder / "weather.csv").write_text(weather or "\n".join(["time,rain [mm/d]", *rows]))
        (folder / "logger.csv").write_text(logger)
        column = {"kind": "theta", "depth": 5, "sigma": 0.01, **sensor}
        given = {
            "grid": {"depth": 40, "cells": 4}, "soil": [{"class": "loam", "Ks": {"free": 20}}],
            "top": {"kind": "atmospheric", "rain": "rain"}, "bottom": "free_drainage", "start": {"psi": -100},
            "weather": {"file": "weather.csv"}, "sensors": {"file": "logger.csv", "columns": {"a": column}},
        }  # fmt: skip
        (folder / "soil.yaml").write_text(yaml.safe_dump(given))
        return folder / "soil.yaml"

    @pytest.mark.parametrize(
        ("column", "settings", "expected", "sigma"),
        [
            ("a (%)", {"sigma": 2}, 0.2, 0.02),
            ("a", {"unit": "m3/m3"}, 20.0, 0.01),
            ("a [hPa]", {"kind": "suction", "sigma": "3%"}, -20.39432, 0.03),
            ("a (kPa)", {"kind": "psi", "sigma": 1}, 203.9432, 10.19716),
        ],
    )
    def test_units(self, column, settings, expected, sigma, tmp_path: Path):
        path = self.table(tmp_path, f"time,{column}\n2021-06-01 02:00,20\n2021-06-01 04:00,-999", **settings)
        (sensor,) = read_case(path).sensors
        np.testing.assert_allclose(sensor.values, [np.nan, expected, np.nan, np.nan, np.nan], rtol=1e-6)
        assert sensor.sigma == pytest.approx(sigma) and sensor.log == (settings.get("sigma") == "3%")

    def test_an_error_far_below_a_per_cent(self, tmp_path: Path):
        """In a column of per cent, where a fraction is likely what was meant."""
        says = "sigma 0.005 is in %, as the column: 5e-05. If 0.005 is no per cent, give 0.5"
        for column, sigma, doubtful in (("a (%)", 0.005, True), ("a (%)", 0.5, False), ("a (1)", 0.0005, False)):
            path = self.table(tmp_path, f"time,{column}\n2021-06-01 02:00,0.3", sigma=sigma)
            assert any(says in note for note in read_case(path).notes) == doubtful

    @pytest.mark.parametrize(
        ("header", "rate"),
        [("rain (mm/d)", 0.1), ("rain (mm/h)", 2.4), ("rain (cm/d)", 1.0), ("rain (mm)", 1.2), ("rain [cm d-1]", 1.0)],
    )
    def test_rates_of_weather(self, header, rate, tmp_path: Path):
        rows = [f"2021-06-01 {h:02d}:00,1" for h in range(0, 8, 2)]
        path = self.table(tmp_path, "time,a (1)\n2021-06-01 02:00,0.2", "\n".join([f"time,{header}", *rows]))
        case = read_case(path)
        np.testing.assert_allclose(case.forcing.values["rain"], rate, rtol=1e-12)
        assert case.forcing.units["rain"] == "cm/d" and len(case.forcing) == 4

    def test_gaps_of_weather(self, tmp_path: Path, capsys):
        lines = ["time,rain [mm/d]", *(f"2021-06-01 {h:02d}:00,{h}" for h in (0, 2, 8, 10)), "2021-06-01 12:00,"]
        lines += ["2021-06-01 14:00,3"]
        path = self.table(tmp_path, "time,a (1)\n2021-06-01 02:00,0.2", "\n".join(lines))
        assert call("gauge", path) == 2
        told = capsys.readouterr().err
        assert "2 in a row from 2021-06-01 04:00" in told and "fill_gaps: 2" in told
        case = read_case(changed(path, weather={"file": "weather.csv", "fill_gaps": 2, "split": 2}))
        rain = 10.0 * case.forcing.values["rain"].numpy()
        np.testing.assert_allclose(rain[::2], [0, 2, 0, 0, 8, 10, 0, 3], atol=1e-12)
        np.testing.assert_array_equal(rain[::2], rain[1::2])
        assert float(case.forcing.days.sum()) == pytest.approx(16 / 24)
        assert "weather.csv: rain: 3 value(s) filled by zero" in case.notes

    @pytest.mark.parametrize(
        ("logger", "settings", "said"),
        [
            ("time,a (1)\n2021-06-01 02:00,0.2\n2021-06-01 02:00,0.3", {}, "twice with different values"),
            ("time,a\n2021-06-01 02:00,0.2", {}, "has no unit"),
            ("time,a (mm/d)\n2021-06-01 02:00,0.2", {}, "unit 'mm/d' is none of"),
            ("time,b (1)\n2021-06-01 02:00,0.2", {}, "has no column 'a'"),
            ("time,a (1)\n2021-06-01 03:00,0.2", {}, "none of 1 readings is within 10 min"),
            ("time,a (1)\n2021-06-01 02:00,none", {}, "missing: ['none']"),
            ("time,a (1)\n2021-06-01 02:00,30", {}, 'Per cent? unit: "%".'),
            ("time,a (cm)\n2021-06-01 02:00,300", {"kind": "psi"}, "kind: suction"),
            ("time,a (1)\n2021-06-01 02:00,0.3", {"sigma": "3%"}, "in the unit of the column"),
            ("time,a (1)\n2021-06-01 02:00,0.3", {"sigma": 0}, "above zero"),
            ("time,a (1)\n2021-06-01 02:00,0.3", {"depth": 50}, "not in 0 to 40 cm"),
            ("time,a (1)\n2021-06-01 02:00,0.3", {"dpeth": 50}, "Did you mean 'depth'"),
            ("time,a (1)\n2021-06-01 02:00,0.3", {"valid": [0.5, 1]}, "none of 0 readings"),
            ("when,a (1)\n2021-06-01 02:00,0.3", {}, "for example time: my_date"),
            ("time,a (1)\n01/06/2021,0.3", {}, "dayfirst: true"),
        ],
    )
    def test_bad_readings(self, logger, settings, said, tmp_path: Path, capsys):
        assert call("gauge", self.table(tmp_path, logger, **settings)) == 2
        error = capsys.readouterr().err
        assert said in error and "Traceback" not in error and "unexpected" not in error


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gird": {}}, "Did you mean 'grid'"),
        ({"grid": None}, "'grid' is missing"),
        ({"grid": {"depth": 40}}, "give depth and cells"),
        ({"grid": {"edges": [0, 10, 5]}}, "increasing"),
        ({"soil": {"law": "van_genuchten"}}, "list of layers"),
        ({"soil": [{"law": "van_genuchten", "theta_r": 0.1}]}, "layer 0: van_genuchten needs 'theta_s'"),
        ({"soil": [{"law": "vangenuchten"}]}, "Did you mean 'van_genuchten'"),
        ({"soil": [{"class": "loma"}]}, "Did you mean 'loam'"),
        ({"soil": [{"class": "loam", "law": "gardner"}]}, "parameters of van_genuchten, not of gardner"),
        ({"soil": [{"class": "loam", "aplha": 0.1}]}, "Did you mean 'alpha'"),
        ({"soil": [{"class": "loam", "alpha": {"free": 0.04, "hihg": 1}}]}, "Did you mean 'high'"),
        ({"soil": [{"class": "loam", "alpha": {"free": 3.0}}]}, "give low: and high:"),
        ({"soil": [{"class": "loam", "alpha": "much"}]}, "has to be a number"),
        ({"soil": [{"class": "loam", "alpha": 3.6}], "start": {"psi": -9}}, "nothing is to be found"),
        ({"soil": [{"class": "loam", "thickness": 13}, {"class": "clay"}]}, "put one there"),
        ({"soil": [{"class": "loam", "law": "spline", "alpha": {"free": 0.1}}]}, "the search for the shape begins"),
        ({"top": {"kind": "atmosferic"}}, "Did you mean 'atmospheric'"),
        ({"top": {"kind": "atmospheric", "rain": "regen"}}, "has no column 'regen'"),
        ({"top": {"kind": "atmospheric", "rian": "rain"}}, "Did you mean 'rain'"),
        ({"top": "free_drainage"}, "is not known"),
        ({"bottom": {"kind": "water_table"}}, "water_table needs depth"),
        ({"start": {"psi": -100, "theta": 0.2}}, "give one of psi, theta, water_table"),
        ({"start": {"psi": [-100, -50]}}, "depths of the list"),
        ({"start": {"psi": [-100, -50], "at": [40, 0]}}, "each below the one before"),
        ({"roots": {"transpiration": 0.2, "depth": 0}}, "above the centre of the first cell"),
        ({"weather": {"file": "wether.csv"}}, "neither in"),
        ({"weather": {"file": "weather.csv", "split": 0.5}}, "has to be a number, 1 or more"),
        ({"sensors": None}, "no 'sensors' to learn from"),
        ({"sensors": [{"file": "logger.csv", "columns": {"tensiometer": {"kind": "pF", "depth": 1, "sigma": 1}}}]},
         "'pF' is not known"),
        ({"sensors": [{"file": "logger.csv", "tolerance": 10, "columns": {"a": {}}}]}, "such as 10min"),
    ],
)  # fmt: skip
def test_bad_settings_are_exit_code_2(settings, said, soil: Path, capsys):
    path = changed(soil, soil.parent / "bad.yaml", **settings)
    assert call("gauge", path) == 2
    error = capsys.readouterr().err
    assert said in error and str(path) in error and "Traceback" not in error and "unexpected" not in error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grid: !!python/object/apply:os.system ['touch executed']", "not valid YAML"),
        ("grid: {depth: 1, depth: 2}", "depth given twice"),
        ("- 1", "holds no settings"),
        ("grid: [", "not valid YAML"),
    ],
)
def test_files_that_are_no_soil_files(text, said, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "soil.yaml").write_text(text)
    assert call("run", "soil.yaml", "--out", "out") == 2
    assert said in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"soil.yaml"}
    assert call("run", "none.yaml", "--out", "out") == 2


def test_parameters_have_to_be_those_that_are_free(soil: Path, tmp_path: Path, capsys):
    for values, said in (({"theta": 0.4}, "Did you mean 'theta_s'"), ({"n": 2.0}, "has no value")):
        (tmp_path / "p.json").write_text(json.dumps(values))
        assert call("run", soil, "--parameters", tmp_path / "p.json", "--out", tmp_path / "out") == 2
        assert said in capsys.readouterr().err


def test_values_may_be_free():
    assert value("1e-3", "a") == 1e-3  # which YAML takes for text
    found = value({"free": 2, "low": 1, "high": 5, "prior": 0.5}, "a")
    assert (float(found.start), found.low, found.high, found.prior) == (2.0, 1.0, 5.0, 0.5)
    for wrong in (True, None, "x", float("nan"), {"low": 1}, {"free": [1, 2]}, {"free": 1, "prior": -1}):
        with pytest.raises(ConfigError, match="^a"):
            value(wrong, "a")


def test_messages_are_in_words_of_the_file():
    assert in_yaml("start inside, or give Free(low=, high=).") == "start inside, or give low: and high:."
    assert in_yaml("mask them (NaN), or log=False.").startswith("leave them out, valid: [low, high], or give sigma")


@pytest.mark.parametrize("command", [(), ("run",), ("gauge",), ("learn",), ("example",)])
def test_help_shows_how(command, capsys):
    assert call(*command, "--help") == 0
    text = capsys.readouterr().out
    assert "Usage: udehydro richards" in text and len(text.splitlines()) > 8


def test_the_page_shows_a_file_that_runs(soil: Path, tmp_path: Path):
    (block,) = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    path = soil.parent / "page.yaml"
    path.write_text(block)
    case = read_case(path)
    assert len(case.sensors) == 2 and len(case.column.layers) == 2 and len(case.column.sinks) == 1
    assert case.inversion().unknowns.names == ("layer 0 alpha", "layer 0 Ks")
    assert call("run", path, "--out", tmp_path, "-q") == 0


def test_the_page_names_all_laws_and_units():
    text = PAGE.read_text()
    named = [*LAWS, *NAMES, *(u for known in UNITS.values() for u in known if u != "-")]
    assert [n for n in named if n not in text] == []


def test_bars_are_drawn_on_terminals_only(monkeypatch):
    for terminal in (True, False):
        monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda here=terminal: here))
        assert bars(False) == terminal and not bars(True)
