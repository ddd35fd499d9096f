"""udehydro sensitivity: every analysis end to end on two small basins, its files against the functions behind it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import toy
import xarray as xr

from udehydro import Balance, Forcing, saved, spin_up
from udehydro.cli import main
from udehydro.cli.sensitivity import adjoint as adjoint_command
from udehydro.cli.sensitivity import forward as forward_command
from udehydro.cli.sensitivity import gradients as gradients_command
from udehydro.cli.sensitivity.record import Error
from udehydro.data import planted_truth, read, weather
from udehydro.errors import ConfigError
from udehydro.models import exphydro
from udehydro.plot import png
from udehydro.plot.ranked import ranked
from udehydro.sensitivity import Response, Space, Way, adjoint, delsa, flood_peak, forward, score
from udehydro.sensitivity.naive import OneCall
from udehydro.training import nse

PERIOD = ("1990-10-01", "1991-04-30")
BASINS = ("a", "b")


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    return end.value.code or 0


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with a table of each basin: made-up weather, and what EXP-HYDRO makes of it."""
    folder = tmp_path_factory.mktemp("data")
    made = weather(485, seed=3, mean_temp=5.0, basins=BASINS)
    start = {"snow": 0.0, "soil": 400.0}
    ds = planted_truth(Balance(exphydro), None, made, seed=1, noise=0.05, storage0=start)
    for i, basin in enumerate(BASINS):
        toy.write_csv(folder / f"{basin}.csv", ds.isel(basin=[i]))
    return folder


def flags(analysis: str, data: Path, out: Path, **more: object) -> list[object]:
    """Arguments; of None a flag is left out, of True it is bare."""
    given = {"model": "exphydro", "data": data, "basin": "all", "period": "/".join(PERIOD), "out": out, **more}
    words = ["sensitivity", analysis, "--quiet"]
    for name, value in given.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [value])
    return words


@pytest.fixture(scope="module")
def posed(data: Path) -> dict:
    """Model, record to the end of the period, defaults, and storages from the whole record's first year."""
    ds, model = read(data, "all"), Balance(exphydro)
    forcing = Forcing.from_dataset(ds, model.forcing_names)
    theta = {n: exphydro.parameters[n].default for n in model.parameter_names}
    forcing = forcing.isel(slice(0, forcing.between(*PERIOD).stop))
    start = spin_up(model, forcing, theta=theta).storage
    observed = torch.as_tensor(ds["discharge"].transpose("time", "basin").values)[: len(forcing)]
    return {"model": model, "forcing": forcing, "theta": theta, "storage0": start, "observed": observed}


def given(posed: dict) -> dict:
    return {n: posed[n] for n in ("theta", "storage0")}


