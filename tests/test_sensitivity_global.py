"""Global sensitivity against closed forms (Ishigami, linear), its definitions, and one basin or sample at a time."""

import itertools
import math
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
import xarray as xr
from tables import weather

from udehydro import Balance, ConfigError, Range, SolverError, StructureError, simulate
from udehydro.models import exphydro_mended
from udehydro.plot import png
from udehydro.plot.screening import delsa_curves, dominant, morris_plane, sobol_bars
from udehydro.plot.style import figure
from udehydro.sensitivity.delsa import delsa
from udehydro.sensitivity.response import Response, evaluate
from udehydro.sensitivity.screening import dgsm, morris, pawn, rank_agreement, sobol
from udehydro.sensitivity.space import Space
from udehydro.solvers import AllAtOnce

pytest.importorskip("SALib", reason="Morris, Sobol, DGSM and PAWN come from SALib")

A, B = 7.0, 0.1
WIDTH = 2.0 * math.pi
VARIANCE = A**2 / 8 + B * math.pi**4 / 5 + B**2 * math.pi**8 / 18 + 0.5
S1 = np.array([0.5 * (1 + B * math.pi**4 / 5) ** 2, A**2 / 8, 0.0]) / VARIANCE
S13 = 8 * B**2 * math.pi**8 / 225 / VARIANCE
ST = S1 + np.array([S13, 0.0, S13])
NU = np.array(
    [
        0.5 * (1 + 2 * B * math.pi**4 / 5 + B**2 * math.pi**8 / 9),  # E cos^2 x1 E (1 + b x3^4)^2
        0.5 * A**2,  # E (a sin 2 x2)^2
        8 * B**2 * math.pi**6 / 7,  # E (4 b x3^3)^2 E sin^2 x1
    ]
)
"""Of Ishigami, by hand: shares of variance, and mean squares of derivatives by x."""
INTERVALS = 2.0
"""How many 95 % intervals an estimate may be off: some four standard deviations, for the fixed seeds here."""


def ishigami(x):
    return torch.sin(x["x1"]) + A * torch.sin(x["x2"]) ** 2 + B * x["x3"] ** 4 * torch.sin(x["x1"])


CUBE = Space({n: Range(-math.pi, math.pi, "1") for n in ("x1", "x2", "x3")})


def close(found, name, expected):
    assert (abs(found[name].values - expected) <= INTERVALS * found[f"{name}_conf"].values + 1e-12).all()


def test_sobol_of_ishigami():
    found = sobol(ishigami, CUBE, samples=1024)
    close(found, "S1", S1)
    close(found, "ST", ST)
    assert found.attrs["runs"] == 1024 * 5 and int(found.failed) == 0
    assert (found.ST_conf < 0.15).all(), "an interval so wide would prove nothing"
    again, other = sobol(ishigami, CUBE, samples=64, seed=3), sobol(ishigami, CUBE, samples=64, seed=4)
    assert again.identical(sobol(ishigami, CUBE, samples=64, seed=3)) and not again.ST.equals(other.ST)


def test_morris_of_ishigami():
    """Every pair of levels half the range apart is as likely, the other factors being at any of the four levels."""
    levels = torch.linspace(-math.pi, math.pi, 4)
    effects = []
    for k in range(3):
        for low, others in itertools.product((0, 1), itertools.product(range(4), repeat=2)):
            at = [list(others[:k]) + [i] + list(others[k:]) for i in (low, low + 2)]
            ends = [ishigami(dict(zip(CUBE.names, levels[torch.tensor(i)], strict=True))) for i in at]
            effects.append((ends[1] - ends[0]) / (2 / 3))
    effects = torch.stack(effects).reshape(3, -1)
    found = morris(ishigami, CUBE, trajectories=512)
    close(found, "mu_star", effects.abs().mean(1).numpy())
    # a mean of 512 effects is off by no more than four of its standard deviations
    assert (abs(found.mu.values - effects.mean(1).numpy()) < 4 * effects.std(1).numpy() / math.sqrt(512)).all()
    # and their standard deviation by no more than that of a bounded quantity of this spread
    assert found.sigma.values == pytest.approx(effects.std(1, correction=0).numpy(), rel=0.1)


