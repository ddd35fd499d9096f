"""Figures of what was learned: readings against the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from udehydro.cli.richards.sensors import Sensor
from udehydro.plot.style import LINES, figure, tidy

LABELS = {"theta": "water content [-]", "psi": "head [cm]"}


def readings(sensors: Sequence[Sensor], model: Sequence[np.ndarray], edges: np.ndarray) -> Figure:
    """Readings as points and the model as lines over time, a panel for each kind of sensor."""
    kinds = [k for k in LABELS if any(s.kind == k for s in sensors)]
    fig = figure(10.0, 3.2 * len(kinds) + 0.6)
    for axes, kind in zip(np.atleast_1d(fig.subplots(len(kinds), 1, sharex=True)), kinds, strict=True):
        mine = [(s, m) for s, m in zip(sensors, model, strict=True) if s.kind == kind]
        for i, (sensor, series) in enumerate(mine):
            colour = LINES[i % len(LINES)]
            axes.plot(edges, series, color=colour, linewidth=1.2, label=sensor.name)
            axes.plot(edges, sensor.values, "o", color=colour, markersize=2.5, alpha=0.6)
        title = "Points: readings; lines: the model" if kind == kinds[0] else ""
        tidy(axes, "date" if kind == kinds[-1] else "", LABELS[kind], title)
        axes.legend(frameon=False, fontsize="small", ncols=3)
        locator = AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    return fig
