"""DELSA: local sensitivity at many points of a space, from exact derivatives; and what it bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from udehydro.sensitivity.response import Function, evaluate, output_dims
from udehydro.sensitivity.screening import CONFIDENCE, PER_RANGE, SQUARED
from udehydro.sensitivity.space import Space

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
POINCARE = 1.0 / math.pi**2
"""Of the uniform distribution on [0, 1]: E[f^2] <= E[f'^2] / pi^2 for every f of mean zero."""
NORMAL = 1.96
"""Half of a 95 % interval, in standard deviations."""


def delsa(
    function: Function, space: Space, *, samples: int = 128, quantiles: Sequence[float] = QUANTILES,
    resamples: int = 200, seed: int = 0, progress: str | None = "runs",
):  # fmt: skip
    """Distributed evaluation of local sensitivity (Rakovec et al. 2014, WRR 50:409).

    At every point the linearised variance of the result is divided among the factors,

        S_j = (df/dx_j)^2 var_j / sum_k (df/dx_k)^2 var_k

    with the prior variance var_j of a uniform factor, (high - low)^2 / 12 (of logarithms where the range is
    logarithmic). Derivatives are exact, so a point costs one run and one backward pass, whatever the number of factors;
    each further objective of a Response one more backward pass.

    Parameters
    ----------
    function : a :class:`~udehydro.sensitivity.Response`, or a function in torch of name -> (N,) to (N, *outputs).
    samples : points, a power of two.
    resamples : of the bootstrap behind ``nu_conf`` and ``bound_conf``.

    Returns
    -------
    xarray.Dataset
        ``point`` (sample, factor) in the units of the ranges; ``value`` (sample, *outputs); ``derivative`` by the share
        of a range and ``local``, which is S_j (sample, factor, *outputs), NaN where all derivatives are zero; its
        ``quantiles`` (quantile, factor, *outputs) and ``mean``; ``nu`` = E[derivative^2], and ``bound`` = nu / (V pi^2)
        with the variance V of the result, which the total Sobol index of a result without jumps does not exceed (Sobol
        and Kucherenko 2009), with halves of 95 % intervals; ``failed`` (*outputs): points without a finite result and
        finite derivatives, which are left out.
    """
    import xarray as xr

    unit = space.sample(samples, seed)
    value, derivative = evaluate(function, space, unit, gradient=True, progress=progress)
    value, derivative = value.double().cpu(), derivative.double().cpu()
    finite = value.isfinite() & derivative.isfinite().all(1)
    squares = torch.where(finite.unsqueeze(1), derivative.square(), torch.nan)
    total = squares.sum(1, keepdim=True)
    local = squares / torch.where(total > 0, total, torch.nan)
    spread = torch.nanquantile(local, torch.tensor(quantiles, dtype=local.dtype, device=local.device), dim=0)
    dims = output_dims(function, value)
    by_factor = ("factor", *dims)
    data = {
        "point": (("sample", "factor"), torch.stack([*space.values(unit).values()], 1).numpy()),
        "value": (("sample", *dims), value.numpy()),
        "derivative": (("sample", *by_factor), derivative.numpy(), {"units": PER_RANGE}),
        "local": (("sample", *by_factor), local.numpy(), {"units": "1"}),
        "quantiles": (("quantile", *by_factor), spread.numpy(), {"units": "1"}),
        "mean": (by_factor, local.nanmean(0).numpy(), {"units": "1"}),
        "failed": (dims, (~finite).sum(0).numpy(), {"units": "1"}),
    }
    for name, (found, half) in _global(torch.where(finite, value, torch.nan), squares, resamples, seed).items():
        units = {"units": SQUARED if name == "nu" else "1"}
        data |= {name: (by_factor, found.numpy(), units), f"{name}_conf": (by_factor, half.numpy(), units)}
    coords = space.coords() | getattr(function, "coords", {}) | {"quantile": list(quantiles)}
    said = {"method": "DELSA", "samples": samples, "runs": samples, "resamples": resamples, "seed": seed}
    return xr.Dataset(data, coords, said | {"confidence": CONFIDENCE})


def _global(value: Tensor, squares: Tensor, resamples: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """``nu`` and ``bound`` (K, *outputs), each with half of its 95 % interval."""
    count, factors = squares.shape[:2]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(count, (resamples, count), generator=generator, device="cpu").to(value.device)
    # how often each point is drawn; the first row takes each of them once
    one = torch.ones_like(drawn, dtype=value.dtype)
    weights = torch.cat([one[:1], torch.zeros_like(one).scatter_add_(1, drawn, one)])
    y, d = value.reshape(count, 1, -1), squares.reshape(count, factors, -1)
    finite = y.isfinite()
    y = torch.where(finite, y - torch.where(finite, y, 0.0).sum(0) / finite.sum(0), 0.0)

    def sums(x: Tensor) -> Tensor:
        return (weights @ x.reshape(count, -1)).reshape(-1, *x.shape[1:])

    kept = sums(finite.to(y))
    nu = sums(torch.where(finite, d, 0.0)) / kept
    variance = (sums(y.square()) - sums(y).square() / kept) / (kept - 1.0)
    bound = POINCARE * nu / torch.where(variance > 0, variance, torch.nan)
    shape = (factors, *value.shape[1:])
    return {n: (x[0].reshape(shape), (NORMAL * x[1:].std(0)).reshape(shape)) for n, x in (("nu", nu), ("bound", bound))}
