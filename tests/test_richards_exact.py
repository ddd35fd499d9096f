"""Exact solutions of the Richards equation: they solve it, with their boundary and initial conditions, and keep water.

Derivatives are central differences of fourth order. Their steps are chosen such that truncation and round-off are each
below about 1e-7 of the largest term, which the tolerances of residuals allow for; values are held to the digits given.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import erfc

from udehydro.errors import ConfigError, DataError
from udehydro.richards import laws
from udehydro.richards.exact import (
    CASES,
    BroadbridgeWhite,
    MualemVanGenuchten,
    SrivastavaYeh,
    SrivastavaYehLayers,
    Tracy,
    TravellingWave,
    absorption,
)
from udehydro.richards.exact.cases import MATHIAS, VANDERBORGHT
from udehydro.richards.exact.srivastava_yeh import characteristic_roots

NODES, WEIGHTS = np.polynomial.legendre.leggauss(60)
HOURS = 1 / 24
BANDAI = SrivastavaYeh(0.06, 0.40, 1.0, 24.0, 10.0, 2.4, 21.6)


def slope(f, x, h):
    return (f(x - 2 * h) - 8 * f(x - h) + 8 * f(x + h) - f(x + 2 * h)) / (12 * h)


def curvature(f, x, h):
    return (-f(x - 2 * h) + 16 * f(x - h) - 30 * f(x) + 16 * f(x + h) - f(x + 2 * h)) / (12 * h**2)


def integral(f, low, high):
    """Of f over [low, high], the integrated axis the last of its result."""
    return f(low + (high - low) * (NODES + 1) / 2) @ WEIGHTS * (high - low) / 2


def assert_solves(s, conductivity, z, t, hz, ht):
    """Continuity and Darcy's law at heights z and one time t, relative to the terms of each."""
    gain, lost, flux = slope(lambda x: s.theta(z, x), t, ht), slope(lambda x: s.flux(x, t), z, hz), s.flux(z, t)
    roundoff = 1e-13 * (1 / ht + np.abs(flux).max() / hz)
    np.testing.assert_allclose(gain, -lost, rtol=0, atol=1e-6 * np.abs(gain).max() + roundoff)
    darcy = -conductivity(s, z, t) * (slope(lambda x: s.psi(x, t), z, hz) + 1)
    np.testing.assert_allclose(darcy, flux, rtol=0, atol=1e-6 * np.abs(flux).max())


def gardner(s, z, t):
    return s.Ks * np.exp(s.alpha * s.psi(z, t))


# one layer


def test_published_heads():
    """Values and roots as computed for the reference set, to their last digit."""
    z = np.array([0, 2.5, 5, 7.5, 10])
    heads = [
        (0.1, (0, -1.74941, -2.243711, -2.292233, -0.725949)),
        (1.0, (0, -1.64987, -1.419013, -0.617934, -0.19129)),
        (5.0, (0, -0.14714, -0.128434, -0.111964, -0.106355)),
        (10.0, (0, -0.096752, -0.104827, -0.105357, -0.105364)),
    ]
    for hours, expected in heads:
        np.testing.assert_allclose(BANDAI.psi(z, hours * HOURS), expected, rtol=0, atol=5e-6)
    roots = characteristic_roots(3, 10.0)
    np.testing.assert_allclose(roots, (0.26536624, 0.54543538, 0.83913455), rtol=0, atol=5e-9)


def test_stored_heads(shared):
    path = shared / "data" / "richards-reference" / "srivastava_yeh_homogeneous_psi_cm.csv.gz"
    if not path.exists():
        pytest.skip(f"needs {path}")
    table = pd.read_csv(path, index_col=0)
    t = np.array([float(name.removeprefix("t_h=")) for name in table.columns]) * HOURS
    found = BANDAI.psi(table.index.to_numpy()[:, None], t)
    np.testing.assert_allclose(found, table.to_numpy(), rtol=0, atol=1e-7)  # stored with seven decimals


