"""The march and its adjoint for one model, as loops over basins and steps that numba compiles.

This file is a template: :mod:`udehydro.solvers.compiled.module` puts the text below the mark into a module of its own
for every model, behind functions made from the model's laws and constants in place of those declared here. So no loop
is written for a model, and every model's laws are compiled into the loops.

``LANES`` basins go through every step together, so that LLVM computes them side by side: all numbers of a point live in
one array ``z``, at places that are constants of the module, a row of lanes at each. What differs between lanes (steps,
damping, whether a lane is done) is a row too, and no lane changes what another computes.
"""

import numpy as np
from numba import njit

LANES = 8
STORES, FORCINGS, THETAS, FLUXES = 2, 3, 7, 6
"""Numbers of stores, forcings, parameters and fluxes."""
Y, X, T, C, F, J, Q, GY, GX, GT, BASE, R, DX, NEW, OLD, M, START, END, TOTAL, LAM = range(20)
"""Rows of z: state, forcing, parameters, cotangents; tendency, Jacobian, rates, what a pull gives; base, residual,
direction, that of the last trial, state before it, matrix of a stage; start and end of a step, volumes, lambda."""
H, HA, COUNT, LIVE, OK, RUN, FINE, SIZE, TRIAL, WORST, DAMPING, PIVOT, LEAST, FACTOR, ALL = range(20, 35)
"""Rows of z: step, step times diagonal entry, steps in the interval; 1 where a lane is wanted, where all its stages
were solved, where its Newton goes on, where the residual is small; residual accepted, of the last trial, of the stage
that was not solved; damping, smallest pivot of a stage, of all; scratch; 1 where every
lane is wanted and solved."""
ROWS = 35
MEMBERS = np.array([0, 1])
"""Stores of all blocks, one block behind the other; block b has WIDTH[b] of them from BEGIN[b]."""
BEGIN, WIDTH = np.array([0]), np.array([2])
DENSE, FILLED = np.ones((2, 2), dtype=np.bool_), np.ones((2, 2), dtype=np.bool_)
"""Where matrices of blocks have entries, and where the transposed Jacobian and its factors have."""
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


def load_point(z, forcing, theta, moving, k, base, width):
    """Forcings and parameters of the basins from ``base`` at interval ``k`` into their rows."""


def gather_parameters(z, g_theta, moving, k, base, width):
    """Rows of what a pull gives the parameters, added to the gradients of the basins from ``base``."""


def pull_inputs(z, w, gw):
    """After ``linearise``: the fluxes' vector-Jacobian product with C by forcings, parameters and weights."""


# --- template ---

HALVINGS = 6
DECREASE = 0.1
ITERATIONS = 60


@njit(cache=True, error_model="numpy", nogil=True)
def eliminate(z, n, x, filled):
    """Solve M x = x in place, in n unknowns without pivoting, where M and its factors have no entries but ``filled``;
    the row PIVOT gets the smallest pivot."""
    for e in range(LANES):
        z[PIVOT * LANES + e] = np.inf
    for p in range(n):
        for e in range(LANES):
            pivot = z[(M + p * n + p) * LANES + e]
            z[PIVOT * LANES + e] = min(z[PIVOT * LANES + e], pivot)
            z[(M + p * n + p) * LANES + e] = 1.0 / pivot
        for i in range(p + 1, n):
            if filled[i, p]:
                for e in range(LANES):
                    z[FACTOR * LANES + e] = z[(M + i * n + p) * LANES + e] * z[(M + p * n + p) * LANES + e]
                for j in range(p + 1, n):
                    if filled[p, j]:
                        for e in range(LANES):
                            z[(M + i * n + j) * LANES + e] -= z[FACTOR * LANES + e] * z[(M + p * n + j) * LANES + e]
                for e in range(LANES):
                    z[(x + i) * LANES + e] -= z[FACTOR * LANES + e] * z[(x + p) * LANES + e]
    for p in range(n - 1, -1, -1):
        for j in range(p + 1, n):
            if filled[p, j]:
                for e in range(LANES):
                    z[(x + p) * LANES + e] -= z[(M + p * n + j) * LANES + e] * z[(x + j) * LANES + e]
        for e in range(LANES):
            z[(x + p) * LANES + e] *= z[(M + p * n + p) * LANES + e]


