"""Gauges: soils that data cannot tell apart, as laws, and as columns that run to the same water contents or heads."""

from functools import cache

import numpy as np
import pytest
import test_soil_laws as contract
import torch
from scipy.integrate import quad

from udehydro import Forcing
from udehydro.errors import ConfigError
from udehydro.richards.column import (
    Adaptive,
    Column,
    Fixed,
    Flux,
    FreeDrainage,
    Grid,
    Layer,
    Source,
    arithmetic,
    flow,
)
from udehydro.richards.laws import Gardner, MonotoneNet, MonotoneSpline, VanGenuchten, soil_class
from udehydro.richards.laws.gauged import Gauged
from udehydro.sensitivity.checks import differences

LOAM = {"theta_r": 0.065, "theta_s": 0.41, "Ks": 10.0, "alpha": 0.05, "n": 2.2}
SAND = {"theta_r": 0.045, "theta_s": 0.43, "Ks": 200.0, "alpha": 0.1, "n": 2.6}


class Exponential(VanGenuchten):
    """Water content of van Genuchten, conductivity of Gardner."""

    ranges = VanGenuchten.ranges | {"beta": Gardner.ranges["alpha"]}

    def log_relative(self, psi, p):
        return self.values(p, psi)["beta"] * psi.clamp_max(0.0)


MIXED = LOAM | {"beta": 0.1}

CURVES = {
    "loam": (VanGenuchten, LOAM),
    "clay": (VanGenuchten, soil_class("clay") | {"entry": 2.0}),
    "gravel": (VanGenuchten, LOAM | {"n": 9.0}),
    "gardner": (Gardner, Gardner().defaults),
    "spline": (MonotoneSpline, VanGenuchten().defaults),
    "net": (lambda: MonotoneNet(8, seed=1), VanGenuchten().defaults),
}
curves = pytest.mark.parametrize("name", CURVES)


@cache
def curve(name):
    """A law of its own, with its gauges, its parameters, heads on its curve, and conductivities there."""
    make, p = CURVES[name]
    law = make()
    psi = law.air_entry(p, torch.tensor(0.0)) - torch.tensor([0.3, 2.0, 9.0, 24.0, 70.0])
    return Gauged(law), p, psi, law.conductivity(psi, p).detach()


def offsets(k):
    """Offsets that matter at the dry end, of either sign."""
    return [0.5 * k[-1].item(), -0.5 * k[-1].item(), 30.0 * k[-1].item()]


