"""States a model visited: what its laws answer there, and how an answer varies with one input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from udehydro.errors import StructureError
from udehydro.plot.style import column
from udehydro.simulate import pose
from udehydro.simulation import Simulation
from udehydro.structure import FORMULA, SOURCE, Structure, reads, suggest

BINS = 24
FEWEST = 5
"""A bin with fewer visits is not drawn: a median of less says nothing."""


def visited(simulation: Simulation, at: Simulation | None = None) -> dict[str, Tensor]:
    """Everything by name in the middle of every interval, each broadcastable to (T, *batch).

    Parameters
    ----------
    simulation : whose model and parameters are asked.
    at : whose states and forcing they are asked at; its own by default.
    """
    at = at or simulation
    problem = pose(simulation.model, at.forcing, simulation.theta)
    middle = {n: 0.5 * (at.store(n)[:-1] + at.store(n)[1:]) for n in at.model.store_names}
    with torch.no_grad():
        return simulation.model.named([middle[n] for n in simulation.model.store_names], *problem.at(slice(None)))


def inputs_of(structure: Structure, name: str) -> tuple[str, ...]:
    """Names that the law of a flux or quantity sees; for a group those of its fluxes together."""
    items = {i.name: i for i in (*structure.quantities, *structure.fluxes)}
    members = structure.groups.get(name, (name,))
    for member in members:
        if member not in items:
            raise StructureError(f"No flux, quantity or group '{name}'.{suggest(name, (*items, *structure.groups))}")
    names: list[str] = []
    for item in (items[m] for m in members):
        found = getattr(item.law, "inputs", None) or reads(item.law)
        names += [getattr(item, "source", None) if n == SOURCE else n for n in found if n != FORMULA]
    known = set(structure.stores) | set(structure.forcings) | {o for q in structure.quantities for o in q.outputs}
    return tuple(n for n in dict.fromkeys(names) if n in known | {f.name for f in structure.fluxes})


@dataclass(frozen=True)
class Curve:
    """Median and the range of 80 % of the points, by bins of an input with equally many points."""

    x: np.ndarray
    low: np.ndarray
    middle: np.ndarray
    high: np.ndarray


def binned(x: np.ndarray, y: np.ndarray, bins: int = BINS) -> Curve:
    """Quantiles of ``y`` in bins of ``x`` with about equally many points each, at least ``FEWEST``.

    Bins closer to each other than a 50th of the range are joined: a store that is mostly empty fills many of them.
    """
    order = np.argsort(x, kind="stable")
    parts: list[np.ndarray] = []
    for part in np.array_split(order, max(1, min(bins, len(x) // FEWEST))):
        if parts and np.median(x[part]) - np.median(x[parts[-1]]) < np.ptp(x) / 50:
            parts[-1] = np.concatenate([parts[-1], part])
        else:
            parts.append(part)
    levels = np.array([np.quantile(y[p], (0.1, 0.5, 0.9)) for p in parts])
    return Curve(np.array([np.median(x[p]) for p in parts]), *levels.T)


def strongest(points: Mapping[str, np.ndarray], inputs: Sequence[str], name: str) -> list[str]:
    """The two inputs whose ranks correlate most with those of the rate, in their own order."""

    def ranks(values: np.ndarray) -> np.ndarray:
        return np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(float)

    def strength(given: str) -> float:
        x = points[given]
        return abs(np.corrcoef(ranks(x), ranks(points[name]))[0, 1]) if np.ptp(x) > 0 else 0.0

    best = sorted(inputs, key=strength, reverse=True)[:2]
    return [n for n in inputs if n in best]


def points(
    values: Mapping[str, Tensor], names: Sequence[str], simulation: Simulation, element: int
) -> dict[str, np.ndarray]:
    """Named values (T,) of one batch element."""
    shape = (len(simulation.forcing), *simulation.forcing.batch)
    return {n: column(values[n].expand(shape), element) for n in names}
