"""The drivers of one-step schemes against each other: the same numbers, gradients and errors, at different speeds."""

import ast
import math
import subprocess
import sys
from dataclasses import replace

import generated
import numpy as np
import pytest
import torch
from generated import MIDPOINT, SDIRK3, Law, score, solved
from tables import LAWS, MODELS, STIFF, name_of, shake, weather
from torch.fx.experimental.proxy_tensor import make_fx

from udehydro import (
    ATMOSPHERE,
    OUTLET,
    Balance,
    ConfigError,
    Flux,
    Forcing,
    NeuralLaw,
    Range,
    SolverError,
    Structure,
    StructureError,
    simulate,
)
from udehydro.models import exphydro, linear
from udehydro.sensitivity import differences
from udehydro.simulate import pose
from udehydro.solvers import (
    BACKWARD_EULER,
    EXPLICIT_EULER,
    HEUN,
    RK4,
    SDIRK2,
    TR_BDF2,
    AllAtOnce,
    Automatic,
    Compiled,
    Stepping,
    chain,
    chain_numba,
    forward_sensitivity,
    newton,
    refine,
)
from udehydro.solvers.compiled import available, elementary, module, source, trace
from udehydro.solvers.compiled.driver import compiled

njit = pytest.importorskip("numba").njit

IMPLICIT = (BACKWARD_EULER, SDIRK2, TR_BDF2, MIDPOINT, SDIRK3)
BATCHES = ((), (3,), (2, 3))
TIGHT = 1e-12
"""Residual of implicit stages [mm]."""

EXPHYDRO = MODELS[1]
RECORD = weather(40, 2, seed=4)
START = torch.stack([torch.tensor(EXPHYDRO.storage0[n]) for n in ("snow", "soil")], dim=-1).double()
DRIVERS = (Stepping(), AllAtOnce(), Compiled())
FAST = (AllAtOnce, Compiled)
MODEL = Balance(exphydro)
"""Shared, because a model is traced once for as long as it lives."""


def theta_of(**changes):
    theta = {n: torch.tensor(v, dtype=torch.float64) for n, v in EXPHYDRO.theta.items()}
    return {n: v * changes.get(n, 1.0) for n, v in theta.items()}


def run_exphydro(solver, record=RECORD, theta=None, start=START, model=MODEL):
    with torch.no_grad():
        return simulate(model, record, theta=theta or theta_of(), storage0=start, solver=solver)


def far(a, b) -> float:
    """Largest difference of any storage or volume [mm]."""
    return max((a.storage - b.storage).abs().max().item(), (a.volume - b.volume).abs().max().item())


class TestGeneratedBalances:
    """Random balances of 1 to 16 stores, against a march on the autograd tape: what no model of the library has."""

    def same(self, model, given, solver, reference=None):
        """1e-9 mm: the residual tolerance, passed on through contractions. Gradients to 1e-10 of the largest."""
        run, gradients = solved(model, given, solver)
        if reference is None:
            tape = Stepping(solver.tableau, substeps=solver.substeps, tolerance=TIGHT, gradient="tape")
            reference = solved(model, given, tape)
        expected, wanted = reference
        assert (run.storage - expected.storage).abs().max().item() <= 1e-9
        assert (run.volume - expected.volume).abs().max().item() <= 1e-9
        scale = max(w.abs().max().item() for w in wanted)
        for ours, theirs in zip(gradients, wanted, strict=True):
            assert ours.shape == theirs.shape
            assert (ours - theirs).abs().max().item() <= 1e-10 * scale
        return reference

    def test_what_is_generated(self):
        """Loops, cascades, several strongly connected blocks in a row, and more than one law of every form."""
        models = [generated.balance(n, n) for n in range(1, 17)]
        blocks = [[len(b) for b in newton.strongly_connected(m.dependence)] for m in models]
        assert any(sum(size > 1 for size in of) > 1 for of in blocks) and any(len(of) > 4 for of in blocks)
        assert max(max(of) for of in blocks) >= 5
        forms = [f.law.form for m in models for f in m.structure.fluxes]
        assert all(forms.count(form) > 1 for form in set(generated._FORMS) - {"constant"})

    @pytest.mark.parametrize("stores", range(1, 17))
    def test_all_at_once(self, stores):
        model = generated.balance(stores, stores)
        tableau, batch = IMPLICIT[stores % len(IMPLICIT)], BATCHES[stores % len(BATCHES)]
        given = generated.inputs(model, batch, seed=stores)
        reference = None
        for block in ("auto", 1, 5, 6):
            solver = AllAtOnce(tableau, substeps=(1, 3)[stores % 2], block=block, tolerance=TIGHT)
            reference = self.same(model, given, solver, reference)

    @pytest.mark.parametrize("batch", BATCHES, ids=str)
    @pytest.mark.parametrize("tableau", IMPLICIT, ids=name_of)
    @pytest.mark.parametrize(
        "stores", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(13, marks=pytest.mark.slow)]
    )
    def test_compiled(self, stores, tableau, batch):
        model = generated.balance(stores, stores)
        given = generated.inputs(model, batch, seed=stores)
        for substeps in (1, 3):
            self.same(model, given, Compiled(tableau, substeps=substeps, tolerance=TIGHT))

    @pytest.mark.parametrize("tableau", IMPLICIT, ids=name_of)
    @pytest.mark.parametrize("stores", [1, 4, 7])
    def test_gradients_by_central_differences(self, stores, tableau):
        """Along random directions through all inputs at once; 1e-6, best over the step sizes."""
        model = generated.balance(stores, stores)
        given, solver = generated.inputs(model, (2,), seed=stores), AllAtOnce(tableau, tolerance=TIGHT)
        _, gradients = solved(model, given, solver)
        leaves = given.leaves(model)
        directions = [[torch.randn_like(v) * v.abs().clamp_min(0.1) for v in leaves] for _ in range(3)]

        def value(points):
            found = []
            for point in points:
                moved = [v + sum(p * d for p, d in zip(point, own, strict=True))
                         for v, *own in zip(leaves, *directions, strict=True)]  # fmt: skip
                own = given.moved(model, moved)
                run = simulate(model, own.record, theta=own.theta, storage0=own.storage0, solver=solver)
                found.append(score(run))
            return torch.stack(found)

        slopes = torch.stack([sum((g * d).sum() for g, d in zip(gradients, own, strict=True)) for own in directions])
        found = differences(value, torch.zeros(3), steps=(1e-3, 1e-4, 1e-5)).against(slopes)
        assert found.error <= 1e-6 and found.excluded == 0


