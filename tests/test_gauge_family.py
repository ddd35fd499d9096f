"""What sensors cannot tell: soils that fit the same data, and the family of curves that is returned in their place."""

import warnings

import numpy as np
import pytest
import torch
from test_gauge import LOAM, RISING, SHOWERS, exact_pairs, run
from test_richards_inversion import SENSORS, observe

from udehydro import Forcing
from udehydro.errors import ConfigError
from udehydro.richards.column import Adaptive, Column, Fixed, Flux, FreeDrainage, Grid, Head, WaterContent, flow
from udehydro.richards.exact import SrivastavaYeh
from udehydro.richards.inversion import Free, Gauge, Gauges, Inversion, Observed, check_gauge, family, fit, visited
from udehydro.richards.laws import Gardner, Gauged, MonotoneSpline, VanGenuchten, soil_class
from udehydro.richards.pinn import Adam, Counts, learn
from udehydro.structure import Range

DAYS = np.array([0.0, 0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0])
RAIN = torch.tensor([-4.0, -4.0, -1.0, 0.3, 0.3, -3.0, 0.3], dtype=torch.float64)
MOIST, STEPS = -60.0, Fixed(2)


def off(found, true):
    """Relative L2 error."""
    return float(torch.linalg.norm(found - true) / torch.linalg.norm(true))


def clock(batch=()):
    return Forcing.clock(days=DAYS, batch=batch)


def column(law, q, cells=16):
    return Column(Grid.uniform(30.0, cells), law, Flux(q), FreeDrainage())


class Lifted(Gardner):
    """Gardner's soil with an offset in K and heads that keep the diffusivity, in closed form: dK / (K + offset) is
    alpha dpsi, so that K + offset = (Ks + offset) exp(alpha psi)."""

    ranges = Gardner.ranges | {"offset": Range(-1.0, 20.0, "cm/d")}

    def conductivity(self, psi, p):
        v = self.values(p, psi)
        return (v["Ks"] + v["offset"]) * torch.exp(v["alpha"] * psi.clamp_max(0.0))

    def theta(self, psi, p):
        v = self.values(p, psi)
        return torch.lerp(v["theta_r"], v["theta_s"], (self.conductivity(psi, p) - v["offset"]) / v["Ks"])


class TestPairs:
    """One soil makes the data, the other fits them, and is another soil."""

    def same(self, kind, soils, q, psi0, **how):
        """Two laws with their p, fluxes and starts, in ten cells."""
        runs = [run(*soil, a, b, Fixed(10), **how) for soil, a, b in zip(soils, q, psi0, strict=True)]
        (data,) = observe(runs[0], {kind: SENSORS[kind]}, noise=1.0)

        def chi2(found):
            seen = data.of(found, found.column)
            gap = torch.log(seen / data.values) if data.log else seen - data.values
            return float((gap / data.sigma).square().sum())

        n, made = data.values.numel(), chi2(runs[0])
        assert abs(made / n - 1.0) < 3.0 * (2.0 / n) ** 0.5
        assert abs(chi2(runs[1]) - made) < 1e-6
        psi = torch.linspace(*(float(v) for v in visited(runs[0])), 50)
        for curve in ("theta", "conductivity"):
            one, other = (getattr(law, curve)(psi, p) for law, p in soils)
            assert off(other, one) > 0.3

    def test_heads_moved(self):
        soils = (VanGenuchten(), LOAM), (Gauged(VanGenuchten()), LOAM | {"shift": -60.0})
        self.same("theta", soils, (SHOWERS, SHOWERS), (MOIST, MOIST - 60.0))

    def test_fluxes_moved(self):
        soil, c = {"theta_r": 0.06, "theta_s": 0.4, "Ks": 24.0, "alpha": 0.05}, 10.0
        dry = np.log((24.0 * np.exp(0.05 * MOIST) + c) / (24.0 + c)) / 0.05
        soils = (Gardner(), soil), (Lifted(), soil | {"offset": c})
        self.same("theta", soils, (RISING, RISING - c), (MOIST, dry), weighting=exact_pairs)

    def test_water_by_the_half(self):
        soils = (VanGenuchten(), LOAM), (Gauged(VanGenuchten()), LOAM | {"scale": 0.5})
        self.same("psi", soils, (SHOWERS, 0.5 * SHOWERS), (MOIST, MOIST))


