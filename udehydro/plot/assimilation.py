"""Figures of data assimilation: one window with its forecast, and skill by lead time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from udehydro.assimilation import Analysis, Forecast
from udehydro.plot.style import LINES, OBSERVED, coloured, column, figure, place, tidy


def assimilated(analysis: Analysis, forecast: Forecast | None = None, element: int = 0, observed=None) -> Figure:
    """Discharge of one window [mm/d], observed, open loop and analysis, and its forecast beyond the issue (day 0).

    Parameters
    ----------
    element : of the batch, counted in row-major order.
    observed : (L, *batch) after the issue, to be drawn too.
    """
    fig = figure()
    forcing = analysis.run.forcing
    name = ", ".join(n for n in (_member(analysis, element), place(analysis.run, element)) if n)
    axes = tidy(fig.subplots(), "days from issue", "discharge [mm/d]", name)
    issue = forcing.time_edge[-1]
    middle = _days(forcing.time_edge, issue)
    runs = (("open loop", LINES[1], analysis.open_loop), ("4D-Var", LINES[0], analysis.run))
    for label, colour, run in runs:
        axes.plot(middle, column(run.discharge, element), color=colour, label=label)
    axes.plot(middle, column(analysis.observed, element), ".", color=OBSERVED, label="observed")
    if forecast is not None:
        ahead = _days(forecast.run.forcing.time_edge, issue)
        for label, colour, _ in runs:
            axes.plot(ahead, column(forecast.series[label], element), "--", color=colour, label=f"{label}, forecast")
        if observed is not None:
            axes.plot(ahead, column(observed, element), ".", color=OBSERVED, markerfacecolor="none", label="to come")
    axes.axvline(0.0, color="0.5", linewidth=0.8)
    axes.legend(frameon=False, fontsize="small")
    return fig


def skill_by_lead(skill, *, score: str = "nse", forecasts: Sequence[str] | None = None) -> Figure:
    """A score by lead time: median over basins, and the range of the middle half of them.

    Parameters
    ----------
    skill : Dataset of :func:`udehydro.assimilation.skill`.
    score : ``"nse"`` or ``"rmse"``; or of another variable with the dims (forecast, lead, basin).
    forecasts : kinds to be drawn, by default all.
    """
    fig = figure(7.0, 4.0)
    draw_skill(fig.subplots(), skill, score=score, forecasts=forecasts)
    return fig


def draw_skill(axes: Axes, skill, *, score: str = "nse", forecasts: Sequence[str] | None = None) -> None:
    """The same on axes of a larger figure."""
    values = skill[score]
    for name, colour in coloured(forecasts or [str(n) for n in values["forecast"].values]):
        low, middle, high = np.nanquantile(
            values.sel(forecast=name).transpose("lead", "basin"), [0.25, 0.5, 0.75], axis=1
        )
        axes.fill_between(skill["lead"], low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(skill["lead"], middle, "o-", color=colour, markersize=3.0, label=name)
    unit = values.attrs.get("units", "1")
    tidy(axes, "lead time [d]", score.upper() + ("" if unit == "1" else f" [{unit}]"))
    axes.legend(frameon=False, fontsize="small")


def _days(edges: np.ndarray, issue: np.datetime64) -> np.ndarray:
    """Middles of intervals in days from an issue."""
    return ((edges[:-1] - issue) + (edges[1:] - issue)) / np.timedelta64(2, "D")


def _member(analysis: Analysis, element: int) -> str:
    """Date of issue of an element, where windows are members."""
    forcing = analysis.run.forcing
    return forcing.members[element // forcing.batch[-1]] if forcing.members else ""