class TestLaw:
    @curves
    def test_the_head_is_the_integral_of_the_definition(self, name):
        """To 1e-11 of the head against adaptive quadrature."""
        law, p, psi, k = curve(name)
        entry = law.law.air_entry(p, psi).item()
        edges = [-30.0, -20.0, -10.0, *np.linspace(-5.0, np.log(entry - psi[-1].item()), 60)]
        places = [e for e in np.log(np.asarray(law.law.breaks) + 1e-300) if e < edges[-1]]
        for c in offsets(k)[:2]:

            def density(t, c=c):
                held = law.law.conductivity(torch.tensor(entry - np.exp(t)), p).item()
                return np.exp(t) * held / (held + c)

            for at in range(1, len(psi), 2):
                end = np.log(entry - psi[at].item())
                cuts = sorted({end, *(e for e in (*edges, *places) if e < end)})
                whole = sum(
                    quad(density, a, b, epsrel=1e-13, epsabs=0.0)[0] for a, b in zip(cuts, cuts[1:], strict=False)
                )
                assert law.image(psi[at], p | {"offset": c}).item() == pytest.approx(entry - whole, rel=1e-11)

    def test_an_exponential_conductivity_stays_one(self):
        """Gardner: dpsi' = dK / (alpha (K + c)), so that K + c = (Ks + c) exp(alpha psi')."""
        law, p, psi, k = curve("gardner")
        for c in offsets(k):
            moved = law.image(psi, p | {"offset": c})
            exact = torch.log((k + c) / (p["Ks"] + c)) / p["alpha"]
            assert torch.allclose(moved, exact, rtol=1e-11, atol=0.0)
            assert torch.allclose(law.origin(exact, p | {"offset": c}), psi, rtol=1e-11, atol=0.0)

    @curves
    def test_origin_is_the_inverse_of_image(self, name):
        law, p, psi, k = curve(name)
        for c in offsets(k):
            q = p | {"offset": c, "shift": -7.0, "scale": 1.5}
            assert torch.allclose(law.origin(law.image(psi, q), q), psi, rtol=1e-11, atol=0.0)
            assert law.image(psi, q | {"offset": torch.tensor([[c], [c]])}).shape == (2, 5)
        assert torch.equal(law.origin(law.image(psi, p), p), psi)

    @curves
    def test_what_the_gauges_leave_alone(self, name):
        """At the same place of the curve: diffusivity, slope of K by theta; and at all of them theta and K as told."""
        law, p, psi, k = curve(name)
        soil, w = law.law, 1.5
        theta, c = soil.theta(psi, p), 0.5 * k[-1].item()
        q = p | {"offset": c, "shift": 12.0, "scale": w}
        moved = law.image(psi, q)
        assert torch.allclose(law.theta(moved, q) - p["theta_r"], w * (theta - p["theta_r"]), rtol=1e-10)
        assert torch.allclose(law.conductivity(moved, q), w * (k + c), rtol=1e-10)
        assert torch.allclose(law.log_conductivity(moved, q), torch.log(w * (k + c)), rtol=1e-10)
        by_slopes = law.conductivity(moved, q) / law.capacity(moved, q)
        assert torch.allclose(law.diffusivity(moved, q), soil.diffusivity(psi, p), rtol=1e-10)
        assert torch.allclose(by_slopes, soil.diffusivity(psi, p), rtol=1e-9)
        seen = soil.capacity(psi, p) * psi.abs() > 1e-4  # heads that the water content still tells
        assert torch.allclose(law.head(law.theta(moved, q), q)[seen], moved[seen], rtol=1e-8)

    @curves
    def test_slopes(self, name):
        """Capacity and Kirchhoff potential, by autograd."""
        law, p, psi, k = curve(name)
        for c in offsets(k):
            q = p | {"offset": c, "shift": -3.0, "scale": 0.7}
            at = law.image(psi, q).detach().requires_grad_()
            (slope,) = torch.autograd.grad(law.theta(at, q).sum(), at)
            assert torch.allclose(law.capacity(at, q), slope, rtol=1e-10, atol=0.0)
            (slope,) = torch.autograd.grad(law.kirchhoff(at, q).sum(), at)
            assert torch.allclose(slope, law.conductivity(at, q), rtol=1e-4 if name == "gravel" else 1e-7, atol=0.0)

    @pytest.mark.parametrize("name", ["loam", "clay", "gardner"])
    @pytest.mark.parametrize("answer", ["theta", "log_conductivity", "capacity", "kirchhoff", "head", "image"])
    def test_gradients_by_gauges_and_parameters(self, name, answer):
        law, p, psi, k = curve(name)
        for c in offsets(k)[:2]:
            q = {n: torch.tensor(v) for n, v in (p | {"shift": 5.0, "offset": c, "scale": 1.3}).items()}
            at = psi if answer == "image" else law.image(psi, q).detach()
            at = law.theta(at, q).detach() if answer == "head" else at
            size = getattr(law, answer)(at, q).abs()

            def function(x, q=q, at=at, size=size):
                columns = {n: x[:, i, None] for i, n in enumerate(q)}
                return (getattr(law, answer)(at.expand(len(x), -1), columns) / size).sum(-1)

            x = torch.stack(list(q.values())).requires_grad_()
            (gradient,) = torch.autograd.grad(function(x[None]).sum(), x)
            found = differences(function, x.detach(), scale=x.detach().abs(), round_off=1e-12)
            assert found.against(gradient).error < 1e-6

    @curves
    @pytest.mark.parametrize("c", [0.3, -0.3])
    def test_finite_everywhere(self, name, c):
        """Beyond the driest head of an offset, at the place where K is -offset, and in saturated soil."""
        law, p, psi, _ = curve(name)
        q = {n: torch.tensor(v, requires_grad=True) for n, v in (p | {"offset": c, "shift": 4.0}).items()}
        at = contract.EVERYWHERE.clone().requires_grad_()
        for answer in ("theta", "conductivity", "capacity", "kirchhoff"):
            y = getattr(law, answer)(at, q)
            assert y.isfinite().all()
            gradients = torch.autograd.grad(y.sum(), [at, *q.values(), *law.parameters()], allow_unused=True)
            assert all(g is None or g.isfinite().all() for g in gradients)
            assert answer == "capacity" or (y.diff() >= -1e-13 * y.abs().max()).all()

    def test_ends_of_the_curve(self):
        law, p, psi, k = curve("clay")
        q = p | {"shift": 10.0, "offset": 0.2, "scale": 0.5}
        entry = law.air_entry(q, psi)
        assert entry.item() == 8.0
        wet = entry + torch.tensor([0.0, 6.0])
        rise = p["theta_s"] - p["theta_r"]
        assert torch.allclose(law.theta(wet, q), torch.tensor(p["theta_r"] + 0.5 * rise), rtol=1e-15)
        assert torch.allclose(law.conductivity(wet, q), torch.tensor(0.5 * (p["Ks"] + 0.2)), rtol=1e-15)
        # saturated soil: Ks dpsi = (Ks + c) dpsi', so that fluxes differ by c there, too
        slope = law.origin(wet, q).diff() / wet.diff()
        assert slope.item() == pytest.approx((p["Ks"] + 0.2) / p["Ks"], rel=1e-12)
        assert law.theta(entry - 0.01, q) < law.theta(entry, q)
        # K ends at the offset, or the water content where K is minus the offset
        driest = law.law.theta(torch.tensor(-1e8), p)
        assert law.theta(torch.tensor(-1e6), p | {"offset": 0.2}).item() == pytest.approx(driest.item(), rel=1e-6)
        assert law.conductivity(torch.tensor(-1e6), p | {"offset": 0.2}).item() == pytest.approx(0.2, rel=1e-9)
        c = -k[2].item()
        dry = torch.tensor(-1e6)
        assert law.theta(dry, p | {"offset": c}).item() == pytest.approx(law.law.theta(psi[2], p).item(), rel=1e-9)
        assert 0.0 <= law.conductivity(dry, p | {"offset": c}).item() < 1e-6 * -c

    CASE = contract.Case("gauged", lambda: Gauged(VanGenuchten()), soil_class("clay") | {"entry": 2.0}, kinks=(2.0,))

    @pytest.mark.parametrize(
        "test",
        [
            contract.test_limits_and_monotony,
            contract.test_capacity_is_the_slope_of_theta,
            contract.test_logarithm_and_diffusivity,
            contract.test_head_is_the_inverse_of_theta,
            contract.test_closed_forms_agree_with_the_base_class,
            contract.test_the_slope_of_the_kirchhoff_potential_is_the_conductivity,
            contract.test_shapes_broadcast,
            contract.test_single_precision,
            contract.test_laws_follow_the_device_of_their_inputs,
        ],
    )
    def test_without_a_gauge_it_is_a_law_like_others(self, test):
        test(self.CASE)

    @pytest.mark.parametrize("answer", ["theta", "log_conductivity", "capacity"])
    def test_transforms(self, answer):
        contract.test_transforms_of_torch_func(self.CASE, answer)

    def test_names_that_are_taken(self):
        with pytest.raises(ConfigError, match=r"Gauged has parameters named \['level', 'offset', 'scale', 'shift'\]"):
            Gauged(Gauged(VanGenuchten()))