def test_mean_squares_of_derivatives_of_ishigami():
    """Differences are off by what a step of 1 % does, besides sampling; exact derivatives by sampling alone."""
    exact, differences = delsa(ishigami, CUBE, samples=1024), dgsm(ishigami, CUBE, samples=1024)
    for found in (exact, differences):
        close(found, "nu", NU * WIDTH**2)
    bound = NU * WIDTH**2 / (math.pi**2 * VARIANCE)
    close(exact, "bound", bound)
    assert (bound >= ST).all() and (exact.bound - exact.bound_conf > ST).all()


def test_local_shares_are_those_of_closed_form_derivatives():
    found = delsa(ishigami, CUBE, samples=64, quantiles=(0.5,))
    x1, x2, x3 = found.point.values.T
    d = np.stack(
        [np.cos(x1) * (1 + B * x3**4), A * np.sin(2 * x2), 4 * B * x3**3 * np.sin(x1)],
        axis=1,
    )
    assert np.allclose(found.derivative, d * WIDTH, rtol=1e-12, atol=1e-12)
    local = d**2 / (d**2).sum(1, keepdims=True)  # the ranges are alike, and so are the prior variances
    assert np.allclose(found.local, local, rtol=1e-10, atol=1e-13)
    assert np.allclose(found["mean"], local.mean(0)) and np.allclose(found.quantiles[0], np.median(local, 0), atol=0.05)
    assert np.allclose(found.value, ishigami(dict(zip(CUBE.names, torch.tensor(found.point.values).T, strict=True))))


SLOPES = {"a": 3.0, "b": -0.2, "c": 0.0}
RANGES = {"a": Range(0.0, 1.0, "m"), "b": Range(10.0, 50.0, "s"), "c": Range(-1.0, 1.0, "1")}


def linear(x):
    return sum(SLOPES[n] * v for n, v in x.items())


def test_linear_function():
    """Shares are those of (slope x width)^2, locally and globally; nu is exact, the bound is 12 / pi^2 times that."""
    space = Space(RANGES)
    wide = np.array([SLOPES[n] * (r.high - r.low) for n, r in RANGES.items()])
    share = wide**2 / (wide**2).sum()
    found = delsa(linear, space, samples=64)
    assert np.allclose(found.local, share, atol=1e-14) and np.allclose(found.nu, wide**2, atol=1e-12)
    # the variance is that of 64 points of a balanced design
    assert np.allclose(found.bound, 12 / math.pi**2 * share, rtol=0.05)
    close(sobol(linear, space, samples=256), "ST", share)
    effects = morris(linear, space, trajectories=4)
    assert np.allclose(effects.mu, wide, atol=1e-12) and np.allclose(effects.sigma, 0.0, atol=1e-12)


def test_logarithmic_ranges_are_sampled_and_differentiated_in_the_logarithm():
    space = Space({"k": Range(1e-3, 10.0, "1/d"), "b": Range(0.0, 1.0, "1")})
    k = space.values(space.sample(256, 0))["k"]
    assert abs(float((k < 0.1).double().mean()) - 0.5) < 0.01  # 0.1 halves the range
    found = delsa(lambda x: torch.log(x["k"]) + 0.0 * x["b"], space, samples=16)
    assert np.allclose(found.derivative.sel(factor="k"), math.log(1e4)) and bool(found.logarithmic[0])
    assert np.allclose(found.local.sel(factor="k"), 1.0)
    assert float(morris(lambda x: torch.log(x["k"]), space, trajectories=4).mu[0]) == pytest.approx(math.log(1e4))


def test_pawn_ranks():
    """Of Ishigami x2 moves the distribution most (published), and a factor that does nothing moves it least."""
    space = Space({**CUBE.ranges, "nothing": Range(0.0, 1.0, "1")})
    found = pawn(ishigami, space, samples=2048)
    order = found["median"].sortby(found["median"], ascending=False).factor.values
    assert list(order[:2]) == ["x2", "x1"] and order[-1] == "nothing"
    assert (found["median"] <= found["maximum"]).all() and float(found["maximum"].max()) <= 1.0


