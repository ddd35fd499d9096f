"""Sensitivities: of a hydrograph by parameters, what a record tells of them and when, and what made a flood."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from udehydro.errors import ConfigError
from udehydro.forcing import date
from udehydro.plot.series import _rain, _within
from udehydro.plot.style import LINES, MEANINGS, OBSERVED, coloured, column, figure, numbers, place, tidy
from udehydro.sensitivity.adjoint import Adjoint
from udehydro.sensitivity.forward import Forward
from udehydro.sensitivity.information import Spectrum, Windows
from udehydro.simulation import Simulation
from udehydro.structure import suggest

RISE, FALL = LINES[0], LINES[1]
SIGNED, COUNTED = "RdBu", "YlGnBu"
MONTHS = "JFMAMJJASOND"


def sensitivities(
    found: Forward, name: str = "discharge", *, by: str = "value", element: int = 0,
    window: tuple[str, str] | None = None,
) -> Figure:  # fmt: skip
    """Hydrograph, and below it by how much a series changes where each value grows by 10 %; largest first.

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
    _title(top, f"Sensitivity of {MEANINGS.get(name, name)}", found.run, element)
    largest = np.abs(change).max(1)
    for axes, i in zip(panels, order, strict=True):
        for colour, part in ((RISE, np.maximum(change[i], 0.0)), (FALL, np.minimum(change[i], 0.0))):
            axes.fill_between(time[shown], part, step="post", color=colour, linewidth=0)
        axes.axhline(0.0, color="0.6", linewidth=0.6)
        reach = 1.08 * max(largest[i], 1e-3 * largest.max(), 1e-12)
        tidy(axes).set_ylim(-reach, reach)
        value, unit = f"{_value(found, i, element):.3g}", _unit(found.run, found.names[i])
        text = f"{found.names[i]} = {value}{'' if unit == '1' else f' {unit}'}   (largest change {largest[i]:.2g})"
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
    _title(top, f"What windows of {width:g} d tell of the parameters", found.run, element)
    highest = 1.0 if what == "content" else max([1e-9, *each[np.isfinite(each)]])
    options = {"cmap": COUNTED, "vmin": 0.0, "vmax": highest}
    mesh = axes.pcolormesh(_edges(found.edges), np.arange(count + 1) - 0.5, each.T, **options)
    _rows(axes, names)
    axes.set_xlim(found.edges[0, 0], found.edges[-1, 1])
    axes.set_xlabel("date")
    if what == "content":
        whole = numbers(found.whole.content()).reshape(-1, count)[element]
        side.pcolormesh([0, 1], np.arange(count + 1) - 0.5, whole[:, None], **options)
        _rows(side, [""] * count)
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
    _rows(axes, found.names)
    axes.set_xticks(x, [str(i + 1) for i in x])
    axes.set_xlabel("direction")
    fig.colorbar(mesh, ax=axes, label="share of the value [-]", pad=0.02, aspect=12)
    return fig