class TestChain:
    """The linear recurrence behind Newton, the adjoint and forward sensitivities."""

    n, batch = 5, 2

    def system(self, tableau, stores):
        """Jacobians of laws that obey the slope rule, uneven steps of which one has no length, and right-hand sides."""
        shape = (stores, stores, self.n, self.batch)
        jacobians = []
        for _ in range(tableau.stages):
            inflow = torch.rand(shape) * (1.0 - torch.eye(stores))[..., None, None]
            loss = inflow.sum(0) + torch.rand(shape[1:])
            jacobians.append(inflow - torch.diag_embed(loss.movedim(0, -1)).movedim((-2, -1), (0, 1)))
        h = torch.rand(self.n, self.batch) + 0.1
        h[2, 1] = 0.0
        count = tableau.stages + (not tableau.stiffly_accurate)
        sources = [torch.randn(stores, self.n, self.batch) for _ in range(count)]
        return h, jacobians, sources, torch.randn(stores, self.batch)

    @pytest.mark.parametrize("stores", [1, 2, 5])
    @pytest.mark.parametrize("tableau", [*IMPLICIT, HEUN], ids=name_of)
    def test_forward_solves_the_whole_system(self, tableau, stores):
        """Every stage and every end as an unknown of one dense matrix: both sweeps, to round-off."""
        h, jacobians, sources, start = self.system(tableau, stores)
        ways = [chain.forward(tableau, h, jacobians, sources, start)]
        ways += [chain._forward_by_doubling(tableau, h, jacobians, sources, start)]
        per, size = tableau.stages + 1, stores
        eye = torch.eye(size)
        for e in range(self.batch):
            matrix = torch.eye(self.n * per * size)
            right = torch.zeros(self.n * per * size)

            def at(step, part):
                place = (step * per + part) * size
                return slice(place, place + size)

            for k in range(self.n):
                for i in range(per):
                    row, weights = at(k, i), tableau.a[i] if i < tableau.stages else tableau.b
                    for j, weight in enumerate(weights):
                        matrix[row, at(k, j)] -= h[k, e] * weight * jacobians[j][:, :, k, e]
                    if k:
                        matrix[row, at(k - 1, tableau.stages)] -= eye
                    else:
                        right[row] += start[:, e]
                    right[row] += sources[min(i, len(sources) - 1)][:, k, e]
            solution = torch.linalg.solve(matrix, right).reshape(self.n, per, size)
            for stages, ends, pivot in ways:
                assert torch.allclose(torch.stack(stages)[..., e], solution[:, :-1].permute(1, 2, 0), atol=1e-12)
                assert torch.allclose(ends[..., e], solution[:, -1].T, atol=1e-12)
                assert pivot is None or pivot >= 1.0

    @pytest.mark.parametrize("stores", [1, 2, 5])
    @pytest.mark.parametrize("tableau", [*IMPLICIT, HEUN], ids=name_of)
    def test_reverse_is_the_transpose_of_forward(self, tableau, stores):
        h, jacobians, sources, start = self.system(tableau, stores)
        stages, ends, _ = chain.forward(tableau, h, jacobians, sources, start)
        direct = [torch.randn_like(s) for s in stages]
        external, after = torch.randn_like(ends), torch.randn_like(start)
        there = sum((d * s).sum() for d, s in zip(direct, stages, strict=True))
        there = there + (external * ends).sum() + (after * ends[:, -1]).sum()
        for sweep in (chain.reverse, chain._reverse_by_doubling):
            mu, lam, passed = sweep(tableau, h, jacobians, direct, external, after)
            back = sum((s * m).sum() for s, m in zip(sources, mu, strict=False))
            back = back + (sources[-1] * lam).sum() + (start * passed).sum()
            assert back.item() == pytest.approx(there.item(), rel=1e-11, abs=1e-11)


class TestWithoutNumba:
    """It is an extra: the same numbers without it, and a command that installs it."""

    @pytest.fixture(autouse=True)
    def missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "numba", None)
        monkeypatch.setattr(chain_numba, "njit", None)
        available.cache_clear()
        yield
        available.cache_clear()

    def test_all_at_once(self, monkeypatch):
        model = generated.balance(4, 4)
        given = generated.inputs(model, (3,))
        run, gradients = solved(model, given, AllAtOnce(tolerance=TIGHT))
        monkeypatch.undo()
        expected, wanted = solved(model, given, AllAtOnce(tolerance=TIGHT))
        assert (run.storage - expected.storage).abs().max().item() <= 1e-10
        for a, b in zip(gradients, wanted, strict=True):
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)

    def test_compiled_says_how_to_install_it(self):
        with pytest.raises(ConfigError, match=r"Compiled needs numba: pip install 'udehydro\[fast\]'"):
            run_exphydro(Compiled())

    def test_automatic_does_without(self):
        problem = pose(MODEL, RECORD)
        assert type(Automatic(runs=10**9).driver(problem)) is AllAtOnce


def test_the_package_imports_without_numba():
    """In a process of its own, where nothing has imported it before."""
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import numpy as np, torch\n"
        "from udehydro import Balance, Forcing, simulate\n"
        "from udehydro.models import linear\n"
        "record = Forcing({'prcp': torch.ones(4, 1)}, {}, np.datetime64('2001-01-01') + np.arange(5))\n"
        "k = torch.tensor(0.1, requires_grad=True)\n"
        "run = simulate(Balance(linear), record, theta={'k': k}, storage0={'storage': 10.0})\n"
        "run.storage.sum().backward(); print(run.report.solver, k.grad.item() < 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["AllAtOnce(SDIRK2)", "True"], done.stderr


@pytest.mark.parametrize("driver", FAST)
class TestWarmStart:
    def test_the_same_numbers_in_fewer_iterations(self, driver):
        solver, changed = driver(), theta_of(f=1.01, qmax=0.99)
        run_exphydro(solver)
        warm, cold = run_exphydro(solver, theta=changed), run_exphydro(driver(warm_start=False), theta=changed)
        assert far(warm, cold) <= 1e-9
        assert warm.report.newton_iterations < 0.8 * cold.report.newton_iterations

    def test_part_of_the_record_is_recognised_by_its_dates(self, driver):
        solver = driver()
        start = run_exphydro(solver).storage[10]
        part = RECORD.isel(slice(10, 30))
        cold = run_exphydro(driver(), part, start=start)
        warm = run_exphydro(solver, part, start=start)
        assert far(warm, cold) <= 1e-9
        assert warm.report.newton_iterations < 0.8 * cold.report.newton_iterations

    @pytest.mark.parametrize("other", ["period", "later", "step", "batch", "substeps", "model"])
    def test_nothing_else_is_taken_for_it(self, driver, other):
        """Other dates, shapes or stores are started cold; never an error."""
        solver = driver()
        run_exphydro(solver)
        record, start, model, options = RECORD, START, MODEL, {}
        if other == "period":
            record = replace(record, time_edge=record.time_edge + np.timedelta64(1000, "D"))
        if other == "later":
            record = replace(record, time_edge=record.time_edge + np.timedelta64(1, "D"))
        if other == "step":
            record = replace(record, time_edge=record.time_edge[0] + np.arange(41) * np.timedelta64(12, "h"))
        if other == "batch":
            record, start = (
                replace(record, values={n: v[:, :1] for n, v in record.values.items()}, basins=()),
                START[:1],
            )
        if other == "substeps":
            options = {"substeps": 2}
        if other == "model":
            model, start = awkward(), torch.full((2, 1), 20.0)
        theta = {"batch": None, "model": {"k": -0.5}}.get(other, theta_of())
        remembering = driver(**options)
        remembering.memory.load(solver.memory.tensors())
        with torch.no_grad():
            a = simulate(model, record, theta=theta, storage0=start, solver=remembering)
            b = simulate(model, record, theta=theta, storage0=start, solver=driver(**options))
        assert torch.equal(a.storage, b.storage) and torch.equal(a.volume, b.volume)
        assert a.report.newton_iterations == b.report.newton_iterations

    @pytest.mark.parametrize("value", [1e7, -1e4, float("nan")])
    def test_nonsense_costs_iterations_only(self, driver, value):
        cold, solver = run_exphydro(driver()), driver()
        run_exphydro(solver)
        tensors = solver.memory.tensors()
        solver.memory.load({n: t if n == "times" else torch.full_like(t, value) for n, t in tensors.items()})
        assert far(run_exphydro(solver), cold) <= 1e-9

    def test_it_can_be_stored(self, driver):
        first, second = driver(), driver()
        run_exphydro(first)
        second.memory.load(first.memory.tensors())
        a, b = run_exphydro(first, theta=theta_of(f=1.01)), run_exphydro(second, theta=theta_of(f=1.01))
        assert torch.equal(a.storage, b.storage) and a.report.newton_iterations == b.report.newton_iterations
        assert driver().memory.tensors() == {}

    def test_off(self, driver):
        solver = driver(warm_start=False)
        first, second = run_exphydro(solver), run_exphydro(solver)
        assert solver.memory.tensors() == {}
        assert first.report.newton_iterations == second.report.newton_iterations


