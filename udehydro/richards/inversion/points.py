"""Points of a soil's curves as they were measured, checked."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from udehydro.errors import DataError
from udehydro.richards.inversion.plausible import SUCTIONS, check_contents


class Points(NamedTuple):
    """(sample or 1, N) each; what is not measured has psi = -1 and any value."""

    psi: Tensor
    values: Tensor
    sigma: Tensor
    measured: Tensor
    several: bool

    def spread(self, samples: int) -> Points:
        return Points(*(t.expand(samples, -1).contiguous() for t in self[:4]), self.several)


def points_of(name: str, given: tuple | None) -> Points:
    """Checked points of a curve; conductivities as logarithms."""
    if given is None:
        given = (torch.empty(0), torch.empty(0), 1.0)
    if not isinstance(given, (tuple, list)) or len(given) != 3:
        raise DataError(f"{name} is (psi, values, sigma): three things.")
    psi, values, sigma = (tensor(g) for g in given)
    try:
        psi, values, sigma = torch.broadcast_tensors(psi, values, sigma)
    except RuntimeError:
        shapes = ", ".join(str(tuple(tensor(g).shape)) for g in given)
        raise DataError(f"{name}: psi, values and sigma have shapes {shapes}, which do not fit.") from None
    if psi.ndim not in (1, 2):
        raise DataError(f"{name}: points are (N,), or (sample, N); got {tuple(psi.shape)}.")
    measured = ~values.isnan()
    _check(name, psi[measured], values[measured], sigma[measured])
    psi, sigma = torch.where(measured, psi, -1.0), torch.where(measured, sigma, 1.0)
    values = torch.where(measured, values, 0.5)
    values = torch.log(values) if name == "conductivity" else values
    several = psi.ndim == 2
    return Points(*(t if several else t.unsqueeze(0) for t in (psi, values, sigma, measured)), several)


def _check(name: str, psi: Tensor, values: Tensor, sigma: Tensor) -> None:
    """Of points that were measured."""
    if not bool(psi.isfinite().all() & values.isfinite().all()):
        raise DataError(
            f"{name}: a value has no head, or is infinite; NaN as the value says that nothing was measured."
        )
    if len(psi) and bool((psi >= 0.0).all() & (psi > 0.0).any()):
        raise DataError(f"{name}: all heads are above zero. {SUCTIONS}")
    if bool((psi > 0.0).any()):
        raise DataError(
            f"{name}: {int((psi > 0.0).sum())} heads are above zero, up to {psi.max():g} cm, where soil is saturated. "
            "An offset of the tensiometer? Correct it, or mask these values with NaN."
        )
    if name == "theta":
        check_contents(name, values)
    if name == "conductivity" and bool((values <= 0.0).any()):
        raise DataError("conductivity: values have to be above zero, as errors are of their logarithm.")
    if not bool((sigma > 0.0).all()):
        raise DataError(f"{name}: sigma has to be above zero wherever something was measured.")


def tensor(value) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64).detach()
