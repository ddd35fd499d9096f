"""What decides a gauge by words is what the linearised column says: a standard deviation smaller than before data."""

import numpy as np
import pytest
import torch

from udehydro import Forcing
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
    flow,
)
from udehydro.richards.inversion import Free, Inversion, Observed, check_gauge, gauge
from udehydro.richards.inversion.anchors import anchors
from udehydro.richards.laws import MonotoneSpline, VanGenuchten

LOAM = {"theta_r": 0.065, "theta_s": 0.41, "Ks": 10.0, "alpha": 0.05, "n": 2.2}
SOIL = {n: Free(v) for n, v in LOAM.items()}
DAYS = np.array([0.0, 0.1, 0.3, 0.6, 1.0, 1.1, 1.3, 1.6, 2.0])
CLOCK = Forcing.clock(days=DAYS)
Q = torch.tensor([-4.0, -1.0, -0.5, 0.1, -6.0, -1.0, 0.1, 0.1], dtype=torch.float64)
STEPPED = torch.tensor([-60.0] * 3 + [-30.0] * 2 + [-10.0] * 3, dtype=torch.float64)
UNKNOWN = Flux(Free(Q, spread=torch.eye(8)))
GRID = Grid.uniform(30.0, 24)
MOIST = WaterContent(0.15)
PROFILE = np.linspace(-100.0, -40.0, 24)
TWO = [Layer(VanGenuchten(), 15.0), Layer(VanGenuchten())]
SPLINE = MonotoneSpline(free="parameters", knots=(0.0, 1.0, 2.0, 3.0, 5.0, 8.0))


def roots(transpiration):
    return [RootUptake(transpiration, torch.ones(24, dtype=torch.float64))]


def given(*known):
    """Parameters of the soil, of which some are numbers."""
    return {n: v if n in known else Free(v) for n, v in LOAM.items()}


def spline():
    start = SPLINE.imitate(VanGenuchten(), LOAM)
    return {n: Free(float(v)) if n[0] in "GH" else float(v) for n, v in start.items()}


def ask(psi0, kinds, top=UNKNOWN, bottom=None, p=SOIL, law=None, truth=None, sinks=(), depth=(4.0, 9.0)):
    """An inversion of what its own start would measure; ``truth`` in place of what is free at its ends and sinks."""
    column = Column(GRID, law or VanGenuchten(), top, bottom or FreeDrainage(), sinks)
    numbers = {"top": Flux(Q) if top is UNKNOWN else top, "sinks": roots(0.3) if sinks else ()} | (truth or {})
    soils = [
        {n: v.start if isinstance(v, Free) else v for n, v in q.items()} for q in (p if isinstance(p, list) else [p])
    ]
    run = flow(Column(GRID, column.layers, bottom=column.bottom, **numbers), CLOCK, soils, psi0, steps=Fixed(1))
    observed = []
    for kind in kinds:
        blank = Observed(kind, torch.full((9, 2), -0.2 if kind == "psi" else 0.2), 1.0, depth=depth)
        observed.append(Observed(kind, blank.of(run, run.column), 1.0 if kind == "psi" else 0.005, depth=depth))
    return Inversion(column, CLOCK, p, psi0, observed, steps=Fixed(1))


