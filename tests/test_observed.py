"""Several observed variables in the loss: what is compared, gaps, weights, gradients, resuming, the recipes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_fit import PERIODS, record
from toy import U0, lotka_volterra

from udehydro import Balance, Calibrated, ConfigError, DataError, Forcing, NeuralLaw, StructureError, simulate
from udehydro.models import exphydro_mended, linear
from udehydro.sensitivity import differences
from udehydro.solvers import RK4, SDIRK2, AllAtOnce, Stepping
from udehydro.training import KGE, NSE, Combined, Correlation, LogNSE, Observed, Stage, fit
from udehydro.training.members import Members
from udehydro.training.objective import Objective
from udehydro.training.observed import targets
from udehydro.training.recipes import Periods, calibrate, hybridise

MODEL = Balance(exphydro_mended)
START = {"snow": 0.0, "soil": 300.0}
PLANTED = {"f": 0.05, "smax": 320.0, "qmax": 12.0, "ddf": 2.0, "tmax": 0.3, "tmin": -0.7}


def planted(members=1):
    forcing = record(members)
    return forcing, simulate(MODEL, forcing, theta=PLANTED, storage0=START)


def objective(observed, forcing, train=slice(20, 200), valid=slice(0, 20), **theta):
    """The training objective by itself, at other values than the truth."""
    parameters = Calibrated.of(MODEL, forcing.batch, start={"smax": 400.0, **theta})
    found = [t.prepare(train, valid) for t in targets(observed, MODEL, forcing)]
    members = Members((MODEL, parameters), forcing.batch[0])
    storage0 = torch.tensor(list(START.values())).expand(*forcing.batch, 2)
    solver = AllAtOnce(SDIRK2, tolerance=1e-12)
    made = Objective(MODEL, parameters, members, forcing, found, train, valid, solver, storage0=storage0)
    return made, members.read()


class TestWhatIsCompared:
    @pytest.mark.parametrize(
        ("name", "at", "series"),
        [
            ("discharge", None, lambda s: s.discharge),
            ("et", "mean", lambda s: s.rate("et")),
            ("soil", None, lambda s: s.store("soil")[1:]),
            ("soil", "start", lambda s: s.store("soil")[:-1]),
            ("soil", "mean", lambda s: (s.store("soil")[1:] + s.store("soil")[:-1]) / 2),
            ("snow", "edge", lambda s: s.store("snow")),
            ("snow", None, lambda s: s.store("snow")),
        ],
    )
    def test_series(self, name, at, series):
        """At the truth the loss is zero; elsewhere that of the same series by hand."""
        forcing, truth = planted()
        observed = Observed(name, series(truth), at=at)
        at_truth, x = objective(observed, forcing, **PLANTED)
        assert at_truth(x)[0].item() < 1e-18 and at_truth.valid_loss.item() < 1e-18
        away, x = objective(observed, forcing)
        loss, _ = away(x)
        simulated, values = series(away.simulate()).detach(), series(truth)
        lead = len(values) - len(forcing)
        rows = slice(20 + lead, 200 + lead)
        expected = NSE().prepare(values[rows])(simulated[rows], values[rows])
        assert loss.item() == pytest.approx(expected.item(), rel=1e-12) and loss > 1e-6

    def test_the_first_edge_belongs_to_the_first_interval(self):
        forcing, truth = planted()
        (target,) = targets(Observed("soil", truth.store("soil")), MODEL, forcing)
        assert target.rows(slice(0, 5)) == slice(0, 6) and target.rows(slice(5, 9)) == slice(6, 10)
        assert target.rows(slice(0, 5), first=False) == slice(1, 6)
        target.until(200, 10)
        assert len(target.values) == 201 and target.values[:11].isnan().all() and target.values[11:].isfinite().all()

    def test_windows_score_every_row_once(self):
        """Squared errors over all windows add up to those of the whole period, the first edge included."""
        forcing, truth = planted()
        observed = [Observed("soil", truth.store("soil")), Observed("discharge", truth.discharge)]
        found = [t.prepare(slice(0, 300), None) for t in targets(observed, MODEL, forcing)]
        run = simulate(MODEL, forcing, theta=PLANTED | {"smax": 400.0}, storage0={"snow": 0.0, "soil": 280.0})
        for target in found:
            series = target.observe(run)
            total = 0.0
            for part in (slice(0, 120), slice(120, 240), slice(240, 300)):
                own = series[part.start : part.stop + target.lead]
                rows = target.rows(slice(0, part.stop - part.start), part.start == 0)
                values = target.window(part)[rows]
                total = total + len(values) * target.prepared(own[rows], values)
            whole = len(series) * target.prepared(series, target.values)
            assert torch.allclose(total, whole, rtol=1e-12)

    def test_losses_are_weighted_and_told_apart(self):
        forcing, truth = planted(2)
        one = Observed("discharge", truth.discharge, loss=LogNSE(), weight=0.5)
        other = Observed("snow", truth.store("snow")[1:], weight=2.0)
        both, x = objective([one, other], forcing)
        loss, gradient = both(x)
        singles = [objective([replace(o, weight=1.0)], forcing)[0] for o in (one, other)]
        (l1, g1), (l2, g2) = (single(x) for single in singles)
        assert torch.allclose(loss, 0.5 * l1 + 2.0 * l2, rtol=1e-12)
        assert torch.allclose(gradient, 0.5 * g1 + 2.0 * g2, rtol=1e-9, atol=1e-12)
        assert torch.allclose(both.valid_loss, 0.5 * singles[0].valid_loss + 2.0 * singles[1].valid_loss)
        assert torch.equal(both.parts[0][0], l1) and torch.equal(both.parts[1][1], singles[1].valid_loss)

    def test_a_tensor_is_discharge(self):
        forcing, truth = planted(2)
        one, x = objective(truth.discharge, forcing)
        other, _ = objective([Observed("discharge", truth.discharge)], forcing)
        assert all(torch.equal(a, b) for a, b in zip(one(x), other(x), strict=True))

    def test_gradient(self):
        """Against central differences; with gaps in both series, which do not overlap."""
        forcing, truth = planted()
        flow, soil = truth.discharge.clone(), truth.store("soil").clone()
        flow[40:90], soil[80:140] = torch.nan, torch.nan
        observed = [Observed("discharge", flow), Observed("soil", soil, loss=Correlation(), weight=0.3)]
        both, x = objective(observed, forcing)
        _, gradient = both(x)
        found = differences(lambda points: torch.cat([both(p[None])[0] for p in points]), x[0]).against(gradient[0])
        assert found.error < 1e-6 and found.excluded <= 1  # melt and capacity have kinks

    def test_missing_values_have_no_influence(self):
        forcing, truth = planted()
        soil = truth.store("soil")[1:].clone()
        soil[::3] = torch.nan
        sparse, x = objective(Observed("soil", soil), forcing)
        loss, gradient = sparse(x)
        assert loss.isfinite().all() and gradient.isfinite().all() and gradient.abs().max() > 0
        simulated = sparse.simulate().store("soil")[1:].detach()
        kept = [k for k in range(20, 200) if k % 3]
        expected = NSE().prepare(soil[kept])(simulated[kept], soil[kept])
        assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


class TestCorrelation:
    def test_gain_and_offset_do_not_matter(self):
        g = torch.Generator().manual_seed(0)
        s, o = torch.randn(50, 2, generator=g), torch.randn(50, 2, generator=g)
        o[::7] = torch.nan
        loss = Correlation().prepare(o)
        assert torch.allclose(loss(s, o), loss(3.0 * s - 40.0, o), rtol=1e-10)
        valid = ~o[:, 0].isnan()
        assert loss(s, o)[0].item() == pytest.approx(
            1 - np.corrcoef(s[valid, 0].numpy(), o[valid, 0].numpy())[0, 1], rel=1e-12
        )
        line = 2.0 * torch.where(o.isnan(), 5.0, o) + 1.0
        assert loss(line, o).abs().max() < 1e-12 and (loss(-line, o) - 2.0).abs().max() < 1e-12
        assert torch.allclose(loss(torch.ones_like(s), o), torch.ones(2))

    def test_half_the_square_of_standardised_differences(self):
        g = torch.Generator().manual_seed(1)
        s, o = torch.randn(40, generator=g), torch.randn(40, generator=g)

        def standard(v):
            return (v - v.mean()) / v.std(correction=0)

        expected = 0.5 * (standard(s) - standard(o)).square().mean()
        assert torch.allclose(Correlation().prepare(o)(s, o), expected)

    def test_windows_are_refused(self):
        forcing, truth = planted()
        observed = Observed("soil", truth.store("soil")[1:], loss=Correlation())
        with pytest.raises(ConfigError, match="Correlation was prepared for a whole period"):
            run_fit(observed, forcing, stages=[Stage("adam", 2, window=50)])


AFAR = {"f": 0.09, "smax": 700.0, "qmax": 30.0, "ddf": 3.5, "tmax": 1.5, "tmin": -1.5}
MANY = (Stage("lbfgs", 60),)


def run_fit(observed, forcing, stages=MANY, **options):
    """Calibrate from afar."""
    parameters = Calibrated.of(MODEL, forcing.batch, start=AFAR)
    storage0 = torch.tensor(list(START.values())).expand(*forcing.batch, 2)
    options = {**PERIODS, "progress": None, "storage0": storage0, **options}
    return fit(MODEL, parameters, forcing, observed, stages=stages, **options), parameters


def test_a_second_variable_finds_a_store_that_discharge_hardly_tells():
    """Noise of 30 % on the flow, of 3 mm on the soil, which has gaps."""
    forcing, truth = planted()
    g = torch.Generator().manual_seed(2)
    flow = truth.discharge * torch.exp(0.3 * torch.randn(truth.discharge.shape, generator=g))
    soil = truth.store("soil")[1:] + 3.0 * torch.randn(truth.discharge.shape, generator=g)
    soil[::4] = torch.nan
    errors = []
    for observed in (flow, [Observed("discharge", flow), Observed("soil", soil)]):
        result, parameters = run_fit(observed, forcing, valid=None, warmup_days=0)
        with torch.no_grad():
            run = simulate(MODEL, forcing, theta=parameters(forcing), storage0=START)
        errors.append((run.store("soil") - truth.store("soil")).square().mean().sqrt().item())
    assert errors[1] < 0.25 * errors[0]
    assert set(result.history[0]["parts"]) == {"discharge", "soil"}


def test_history_has_every_variable():
    forcing, truth = planted(2)
    observed = [Observed("soil", truth.store("soil")), Observed("soil", truth.store("soil")[1:], weight=3.0)]
    result, _ = run_fit(observed, forcing, stages=[Stage("adam", 2)])
    row = result.history[-1]
    assert list(row["parts"]) == ["soil (0)", "soil (1)"] and len(row["parts"]["soil (0)"]["train"]) == 2
    sums = [row["parts"]["soil (0)"]["valid"][m] + 3.0 * row["parts"]["soil (1)"]["valid"][m] for m in range(2)]
    assert row["valid"] == pytest.approx(sums, rel=1e-12)
    alone, _ = run_fit(truth.discharge, forcing, stages=[Stage("adam", 2)])
    assert "parts" not in alone.history[0]


@pytest.mark.parametrize("stages", [[Stage("adam", 3), Stage("lbfgs", 4)], [Stage("adam", 9, window=60)]], ids=str)
def test_a_stopped_run_resumes_to_the_same_bits(tmp_path, stages, monkeypatch):
    forcing, truth = planted(2)

    def observed():
        return [Observed("discharge", truth.discharge), Observed("soil", truth.store("soil"), weight=0.5)]

    _, expected = run_fit(observed(), forcing, stages=stages, checkpoint=tmp_path / "whole")
    for stop in (2, 5):

        class Stopped(Exception):
            pass

        from udehydro.training import run

        save, left = run.checkpoints.save, [stop]

        def stopping(*arguments, save=save, left=left, Stopped=Stopped):
            save(*arguments)
            left[0] -= 1
            if not left[0]:
                raise Stopped

        with monkeypatch.context() as patch:
            patch.setattr(run.checkpoints, "save", stopping)
            with pytest.raises(Stopped):
                run_fit(observed(), forcing, stages=stages, checkpoint=tmp_path / "stopped", resume=True)
    result, found = run_fit(observed(), forcing, stages=stages, checkpoint=tmp_path / "stopped", resume=True)
    for name, value in expected().items():
        assert torch.equal(value, found()[name]), name
    assert json.loads(json.dumps(result.history))[-1]["parts"]["soil"]["train"]


@pytest.mark.parametrize("changed", ["weight", "values", "loss", "at", "name"])
def test_a_checkpoint_of_other_observations_is_refused(tmp_path, changed):
    forcing, truth = planted(1)
    soil = Observed("soil", truth.store("soil")[1:])
    options = {"stages": [Stage("adam", 1)], "checkpoint": tmp_path, "resume": True}
    run_fit([Observed("discharge", truth.discharge), soil], forcing, **options)
    other = {"weight": 2.0, "values": soil.values + 1.0, "loss": KGE(), "at": "start", "name": "snow"}
    soil = replace(soil, **{changed: other[changed]})
    with pytest.raises(ConfigError, match="other settings, another model or other data"):
        run_fit([Observed("discharge", truth.discharge), soil], forcing, **options)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (
            lambda t: Observed("soill", t),
            StructureError,
            "'soill' to compare.*Did you mean 'soil'.*snow.*et.*discharge",
        ),
        (lambda t: Observed("et", t, at="end"), ConfigError, "'et' is a flux.*for stores"),
        (lambda t: Observed("soil", t[:-5]), DataError, "'soil' has 295 intervals, the forcing 300"),
        (lambda t: Observed("soil", t, at="edge"), DataError, "'soil' has 300 intervals"),
        (lambda t: Observed("et", torch.cat([t, t[:1]])), DataError, "'et' has 301 intervals"),
        (lambda t: [t, t], ConfigError, r"tensor \(T, \*batch\), or one or several Observed"),
        (lambda t: [], ConfigError, "got nothing"),
        (lambda t: Observed("soil", torch.full_like(t, torch.nan)), DataError, "No observation of 'soil'"),
        (lambda t: Observed("soil", torch.ones_like(t)), DataError, "soil: .*never varies in the training"),
        (lambda t: Observed("soil", torch.cat([t[:-60], 0 * t[-60:]])), DataError, "soil: .*in the validation period"),
    ],
)
def test_bad_observations_are_named(make, error, says):
    forcing, truth = planted()
    with pytest.raises(error, match=says):
        run_fit(make(truth.discharge), forcing)


@pytest.mark.parametrize("options", [{"weight": 0.0}, {"weight": float("nan")}, {"at": "middle"}])
def test_bad_settings(options):
    with pytest.raises(ConfigError, match=r"Observed\('soil'\)"):
        Observed("soil", torch.ones(3), **options)


def test_both_ways_at_once_are_refused():
    forcing, truth = planted()
    for option in ({"loss": NSE()}, {"observe": lambda s: s.store("soil")[1:]}):
        with pytest.raises(ConfigError, match="leave out loss= and observe="):
            run_fit(Observed("discharge", truth.discharge), forcing, **option)


def test_arrays_and_combined_losses_are_taken():
    forcing, truth = planted()
    values = truth.discharge.numpy().astype("float32")
    observed = Observed("discharge", values, loss=Combined((NSE(), 0.5), (LogNSE(), 0.5)))
    result, _ = run_fit(observed, forcing, stages=[Stage("lbfgs", 2)])
    assert result.train.isfinite().all()


def test_recipes_take_several_variables():
    forcing = record(1)
    forcing = replace(
        forcing,
        values={n: torch.cat([v[:, :, 0], 0.8 * v[:, :, 0]], 1) for n, v in forcing.values.items()},
        members=(),
        basins=("a", "b"),
    )
    truth = simulate(MODEL, forcing, theta=PLANTED, storage0=START)
    periods = Periods.of(("2001-01-01", "2001-08-31"), ("2001-09-01", "2001-10-27"))
    observed = [Observed("discharge", truth.discharge), Observed("soil", truth.store("soil").numpy(), weight=0.5)]
    options = {"warmup_days": 20, "progress": False}
    formula = calibrate(exphydro_mended, forcing, observed, periods, starts=2, steps=4, refit_steps=2, **options)
    assert formula.parameters()["smax"].shape == (2, 1) and set(formula.history[0]["parts"]) == {"discharge", "soil"}
    hybrid = hybridise(formula, ["et"], forcing, observed, periods, seeds=2, steps=3, **options)
    assert len(hybrid.refit_history[0]["parts"]["soil"]["train"]) == 2
    with pytest.raises(DataError, match=r"Observed\('soil'\) has shape \(301,\).*give \(time, basin\)"):
        calibrate(exphydro_mended, forcing, Observed("soil", truth.store("soil")[:, 0]), periods, **options)


def test_both_states_of_a_system_without_water():
    """Lotka-Volterra: four rates and the start from 31 samples of both states, two starts side by side."""
    model, clock = Balance(lotka_volterra), Forcing.clock(days=np.linspace(0.0, 3.0, 31), batch=(2, 1))
    truth = simulate(model, clock, storage0=U0, solver=Stepping(RK4, substeps=3))
    observed = [Observed(name, truth.store(name)) for name in U0]
    ranges = {n: replace(lotka_volterra.parameters["alpha"], unit="1", default=2.0) for n in U0}
    start = {"alpha": torch.tensor([[1.0], [2.0]]), "delta": 1.2}
    parameters = Calibrated.of(model, (2, 1), start=start, initial=ranges)
    days = {"train": ("2000-01-01", "2000-01-03"), "warmup_days": 0}
    options = {"stages": [Stage("lbfgs", 150)], "solver": AllAtOnce(SDIRK2, substeps=8), "progress": None}
    fit(model, parameters, clock, observed, **days, **options)
    for name, range_ in lotka_volterra.parameters.items():
        # SDIRK2 with steps of 0.0125 d is off by some 1e-5
        assert parameters()[name].detach().sub(range_.default).abs().max() < 2e-3, name
    found = parameters.storage0(model.store_names).detach()
    assert torch.allclose(found, torch.tensor(list(U0.values())).expand(2, 1, 2), atol=2e-3)


def test_a_model_without_outlet_has_no_discharge_to_compare():
    clock = Forcing.clock(days=np.linspace(0.0, 3.0, 31), batch=(1, 1))
    model = Balance(lotka_volterra)
    parameters = Calibrated.of(model, (1, 1))
    options = {"train": ("2000-01-01", "2000-01-03"), "warmup_days": 0, "progress": None}
    options["storage0"] = torch.tensor(list(U0.values())).expand(1, 1, 2)
    with pytest.raises(StructureError, match="to compare with observations. Known: x, y, growth, decay, u_x, u_y"):
        fit(model, parameters, clock, Observed("discharge", torch.ones(30, 1, 1)), **options)
    with pytest.raises(StructureError, match="no discharge"):
        fit(model, parameters, clock, torch.rand(30, 1, 1), **options)


def test_fluxes_that_a_law_merged_are_not_there():
    hybrid = Balance(exphydro_mended, discharge=NeuralLaw("soil"))
    forcing, truth = planted()
    with pytest.raises(StructureError, match="no store, flux or group 'baseflow'.*Known: snow, soil.*discharge"):
        targets(Observed("baseflow", truth.discharge), hybrid, forcing)
    assert targets(Observed("discharge", truth.discharge), hybrid, forcing)[0].label == "discharge"
    assert targets(Observed("outflow", truth.discharge), Balance(linear), forcing)[0].label == "outflow"
