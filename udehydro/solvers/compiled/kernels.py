"""The march and its adjoint for one model, as loops over basins and steps that numba compiles.

This file is a template: :mod:`udehydro.solvers.compiled.module` puts the text below the mark into a module of its own
for every model, behind functions made from the model's laws and constants in place of those declared here. So no loop
is written for a model, and every model's laws are compiled into the loops. All numbers of a point live in one array
``z``, at places that are constants of the module.
"""

import math

import numpy as np
from numba import njit

STORES, FORCINGS, THETAS, FLUXES = 2, 3, 7, 6
"""Numbers of stores, forcings, parameters and fluxes."""
Y, X, T, C, F, J, Q, GY, GX, GT, BASE, R, DX, OLD, M, SIZE = range(16)
"""Places in z: state, forcing, parameters, cotangents; tendency, Jacobian, rates, what a pull gives; scratch; size."""
MEMBERS = np.array([0, 1])
"""Stores of all blocks, one block behind the other; block b has WIDTH[b] of them from BEGIN[b]."""
BEGIN, WIDTH = np.array([0]), np.array([2])
MOVES = np.array([[-1, 0]])
"""Source and sink of every flux, -1 for a boundary."""


def prologue(block, z, w):
    """What the laws of a block need that does not depend on its own stores."""


def body(block, z, w):
    """Tendency of the stores of a block, and its derivatives by these stores."""


def rates(z, w):
    """All fluxes."""


def linearise(z, w):
    """All entries of the Jacobian that the graph allows, and the fluxes' vector-Jacobian product by the stores."""


def pull_inputs(z, w, gw):
    """Vector-Jacobian product of the fluxes with cotangents c, by forcings, parameters and weights."""


# --- template ---

TILE = 8
HALVINGS = 6
DECREASE = 0.1
ITERATIONS = 60


@njit(cache=True, error_model="numpy")
def allowed(y, absolute, floor):
    size = abs(y)
    return (1.0 + 1e-3 * size) * max(absolute, floor * (1.0 + size))


@njit(cache=True, error_model="numpy")
def eliminate(z, n):
    """Solve M x = DX in place, in n unknowns without pivoting; returns the smallest pivot."""
    smallest = np.inf
    for p in range(n):
        pivot = z[M + p * n + p]
        smallest = min(smallest, pivot)
        for i in range(p + 1, n):
            if z[M + i * n + p] != 0.0:
                factor = z[M + i * n + p] / pivot
                for j in range(p + 1, n):
                    z[M + i * n + j] -= factor * z[M + p * n + j]
                z[DX + i] -= factor * z[DX + p]
    for p in range(n - 1, -1, -1):
        for j in range(p + 1, n):
            z[DX + p] -= z[M + p * n + j] * z[DX + j]
        z[DX + p] /= z[M + p * n + p]
    return smallest


@njit(cache=True, error_model="numpy")
def direction(block, z, ha):
    """Newton direction of a block: (I - ha J) DX = R; returns the smallest pivot."""
    n, begin = WIDTH[block], BEGIN[block]
    if n == 1:
        i = MEMBERS[begin]
        pivot = 1.0 - ha * z[J + i * STORES + i]
        z[DX] = z[R] / pivot
        return pivot
    for p in range(n):
        for q in range(n):
            z[M + p * n + q] = -ha * z[J + MEMBERS[begin + p] * STORES + MEMBERS[begin + q]]
        z[M + p * n + p] += 1.0
        z[DX + p] = z[R + p]
    return eliminate(z, n)


@njit(cache=True, error_model="numpy")
def residual(block, z, ha, absolute, floor):
    """Residual of a stage in a block: its sum of sizes, and whether every entry is within the tolerance."""
    size, fine, begin = 0.0, True, BEGIN[block]
    for p in range(WIDTH[block]):
        i = MEMBERS[begin + p]
        r = z[Y + i] - z[BASE + i] - ha * z[F + i]
        z[R + p] = r
        size += abs(r)
        if not abs(r) <= allowed(z[Y + i], absolute, floor):
            fine = False
    return size, fine


