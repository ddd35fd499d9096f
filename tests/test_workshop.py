"""The gradient workshop: right ways agree, the known defects of continuous adjoints on rain pulses show."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from tables import weather

from udehydro import Balance, plot
from udehydro.models import exphydro_mended, linear
from udehydro.sensitivity import Way, compare_gradients, usual_ways, volume
from udehydro.sensitivity.naive import OneCall
from udehydro.sensitivity.peak import PeakMemory
from udehydro.solvers import SDIRK2, AllAtOnce, Stepping, Torchdiffeq, compiled

torch.set_default_dtype(torch.float64)

RECORD = weather(25, 2, seed=3)
FIRST, LAST = (str(RECORD.time[i])[:10] for i in (5, 24))
OBJECTIVE = volume("discharge", FIRST, LAST)
START = {"snow": 20.0, "soil": 300.0}
TAPE = Stepping(SDIRK2, gradient="tape", tolerance=1e-12)
SOLVER = AllAtOnce(SDIRK2, warm_start=False, tolerance=1e-12)


def test_ways_to_the_same_gradient():
    ways = {
        "adjoint": Way(SOLVER, same_steps=TAPE),
        "tape": Way(TAPE, same_steps=TAPE),
        "forward": Way(SOLVER, "forward", TAPE),
        "differences": Way(SOLVER, "differences", TAPE),
        "fine": Way(AllAtOnce(SDIRK2, substeps=16, warm_start=False)),
    }
    theta = {n: r.default for n, r in exphydro_mended.parameters.items()}
    theta["ddf"] = torch.linspace(1.0, 4.0, len(RECORD))[:, None].expand(-1, 2)  # varies in time: held
    found = compare_gradients(Balance(exphydro_mended), RECORD, OBJECTIVE, theta=theta, storage0=START, ways=ways)
    assert list(found.index) == list(ways) and not found["failure"].any()
    assert found.loc[["adjoint", "tape", "forward"], "own_error"].max() < 1e-12
    # central differences with steps of 1e-4: truncation of about 1e-8 of the third derivative
    assert found.loc["differences", "own_error"] < 1e-6 and math.isnan(found.loc["fine", "own_error"])
    assert found["value"].iloc[:4].std() < 1e-9 and (found["seconds"] > 0.0).all() and (found["megabytes"] > 0.0).all()
    # one step a day against 64; sixteen are better, by less than the order says: kinks
    assert found.loc["fine", "true_error"] < 0.1 * found.loc["adjoint", "true_error"] < 0.1 * 0.01


def pulses():
    """Two days of heavy rain among dry ones, on a reservoir that is not stiff."""
    record = weather(25, 1, seed=0)
    rain = torch.zeros(25, 1)
    rain[[8, 19]] = 80.0
    values = {n: (rain if n == "prcp" else v[:, :1]) for n, v in record.values.items()}
    return type(record)(values, record.units, record.time_edge, ("b0",))


def test_known_defects_of_one_adaptive_call():
    record, model = pulses(), Balance(linear)
    objective = volume("discharge", str(record.time[0])[:10], str(record.time[-1])[:10])
    limits = {"rtol": 1e-5, "atol": 1e-5}
    by_interval, once = Torchdiffeq(**limits), OneCall(**limits)
    ways = {
        "by interval": Way(by_interval, same_steps=by_interval),
        "by interval, adjoint": Way(Torchdiffeq(adjoint=True, **limits), same_steps=by_interval),
        "one call": Way(once, same_steps=once),
        "one call, adjoint": Way(OneCall(adjoint=True, **limits), same_steps=once),
        "unnamed": Way(OneCall(adjoint=True, named=False, **limits), same_steps=once),
        "given up": Way(OneCall(most=1, **limits), same_steps=once),
    }
    found = compare_gradients(model, record, objective, storage0={"storage": 5.0}, ways=ways, repeats=1)
    good = found.loc[["by interval", "by interval, adjoint"], ["value_error", "true_error"]]
    assert good.to_numpy().max() < 1e-3
    # whole pulses lie between the stages of long dry steps
    assert found.loc["one call", "value_error"] > 1e-2
    # the continuous adjoint knows only what it was told of
    assert found.loc["unnamed", "own_error"] > 0.05
    assert "Given up after 25 evaluations" in found.loc["given up", "failure"]
    assert np.isnan(found.loc["given up", ["value", "seconds", "megabytes"]].to_numpy(dtype=float)).all()
    figure = plot.gradient_ways(found, "ways")
    assert len(figure.axes) == 4 and "given up (failed)" in [t.get_text() for t in figure.axes[0].get_yticklabels()]


def test_continuous_adjoints_are_not_the_gradient_of_the_steps_taken():
    record = RECORD.isel(slice(0, 8))
    limits = {"rtol": 1e-5, "atol": 1e-5}
    tape = Torchdiffeq(**limits)
    ways = {"tape": Way(tape, same_steps=tape), "adjoint": Way(Torchdiffeq(adjoint=True, **limits), same_steps=tape)}
    objective = volume("discharge", FIRST, str(record.time[-1])[:10])
    found = compare_gradients(Balance(exphydro_mended), record, objective, storage0=START, ways=ways, repeats=1)
    # of the order of the tolerance; the exact adjoint leaves round-off
    assert 1e-8 < found.loc["adjoint", "own_error"] < 1e-2 and found.loc["tape", "own_error"] == 0.0


def test_an_objective_that_nothing_moves():
    """Rain does not depend on parameters: gradients of zero agree."""
    ways = {"adjoint": Way(SOLVER, same_steps=TAPE)}
    rain = volume("rain", FIRST, LAST)
    found = compare_gradients(Balance(linear), RECORD, rain, storage0={"storage": 5.0}, ways=ways, repeats=1)
    assert found.loc["adjoint", ["own_error", "true_error"]].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("error", [3.4e-3, 0.0, math.nan])
def test_errors_that_are_all_alike_are_drawn(error):
    """Whole decades, two labels at least, none between them."""
    row = {"own_error": 0.0, "true_error": error, "seconds": 0.5, "megabytes": 20.0, "failure": ""}
    fig = plot.gradient_ways(pd.DataFrame([row, row], index=["a", "b"]))
    assert plot.png(fig, dpi=40)
    for axes in fig.axes:
        low, high = axes.get_xlim()
        shown = [t.get_text() for t in axes.get_xticklabels() if low <= t.get_position()[0] <= high]
        assert (
            high >= 10.0 * low and len(shown) >= 2 and not any(t.get_text() for t in axes.get_xticklabels(minor=True))
        )


def test_usual_ways():
    ways = usual_ways()
    assert ("compiled, exact adjoint" in ways) == compiled.available()
    assert {w.by for w in ways.values()} == {"backward", "forward", "differences"}


def test_peak_memory():
    """Ten results kept for the backward pass, and what the sweep back holds of its own."""
    x = torch.randn(1000, requires_grad=True)
    with PeakMemory() as memory:
        y = x
        for _ in range(10):
            y = torch.tanh(y)
        y.sum().backward()
    assert 10 * 8000 <= memory.peak <= 14 * 8000
    with PeakMemory() as memory:
        for _ in range(10):
            torch.ones(1000).exp_()
    assert memory.peak <= 2 * 8000


@pytest.mark.parametrize("by", ["forward", "differences"])
def test_no_batch(by):
    alone = type(RECORD)({n: v[:, 0] for n, v in RECORD.values.items()}, RECORD.units, RECORD.time_edge)
    found = compare_gradients(
        Balance(exphydro_mended), alone, OBJECTIVE, storage0=START, ways={by: Way(SOLVER, by, TAPE)}, repeats=1
    )
    assert found["own_error"].max() < 1e-6
