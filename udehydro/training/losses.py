"""Losses: what training lowers. Each is prepared on the whole training period, so that windows and basins compare.

Shapes and the treatment of missing flow are those of :mod:`udehydro.training.metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from udehydro.errors import ConfigError, DataError
from udehydro.training.metrics import (
    SQRT_KNEE,
    kge,
    kge_components,
    log_flow,
    mean_flow,
    moments,
    pair,
    sqrt_flow,
    varies,
)

PreparedLoss = Callable[[Tensor, Tensor], Tensor]
"""``(simulated (T, *batch), observed) -> loss (*batch)``, smaller is better, without host synchronisation."""


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
        knee = _positive_mean(observed_train) * SQRT_KNEE
        return _squared_error(observed_train, lambda flow: sqrt_flow(flow, knee))


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
        return _squared_error(observed_train, lambda flow: log_flow(flow, offset))


@dataclass(frozen=True)
class KGE:
    """``1 - kge``. Its parts are moments of a whole period, so it refuses windows with ConfigError.

    Zero gradient where KGE is exactly 1, the tip of a cone.
    """

    def prepare(self, observed_train: Tensor) -> PreparedLoss:
        _variance(observed_train)
        _positive_mean(observed_train)
        return _whole_period("KGE", observed_train.shape, lambda s, o: 1 - kge(s, o))


@dataclass(frozen=True)
class Correlation:
    """``1 - r``, for a sensor whose offset and (positive) gain are not known, such as a soil moisture probe.

    Half the mean square difference of the two series once each has its mean removed and is divided by its standard
    deviation, over the valid entries of the period. 0 for a perfect line, 1 without any correlation, or where the
    simulation never varies. Its parts are moments of a whole period, so it refuses windows with ConfigError.
    """

    def prepare(self, observed_train: Tensor) -> PreparedLoss:
        _variance(observed_train)
        return _whole_period("Correlation", observed_train.shape, lambda s, o: 1 - kge_components(s, o).r)


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


def _whole_period(name: str, shape: torch.Size, score: PreparedLoss) -> PreparedLoss:
    """A loss that refuses all but periods of one shape."""

    def loss(simulated: Tensor, observed: Tensor) -> Tensor:
        if observed.shape != shape:
            raise ConfigError(
                f"{name} was prepared for a whole period of shape {tuple(shape)} but is asked about "
                f"{tuple(observed.shape)}. Train on the full record with {name}, or on windows with NSE."
            )
        return score(simulated, observed)

    return loss


def _squared_error(observed_train: Tensor, transform: Callable[[Tensor], Tensor]) -> PreparedLoss:
    """Mean square error of transformed flows over their variance in the training period."""
    variance = _variance(transform(observed_train))

    def loss(simulated: Tensor, observed: Tensor) -> Tensor:
        simulated, observed, valid = pair(simulated, observed)
        error = torch.where(valid, transform(simulated) - transform(observed), 0).square().sum(0)
        return error / (valid.sum(0).clamp(min=1) * variance)

    return loss


def _positive_mean(observed_train: Tensor) -> Tensor:
    """Mean training flow, or DataError."""
    _check(observed_train)
    mean, positive = mean_flow(observed_train)
    _refuse(~positive, "has a mean flow that is not positive", "use NSE, or check sign and unit")
    return mean


def _variance(observed_train: Tensor) -> Tensor:
    """Variance over the training period, or DataError."""
    _check(observed_train)
    mean, variance = moments(observed_train, ~observed_train.isnan())
    _refuse(~varies(mean, variance), "never varies", "drop it or extend the training period")
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