def exact_pairs(upper, lower, drive):
    """Weighting whose flux is a logarithmic mean of K times dpsi/dz plus an arithmetic mean; while water moves down.

    For an exponential K, logarithmic mean times difference of heads is the difference of Kirchhoff potentials, which an
    offset leaves alone, while an arithmetic mean rises by it: an offset moves all fluxes by itself, on any grid. Other
    means do so as grids get finer.
    """
    x = torch.log(lower / upper)
    near = x.abs() < 1e-4
    y, middle = torch.where(near, 1.0, x), 0.5 * (upper + lower)
    mean = torch.where(near, middle * (1.0 - x * x / 12.0), (lower - upper) / y)
    by_upper = torch.where(near, 0.5 - x / 6.0, (mean / upper - 1.0) / y)
    by_lower = torch.where(near, 0.5 + x / 6.0, (1.0 - mean / lower) / y)
    more = 1.0 + 1.0 / drive
    return mean * more - middle / drive, by_upper * more - 0.5 / drive, by_lower * more - 0.5 / drive


def run(law, p, q, psi0, steps, cells=10, weighting=arithmetic):
    """Showers on 50 cm of soil that drains; q by half days."""
    grid = Grid.uniform(50.0, cells)
    law = law if isinstance(law, list) else [Layer(law)]
    column = Column(grid, law, Flux(torch.as_tensor(q)), FreeDrainage(), weighting=weighting)
    return flow(column, Forcing.clock(days=[0.0, 0.5, 1.0, 1.25]), p, psi0, steps=steps)


