"""Sensitivities and assimilation follow their inputs: nothing is made on the default device (see test_device)."""

import pytest
import torch
from tables import SCALE, weather
from test_device import elsewhere

from udehydro import Balance, NeuralLaw, simulate
from udehydro.assimilation import Background, Windows, assimilate, flow_error, forecast
from udehydro.models import exphydro_mended
from udehydro.sensitivity import (
    Response,
    Space,
    Way,
    adjoint,
    compare_gradients,
    evaluate,
    flood_peak,
    forward,
    low_flow_days,
    score,
    storage_at,
    verify,
    volume,
)
from udehydro.solvers import SDIRK2, AllAtOnce, Stepping
from udehydro.training import nse

RECORD = weather(12, 2, seed=3)
FIRST, LAST = (str(RECORD.time[i])[:10] for i in (2, 11))
START = {"snow": 5.0, "soil": 250.0}
SOLVER = AllAtOnce(SDIRK2, warm_start=False)
LAW = NeuralLaw("soil", "prcp", hidden=(3,), scale=SCALE, seed=1)
MODEL = Balance(exphydro_mended, discharge=LAW)
FLOW = simulate(MODEL, RECORD, storage0=START, solver=SOLVER).discharge.detach()
OBJECTIVES = {
    "volume": volume("discharge", FIRST, LAST),
    "peak": flood_peak(FIRST, LAST),
    "low flow": low_flow_days(0.5, 0.1, FIRST, LAST),
    "storage": storage_at("soil", LAST),
    "nse": score(nse, FLOW * 1.1, FIRST, LAST),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_adjoint(name):
    with elsewhere():
        found = adjoint(MODEL, RECORD, OBJECTIVES[name], storage0=START, solver=SOLVER, fluxes=True)
        found.elasticity()
    assert all(g.device.type == "cpu" for g in (*found.forcing.values(), *found.weights.values()))


def test_forward_and_information():
    # the run itself is differentiated in forward mode, for which torch makes scalars of its own on the default device
    found = forward(MODEL, RECORD, ["smax", "soil"], storage0=START, solver=SOLVER)
    with elsewhere():
        found.scaled(), found.elasticity()
        information = found.information(0.3)
        information.sd(), information.spectrum(), information.collinearities(2), information.content()
        found.windows(0.3, width=4, step=2).each.content()


def test_samples_and_their_derivatives():
    space = Space.of(Balance(exphydro_mended), without=("tmin",))
    response = Response(Balance(exphydro_mended), RECORD, OBJECTIVES["volume"], storage0=START, solver=SOLVER)
    unit = torch.full((3, len(space)), 0.4)
    with elsewhere():
        values, derivatives = evaluate(response, space, unit, gradient=True, progress=None)
    assert values.device.type == derivatives.device.type == "cpu"


def test_tests_of_derivatives():
    # not "forward", see above
    ways = {by: Way(SOLVER, by, Stepping(SDIRK2, gradient="tape")) for by in ("backward", "differences")}
    with elsewhere():
        verify(MODEL, RECORD, {"volume": OBJECTIVES["volume"]}, storage0=START, solver=SOLVER, days=1)
        compare_gradients(MODEL, RECORD, OBJECTIVES["volume"], storage0=START, ways=ways, repeats=1)


def test_assimilation():
    with elsewhere():
        windows = Windows(RECORD, [RECORD.time[6], RECORD.time[7]], past=5, ahead=3)
        past, _ = windows.cut(FLOW)
        background = Background(START, 20.0, {"prcp": 0.3})
        found = assimilate(
            MODEL, windows.before, past, background, flow_error(past, 0.05, 0.01), solver=SOLVER, steps=3, spread=True
        )
        forecast(found, windows.after)
    assert found.run.storage.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_device():
    """The same derivatives as on the CPU, to the rounding of other kernels."""
    results = []
    for device in ("cpu", "cuda"):
        model, record = Balance(exphydro_mended, discharge=LAW).to(device), RECORD.to(device=device)
        found = adjoint(model, record, OBJECTIVES["volume"], storage0=START, solver=SOLVER, fluxes=True)
        moved = forward(model, record, ["smax", "soil"], storage0=START, solver=SOLVER)
        assert found.forcing["prcp"].device.type == moved.discharge.device.type == device
        results.append([found.forcing["prcp"].cpu(), found.fluxes["et"].cpu(), moved.discharge.cpu()])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)
