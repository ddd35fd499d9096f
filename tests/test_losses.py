"""Metrics against closed forms; losses: scales, masks, gradients, refusals, no host synchronisation."""

import math

import pytest
import torch

from udehydro.errors import ConfigError, DataError
from udehydro.training.losses import (
    KGE,
    NSE,
    Combined,
    LogNSE,
    SqrtNSE,
)
from udehydro.training.metrics import bias, kge, kge_components, log_nse, nse, rmse, sqrt_nse

METRICS = [nse, kge, log_nse, sqrt_nse, bias, rmse]
LOSSES = [NSE(), SqrtNSE(), LogNSE(), KGE(), Combined((NSE(), 0.5), (LogNSE(), 0.5))]
NAN = math.nan


def series(*shape: int, seed: int = 0) -> torch.Tensor:
    """Positive flows in mm/d."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64) * 5 + 0.1


def with_gaps(observed: torch.Tensor) -> torch.Tensor:
    gaps = torch.arange(observed.numel()).reshape(observed.shape) % 5 == 2
    return torch.where(gaps, NAN, observed)


def test_nse_by_hand():
    observed = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert nse(observed + 1, observed).item() == pytest.approx(1 - 3 / 2)
    assert nse(observed.mean().expand(3), observed).item() == pytest.approx(0)


def test_kge_of_scaled_and_mean_flow():
    observed = series(50, 2)
    r, alpha, beta = kge_components(1.5 * observed, observed)
    for part, value in ((r, 1.0), (alpha, 1.5), (beta, 1.5)):
        torch.testing.assert_close(part, torch.full_like(part, value))
    torch.testing.assert_close(kge(1.5 * observed, observed), torch.full_like(r, 1 - math.sqrt(0.5)))
    mean_flow = observed.mean(0).expand(50, 2)
    torch.testing.assert_close(kge(mean_flow, observed), torch.full_like(r, 1 - math.sqrt(2)))


def test_bias_and_rmse():
    observed = series(30, 3)
    torch.testing.assert_close(bias(0.9 * observed, observed), torch.full_like(observed[0], -10.0))
    torch.testing.assert_close(rmse(observed + 0.25, observed), torch.full_like(observed[0], 0.25))


def test_transformed_scores_are_nse_of_transforms():
    observed, simulated = series(40, 2), series(40, 2, seed=1)
    torch.testing.assert_close(sqrt_nse(simulated, observed), nse(simulated.sqrt(), observed.sqrt()))
    offset = observed.mean(0) / 100
    expected = nse((simulated + offset).log(), (observed + offset).log())
    torch.testing.assert_close(log_nse(simulated, observed), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_missing_days_are_as_if_removed(metric):
    observed, simulated = with_gaps(series(40)), series(40, seed=1)
    valid = ~observed.isnan()
    expected = metric(simulated[valid], observed[valid])
    torch.testing.assert_close(metric(torch.where(valid, simulated, NAN), observed), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_observed_serves_every_member(metric):
    observed, simulated = with_gaps(series(20, 3)), series(20, 4, 3, seed=1)
    expected = torch.stack([metric(simulated[:, m], observed) for m in range(4)])
    torch.testing.assert_close(metric(simulated, observed), expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("metric", METRICS)
def test_undefined_basins_are_nan_without_spoiling_gradients(metric):
    observed = series(20, 3)
    observed[:, 0] = NAN  # no observation
    observed[:, 1] = 0.0  # never varies, no water
    simulated = series(20, 3, seed=1).requires_grad_()
    score = metric(simulated, observed)
    assert score[0].isnan() and score[2].isfinite()
    assert score[1].isnan() or metric is rmse
    score[2].backward(retain_graph=True)
    score.sum().backward()  # NaN as a sum, yet no NaN must reach shared parameters
    assert simulated.grad.isfinite().all()


@pytest.mark.parametrize("metric", METRICS)
def test_a_nan_simulation_is_never_hidden(metric):
    observed, simulated = series(20), series(20, seed=1)
    simulated[3] = NAN
    assert metric(simulated, observed).isnan()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("simulation", ["perfect", "constant"])
def test_gradients_are_finite_at_corners(metric, simulation):
    observed = series(20, 2)
    simulated = observed.clone() if simulation == "perfect" else torch.full_like(observed, 0.1)
    simulated.requires_grad_()
    metric(simulated, observed).sum().backward()
    assert simulated.grad.isfinite().all()


def test_shapes_that_do_not_match_are_named():
    with pytest.raises(DataError, match=r"\(20, 3\).*\(19, 3\)"):
        nse(series(20, 3), series(19, 3))
    with pytest.raises(DataError, match="do not match"):
        nse(series(20, 3), series(20, 2))
    with pytest.raises(DataError, match="do not match"):
        nse(series(20, 3), series(20, 4, 3))


@pytest.mark.parametrize(
    "loss, metric",
    [(NSE(), nse), (SqrtNSE(), sqrt_nse), (LogNSE(), log_nse), (KGE(), kge)],
    ids=["NSE", "SqrtNSE", "LogNSE", "KGE"],
)
def test_on_the_whole_period_a_loss_is_one_minus_its_metric(loss, metric):
    observed, simulated = with_gaps(series(60, 2)), series(60, 3, 2, seed=1)
    torch.testing.assert_close(loss.prepare(observed)(simulated, observed), 1 - metric(simulated, observed))


@pytest.mark.parametrize("loss", [NSE(), SqrtNSE(), LogNSE()], ids=repr)
def test_windows_add_up_to_the_whole_period(loss):
    observed, simulated = with_gaps(series(60, 2)), series(60, 2, seed=1)
    prepared = loss.prepare(observed)
    windows = [slice(0, 25), slice(25, 60)]
    counts = torch.stack([(~observed[w].isnan()).sum(0) for w in windows])
    parts = torch.stack([prepared(simulated[w], observed[w]) for w in windows])
    whole = (parts * counts).sum(0) / counts.sum(0)
    torch.testing.assert_close(whole, prepared(simulated, observed))


@pytest.mark.parametrize("loss", [NSE(), SqrtNSE(), LogNSE()], ids=repr)
def test_a_window_without_observations_has_no_effect(loss):
    observed = series(60, 2)
    simulated = series(10, 2, seed=1).requires_grad_()
    value = loss.prepare(observed)(simulated, torch.full_like(simulated, NAN))
    value.sum().backward()
    assert (value == 0).all() and (simulated.grad == 0).all()


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_gradcheck_with_gaps_members_and_negative_flow(loss):
    observed = with_gaps(series(12, 2))
    simulated = series(12, 3, 2, seed=1)
    simulated[4] = -0.7
    prepared = loss.prepare(observed)
    assert torch.autograd.gradcheck(lambda s: prepared(s, observed), simulated.requires_grad_())


@pytest.mark.parametrize("loss", [NSE(), SqrtNSE(), LogNSE()], ids=repr)
def test_negative_flow_is_pushed_up(loss):
    observed = series(30)
    simulated = torch.full_like(observed, -50.0).requires_grad_()
    value = loss.prepare(observed)(simulated, observed)
    value.backward()
    assert value.isfinite() and simulated.grad.isfinite().all() and (simulated.grad < 0).all()


def test_combined_is_the_weighted_sum():
    observed, simulated = series(30, 2), series(30, 2, seed=1)
    combined = Combined((NSE(), 0.3), (LogNSE(), 0.7)).prepare(observed)(simulated, observed)
    expected = 0.3 * NSE().prepare(observed)(simulated, observed)
    expected = expected + 0.7 * LogNSE().prepare(observed)(simulated, observed)
    torch.testing.assert_close(combined, expected)
    with pytest.raises(ConfigError, match="positive weight"):
        Combined((NSE(), -1.0))


def test_kge_refuses_windows():
    observed = series(30, 2)
    with pytest.raises(ConfigError, match="whole period"):
        KGE().prepare(observed)(observed[:10], observed[:10])


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("value, message", [(NAN, "no observation"), (0.1, "never"), (math.inf, "infinite")])
def test_unusable_basins_are_named(loss, value, message):
    observed = series(30, 4)
    observed[:, 2] = value
    with pytest.raises(DataError, match=f"index 2 .*{message}"):
        loss.prepare(observed)


def test_a_log_of_no_water_is_refused():
    with pytest.raises(DataError, match=r"index \(0, 1\).*not positive"):
        LogNSE().prepare(torch.stack([series(9, 1), -series(9, 1)], dim=-1))
    with pytest.raises(ConfigError, match="offset"):
        LogNSE(offset=0.0)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_shapes_alone_suffice(loss):
    """On the meta device any host synchronisation or stray default-device tensor raises."""
    observed = torch.empty(30, 2, device="meta", dtype=torch.float32)
    simulated = torch.empty(30, 3, 2, device="meta", dtype=torch.float32, requires_grad=True)
    value = loss.prepare(observed)(simulated, observed)
    value.sum().backward()
    assert value.shape == (3, 2) and value.dtype == torch.float32 and simulated.grad.shape == simulated.shape
