"""What a learned law does: its rate against each of its inputs, over the states the model visited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from udehydro.errors import StructureError
from udehydro.plot.style import LINES, column, figure, label, place, tidy
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
class _Curve:
    """Median and the range of 80 % of the points, by bins of an input with equally many points."""

    x: np.ndarray
    low: np.ndarray
    middle: np.ndarray
    high: np.ndarray


def binned(x: np.ndarray, y: np.ndarray, bins: int = BINS) -> _Curve:
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
    return _Curve(np.array([np.median(x[p]) for p in parts]), *levels.T)


def learned_flux(
    simulation: Simulation, name: str, formula: Simulation | None = None, *, element: int = 0, title: str = ""
) -> Figure:
    """A law against each of its inputs, over visited states only; and as a surface over its two strongest inputs.

    Parameters
    ----------
    simulation : run of the model with the learned law.
    name : flux, quantity or group, rate in mm/d.
    formula : run of the model with the formula; its law is drawn at the *same* states for comparison.
    element : which batch element, in row-major order.
    """
    structure = simulation.model.structure
    inputs = inputs_of(structure, name)
    points = _points(visited(simulation), (*inputs, name), simulation, element)
    reference = None
    if formula is not None:
        reference = _points(visited(formula, simulation), (name,), simulation, element)[name]
    panels = len(inputs) + (len(inputs) >= 2)
    fig = figure(3.6 * panels, 3.9)
    axes = np.atleast_1d(fig.subplots(1, panels))
    for ax, given in zip(axes, inputs, strict=False):
        _against(ax, points[given], points[name], reference, label(structure, given), label(structure, name))
        if ax is not axes[0] and panels > 1:
            ax.set_ylabel("")
    if len(inputs) >= 2:
        _surface(fig, axes[-1], points, strongest(points, inputs, name), name, structure)
    text = title or f"Learned law of '{name}' over the visited states {place(simulation, element)}".strip()
    fig.suptitle(text, fontsize="medium", x=0.01, ha="left")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3, frameon=False, fontsize="small")
    return fig


def strongest(points: Mapping[str, np.ndarray], inputs: Sequence[str], name: str) -> list[str]:
    """The two inputs whose ranks correlate most with those of the rate, in their own order."""

    def ranks(values: np.ndarray) -> np.ndarray:
        return np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(float)

    def strength(given: str) -> float:
        x = points[given]
        return abs(np.corrcoef(ranks(x), ranks(points[name]))[0, 1]) if np.ptp(x) > 0 else 0.0

    best = sorted(inputs, key=strength, reverse=True)[:2]
    return [n for n in inputs if n in best]


def _points(
    values: Mapping[str, Tensor], names: Sequence[str], simulation: Simulation, element: int
) -> dict[str, np.ndarray]:
    """Named values (T,) of one batch element."""
    shape = (len(simulation.forcing), *simulation.forcing.batch)
    return {n: column(values[n].expand(shape), element) for n in names}


def _against(axes: Axes, x: np.ndarray, y: np.ndarray, reference: np.ndarray | None, xlabel: str, ylabel: str) -> None:
    """Cloud of visited points and binned medians of the learned law, with the formula's at the same points."""
    axes.hexbin(x, y, gridsize=36, bins="log", mincnt=1, cmap="Greys", linewidths=0, alpha=0.8, rasterized=True)
    learned = binned(x, y)
    axes.fill_between(learned.x, learned.low, learned.high, color=LINES[1], alpha=0.2, linewidth=0)
    axes.plot(learned.x, learned.middle, color=LINES[1], linewidth=2.0, label="learned: median, 10-90 % (shade)")
    if reference is not None:
        known = binned(x, reference)
        axes.plot(known.x, known.middle, color=LINES[0], linewidth=1.6, linestyle="--", label="formula: median")
    tidy(axes, xlabel, ylabel)
    top = float(np.quantile(y, 0.999))
    if top > 0:  # the few largest rates would press all others to the axis
        axes.set_ylim(min(0.0, float(y.min())), top * 1.05)


def _surface(
    fig: Figure, axes: Axes, points: Mapping[str, np.ndarray], inputs: Sequence[str], name: str, structure: Structure
) -> None:
    """Median rate over two inputs; cells the model did not visit stay blank."""
    x, y = (points[n] for n in inputs)
    columns, rows = (np.histogram_bin_edges(v, 26) for v in (x, y))
    cell = np.clip(np.digitize(x, columns) - 1, 0, 25) * 26 + np.clip(np.digitize(y, rows) - 1, 0, 25)
    grid = np.full(26 * 26, np.nan)
    order = np.argsort(cell, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(cell[order])) + 1):
        grid[cell[part[0]]] = np.median(points[name][part])
    drawn = axes.pcolormesh(
        columns, rows, np.ma.masked_invalid(grid.reshape(26, 26).T), cmap="viridis", rasterized=True
    )
    bar = fig.colorbar(drawn, ax=axes, label=f"median {label(structure, name)}")
    bar.outline.set_visible(False)
    axes.set_facecolor("0.94")
    tidy(axes, label(structure, inputs[0]), label(structure, inputs[1]), "blank: never visited")
