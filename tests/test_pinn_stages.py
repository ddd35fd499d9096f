"""Stages of training: resumed with the same bits, guarded against what is not finite, and told of term by term."""

import numpy as np
import pytest
import torch
from test_pinn_learn import task
from test_pinn_solve import LOAM, SOFT, layered, soft, unknowns

from udehydro.errors import ConfigError, SolverError
from udehydro.plot import training_curve
from udehydro.richards import laws
from udehydro.richards.pinn import Box, Counts, Problem, Region, Soil, System, Wall, learn, march, solve
from udehydro.richards.pinn.causal import causal, weights
from udehydro.richards.pinn.stages import Stage, train
from udehydro.richards.pinn.train import Adam, Levenberg
from udehydro.richards.pinn.watch import table

STAGES = (Adam(15), Levenberg(3), Levenberg(2))
SMALL = {"stages": STAGES, "counts": Counts(100, 20), "width": 5, "depth": 2}


class Stopped(Exception):
    pass


def stop_at(monkeypatch, number):
    """Levenberg's stages stop at the ``number``-th call."""
    run, calls = Levenberg.__call__, []

    def stopping(self, *args):
        calls.append(self)
        if len(calls) == number:
            raise Stopped
        return run(self, *args)

    monkeypatch.setattr(Levenberg, "__call__", stopping)


def interrupted(monkeypatch, number, ask):
    with monkeypatch.context() as patch:
        stop_at(patch, number)
        with pytest.raises(Stopped):
            ask()
    with monkeypatch.context() as patch:
        patch.setattr(Adam, "__call__", None)  # that stage is done
        return ask()


def same(one, other):
    for a, b in zip(one.fields, other.fields, strict=True):
        assert torch.equal(a.network.vector(), b.network.vector())
    assert torch.equal(one.extra.values, other.extra.values)
    assert torch.equal(one.chi2, other.chi2) and torch.equal(one.leak, other.leak)
    assert one.history == other.history and one.parts.keys() == other.parts.keys()


@pytest.mark.parametrize("number", [1, 2])
def test_a_stopped_run_goes_on_with_the_same_bits(number, monkeypatch, tmp_path):
    how = SMALL | {"seeds": (0, 1)}
    whole = solve(soft(), **how)
    same(whole, interrupted(monkeypatch, number, lambda: solve(soft(), keep=tmp_path, **how)))
    monkeypatch.setattr(Levenberg, "__call__", None)
    same(whole, solve(soft(), keep=tmp_path, **how))  # all is done


@pytest.mark.filterwarnings("ignore:chi2 by reading")  # after a few steps
def test_what_is_learned_is_resumed(monkeypatch, tmp_path):
    how = {"ramp": (0.1, 0.03), "steps": 3, "first": Adam(15), "counts": Counts(60, 10), "width": 5}
    how |= {"gauge": "ignore", "seeds": (0, 1)}
    whole = learn(task(), **how)
    again = interrupted(monkeypatch, 2, lambda: learn(task(), keep=tmp_path, **how))
    same(whole.solution, again.solution)
    assert torch.equal(whole.x, again.x) and torch.equal(whole.normal.normal, again.normal.normal)
    other = task()
    other.observed[0].values[5] += 1e-5
    with pytest.raises(ConfigError, match="of another problem"):
        learn(other, keep=tmp_path, **how)


def slabs():
    regions, walls = [], []
    for k, (a, b) in enumerate([(0.0, 0.5), (0.5, 1.0)]):
        start = (lambda x: torch.full_like(x[:, 0], -60.0)) if k == 0 else None
        regions.append(Region(Box((a, -20.0), (b, 0.0)), Soil(laws.VanGenuchten(), LOAM), start, (a,)))
        walls.append(Wall("flux", [-2.0, 0.2][k], region=k))
    return Problem(regions, walls, 2.0, 30.0, stretch=True)


def test_slabs_are_resumed(monkeypatch, tmp_path):
    whole = march(slabs(), **SMALL)
    same(whole, interrupted(monkeypatch, 3, lambda: march(slabs(), keep=tmp_path, **SMALL)))
    assert {"Adam 1/3 from 0 d", "Levenberg 3/3 from 0.5 d"} <= {row["stage"] for row in whole.history}
    assert whole.failed.tolist() == [False] and whole.leak.shape == (1,)


