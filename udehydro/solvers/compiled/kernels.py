"""The march and its adjoint for one model, as loops over basins and steps that numba compiles.

This file is a template: :mod:`udehydro.solvers.compiled.module` puts the text below the mark into a module of its own
for every model, beside functions made from the model's laws that take the place of the six declared here. So no loop
is written for a model, and every model's laws are compiled into the loops.
"""

import math

import numpy as np
from numba import njit


def prologue(block, y, x, t, w, s, tmp):
    """What the laws of a block need that does not depend on its own stores."""


def body(block, y, x, t, w, s, tmp, f, jac):
    """Tendency f[i] of the stores of a block, and its derivatives jac[i, j] by these stores."""


def rates(y, x, t, w, s, q):
    """All fluxes."""


def jacobian(y, x, t, w, s, jac):
    """All entries of the Jacobian that the graph allows."""


def pull_stores(y, x, t, c, w, s, gy):
    """Vector-Jacobian product of the fluxes with cotangents c, by the stores."""


def pull_inputs(y, x, t, c, w, s, gx, gt, gw):
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
def eliminate(m, x, n):
    """Solve m x = x in place without pivoting; returns the smallest pivot."""
    smallest = np.inf
    for p in range(n):
        smallest = min(smallest, m[p, p])
        for i in range(p + 1, n):
            if m[i, p] != 0.0:
                factor = m[i, p] / m[p, p]
                for j in range(p + 1, n):
                    m[i, j] -= factor * m[p, j]
                x[i] -= factor * x[p]
    for p in range(n - 1, -1, -1):
        for j in range(p + 1, n):
            x[p] -= m[p, j] * x[j]
        x[p] /= m[p, p]
    return smallest


@njit(cache=True, error_model="numpy")
def direction(stores, n, jac, r, ha, m, dx):
    """Newton direction dx of a block: (I - ha J) dx = r; returns the smallest pivot."""
    if n == 1:
        i = stores[0]
        pivot = 1.0 - ha * jac[i, i]
        dx[0] = r[0] / pivot
        return pivot
    for p in range(n):
        for q in range(n):
            m[p, q] = -ha * jac[stores[p], stores[q]]
        m[p, p] += 1.0
        dx[p] = r[p]
    return eliminate(m, dx, n)


@njit(cache=True, error_model="numpy")
def residual(stores, n, y, base, f, ha, absolute, floor, r):
    """Residual of a stage in a block: its sum of sizes, and whether every entry is within the tolerance."""
    size, fine = 0.0, True
    for p in range(n):
        i = stores[p]
        r[p] = y[i] - base[i] - ha * f[i]
        size += abs(r[p])
        if not abs(r[p]) <= allowed(y[i], absolute, floor):
            fine = False
    return size, fine


@njit(cache=True, error_model="numpy")
def solve_block(b, stores, n, linear, y, base, ha, x, t, w, s, tmp, f, jac, r, m, dx, old, absolute, floor, counts):
    """Damped Newton for the stores of a block, from y in place; returns whether solved, residual, smallest pivot."""
    prologue(b, y, x, t, w, s, tmp)
    body(b, y, x, t, w, s, tmp, f, jac)
    counts[0] += 1
    size, fine = residual(stores, n, y, base, f, ha, absolute, floor, r)
    pivot = direction(stores, n, jac, r, ha, m, dx)
    if linear:
        for p in range(n):
            y[stores[p]] -= dx[p]
        return math.isfinite(size), 0.0, pivot
    damping, tries = 1.0, 0
    while not fine and tries < ITERATIONS:
        tries += 1
        for p in range(n):
            i = stores[p]
            if damping == 1.0:
                old[p] = y[i]
            y[i] = old[p] - damping * dx[p]
        body(b, y, x, t, w, s, tmp, f, jac)
        counts[0] += 1
        new, fine = residual(stores, n, y, base, f, ha, absolute, floor, r)
        exhausted = damping <= 0.5**HALVINGS and math.isfinite(new)
        if fine or exhausted or new <= (1.0 - DECREASE * damping) * size:
            size, damping = new, 1.0
            pivot = min(pivot, direction(stores, n, jac, r, ha, m, dx))
        elif damping <= 0.5 ** (2 * HALVINGS):
            return False, new, pivot
        else:
            damping *= 0.5
    if fine:
        # the last direction is at hand: it makes the state exact to round-off where the law is smooth
        for p in range(n):
            y[stores[p]] -= dx[p]
    return fine, size, pivot


