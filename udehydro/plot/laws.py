"""What a learned law does: its rate against each of its inputs, over the states the model visited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from udehydro.plot.style import LINES, figure, label, place, tidy
from udehydro.plot.visited import binned, inputs_of, points, strongest, visited
from udehydro.simulation import Simulation

CELLS = 26
SMALLEST = 1e-4
"""Rates of a formula below this, mm/d, are no base for a ratio."""


def learned_flux(
    simulation: Simulation, name: str, formula: Simulation | None = None, *, element: int = 0, title: str = ""
) -> Figure:
    """A law against each of its inputs, over visited states only; and as a surface over its two strongest inputs.

    With a formula to compare with, a second row shows the ratio of both at the same states.

    Parameters
    ----------
    simulation : run of the model with the learned law.
    name : flux, quantity or group, rate in mm/d.
    formula : run of the model with the formula, whose law is asked at the states of ``simulation`` and with its
        parameter values, where it has them: so the ratio is what the network does, not what recalibration did.
    element : which batch element, in row-major order.
    """
    structure = simulation.model.structure
    inputs = inputs_of(structure, name)
    at = points(visited(simulation), (*inputs, name), simulation, element)
    rows = {label(structure, name): (at[name], None)}
    if formula is not None:
        theta = {n: simulation.theta.get(n, value) for n, value in formula.theta.items()}
        known = points(visited(replace(formula, theta=theta), simulation), (name,), simulation, element)[name]
        rows[label(structure, name)] = (at[name], known)
        ratio = np.where(known > SMALLEST, at[name] / np.where(known > SMALLEST, known, 1.0), np.nan)
        rows["learned / formula [-]"] = (ratio, None)
    wide = len(inputs) + (len(inputs) >= 2)
    fig = figure(3.2 * wide, 3.1 * len(rows) + 0.5)
    panels = fig.subplots(len(rows), wide, squeeze=False, sharey="row" if wide == len(inputs) else False)
    pair = strongest(at, inputs, name)
    for row, (text, (values, known)) in zip(panels, rows.items(), strict=True):
        is_ratio = values is not at[name]
        for axes, given in zip(row, inputs, strict=False):
            _against(axes, at[given], values, known, is_ratio)
            tidy(axes, label(structure, given), text if axes is row[0] else "")
        if len(inputs) >= 2:
            _surface(fig, row[-1], [at[n] for n in pair], values, text, is_ratio)
            tidy(row[-1], *(label(structure, n) for n in pair), "blank: never visited")
    text = title or f"Learned law of '{name}' over the visited states {place(simulation, element)}".strip()
    fig.suptitle(text, fontsize="medium", x=0.01, ha="left")
    handles = panels[0, 0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside upper right", ncols=3, frameon=False, fontsize="small")
    return fig


def _against(axes: Axes, x: np.ndarray, y: np.ndarray, known: np.ndarray | None, is_ratio: bool) -> None:
    """Cloud of visited points and binned medians of the learned law, with the formula's at the same points."""
    there = np.isfinite(y)
    x, y = x[there], y[there]
    if not len(y):
        return
    axes.hexbin(x, y, gridsize=36, bins="log", mincnt=1, cmap="Greys", linewidths=0, alpha=0.8, rasterized=True)
    learned = binned(x, y)
    axes.fill_between(learned.x, learned.low, learned.high, color=LINES[1], alpha=0.2, linewidth=0)
    axes.plot(learned.x, learned.middle, color=LINES[1], linewidth=2.0, label="learned: median, 10-90 % (shade)")
    if known is not None:
        curve = binned(x, known[there])
        axes.plot(curve.x, curve.middle, color=LINES[0], linewidth=1.6, linestyle="--", label="formula: median")
    if is_ratio:
        axes.axhline(1.0, color=LINES[0], linewidth=1.6, linestyle="--")
    low, high = np.quantile(y, (0.002, 0.998))  # the few largest would press all others to the axis
    low, high = (min(low, 0.9), max(high, 1.1)) if is_ratio else (min(low, 0.0), high)
    if high > low:
        axes.set_ylim(low - 0.03 * (high - low) * (low < 0 or is_ratio), high + 0.05 * (high - low))


def _surface(
    fig: Figure, axes: Axes, pair: Sequence[np.ndarray], values: np.ndarray, text: str, is_ratio: bool
) -> None:
    """Median over two inputs; cells the model did not visit stay blank."""
    there = np.isfinite(values)
    x, y, values = pair[0][there], pair[1][there], values[there]
    if not len(values):
        return
    columns, rows = (np.histogram_bin_edges(v, CELLS) for v in (x, y))
    i, j = (np.clip(np.digitize(v, e) - 1, 0, CELLS - 1) for v, e in ((x, columns), (y, rows)))
    cell = i * CELLS + j
    grid = np.full(CELLS * CELLS, np.nan)
    order = np.argsort(cell, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(cell[order])) + 1):
        grid[cell[part[0]]] = np.median(values[part])
    shades: Mapping[str, object] = {"cmap": "viridis"}
    if is_ratio:
        reach = max(1.1, float(np.exp(np.nanquantile(np.abs(np.log(np.maximum(grid, SMALLEST))), 0.98))))
        shades = {"cmap": "PuOr", "norm": LogNorm(1.0 / reach, reach)}
    drawn = axes.pcolormesh(
        columns, rows, np.ma.masked_invalid(grid.reshape(CELLS, CELLS).T), rasterized=True, **shades
    )
    bar = fig.colorbar(drawn, ax=axes, label=f"median {text}")
    bar.outline.set_visible(False)
    if is_ratio:
        ticks = [t for t in (0.1, 0.2, 0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0, 5.0, 10.0) if 1.0 / reach <= t <= reach]
        bar.set_ticks(ticks, labels=[f"{t:g}" for t in ticks], minor=False)
        bar.ax.minorticks_off()
    axes.set_facecolor("0.94")