def opened(*names, sd=torch.inf, by=()):
    """A verdict that leaves gauges open."""
    return Gauges({n: Gauge(n, n, (0,), by, torch.tensor([sd]), 1e-3, ()) for n in names})


class TestMembers:
    """What is unknown besides the curves moves along, so that members fit as well; limits are kept."""

    def found(self, kinds, q, psi0=None, batch=(), shared=False, cells=16):
        """A fit that begins at the soil that made the data, and has hardly moved."""
        made = flow(column(VanGenuchten(), RAIN, cells), clock(), LOAM, MOIST, steps=STEPS)
        data = observe(made, {k: SENSORS[k] for k in kinds}, noise=1.0)
        if batch:
            data = [Observed(s.kind, s.values[:, None].expand(-1, *batch, -1), s.sigma, s.depth) for s in data]
        p = {n: Free(v if shared else v * torch.ones(batch)) for n, v in LOAM.items()}
        psi0 = WaterContent(0.2) if psi0 is None else psi0
        task = Inversion(column(VanGenuchten(), q, cells), clock(batch), p, psi0, data, steps=STEPS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fit(task, steps=1)

    def check(self, found, members, which):
        dry, wet = members.visited(share=1.0)
        psi = torch.linspace(float(dry[0]), float(wet[0]), 20)
        theta, k = members.curves(psi)
        torch.testing.assert_close(theta[0], found.curves(psi).theta)
        torch.testing.assert_close(k[0].log(), found.curves(psi).log_k)
        assert all(off(t, theta[0]) > 0.01 for t in theta[-2:])
        assert bool((k > 0.0).all()) and bool((theta < 1.0).all())
        assert bool((wet < 1e-9).all() and (dry < wet).all())
        chi2 = members.chi2(which)
        assert chi2.shape == (len(which), 1)
        assert float(chi2[0]) == pytest.approx(float(sum(found.parts.values())), rel=1e-6)
        assert float((chi2 - chi2[0]).abs().max()) < 1.0

    def test_heads_alone(self):
        """Scale and level at once: fluxes are scaled."""
        found = self.found(("psi",), Free(RAIN, spread=torch.eye(7)), MOIST)
        members = family(found, opened("scale", "level"), size=2)
        assert len(members) == 9 and "9 members: scale" in repr(members)
        self.check(found, members, (0, 4, 8))

    @pytest.mark.slow
    def test_water_contents_alone(self):
        """Offset and shift at once, as they are asked for."""
        found = self.found(("theta",), Free(RAIN, spread=torch.eye(7)))
        members = family(found, size=2)
        assert members.values.keys() == {"offset", "shift"}
        assert bool((members.values["offset"] > -found.curves(members.visited(share=1.0)[0][:1]).log_k.exp()).all())
        self.check(found, members, (0, 5, 8))

    @pytest.mark.slow
    def test_an_offset_is_as_good_as_cells_are_fine(self):
        """A head that is unknown at the start, under rain on dry soil; 16 cells: 6.4, 32: 3.5, 64: 1.07."""
        gap = []
        for cells in (32, 64):
            found = self.found(("theta",), Free(RAIN, spread=torch.eye(7)), Free(MOIST, high=-1.0), cells=cells)
            chi2 = family(found, opened("offset"), size=1, limits={"offset": (0.188, 0.188)}).chi2()
            gap.append(float((chi2[1] - chi2[0]).abs()))
        assert gap[1] < 0.5 * gap[0] and gap[1] < 1.5

    def test_columns_have_families_of_their_own(self):
        found = self.found(("theta",), RAIN[:, None] * torch.tensor([1.0, 0.5]), batch=(2,))
        members = family(found, opened("shift"), size=3)
        assert members.values["shift"].shape == (4, 2) and bool((members.values["shift"].diff(dim=1) != 0.0)[1:].all())
        assert members.curves(torch.tensor([-5.0, -50.0]))[0].shape == (4, 2, 2)
        assert members.visited()[0].shape == (4, 2)
        given = family(found, opened("shift"), size=2, limits={"shift": (-7.0, 3.0)})
        assert given.values["shift"][:, 1].tolist() == [0.0, -7.0, 3.0]
        chi2 = given.chi2((0, 1))
        assert chi2.shape == (2, 2) and float((chi2 - chi2[0]).abs().max()) < 1e-6

    def test_a_soil_that_columns_share_has_one_family(self):
        found = self.found(("theta",), RAIN[:, None] * torch.tensor([1.0, 0.5]), batch=(2,), shared=True)
        members = family(found, opened("shift"), size=1)
        assert bool((members.values["shift"].diff(dim=1) == 0.0).all()) and bool(
            (members.visited(share=1.0)[1] < 1e-9).all()
        )
        chi2 = members.chi2()
        assert chi2.shape == (2, 1) and float((chi2[1] - chi2[0]).abs()) < 1e-6

    def test_what_is_hardly_known_stays_near(self):
        found = self.found(("theta",), RAIN)
        values = family(found, opened("shift", sd=2.0, by=("psi at 5 cm",))).values["shift"]
        assert float(values.min()) == pytest.approx(-4.0) and float(values.max()) == pytest.approx(4.0)

    def test_none_where_data_decide(self):
        with pytest.raises(ConfigError, match="decide all gauges"):
            family(self.found(("theta", "psi"), RAIN))


TRUTH = SrivastavaYeh(0.06, 0.40, 0.1, 24.0, 100.0, 2.4, 21.6, psi_base=-5.0)
SOIL = {"theta_r": 0.06, "theta_s": 0.40, "alpha": 0.1, "Ks": 24.0}
READ = np.linspace(0.02, 4.0, 21)
DEPTHS = np.arange(5.0, 100.0, 10.0)
SIGMA = 0.005


def readings(*kinds):
    """Ten sensors and a tensiometer at 10 cm in the exact solution, with errors."""
    noise = torch.Generator().manual_seed(0)
    theta = torch.as_tensor(TRUTH.theta(100.0 - DEPTHS, READ[:, None]))
    psi = torch.as_tensor(TRUTH.psi(90.0, READ))
    theta = theta + SIGMA * torch.randn(theta.shape, generator=noise, dtype=theta.dtype)
    psi = psi * torch.exp(0.03 * torch.randn(psi.shape, generator=noise, dtype=psi.dtype))
    series = {"theta": Observed("theta", theta, SIGMA, DEPTHS), "psi": Observed("psi", psi, 0.03, 10.0, log=True)}
    return [series[k] for k in kinds]


def asked(*kinds, psi0=None, cells=12):
    """Recharge into a soil that nobody knows, over a base at a head that nobody knows; curves start as a clay loam."""
    law = MonotoneSpline(free="parameters", knots=(0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0))
    start = law.imitate(VanGenuchten(), soil_class("clay loam") | {"entry": 1.0})
    p = {n: Free(float(v), prior=1.0) for n, v in start.items()}
    p |= {"theta_r": 0.06, "theta_s": Free(0.42), "Ks": Free(40.0)}
    grid = Grid.uniform(100.0, cells)
    below = Column(grid, law, Flux(-21.6), Head(Free(-20.0, low=-1000.0, high=-0.01)))
    psi0 = WaterContent(torch.as_tensor(TRUTH.theta(100.0 - np.asarray(grid.depth), READ[0]))) if psi0 is None else psi0
    return Inversion(below, Forcing.clock(days=READ - READ[0]), p, psi0, readings(*kinds), steps=Adaptive(3e-3))


def true():
    """Heads visited, and curves of the soil there."""
    z, t = np.meshgrid(np.linspace(0.0, 100.0, 60), READ)
    psi = torch.linspace(*np.quantile(TRUTH.psi(z, t), [0.05, 0.95]), 100)
    return psi, Gardner().theta(psi, SOIL), Gardner().conductivity(psi, SOIL)


@pytest.fixture(scope="module")
def moisture():
    """Moisture and a flux alone: what is said beforehand, and what is found."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    task = asked("theta")
    checked = check_gauge(task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit(task, steps=20, gauge="ignore")
    torch.set_default_dtype(before)
    return checked, found


class TestMoistureAlone:
    """A perfect fit of wrong curves (Srivastava and Yeh 1991), and the family that has the right ones in it."""

    def test_is_named_beforehand(self, moisture):
        assert moisture[0].free == ("shift",) and "one tensiometer" in str(moisture[0]["shift"])

    def test_fits_and_is_wrong(self, moisture):
        found = moisture[1]
        psi, theta, k = true()
        curves = found.curves(psi)
        assert 0.8 < float(found.misfit) < 1.2
        assert off(curves.theta, theta) > 0.3 and off(curves.log_k.exp(), k) > 0.3
        law, p = found.inversion.column.layers[0].law, found.setting.p[0]
        psi = law.head(theta, p)  # by water content, nothing is wrong
        assert off(law.diffusivity(psi, p), Gardner().diffusivity(true()[0], SOIL)) < 0.15
        assert off(law.conductivity(psi, p), k) < 0.05

    def test_the_truth_is_in_the_family(self, moisture):
        checked, found = moisture
        members = family(found, checked, size=32)
        psi, theta, k = true()
        wrong, theta_by_member = off(found.curves(psi).theta, theta), members.curves(psi)[0]
        near = min(off(t, theta) for t in theta_by_member)
        assert near < wrong / 5.0 and near < 0.1
        assert bool((theta_by_member.amin(0) <= theta).all() and (theta_by_member.amax(0) >= theta).all())

    def test_members_fit_as_well(self, moisture):
        chi2 = family(moisture[1], moisture[0], size=1, limits={"shift": (15.0, 15.0)}).chi2()
        assert float(chi2[0]) == pytest.approx(
            float(moisture[1].parts[moisture[1].inversion.observed[0].name]), rel=1e-6
        )
        assert float((chi2[1] - chi2[0]).abs()) < 1e-3

    def test_a_tensiometer_decides(self, moisture):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = fit(asked("theta", "psi"), x=moisture[1].x, steps=20, gauge="ignore")
        psi, theta, k = true()
        assert 0.8 < float(found.misfit) < 1.2
        assert off(found.curves(psi).theta, theta) < 0.05 and off(found.curves(psi).log_k.exp(), k) < 0.1

    @pytest.mark.slow
    def test_networks(self):
        """Nobody knows how the column starts: off by 1.8 and 0.05 of the nearest member; with a tensiometer by 0.03."""
        start = Free(torch.tensor([-30.0]), low=-1000.0, high=-0.01, spread=np.ones((12, 1)))
        how = {
            "ramp": (0.1, 0.03, 0.01),
            "first": Adam(300),
            "counts": Counts(800, 100),
            "width": 10,
            "gauge": "ignore",
        }
        task = asked("theta", psi0=start)
        found, (psi, theta, _) = learn(task, **how), true()
        wrong = off(found.curves(psi).theta[0], theta)
        assert 0.6 < float(found.misfit) < 1.2 and float(found.physics) < 0.02 and wrong > 0.3
        members = family(found, opened("shift"), size=32)
        assert min(off(t, theta) for t in members.curves(psi)[0]) < wrong / 5.0
        law, p = task.column.layers[0].law, task.at(found.x).p[0]
        assert off(law.diffusivity(law.head(theta, p), p), Gardner().diffusivity(psi, SOIL)) < 0.15
        with pytest.raises(ConfigError, match="found.polish"):
            members.chi2()
        found = learn(asked("theta", "psi", psi0=start), **how)
        assert float(found.misfit) < 1.2 and off(found.curves(psi).theta[0], theta) < 0.05
