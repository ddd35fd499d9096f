"""Saved models: what is damaged, incomplete or out of range is an error, never a model with other numbers."""

import json

import pytest
import torch
from tables import weather

from udehydro import (
    Balance,
    DataError,
    FormulaLaw,
    Fraction,
    Multiplier,
    NeuralLaw,
    Range,
    StructureError,
    saved,
    simulate,
)
from udehydro.config import STRUCTURES
from udehydro.laws import SmallNetwork
from udehydro.models import exphydro_mended


@pytest.fixture
def folder(tmp_path):
    model = Balance(exphydro_mended, et=NeuralLaw("soil", "temp", seed=1))
    theta = {n: exphydro_mended.parameters[n].default for n in model.parameter_names}
    return saved.save(tmp_path, model, theta, storage0={"snow": 0.0, "soil": 100.0})


def test_what_was_saved_is_loaded(folder):
    assert saved.load(folder, STRUCTURES).storage0 == {"snow": 0.0, "soil": 100.0}


def law(**change):
    return lambda content: content["laws"]["et"].update(change)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: [content.pop(n) for n in ("weights", "sha256")],
        lambda content: content.pop("sha256"),
        law(hidden=[-3]),
        law(hidden=["a"]),
        law(tau="never"),
        law(output={"kind": "Module"}),
        law(inputs=["soil", "moon"]),
        lambda content: content["parameters"].update(smax={"value": "abc"}),
        lambda content: content["parameters"].update(smax={"value": float("nan")}),
        lambda content: content["parameters"].update(moon={"value": 1.0}),
        lambda content: content["parameters"].pop("smax"),
        lambda content: content["initial_storage"].pop("snow"),
        lambda content: content["initial_storage"].update(snow=float("inf")),
    ],
)
def test_a_damaged_model_is_refused(folder, damage):
    path = folder / saved.MODEL
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"model.json|weights"):
        saved.load(folder, STRUCTURES)


@pytest.fixture
def formula(tmp_path):
    law = FormulaLaw("pet*(1 - exp(-a*saturation(soil, smax)))", {"a": Range(0.1, 20.0, "1", default=3.0)})
    model = Balance(exphydro_mended, et=law, discharge=FormulaLaw("0.1234567890123456*qmax*saturation(soil, smax)"))
    theta = {n: model.structure.parameters[n].default for n in model.parameter_names}
    return saved.save(tmp_path, model, theta)


def test_formulas_are_loaded_from_text(formula):
    content = json.loads((formula / saved.MODEL).read_text())
    assert content["laws"]["discharge"]["expression"] == "0.1234567890123456*qmax*saturation(soil, smax)"
    assert "weights" not in content and not (formula / saved.WEIGHTS).exists()
    loaded = saved.load(formula, STRUCTURES)
    assert loaded.theta["a"] == 3.0 and loaded.model.structure.parameters["a"] == Range(0.1, 20.0, "1", default=3.0)
    assert loaded.model.structure.flux("discharge").law.text == content["laws"]["discharge"]["expression"]


def test_an_empirical_formula_stays_one(tmp_path):
    model = Balance(exphydro_mended, et=FormulaLaw("0.1*soil", empirical=True))
    theta = {n: model.structure.parameters[n].default for n in model.parameter_names}
    loaded = saved.load(saved.save(tmp_path, model, theta), STRUCTURES)
    assert loaded.model.structure.flux("et").law.empirical


def test_a_network_on_a_formula_keeps_the_formula(tmp_path):
    once = exphydro_mended.replace(discharge=FormulaLaw("k*soil", {"k": Range(0.001, 1.0, "1/d")}))
    model = Balance(once, discharge=NeuralLaw("soil", output=Multiplier(), seed=0))
    theta = {n: once.parameters[n].default for n in model.parameter_names}
    loaded = saved.load(saved.save(tmp_path, model, theta), STRUCTURES)
    assert loaded.model.structure.flux("discharge").formula == once.flux("discharge").law
    assert loaded.model.parameter_names == model.parameter_names