def test_several_outputs_are_analysed_one_by_one():
    def both(x):
        return torch.stack([ishigami(x), torch.sin(x["x2"])], 1)

    for method, options in ((sobol, {"samples": 64}), (morris, {"trajectories": 8}), (delsa, {"samples": 64})):
        whole, alone = method(both, CUBE, **options), method(ishigami, CUBE, **options)
        for name in alone.data_vars:
            part = whole[name].isel(output_0=0) if "output_0" in whole[name].dims else whole[name]
            assert np.allclose(part, alone[name], equal_nan=True), name


RECORD = weather(120, 3, seed=5)
MODEL = Balance(exphydro_mended)
START = {"snow": 10.0, "soil": 300.0}
SOLVER = AllAtOnce(warm_start=False, tolerance=1e-12)
OBJECTIVES = {
    "mean": lambda s: s.discharge[40:].mean(0),
    "high": lambda s: s.discharge[40:].amax(0),
}
SPACE = Space.of(MODEL, {"smax": Range(100.0, 900.0, "mm")}, without=("tmax",))
MORE = {"soil": Range(0.0, 200.0, "mm"), "times_prcp": Range(0.8, 1.2, "1"), "added_to_temp": Range(-1.0, 1.0, "degC")}


def response(**changes) -> Response:
    options = {"storage0": START, "solver": SOLVER} | changes
    return Response(MODEL, options.pop("forcing", RECORD), options.pop("objective", OBJECTIVES), **options)


def test_a_sample_is_a_run():
    """Of parameters, initial storages and errors of the forcing; what is not varied keeps its value, also in time."""
    space = Space.of(MODEL, MORE, without=("ddf",))
    ddf = 2.0 + torch.rand(len(RECORD), 3)
    unit = space.sample(4, 0)
    found, _ = evaluate(response(theta={"ddf": ddf, "tau": 0.5}), space, unit)
    assert found.shape == (4, 2, 3)
    values = space.values(unit)
    for i in range(4):
        one = {n: float(v[i]) for n, v in values.items()}
        series = dict(RECORD.values)
        series["prcp"], series["temp"] = series["prcp"] * one["times_prcp"], series["temp"] + one["added_to_temp"]
        forcing = type(RECORD)(series, RECORD.units, RECORD.time_edge)
        theta = {n: one[n] for n in exphydro_mended.parameters if n in one} | {"ddf": ddf, "tau": 0.5}
        run = simulate(MODEL, forcing, theta=theta, storage0={"snow": 10.0, "soil": one["soil"]}, solver=SOLVER)
        # solver tolerance
        assert torch.allclose(found[i], torch.stack([o(run) for o in OBJECTIVES.values()]), atol=1e-9)


def test_storages_by_spin_up_and_as_a_tensor():
    """Without storages every sample repeats its own first year, as a run of its own does."""
    unit = SPACE.sample(2, 1)
    found, _ = evaluate(response(storage0=None, objective=OBJECTIVES["mean"]), SPACE, unit)
    one = {n: float(v[1]) for n, v in SPACE.values(unit).items()} | {"tmax": 1.0}
    alone = simulate(MODEL, RECORD, theta=one, solver=SOLVER).discharge[40:].mean(0)
    assert torch.allclose(found[1], alone, atol=1e-9)
    given, _ = evaluate(response(), SPACE, unit)
    tensor, _ = evaluate(response(storage0=torch.tensor([10.0, 300.0]).expand(3, 2)), SPACE, unit)
    assert torch.equal(given, tensor)
    with_factor = Space({"snow": Range(10.0, 10.1, "mm"), **SPACE.ranges})
    several, _ = evaluate(
        response(storage0=torch.tensor([0.0, 300.0]).expand(3, 2)), with_factor, torch.nn.functional.pad(unit, (1, 0))
    )
    assert torch.allclose(several, given, atol=1e-9)


