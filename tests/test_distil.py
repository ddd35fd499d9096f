"""From a trained hybrid to formulas put back: the recipe, its files, and ``udehydro discover``."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import TEST, TRAIN, dataset, flags, write_csv

from udehydro import Balance, ConfigError, SolverError, StructureError, plot, simulate
from udehydro import saved as saved_models
from udehydro.cli import main
from udehydro.config import STRUCTURES
from udehydro.discovery import Library, Term, distil, usual
from udehydro.discovery.library import from_plain
from udehydro.experiment.prepare import observations
from udehydro.forcing import Forcing
from udehydro.models import exphydro, exphydro_mended, gr4j, hbv, linear
from udehydro.structure import Range
from udehydro.training.recipes import Periods, calibrate, hybridise

pytest.importorskip("sympy")
pytest.importorskip("numba")

SMALL = {
    "et": Library([Term("pet*saturation(soil, smax)"), Term("pet*power(saturation(soil, smax), m)",
                                                          {"m": Range(0.2, 5.0, "1", 1.0)})]),
}  # fmt: skip
"""The truth of the toy is near the first term."""


@pytest.fixture(scope="module")
def trained():
    ds = dataset()
    forcing = Forcing.from_dataset(ds, ["prcp", "temp", "dayl"])
    observed = observations(ds, forcing, 100)
    periods = Periods.of(TRAIN.split("/"), TEST.split("/"))
    given = (forcing, observed, periods)
    bucket = calibrate(exphydro, *given, starts=2, steps=20, refit_steps=5, warmup_days=100, progress=False)
    hybrid = hybridise(bucket, ["et"], *given, seeds=1, steps=5, warmup_days=100, progress=False)
    return bucket, hybrid, given


@pytest.fixture(scope="module")
def found(trained, tmp_path_factory):
    bucket, hybrid, given = trained
    folder = tmp_path_factory.mktemp("formula")
    return distil(bucket, hybrid, SMALL, *given, warmup_days=100, checkpoint=folder, progress=False), folder


def test_the_formula_put_back_is_the_candidate_that_was_chosen(trained, found):
    """The model of all candidates and the formula's own give the same run; water closes."""
    forcing, result = trained[2][0], found[0]
    one = result.basins[0]
    run = simulate(one.model, forcing, theta=one.theta(), storage0=one.storage0())
    assert torch.allclose(run.discharge.flatten(), result.simulate(forcing).discharge.flatten(), rtol=0, atol=1e-8)
    assert float(run.max_balance_error()) < 1e-9
    assert set(one.laws) == {"et"} and "soil" in one.laws["et"]
    assert one.rows[one.chosen]["constants"] == min(r["constants"] for r in one.rivals)
    assert [r["valid"] for r in one.rows] == sorted((r["valid"] for r in one.rows), reverse=True)
    low, five, ninety_five, high = one.support["soil"]
    assert low <= five < ninety_five <= high


def test_the_refit_is_no_worse_than_the_bucket_it_generalises(trained, found):
    """ET = PET s is what the bucket has below capacity; refitted through the ODE it keeps the bucket's fit."""
    bucket, _, (forcing, observed, periods) = trained
    part = forcing.between(*periods.refit_on)
    seen = ~observed[part, 0].isnan()

    def misfit(run):
        return float((run.discharge.reshape(len(forcing), -1)[part, 0] - observed[part, 0])[seen].square().mean())

    assert misfit(found[0].simulate(forcing)) < 1.1 * misfit(bucket.simulate(forcing))


def test_resuming_reads_what_is_there(trained, found):
    bucket, hybrid, given = trained
    result, folder = found
    again = distil(bucket, hybrid, SMALL, *given, warmup_days=100, checkpoint=folder, resume=True, progress=False)
    assert again.basins[0].values == result.basins[0].values and again.basins[0].laws == result.basins[0].laws
    other = {"et": Library([Term(t.text + "*1.0", t.constants) for t in SMALL["et"].terms])}
    with pytest.raises(ConfigError, match="other libraries"):
        distil(bucket, hybrid, other, *given, checkpoint=folder, resume=True, progress=False)
    content = json.loads((folder / "0.json").read_text())
    damages = [{"support": []}, {"chosen": 99}, {"rows": "x"}, {"values": {"smax": "a"}}, {"basin": "zzz"}]
    for damage in [*({**content, **d} for d in damages), {}]:
        (folder / "0.json").write_text(json.dumps(damage))
        with pytest.raises(ConfigError, match="is damaged|another basin"):
            distil(bucket, hybrid, SMALL, *given, checkpoint=folder, resume=True, progress=False)
    (folder / "0.json").write_text(json.dumps(content))


def test_it_needs_the_hybrid_before_its_refit(trained):
    bucket, hybrid, given = trained
    with pytest.raises(ConfigError, match="before the refit"):
        distil(bucket, replace(hybrid, unrefitted=None), SMALL, *given)


def test_how_sure_is_kept_and_read_again(trained, found):
    """Every trained constant and the zero of the store have a profile; the verdict is in words; resuming keeps both."""
    bucket, hybrid, given = trained
    result, folder = found
    one = result.basins[0]
    constants = {n for law in one.model.laws.values() for n in getattr(law, "constants", {})}
    assert {p["name"] for p in one.profiles} == constants | {"offset of soil"}
    for p in one.profiles:
        assert len(p["grid"]) == len(p["ratio"]) and min(r for r in p["ratio"] if r is not None) == 0.0
        assert p["unit"]
    fig = plot.profiles([*one.profiles, {"name": "open", "grid": [1.0, 30.0], "ratio": [0.0, None],
                                         "interval": [None, None]}], title="toy")  # fmt: skip
    assert plot.png(fig, dpi=40).startswith(b"\x89PNG") and "mm" in fig.axes[len(constants)].get_xlabel()
    assert [v["store"] for v in one.verdicts] == ["soil"] and one.verdicts[0]["notes"]
    again = distil(bucket, hybrid, SMALL, *given, warmup_days=100, checkpoint=folder, resume=True, progress=False)
    assert again.basins[0].profiles == one.profiles and again.basins[0].verdicts == one.verdicts


