"""Figures: right numbers, labels with units, nothing global."""

import matplotlib
import numpy as np
import pytest
import torch
import toy
from matplotlib.figure import Figure

from udehydro import Balance, Forcing, Multiplier, NeuralLaw, StructureError, plot, simulate
from udehydro.models import exphydro
from udehydro.plot.training import best_member, stages
from udehydro.plot.visited import binned, inputs_of, strongest, visited
from udehydro.plot.water import annual_balance
from udehydro.solvers import AllAtOnce

PERIODS = {"train": ("1990-06-01", "1991-06-30"), "test": ("1991-07-01", "1992-03-31")}


@pytest.fixture(scope="module")
def ds():
    return toy.dataset()


@pytest.fixture(scope="module")
def formula(ds):
    model = Balance(exphydro)
    forcing = Forcing.from_dataset(ds, model.forcing_names)
    with torch.no_grad():
        return simulate(model, forcing, storage0={"snow": 0.0, "soil": 400.0}, solver=AllAtOnce())


@pytest.fixture(scope="module")
def hybrid(formula):
    laws = {"et": NeuralLaw("soil", "temp", output=Multiplier()), "discharge": NeuralLaw("soil", "prcp", seed=2)}
    for law in laws.values():
        law.standardise({"soil": (400.0, 50.0), "temp": (8.0, 8.0), "prcp": (2.0, 4.0)})
        law.net.reset(torch.Generator().manual_seed(3))
    with torch.no_grad():
        start = {"snow": 0.0, "soil": 400.0}
        return simulate(Balance(exphydro, **laws), formula.forcing, storage0=start, solver=AllAtOnce())


def texts(fig: Figure) -> str:
    return " ".join(t.get_text() for t in fig.findobj(matplotlib.text.Text))


def test_every_figure_draws_with_units_and_without_touching_settings(ds, formula, hybrid):
    before = dict(matplotlib.rcParams)
    observed, flows = ds["discharge"].values, {"exphydro": formula.discharge, "hybrid": hybrid.discharge}
    history = [{"stage": "adam", "train": [1.0, 0.5], "valid": [0.9, None]}, {"stage": "lbfgs", "train": [0.4, 0.3]}]
    figures = {
        "discharge [mm/d]": plot.hydrograph(formula.forcing.time, observed, flows, PERIODS, ds["prcp"]),
        "precipitation": plot.hydrograph(ds["time"], None, flows, prcp=ds["prcp"], window=PERIODS["test"], log=True),
        "exceeded [%]": plot.flow_duration(observed, flows),
        "[mm]": plot.storages({"exphydro": formula, "hybrid": hybrid}, PERIODS),
        "evapotranspiration 'et' [mm/d]": plot.learned_flux(hybrid, "et", formula),
        "precipitation 'prcp' [mm/d]": plot.learned_flux(hybrid, "discharge", formula),
        "[mm/year]": plot.water_balance(formula, observed),
        "loss [-]": plot.training_curve(history),
    }
    for said, fig in figures.items():
        assert said in texts(fig)
        assert plot.png(fig, dpi=40).startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before


def test_flow_duration_is_sorted_and_counts_observed_days_only(ds, formula):
    observed = ds["discharge"].values[:, 0].copy()
    observed[:300] = np.nan
    lines = plot.flow_duration(observed, {"exphydro": formula.discharge}).axes[0].lines
    for line in lines:
        assert len(line.get_ydata()) == len(observed) - 300
        assert (np.diff(line.get_ydata()) <= 0).all() and 0 < line.get_xdata()[0] < line.get_xdata()[-1] < 100


def test_annual_balance_closes_and_adds_up(formula):
    years, terms = annual_balance(formula)
    assert years.tolist() == [1990, 1991]  # 1992 is a part of a year
    prcp = formula.forcing.values["prcp"][:365, 0].sum()
    np.testing.assert_allclose(terms["precipitation"][0], prcp, rtol=1e-12)
    assert np.abs(terms["closure"]).max() < 1e-9  # round-off of 365 sums of order 1000 mm
    assert "Closure" in texts(plot.water_balance(formula))


def test_learned_law_is_evaluated_where_the_hybrid_went(formula, hybrid):
    assert inputs_of(hybrid.model.structure, "et") == ("soil", "temp")
    assert inputs_of(exphydro, "melt")[0] == "snow"
    values = visited(hybrid)
    assert values["et"].shape == hybrid.discharge.shape
    at_same_states = visited(formula, hybrid)
    torch.testing.assert_close(at_same_states["soil"], values["soil"])
    assert not torch.allclose(at_same_states["et"], values["et"])
    with pytest.raises(StructureError, match="Did you mean 'et'"):
        plot.learned_flux(hybrid, "ett")


def test_bins_hold_enough_points_and_join_where_the_input_repeats():
    x = np.concatenate([np.zeros(900), np.linspace(0.0, 1.0, 100)])
    curve = binned(x, 2.0 * x)
    assert (np.diff(curve.x) > 0.01).all()
    np.testing.assert_allclose(curve.middle, 2.0 * curve.x, atol=0.05)
    points = {"a": x, "b": np.zeros(1000), "c": -x, "q": x**2}
    assert strongest(points, ("a", "b", "c"), "q") == ["a", "c"]


def test_members_of_the_training_curve():
    history = [{"stage": "choose", "train": [3.0, 2.0], "valid": [1.0, 2.0]}, {"stage": "refit", "train": [1.0]}]
    assert best_member(history[:1]) == 0
    assert [first for first, _ in stages(history)] == [1, 2]
    assert plot.training_curve([]).axes


def test_waterfall_sorts_counts_the_plateau_and_names_failures():
    fig = plot.waterfall({"plain": torch.tensor([3.0, 1.0, 1.2, np.inf]), "taught": [1.1, np.nan]}, title="starts")
    axes = fig.axes[0]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[1.0, 1.2, 3.0], [1.1]]
    assert "plain: 2 of 4 in the band, 1 failed" in texts(fig) and "taught: 1 of 2 in the band, 1 failed" in texts(fig)
    assert "final loss [-]" in texts(fig) and axes.get_yscale() == "log"
    assert plot.waterfall({"log likelihood": [-3.0, 2.0]}).axes[0].get_yscale() == "linear"
    assert plot.png(plot.waterfall({"none": [np.nan]}), dpi=40).startswith(b"\x89PNG")
    assert plot.waterfall({}).axes
    assert "a: 2 of 3 in the band" in texts(plot.waterfall({"a": [-1.0, -0.9, -0.4]}))
