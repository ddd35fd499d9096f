"""Bounds on the step: declared beside the fluxes, evaluated elementwise, right where the roots of a step multiply."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from udehydro import (
    ATMOSPHERE,
    OUTLET,
    Balance,
    Bound,
    Flux,
    Fraction,
    Multiplier,
    NeuralLaw,
    Range,
    Structure,
    StructureError,
    bound,
)
from udehydro.models import exphydro, gr4j, hbv
from udehydro.structure import reads


def theta(structure, **changes):
    """Defaults with changes, as a tuple in the order of the model."""
    model = Balance(structure)
    given = {n: structure.parameters[n].default for n in model.parameter_names} | changes
    return tuple(torch.as_tensor(given[n], dtype=torch.float64) for n in model.parameter_names)


def roots(residual, low: float, high: float, count: int = 200_001) -> int:
    """Sign changes of a function on a grid."""
    above = residual(np.linspace(low, high, count)) > 0
    return int((above[1:] != above[:-1]).sum())


class TestExchangeGrowth:
    """3.34 (x2 / x3)^(8/3) h of GR4J."""

    def slope(self, c: float) -> float:
        """Largest slope in R of exchange minus outflow, with r = R / x3 on a grid."""
        r = np.linspace(0.0, 20.0, 2_000_001)
        return float((3.5 * c * r**2.5 - 1.25 * r**4).max())

    @pytest.mark.parametrize("c", [0.1, 0.5, 0.636, 1.0, 3.0])
    def test_is_the_largest_slope(self, c):
        (b,) = gr4j.bounds
        value = b({"x2": torch.tensor(c * 50.0), "x3": torch.tensor(50.0)}, 0.25)
        assert value.item() == pytest.approx(0.25 * self.slope(c), rel=1e-8)

    @pytest.mark.parametrize("diagonal, ratio", [(1.0, 0.6365), (1.0 - 0.5**0.5, 1.0086)], ids=["BE", "SDIRK2"])
    def test_published_ratios(self, diagonal, ratio):
        model = Balance(gr4j)
        for factor, count in ((0.999, 0), (1.001, 1)):
            assert len(model.exceeded(theta(gr4j, x2=ratio * factor * 80.0, x3=80.0), diagonal)) == count

    @pytest.mark.parametrize("c, expected", [(0.6, {1}), (1.1, {1, 3})])
    def test_roots_of_a_step(self, c, expected):
        """R - h (F - Qr) = known: one root below the bound for all right sides, up to three above."""
        found = {
            roots(lambda r, right=right: r - c * r.clip(0) ** 3.5 + 0.25 * r.clip(0) ** 5 - right, -1.0, 8.0)
            for right in np.linspace(-0.9, 2.0, 59)
        }
        assert found == expected

    def test_negative_exchange_has_no_bound(self):
        x2 = torch.tensor([-20.0, -1.0, 0.0])
        assert Balance(gr4j).exceeded(theta(gr4j, x2=x2, x3=1.0), 1e9) == []


class TestRetention:
    """CWH h^2 / (tau^2 + 2 tau h) of HBV."""

    def slope(self, cwh, tau, h):
        """d/dMW of MW - h (refreezing out, release out) with SP = known + h MW / tau, by hand."""
        return 1.0 + h / tau + h / tau * (1.0 - cwh * h / tau)

    @pytest.mark.parametrize("h", [0.05, 0.293, 1.0, 7.0])
    def test_is_where_the_slope_turns_negative(self, h):
        tau = torch.logspace(-2.5, 0.0, 200)
        for cwh in (0.0, 0.05, 0.2):
            value = hbv.bounds[0]({"cwh": torch.full_like(tau, cwh), "tau": tau}, h)
            assert torch.equal(value < 1.0, self.slope(cwh, tau, h) > 0.0)

    def test_default_is_far_below(self):
        assert Balance(hbv).exceeded(theta(hbv, cwh=0.2), 1.0) == []
        assert len(Balance(hbv).exceeded(theta(hbv, cwh=0.2, tau=0.09), 1.0)) == 1
        assert Balance(hbv).exceeded(theta(hbv, cwh=0.2, tau=0.1), 1.0) == []  # tau >= 0.1 h always does

    @pytest.mark.parametrize("tau, snow, expected", [(0.05, -1.0, {1, 3}), (0.05, 2.0, {1}), (0.1, -1.0, {1})])
    def test_roots_of_a_step(self, tau, snow, expected):
        """Cold and no melt, water ``mw`` in snow that a stage took below zero: three solutions above the bound.

        From snow that is not negative there is one.
        """
        cwh, h, potential = 0.2, 1.0, 60.0

        def residual(mw):
            refreezing = np.minimum(mw / tau, potential)
            pack = snow + h * refreezing
            pack = np.where(pack < 0.0, pack / (1.0 + h / tau), pack)  # snow below zero draws from the meltwater
            release = np.maximum(mw - cwh * np.maximum(pack, 0.0), 0.0) / tau
            return mw + h * (refreezing - np.minimum(pack, 0.0) / tau + release)

        found = {roots(lambda mw, right=right: residual(mw) - right, -3.0, 9.0) for right in np.linspace(0.0, 4.0, 161)}
        assert found == expected


class TestExceeded:
    model = Balance(gr4j)

    def test_elementwise(self):
        """Static, per basin and daily parameters, steps of several lengths: a mask of their common shape."""
        x2 = torch.tensor([10.0, 80.0, -5.0])
        ((found, worst, mask, substeps),) = self.model.exceeded(theta(gr4j, x2=x2, x3=100.0), 1.0 / 0.3)
        assert found is gr4j.bounds[0] and mask.tolist() == [False, True, False]
        assert worst == pytest.approx(3.3355 * 0.8 ** (8 / 3) / 0.3, rel=1e-4) and substeps == 7
        h = torch.tensor([[0.5], [1.0]])
        (found,) = self.model.exceeded(theta(gr4j, x2=x2, x3=100.0), h)
        assert found.mask.tolist() == [[False, False, False], [False, True, False]]
        daily = torch.tensor([[10.0, 10.0], [10.0, 90.0], [70.0, 10.0]])
        (found,) = self.model.exceeded(theta(gr4j, x2=daily, x3=torch.tensor([100.0, 120.0])), 1.0)
        assert found.mask.tolist() == [[False, False], [False, True], [True, False]]

    def test_no_gradient_is_recorded(self):
        x2 = torch.tensor(90.0, requires_grad=True)
        (found,) = self.model.exceeded(theta(gr4j)[:1] + (x2,) + theta(gr4j)[2:], 1.0)
        assert not found.mask.requires_grad and isinstance(found.worst, float)

    def test_nothing_declared(self):
        assert Balance(exphydro).exceeded(theta(exphydro), 1.0) == []

    def test_not_a_number_counts(self):
        (found,) = self.model.exceeded(theta(gr4j, x2=torch.tensor([0.0, float("nan")])), 1.0)
        assert found.mask.tolist() == [False, True] and found.substeps is None

    def test_single_precision(self):
        values = tuple(v.float() for v in theta(gr4j, x2=80.0))
        assert len(self.model.exceeded(values, 1.0)) == 1

    def test_hbv(self):
        tau = torch.tensor([1.0, 0.05, 0.02])
        (found,) = Balance(hbv).exceeded(theta(hbv, cwh=0.2, tau=tau), 1.0)
        assert found.bound.name == "retention" and found.mask.tolist() == [False, True, True]


class TestSubsteps:
    @pytest.mark.parametrize("c", [0.64, 0.7, 1.0, 4.0, 30.0])
    def test_fewest(self, c):
        (b,) = gr4j.bounds
        values = {"x2": torch.tensor([1.0, c]), "x3": torch.ones(2)}
        n = b.substeps(values, 1.0)
        assert n > 1 and bool((b(values, 1.0 / n) < 1).all()) and not bool((b(values, 1.0 / (n - 1)) < 1).all())

    def test_one_where_it_holds(self):
        assert gr4j.bounds[0].substeps({"x2": torch.tensor(1.0), "x3": torch.tensor(9.0)}, 1.0) == 1

    def test_none_where_the_step_does_not_help(self):
        @bound("et")
        def steepness(f, h):
            return 3.0 * f + 0.0 * h

        assert steepness.substeps({"f": torch.tensor(1.0)}, 1.0) is None
        text = steepness.message(3.0, "basin b1", None)
        assert text.startswith("basin b1: steepness is 3 and has to stay below 1;") and "change f." in text


def test_message():
    """Where, what, how much, the remedy, and the parameters to change."""
    (b,) = gr4j.bounds
    text = b.message(1.234567, "basin 01013500", 3)
    assert text.startswith("basin 01013500: exchange_growth is 1.23 and has to stay below 1 (Exchange with x2 > 0 ")
    assert "several solutions" in text and text.endswith("Use substeps=3 or more, or change x2, x3.")


class TestWhichModelsCarryIt:
    """A bound belongs to the formulas it was derived from."""

    @pytest.mark.parametrize(
        "laws",
        [
            {"outflow": NeuralLaw("routing")},
            {"potential_exchange": NeuralLaw("routing", output=Multiplier())},
            {"exchange_routing": NeuralLaw("routing", output=Multiplier())},
        ],
        ids=lambda laws: next(iter(laws)),
    )
    def test_dropped_with_its_formula(self, laws):
        model = Balance(gr4j, **laws)
        assert model.structure.bounds == () and model.exceeded(theta(model.structure, x2=90.0), 1.0) == []

    def test_kept_otherwise(self):
        assert Balance(gr4j, et=NeuralLaw("production", output=Fraction("pet"))).structure.bounds == gr4j.bounds
        assert Balance(hbv, et=NeuralLaw("soil")).structure.bounds == hbv.bounds
        assert Balance(gr4j, evaporation=NeuralLaw("production")).structure.bounds == gr4j.bounds

    def test_without_a_flux(self):
        assert hbv.without("refreezing").bounds == () and hbv.without("capillary").bounds == hbv.bounds

    def test_given(self):
        s = replace(hbv, bounds=(*hbv.bounds, Bound("other", lambda tau, h: h / tau, ("melt_potential",))))
        assert [b.name for b in s.given("melt_potential", "mm/d").bounds] == ["retention"]

    def test_merged_group(self):
        s = replace(gr4j, bounds=(Bound("dry", lambda x1, h: h / x1, ("interception",)),))
        assert s.replace(evaporation=NeuralLaw("production")).bounds == ()

    def test_its_parameters_are_required(self):
        """Also one that no flux reads: the solver cannot check the bound without it."""
        s = small(parameters={"k": Range(0.001, 1.0, "1/d"), "cap": Range(1.0, 9.0, "1")}, bounds=(CAP,))
        assert Balance(s).parameter_names == ("k", "cap")


@bound("outflow")
def CAP(cap, h):
    """Made up."""
    return h / cap


def small(**changes) -> Structure:
    given = dict(
        name="mine",
        stores={"storage": "mm"},
        forcings={"prcp": "mm/d"},
        parameters={"k": Range(0.001, 1.0, "1/d")},
        fluxes=(
            Flux("rain", ATMOSPHERE, "storage", lambda prcp: prcp),
            Flux("outflow", "storage", OUTLET, lambda storage, k: k * storage),
        ),
    )
    return Structure(**{**given, **changes})


class TestErrors:
    @pytest.mark.parametrize(
        "changes, message",
        [
            (
                {"bounds": (Bound("b", lambda k, h: k * h, ("outflo",)),)},
                "Bound 'b' is about unknown flux or quantity 'outflo'. Did you mean 'outflow'",
            ),
            (
                {"bounds": (Bound("b", lambda kk, h: kk * h, ("outflow",)),)},
                "Bound 'b' reads 'kk'; it may read parameters and 'h', the step in days. Did you mean 'k'",
            ),
            ({"bounds": (Bound("b", lambda storage, h: h, ("outflow",)),)}, "Bound 'b' reads 'storage'"),
            ({"bounds": (Bound("k", lambda k, h: k * h, ("outflow",)),)}, "uses 'k' as parameter and as bound"),
            (
                {
                    "parameters": {"k": Range(0.0, 1.0, "1/d"), "h": Range(0.0, 1.0, "d")},
                    "bounds": (Bound("b", lambda k, h: k * h, ("outflow",)),),
                },
                "uses 'h' as parameter and as step of its bounds: rename one",
            ),
            ({"bounds": (Bound("b", lambda *a: 0.0, ("outflow",)),)}, "Name its arguments"),
        ],
    )
    def test_on_construction(self, changes, message):
        with pytest.raises(StructureError, match=message):
            small(**changes)

    def test_h_is_an_ordinary_name_without_bounds(self):
        small(parameters={"k": Range(0.0, 1.0, "1/d"), "h": Range(0.0, 1.0, "d")})

    def test_decorator(self):
        assert CAP.name == "CAP" and CAP.of == ("outflow",) and reads(CAP.law) == ("cap", "h")
