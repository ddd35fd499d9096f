"""The soil moisture benchmark: what it makes of the measured tables, and that its bucket learns from some months."""

import importlib
import sys
from dataclasses import replace

import pytest
import torch
from conftest import ROOT

from udehydro import Balance, simulate
from udehydro.solvers import AllAtOnce
from udehydro.training import Gaussian, Observed, least_squares

sys.path.insert(0, str(ROOT / "examples" / "benchmarks"))

DAYS, SOLVER = 120, AllAtOnce(warm_start=False)
VALUES = {"residual": 100.0, "smax": 60.0, "share": 1.0, "gain": 0.4, "amount": 20.0, "tau": 1.0}


@pytest.fixture(scope="module")
def example():
    """The module with data and model; skipped where the tables or what reads them are missing."""
    pytest.importorskip("pyet", reason="PET needs the extra demo")
    folder = importlib.import_module("_report").SHARED / "schwingbach"
    if not folder.is_dir():
        pytest.skip(f"real data needed: there is no folder {folder}")
    return importlib.import_module("_soil_moisture")


def months(example, days: int = DAYS):
    """The first days as a task that needs no compiled model."""
    task = example.Setting("Priestley-Taylor", "gain").task(example.FIT)
    seen = replace(task.observed[0], values=task.observed[0].values[: days + 1])
    return replace(task, forcing=task.forcing.isel(slice(0, days)), observed=[seen], solver=SOLVER)


def test_storm_is_apart_from_the_rain_and_pet_is_that_of_the_place(example):
    for method in example.METHODS:
        record = example.weather(method)
        storm = record.values["storm"][:, 0]
        assert str(record.time[int(storm.argmax())])[:10] == example.STORM
        assert float(storm.sum()) == 1.0
        assert float(record.values["rain"].max()) < 40.0
        assert 400.0 < float(record.values["pet"].sum()) / 3.0 < 600.0
        assert float(record.values["pet"].min()) >= 0.0


def test_clock_of_the_probe_at_25_cm_is_put_right(example):
    """Why it is believed: rises follow rain by hours at all depths, probes rise together, and show more of the rain."""
    data, clock = (importlib.import_module(n) for n in ("_schwingbach_data", "_soil_moisture_clock"))
    for year in ("2014", "2015", "2016"):
        shallow, middle, deep = (hours for hours, _, _ in data.lags(year, year).values())
        assert 0 <= shallow <= 3 and 0 <= deep <= 3
        assert 0 <= middle + example.LATE <= 3
    rain = example.weather(example.METHODS[0]).values["rain"][:, 0]
    follows, shared, shown = [], [], []
    for late in (0, example.LATE):
        rise = example.storage(late).diff(dim=0)[:, 0]
        known = ~rise.isnan()
        follows.append(float(torch.corrcoef(torch.stack([rise[known], rain[known]]))[0, 1]))
        together, events = clock.together(late), clock.events(late)
        shared.append(sum(together) / len(together))
        shown.append(events[:, 1].sum() / events[:, 0].sum())
    assert follows[1] > follows[0] + 0.05
    assert shared[0] < 0.3 and shared[1] > 0.7
    assert shown[0] < 0.6 and 0.65 < shown[1] < 1.0
    assert len(example.unexplained()) < len(example.unexplained(0))


def test_storage_is_hidden_after_rises_that_no_rain_explains(example):
    water, kept = example.storage(), example.trusted()
    assert water.shape == (len(example.weather(example.METHODS[0])) + 1, 1)
    missing = water.isnan()
    assert int(missing.sum()) == int(missing[: example.LATE // 24 + 1].sum()) == example.LATE // 24 + 1
    known = water[~missing]
    assert 100.0 < float(known.min()) < float(known.max()) < 220.0
    assert float(example.first_known(water)) == float(known[0])
    assert example.STORM in [str(day) for day, _ in example.unexplained()]
    assert all(more > example.RISE for _, more in example.unexplained())
    hidden = kept.isnan() & ~missing
    assert 0 < int(hidden.sum()) <= example.HIDDEN * len(example.unexplained())
    assert torch.equal(water[~kept.isnan()], kept[~kept.isnan()])


def test_bucket_conserves_water_and_recovers_its_constants(example):
    task = months(example)
    model = Balance(example.bucket)
    truth = simulate(model, task.forcing, theta=VALUES, storage0={"soil": 150.0}, solver=SOLVER)
    assert float(truth.max_balance_error().max()) < 1e-9
    observed = [Observed("soil", truth.store("soil"), Gaussian(1.0))]
    start = {**VALUES, "smax": 80.0, "gain": 0.6, "soil": 140.0}
    fit = least_squares(
        model, task.forcing.with_members(1), observed, start, ("smax", "gain", "soil"), solver=SOLVER,
        ranges=task.ranges, steps=30,
    )  # fmt: skip
    assert float(fit.chi2[0]) < 1e-4
    assert float(fit.values["gain"][0]) == pytest.approx(0.4, rel=1e-2)


def test_bucket_holds_less_water_than_the_rain_brings(example):
    """A finding of the benchmark, on some months: a free gain lowers the misfit by far, and is well below one."""
    task = months(example, 240)
    model, chi2 = Balance(example.bucket), []
    for free in (("smax", "residual", "amount", "soil"), ("smax", "residual", "amount", "soil", "gain")):
        start = {**task.start, "gain": 0.6 if "gain" in free else 1.0}
        fit = least_squares(
            model, task.forcing.with_members(1), task.observed, start, free, solver=SOLVER, ranges=task.ranges, steps=25
        )
        chi2.append(float(fit.chi2[0]))
    assert chi2[1] < 0.7 * chi2[0]
    assert float(fit.values["gain"][0]) < 0.7


def test_scores_of_the_observed_storage_are_perfect(example):
    found = example.scores(example.storage()[:, 0])
    assert found["rmse"] == 0.0
    assert found["nse"] == pytest.approx(1.0)
    assert example.climatology().shape == (len(example.storage()),)
