"""Loops compiled by numba: curves of soils, the equations of a stage, Newton's iteration, and the march through time.

They say for one column after the other what laws, weightings, boundaries, sinks, `System.linear`, :mod:`.newton` and
:mod:`.march` say in torch for all columns at once; :mod:`.compiled` fills their tables. All of them are in one file
because numba renews a loop it has kept when the file of that loop changes, not when that of another it calls does.
"""

from __future__ import annotations

from math import exp, expm1, isfinite, log, log1p, sqrt, tanh
from typing import NamedTuple

import numpy as np

from udehydro.solvers.chain_numba import njit

VAN_GENUCHTEN, GARDNER, HAVERKAMP, HAVERKAMP_LOG, BROOKS_COREY, SPLINE, NET = range(7)
ARITHMETIC, GEOMETRIC, HARMONIC, UPWIND = range(4)
HEAD, FLUX, DRAINAGE, SEEPAGE, ATMOSPHERE = range(5)
SOURCE, ROOTS = range(2)
PSI, KNOWN, ROW, RATE, LOWER, DIAGONAL, UPPER, CAPACITY, START, STEP, FACTOR, MASS, END, RATES = range(14)
"""Rows of the room for a column: a stage, its equations, Newton's iteration, water at the start and the end of a step,
rates at the start and of all stages; then heads of all stages."""
INTERVAL, TAKEN, FAILED, SOLVED, RECORDED, ACCEPTED, REJECTED, ITERATIONS = range(8)
REST, PROPOSED = range(2)
TINY, EPS = np.finfo(float).tiny ** 0.5, np.finfo(float).eps


class Tables(NamedTuple):
    """Columns as the loops read them; where all intervals or columns share a value, it is there once.

    Attributes
    ----------
    sizes : (3, node) thickness and specific storage of nodes, distance to the node above. ``gravity`` : 1 or 0.
    layers : (layer, 5) law, first and last node, row of ``soil`` where parameters begin, and 1 where every cell has a
        row of its own. ``soil`` : (columns, row, parameter).
    kinds : (3 + sinks,) of the weighting, the boundaries at the top and the bottom, and the sinks.
    limits : (T, columns, 6) three values of each boundary.
    amount : (sink, T, columns) [cm/d]. ``share`` : (sink, T, columns, 4 + cell) heads that reduce it, share by cell.
    """

    sizes: np.ndarray
    gravity: float
    layers: np.ndarray
    soil: np.ndarray
    kinds: np.ndarray
    limits: np.ndarray
    amount: np.ndarray
    share: np.ndarray


class Rules(NamedTuple):
    """Newton's iteration (:mod:`.newton`), and steps (:mod:`.steps`).

    ``scheme`` (stages + 2, stages + 1) holds the tableau, its weights and those of the error; ``equal`` steps make an
    interval, or with 0 steps follow from their error.
    """

    iterations: int
    shorter: int
    tolerance: float
    water: float
    floor: float
    beyond: float
    no_worse: float
    scheme: np.ndarray
    equal: int
    error: float
    smallest: float
    largest: float
    most: int


class State(NamedTuple):
    """Where columns are.

    Attributes
    ----------
    nodes : (3, columns, node) heads, water, rates.
    numbers : (8, columns) the INTERVAL, steps tried in it (TAKEN), whether the last one FAILED and was SOLVED, steps
        RECORDED by this call, and counts.
    times : (2, columns) what is left of the interval (REST), and the next step (PROPOSED) [d].

    Of a column that failed, REST is the length of that step, and the place of rates has what its equations miss.
    """

    nodes: np.ndarray
    numbers: np.ndarray
    times: np.ndarray


class Found(NamedTuple):
    """Heads and water (2, T, columns, node), volumes (T, columns, channel), as in :class:`.march.March`, and a tape of
    steps as in :class:`.march.Taken`: interval and whether it ends (2, step, columns), length (step, columns), water at
    the start and heads of stages (1 + stages, step, columns, node)."""

    nodes: np.ndarray
    volume: np.ndarray
    places: np.ndarray
    lengths: np.ndarray
    steps: np.ndarray