@njit(cache=True, error_model="numpy")
def march(
    blocks, sizes, linear, moves, a, b, forcing, theta, moving, w, days, pieces, first, warm, warm_stages, absolute,
    floor, splits, no_undershoot, temporaries, workspace, storage, volume, starts, stages, needed, failed, worst,
    counts,
):  # fmt: skip
    """Step through all intervals, a tile of basins at a time.

    Arrays: storage (S, T + 1, B), volume (F, T, B), stages (stages, S, n, B), starts (S, n, B) unless every interval is
    one step, pieces and needed (T, B), failed (B): the interval that could not be solved.
    """
    n_stores, intervals, basins = storage.shape[0], storage.shape[1] - 1, storage.shape[2]
    n_forcing, n_theta, n_fluxes, n_stages = len(forcing), len(theta), volume.shape[0], a.shape[0]
    widest = sizes.max()
    x, t, y = np.zeros(n_forcing), np.zeros(n_theta), np.zeros(n_stores)
    start, base, state, q = np.zeros(n_stores), np.zeros(n_stores), np.zeros(n_stores), np.zeros(n_fluxes)
    f, jac, slopes = np.zeros(n_stores), np.zeros((n_stores, n_stores)), np.zeros((n_stages, n_stores))
    r, m, dx, old = np.zeros(widest), np.zeros((widest, widest)), np.zeros(widest), np.zeros(widest)
    tmp, s, total = np.zeros(temporaries), np.zeros(workspace), np.zeros(n_fluxes)
    held = np.zeros((TILE, n_theta))
    smallest, cut = np.inf, starts.shape[1] > 0
    for tile in range(0, basins, TILE):
        width = min(TILE, basins - tile)
        for e in range(width):
            for i in range(n_theta):
                held[e, i] = theta[i][0, tile + e]
        for k in range(intervals):
            for e in range(width):
                basin = tile + e
                if failed[basin] >= 0:
                    continue
                for i in range(n_forcing):
                    x[i] = forcing[i][k, basin]
                for i in range(n_theta):
                    t[i] = theta[i][k, basin] if moving[i] else held[e, i]
                for i in range(n_stores):
                    start[i] = storage[i, k, basin]
                count, solved = pieces[k, basin], False
                for halving in range(splits + 1):
                    h = days[k] / count
                    for i in range(n_stores):
                        y[i] = start[i]
                        state[i] = start[i]
                    for i in range(n_fluxes):
                        total[i] = 0.0
                    solved = True
                    for piece in range(count):
                        step = first[k] + piece
                        if cut and halving == 0:
                            for i in range(n_stores):
                                starts[i, step, basin] = y[i]
                        for stage in range(n_stages):
                            ha = h * a[stage, stage]
                            for i in range(n_stores):
                                value = y[i]
                                for j in range(stage):
                                    value += h * a[stage, j] * slopes[j, i]
                                base[i] = value
                            if ha == 0.0:
                                for i in range(n_stores):
                                    state[i] = base[i]
                            else:
                                if warm and halving == 0:
                                    for i in range(n_stores):
                                        state[i] = warm_stages[stage, i, step, basin]
                                for block in range(len(sizes)):
                                    done, left, pivot = solve_block(
                                        block, blocks[block], sizes[block], linear[block], state, base, ha, x, t, w, s,
                                        tmp, f, jac, r, m, dx, old, absolute, floor, counts,
                                    )  # fmt: skip
                                    smallest = min(smallest, pivot)
                                    if not done:
                                        solved = False
                                        worst[basin] = left
                                        break
                                if not solved:
                                    break
                            rates(state, x, t, w, s, q)
                            if halving == 0:
                                for i in range(n_stores):
                                    stages[stage, i, step, basin] = state[i]
                            for i in range(n_stores):
                                slopes[stage, i] = 0.0
                            for i in range(n_fluxes):
                                if moves[i, 0] >= 0:
                                    slopes[stage, moves[i, 0]] -= q[i]
                                if moves[i, 1] >= 0:
                                    slopes[stage, moves[i, 1]] += q[i]
                                total[i] += h * b[stage] * q[i]
                        if not solved:
                            break
                        for i in range(n_stores):
                            change = 0.0
                            for stage in range(n_stages):
                                change += b[stage] * slopes[stage, i]
                            y[i] += h * change
                    if solved and no_undershoot:
                        for i in range(n_stores):
                            if y[i] < -1e-9:
                                solved = False
                    if solved:
                        break
                    count *= 2
                needed[k, basin] = count
                if not solved:
                    failed[basin] = k
                    continue
                for step in range(first[k] + count, first[k + 1]):
                    # steps of no length, beside basins that cut this interval finer
                    for i in range(n_stores):
                        starts[i, step, basin] = y[i]
                        for stage in range(n_stages):
                            stages[stage, i, step, basin] = y[i]
                for i in range(n_fluxes):
                    volume[i, k, basin] = total[i]
                for i in range(n_stores):
                    # as sums of volumes, so that water closes to round-off however an interval was cut
                    storage[i, k + 1, basin] = start[i]
                for i in range(n_fluxes):
                    if moves[i, 0] >= 0:
                        storage[moves[i, 0], k + 1, basin] -= total[i]
                    if moves[i, 1] >= 0:
                        storage[moves[i, 1], k + 1, basin] += total[i]
    return smallest