@njit(cache=True, error_model="numpy", nogil=True)
def direction(block, z):
    """Newton direction of a block, (I - ha J) NEW = R, and the row PIVOT."""
    n, begin = WIDTH[block], BEGIN[block]
    if n == 1:
        i = MEMBERS[begin]
        for e in range(LANES):
            pivot = 1.0 - z[HA * LANES + e] * z[(J + i * STORES + i) * LANES + e]
            z[PIVOT * LANES + e] = pivot
            z[NEW * LANES + e] = z[R * LANES + e] / pivot
        return
    for p in range(n):
        for q in range(n):
            one, entry = 1.0 if p == q else 0.0, J + MEMBERS[begin + p] * STORES + MEMBERS[begin + q]
            for e in range(LANES):
                z[(M + p * n + q) * LANES + e] = one - z[HA * LANES + e] * z[entry * LANES + e]
        for e in range(LANES):
            z[(NEW + p) * LANES + e] = z[(R + p) * LANES + e]
    eliminate(z, n, NEW, DENSE)


@njit(cache=True, error_model="numpy", nogil=True)
def evaluate(block, z, w, absolute, floor):
    """Tendency of a block, its residual, the residual's size, whether it is fine, and the Newton direction."""
    begin = BEGIN[block]
    body(block, z, w)
    for e in range(LANES):
        z[TRIAL * LANES + e] = 0.0
        z[FINE * LANES + e] = 1.0
    for p in range(WIDTH[block]):
        i = MEMBERS[begin + p]
        for e in range(LANES):
            y = z[(Y + i) * LANES + e]
            r = y - z[(BASE + i) * LANES + e] - z[HA * LANES + e] * z[(F + i) * LANES + e]
            size = abs(y)
            allowed = (1.0 + 1e-3 * size) * max(absolute, floor * (1.0 + size))
            z[(R + p) * LANES + e] = r
            z[TRIAL * LANES + e] += abs(r)
            z[FINE * LANES + e] = z[FINE * LANES + e] if abs(r) <= allowed else 0.0
    direction(block, z)