def _compiled(function):
    """Loops that Python calls are kept on disk."""
    if njit is None:
        return function
    return njit(cache=not function.__name__.startswith("_"), error_model="numpy", nogil=True)(function)


def _inlined(function):
    """What is called in one place is compiled there, which saves a quarter of the time that takes."""
    return function if njit is None else njit(inline="always")(function)


# Curves of a soil: effective saturation with the slope of its logarithm by the head, and the same of K / Ks, from
# parameters p = (theta_r, theta_s, Ks, ...), whose other ones `compiled.LAWS` puts there.


@_inlined
def _van_genuchten(psi, p):
    """With x = log((alpha s)^n): log S = -m log(1 + e^x), pores 1 - e^-y at y = m log(1 + e^-x), K / Ks = S^l pores^2;
    log S and pores^2 at the air entry are p[7] and p[8].
    """
    n, l = p[4], p[5]
    if psi >= -p[6]:
        return 1.0, 0.0, 1.0, 0.0
    m, x = 1.0 - 1.0 / n, min(n * log(-p[3] * psi), 600.0)
    e = exp(-abs(x))
    tail, low = log1p(e), e / (1.0 + e)
    saturation, drop = -m * (max(x, 0.0) + tail) - p[7], expm1(-m * (max(-x, 0.0) + tail))
    above, below, by_x = 1.0 - low if x > 0.0 else low, low if x > 0.0 else 1.0 - low, -m * n / psi
    steep = l * by_x * above - 2.0 * by_x * below * (1.0 + drop) / drop
    return exp(saturation), by_x * above, exp(l * saturation) * drop * drop / p[8], steep


@_inlined
def _gardner(psi, p):
    if psi >= 0.0:
        return 1.0, 0.0, 1.0, 0.0
    full = exp(p[3] * psi)
    return full, p[3], full, p[3]


@_inlined
def _haverkamp(psi, p, of_logarithm):
    """From log alpha, beta, log A, gamma; saturation falls with the suction, or with its logarithm."""
    full, slope, relative, steep = 1.0, 0.0, 1.0, 0.0
    if psi < 0.0:
        x = log(-psi)
        relative, steep = _falling(p[6] * x - p[5], p[6] / psi)
        if not of_logarithm:
            full, slope = _falling(p[4] * x - p[3], p[4] / psi)
        elif psi < -1.0:
            full, slope = _falling(p[4] * log(x) - p[3], p[4] / (x * psi))
    return full, slope, relative, steep


@_compiled
def _falling(x, by_psi):
    """1 / (1 + e^x), and the slope of its logarithm."""
    e = exp(-abs(x))
    low = e / (1.0 + e)
    high = 1.0 / (1.0 + e)
    return (low, -high * by_psi) if x > 0.0 else (high, -low * by_psi)


@_inlined
def _brooks_corey(psi, p):
    entry, power = p[3], p[4]
    if psi >= -entry:
        return 1.0, 0.0, 1.0, 0.0
    x, steep = log(-psi / entry), (p[5] + 2.0) * power + 2.0
    return exp(-power * x), -power / psi, exp(-steep * x), -steep / psi


@_inlined
def _free_form(psi, p, spline):
    """From the offset, the number of knots or units, and the numbers of both curves."""
    if psi >= 0.0:
        return 1.0, 0.0, 1.0, 0.0
    offset, n = p[3], int(p[4])
    x = log1p((psi / offset) ** 2) / (2.0 * log(10.0))
    by_psi = -psi / (log(10.0) * (offset * offset + psi * psi))
    if spline:
        g, g_slope = _spline(x, n, p, 5 + n)
        h, h_slope = _spline(x, n, p, 5 + 3 * n)
    else:
        g, g_slope = _net(x, n, p, 5)
        h, h_slope = _net(x, n, p, 7 + 3 * n)
    return exp(-g), g_slope * by_psi, exp(-h), h_slope * by_psi


