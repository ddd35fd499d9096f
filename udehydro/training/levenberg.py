"""Levenberg-Marquardt iterations of many members at once, each with a damping of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from udehydro.errors import SolverError

UNTOLD = 1e30
"""Variance of a value that nothing tells of: large, and finite, so that what does not depend on it has a band."""


@dataclass
class Normal:
    """chi2 (m,), gradient (m, P) and matrix (m, P, P) of its half, and chi2 by series (m, series)."""

    chi2: Tensor
    gradient: Tensor
    normal: Tensor
    parts: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.chi2, self.gradient, self.normal, self.parts

    def take(self, index: Tensor) -> Normal:
        return Normal(*(t[index] for t in self.tensors()))

    def put(self, index: Tensor, new: Normal) -> None:
        for mine, other in zip(self.tensors(), new.tensors(), strict=True):
            mine[index] = other

    def spread(self, index: Tensor, count: int) -> Normal:
        """These members among ``count``, of which the others failed."""
        whole = Normal.failed(count, self.gradient.shape[1], self.parts.shape[1], self.chi2)
        whole.put(index, self)
        return whole

    @classmethod
    def failed(cls, count: int, free: int, series: int, like: Tensor) -> Normal:
        zeros = like.new_zeros
        return cls(zeros(count) + torch.inf, zeros(count, free), zeros(count, free, free), zeros(count, series))


def covariance_of(normal: Tensor) -> Tensor:
    """Inverse (..., P, P) of normal matrices; a value that nothing tells of gets the variance UNTOLD, no covariance."""
    size = normal.diagonal(dim1=-2, dim2=-1)
    root = torch.where(size > 1.0 / UNTOLD, size, 1.0 / UNTOLD).sqrt()
    unit = normal / root[..., :, None] / root[..., None, :]
    unit = unit + torch.diag_embed(torch.where(size > 1.0 / UNTOLD, 1e-13, 1.0))
    return torch.linalg.inv(unit) / root[..., :, None] / root[..., None, :]


def step(now: Normal, x, damping, low, high, active, isotropic: float) -> tuple[Tensor, Tensor]:
    """Damped step (m, P), and by how much it promises to lower chi2. Values at a bound that would leave it stay."""
    held = ((x <= low) & (now.gradient > 0)) | ((x >= high) & (now.gradient < 0)) | ~active
    free = (~held).to(x.dtype)
    matrix = now.normal * free[:, :, None] * free[:, None, :]
    size = matrix.diagonal(dim1=1, dim2=2)
    size = torch.maximum(size, isotropic * size.amax(1, keepdim=True)) * free
    # a value that nothing depends on is left where it is
    scale = torch.where(size > 0, size, torch.ones_like(size)).rsqrt()
    matrix = scale[:, :, None] * matrix * scale[:, None, :]
    gradient = scale * now.gradient * free
    ridge = torch.diag_embed(torch.where(size > 0, damping[:, None].expand(size.shape), torch.ones_like(size)))
    solution = torch.linalg.solve_ex(matrix + ridge, -gradient[..., None])[0][..., 0].nan_to_num()
    promised = -(2.0 * (gradient * solution).sum(-1) + (solution * (matrix @ solution[..., None])[..., 0]).sum(-1))
    return scale * solution, promised


def minimise(
    evaluate: Callable[[Tensor, Tensor], Normal],
    x: Tensor,
    low: Tensor,
    high: Tensor,
    active: Tensor,
    *,
    steps: int = 60,
    tolerance: float = 1e-6,
    stop: Tensor | float | None = None,
    isotropic: float = 0.0,
    progress: str | None = None,
) -> tuple[Tensor, Normal, Tensor, Tensor]:
    """Lower chi2 of every member within bounds.

    Parameters
    ----------
    evaluate : normal equations of the members ``index`` (m,) at x (m, P); infinite chi2 where there are none.
    x, low, high, active : (M, P) start, bounds, and which values move.
    steps, tolerance, stop : most iterations; relative gain at which a member has converged; chi2 at which it has.
    isotropic : least damping of a value, as a share of the largest curvature of its member.
    progress : words of a bar.

    Returns
    -------
    x (M, P), its normal equations, iterations (M,), converged (M,); a member whose trials all fail has not.

    Raises
    ------
    SolverError
        Where no member can be evaluated at its start.
    """
    x, members = x.clone(), len(x)
    now = evaluate(x, torch.arange(members, device=x.device))
    if bool(now.chi2.isinf().all()):
        raise SolverError("No member can be simulated from its start.", failed=now.chi2.isinf())
    damping, grown = torch.full_like(now.chi2, 1e-2), torch.full_like(now.chi2, 2.0)
    stop = torch.as_tensor(-1.0 if stop is None else stop, dtype=x.dtype, device=x.device).expand(members)
    iterations = torch.zeros(members, dtype=torch.long, device=x.device)
    converged = now.chi2 <= stop
    going = now.chi2.isfinite() & ~converged
    with tqdm(total=steps, desc=progress or "", disable=progress is None, leave=False) as bar:
        for _ in range(steps):
            index = going.nonzero()[:, 0]
            if not len(index):
                break
            here = now.take(index)
            move, promised = step(here, x[index], damping[index], low[index], high[index], active[index], isotropic)
            trial = torch.minimum(torch.maximum(x[index] + move, low[index]), high[index])
            new = evaluate(trial, index)
            better = new.chi2 < here.chi2
            ratio = (here.chi2 - new.chi2) / promised.clamp_min(1e-300)
            # Nielsen (1999): the damping follows how well the linear model promised
            less = torch.maximum(torch.full_like(ratio, 1 / 3), 1 - (2 * ratio.nan_to_num() - 1) ** 3)
            damping[index] = (damping[index] * torch.where(better, less, grown[index])).clamp(1e-12, 1e16)
            grown[index] = torch.where(better, 2.0, 2.0 * grown[index])
            iterations[index] += 1
            gained = better & (here.chi2 - new.chi2 <= tolerance * here.chi2) & (promised <= tolerance * here.chi2)
            nothing = ~better & ((promised <= tolerance * here.chi2) | (damping[index] >= 1e12))
            x[index[better]] = trial[better]
            now.put(index[better], new.take(better))
            arrived = now.chi2[index] <= stop[index]
            # where trials cannot even be evaluated, a short step says nothing of a minimum
            converged[index] = gained | nothing & new.chi2.isfinite() | arrived
            going[index] = ~(gained | nothing | arrived)
            bar.update()
            bar.set_postfix(members=len(index), median=f"{now.chi2.median():.4g}")
    return x, now, iterations, converged