def awkward() -> Balance:
    """A reservoir of rate -k for k < 0; one that feeds itself with k S^2, unsolvable, for k > 0; NaN below k = -20."""

    def outflow(storage, k):
        return torch.where(k < 0.0, -k * storage, -k * storage * storage) + 0.0 * torch.log(20.0 + k)

    return Balance(linear, outflow=outflow)


def run_awkward(solver, k, record=None):
    k = torch.as_tensor(k, dtype=torch.float64)
    record = weather(8, len(k)) if record is None else record
    return simulate(awkward(), record, theta={"k": k}, storage0={"storage": 50.0}, solver=solver)


@pytest.mark.parametrize("solver", DRIVERS, ids=lambda s: type(s).__name__)
class TestFailures:
    def test_one_basin_that_cannot_be_solved(self, solver):
        with pytest.raises(
            SolverError, match=r"failed in basin b1, 2001-11-2\d.*law that falls with its donor"
        ) as caught:
            run_awkward(replace(solver, splits=3), [-0.5, 1.0, -0.1])
        assert caught.value.failed.tolist() == [False, True, False]

    def test_the_others_are_as_they_are_alone(self, solver):
        """What a caller does with the mask: reject one element, keep the numbers of the others."""
        whole = weather(8, 3)
        kept = [
            replace(whole, values={n: v[:, at] for n, v in whole.values.items()}, basins=()) for at in ([0, 2], [2])
        ]
        pair, single = run_awkward(solver, [-0.5, -0.1], kept[0]), run_awkward(solver, [-0.1], kept[1])
        assert (pair.storage[:, 1:] - single.storage).abs().max().item() <= 1e-11

    def test_a_law_that_is_not_a_number(self, solver):
        with pytest.raises(SolverError, match=r"law of flux 'outflow' is not finite in basin b2, 2001-11-25") as caught:
            run_awkward(solver, [-0.5, -0.2, -30.0])
        assert caught.value.failed.tolist() == [False, False, True]

    def test_a_law_that_turns_nan_later(self, solver):
        k = torch.full((8, 2), -0.5)
        k[5, 0] = -30.0
        with pytest.raises(SolverError, match=r"law of flux 'outflow' is not finite in basin b0, 2001-11-30") as caught:
            simulate(awkward(), weather(8, 2), theta={"k": k}, storage0={"storage": 50.0}, solver=solver)
        assert caught.value.failed.tolist() == [True, False]

    def test_a_hard_basin_leaves_its_neighbours_alone(self, solver):
        """Thin snow that melts within hours, a bucket that responds at 20 per day: many iterations, same numbers."""
        record = weather(60, 3, seed=2)
        hard = {"f": 0.002, "smax": 1380.0, "qmax": 69.0, "ddf": 0.12, "tmin": -6.12, "tmax": 0.5}
        stiff = {n: v[0] for n, v in STIFF.items()}
        mild = {n: v[1] for n, v in EXPHYDRO.theta.items()}
        theta = {n: torch.tensor([mild[n], hard[n], stiff[n]]) for n in mild}
        start = torch.tensor([[10.0, 200.0], [30.0, 1370.0], [0.0, 240.0]])
        together = run_exphydro(solver, record, theta, start)
        for i in range(3):
            alone = replace(record, values={n: v[:, i : i + 1] for n, v in record.values.items()}, basins=())
            alone = run_exphydro(solver, alone, {n: v[i : i + 1] for n, v in theta.items()}, start[i : i + 1])
            assert (alone.storage[:, 0] - together.storage[:, i]).abs().max().item() <= 1e-9
        assert far(together, run_exphydro(Stepping(), record, theta, start)) <= 1e-8

    def test_split_intervals_and_their_gradients(self, solver):
        """Some elements are cut, and by different numbers: numbers of Stepping, gradients of the tape."""
        k = [-4.0, -0.2, -9.0, -1.0]
        options = {"undershoot": "split", "tolerance": TIGHT}
        record = weather(8, 4, seed=3)

        def solve(solver):
            leaves = [torch.tensor(k, requires_grad=True), torch.full((4, 1), 50.0, requires_grad=True)]
            run = simulate(awkward(), record, theta={"k": leaves[0]}, storage0=leaves[1], solver=solver)
            return run, torch.autograd.grad(score(run), leaves)

        run, gradients = solve(replace(solver, **options))
        expected, wanted = solve(Stepping(**options, gradient="tape"))
        assert far(run, expected) <= 1e-9
        assert run.report.split_intervals == expected.report.split_intervals > 3
        assert run.report.undershoots == 0
        for a, b in zip(gradients, wanted, strict=True):
            assert (a - b).abs().max().item() <= 1e-10 * b.abs().max().item()


ACCURATE = (
    (Stepping(SDIRK2), 0.05),
    (Stepping(BACKWARD_EULER), 0.5),
    (Stepping(HEUN, substeps=4), 0.01),
    (AllAtOnce(SDIRK2), 0.05),
    (AllAtOnce(TR_BDF2), 0.05),
    (Compiled(SDIRK2), 0.05),
)