@_compiled
def _spline(x, n, p, at):
    """Cubic Hermite curve and its slope, linear beyond the last knot; p[at:] holds its values and slopes at knots."""
    i = 0
    while i < n - 2 and x >= p[6 + i]:
        i += 1
    h, y0, y1, d0, d1 = p[6 + i] - p[5 + i], p[at + i], p[at + i + 1], p[at + n + i], p[at + n + i + 1]
    t = (x - p[5 + i]) / h
    if t > 1.0:
        return y1 + d1 * h * (t - 1.0), d1
    u = 1.0 - t
    value = y0 + (y1 - y0) * t * t * (3.0 - 2.0 * t) + h * t * u * (d0 * u - d1 * t)
    return value, 6.0 * t * u * (y1 - y0) / h + d0 * u * (1.0 - 3.0 * t) + d1 * t * (3.0 * t - 2.0)


@_compiled
def _net(x, n, p, at):
    """Network of n units and its slope; p[at:] holds v, w, c, a and the value of the units at x = 0."""
    value, slope = p[at + 3 * n] * x - p[at + 3 * n + 1], p[at + 3 * n]
    for j in range(at, at + n):
        v, w = p[j], p[j + n]
        z = v * (x - p[j + 2 * n])
        if j < at + n // 2:
            unit = tanh(z)
            gain = 1.0 - unit * unit
        else:
            e = exp(-abs(z))
            low = e / (1.0 + e)
            unit, gain = max(z, 0.0) + log1p(e), 1.0 - low if z > 0.0 else low
        value += w * unit
        slope += w * v * gain
    return value, slope


@_compiled
def _curves(law, psi, p):
    """Water content, its slope, conductivity, its slope."""
    if law == VAN_GENUCHTEN:
        full, rise, relative, steep = _van_genuchten(psi, p)
    elif law == GARDNER:
        full, rise, relative, steep = _gardner(psi, p)
    elif law == HAVERKAMP or law == HAVERKAMP_LOG:
        full, rise, relative, steep = _haverkamp(psi, p, law == HAVERKAMP_LOG)
    elif law == BROOKS_COREY:
        full, rise, relative, steep = _brooks_corey(psi, p)
    else:
        full, rise, relative, steep = _free_form(psi, p, law == SPLINE)
    pores, k = p[1] - p[0], p[2] * relative
    return p[0] + pores * full if full < 0.5 else p[1] - pores * (1.0 - full), pores * full * rise, k, k * steep


@_compiled
def curves(law, psi, soil, found):
    """Of heads (columns, node) into ``found`` (4, columns, node); ``soil`` (columns or 1, node or 1, parameter)."""
    for b in range(psi.shape[0]):
        for j in range(psi.shape[1]):
            p = soil[min(b, soil.shape[0] - 1), min(j, soil.shape[1] - 1)]
            found[0, b, j], found[1, b, j], found[2, b, j], found[3, b, j] = _curves(law, psi[b, j], p)


# The equations of a stage of one column; w (row, node) is the room for it.


@_inlined
def _weigh(weighting, upper, lower, drive):
    """As in :mod:`.weighting`."""
    if weighting == ARITHMETIC:
        return 0.5 * (upper + lower), 0.5, 0.5
    if weighting == GEOMETRIC:
        up, low = sqrt(max(upper, TINY)), sqrt(max(lower, TINY))
        return up * low, 0.5 * low / up, 0.5 * up / low
    if weighting == HARMONIC:
        total = max(upper + lower, TINY)
        up, low = upper / total, lower / total
        return 2.0 * up * lower, 2.0 * low * low, 2.0 * up * up
    return (lower, 0.0, 1.0) if drive > 0.0 else (upper, 1.0, 0.0)


@_compiled
def _pick(t, k, b):
    """Tables of column b in interval k, without dimensions of columns and intervals."""
    soil, v = t.soil[min(b, len(t.soil) - 1)], t.limits[min(k, len(t.limits) - 1), min(b, t.limits.shape[1] - 1)]
    amount = t.amount[:, min(k, t.amount.shape[1] - 1), min(b, t.amount.shape[2] - 1)]
    share = t.share[:, min(k, t.share.shape[1] - 1), min(b, t.share.shape[2] - 1)]
    return Tables(t.sizes, t.gravity, t.layers, soil, t.kinds, v, amount, share)


