"""Factors of a global sensitivity analysis by one measure."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from udehydro.plot.style import LINES, figure, tidy


def ranked(found, measure: str, *, low: str = "", high: str = "", label: str = "", title: str = "") -> Figure:
    """Bars of a measure, the largest on top, with 95 % intervals where there are any, or from ``low`` to ``high``.

    Parameters
    ----------
    found : Dataset (factor) of one output, as the functions of :mod:`udehydro.sensitivity.screening` return it.
    measure, low, high : names of variables; ``<measure>_conf`` is half of an interval.
    """
    found = found.sortby(measure)
    values, at = found[measure].values, np.arange(found.sizes["factor"])
    spread = None
    if low and high:
        spread = np.stack([values - found[low].values, found[high].values - values]).clip(0.0)
    elif f"{measure}_conf" in found:
        spread = found[f"{measure}_conf"].values
    fig = figure(7.0, 1.2 + 0.34 * len(at))
    axes = tidy(fig.subplots(), label or measure, "", title)
    axes.barh(at, values, 0.7, color=LINES[0], xerr=spread, error_kw={"elinewidth": 0.8, "ecolor": "0.4"})
    axes.set_yticks(at, found["factor"].values)
    axes.set_xlim(left=0.0)
    axes.grid(False, axis="y")
    return fig