class TestAccuracy:
    @pytest.mark.parametrize(
        "solver, accuracy", ACCURATE, ids=[f"{type(s).__name__}, {s.tableau.name}" for s, _ in ACCURATE]
    )
    def test_local_errors_stay_below_it(self, solver, accuracy):
        """Against every interval done again in 64 times as many steps, from where the run was at its start."""
        run = run_exphydro(replace(solver, accuracy=accuracy))
        each, basins = run.report.substeps, 2
        assert each.shape == (40, basins) and each.min() < each.max()
        assert bool((run.report.error <= accuracy).all())
        values = {n: v.reshape(1, -1) for n, v in RECORD.values.items()}
        side = Forcing(values, RECORD.units, RECORD.time_edge[:2])
        theta = {n: v.repeat(40) for n, v in theta_of().items()}
        fine = run_exphydro(Stepping(SDIRK2, substeps=64 * each.reshape(1, -1)), side, theta,
                            run.storage[:-1].reshape(-1, 2))  # fmt: skip
        error = (fine.storage[1].reshape(40, basins, -1) - run.storage[1:]).abs().amax(-1)
        error = torch.maximum(error, (fine.volume[0].reshape(40, basins, -1) - run.volume).abs().amax(-1))
        assert error.max().item() <= 1.05 * accuracy  # the estimate is exact to first order only

    def test_drivers_choose_the_same_steps(self):
        runs = [run_exphydro(replace(s, accuracy=0.01)) for s in DRIVERS]
        for run in runs[1:]:
            assert torch.equal(run.report.substeps, runs[0].report.substeps)
            assert far(run, runs[0]) <= 1e-8

    def test_the_chosen_steps_can_be_given(self):
        chosen = run_exphydro(AllAtOnce(accuracy=0.01))
        for solver in DRIVERS:
            assert far(run_exphydro(replace(solver, substeps=chosen.report.substeps)), chosen) <= 1e-8

    def test_gradients_with_steps_by_basin(self):
        """Steps of no length beside a basin that needs more."""
        substeps = torch.randint(1, 5, (6, 3))
        model = generated.balance(3, 3)
        given = generated.inputs(model, (3,), seed=3)
        expected, wanted = solved(model, given, Stepping(substeps=substeps, tolerance=TIGHT, gradient="tape"))
        for driver in (Stepping, *FAST):
            run, gradients = solved(model, given, driver(substeps=substeps, tolerance=TIGHT))
            assert far(run, expected) <= 1e-9
            for a, b in zip(gradients, wanted, strict=True):
                assert (a - b).abs().max().item() <= 1e-10 * max(w.abs().max().item() for w in wanted)

    @pytest.mark.parametrize("solver", DRIVERS, ids=lambda s: type(s).__name__)
    def test_infinity_estimates_and_refines_nothing(self, solver):
        run = run_exphydro(replace(solver, accuracy=float("inf")))
        assert bool((run.report.substeps == 1).all()) and run.report.error.max().item() > 0.05
        assert far(run, run_exphydro(solver)) == 0.0

    @pytest.mark.parametrize("solver", [Stepping(), AllAtOnce()], ids=lambda s: type(s).__name__)
    def test_out_of_reach(self, solver, monkeypatch):
        monkeypatch.setattr(refine, "MOST", 16)
        with pytest.raises(
            SolverError, match=r"does not reach accuracy=1e-15 mm in basin b\d, 2001.*less accuracy"
        ) as e:
            run_exphydro(replace(solver, accuracy=1e-15), RECORD.isel(slice(0, 2)))
        assert e.value.failed.shape == (2,) and bool(e.value.failed.any())

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"accuracy": 0.0}, "accuracy must be above zero, got 0.0"),
            ({"accuracy": float("nan")}, "accuracy must be above zero, got nan"),
            ({"substeps": torch.ones(40, 2)}, "must be whole numbers of at least 1"),
            ({"substeps": torch.zeros(40, 2, dtype=torch.long)}, "must be whole numbers of at least 1"),
            (
                {"substeps": torch.ones(40, dtype=torch.long)},
                r"substeps has shape \(40,\), the problem needs \(40, 2\)",
            ),
            ({"substeps": torch.ones(39, 2, dtype=torch.long)}, r"substeps has shape \(39, 2\)"),
        ],
    )
    @pytest.mark.parametrize("driver", [Stepping, *FAST])
    def test_settings(self, driver, options, message):
        with pytest.raises(ConfigError, match=message):
            run_exphydro(driver(**options))


