"""check_gauge: null directions are those of soils that run to the same data, and verdicts those of the theory."""

import warnings

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
from udehydro.richards.laws import Gauged, MonotoneSpline, VanGenuchten

GRID = Grid.uniform(40.0, 8)
STEPS = Fixed(2)
UNKNOWN = Flux(Free(RAIN, spread=torch.eye(7)))
MOIST = WaterContent(0.2)
SOIL = {n: Free(v) for n, v in LOAM.items()}


def column(top, bottom=None, law=None, **options):
    return Column(GRID, law or VanGenuchten(), top, bottom or FreeDrainage(), **options)


RUN = None


def observed(*kinds):
    global RUN
    RUN = RUN or flow(column(Flux(RAIN)), clock(), LOAM, MOIST, steps=STEPS)
    return observe(RUN, {k: SENSORS[k] for k in kinds})


def check(top, psi0, kinds, bottom=None, p=SOIL, **options):
    series = observed(*kinds) if isinstance(kinds, tuple) else kinds
    return check_gauge(Inversion(column(top, bottom, **options), clock(), p, psi0, series, steps=STEPS))


class TestVerdicts:
    """The table of what is identified by what, for a homogeneous column."""

    @pytest.mark.parametrize(
        ("case", "top", "psi0", "kinds", "free"),
        [
            ("theta", UNKNOWN, MOIST, ("theta",), ("shift", "offset")),
            ("theta and a flux", Flux(RAIN), MOIST, ("theta",), ("shift",)),
            ("theta, a flux, a head", Flux(RAIN), MOIST, ("theta", "psi"), ()),
            ("theta, unknown start", UNKNOWN, WaterContent(Free(0.2)), ("theta",), ("shift", "offset")),
            ("psi", UNKNOWN, -100.0, ("psi",), ("scale", "level")),
            ("psi and a flux", Flux(RAIN), -100.0, ("psi",), ("level",)),
        ],
    )
    def test_data(self, case, top, psi0, kinds, free):
        found = check(top, psi0, kinds)
        assert found.free == free
        for name in free:
            assert bool(found[name].sd.isinf().all()) and "FREE" in str(found[name])

    def test_boundaries_that_know_a_head(self):
        for bottom in (Head(-50.0), WaterTable(60.0), SeepageFace()):
            assert "shift" not in check(Flux(RAIN), MOIST, ("theta",), bottom).free
        assert check(Flux(RAIN), MOIST, ("theta",), Head(Free(-50.0))).free == ("shift",)
        rain = Atmospheric(0.5, 0.1, pond=1.0)
        assert check(rain, MOIST, ("theta",)).free == ()

    def test_other_anchors(self):
        roots = RootUptake(0.1, torch.ones(8, dtype=torch.float64))
        assert check(Flux(RAIN), MOIST, ("theta",), sinks=[roots]).free == ()
        layers = [Layer(VanGenuchten(), 20.0), Layer(VanGenuchten())]
        found = check_gauge(
            Inversion(
                Column(GRID, layers, UNKNOWN, FreeDrainage()),
                clock(),
                [SOIL, LOAM],
                MOIST,
                observed("theta"),
                steps=STEPS,
            )
        )
        assert found.free == () and "the known soil of layer 1" in found["shift"].fixed_by
        outflow = Observed("recharge", torch.ones(7), 0.1)
        assert check(UNKNOWN, MOIST, [*observed("theta"), outflow]).free == ("shift",)
        lying = check(Flux(RAIN), MOIST, ("theta",), horizontal=True)
        assert lying.free == ("shift", "offset")

    def test_a_dry_head_says_little(self):
        """Heads at the wet end add up from where the soil conducts next to nothing."""
        dry = check(Flux(RAIN), -2000.0, ("theta",))["shift"]
        wet = check(Flux(RAIN), -40.0, ("theta",))["shift"]
        assert dry.weak and not wet.weak and float(dry.sd[0]) > 100.0 * float(wet.sd[0])
        assert "HARDLY KNOWN" in str(dry) and "tensiometer" in str(dry)

    def test_better_sensors_know_more(self):
        """Ten times smaller errors, a tenth of the standard deviation."""
        sd = [
            check(Flux(RAIN), MOIST, [Observed("psi", s.values, f * 0.03, depth=5.0, log=True), t])["shift"].sd
            for f in (1.0, 0.1)
            for t, s in [
                (
                    Observed("theta", observed("theta")[0].values, f * 0.005, depth=(2.0, 8.0, 15.0, 30.0)),
                    observed("psi")[0],
                )
            ]
        ]
        assert torch.allclose(sd[0], 10.0 * sd[1], rtol=1e-3)


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
        with pytest.raises(ConfigError, match="(?s)open, whatever their noise.*shift.*tensiometer"):
            fit(task, steps=1, gauge="refuse")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fit(task, steps=1, gauge="ignore")
            fit(self.inversion(("theta", "psi")), steps=1)
        with pytest.raises(ConfigError, match="gauge is 'warn'"):
            fit(task, gauge="no")