@njit(cache=True, error_model="numpy", nogil=True)
def solve_block(block, z, w, absolute, floor):
    """Damped Newton for the stores of a block, in place; OK becomes 0 in lanes not solved. Returns the evaluations."""
    n, begin = WIDTH[block], BEGIN[block]
    prologue(block, z, w)
    evaluate(block, z, w, absolute, floor)
    running = evaluations = 0.0
    for e in range(LANES):
        evaluations += z[LIVE * LANES + e]
        z[SIZE * LANES + e] = z[TRIAL * LANES + e]
        z[DAMPING * LANES + e] = 1.0
        pivot = z[PIVOT * LANES + e] if z[LIVE * LANES + e] > 0.0 else np.inf
        z[LEAST * LANES + e] = min(z[LEAST * LANES + e], pivot)
        z[RUN * LANES + e] = z[OK * LANES + e] * (1.0 - z[FINE * LANES + e])
        running += z[RUN * LANES + e]
    for p in range(n):
        for e in range(LANES):
            z[(DX + p) * LANES + e] = z[(NEW + p) * LANES + e]
    tries = 1
    while running > 0.0 and tries <= ITERATIONS:
        for p in range(n):
            i = MEMBERS[begin + p]
            for e in range(LANES):
                y, run = z[(Y + i) * LANES + e], z[RUN * LANES + e] > 0.0
                old = y if run and z[DAMPING * LANES + e] == 1.0 else z[(OLD + p) * LANES + e]
                z[(OLD + p) * LANES + e] = old
                z[(Y + i) * LANES + e] = old - z[DAMPING * LANES + e] * z[(DX + p) * LANES + e] if run else y
        evaluate(block, z, w, absolute, floor)
        tries += 1
        evaluations += running
        running = 0.0
        for e in range(LANES):
            run, size, damping = z[RUN * LANES + e] > 0.0, z[TRIAL * LANES + e], z[DAMPING * LANES + e]
            fine = z[FINE * LANES + e] > 0.0
            exhausted = damping <= 0.5**HALVINGS and size < np.inf
            accepted = run and (fine or exhausted or size <= (1.0 - DECREASE * damping) * z[SIZE * LANES + e])
            goes_on = run and not fine and (accepted or damping > 0.5 ** (2 * HALVINGS))
            z[SIZE * LANES + e] = size if accepted or (run and not goes_on) else z[SIZE * LANES + e]
            z[DAMPING * LANES + e] = 1.0 if accepted else 0.5 * damping
            z[LEAST * LANES + e] = min(z[LEAST * LANES + e], z[PIVOT * LANES + e] if accepted else np.inf)
            z[PIVOT * LANES + e] = 1.0 if accepted else 0.0
            z[RUN * LANES + e] = 1.0 if goes_on else 0.0
            running += z[RUN * LANES + e]
        for p in range(n):
            for e in range(LANES):
                new = z[(NEW + p) * LANES + e]
                z[(DX + p) * LANES + e] = new if z[PIVOT * LANES + e] > 0.0 else z[(DX + p) * LANES + e]
    for e in range(LANES):
        fine = z[FINE * LANES + e] > 0.0
        z[WORST * LANES + e] = z[WORST * LANES + e] if fine or z[OK * LANES + e] == 0.0 else z[SIZE * LANES + e]
        z[OK * LANES + e] = z[OK * LANES + e] if fine else 0.0
    for p in range(n):
        i = MEMBERS[begin + p]
        for e in range(LANES):
            # the last direction is at hand: it makes the state exact to round-off where the law is smooth
            y = z[(Y + i) * LANES + e]
            z[(Y + i) * LANES + e] = y - z[(DX + p) * LANES + e] if z[FINE * LANES + e] > 0.0 else y
    return evaluations


@njit(cache=True, error_model="numpy", nogil=True)
def load(z, row, values, base, width):
    """Values of the basins from ``base`` into a row; lanes beyond the last basin compute it too, and keep nothing."""
    if width == LANES:
        for e in range(LANES):
            z[row * LANES + e] = values[base + e]
    else:
        for e in range(LANES):
            z[row * LANES + e] = values[base + min(e, width - 1)]


@njit(cache=True, error_model="numpy", nogil=True)
def keep(z, row, values, base, width, mask):
    """A row into the values of the basins from ``base``, where the row ``mask`` is not 0."""
    if z[ALL * LANES] > 0.0:
        for e in range(LANES):
            values[base + e] = z[row * LANES + e]
    else:
        for e in range(width):
            if z[mask * LANES + e] > 0.0:
                values[base + e] = z[row * LANES + e]


