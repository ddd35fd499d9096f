"""Which day's rain, and warmth, made a flood."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from udehydro.errors import ConfigError
from udehydro.forcing import date
from udehydro.plot.series import _rain
from udehydro.plot.style import FALL, OBSERVED, RISE, column, figure, numbers, tidy, titled
from udehydro.sensitivity.adjoint import Adjoint
from udehydro.structure import suggest

DAY = np.timedelta64(1, "D")


def flood_attribution(
    found: Adjoint, *, rain: str = "prcp", temperature: str = "temp", before: int = 60, element: int = 0
) -> Figure:
    """Which day's rain, and warmth, made a flood peak?

    Rain; the derivative of the peak by the rain of each interval, and times that rain: its contribution, to first
    order; the derivative by temperature, where the model reads it; the hydrograph. Contributions need not add up to the
    peak, because a catchment is not linear.

    Parameters
    ----------
    found : adjoint of :func:`udehydro.sensitivity.flood_peak`.
    before : intervals shown before the peak.
    element : which batch element, in row-major order.
    """
    run = found.run
    if rain not in found.forcing:
        raise ConfigError(f"The model reads no '{rain}'.{suggest(rain, found.forcing)}")
    flow, peak = column(run.discharge, element), float(numbers(found.value).reshape(-1)[element])
    if not np.isclose(flow, peak).any():
        raise ConfigError("The objective is no peak of discharge: take the adjoint of flood_peak(start, end).")
    day = int(np.abs(flow - peak).argmin())
    shown = np.zeros(len(flow), dtype=bool)
    shown[max(0, day - before) : day + 1 + before // 6] = True
    time, depth = run.forcing.time[shown], column(run.forcing.values[rain], element)[shown]
    slope = column(found.forcing[rain], element)
    made = slope * column(run.forcing.values[rain], element)
    warm = temperature in found.forcing
    step = "a day" if (np.diff(run.forcing.time_edge) == DAY).all() else "an interval"
    fig = figure(10.0, 7.8 if warm else 6.6)
    panels = list(fig.subplots(5 if warm else 4, 1, sharex=True, height_ratios=(1, 1, 1.2, *[1] * warm, 1.6)))
    above, by_rain, share, *by_warmth, below = panels
    _rain(above, time, depth)
    titled(above, f"What made the peak of {date(run.forcing.time[day])}?", run, element)
    _bars(by_rain, time, slope[shown], "mm/d\nper mm/d", f"derivative of the peak by the rain of {step}")
    edges, kept = run.forcing.time_edge[: day + 2], slice(0, day + 1)
    _bars(share, time, made[shown], "mm/d", f"derivative x rain; {_said(100.0 * made[kept] / peak, edges)}")
    for axes in by_warmth:
        text = f"derivative of the peak by the temperature of {step}"
        _bars(axes, time, column(found.forcing[temperature], element)[shown], "mm/d\nper degC", text)
    middle = run.forcing.time + np.diff(run.forcing.time_edge) // 2
    below.plot(middle[shown], flow[shown], color=OBSERVED, linewidth=1.2)
    below.plot(middle[day], flow[day], "o", color=FALL)
    tidy(below, "date", "discharge\n[mm/d]").set_ylim(bottom=0.0)
    below.set_xlim(time[0], run.forcing.time_edge[1:][shown][-1])
    return fig


def _said(made: np.ndarray, edges: np.ndarray) -> str:
    """Contributions [% of the peak] to its interval (n,), between edges (n + 1,), added up over the last days."""
    spans = {"last day": 1, "3 days": 3, "10 days": 10, "30 days": 30}
    shares = {text: made[edges[:-1] >= edges[-1] - days * DAY].sum() for text, days in spans.items()}
    shares["whole record"] = made.sum()
    return "of the peak, " + ", ".join(f"{text} {share:.0f} %" for text, share in shares.items())


def _bars(axes: Axes, time: np.ndarray, values: np.ndarray, unit: str, text: str) -> None:
    for colour, part in ((RISE, np.maximum(values, 0.0)), (FALL, np.minimum(values, 0.0))):
        axes.fill_between(time, part, step="post", color=colour, linewidth=0)
    axes.axhline(0.0, color="0.5", linewidth=0.6)
    tidy(axes, "", unit).set_title(text, fontsize="small", loc="left", pad=2.0, color="0.2")
