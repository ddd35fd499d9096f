"""The column against exact solutions: orders in space and in time."""

from __future__ import annotations

import numpy as np
from _report import table
from _richards_common import lost, order, relative, timed
from _richards_soft import FINE, HOUR, ONE, SOFT, TIGHT
from _richards_soft import run as soft
from _richards_soft import section as soft_section

from udehydro.richards import exact, laws
from udehydro.richards.column import (
    Column,
    Fixed,
    Flux,
    FreeDrainage,
    Grid,
    Head,
    Layer,
)
from udehydro.solvers import BACKWARD_EULER, SDIRK2

LAYERS = {
    "two layers, 5 + 5 cm": ((5.0, 5.0), (0.40, 0.40)),
    "two layers, 4 cm on 6 cm, unlike theta_s": ((6.0, 4.0), (0.40, 0.35)),
}
VERSATILE = {1.5: 80.0, 1.02: 30.0}
"""Broadbridge and White's C, and a depth [cm] that the front does not feel."""


def run() -> dict:
    spaces = {name: [layered(name, n) for n in FINE[1:]] for name in LAYERS}
    spaces |= {f"Broadbridge-White, C = {C}": [versatile(C, n) for n in FINE[1:]] for C in VERSATILE}
    return {"soft": soft(), "spaces": spaces, "times": in_time()}


def layered(name: str, cells: int) -> dict:
    """Two layers whose conductivities differ by ten."""
    length, theta_s = LAYERS[name]
    s = exact.SrivastavaYehLayers((0.06, 0.06), theta_s, 1.0, (24.0, 240.0), length, 2.4, 21.6)
    p = [SOFT | {"Ks": 240.0, "theta_s": theta_s[1]}, SOFT]
    grid = Grid.uniform(10.0, cells)
    column = Column(grid, [Layer(laws.Gardner(), length[1]), Layer(laws.Gardner())], Flux(-21.6), Head(0.0))
    return judged(column, s, p, 10.0 - grid.depth, np.linspace(0.0, 10.0 * HOUR, 21))


def versatile(C: float, cells: int) -> dict:
    """Infiltration at half of Ks into soil at a fifth of saturation."""
    s = exact.BroadbridgeWhite(0.06, 0.40, 24.0, 10.0, C, 12.0, 0.06 + 0.34 * 0.2)
    p = {"theta_r": 0.06, "theta_s": 0.40, "Ks": 24.0, "lambda": 10.0, "C": C}
    column = Column(Grid.uniform(VERSATILE[C], cells), laws.BroadbridgeWhite(), Flux(-12.0), FreeDrainage())
    return judged(column, s, p, column.grid.z, np.linspace(0.0, 0.28, 8))


def judged(column: Column, s, p, z: np.ndarray, days: np.ndarray) -> dict:
    """Errors of a run at all times but the first."""
    found, seconds = timed(column, days, p, s.psi(z, 0.0), TIGHT)
    pairs = (("theta", found.theta, s.theta), ("psi", found.psi, s.psi))
    errors = {n: relative(v[1:].numpy(), np.stack([f(z, t) for t in days[1:]])) for n, v, f in pairs}
    return errors | {"cells": column.grid.cells, "lost": lost(found), "seconds": seconds}


def in_time() -> dict:
    """Errors of equal steps from 1 h to 3 h, where the front moves, against 8000 steps, on 50 cells."""
    grid = Grid.uniform(10.0, 50)
    column = Column(grid, laws.Gardner(), Flux(-21.6), Head(0.0))
    days, psi0, counts = np.array([0.0, 2.0 * HOUR]), ONE.psi(10.0 - grid.depth, HOUR), (5, 10, 20, 40, 80, 160)

    def end(tableau, n: int) -> np.ndarray:
        return timed(column, days, SOFT, psi0, Fixed(n), tableau=tableau)[0].theta[-1].numpy()

    true = end(SDIRK2, 8000)
    return {"steps": counts} | {t.name: [relative(end(t, n), true) for n in counts] for t in (SDIRK2, BACKWARD_EULER)}


def section(found: dict) -> str:
    return f"""Relative L2 errors; local errors of steps are below {TIGHT.tolerance:g}, so that what is left is that of
space. Boundary fluxes are exact; the water balance misses at most {largest(found, "lost"):.0e} of the water.

{soft_section(found["soft"])}

**Other solutions**, theta / psi by cells, with the order of theta between the last two:

{space_table(found["spaces"])}

Two layers: Ks 10 and 1 cm/h, to 10 h. Broadbridge and White: 12 cm/d into soil of Ks = 24 cm/d at a fifth of
saturation, seven times to 0.28 d, {" and ".join(f"{d:g} cm at C = {C}" for C, d in VERSATILE.items())}; C = 1.02 is
close to a sharp front, which coarse cells smear.

**Order in time**: equal steps from 1 h to 3 h on 50 cells, against 8000 steps.

{time_table(found["times"])}"""


def largest(found: dict, what: str) -> float:
    runs = [*found["soft"].values(), *(r for rows in found["spaces"].values() for r in rows)]
    return max(r[what] for r in runs)


def space_table(spaces: dict) -> str:
    rows = []
    for name, runs in spaces.items():
        rate = order(runs[-2]["theta"], runs[-1]["theta"])
        rows.append([name, *(f"{r['theta']:.1e} / {r['psi']:.1e}" for r in runs), f"{rate:.2f}"])
    cells = [str(r["cells"]) for r in next(iter(spaces.values()))]
    return table(["", *cells, "order"], rows)


def time_table(times: dict) -> str:
    rows = []
    for i, n in enumerate(times["steps"]):
        pairs = [times[t.name] for t in (SDIRK2, BACKWARD_EULER)]
        rows.append(
            [str(n), *(f"{e[i]:.2e}" + (f" ({order(e[i - 1], e[i]):.2f})" if i else "") for e in pairs)]
        )  # fmt: skip
    return table(["steps", "SDIRK2 (order)", "backward Euler (order)"], rows)
