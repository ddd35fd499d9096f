"""Controls: shuffled weather, the senseless structure, the free network."""

from dataclasses import replace

import pytest
import torch

from udehydro import Balance, ConfigError, Forcing, NeuralLaw, simulate
from udehydro.data import weather
from udehydro.discovery import free_network, reading_shuffled, shuffled
from udehydro.models import exphydro_mended, nonsense
from udehydro.sensitivity import differences
from udehydro.solvers import SDIRK2, AllAtOnce

pytest.importorskip("sympy")
STORAGE0 = {"snow": 0.0, "soil": 200.0}


@pytest.fixture(scope="module")
def record():
    return Forcing.from_dataset(weather(400, seed=1), ["prcp", "temp", "dayl"])


def test_shuffled_copies_have_the_weather_and_not_its_dates(record):
    both = shuffled(record, ["prcp", "temp"], seed=3)
    assert torch.equal(both.values["temp_shuffled"].sort(0).values, record.values["temp"].sort(0).values)
    assert not torch.equal(both.values["temp_shuffled"], record.values["temp"])
    # one order for all copies: what rained on a day comes with its temperature
    order = [int((record.values["temp"] == v).nonzero()[0, 0]) for v in both.values["temp_shuffled"][:20, 0]]
    assert torch.equal(both.values["prcp_shuffled"][:20], record.values["prcp"][order])
    assert both.units["prcp_shuffled"] == "mm/d" and torch.equal(both.values["prcp"], record.values["prcp"])
    with pytest.raises(ConfigError, match="Did you mean 'temp'"):
        shuffled(record, ["tmep"])
    with pytest.raises(ConfigError, match="reads no forcing 'pet'"):
        reading_shuffled(exphydro_mended, ["pet"])


def test_a_network_may_read_the_copies_and_nothing_else_changes(record):
    law = NeuralLaw("soil", "temp_shuffled", seed=0)
    model = Balance(reading_shuffled(exphydro_mended, ["temp"]), et=law)
    run = simulate(model, shuffled(record, ["temp"]), storage0=STORAGE0)
    assert "temp_shuffled" in model.forcing_names
    other = simulate(model, shuffled(record, ["temp"], seed=1), storage0=STORAGE0)
    assert torch.equal(run.rate("snowfall"), other.rate("snowfall"))
    assert not torch.allclose(run.rate("et"), other.rate("et"))


def test_the_senseless_structure_keeps_water_and_turns_the_seasons_round(record):
    run, sensible = (simulate(Balance(s), record, storage0=STORAGE0) for s in (nonsense, exphydro_mended))
    assert float(run.max_balance_error()) < 1e-9
    assert torch.allclose(run.rate("snowfall"), sensible.rate("rainfall"))
    cold = record.values["temp"] < -3.0
    assert float(run.rate("melt")[~cold & (record.values["temp"] > 8.0)].max()) == 0.0
    assert float(run.rate("melt")[cold].max()) > 0.0


def test_the_free_network_has_memory_and_its_gradient_is_exact(record):
    """Gradient of mean discharge by a weight and a time constant against central differences."""
    model = free_network({"prcp": "mm/d", "temp": "degC"}, hidden=(4,), seed=0)
    short = record.isel(slice(0, 60))
    theta = {"tau_h1": torch.tensor(5.0, dtype=torch.float64, requires_grad=True), "tau_h2": 50.0}
    weight = next(model.parameters())
    start = {"h1": 0.0, "h2": 0.0}
    solver = AllAtOnce(SDIRK2, tolerance=1e-12)

    def flow(tau):
        return simulate(model, short, theta={**theta, "tau_h1": tau}, storage0=start, solver=solver).discharge.mean()

    def moved(points):
        """Mean discharge where the time constant and a weight are others."""
        before, found = weight[0, 0].item(), []
        for tau, w in points:
            weight[0, 0] = w
            found.append(flow(tau))
        weight[0, 0] = before
        return torch.stack(found)

    by_tau, by_weight = torch.autograd.grad(flow(theta["tau_h1"]), [theta["tau_h1"], weight])
    with torch.no_grad():
        at = torch.stack([theta["tau_h1"], weight[0, 0]])
        found = differences(moved, at).against(torch.stack([by_tau, by_weight[0, 0]]))
        assert found.error < 1e-6 and found.excluded == 0
        wet = {**short.values, "prcp": short.values["prcp"].clone()}
        wet["prcp"][5] += 50.0
        later = simulate(model, replace(short, values=wet), theta=theta, storage0=start, solver=solver).discharge
        first = simulate(model, short, theta=theta, storage0=start, solver=solver).discharge
        assert torch.equal(later[:5], first[:5]) and float((later - first)[10].abs().max()) > 0.0