@njit(cache=True, error_model="numpy")
def solve_block(block, z, w, ha, absolute, floor):
    """Damped Newton for the stores of a block, in place; returns if solved, residual, smallest pivot, evaluations."""
    n, begin, evaluations = WIDTH[block], BEGIN[block], 1
    prologue(block, z, w)
    body(block, z, w)
    size, fine = residual(block, z, ha, absolute, floor)
    pivot = direction(block, z, ha)
    damping = 1.0
    while not fine and evaluations <= ITERATIONS:
        for p in range(n):
            i = MEMBERS[begin + p]
            if damping == 1.0:
                z[OLD + p] = z[Y + i]
            z[Y + i] = z[OLD + p] - damping * z[DX + p]
        body(block, z, w)
        evaluations += 1
        new, fine = residual(block, z, ha, absolute, floor)
        exhausted = damping <= 0.5**HALVINGS and math.isfinite(new)
        if fine or exhausted or new <= (1.0 - DECREASE * damping) * size:
            size, damping = new, 1.0
            pivot = min(pivot, direction(block, z, ha))
        elif damping <= 0.5 ** (2 * HALVINGS):
            return False, new, pivot, evaluations
        else:
            damping *= 0.5
    if fine:
        # the last direction is at hand: it makes the state exact to round-off where the law is smooth
        for p in range(n):
            z[Y + MEMBERS[begin + p]] -= z[DX + p]
    return fine, size, pivot, evaluations


@njit(cache=True, error_model="numpy")
def march(
    a, b, forcing, theta, moving, w, days, pieces, first, warm, warm_stages, absolute, floor, splits, no_undershoot,
    storage, volume, starts, stages, needed, failed, worst,
):  # fmt: skip
    """Step through all intervals, a tile of basins at a time; returns the smallest pivot and the evaluations.

    Arrays: storage (S, T + 1, B), volume (F, T, B), stages (stages, S, n, B), starts (S, n, B) unless every interval is
    one step, pieces and needed (T, B), failed (B): the interval that could not be solved.
    """
    intervals, basins, n_stages = volume.shape[1], volume.shape[2], a.shape[0]
    z, y, start, total = np.zeros(SIZE), np.zeros(STORES), np.zeros(STORES), np.zeros(FLUXES)
    slopes, held = np.zeros((n_stages, STORES)), np.zeros((TILE, THETAS))
    smallest, evaluations, cut = np.inf, 0, starts.shape[1] > 0
    for tile in range(0, basins, TILE):
        width = min(TILE, basins - tile)
        for e in range(width):
            for i in range(THETAS):
                held[e, i] = theta[i][0, tile + e]
        for k in range(intervals):
            for e in range(width):
                basin = tile + e
                if failed[basin] >= 0:
                    continue
                for i in range(FORCINGS):
                    z[X + i] = forcing[i][k, basin]
                for i in range(THETAS):
                    z[T + i] = theta[i][k, basin] if moving[i] else held[e, i]
                for i in range(STORES):
                    start[i] = storage[i, k, basin]
                count, solved = pieces[k, basin], False
                # attempt 0 starts from the stages of the last run, 1 anew; every later one takes twice as many steps
                for attempt in range(0 if warm else 1, splits + 2):
                    h = days[k] / count
                    for i in range(STORES):
                        y[i] = start[i]
                        z[Y + i] = start[i]
                    for i in range(FLUXES):
                        total[i] = 0.0
                    solved = True
                    for piece in range(count):
                        step = first[k] + piece
                        if cut and attempt <= 1:
                            for i in range(STORES):
                                starts[i, step, basin] = y[i]
                        for stage in range(n_stages):
                            ha = h * a[stage, stage]
                            for i in range(STORES):
                                value = y[i]
                                for j in range(stage):
                                    value += h * a[stage, j] * slopes[j, i]
                                z[BASE + i] = value
                            if ha == 0.0:
                                for i in range(STORES):
                                    z[Y + i] = z[BASE + i]
                            else:
                                if attempt == 0:
                                    for i in range(STORES):
                                        z[Y + i] = warm_stages[stage, i, step, basin]
                                for block in range(len(WIDTH)):
                                    done, left, pivot, tries = solve_block(block, z, w, ha, absolute, floor)
                                    smallest = min(smallest, pivot)
                                    evaluations += tries
                                    if not done:
                                        solved = False
                                        worst[basin] = left
                                        break
                                if not solved:
                                    break
                            rates(z, w)
                            if attempt <= 1:
                                for i in range(STORES):
                                    stages[stage, i, step, basin] = z[Y + i]
                            for i in range(STORES):
                                slopes[stage, i] = 0.0
                            for i in range(FLUXES):
                                rate = z[Q + i]
                                if MOVES[i, 0] >= 0:
                                    slopes[stage, MOVES[i, 0]] -= rate
                                if MOVES[i, 1] >= 0:
                                    slopes[stage, MOVES[i, 1]] += rate
                                total[i] += h * b[stage] * rate
                        if not solved:
                            break
                        for i in range(STORES):
                            change = 0.0
                            for stage in range(n_stages):
                                change += b[stage] * slopes[stage, i]
                            y[i] += h * change
                    if solved and no_undershoot:
                        for i in range(STORES):
                            if y[i] < -1e-9:
                                solved = False
                    if solved:
                        break
                    if attempt > 0:
                        count *= 2
                needed[k, basin] = count
                if not solved:
                    failed[basin] = k
                    continue
                for step in range(first[k] + count, first[k + 1]):
                    # steps of no length, beside basins that cut this interval finer
                    for i in range(STORES):
                        starts[i, step, basin] = y[i]
                        for stage in range(n_stages):
                            stages[stage, i, step, basin] = y[i]
                for i in range(STORES):
                    # as sums of volumes, so that water closes to round-off however an interval was cut
                    y[i] = start[i]
                for i in range(FLUXES):
                    volume[i, k, basin] = total[i]
                    if MOVES[i, 0] >= 0:
                        y[MOVES[i, 0]] -= total[i]
                    if MOVES[i, 1] >= 0:
                        y[MOVES[i, 1]] += total[i]
                for i in range(STORES):
                    storage[i, k + 1, basin] = y[i]
    return smallest, evaluations


