"""The command line: exit codes, help, output folder, resume; one small run serves most of them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toy
import xarray as xr

from udehydro import saved
from udehydro.cli import demo, main
from udehydro.cli.hints import in_flags
from udehydro.config import STRUCTURES
from udehydro.errors import DataError, SolverError
from udehydro.training import checkpoint

SCORES = {"nse", "kge"}


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    return end.value.code or 0


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    return toy.write_csv(tmp_path_factory.mktemp("data") / "toy.csv", toy.dataset())


@pytest.fixture(scope="module")
def done(table, tmp_path_factory) -> Path:
    """The output of one run with networks."""
    out = tmp_path_factory.mktemp("out") / "run"
    assert call(*toy.flags(table, out, neural="et,discharge")) == 0
    return out


def test_metrics_follow_the_schema(done: Path):
    found = json.loads((done / "metrics.json").read_text())
    assert set(found) == {"schema", "basins"} and found["schema"] == 1
    variants = found["basins"]["toy"]
    assert list(variants) == ["exphydro", "hybrid"]
    for values in variants.values():
        assert set(values) == {"train", "valid", "test", "balance_error_mm", "seconds", "parameters"}
        assert all(set(values[p]) == SCORES and values[p]["nse"] > 0.5 for p in ("train", "valid", "test"))
        assert values["balance_error_mm"] < 1e-9 and values["seconds"] > 0
        assert 100.0 <= values["parameters"]["smax"] <= 1500.0


def test_the_folder_holds_everything(done: Path):
    figures = {p.name for p in (done / "figures").glob("*.png")}
    expected = ["hydrograph", "hydrograph_test", "flow_duration", "storages", "law_et", "law_discharge"]
    assert {f"toy_{n}.png" for n in expected} | {"training_hybrid.png", "toy_water_balance_hybrid.png"} <= figures
    with xr.open_dataset(done / "simulation.nc", engine="h5netcdf") as ds:
        assert ds["discharge"].dims == ("variant", "time", "basin") and ds["discharge"].attrs["units"] == "mm/d"
        assert ds["variant"].values.tolist() == ["exphydro", "hybrid"] and ds["basin"].values.tolist() == ["toy"]
        assert ds["soil"].dims == ("variant", "time_edge", "basin")
        assert np.isnan(ds["baseflow"].sel(variant="hybrid")).all()  # merged into the learned discharge
        assert str(ds["time"].values[-1])[:10] == toy.TEST.split("/")[1]
    html = (done / "report.html").read_text()
    assert not re.search(r'src="(?!data:)|https?://', html)
    for said in ("What the networks learned", "closes to round-off", "udehydro fit --config", "not scored"):
        assert said in html


def digest(out: Path) -> str:
    return json.loads((out / "models/hybrid/toy/model.json").read_text())["sha256"]


def test_a_saved_model_scores_the_same(done: Path, tmp_path: Path, capsys):
    scores = tmp_path / "scores.json"
    assert call("evaluate", done, "--json", scores) == 0
    found = json.loads(scores.read_text())["basins"]["toy"]
    told = json.loads((done / "metrics.json").read_text())["basins"]["toy"]
    for variant, values in told.items():
        for score in SCORES:
            # the run and the evaluation differ in batch shape and in the length of the record: round-off
            np.testing.assert_allclose(found[variant][score], values["test"][score], rtol=1e-7)
    assert "hybrid" in capsys.readouterr().out
    assert call("evaluate", done, "--min-nse", "0.99999") == 1
    assert "is below" in capsys.readouterr().err
    assert call("evaluate", done, "--variant", "hybird") == 2
    assert call("evaluate", done, "--period", "1980-01-01/2030-12-31") == 2
    assert "beyond the record" in capsys.readouterr().err
    assert call("evaluate", tmp_path) == 2


def test_results_are_not_overwritten_by_accident(done: Path, table: Path, capsys):
    assert call(*toy.flags(table, done)) == 2
    assert "--resume" in capsys.readouterr().err
    assert call(*toy.flags(table, done, resume=True, overwrite=True)) == 2
    assert call(*toy.flags(table, done, neural="et,discharge", seed=5, resume=True)) == 2
    assert "seed: 5, 0" in capsys.readouterr().err
    assert (done / "metrics.json").exists()


def test_an_interrupted_run_resumes_to_the_same_weights(done: Path, table: Path, tmp_path: Path, monkeypatch, capsys):
    """Repeated from its config.yaml, interrupted and resumed, a run ends with the same weights."""
    out, real, saves = tmp_path / "run", checkpoint.save, []
    again = ["fit", "--quiet", "--config", done / "config.yaml", "--out", out]

    def save(folder, *rest):
        real(folder, *rest)
        saves.append(folder)
        if len([f for f in saves if "hybrid" in str(f)]) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save)
    assert call(*again) == 130
    assert "--resume" in capsys.readouterr().err and not (out / "metrics.json").exists()
    monkeypatch.setattr(checkpoint, "save", real)
    assert call(*again, "--resume") == 0
    assert digest(out) == digest(done)
    other = tmp_path / "toy.csv"
    other.write_text(table.read_text().replace("1990-03-01,", "1990-03-01,1"))  # one more digit of rain
    text = (out / "config.yaml").read_text().replace(str(table), str(other))
    (out / "config.yaml").write_text(text)
    assert call(*toy.flags(other, out, neural="et,discharge", resume=True)) == 2
    assert "data have changed" in capsys.readouterr().err


def test_simulate_with_a_saved_model_and_with_parameters(done: Path, table: Path, tmp_path: Path, capsys):
    out = tmp_path / "sim"
    assert call("simulate", "--model", done / "models/hybrid/toy", "--data", table, "--out", out) == 0
    assert (out / "simulation.nc").exists() and len(list((out / "figures").glob("*.png"))) == 4
    assert call("simulate", "--model", "exphydro", "--data", table, "--out", out) == 2  # there are results
    values = tmp_path / "p.json"
    values.write_text('{"smax": 350.0}')
    arguments = [
        "simulate",
        "--model",
        "exphydro",
        "--data",
        table,
        "--out",
        out,
        "--overwrite",
        "--parameters",
        values,
    ]
    assert call(*arguments, "--overwrite") == 0
    assert "outside" not in capsys.readouterr().err
    values.write_text('{"smax": -350.0}')
    assert call(*arguments) == 0
    assert "smax = -350 is outside its range" in capsys.readouterr().err
    values.write_text('{"smx": 350.0}')
    assert call(*arguments, "--overwrite") == 2
    assert "Did you mean 'smax'" in capsys.readouterr().err
    assert call("simulate", "--model", "exphydo", "--data", table, "--out", out) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "missing.csv"}, "missing.csv"),
        ({"model": "exphydo"}, "Did you mean"),
        ({"neural": "ett"}, "Did you mean"),
        ({"test": "1995-01-01/1996-01-01"}, "beyond the record"),
        ({"warmup_days": 700}, "no observed discharge"),
        ({"basin": "a,b"}, "b"),
        ({"device": "warp"}, "--device cpu"),
        ({"column": "prcp"}, "NAME=VALUE"),
        ({"column": "prcp=nothing"}, "nothing"),
        ({"train": "1991-06-30"}, "slash"),
    ],
)
def test_bad_input_is_exit_code_2_and_writes_nothing(changes, said, table: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    assert call(*toy.flags(changes.pop("data", table), out, **changes)) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Pass units={'discharge': 'm3/s'} and area=<km2>.", "Pass --unit discharge=m3/s and --area KM2."),
        ("columns={'prcp': 'no such'}, but there is none", "--column 'prcp=no such', but there is none"),
        ("Name its column (columns: {discharge: ...}).", "Name its column (--column discharge=COLUMN)."),
        ("say which, basins=['a', ...], or basins='all'.", "say which, --basin a,... or --basin all."),
        ("Close it with udehydro.data.fill_gaps.", "Close it with --fill-gaps N."),
        ("{'a': 1} and smax={...} stay", "{'a': 1} and smax={...} stay"),
    ],
)
def test_remedies_are_told_as_flags(message, said):
    assert in_flags(message) == said


def test_data_check(table: Path, tmp_path: Path, capsys):
    assert call("data", "check", table) == 0
    assert "0 error(s)" in capsys.readouterr().out
    broken = tmp_path / "broken.csv"
    broken.write_text("\n".join(line for line in table.read_text().splitlines() if not line.startswith("1990-05")))
    assert call("data", "check", broken, "--json", tmp_path / "found.json") == 2
    assert "1990-0" in capsys.readouterr().out
    assert not json.loads((tmp_path / "found.json").read_text())["ok"]


@pytest.mark.parametrize(
    "command", [(), ("fit",), ("simulate",), ("evaluate",), ("data",), ("data", "check"), ("demo",)]
)
def test_help_shows_how(command, capsys):
    assert call(*command, "--help") == 0
    text = capsys.readouterr().out
    assert "Usage: udehydro" in text and len(text.splitlines()) > 8


def test_a_bad_result_is_exit_code_1(table: Path, tmp_path: Path, capsys):
    lines = table.read_text().splitlines()
    flat = [",".join([*line.split(",")[:-1], "1.0"]) if line >= "1991-07" else line for line in lines]
    constant = tmp_path / "toy.csv"
    constant.write_text("\n".join([lines[0], *flat[1:]]))
    assert call(*toy.flags(constant, tmp_path / "out")) == 1  # nothing to score where the test flow never varies
    assert "not finite" in capsys.readouterr().err


def test_models_are_read_back_or_refused(done: Path, tmp_path: Path):
    folder = tmp_path / "m"
    folder.mkdir()
    for name in (saved.MODEL, saved.WEIGHTS):
        (folder / name).write_bytes((done / "models/hybrid/toy" / name).read_bytes())
    model = saved.load(folder, STRUCTURES)
    assert model.about["basin"] == "toy" and set(model.model.laws) == {"et", "discharge"}
    (folder / saved.WEIGHTS).write_bytes(b"x")
    with pytest.raises(saved.DataError, match="SHA-256"):
        saved.load(folder, STRUCTURES)
    (folder / saved.MODEL).write_text("{}")
    with pytest.raises(saved.DataError, match="format"):
        saved.load(folder, STRUCTURES)


def test_the_program_runs_as_a_program():
    code = "from udehydro.cli import main; main()"
    ran = subprocess.run([sys.executable, "-c", code, "fit", "--traim"], capture_output=True, text=True)
    assert ran.returncode == 2 and "--train" in ran.stderr and "Traceback" not in ran.stderr


def test_the_demo_starts_anew_when_finished_and_spares_other_results(done: Path, tmp_path: Path, monkeypatch, capsys):
    pytest.importorskip("spotpy")
    pytest.importorskip("pyet")
    tiny = {
        "starts": 1,
        "steps": 1,
        "refit_steps": 1,
        "neural": None,
        "discover": None,
        "train": "1980-01-01/1980-12-31",
    }
    monkeypatch.setattr(demo, "SETTINGS", {**demo.SETTINGS, **tiny, "test": "1981-01-01/1981-12-31"})
    out = tmp_path / "demo"
    for _ in range(2):
        assert call("demo", "--quiet", "--out", out) == 0
    html = (out / "report.html").read_text()
    assert "2976" in html and "are assumed" in html and "50.7" in html
    assert call("demo", "--out", done) == 2
    assert "something else than the demo" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [(SolverError("no"), 1), (RuntimeError("no"), 1), (DataError("no"), 2), (PermissionError(13, "no"), 2)],
)
def test_errors_become_messages_and_codes(error, code, table: Path, tmp_path: Path, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("udehydro.experiment.run", fail)
    assert call(*toy.flags(table, tmp_path / "out")) == code
    assert capsys.readouterr().err.startswith("Error: ")
    with pytest.raises(type(error)):
        main(["--debug", *toy.flags(table, tmp_path / "out")])


def test_several_basins_side_by_side(table: Path, tmp_path: Path):
    folder, out = tmp_path / "many", tmp_path / "out"
    folder.mkdir()
    for name in ("01013500", "a%b"):
        (folder / f"{name}.csv").write_text(table.read_text())
    assert call(*toy.flags(folder, out, basin="all")) == 0
    found = json.loads((out / "metrics.json").read_text())["basins"]
    assert list(found) == ["01013500", "a%b"]
    assert found["01013500"]["exphydro"]["test"] == pytest.approx(found["a%b"]["exphydro"]["test"], rel=1e-9)
    assert call("evaluate", out) == 0
