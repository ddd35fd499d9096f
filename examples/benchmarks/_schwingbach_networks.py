"""Networks between the probes at 10 and 40 cm: neither rain, evaporation, roots above nor the start need be known."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from _schwingbach_column import FACES, Setting, number
from _schwingbach_data import DEPTHS, SIGMA, Record, record
from torch import Tensor

from udehydro import Forcing
from udehydro.richards.column import Adaptive, Column, Flux, Grid, Layer
from udehydro.richards.inversion import Free, Inversion, Observed, pieces
from udehydro.richards.pinn import Adam, Counts, Learned, learn

TOP, BOTTOM, CELLS = DEPTHS[0], DEPTHS[2], 12
SEEDS, WIDTH, FIRST, STEPS, COUNTS = (0, 1, 2, 3, 4), 14, Adam(300), 40, Counts(800, 100)
RAMP, GIVEN = (0.1, 0.03, 0.01), math.inf
"""Sigma is a guess, and the field is no column: physics is not given up for a fit to readings."""
QUICK = {"first": Adam(200), "steps": 20, "counts": Counts(400, 60), "width": 12, "ramp": (0.1, 0.02)}
"""Where soils are known."""
TIGHT = 1e-3
"""Standard deviation around known soils, by which they stay as they are."""


def between(setting: Setting, here: Record, p: Sequence[dict] | None = None, probes=(0, 1, 2), found=None) -> Inversion:
    """Soils from 10 to 40 cm, fluxes through both ends unknown day by day, the state at the start, too.

    ``p`` has free values of the soils. ``found`` is the water that passes 10 cm (T,) and numbers of soils, to start
    from; networks take no notice of where fluxes and states start.
    """
    law, edges = setting.form, np.array([TOP, *FACES[setting.soils], BOTTOM])
    days = np.arange(0.0, np.ceil(here.days[-1]) + 1.0)
    spread = pieces(days, 0.5 * (here.days[1:] + here.days[:-1]))
    grid, heads = Grid.uniform(BOTTOM - TOP, CELLS), torch.full((CELLS,), -100.0)
    layers = [Layer(law, float(d)) for d in np.diff(edges)]
    waters = [np.full(len(here.days) - 1, 0.01)] * 2
    if found is not None:
        waters = [found[0], found[0] - np.diff(here.theta.numpy() @ (0.25, 0.5, 0.25)) * (BOTTOM - TOP)]
        heads = start_heads(Column(grid, layers), found[1], here)
    ends = [Flux(Free(-torch.as_tensor(w) @ spread, prior=2.0, spread=spread)) for w in waters]
    psi0 = Free(heads, low=-15000.0, high=-0.1, prior=2.0, spread=np.eye(CELLS))
    seen = Observed("theta", here.theta[:, list(probes)], SIGMA, tuple(DEPTHS[k] - TOP for k in probes))
    p = setting.parameters(here.theta, None if found is None else found[1]) if p is None else p
    return Inversion(Column(grid, layers, *ends), Forcing.clock(here.edges), p, psi0, [seen], steps=Adaptive(1e-3))


def start_heads(column: Column, soils: Sequence[dict], here: Record) -> Tensor:
    """Heads of cells at the start of a record: of the probe above a face, or of those below it, in known soils."""
    at, theta, heads = column.grid.depth + TOP, here.theta[0].numpy(), []
    edges = np.asarray(column.grid.edges) + TOP
    for layer, p, cells in zip(column.layers, soils, column.cells_of_layers, strict=True):
        mine = [k for k, d in enumerate(DEPTHS) if edges[cells.start] <= d <= edges[cells.stop]]
        held = torch.as_tensor(np.interp(at[cells], [DEPTHS[k] for k in mine], theta[mine]))
        heads.append(layer.law.head(held.clamp(p["theta_r"] + 1e-3, p["theta_s"] - 1e-3), p))
    return torch.cat(heads)


def trained(task: Inversion, seeds: Sequence[int] = SEEDS, **other) -> Learned:
    how = {"first": FIRST, "steps": STEPS, "counts": COUNTS, "width": WIDTH, "ramp": RAMP, "given": GIVEN} | other
    return learn(task, seeds=seeds, gauge="ignore", **how)


def shown(found: Learned, here: Record, depth: float) -> Tensor:
    """Water content (seed, T + 1) at a depth."""
    return found.solution.theta(np.stack([here.days, np.full_like(here.days, TOP - depth)], 1))


def passed(found: Learned, here: Record, depth: float = TOP) -> np.ndarray:
    """Water (seed, T) that goes down through a depth [cm], by interval."""
    q = found.solution.flux(np.stack([here.days, np.full_like(here.days, TOP - depth)], 1)).numpy()
    return -0.5 * (q[:, 1:] + q[:, :-1]) * np.diff(here.days)


def expected(here: Record) -> np.ndarray:
    """What should pass 10 cm (T,) [cm], by interval: rain less evaporation, less what is stored above, where contents
    are taken to change like those at 10 cm."""
    pet = 0.1 * (here.weather.values["pet"] * here.weather.days).numpy()
    return here.rain - pet - TOP * np.diff(here.theta[:, 0].numpy())


def as_known(setting: Setting, numbers: Sequence[dict]) -> list[dict]:
    """Known soils as free values that cannot move."""
    ranges = setting.form.ranges

    def tight(name: str, value: float):
        if name in ("entry", "l"):
            return value
        r = ranges[name]
        return Free(float(np.clip(value, r.low, r.high)), prior=TIGHT)

    return [{n: tight(n, v) for n, v in p.items()} for p in numbers]


def parts(here: Record, length: int) -> list[Record]:
    """A record cut into pieces of as many whole days; what is left over is dropped."""
    days = here.edges.astype("datetime64[D]")[0] + np.arange(int(here.days[-1] // length)) * length
    return [record(str(d), str(d + np.timedelta64(length - 1, "D"))) for d in days]


def filled(setting: Setting, numbers: Sequence[dict], here: Record, seeds: Sequence[int] = SEEDS) -> Tensor:
    """Water content (seed, T + 1) at 25 cm in known soils between the probes above and below."""
    found = trained(between(setting, here, as_known(setting, numbers), probes=(0, 2)), seeds, **QUICK)
    return shown(found, here, DEPTHS[1])


def learned(setting: Setting, here: Record, seeds: Sequence[int] = SEEDS) -> dict:
    """Curves from the three probes: soils by seed, how well data and physics hold, and water that passes 10 cm."""
    began = time.process_time()
    found = trained(between(setting, here), seeds)
    seconds = (time.process_time() - began) / len(seeds)
    values, names = found.values, found.task.unknowns.names
    soils = [number(found.task.at(x[None]).p) for x in found.x]
    water = passed(found, here)
    errors = torch.stack([shown(found, here, d) - here.theta[:, k] for k, d in enumerate(DEPTHS)], -1)
    return {
        "soils": soils, "names": names, "values": values.tolist(), "seconds": seconds,
        "misfit": found.misfit.tolist(), "physics": found.physics.tolist(), "chi2": found.normal.chi2.tolist(),
        "rmse": errors.square().mean(1).sqrt().tolist(), "days": here.days.tolist(),
        "passed": water.cumsum(1).tolist(), "expected": expected(here).cumsum().tolist(),
        "theta 25": shown(found, here, DEPTHS[1]).median(0).values.tolist(),
    }  # fmt: skip
