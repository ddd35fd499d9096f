"""What soil columns and their inversion refuse or warn of, since it would give wrong numbers without a word."""

import numpy as np
import pytest
import torch

from udehydro import Forcing
from udehydro.errors import DataError
from udehydro.richards.column import Column, Flux, FreeDrainage, Grid, flow
from udehydro.richards.laws import VanGenuchten

LOAM = {"theta_r": 0.065, "theta_s": 0.41, "Ks": 10.0, "alpha": 0.05, "n": 2.2}
GRID = Grid.uniform(30.0, 6)
EDGES = np.datetime64("2001-05-01") + np.arange(4)


def drain(top=None, p=LOAM, psi0=-100.0, forcing=None, bottom=None, law=None, sinks=(), **options):
    """Three days of a column."""
    column = Column(GRID, law or VanGenuchten(), top or Flux(), bottom or FreeDrainage(), sinks)
    return flow(column, Forcing.clock(EDGES) if forcing is None else forcing, p, psi0, **options)


class TestUnits:
    def infiltrated(self, q, units):
        forcing = Forcing({"q": torch.full((3,), q, dtype=torch.float64)}, units, EDGES)
        return float(drain(Flux("q"), forcing=forcing).infiltration.sum())

    @pytest.mark.parametrize("unit", ["mm/d", "mm/day", "mm d-1"])
    def test_spellings(self, unit):
        assert self.infiltrated(-10.0, {"q": unit}) == pytest.approx(3.0)
        assert self.infiltrated(-1.0, {"q": unit.replace("mm", "cm")}) == pytest.approx(3.0)

    @pytest.mark.parametrize("units", [{}, {"q": ""}])
    def test_a_series_without_a_unit(self, units):
        with pytest.raises(DataError, match="'q' has no unit.* one of cm/d, cm/day, cm d-1"):
            self.infiltrated(-1.0, units)