FACTS = {
    "drainage": (lambda: ask(MOIST, ["theta"]), {"offset": False, "shift": False, "scale": True, "level": True}),
    "one head": (lambda: ask(MOIST, ["theta"], Head(-30.0)), {"offset": False, "shift": True}),
    "a head in steps": (lambda: ask(MOIST, ["theta"], Head(STEPPED)), {"offset": True, "shift": True}),
    "one head at the start": (lambda: ask(-60.0, ["theta"]), {"offset": False}),
    "heads in an array": (lambda: ask(PROFILE, ["theta"]), {"offset": True}),
    "heads in a tensor": (lambda: ask(torch.as_tensor(PROFILE), ["theta"]), {"offset": True}),
    "psi": (lambda: ask(-60.0, ["psi"]), {"scale": False, "level": False, "offset": True}),
    "known theta_r": (lambda: ask(-60.0, ["psi"], p=given("theta_r")), {"scale": False, "level": True}),
    "known theta_r, theta_s": (
        lambda: ask(-60.0, ["psi"], p=given("theta_r", "theta_s")),
        {"scale": True, "level": True},
    ),
    "known Ks": (lambda: ask(-60.0, ["psi"], p=given("Ks")), {"scale": True, "level": False}),
    "known Ks, theta": (lambda: ask(MOIST, ["theta"], p=given("Ks")), {"offset": True, "shift": False}),
    "a spline with known limits": (
        lambda: ask(-60.0, ["psi"], p=spline(), law=SPLINE),
        {"scale": True, "level": True},
    ),
    "no flux": (lambda: ask(-60.0, ["psi"], Flux(0.0)), {"scale": False}),
    "no weather": (lambda: ask(-60.0, ["psi"], Atmospheric()), {"scale": False}),
    "weather": (lambda: ask(-60.0, ["psi"], Atmospheric(1.0, 0.1)), {"scale": True}),
    "roots": (lambda: ask(-60.0, ["psi"], sinks=roots(0.3)), {"scale": True}),
    "roots of unknown thirst": (lambda: ask(-60.0, ["psi"], sinks=roots(Free(0.3))), {"scale": False}),
    "sensors in both layers": (
        lambda: ask(-60.0, ["psi", "theta"], p=[SOIL, given()], law=TWO, depth=(9.0, 20.0)),
        {"level of layer 0": True, "level of layer 1": True},
    ),
    "sensors in the upper layer": (
        lambda: ask(-60.0, ["psi", "theta"], p=[SOIL, given()], law=TWO),
        {"level of layer 0": True, "level of layer 1": False, "scale": True},
    ),
    "one soil in both layers": (
        lambda: ask(-60.0, ["psi", "theta"], p=[SOIL, SOIL], law=TWO),
        {"level": True, "scale": True},
    ),
}  # fmt: skip


LONG = ("sensors in the upper layer", "one soil in both layers", "a spline with known limits", "heads in a tensor")
"""Cases that take longest."""


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow) if c in LONG else c for c in FACTS])
def test_words_say_what_the_column_says(case):
    """Free is what data do not narrow down. The finite size of cells tells of an offset, some per cent of its prior."""
    make, expected = FACTS[case]
    inversion = make()
    x = inversion.unknowns.start
    run = inversion.run(x)
    found, mean = anchors(inversion, x, run), gauge._mean_conductivity(inversion, x, run)
    sd, before = gauge._sensitivity(inversion, x, mean), {**gauge.WIDEST, "offset": float(mean)}
    for name, decided in expected.items():
        share = float(sd[name] / before[name.split()[0]])
        least = 0.85 if name == "offset" else 0.99
        assert bool(found[name]) == decided and (share < 0.7 if decided else share > least), (name, share, found[name])


def test_a_closed_seepage_face_is_a_known_flux():
    """As well as no flux through a closed end; an open face is a head."""
    closed, none = (ask(MOIST, ["theta"], bottom=b) for b in (SeepageFace(), Flux(0.0)))
    face, end = (check_gauge(i)["offset"] for i in (closed, none))
    assert not face.free and torch.allclose(face.sd, end.sd, rtol=1e-6)
    wet = ask(WaterContent(0.4), ["theta"], bottom=SeepageFace())
    dry = anchors(closed, run=closed.run(closed.unknowns.start))
    assert not dry["shift"] and anchors(wet, run=wet.run(wet.unknowns.start))["shift"]


def test_what_decides_together():
    """theta_s is known where scale and level may move it together: either remains, until the other is known."""
    free = anchors(ask(-60.0, ["psi"], p=given("theta_s")))
    assert not free["scale"] and not free["level"]
    level = anchors(ask(-60.0, ["psi"], Flux(Q), p=given("theta_s")))["level"]
    assert level == ["theta_s, which is given"]