@pytest.mark.parametrize(
    ("problem", "how"),
    [
        (lambda: soft(soil=Soil(laws.Gardner(), SOFT | {"alpha": 0.9})), {}),
        (lambda: soft(early=1.0), {}),
        (soft, {"seeds": (1,)}),
        (soft, {"width": 6}),
        (soft, {"counts": Counts(100, 21)}),
        (soft, {"stages": (Adam(15), Levenberg(4), Levenberg(2))}),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(problem, how, tmp_path):
    solve(soft(), keep=tmp_path, **SMALL | {"stages": (Adam(2),)})
    one = {"stages": (Adam(2),)} if "stages" not in how else {}
    with pytest.raises(ConfigError, match="of other stages, or of another problem"):
        solve(problem(), keep=tmp_path, **SMALL | one | how)


def of_members(field, *bias):
    """Members' last biases, where the heads are."""
    with torch.no_grad():
        field.network.biases[-1][:, 0] = torch.tensor(bias, dtype=torch.float64)


def test_a_member_that_overflows_is_left_where_it_was():
    problem = soft(stretch=True)
    stages = [Stage("Adam", Adam(10), problem, Counts(60, 10)), Stage("Newton", Levenberg(3), problem, Counts(60, 10))]
    together, alone = (problem.fields(s, width=4, depth=2) for s in ((3, 4), (3,)))
    of_members(together[0], 0.0, 1e4)  # sinh of it is not finite
    start = together[0].network.vector()[1]
    with pytest.warns(UserWarning, match="seeds 4 are not finite") as told:
        found = train(stages, together)
    assert ["Adam" in str(w.message) for w in told] == [True, False]
    assert found.failed.tolist() == [False, True]
    assert torch.equal(together[0].network.vector()[1], start)
    train(stages, alone)
    torch.testing.assert_close(together[0].network.vector()[:1], alone[0].network.vector())


def test_a_member_that_fails_on_the_way_goes_back(monkeypatch):
    loss, seen = System.loss, []

    def failing(self, weights, extra):
        half = loss(self, weights, extra)
        seen.append([w.detach()[1].clone() for w in weights[0]])
        if len(seen) == 6:
            half[:, 1], weights[0][0].grad[1] = torch.inf, torch.nan
        return half

    monkeypatch.setattr(System, "loss", failing)
    problem = soft()
    fields, whole = (problem.fields((0, 1), width=4, depth=2) for _ in range(2))
    chi2 = Adam(9)(problem.system(fields, 0, Counts(60, 10)))
    assert chi2.isfinite().tolist() == [True, False]
    torch.testing.assert_close([w[1].detach() for w in fields[0].network.weights()], seen[4], rtol=0.0, atol=1e-15)
    monkeypatch.undo()
    Adam(9)(problem.system(whole, 0, Counts(60, 10)))
    assert torch.equal(fields[0].network.vector()[0], whole[0].network.vector()[0])
    # it is tried again in the next stage
    assert bool(Levenberg(2)(problem.system(fields, 1, Counts(60, 10))).isfinite().all())


@pytest.mark.parametrize("stages", [(Adam(3),), (Levenberg(3),)])
def test_nothing_goes_on_where_all_fail(stages):
    nowhere = soft(soil=Soil(laws.Gardner(), SOFT | {"Ks": torch.nan}))
    with pytest.raises(SolverError, match=r"1/1.*no member.*seeds 0, 5.*scales") as error:
        solve(nowhere, **SMALL | {"stages": stages, "seeds": (0, 5)})
    assert error.value.failed.tolist() == [True, True]


def test_every_term_is_told_of(capsys):
    found = solve(soft(), progress=True, **SMALL | {"seeds": (0, 1, 2)})
    assert "balance=" in (shown := capsys.readouterr().err) and "flux at z=10=" in shown
    frame = table(found.history)
    assert frame.columns.tolist() == ["stage", "step", "chi2", "balance", "flux at z=10"]
    assert frame.stage.unique().tolist() == ["Adam 1/3", "Levenberg 2/3", "Levenberg 3/3"]
    assert frame.step[frame.stage == "Adam 1/3"].tolist() == [1, 11]
    assert frame.chi2.iloc[-1] == pytest.approx(float(found.chi2.median()), rel=1e-9)
    assert (frame.chi2[frame.stage == "Levenberg 2/3"].diff()[1:] <= 0.0).all()
    assert len(training_curve(found.history).axes[0].lines) > 3
    assert found.table().equals(frame)


def test_sizes_are_in_units_of_what_is_known():
    problem = layered()
    problem.data[0].values[1] = torch.nan
    system = problem.system(problem.fields((0, 1), width=4, depth=2), 0, Counts(20, 8), unknowns(2))
    x = system.start()
    parts, residuals = system.chi2(x), system.residuals(x)
    torch.testing.assert_close(parts, system.normal(x).parts)
    sizes = dict(zip(system.names, system.sizes(parts).unbind(1), strict=True))
    assert {"drainage at z=-20 (1)", "drainage at z=-20 (2)", "theta in 1"} < sizes.keys()
    for name, r in zip(system.names, residuals, strict=False):
        count = 1 if name == "theta in 1" else r.shape[1]
        torch.testing.assert_close(sizes[name], (r.square().sum((1, 2)) / count).sqrt())
    torch.testing.assert_close(sizes["known beforehand"], torch.full((2,), 0.2, dtype=torch.float64))


def test_a_stage_that_has_settled_is_over():
    problem, counts = soft(), Counts(100, 20)
    steps = []
    for settled in (0.0, 0.9):
        fields, rows = problem.fields((0, 1), width=5, depth=2), []
        Levenberg(30, settled=settled)(problem.system(fields, 0, counts), None, rows)
        steps.append([row["train"] for row in rows])
    long, short = np.array(steps[0]), np.array(steps[1])
    assert len(long) == 31 and len(short) < 31
    assert np.array_equal(long[: len(short)], short)  # nothing but the end is another
    gain = 1.0 - short[-1] / short[-11]
    assert (gain <= 0.9).all() and ((1.0 - short[-2] / short[-12]) > 0.9).any()


def test_leaks_between_few_points_are_told_of():
    how = {"stages": (Adam(30), Levenberg(40)), "width": 8, "depth": 2}
    with pytest.warns(UserWarning, match=r"times as large between the points trained on.*counts"):
        found = solve(soft(), counts=Counts(40, 10), **how)
    assert float(found.leak) > 3.0
    assert float(solve(soft(), counts=Counts(600, 60), **how).leak) < 2.0


@pytest.mark.parametrize("form", ["mixed", "volume"])
def test_later_times_wait_for_earlier_ones(form):
    """Causal weights: early times alone at first; chi2, its gradient, and what one member has, are of the same rows."""
    problem, counts = soft(form), Counts(240, 40)
    fields = problem.fields((0, 1), width=6, depth=2)
    system = problem.system(fields, 0, counts)
    _, before = weights(system, 3.0)
    assert (before[:, 0] == 1.0).all() and (before.diff(dim=1) <= 0.0).all() and (before[:, -1] < 1e-3).all()
    weighed, x = causal(system, 3.0), system.start()
    assert (weighed.chi2(x).sum(1) < system.chi2(x).sum(1)).all()
    d, h = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0)), 1e-6
    now, up, down = (weighed.normal(x + k * d) for k in (0.0, h, -h))
    torch.testing.assert_close((up.chi2 - down.chi2) / (4 * h), (now.gradient * d).sum(1), rtol=1e-5, atol=1e-6)
    one = weighed.normal(x[1:], torch.tensor([1]))
    torch.testing.assert_close(one.chi2[0], now.chi2[1])


