"""What a record tells of parameters: the hydrograph's response to each, when it is informative, which combinations."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from udehydro.errors import ConfigError
from udehydro.plot.series import _within
from udehydro.plot.style import (
    COUNTED,
    FALL,
    MEANINGS,
    OBSERVED,
    RISE,
    SIGNED,
    column,
    figure,
    numbers,
    rows,
    tidy,
    titled,
)
from udehydro.sensitivity.forward import Forward
from udehydro.sensitivity.information import Spectrum, Windows
from udehydro.simulation import Simulation


def sensitivities(
    found: Forward, name: str = "discharge", *, by: str = "value", element: int = 0,
    window: tuple[str, str] | None = None,
) -> Figure:  # fmt: skip
    """Hydrograph, and below it by how much a series changes where each value grows by 10 %; largest first.

    A value of zero has no 10 %: its panel is empty and says so.

    Parameters
    ----------
    found : derivatives (P, T, *batch) of a series, ``name`` as in :meth:`Forward.of`.
    by : 10 % of the "value", or of the "range".
    element : which batch element, in row-major order.
    window : show only these inclusive dates.
    """
    time = found.run.forcing.time
    shown = _within(time, window)
    change = 0.1 * np.stack([column(c, element) for c in found.scaled(name, by)])[:, shown]
    order = np.sqrt((change**2).mean(1)).argsort()[::-1]
    fig = figure(11.0, 2.0 + 1.15 * len(order))
    top, *panels = fig.subplots(len(order) + 1, 1, sharex=True, height_ratios=(2.0, *[1.0] * len(order)))
    _flow(top, found.run, element, shown)
    titled(top, f"Sensitivity of {MEANINGS.get(name, name)}", found.run, element)
    largest = np.abs(change).max(1)
    for axes, i in zip(panels, order, strict=True):
        for colour, part in ((RISE, np.maximum(change[i], 0.0)), (FALL, np.minimum(change[i], 0.0))):
            axes.fill_between(time[shown], part, step="post", color=colour, linewidth=0)
        axes.axhline(0.0, color="0.6", linewidth=0.6)
        reach = 1.08 * max(largest[i], 1e-3 * largest.max(), 1e-12)
        tidy(axes).set_ylim(-reach, reach)
        value, unit = f"{_value(found, i, element):.3g}", _unit(found.run, found.names[i])
        told = f"largest change {largest[i]:.2g}"
        told = "no 10 % of zero; by='range' has some" if by == "value" and float(value) == 0.0 else told
        text = f"{found.names[i]} = {value}{'' if unit == '1' else f' {unit}'}   ({told})"
        axes.set_title(text, fontsize="small", loc="left", pad=2.0, color="0.2")
    panels[-1].set_xlabel("date")
    whole = "" if by == "value" else " of its range"
    fig.supylabel(f"change [{found.run.unit(name) or 'mm/d'}] where a value grows by 10 %{whole}", fontsize="medium")
    return fig


def identifiability(found: Windows, what: str = "content", *, element: int = 0) -> Figure:
    """Heat map of parameters by time: what every window of a record tells, and the whole record, with the hydrograph.

    Parameters
    ----------
    found : W windows, their information (W, *batch, P, P).
    what : "content", how much a window alone adds to knowing the range (0 nothing, 1 all), or "share", its part in the
        information of the record.
    element : which batch element, in row-major order.
    """
    if what not in ("content", "share"):
        raise ConfigError(f"Windows have 'content' or 'share', not '{what}'.")
    each = numbers(found.each.content() if what == "content" else 100.0 * found.share)
    count, names = each.shape[-1], found.each.names
    each = each.reshape(len(each), -1, count)[:, element]
    fig = figure(11.0, 2.6 + 0.34 * count)
    (top, empty), (axes, side) = fig.subplots(
        2, 2, sharex="col", height_ratios=(2.0, 0.3 * count + 0.6), width_ratios=(24, 1), squeeze=False
    )
    empty.set_axis_off()
    _flow(top, found.run, element, np.ones(len(found.run.forcing), dtype=bool))
    width = (found.edges[0, 1] - found.edges[0, 0]) / np.timedelta64(1, "D")
    titled(top, f"What windows of {width:g} d tell of the parameters", found.run, element)
    highest = 1.0 if what == "content" else max([1e-9, *each[np.isfinite(each)]])
    options = {"cmap": COUNTED, "vmin": 0.0, "vmax": highest}
    mesh = axes.pcolormesh(_edges(found.edges), np.arange(count + 1) - 0.5, each.T, **options)
    rows(axes, names)
    axes.set_xlim(found.edges[0, 0], found.edges[-1, 1])
    axes.set_xlabel("date")
    if what == "content":
        whole = numbers(found.whole.content()).reshape(-1, count)[element]
        side.pcolormesh([0, 1], np.arange(count + 1) - 0.5, whole[:, None], **options)
        rows(side, [""] * count)
        side.set_xticks([0.5], ["all"])
    else:
        side.set_axis_off()
    text = "information content\nof a window [-]" if what == "content" else "share of the record's\ninformation [%]"
    fig.colorbar(mesh, ax=[axes, side], label=text, pad=0.01, aspect=12)
    return fig


def spectrum(found: Spectrum) -> Figure:
    """How well each combination of values is known, and what it is made of; below 100 % the data say something.

    Parameters
    ----------
    found : of one element of the batch: ``information.spectrum()[0]``.
    """
    found._check_one()
    sd, vectors, count = 100.0 * numbers(found.sd), numbers(found.vectors), len(found.names)
    fig = figure(max(5.2, 2.6 + 0.62 * count), 3.2 + 0.32 * count)
    top, axes = fig.subplots(2, 1, sharex=True, height_ratios=(2.0, 0.3 * count + 0.5))
    x, known = np.arange(count), np.isfinite(sd) & (sd < 1e12)
    low, high = min([50.0, *sd[known]]), max([200.0, *sd[known]])
    top.set_yscale("log")
    top.set_ylim(low / 2.0, high * 4.0)
    top.axhspan(100.0, high * 4.0, color=FALL, alpha=0.10, linewidth=0)
    top.axhline(100.0, color="0.5", linewidth=0.8, linestyle="--")
    top.vlines(x[known], low / 2.0, sd[known], color=RISE, linewidth=1.5)
    top.plot(x[known], sd[known], "o", color=RISE, markersize=6)
    top.plot(x[~known], np.full((~known).sum(), high * 2.5), "^", color=FALL, markersize=8)
    tidy(top, "", "standard deviation\nalong the direction [%]", "Combinations of values, best known first")
    # the sign of a direction is free: its largest share is shown as a rise
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), x])
    edges = np.arange(count + 1) - 0.5
    mesh = axes.pcolormesh(edges, edges, vectors, cmap=SIGNED, vmin=-1.0, vmax=1.0, edgecolors="white", linewidth=1.0)
    rows(axes, found.names)
    axes.set_xticks(x, [str(i + 1) for i in x])
    axes.set_xlabel("direction")
    fig.colorbar(mesh, ax=axes, label="share of the value [-]", pad=0.02, aspect=12)
    return fig


def _flow(axes: Axes, run: Simulation, element: int, shown: np.ndarray) -> None:
    axes.plot(run.forcing.time[shown], column(run.discharge, element)[shown], color=OBSERVED, linewidth=0.9)
    tidy(axes, "", "discharge\n[mm/d]").set_ylim(bottom=0.0)
    axes.set_xlim(run.forcing.time[shown][0], run.forcing.time_edge[1:][shown][-1])


def _edges(windows: np.ndarray) -> np.ndarray:
    """Where windows, which may overlap, meet: half way between their middles, (W + 1,)."""
    middle = windows[:, 0] + (windows[:, 1] - windows[:, 0]) // 2
    return np.concatenate([windows[:1, 0], middle[:-1] + np.diff(middle) // 2, windows[-1:, 1]])


def _value(found: Forward, i: int, element: int) -> float:
    return float(numbers(found.values[..., i]).reshape(-1)[element])


def _unit(run: Simulation, name: str) -> str:
    s = run.model.structure
    return s.stores.get(name) or s.parameters[name].unit
