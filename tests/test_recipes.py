"""Recipes: the periods, the protocol of choosing, and what a hybrid starts from."""

import numpy as np
import pytest
import torch

from udehydro import Balance, ConfigError, DataError, Forcing, NeuralLaw, Positive, StructureError, simulate
from udehydro.models import exphydro_mended
from udehydro.solvers import BACKWARD_EULER, AllAtOnce
from udehydro.training import nse
from udehydro.training.recipes import Periods, calibrate, hybridise

DAYS = 3 * 365
TRUTH = {"f": 0.03, "smax": 250.0, "qmax": 15.0, "ddf": 3.0, "tmax": 0.5, "tmin": -0.5}
QUICK = {"warmup_days": 200, "progress": False, "solver": AllAtOnce(BACKWARD_EULER)}
BUDGET = {"starts": 2, "steps": 15, "refit_steps": 5}


def record(basins=("a", "b")):
    g = torch.Generator().manual_seed(1)
    rain = torch.rand(DAYS, len(basins), generator=g).pow(5) * 30
    temp = (8 - 12 * torch.cos(torch.arange(DAYS) * 2 * torch.pi / 365))[:, None].expand(DAYS, len(basins))
    temp = temp + torch.randn(DAYS, len(basins), generator=g) * 2
    edges = np.datetime64("2001-01-01") + np.arange(DAYS + 1)
    values = {"prcp": rain, "temp": temp, "dayl": torch.full_like(rain, 12.0)}
    return Forcing(values, {"prcp": "mm/d", "temp": "degC", "dayl": "h"}, edges, basins)


@pytest.fixture(scope="module")
def planted():
    torch.set_default_dtype(torch.float64)
    forcing = record()
    model = Balance(exphydro_mended)
    start = {"snow": 0.0, "soil": 150.0}
    truth = simulate(model, forcing, theta=TRUTH, storage0=start, solver=QUICK["solver"]).discharge
    periods = Periods.of(("2001-01-01", "2002-12-31"), ("2003-01-01", "2003-12-30"))
    return forcing, truth, periods, calibrate(exphydro_mended, forcing, truth, periods, **BUDGET, **QUICK)


class TestPeriods:
    def test_the_last_fifth_of_train_is_for_validation(self):
        p = Periods.of(("2001-01-01", "2010-12-31"), ("2011-01-01", "2012-12-31"))
        assert p.valid == ("2009-01-01", "2010-12-31") and p.fit_on == ("2001-01-01", "2008-12-31")
        assert p.refit_on == p.train

    def test_a_validation_period_after_train_joins_the_refit(self):
        p = Periods.of(("2001-01-01", "2005-12-31"), ("2008-01-01", "2009-12-31"), ("2006-01-01", "2007-12-31"))
        assert p.fit_on == p.train and p.refit_on == ("2001-01-01", "2007-12-31")

    @pytest.mark.parametrize(
        ("test", "valid"),
        [
            (("2006-01-01", "2007-12-31"), ("2008-01-01", "2009-12-31")),  # test between train and validation
            (("2007-01-01", "2009-12-31"), ("2006-01-01", "2007-12-31")),  # overlap
            (("2008-01-01", "2009-12-31"), ("2002-01-01", "2003-12-31")),  # not at the end of train
        ],
    )
    def test_test_years_never_enter_a_choice(self, test, valid):
        with pytest.raises(ConfigError, match="period"):
            Periods.of(("2001-01-01", "2005-12-31"), test, valid)


def test_a_planted_model_is_found_again(planted):
    forcing, truth, periods, formula = planted
    part = forcing.between(*periods.test)
    assert (nse(formula.simulate(forcing).discharge[part, :, 0], truth[part]) > 0.95).all()
    assert [c["candidate"] in (0, 1) for c in formula.chosen] == [True, True]


def test_nothing_after_the_refit_period_has_any_influence(planted):
    forcing, truth, periods, formula = planted
    changed = truth.clone()
    changed[forcing.between(*periods.test)] = 99.0
    again = calibrate(exphydro_mended, forcing, changed, periods, **BUDGET, **QUICK)
    for name, value in formula.parameters().items():
        assert torch.equal(value, again.parameters()[name]), name


