"""Input of networks that makes no sense is refused with words that say what is wrong, and where."""

import numpy as np
import pytest
import torch
from test_pinn_solve import LOAM, SOFT, layered

from udehydro.errors import ConfigError, DataError
from udehydro.richards import laws
from udehydro.richards.inversion import Observed
from udehydro.richards.pinn import Box, Counts, Problem, Region, Soil, Wall
from udehydro.richards.pinn.residuals import Data


def region(low, high, start=0.0, stop=1.0, p=LOAM, law=None):
    return Region(Box((start, low), (stop, high)), Soil(law or laws.VanGenuchten(), p))


def problem(*regions, walls=(), flux=2.0, head=30.0, data=()):
    return Problem(regions or [region(-20.0, 0.0)], walls, flux, head, data)


def test_regions_above_each_other_touch():
    problem(region(-8.0, 0.0), region(-20.0, -8.0), region(-30.0, -20.0))
    layered()  # in two slabs of time
    problem(region(-8.0, 0.0), region(-20.0, -9.0, start=1.0, stop=2.0))  # of other times
    side_by_side = [Box((0.0, x, z), (1.0, x + 5.0, z + 5.0)) for x in (0.0, 5.0) for z in (0.0, 5.0)]
    problem(*(Region(box, Soil(laws.Gardner(), SOFT)) for box in side_by_side))
    with pytest.raises(ConfigError, match=r"Region 1 ends at z=-9.0, region 0 above it begins at z=-8.0: a gap"):
        problem(region(-8.0, 0.0), region(-20.0, -9.0))
    with pytest.raises(ConfigError, match=r"Region 2 ends at z=-7.0, region 1 above it begins at z=-8.0: they overlap"):
        problem(region(-20.0, 0.0, start=1.0, stop=2.0), region(-8.0, 0.0), region(-20.0, -7.0))
    with pytest.raises(ConfigError, match=r"z=-0.3, region 0 above it begins at z=-0.30000000000000004: they overlap"):
        problem(region(-0.1 * 3, 0.0), region(-1.0, -0.3))


def test_boxes_scales_and_places():
    with pytest.raises(ConfigError, match=r"from \(0.0, 0.0\) to \(1.0, -20.0\): low has to be below high"):
        region(0.0, -20.0)
    with pytest.raises(ConfigError, match="low has to be below high"):
        Region(Box((0.0,), (1.0, 2.0)), Soil(laws.VanGenuchten(), LOAM))
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=rf"flux={wrong} is a scale \[cm/d\]"):
            problem(flux=wrong)
        with pytest.raises(ConfigError, match=rf"head={wrong} is a scale \[cm\]"):
            problem(head=wrong)
    for wrong in (5, -1):
        with pytest.raises(ConfigError, match=f"region={wrong} of wall 1 is none of the 1, 0 to 0"):
            problem(walls=[Wall("drainage", upper=False), Wall("flux", -1.0, region=wrong)])
    with pytest.raises(ConfigError, match="region=1 of data 0 is none"):
        problem(data=[Data("theta", torch.tensor([[0.5, -1.0]]), torch.tensor([0.2]), 0.01, region=1)])


def test_the_surface_is_at_zero():
    surface = problem(region(-20.0, -0.0), walls=[Wall("flux", -1.0)])
    assert "flux at z=0" in surface.system(surface.fields((0,), 3, 2), 0, Counts(20, 5)).names


@pytest.mark.parametrize(
    ("p", "says"),
    [
        (LOAM | {"Ksat": 20.0}, "'Ksat', which no law of the column reads. Did you mean 'Ks'"),
        ({n: v for n, v in LOAM.items() if n != "Ks"}, "layer 1 needs the parameter 'Ks'"),
        (LOAM | {"theta_s": 43.0}, "'theta_s' of region 1 is 43; it has to be at most 1: in per cent?"),
        (LOAM | {"theta_r": 0.5}, "'theta_r' of region 1 is 0.5; it has to be below theta_s."),
        (LOAM | {"alpha": torch.tensor(-0.036)}, "'alpha' of region 1 is -0.036; it has to be above 0"),
    ],
)
def test_values_of_soils(p, says):
    with pytest.raises(ConfigError, match=says):
        problem(region(-8.0, 0.0), region(-20.0, -8.0, p=p))


def test_values_that_follow_from_unknowns_are_left_alone():
    problem(region(-8.0, 0.0, p=lambda extra: {}), region(-20.0, -8.0))


def test_depths_and_errors_of_readings():
    for wrong in (-5.0, (5.0, -10.0), float("nan"), torch.tensor([5.0, torch.inf])):
        with pytest.raises(ConfigError, match="depths are cm below the surface, positive downward"):
            Observed("theta", [[0.2, 0.3]], 0.01, wrong)
    for wrong in (np.inf, [0.01, np.inf], 0.0):
        with pytest.raises(DataError, match="above zero and finite"):
            Observed("theta", [[0.2, 0.3]], wrong, (5.0, 10.0))
    Observed("theta", [[0.2, np.nan]], [0.01, np.inf], (5.0, 10.0))


@pytest.mark.parametrize("of", [list, tuple, np.array, torch.tensor])
def test_readings_of_any_kind(of):
    found = Observed("theta", of([0.2, 0.3]), of([0.01, 0.02]), 5.0)
    for series, values in ((found.values, [0.2, 0.3]), (found.sigma, [0.01, 0.02])):
        torch.testing.assert_close(series, torch.tensor(values, dtype=torch.float64), rtol=1e-6, atol=0.0)
        assert series.dtype == torch.float64
