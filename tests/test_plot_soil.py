"""Figures of soils: right numbers, labels with units, nothing global."""

import matplotlib
import numpy as np
import pytest
import torch
from test_plot import texts

from udehydro import Forcing, plot
from udehydro.errors import ConfigError
from udehydro.richards.column import Atmospheric, Column, Fixed, FreeDrainage, Grid, Layer, RootUptake, Source, flow
from udehydro.richards.inversion import Bands
from udehydro.richards.laws import VanGenuchten, soil_class


@pytest.fixture(scope="module")
def run():
    edges = np.datetime64("2001-05-01") + np.arange(4) * np.timedelta64(6, "h")
    layers = [Layer(VanGenuchten(), 10.0), Layer(VanGenuchten())]
    column = Column(
        Grid.uniform(30.0, 6), layers, Atmospheric(torch.tensor([[9.0], [0.0], [2.0]]), 0.2), FreeDrainage()
    )
    soils = [dict(soil_class(n), entry=1.0) for n in ("loam", "sandy loam")]
    return flow(column, Forcing.clock(edges, (2,)), soils, torch.tensor([[-60.0], [-90.0]]), steps=Fixed(2))


def test_column(run):
    before = dict(matplotlib.rcParams)
    fig = plot.soil_column(run, element=1)
    assert all(part in texts(fig) for part in ("moved [cm/d]", "depth [cm]", "water content [-]", "infiltration"))
    top, below = fig.axes[:2]
    rate = {p.get_label(): p.get_data().values for p in top.patches}["recharge"]
    assert np.allclose(rate, run.recharge[:, 1] / 0.25)
    mesh = below.collections[0].get_array()
    assert np.allclose(np.asarray(mesh).reshape(6, 3), 0.5 * (run.theta[1:, 1] + run.theta[:-1, 1]).T)
    assert below.yaxis_inverted() and "pF" in texts(plot.soil_column(run, "psi"))
    assert plot.png(fig, dpi=40).startswith(b"\x89PNG") and dict(matplotlib.rcParams) == before


def test_column_with_roots_and_runoff(run):
    """All that comes and goes, also what sinks take; infiltration says that it is net."""
    top = Atmospheric(torch.tensor([0.0, 200.0, 0.0]), 0.2)
    sinks = [RootUptake(0.3, torch.ones(6)), Source(torch.full((6,), -1e-3))]
    soil, edges = dict(soil_class("loam"), entry=1.0), run.forcing.time_edge
    for few, name in ((sinks[:1], "root uptake"), (sinks, "taken out by sinks")):
        column = Column(Grid.uniform(30.0, 6), VanGenuchten(), top, FreeDrainage(), few)
        found = flow(column, Forcing.clock(edges), soil, -60.0, steps=Fixed(40))
        drawn = {p.get_label(): p.get_data().values for p in plot.soil_column(found).axes[0].patches}
        assert np.allclose(drawn[name], found.uptake.sum(-1) / 0.25) and found.uptake.sum() > 0.05
        assert np.allclose(drawn["runoff"], found.runoff / 0.25) and found.runoff.sum() > 1.0
        assert np.allclose(drawn["infiltration, net of evaporation"], found.infiltration / 0.25)


def test_wide_bands_leave_the_curves_in_sight():
    psi, law, p = -torch.logspace(0, 3, 20), VanGenuchten(), soil_class("loam")
    theta, k = law.theta(psi, p), law.conductivity(psi, p)
    bands = Bands(theta, torch.full_like(theta, 30.0), k.log(), torch.full_like(k, 30.0))
    left, right = plot.soil_curves({"fit": bands}, psi).axes
    assert -0.05 < left.get_ylim()[0] < float(theta.min()) and float(theta.max()) < left.get_ylim()[1] < 0.6
    assert right.get_ylim()[1] < 1e3


def test_curves():
    psi, law, p = -torch.logspace(0, 3, 20), VanGenuchten(), soil_class("loam")
    theta, k = law.theta(psi, p), law.conductivity(psi, p)
    bands = Bands(theta, torch.full_like(theta, 0.01), k.log(), torch.full_like(k, 0.5))
    points = {"theta": (psi[::5], theta[::5]), "conductivity": (psi[::5], k[::5])}
    fig = plot.soil_curves({"fit": bands, "truth": (theta, k)}, psi, visited=(-500.0, -5.0), points=points)
    left, right = fig.axes
    assert np.allclose(left.lines[0].get_ydata(), theta) and np.allclose(right.lines[1].get_ydata(), k)
    edge = left.collections[0].get_paths()[0].vertices[:, 1]
    assert np.isclose(edge.max(), float(theta.max()) + 0.02) and right.get_yscale() == "log"
    for part in ("suction [cm]", "conductivity [cm/d]", "water content [-]", "not visited", "measured"):
        assert part in texts(fig)
    assert plot.png(fig, dpi=40).startswith(b"\x89PNG")


def test_errors(run):
    with pytest.raises(ConfigError, match="'theta' or 'psi'"):
        plot.soil_column(run, "pond")
    with pytest.raises(ConfigError, match="none of the 2"):
        plot.soil_column(run, element=2)
