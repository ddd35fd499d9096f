"""The water balance, year by year: what came in, where it went, and by how much it fails to close."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from udehydro.plot.style import OBSERVED, column, figure, numbers, place, tidy
from udehydro.simulation import Simulation
from udehydro.structure import ATMOSPHERE, OUTLET

COLOURS = {
    "precipitation": "#56B4E9",
    "evapotranspiration": "#009E73",
    "discharge": "#0072B2",
    "storage": "#E69F00",
    "exchange": "#CC79A7",
}


def annual_balance(simulation: Simulation, element: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Water balance of each calendar year of a run, mm.

    Returns
    -------
    years : (N,) int; years with less than 90 % of their days are left out, unless none has more.
    terms : ``precipitation``, ``evapotranspiration``, ``discharge``, ``exchange`` (net loss through other
        boundaries), ``storage`` (change of all stores together) and ``closure`` (what is left over), each (N,) mm.
    """
    model, edges = simulation.model, simulation.forcing.time_edge
    volume = numbers(simulation.volume)
    volume = volume.reshape(len(volume), -1, volume.shape[-1])[:, element]
    flows = {n: np.zeros(len(volume)) for n in ("precipitation", "evapotranspiration", "discharge", "exchange")}
    for i, f in enumerate(model.structure.fluxes):
        for end, sign in ((f.source, -1.0), (f.sink, 1.0)):
            if end in model.store_names:
                continue
            if end == ATMOSPHERE:
                flows["precipitation" if sign < 0 else "evapotranspiration"] += volume[:, i]
            else:
                flows["discharge" if end == OUTLET else "exchange"] += sign * volume[:, i]
    total = sum(column(simulation.store(n), element) for n in model.store_names)
    year = edges[:-1].astype("datetime64[Y]").astype(int) + 1970
    years = np.unique(year)
    covered = np.array([np.diff(edges)[year == y].sum() / np.timedelta64(1, "D") for y in years])
    years = years[covered >= 328.5] if (covered >= 328.5).any() else years
    terms = {n: np.array([series[year == y].sum() for y in years]) for n, series in flows.items()}
    terms["storage"] = np.array([np.diff(total)[year == y].sum() for y in years])
    spent = terms["evapotranspiration"] + terms["discharge"] + terms["exchange"] + terms["storage"]
    terms["closure"] = terms["precipitation"] - spent
    return years, terms


def water_balance(simulation: Simulation, observed=None, *, element: int = 0) -> Figure:
    """Annual bars: supply on the left, use on the right, equally high; the closure error is printed.

    Parameters
    ----------
    simulation : Simulation
    observed : (T,) discharge [mm/d], NaN where missing; its sum is marked for years without gaps.
    element : which batch element, in row-major order.
    """
    years, terms = annual_balance(simulation, element)
    fig = figure(max(7.0, 1.6 + 0.8 * len(years)), 4.4)
    axes = fig.subplots()
    x, width = np.arange(len(years)), 0.38
    stacks = {
        -0.5: [("precipitation", "precipitation", ""), ("storage", "out of storage", -1.0)],
        0.5: [("evapotranspiration", "evapotranspiration", ""), ("discharge", "discharge", ""),
              ("exchange", "other boundaries", ""), ("storage", "into storage", 1.0)],
    }  # fmt: skip
    for side, parts in stacks.items():
        bottom = np.zeros(len(years))
        for term, text, sign in parts:
            height = terms[term] if sign == "" else np.maximum(sign * terms[term], 0.0)
            if not np.abs(height).max() > 0:
                continue
            hatch = "///" if text == "out of storage" else None
            axes.bar(x + side * width, height, width, bottom, color=COLOURS[term], label=text, hatch=hatch, ec="white")
            bottom += height
    _mark_observed(axes, simulation, observed, years, x + 0.5 * width, terms)
    axes.set_xticks(x, [str(y) for y in years])
    worst = float(numbers(simulation.max_balance_error()).ravel()[element])
    closure = float(np.abs(terms["closure"]).max())
    tidy(axes, "year", "water [mm/year]", f"Water balance {place(simulation, element)}".strip())
    axes.text(
        0.0, -0.17, f"Closure: largest error of any store and day {worst:.1e} mm, of any year {closure:.1e} mm.",
        transform=axes.transAxes, fontsize="small", va="top",
    )  # fmt: skip
    fig.legend(loc="outside upper right", ncols=3, frameon=False, fontsize="small")
    return fig


def _mark_observed(axes, simulation: Simulation, observed, years, x, terms) -> None:
    """Observed annual discharge as a line at its height above the evapotranspiration it is stacked on."""
    if observed is None:
        return
    depth = column(observed) * numbers(simulation.forcing.days)
    year = simulation.forcing.time.astype("datetime64[Y]").astype(int) + 1970
    sums = np.array([depth[year == y].sum() for y in years])  # NaN for a year with a gap
    if np.isfinite(sums).any():
        axes.plot(x, terms["evapotranspiration"] + sums, "_", color=OBSERVED, ms=16, mew=2, label="observed discharge")
