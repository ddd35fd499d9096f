"""Compiled loops of :mod:`.activation`. A piece of all channels is small enough to stay in the first cache.

Constants have the type of the arrays: a number of Python would turn single precision into double.
"""

from __future__ import annotations

import numpy as np
from numba import njit

PIECE = 256


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def forward(v, y, pairs):
    members, channels, n = v.shape
    one, two = v.dtype.type(1), v.dtype.type(2)
    first = channels - len(pairs)
    for m in range(members):
        for start in range(0, n, PIECE):
            stop = min(start + PIECE, n)
            for c in range(1, first):
                for i in range(start, stop):
                    y[m, c, i] = (one - y[m, 0, i] * y[m, 0, i]) * v[m, c, i]
            for k in range(len(pairs)):
                c, a = first + k, pairs[k]
                for i in range(start, stop):
                    value = y[m, 0, i]
                    y[m, c, i] = (one - value * value) * (v[m, c, i] - two * value * v[m, a, i] * v[m, a, i])


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def backward(v, y, g, pairs):
    members, channels, n = v.shape
    one, two, four = v.dtype.type(1), v.dtype.type(2), v.dtype.type(4)
    first = channels - len(pairs)
    total = np.empty(PIECE, v.dtype)
    for m in range(members):
        for start in range(0, n, PIECE):
            stop = min(start + PIECE, n)
            total[:] = 0
            for c in range(1, channels):
                for i in range(start, stop):
                    total[i - start] += g[m, c, i] * v[m, c, i]
            for i in range(start, stop):
                g[m, 0, i] -= two * y[m, 0, i] * total[i - start]
            for k in range(len(pairs)):
                c, a = first + k, pairs[k]
                for i in range(start, stop):
                    value, part = y[m, 0, i], g[m, c, i] * v[m, a, i]
                    g[m, 0, i] += part * v[m, a, i] * two * (two * value * value - (one - value * value))
                    g[m, a, i] -= four * value * part
            for c in range(channels):
                for i in range(start, stop):
                    g[m, c, i] *= one - y[m, 0, i] * y[m, 0, i]