@_inlined
def _flow(t, psi, water, rate, lower, diagonal, upper, capacity):
    """Water of cells, and what flows into nodes; lower and upper get slopes of fluxes, the diagonal their sum."""
    thickness, storage, distance = t.sizes[0], t.sizes[1], t.sizes[2]
    for j in range(len(psi)):
        rate[j], diagonal[j], water[j], capacity[j] = 0.0, 0.0, 0.0, 0.0
    for a in range(len(t.layers)):
        law, first, last, start, own = t.layers[a]
        k_above, steep_above = 0.0, 0.0
        for j in range(first, last + 1):
            p = t.soil[start + own * min(max(j - first - 1, 0), last - first - 2)]
            theta, c, k, steep = _curves(law, psi[j], p)
            if first < j < last:
                water[j] = thickness[j] * (theta + storage[j] * max(psi[j], 0.0))
                capacity[j] = thickness[j] * (c + (storage[j] if psi[j] > 0.0 else 0.0))
            if j > first:
                drive = (psi[j] - psi[j - 1]) / distance[j] - t.gravity
                value, by_above, by_below = _weigh(t.kinds[0], k_above, k, drive)
                flux, slope = value * drive, value / distance[j]
                above, below = by_above * steep_above * drive - slope, by_below * steep * drive + slope
                rate[j - 1] += flux
                rate[j] -= flux
                diagonal[j - 1] -= above
                diagonal[j] += below
                lower[j], upper[j - 1] = above, below
            k_above, steep_above = k, steep


@_inlined
def _take(kind, amount, share, layers, psi, rate, diagonal):
    """What a sink takes, as in :mod:`.sinks`; ``share`` holds four heads, and shares of cells."""
    anaerobic, wet, dry, wilting = share[0], share[1], share[2], share[3]
    total = 0.0
    for a in range(len(layers)):
        for j in range(layers[a, 1] + 1, layers[a, 2]):
            uptake = amount * share[3 + j - a]
            if kind == ROOTS:
                wetness, dryness = (anaerobic - psi[j]) / (anaerobic - wet), (psi[j] - wilting) / (dry - wilting)
                part = min(wetness, dryness)
                if 0.0 < part < 1.0:
                    diagonal[j] += uptake / (wet - anaerobic if wetness < dryness else dry - wilting)
                uptake *= min(max(part, 0.0), 1.0)
            total += uptake
            rate[j] -= uptake
    return total


@_compiled
def _close(kind, v0, v1, v2, psi, beside, supply, known, tau):
    """As in :mod:`.boundary`: row, its slopes by head, head beside and supply, inflow, and what is refused.

    v0 is a head, an inflow, or the potential inflow of an atmosphere; v1 its deepest pond, v2 its driest head.
    """
    if kind == HEAD:
        return psi - v0, 1.0, 0.0, 0.0, -supply, 0.0
    if kind == FLUX:
        return -known - tau * (supply + v0), 0.0, 0.0, -tau, v0, 0.0
    if kind == DRAINAGE:
        return psi - beside, 1.0, -1.0, 0.0, -supply, 0.0
    if kind == SEEPAGE:
        closed = -tau * supply
        return (psi, 1.0, 0.0, 0.0, -supply, 0.0) if psi >= closed else (closed, 0.0, 0.0, -tau, -supply, 0.0)
    held = max(psi, 0.0)
    free = held - known - tau * (supply + v0)
    above, below = psi - v1, psi - v2
    if above >= free or below <= free:
        excess = v0 - ((held - known) / tau - supply)
        return above if above >= free else below, 1.0, 0.0, 0.0, v0 - excess, excess
    holds = psi > 0.0 or psi == 0.0 and free <= 0.0  # a pond that is empty cannot sink
    return free, 1.0 if holds else 0.0, 0.0, -tau, v0, 0.0