def test_a_hybrid_starts_as_the_formula_that_has_not_seen_validation(planted):
    forcing, truth, periods, formula = planted
    hybrid = hybridise(formula, ["et", "discharge"], forcing, truth, periods, seeds=1, steps=1, **QUICK)
    unseen = formula.before_refit()
    assert not torch.equal(unseen["f"], formula.parameters()["f"])
    # one evaluation cannot have lowered the loss much below where it starts: that of the formula before its refit
    start = forcing.independent()
    storage0 = formula.before_refit.storage0(("snow", "soil"))
    run = simulate(formula.model, start, theta=unseen, storage0=storage0, solver=QUICK["solver"])
    part = forcing.between(*periods.valid)
    losses = 1 - nse(run.discharge[part, :, 0], truth[part])
    for chosen, loss in zip(hybrid.chosen, losses.tolist(), strict=True):
        assert chosen["valid_loss"] <= loss * (1 + 1e-6) + 1e-9


def test_all_seeds_are_refitted_on_request_and_the_chosen_one_is_among_them(planted):
    forcing, truth, periods, formula = planted
    hybrid = hybridise(formula, ["et"], forcing, truth, periods, seeds=2, steps=5, refit_all=True, **QUICK)
    model, parameters = hybrid.candidates
    every = simulate(
        model, forcing.independent(2), theta=parameters(), storage0=parameters.storage0(("snow", "soil"))
    ).discharge
    chosen = hybrid.simulate(forcing).discharge
    for basin, choice in enumerate(hybrid.chosen):
        assert torch.allclose(chosen[:, basin], every[:, choice["candidate"] * 2 + basin], atol=1e-8)


def test_the_refit_starts_every_stage_where_choosing_did(planted):
    """A rate with which Adam only gets worse: L-BFGS starts from the formula, in the refit, too."""
    forcing, truth, periods, formula = planted
    hybrid = hybridise(formula, ["et"], forcing, truth, periods, seeds=1, steps=10, learning_rate=10.0, **QUICK)
    assert [row["stage"] for row in hybrid.history[:3]] == [0, 0, 1]
    assert {row["stage"] for row in hybrid.refit_history} == {1}
    refitted = forcing.between(*periods.refit_on)
    scores = [nse(run.simulate(forcing).discharge[refitted, :, 0], truth[refitted]) for run in (hybrid, formula)]
    assert (scores[0] >= scores[1] - 1e-3).all()


def test_laws_that_do_not_start_as_the_formula_are_taught_it(planted):
    forcing, truth, periods, formula = planted

    def laws(members, seed):
        return {"et": NeuralLaw("soil", "temp", output=Positive(0.1, "dayl"), members=members, seed=seed)}

    hybrid = hybridise(formula, laws, forcing, truth, periods, seeds=1, steps=5, teach_steps=200, **QUICK)
    part = forcing.between(*periods.test)
    assert (nse(hybrid.simulate(forcing).discharge[part, :, 0], truth[part]) > 0.9).all()


def test_an_unknown_flux_is_named(planted):
    forcing, truth, periods, formula = planted
    with pytest.raises(ConfigError, match="no flux or group 'runoff'"):
        hybridise(formula, ["runoff"], forcing, truth, periods, **QUICK)


@pytest.mark.parametrize(
    "test", [("1990-09-30", "1995-09-30"), ("1975-01-01", "1980-10-01"), ("1985-01-01", "1986-01-01")]
)
def test_no_test_period_overlaps_what_is_learned_from(test):
    with pytest.raises(ConfigError, match="overlaps the training period"):
        Periods.of(("1980-10-01", "1990-09-30"), test)


def test_what_is_handed_over_by_mistake_is_named(planted):
    forcing, truth, periods, _ = planted
    with pytest.raises(ConfigError, match="takes a Structure such as exphydro, not a Balance"):
        calibrate(Balance(exphydro_mended), forcing, truth, periods, **QUICK)
    with pytest.raises(DataError, match=r"give \(time, basin\)"):
        calibrate(exphydro_mended, forcing, truth[:, 0], periods, **QUICK)
    with pytest.raises(StructureError, match="A Structure cannot be simulated, a Balance can"):
        simulate(exphydro_mended, forcing)
    with pytest.raises(DataError, match="make a Forcing of it"):
        simulate(Balance(exphydro_mended), {"prcp": truth})