def test_derivatives_are_those_of_differences():
    space = Space.of(MODEL, MORE)
    unit = 0.1 + 0.8 * space.sample(4, 2)
    _, found = evaluate(response(), space, unit, gradient=True)
    assert found.shape == (4, len(space), 2, 3)
    step = 1e-5
    for k in range(len(space)):
        sides = [unit.clone() for _ in range(2)]
        for side, sign in zip(sides, (1, -1), strict=True):
            side[:, k] += sign * step
        ends = [evaluate(response(), space, side)[0] for side in sides]
        central = (ends[0] - ends[1]) / (2 * step)
        # curvature of a step of 1e-5 and kinks of melt-out days, which move a maximum or mean of 300 days little
        assert torch.allclose(found[:, k], central, rtol=1e-4, atol=1e-5), space.names[k]


@pytest.mark.parametrize("method", [sobol, delsa])
def test_a_basin_is_analysed_as_if_alone_and_batches_do_not_matter(method):
    options = {"samples": 16}
    whole = method(response(), SPACE, **options)
    assert whole.failed.dims == ("objective", "basin") and list(whole.basin.values) == ["b0", "b1", "b2"]
    values = {n: v[..., 1:2] for n, v in RECORD.values.items()}
    forcing = type(RECORD)(values, RECORD.units, RECORD.time_edge, ("b1",))
    alone = method(response(forcing=forcing), SPACE, **options).isel(basin=0)
    small = response(memory=1e-3)
    assert 1 <= small.most(gradient=False) < 16
    parts = method(small, SPACE, **options)
    unnamed = type(RECORD)({n: v[..., 0] for n, v in values.items()}, RECORD.units, RECORD.time_edge)
    single = method(response(forcing=unnamed, objective=OBJECTIVES["high"]), SPACE, **options)
    for name, value in whole.data_vars.items():
        if "basin" in value.dims:
            value = value.sel(basin="b1")
        # a Newton iteration more or less, for 1e-12 mm; intervals of ratios magnify it
        tight = {"rtol": 1e-7, "atol": 1e-9}
        assert np.allclose(value, alone[name], **tight), name
        assert np.allclose(value, parts[name].isel(basin=1) if "basin" in parts[name].dims else parts[name], **tight)
        last = value.sel(objective="high") if "objective" in value.dims else value
        assert np.allclose(last, single[name], **tight), name


def test_the_bound_is_above_the_total_index_of_a_model():
    """With half of the intervals of both, as either is an estimate."""
    model = response(objective=OBJECTIVES["mean"])
    total, local = sobol(model, SPACE, samples=64), delsa(model, SPACE, samples=64)
    assert (local.bound + local.bound_conf >= total.ST - total.ST_conf).all()
    assert bool((total.ST.max("factor") > 0.3).all()), "nothing to be above"


@dataclass(frozen=True)
class Failing:
    """A solver that cannot run buckets beyond a size, in the second basin."""

    solver: AllAtOnce
    beyond: float
    told: bool = True
    calls: list = field(default_factory=list)

    def __call__(self, problem, storage0):
        smax = problem.theta[problem.model.parameter_names.index("smax")].detach()
        bad = smax.expand(problem.batch).clone() > self.beyond
        bad[:, [0, 2]] = False
        self.calls.append(problem.batch)
        if bool(bad.any()):
            raise SolverError("no solution", failed=bad if self.told else None)
        return self.solver(problem, storage0)


def test_failed_runs_are_counted_and_the_others_kept():
    good, bad = response(), response(solver=Failing(SOLVER, 800.0))
    unit = SPACE.sample(16, 0)
    expected = SPACE.values(unit)["smax"] > 800.0
    (values, _), (found, slopes) = evaluate(good, SPACE, unit), evaluate(bad, SPACE, unit, gradient=True)
    lost = found.isnan()
    assert torch.equal(lost[:, 0, 1], expected) and torch.equal(lost[:, 1, 1], expected)
    assert not bool(lost[..., [0, 2]].any()) and torch.allclose(found[~lost], values[~lost], atol=1e-9)
    assert torch.equal(slopes.isnan(), lost.unsqueeze(1).expand_as(slopes))
    whole, some = (sobol(r, SPACE, samples=16) for r in (good, bad))
    assert (some.failed.sel(basin="b1") > 0).all() and (some.failed.sel(basin=["b0", "b2"]) == 0).all()
    assert np.allclose(whole.ST.sel(basin="b0"), some.ST.sel(basin="b0")) and bool(some.ST.notnull().all())
    assert int(delsa(bad, SPACE, samples=16).failed.sel(basin="b1", objective="mean")) == int(expected.sum())
    half = sobol(response(solver=Failing(SOLVER, 550.0)), SPACE, samples=16)
    assert bool(half.ST.sel(basin="b1").isnull().all()) and bool(half.ST.sel(basin="b0").notnull().all())
    for method, options in (
        (morris, {"trajectories": 16, "levels": 8}),
        (dgsm, {"samples": 16}),
        (pawn, {"samples": 32, "slices": 4}),
    ):
        few = method(bad, SPACE, **options)
        assert (few.failed.sel(basin="b1") > 0).all()
        assert all(bool(v.notnull().all()) for v in few.data_vars.values())


