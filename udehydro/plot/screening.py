"""Global sensitivity: shares of variance, the plane of Morris, curves of DELSA, and which factor dominates where."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from udehydro.errors import ConfigError
from udehydro.plot.style import LINES, coloured, figure, tidy

MARKERS = "os^DvpX<>*"


def sobol_bars(found, *, title: str = "") -> Figure:
    """First-order and total Sobol indices with their 95 % intervals, sorted; Dataset (factor) of ``sobol``."""
    _one(found, "ST")
    found = found.sortby("ST", ascending=False)
    fig = figure(7.0, 3.5)
    axes = tidy(fig.subplots(), "", "share of variance", title)
    place = np.arange(found.sizes["factor"])
    for (name, colour), shift in zip(coloured(("S1", "ST")), (-0.2, 0.2), strict=True):
        label = {"S1": "alone (S1)", "ST": "with interactions (ST)"}[name]
        bars = {"yerr": found[f"{name}_conf"].values, "error_kw": {"elinewidth": 0.8}}
        axes.bar(place + shift, found[name].values, 0.4, color=colour, label=label, **bars)
    names = found["factor"].values
    crowded = len(names) * max(map(len, names)) > 80
    axes.set_xticks(place, names, **({"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}))
    axes.legend(frameon=False, fontsize="small")
    return fig


def morris_plane(found, *, title: str = "") -> Figure:
    """mu* and sigma of every factor; above the line effects differ more than they matter. Dataset (factor)."""
    _one(found, "mu_star")
    fig = figure(6.5, 4.5)
    axes = tidy(fig.subplots(), "mu*, per range", "sigma, per range", title)
    conf = found["mu_star_conf"].values
    axes.errorbar(found["mu_star"].values, found["sigma"].values, xerr=conf, fmt="none", ecolor="0.7", elinewidth=0.8)
    for i, (name, colour) in enumerate(coloured(found["factor"].values)):
        at = found.sel(factor=name)
        axes.plot(float(at["mu_star"]), float(at["sigma"]), MARKERS[i % len(MARKERS)], color=colour, label=name)
    most = float(found["mu_star"].max())
    axes.plot([0.0, most], [0.0, most], color="0.5", linewidth=0.8, linestyle=":")
    fig.legend(loc="outside right upper", frameon=False, fontsize="small")
    return fig


def delsa_curves(found, *, title: str = "") -> Figure:
    """Distribution of the local share of every factor over the space; Dataset (sample, factor) of ``delsa``."""
    _one(found, "nu")
    fig = figure(7.0, 4.0)
    axes = tidy(fig.subplots(), "local share of variance", "share of the space below it", title)
    for i, (name, colour) in enumerate(coloured(found["factor"].values)):
        shares = np.sort(found["local"].sel(factor=name).dropna("sample").values)
        style = "-" if i < len(LINES) else "--"
        axes.plot(shares, (np.arange(len(shares)) + 0.5) / len(shares), color=colour, linestyle=style, label=name)
    axes.set_xlim(0.0, 1.0)
    axes.legend(frameon=False, fontsize="small")
    return fig


def dominant(
    axes: Axes, x, y, names, *, order: Sequence[str], xlabel: str = "", ylabel: str = "", title: str = ""
) -> None:
    """Points (n,), by longitude and latitude or two attributes, with the colour and marker of a factor each.

    ``order`` lists the factors, so that several panels show the same one alike; an empty name is not drawn.
    """
    x, y, names = np.asarray(x), np.asarray(y), np.asarray(names)
    tidy(axes, xlabel, ylabel)
    for i, (name, colour) in enumerate(coloured(order)):
        here = names == name
        marker = MARKERS[i % len(MARKERS)]
        axes.plot(x[here], y[here], marker, color=colour, markersize=4.5, label=f"{name} ({int(here.sum())})")
    above = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "alignment": "left", "title": title or None}
    axes.legend(frameon=False, fontsize="small", ncols=3, handletextpad=0.1, columnspacing=1.0, **above)


def _one(found, measure: str) -> None:
    """The results have to be those of one output, by the right method."""
    if measure not in found:
        raise ConfigError(f"The results have no '{measure}': they are of another method ({found.attrs.get('method')}).")
    if more := [d for d in found[measure].dims if d != "factor"]:
        raise ConfigError(f"The results are of several outputs ({', '.join(more)}): choose one with .sel() or .isel().")
