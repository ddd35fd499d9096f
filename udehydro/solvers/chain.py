"""Linear recurrences along a chain of steps: the sweeps behind Newton, the adjoint and forward sensitivities.

A diagonally implicit step linearised at its stages Y_i, with Jacobians J_i, carries a perturbation of its start:

    dY_i = dy + h sum_{j <= i} a_ij J_j dY_j + s_i ,      dy_end = dy + h sum_i b_i J_i dY_i + s_end

Everything is component first: J_i (S, S, n, *batch), vectors (S, n, *batch), h (n, *batch or ones). On the CPU a
compiled loop walks the chain (:mod:`udehydro.solvers.chain_numba`); elsewhere, or without numba, every step becomes an
affine map and the chain of maps is solved by recursive doubling. Elimination never pivots: laws that obey the slope
rule make I - h a J a column-dominant M-matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from udehydro.solvers import chain_numba
from udehydro.solvers.tableau import Tableau


def forward(
    tableau: Tableau, h: Tensor, jacobians: Sequence[Tensor], sources: Sequence[Tensor], start: Tensor | None = None
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Perturbations of stages and ends of every step.

    Parameters
    ----------
    h : (n, *batch or ones) step lengths.
    jacobians : per stage (S, S, n, *batch).
    sources : per stage s_i (S, n, *batch), and s_end as one more where the tableau is not stiffly accurate.
    start : perturbation of the start of the chain (S, *batch), zero by default.

    Returns
    -------
    list of Tensor (S, n, *batch) : dY_i
    Tensor (S, n, *batch) : dy at the end of every step.
    Tensor () : smallest pivot met.
    """
    if chain_numba.usable(h):
        return chain_numba.forward(tableau, h, jacobians, sources, start)
    return _forward_by_doubling(tableau, h, jacobians, sources, start)


def reverse(
    tableau: Tableau, h: Tensor, jacobians: Sequence[Tensor], direct: Sequence[Tensor], external: Tensor, after: Tensor
) -> tuple[list[Tensor], Tensor, Tensor]:
    """The adjoint recurrence, last step first.

    With ``lam = external_m + (what step m + 1 passes back)`` for the end of step m, the multipliers of its stages solve

        (I - h a_ii J_i^T) mu_i = direct_i + J_i^T (h b_i lam + h sum_{j > i} a_ji mu_j)

    and the step passes back ``lam + sum_i mu_i``.

    Parameters
    ----------
    direct : per stage (S, n, *batch), derivative of the objective by Y_i through the volumes of the step.
    external : (S, n, *batch), derivative by the ends of the steps.
    after : (S, *batch), what comes back from behind the last step.

    Returns
    -------
    list of Tensor (S, n, *batch) : mu_i
    Tensor (S, n, *batch) : lam at the end of every step.
    Tensor (S, *batch) : what the first step passes back.
    """
    if chain_numba.usable(h):
        return chain_numba.reverse(tableau, h, jacobians, direct, external, after)
    return _reverse_by_doubling(tableau, h, jacobians, direct, external, after)


def _forward_by_doubling(tableau, h, jacobians, sources, start=None):
    n_stores = jacobians[0].shape[0]
    eye = _eye(jacobians[0])
    smallest: Tensor | None = None
    maps: list[Tensor] = []  # columns: response to the start of the step (S of them), and what follows from the sources
    for i, row in enumerate(tableau.a):
        right = torch.cat([eye, sources[i].unsqueeze(1)], dim=1)
        for j in range(i):
            if row[j]:
                right = right + (h * row[j]) * _matmul(jacobians[j], maps[j])
        if row[i]:
            right, pivot = pivoted(jacobians[i], h * row[i], right)
            smallest = pivot.amin() if smallest is None else torch.minimum(smallest, pivot.amin())
        maps.append(right)
    if tableau.stiffly_accurate:
        end = maps[-1]
    else:
        end = torch.cat([eye, sources[-1].unsqueeze(1)], dim=1)
        for weight, jacobian, columns in zip(tableau.b, jacobians, maps, strict=True):
            if weight:
                end = end + (h * weight) * _matmul(jacobian, columns)
    transition, source = end[:, :n_stores], end[:, n_stores]
    if start is not None:
        first = source[:, 0] + product(transition[:, :, 0], start)
        source = torch.cat([first.unsqueeze(1), source[:, 1:]], dim=1)
    ends = _doubling(transition.flip(2), source.flip(1)).flip(1)
    start = torch.zeros_like(ends[:, 0]) if start is None else start
    before = torch.cat([start.unsqueeze(1), ends[:, :-1]], dim=1)
    return [product(m[:, :n_stores], before) + m[:, n_stores] for m in maps], ends, smallest