SHOWERS = torch.tensor([-2.0, -0.5, -4.0], dtype=torch.float64)
RISING = torch.tensor([-0.5, -2.0, -4.0], dtype=torch.float64)


def apart(a, b):
    return (a - b).detach().abs().max().item()


class TestWaterContentsAlone:
    """Different curves, and fluxes where they change, with the same water contents everywhere and always."""

    @pytest.mark.parametrize("shift", [pytest.param(25.0, marks=pytest.mark.slow), -40.0])
    @pytest.mark.parametrize("steps", [Fixed(10), Adaptive(1e-4)], ids=["fixed", "adaptive"])
    def test_do_not_tell_a_shift_of_heads(self, shift, steps):
        soil = VanGenuchten()
        psi0 = torch.tensor(-60.0)
        a = run(soil, LOAM, SHOWERS, psi0, steps)
        b = run(Gauged(soil), LOAM | {"shift": shift}, SHOWERS, psi0 + shift, steps)
        assert apart(a.theta[-1], a.theta[0]) > 0.1
        assert apart(a.theta, b.theta) < 1e-10
        # fluxes are no help, a single head is
        assert apart(a.bottom, b.bottom) < 1e-10 and apart(a.psi + shift, b.psi) < 1e-7

    def test_do_not_tell_a_shift_that_layers_share(self):
        """Heads are continuous where layers meet: one layer shifted alone is another column."""
        soil, psi0 = VanGenuchten(), torch.tensor(-60.0)
        layers, gauged = [Layer(soil, 20.0), Layer(soil)], [Layer(Gauged(soil), 20.0), Layer(Gauged(soil))]
        a = run(layers, [SAND, LOAM], SHOWERS, psi0, Fixed(10))
        b = run(gauged, [SAND | {"shift": 15.0}, LOAM | {"shift": 15.0}], SHOWERS, psi0 + 15.0, Fixed(10))
        assert apart(a.theta, b.theta) < 1e-10
        moved = torch.where(torch.arange(10) < 4, 15.0, 0.0)
        c = run(gauged, [SAND | {"shift": 15.0}, LOAM | {"shift": 0.0}], SHOWERS, psi0 + moved, Fixed(10))
        assert apart(a.theta[0], c.theta[0]) < 1e-12 and apart(a.theta, c.theta) > 1e-3

    @pytest.mark.parametrize("c", [pytest.param(0.3, marks=pytest.mark.slow), -0.01])
    def test_do_not_tell_an_offset_of_conductivity(self, c):
        """K + c, dpsi' = K / (K + c) dpsi, fluxes q - c: exact on ten cells where face and law suit each other."""
        soil, psi0 = Exponential(), torch.tensor(-60.0)
        law, p = Gauged(soil), MIXED | {"offset": c}
        a = run(soil, MIXED, RISING, psi0, Fixed(4), weighting=exact_pairs)
        b = run(law, p, RISING - c, law.image(psi0, p), Fixed(4), weighting=exact_pairs)
        assert apart(a.theta[-1], a.theta[0]) > 0.1 and apart(a.psi, b.psi) > 1.0
        assert apart(a.theta, b.theta) < 1e-10
        # the curves differ, in all but D and dK/dtheta; what leaves below tells by how much
        assert torch.allclose(b.bottom - a.bottom, -c * torch.tensor([0.5, 0.5, 0.25]), atol=1e-9)
        assert torch.allclose(law.image(a.psi, p), b.psi, atol=1e-7)

    @pytest.mark.slow
    @pytest.mark.parametrize("c", [0.2, -0.03])
    def test_offset_on_the_grids_of_everyday(self, c):
        """Any law with the arithmetic mean: the difference falls with the square of the cells; its limit is zero.

        A source that is smooth in depth keeps the column smooth from the start. Cells are cut in three, so that
        centres of the coarse ones stay; two extrapolations remove what falls with squares and fourth powers.
        """
        gaps = {n: self.gap(VanGenuchten(), c, n) for n in (9, 27, 81)}
        size = {n: gap.abs().max().item() for n, gap in gaps.items()}
        assert size[9] > 1e-6 and np.log(size[27] / size[81]) / np.log(3.0) > 1.9
        coarse, fine = (9.0 * gaps[27] - gaps[9]) / 8.0, (9.0 * gaps[81] - gaps[27]) / 8.0
        assert ((81.0 * fine - coarse) / 80.0).abs().max().item() < 1e-8

    def gap(self, soil, c, cells):
        """Difference of water contents after half a day at the centres of nine cells."""
        law, p, psi0 = Gauged(soil), LOAM | {"offset": c}, torch.tensor(-40.0)
        k = soil.conductivity(psi0, LOAM)
        grid, turn = Grid.uniform(40.0, cells), 2.0 * np.pi / 40.0
        edges = np.asarray(grid.edges)
        rate = torch.as_tensor(0.05 * np.diff(edges - np.sin(turn * edges) / turn) / np.diff(edges))

        def last(law, p, q, psi0):
            column = Column(grid, law, Flux(q), FreeDrainage(), Source(rate))
            return flow(column, Forcing.clock(days=[0.0, 0.5]), p, psi0, steps=Fixed(4)).theta[-1]

        gap = last(soil, LOAM, -k, psi0) - last(law, p, -k - c, law.image(psi0, p))
        while len(gap) > 9:
            gap = gap[1::3]
        return gap

    @pytest.mark.slow
    def test_tell_an_offset_of_layers(self):
        """Two soils would need the same head where they meet, before and after: their curves move by different ones."""
        soil, psi0 = Exponential(), torch.tensor(-60.0)
        other = MIXED | {"Ks": 40.0, "beta": 0.15}
        law, c = Gauged(soil), 0.3
        layers, gauged = [Layer(soil, 20.0), Layer(soil)], [Layer(law, 20.0), Layer(law)]
        p = [other | {"offset": c}, MIXED | {"offset": c}]
        a = run(layers, [other, MIXED], RISING, psi0, Fixed(4), weighting=exact_pairs)
        start = torch.cat([law.image(psi0.expand(4), p[0]), law.image(psi0.expand(6), p[1])])
        b = run(gauged, p, RISING - c, start, Fixed(4), weighting=exact_pairs)
        assert apart(a.theta[0], b.theta[0]) < 1e-12 and apart(a.theta, b.theta) > 1e-3

    def test_tell_a_shift_where_a_head_is_known(self):
        """The same first water contents, and a head at the start that is known: then the curve is another one."""
        soil, psi0 = VanGenuchten(), torch.tensor(-60.0)
        a = run(soil, LOAM, SHOWERS, psi0, Fixed(4))
        b = run(Gauged(soil), LOAM | {"shift": 5.0}, SHOWERS, psi0, Fixed(4))
        assert apart(a.theta[0], b.theta[0]) > 1e-3

    def test_tell_an_offset_where_a_flux_is_known(self):
        soil, psi0 = Exponential(), torch.tensor(-60.0)
        law, p = Gauged(soil), MIXED | {"offset": 0.3}
        a = run(soil, MIXED, RISING, psi0, Fixed(4), weighting=exact_pairs)
        b = run(law, p, RISING, law.image(psi0, p), Fixed(4), weighting=exact_pairs)
        assert apart(a.theta[0], b.theta[0]) < 1e-12 and apart(a.theta, b.theta) > 1e-3


class TestHeadsAlone:
    @pytest.mark.parametrize("scale", [0.5, 1.7])
    def test_do_not_tell_the_size_of_contents_and_fluxes(self, scale):
        soil, psi0 = VanGenuchten(), torch.tensor(-60.0)
        a = run(soil, LOAM, SHOWERS, psi0, Fixed(10))
        b = run(Gauged(soil), LOAM | {"scale": scale}, scale * SHOWERS, psi0, Fixed(10))
        assert apart(a.psi, b.psi) < 1e-8 and apart(a.theta, b.theta) > 0.1
        assert torch.allclose(b.bottom, scale * a.bottom, rtol=1e-8)

    def test_tell_it_where_a_flux_is_known(self):
        soil, psi0 = VanGenuchten(), torch.tensor(-60.0)
        a = run(soil, LOAM, SHOWERS, psi0, Fixed(4))
        b = run(Gauged(soil), LOAM | {"scale": 1.7}, SHOWERS, psi0, Fixed(4))
        assert apart(a.psi, b.psi) > 1.0