class TestForwardSensitivity:
    record = RECORD.isel(slice(0, 15))
    names = ("f", "qmax", "tmin", "ddf", "snow", "soil")

    def perturbed(self, solver, name, step):
        theta, start = theta_of(), START.clone()
        if name in theta:
            theta[name] = theta[name] + step
        else:
            start[:, ("snow", "soil").index(name)] += step
        return run_exphydro(solver, self.record, theta, start)

    @pytest.mark.parametrize(
        "solver",
        [
            Stepping(SDIRK2),
            Stepping(HEUN, substeps=8),
            AllAtOnce(TR_BDF2, substeps=2),
            Compiled(MIDPOINT),
        ],
        ids=lambda s: f"{type(s).__name__}, {s.tableau.name}",
    )
    def test_central_differences(self, solver):
        """1e-6 of the largest response; parameters that act through the weather alone (tmin) and storages too."""
        solver = replace(solver, tolerance=TIGHT)
        found = forward_sensitivity(pose(MODEL, self.record, theta_of()), START, self.names, solver)
        assert torch.allclose(found.run[0], run_exphydro(solver, self.record).storage, rtol=0, atol=1e-9)
        for i, name in enumerate(self.names):
            size = theta_of()[name].abs().max().item() if name in EXPHYDRO.theta else 10.0
            errors = []
            for step in (1e-4 * size, 1e-5 * size, 1e-6 * size):
                up, down = self.perturbed(solver, name, step), self.perturbed(solver, name, -step)
                for part in ("storage", "volume"):
                    difference = (getattr(up, part) - getattr(down, part)) / (2 * step)
                    gap = (getattr(found, part)[i] - difference).abs().max() / difference.abs().max()
                    errors.append(gap.item())
            assert min(errors[0::2]) <= 1e-6 and min(errors[1::2]) <= 1e-6, (name, errors)

    @pytest.mark.parametrize("driver", [Stepping, Compiled])
    @pytest.mark.parametrize("tableau", [*IMPLICIT, RK4], ids=name_of)
    def test_it_pairs_with_the_adjoint(self, tableau, driver):
        """<cotangent, sensitivity> is the adjoint's gradient, for parameters of every shape and for storages."""
        model = generated.balance(4, 4)
        given = generated.inputs(model, (2,), seed=4)
        solver = driver(tableau, tolerance=TIGHT, substeps=1 if tableau.implicit else 10)
        run, gradients = solved(model, given, solver)
        run = replace(run, storage=run.storage.detach().requires_grad_(), volume=run.volume.detach().requires_grad_())
        g_storage, g_volume = torch.autograd.grad(score(run), [run.storage, run.volume])
        names = (*given.theta, *model.store_names)
        found = forward_sensitivity(pose(model, given.record, given.theta), given.storage0, names, solver)
        paired = (found.storage * g_storage).sum((1, -1)) + (found.volume * g_volume).sum((1, -1))
        for i, gradient in enumerate(gradients[: len(given.theta)]):
            assert paired[i].sum().item() == pytest.approx(gradient.sum().item(), rel=1e-9, abs=1e-9)
        assert torch.allclose(paired[len(given.theta) :].T, gradients[len(given.theta)], rtol=1e-9, atol=1e-9)

    def test_a_model_without_forcing(self):
        """Inflow from a parameter alone: dS/d(inflow) of the linear reservoir by backward Euler is a geometric sum."""
        inflow = Flux("inflow", ATMOSPHERE, "storage", Law("constant", ("c",)))
        outflow = Flux("outflow", "storage", OUTLET, Law("linear", ("k", "storage")))
        parameters = {"c": Range(0.0, 9.0, "mm/d", 2.0), "k": Range(0.0, 1.0, "1/d", 0.25)}
        model = Balance(Structure("fed", {"storage": "mm"}, {"prcp": "mm/d"}, parameters, (inflow, outflow)))
        problem = pose(model, weather(5, 1))
        found = forward_sensitivity(problem, torch.tensor([[3.0]]), ("c", "k", "storage"), Stepping(BACKWARD_EULER))
        factors = 1.25 ** -torch.arange(6.0)
        assert torch.allclose(found.storage[0, :, 0, 0], (1 - factors) / 0.25)
        assert torch.allclose(found.storage[2, :, 0, 0], factors)

    def test_an_unknown_name(self):
        with pytest.raises(ConfigError, match="No parameter, store or flux is called 'qmx'.*qmax"):
            forward_sensitivity(pose(MODEL, RECORD), START, ("qmx",), AllAtOnce())

    @pytest.mark.parametrize(
        "lanes", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few basins", "many basins"]
    )
    @pytest.mark.parametrize("tableau", [SDIRK2, RK4], ids=name_of)
    def test_every_element_its_own_directions(self, tableau, lanes):
        """The compiled push, tile by tile and with own cuts, is that of PyTorch; only what was asked for comes back."""
        basins = 11 if lanes else 2
        model = Balance(exphydro)
        record = weather(9, basins)
        theta = {n: torch.linspace(0.9, 1.1, basins) * model.structure.parameters[n].default for n in theta_of()}
        start = torch.tensor([[3.0, 300.0]]).expand(basins, 2).clone()
        generator = torch.Generator().manual_seed(0)
        count = len(model.parameter_names) + len(model.store_names)
        moved = torch.randint(-1, count, (5, basins), generator=generator)
        cuts = torch.randint(1, 4, (9, basins), generator=generator) * (1 if tableau.implicit else 8)
        problem, results = pose(model, record, theta), []
        for driver in (AllAtOnce if tableau.implicit else Stepping, Compiled):
            solver = driver(tableau, substeps=cuts, tolerance=TIGHT)
            results.append(forward_sensitivity(problem, start, moved, solver, stores=["soil"], fluxes=["et", "melt"]))
        for part, shape in (("storage", (5, 10, basins, 1)), ("volume", (5, 9, basins, 2))):
            a, b = (getattr(r, part) for r in results)
            assert a.shape == shape
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-10)
        assert (results[0].storage[moved.eq(-1)[:, None, :, None].expand(5, 10, basins, 1)] == 0).all()


@pytest.mark.parametrize("solver", [*DRIVERS, Stepping(HEUN, substeps=8), AllAtOnce(MIDPOINT, substeps=2)],
                         ids=lambda s: f"{type(s).__name__}, {s.tableau.name}")  # fmt: skip
def test_lambda_is_what_a_perturbed_restart_says(solver):
    """report.adjoint: the derivative of what is still to come by the storage at an edge, by restarting from there."""
    solver, record = replace(solver, tolerance=TIGHT), RECORD.isel(slice(0, 16))
    start = START.clone().requires_grad_()
    run = simulate(MODEL, record, theta=theta_of(), storage0=start, solver=solver)
    generator = torch.Generator().manual_seed(1)
    on_storage, on_volume = (torch.randn(p.shape, generator=generator) for p in (run.storage, run.volume))
    ((run.storage * on_storage).sum() + (run.volume * on_volume).sum()).backward()
    adjoint = run.report.adjoint
    assert adjoint.shape == run.storage.shape and torch.equal(adjoint[0], start.grad)
    assert torch.equal(adjoint[-1], on_storage[-1])

    def ahead(k, storage):
        rest = run_exphydro(solver, record.isel(slice(k, None)), start=storage)
        return (rest.storage * on_storage[k:]).sum((0, 2)) + (rest.volume * on_volume[k:]).sum((0, 2))

    for k in (1, 9, 15):
        for store in range(2):
            errors = []
            for step in (1e-3, 1e-4):
                shift = torch.zeros(2)
                shift[store] = step
                there, back = (ahead(k, run.storage[k].detach() + s * shift) for s in (1.0, -1.0))
                errors.append(((there - back) / (2 * step) - adjoint[k, :, store]).abs().max().item())
            assert min(errors) <= 1e-6 * adjoint[k].abs().max().item()


class TestAutomatic:
    def test_explicit_tableaux_step(self):
        assert type(Automatic(HEUN).driver(pose(MODEL, RECORD))) is Stepping

    def test_little_work_goes_all_at_once(self):
        for model, runs in ((Balance(exphydro), 1), (MODELS[3].build(), 10**4), (LAWS[0].build(), 10**4)):
            assert type(Automatic(runs=runs).driver(pose(model, RECORD))) is AllAtOnce

    def test_networks_with_members_go_all_at_once(self):
        model = Balance(linear, outflow=NeuralLaw("storage", members=2, seed=0))
        for options in ({"runs": 10**9}, {"compile": True}):
            chosen = Automatic(**options).driver(pose(model, weather(9).with_members(2)))
            assert type(chosen) is AllAtOnce

    def test_much_work_is_compiled(self):
        automatic = Automatic(substeps=2, tolerance=1e-8, undershoot="split", runs=100_000)
        chosen = automatic.driver(pose(MODEL, RECORD))
        assert type(chosen) is Compiled and chosen.memory is automatic.memory
        assert (chosen.substeps, chosen.tolerance, chosen.undershoot) == (2, 1e-8, "split")

    def test_a_model_compiled_before_stays_compiled(self):
        model = Balance(exphydro)
        assert type(Automatic().driver(pose(model, RECORD))) is AllAtOnce
        simulate(model, RECORD, storage0=START, solver=Compiled())
        assert type(Automatic().driver(pose(model, RECORD))) is Compiled

    def test_all_give_the_same_numbers(self):
        little = run_exphydro(Automatic(), model=Balance(exphydro))
        much = run_exphydro(Automatic(runs=10**9))
        assert little.report.solver == "AllAtOnce(SDIRK2)" and much.report.solver == "Compiled(SDIRK2)"
        assert far(little, much) <= 1e-9

    def test_the_memory_is_shared(self):
        """A run that was not worth compiling starts the next, which is."""
        solver = Automatic()
        cold = run_exphydro(Compiled()).report.newton_iterations
        model = Balance(exphydro)
        run_exphydro(solver, model=model)
        later = Automatic(runs=10**9)
        object.__setattr__(later, "memory", solver.memory)
        assert run_exphydro(later, model=model).report.newton_iterations < 0.8 * cold