@njit(cache=True, error_model="numpy", nogil=True)
def take_step(z, w, a, b, guesses, records, step, base, width, warm, recorded, absolute, floor):
    """One step from START, of length H, to END; adds its volumes to TOTAL. Returns the evaluations.

    ``guesses`` and ``records`` (stages, S, n, B) hold the stages that it starts from and those it ends with.
    """
    evaluations, n_stages = 0.0, a.shape[0]
    for i in range(STORES * LANES):
        z[END * LANES + i] = z[START * LANES + i]
    for stage in range(n_stages):
        for i in range(STORES * LANES):
            z[BASE * LANES + i] = z[START * LANES + i]
        for j in range(stage):
            for i in range(STORES):
                slope = ROWS + j * STORES + i
                for e in range(LANES):
                    z[(BASE + i) * LANES + e] += a[stage, j] * z[H * LANES + e] * z[slope * LANES + e]
        if a[stage, stage] == 0.0:
            for i in range(STORES * LANES):
                z[Y * LANES + i] = z[BASE * LANES + i]
        else:
            for e in range(LANES):
                z[HA * LANES + e] = z[H * LANES + e] * a[stage, stage]
            if warm:
                # the last run's stage, moved by as much as its step began elsewhere
                for i in range(STORES):
                    load(z, Y + i, guesses[stage, i, step], base, width)
                    if step > 0:
                        load(z, FACTOR, guesses[n_stages - 1, i, step - 1], base, width)
                        for e in range(LANES):
                            z[(Y + i) * LANES + e] += z[(START + i) * LANES + e] - z[FACTOR * LANES + e]
            for block in range(len(WIDTH)):
                evaluations += solve_block(block, z, w, absolute, floor)
        rates(z, w)
        if recorded:
            for i in range(STORES):
                keep(z, Y + i, records[stage, i, step], base, width, LIVE)
        if stage + 1 < n_stages:
            slope = ROWS + stage * STORES
            for i in range(STORES * LANES):
                z[slope * LANES + i] = 0.0
            for i in range(FLUXES):
                add(z, i, i + Q, slope)
        for e in range(LANES):
            z[FACTOR * LANES + e] = z[H * LANES + e] * b[stage]
        for i in range(FLUXES):
            for e in range(LANES):
                z[(Q + i) * LANES + e] *= z[FACTOR * LANES + e]
            for e in range(LANES):
                z[(TOTAL + i) * LANES + e] += z[(Q + i) * LANES + e]
            add(z, i, Q + i, END)
    return evaluations


@njit(cache=True, error_model="numpy", nogil=True)
def add(z, flux, row, stores):
    """Take what a flux moves from its source and give it to its sink, in the rows from ``stores``."""
    source, sink = MOVES[flux, 0], MOVES[flux, 1]
    if source >= 0:
        for e in range(LANES):
            z[(stores + source) * LANES + e] -= z[row * LANES + e]
    if sink >= 0:
        for e in range(LANES):
            z[(stores + sink) * LANES + e] += z[row * LANES + e]


