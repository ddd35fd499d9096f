"""Newton's iteration where soil stores nothing: between its air entry and a pond."""

import numpy as np
import pytest
import torch

from udehydro import Forcing
from udehydro.errors import SolverError
from udehydro.richards.column import (
    Adaptive,
    Atmospheric,
    Column,
    Fixed,
    Flux,
    FreeDrainage,
    Grid,
    SeepageFace,
    WaterTable,
    compiled,
    flow,
)
from udehydro.richards.laws import CLASSES, BrooksCorey, VanGenuchten, soil_class

RAIN = torch.tensor([0.0, 30.0, 30.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
SERIES = {"rain": RAIN, "pet": torch.full_like(RAIN, 0.3)}
STORM = Forcing(SERIES, dict.fromkeys(SERIES, "cm/d"), np.datetime64("2001-05-01") + np.arange(8))
GRID, UNEQUAL = Grid.uniform(100.0, 20), Grid((0.0, 0.01, 0.02, 5.0, 5.001, 50.0, 100.0))
BOTTOMS = {"drain": FreeDrainage(), "closed": Flux(0.0), "seepage": SeepageFace(), "table": WaterTable(90.0)}


def storm(law, p, bottom, psi0=-80.0, grid=GRID, forcing=STORM):
    run = flow(Column(grid, law, Atmospheric("rain", "pet", pond=0.5), BOTTOMS[bottom]), forcing, p, psi0)
    assert float(run.balance_error.abs().max()) < 1e-12
    return run


@pytest.mark.parametrize("bottom", BOTTOMS)
@pytest.mark.parametrize("name", CLASSES)
def test_a_storm_and_its_end_on_every_texture(name, bottom):
    """Soil dries through its air entry again; closed soil filled up and overflowed, and has lost what the air took."""
    run = storm(VanGenuchten(), {**soil_class(name), "entry": 2.0}, bottom)
    assert float(run.psi[3, 0]) > float(run.psi[-1, 0]) < -2.0
    assert torch.allclose(run.evaporation[1:4], SERIES["pet"][1:4])
    if bottom == "closed":
        assert float(run.psi[3].min()) > 0.0 and torch.allclose(run.evaporation[1:], SERIES["pet"][1:])
        lost = run.storage[3] - run.storage[-1]
        assert float(lost) == pytest.approx(4 * 0.3, rel=1e-12) and float(run.runoff.sum()) > 20.0


@pytest.mark.parametrize("in_torch", [False, True])
@pytest.mark.parametrize("bottom", ["drain", "closed"])
@pytest.mark.parametrize("psi0", [-5.0, torch.linspace(-14.0, -1.0, 20), -80.0], ids=["fringe", "profile", "dry"])
def test_brooks_and_corey(monkeypatch, psi0, bottom, in_torch):
    """From within the fringe no equation tells how far heads fall before the soil gives water."""
    if in_torch:
        monkeypatch.setattr(compiled, "usable", lambda *_: False)
    run = storm(BrooksCorey(), BrooksCorey().defaults, bottom, psi0)
    assert torch.allclose(run.evaporation, SERIES["pet"]) and float(run.psi[1, 0]) < -15.0


@pytest.mark.parametrize("law", [VanGenuchten(), BrooksCorey()], ids=["van Genuchten", "Brooks-Corey"])
@pytest.mark.parametrize("bottom", ["drain", "closed"])
def test_cells_of_unlike_size(law, bottom):
    storm(law, {**soil_class("loam"), "entry": 2.0} if isinstance(law, VanGenuchten) else law.defaults, bottom,
          grid=UNEQUAL)  # fmt: skip


def test_gentle_rain_on_silty_clay():
    series = SERIES | {"rain": RAIN / 15.0}
    gentle = Forcing(series, STORM.units, STORM.time_edge)
    storm(VanGenuchten(), {**soil_class("silty clay"), "entry": 2.0}, "drain", forcing=gentle)


@pytest.mark.parametrize("psi0", [0.0, -1.0, pytest.param(5.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("steps", [Fixed(4), Adaptive()], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("in_torch", [False, True])
@pytest.mark.filterwarnings("ignore:psi0 is above zero")
def test_what_has_no_solution_is_refused(monkeypatch, psi0, steps, in_torch):
    """Saturated soil, more flowing in than out: no head, however high, balances that."""
    if in_torch:
        monkeypatch.setattr(compiled, "usable", lambda *_: False)
    column, soil = Column(GRID, VanGenuchten(), Flux(-1.0), Flux(0.0)), {**soil_class("loam"), "entry": 2.0}
    with pytest.raises(SolverError, match="cannot be solved: 2000-01-01"):
        flow(column, Forcing.clock(days=[0.0, 1.0]), soil, psi0, steps=steps)
