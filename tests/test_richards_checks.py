"""What soil columns and their inversion refuse or warn of, since it would give wrong numbers without a word."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from udehydro import Forcing
from udehydro.errors import ConfigError, DataError, SolverError
from udehydro.richards.column import (
    Atmospheric,
    Column,
    Fixed,
    Flux,
    FreeDrainage,
    Grid,
    Head,
    Layer,
    RootUptake,
    Source,
    WaterTable,
    flow,
)
from udehydro.richards.inversion import Free, Inversion, Observed, fit, fit_curves
from udehydro.richards.inversion.fit import _Task
from udehydro.richards.laws import BrooksCorey, Corrected, MonotoneSpline, VanGenuchten, soil_class

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


class TestSoil:
    @pytest.mark.parametrize(
        ("p", "message"),
        [
            ({"alpha": -0.05}, "Parameter .alpha. of layer 0 is -0.05 1/cm; it has to be above 0"),
            ({"n": 0.5}, "'n' .* is 0.5; it has to be above 1: m = 1 - 1/n in its place"),
            ({"n": 1.0}, "'n' .* is 1; it has to be above 1"),
            ({"Ks": 0.0}, "'Ks' .* is 0 cm/d; it has to be above 0"),
            ({"entry": -2.0}, "'entry' .* is -2 cm; it has to be zero or more"),
            ({"theta_r": -0.01}, "'theta_r' .* is -0.01; it has to be zero or more"),
            ({"theta_r": 0.41}, "'theta_r' .* is 0.41; it has to be below theta_s"),
            ({"theta_s": 41.0}, "'theta_s' .* is 41; it has to be at most 1: in per cent"),
            ({"n": float("nan")}, "'n' is not finite"),
        ],
    )
    def test_impossible(self, p, message):
        with pytest.raises(ConfigError, match=message):
            drain(p=LOAM | p)

    def test_names_layer_column_and_cell(self):
        column = Column(GRID, [Layer(VanGenuchten(), 10.0), Layer(VanGenuchten())])
        n = torch.full((2, 3, 4), 2.0)
        n[1, 2, 3] = 0.9
        with pytest.raises(ConfigError, match=r"'n' of layer 1 is 0.9 \(member 1, .*\(1, 2\), cell 3\); it has"):
            flow(column, Forcing.clock(EDGES, (2, 3)), [LOAM, LOAM | {"n": n}], -100.0)
        named = Forcing.clock(EDGES, (2,), basins=("a", "b"))
        with pytest.raises(ConfigError, match=r"'Ks' of layer 0 is -1 cm/d \(basin b\)"):
            flow(column, named, [LOAM | {"Ks": torch.tensor([1.0, -1.0])}, LOAM], -100.0)

    @pytest.mark.parametrize("law", [BrooksCorey(), MonotoneSpline(free="parameters"), Corrected(VanGenuchten())])
    def test_every_law(self, law):
        name = next(n for n in law.ranges if n not in ("theta_r", "theta_s", "Ks"))
        drain(p=law.defaults, law=law)
        with pytest.raises(ConfigError, match=f"'{name}' .* has to be above"):
            drain(p=law.defaults | {name: 0.0}, law=law)

    @pytest.mark.parametrize(
        ("p", "message"),
        [
            ({"alpha": 3.6}, "'alpha' of layer 0 is 3.6 1/cm; it is outside the usual 0.001 to 0.5 1/cm: in 1/m?"),
            ({"Ks": 2.9e-6}, r"'Ks' .* 2.9e-06 cm/d; it is outside .*: in m/s\?"),
        ],
    )
    def test_unusual(self, p, message):
        with pytest.warns(UserWarning, match=message) as caught:
            drain(p=LOAM | p)
        assert caught[0].filename == __file__

    def test_limits_of_ranges_are_usual(self):
        for limit in ("low", "high"):
            value = getattr(VanGenuchten.ranges["alpha"], limit)
            drain(p=LOAM | {"alpha": float(np.exp(np.log(value)))})


class TestReadings:
    @pytest.mark.parametrize(
        ("theta", "message"),
        [
            ([0.2, 25.0, 30.0], "theta at 10 cm: .* got 0.2 to 30. Per cent"),
            ([0.2, -9999.0, 0.3], "-9999 for what is missing"),
            ([0.2, -0.02, 0.3], "An offset of the sensor"),
        ],
    )
    def test_contents(self, theta, message):
        with pytest.raises(DataError, match=message):
            Observed("theta", torch.tensor(theta), 0.01, depth=10.0)
        psi = -torch.ones(3)
        with pytest.raises(DataError, match=message.removeprefix("theta at 10 cm: .*")):
            fit_curves(VanGenuchten(), LOAM | {"n": Free(2.0)}, theta=(psi, torch.tensor(theta), 0.01))

    def test_missing_contents_and_limits_are_fine(self):
        Observed("theta", torch.tensor([0.0, torch.nan, 1.0]), 0.01, depth=10.0)

    def test_tables_of_pandas(self):
        table = pd.DataFrame({5.0: [0.2, 0.3], 10.0: [0.25, np.nan]})
        found = Observed("theta", table, 0.01, depth=tuple(table.columns))
        assert np.array_equal(found.values.numpy(), table, equal_nan=True)

    def test_suctions(self):
        depth, suction = (10.0, 30.0), torch.full((4, 2), 150.0)
        with pytest.raises(DataError, match="8 of 8 heads are above zero, up to 150 cm. Suctions"):
            Observed("psi", suction, 2.0, depth=depth)
        Observed("psi", -suction, 2.0, depth=depth)
        with pytest.warns(UserWarning, match="Below a water table") as caught:
            Observed("psi", 0.1 * suction, 2.0, depth=(20.0, 30.0))
        assert caught[0].filename == __file__
        wet = -suction
        wet[:, 1] = 20.0  # a sensor below the water table, among others
        Observed("psi", wet, 2.0, depth=depth)


class TestDoubts:
    def task(self, seen, batch=(), **free):
        forcing = Forcing.clock(EDGES, batch)
        column = Column(GRID, VanGenuchten(), Flux(-2.0), FreeDrainage())
        return Inversion(column, forcing, LOAM | free, -100.0, seen, steps=Fixed(3))

    def seen(self, sigma=0.005, add=0.0, batch=(2,)):
        run = drain(Flux(-2.0), forcing=Forcing.clock(EDGES, batch), steps=Fixed(3))
        return Observed("theta", Observed("theta", torch.zeros(4), 1.0, 10.0).of(run, run.column) + add, sigma, 10.0)

    def test_a_good_fit_says_nothing(self):
        found = fit(self.task(self.seen(batch=()), Ks=Free(4.0)))
        assert found.at_limit == ((),) and float(found.misfit[0]) < 1e-3

    def test_limits_by_member_iterations_and_misfit(self):
        task = self.task(
            self.seen(), (2,), Ks=Free(torch.tensor([4.0, 8.0]), high=9.0), alpha=Free(torch.full((2,), 0.04))
        )
        with pytest.warns(UserWarning, match=r"at a limit: Ks \(2 of 2\)") as caught:
            found = fit(task)
        assert len(caught) == 1 and caught[0].filename == __file__
        assert found.at_limit == (("Ks",), ("Ks",))
        with pytest.warns(UserWarning, match=r"2 of 2 member\(s\) have not converged in 1 iterations"):
            fit(task, steps=1)
        with pytest.warns(UserWarning, match="chi2 / N is .* of member .* where one is expected"):
            fit(self.task(self.seen(1e-3, 0.02), (2,), Ks=Free(torch.tensor([4.0, 8.0]))))


class TestBoundaries:
    DENSITY = torch.ones(6)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"top": Atmospheric(-0.5, 0.1)}, "'rain' of Atmospheric is -0.5; it has to be zero or more"),
            ({"top": Atmospheric(0.5, 0.1, pond=-1.0)}, "'pond' of Atmospheric is -1; it has to be zero or more"),
            ({"top": Atmospheric(0.0, 0.1, driest=15000.0)}, "'driest' .* has to be below zero, a head such as -15000"),
            ({"sinks": RootUptake(-0.3, DENSITY)}, "'transpiration' of RootUptake is -0.3"),
            ({"sinks": RootUptake(0.3, 0.0 * DENSITY)}, "'density' .* not zero in all"),
            (
                {"sinks": RootUptake(0.3, torch.tensor([1.0, 1.0, -0.1, 0.0, 0.0, 0.0]))},
                r"'density' .* -0.1 \(cell 2\)",
            ),
            ({"sinks": RootUptake(0.3, DENSITY, 10.0, 25.0, 400.0, 8000.0)}, "wilting < dry <= wet < anaerobic"),
            ({"sinks": RootUptake(0.3, DENSITY, dry=-10.0)}, "'dry' .* is -10; it has to be in the order"),
            ({"sinks": RootUptake(0.3, DENSITY, wilting=-300.0)}, "'wilting' .* is -300"),
            ({"top": Atmospheric(0.0, 0.1), "pond0": -1.0}, "pond0 is a depth .* got -1 cm"),
            ({"top": Atmospheric(0.0, pond=0.5), "pond0": 1.0}, "pond0=1 cm is more than the 'pond' of Atmospheric"),
            ({"top": Atmospheric(0.0, 0.1), "psi0": -2e4}, "starts at -2e.04 cm at the surface, drier than 'driest'"),
        ],
    )
    def test_impossible(self, given, message):
        with pytest.raises(ConfigError, match=message):
            drain(**given)

    def test_a_series_is_named_with_basin_and_date(self):
        rain = torch.zeros(3, 2)
        rain[1, 1] = -9.0
        forcing = Forcing({"rain": rain}, {"rain": "mm/d"}, EDGES, basins=("a", "b"))
        with pytest.raises(DataError, match=r"\(series 'rain'\) is -0.9 \(basin b, 2001-05-02\)"):
            drain(Atmospheric("rain"), forcing=forcing)

    def test_artesian_or_a_wrong_sign(self):
        with pytest.warns(UserWarning, match="'depth' of WaterTable is -10; artesian .* positive downwards") as caught:
            drain(bottom=WaterTable(-10.0))
        assert caught[0].filename == __file__

    def test_what_is_unusual_but_possible(self):
        drain(Atmospheric(0.5, -0.1))  # dew
        drain(sinks=RootUptake(0.3, self.DENSITY, anaerobic=0.0, wet=-1.0, dry=-1.0))

    def test_a_trial_that_no_column_can_have_goes_back(self):
        """A member whose values cross in the search is turned back; the other goes on."""
        column = Column(GRID, VanGenuchten(), Flux(-2.0), FreeDrainage())
        free = {"theta_r": Free(torch.tensor([0.065, 0.065]), high=0.6), "theta_s": Free(torch.tensor([0.41, 0.42]))}
        seen = Observed("theta", torch.full((4, 2), 0.3), 0.1, 10.0)
        task = _Task(
            Inversion(column, Forcing.clock(EDGES, (2,)), LOAM | free, -100.0, seen),
            torch.tensor([[0.065, 0.41], [0.065, 0.42]]),
        )
        found = task.evaluate(torch.tensor([[0.5, 0.41], [0.07, 0.42]]), torch.arange(2))
        assert found.chi2.isfinite().tolist() == [False, True]


class TestStart:
    @pytest.mark.parametrize("psi0", [100.0, torch.linspace(100.0, 10.0, 6)])
    def test_suctions(self, psi0):
        with pytest.warns(
            UserWarning, match="psi0 is above zero in all cells, up to 100 cm: .* -100, for a suction"
        ) as caught:
            drain(psi0=psi0, bottom=Head(-10.0))
        assert caught[0].filename == __file__

    def test_a_water_content(self):
        with pytest.warns(UserWarning, match=r"WaterContent\(0.2\), for a water content"):
            drain(psi0=0.2)

    def test_saturated_with_reason(self):
        """Under a pond or a head, above a water table at the surface; saturated below a water table in the column."""
        depth = torch.as_tensor(GRID.depth)
        drain(Head(5.0), psi0=depth)
        drain(bottom=WaterTable(0.0), psi0=depth)
        drain(bottom=Head(32.0), psi0=depth + 2.0)
        drain(Atmospheric(0.0, pond=2.0), psi0=depth, pond0=1.0)
        drain(bottom=WaterTable(20.0), psi0=depth - 20.0)


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_second_derivatives_are_refused(penalty):
    """Also where other paths lead to the parameter, which would otherwise be all that is returned."""
    ks = torch.tensor(10.0, requires_grad=True)
    total = drain(Flux(-1.0), p=LOAM | {"Ks": ks}).recharge.sum() + penalty * ks.square()
    (plain,) = torch.autograd.grad(total, ks, retain_graph=True)
    (first,) = torch.autograd.grad(total, ks, create_graph=True)
    assert torch.equal(plain, first)
    with pytest.raises(SolverError, match="first derivatives only"):
        torch.autograd.grad(first, ks)


class Broken(VanGenuchten):
    def conductivity(self, psi, p):
        return torch.where(psi > -100.0, torch.nan, super().conductivity(psi, p))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"top": Flux(2.0)}, "cannot give the flux of 2 cm/d through its top. .* infiltration is negative"),
        ({"bottom": Flux(-9.0)}, "cannot give the flux of -9 cm/d through its bottom"),
        ({"sinks": Source(torch.full((6,), -0.3))}, "A Source takes out more than the soil has"),
        ({"top": Flux(-200.0)}, "200 cm/d shall enter, more than the 10 cm/d .* Atmospheric"),
        ({"top": Flux(-5.0), "bottom": Flux(0.0)}, r"between two given fluxes .* Layer\(law, specific_storage=1e-6\)"),
        ({"top": Flux(-5.0), "law": Broken()}, "gave NaN"),
        ({"top": Atmospheric(5.0), "p": soil_class("silty clay")}, "n below 2 and no air entry"),
    ],
)
def test_why_a_step_cannot_be_solved(given, message):
    with pytest.raises(SolverError, match=f"cannot be solved: 2001-05-0.*{message}"):
        drain(**given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: drain(forcing={"rain": [1.0]}), "takes a Column and a Forcing, got Column and dict"),
        (lambda: drain(steps=4), "steps is Fixed"),
        (lambda: drain(p=0.4), "p is a mapping of soil parameters"),
        (lambda: drain(p=LOAM | {"Ks": "25"}), "'Ks' is a number or an array of numbers, got '25'"),
        (lambda: drain(p={"ks": 3.0}), "Did you mean 'Ks'"),
        (lambda: drain(p=LOAM | {"KSS": 3.0}), "Did you mean 'Ks'"),
        (lambda: Column(GRID, VanGenuchten), "got the class VanGenuchten"),
        (lambda: Column((0.0, 1.0), VanGenuchten()), "needs a Grid, got tuple"),
        (lambda: soil_class("Sandy Loam"), "Did you mean 'sandy loam'"),
    ],
)
def test_what_is_no_such_thing(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("observed", [[], [torch.zeros(4)]])
def test_nothing_observed(observed):
    with pytest.raises(ConfigError, match="needs what was observed"):
        Inversion(Column(GRID, VanGenuchten()), Forcing.clock(EDGES), LOAM | {"Ks": Free(1.0)}, -100.0, observed)


def test_runs_and_fits_in_a_line():
    run = drain(Atmospheric(1.0))
    assert len(repr(run)) < 200 and "3 intervals from 2001-05-01 to 2001-05-04, batch (), 6 cells" in repr(run)
    seen = Observed("theta", torch.tensor([[0.2, 0.21], [0.25, 0.3], [0.3, 0.32], [0.3, 0.33]]), 0.05, 10.0)
    free = {"Ks": Free(torch.tensor([4.0, 8.0]), high=9.0), "theta_s": Free(torch.tensor([0.4, 0.41]), low=0.39)}
    task = Inversion(
        Column(GRID, VanGenuchten(), Flux(-2.0), FreeDrainage()), Forcing.clock(EDGES, (2,)), LOAM | free, -100.0, seen
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit(task, steps=8)
    assert repr(found).startswith("Fitted(2 value(s) of 2 member(s), chi2 / N ") and len(repr(found)) < 200
    rows = found.summary(1).splitlines()
    theta_s, ks = (r.split() for r in rows[1:3])
    assert ks[0] == "Ks" and float(ks[1]) == pytest.approx(float(found.values[1, 1]), rel=1e-3)
    assert float(ks[2]) == pytest.approx(100.0 * float(found.sd[1, 1]), rel=0.1) and ks[3] == "%"
    assert float(theta_s[2]) == pytest.approx(float(found.sd[1, 0]), rel=0.1) and "%" not in theta_s
    assert [("at a limit" in r) for r in rows[1:3]] == [n in found.at_limit[1] for n in found.names]
    assert rows[-1].startswith("chi2 / N")
    with pytest.raises(ConfigError, match="none of the 2 member"):
        found.summary(2)
