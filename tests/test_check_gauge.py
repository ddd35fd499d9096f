"""check_gauge: null directions are those of soils that run to the same data, and verdicts those of the theory."""

import re
import warnings
from functools import cache

import pytest
import torch
from test_richards_inversion import LOAM, RAIN, SENSORS, clock, observe

from udehydro.errors import ConfigError
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
    SeepageFace,
    WaterContent,
    WaterTable,
    flow,
    flow_along,
)
from udehydro.richards.inversion import Free, Inversion, Observed, check_gauge, fit
from udehydro.richards.inversion.anchors import anchors
from udehydro.richards.inversion.gauge import refuse
from udehydro.richards.laws import Gauged, MonotoneSpline, VanGenuchten

GRID = Grid.uniform(40.0, 8)
STEPS = Fixed(2)
UNKNOWN = Flux(Free(RAIN, spread=torch.eye(7)))
MOIST = WaterContent(0.2)
SOIL = {n: Free(v) for n, v in LOAM.items()}


def column(top, bottom=None, law=None, **options):
    return Column(GRID, law or VanGenuchten(), top, bottom or FreeDrainage(), **options)


@cache
def run():
    return flow(column(Flux(RAIN)), clock(), LOAM, MOIST, steps=STEPS)


def observed(*kinds):
    return observe(run(), {k: SENSORS[k] for k in kinds})


def inversion(top, psi0, kinds, bottom=None, p=SOIL, **options):
    series = observed(*kinds) if isinstance(kinds, tuple) else kinds
    return Inversion(column(top, bottom, **options), clock(), p, psi0, series, steps=STEPS)


def check(*case, **options):
    return check_gauge(inversion(*case, **options))


def free(*case, **options):
    """Names of what nothing decides."""
    return tuple(n for n, by in anchors(inversion(*case, **options)).items() if not by)


class TestVerdicts:
    """The table of what is identified by what, for a homogeneous column."""

    @pytest.mark.parametrize(
        ("top", "psi0", "kinds", "expected"),
        [
            (UNKNOWN, MOIST, ("theta",), ("shift", "offset")),
            (Flux(RAIN), MOIST, ("theta",), ("shift",)),
            (Flux(RAIN), MOIST, ("theta", "psi"), ()),
            (UNKNOWN, WaterContent(Free(0.2)), ("theta",), ("shift", "offset")),
            (UNKNOWN, -100.0, ("psi",), ("scale", "level")),
            (Flux(RAIN), -100.0, ("psi",), ("level",)),
        ],
        ids=["theta", "theta and a flux", "theta, a flux, a head", "unknown start", "psi", "psi and a flux"],
    )
    def test_data(self, top, psi0, kinds, expected):
        assert free(top, psi0, kinds) == expected

    def test_boundaries_that_know_a_head(self):
        for bottom in (Head(-50.0), WaterTable(60.0), SeepageFace()):
            assert free(Flux(RAIN), MOIST, ("theta",), bottom) == ()
        assert free(Flux(RAIN), MOIST, ("theta",), Head(Free(-50.0))) == ("shift",)
        assert free(Atmospheric(0.5, 0.1, pond=1.0), MOIST, ("theta",)) == ()

    def test_other_anchors(self):
        roots = RootUptake(0.1, torch.ones(8, dtype=torch.float64))
        assert free(Flux(RAIN), MOIST, ("theta",), sinks=[roots]) == ()
        layers = [Layer(VanGenuchten(), 20.0), Layer(VanGenuchten())]
        soil = Column(GRID, layers, UNKNOWN, FreeDrainage())
        found = anchors(Inversion(soil, clock(), [SOIL, LOAM], MOIST, observed("theta"), steps=STEPS))
        assert all(found.values()) and "the known soil of layer 1" in found["shift"]
        outflow = Observed("recharge", torch.ones(7), 0.1)
        assert free(UNKNOWN, MOIST, [*observed("theta"), outflow]) == ("shift",)
        assert free(Flux(RAIN), MOIST, ("theta",), horizontal=True) == ("shift", "offset")

    def test_report(self):
        """What is free has no standard deviation, whatever the noise; the rest has one."""
        found = check(Flux(RAIN), MOIST, ("theta",))
        assert found.free == ("shift",) and bool(found["shift"].sd.isinf().all()) and "FREE" in str(found)
        assert 0.0 < float(found["offset"].sd[0]) < 0.5 and "known to" in str(found["offset"])

    @pytest.mark.slow
    def test_a_dry_head_says_little(self):
        """Heads at the wet end add up from where the soil conducts next to nothing."""
        dry = check(Flux(RAIN), -2000.0, ("theta",))["shift"]
        wet = check(Flux(RAIN), -40.0, ("theta",))["shift"]
        assert dry.weak and not wet.weak and float(dry.sd[0]) > 100.0 * float(wet.sd[0])
        assert "HARDLY KNOWN" in str(dry) and "one tensiometer" in str(dry)
        poor = Observed("psi", observed("psi")[0].values, 2.0, depth=5.0, log=True)
        found = check(Flux(RAIN), MOIST, [*observed("theta"), poor])
        assert found.weak == found.open == ("shift",) and not found.free
        assert "one tensiometer" not in str(found) and "a tensiometer with a smaller error" in str(found)
        with pytest.raises(ConfigError, match="(?s)curves open:.*shift.*HARDLY KNOWN"):
            refuse(found)

    def test_units(self):
        found = check(Flux(RAIN), MOIST, ("theta", "psi"))
        assert re.search("scale.*known to [0-9.e-]+ by", str(found)) and re.search(
            "known to [0-9.e-]+ cm by", str(found)
        )

    @pytest.mark.slow
    def test_better_sensors_know_more(self):
        """Ten times smaller errors, a tenth of the standard deviation."""
        theta, psi = observed("theta", "psi")
        found = []
        for factor in (1.0, 0.1):
            better = Observed("psi", psi.values, factor * 0.03, depth=5.0, log=True)
            found.append(
                check(Flux(RAIN), MOIST, [Observed("theta", theta.values, factor * 0.005, depth=theta.depth), better])
            )
        assert torch.allclose(found[0]["shift"].sd, 10.0 * found[1]["shift"].sd, rtol=1e-3)