def build(model):
    """Trace, write and load its module; nothing is compiled until it runs."""
    return module.build(model, 1)


class TestWhatTracingCannotSee:
    def test_a_law_with_steps_is_solved_or_refused(self):
        """Its derivative says that it is constant; a residual says that it is not."""

        def pump(storage):
            return torch.where(storage > 30.0, 3.0 + 0.0 * storage, 0.0 * storage)

        record = weather(200, 1, seed=1)
        for solver in (Compiled(BACKWARD_EULER, splits=1), AllAtOnce(BACKWARD_EULER, splits=1)):
            with pytest.raises(SolverError, match="unsolved"):
                simulate(Balance(linear, outflow=pump), record, storage0={"storage": 29.0}, solver=solver)

    def test_settings_of_a_law_may_change(self):
        class Share(torch.nn.Module):
            reads = ("storage",)
            share = 0.1

            def forward(self, storage):
                return self.share * storage

        law = Share()
        law.share = 0.1
        model = Balance(linear, outflow=law)
        for share in (0.1, 0.5):
            law.share = share
            solvers = Compiled(), Stepping()
            a, b = (simulate(model, weather(9), storage0={"storage": 9.0}, solver=s) for s in solvers)
            assert (a.storage - b.storage).abs().max().item() <= 1e-9

    @pytest.mark.parametrize("where", ["tensor", "private", "closure", "callable"])
    def test_settings_kept_elsewhere_may_change(self, where):
        """Of no nn.Module, under a private name, as a plain tensor."""

        class Share(torch.nn.Module):
            reads = ("storage",)

            def forward(self, storage):
                return (self.share if where == "tensor" else self._share) * storage

        class Call:
            reads = ("storage",)

            def __call__(self, storage):
                return self.share * storage

        held = 0.1
        law = Call() if where == "callable" else (lambda storage: held * storage) if where == "closure" else Share()
        model = Balance(linear, outflow=law)
        for share in (0.1, 0.5):
            held = law.share = law._share = torch.tensor(share) if where == "tensor" else share
            a, b = (simulate(model, weather(9), storage0={"storage": 9.0}, solver=s) for s in (Compiled(), Stepping()))
            assert far(a, b) <= 1e-9

    @pytest.mark.parametrize("driver", [AllAtOnce, Compiled])
    def test_parameters_changed_before_the_backward_pass(self, driver):
        k = torch.tensor([0.3, 0.3], requires_grad=True)
        run = simulate(Balance(linear), weather(9), theta={"k": k}, storage0={"storage": 9.0}, solver=driver())
        with torch.no_grad():
            k.mul_(0.1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            run.storage.sum().backward()


class TestLawsCompiled:
    @pytest.mark.parametrize(
        "case",
        [c if i in (0, 4) else pytest.param(c, marks=pytest.mark.slow) for i, c in enumerate((*LAWS, *MODELS))],
        ids=name_of,
    )
    def test_numbers_and_gradients(self, case):
        """By weights, parameters and initial storage, against the tape; networks retrained in place, not recompiled."""
        model, record = case.build(3, 1.0), weather(7, seed=8)
        start = torch.stack([case.start()[n] for n in model.store_names], dim=-1).double()

        def solve(solver):
            theta = {n: v.double().requires_grad_() for n, v in case.parameters(model).items()}
            leaves = [*theta.values(), start.clone().requires_grad_()]
            run = simulate(model, record, theta=theta, storage0=leaves[-1], solver=solver)
            return run, torch.autograd.grad(score(run), [*leaves, *model.parameters()])

        solver = Compiled(tolerance=TIGHT)
        first = None
        for _ in range(2 if case.neural else 1):
            run, gradients = solve(solver)
            expected, wanted = solve(Stepping(tolerance=TIGHT, gradient="tape"))
            assert far(run, expected) <= 1e-9
            for a, b in zip(gradients, wanted, strict=True):
                assert (a - b).abs().max().item() <= 1e-10 * max(1.0, b.abs().max().item())
            assert first is None or far(run, first) > 1e-3
            first, program = run, compiled(pose(model, record))
            if case.neural:
                shake(model, 7)
                assert compiled(pose(model, record)) is program

    @pytest.mark.parametrize("part", ["rows", "reshaped", "made"])
    def test_a_part_of_a_matrix(self, part):
        """Only whole matrices of weights have a transposed copy."""

        class Law(torch.nn.Module):
            reads = ("storage",)

            def __init__(self):
                super().__init__()
                values = torch.linspace(-1.0, 1.0, 12, dtype=torch.float64).reshape(4, 3)
                self.matrix = torch.nn.Parameter(values)

            def forward(self, storage):
                columns = [0.01 * storage, torch.ones_like(storage), torch.zeros_like(storage), 0.1 * storage]
                if part == "made":
                    return torch.minimum(storage, F.softplus((torch.stack(columns, -1) @ self.matrix).sum(-1)))
                matrix = self.matrix[:2] if part == "rows" else self.matrix.reshape(2, 6)
                x = torch.stack([0.01 * storage, 0.1 * storage], -1)
                return torch.minimum(storage, F.softplus(torch.tanh(x @ matrix).sum(-1)))

        model = Balance(linear, outflow=Law())
        runs = [
            simulate(model, weather(9, 5), storage0={"storage": 9.0}, solver=s)
            for s in (Compiled(tolerance=TIGHT), Stepping(tolerance=TIGHT, gradient="tape"))
        ]
        assert far(*runs) <= 1e-9
        a, b = (torch.autograd.grad(score(run), model.laws["outflow"].matrix)[0] for run in runs)
        assert (a - b).abs().max().item() <= 1e-10 * b.abs().max().item()

    def test_single_precision(self):
        """Computed in double, returned in single: nearer to the double result than stepping in single."""
        record = RECORD.to(dtype=torch.float32)
        theta, start = {n: v.float() for n, v in theta_of().items()}, START.float().requires_grad_()
        run = simulate(MODEL, record, theta=theta, storage0=start, solver=Compiled())
        assert run.storage.dtype == run.volume.dtype == torch.float32
        double = {n: v.double() for n, v in theta.items()}
        exact = run_exphydro(Compiled(), record.to(dtype=torch.float64), double, start.detach().double())
        assert (run.storage.double() - exact.storage).abs().max().item() <= 1e-4
        run.storage.sum().backward()
        assert start.grad.dtype == torch.float32 and bool(start.grad.isfinite().all())

    @pytest.mark.parametrize(
        "law, message",
        [
            (lambda storage, k: k * storage if storage.sum() > 0 else 0.0 * storage, "cannot be compiled.*AllAtOnce"),
            (lambda storage, k: k * float(storage.max()) + 0.0 * storage, "cannot be compiled.*AllAtOnce"),
            (lambda storage, k: k * torch.special.i0(storage), "operation '.*i0.*use AllAtOnce"),
            (lambda storage, k: k * torch.div(storage, 3.0, rounding_mode="floor"), "AllAtOnce"),
            (lambda storage, k: k * storage.to(torch.int64), "AllAtOnce"),
            (lambda storage, k: torch.addcmul(storage, storage, k, value=2.0), "AllAtOnce"),
            (lambda storage, k: k * storage.float(), "AllAtOnce"),
            (lambda storage, k: (k * storage * torch.tensor([0.3, 0.7])).sum(-1), "AllAtOnce"),
        ],
    )
    def test_laws_that_cannot_be_compiled(self, law, message):
        """They are refused, with the driver that takes them, rather than compiled into something else."""
        model = Balance(linear, outflow=lambda storage, k: law(storage, k))
        with pytest.raises(StructureError, match=message):
            build(model)

    def test_members_are_refused(self):
        model = Balance(linear, outflow=NeuralLaw("storage", members=2, seed=0))
        with pytest.raises(StructureError, match="member axis.*use AllAtOnce"):
            simulate(model, weather(3).with_members(2), storage0={"storage": 9.0}, solver=Compiled())

    @pytest.mark.parametrize("tableau", [EXPLICIT_EULER, HEUN, RK4], ids=name_of)
    def test_explicit_tableaux(self, tableau):
        """The numbers and gradients of Stepping; an unstable step is refused alike."""
        results = []
        for driver in (Stepping, Compiled):
            start, theta = (
                START.clone().requires_grad_(),
                {n: v.clone().requires_grad_() for n, v in theta_of().items()},
            )
            run = simulate(MODEL, RECORD, theta=theta, storage0=start, solver=driver(tableau, substeps=8))
            gradients = torch.autograd.grad(run.discharge.square().sum(), [start, *theta.values()], allow_unused=True)
            results.append([run.storage, run.volume, *(g for g in gradients if g is not None)])
        for a, b in zip(*results, strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-11)
        with pytest.raises(SolverError, match="unstable"):
            run_exphydro(Compiled(tableau), RECORD, theta_of() | {"f": torch.tensor(0.3), "qmax": torch.tensor(200.0)})


class TestLanes:
    """Basins computed side by side know nothing of each other."""

    BASINS = 11  # a whole tile of lanes, and one that is not

    @pytest.fixture
    def many(self):
        record = weather(60, self.BASINS, seed=5)
        generator = torch.Generator().manual_seed(6)
        factor = 0.5 + torch.rand(len(EXPHYDRO.theta), self.BASINS, generator=generator, dtype=torch.float64)
        theta = {n: v[1] * f for (n, v), f in zip(EXPHYDRO.theta.items(), factor, strict=True)}
        return record, theta, START[:1].expand(self.BASINS, 2) * factor[:2].T

    def run(self, solver, many, basins=slice(None)):
        record, theta, start = many
        theta = {n: v[basins].clone().requires_grad_() for n, v in theta.items()}
        start = start[basins].clone().requires_grad_()
        record = replace(record, values={n: v[:, basins] for n, v in record.values.items()}, basins=())
        run = simulate(MODEL, record, theta=theta, storage0=start, solver=solver)
        weight = torch.linspace(0.5, 1.5, self.BASINS, dtype=torch.float64)[basins]
        loss = (run.discharge.square() * weight).sum() + (run.storage[-1] * weight[:, None]).sum()
        return run, torch.autograd.grad(loss, [*theta.values(), start])

    @pytest.mark.parametrize("threads", [1, 2])
    @pytest.mark.parametrize("substeps", [1, "own"])
    def test_alone_or_beside_others(self, many, substeps, threads):
        cuts = torch.randint(1, 4, (60, self.BASINS), generator=torch.Generator().manual_seed(7))

        def solver(basins=slice(None)):
            return Compiled(substeps=1 if substeps == 1 else cuts[:, basins], tolerance=TIGHT)

        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads)
            together, gradients = self.run(solver(), many)
        finally:
            torch.set_num_threads(before)
        for basin in range(self.BASINS):
            one = slice(basin, basin + 1)
            alone, own = self.run(solver(one), many, one)
            assert (alone.storage - together.storage[:, one]).abs().max().item() <= 1e-10
            for a, b in zip(own, gradients, strict=True):
                assert (a - b[one]).abs().max().item() <= 1e-10 * max(1.0, a.abs().max().item())

    def test_one_that_fails(self):
        k = torch.linspace(-0.5, -9.0, self.BASINS, dtype=torch.float64)
        k[9] = 1.0
        with pytest.raises(SolverError, match="failed in basin b9") as caught:
            run_awkward(Compiled(splits=3), k)
        assert caught.value.failed.tolist() == [i == 9 for i in range(self.BASINS)]

    def test_some_that_are_cut(self):
        k = torch.linspace(-0.5, -9.0, self.BASINS, dtype=torch.float64)
        run, expected = (run_awkward(driver(undershoot="split", tolerance=TIGHT), k) for driver in (Compiled, Stepping))
        assert far(run, expected) <= 1e-9
        assert run.report.split_intervals == expected.report.split_intervals > 3