@pytest.mark.parametrize("length", [0.5, 10.0, 35.0, 200.0])
@pytest.mark.parametrize(("before", "after"), [(2.4, 21.6), (12.0, 0.5)])
def test_one_layer(length, before, after):
    s = SrivastavaYeh(0.06, 0.40, 0.5, 24.0, length, before, after, -1.0)
    scale = length * min(1, length) * 0.34 / 12  # within it the column settles
    z = length * np.array([0.05, 0.3, 0.6, 0.8, 0.95])
    for t in scale * np.array([0.01, 0.1, 1.0]):
        near = min(1.0, np.sqrt(t * 24 / 0.17)) * min(1.0, length)
        assert_solves(s, gardner, z, t, 3e-3 * near, 1e-3 * t)
        np.testing.assert_allclose(s.psi(0, t), -1.0, rtol=0, atol=1e-12)
        np.testing.assert_allclose(s.flux(length, t), -after, rtol=1e-11)
    np.testing.assert_allclose(s.flux(z, 1e4), -after, rtol=1e-9)
    np.testing.assert_allclose(s.flux(z, 0), -before, rtol=1e-15)


def test_series_continues_images():
    """The two forms at the time where one takes over from the other; heads change by 1e-12 between."""
    for depth in (1.0, 10.0, 30.0, 39.0):
        s = SrivastavaYeh(0.0, 0.5, 1.0, 0.5, depth, 0.05, 0.45)
        switch = 2 * (40 - np.sqrt(1600 - depth**2))  # depth^2 / t + t / 4 = 40
        z = np.linspace(0, depth, 21)
        late, early = s.psi(z, switch * (1 + 1e-12)), s.psi(z, switch * (1 - 1e-12))
        np.testing.assert_allclose(late, early, rtol=0, atol=2e-11)


def test_water_gained():
    z = BANDAI.length / 2 * (NODES + 1)
    for t in np.array([0.5, 2.0, 5.0]) * HOURS:
        gain = (BANDAI.theta(z, t) - BANDAI.theta(z, 0)) @ WEIGHTS * BANDAI.length / 2
        inflow = integral(lambda x: BANDAI.flux(0.0, x), 0, t) + 21.6 * t
        np.testing.assert_allclose(gain, inflow, rtol=1e-8)  # the quadrature across the front


def test_early_times():
    t = np.array([0, 1e-300, 1e-15, 1e-9, 1e-6])[:, None]
    z = np.linspace(0, 10, 101)
    psi, flux = BANDAI.psi(z, t), BANDAI.flux(z, t)
    assert np.isfinite(psi).all() and np.isfinite(flux).all()
    np.testing.assert_allclose(psi[0], np.log(0.1 + 0.9 * np.exp(-z)), rtol=0, atol=1e-15)
    np.testing.assert_allclose(psi[:4, :-1], np.broadcast_to(psi[0, :-1], (4, 100)), rtol=0, atol=1e-15)
    np.testing.assert_allclose(flux[1:, -1], -21.6, rtol=1e-12)


# two layers

LAYERS = {
    "A": SrivastavaYehLayers((0.06, 0.06), (0.36, 0.36), 1.0, (24.0, 24.0), (3.0, 7.0), 2.4, 21.6),
    "A, B": SrivastavaYehLayers((0.06, 0.1), (0.40, 0.3), 1.0, (240.0, 24.0), (10.0, 5.0), 2.4, 21.6, -0.05),
    "A, C": SrivastavaYehLayers((0.06, 0.1), (0.40, 0.44), 1.0, (24.0, 240.0), (10.0, 5.0), 2.4, 21.6, -0.05),
    "drying": SrivastavaYehLayers((0.0, 0.1), (0.5, 0.3), 0.1, (10.0, 100.0), (40.0, 60.0), 8.0, 0.5),
}


