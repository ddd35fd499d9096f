"""Tridiagonal systems, one a column, all columns at once: Thomas compiled on the CPU, cyclic reduction elsewhere."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from udehydro.solvers.chain_numba import njit, usable


def solve(lower: Tensor, diagonal: Tensor, upper: Tensor, right: Tensor) -> Tensor:
    """Solve ``lower_i x_{i-1} + diagonal_i x_i + upper_i x_{i+1} = right_i``, without pivoting, differentiably.

    Parameters
    ----------
    lower, diagonal, upper, right : (batch, n); ``lower[:, 0]`` and ``upper[:, -1]`` are not read.

    Returns
    -------
    Tensor (batch, n); not finite where a pivot vanishes.
    """
    return _Solve.apply(lower, diagonal, upper, right)


def transposed(lower: Tensor, diagonal: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three diagonals of the transposed matrix."""
    return upper.roll(1, -1), diagonal, lower.roll(-1, -1)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, lower, diagonal, upper, right):
        x = _thomas(lower, diagonal, upper, right) if usable(right) else reduction(lower, diagonal, upper, right)
        ctx.save_for_backward(lower, diagonal, upper, x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        lower, diagonal, upper, x = ctx.saved_tensors
        mu = solve(*transposed(lower, diagonal, upper), grad)
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
        after = torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], dim=1)
        return -mu * before, -mu * x, -mu * after, mu


def reduction(lower: Tensor, diagonal: Tensor, upper: Tensor, right: Tensor) -> Tensor:
    """Parallel cyclic reduction (Hockney 1965; Hockney and Jesshope 1981): log2(n) rounds over all unknowns."""
    n, distance = right.shape[-1], 1
    lower = torch.cat([torch.zeros_like(lower[:, :1]), lower[:, 1:]], dim=1)
    upper = torch.cat([upper[:, :-1], torch.zeros_like(upper[:, :1])], dim=1)
    while distance < n:
        up, down = _shifted((lower, diagonal, upper, right), distance)
        alpha, gamma = -lower / up[1], -upper / down[1]
        diagonal = diagonal + alpha * up[2] + gamma * down[0]
        right = right + alpha * up[3] + gamma * down[3]
        lower, upper = alpha * up[0], gamma * down[2]
        distance *= 2
    return right / diagonal


def _shifted(rows: tuple[Tensor, ...], distance: int) -> tuple[list[Tensor], list[Tensor]]:
    """The rows ``distance`` above and below each row; beyond the ends rows that say x = 0."""
    up, down = [], []
    for i, row in enumerate(rows):
        end = torch.ones_like if i == 1 else torch.zeros_like
        pad = end(row[:, :distance])
        up.append(torch.cat([pad, row[:, :-distance]], dim=1))
        down.append(torch.cat([row[:, distance:], pad], dim=1))
    return up, down


def _thomas(lower: Tensor, diagonal: Tensor, upper: Tensor, right: Tensor) -> Tensor:
    parts = [t.detach().expand(right.shape).contiguous().numpy() for t in (lower, diagonal, upper, right)]
    x = np.empty_like(parts[3])
    _sweep(*parts, x)
    return torch.from_numpy(x)


def _sweep(lower, diagonal, upper, right, x):
    n = right.shape[1]
    factor = np.empty(n, right.dtype)
    for b in range(right.shape[0]):
        pivot = diagonal[b, 0]
        x[b, 0] = right[b, 0] / pivot
        for i in range(1, n):
            factor[i] = upper[b, i - 1] / pivot
            pivot = diagonal[b, i] - lower[b, i] * factor[i]
            x[b, i] = (right[b, i] - lower[b, i] * x[b, i - 1]) / pivot
        for i in range(n - 2, -1, -1):
            x[b, i] -= factor[i + 1] * x[b, i + 1]


if njit is not None:
    _sweep = njit(cache=True, error_model="numpy")(_sweep)