def lambda_map(found: Adjoint, store: str | None = None, *, unit: str = "", element: int = 0) -> Figure:
    """What a millimetre more in store would have been worth, over time: the adjoint state.

    Parameters
    ----------
    found : with ``storage``, lambda (T + 1, *batch).
    store : one store, as a map of years by days of the year; by default all stores along the record.
    unit : of the objective.
    element : which batch element, in row-major order.
    """
    run = found.run
    if not found.storage:
        raise ConfigError("This adjoint has no lambda: its solver records none, a one-step scheme does.")
    if store is not None and store not in found.storage:
        raise ConfigError(f"No lambda of '{store}'.{suggest(store, found.storage)}")
    names = list(found.storage) if store is None else [store]
    values = np.stack([column(found.storage[n], element)[:-1] for n in names])
    highest, limit = np.abs(values).max(), max(np.quantile(np.abs(values), 0.998), 1e-300)
    limit = highest if limit < highest < 1.5 * limit else limit  # a few days of melt-out may stand far above all others
    below = values.min() < -1e-3 * limit
    options = {"cmap": SIGNED if below else COUNTED, "vmin": -limit if below else 0.0, "vmax": limit}
    fig = figure(11.0, 1.5 + 0.45 * len(names) if store is None else 4.2)
    axes = fig.subplots()
    if store is None:
        mesh = axes.pcolormesh(run.forcing.time_edge, np.arange(len(names) + 1) - 0.5, values, **options)
        _rows(axes, names)
        axes.set_xlabel("date")
    else:
        years, table = _calendar(run.forcing.time, values[0])
        mesh = axes.pcolormesh(np.arange(367), np.append(years, years[-1] + 1) - 0.5, table, **options)
        axes.invert_yaxis()
        axes.set_yticks(years[:: -(-len(years) // 12)])
        _year(axes)
    units = {run.unit(n) for n in names}
    per = f"{unit or 'unit of the objective'} per {units.pop() if len(units) == 1 else 'unit of the store'}"
    _title(axes, f"Worth of water added to {MEANINGS.get(store, store) or 'the stores'}", run, element)
    extend = {True: "both", False: "max"}[bool(below)] if highest > limit else "neither"
    fig.colorbar(mesh, ax=axes, label=f"lambda\n[{per}]", extend=extend, pad=0.01, aspect=14)
    return fig


def tornado(found: Adjoint | Mapping[str, Adjoint], *, element: int = 0, most: int = 15, title: str = "") -> Figure:
    """Elasticities of one objective or several, one group of bars for each parameter, the largest on top.

    Parameters
    ----------
    found : name of an objective, period or model -> Adjoint; of a single one, all basins side by side.
    element : which batch element of several, in row-major order.
    most : parameters shown; those of less than a hundredth of the largest are left out.
    """
    if isinstance(found, Adjoint):
        count = max(1, found.value.numel())
        bars = {place(found.run, e) or f"element {e}": _elasticities(found, e) for e in range(count)}
    else:
        bars = {name: _elasticities(a, element) for name, a in found.items()}
    names = list(dict.fromkeys(n for values in bars.values() for n in values))
    largest = {n: max(abs(values.get(n, 0.0)) for values in bars.values()) for n in names}
    least = 1e-2 * max(largest.values(), default=0.0)
    names = sorted((n for n in names if largest[n] > least), key=largest.get)[-most:]
    fig = figure(7.0, 1.4 + len(names) * (0.22 + 0.12 * len(bars)))
    axes, height = fig.subplots(), 0.8 / len(bars)
    axes.axvline(0.0, color="0.4", linewidth=0.8)
    for i, (label, colour) in enumerate(coloured(bars)):
        at = np.arange(len(names)) + (0.5 * (len(bars) - 1) - i) * height
        axes.barh(at, [bars[label].get(n, 0.0) for n in names], 0.92 * height, color=colour, label=label)
    axes.set_yticks(np.arange(len(names)), names)
    tidy(axes, "elasticity [% of the objective per % of the parameter]", "", title)
    axes.grid(False, axis="y")
    if len(bars) > 1:
        fig.legend(loc="outside upper right", ncols=4, frameon=False, fontsize="small")
    return fig


def elasticity_through_year(found: Adjoint, *, by: str = "month", element: int = 0, title: str = "") -> Figure:
    """When weather matters: change of the objective by weather of every month, or day, of the year; years together.

    Rates (mm/d) are raised by 1 %, all else (temperature, day length) by one unit: percent of the objective.

    Parameters
    ----------
    found : with ``forcing``, derivatives (T, *batch).
    by : "month" or "day" of the year.
    element : which batch element, in row-major order.
    """
    if by not in ("month", "day"):
        raise ConfigError(f"The year goes by 'month' or 'day', not '{by}'.")
    run, value = found.run, float(numbers(found.value).reshape(-1)[element])
    at = _month(run.forcing.time) if by == "month" else _day(run.forcing.time)
    names = [n for n in run.model.forcing_names if n in found.forcing]
    fig = figure(8.0, 0.8 + 1.9 * len(names))
    panels = np.atleast_1d(fig.subplots(len(names), 1, sharex=True))
    for axes, name in zip(panels, names, strict=True):
        unit, change = run.model.structure.forcings[name], column(found.forcing[name], element)
        relative = unit.endswith("/d")
        change = change * column(run.forcing.values[name], element) if relative else 100.0 * change
        total = np.bincount(at, change / value, minlength=12 if by == "month" else 366)
        axes.bar(np.arange(len(total)) + 0.5, total, 0.85 if by == "month" else 1.0,
                 color=np.where(total >= 0.0, RISE, FALL), linewidth=0)  # fmt: skip
        axes.axhline(0.0, color="0.4", linewidth=0.8)
        tidy(axes, "", f"change [%] for\n+1 {'%' if relative else unit}", "")
        axes.set_title(MEANINGS.get(name, name), fontsize="medium", loc="left")
        axes.grid(False, axis="x")
    if by == "month":
        panels[-1].set_xticks(np.arange(12) + 0.5, list(MONTHS))
        panels[-1].set_xlim(0, 12)
        panels[-1].set_xlabel("month")
    else:
        _year(panels[-1])
    fig.suptitle(_named(title, run, element), fontsize="medium", x=0.01, ha="left")
    return fig


def flood_attribution(
    found: Adjoint, *, rain: str = "prcp", temperature: str = "temp", before: int = 60, element: int = 0
) -> Figure:
    """Which day's rain, and warmth, made a flood peak?

    Rain; the derivative of the peak by the rain of each day, and times that rain: its contribution, to first order;
    the derivative by temperature, where the model reads it; the hydrograph. Contributions need not add up to the peak,
    because a catchment is not linear.

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
    fig = figure(10.0, 7.8 if warm else 6.6)
    panels = list(fig.subplots(5 if warm else 4, 1, sharex=True, height_ratios=(1, 1, 1.2, *[1] * warm, 1.6)))
    above, by_rain, share, *by_warmth, below = panels
    _rain(above, time, depth)
    _title(above, f"What made the peak of {date(run.forcing.time[day])}?", run, element)
    _bars(by_rain, time, slope[shown], "mm/d\nper mm/d", "derivative of the peak by the rain of a day")
    _bars(share, time, made[shown], "mm/d", f"derivative x rain; {_said(made, day, peak)}")
    for axes in by_warmth:
        text = "derivative of the peak by the temperature of a day"
        _bars(axes, time, column(found.forcing[temperature], element)[shown], "mm/d\nper degC", text)
    middle = run.forcing.time + np.diff(run.forcing.time_edge) // 2
    below.plot(middle[shown], flow[shown], color=OBSERVED, linewidth=1.2)
    below.plot(middle[day], flow[day], "o", color=FALL)
    tidy(below, "date", "discharge\n[mm/d]").set_ylim(bottom=0.0)
    below.set_xlim(time[0], run.forcing.time_edge[1:][shown][-1])
    return fig


def _said(made: np.ndarray, day: int, peak: float) -> str:
    """Contributions added up over the last days, in percent of the peak."""
    spans = [(1, "that day"), (3, "3 days"), (10, "10 days"), (30, "30 days"), (day + 1, "whole record")]
    shares = [(text, 100.0 * made[max(0, day + 1 - n) : day + 1].sum() / peak) for n, text in spans]
    return "of the peak, " + ", ".join(f"{text} {share:.0f} %" for text, share in shares)


def _bars(axes: Axes, time: np.ndarray, values: np.ndarray, unit: str, text: str) -> None:
    for colour, part in ((RISE, np.maximum(values, 0.0)), (FALL, np.minimum(values, 0.0))):
        axes.fill_between(time, part, step="post", color=colour, linewidth=0)
    axes.axhline(0.0, color="0.5", linewidth=0.6)
    tidy(axes, "", unit).set_title(text, fontsize="small", loc="left", pad=2.0, color="0.2")


def _named(text: str, run: Simulation, element: int) -> str:
    name = place(run, element)
    return f"{text} ({name})" if name else text


def _title(axes: Axes, text: str, run: Simulation, element: int) -> None:
    axes.set_title(_named(text, run, element), fontsize="medium", loc="left")


def _flow(axes: Axes, run: Simulation, element: int, shown: np.ndarray) -> None:
    axes.plot(run.forcing.time[shown], column(run.discharge, element)[shown], color=OBSERVED, linewidth=0.9)
    tidy(axes, "", "discharge\n[mm/d]").set_ylim(bottom=0.0)
    axes.set_xlim(run.forcing.time[shown][0], run.forcing.time_edge[1:][shown][-1])


def _rows(axes: Axes, names) -> None:
    """A heat map's rows by name, the first on top, without a frame."""
    axes.set_yticks(np.arange(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)


def _edges(windows: np.ndarray) -> np.ndarray:
    """Where windows, which may overlap, meet: half way between their middles, (W + 1,)."""
    middle = windows[:, 0] + (windows[:, 1] - windows[:, 0]) // 2
    return np.concatenate([windows[:1, 0], middle[:-1] + np.diff(middle) // 2, windows[-1:, 1]])


def _elasticities(found: Adjoint, element: int) -> dict[str, float]:
    """By name, where finite; of a parameter that varies in time, of a change at all times."""
    batch, values = found.value.ndim, found.elasticity()
    whole = {n: v.sum(0) if v.ndim > batch else v for n, v in values.items()}
    one = {n: float(numbers(v).reshape(-1)[element]) for n, v in whole.items()}
    return {n: v for n, v in one.items() if np.isfinite(v)}


def _value(found: Forward, i: int, element: int) -> float:
    return float(numbers(found.values[..., i]).reshape(-1)[element])


def _unit(run: Simulation, name: str) -> str:
    s = run.model.structure
    return s.stores.get(name) or s.parameters[name].unit


def _month(time: np.ndarray) -> np.ndarray:
    return time.astype("datetime64[M]").astype(int) % 12


def _day(time: np.ndarray) -> np.ndarray:
    """Day of the year from 0."""
    return (time.astype("datetime64[D]") - time.astype("datetime64[Y]").astype("datetime64[D]")).astype(int)


def _calendar(time: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Years, and the daily means (years, 366), NaN where there are none."""
    year, day = time.astype("datetime64[Y]").astype(int) + 1970, _day(time)
    years = np.arange(year[0], year[-1] + 1)
    total, count = np.zeros((2, len(years), 366))
    np.add.at(total, (year - year[0], day), values)
    np.add.at(count, (year - year[0], day), 1.0)
    return years, np.where(count > 0.0, total / np.maximum(count, 1.0), np.nan)


def _year(axes: Axes) -> None:
    """Months along an axis of days of the year."""
    starts = _day(np.arange("2001-01", "2002-01", dtype="datetime64[M]").astype("datetime64[D]"))
    axes.set_xticks(starts + 15, list(MONTHS))
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(0, 366)
    axes.set_xlabel("day of the year")
