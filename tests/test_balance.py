"""Water is conserved by every model with every law under every solver; restarts, batches, causality, signs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tables import CASES, LAWS, MODELS, SOLVERS, STEPPING, STIFF, TORCHDIFFEQ, name_of, run, weather

from udehydro import Forcing, SolverError, simulate
from udehydro.solvers import BACKWARD_EULER, EXPLICIT_EULER, HEUN, RK4, SDIRK2, AllAtOnce, Stepping


def assert_closed(simulation) -> None:
    """Storage change equals net volume to round-off: 1e-9 mm + 1e-12 x the largest storage or volume."""
    assert bool(simulation.storage.isfinite().all())
    assert bool((simulation.max_balance_error() <= simulation.balance_tolerance()).all())


@pytest.mark.parametrize("solver", SOLVERS, ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_conservation(case, solver):
    days = 4 if solver in TORCHDIFFEQ else 8
    with torch.no_grad():
        simulation = run(case, solver, forcing=weather(days))
    assert_closed(simulation)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", [c for c in CASES if c.neural], ids=name_of)
def test_conservation_of_random_networks_with_large_weights(case, seed):
    """Weights five times their usual size saturate the hidden layers and make steep, non-monotone laws."""
    for solver in (Stepping(BACKWARD_EULER), Stepping(SDIRK2), Stepping(EXPLICIT_EULER, substeps=8), TORCHDIFFEQ[0]):
        with torch.no_grad():
            assert_closed(run(case, solver, seed=10 + seed, gain=5.0, forcing=weather(8, seed=seed)))


STIFF_CASES = [c for c in CASES if "f" in c.theta and "baseflow" in c.build(0, 1.0).flux_names]


def stiff(model):
    """Parameters at f * Qmax = 20 per day, for the parameters that the model still reads."""
    return {n: torch.tensor(STIFF[n]) for n in model.parameter_names if n in STIFF}


@pytest.mark.parametrize("case", STIFF_CASES, ids=name_of)
def test_conservation_at_f_qmax_of_20_per_day(case):
    theta = stiff(case.build(0, 1.0))
    for solver in (*STEPPING, TORCHDIFFEQ[0]):
        with torch.no_grad():
            assert_closed(run(case, solver, theta=theta, forcing=weather(10)))


@pytest.mark.parametrize("tableau", [EXPLICIT_EULER, RK4], ids=name_of)
@pytest.mark.parametrize("case", STIFF_CASES, ids=name_of)
def test_explicit_scheme_refuses_stiff_parameters(case, tableau):
    """At one step a day it raises, naming basin, date, h x spectral radius and substeps; with those it passes.

    Published and mended EXP-HYDRO alike: a closed balance alone would not tell that the flows are wrong.
    """
    model, forcing = case.build(0, 1.0), weather(10)
    theta = stiff(model)
    with torch.no_grad():
        with pytest.raises(SolverError, match=r"basin b[01], 2001-1[12]-\d\d: h x spectral radius") as caught:
            simulate(model, forcing, theta=theta, storage0=case.start(), solver=Stepping(tableau))
        error = caught.value
        assert f"substeps={error.substeps}" in str(error) and error.substeps > 1
        assert error.failed.shape == forcing.batch and bool(error.failed.any())
        solver = Stepping(tableau, substeps=error.substeps)
        assert_closed(simulate(model, forcing, theta=theta, storage0=case.start(), solver=solver))


def published(shared, count: int):
    """The ``count`` basins with the largest published f * Qmax: parameters, 400 days of forcing, initial storages."""
    import pandas as pd

    folder = shared / "data" / "camels-us"
    table = pd.read_csv(folder / "reference" / "exphydro_parameters.csv", dtype={"gauge_id": str})
    table = table[[(folder / "daily" / f"{g}.csv.gz").exists() for g in table["gauge_id"]]]
    table = table.assign(rate=table["f"] * table["Qmax"]).sort_values("rate", ascending=False).head(count)
    names = {"f": "f", "smax": "Smax", "qmax": "Qmax", "ddf": "Df", "tmax": "Tmax", "tmin": "Tmin"}
    theta = {n: torch.as_tensor(table[c].to_numpy()) for n, c in names.items()}
    columns = {"prcp": "prcp(mm/day)", "temp": "tmean(c)", "dayl": "dayl(h)"}
    daily = [pd.read_csv(folder / "daily" / f"{g}.csv.gz").iloc[:400] for g in table["gauge_id"]]
    values = {n: torch.as_tensor(np.stack([d[c].to_numpy() for d in daily], axis=1)) for n, c in columns.items()}
    edges = np.datetime64("1980-10-01") + np.arange(401)
    forcing = Forcing(values, {"prcp": "mm/d", "temp": "degC", "dayl": "h"}, edges, tuple(table["gauge_id"]))
    start = {
        "snow": torch.as_tensor(table["S0_init_mm"].to_numpy()),
        "soil": torch.as_tensor(table["S1_init_mm"].to_numpy()),
    }
    return theta, forcing, start


@pytest.mark.parametrize("tableau", [EXPLICIT_EULER, RK4], ids=name_of)
def test_one_retry_suffices_on_real_basins(shared, tableau):
    """The substeps that the error suggests are enough at the first retry, in the stiffest published basins."""
    theta, forcing, start = published(shared, 12)
    model = MODELS[1].build(0, 1.0)
    with torch.no_grad():
        with pytest.raises(SolverError) as caught:
            simulate(model, forcing, theta=theta, storage0=start, solver=Stepping(tableau))
        solver = Stepping(tableau, substeps=caught.value.substeps)
        assert_closed(simulate(model, forcing, theta=theta, storage0=start, solver=solver))


def assert_never_negative(storage) -> None:
    """Not below the solver's residual tolerance, 1e-9 mm."""
    assert storage.min().item() >= -1e-9


