"""Saved models: what is damaged, incomplete or out of range is an error, never a model with other numbers."""

import json

import pytest

from udehydro import Balance, DataError, NeuralLaw, saved
from udehydro.config import STRUCTURES
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