@njit(cache=True, error_model="numpy")
def reverse(
    sizes, moves, a, b, forcing, theta, moving, wanted, w, days, pieces, first, workspace, stages, g_storage, g_volume,
    adjoint, g_forcing, g_theta, g_weights,
):  # fmt: skip
    """The adjoint of a recorded march; adds to g_forcing (wanted forcings, T, B), g_theta (tuple of (T or 1, B)) and
    g_weights, and fills adjoint (S, T + 1, B)."""
    n_stores, intervals, basins = adjoint.shape[0], adjoint.shape[1] - 1, adjoint.shape[2]
    n_forcing, n_theta, n_fluxes, n_stages = len(forcing), len(theta), g_volume.shape[0], a.shape[0]
    x, t, y, c, own = np.zeros(n_forcing), np.zeros(n_theta), np.zeros(n_stores), np.zeros(n_fluxes), np.zeros(n_fluxes)
    jac, m = np.zeros((n_stores, n_stores)), np.zeros((n_stores, n_stores))
    mu, right, known = np.zeros((n_stages, n_stores)), np.zeros(n_stores), np.zeros(n_stores)
    gx, gt, gw = np.zeros(max(1, n_forcing)), np.zeros(max(1, n_theta)), np.zeros(len(g_weights))
    s, lam = np.zeros(workspace), np.zeros((TILE, n_stores))
    held, sums = np.zeros((TILE, n_theta)), np.zeros((TILE, n_theta))
    for tile in range(0, basins, TILE):
        width = min(TILE, basins - tile)
        for e in range(width):
            for i in range(n_theta):
                held[e, i] = theta[i][0, tile + e]
                sums[e, i] = 0.0
            for i in range(n_stores):
                lam[e, i] = g_storage[i, intervals, tile + e]
                adjoint[i, intervals, tile + e] = lam[e, i]
        for k in range(intervals - 1, -1, -1):
            for e in range(width):
                basin = tile + e
                for i in range(n_forcing):
                    x[i] = forcing[i][k, basin]
                for i in range(n_theta):
                    t[i] = theta[i][k, basin] if moving[i] else held[e, i]
                count = pieces[k, basin]
                h = days[k] / count
                for piece in range(count - 1, -1, -1):
                    step = first[k] + piece
                    for stage in range(n_stages - 1, -1, -1):
                        for i in range(n_stores):
                            y[i] = stages[stage, i, step, basin]
                            value = b[stage] * lam[e, i]
                            for j in range(stage + 1, n_stages):
                                value += a[j, stage] * mu[j, i]
                            known[i] = h * value
                        for i in range(n_fluxes):
                            own[i] = h * b[stage] * g_volume[i, k, basin]
                            c[i] = own[i]
                            if moves[i, 0] >= 0:
                                c[i] -= known[moves[i, 0]]
                            if moves[i, 1] >= 0:
                                c[i] += known[moves[i, 1]]
                        pull_stores(y, x, t, c, w, s, right)
                        if a[stage, stage] != 0.0:
                            jacobian(y, x, t, w, s, jac)
                            ha = h * a[stage, stage]
                            for p in range(n_stores):
                                for q in range(n_stores):
                                    m[p, q] = -ha * jac[q, p]
                                m[p, p] += 1.0
                            eliminate(m, right, n_stores)
                            for i in range(n_fluxes):
                                if moves[i, 0] >= 0:
                                    c[i] -= ha * right[moves[i, 0]]
                                if moves[i, 1] >= 0:
                                    c[i] += ha * right[moves[i, 1]]
                        pull_inputs(y, x, t, c, w, s, gx, gt, gw)
                        for i in range(n_stores):
                            mu[stage, i] = right[i]
                        position = 0
                        for i in range(n_forcing):
                            if wanted[i]:
                                g_forcing[position, k, basin] += gx[position]
                                position += 1
                        for i in range(n_theta):
                            if moving[i]:
                                g_theta[i][k, basin] += gt[i]
                            else:
                                sums[e, i] += gt[i]
                        for i in range(len(g_weights)):
                            g_weights[i] += gw[i]
                    for i in range(n_stores):
                        for stage in range(n_stages):
                            lam[e, i] += mu[stage, i]
                for i in range(n_stores):
                    lam[e, i] += g_storage[i, k, basin]
                    adjoint[i, k, basin] = lam[e, i]
        for e in range(width):
            for i in range(n_theta):
                if not moving[i]:
                    g_theta[i][0, tile + e] += sums[e, i]
