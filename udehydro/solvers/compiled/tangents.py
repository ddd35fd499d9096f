"""Tangents along a recorded march, for one model, as loops that numba compiles.

A template like :mod:`udehydro.solvers.compiled.kernels`, whose loops and names it goes on from. A step is linearised at
its stages once, and then carries all tangents: each moves one parameter or one initial storage, in every basin another
where that is wanted.
"""

import numpy as np
from numba import njit

from udehydro.solvers.compiled.kernels import (
    COUNT,
    FACTOR,
    FLUXES,
    FORCINGS,
    HA,
    LANES,
    MOVES,
    ROWS,
    STORES,
    THETAS,
    H,
    M,
    Y,
    load,
    load_point,
)

BY_STORES, BY_FORCINGS = np.ones((6, 2), dtype=np.bool_), np.ones((6, 3), dtype=np.bool_)
"""Which fluxes depend on which stores and forcings."""
QX, QT, PARTIALS = 12, 30, 72
"""Where derivatives of fluxes by forcings and parameters begin in ``d``, behind those by stores; their number."""
FILLED = np.ones((2, 2), dtype=np.bool_)
"""Where the Jacobian with a diagonal, and its factors, have entries."""


def partials(z, w, d):
    """Derivatives of all fluxes by the stores, forcings and parameters they depend on."""


# --- template ---


@njit(cache=True, error_model="numpy", nogil=True)
def factor(z, d):
    """Factors of I - HA J in place of M, without pivoting; pivots inverted."""
    for p in range(STORES):
        for q in range(STORES):
            for e in range(LANES):
                z[(M + p * STORES + q) * LANES + e] = 1.0 if p == q else 0.0
    for f in range(FLUXES):
        source, sink = MOVES[f, 0], MOVES[f, 1]
        for j in range(STORES):
            if BY_STORES[f, j]:
                for e in range(LANES):
                    part = z[HA * LANES + e] * d[(f * STORES + j) * LANES + e]
                    if source >= 0:
                        z[(M + source * STORES + j) * LANES + e] += part
                    if sink >= 0:
                        z[(M + sink * STORES + j) * LANES + e] -= part
    for p in range(STORES):
        for e in range(LANES):
            z[(M + p * STORES + p) * LANES + e] = 1.0 / z[(M + p * STORES + p) * LANES + e]
        for i in range(p + 1, STORES):
            if FILLED[i, p]:
                for e in range(LANES):
                    z[(M + i * STORES + p) * LANES + e] *= z[(M + p * STORES + p) * LANES + e]
                for j in range(p + 1, STORES):
                    if FILLED[p, j]:
                        for e in range(LANES):
                            part = z[(M + i * STORES + p) * LANES + e] * z[(M + p * STORES + j) * LANES + e]
                            z[(M + i * STORES + j) * LANES + e] -= part


@njit(cache=True, error_model="numpy", nogil=True)
def substitute(z, t, x):
    """Solve with these factors, in place, for the rows of ``t`` from ``x``."""
    for i in range(STORES):
        for p in range(i):
            if FILLED[i, p]:
                for e in range(LANES):
                    t[(x + i) * LANES + e] -= z[(M + i * STORES + p) * LANES + e] * t[(x + p) * LANES + e]
    for p in range(STORES - 1, -1, -1):
        for j in range(p + 1, STORES):
            if FILLED[p, j]:
                for e in range(LANES):
                    t[(x + p) * LANES + e] -= z[(M + p * STORES + j) * LANES + e] * t[(x + j) * LANES + e]
        for e in range(LANES):
            t[(x + p) * LANES + e] *= z[(M + p * STORES + p) * LANES + e]


@njit(cache=True, error_model="numpy", nogil=True)
def explicitly(d, t, which, tangent, driven, k, p, base, width):
    """What a tangent does to the fluxes at fixed storage: the first FLUXES rows of ``t``."""
    for e in range(LANES):
        # a tangent that moves no parameter here reads a place of zeros
        moved = which[p, base + min(e, width - 1)]
        at = QT + moved if 0 <= moved < THETAS else PARTIALS
        stride = THETAS if 0 <= moved < THETAS else 0
        for f in range(FLUXES):
            t[f * LANES + e] = d[(at + f * stride) * LANES + e]
    if driven >= 0:
        for x in range(FORCINGS):
            for f in range(FLUXES):
                if BY_FORCINGS[f, x]:
                    for e in range(LANES):
                        moves = tangent[driven, x, k, base + min(e, width - 1)]
                        t[f * LANES + e] += d[(QX + f * FORCINGS + x) * LANES + e] * moves


@njit(cache=True, error_model="numpy", nogil=True)
def spread(t, scale, flux, row, to):
    """Add a row of ``t`` times ``scale`` (lanes) to the stores a flux joins, in the rows from ``to``."""
    source, sink = MOVES[flux, 0], MOVES[flux, 1]
    if source >= 0:
        for e in range(LANES):
            t[(to + source) * LANES + e] -= scale[e] * t[row * LANES + e]
    if sink >= 0:
        for e in range(LANES):
            t[(to + sink) * LANES + e] += scale[e] * t[row * LANES + e]