@njit(cache=True, error_model="numpy")
def reverse(
    a, b, forcing, theta, moving, wanted, w, days, pieces, first, stages, g_storage, g_volume, adjoint, g_forcing,
    g_theta, g_weights,
):  # fmt: skip
    """The adjoint of a recorded march; adds to g_forcing (wanted forcings, T, B), g_theta (tuple of (T or 1, B)) and
    g_weights, and fills adjoint (S, T + 1, B)."""
    intervals, basins, n_stages = g_volume.shape[1], g_volume.shape[2], a.shape[0]
    z, mu, lam = np.zeros(SIZE), np.zeros((n_stages, STORES)), np.zeros((TILE, STORES))
    held, sums, gw = np.zeros((TILE, THETAS)), np.zeros((TILE, THETAS)), np.zeros(len(g_weights))
    for tile in range(0, basins, TILE):
        width = min(TILE, basins - tile)
        for e in range(width):
            for i in range(THETAS):
                held[e, i] = theta[i][0, tile + e]
                sums[e, i] = 0.0
            for i in range(STORES):
                lam[e, i] = g_storage[i, intervals, tile + e]
                adjoint[i, intervals, tile + e] = lam[e, i]
        for k in range(intervals - 1, -1, -1):
            for e in range(width):
                basin = tile + e
                for i in range(FORCINGS):
                    z[X + i] = forcing[i][k, basin]
                for i in range(THETAS):
                    z[T + i] = theta[i][k, basin] if moving[i] else held[e, i]
                count = pieces[k, basin]
                h = days[k] / count
                for piece in range(count - 1, -1, -1):
                    step = first[k] + piece
                    for stage in range(n_stages - 1, -1, -1):
                        ha = h * a[stage, stage]
                        for i in range(STORES):
                            z[Y + i] = stages[stage, i, step, basin]
                            value = b[stage] * lam[e, i]
                            for j in range(stage + 1, n_stages):
                                value += a[j, stage] * mu[j, i]
                            z[BASE + i] = h * value
                        for i in range(FLUXES):
                            value = h * b[stage] * g_volume[i, k, basin]
                            if MOVES[i, 0] >= 0:
                                value -= z[BASE + MOVES[i, 0]]
                            if MOVES[i, 1] >= 0:
                                value += z[BASE + MOVES[i, 1]]
                            z[C + i] = value
                        linearise(z, w)
                        for i in range(STORES):
                            z[DX + i] = z[GY + i]
                        if ha != 0.0:
                            for p in range(STORES):
                                for q in range(STORES):
                                    z[M + p * STORES + q] = -ha * z[J + q * STORES + p]
                                z[M + p * STORES + p] += 1.0
                            eliminate(z, STORES)
                            for i in range(FLUXES):
                                if MOVES[i, 0] >= 0:
                                    z[C + i] -= ha * z[DX + MOVES[i, 0]]
                                if MOVES[i, 1] >= 0:
                                    z[C + i] += ha * z[DX + MOVES[i, 1]]
                        pull_inputs(z, w, gw)
                        for i in range(STORES):
                            mu[stage, i] = z[DX + i]
                        position = 0
                        for i in range(FORCINGS):
                            if wanted[i]:
                                g_forcing[position, k, basin] += z[GX + i]
                                position += 1
                        for i in range(THETAS):
                            if moving[i]:
                                g_theta[i][k, basin] += z[GT + i]
                            else:
                                sums[e, i] += z[GT + i]
                        for i in range(len(g_weights)):
                            g_weights[i] += gw[i]
                    for i in range(STORES):
                        for stage in range(n_stages):
                            lam[e, i] += mu[stage, i]
                for i in range(STORES):
                    lam[e, i] += g_storage[i, k, basin]
                    adjoint[i, k, basin] = lam[e, i]
        for e in range(width):
            for i in range(THETAS):
                if not moving[i]:
                    g_theta[i][0, tile + e] += sums[e, i]