@_compiled
def _project(kind, v0, v1, v2, psi, beside):
    """Where a boundary may have a head."""
    if kind == HEAD:
        return v0
    if kind == DRAINAGE:
        return beside
    if kind == SEEPAGE:
        return min(psi, 0.0)
    return min(max(psi, v2), v1) if kind == ATMOSPHERE else psi


@_compiled
def _equations(t, w, tau, moved):
    """As `System.linear` at PSI and KNOWN, into ROW to CAPACITY and ``moved`` (channel,)."""
    psi, known, row, rate, lower, diagonal, upper, capacity = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
    v, end = t.limits, len(psi) - 1
    _flow(t, psi, row, rate, lower, diagonal, upper, capacity)
    for s in range(len(t.amount)):
        moved[4 + s] = _take(t.kinds[3 + s], t.amount[s], t.share[s], t.layers, psi, rate, diagonal)
    top = _close(t.kinds[1], v[0], v[1], v[2], psi[0], psi[1], rate[0], known[0], tau)
    low = _close(t.kinds[2], v[3], v[4], v[5], psi[end], psi[end - 1], rate[end], known[end], tau)
    for j in range(1, end):
        row[j] = row[j] - known[j] - tau * rate[j]
        diagonal[j] = capacity[j] + tau * diagonal[j]
    row[0], diagonal[0], row[end], diagonal[end] = top[0], top[1], low[0], low[1]
    diagonal[0] += top[3] * lower[1]
    diagonal[end] -= low[3] * upper[end - 1]
    upper[0], lower[end] = top[2] + top[3] * upper[0], low[2] - low[3] * lower[end]
    lower[0], upper[end] = 0.0, 0.0
    for j in range(1, end):
        upper[j] *= -tau
        lower[j] *= tau
    if t.kinds[1] == ATMOSPHERE and psi[0] >= 0.0:
        capacity[0] = 1.0
    rate[0] += top[4]
    rate[end] += low[4]
    moved[0], moved[1], moved[2], moved[3] = top[4], low[4], max(top[5], 0.0), max(-top[5], 0.0)


@_compiled
def equations(t, w, tau, moved):
    """Those of all columns, w (columns, row, node) and ``moved`` (columns, channel)."""
    for b in range(len(w)):
        _equations(_pick(t, 0, b), w[b], tau[b], moved[b])


# Newton's iteration.


@_inlined
def _judge(tolerance, water, psi, known, row, diagonal, tau):
    """Sum of the squares of what is missed, and whether that is little enough."""
    size, done, allowed = 0.0, True, min(tolerance * tau, water)
    for j in range(len(psi)):
        size += row[j] * row[j]
        round_off = 8.0 * EPS * (abs(diagonal[j]) * (1.0 + abs(psi[j])) + abs(known[j]))
        done = done and abs(row[j]) <= allowed + round_off
    return size, done


@_compiled
def _solve(lower, diagonal, upper, x, factor):
    """Replace the right side x by the solution: Thomas' algorithm."""
    pivot = diagonal[0]
    x[0] /= pivot
    for j in range(1, len(x)):
        factor[j] = upper[j - 1] / pivot
        pivot = diagonal[j] - lower[j] * factor[j]
        x[j] = (x[j] - lower[j] * x[j - 1]) / pivot
    for j in range(len(x) - 2, -1, -1):
        x[j] -= factor[j + 1] * x[j + 1]


@_compiled
def _move(kinds, v, psi, start, step, part):
    """Go along a step from its start."""
    end = len(psi) - 1
    for j in range(end + 1):
        psi[j] = start[j] + part * step[j]
    psi[0] = _project(kinds[1], v[0], v[1], v[2], psi[0], psi[1])
    psi[end] = _project(kinds[2], v[3], v[4], v[5], psi[end], psi[end - 1])


@_inlined
def _to_saturation(start, step):
    """As in :mod:`.newton`."""
    part = 0.5
    for j in range(len(start)):
        if start[j] < -1.0 and step[j] > 0.0:
            part = min(part, -start[j] / step[j])
    return part


