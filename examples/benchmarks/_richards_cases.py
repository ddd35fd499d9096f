"""The column on infiltration problems that codes are compared on."""

from __future__ import annotations

import numpy as np
import torch
from _report import table
from _richards_common import lost, timed

from udehydro.errors import SolverError
from udehydro.richards import laws
from udehydro.richards.column import Adaptive, Column, ColumnRun, Flux, FreeDrainage, Grid, Head, Layer
from udehydro.richards.exact import CASES, Case, MualemVanGenuchten, TravellingWave
from udehydro.richards.exact.cases import VANDERBORGHT

GRIDS = {"celia": (100, 200, 400, 800), "haverkamp sand": (80, 200, 400)}
MILLER = {"miller sand": (100, 400), "miller loam": (100, 400), "miller clay loam": (100, 400)}
STEPS = Adaptive(1e-4)
WAVE = TravellingWave(MualemVanGenuchten(**VANDERBORGHT["sand"]), -400.0, 100.0)


def run() -> dict:
    fronts = {name: [judged(name, n) for n in cells] for name, cells in GRIDS.items()}
    ponded = {name: [solved(name, n) for n in cells] for name, cells in MILLER.items()}
    return {"fronts": fronts, "ponded": ponded, "wave": [wave(n) for n in (150, 300, 600)]}


def flown(name: str, cells: int) -> tuple[Case, ColumnRun, dict]:
    case = CASES[name]
    layer = Layer(getattr(laws, case.law)(), specific_storage=case.specific_storage)
    column = Column(Grid.uniform(case.length, cells), layer, Head(case.psi_top), Head(case.psi_base))
    psi0 = column.hydrostatic(case.length) if case.psi_i is None else case.psi_i
    found, seconds = timed(column, [0.0, *case.times], case.soil, psi0, STEPS)
    counts = {n: int(getattr(found, n)) for n in ("accepted", "rejected", "iterations")}
    return case, found, counts | {"cells": cells, "lost": lost(found), "seconds": seconds}


def judged(name: str, cells: int) -> dict:
    """Fronts, storage and heads against the reference numbers of a case."""
    case, found, told = flown(name, cells)
    depth, gain = found.column.grid.depth, (found.storage[1:] - found.storage[0]).numpy()
    ends = torch.tensor([case.psi_i, case.psi_top])
    middle = float(found.column.layers[0].law.theta(ends, case.soil).mean())
    fronts = [float(np.interp(-middle, -theta.numpy(), depth)) for theta in found.theta[1:]]
    psi = np.interp(case.depth, depth, found.psi[-1].numpy())
    off = np.abs(psi / np.array(case.psi) - 1.0).max()
    return told | {
        "fronts": fronts[-len(case.front) :],
        "gain": gain.tolist(),
        "front off": float(np.abs(np.array(fronts) - case.front).max()),
        "gain off": float(np.abs(gain / case.storage - 1.0).max()),
        "psi off": float(off),
    }


def solved(name: str, cells: int) -> dict:
    """Whether a ponded case runs through, what has infiltrated, and the lowest saturated depth."""
    try:
        case, found, told = flown(name, cells)
    except SolverError as failure:
        return {"cells": cells, "failure": str(failure)}
    wet = (found.psi[-1] >= 0.0).numpy()
    depth = found.column.grid.depth
    front = float(depth[: int(wet.argmin())][-1]) if wet[0] else 0.0
    return told | {"gain": float(found.storage[-1] - found.storage[0]), "front": front}


