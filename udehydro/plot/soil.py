"""Soil columns and soil laws: water over depth and time, and curves with what is not known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.plot.style import COUNTED, LINES, OBSERVED, RAIN, figure, tidy
from udehydro.richards.column.result import ColumnRun
from udehydro.richards.column.sinks import RootUptake
from udehydro.richards.inversion.curves import Bands


def soil_column(run: ColumnRun, of: str = "theta", *, element: int = 0) -> Figure:
    """Water through both ends of a column and into its roots, and a map of contents over depth and time.

    Parameters
    ----------
    of : ``theta``, or ``psi`` as pF, the decimal logarithm of suction in cm.
    element : which column of a batch, in row-major order.

    Raises
    ------
    ConfigError
        For another series, and a column that is not there.
    """
    if of not in ("theta", "psi"):
        raise ConfigError(f"A map shows 'theta' or 'psi', not {of!r}.")
    edges, days = run.forcing.time_edge, run.forcing.days.detach().cpu().numpy()
    fig = figure(10.0, 5.6)
    top, below = fig.subplots(2, 1, sharex=True, height_ratios=(1.0, 1.8))
    for (name, series), colour in zip(_moved(run).items(), (RAIN, *LINES), strict=False):
        values = _one(series, element) / days
        if values.any():
            top.stairs(values, edges, color=colour, label=name, fill=colour == RAIN, linewidth=1.2)
    tidy(top, ylabel="moved [cm/d]", title="Water that came and went")
    top.legend(frameon=False, ncols=5, fontsize="small")
    values, cells = _one(getattr(run, of), element, 1), np.asarray(run.column.grid.edges)
    label = "water content [-]"
    if of == "psi":
        values, label = np.log10(np.clip(-values, 1.0, None)), "pF, log10 of suction [cm]"
    middle = 0.5 * (values[1:] + values[:-1])
    image = below.pcolormesh(edges, cells, middle.T, cmap=COUNTED if of == "theta" else f"{COUNTED}_r", shading="flat")
    for layer in run.column.cells_of_layers[1:]:
        below.axhline(cells[layer.start], color="0.3", linewidth=0.8, linestyle=":")
    tidy(below, xlabel="date", ylabel="depth [cm]").invert_yaxis()
    below.grid(False)
    locator = AutoDateLocator()
    below.xaxis.set_major_locator(locator)
    below.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    fig.colorbar(image, ax=below, label=label)
    return fig


def _moved(run: ColumnRun) -> dict[str, Tensor]:
    """Volumes (T, *batch) by label; those of sinks together, positive where they take water out."""
    roots = all(isinstance(sink, RootUptake) for sink in run.column.sinks)
    return {
        "infiltration, net of evaporation": run.infiltration,
        "recharge": run.recharge,
        "runoff": run.runoff,
        "evaporation": run.evaporation,
        "root uptake" if roots else "taken out by sinks": run.uptake.sum(-1),
    }


def soil_curves(
    curves: Mapping[str, Bands | tuple[Tensor, Tensor]],
    psi: Tensor,
    *,
    visited: tuple[float, float] | None = None,
    points: Mapping[str, tuple] | None = None,
    element: int = 0,
) -> Figure:
    """Retention and conductivity over suction, with bands of two standard deviations.

    Parameters
    ----------
    curves : by label, what a fit found, or water contents and conductivities [cm/d] of a soil at ``psi`` (N,) [cm].
    visited : driest and wettest head between which data speak; curves are extrapolated beyond, and shaded there.
    points : measured ones by ``theta`` and ``conductivity``: (heads, values).
    element : which one of a batch.
    """
    suction = -np.asarray(psi.detach().cpu())
    fig = figure(10.0, 4.2)
    left, right = fig.subplots(1, 2)
    for (name, found), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        if isinstance(found, Bands):
            theta, theta_sd, log_k, log_k_sd = (_flat(v, element, len(suction)) for v in found)
            left.fill_between(suction, theta - 2 * theta_sd, theta + 2 * theta_sd, color=colour, alpha=0.2, linewidth=0)
            ends = (np.exp(np.clip(log_k + s * 2 * log_k_sd, -80.0, 20.0)) for s in (-1.0, 1.0))
            right.fill_between(suction, *ends, color=colour, alpha=0.2, linewidth=0)
        else:
            theta, log_k = _flat(found[0], element, len(suction)), np.log(_flat(found[1], element, len(suction)))
        left.plot(suction, theta, color=colour, label=name)
        right.plot(suction, np.exp(log_k), color=colour, label=name)
    for axes, kind in ((left, "theta"), (right, "conductivity")):
        if points and kind in points:
            heads, values = (np.asarray(v) for v in points[kind][:2])
            axes.plot(-heads, values, "o", color=OBSERVED, markersize=3.5, label="measured")
    _finish(left, right, suction, visited)
    return fig


def _finish(left: Axes, right: Axes, suction: np.ndarray, visited) -> None:
    """Axes as the curves and points need them, whatever the bands."""
    shown = _shown(left)
    room = 0.08 * (shown.max() - shown.min()) + 0.01
    left.set_ylim(shown.min() - room, shown.max() + room)
    shown = _shown(right)
    high, low = shown.max(), max(shown[shown > 0.0].min(), 1e-10 * shown.max())
    right.set_yscale("log")
    right.set_ylim(0.5 * low, 3.0 * high)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlim(suction.min(), suction.max())
        if visited is not None:
            dry, wet = (float(-v) for v in visited)
            for start, stop in ((suction.min(), wet), (dry, suction.max())):
                axes.axvspan(start, stop, color="0.93", zorder=0)
    tidy(left, "suction [cm]", "water content [-]", "Retention")
    tidy(right, "suction [cm]", "conductivity [cm/d]", "Conductivity")
    if visited is not None:
        left.text(0.02, 0.02, "grey: not visited", transform=left.transAxes, fontsize="small", color="0.4")
    left.legend(frameon=False, fontsize="small")


def _shown(axes: Axes) -> np.ndarray:
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    return values[np.isfinite(values)]


def _colours(count: int) -> Sequence[str]:
    return [LINES[i % len(LINES)] for i in range(count)]


def _one(series: Tensor, element: int, behind: int = 0) -> np.ndarray:
    """Series (T, *batch, ...) of one element of the batch, with ``behind`` axes behind the batch."""
    values = series.detach().cpu()
    values = values.reshape(len(values), -1, *values.shape[values.ndim - behind :])
    if not 0 <= element < values.shape[1]:
        raise ConfigError(f"element={element} is none of the {values.shape[1]} column(s) of the run.")
    return values[:, element].numpy()


def _flat(values: Tensor, element: int, count: int) -> np.ndarray:
    return np.asarray(values.detach().cpu().reshape(-1, count)[element])
