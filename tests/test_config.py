"""Experiment files: strict, and the same after a round trip."""

from pathlib import Path

import pytest

from udehydro.config import Experiment
from udehydro.errors import ConfigError
from udehydro.settings import Period

GIVEN = {
    "data": "basin.csv",
    "train": "1980-10-01/1990-09-30",
    "test": "1990-10-01/1995-09-30",
    "out": "out",
    "basins": "01013500,02",
    "neural": "et,discharge",
}


def experiment(**changes) -> Experiment:
    return Experiment.from_flags(**{**GIVEN, **changes})


def test_round_trip_through_yaml(tmp_path: Path):
    given = experiment(valid="1988-10-01/1990-09-30", learning_rate=0.1 + 0.2, columns={"prcp": "rain"}, area=412.5)
    path = tmp_path / "e.yaml"
    path.write_text(given.to_yaml())
    assert Experiment.from_yaml(path) == given
    assert given.basins == ("01013500", "02")  # the zero in front survives


def test_flags_override_the_file(tmp_path: Path):
    path = tmp_path / "e.yaml"
    path.write_text(experiment().to_yaml())
    changed = Experiment.from_flags(path, out="elsewhere", seed=7, model=None)
    assert (changed.out, changed.seed, changed.model) == ("elsewhere", 7, "exphydro")
    assert changed.differences(experiment()) == ["seed: 7, 0"]  # the folder is no setting of the run


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modell": "exphydro"}, "Did you mean 'model'"),
        ({"model": "exphydo"}, "Did you mean 'exphydro'"),
        ({"neural": "ett"}, "Did you mean 'et'"),
        ({"neural": "et,et"}, "twice"),
        ({"neural": "baseflow,discharge"}, "part of the group 'discharge'"),
        ({"loss": "rmse"}, "Known: nse"),
        ({"train": "1980/1990"}, "1981-10-01/1990-09-30"),
        ({"train": "1980-10-01/1990-09-31"}, r"\(day"),
        ({"train": "1990-09-30/1980-10-01"}, "after its end"),
        ({"test": "1990-09-30/1995-09-30"}, "overlap"),
        ({"valid": "1990-10-01/1992-09-30"}, "overlap"),
        ({"valid": "1984-10-01/1986-09-30"}, "end of train"),
        ({"valid": "1980-10-01/1990-09-30"}, "end of train"),
        ({"valid": "1996-10-01/1997-09-30"}, "lies between"),
        ({"starts": 0}, "1 or more"),
        ({"starts": 2.5}, "whole number"),
        ({"seed": True}, "whole number"),
        ({"learning_rate": 0.0}, "above zero"),
        ({"area": "big"}, "number"),
        ({"columns": ["prcp"]}, "mapping"),
        ({"dayfirst": "yes"}, "true or false"),
        ({"basins": [1013500]}, "quotes"),
    ],
)
def test_bad_settings_are_named_with_a_remedy(changes, said):
    with pytest.raises(ConfigError, match=said):
        experiment(**changes)


def test_missing_settings_are_listed():
    with pytest.raises(ConfigError, match="train, test, out missing"):
        Experiment.from_flags(data="basin.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no settings"),
        ("- a\n", "holds no settings"),
        ("a: [", "not valid YAML"),
        ("data: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        ("basins: 01013500\n", "quotes"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, said: str):
    path = tmp_path / "e.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        Experiment.from_yaml(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        Experiment.from_yaml(tmp_path / "missing.yaml")


def test_periods():
    period = Period.parse("1981-10-01/1990-09-30")
    assert str(period) == "1981-10-01/1990-09-30"
    assert period.overlaps(Period.parse("1990-09-30/1991-09-30"))
    assert not period.overlaps(Period.parse("1990-10-01/1991-09-30"))
    assert period.contains(Period.parse("1981-10-01/1981-10-01"))


def test_a_setting_given_twice(tmp_path: Path):
    path = tmp_path / "e.yaml"
    path.write_text(experiment().to_yaml() + "train: 1971-10-01/1980-09-30\n")
    with pytest.raises(ConfigError, match="train given twice"):
        Experiment.from_yaml(path)