def test_what_cannot_be_examined_is_said_and_nothing_is_lost(trained, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise SolverError("no step is short enough.")

    monkeypatch.setattr("udehydro.discovery.recipe.examine", broken)
    bucket, hybrid, given = trained
    one = distil(bucket, hybrid, SMALL, *given, warmup_days=100, checkpoint=tmp_path, progress=False).basins[0]
    assert one.laws and not one.profiles
    (said,) = one.verdicts
    assert said["store"] == "soil" and "no step is short enough" in said["reasons"][0] and not said["determined"]


def test_libraries_of_an_experiment_file():
    plain = {"most": 2, "terms": ["pet*saturation(soil, smax)", {"term": "pet*power(saturation(soil, smax), m)",
             "constants": {"m": [0.2, 5.0, "1", 1.0]}, "factor": [0.1, 3.0, "1", 1.0]}]}  # fmt: skip
    library = from_plain(exphydro, "et", plain)
    assert library.most == 2 and library.terms[1].constants["m"] == Range(0.2, 5.0, "1", 1.0)
    assert library.terms[1].coefficient.high == 3.0
    with pytest.raises(StructureError, match="The term 'soil' cannot be a law of 'et'.*should be length/time"):
        from_plain(exphydro, "et", {"terms": ["soil"]})


class TestUsualLibraries:
    @pytest.mark.parametrize("structure", [exphydro, exphydro_mended], ids=lambda s: s.name)
    def test_every_term_can_be_installed(self, structure):
        for name in ("et", "discharge"):
            library = usual(structure, name)
            assert library.most == 2 and len(library) > 4
            assert len({t.text for t in library.terms}) == len(library)
        texts = [t.text for t in usual(structure, "et").terms]
        assert "prcp" in texts and any("exp(-max(snow, 0)/d)" in t for t in texts)
        assert any("(rainfall + melt)" in t or "(melt + rainfall)" in t for t in
                   (t.text for t in usual(structure, "discharge").terms))  # fmt: skip

    def test_of_fluxes_without_one(self):
        with pytest.raises(ConfigError, match="does not leave one store"):
            usual(exphydro, "snowfall")
        with pytest.raises(ConfigError, match="no flux or group 'ett'.*et"):
            usual(exphydro, "ett")
        with pytest.raises(ConfigError, match="No parameter in mm"):
            usual(linear, "outflow")

    @pytest.mark.parametrize("structure", [hbv, gr4j], ids=lambda s: s.name)
    def test_of_models_with_many_stores(self, structure):
        """A library, or a message that says what to do."""
        for flux in structure.fluxes:
            try:
                library = usual(structure, flux.name)
            except ConfigError as error:
                assert "Library" in str(error)
            else:
                Balance(structure)
                assert len(library)


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    return stop.value.code or 0


@pytest.mark.slow
def test_discover_on_the_command_line(tmp_path: Path, capsys):
    """Three models are compared, the report tells of the formulas, the saved one runs without what made it."""
    data = write_csv(tmp_path / "basin.csv", dataset())
    arguments = flags(data, tmp_path / "out", neural="et")
    assert call("discover", *arguments[1:]) == 0
    assert re.search(r"formula +-?\d", capsys.readouterr().out)
    out = tmp_path / "out"
    metrics = json.loads((out / "metrics.json").read_text())
    (basin,) = metrics["basins"]
    assert set(metrics["basins"][basin]) == {"exphydro", "hybrid", "formula"}
    assert "From networks to formulas" in (out / "report.html").read_text()
    folder = next((out / "models" / "formula").iterdir())
    model = saved_models.load(folder, STRUCTURES)
    assert model.model.structure.flux("et").law.text


def test_what_cannot_be_written_is_told_before_anything_is_trained(tmp_path: Path, capsys):
    data = write_csv(tmp_path / "basin.csv", dataset())
    assert call("discover", *flags(data, tmp_path / "out", neural="melt")[1:]) == 2
    assert "give a Library" in capsys.readouterr().err
    assert not (tmp_path / "out" / "checkpoints" / "exphydro").exists()


def test_discover_takes_its_defaults_beside_a_file_too(tmp_path: Path, monkeypatch):
    import udehydro.experiment as experiment

    seen = []
    monkeypatch.setattr(experiment, "run", lambda e, **_: seen.append(e) or {"basins": {}, "complaints": []})
    monkeypatch.setattr("udehydro.cli.fit.scores_table", lambda _: "")
    data = write_csv(tmp_path / "basin.csv", dataset(400))
    file = tmp_path / "e.yaml"
    file.write_text(f"data: {data}\ntrain: {TRAIN}\ntest: {TEST}\nout: {tmp_path / 'out'}\n")
    call("discover", "--config", file)
    call("discover", "--config", file, "--neural", "et")
    call("discover", *flags(data, tmp_path / "out")[1:], "--discover", "et")
    assert [(e.neural, e.discover) for e in seen] == [(("et", "discharge"),) * 2, (("et",),) * 2, (("et",),) * 2]


def test_what_is_to_be_written_has_to_be_learned(tmp_path: Path, capsys):
    data = write_csv(tmp_path / "basin.csv", dataset(400))
    assert call(*flags(data, tmp_path / "out", neural="et", discover="discharge")) == 2
    assert "'discharge' is learned by no network" in capsys.readouterr().err