def test_equal_layers_are_one():
    two = SrivastavaYehLayers((0.06, 0.06), (0.4, 0.4), 1.0, (24.0, 24.0), (4.0, 6.0), 2.4, 21.6)
    z = np.linspace(0, 10, 41)
    for t in np.array([0, 1e-9, 1e-4, 1e-2, 0.1, 1.0, 4.0, 10.0]) * HOURS:
        np.testing.assert_allclose(two.psi(z, t), BANDAI.psi(z, t), rtol=0, atol=1e-12)
        np.testing.assert_allclose(two.flux(z, t), BANDAI.flux(z, t), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "t", "heads"),
    [
        ("A, B", 0.34 / 12, (-2.303254897, -3.287818768, -1.082734692, -0.270919935)),
        ("A, C", 0.0425, (-1.744065869, -1.001712178, -1.177265088, -2.298999417)),
    ],
)
def test_paper_series(name, t, heads):
    """Heads by the paper's own roots and coefficients of each case, with C_cs of the layers' own lengths (nine digits).

    A circulating version of C_cs has the length of the other layer, which shows only where lengths differ.
    """
    np.testing.assert_allclose(LAYERS[name].psi([2.5, 7.5, 11.0, 14.0], t), heads, rtol=0, atol=2e-9)


@pytest.mark.parametrize("name", LAYERS)
def test_two_layers(name):
    s = LAYERS[name]
    below, whole = s.length[0], sum(s.length)
    settles = whole * 0.3 / min(s.Ks)

    def conductivity(s, z, t):
        return np.where(z < below, *s.Ks) * np.exp(s.alpha * s.psi(z, t))

    z = np.array([0.1 * below, 0.6 * below, 0.9 * below, below + 0.2 * s.length[1], below + 0.9 * s.length[1]])
    for t in settles * np.array([0.02, 0.2, 1.0]):
        assert_solves(s, conductivity, z, t, 3e-3 / s.alpha, 1e-3 * t)
        np.testing.assert_allclose(s.flux(whole, t), -s.recharge_after, rtol=1e-9)
        np.testing.assert_allclose(s.psi(0, t), s.psi_base, rtol=0, atol=1e-9)
        sides = below + np.array([-1e-9, 1e-9]) / s.alpha  # heads differ by their slopes times that
        np.testing.assert_allclose(*s.psi(sides, t), rtol=0, atol=1e-7)
        np.testing.assert_allclose(*s.flux(sides, t), rtol=1e-7)


@pytest.mark.parametrize("name", LAYERS)
def test_two_layers_keep_water(name):
    """From the analytic start on: a missed or a wrong eigenfunction would show."""
    s = LAYERS[name]

    def stored(t):
        low = integral(lambda z: s.theta(z, t), 0, s.length[0])
        return low + integral(lambda z: s.theta(z, t), s.length[0] * (1 + 1e-15), sum(s.length))

    t = 0.5 * sum(s.length) * 0.3 / min(s.Ks)
    inflow = integral(lambda x: s.flux(0.0, x), 0, t) + s.recharge_after * t
    np.testing.assert_allclose(stored(t) - stored(0.0), inflow, rtol=1e-7)


# Broadbridge and White