def summary(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


def html(out: Path) -> str:
    text = (out / "report.html").read_text()
    assert not re.search(r'src="(?!data:)|https?://', text)
    return text


@pytest.fixture(scope="module")
def flood(data: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "flood"
    assert call(*flags("adjoint", data, out, objective="flood_peak", fluxes=True)) == 0
    return out


def test_adjoint_writes_what_the_function_returns(flood: Path, posed: dict):
    told, found = summary(flood), adjoint(posed["model"], posed["forcing"], flood_peak(*PERIOD), **given(posed))
    assert told["schema"] == 1 and told["objective"]["unit"] == "mm/d" and told["period"] == "/".join(PERIOD)
    for i, basin in enumerate(BASINS):
        b = told["basins"][basin]
        # the same run from the same storages: round-off of drivers that may differ in the memory of a first run
        np.testing.assert_allclose(b["value"], float(found.value[i]), rtol=1e-7)
        part = found.run.between(*PERIOD)
        assert b["peak_date"] == str(part.forcing.time[part.discharge[:, i].argmax()])[:10]
        for name, e in found.elasticity().items():
            if not exphydro.parameters[name].fixed:
                np.testing.assert_allclose(b["elasticity"][name], float(e[i]), rtol=1e-5, atol=1e-9)
                told_, r = b["parameters"][name], exphydro.parameters[name]
                np.testing.assert_allclose(told_["by_percent"], float(e[i]), rtol=1e-5, atol=1e-9)
                span = told_["value"] * np.log(r.high / r.low) if r.logarithmic else r.high - r.low
                by_range = told_["derivative"] * span / b["value"]  # percent for 1 % of the range
                np.testing.assert_allclose(told_["by_range"], by_range, rtol=1e-5, atol=1e-9)
        top = b["influential_days"]["prcp"][0]
        made = found.forcing["prcp"][:, i] * posed["forcing"].values["prcp"][:, i]
        assert top["date"] == str(posed["forcing"].time[int(made.abs().argmax())])[:10]
        np.testing.assert_allclose(top["contribution"], float(made[int(made.abs().argmax())]), rtol=1e-5)
        np.testing.assert_allclose(b["weather"]["prcp"], float(made.sum() / found.value[i]), rtol=1e-5)
    with xr.open_dataset(flood / "sensitivity.nc", engine="h5netcdf") as ds:
        assert ds["basin"].values.tolist() == list(BASINS) and ds["lambda_soil"].dims == ("time_edge", "basin")
        np.testing.assert_allclose(ds["forcing_prcp"], found.forcing["prcp"], rtol=1e-5, atol=1e-9)
        assert "flux_melt" in ds and ds["parameter_smax"].attrs["units"] == "mm/d per mm"


def test_adjoint_draws_and_tells(flood: Path):
    names = {p.name for p in (flood / "figures").glob("*.png")}
    assert names == {f"{b}_{kind}.png" for b in BASINS for kind in ("flood", "tornado", "year", "lambda")}
    text = html(flood)
    for said in ("a: The largest discharge", "+1 % of f", "days that matter most", "Derivatives are local",
                 "discrete run", "repetition(s) of the first year", "udehydro sensitivity adjoint"):  # fmt: skip
        assert said in text, said


@pytest.mark.parametrize(
    ("objective", "more", "unit", "expected"),
    [
        ("volume", {}, "mm", lambda run, q, seen: q.sum(0)),
        ("volume", {"name": "et"}, "mm", lambda run, q, seen: run.rate("et").sum(0)),
        ("low_flow_days", {"threshold": 1.0, "width": 1e-6}, "d", lambda run, q, seen: (q < 1.0).sum(0)),
        ("storage_at", {"name": "soil", "date": "1991-01-10"}, "mm", lambda run, q, seen: run.store("soil")[101]),
        ("nse", {}, "1", lambda run, q, seen: nse(q, seen)),
        ("log_nse", {}, "1", None),
        ("kge", {}, "1", None),
    ],
)
def test_objectives(objective, more, unit, expected, data, posed, tmp_path, monkeypatch):
    monkeypatch.setattr(adjoint_command, "MOST_BASINS", 0)  # no figures
    assert call(*flags("adjoint", data, tmp_path, objective=objective, **more)) == 0
    told = summary(tmp_path)
    assert told["objective"]["unit"] == unit
    assert told["objective"]["changes_in"] == ("%" if unit != "1" else {"nse": "NSE", "kge": "KGE"}.get(
        objective, "NSE of logarithms"))  # fmt: skip
    if expected is not None:
        run = adjoint(posed["model"], posed["forcing"], flood_peak(*PERIOD), **given(posed)).run.between(*PERIOD)
        right = expected(run, run.discharge, posed["observed"][posed["forcing"].between(*PERIOD)])
        values = [told["basins"][b]["value"] for b in BASINS]
        np.testing.assert_allclose(values, right, rtol=1e-6, atol=1e-6)


def test_derivatives_are_verified_where_asked(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(adjoint_command, "MOST_BASINS", 0)
    words = flags("adjoint", data, tmp_path, objective="nse", basin="a", verify=True)
    assert call(*words) == 0
    told = summary(tmp_path)["verify"]
    assert {"parameters", "storage0", "lambda", "forcing prcp", "flux melt"} <= {r["quantity"] for r in told}
    # differences of runs solved to 1e-12 mm: truncation and round-off leave some 1e-6 at the best step
    assert max(r["error"] for r in told if r["error"] is not None) < 1e-4
    assert "Are the derivatives right?" in html(tmp_path) and "The largest relative error is" in html(tmp_path)
    kinked = {**told[1], "error": np.inf, "kinks": told[1]["entries"]}
    for wrong, words_ in {0.5: "5.0e-01", np.inf: "inf"}.items():  # of a gradient that is off, and one that was cut off
        rows = [{**told[0], "error": wrong}, kinked]
        monkeypatch.setattr(adjoint_command, "verify", lambda *_, rows=rows, **__: pd.DataFrame(rows))
        assert call(*words, "--overwrite") == 1
        assert f"derivatives by parameters are wrong by {words_}" in capsys.readouterr().err
        assert "1 gradient(s) could not be compared" in html(tmp_path)


def test_a_saved_model_starts_from_its_own_storages(data, tmp_path, monkeypatch):
    monkeypatch.setattr(adjoint_command, "MOST_BASINS", 0)
    model, start = Balance(exphydro), {"snow": 3.0, "soil": 321.0}
    theta = {n: exphydro.parameters[n].default for n in model.parameter_names} | {"smax": 444.0}
    saved.save(tmp_path / "m", model, theta, storage0=start, record_start="1990-01-01")
    words = {"model": tmp_path / "m", "objective": "volume", "basin": "b"}
    assert call(*flags("adjoint", data, tmp_path / "out", **words)) == 0
    found = summary(tmp_path / "out")["basins"]["b"]
    assert {n: s["value"] for n, s in found["storage0"].items()} == start
    assert found["parameters"]["smax"]["value"] == 444.0
    assert "those saved with the model" in html(tmp_path / "out")
    assert "start the record earlier" not in html(tmp_path / "out")


def test_forward_writes_what_the_function_returns(data, posed, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(forward_command, "MOST_BASINS", 1)
    names = ("smax", "f", "ddf", "soil")
    words = flags("forward", data, tmp_path, sigma=0.3, correlation=0.5, names=",".join(names), window_days=30)
    assert call(*words) == 0
    assert "0.3 mm/d, correlated by 0.5" in capsys.readouterr().out
    found = forward(posed["model"], posed["forcing"], names, **given(posed))
    right = found.information(Error(0.3, False, 0.5).of(_Case(found.run)), observed=posed["observed"], within=PERIOD)
    told = summary(tmp_path)
    assert told["gaps_left_out"] and told["error"] == {"size": 0.3, "share_of_flow": False, "correlation": 0.5}
    for i, basin in enumerate(BASINS):
        b = told["basins"][basin]
        # the inverse of a matrix with a collinearity of some 10 multiplies round-off of the runs by some 100
        np.testing.assert_allclose([b["parameters"][n]["sd"] for n in names], right.sd()[i], rtol=1e-4)
        np.testing.assert_allclose(b["collinearity"], float(right.collinearity()[i]), rtol=1e-4)
        pairs = right.collinearities(2)
        assert tuple(b["pairs"][0]["names"]) == max(pairs, key=lambda p: float(pairs[p][i]))  # noqa: B023
        window = b["parameters"]["smax"]["best_window"]
        assert PERIOD[0] <= window[0] < window[1] <= PERIOD[1]
    with xr.open_dataset(tmp_path / "sensitivity.nc", engine="h5netcdf") as ds:
        np.testing.assert_allclose(ds["discharge"], found.discharge, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(ds["fisher"], right.matrix, rtol=1e-5)
        assert ds["window_content"].dims == ("window", "basin", "parameter") and "window_start" in ds.coords
    figures = {p.name for p in (tmp_path / "figures").glob("*.png")}
    assert figures == {f"a_{k}.png" for k in ("hydrograph", "identifiability", "spectrum")}
    for said in ("would tell", "Hardest to tell apart", "taken for known", "linearised"):
        assert said in html(tmp_path), said


class _Case:
    """What an Error asks of a case."""

    def __init__(self, run):
        self.run, self.forcing, self.period = run, run.forcing, PERIOD


def test_errors_of_discharge(posed):
    run = forward(posed["model"], posed["forcing"], ["smax"], **given(posed)).run
    sigma = Error.parse("10%", 0.0).of(_Case(run)).sigma
    mean = run.between(*PERIOD).discharge.mean(0)
    torch.testing.assert_close(sigma, 0.1 * (run.discharge + 0.01 * mean))
    assert Error.parse(" 0.25 ", 0.0) == Error(0.25, False, 0.0)
    for text in ("", "%", "-1", "0", "nan", "a few"):
        with pytest.raises(ConfigError, match="--sigma"):
            Error.parse(text, 0.0)
    with pytest.raises(ConfigError, match="--correlation"):
        Error.parse("0.3", 1.0)


def test_delsa_writes_what_the_function_returns(data, posed, tmp_path):
    words = {"method": "delsa", "objective": "nse", "samples": 16, "seed": 5, "without": "tmin,tmax"}
    assert call(*flags("global", data, tmp_path, **words), "--range", "soil=200:500", "--range", "ddf=1:4") == 0
    s, told = exphydro, summary(tmp_path)
    ranges = {"ddf": replace(s.parameters["ddf"], low=1.0, high=4.0, default=2.5),
              "soil": replace(s.parameters["smax"], low=200.0, high=500.0, default=300.0)}  # fmt: skip
    space = Space.of(posed["model"], ranges, without=("tmin", "tmax"))
    response = Response(posed["model"], posed["forcing"], score(nse, posed["observed"], *PERIOD), **given(posed))
    right = delsa(response, space, samples=16, seed=5, progress=None)
    assert told["runs"] == 16 and told["ranges"]["soil"] == [200.0, 500.0] and "tmin" not in told["ranges"]
    for basin in BASINS:
        one = right.sel(basin=basin)
        found = [told["basins"][basin]["factors"][str(n)]["mean"] for n in one["factor"].values]
        np.testing.assert_allclose(found, one["mean"], rtol=1e-5, atol=1e-9)
        assert told["basins"][basin]["ranking"][0] == str(one["factor"].values[one["mean"].values.argmax()])
    assert {p.name for p in (tmp_path / "figures").glob("*.png")} == {f"{b}_delsa.png" for b in BASINS}
    text = html(tmp_path)
    for said in ("A score has no lower end", "200.000", "273 days before the period"):
        assert said in text, said


@pytest.mark.parametrize(("method", "samples"), [("sobol", 8), ("morris", 4), ("dgsm", 8), ("pawn", 128)])
def test_sampling_methods(method, samples, data, tmp_path):
    pytest.importorskip("SALib")
    words = {"method": method, "samples": samples, "basin": "a", "without": "tmin,tmax,qmax"}
    words |= {"objective": "volume", "period": "1990-04-01/1990-04-30"}  # the run ends with the period
    assert call(*flags("global", data, tmp_path, **words)) == 0
    found = summary(tmp_path)["basins"]["a"]
    assert set(found["factors"]) == {"f", "smax", "ddf"} == set(found["ranking"]) and found["failed"] == 0
    assert (tmp_path / f"figures/a_{method}.png").exists() and "depends most on" in html(tmp_path)
    if method == "sobol":  # of 8 samples
        assert "the intervals are wide" in html(tmp_path) and "the factors alone make" in html(tmp_path)
    with xr.open_dataset(tmp_path / "sensitivity.nc", engine="h5netcdf") as ds:
        assert ds.attrs["objective"].startswith("the volume of 'discharge'")


def test_gradients_are_compared(data, tmp_path, monkeypatch, capsys):
    chosen = ("all at once, exact adjoint", "all at once, central differences")
    ways = {n: w for n, w in gradients_command.usual_ways().items() if n in chosen}
    ways["lost"] = Way(OneCall(most=1))  # evaluation per interval
    monkeypatch.setattr(gradients_command, "usual_ways", lambda: ways)
    words = flags("gradients", data, tmp_path, objective="volume", basin="a", period="1990-02-01/1990-02-28")
    assert call(*words, "--repeats", 1, "--torchdiffeq") == 0
    told = summary(tmp_path)
    # round-off of sums over 59 days; differences with steps of 1e-4 are off by about the square of that
    assert told["ways"][chosen[0]]["own_error"] < 1e-10 < told["ways"][chosen[1]]["own_error"] < 1e-5
    assert (tmp_path / "figures/gradients.png").exists()
    with xr.open_dataset(tmp_path / "sensitivity.nc", engine="h5netcdf") as ds:
        assert set(chosen) <= set(ds["way"].values.tolist()) and ds["seconds"].dims == ("way",)
    assert "2 of 2 ways give the gradient of what they compute" in html(tmp_path)
    assert "lost: failed. SolverError" in html(tmp_path) and told["ways"]["lost"]["seconds"] is None
    assert "all at once, exact adjoint" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("analysis", "changes", "said"),
    [
        ("adjoint", {"objective": "flod_peak"}, "Did you mean 'flood_peak'"),
        ("adjoint", {"objective": "low_flow_days"}, "needs --threshold"),
        ("adjoint", {"objective": "low_flow_days", "threshold": -1}, "above zero"),
        ("adjoint", {"objective": "storage_at", "name": "soil"}, "--date"),
        ("adjoint", {"objective": "storage_at", "name": "soi", "date": "1991-01-10"}, "Did you mean 'soil'"),
        ("adjoint", {"objective": "storage_at", "name": "soil", "date": "10.1.1991"}, "Write it as"),
        ("adjoint", {"objective": "storage_at", "name": "soil", "date": "1999-01-10"}, "outside the period"),
        ("adjoint", {"objective": "volume", "name": "melting"}, "Did you mean 'melt'"),
        ("adjoint", {"objective": "nse", "threshold": 1}, "goes with low_flow_days"),
        ("adjoint", {"objective": "nse", "period": "1990-10-01/2020-01-01"}, "beyond the record"),
        ("adjoint", {"objective": "nse", "model": "exphydo"}, "Did you mean"),
        ("adjoint", {"objective": "nse", "data": "missing.csv"}, "missing.csv"),
        ("forward", {"sigma": "some"}, "0.3"),
        ("forward", {"names": "smx"}, "smx"),
        ("forward", {"names": "smax,smax"}, "Given twice"),
        ("forward", {"window_days": 5000}, "within the record"),
        ("global", {"objective": "nse", "method": "sobl"}, "Did you mean 'sobol'"),
        ("global", {"objective": "nse", "method": "delsa", "samples": 12}, "power of two"),
        ("global", {"objective": "nse", "method": "delsa", "range": "smax"}, "NAME=LOW:HIGH"),
        ("global", {"objective": "nse", "method": "delsa", "range": "smx=1:2"}, "Did you mean 'smax'"),
        ("global", {"objective": "nse", "method": "delsa", "without": "smx"}, "Did you mean 'smax'"),
    ],
)
def test_bad_input_is_exit_code_2_and_writes_nothing(analysis, changes, said, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert call(*flags(analysis, changes.pop("data", data), out, **changes)) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and "unexpected" not in error
    assert not out.exists()


def test_results_are_not_overwritten_and_figures_not_mixed(data, flood, tmp_path, capsys):
    assert call(*flags("forward", data, flood)) == 2
    assert "--overwrite" in capsys.readouterr().err
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/old.png").write_bytes(b"")
    words = {"objective": "volume", "basin": "a", "overwrite": True, "period": None}
    assert call(*flags("adjoint", data, tmp_path, **words)) == 0
    assert not (tmp_path / "figures/old.png").exists()
    assert summary(tmp_path)["period"] == "1991-01-01/1991-04-30"  # all but the first 365 days


def test_data_that_cannot_be_scored_or_are_too_short(data, tmp_path, capsys):
    lines = (data / "a.csv").read_text().splitlines()
    short, dry = tmp_path / "short.csv", tmp_path / "dry.csv"
    short.write_text("\n".join(lines[:300]))
    dry.write_text("\n".join(line.rpartition(",")[0] for line in lines))
    out = {"basin": None, "out": tmp_path / "out"}
    assert call(*flags("adjoint", short, **out, objective="flood_peak", period=None)) == 2
    assert "--period" in capsys.readouterr().err
    assert call(*flags("adjoint", dry, **out, objective="kge")) == 2
    assert "needs observed discharge" in capsys.readouterr().err
    assert call(*flags("forward", dry, **out, names="smax")) == 0
    assert not summary(tmp_path / "out")["gaps_left_out"]
    assert "every interval of the period is taken for measured" in html(tmp_path / "out")


@pytest.mark.parametrize("analysis", [(), ("adjoint",), ("forward",), ("global",), ("gradients",)])
def test_help_shows_how(analysis, capsys):
    assert call("sensitivity", *analysis, "--help") == 0
    text = capsys.readouterr().out
    assert "Usage: udehydro sensitivity" in text and len(text.splitlines()) > 8


def test_ranked_factors_are_drawn_with_their_spread():
    names = {"factor": ["x", "y", "z"]}
    values = {"bound": [0.1, 0.5, 0.2], "bound_conf": [0.1, 0.2, 0.0], "low": [0.0, 0.1, 0.1], "high": [0.3, 0.6, 0.2]}
    found = xr.Dataset({n: ("factor", v) for n, v in values.items()}, names)
    for ends in ({}, {"low": "low", "high": "high"}):
        fig = ranked(found, "bound", title="t", **ends)
        (axes,) = fig.axes
        assert [t.get_text() for t in axes.get_yticklabels()] == ["x", "z", "y"] and png(fig, dpi=40)
