"""fit: recovers planted parameters, resumes bit for bit after SIGKILL, rejects what it should."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from udehydro import Balance, Calibrated, ConfigError, DataError, Forcing, NeuralLaw, Range, SolverError, simulate
from udehydro.models import exphydro_mended, linear
from udehydro.solvers import Stepping, Torchdiffeq
from udehydro.training import Stage, fit, take, teach

DAYS = 300


def record(members=3, seed=0, days=DAYS):
    g = torch.Generator().manual_seed(seed)
    rain = torch.rand(days, 1, generator=g).pow(6) * 40
    edges = np.datetime64("2001-01-01") + np.arange(days + 1)
    temp = 8 - 10 * torch.cos(torch.arange(days)[:, None] * 2 * torch.pi / 365)
    values = {"prcp": rain, "temp": temp, "dayl": 12 - 0.3 * (temp - 8).neg()}
    return Forcing(values, {"prcp": "mm/d", "temp": "degC", "dayl": "h"}, edges, ("synthetic",)).independent(members)


PERIODS = {"train": ("2001-01-01", "2001-08-31"), "valid": ("2001-09-01", "2001-10-27"), "warmup_days": 30}


def planted_linear(members):
    forcing = record(members)
    model = Balance(linear)
    truth = simulate(model, forcing, theta={"k": 0.07}, storage0={"storage": 20.0}).discharge
    return model, forcing, truth


def test_lbfgs_recovers_a_planted_parameter_from_every_start():
    model, forcing, truth = planted_linear(3)
    parameters = Calibrated.of(model, (3, 1), start={"k": torch.tensor([[0.01], [0.3], [0.9]])})
    start = torch.full((3, 1, 1), 20.0)
    options = {"stages": [Stage("lbfgs", 40)], "storage0": start, "progress": None}
    result = fit(model, parameters, forcing, truth, **options, **PERIODS)
    assert parameters()["k"].detach().sub(0.07).abs().max() < 1e-4
    assert result.valid.max() < 1e-5


def test_members_do_not_see_each_other():
    model, forcing, truth = planted_linear(2)
    starts = torch.tensor([[0.01], [0.5]])
    together = Calibrated.of(model, (2, 1), start={"k": starts})
    fit(model, together, forcing, truth, stages=[Stage("adam", 5)], progress=None, **PERIODS)
    alone = Calibrated.of(model, (1, 1), start={"k": starts[1:]})
    fit(model, alone, record(1), truth[:, 1:], stages=[Stage("adam", 5)], progress=None, **PERIODS)
    assert torch.allclose(together()["k"][1], alone()["k"][0], rtol=1e-10, atol=0)


def test_the_best_point_of_the_validation_period_is_kept():
    model, forcing, truth = planted_linear(1)
    parameters = Calibrated.of(model, (1, 1), start={"k": 0.05})
    stages = [Stage("adam", 30, learning_rate=0.2)]
    result = fit(model, parameters, forcing, truth, stages=stages, progress=None, **PERIODS)
    best = min(row["valid"][0] for row in result.history)
    assert result.valid.item() == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("stage", [Stage("adam", 12, window=50), Stage("adam", 6, share=0.5)])
def test_windows_and_growing_periods_lower_the_loss(stage):
    model, forcing, truth = planted_linear(2)
    parameters = Calibrated.of(model, (2, 1), start={"k": 0.3})
    still = Stage("adam", 1, learning_rate=1e-9)
    before = fit(model, parameters, forcing, truth, stages=[still], progress=None, **PERIODS)
    result = fit(model, parameters, forcing, truth, stages=[stage, Stage("adam", 3)], progress=None, **PERIODS)
    assert (result.valid < before.valid).all()
    assert (parameters()["k"] < 0.3).all()


def test_teacher_start_imitates_the_formula():
    forcing = record(2)
    teacher = simulate(Balance(exphydro_mended), forcing, storage0={"snow": 0.0, "soil": 300.0})
    law = NeuralLaw("soil", "temp", hidden=(12,), members=2, seed=1)
    hybrid = Balance(exphydro_mended, et=law)
    error = teach(hybrid, teacher, steps=400)
    assert (error < 0.05).all()
    assert law.spread.shape == (2, 1, 2)


def test_take_selects_members():
    model = Balance(exphydro_mended, et=NeuralLaw("soil", members=3, seed=0))
    forcing = record(3)
    parameters = Calibrated.of(model, (3, 1))
    options = {"storage0": {"snow": 0.0, "soil": 200.0}}
    whole = simulate(model, forcing, theta=parameters(), **options).discharge
    part = simulate(take(model, [2, 0]), record(2), theta=take(parameters, [2, 0])(), **options).discharge
    assert torch.allclose(part, whole[:, [2, 0]], atol=1e-10)


def test_a_member_that_cannot_be_simulated_is_rejected_and_the_others_go_on():
    model, forcing, truth = planted_linear(2)
    solver = Torchdiffeq("euler")
    parameters = Calibrated.of(model, (2, 1), start={"k": torch.tensor([[0.05], [0.9]])})
    result = fit(model, parameters, forcing, truth, solver=solver, stages=[Stage("adam", 5)], progress=None, **PERIODS)
    assert result.train.isfinite().all()


def test_penalty_shrinks_the_weights():
    forcing = record(1)
    truth = simulate(Balance(exphydro_mended), forcing, storage0={"snow": 0.0, "soil": 300.0}).discharge
    norms = []
    for penalty in (0.0, 10.0):
        law = NeuralLaw("soil", hidden=(6,), members=1, seed=0, scale={"soil": (300.0, 100.0)})
        model = Balance(exphydro_mended, et=law)
        parameters = Calibrated.of(model, (1, 1), fixed=("f", "smax", "qmax", "ddf", "tmax", "tmin"))
        fit(
            model, parameters, forcing, truth, stages=[Stage("adam", 20)], penalty=penalty, select="train",
            progress=None, storage0=torch.tensor([[[0.0, 300.0]]]), **PERIODS,
        )  # fmt: skip
        norms.append(sum(w.square().sum() for w in law.net.weights).item())
    assert norms[1] < norms[0]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"train": ("1990-01-01", "1991-01-01")}, DataError, "No data between"),
        ({"warmup_days": 1000}, DataError, "warm-up"),
        ({"select": "best"}, ConfigError, "select"),
        ({"select": "frozen"}, ConfigError, "frozen_steps"),
        ({"select": "frozen", "frozen_steps": torch.tensor([3, 3])}, ConfigError, r"must be \(stages, members\)"),
        ({"stages": [Stage("lbfgs", 3)], "observed": torch.full((10, 2, 1), 1.0)}, DataError, "intervals"),
    ],
)
def test_bad_settings_name_the_culprit(change, error, says):
    model, forcing, truth = planted_linear(2)
    parameters = Calibrated.of(model, (2, 1))
    settings = {"observed": truth, "progress": None, **PERIODS, **change}
    with pytest.raises(error, match=says):
        fit(model, parameters, forcing, **settings)


def test_parameters_without_a_member_axis_are_refused():
    model, forcing, truth = planted_linear(2)
    with pytest.raises(ConfigError, match="leading axis"):
        fit(model, Calibrated.of(model), forcing, truth, progress=None, **PERIODS)


@pytest.mark.parametrize("options", [{"window": 10, "optimiser": "lbfgs"}, {"optimiser": "sgd"}, {"share": 0.0}])
def test_stage_settings_are_checked(options):
    with pytest.raises(ConfigError):
        Stage(**{"optimiser": "adam", "steps": 5, **options})


def test_windows_never_score_what_lies_before_the_train_period():
    """That may be the test period: whatever flowed there, training ends with the same bits."""
    model, forcing, truth = planted_linear(1)
    ends = []
    for factor in (1.0, 5.0):
        flow = truth.clone()
        flow[:120] *= factor
        parameters = Calibrated.of(model, (1, 1), start={"k": 0.3})
        fit(
            model, parameters, forcing, flow, train=("2001-05-01", "2001-08-31"), warmup_days=0, progress=None,
            stages=[Stage("adam", 5, window=50)], storage0=torch.full((1, 1, 1), 20.0),
        )  # fmt: skip
        ends.append(parameters()["k"].item())
    assert ends[0] == ends[1] < 0.3


def test_the_loss_of_a_shorter_period_does_not_outlive_its_stage():
    model, forcing, truth = planted_linear(1)
    flow = truth.clone()
    flow[120:] *= 3.0  # the first half can be fitted well, the whole cannot
    parameters = Calibrated.of(model, (1, 1), start={"k": 0.05})
    result = fit(
        model, parameters, forcing, flow, train=("2001-01-01", "2001-08-31"), warmup_days=0, progress=None,
        stages=[Stage("adam", 6, share=0.45), Stage("adam", 20)], storage0=torch.full((1, 1, 1), 20.0),
    )  # fmt: skip
    assert result.train.item() == pytest.approx(min(row["train"][0] for row in result.history[6:]), rel=1e-9)


def test_patience_waits_for_the_end_of_a_pass_of_windows():
    model, forcing, truth = planted_linear(1)
    parameters = Calibrated.of(model, (1, 1), start={"k": 0.3})
    options = {"stages": [Stage("adam", 40, window=30)], "storage0": torch.full((1, 1, 1), 20.0)}
    result = fit(model, parameters, forcing, truth, patience=2, progress=None, **options, **PERIODS)
    assert result.best_step.item() > 0 and len(result.history) >= 9


DIVERGING = [Stage("adam", 4, learning_rate=3.0), Stage("lbfgs", 8)]
"""Adam runs away from where it starts, so that L-BFGS begins before its last step."""


def fitted(stages, valid=PERIODS["valid"], **options):
    """A fit of a hybrid with two members, and the values it found."""
    model, forcing, truth = planted_hybrid()
    parameters = Calibrated.of(model, (2, 1), start={"smax": 400.0})
    periods = {**PERIODS, "valid": valid, "storage0": torch.tensor([0.0, 300.0]).expand(2, 1, 2)}
    result = fit(model, parameters, forcing, truth, stages=stages, progress=None, **periods, **options)
    return result, torch.cat([p.detach().flatten() for m in (model, parameters) for p in m.parameters()])


@pytest.mark.parametrize("select", ["valid", "train"])
@pytest.mark.parametrize(
    "stages",
    [
        DIVERGING,
        [Stage("lbfgs", 9), Stage("adam", 3, learning_rate=2.0)],
        [Stage("adam", 4, share=0.4, learning_rate=0.3), Stage("adam", 6), Stage("lbfgs", 1)],
        [Stage("adam", 11, window=60), Stage("lbfgs", 4)],
    ],
)
def test_a_refit_on_the_same_data_ends_at_the_choice(stages, select):
    chosen, expected = fitted(stages, select=select)
    again, found = fitted(stages, select="frozen", frozen_steps=chosen.steps)
    assert torch.equal(found, expected) and torch.equal(again.steps, chosen.steps)
    rows = [sum(row["stage"] == s for row in again.history) for s in range(len(stages))]
    assert rows == chosen.steps.amax(1).tolist()


def test_a_stage_of_a_refit_starts_where_it_started_when_chosen():
    chosen, expected = fitted(DIVERGING, valid=None)
    again, found = fitted(DIVERGING, valid=None, select="frozen", frozen_steps=chosen.steps)
    first = [next(row["train"] for row in run.history if row["stage"]) for run in (chosen, again)]
    assert chosen.steps[0].tolist() == [0, 0] and first[0] == first[1]
    assert torch.equal(found, expected) and torch.equal(again.train, chosen.train)


@pytest.mark.parametrize("window", [None, 60])
def test_members_of_a_refit_keep_steps_of_their_own(window):
    stages = [Stage("adam", 6, window=window), Stage("lbfgs", 3)]
    steps = torch.tensor([[2, 6], [0, 1]])
    result, _ = fitted(stages, select="frozen", frozen_steps=steps)
    assert torch.equal(result.steps, steps) and [row["stage"] for row in result.history] == [0] * 6 + [1]


def test_the_rates_of_a_refit_are_those_of_the_whole_stage():
    whole, _ = fitted([Stage("adam", 20)])
    part, _ = fitted([Stage("adam", 20)], select="frozen", frozen_steps=torch.full((1, 2), 5))
    assert [row["train"] for row in part.history] == [row["train"] for row in whole.history[:5]]


def test_a_refit_never_keeps_a_trial_that_went_too_far():
    """The second trial of this search does."""
    one, two = (
        fitted([Stage("lbfgs", 9)], select="frozen", frozen_steps=torch.full((1, 2), n))[0].train for n in (1, 2)
    )
    assert (two <= one).all()


@pytest.mark.parametrize("changed", ["observed", "forcing", "model", "held"])
def test_a_checkpoint_of_other_data_or_another_model_is_refused(tmp_path, changed):
    model, forcing, truth = planted_linear(1)
    parameters = Calibrated.of(model, (1, 1))
    options = {"stages": [Stage("adam", 2)], "checkpoint": tmp_path, "progress": None, **PERIODS}
    fit(model, parameters, forcing, truth, **options)
    fit(model, Calibrated.of(model, (1, 1)), forcing, truth, resume=True, **options)
    if changed == "observed":
        truth = truth + 1.0
    elif changed == "forcing":
        forcing = record(1, seed=1)
    elif changed == "model":
        model = Balance(exphydro_mended)
    parameters = Calibrated.of(model, (1, 1), initial={"storage": Range(0, 9, "mm")} if changed == "held" else None)
    with pytest.raises(ConfigError, match="other settings, another model or other data"):
        fit(model, parameters, forcing, truth, resume=True, **options)


def test_warmup_is_counted_in_days_whatever_the_step():
    """Of 300 half-day intervals, 60 are warm-up; the train period ends before a 61st."""
    model, forcing, truth = planted_linear(1)
    half = replace(forcing, time_edge=forcing.time_edge[0] + np.arange(DAYS + 1) * np.timedelta64(12, "h"))
    settings = {"train": ("2001-01-01", "2001-01-30"), "progress": None, "stages": [Stage("adam", 1)]}
    with pytest.raises(DataError, match="warm-up"):
        fit(model, Calibrated.of(model, (1, 1)), half, truth, warmup_days=30, **settings)


def test_an_error_that_names_no_member_is_passed_on():
    model, forcing, truth = planted_linear(2)
    calls = []

    def broken(problem, storage0):
        calls.append(1)
        if len(calls) > 2:  # after the spin-up and the first evaluation
            raise SolverError("no", failed=torch.zeros(2, 1, dtype=torch.bool))
        return Stepping()(problem, storage0)

    with pytest.raises(SolverError, match="no"):
        fit(
            model, Calibrated.of(model, (2, 1)), forcing, truth, solver=broken, stages=[Stage("adam", 3)],
            storage0=torch.full((2, 1, 1), 20.0), progress=None, **PERIODS,
        )  # fmt: skip


SCRIPT = """
import sys, torch
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from test_fit import *
model, forcing, truth = planted_hybrid()
parameters = Calibrated.of(model, (2, 1), start={{"smax": 400.0}})
stages = [Stage("adam", 8), Stage("adam", 6, window=60), Stage("lbfgs", 8)]
{choice}
fit(model, parameters, forcing, truth, stages=stages, checkpoint={folder!r}, resume=True, progress=None,
    storage0=torch.tensor([0.0, 300.0]).expand(2, 1, 2), patience=20, **choice, **PERIODS)