class TestGeneratedSource:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("UDEHYDRO_CACHE", str(tmp_path / "cache"))
        module._load.cache_clear()
        return tmp_path / "cache"

    def test_it_holds_traced_operations_and_nothing_else(self, folder):
        """Arithmetic, math and numpy functions on arrays: no name of the model, of its stores or of a file gets in."""
        for model in (Balance(exphydro), LAWS[4].build(), generated.balance(5, 5)):
            build(model)
        for file in folder.glob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
            own = "udehydro.solvers.compiled.elementary"
            assert {getattr(n, "module", None) or n.names[0].name for n in imports} == {"math", "numpy", "numba", own}
            functions = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)} | {"as_bits", "as_double"}
            functions |= {"exp", "expm1", "tanh", "log", "log1p", "power"}
            for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
                if isinstance(call.func, ast.Attribute):
                    assert call.func.value.id in ("math", "np")
                else:
                    assert call.func.id in functions | {"njit", "range", "len", "abs", "min", "max", "int"}
            words = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
            assert not words & {"eval", "exec", "open", "snow", "soil", "prcp", "qmax", "s0"}
            assert all(isinstance(n.value, int | float | str) for n in ast.walk(tree) if isinstance(n, ast.Constant))

    def test_the_file_is_whole_and_renewed(self, folder):
        """Nothing temporary stays; a file that was damaged is written again."""
        build(Balance(linear))
        assert not list(folder.glob(".*"))
        (file,) = folder.glob("*.py")
        text = file.read_text(encoding="utf-8")
        assert file.name.startswith("udehydro_kernels_") and file.suffix == ".py" and "def march(" in text
        assert folder.stat().st_mode & 0o077 == 0
        file.write_text(text[:100], encoding="utf-8")
        module._load.cache_clear()
        build(Balance(linear))
        assert file.read_text(encoding="utf-8") == text and len(list(folder.glob("*.py"))) == 1

    def test_equal_models_share_a_module(self, folder):
        assert build(Balance(linear)) is build(Balance(linear))
        assert len(list(folder.glob("*.py"))) == 1