class TestDirections:
    psi = -torch.logspace(0.5, 2.2, 12, dtype=torch.float64)

    @pytest.mark.parametrize(("name", "size"), [("shift", 1e-3), ("offset", 1e-8)])
    def test_are_those_of_soils_that_theta_cannot_tell_apart(self, name, size):
        """The null direction is the difference of the two soils of a pair, divided by how far they are apart."""
        found = check(UNKNOWN, MOIST, ("theta",))[name]
        law = Gauged(VanGenuchten())
        sides = [{**LOAM, name: s * size} for s in (1.0, -1.0)]
        for i, curve in enumerate((law.theta, law.conductivity)):
            difference = (curve(self.psi, sides[0]) - curve(self.psi, sides[1])) / (2.0 * size)
            assert torch.allclose(
                found.direction(self.psi)[i], difference, rtol=1e-5, atol=1e-9 * float(difference.abs().max())
            )

    def test_theta_does_not_move_along_a_shift(self):
        """Derivatives of all water contents along the null direction vanish to rounding; those of heads are 1."""
        law = Gauged(VanGenuchten())
        _, slopes = flow_along(column(Flux(RAIN), law=law), clock(), LOAM | {"shift": 0.0}, MOIST,
                               {("soil", 0, "shift"): torch.ones(1)}, steps=STEPS)  # fmt: skip
        assert float(slopes.theta.abs().max()) < 1e-12 and torch.allclose(slopes.psi, torch.ones(()), rtol=1e-9)

    def test_heads_do_not_move_along_a_scale(self):
        law = Gauged(VanGenuchten())
        along = {("soil", 0, "scale"): torch.ones(1), ("top", 0, "q"): RAIN[None]}
        _, slopes = flow_along(column(Flux(RAIN), law=law), clock(), LOAM | {"scale": 1.0}, -60.0, along, steps=STEPS)
        assert float(slopes.psi.abs().max()) < 1e-8 * 60.0
        assert torch.allclose(
            slopes.theta, flow(column(Flux(RAIN)), clock(), LOAM, -60.0, steps=STEPS).theta.unsqueeze(1) - 0.065
        )

    @pytest.mark.slow
    def test_members(self):
        """Columns of their own have standard deviations of their own."""
        p = LOAM | {"Ks": Free(torch.tensor([30.0, 30.0]))}
        values = torch.full((8,), 0.2)
        sigma = torch.tensor([0.01, 0.02])
        both = Observed("theta", torch.stack([values, values], 1), sigma, depth=5.0)
        found = check_gauge(Inversion(column(Flux(RAIN[:, None])), clock((2,)), p, MOIST, both, steps=STEPS))
        one = Observed("theta", values, 0.02, depth=5.0)
        alone = check_gauge(Inversion(column(Flux(RAIN)), clock(), LOAM | {"Ks": Free(30.0)}, MOIST, one, steps=STEPS))
        assert found.free == alone.free == ("shift",)
        assert torch.allclose(found["scale"].sd[1], alone["scale"].sd[0], rtol=1e-6)
        assert float(found["scale"].sd[0]) < float(found["scale"].sd[1])

    @pytest.mark.parametrize("columns", [3, pytest.param(8, marks=pytest.mark.slow)])
    def test_an_offset_is_judged_by_the_conductivity_of_its_own_column(self, columns):
        """As many columns as cells, too."""
        ks = torch.logspace(0, 2, columns)
        theta = Observed("theta", torch.full((8, columns), 0.2), 0.01, depth=5.0)
        p = LOAM | {"Ks": Free(ks)}
        many = Inversion(column(Flux(RAIN[:, None])), clock((columns,)), p, WaterContent(0.3), theta, steps=STEPS)
        found = check_gauge(many)["offset"].limit
        one = Observed("theta", torch.full((8,), 0.2), 0.01, depth=5.0)
        for i in (0, columns - 1):
            p = LOAM | {"Ks": Free(float(ks[i]))}
            alone = check_gauge(Inversion(column(Flux(RAIN)), clock(), p, WaterContent(0.3), one, steps=STEPS))
            assert torch.allclose(found[i], alone["offset"].limit[0], rtol=1e-6)


class TestBeforeFitting:
    def inversion(self, kinds):
        law = MonotoneSpline(free="parameters", knots=(0.0, 2.0, 3.0, 8.0))
        start = law.imitate(VanGenuchten(), LOAM)
        p = {n: Free(float(v), prior=0.3) for n, v in start.items()}
        return Inversion(column(Flux(RAIN), law=law), clock(), p, MOIST, observed(*kinds), steps=STEPS)

    def test_warns_or_refuses(self):
        task = self.inversion(("theta",))
        with pytest.warns(UserWarning, match="(?s)do not determine the curves.*shift.*FREE"):
            fit(task, steps=1)
        with pytest.raises(ConfigError, match="(?s)families of curves open:.*shift.*FREE.*one tensiometer"):
            fit(task, steps=1, gauge="refuse")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fit(task, steps=1, gauge="ignore")
        with pytest.raises(ConfigError, match="gauge is 'warn'"):
            fit(task, gauge="no")