@pytest.mark.parametrize(
    "change",
    [
        {"expression": "__import__('os').system('true')"},
        {"expression": "pet.__class__"},
        {"expression": "pet*(lambda: a)()"},
        {"expression": "9**9**9**9*pet*a"},
        {"expression": "pet*a*moon"},
        {"expression": "soil*a"},
        {"expression": ["pet*a"]},
        {"expression": None},
        {"expression": "pet"},
        {"constants": {}},
        {"constants": {"a": [0.1, 20.0]}},
        {"constants": {"a": {"low": "0", "high": 20.0, "unit": "1"}}},
        {"constants": {"a": {"low": 0.1, "high": float("nan"), "unit": "1"}}},
        {"constants": {"a": {"low": 0.1, "high": 20.0, "unit": 1}}},
        {"constants": {"a": {"low": 0.1, "high": 20.0, "unit": "1", "fixed": "yes"}}},
        {"constants": {"a": {"low": 0.1, "high": 20.0, "unit": "1", "moon": 1}}},
        {"empirical": "no"},
        {"kind": "pickle"},
    ],
    ids=str,
)
def test_a_damaged_formula_is_refused(formula, change):
    path = formula / saved.MODEL
    content = json.loads(path.read_text())
    content["laws"]["et"].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="model.json"):
        saved.load(formula, STRUCTURES)


@pytest.fixture
def small(tmp_path):
    """A network whose weights are parameters, and one of two outputs that a formula reads."""
    generator = torch.Generator().manual_seed(0)
    et = SmallNetwork("soil", "temp", name="net", hidden=(3,), output=Fraction("pet"), scale={"soil": (200.0, 120.0)})
    two = SmallNetwork("temp", name="two", outputs=("one", "other"), hidden=(2,), activation="gaussian", limit=9.0)
    model = Balance(exphydro_mended, et=et, two=two, discharge=FormulaLaw("other*soil", empirical=True))
    theta = {n: model.structure.parameters[n].default for n in model.parameter_names}
    weights = et.initial(generator, 1) | two.initial(generator, 1)
    theta |= {n: float(v) for n, v in weights.items()}
    return model, theta, saved.save(tmp_path, model, theta)


def test_small_networks_are_loaded_with_their_weights(small):
    model, theta, folder = small
    loaded = saved.load(folder, STRUCTURES)
    assert loaded.theta == theta and loaded.model.parameter_names == model.parameter_names
    assert loaded.model.structure.parameters["two_w0_0_0"].high == 9.0
    assert not (folder / saved.WEIGHTS).exists()
    forcing, storage0 = weather(5), {"snow": 0.0, "soil": 200.0}
    runs = [simulate(m, forcing, theta=t, storage0=storage0) for m, t in ((model, theta), (loaded.model, loaded.theta))]
    assert torch.equal(runs[0].storage, runs[1].storage) and runs[0].rate("et").std() > 1e-3


@pytest.mark.parametrize(
    "change",
    [
        {"limit": "9"},
        {"limit": -1.0},
        {"tau": "auto"},
        {"tau": float("inf")},
        {"activation": "exec"},
        {"hidden": [0]},
        {"scale": {"moon": [0.0, 1.0]}},
        {"output": {"kind": "Module"}},
        {"outputs": ["one"]},
        {"name": "other"},
    ],
    ids=str,
)
def test_a_damaged_small_network_is_refused(small, change):
    path = small[2] / saved.MODEL
    content = json.loads(path.read_text())
    content["laws"]["et"].update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="model.json"):
        saved.load(small[2], STRUCTURES)


def test_a_law_that_cannot_be_saved(tmp_path):
    """Otherwise the formula of the structure would be loaded in its place."""
    model = Balance(exphydro_mended, et=lambda pet: pet)
    theta = {n: model.structure.parameters[n].default for n in model.parameter_names}
    with pytest.raises(
        StructureError, match="The law of 'et', <lambda>, cannot be saved: only NeuralLaw, SmallNetwork and FormulaLaw"
    ):
        saved.save(tmp_path, model, theta)
