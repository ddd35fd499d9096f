"""Linear recurrences of small systems, solved for all steps at once by recursive doubling."""

from __future__ import annotations

import torch
from torch import Tensor


def forward_scan(transition: Tensor, source: Tensor) -> Tensor:
    """Solve ``d_m = A_m d_{m-1} + c_m`` with ``d_{-1} = 0`` in log2(n) rounds of products.

    transition (S, S, n, *batch), source (S, n, *batch); returns d (S, n, *batch).
    """
    return _doubling(transition.flip(2), source.flip(1)).flip(1)


def reverse_scan(transition: Tensor, external: Tensor, direct: Tensor, after: Tensor) -> Tensor:
    """Adjoint recurrence of a chain of n steps, last step first.

    Solves ``p_m = A_m^T (external_m + p_{m+1}) + direct_m`` with ``p_n = after``.

    Parameters
    ----------
    transition : (S, S, n, *batch), A_m as [i, j] = d end_i / d start_j.
    external, direct : (S, n, *batch).
    after : (S, *batch).

    Returns
    -------
    Tensor (S, n, *batch) : p_m for every step.
    """
    m = transition.transpose(0, 1)
    c = product(m, external) + direct
    last = c[:, -1] + product(m[:, :, -1], after)
    return _doubling(m, torch.cat([c[:, :-1], last.unsqueeze(1)], dim=1))


def _doubling(m: Tensor, c: Tensor) -> Tensor:
    """Solve ``p_k = M_k p_{k+1} + c_k``, the last of which is ``c`` itself."""
    n, distance = c.shape[1], 1
    while distance < n:
        c = torch.cat([c[:, :-distance] + product(m[:, :, :-distance], c[:, distance:]), c[:, -distance:]], dim=1)
        if 2 * distance < n:
            joined = [product(m[:, :, :-distance], m[:, j, distance:]) for j in range(m.shape[1])]
            m = torch.cat([torch.stack(joined, dim=1), m[:, :, -distance:]], dim=2)
        distance *= 2
    return c


def product(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrix (S, S, *points) times vector (S, *points), pointwise."""
    return (matrix * vector.unsqueeze(0)).sum(1)