def test_a_solver_that_does_not_say_what_failed_or_fails_at_defaults_is_heard():
    unit = SPACE.sample(32, 0)
    for solver in (Failing(SOLVER, 800.0, told=False), Failing(SOLVER, 400.0)):  # the default is 500 mm
        with pytest.raises(SolverError, match="no solution"):
            evaluate(response(solver=solver), SPACE, unit)


def test_a_result_that_never_varies_has_no_shares():
    def still(x):
        return 0.0 * x["x1"] + 5.0

    for method in (sobol, morris, dgsm, pawn, delsa):
        found = method(still, CUBE, **({"trajectories": 8} if method is morris else {"samples": 128}))
        name = {sobol: "ST", morris: "mu_star", dgsm: "bound", pawn: "median", delsa: "bound"}[method]
        assert bool(found[name].isnull().all())


def test_ranks():
    a = xr.DataArray([[1.0, 2.0, 3.0], [1.0, 2.0, 2.0]], dims=("basin", "factor")).T
    b = xr.DataArray([[10.0, 20.0, 30.0], [5.0, 5.0, 5.0]], dims=("basin", "factor")).T
    assert rank_agreement(a, b).values == pytest.approx([1.0, np.nan], nan_ok=True)
    assert rank_agreement(a, -a).values == pytest.approx([-1.0, -1.0])
    with pytest.raises(ConfigError, match="factor"):
        rank_agreement(a.isel(factor=0), b.isel(factor=0))


def test_the_random_state_of_numpy_is_left_alone():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    dgsm(ishigami, CUBE, samples=16)
    assert (np.random.get_state()[1] == before).all()


def test_results_are_written_and_read_again(tmp_path):
    for found in (sobol(response(), SPACE, samples=4), delsa(ishigami, CUBE, samples=4)):
        found.to_netcdf(tmp_path / "found.nc", engine="h5netcdf")
        with xr.open_dataset(tmp_path / "found.nc", engine="h5netcdf") as again:
            xr.testing.assert_allclose(again.load(), found)


def test_without_salib(monkeypatch):
    monkeypatch.setitem(sys.modules, "SALib.sample.sobol", None)
    with pytest.raises(ConfigError, match=r"udehydro\[sensitivity\]"):
        sobol(ishigami, CUBE, samples=4)


def test_points_without_finite_derivatives_are_left_out():
    """A root, whose slope at zero is infinite: as of scores of a run without variance."""
    found = delsa(lambda x: (x["x1"] * (x["x1"] > 0.0)).sqrt() + x["x2"], CUBE, samples=64)
    assert int(found["failed"]) == int((found["point"].sel(factor="x1") <= 0.0).sum()) == 32
    assert np.isfinite(found["nu"]).all() and np.isfinite(found["bound"]).all() and np.isfinite(found["mean"]).all()
    assert float(found["nu"].sel(factor="x2")) == pytest.approx((2.0 * math.pi) ** 2, rel=1e-12)


def test_the_bound_of_a_line():
    """Its only factor has nu = 1 and variance 1 / 12 by the share of the range: 12 / pi^2."""
    found = dgsm(lambda x: x["x1"] / (2.0 * math.pi), CUBE, samples=256)
    assert float(found["nu"][0]) == pytest.approx(1.0, rel=1e-9)
    # the variance of 256 points of a Sobol sequence is good to a percent
    assert float(found["bound"][0]) == pytest.approx(12.0 / math.pi**2, rel=0.02)


