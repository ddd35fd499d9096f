"""Series over time: hydrograph, storages; and the flow duration curve."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from udehydro.plot.style import MEANINGS, OBSERVED, RAIN, coloured, column, figure, numbers, place, shade, tidy
from udehydro.simulation import Simulation

Series = np.ndarray


def hydrograph(
    time: np.ndarray,
    observed: Series | None,
    simulated: Mapping[str, Series],
    periods: Mapping[str, tuple[str, str]] | None = None,
    prcp: Series | None = None,
    *,
    window: tuple[str, str] | None = None,
    log: bool = False,
    title: str = "",
) -> Figure:
    """Observed and simulated discharge over time, rain falling from the top.

    Parameters
    ----------
    time : (T,) datetime64, starts of the intervals.
    observed : (T,) mm/d with NaN where missing, or None.
    simulated : name -> (T,) mm/d.
    periods : name (train, valid, test) -> inclusive dates, shaded.
    prcp : (T,) mm/d.
    window : show only these inclusive dates.
    log : logarithmic discharge axis, which shows low flows.
    """
    time = numbers(time).astype("datetime64[ns]")
    shown = _within(time, window)
    fig = figure(11.0, 4.6 if prcp is not None else 3.8)
    if prcp is not None:
        above, axes = fig.subplots(2, 1, sharex=True, height_ratios=(1, 3))
        _rain(above, time[shown], column(prcp)[shown])
        above.set_title(title, fontsize="medium", loc="left")
    else:
        axes = fig.subplots()
    for name, colour in coloured(simulated):
        axes.plot(time[shown], column(simulated[name])[shown], color=colour, linewidth=1.0, label=name)
    if observed is not None:
        axes.plot(time[shown], column(observed)[shown], color=OBSERVED, linewidth=0.8, alpha=0.75, label="observed")
    tidy(axes, "date", "discharge [mm/d]", "" if prcp is not None else title)
    axes.set_xlim(time[shown][0], time[shown][-1])
    if log:
        axes.set_yscale("log")
        _log_limits(axes, observed, shown)
    else:
        axes.set_ylim(bottom=0.0)
    shade(axes, periods or {})
    fig.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=4, frameon=False, fontsize="small")
    return fig


def _within(time: np.ndarray, window: tuple[str, str] | None) -> np.ndarray:
    if window is None:
        return np.ones(len(time), dtype=bool)
    return (time >= np.datetime64(window[0])) & (time < np.datetime64(window[1]) + np.timedelta64(1, "D"))


def _rain(axes: Axes, time: np.ndarray, prcp: np.ndarray) -> None:
    axes.fill_between(time, prcp, step="post", color=RAIN, linewidth=0)
    tidy(axes, "", "precipitation\n[mm/d]")
    axes.set_ylim(max(float(np.nanmax(prcp, initial=0.0)) * 1.05, 1.0), 0.0)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(bottom=False)


def _log_limits(axes: Axes, observed: Series | None, shown: np.ndarray) -> None:
    """Keep a simulated flow of almost nothing from stretching the axis over many decades."""
    flow = column(observed)[shown] if observed is not None else np.array([np.nan])
    positive = flow[np.isfinite(flow) & (flow > 0)]
    if len(positive):
        axes.set_ylim(bottom=max(float(positive.min()) / 5.0, float(positive.max()) * 1e-5))


def flow_duration(observed: Series | None, simulated: Mapping[str, Series], *, title: str = "") -> Figure:
    """Flow duration curves: how often a discharge is exceeded, over the days with an observation.

    Parameters
    ----------
    observed : (T,) mm/d with NaN where missing, or None.
    simulated : name -> (T,) mm/d.
    """
    fig = figure(7.0, 4.4)
    axes = fig.subplots()
    counted = np.ones(len(column(next(iter(simulated.values())))), dtype=bool)
    if observed is not None:
        counted = np.isfinite(column(observed))
        axes.plot(*_exceedance(column(observed)[counted]), color=OBSERVED, linewidth=2.0, label="observed")
    for name, colour in coloured(simulated):
        axes.plot(*_exceedance(column(simulated[name])[counted]), color=colour, linewidth=1.4, label=name)
    axes.set_yscale("log")
    _log_limits(axes, observed, counted)
    tidy(axes, "share of time the discharge is exceeded [%]", "discharge [mm/d]", title)
    axes.set_xlim(0, 100)
    axes.legend(frameon=False)
    return fig


def _exceedance(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Plotting positions i / (n + 1) (Weibull) in percent, and the sorted flow; zero and below have no logarithm."""
    ordered = np.sort(flow)[::-1]
    share = 100.0 * np.arange(1, len(ordered) + 1) / (len(ordered) + 1)
    return share, np.where(ordered > 0, ordered, np.nan)


def storages(
    simulations: Simulation | Mapping[str, Simulation],
    periods: Mapping[str, tuple[str, str]] | None = None,
    *,
    element: int = 0,
) -> Figure:
    """Every store over time, one panel each; several simulations are drawn over one another.

    Parameters
    ----------
    simulations : one, or name -> Simulation; storages (T + 1, *batch, S) in mm at the interval edges.
    periods : name -> inclusive dates, shaded.
    element : which batch element, in row-major order.
    """
    if isinstance(simulations, Simulation):
        simulations = {simulations.model.structure.name: simulations}
    stores = list(dict.fromkeys(n for s in simulations.values() for n in s.model.store_names))
    first = next(iter(simulations.values()))
    fig = figure(11.0, 0.6 + 2.1 * len(stores))
    panels = np.atleast_1d(fig.subplots(len(stores), 1, sharex=True))
    for axes, store in zip(panels, stores, strict=True):
        for name, colour in coloured(simulations):
            run = simulations[name]
            if store in run.model.store_names:
                axes.plot(run.forcing.time_edge, column(run.store(store), element), color=colour, lw=1.0, label=name)
        unit = first.model.structure.stores.get(store, "mm")
        tidy(axes, "", f"{MEANINGS.get(store, store)}\n[{unit}]")
        axes.set_xlim(first.forcing.time_edge[0], first.forcing.time_edge[-1])
        shade(axes, periods or {})
    panels[-1].set_xlabel("date")
    fig.suptitle(f"Storages {place(first, element)}".strip(), fontsize="medium", x=0.01, ha="left")
    fig.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=4, frameon=False, fontsize="small"
    )
    return fig
