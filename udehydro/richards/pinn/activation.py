"""Hyperbolic tangent of jets, in place: of a value and of its first and second derivatives, and the way back.

For y = tanh(v) with derivatives v_i, v_ii by a coordinate and y' = 1 - y^2: y_i = y' v_i, y_ii = y' (v_ii - 2 y v_i^2).
The way back needs y alone, since y' v_i = y_i: so v is not kept, and a layer takes one array instead of two. With g the
derivatives of a number by the jets y, those by the jets v are y' g_ii, y' g_i - 4 y y_i g_ii, and, for the value,
y' g - 2 y sum(g_i y_i) - 2 sum(g_ii (y y_ii + y_i^2)).
On the CPU one loop over pieces that stay in the cache does it, where numba is there; else torch does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from udehydro.solvers import chain_numba


def forward(v: Tensor, pairs: Sequence[int]) -> None:
    """Turn jets v (members, unit, channel, n), contiguous, into those of tanh(v).

    Channels are the value, first derivatives, and second derivatives; ``pairs`` holds for each second derivative the
    channel of its first.
    """
    value, first = v[:, :, 0].tanh_(), v.shape[2] - len(pairs)
    if first == 1:
        return
    if chain_numba.usable(v):
        _loops().forward(v.numpy(), np.array(pairs, np.int64))
        return
    for k, i in enumerate(pairs):
        v[:, :, first + k] -= 2.0 * value * v[:, :, i] ** 2
    v[:, :, 1:] *= (1.0 - value**2).unsqueeze(2)


def backward(y: Tensor, g: Tensor, pairs: Sequence[int]) -> None:
    """Turn derivatives g by the jets y = tanh(v) into those by the jets v."""
    if chain_numba.usable(y):
        _loops().backward(y.numpy(), g.numpy(), np.array(pairs, np.int64))
        return
    value, first = y[:, :, 0], y.shape[2] - len(pairs)
    slope = 1.0 - value**2
    whole = slope * g[:, :, 0] - 2.0 * value * (g[:, :, 1:] * y[:, :, 1:]).sum(2)
    moved = [2.0 * y[:, :, i] * g[:, :, first + k] for k, i in enumerate(pairs)]
    g *= slope.unsqueeze(2)
    for part, i in zip(moved, pairs, strict=True):
        whole -= part * y[:, :, i]
        g[:, :, i] -= 2.0 * value * part
    g[:, :, 0] = whole


def _loops():
    """The compiled loops, imported when first needed: numba is an extra."""
    from udehydro.richards.pinn import loops

    return loops