def wave(cells: int) -> dict:
    """Speed and shape of the front that 100 cm/d push into dry sand (150 cm), between 0.2 and 0.3 d."""
    column = Column(Grid.uniform(150.0, cells), laws.VanGenuchten(), Flux(-WAVE.infiltration), FreeDrainage())
    found, seconds = timed(column, [0.0, 0.2, 0.3], VANDERBORGHT["sand"], WAVE.psi_i, STEPS)
    z, middle = column.grid.z, 0.5 * (WAVE.theta_i + WAVE.theta_b)
    places = [float(np.interp(middle, theta.numpy()[::-1], z[::-1])) for theta in found.theta[1:]]
    shape = WAVE.theta(z - places[1], 0.0)
    off = np.abs(found.theta[-1].numpy() - shape)
    return {
        "cells": cells,
        "speed": (places[0] - places[1]) / 0.1,
        "off": float(off.max()),
        "mean off": float(off.sum() * 150.0 / cells / (WAVE.theta_b - WAVE.theta_i)),
        "lost": lost(found),
        "accepted": int(found.accepted),
        "seconds": seconds,
    }


def section(found: dict) -> str:
    runs = [r for rows in (*found["fronts"].values(), found["wave"]) for r in rows]
    ponded = [r for rows in found["ponded"].values() for r in rows]
    failed = [f"{n} with {r['cells']} cells ({r['failure']})" for n, rows in found["ponded"].items() for r in rows
              if "failure" in r]  # fmt: skip
    worst = max(r["lost"] for r in [*runs, *ponded] if "lost" in r)
    celia = next(r for r in found["fronts"]["celia"] if r["cells"] == 400)
    return f"""Local error of steps below {STEPS.tolerance:g} in water content. References are those of `CASES`: another
code with a stiff integrator, on 800 (Celia) and 400 (Haverkamp) cells. The balance misses at most {worst:.0e} of the
water.

{front_table(found["fronts"])}

Goals for Celia's column: front within 0.1 cm, storage within 0.3 %; 400 cells are off by {celia["front off"]:.2f} cm
and {100 * celia["gain off"]:.2f} %. Coarse cells put the front too deep: the mean of conductivities at a front lets too
much water into dry soil.

Miller's ponded columns (10 cm of water on soil at rest above a water table, no reference numbers). Runs that failed:
{", ".join(failed) or "none"}.

{ponded_table(found["ponded"])}

Travelling wave of Vanderborght et al. (2005), 100 cm/d into sand at -400 cm: exact speed {WAVE.speed:.2f} cm/d. Shapes
are compared at 0.3 d after the middle of the front is put in one place, where the theory leaves it free.

{wave_table(found["wave"])}"""


def front_table(fronts: dict) -> str:
    rows = []
    for name, runs in fronts.items():
        case = CASES[name]
        for r in runs:
            pairs = zip(r["fronts"], case.front, r["gain"], case.storage, strict=True)
            told = [(f"{a:.2f} ({b:.2f})", f"{c:.4f} ({d:.4f})") for a, b, c, d in pairs]
            rows.append(
                [name, str(r["cells"]), *(", ".join(t) for t in zip(*told, strict=True)),
                 f"{100 * r['gain off']:.2f} %", f"{100 * r['psi off']:.2f} %", effort(r)]
            )  # fmt: skip
    head = ["case", "cells", "front, cm (reference)", "water gained, cm (reference)", "off", "heads off"]
    return table([*head, "steps + rejected, iterations, s"], rows)


def ponded_table(ponded: dict) -> str:
    rows = [
        [name, str(r["cells"]), f"{r['gain']:.3f}", f"{r['front']:.1f}", effort(r)]
        for name, runs in ponded.items()
        for r in runs
        if "failure" not in r
    ]
    return table(["case", "cells", "infiltrated, cm", "saturated down to, cm", "steps + rejected, iterations, s"], rows)


def wave_table(waves: list) -> str:
    rows = [
        [str(r["cells"]), f"{r['speed']:.2f}", f"{r['off']:.4f}", f"{r['mean off']:.3f}", f"{r['seconds']:.1f}"]
        for r in waves
    ]
    return table(["cells", "speed, cm/d", "largest error of theta", "area of the error, cm of front", "s"], rows)


def effort(r: dict) -> str:
    return f"{r['accepted']} + {r['rejected']}, {r['iterations']}, {r['seconds']:.1f}"
