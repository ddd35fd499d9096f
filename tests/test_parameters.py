"""Calibrated parameters: inside their ranges always, starts reproduced, logarithmic ranges, held values, members."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from udehydro import Balance, Calibrated, Range, StructureError
from udehydro.models import exphydro, exphydro_mended
from udehydro.parameters import from_unit, to_unit

RANGES = {
    "k": Range(0.001, 1.0, "1/d", default=0.1),  # factor 1000: logarithmic
    "smax": Range(100.0, 1500.0, "mm", default=500.0),
    "tmin": Range(-3.0, 0.0, "degC", default=-1.0),
    "width": Range(0.02, 2.0, "K", default=0.2, fixed=True),
}


def test_logarithmic_ranges():
    """Only above zero and beyond a factor of 100; the middle of the search is then the geometric mean."""
    assert RANGES["k"].logarithmic
    assert not Range(1.0, 100.0, "mm").logarithmic
    assert not Range(0.0, 1000.0, "mm").logarithmic
    assert not Range(-1.0, 1000.0, "mm").logarithmic
    half = torch.tensor(0.5)
    assert from_unit(half, RANGES["k"]).item() == pytest.approx(math.sqrt(0.001), rel=1e-12)
    assert from_unit(half, RANGES["smax"]).item() == pytest.approx(800.0, rel=1e-12)


@pytest.mark.parametrize("name", RANGES)
def test_unit_and_back(name):
    u = torch.linspace(0.0, 1.0, 21)
    assert torch.allclose(to_unit(from_unit(u, RANGES[name]), RANGES[name]), u, atol=1e-12)


@given(raw=st.floats(-1e6, 1e6), name=st.sampled_from(["k", "smax", "tmin"]))
def test_inside_the_range_whatever_the_optimiser_does(raw, name):
    """To round-off at the edges: exp(log(high)) may exceed high by one part in 1e15."""
    provider = Calibrated({name: RANGES[name]})
    with torch.no_grad():
        provider.free[name].fill_(raw)
    value, low, high = provider()[name].item(), RANGES[name].low, RANGES[name].high
    slack = 4e-15 * max(abs(low), abs(high))
    assert low - slack <= value <= high + slack


def test_starts_are_reproduced():
    """1e-12 relative: logit and sigmoid undo each other."""
    start = {"k": torch.tensor([0.002, 0.5]), "smax": 777.0}
    theta = Calibrated(RANGES, (2,), start=start)()
    assert torch.allclose(theta["k"], start["k"], rtol=1e-12)
    assert torch.allclose(theta["smax"], torch.full((2,), 777.0), rtol=1e-12)
    assert torch.allclose(theta["tmin"], torch.full((2,), -1.0), rtol=1e-12)


def test_a_start_at_an_edge_moves_inside():
    """By 1e-4 of the range: the logit is infinite at the edge and could never leave it."""
    theta = Calibrated(RANGES, start={"tmin": 0.0})()
    assert theta["tmin"].item() == pytest.approx(-3e-4, rel=1e-9)


def test_shapes_and_members():
    provider = Calibrated(RANGES, (3, 2), start={"k": torch.tensor([0.1, 0.2])})
    theta = provider()
    assert list(theta) == list(RANGES)
    assert all(v.shape == (3, 2) for v in theta.values())
    assert torch.allclose(theta["k"][2], torch.tensor([0.1, 0.2]), rtol=1e-12)


def test_fixed():
    """By declaration, and by name; neither has a free tensor, both keep their value and travel in the state dict."""
    provider = Calibrated(RANGES, start={"smax": 321.0, "width": 0.3}, fixed=("smax",))
    assert set(provider.free) == {"k", "tmin"}
    theta = provider()
    assert theta["smax"].item() == 321.0 and theta["width"].item() == 0.3
    other = Calibrated(RANGES, fixed=("smax",))
    other.load_state_dict(provider.state_dict())
    assert other()["smax"].item() == 321.0


def test_gradients_reach_the_free_tensors_alone():
    provider = Calibrated(RANGES, (2,), fixed=("smax",))
    sum(v.sum() for v in provider().values()).backward()
    assert all(bool((p.grad != 0).all()) for p in provider.free.values())
    assert not provider()["smax"].requires_grad


def test_of_a_model():
    """Those that the installed laws read."""
    model = Balance(exphydro_mended.without("baseflow"))
    provider = Calibrated.of(model, (2,))
    assert list(provider()) == list(model.parameter_names)
    assert "qmax" not in provider() and "tau" not in provider.free
    assert provider()["smax"].tolist() == pytest.approx([500.0, 500.0], rel=1e-12)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"start": {"kk": 0.1}}, "'kk' is no parameter here. Did you mean 'k'"),
        ({"fixed": ("smx",)}, "'smx' is no parameter here. Did you mean 'smax'"),
        (
            {"start": {"k": 2.0}},
            r"Start value .2.0, 2.0. of 'k' is outside its range \[0.001, 1.0\] 1/d: start inside, or",
        ),
        ({"start": {"k": -0.1}}, "of 'k' is outside its range"),
        ({"start": {"k": float("nan")}}, "of 'k' is outside its range"),
        ({"start": {"tmin": torch.tensor([-1.0, 0.5])}}, "of 'tmin' is outside its range"),
        ({"start": {"smax": torch.tensor([200.0, 300.0, 400.0])}}, r"'smax'.*\(3,\).*\(2,\)"),
    ],
)
def test_errors(options, message):
    with pytest.raises(StructureError, match=message):
        Calibrated(RANGES, (2,), **options)


class TestScatter:
    def test_reproducible_inside_and_different(self):
        a, b, c = (Calibrated(RANGES, (5, 2)) for _ in range(3))
        for provider, seed in ((a, 1), (b, 1), (c, 2)):
            provider.scatter(torch.Generator().manual_seed(seed))
        for name in ("k", "smax", "tmin"):
            x = a()[name]
            assert torch.equal(x, b()[name]) and not torch.equal(x, c()[name])
            share = to_unit(x, RANGES[name])
            assert bool(((share >= 0.05 - 1e-12) & (share <= 0.95 + 1e-12)).all())
            assert len(x[1:].unique()) == 8

    def test_the_first_member_keeps_its_start(self):
        start = {"smax": 640.0}
        provider = Calibrated(RANGES, (4, 2), start=start)
        provider.scatter(torch.Generator().manual_seed(0))
        assert provider()["smax"][0].tolist() == pytest.approx([640.0, 640.0], rel=1e-12)
        provider.scatter(torch.Generator().manual_seed(0), keep_first=False)
        assert abs(provider()["smax"][0, 0].item() - 640.0) > 1e-3

    def test_held_values_stay(self):
        provider = Calibrated(RANGES, (4,), fixed=("smax",))
        provider.scatter(torch.Generator().manual_seed(0))
        assert provider()["smax"].tolist() == [500.0] * 4

    def test_independent_of_the_global_seed(self):
        a, b = Calibrated(RANGES, (4,)), Calibrated(RANGES, (4,))
        a.scatter(torch.Generator().manual_seed(3))
        torch.manual_seed(99)
        b.scatter(torch.Generator().manual_seed(3))
        assert torch.equal(a()["k"], b()["k"])


class TestInitialStorages:
    initial = {"snow": Range(0.0, 100.0, "mm", default=5.0), "soil": Range(1.0, 1500.0, "mm", default=300.0)}

    def test_values_in_the_order_asked_for(self):
        provider = Calibrated(RANGES, (2,), initial=self.initial, start={"soil": 250.0})
        storage0 = provider.storage0(("snow", "soil"))
        assert torch.allclose(storage0, torch.tensor([[5.0, 250.0], [5.0, 250.0]]), rtol=1e-12)
        assert storage0.requires_grad
        assert "soil" not in provider()  # not a parameter of the model

    def test_none(self):
        assert Calibrated(RANGES).storage0(("snow", "soil")) is None

    def test_missing(self):
        provider = Calibrated(RANGES, initial={"snow": self.initial["snow"]})
        with pytest.raises(StructureError, match=r"Initial storage of \['soil'\] has no range"):
            provider.storage0(("snow", "soil"))


def test_defaults_of_the_models_lie_inside():
    for structure in (exphydro, exphydro_mended):
        theta = Calibrated(structure.parameters)()
        for name, range_ in structure.parameters.items():
            assert theta[name].item() == pytest.approx(range_.default, rel=1e-12, abs=1e-12)