@pytest.mark.parametrize("C", [1.02, 1.5, 10.0])
@pytest.mark.parametrize("theta_i", [0.05, 0.13])
def test_infiltration_at_constant_rate(C, theta_i):
    s = BroadbridgeWhite(0.05, 0.45, 20.0, 15.0, C, 15.0, theta_i)
    start = (theta_i - 0.05) / 0.4
    drains = 20 * (C - 1) * start**2 / (C - start)

    def conductivity(s, z, t):
        S = (s.theta(z, t) - 0.05) / 0.4
        return 20 * (C - 1) * S**2 / (C - S)

    for t in (0.05, 0.2, 0.5):
        z = np.array([0.95, 0.7, 0.3, 0.1]) * -4 * np.sqrt(t)
        assert_solves(s, conductivity, z, t, 1e-3, 1e-3 * t)
    t = np.array([1e-9, 1e-3, 0.5, 100.0])
    np.testing.assert_allclose(s.flux(0, t), -15.0, rtol=1e-9)
    edges = -np.linspace(0, 160, 17)  # the front is a few cm wide, the foot of C = 10 reaches far
    gain = sum(integral(lambda z: s.theta(z, 0.5) - theta_i, b, a) for a, b in zip(edges, edges[1:], strict=False))
    np.testing.assert_allclose(gain, (15 - drains) * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(s.theta([-1, -50], 0), theta_i)
    assert np.isfinite(s.theta(-np.logspace(-3, 4, 30), np.logspace(-12, 3, 16)[:, None])).all()


def test_ponding():
    s = BroadbridgeWhite(0.05, 0.45, 20.0, 15.0, 1.2, 30.0, 0.1)
    np.testing.assert_allclose(s.theta(0, s.ponding_time), 0.45, rtol=1e-12)
    np.testing.assert_allclose(s.psi(0, s.ponding_time), 0, rtol=0, atol=1e-9)
    with pytest.raises(DataError, match="saturated from"):
        s.psi(0, 1.01 * s.ponding_time)


# Tracy


def box(sides, alpha=0.00328):
    return Tracy(0.15, 0.45, alpha, 86.4, 1524.0, -1524.0, sides)


def test_published_boxes():
    """Heads in m at (x, z) and t in s, to the digits of the reference."""
    for sides, a, b in (("head", -5.03562, -1.90699), ("no-flux", -5.32952, -2.53783)):
        s = box(sides)
        np.testing.assert_allclose(s.psi(762, 1000, t=5e4 / 86400) / 100, a, rtol=0, atol=6e-6)
        np.testing.assert_allclose(s.psi(400, 1300, t=1e5 / 86400) / 100, b, rtol=0, atol=6e-6)


@pytest.mark.parametrize("sides", ["head", "no-flux"])
@pytest.mark.parametrize("dims", [2, 3])
def test_box_solves(sides, dims):
    s = box(sides)
    grid = np.meshgrid(*[np.array([300.0, 700.0])] * (dims - 1), np.array([200.0, 800.0, 1400.0]), indexing="ij")
    points = [x.ravel() for x in grid]
    c = s.alpha * (s.theta_s - s.theta_r) / s.Ks

    def k(*p, t):
        return np.exp(s.alpha * s.psi(*p, t=t))

    for t in (0.3, 1.0, 12.0, 40.0):  # images, images, and the series from 10.6 d on

        def along(i, t=t):
            return lambda x: k(*points[:i], x, *points[i + 1 :], t=t)

        bent = [curvature(along(i), points[i], 8.0) for i in range(dims)]
        falls = s.alpha * slope(along(dims - 1), points[-1], 8.0)
        wetting = c * slope(lambda x: k(*points, t=x), t, 2e-3 * t)
        np.testing.assert_allclose(sum(bent) + falls, wetting, rtol=0, atol=1e-6 * np.abs(bent).max())


@pytest.mark.parametrize("sides", ["head", "no-flux"])
def test_box_boundaries(sides):
    s, x, y = box(sides), np.linspace(0, 1524, 9), np.linspace(0, 1524, 7)[:, None]
    dry = np.exp(s.alpha * s.psi_r)
    shape = np.sin if sides == "head" else lambda angle: np.sin(angle) ** 2
    top = np.log(dry + (1 - dry) * shape(np.pi * x / 1524) * shape(np.pi * y / 1524)) / s.alpha
    for t in (1e-6, 0.1, 5.0, 30.0):
        np.testing.assert_allclose(s.psi(x, y, 1524.0, t=t), top, rtol=0, atol=1e-7)  # cm, of 1524
        np.testing.assert_allclose(s.psi(x, y, 0.0, t=t), -1524.0, rtol=1e-12)
        if sides == "head":
            np.testing.assert_allclose(s.psi(0.0, y, 900.0, t=t), -1524.0, rtol=1e-12)
        else:
            np.testing.assert_allclose(s.psi(1e-3, y, 900.0, t=t), s.psi(0.0, y, 900.0, t=t), rtol=1e-9)
    np.testing.assert_allclose(s.psi(x, y, 1000.0, t=0), -1524.0, rtol=1e-12)
    np.testing.assert_allclose(s.psi(x, y, 1000.0, t=1e-3), -1524.0, rtol=1e-12)


# similarity


def test_constant_diffusivity():
    a = absorption(lambda theta: np.full_like(theta, 5.0), 0.1, 0.3)
    np.testing.assert_allclose(a.sorptivity, 0.4 * np.sqrt(5 / np.pi), rtol=1e-8)
    x = np.linspace(0, 20, 50)
    np.testing.assert_allclose(a.theta(x, 2.0), 0.1 + 0.2 * erfc(x / np.sqrt(40)), rtol=0, atol=1e-9)
    np.testing.assert_allclose(a.infiltration(4.0), 2 * a.sorptivity, rtol=1e-15)
    np.testing.assert_allclose(a.flux(0, 4.0), a.sorptivity / 4, rtol=1e-9)
    dries = absorption(lambda theta: np.full_like(theta, 5.0), 0.3, 0.1)
    np.testing.assert_allclose(dries.theta(x, 2.0), 0.4 - a.theta(x, 2.0), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(a.theta([0, 1], 0), [pytest.approx(0.3, abs=1e-11), 0.1])


@pytest.mark.parametrize("n", [0.5, 1.0, 5.0])
def test_power_profiles(n):
    """Philip (1960): phi = 1 - theta^n belongs to D = n / 2 theta^n (1 - theta^n / (1 + n)), zero where dry."""
    a = absorption(lambda theta: n / 2 * theta**n * (1 - theta**n / (1 + n)), 0.0, 1.0)
    theta = np.linspace(0, 1, 21)[1:]
    np.testing.assert_allclose(a.sorptivity, n / (n + 1), rtol=1e-8)
    np.testing.assert_allclose(a.phi(theta), 1 - theta**n, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", MATHIAS)
def test_absorption_by_soils(name):
    soil = MualemVanGenuchten(**MATHIAS[name])
    low, high = (soil.at_saturation(s) for s in (0.01, 0.99))
    a = absorption(soil.diffusivity, low, high)
    x = a.phi(soil.at_saturation(np.array([0.8, 0.9, 0.95]))) * np.sqrt(0.5)  # where the front is not too steep
    h = 1e-3 * x
    gain, lost = slope(lambda t: a.theta(x, t), 0.5, 5e-4), slope(lambda y: a.flux(y, 0.5), x, h)
    np.testing.assert_allclose(gain, -lost, rtol=1e-6)
    darcy = -soil.diffusivity(a.theta(x, 0.5)) * slope(lambda y: a.theta(y, 0.5), x, h)
    np.testing.assert_allclose(darcy, a.flux(x, 0.5), rtol=1e-6)
    stored = integral(a.phi, low, high)  # Philip's integral; phi falls steeply at both ends
    np.testing.assert_allclose(stored, a.sorptivity, rtol=2e-3)


# travelling wave


@pytest.mark.parametrize("name", VANDERBORGHT)
def test_wave_solves(name):
    soil = MualemVanGenuchten(**VANDERBORGHT[name])
    s = TravellingWave(soil, -400.0, 100.0)
    change = s.theta_b - s.theta_i
    h = 1e-6 * (s._shape.x[-1] - s._shape.x[0])
    share = np.array([0.05, 0.2, 0.5, 0.8, 0.95])
    z = np.interp(share, s._share(s._shape.x, 0), s._shape.x)
    assert_solves(s, lambda s, z, t: soil.conductivity(s.theta(z, t)), z, 0.0, h, h / s.speed)
    moved = s.theta(z - 0.3 * s.speed, 0.3)
    np.testing.assert_allclose(moved, s.theta_i + change * share, rtol=0, atol=1e-4 * change)  # the interpolation's
    np.testing.assert_allclose(s.theta(0, 0), s.theta_i + change / 2, rtol=1e-12)
    np.testing.assert_allclose(s.flux([1e4, -1e4], 0), [-min(100, soil.Ks), -soil.conductivity(s.theta_i)], rtol=1e-9)


def test_published_wave():
    s = TravellingWave(MualemVanGenuchten(**VANDERBORGHT["sand"]), -400.0, 100.0)
    np.testing.assert_allclose((s.theta_b, s.speed), (0.282405, 421.41), rtol=2e-6)


# cases, curves, errors


def test_cases_fit_their_laws():
    for case in CASES.values():
        law = getattr(laws, case.law)()
        assert set(case.soil) <= set(law.ranges)
        psi = torch.tensor([case.psi_i if case.psi_i is not None else -case.length, case.psi_top], dtype=torch.float64)
        assert law.theta(psi, case.soil).diff() > 0.05  # each wets its soil
        assert len(case.depth) == len(case.psi) and len(case.front) == len(case.storage)


@pytest.mark.parametrize("soil", [*VANDERBORGHT.values(), *MATHIAS.values()])
def test_curves_are_those_of_the_law(soil):
    curves, law = MualemVanGenuchten(**soil), laws.VanGenuchten()
    psi = -np.logspace(-1, 3.5, 40)
    x = torch.as_tensor(psi)
    theta = curves.theta(psi)
    np.testing.assert_allclose(theta, law.theta(x, soil).numpy(), rtol=1e-13)
    # water contents keep few digits of a saturation near nothing or one, where K of clay and of dry sand is steep
    inside = (theta - soil["theta_r"] > 1e-6) & (soil["theta_s"] - theta > 1e-6)
    for found, true in (
        (curves.conductivity(theta), law.conductivity(x, soil)),
        (curves.diffusivity(theta), law.diffusivity(x, soil)),
        (curves.psi(theta), x),
    ):
        np.testing.assert_allclose(found[inside], true.numpy()[inside], rtol=1e-8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SrivastavaYeh(0.06, 0.4, 1.0, 24.0, 10.0, 2.4, 25.0), "no unsaturated steady state"),
        (lambda: SrivastavaYeh(0.06, 0.4, 1.0, 24.0, 10.0, 2.4, -1.0), "no unsaturated steady state"),
        (lambda: SrivastavaYeh(0.4, 0.06, 1.0, 24.0, 10.0, 2.4, 2.0), "theta_r"),
        (lambda: SrivastavaYehLayers((0, 0), (0.4, 0.4), 1.0, (9, 9), (30, 30), 1, 2), "above 40"),
        (lambda: SrivastavaYehLayers((0, 0), (0.4, 0.4), 1.0, (9, 1), (3, 3), 1, 2), "no unsaturated steady state"),
        (lambda: BroadbridgeWhite(0.05, 0.45, 20.0, 15.0, 1.0, 15.0, 0.1), "C = 1.0"),
        (lambda: BroadbridgeWhite(0.05, 0.45, 20.0, 15.0, 1.5, 0.1, 0.3), r"K\(theta_i\)"),
        (lambda: box("open"), "no-flux"),
        (lambda: box("head", alpha=0.1), "30 / alpha"),
        (lambda: absorption(lambda x: x / 0, 0.1, 0.2), "finite"),
        (lambda: absorption(lambda x: x, 0.1, 0.1), "both"),
        (lambda: TravellingWave(MualemVanGenuchten(**VANDERBORGHT["sand"]), -1.0, 100.0), r"K\(psi_i\)"),
    ],
)
def test_parameters_out_of_range(make, message):
    with np.errstate(divide="ignore"), pytest.raises(ConfigError, match=message):
        make()


def test_shapes():
    """Numbers, empty arrays, and heights against times."""
    for s, z in ((BANDAI, 5.0), (LAYERS["A"], 5.0), (BroadbridgeWhite(0.05, 0.45, 20.0, 15.0, 1.5, 15.0, 0.1), -5.0)):
        for f in (s.psi, s.theta, s.flux):
            assert np.shape(f(z, 0.1)) == () and f([], []).shape == (0,)
            assert f(np.full((3, 1), z), [0.0, 0.1]).shape == (3, 2)


@pytest.mark.parametrize(("z", "t"), [(-0.1, 1), (10.1, 1), (5, -1), (5, np.inf), (np.nan, 1)])
def test_coordinates_out_of_range(z, t):
    with pytest.raises(DataError):
        BANDAI.psi(z, t)