@_inlined
def _to_air_entry(t, beyond, start, step):
    """As in :mod:`.newton`."""
    part = 1.0
    for a in range(len(t.layers)):
        law, first, last, row, own = t.layers[a]
        for j in range(first + 1, last):
            p = t.soil[row + own * (j - first - 1)]
            entry = -p[6] if law == VAN_GENUCHTEN else -p[3] if law == BROOKS_COREY else 0.0
            if entry < 0.0 and start[j] >= entry and start[j] + step[j] < entry:
                part = min(part, (entry * (1.0 + beyond) - start[j]) / step[j])
    return part


@_inlined
def _newton(t, rules, w, tau, moved):
    """As :func:`.newton.solve`; whether a stage is solved, and the iterations."""
    psi, row, diagonal, start, step = w[PSI], w[ROW], w[DIAGONAL], w[START], w[STEP]
    count, cuts, part, least, size = 0, 0, 1.0, 1.0, 0.0
    while True:
        _equations(t, w, tau, moved)
        now, done = _judge(rules.tolerance, rules.water, psi, w[KNOWN], row, diagonal, tau)
        if done:
            return True, count
        if count == 0 or now <= least * size:
            if count == rules.iterations:
                return False, count
            count, cuts, part, least, size = count + 1, 0, 1.0, 1.0 - 1e-4, now
            for j in range(len(psi)):
                start[j], step[j] = psi[j], -row[j]
                diagonal[j] += rules.floor * abs(diagonal[j]) if w[CAPACITY, j] <= 0.0 else 0.0
            _solve(w[LOWER], diagonal, w[UPPER], step, w[FACTOR])
        else:
            if cuts == rules.shorter:
                return False, count
            cut, stores = 0.5 if cuts < 3 else 0.25, False
            if cuts == 0:
                dries, wets = _to_air_entry(t, rules.beyond, start, step), _to_saturation(start, step)
                cut, stores = min(dries, wets), dries < wets
            part *= cut
            least = rules.no_worse if stores else 1.0 - 1e-4 * part
            cuts += 1
        _move(t.kinds, t.limits, psi, start, step, part)


# The march through time.


@_inlined
def _attempt(t, rules, w, h, moved):
    """As :func:`.march.attempt` from START, MASS and RATES; whether a step is solved, its error, and iterations.

    moved[0] gets what a stage counts, moved[1] the volumes of the step.
    """
    stages, nodes, done, count = len(rules.scheme) - 2, w.shape[1], True, 0
    mass, end, known, rates, heads = w[MASS], w[END], w[KNOWN], w[RATES:], w[RATES + stages + 1 :]
    for j in range(nodes):
        w[STEP, j], end[j] = 0.0, mass[j]
    _move(t.kinds, t.limits, w[PSI], w[START], w[STEP], 0.0)
    for i in range(stages):
        for j in range(nodes):
            known[j] = mass[j]
            for e in range(i):
                known[j] += h * rules.scheme[i, e] * rates[1 + e, j]
        solved, iterations = _newton(t, rules, w, h * rules.scheme[i, i], moved[0])
        done, count = done and solved, count + iterations
        weight = h * rules.scheme[stages, i]
        for j in range(nodes):
            heads[i, j], rates[1 + i, j] = w[PSI, j], w[RATE, j]
            end[j] += weight * w[RATE, j]
        for j in range(moved.shape[1]):
            moved[1, j] = (moved[1, j] if i else 0.0) + weight * moved[0, j]
    for j in range(nodes):
        w[STEP, j] = 0.0
        for i in range(stages + 1):
            w[STEP, j] += h * rules.scheme[stages + 1, i] * rates[i, j]
    error = _error(t.sizes[0], w, t.kinds[1] == ATMOSPHERE and moved[0, 2] == 0.0 and moved[0, 3] == 0.0)
    return done and isfinite(error), error, count


