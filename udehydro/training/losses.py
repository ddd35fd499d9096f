"""Scores of a simulated series against an observed one, and the losses made of them.

Arrays are ``(T, *batch)``; NaN in ``observed`` means missing and masks that entry, whatever was simulated
there. ``observed`` may lack leading batch axes: ``(T, basin)`` serves ``(T, member, basin)``. Masking by
period (train, validation, test) is the caller's act: set ``observed`` to NaN outside. Metrics are NaN, with
zero gradient, where they are undefined (no observation, or observations that never vary).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from udehydro.errors import ConfigError, DataError

PreparedLoss = Callable[[Tensor, Tensor], Tensor]
"""``(simulated (T, *batch), observed) -> loss (*batch)``, smaller is better, without host synchronisation."""

_SQRT_KNEE = 1e-4  # of mean flow: below it the square root goes on as its tangent


def nse(simulated: Tensor, observed: Tensor) -> Tensor:
    """Nash-Sutcliffe efficiency, ``1 - sum (s - o)^2 / sum (o - mean o)^2`` (Nash and Sutcliffe 1970).

    Dimensionless, at most 1; shape ``(*batch)``.
    """
    simulated, observed, valid = _pair(simulated, observed)
    error = torch.where(valid, simulated - observed, 0).square().sum(0)
    mean, variance = _moments(observed, valid)
    return 1 - _ratio(error, variance * valid.sum(0), _varies(mean, variance))


def sqrt_nse(simulated: Tensor, observed: Tensor) -> Tensor:
    """`nse` of square-rooted flows, which weighs high and low flows alike (Chiew et al. 1993).

    Below 1e-4 of the observed mean the root goes on as its tangent, see `SqrtNSE`.
    """
    mean, positive = _mean_flow(observed)
    score = nse(_sqrt(simulated, mean * _SQRT_KNEE), _sqrt(observed, mean * _SQRT_KNEE))
    return torch.where(positive, score, math.nan)


def log_nse(simulated: Tensor, observed: Tensor) -> Tensor:
    """`nse` of ``log(q + mean(observed) / 100)``, a low-flow score (offset of Pushpalatha et al. 2012).

    Below zero flow the logarithm goes on as its tangent, see `LogNSE`.
    """
    mean, positive = _mean_flow(observed)
    score = nse(_log(simulated, mean / 100), _log(observed, mean / 100))
    return torch.where(positive, score, math.nan)


class KGEComponents(NamedTuple):
    """Parts of the Kling-Gupta efficiency, each ``(*batch)``, dimensionless and ideally 1."""

    r: Tensor
    alpha: Tensor
    beta: Tensor


def kge_components(simulated: Tensor, observed: Tensor) -> KGEComponents:
    """Correlation ``r``, ``alpha = sd(s) / sd(o)``, ``beta = mean(s) / mean(o)`` (Gupta et al. 2009, eq. 9).

    A simulation that never varies has r = 0, so that mean flow scores 1 - sqrt(2) (Knoben et al. 2019).
    """
    simulated, observed, valid = _pair(simulated, observed)
    mean_s, variance_s = _moments(simulated, valid)
    mean_o, variance_o = _moments(observed, valid)
    product = torch.where(valid, (simulated - mean_s) * (observed - mean_o), 0)
    covariance = product.sum(0) / valid.sum(0).clamp(min=1)
    moving, defined = _varies(mean_s, variance_s), _varies(mean_o, variance_o)
    deviation_s, deviation_o = _root(variance_s), _root(variance_o)
    r = _ratio(covariance, deviation_s * deviation_o, moving & defined)
    return KGEComponents(
        r=torch.where(defined & ~moving, 0, r),
        alpha=_ratio(deviation_s, deviation_o, defined),
        beta=_ratio(mean_s, mean_o, mean_o != 0),
    )


def kge(simulated: Tensor, observed: Tensor) -> Tensor:
    """Kling-Gupta efficiency ``1 - sqrt((r-1)^2 + (alpha-1)^2 + (beta-1)^2)`` (Gupta et al. 2009, eq. 9-10).

    Dimensionless, at most 1; shape ``(*batch)``.
    """
    distance = sum((part - 1).square() for part in kge_components(simulated, observed))
    undefined = distance.isnan()
    return torch.where(undefined, math.nan, 1 - _root(torch.where(undefined, 1, distance)))


def bias(simulated: Tensor, observed: Tensor) -> Tensor:
    """Volume error in percent, ``100 sum (s - o) / sum o``; > 0 is too much water. Shape ``(*batch)``."""
    simulated, observed, valid = _pair(simulated, observed)
    total = torch.where(valid, observed, 0).sum(0)
    return 100 * _ratio(torch.where(valid, simulated - observed, 0).sum(0), total, total != 0)


def rmse(simulated: Tensor, observed: Tensor) -> Tensor:
    """Root mean square error ``sqrt(mean (s - o)^2)``, in the unit of the series. Shape ``(*batch)``."""
    simulated, observed, valid = _pair(simulated, observed)
    count = valid.sum(0)
    square = torch.where(valid, simulated - observed, 0).square().sum(0) / count.clamp(min=1)
    return torch.where(count > 0, _root(square), math.nan)


class Loss(Protocol):
    """What turns the observations of the whole training period into a loss of any window of it."""

    def prepare(self, observed_train: Tensor) -> PreparedLoss:
        """``observed_train (T, *batch)``, NaN = missing, gives the scales; DataError if it has none."""
        ...


@dataclass(frozen=True)
class NSE:
    """``sum (s - o)^2 / (n var_train(o))`` over the n valid entries of a window; 1 - NSE on the whole period.

    The variance is that of the basin's whole training period, so that windows and minibatches are comparable
    (after the basin-averaged NSE of Kratzert et al. 2019). A window without observations has loss 0. For a
    subset of basins prepare again on that subset.
    """

    def prepare(self, observed_train: Tensor) -> PreparedLoss:
        return _squared_error(observed_train, lambda flow: flow)


@dataclass(frozen=True)
class SqrtNSE:
    """`NSE` of square-rooted flows (Chiew et al. 1993).

    Below ``k`` = 1e-4 of the mean training flow the root is continued by its tangent,
    ``sqrt(k) + (q - k) / (2 sqrt(k))``: finite, with a finite slope that still pushes a negative flow up.
    """

    def prepare(self, observed_train: Tensor) -> PreparedLoss:
        knee = _positive_mean(observed_train) * _SQRT_KNEE
        return _squared_error(observed_train, lambda flow: _sqrt(flow, knee))


@dataclass(frozen=True)
class LogNSE:
    """`NSE` of ``log(q + e)`` with ``e = offset x mean training flow`` (Pushpalatha et al. 2012: 1/100).

    Below q = 0 the logarithm is continued by its tangent, ``log(e) + q / e``: finite, with a finite slope
    that still pushes a negative flow up.
    """

    offset: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.offset < math.inf:
            raise ConfigError(f"LogNSE offset is {self.offset}; give a positive fraction of the mean, e.g. 0.01.")

    def prepare(self, observed_train: Tensor) -> PreparedLoss:
        offset = _positive_mean(observed_train) * self.offset
        return _squared_error(observed_train, lambda flow: _log(flow, offset))


@dataclass(frozen=True)
class KGE:
    """``1 - kge``. Its parts are moments of a whole period, so it refuses windows with ConfigError.

    Zero gradient where KGE is exactly 1, the tip of a cone.
    """

    def prepare(self, observed_train: Tensor) -> PreparedLoss:
        _variance(observed_train)
        _positive_mean(observed_train)
        shape = observed_train.shape

        def loss(simulated: Tensor, observed: Tensor) -> Tensor:
            if observed.shape != shape:
                raise ConfigError(
                    f"KGE was prepared for a whole period of shape {tuple(shape)} but is asked about "
                    f"{tuple(observed.shape)}. Train on the full record with KGE, or on windows with NSE."
                )
            return 1 - kge(simulated, observed)

        return loss


@dataclass(frozen=True, init=False)
class Combined:
    """Weighted sum of losses: ``Combined((NSE(), 0.5), (LogNSE(), 0.5))``."""

    terms: tuple[tuple[Loss, float], ...]

    def __init__(self, *terms: tuple[Loss, float]) -> None:
        if not terms or not all(0 < weight < math.inf for _, weight in terms):
            raise ConfigError(f"Combined needs (loss, positive weight) pairs; it got {terms}.")
        object.__setattr__(self, "terms", terms)

    def prepare(self, observed_train: Tensor) -> PreparedLoss:
        terms = [(loss.prepare(observed_train), weight) for loss, weight in self.terms]
        return lambda simulated, observed: sum(weight * loss(simulated, observed) for loss, weight in terms)


def _squared_error(observed_train: Tensor, transform: Callable[[Tensor], Tensor]) -> PreparedLoss:
    """Mean square error of transformed flows over their variance in the training period."""
    variance = _variance(transform(observed_train))

    def loss(simulated: Tensor, observed: Tensor) -> Tensor:
        simulated, observed, valid = _pair(simulated, observed)
        error = torch.where(valid, transform(simulated) - transform(observed), 0).square().sum(0)
        return error / (valid.sum(0).clamp(min=1) * variance)

    return loss


def _pair(simulated: Tensor, observed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both series of equal rank, 0 where observed is missing, before any operation: gradients stay clean."""
    missing_axes = simulated.ndim - observed.ndim
    aligned = observed.reshape(observed.shape[:1] + (1,) * missing_axes + observed.shape[1:])
    same_time = simulated.shape[:1] == aligned.shape[:1]
    batches = zip(simulated.shape[1:], aligned.shape[1:], strict=False)
    if missing_axes < 0 or not same_time or any(o not in (s, 1) for s, o in batches):
        raise DataError(
            f"Simulated {tuple(simulated.shape)} and observed {tuple(observed.shape)} do not match; both are "
            "(time, *batch) with the same times, and observed may lack leading batch axes."
        )
    valid = ~aligned.isnan()
    return torch.where(valid, simulated, 0), torch.where(valid, aligned, 0), valid