def test_causal_weights_end_alike():
    """Where all is solved, all times count."""
    problem, counts = soft(), Counts(240, 40)
    fields = problem.fields((0, 1), width=6, depth=2)
    before = weights(problem.system(fields, 0, counts), 0.5)[1]
    optimisers = (Adam(60), *[Levenberg(20)] * 3)
    found = train([Stage(f"{i}", s, problem, counts, 0.5) for i, s in enumerate(optimisers)], fields)
    after = weights(found.system, 0.5)[1]
    assert (before[:, -1] < 0.1).all() and (after > 0.9).all()
    torch.testing.assert_close(found.system.normal(found.system.start()).parts, found.system.chi2(found.system.start()))


def five():
    problem = soft()
    fields = problem.fields((0, 1), width=4, depth=2)
    optimisers = [Adam(10), *[Levenberg(2)] * 4]
    return [Stage(f"{i}", s, problem, Counts(60, 10)) for i, s in enumerate(optimisers)], fields


def told(values, seen):
    """A misfit that is as told stage by stage, and notes where members were."""

    def misfit(system):
        seen.append(system.start())
        return torch.tensor(values[len(seen) - 1], dtype=torch.float64)

    return misfit


def test_members_go_back_where_data_would_pay():
    """Of two members one is well until the end, the other gives too much in the third stage and stays at the second."""
    stages, fields = five()
    seen = []
    found = train(stages, fields, misfit=told([(3.0, 2.0), (0.9, 0.8), (1.05, 1.2), (1.0, 0.7)], seen))
    assert found.stands.tolist() == [4, 2]
    x = found.system.start()
    assert torch.equal(x[0], seen[3][0]) and torch.equal(x[1], seen[1][1])
    assert not torch.equal(seen[2][1], seen[1][1]), "the stage had moved it"
    stages, fields = five()
    kept = train(stages, fields, misfit=told([(3.0, 2.0), (0.9, 0.8), (1.05, 1.2), (1.0, 0.7)], []), given=1.3)
    assert kept.stands.tolist() == [4, 4]


def test_a_ramp_ends_where_no_member_can_follow(tmp_path):
    stages, fields = five()
    seen = []
    found = train(stages, fields, misfit=told([(1.0, 1.0), (2.0, np.nan)], seen), keep=tmp_path)
    assert found.stands.tolist() == [1, 1] and len(seen) == 2
    assert torch.equal(found.system.start(), seen[0])
    again = train(stages, five()[1], misfit=told([], []), keep=tmp_path)
    assert torch.equal(again.system.start(), seen[0]) and again.stands.tolist() == [1, 1]
    with pytest.raises(ConfigError, match="other stages"):
        train(stages, five()[1], keep=tmp_path)
