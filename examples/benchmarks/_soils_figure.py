"""Picture of the benchmark on real soils."""

from __future__ import annotations

import numpy as np
import torch
from _soils_contest import VG, Folds, by_layer, families
from _soils_data import Ring
from _soils_infiltration import held_out
from _soils_laws import Points
from matplotlib.ticker import NullFormatter

from udehydro.plot import style

SHOWN = (VG, "two van Genuchten humps", "spline about a loam", "monotone network", "straight lines in pF")


def picture(theta: Folds, k: Folds, found: dict, all_: list[Ring], test: list[int]):
    """Errors by layer of both curves, one layer, and errors of the last third of infiltration runs."""
    figure = style.figure(11.0, 8.0)
    axes = figure.subplots(2, 2)
    shares(axes[0, 0], theta, found["theta"], "root mean square error of a held-out water content")
    shares(axes[0, 1], k, found["k"], "root mean square error of a held-out log10 K")
    one_layer(axes[1, 0], k, found)
    runs(axes[1, 1], found["rings"], all_, test)
    return figure


def shares(axes, folds: Folds, errors: dict, label: str) -> None:
    """Share of test layers with an error below."""
    for name, colour in zip(SHOWN, style.LINES, strict=False):
        r = np.sort(by_layer(folds, np.array(errors[name])))
        axes.step(r, np.arange(1, len(r) + 1) / len(r), where="post", color=colour, label=name)
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    style.tidy(axes, label, "share of layers", f"{len(folds.soils)} test layers")
    axes.legend(frameon=False, fontsize="small")


def one_layer(axes, folds: Folds, found: dict) -> None:
    """The layer where the spline's error of K by that of van Genuchten is the median: contents of the whole fits."""
    spline = by_layer(folds, np.array(found["k"]["spline about a loam"]))
    order = np.argsort(spline / by_layer(folds, np.array(found["k"][VG])))
    soil = folds.soils[order[len(order) // 2]]
    rows = [torch.tensor(x[None]) for x in (soil.psi, soil.theta, soil.psi_k, soil.k)]
    suction = np.logspace(0.0, 4.5, 120)
    heads = -torch.tensor(suction[None])
    right = axes.twinx()
    for name, colour in zip((VG, "spline about a loam"), (style.LINES[0], style.LINES[2]), strict=True):
        best = found["k choice"][name]
        fit = dict(families(True)[name])[best["setting"]]
        curves = fit(Points(*rows, best["sigma"]), {}).curves(heads)
        axes.plot(suction, curves.theta[0], color=colour, label=name)
        right.plot(suction, curves.log_k[0] / np.log(10.0), "--", color=colour)
        if hasattr(curves, "theta_sd"):
            band = 2.0 * curves.theta_sd[0]
            axes.fill_between(suction, curves.theta[0] - band, curves.theta[0] + band, color=colour, alpha=0.2, lw=0)
    axes.plot(-soil.psi, soil.theta, "o", color=style.OBSERVED, markersize=4)
    right.plot(-soil.psi_k, np.log10(soil.k), "s", color=style.OBSERVED, markersize=4, fillstyle="none")
    axes.set_xscale("log")
    style.tidy(axes, "suction [cm]", "water content (circles)", f"layer {soil.name}, fitted to all its points")
    right.set_ylabel("log10 K [cm/d] (squares, dashed)")
    axes.legend(frameon=False, fontsize="small", loc="lower left")


def runs(axes, found: dict, all_: list[Ring], test: list[int]) -> None:
    """Errors of the last third by model, a point for each test plot."""
    for i, one in enumerate(found.values()):
        e = 100.0 * held_out(all_, one["volume"])[test]
        axes.plot(
            e, np.full(len(e), i) + np.linspace(-0.2, 0.2, len(e)), "o", color=style.LINES[0], markersize=3, alpha=0.6
        )
        axes.plot(np.median(e), i, "|", color=style.LINES[1], markersize=16, markeredgewidth=2)
    axes.set_yticks(range(len(found)), list(found), fontsize="x-small")
    axes.axvline(0.0, color="0.3", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=100.0)
    style.tidy(axes, "error of the volume of the last third [%]", "", f"{len(test)} test plots, and their median")