@njit(cache=True, error_model="numpy", nogil=True)
def push(
    first_tile, last_tile, a, b, forcing, theta, moving, w, days, pieces, first, stages, which, driven, tangent,
    kept_stores, kept_fluxes, storage, volume,
):  # fmt: skip
    """Carry tangents through some tiles of basins.

    which (P, B): the parameter moved, or THETAS + the store, -1 for none. driven (P): -1, or where the tangents of the
    forcings are in tangent (D, forcings, T, B). storage (P, kept, T + 1, B) and volume (P, kept, T, B) are filled for
    the stores and fluxes that are kept.
    """
    count, intervals, basins, n_stages = which.shape[0], len(days), which.shape[1], a.shape[0]
    z, d = np.zeros((ROWS + n_stages * STORES) * LANES), np.zeros((PARTIALS + 1) * LANES)
    # rows of t: fluxes, state of the stage, its slope; of edges: start of the step, slopes of its stages
    state, slopes = FLUXES, FLUXES + STORES
    t, ones, scale = np.zeros((FLUXES + 2 * STORES) * LANES), np.ones(LANES), np.ones(LANES)
    edges = np.zeros((last_tile - first_tile, count, (1 + n_stages) * STORES * LANES))
    totals = np.zeros((count, FLUXES * LANES))
    for tile in range(first_tile, last_tile):
        base = tile * LANES
        width = min(LANES, basins - base)
        for p in range(count):
            for e in range(width):
                store = which[p, base + e] - THETAS
                if store >= 0:
                    edges[tile - first_tile, p, store * LANES + e] = 1.0
            for s in range(len(kept_stores)):
                for e in range(width):
                    storage[p, s, 0, base + e] = edges[tile - first_tile, p, kept_stores[s] * LANES + e]
    for k in range(intervals):
        for tile in range(first_tile, last_tile):
            base = tile * LANES
            width = min(LANES, basins - base)
            edge = edges[tile - first_tile]
            load_point(z, forcing, theta, moving, k, base, width)
            load(z, COUNT, pieces[k], base, width)
            totals[:] = 0.0
            most = 1
            for e in range(LANES):
                most = max(most, int(z[COUNT * LANES + e]))
            for piece in range(most):
                step = first[k] + piece
                for e in range(LANES):
                    on = piece < z[COUNT * LANES + e]
                    z[H * LANES + e] = days[k] / z[COUNT * LANES + e] if on else 0.0
                for stage in range(n_stages):
                    for i in range(STORES):
                        load(z, Y + i, stages[stage, i, step], base, width)
                    partials(z, w, d)
                    for e in range(LANES):
                        z[HA * LANES + e] = z[H * LANES + e] * a[stage, stage]
                        z[FACTOR * LANES + e] = z[H * LANES + e] * b[stage]
                    if a[stage, stage] != 0.0:
                        factor(z, d)
                    for p in range(count):
                        explicitly(d, t, which, tangent, driven[p], k, p, base, width)
                        for i in range(STORES * LANES):
                            t[state * LANES + i] = edge[p, i]
                        for j in range(stage):
                            if a[stage, j] != 0.0:
                                for i in range(STORES):
                                    for e in range(LANES):
                                        slope = edge[p, ((1 + j) * STORES + i) * LANES + e]
                                        t[(state + i) * LANES + e] += a[stage, j] * z[H * LANES + e] * slope
                        if a[stage, stage] != 0.0:
                            for e in range(LANES):
                                scale[e] = z[HA * LANES + e]
                            for f in range(FLUXES):
                                spread(t, scale, f, f, state)
                            substitute(z, t, state)
                        for f in range(FLUXES):
                            for j in range(STORES):
                                if BY_STORES[f, j]:
                                    for e in range(LANES):
                                        part = d[(f * STORES + j) * LANES + e] * t[(state + j) * LANES + e]
                                        t[f * LANES + e] += part
                            for e in range(LANES):
                                totals[p, f * LANES + e] += z[FACTOR * LANES + e] * t[f * LANES + e]
                        for i in range(STORES * LANES):
                            t[slopes * LANES + i] = 0.0
                        for f in range(FLUXES):
                            spread(t, ones, f, f, slopes)
                        for i in range(STORES * LANES):
                            edge[p, (1 + stage) * STORES * LANES + i] = t[slopes * LANES + i]
                for p in range(count):
                    for stage in range(n_stages):
                        if b[stage] != 0.0:
                            for i in range(STORES):
                                for e in range(LANES):
                                    slope = edge[p, ((1 + stage) * STORES + i) * LANES + e]
                                    edge[p, i * LANES + e] += b[stage] * z[H * LANES + e] * slope
            for p in range(count):
                for s in range(len(kept_stores)):
                    for e in range(width):
                        storage[p, s, k + 1, base + e] = edge[p, kept_stores[s] * LANES + e]
                for s in range(len(kept_fluxes)):
                    for e in range(width):
                        volume[p, s, k, base + e] = totals[p, kept_fluxes[s] * LANES + e]
