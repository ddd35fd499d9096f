"""Times at which rain begins and ends, read off a sensor."""

import numpy as np
import pytest
import torch

from udehydro.errors import ConfigError
from udehydro.richards.inversion import Observed
from udehydro.richards.pinn import turns

DAYS = np.linspace(0.0, 3.0, 251)
TIMES = (0.5, 0.8, 2.0)


def wetting(sigma: float, seed: int = 0) -> Observed:
    """Water rises with the root of the time since rain began, drains when it ends; the lower sensor does nothing."""
    upper = np.full(251, 0.15)
    for t, size in zip(TIMES, (0.15, -0.15, 0.2), strict=True):
        upper += size * np.sqrt((DAYS - t).clip(0.0) / 0.3).clip(max=1.0)
    values = np.stack([np.full(251, 0.2), upper], 1)
    values = values + sigma * np.random.default_rng(seed).standard_normal(values.shape)
    return Observed("theta", torch.as_tensor(values), sigma, (8.0, 1.0))


def nearest(found) -> list[float]:
    return [min(abs(t - true) for t in found) for true in TIMES]


@pytest.mark.parametrize("seed", range(5))
def test_turns_are_found_and_noise_is_none(seed):
    found = turns(DAYS, wetting(0.003, seed))
    assert found[0] == 0.0 and list(found) == sorted(found)
    assert max(nearest(found)) < 0.05
    quiet = Observed("theta", wetting(0.005, seed).values[:, :1], 0.005, (8.0,))
    assert turns(DAYS, quiet) == (0.0,)


def test_missing_readings_and_the_clearest():
    sensors = wetting(0.002)
    sensors.values[100:110, 1] = torch.nan
    assert max(nearest(turns(DAYS, sensors))) < 0.05
    few = turns(DAYS, sensors, most=4)
    assert len(few) == 4 and max(nearest(few)) < 0.05


def test_a_dead_sensor_is_passed_over():
    sensors = wetting(0.003)
    expected = turns(DAYS, sensors)
    values = torch.cat([torch.full_like(sensors.values[:, :1], torch.nan), sensors.values], 1)
    values[:5, 0] = 0.2  # one less than a trend and a mean take
    assert turns(DAYS, Observed("theta", values, 0.003, (0.5, 8.0, 1.0))) == expected
    values[5:, 1:] = torch.nan
    with pytest.raises(ConfigError, match="No sensor has 6 readings.*at 0.5, 8, 1 cm"):
        turns(DAYS, Observed("theta", values, 0.003, (0.5, 8.0, 1.0)))
    assert len(turns(DAYS, Observed("theta", values, 0.003, (0.5, 8.0, 1.0)), after=2)) >= 1


@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_a_clear_step_is_early_by_no_more_than_the_mean_is_long(after):
    upper = torch.where(torch.as_tensor(DAYS) > 1.0, 0.3, 0.1).to(torch.float64)
    upper = upper + 1e-3 * torch.as_tensor(np.random.default_rng(0).standard_normal(251))
    last = np.flatnonzero(DAYS <= 1.0)[-1]  # reading before the step
    early = last - np.flatnonzero(DAYS == turns(DAYS, Observed("theta", upper, 1e-3, 1.0), after=after)[1])[0]
    assert early == after - 1


def test_what_is_no_record_is_refused():
    sensors = wetting(0.005)
    with pytest.raises(ConfigError, match="one record"):
        turns(DAYS[:-1], sensors)
    with pytest.raises(ConfigError, match="which rise"):
        turns(DAYS[::-1], sensors)
    with pytest.raises(ConfigError, match="one record"):
        turns(DAYS, Observed("theta", sensors.values.unsqueeze(1), 0.005, (8.0, 1.0)))
    with pytest.raises(ConfigError, match="column for each sensor"):
        turns(DAYS, Observed("theta", sensors.values, 0.005, (8.0, 1.0, 2.0)))
    with pytest.raises(ConfigError, match="not of psi at 1 cm"):
        turns(DAYS, Observed("psi", torch.full((251,), -50.0), 1.0, 1.0))
    for name, few in (("before", 1), ("after", 0), ("most", 0)):
        with pytest.raises(ConfigError, match=f"{name}={few}"):
            turns(DAYS, sensors, **{name: few})