def _moments(series: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance over the valid times, 0 where there are none."""
    count = valid.sum(0).clamp(min=1)
    mean = torch.where(valid, series, 0).sum(0) / count
    return mean, torch.where(valid, series - mean, 0).square().sum(0) / count


def _varies(mean: Tensor, variance: Tensor) -> Tensor:
    """Whether a variance is more than the round-off a constant series leaves behind."""
    return ~(variance <= (16 * torch.finfo(variance.dtype).eps * mean).square())  # NaN must stay visible


def _ratio(numerator: Tensor, denominator: Tensor, defined: Tensor) -> Tensor:
    """``numerator / denominator``, NaN with zero gradient where it is not defined."""
    return torch.where(defined, numerator / torch.where(defined, denominator, 1), math.nan)


def _root(square: Tensor) -> Tensor:
    """Square root with zero gradient at 0, where autograd would give 0 x inf; NaN stays NaN."""
    zero = square <= 0
    return torch.where(zero, 0, torch.where(zero, 1, square).sqrt())


def _sqrt(flow: Tensor, knee: Tensor) -> Tensor:
    """Square root of flow, below ``knee`` its tangent there."""
    above = flow > knee
    root = knee.sqrt()
    return torch.where(above, torch.where(above, flow, 1).sqrt(), root + (flow - knee) / (2 * root))


def _log(flow: Tensor, offset: Tensor) -> Tensor:
    """``log(flow + offset)``, below zero flow its tangent there."""
    above = flow > 0
    return torch.where(above, torch.where(above, flow + offset, 1).log(), offset.log() + flow / offset)


def _mean_flow(observed: Tensor) -> tuple[Tensor, Tensor]:
    """Mean observed flow, 1 where it is not positive, and where it is."""
    mean, _ = _moments(observed, ~observed.isnan())
    return torch.where(mean > 0, mean, 1), mean > 0


def _positive_mean(observed_train: Tensor) -> Tensor:
    """Mean training flow, or DataError."""
    _check(observed_train)
    mean, positive = _mean_flow(observed_train)
    _refuse(~positive, "has a mean flow that is not positive", "use NSE, or check sign and unit")
    return mean


def _variance(observed_train: Tensor) -> Tensor:
    """Variance over the training period, or DataError."""
    _check(observed_train)
    mean, variance = _moments(observed_train, ~observed_train.isnan())
    _refuse(~_varies(mean, variance), "never varies", "drop it or extend the training period")
    return variance


def _check(observed_train: Tensor) -> None:
    """DataError unless every batch element has observations and all of them are finite."""
    _refuse(observed_train.isnan().all(0), "has no observation", "drop it or extend the training period")
    _refuse(observed_train.isinf().any(0), "has infinite values", "replace what is missing by NaN")


def _refuse(wrong: Tensor, what: str, remedy: str) -> None:
    """Raise DataError that names the batch elements (basins) where ``wrong (*batch)`` holds."""
    if wrong.is_meta or not wrong.any():  # a meta tensor has a shape but no values to check
        return
    named = [index[0] if len(index) == 1 else tuple(index) for index in wrong.nonzero().tolist()]
    shown = ", ".join(map(str, named[:10])) + (", ..." if len(named) > 10 else "")
    raise DataError(f"Observed series at batch index {shown} {what} in the training period: {remedy}.")
