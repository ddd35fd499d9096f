"""Forward sensitivities and information: against differences, the adjoint, autograd, closed forms, scatter of fits."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from tables import CASES, weather

from udehydro import Balance, ConfigError, FormulaLaw, Range, simulate
from udehydro import plot as figures
from udehydro.discovery import Spectrum as of_discovery
from udehydro.discovery import fisher_spectrum
from udehydro.models import linear
from udehydro.plot import png
from udehydro.plot.adjoint import _calendar, _day, _elasticities
from udehydro.plot.flood import _said
from udehydro.plot.information import _edges
from udehydro.sensitivity import adjoint, flood_peak, volume
from udehydro.sensitivity.forward import _series, forward
from udehydro.sensitivity.information import Information, Spectrum, fisher, fisher_windows
from udehydro.solvers import BACKWARD_EULER, AllAtOnce, Torchdiffeq
from udehydro.training import Observed
from udehydro.training.gaussian import Gaussian
from udehydro.training.least_squares import least_squares

SOLVER = AllAtOnce(warm_start=False, tolerance=1e-12)
RECORD = weather(120, 2, seed=3)
NAMES = {
    "exphydro_mended": ("smax", "f", "qmax", "ddf", "tmin", "soil"),
    "hbv": ("beta", "fc", "k1", "lp", "cfmax", "uzl", "upper"),
    "gr4j": ("x1", "x2", "x3", "x4", "routing"),
    "et: Fraction of pet": ("smax", "f", "qmax", "ddf", "soil"),
}
BY_NAME = {c.name: c for c in CASES}


def posed(name: str, record=RECORD):
    case = BY_NAME[name]
    model = case.build(0, 1.0)
    batch = record.batch
    theta = {n: v[: batch[-1]] if batch else v[0] for n, v in case.parameters(model).items()}
    start = {n: v[: batch[-1]] if batch else v[0] for n, v in case.start().items()}
    return model, theta, start


def found(name: str, record=RECORD, names=None):
    model, theta, start = posed(name, record)
    return forward(model, record, names or NAMES[name], theta=theta, storage0=start, solver=SOLVER)


@pytest.fixture
def bucket():
    return found("exphydro_mended")


def reservoir(days: int = 60, k: float = 0.1, storage: float = 40.0, rain: float = 1.0):
    """A linear reservoir by backward Euler with steps of one day, no batch."""
    record = weather(days, 1)
    record = replace(record, values={n: rain * v[:, 0] for n, v in record.values.items()}, basins=())
    solver = AllAtOnce(BACKWARD_EULER, warm_start=False, tolerance=1e-12)
    return forward(Balance(linear), record, ("k", "storage"), theta={"k": k}, storage0={"storage": storage},
                   solver=solver)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_trajectories_agree_with_central_differences(name):
    model, theta, start = posed(name)
    got = found(name)
    steps = torch.tensor([1e-3, 1e-4, 1e-5])
    sides = torch.cat([steps, -steps])
    many = RECORD.with_members(len(sides))
    kinks = count = 0
    for i, moved in enumerate(NAMES[name]):
        value = {**theta, **start}[moved]
        size = value.abs().clamp_min(0.1)
        here = {n: v.expand(len(sides), -1) for n, v in {**theta, **start}.items()}
        here[moved] = value + sides[:, None] * size
        with torch.no_grad():
            run = simulate(model, many, theta={n: here[n] for n in theta}, storage0={n: here[n] for n in start},
                           solver=SOLVER)  # fmt: skip
        for series in (*model.store_names, "discharge", *model.flux_names):
            values, base = (_series(r, series) for r in (run, got.run))
            up, down = values.unflatten(1, (2, -1)).unbind(1)
            h = (steps[:, None] * size)[None]
            central, bend = (up - down) / (2 * h), (up + down - 2 * base[:, None]) / h
            # a smooth function bends ten times less where the step is ten times smaller, a kink does not
            kink = (bend[:, 2].abs() > 0.3 * bend[:, 1].abs()) & (bend[:, 2].abs() > 1e-6 * central[:, 2].abs())
            expected = got.of(series)[i]
            scale = base.abs() / size + expected.abs() + 1e-3
            error = ((central - expected[:, None]).abs() / scale[:, None]).amin(1)
            # round-off of differences: 1e-16 / 1e-4; truncation, where that is large, 1e-5 squared
            assert float(error[~kink].max()) < 1e-7, (moved, series)
            kinks, count = kinks + int(kink.sum()), count + kink.numel()
    assert kinks < 0.1 * count


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_adjoint_transposed(name):
    """sum_t w_t dQ_t/dtheta is the derivative of sum_t w_t Q_t; the same of the storages."""
    model, theta, start = posed(name)
    weight = torch.randn(3, *RECORD.values["prcp"].shape, generator=torch.Generator().manual_seed(0))

    def summed(run):
        return sum((w * run.store(n)[1:]).sum(-2) for n, w in zip(model.store_names[:2], weight[1:], strict=False)) + (
            weight[0] * run.discharge
        ).sum(-2)

    back = adjoint(model, RECORD, summed, theta=theta, storage0=start, solver=SOLVER)
    got = found(name)
    by_forward = sum(
        (w * got.of(n)).sum(1) for n, w in zip(("discharge", *model.store_names[:2]), weight, strict=False)
    )
    by_adjoint = torch.stack([(back.parameters | back.storage0)[n] for n in NAMES[name]])
    # both are exact for the discrete run, so only round-off of sums over 120 days is left
    assert torch.allclose(by_forward, by_adjoint, rtol=1e-10, atol=1e-10 * float(by_adjoint.abs().max()))


def test_a_basin_is_what_it_is_alone(bucket):
    alone = replace(RECORD, values={n: v[:, 0] for n, v in RECORD.values.items()}, basins=())
    one = found("exphydro_mended", alone)
    assert one.discharge.shape == (6, 120) and bucket.discharge.shape == (6, 120, 2)
    assert torch.allclose(bucket.discharge[..., 0], one.discharge, rtol=1e-9, atol=1e-14)
    both, single = (f.information(0.1) for f in (bucket, one))
    assert both.matrix.shape == (2, 6, 6) and single.matrix.shape == (6, 6)
    for read in (Information.sd, Information.content, Information.collinearity, lambda i: i.spectrum().sd):
        assert torch.allclose(read(both)[0], read(single), rtol=1e-6)
    assert both.spectrum()[0].direction(0) and both.spectrum()[0].sloppy(0.0)
    members = found("exphydro_mended", RECORD.with_members(3)).information(0.1)
    assert members.matrix.shape == (3, 2, 6, 6) and torch.allclose(members.matrix[1], both.matrix, rtol=1e-9)
    assert members.sd().shape == (3, 2, 6) and len(members.collinearities(2)) == 15


def test_a_parameter_that_varies_in_time_is_moved_at_all_times(bucket):
    model, theta, start = posed("exphydro_mended")
    theta["f"] = theta["f"] * torch.linspace(0.9, 1.1, 120)[:, None]
    got = forward(model, RECORD, "f", theta=theta, storage0=start, solver=SOLVER)
    assert torch.allclose(got.values[:, 0], theta["f"].mean(0))
    h = 1e-7
    up, down = (simulate(model, RECORD, theta={**theta, "f": theta["f"] + s * h}, storage0=start, solver=SOLVER)
                for s in (1, -1))  # fmt: skip
    central = (up.discharge - down.discharge) / (2 * h)
    assert torch.allclose(got.discharge[0], central, rtol=1e-5, atol=1e-6 * float(central.abs().max()))


def test_scaled_and_relative(bucket):
    value = torch.stack([bucket.run.theta["smax"], bucket.run.theta["f"]])[:, None]
    assert torch.equal(bucket.scaled()[:2], bucket.discharge[:2] * value)
    assert torch.equal(bucket.elasticity()[:2], bucket.discharge[:2] * value / bucket.run.discharge)
    smax, _, _, ddf, tmin, _ = bucket.scaled(by="range")
    ranges = bucket.run.model.structure.parameters
    assert torch.allclose(smax, bucket.discharge[0] * (ranges["smax"].high - ranges["smax"].low))
    assert torch.allclose(tmin, bucket.discharge[4] * (ranges["tmin"].high - ranges["tmin"].low))
    assert ranges["ddf"].logarithmic  # derivative by the share of the range
    span = bucket.values[:, 3] * np.log(ranges["ddf"].high / ranges["ddf"].low)
    assert torch.allclose(ddf, bucket.discharge[3] * span)
    by = bucket.scaled("et", dict.fromkeys(bucket.names, 2.0))
    assert torch.allclose(by, 2.0 * bucket.rate("et"))
    assert torch.equal(bucket.of("soil"), bucket.storage["soil"][:, 1:])


def test_fisher_is_that_of_autograd():
    record = weather(50, 2, seed=1)
    model, theta, start = posed("exphydro_mended", record)
    names, sigma = ("smax", "f", "ddf"), 0.1 + 0.05 * record.values["prcp"]
    got = forward(model, record, names, theta=theta, storage0=start, solver=SOLVER).information(sigma)

    def flow(x):
        return simulate(model, record, theta={**theta, **dict(zip(names, x, strict=True))}, storage0=start,
                        solver=SOLVER).discharge / sigma  # fmt: skip

    x = torch.stack([theta[n] for n in names])
    jacobian = torch.autograd.functional.jacobian(flow, x)  # (T, B, P, B)
    for b in range(2):
        j = jacobian[:, b, :, b]
        assert torch.allclose(got.matrix[b], j.T @ j, rtol=1e-9)


def test_errors_of_logarithms_and_correlated_ones(bucket):
    flow = bucket.run.discharge
    slope = 1.0 / (flow + 0.1) / 0.2
    plain = bucket.information(Gaussian(0.2, log_offset=0.1))
    assert torch.allclose(plain.matrix, fisher(bucket.discharge * slope), rtol=1e-12)
    # the covariance of an AR(1) series written out: sigma^2 rho^|i - j|
    lag = (torch.arange(120)[:, None] - torch.arange(120)).abs()
    inverse = torch.linalg.inv(0.2**2 * 0.8**lag)
    j = bucket.discharge[..., 0]
    found_ = bucket.information(Gaussian(0.2, correlation=0.8)).matrix[0]
    assert torch.allclose(found_, j @ inverse @ j.T, rtol=1e-10)


def test_what_is_missing_counts_for_nothing(bucket):
    observed = bucket.run.discharge.clone()
    observed[10:40, 0] = torch.nan
    got = bucket.information(0.1, observed=observed)
    kept = torch.cat([torch.arange(10), torch.arange(40, 120)])
    assert torch.allclose(got.matrix[0], fisher(bucket.discharge[:, kept, 0] / 0.1), rtol=1e-12)
    assert torch.equal(got.matrix[1], bucket.information(0.1).matrix[1])
    first, last = str(RECORD.time[40])[:10], str(RECORD.time[99])[:10]
    part = bucket.information(0.1, observed=observed.numpy(), within=(first, last))
    assert torch.allclose(part.matrix, fisher(bucket.discharge[:, 40:100] / 0.1), rtol=1e-12)
    days = torch.full((120,), torch.nan).index_fill(0, kept, 1.0)  # gaps of all basins
    assert torch.allclose(bucket.information(0.1, observed=days).matrix[1], fisher(bucket.discharge[:, kept, 1] / 0.1))
    stores = bucket.information(2.0, "soil")
    assert torch.allclose(stores.matrix, fisher(bucket.storage["soil"][:, 1:] / 2.0))


def test_covariance_of_a_reservoir_in_closed_form():
    """A recession by backward Euler, Q_n = k S a^n with a = 1 / (1 + k), n = 1 .. N."""
    k, storage, n = 0.1, 40.0, 60
    got = reservoir(n, k, storage, rain=0.0)
    a, i = 1.0 / (1.0 + k), np.arange(1, n + 1)
    by_k, by_storage = storage * a**i * (1.0 - k * i * a), k * a**i
    assert np.allclose(got.discharge, [by_k, by_storage], rtol=1e-9)
    sums = [(by_k**2).sum(), (by_k * by_storage).sum(), k**2 * a**2 * (1.0 - a ** (2 * n)) / (1.0 - a**2)]
    determinant = sums[0] * sums[2] - sums[1] ** 2
    expected = 0.05**2 / determinant * np.array([[sums[2], -sums[1]], [-sums[1], sums[0]]])
    information = got.information(0.05)
    assert np.allclose(information.covariance(), expected, rtol=1e-8)
    assert np.allclose(information.sd(), np.sqrt(np.diag(expected)), rtol=1e-8)
    assert np.allclose(information.relative_sd(), np.sqrt(np.diag(expected)) / [k, storage], rtol=1e-8)
    correlation = -sums[1] / np.sqrt(sums[0] * sums[2])
    assert float(information.correlation()[0, 1]) == pytest.approx(correlation, rel=1e-8)
    # of two columns, the smallest eigenvalue of the normalised products is 1 - |cos|
    assert float(information.collinearity()) == pytest.approx((1.0 - abs(correlation)) ** -0.5, rel=1e-8)


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_covariance_predicts_the_scatter_of_fits(correlation):
    """400 fits to noise of 0.05 mm/d: a standard deviation of 400 is known to 1 / sqrt(800) = 3.5 %, so within 14 %."""
    members, sigma, solver = 400, 0.05, AllAtOnce(warm_start=False)
    record = weather(40, 1)
    got = forward(Balance(linear), record, ("k", "storage"), theta={"k": 0.1}, storage0={"storage": 40.0},
                  solver=solver)  # fmt: skip
    noise = torch.randn(40, members, 1, generator=torch.Generator().manual_seed(0))
    for t in range(1, 40):
        noise[t] = correlation * noise[t - 1] + (1.0 - correlation**2) ** 0.5 * noise[t]
    error = Gaussian(sigma, correlation=correlation)
    observed = Observed("discharge", got.run.discharge[:, None] + sigma * noise, error)
    fit = least_squares(Balance(linear), record.with_members(members), observed, {"k": 0.1, "storage": 40.0},
                        ("k", "storage"), solver=solver, steps=10)  # fmt: skip
    scatter = torch.cov(torch.stack([fit.values[n] for n in got.names]))
    information = got.information(error)
    ratio = scatter.diagonal().sqrt() / information.sd()[0]
    assert bool(((ratio - 1.0).abs() < 0.14).all()), ratio
    seen = scatter[0, 1] / (scatter[0, 0] * scatter[1, 1]).sqrt()
    assert float(seen) == pytest.approx(float(information.correlation()[0, 0, 1]), abs=0.1)


def product():
    """A reservoir of which only a * b matters."""
    pytest.importorskip("sympy")
    constants = {"a": Range(0.1, 10.0, "1", 2.0), "b": Range(0.01, 1.0, "1/d", 0.05)}
    model = Balance(linear, outflow=FormulaLaw("a*b*storage", constants))
    return forward(model, weather(60, 2), ("a", "b", "storage"), theta={"a": 2.0, "b": 0.05},
                   storage0={"storage": 40.0}, solver=SOLVER)  # fmt: skip


def test_values_that_cannot_be_told_apart_are_reported():
    information = product().information(0.05)
    assert bool(information.collinearity(["a", "b"]).isinf().all()) and bool(information.collinearity().isinf().all())
    pairs = information.collinearities(2)
    assert bool(pairs["a", "b"].isinf().all()) and bool((pairs["a", "storage"] < 10.0).all())
    assert bool(information.sd()[:, :2].isinf().all()) and bool(information.covariance()[:, 0, 1:].isnan().all())
    # what is determined is known as well as with one factor known
    one = reservoir_of_product()
    assert torch.allclose(information.sd()[:, 2], one.sd()[:, 1], rtol=1e-6)
    spectrum = information.spectrum()[0]
    assert spectrum.sloppy() == [2] and sorted(spectrum.direction(2).split()) == ["+0.71", "-0.71", "a", "b"]
    content = information.content()
    assert bool(((content >= 0.0) & (content < 1.0)).all()) and bool((content[:, 2] > 0.99).all())


def reservoir_of_product() -> Information:
    whole = product()
    some = replace(whole, names=("b", "storage"), values=whole.values[..., 1:], spans=whole.spans[..., 1:],
                   derivatives=replace(whole.derivatives, storage=whole.derivatives.storage[1:],
                                       volume=whole.derivatives.volume[1:]))  # fmt: skip
    return some.information(0.05)


def test_a_value_that_nothing_depends_on():
    """No snow ever falls, so ddf does nothing."""
    warm = replace(RECORD, values={**RECORD.values, "temp": RECORD.values["temp"] + 40.0})
    model, theta, _ = posed("exphydro_mended")
    got = forward(model, warm, ("f", "ddf"), theta=theta, storage0={"snow": 0.0, "soil": 300.0}, solver=SOLVER)
    information = got.information(0.1)
    assert bool(information.sd()[:, 1].isinf().all()) and bool(information.sd()[:, 0].isfinite().all())
    assert bool(information.collinearity().isinf().all())
    assert torch.equal(information.content()[:, 1], torch.zeros(2))
    windows = got.windows(0.1, 40)
    assert bool(windows.share[..., 1].isnan().all()) and bool(windows.each.sd()[..., 1].isinf().all())


def test_windows_sum_to_the_whole(bucket):
    whole = bucket.information(0.1)
    for width in (1, 7, 40, 120):
        windows = bucket.windows(0.1, width)
        assert len(windows.edges) == -(-120 // width) and windows.edges[-1, 1] == RECORD.time_edge[-1]
        assert torch.allclose(windows.each.matrix.sum(0), whole.matrix, rtol=1e-12)
        assert torch.allclose(windows.share.sum(0), torch.ones(2, 6), rtol=1e-12)
        assert torch.equal(windows.whole.matrix, whole.matrix)


def test_a_window_is_what_it_is_alone(bucket):
    observed = torch.where(torch.rand(120, 2, generator=torch.Generator().manual_seed(1)) < 0.2, torch.nan, 1.0)
    first, last = str(RECORD.time[10])[:10], str(RECORD.time[104])[:10]
    windows = bucket.windows(0.1, 30, 10, observed=observed, within=(first, last))
    assert windows.each.matrix.shape == (8, 2, 6, 6)  # 95 days: the last one begins on day 70 and is cut to 25
    for i, (start, end) in enumerate(windows.edges):
        assert start == RECORD.time_edge[10 + 10 * i] and end == RECORD.time_edge[min(40 + 10 * i, 105)]
        dates = [str(d)[:10] for d in (start, end - np.timedelta64(1, "D"))]
        alone = bucket.information(0.1, observed=observed, within=dates)
        assert torch.allclose(windows.each.matrix[i], alone.matrix, rtol=1e-10)
        assert torch.allclose(windows.each.content()[i], alone.content(), rtol=1e-6, atol=1e-9)


def test_a_quiet_window_behind_a_flood_is_not_lost():
    jacobian = torch.cat([torch.full((1, 10), 1e9), torch.full((1, 10), 1e-3)], dim=1)
    assert float(fisher_windows(jacobian, 10, 5)[-1]) == pytest.approx(1e-5, rel=1e-12)


def test_one_spectrum_serves_discovery_too():
    assert of_discovery is Spectrum
    record = weather(60, 1).with_members(1)
    got = forward(Balance(linear), record, ("k", "storage"), theta={"k": 0.1}, storage0={"storage": 40.0},
                  solver=SOLVER)  # fmt: skip
    observed = Observed("discharge", got.run.discharge, Gaussian(0.05))
    fit = least_squares(Balance(linear), record, observed, {"k": 0.1, "storage": 40.0}, ("k", "storage"),
                        solver=SOLVER, steps=0)  # fmt: skip
    ours, theirs = got.information(0.05).spectrum()[0, 0], fisher_spectrum(fit, trusted=True)
    assert torch.allclose(ours.eigenvalues, theirs.eigenvalues, rtol=1e-9)
    assert torch.allclose(ours.sd, theirs.sd, rtol=1e-9) and ours.direction(0).split()[1] == "k"


def test_spectrum_in_units_of_the_range(bucket):
    information = bucket.information(0.1)
    spans = information.spans[0]
    scaled = spans[:, None] * information.matrix[0] * spans
    expected = torch.linalg.eigvalsh(scaled).flip(0)
    assert torch.allclose(information.spectrum("range").eigenvalues[0], expected.clamp_min(0.0), rtol=1e-9, atol=1e-6)
    by = dict(zip(information.names, spans.tolist(), strict=True))
    assert torch.allclose(information.spectrum(by).eigenvalues[0], expected.clamp_min(0.0), rtol=1e-9, atol=1e-6)


def test_the_dataset_has_units(bucket):
    ds = bucket.to_xarray()
    assert ds["discharge"].dims == ("parameter", "time", "basin") and ds["soil"].dims[1] == "time_edge"
    assert ds["discharge"].attrs["units"] == "mm/d per unit of the parameter"
    assert str(ds["unit"].sel(parameter="smax").values) == "mm"
    assert np.array_equal(ds["discharge"].sel(parameter="f", basin="b1"), bucket.discharge[1, :, 1])
    assert np.array_equal(ds["value"].sel(parameter="qmax"), bucket.run.theta["qmax"])
    members = found("exphydro_mended", RECORD.with_members(2)).to_xarray()
    assert members["et"].dims == ("parameter", "time", "member", "basin")


def test_what_is_refused(bucket):
    model, theta, start = posed("exphydro_mended")
    options = {"theta": theta, "storage0": start}
    with pytest.raises(ConfigError, match="Did you mean 'smax'"):
        forward(model, RECORD, ["smx"], **options)
    with pytest.raises(ConfigError, match="Given twice: f"):
        forward(model, RECORD, ["f", "f"], **options)
    with pytest.raises(ConfigError, match="Nothing is moved"):
        forward(model, RECORD, [], **options)
    with pytest.raises(ConfigError, match="one-step"):
        forward(model, RECORD, ["f"], solver=Torchdiffeq("dopri5"), **options)
    with pytest.raises(ConfigError, match=r"'sigma' has shape \(3,\)"):
        bucket.information(torch.ones(3))
    with pytest.raises(ConfigError, match=r"'observed' has shape \(120, 3\)"):
        bucket.information(0.1, observed=torch.ones(120, 3))
    with pytest.raises(ConfigError, match="Nothing is measured"):
        bucket.information(0.1, observed=torch.full((120, 2), torch.nan))
    with pytest.raises(ConfigError, match="above zero"):
        bucket.information(-1.0)
    with pytest.raises(ConfigError, match="multiple of the step"):
        bucket.windows(0.1, 30, 20)
    with pytest.raises(ConfigError, match="within the record"):
        bucket.windows(0.1, 121)
    information = bucket.information(0.1)
    with pytest.raises(ConfigError, match="Did you mean 'qmax'"):
        information.collinearity(["qmx", "f"])
    with pytest.raises(ConfigError, match="2 to 6"):
        information.collinearities(7)
    with pytest.raises(ConfigError, match="'value', 'range'"):
        information.spectrum("size")
    with pytest.raises(ConfigError, match="pick one"):
        information.spectrum().direction(0)


def test_ranges_of_ones_own():
    model, theta, start = posed("exphydro_mended")
    got = forward(model, RECORD, ["f", "soil"], theta=theta, storage0=start,
                  ranges={"f": Range(0.01, 0.09, "1/mm"), "soil": Range(0.0, 400.0, "mm")})  # fmt: skip
    assert torch.allclose(got.spans, torch.tensor([0.08, 400.0]).expand(2, 2))


def test_content_of_one_value_in_closed_form():
    """Uniform over a span of 6: variance 3, information 1/3; nine times as much again leaves a tenth of it."""
    found = Information(("a",), torch.tensor([[3.0]]), torch.tensor([1.0]), torch.tensor([6.0]))
    assert float(found.content()) == pytest.approx(1.0 - 10.0**-0.5, rel=1e-12)


def test_errors_that_are_a_share_of_what_was_observed(bucket):
    """NaN where nothing was measured, as the observations are."""
    seen = bucket.run.discharge.clone()
    seen[30:50, 0] = torch.nan
    filled = torch.where(seen.isnan(), 1.0, 0.1 * seen)
    got, right = (bucket.information(e, observed=seen).matrix for e in (0.1 * seen, filled))
    assert torch.equal(got, right) and bool(got.isfinite().all())
    with pytest.raises(ConfigError, match="above zero"):
        bucket.information(0.1 * seen)


def texts(fig) -> str:
    return " ".join(t.get_text() for t in fig.findobj(matplotlib.text.Text))


def adjoints(record=RECORD) -> dict:
    model, theta, start = posed("exphydro_mended", record)
    first, last = (str(record.time[i])[:10] for i in (20, -1))
    objectives = {"peak": flood_peak(first, last), "volume": volume("discharge", first, last)}
    return {n: adjoint(model, record, o, theta=theta, storage0=start, solver=SOLVER) for n, o in objectives.items()}


@pytest.mark.parametrize("batch", [0, 1, 2])
def test_every_figure_draws_with_units(batch):
    """Without a batch, with basins, with members."""
    alone = replace(RECORD, values={n: v[:, 0] for n, v in RECORD.values.items()}, basins=())
    record = (alone, RECORD, RECORD.with_members(2))[batch]
    got, back = found("exphydro_mended", record), adjoints(record)
    element = (0, 1, 3)[batch]
    spectrum = got.information(0.1).spectrum()
    one = spectrum[((), (1,), (1, 1))[batch]] if batch else spectrum
    window = str(RECORD.time[30])[:10], str(RECORD.time[90])[:10]
    drawn = {
        "soil = ": figures.sensitivities(got, window=window, element=element),
        "10 % of its range": figures.sensitivities(got, "soil", by="range", element=element),
        "information content": figures.identifiability(got.windows(0.1, 30, 10), element=element),
        "information [%]": figures.identifiability(got.windows(0.1, 30), "share", element=element),
        "along the direction [%]": figures.spectrum(one),
        "[mm per mm]": figures.lambda_map(back["volume"], unit="mm", element=element),
        "day of the year": figures.lambda_map(back["volume"], "soil", element=element),
        "[% of the objective per % of the parameter]": figures.tornado(back, element=element),
        "smax": figures.tornado(back["volume"]),
        "+1 degC": figures.elasticity_through_year(back["volume"], element=element),
        "change [%] for": figures.elasticity_through_year(back["volume"], by="day", element=element),
        "mm/d\nper mm/d": figures.flood_attribution(back["peak"], element=element),
    }
    for said, fig in drawn.items():
        assert said in texts(fig), said


def test_figures_of_what_is_not_determined_or_not_felt():
    """Rendered as well: of what is infinite or NaN, no warning and no empty axis."""
    assert png(figures.spectrum(product().information(0.05).spectrum()[0]), dpi=40)
    warm = replace(RECORD, values={**RECORD.values, "temp": RECORD.values["temp"] + 40.0})
    got = found("exphydro_mended", warm, ("ddf", "f"))
    assert png(figures.identifiability(got.windows(0.1, 30), "share"), dpi=40)
    assert png(figures.sensitivities(found("exphydro_mended", warm, ("ddf",))), dpi=40)


def test_months_add_up_to_one_percent_of_the_rain():
    back = adjoints()["volume"]
    fig = figures.elasticity_through_year(back, element=1)
    drawn = sum(bar.get_height() for bar in fig.axes[0].patches)
    whole = (back.forcing["prcp"] * RECORD.values["prcp"]).sum(0)[1]
    assert drawn == pytest.approx(float(whole / back.value[1]), rel=1e-9)  # 1 % of the rain, in percent


def test_contributions_to_a_flood_are_added_up_by_days():
    """Steps of six hours: the last day is four of them."""
    shares, edges = np.arange(1.0, 41.0), np.arange("2000-01-01T00", "2000-01-11T06", 6, dtype="datetime64[h]")
    said = _said(shares, edges.astype("datetime64[ns]"))
    assert said == "of the peak, last day 154 %, 3 days 414 %, 10 days 820 %, 30 days 820 %, whole record 820 %"
    record = replace(RECORD, time_edge=RECORD.time_edge[0] + np.arange(len(RECORD) + 1) * np.timedelta64(6, "h"))
    assert "by the rain of an interval" in texts(figures.flood_attribution(adjoints(record)["peak"]))
    assert "by the rain of a day" in texts(figures.flood_attribution(adjoints()["peak"]))


def test_labels_fit_and_zeros_are_told():
    """The bar of a single store is as tall as its label; ten percent of zero is no insensitivity."""
    record = reservoir().run.forcing
    first, last = (str(record.time[i])[:10] for i in (0, -1))
    back = adjoint(Balance(linear), record, volume("discharge", first, last), storage0={"storage": 40.0})
    fig = figures.lambda_map(back)
    assert png(fig)
    label = fig.axes[1].yaxis.label.get_window_extent()
    assert 0.0 <= label.y0 and label.y1 <= fig.bbox.height
    got = forward(Balance(linear), record, ["k", "storage"], storage0={"storage": 0.0})
    assert "storage = 0 mm   (no 10 % of zero" in texts(figures.sensitivities(got))
    assert "no 10 %" not in texts(figures.sensitivities(got, by="range"))


@pytest.mark.parametrize("kind", ["lambda_map", "tornado", "elasticity_through_year", "flood_attribution"])
def test_figures_of_an_adjoint_are_rendered(kind):
    assert png(getattr(figures, kind)(adjoints()["peak"]), dpi=40).startswith(b"\x89PNG")


def test_figures_refuse_what_they_cannot_draw(bucket):
    back = adjoints()
    with pytest.raises(ConfigError, match="'content' or 'share'"):
        figures.identifiability(bucket.windows(0.1, 30), "sd")
    with pytest.raises(ConfigError, match="pick one"):
        figures.spectrum(bucket.information(0.1).spectrum())
    with pytest.raises(ConfigError, match="Did you mean 'soil'"):
        figures.lambda_map(back["volume"], "soi")
    with pytest.raises(ConfigError, match="no lambda"):
        figures.lambda_map(replace(back["volume"], storage={}))
    with pytest.raises(ConfigError, match="'month' or 'day'"):
        figures.elasticity_through_year(back["volume"], by="year")
    with pytest.raises(ConfigError, match="no percent"):
        figures.elasticity_through_year(replace(back["volume"], value=torch.zeros(2)))
    with pytest.raises(ConfigError, match="no peak"):
        figures.flood_attribution(back["volume"])
    with pytest.raises(ConfigError, match="reads no 'rain'"):
        figures.flood_attribution(back["peak"], rain="rain")


def test_numbers_of_figures(bucket):
    windows = bucket.windows(0.1, 40, 20)
    edges = _edges(windows.edges)
    assert len(edges) == 6 and edges[0] == RECORD.time_edge[0] and edges[-1] == RECORD.time_edge[-1]
    assert edges[1] == RECORD.time_edge[30]  # windows of 40 begin on days 0 and 20: their middles are days 20 and 40
    time = np.arange("2000-12-30", "2001-01-03", dtype="datetime64[D]")
    assert _day(time).tolist() == [364, 365, 0, 1]
    years, table = _calendar(time, np.arange(4.0))
    assert years.tolist() == [2000, 2001] and table[0, 364:].tolist() == [0.0, 1.0] and table[1, :2].tolist() == [2, 3]
    assert np.isnan(table[1, 2:]).all()
    model, theta, start = posed("exphydro_mended")
    theta["f"] = theta["f"].expand(120, 2)
    objective = volume("discharge", str(RECORD.time[0])[:10], str(RECORD.time[-1])[:10])
    varying = adjoint(model, RECORD, objective, theta=theta, storage0=start, solver=SOLVER)
    theta["f"] = theta["f"][0]
    constant = adjoint(model, RECORD, objective, theta=theta, storage0=start, solver=SOLVER)
    assert _elasticities(varying, 1)["f"] == pytest.approx(_elasticities(constant, 1)["f"], rel=1e-9)