@njit(cache=True, error_model="numpy", nogil=True)
def march(
    first_tile, last_tile, a, b, forcing, theta, moving, w, days, pieces, first, warm, warm_stages, absolute, floor,
    splits, no_undershoot, storage, volume, starts, stages, needed, failed, worst,
):  # fmt: skip
    """Step some tiles of basins through all intervals; returns the smallest pivot and the evaluations.

    Arrays: storage (S, T + 1, B), volume (F, T, B), stages (stages, S, n, B), starts (S, n, B) unless every interval is
    one step, pieces and needed (T, B), failed (B): the interval that could not be solved.
    """
    intervals, basins, n_stages = volume.shape[1], volume.shape[2], a.shape[0]
    z = np.zeros((ROWS + n_stages * STORES) * LANES)
    smallest, evaluations, cut = np.inf, 0.0, starts.shape[1] > 0
    for e in range(LANES):
        z[LEAST * LANES + e] = np.inf
    for k in range(intervals):
        # all tiles in every interval, since their numbers lie side by side in memory
        for tile in range(first_tile, last_tile):
            base = tile * LANES
            width = min(LANES, basins - base)
            load(z, COUNT, pieces[k], base, width)
            left = 0
            for e in range(LANES):
                wanted = e < width and failed[base + min(e, width - 1)] < 0
                z[LIVE * LANES + e] = 1.0 if wanted else 0.0
                left += wanted
            if left == 0:
                continue
            z[ALL * LANES] = 1.0 if left == LANES else 0.0
            load_point(z, forcing, theta, moving, k, base, width)
            # attempt 0 starts from the stages of the last run, 1 anew; every later one takes twice as many steps
            for attempt in range(0 if warm else 1, splits + 2):
                most = 0
                for e in range(LANES):
                    z[OK * LANES + e] = z[LIVE * LANES + e]
                    z[WORST * LANES + e] = 0.0
                    if z[LIVE * LANES + e] > 0.0:
                        most = max(most, int(z[COUNT * LANES + e]))
                for i in range(STORES):
                    load(z, START + i, storage[i, k], base, width)
                for i in range(STORES * LANES):
                    z[Y * LANES + i] = z[START * LANES + i]
                for i in range(FLUXES * LANES):
                    z[TOTAL * LANES + i] = 0.0
                for piece in range(most):
                    step = first[k] + piece
                    for e in range(LANES):
                        # steps of no length, beside basins that cut this interval finer
                        on = piece < z[COUNT * LANES + e]
                        z[H * LANES + e] = days[k] / z[COUNT * LANES + e] if on else 0.0
                    if cut and attempt <= 1:
                        for i in range(STORES):
                            keep(z, START + i, starts[i, step], base, width, LIVE)
                    evaluations += take_step(
                        z, w, a, b, warm_stages, stages, step, base, width, attempt == 0, attempt <= 1, absolute, floor
                    )
                    for i in range(STORES * LANES):
                        z[START * LANES + i] = z[END * LANES + i]
                if no_undershoot:
                    for i in range(STORES):
                        for e in range(LANES):
                            if z[(END + i) * LANES + e] < -1e-9:
                                z[OK * LANES + e] = 0.0
                solved = 0
                for e in range(LANES):
                    solved += z[OK * LANES + e] > 0.0
                z[ALL * LANES] = 1.0 if solved == LANES else 0.0
                for i in range(STORES):
                    keep(z, END + i, storage[i, k + 1], base, width, OK)
                for i in range(FLUXES):
                    keep(z, TOTAL + i, volume[i, k], base, width, OK)
                for step in range(first[k] + most, first[k + 1]):
                    # basins of other tiles cut this interval finer
                    for i in range(STORES):
                        keep(z, END + i, starts[i, step], base, width, OK)
                        for stage in range(n_stages):
                            keep(z, END + i, stages[stage, i, step], base, width, OK)
                left -= solved
                if left == 0 and attempt <= 1:
                    break
                for e in range(width):
                    if z[LIVE * LANES + e] > 0.0:
                        needed[k, base + e] = int(z[COUNT * LANES + e])
                        if z[OK * LANES + e] > 0.0:
                            z[LIVE * LANES + e] = 0.0
                        else:
                            worst[base + e] = z[WORST * LANES + e]
                            if attempt > 0:
                                z[COUNT * LANES + e] *= 2.0
                if left == 0:
                    break
            if left > 0:
                for e in range(width):
                    if z[LIVE * LANES + e] > 0.0:
                        failed[base + e] = k
    for e in range(LANES):
        smallest = min(smallest, z[LEAST * LANES + e])
    return smallest, evaluations


@njit(cache=True, error_model="numpy", nogil=True)
def pull_stage(z, w, gw, weight, diagonal):
    """Carry cotangents of the volumes in TOTAL, and BASE of the stores, back through the rates of a stage: DX becomes
    the multiplier mu of its equation, and GX, GT and gw what the inputs get."""
    for i in range(FLUXES):
        source, sink = MOVES[i, 0], MOVES[i, 1]
        for e in range(LANES):
            z[(C + i) * LANES + e] = z[H * LANES + e] * weight * z[(TOTAL + i) * LANES + e]
        collect(z, source, sink, i, BASE)
    linearise(z, w)
    for i in range(STORES * LANES):
        z[DX * LANES + i] = z[GY * LANES + i]
    if diagonal != 0.0:
        for e in range(LANES):
            z[HA * LANES + e] = z[H * LANES + e] * diagonal
        for p in range(STORES):
            for q in range(STORES):
                if FILLED[p, q]:
                    one, entry, to = 1.0 if p == q else 0.0, J + q * STORES + p, M + p * STORES + q
                    for e in range(LANES):
                        z[to * LANES + e] = one - z[HA * LANES + e] * z[entry * LANES + e]
        eliminate(z, STORES, DX, FILLED)
        for i in range(STORES):
            for e in range(LANES):
                z[(BASE + i) * LANES + e] = z[HA * LANES + e] * z[(DX + i) * LANES + e]
        for i in range(FLUXES):
            collect(z, MOVES[i, 0], MOVES[i, 1], i, BASE)
    pull_inputs(z, w, gw)


