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


LIBRARY = {
    "et": {
        "most": 2,
        "terms": [
            "pet*saturation(soil, smax)",
            {"term": "pet*power(saturation(soil, smax), m)", "constants": {"m": [0.1, 15, "1", 1.5]},
             "factor": [0.05, 5, "1", 1]},
        ],
    }
}  # fmt: skip


def test_libraries_survive_yaml(tmp_path: Path):
    given = experiment(discover="et", libraries=LIBRARY, sure=False)
    path = tmp_path / "e.yaml"
    path.write_text(given.to_yaml())
    assert Experiment.from_yaml(path) == given
    assert given.libraries["et"]["terms"][1]["constants"] == {"m": [0.1, 15.0, "1", 1.5]}


def test_what_has_a_library_is_to_be_written_and_what_is_written_is_learned():
    given = {n: v for n, v in GIVEN.items() if n != "neural"}
    found = Experiment.of({**given, "libraries": LIBRARY})
    assert found.discover == found.neural == ("et",)
    assert Experiment.of({**given, "discover": "et,discharge"}).neural == ("et", "discharge")
    assert Experiment.of({**GIVEN, "libraries": LIBRARY}).neural == ("et", "discharge")


@pytest.mark.parametrize(
    ("libraries", "said"),
    [
        (["et"], "has to be a mapping"),
        ({"discharge": LIBRARY["et"]}, "'discharge' is not to be written as a formula"),
        ({"et": {"terms": []}}, "at least one term"),
        ({"et": {"term": ["pet"]}}, "unknown 'term'"),
        ({"et": {"terms": ["pet"], "most": 0}}, "et, most: 0 has to be a whole number"),
        ({"et": {"terms": [3]}}, "term 1: 3 has to be a mapping"),
        ({"et": {"terms": [{"factor": [0, 1, "1", 0.5]}]}}, "term 1, term: None has to be text"),
        ({"et": {"terms": [{"term": "pet", "constants": ["m"]}]}}, "has to map names"),
        ({"et": {"terms": [{"term": "pet", "factor": [0, 1]}]}}, r"\[low, high, unit, start\]"),
        ({"et": {"terms": [{"term": "pet", "factor": [0, 1, "1", 2]}]}}, "start 2 has to lie between 0 and 1"),
    ],
)
def test_libraries_that_cannot_be(libraries, said):
    with pytest.raises(ConfigError, match=said):
        experiment(discover="et", libraries=libraries)