@_inlined
def _error(thickness, w, ponds):
    """As in :mod:`.march`, from what a step missed; not finite where that of any node is not."""
    missed, capacity = w[STEP], w[CAPACITY]
    missed[0], missed[len(missed) - 1] = missed[0] if ponds else 0.0, 0.0
    _solve(w[LOWER], w[DIAGONAL], w[UPPER], missed, w[FACTOR])
    largest = total = abs(capacity[0] * missed[0])
    for j in range(1, len(missed) - 1):
        if thickness[j] > 0.0:
            theta = abs(capacity[j] * missed[j] / thickness[j])
            largest, total = max(largest, theta), total + theta
    return largest if isfinite(total) else total


@_inlined
def _length(proposed, rest):
    """As in :mod:`.march`."""
    if proposed >= rest * (1.0 - 1e-9):
        return rest, True
    return 0.5 * rest if 2.0 * proposed > rest else proposed, False


@_inlined
def _propose(rules, h, done, error, count, before, cut):
    """As in :mod:`.march`."""
    factor = 0.25
    if done:
        relative = max(error / rules.error, 1e-8)
        factor = min(max(0.8 * relative ** (-1.0 / (len(rules.scheme) - 1)), 0.2), 3.0)
        if count > 0.6 * rules.iterations:
            factor = min(factor, 1.0)
    new = max(h * factor, before) if cut else h * factor
    return min(max(new, rules.smallest), rules.largest)


@_inlined
def _accept(state, found, w, volume, b, h, ends):
    """Go on to the end of a step."""
    numbers, stages = state.numbers, len(found.steps) - 1
    k, m = numbers[INTERVAL, b], numbers[RECORDED, b]
    kept = m < found.steps.shape[1]
    if kept:
        found.places[0, m, b], found.places[1, m, b], found.lengths[m, b] = k, ends, h
        _copy(w[MASS], found.steps[0, m, b])
        for i in range(stages):
            _copy(w[RATES + stages + 1 + i], found.steps[1 + i, m, b])
    if ends:
        _copy(w[PSI], found.nodes[0, k, b])
        _copy(w[END], found.nodes[1, k, b])
    _copy(w[PSI], state.nodes[0, b])
    _copy(w[END], state.nodes[1, b])
    _copy(w[RATES + stages], state.nodes[2, b])
    for j in range(len(volume)):
        found.volume[k, b, j] += volume[j]
    numbers[RECORDED, b] += 1
    numbers[ACCEPTED, b] += 1


@_compiled
def _copy(x, to):
    for j in range(len(x)):
        to[j] = x[j]


@_compiled
def march(t, rules, days, state, found, w, moved, most, first, last):
    """As :func:`.march.march`: columns from first to last, each until it has finished, failed, or taken ``most``."""
    for b in range(first, last):
        numbers, times = state.numbers[:, b], state.times[:, b]
        numbers[RECORDED] = 0
        while numbers[INTERVAL] < len(days) and numbers[FAILED] == 0 and numbers[RECORDED] < most:
            k, taken, equal = numbers[INTERVAL], numbers[TAKEN], rules.equal > 0
            h, ends = _length(min(times[PROPOSED], rules.largest), times[REST])
            if equal:
                h, ends = days[k] / rules.equal, taken + 1 == rules.equal
            _copy(state.nodes[0, b], w[START])
            _copy(state.nodes[1, b], w[MASS])
            _copy(state.nodes[2, b], w[RATES])
            done, error, count = _attempt(_pick(t, k, b), rules, w, h, moved)
            ok = done and (equal or error * (1.0 / rules.error) <= 1.0)
            times[PROPOSED] = _propose(rules, h, done, error, count, times[PROPOSED], ends and ok)
            numbers[ITERATIONS] += count
            numbers[TAKEN] += 1
            if ok:
                _accept(state, found, w, moved[1], b, h, ends)
                times[REST] -= h
                if ends:
                    numbers[INTERVAL], numbers[TAKEN] = k + 1, 0
                    times[REST] = days[min(k + 1, len(days) - 1)]
                continue
            numbers[REJECTED] += 1
            if equal or h <= rules.smallest or taken >= rules.most:
                numbers[FAILED], numbers[SOLVED], times[REST] = 1, done, h
                _copy(w[ROW], state.nodes[2, b])