def drought(days: int, basins: int) -> Forcing:
    """No rain, hot: every outflow runs at its potential until the stores are empty, and beyond."""
    forcing = weather(days, basins)
    values = {
        "prcp": torch.zeros(days, basins),
        "temp": torch.full((days, basins), 32.0),
        "dayl": forcing.values["dayl"],
    }
    return replace(forcing, values=values)


def grid(**axes):
    """Every combination of the values as one batch."""
    parts = torch.meshgrid(*(torch.tensor(v) for v in axes.values()), indexing="ij")
    return {n: p.flatten() for n, p in zip(axes, parts, strict=True)}


def test_backward_euler_keeps_stores_non_negative_in_a_drought():
    """For laws that vanish with and grow with their source, whatever the stiffness; forced and unforced alike."""
    model = MODELS[2].build()
    theta = grid(f=[0.0, 0.02, 0.5], smax=[5.0, 200.0, 1500.0], qmax=[10.0, 500.0], ddf=[0.5, 50.0], tau=[0.005, 1.0])
    theta |= {"tmax": torch.tensor(0.0), "tmin": torch.tensor(-1.0)}
    basins = len(theta["f"])
    start = {"snow": torch.tensor(30.0), "soil": 1.2 * theta["smax"]}
    for forcing in (drought(40, basins), weather(40, basins, seed=3)):
        for substeps in (1, 3):
            solver = Stepping(BACKWARD_EULER, substeps=substeps)
            simulation = simulate(model, forcing, theta=theta, storage0=start, solver=solver)
            assert_never_negative(simulation.storage)
            assert simulation.report.undershoots == 0
            # slope rule: I - hJ is an M-matrix, whose smallest pivot is 1
            assert simulation.report.min_pivot >= 1.0 - 1e-12


def test_backward_euler_keeps_the_linear_reservoir_non_negative():
    model = MODELS[0].build()
    theta = {"k": torch.logspace(-3, 3, 30)}
    simulation = simulate(
        model, drought(30, 30), theta=theta, storage0={"storage": 80.0}, solver=Stepping(BACKWARD_EULER)
    )
    assert_never_negative(simulation.storage)


@pytest.mark.parametrize("case", [LAWS[0], LAWS[2]], ids=name_of)
@pytest.mark.parametrize("seed", range(4))
def test_backward_euler_keeps_networks_that_rise_with_their_source_non_negative(case, seed):
    model, forcing = case.build(seed, 4.0), drought(40, 2)
    theta = stiff(model)
    simulation = simulate(model, forcing, theta=theta, storage0=case.start(), solver=Stepping(BACKWARD_EULER))
    assert_never_negative(simulation.storage)


