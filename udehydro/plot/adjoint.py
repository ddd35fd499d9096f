"""What one number depends on: water in store over time, parameters, and the weather through the year."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator
from matplotlib.figure import Figure

from udehydro.errors import ConfigError
from udehydro.plot.series import _within
from udehydro.plot.style import (
    COUNTED,
    FALL,
    MEANINGS,
    RISE,
    SIGNED,
    coloured,
    column,
    figure,
    named,
    numbers,
    place,
    rows,
    tidy,
    titled,
)
from udehydro.sensitivity.adjoint import Adjoint
from udehydro.structure import suggest

MONTHS = "JFMAMJJASOND"


def lambda_map(
    found: Adjoint, store: str | None = None, *, unit: str = "", element: int = 0,
    window: tuple[str, str] | None = None,
) -> Figure:  # fmt: skip
    """What a millimetre more in store would have been worth, over time: the adjoint state.

    Parameters
    ----------
    found : with ``storage``, lambda (T + 1, *batch).
    store : one store, as a map of years by days of the year; by default all stores along the record.
    unit : of the objective.
    element : which batch element, in row-major order.
    window : show only these inclusive dates, of all stores along the record.
    """
    run = found.run
    if not found.storage:
        raise ConfigError("This adjoint has no lambda: its solver records none, a one-step scheme does.")
    if store is not None and store not in found.storage:
        raise ConfigError(f"No lambda of '{store}'.{suggest(store, found.storage)}")
    names = list(found.storage) if store is None else [store]
    values = np.stack([column(found.storage[n], element)[:-1] for n in names])
    shown = _within(run.forcing.time, window if store is None else None)
    size = np.abs(values[:, shown])
    highest, limit = size.max(), max(np.quantile(size, 0.998), 1e-300)
    limit = highest if limit < highest < 1.5 * limit else limit  # a few days of melt-out may stand far above all others
    below = values.min() < -1e-3 * limit
    options = {"cmap": SIGNED if below else COUNTED, "vmin": -limit if below else 0.0, "vmax": limit}
    fig = figure(11.0, max(2.6, 1.5 + 0.45 * len(names)) if store is None else 4.2)
    axes = fig.subplots()
    if store is None:
        mesh = axes.pcolormesh(run.forcing.time_edge, np.arange(len(names) + 1) - 0.5, values, **options)
        axes.set_xlim(run.forcing.time_edge[:-1][shown][0], run.forcing.time_edge[1:][shown][-1])
        rows(axes, names)
        axes.xaxis.set_major_locator(AutoDateLocator(maxticks=8))
        axes.set_xlabel("date")
    else:
        years, table = _calendar(run.forcing.time, values[0])
        mesh = axes.pcolormesh(np.arange(367), np.append(years, years[-1] + 1) - 0.5, table, **options)
        axes.invert_yaxis()
        axes.set_yticks(years[:: -(-len(years) // 12)])
        _year(axes)
    units = {run.unit(n) for n in names}
    per = f"{unit or 'unit of the objective'} per {units.pop() if len(units) == 1 else 'unit of the store'}"
    titled(axes, f"Worth of water added to {MEANINGS.get(store, store) or 'the stores'}", run, element)
    extend = {True: "both", False: "max"}[bool(below)] if highest > limit else "neither"
    fig.colorbar(mesh, ax=axes, extend=extend, pad=0.01, aspect=14).set_label(f"lambda\n[{per}]", fontsize="small")
    return fig


def tornado(
    found: Adjoint | Mapping[str, Adjoint], *, element: int | None = None, most: int = 15, title: str = "",
    unit: str | None = None,
) -> Figure:  # fmt: skip
    """Elasticities of one objective or several, one group of bars for each parameter, the largest on top.

    Parameters
    ----------
    found : name of an objective, period or model -> Adjoint; of a single one, all basins side by side.
    element : which batch element, in row-major order; by default all of a single objective, the first of several.
    most : parameters shown; those of less than a hundredth of the largest are left out.
    unit : of the objective, to show changes in it in place of percent: of scores, and where it is about zero.
    """
    relative = unit is None
    if isinstance(found, Adjoint):
        shown = range(max(1, found.value.numel())) if element is None else [element]
        bars = {place(found.run, e) or f"element {e}": _elasticities(found, e, relative) for e in shown}
    else:
        bars = {name: _elasticities(a, element or 0, relative) for name, a in found.items()}
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
    change = "elasticity [% of the objective per % of the parameter]"
    tidy(axes, change if relative else f"change of the objective [{unit}] per % of the parameter", "", title)
    axes.grid(False, axis="y")
    if len(bars) > 1:
        fig.legend(loc="outside upper right", ncols=4, frameon=False, fontsize="small")
    return fig


def elasticity_through_year(
    found: Adjoint, *, by: str = "month", element: int = 0, title: str = "", unit: str | None = None
) -> Figure:
    """When weather matters: change of the objective by weather of every month, or day, of the year; years together.

    Rates (mm/d) are raised by 1 %, all else (temperature, day length) by one unit: percent of the objective.

    Parameters
    ----------
    found : with ``forcing``, derivatives (T, *batch).
    by : "month" or "day" of the year.
    element : which batch element, in row-major order.
    unit : of the objective, to show changes in it in place of percent, as in :func:`tornado`.
    """
    if by not in ("month", "day"):
        raise ConfigError(f"The year goes by 'month' or 'day', not '{by}'.")
    run = found.run
    value = float(numbers(found.value).reshape(-1)[element])
    if unit is None and value == 0.0:
        raise ConfigError("The objective is zero, of which there are no percent: give its unit= to show changes in it.")
    percent = 100.0 / value if unit is None else 1.0
    at = _month(run.forcing.time) if by == "month" else _day(run.forcing.time)
    names = [n for n in run.model.forcing_names if n in found.forcing]
    fig = figure(8.0, 0.8 + 1.9 * len(names))
    panels = np.atleast_1d(fig.subplots(len(names), 1, sharex=True))
    for axes, name in zip(panels, names, strict=True):
        own, change = run.model.structure.forcings[name], percent * column(found.forcing[name], element)
        relative = own.endswith("/d")
        change = 0.01 * change * column(run.forcing.values[name], element) if relative else change
        total = np.bincount(at, change, minlength=12 if by == "month" else 366)
        axes.bar(np.arange(len(total)) + 0.5, total, 0.85 if by == "month" else 1.0,
                 color=np.where(total >= 0.0, RISE, FALL), linewidth=0)  # fmt: skip
        axes.axhline(0.0, color="0.4", linewidth=0.8)
        tidy(axes, "", f"change [{unit or '%'}] for\n+1 {'%' if relative else own}", "")
        axes.set_title(MEANINGS.get(name, name), fontsize="medium", loc="left")
        axes.grid(False, axis="x")
    if by == "month":
        panels[-1].set_xticks(np.arange(12) + 0.5, list(MONTHS))
        panels[-1].set_xlim(0, 12)
        panels[-1].set_xlabel("month")
    else:
        _year(panels[-1])
    fig.suptitle(named(title or "When weather matters", run, element), fontsize="medium", x=0.01, ha="left")
    return fig


def _elasticities(found: Adjoint, element: int, relative: bool = True) -> dict[str, float]:
    """By name, where finite, or changes for a percent; of a parameter that varies in time, of a change at all times."""
    theta, batch = found.run.theta, found.value.ndim
    values = found.elasticity() if relative else {n: 0.01 * g * theta[n] for n, g in found.parameters.items()}
    whole = {n: v.sum(0) if v.ndim > batch else v for n, v in values.items()}
    one = {n: float(numbers(v).reshape(-1)[element]) for n, v in whole.items()}
    return {n: v for n, v in one.items() if np.isfinite(v)}


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
