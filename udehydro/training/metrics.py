"""Scores of a simulated series against an observed one, per batch element.

Arrays are ``(T, *batch)``; NaN in ``observed`` means missing and masks that entry, whatever was simulated
there. ``observed`` may lack leading batch axes: ``(T, basin)`` serves ``(T, member, basin)``. Masking by
period (train, validation, test) is the caller's act: set ``observed`` to NaN outside. Metrics are NaN, with
zero gradient, where they are undefined (no observation, or observations that never vary).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from udehydro.errors import DataError

SQRT_KNEE = 1e-4  # of mean flow: below it the square root goes on as its tangent


def nse(simulated: Tensor, observed: Tensor) -> Tensor:
    """Nash-Sutcliffe efficiency, ``1 - sum (s - o)^2 / sum (o - mean o)^2`` (Nash and Sutcliffe 1970).

    Dimensionless, at most 1; shape ``(*batch)``.
    """
    simulated, observed, valid = pair(simulated, observed)
    error = torch.where(valid, simulated - observed, 0).square().sum(0)
    mean, variance = moments(observed, valid)
    return 1 - _ratio(error, variance * valid.sum(0), varies(mean, variance))


def sqrt_nse(simulated: Tensor, observed: Tensor) -> Tensor:
    """`nse` of square-rooted flows, which weighs high and low flows alike (Chiew et al. 1993).

    Below 1e-4 of the observed mean the root goes on as its tangent, see `SqrtNSE`.
    """
    mean, positive = mean_flow(observed)
    score = nse(sqrt_flow(simulated, mean * SQRT_KNEE), sqrt_flow(observed, mean * SQRT_KNEE))
    return torch.where(positive, score, math.nan)


def log_nse(simulated: Tensor, observed: Tensor) -> Tensor:
    """`nse` of ``log(q + mean(observed) / 100)``, a low-flow score (offset of Pushpalatha et al. 2012).

    Below zero flow the logarithm goes on as its tangent, see `LogNSE`.
    """
    mean, positive = mean_flow(observed)
    score = nse(log_flow(simulated, mean / 100), log_flow(observed, mean / 100))
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
    simulated, observed, valid = pair(simulated, observed)
    mean_s, variance_s = moments(simulated, valid)
    mean_o, variance_o = moments(observed, valid)
    product = torch.where(valid, (simulated - mean_s) * (observed - mean_o), 0)
    covariance = product.sum(0) / valid.sum(0).clamp(min=1)
    moving, defined = varies(mean_s, variance_s), varies(mean_o, variance_o)
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
    simulated, observed, valid = pair(simulated, observed)
    total = torch.where(valid, observed, 0).sum(0)
    return 100 * _ratio(torch.where(valid, simulated - observed, 0).sum(0), total, total != 0)


def rmse(simulated: Tensor, observed: Tensor) -> Tensor:
    """Root mean square error ``sqrt(mean (s - o)^2)``, in the unit of the series. Shape ``(*batch)``."""
    simulated, observed, valid = pair(simulated, observed)
    count = valid.sum(0)
    square = torch.where(valid, simulated - observed, 0).square().sum(0) / count.clamp(min=1)
    return torch.where(count > 0, _root(square), math.nan)


def pair(simulated: Tensor, observed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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


def moments(series: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance over the valid times, 0 where there are none."""
    count = valid.sum(0).clamp(min=1)
    mean = torch.where(valid, series, 0).sum(0) / count
    return mean, torch.where(valid, series - mean, 0).square().sum(0) / count


def varies(mean: Tensor, variance: Tensor) -> Tensor:
    """Whether a variance is more than the round-off a constant series leaves behind."""
    return ~(variance <= (16 * torch.finfo(variance.dtype).eps * mean).square())  # NaN must stay visible


def _ratio(numerator: Tensor, denominator: Tensor, defined: Tensor) -> Tensor:
    """``numerator / denominator``, NaN with zero gradient where it is not defined."""
    return torch.where(defined, numerator / torch.where(defined, denominator, 1), math.nan)


def _root(square: Tensor) -> Tensor:
    """Square root with zero gradient at 0, where autograd would give 0 x inf; NaN stays NaN."""
    zero = square <= 0
    return torch.where(zero, 0, torch.where(zero, 1, square).sqrt())


def sqrt_flow(flow: Tensor, knee: Tensor) -> Tensor:
    """Square root of flow, below ``knee`` its tangent there."""
    above = flow > knee
    root = knee.sqrt()
    return torch.where(above, torch.where(above, flow, 1).sqrt(), root + (flow - knee) / (2 * root))


def log_flow(flow: Tensor, offset: Tensor) -> Tensor:
    """``log(flow + offset)``, below zero flow its tangent there."""
    above = flow > 0
    return torch.where(above, torch.where(above, flow + offset, 1).log(), offset.log() + flow / offset)


def mean_flow(observed: Tensor) -> tuple[Tensor, Tensor]:
    """Mean observed flow, 1 where it is not positive, and where it is."""
    mean, _ = moments(observed, ~observed.isnan())
    return torch.where(mean > 0, mean, 1), mean > 0