class TestUndershoot:
    """SDIRK2's stability function turns negative beyond k h = 1 + sqrt(2): a draining reservoir then crosses zero."""

    theta = {"k": torch.tensor([0.3, 2.0, 4.0, 1.0], dtype=torch.float64)}
    start = {"storage": torch.tensor([50.0, 50.0, 50.0, 20.0], dtype=torch.float64)}

    def run(self, basins=slice(None), tableau=SDIRK2, **options):
        """Weather with rain in basins 0 and 3, so that their stages take several evaluations."""
        forcing = drought(12, 4)
        forcing.values["prcp"][:, [0, 3]] = weather(12, 2, seed=5).values["prcp"]
        names = tuple(np.array(forcing.basins)[basins])
        forcing = replace(forcing, values={n: v[:, basins] for n, v in forcing.values.items()}, basins=names)
        theta, start = ({n: v[basins] for n, v in d.items()} for d in (self.theta, self.start))
        with torch.no_grad():
            return simulate(
                MODELS[0].build(), forcing, theta=theta, storage0=start, solver=Stepping(tableau, **options)
            )

    def test_onset(self):
        assert SDIRK2.amplification(-2.41) > 0 > SDIRK2.amplification(-2.42)

    def test_report(self):
        simulation = self.run()
        lowest = simulation.storage.amin((0, -1))
        # the first undershoot of the closed form: R(-4) * 50 mm
        expected = SDIRK2.amplification(-4.0) * 50.0
        assert abs(lowest[2].item() - expected) <= 1e-9 and expected < -1.0
        assert bool((lowest[[0, 1, 3]] >= 0).all())
        assert simulation.report.undershoots > 0 and simulation.report.split_intervals == 0
        assert_closed(simulation)

    def test_backward_euler_has_none(self):
        assert self.run(tableau=BACKWARD_EULER).report.undershoots == 0

    def test_split(self):
        simulation = self.run(undershoot="split")
        assert_never_negative(simulation.storage)
        assert_closed(simulation)
        assert 0 < simulation.report.split_intervals <= 12 and simulation.report.undershoots == 0

    def test_split_leaves_other_basins_alone(self):
        """Bit for bit: only the undershooting basin's interval is cut."""
        together, apart = self.run(undershoot="split"), self.run([0, 1, 3], undershoot="split")
        assert apart.report.split_intervals == 0
        assert torch.equal(together.storage[:, [0, 1, 3]], apart.storage)
        assert torch.equal(together.volume[:, [0, 1, 3]], apart.volume)

    def test_raise(self):
        with pytest.raises(SolverError, match=r"SDIRK2: a store falls to -\d.* in basin b2, 2001-11-25") as caught:
            self.run(undershoot="raise")
        assert caught.value.failed.tolist() == [False, False, True, False]

    def test_split_that_does_not_help_raises(self):
        """As published, baseflow does not vanish with its store: no sub-step keeps it from crossing zero."""
        case = MODELS[1]
        theta = {**case.theta, "f": (0.001, 0.001), "qmax": (20.0, 20.0)}
        theta = {n: torch.tensor(v) for n, v in theta.items()}
        start = {"snow": 0.0, "soil": 1.0}
        with pytest.raises(SolverError, match="store below zero") as caught:
            simulate(
                case.build(), drought(5, 2), theta=theta, storage0=start, solver=Stepping(SDIRK2, undershoot="split")
            )
        assert caught.value.failed.shape == (2,)


def test_split_of_a_nonlinear_model_leaves_other_basins_alone():
    """The same with Newton iterations: how many the stiff basin takes must not show in the others."""
    case = MODELS[2]
    model, forcing = case.build(), weather(20, 3, seed=2)
    start = {"snow": torch.tensor([5.0, 5.0, 60.0]), "soil": torch.tensor([150.0, 300.0, 10.0])}
    theta = {n: torch.tensor([*v, v[0]]) for n, v in case.theta.items()}
    theta["tau"] = torch.tensor([1.0, 1.0, 0.01])
    theta["ddf"][2] = 40.0

    def solve(count):
        part = replace(forcing, values={n: v[:, :count] for n, v in forcing.values.items()}, basins=())
        return simulate(
            model,
            part,
            theta={n: v[:count] for n, v in theta.items()},
            storage0={n: v[:count] for n, v in start.items()},
            solver=Stepping(SDIRK2, undershoot="split"),
        )

    together, apart = solve(3), solve(2)
    assert together.report.split_intervals > 0 == apart.report.split_intervals
    assert torch.equal(together.storage[:, :2], apart.storage)
    assert torch.equal(together.volume[:, :2], apart.volume)