F = torch.nn.functional
OPERATIONS = {
    "add": lambda a, b: a + b,
    "add alpha": lambda a, b: torch.add(a, b, alpha=3.0),
    "sub": lambda a, b: a - b,
    "sub alpha": lambda a, b: torch.sub(a, b, alpha=-2.0),
    "rsub": lambda a, b: 3.0 - a,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "negative constants": lambda a, b: (-2.0 - a) * -3.0 / (b - -1.5) - -a,
    "reciprocal": lambda a, b: 1.0 / a,
    "neg": lambda a, b: -(b * -a),
    "abs": lambda a, b: a.abs(),
    "sign": lambda a, b: a.sign() * b,
    "exp": lambda a, b: torch.exp(a),
    "expm1": lambda a, b: torch.expm1(a),
    "log": lambda a, b: torch.log(a),
    "log2, log10": lambda a, b: torch.log2(a) + torch.log10(b),
    "log1p": lambda a, b: torch.log1p(a),
    "sqrt": lambda a, b: torch.sqrt(a),
    "rsqrt": lambda a, b: torch.rsqrt(a),
    "square": lambda a, b: torch.square(a),
    "sin, cos": lambda a, b: torch.sin(a) + torch.cos(b),
    "sinh, cosh": lambda a, b: torch.sinh(a) + torch.cosh(b),
    "asinh": lambda a, b: torch.asinh(a),
    "atan": lambda a, b: torch.atan(a),
    "atan2": lambda a, b: torch.atan2(a, b),
    "tanh": lambda a, b: torch.tanh(a),
    "sigmoid": lambda a, b: torch.sigmoid(a),
    "logsigmoid by parts": lambda a, b: torch.log(torch.sigmoid(a)),
    "erf": lambda a, b: torch.erf(a),
    "floor": lambda a, b: torch.floor(a) * b,
    "softplus": lambda a, b: F.softplus(a),
    "softplus beta": lambda a, b: F.softplus(a, beta=5.0, threshold=10.0),
    "relu": lambda a, b: torch.relu(a),
    "silu by parts": lambda a, b: a * torch.sigmoid(a),
    "pow scalar": lambda a, b: a**3,
    "pow fraction": lambda a, b: a**1.5,
    "pow negative": lambda a, b: a**-2.0,
    "pow zero": lambda a, b: a**0,
    "pow tensor": lambda a, b: a**b,
    "pow of a constant": lambda a, b: 2.0**a,
    "pow of zero": lambda a, b: 0.0**a,
    "minimum": lambda a, b: torch.minimum(a, b),
    "maximum": lambda a, b: torch.maximum(a, b),
    "clamp": lambda a, b: a.clamp(-1.0, 1.0),
    "clamp low": lambda a, b: a.clamp(min=0.0),
    "clamp high": lambda a, b: a.clamp(max=2.0),
    "clamp_min": lambda a, b: a.clamp_min(-1.0),
    "clamp_max": lambda a, b: a.clamp_max(1.0),
    "clamp by tensors": lambda a, b: torch.clamp(a, min=b, max=b + 1.0),
    "where": lambda a, b: torch.where(a > b, a, b * b),
    "where with constants": lambda a, b: torch.where(a <= 0.0, 0.0, torch.where(a <= 0.0, 1.0, a) ** b),
    "lt, ge, eq, ne": lambda a, b: (a < b) * a + (a >= b) * b + (a == b) * 3.0 + (a != b) * 5.0,
    "sum of masks": lambda a, b: ((a > 0) + (b > 0)) * a,
    "and, or, not": lambda a, b: torch.where((a > 0) & ~(b > 0) | (a == b), a, b),
    "logical": lambda a, b: torch.where(torch.logical_or(a > 0, torch.logical_not(b > 0)), a, b),
    "masked_fill": lambda a, b: a.masked_fill(b > 0, 7.0),
    "isfinite, isnan": lambda a, b: torch.where(torch.isfinite(a), a, torch.where(torch.isnan(a), 1.0, 2.0)) * b,
    "heaviside": lambda a, b: torch.heaviside(a.detach(), torch.full_like(a, 0.5)) * b,
    "infinite constant": lambda a, b: torch.minimum(a, torch.tensor(float("inf"))) + b,
    "constant": lambda a, b: a * torch.tensor(-2.5) + torch.tensor(3),
    "stack, sum": lambda a, b: torch.stack([a, b, a * b]).sum(0),
    "stack, select": lambda a, b: torch.stack([a, b])[1] * a,
    "stack, unbind": lambda a, b: torch.stack([a, b]).unbind(0)[1] * a,
    "addcmul": lambda a, b: torch.addcmul(a, b, b),
    "ones, zeros": lambda a, b: torch.ones_like(a) * a + torch.zeros_like(b) + torch.full_like(a, 2.0) * b,
    "detach": lambda a, b: a.detach() * a + b,
}
VALUES = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.0,
    -3.0,
    2.5,
    20.0,
    40.0,
    -40.0,
    800.0,
    -800.0,
    1e-300,
    1e-310,
    math.inf,
    -math.inf,
    math.nan,
)


@pytest.mark.parametrize("functions", ["SCALARS", "VECTORS"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_as_source(name, functions):
    """Value and both derivatives, at ties, limits, overflow, infinity and NaN: what torch says."""

    def traced(a, b):
        a, b = (v.detach().requires_grad_() for v in (a, b))
        with torch.enable_grad():
            value = OPERATIONS[name](a, b)
            slopes = torch.autograd.grad(value.sum(), [a, b], allow_unused=True, materialize_grads=True)
        return value.detach(), *slopes

    graph = make_fx(traced)(torch.tensor([0.3]), torch.tensor([1.7]))
    writer = source.Writer(trace.Traced(graph, ("y0", "y1")), {}, {})
    lines = ["y0 = y[0]", "y1 = y[1]", *(text for line in writer.lines for text in line.text)]
    lines += [f"out[{i}] = {view.at(['0'])}" for i, view in enumerate(writer.outputs)]
    space = {"math": math, "np": np, "WORKSPACE": 0, **vars(elementary)}
    exec(getattr(module, functions), space)
    exec("def function(y, out, z):\n" + "\n".join("    " + text for text in lines), space)
    function = njit(error_model="numpy")(space["function"])
    values = torch.tensor([*VALUES, *torch.randn(4).mul(3.0).tolist()])
    points = torch.cartesian_prod(values, values)
    found, work = np.zeros((len(points), 3)), np.zeros(64)
    for point, out in zip(points.numpy(), found, strict=True):
        function(point, out, work)
    expected = torch.stack(traced(*points.T.contiguous()), dim=1).numpy()
    differs = ~np.isclose(found, expected, rtol=1e-12, atol=1e-15, equal_nan=True)
    wrong = (differs & (np.isfinite(found) | np.isfinite(expected))).any(1)  # inf is as bad as NaN
    report = zip(points[wrong].tolist(), found[wrong].tolist(), expected[wrong].tolist(), strict=True)
    assert not wrong.any(), list(report)[:4]