def _reverse_by_doubling(tableau, h, jacobians, direct, external, after):
    n_stores, stages = jacobians[0].shape[0], tableau.stages
    eye = _eye(jacobians[0])
    maps: list[Tensor | None] = [None] * stages
    total = torch.cat([eye, torch.zeros_like(eye[:, :1])], dim=1)
    for i in reversed(range(stages)):
        transposed = jacobians[i].transpose(0, 1)
        known = torch.zeros_like(total)
        if tableau.b[i]:
            known = known + (h * tableau.b[i]) * torch.cat([eye, torch.zeros_like(eye[:, :1])], dim=1)
        for j in range(i + 1, stages):
            if tableau.a[j][i]:
                known = known + (h * tableau.a[j][i]) * maps[j]
        right = _matmul(transposed, known)
        right = torch.cat([right[:, :n_stores], (right[:, n_stores] + direct[i]).unsqueeze(1)], dim=1)
        diagonal = tableau.a[i][i]
        maps[i] = pivoted(transposed, h * diagonal, right)[0] if diagonal else right
        total = total + maps[i]
    transition, source = total[:, :n_stores], total[:, n_stores]
    source = source + product(transition, external)
    last = source[:, -1] + product(transition[:, :, -1], after)
    passed = _doubling(transition, torch.cat([source[:, :-1], last.unsqueeze(1)], dim=1))
    lam = external + torch.cat([passed[:, 1:], after.unsqueeze(1)], dim=1)
    return [product(m[:, :n_stores], lam) + m[:, n_stores] for m in maps], lam, passed[:, 0]


def _eye(like: Tensor) -> Tensor:
    n = like.shape[0]
    eye = torch.eye(n, dtype=like.dtype, device=like.device)
    return eye.reshape(n, n, *(1,) * (like.ndim - 2)).expand(like.shape)


def _doubling(m: Tensor, c: Tensor) -> Tensor:
    """Solve ``p_k = M_k p_{k+1} + c_k``, the last of which is ``c`` itself, in log2(n) rounds of products."""
    n, distance = c.shape[1], 1
    while distance < n:
        c = torch.cat([c[:, :-distance] + product(m[:, :, :-distance], c[:, distance:]), c[:, -distance:]], dim=1)
        if 2 * distance < n:
            m = torch.cat([_matmul(m[:, :, :-distance], m[:, :, distance:]), m[:, :, -distance:]], dim=2)
        distance *= 2
    return c


def product(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrix (S, S, *points) times vector (S, *points), pointwise."""
    return (matrix * vector.unsqueeze(0)).sum(1)


def _matmul(left: Tensor, right: Tensor) -> Tensor:
    """Matrices (S, S, *points) times columns (S, C, *points), pointwise."""
    return torch.stack([product(left, right[:, c]) for c in range(right.shape[1])], dim=1)


def pivoted(jacobian: Tensor, ha: Tensor, right: Tensor, filled=None) -> tuple[Tensor, Tensor]:
    """Solve (I - ha J) x = right without pivoting; returns x and the smallest pivot of every point.

    right is (S, *points) or columns (S, C, *points); ``filled`` [i][j] False marks structural zeros.
    """
    n = right.shape[0]
    filled = filled or [[True] * n] * n
    m = [[-ha * jacobian[i, j] if i == j or filled[i][j] else None for j in range(n)] for i in range(n)]
    for i in range(n):
        m[i][i] = m[i][i] + 1.0
    x = list(right.unbind(0))
    for p in range(n):
        for i in range(p + 1, n):
            if m[i][p] is None:
                continue
            factor = m[i][p] / m[p][p]
            x[i] = x[i] - factor * x[p]
            for j in range(p + 1, n):
                if m[p][j] is not None:
                    fill = factor * m[p][j]
                    m[i][j] = -fill if m[i][j] is None else m[i][j] - fill
    for p in reversed(range(n)):
        for j in range(p + 1, n):
            if m[p][j] is not None:
                x[p] = x[p] - m[p][j] * x[j]
        x[p] = x[p] / m[p][p]
    pivot = m[0][0]
    for p in range(1, n):
        pivot = torch.minimum(pivot, m[p][p])
    return torch.stack(x), pivot
