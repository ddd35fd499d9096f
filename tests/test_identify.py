"""What data fix and what they leave open, on cases whose answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from tables import weather

from udehydro import Balance, FormulaLaw, Range, simulate
from udehydro.discovery import Library, Task, Term, Union, discover, outside, preferred
from udehydro.discovery.again import discover_again
from udehydro.discovery.identify import (
    Profile,
    _profile,
    best_of,
    fisher_spectrum,
    offset_profile,
    profile,
    run,
)
from udehydro.discovery.verdict import (
    candidate,
    lag_one,
    residuals,
    verdict,
    whitened,
    with_halved_steps,
)
from udehydro.errors import ConfigError
from udehydro.models import linear
from udehydro.solvers import BACKWARD_EULER, AllAtOnce
from udehydro.training import Observed
from udehydro.training.gaussian import Gaussian
from udehydro.training.least_squares import LeastSquares, least_squares

SOLVER = AllAtOnce(warm_start=False)
SIGMA = 0.05


def record(days: int = 120):
    return weather(days, 1)


def noisy(series: torch.Tensor, sigma: float = SIGMA, seed: int = 0, correlation: float = 0.0) -> torch.Tensor:
    normal = torch.randn(series.shape, generator=torch.Generator().manual_seed(seed))
    for k in range(1, len(normal)):
        normal[k] = correlation * normal[k - 1] + math.sqrt(1.0 - correlation**2) * normal[k]
    return series + sigma * normal


def reservoir(correlation: float = 0.0, days: int = 120, sigma: float = SIGMA):
    """A linear reservoir, its task and its fit."""
    model, forcing = Balance(linear), record(days)
    flow = simulate(model, forcing, theta={"k": 0.1}, storage0={"storage": 40.0}, solver=SOLVER).discharge
    task = Task(forcing, [Observed("discharge", noisy(flow, correlation=correlation), Gaussian(sigma))], {},
                solver=SOLVER, ranges={"storage": Range(0.1, 500.0, "mm")})  # fmt: skip
    start = {"k": 0.15, "storage": 30.0}
    fit = least_squares(model, forcing.with_members(1), task.observed, start, ("k", "storage"), solver=SOLVER,
                        ranges=task.ranges)  # fmt: skip
    return model, task, fit


def closed_form(task: Task, k: float) -> float:
    """Least chi2 over the initial storage, which discharge is linear in."""
    model, flow = Balance(linear), task.observed[0].values
    dry = replace(task.forcing, values={n: torch.zeros_like(v) for n, v in task.forcing.values.items()})
    runs = [simulate(model, f, theta={"k": k}, storage0={"storage": s}, solver=SOLVER).discharge
            for f, s in ((task.forcing, 0.0), (dry, 1.0))]  # fmt: skip
    rest, answer = flow - runs[0], runs[1]
    rest = rest - answer * (rest * answer).sum() / answer.square().sum()
    return float((rest / SIGMA).square().sum())


def test_profile_is_that_of_the_closed_form():
    model, task, fit = reservoir()
    found = profile(model, task, fit, "k", np.linspace(0.098, 0.102, 7), trusted=True)
    expected = torch.tensor([closed_form(task, float(k)) for k in found.grid])
    assert torch.allclose(found.fits.chi2, expected, rtol=1e-6)
    assert torch.allclose(found.rise, expected - expected.min(), atol=1e-3)
    best, low = float(fit.values["k"][0]), float(fit.chi2[0])
    ends = [
        brentq(lambda k: closed_form(task, k) - low - 3.841459, *b, xtol=1e-5) for b in ((0.097, best), (best, 0.103))
    ]
    width = ends[1] - ends[0]
    assert found.closed == (True, True)
    assert np.allclose(found.interval, ends, atol=0.05 * width)


def test_profile_scales_with_the_variance_of_the_residuals():
    model, task, fit = reservoir(sigma=0.1 * SIGMA)  # claimed ten times too small
    wrong, right = (profile(model, task, fit, "k", trusted=t) for t in (True, False))
    sizes = [p.interval[1] - p.interval[0] for p in (wrong, right)]
    assert sizes[1] > 5 * sizes[0]
    assert wrong.rise.max() == pytest.approx(float(right.rise.max()))


@pytest.mark.parametrize("days", [60, 240])
def test_the_default_grid_finds_the_ends(days):
    """A constant known to a thousandth: steps of a quarter of its value would see no interval at all."""
    model, task, fit = reservoir(days=days)
    by_default, fine = profile(model, task, fit, "k"), profile(model, task, fit, "k", np.linspace(0.0985, 0.1015, 61))
    widths = [p.interval[1] - p.interval[0] for p in (by_default, fine)]
    assert widths[0] == pytest.approx(widths[1], rel=0.03)


def test_profile_from_zero():
    """No factor changes a zero: the grid is made of shares of the range."""
    model, task, fit = reservoir()
    empty = replace(task, ranges={"storage": Range(0.0, 500.0, "mm")})
    at_zero = replace(fit, values={**fit.values, "storage": torch.zeros(1)})
    found = profile(model, empty, at_zero, "storage", rounds=0)
    assert float(found.grid[0]) == 0.0 and float(found.grid[-1]) == 500.0 and len(found.grid) > 5
    assert 5.0 <= found.best <= 50.0


def test_grid_points_that_failed_say_nothing():
    model, task, fit = reservoir()
    found = profile(model, task, fit, "k", np.linspace(0.098, 0.102, 7))
    lost = found.fits.chi2.clone()
    lost[-1] = torch.inf
    broken = replace(found.fits, parts={"discharge": lost}, chi2=lost)
    best = int(found.rise.argmin())
    pair = torch.tensor([best, len(found.grid) - 1])
    assert _profile("k", found.grid[pair], broken.take(pair), False, 0.95).interval == (-math.inf, math.inf)
    assert _profile("k", found.grid, broken, False, 0.95).interval[0] == found.interval[0]


def test_profile_of_an_initial_storage_and_of_what_stands_alone():
    model, task, fit = reservoir()
    found = profile(model, task, fit, "storage", [30.0, 38.0, 39.0, 41.0, 42.0, 50.0])
    assert found.closed == (True, True)
    assert found.interval[0] < 40.0 < found.interval[1]
    alone = least_squares(model, task.forcing.with_members(1), task.observed, {"k": 0.1, "storage": 40.0}, ("k",),
                          solver=SOLVER)  # fmt: skip
    found = profile(model, task, alone, "k", [0.09, 0.11])
    assert float(found.fits.values["storage"][0]) == 40.0
    assert found.rise[0] > 10.0


def test_profile_names_what_it_does_not_know():
    model, task, fit = reservoir()
    with pytest.raises(ConfigError, match="Did you mean 'storage'"):
        profile(model, task, fit, "storag")


def outflow(text: str, **constants: Range):
    """A store drained by a law alone, its task, and fits from several starts."""
    model, forcing = Balance(linear, outflow=FormulaLaw(text, constants)), record(160)
    truth = {n: r.default for n, r in constants.items()}
    run = simulate(model, forcing, theta=truth, storage0={"storage": 60.0}, solver=SOLVER)
    task = Task(forcing, [Observed("discharge", noisy(run.discharge), Gaussian(SIGMA))], {}, solver=SOLVER,
                ranges={"storage": Range(-500.0, 500.0, "mm")}, score=slice(20, 160), steps=20)  # fmt: skip
    starts = {n: v * torch.tensor([1.0, 1.02, 0.98]) for n, v in truth.items()} | {"storage": 60.0}
    fit = least_squares(model, forcing.with_members(3), task.observed, starts, (*truth, "storage"), solver=SOLVER,
                        ranges=task.ranges, score=task.score)  # fmt: skip
    return model, task, fit


EXPONENTIAL = "a*exp(b*storage)", {"a": Range(1e-4, 100.0, "mm/d", 0.3), "b": Range(0.001, 1.0, "1/mm", 0.04)}
POWER = "a*power(storage/w, n)", {"a": Range(0.01, 100.0, "mm/d", 2.0), "n": Range(0.5, 8.0, "1", 2.0),
                                  "w": Range(10.0, 100.0, "mm", 50.0)}  # fmt: skip


def test_the_zero_of_a_store_is_open_under_exponential_drainage():
    model, task, fit = outflow(EXPONENTIAL[0], **EXPONENTIAL[1])
    found = offset_profile(model, task, fit, "storage")
    assert found.closed == (False, False)
    assert float(found.rise.max()) < 0.5
    # starts beside each other end beside each other: their spread shows nothing of it
    storage = fit.values["storage"]
    assert float(storage.max() - storage.min()) < 0.2 * float(found.grid.max() - found.grid.min())
    # each shift was followed by the constant that undoes it
    a, b = found.fits.values["a"], found.fits.values["b"]
    moved = torch.log(a / a[0]) / b.mean()
    assert torch.allclose(moved, -(found.grid - found.grid[0]), rtol=0.02, atol=0.2)


def test_a_store_that_cannot_be_moved_is_known():
    """Only the initial storage is free, and forgotten by the middle of the record: no shift is reached."""
    model, task, _ = reservoir(days=400)
    fit = least_squares(model, task.forcing.with_members(1), task.observed, {"k": 0.1, "storage": 40.0}, ("storage",),
                        solver=SOLVER, ranges=task.ranges)  # fmt: skip
    found = offset_profile(model, task, fit, "storage", [-5.0, 5.0])
    assert float(found.grid.abs().max()) < 1e-3
    assert found.closed == (True, True)


def test_the_zero_of_a_store_is_known_under_power_drainage():
    model, task, fit = outflow(POWER[0], a=POWER[1]["a"], n=POWER[1]["n"], w=replace(POWER[1]["w"], fixed=True))
    member = int(fit.chi2.argmin())
    found = offset_profile(model, task, fit, "storage", [-20.0, -6.0, -2.0, 2.0, 6.0, 20.0], member=member)
    assert found.closed == (True, True)
    assert -20.0 < found.interval[0] < 0.0 < found.interval[1] < 20.0
    # the shifts are those that were reached
    runs = [run(model, task, best_of(found.fits, m)[1]).store("storage")[91, 0] for m in range(len(found.grid))]
    at = found.grid.abs().argmin()
    assert torch.allclose(torch.stack(runs) - runs[at], found.grid - found.grid[at], atol=1e-6)
    # the pin itself is not counted
    assert found.fits.counts == fit.counts
    assert float(found.fits.chi2.min()) == pytest.approx(float(fit.chi2[member]), rel=1e-4)


def test_storage_observations_close_the_profile():
    model, task, fit = outflow(EXPONENTIAL[0], **EXPONENTIAL[1])
    run = simulate(model, task.forcing, theta={"a": 0.3, "b": 0.04}, storage0={"storage": 60.0}, solver=SOLVER)
    seen = noisy(run.store("storage")[1:], 2.0, seed=1)
    seen[torch.arange(len(seen)) % 7 != 0] = torch.nan
    both = replace(task, observed=(*task.observed, Observed("storage", seen, Gaussian(2.0))))
    found = offset_profile(model, both, fit, "storage", [-20.0, -5.0, 5.0, 20.0])
    assert found.closed == (True, True)
    assert len(found.fits.parts) == 2


def spectrum_of(normal: torch.Tensor, values: dict[str, float], chi2: float = 10.0) -> LeastSquares:
    one = torch.ones(1)
    count = len(values)
    return LeastSquares(
        {n: v * one for n, v in values.items()}, tuple(values), torch.ones(1, count, dtype=torch.bool), chi2 * one,
        {"discharge": chi2 * one}, {"discharge": 10 + count}, normal[None], one.long(), one.bool(),
    )  # fmt: skip


def test_fisher_spectrum_names_the_direction_that_data_do_not_see():
    # only the product a * b is seen, to 1 %; c to 10 %
    log = torch.zeros(3, 3)
    log[:2, :2] = 1e4
    log[2, 2] = 1e2
    scale = torch.tensor([2.0, 0.5, 10.0])
    fit = spectrum_of(log / scale[:, None] / scale, {"a": 2.0, "b": 0.5, "c": 10.0})
    found = fisher_spectrum(fit)
    assert torch.allclose(found.eigenvalues, torch.tensor([2e4, 1e2, 0.0]), atol=1e-6)
    assert found.sloppy() == [2]
    assert sorted(found.direction(2).split()) == ["+0.71", "-0.71", "a", "b"]
    assert float(found.sd[1]) == pytest.approx(0.1)
    assert float(fisher_spectrum(spectrum_of(log, {"a": 1.0, "b": 1.0, "c": 1.0}, 40.0)).sd[1]) == pytest.approx(0.2)


def test_whitening_takes_correlation_and_size_from_the_residuals():
    model, task, fit = reservoir(correlation=0.8, days=1500, sigma=0.01)
    values = {n: float(v[0]) for n, v in fit.values.items()}
    loss = whitened(model, task, values).observed[0].loss
    assert loss.correlation == pytest.approx(0.8, abs=0.05)
    assert loss.sigma == pytest.approx(SIGMA, rel=0.1)
    again = residuals(model, whitened(model, task, values), values, white=True)[0]
    assert abs(lag_one(again)[0]) < 0.05
    assert float(again[~again.isnan()].std()) == pytest.approx(1.0, abs=0.05)
    assert lag_one(residuals(model, task, values)[0])[0] == pytest.approx(0.8, abs=0.05)


def test_observations_with_an_axis_for_members_are_no_table_of_differences():
    """(T, 1, basins) is the same as (T, basins), for values and for sigma."""
    model, task, fit = reservoir(correlation=0.6)
    values = {n: float(v[0]) for n, v in fit.values.items()}
    one = task.observed[0]
    for sigma in (SIGMA, torch.full((120, 1, 1), SIGMA), np.full((120, 1), SIGMA)):
        wide = replace(task, observed=[replace(one, values=one.values[:, None], loss=Gaussian(sigma))])
        found = residuals(model, wide, values)[0]
        assert found.shape == (120, 1)
        assert torch.allclose(found, residuals(model, task, values)[0])
    members = replace(task, observed=[replace(one, values=one.values[:, None].expand(-1, 3, -1))])
    with pytest.raises(ConfigError, match="differs between members"):
        residuals(model, members, values)


def test_edges_count_as_in_least_squares():
    """The first edge belongs to the first interval, every other to the interval it ends."""
    model, task, fit = reservoir()
    values = {n: float(v[0]) for n, v in fit.values.items()}
    edges = run(model, task, values).store("storage").clone()
    for score, count in ((slice(50, 100), 50), (slice(0, 100), 101)):
        both = replace(task, observed=[Observed("storage", edges, Gaussian(1.0))], score=score)
        assert int((~residuals(model, both, values)[0].isnan()).sum()) == count


def searched(correlation: float = 0.0, days: int = 150, solver=SOLVER):
    """Three laws for the outflow of a store, one of them true."""
    forcing = record(days)
    rate, share = Range(0.001, 1.0, "1/d", 0.05), Range(1e-5, 0.1, "1/(mm d)", 0.002)
    union = Union(linear, {"outflow": Library([
        Term("storage", {}, rate), Term("storage**2", {}, share),
        Term("w*power(storage/w, n)", {"n": Range(0.3, 3.0, "1", 1.2), "w": Range(10.0, 100.0, "mm", 40.0)}, rate),
    ])})  # fmt: skip
    run = simulate(Balance(linear), forcing, theta={"k": 0.1}, storage0={"storage": 40.0}, solver=AllAtOnce(substeps=8))
    observed = [Observed("discharge", noisy(run.discharge, correlation=correlation), Gaussian(SIGMA))]
    ranges = {"storage": Range(0.1, 500.0, "mm")}
    task = Task(forcing, observed, {"storage": 30.0}, ("storage",), solver=solver, ranges=ranges)
    return discover(union, None, task, starts=1, again=0), task


def test_a_law_that_data_determine_is_called_determined():
    found, task = searched()
    assert found.candidates[found.chosen] == ((0,),)
    model, ranged, fit, member = candidate(found, task)
    profiles = [profile(model, ranged, fit, "outflow_0", member=member)]
    offset = offset_profile(model, ranged, fit, "storage", member=member)
    said = verdict(found, task, "storage", profiles=profiles, offset=offset, halved=with_halved_steps(found, task))
    assert said.determined, said
    assert str(said).startswith("determined; ")
    assert said.visited[0] < said.visited[1]


def test_a_verdict_says_why_a_law_is_undetermined():
    found, task = searched(correlation=0.9)
    open_ = Profile("k", torch.zeros(1), torch.zeros(1), torch.zeros(1), 1.0, (-math.inf, 2.0), found.fits)
    said = verdict(found, task, "storage", profiles=[open_], offset=replace(open_, name="offset of storage"))
    assert not said.determined
    for words in ("k 1 (open to 2): open below", "up to a constant only", "were taken as independent"):
        assert any(words in reason for reason in said.reasons), said
    # whatever is within the margin, and differs
    every = replace(found, margin=math.inf)
    (said,) = [r for r in verdict(every, task, "storage").reasons if "rivals differ from" in r]
    assert said.startswith("outflow: ") and "of 2 rivals" in said and "(within " in said
    # of other laws nothing is said
    others = verdict(every, task, "storage", laws=[])
    assert not any("rivals differ" in r for r in others.reasons) and "mm in the run" in others.notes[-1]


def test_a_verdict_sees_that_the_choice_hangs_on_the_step():
    found, task = searched(solver=AllAtOnce(BACKWARD_EULER, warm_start=False))
    finer = with_halved_steps(found, task)
    assert set(finer.candidates) == set(found.candidates)
    other = replace(finer, criterion=torch.tensor([0.0, 100.0, 200.0]), chosen=0,
                    candidates=(((1,),), *(c for c in finer.candidates if c != ((1,),))))  # fmt: skip
    assert any("with steps halved" in r for r in verdict(found, task, "storage", halved=other).reasons)


def test_a_store_that_hardly_moves_shows_no_law():
    found, task = searched()
    calm = replace(
        task, forcing=replace(task.forcing, values={"prcp": torch.full_like(task.forcing.values["prcp"], 4.0)})
    )
    assert any("too narrow a range" in r for r in verdict(found, calm, "storage").reasons)


def test_a_ranking_by_score_is_not_taken_for_one_by_likelihood():
    found, task = searched()
    scored = preferred(found, -found.criterion, 1.0)
    assert scored.by_score and not found.by_score
    for again in (discover_again, with_halved_steps):
        with pytest.raises(ConfigError, match="decided by a score"):
            again(scored, task)
    plain = discover(found.union, None, task, starts=1, again=0, gamma=0.0)
    same = with_halved_steps(plain, task, factor=1)
    assert same.gamma == 0.0 and torch.allclose(same.criterion.sort().values, plain.criterion.sort().values, atol=0.1)


def test_how_much_of_a_run_is_beyond_what_was_known():
    model, forcing = Balance(linear), record(100)
    storm = forcing.values["prcp"].clone()
    storm[80] += 500.0
    forcing = replace(forcing, values={**forcing.values, "prcp": storm})
    simulation = simulate(model, forcing, theta={"k": 0.1}, storage0={"storage": 40.0}, solver=SOLVER)
    series = simulation.store("storage")[1:, 0]
    share = outside(simulation, slice(0, 60), slice(60, 100))["storage"]
    low, high = series[:60].min(), series[:60].max()
    assert float(share) == pytest.approx(float(((series[60:] > high) | (series[60:] < low)).double().mean()))
    assert 0.0 < float(share) < 1.0


def test_a_second_search_frees_refits_that_were_stuck():
    found, task = searched()
    stuck = discover(found.union, None, replace(task, steps=2), starts=1, again=0)
    freed = discover_again(stuck, task)
    assert set(freed.candidates) == set(found.candidates)
    at = [freed.candidates.index(c) for c in found.candidates]
    assert torch.all(freed.fits.chi2[at] <= found.fits.chi2 + 1e-2)
    # nothing that was found is lost
    at = [freed.candidates.index(c) for c in stuck.candidates]
    assert torch.all(freed.fits.chi2[at] <= stuck.fits.chi2)
