"""Hyperbolic tangent of jets: of a value and of its first and second derivatives, and the way back.

For y = tanh(v) with derivatives v_i, v_ii by a coordinate and y' = 1 - y^2: y_i = y' v_i, y_ii = y' (v_ii - 2 y v_i^2).
On the CPU one loop over pieces that stay in the cache does it, where numba is there; else torch does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from udehydro.solvers import chain_numba


def forward(v: Tensor, y: Tensor, pairs: Sequence[int]) -> None:
    """Write the jets of tanh(v) to y; both (members, channel, n).

    Channels are the value, first derivatives, and second derivatives; ``pairs`` holds for each second derivative the
    channel of its first.
    """
    torch.tanh(v[:, 0], out=y[:, 0])
    if chain_numba.usable(v):
        _loops().forward(v.numpy(), y.numpy(), np.array(pairs, np.int64))
        return
    slope, first = 1.0 - y[:, :1] ** 2, v.shape[1] - len(pairs)
    y[:, 1:] = slope * v[:, 1:]
    for k, i in enumerate(pairs):
        y[:, first + k] -= 2.0 * (slope[:, 0] * y[:, 0]) * v[:, i] ** 2


def backward(v: Tensor, y: Tensor, g: Tensor, pairs: Sequence[int]) -> None:
    """Turn derivatives g by the jets y into those by the jets v, in place."""
    if chain_numba.usable(v):
        _loops().backward(v.numpy(), y.numpy(), g.numpy(), np.array(pairs, np.int64))
        return
    value, first = y[:, 0], v.shape[1] - len(pairs)
    slope = 1.0 - value**2
    total = (g[:, 1:] * v[:, 1:]).sum(1)
    for k, i in enumerate(pairs):
        total = total - 2.0 * value * g[:, first + k] * v[:, i] ** 2
    bent = g[:, 0] - 2.0 * value * total
    for k, i in enumerate(pairs):
        bent = bent - 2.0 * slope * g[:, first + k] * v[:, i] ** 2
        g[:, i] -= 4.0 * value * v[:, i] * g[:, first + k]
    g[:, 0] = bent
    g *= slope.unsqueeze(1)


def _loops():
    """The compiled loops, imported when first needed: numba is an extra."""
    from udehydro.richards.pinn import loops

    return loops
