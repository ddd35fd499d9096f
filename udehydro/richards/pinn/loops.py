"""Compiled loops of :mod:`.activation`. A piece of all channels is small enough to stay in the first cache.

Constants have the type of the arrays: a number of Python would turn single precision into double. Rows are cut one by
one, by which the compiler knows them to be contiguous, and works on several numbers at once.
"""

from __future__ import annotations

from numba import njit

PIECE = 256


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def forward(v, pairs):
    members, width, channels, n = v.shape
    rows, first = v.reshape(members * width, channels, n), channels - len(pairs)
    one, two = v.dtype.type(1), v.dtype.type(2)
    for m in range(len(rows)):
        for start in range(0, n, PIECE):
            value = rows[m, 0, start : start + PIECE]
            for k in range(len(pairs)):
                slope, bend = rows[m, pairs[k], start : start + PIECE], rows[m, first + k, start : start + PIECE]
                for i in range(len(value)):
                    y = value[i]
                    bend[i] = (one - y * y) * (bend[i] - two * y * slope[i] * slope[i])
            for c in range(1, first):
                slope = rows[m, c, start : start + PIECE]
                for i in range(len(value)):
                    slope[i] *= one - value[i] * value[i]


@njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def backward(y, g, pairs):
    members, width, channels, n = y.shape
    first = channels - len(pairs)
    jets, grads = y.reshape(members * width, channels, n), g.reshape(members * width, channels, n)
    one, two = y.dtype.type(1), y.dtype.type(2)
    for m in range(len(jets)):
        for start in range(0, n, PIECE):
            stop = start + PIECE
            value, whole = jets[m, 0, start:stop], grads[m, 0, start:stop]
            for i in range(len(value)):
                whole[i] *= one - value[i] * value[i]
            for c in range(1, first):
                slope, part = jets[m, c, start:stop], grads[m, c, start:stop]
                for i in range(len(value)):
                    whole[i] -= two * value[i] * slope[i] * part[i]
                    part[i] *= one - value[i] * value[i]
            for k in range(len(pairs)):
                slope, by_slope = jets[m, pairs[k], start:stop], grads[m, pairs[k], start:stop]
                bend, part = jets[m, first + k, start:stop], grads[m, first + k, start:stop]
                for i in range(len(value)):
                    moved = two * slope[i] * part[i]
                    whole[i] -= two * value[i] * bend[i] * part[i] + moved * slope[i]
                    by_slope[i] -= two * value[i] * moved
                    part[i] *= one - value[i] * value[i]