def test_round_off_is_no_variance():
    found = sobol(lambda x: 3.0 + 1e-15 * x["x1"] + 0.0 * x["x2"], CUBE, samples=64)
    assert np.isnan(found["ST"]).all() and int(found["failed"]) == 0


BAD = {
    "no power of two": (lambda: sobol(ishigami, CUBE, samples=100), "power of two"),
    "one sample": (lambda: delsa(ishigami, CUBE, samples=1), "power of two"),
    "slices": (lambda: pawn(ishigami, CUBE, samples=64, slices=10), "slices"),
    "edges of slices": (lambda: pawn(ishigami, CUBE, slices=6), "slices"),
    "levels": (lambda: morris(ishigami, CUBE, levels=5), "even"),
    "no factor": (lambda: Space({}), "there is none"),
    "no range": (lambda: Space({"a": (0.0, 1.0)}), "Range"),
    "left out": (lambda: Space.of(MODEL, without=("smxa",)), "smax"),
    "unknown factor": (lambda: evaluate(response(), Space({"smxa": RANGES["a"]}), torch.rand(2, 1)), "smax"),
    "storage missing": (
        lambda: evaluate(response(storage0=None), Space({"soil": RANGES["b"]}), torch.rand(2, 1)),
        "snow",
    ),
    "members": (lambda: response(forcing=RECORD.with_members(2)), "members"),
    "no objective": (lambda: response(objective={}), "objective"),
    "objective": (lambda: evaluate(response(objective=lambda s: s.discharge), SPACE, SPACE.sample(2, 0)), "shape"),
    "number": (lambda: evaluate(response(objective=lambda s: 1.0), SPACE, SPACE.sample(2, 0)), "is a float"),
    "rows": (lambda: delsa(lambda x: x["x1"].sum(), CUBE, samples=4), "row for each"),
    "not torch": (lambda: sobol(lambda x: x["x1"].numpy(), CUBE, samples=4), "ndarray"),
    "no derivative": (lambda: delsa(lambda x: x["x1"].detach(), CUBE, samples=4), "differentiated"),
    "figure of another method": (lambda: sobol_bars(morris(ishigami, CUBE, trajectories=4)), "Morris"),
    "figure of several": (lambda: sobol_bars(sobol(response(), SPACE, samples=4)), "basin"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    act, words = BAD[case]
    with pytest.raises(ConfigError, match=words):
        act()


def test_unknown_fixed_parameters_are_refused():
    with pytest.raises(StructureError, match="smxa"):
        evaluate(response(theta={"smxa": 3.0}), SPACE, SPACE.sample(2, 0))


def test_nothing_lies_on_top_of_anything():
    """Long names of factors, and the legend of a plane whose corners hold points."""
    names = [f"added_to_forcing_{i}" for i in range(8)]
    line = np.linspace(0.0, 1.0, 8)
    measures = dict.fromkeys(("S1", "ST", "mu_star", "sigma"), ("factor", line))
    spread = dict.fromkeys(("S1_conf", "ST_conf", "mu_star_conf"), ("factor", 0.0 * line))
    found = xr.Dataset(measures | spread, {"factor": names})
    bars, plane = sobol_bars(found), morris_plane(found)
    assert png(bars) and png(plane)
    labels = bars.axes[0].get_xticklabels()
    assert {t.get_rotation() for t in labels} == {30.0}
    (legend,) = plane.legends
    assert legend.get_window_extent().x0 > plane.axes[0].get_window_extent().x1


def test_figures():
    one = {"title": "Ishigami"}
    figures = [
        sobol_bars(sobol(ishigami, CUBE, samples=16), **one),
        morris_plane(morris(ishigami, CUBE, trajectories=4), **one),
        delsa_curves(delsa(ishigami, CUBE, samples=16), **one),
        figure(),
    ]
    dominant(figures[-1].subplots(), [1.0, 2.0], [1.0, 2.0], ["x1", ""], order=CUBE.names)
    assert all(png(f, dpi=40)[:4] == b"\x89PNG" for f in figures)
    assert [t.get_text() for t in figures[-1].axes[0].get_legend().get_texts()] == ["x1 (1)", "x2 (0)", "x3 (0)"]
