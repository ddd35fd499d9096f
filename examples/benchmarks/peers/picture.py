"""Time against error, and growth, as figures."""

from __future__ import annotations

import statistics

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FAMILIES = {"AllAtOnce": "C0", "Compiled": "C9", "Stepping": "C4", "torchdiffeq": "C1", "lax": "C2", "diffrax": "C3"}


def colour(name: str) -> str:
    return next((c for family, c in FAMILIES.items() if name.startswith(family)), "C7")


def scatter(results, title: str):
    """Gradient error against the time of value and gradient; lower left is better."""
    figure, axes = plt.subplots(figsize=(8.0, 5.0), layout="constrained")
    shown = [r for r in results if r.both and not r.failure]
    for i, r in enumerate(shown, 1):
        x, y = statistics.median(r.both), r.gradient_error
        axes.plot(x, y, "o", color=colour(r.contestant.name), label=f"{i}  {r.contestant.name}")
        axes.annotate(str(i), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="value and gradient, s", ylabel="relative error of the gradient")
    axes.set_title(title)
    figure.legend(loc="outside right upper", fontsize=7)
    return figure


def grow(points: dict[str, dict[str, list[dict]]], length: int):
    """Time and peak memory against years and basins, one line for each contestant."""
    figure, axes = plt.subplots(2, 2, figsize=(9.0, 7.5), layout="constrained", sharex="col")
    for column, (axis, lines) in enumerate(points.items()):
        for name, line in lines.items():
            x, dashes = [p[axis] for p in line], "--" if "backward" in name else "-"
            for row, key in enumerate(("seconds", "megabytes")):
                axes[row, column].plot(x, [p[key] for p in line], "o", ls=dashes, color=colour(name), label=name, ms=3)
        axes[0, column].set_title({"years": "one basin, two networks", "basins": f"EXP-HYDRO, {length} years"}[axis])
        axes[1, column].set_xlabel(axis)
    for ax in axes.flat:
        ax.set(xscale="log", yscale="log")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    axes[0, 0].set_ylabel("value and gradient, s")
    axes[1, 0].set_ylabel("peak memory beyond the data, MB")
    return figure
