"""Gradient workshop: error against time, and whether each gradient is that of what was computed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from udehydro.plot.style import LINES, figure, tidy

FLOOR = 1e-16
"""Errors of zero are drawn here."""


def gradient_ways(table: pd.DataFrame, title: str = "") -> Figure:
    """What :func:`udehydro.sensitivity.compare_gradients` returns: a row for every way, a panel for every measure.

    An error of zero lies on the left axis; a way that failed is named, and has no points.
    """
    fig = figure(13.0, 1.5 + 0.33 * len(table))
    panels = fig.subplots(1, 4, sharey=True)
    shown = {
        "true_error": ("relative error [1]", "Against the true gradient"),
        "own_error": ("relative error [1]", "Against the same steps"),
        "seconds": ("value and gradient [s]", "Time"),
        "megabytes": ("peak of tensors [MB]", "Memory"),
    }
    places = np.arange(len(table))[::-1]
    for axes, (name, (label, heading)), colour in zip(panels, shown.items(), LINES, strict=False):
        values = table[name].to_numpy(dtype=float)
        drawn = values[values > 0.0]
        # whole decades, so that two at least are labelled
        low = FLOOR if name == "own_error" or not len(drawn) else 10.0 ** np.floor(np.log10(0.5 * drawn.min()))
        high = 10.0 ** np.ceil(np.log10(2.0 * max([low, *drawn])))
        axes.hlines(places, low, np.maximum(values, low), color=colour, linewidth=1.0)
        axes.plot(np.maximum(values, low), places, "o", color=colour, clip_on=False)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.xaxis.set_minor_formatter(NullFormatter())
        tidy(axes, label, "", heading)
    panels[0].set_yticks(places, [f"{n} (failed)" if f else n for n, f in table["failure"].items()])
    fig.suptitle(title, fontsize="medium", x=0.01, ha="left")
    return fig
