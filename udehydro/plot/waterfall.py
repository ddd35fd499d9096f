"""Waterfall: final losses of many starts, sorted. A plateau on the left says that the best was found more than once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from udehydro.plot.style import LINES, coloured, figure, numbers, tidy

MARKERS = "os^DvpX"


def waterfall(losses: Mapping[str, object], *, near: float = 1.5, unit: str = "-", title: str = "") -> Figure:
    """Final losses of the starts of every recipe, sorted (Raue et al. 2013, PLoS ONE 8:e74335).

    The band holds losses up to ``near`` times the best of all (of a negative one, as far above it); the legend counts
    the starts in it. Starts that failed (infinite or NaN) are counted and not drawn.

    Parameters
    ----------
    losses : recipe -> final loss of each start (n,), smaller is better; ``unit`` [-] by default.
    """
    fig = figure(7.0, 4.0)
    draw_waterfall(fig.subplots(), losses, near=near, unit=unit, title=title)
    return fig


def draw_waterfall(
    axes: Axes, losses: Mapping[str, object], *, near: float = 1.5, unit: str = "-", title: str = ""
) -> None:
    """The same on axes of a larger figure."""
    ordered = {name: np.sort(_finite(values)) for name, values in losses.items()}
    everything = np.concatenate([np.empty(0), *ordered.values()])
    best = everything.min(initial=np.inf)
    top = best + (near - 1.0) * abs(best)
    for i, (name, colour) in enumerate(coloured(losses)):
        found, count = ordered[name], np.size(numbers(losses[name]))
        label = f"{name}: {int((found <= top).sum())} of {count} in the band"
        label += f", {count - len(found)} failed" if len(found) < count else ""
        place = np.arange(1, len(found) + 1)
        style = {"marker": MARKERS[i % len(MARKERS)], "linestyle": "-" if i < len(LINES) else ":"}
        axes.plot(place, found, **style, color=colour, markersize=3.0, linewidth=0.8, label=label)
    if np.isfinite(best):
        axes.axhspan(best, top, color="0.5", alpha=0.15, linewidth=0)
    if len(everything) and best > 0:
        axes.set_yscale("log")
    tidy(axes, "start, sorted by its loss", f"final loss [{unit}] (smaller is better)", title)
    if losses:
        axes.legend(frameon=False, fontsize="small")


def _finite(values: object) -> np.ndarray:
    array = np.asarray(numbers(values), dtype=float).ravel()
    return array[np.isfinite(array)]
