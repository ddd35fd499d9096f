"""What was observed of a window, and how wrong it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import ConfigError, DataError
from udehydro.forcing import Forcing
from udehydro.training.gaussian import Gaussian
from udehydro.training.observed import Observed, Target, targets


def flow_error(observed: Tensor, share: float | Tensor, floor: float | Tensor, *, correlation: float = 0.0) -> Gaussian:
    """Errors of standard deviation ``share`` of the observed flow plus ``floor`` [mm/d], for ``observed`` (T, *batch).

    Both are numbers or (*batch); ``correlation`` is that from interval to interval. ConfigError for a share below zero,
    and a floor that is not above it: where flow is zero it is all there is.
    """
    least = [float(v.min() if isinstance(v, Tensor) else np.min(v)) for v in (share, floor)]
    if not (least[0] >= 0.0 and least[1] > 0.0):
        raise ConfigError(
            f"Errors of flow need a share of 0 or more and a floor above 0 mm/d, got {share} and {floor}."
        )
    return Gaussian(share * _tensor(observed).nan_to_num(0.0).clamp_min(0.0) + floor, correlation=correlation)


def discharge_of(observed: Tensor, errors: Gaussian, forcing: Forcing) -> tuple[Tensor, Gaussian]:
    """Observed discharge (T, *batch) like the forcing, and its errors with a sigma for each value."""
    observed = _checked("discharge", _tensor(observed), forcing, len(forcing))
    return observed, _aligned(errors, observed)


def bound(also: Observed | Sequence[Observed], model: Balance, forcing: Forcing) -> tuple[Target, ...]:
    """Series of other variables bound to a model and a window. Raises ConfigError, DataError or StructureError."""
    also = (also,) if isinstance(also, Observed) else tuple(also)
    for o in also:
        if not isinstance(o, Observed) or not isinstance(o.loss, Gaussian) or o.weight != 1.0:
            raise ConfigError(f"also takes Observed(name, values, Gaussian(sigma)), without a weight; got {o!r}.")
    found = targets(also, model, forcing) if also else []
    for target in found:
        target.values = _checked(target.label, target.values, forcing, len(forcing) + target.lead)
        target.loss = _aligned(target.loss, target.values)
    return tuple(found)


def _checked(name: str, observed: Tensor, forcing: Forcing, rows: int) -> Tensor:
    observed = observed.detach().to(forcing.like)
    if observed.shape != (rows, *forcing.batch):
        raise DataError(
            f"observed has shape {tuple(observed.shape)}, the forcing {tuple(forcing.like.shape)}: give (time, *batch) "
            f"of the window, NaN where missing ({name})."
        )
    if bool(observed.isinf().any()):
        k, *element = observed.isinf().nonzero()[0].tolist()
        raise DataError(f"Observed {name} is infinite in {forcing.label(k, element)}: missing values are NaN.")
    return observed


def _aligned(errors: Gaussian, observed: Tensor) -> Gaussian:
    sigma = torch.as_tensor(errors.sigma, dtype=observed.dtype, device=observed.device)
    try:
        return replace(errors, sigma=sigma.broadcast_to(observed.shape))
    except RuntimeError:
        raise ConfigError(
            f"sigma of the errors has shape {tuple(sigma.shape)}, the observations {tuple(observed.shape)}."
        ) from None


def _tensor(observed) -> Tensor:
    """Of a tensor, an array or a DataArray."""
    return observed if isinstance(observed, Tensor) else torch.from_numpy(np.asarray(observed))