@njit(cache=True, error_model="numpy", nogil=True)
def collect(z, source, sink, flux, stores):
    """Add to the cotangent of a flux what it does to those of its stores."""
    if source >= 0:
        for e in range(LANES):
            z[(C + flux) * LANES + e] -= z[(stores + source) * LANES + e]
    if sink >= 0:
        for e in range(LANES):
            z[(C + flux) * LANES + e] += z[(stores + sink) * LANES + e]


@njit(cache=True, error_model="numpy", nogil=True)
def gather(z, row, values, base, width):
    """Add a row to the values of the basins from ``base``."""
    for e in range(width):
        values[base + e] += z[row * LANES + e]


@njit(cache=True, error_model="numpy", nogil=True)
def reverse(
    first_tile, last_tile, a, b, forcing, theta, moving, wanted, w, days, pieces, first, stages, g_volume,
    adjoint, g_forcing, g_theta, g_weights,
):  # fmt: skip
    """The adjoint of a recorded march; adds to g_forcing (wanted forcings, T, B), g_theta (tuple of (T or 1, B)) and
    g_weights, and to adjoint (T + 1, B, S), which comes with the derivatives by the storages; g_volume is (T, B, F)."""
    intervals, basins, n_stages = g_volume.shape[0], g_volume.shape[1], a.shape[0]
    z, gw = np.zeros((ROWS + n_stages * STORES) * LANES), np.zeros(len(g_weights) * LANES)
    for k in range(intervals - 1, -1, -1):
        for tile in range(first_tile, last_tile):
            base = tile * LANES
            width = min(LANES, basins - base)
            load_point(z, forcing, theta, moving, k, base, width)
            load(z, COUNT, pieces[k], base, width)
            for e in range(LANES):
                basin = base + min(e, width - 1)
                for i in range(FLUXES):
                    z[(TOTAL + i) * LANES + e] = g_volume[k, basin, i]
                for i in range(STORES):
                    z[(LAM + i) * LANES + e] = adjoint[k + 1, basin, i]
            most = 1
            for e in range(LANES):
                most = max(most, int(z[COUNT * LANES + e]))
            for piece in range(most - 1, -1, -1):
                step = first[k] + piece
                for e in range(LANES):
                    on = piece < z[COUNT * LANES + e]
                    z[H * LANES + e] = days[k] / z[COUNT * LANES + e] if on else 0.0
                for stage in range(n_stages - 1, -1, -1):
                    for i in range(STORES):
                        load(z, Y + i, stages[stage, i, step], base, width)
                        for e in range(LANES):
                            z[(BASE + i) * LANES + e] = b[stage] * z[(LAM + i) * LANES + e]
                        for j in range(stage + 1, n_stages):
                            mu = ROWS + j * STORES + i
                            for e in range(LANES):
                                z[(BASE + i) * LANES + e] += a[j, stage] * z[mu * LANES + e]
                        for e in range(LANES):
                            z[(BASE + i) * LANES + e] *= z[H * LANES + e]
                    pull_stage(z, w, gw, b[stage], a[stage, stage])
                    mu = ROWS + stage * STORES
                    for i in range(STORES * LANES):
                        z[mu * LANES + i] = z[DX * LANES + i]
                    gather_parameters(z, g_theta, moving, k, base, width)
                    position = 0
                    for i in range(FORCINGS):
                        if wanted[i]:
                            gather(z, GX + i, g_forcing[position, k], base, width)
                            position += 1
                    for i in range(len(g_weights)):
                        for e in range(width):
                            g_weights[i] += gw[i * LANES + e]
                for stage in range(n_stages):
                    mu = ROWS + stage * STORES
                    for i in range(STORES * LANES):
                        z[LAM * LANES + i] += z[mu * LANES + i]
            for e in range(width):
                for i in range(STORES):
                    adjoint[k, base + e, i] += z[(LAM + i) * LANES + e]