STEADY = (
    Stepping(HEUN, substeps=10),  # enough to be stable everywhere, so that nothing depends on retries
    Stepping(BACKWARD_EULER),
    Stepping(SDIRK2, substeps=2),
    Stepping(SDIRK2, undershoot="split"),
)


@pytest.mark.parametrize("solver", STEADY, ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_restart_is_bitwise(case, solver):
    """12 days equal 5 + 7 with the storage handed over: a run has no memory besides its storage."""
    forcing = weather(12, seed=4)
    model = case.build(0, 1.0)
    theta = case.parameters(model)

    def solve(part, start):
        with torch.no_grad():
            return simulate(model, forcing.isel(part), theta=theta, storage0=start, solver=solver)

    whole = solve(slice(0, 12), case.start())
    first = solve(slice(0, 5), case.start())
    second = solve(slice(5, 12), first.storage[-1])
    assert torch.equal(whole.storage, torch.cat([first.storage, second.storage[1:]]))
    assert torch.equal(whole.volume, torch.cat([first.volume, second.volume]))


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_restart_of_60_days(case):
    """60 days equal 25 + 35: bit for bit by stepping; by blocks to 1e-8 mm, the residual tolerance carried along."""
    forcing, model = weather(60, seed=4), case.build(0, 1.0)
    theta = case.parameters(model)
    for solver in (AllAtOnce(), Stepping(SDIRK2)):
        with torch.no_grad():
            whole = simulate(model, forcing, theta=theta, storage0=case.start(), solver=solver)
            first = simulate(model, forcing.isel(slice(0, 25)), theta=theta, storage0=case.start(), solver=solver)
            second = simulate(
                model, forcing.isel(slice(25, 60)), theta=theta, storage0=first.storage[-1], solver=solver
            )
        joined = torch.cat([first.storage, second.storage[1:]])
        assert (whole.storage - joined).abs().max().item() <= 1e-8
    assert torch.equal(whole.storage, joined)


def one_basin(forcing, i):
    return replace(
        forcing, values={n: v[:, i : i + 1] for n, v in forcing.values.items()}, basins=forcing.basins[i : i + 1]
    )


@pytest.mark.parametrize("solver", [*STEADY, AllAtOnce()], ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_basin_alone_equals_the_basin_in_a_batch(case, solver):
    """Within 1e-12 relative: matrix products of other shapes may round differently, nothing else may differ.

    Solved all at once, a basin takes as many iterations as its block: within the residual tolerance, 1e-9 mm.
    """
    within = 1e-9 if isinstance(solver, AllAtOnce) else 1e-12
    forcing, model = weather(8, seed=6), case.build(1, 1.0)
    theta, start = case.parameters(model), case.start()
    with torch.no_grad():
        together = simulate(model, forcing, theta=theta, storage0=start, solver=solver)
        for i in range(2):
            alone = simulate(
                model,
                one_basin(forcing, i),
                theta={n: v[i : i + 1] for n, v in theta.items()},
                storage0={n: v[i : i + 1] for n, v in start.items()},
                solver=solver,
            )
            for a, b in ((alone.storage, together.storage), (alone.volume, together.volume)):
                assert torch.allclose(a[:, 0], b[:, i], rtol=within, atol=within)


@pytest.mark.parametrize("solver", [*STEPPING, TORCHDIFFEQ[0], TORCHDIFFEQ[3]], ids=name_of)
def test_causality(solver):
    """Other forcing from day 7 on changes nothing before it, bit for bit, and something after."""
    case = MODELS[2]
    model, forcing = case.build(), weather(12, seed=7)
    other = {n: v.clone() for n, v in forcing.values.items()}
    other["prcp"][7:] += 5.0
    other["temp"][7:] -= 3.0
    with torch.no_grad():
        a, b = (
            simulate(model, f, theta=case.parameters(model), storage0=case.start(), solver=solver)
            for f in (forcing, replace(forcing, values=other))
        )
    assert torch.equal(a.storage[:8], b.storage[:8]) and torch.equal(a.volume[:7], b.volume[:7])
    assert not torch.equal(a.storage[8], b.storage[8])