torch.set_printoptions(precision=17)
import hashlib
weights = torch.cat([p.detach().flatten() for m in (model, parameters) for p in m.parameters()])
print(hashlib.sha256(weights.numpy().tobytes()).hexdigest())
"""


def planted_hybrid():
    forcing = record(2)
    truth = simulate(Balance(exphydro_mended), forcing, storage0={"snow": 0.0, "soil": 300.0}).discharge
    law = NeuralLaw("soil", "temp", hidden=(6,), members=2, seed=3, scale={"soil": (300.0, 100.0), "temp": (8.0, 8.0)})
    return Balance(exphydro_mended, et=law), forcing, truth


FROZEN = 'dict(select="frozen", frozen_steps=torch.tensor([[3, 5], [2, 4], [7, 0]]))'


@pytest.mark.parametrize(
    ("choice", "steps"),
    [pytest.param("{}", (1, 4, 9, 12, 16, 20), marks=pytest.mark.slow), (FROZEN, (1, 4, 6, 8, 11, 14))],
    ids=["choosing", "refit"],
)
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, choice, steps):
    def start(folder):
        settings = {"tests": os.path.dirname(__file__), "folder": str(folder), "choice": f"choice = {choice}"}
        code = textwrap.dedent(SCRIPT.format(**settings))
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    whole = start(tmp_path / "whole")
    expected, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0, errors
    newest = tmp_path / "killed" / "checkpoint.json"
    # kill as soon as the run has got past these steps, wherever in a step that is: Adam, windows, L-BFGS
    for step in steps:
        run = start(tmp_path / "killed")
        while run.poll() is None and not (newest.exists() and json.loads(newest.read_text())["step"] >= step):
            time.sleep(0.005)
        assert run.poll() is None, "the run finished before it could be killed: nothing was tested"
        run.send_signal(signal.SIGKILL)
        run.communicate()
    result, errors = start(tmp_path / "killed").communicate(timeout=300)
    assert result == expected, errors
