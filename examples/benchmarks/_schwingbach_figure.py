"""Picture of the benchmark on Schwingbach."""

from __future__ import annotations

import numpy as np
from _schwingbach_data import DEPTHS, Record, period, raw, record
from _schwingbach_known import NAMES, curves
from _schwingbach_runs import BETWEEN

from udehydro.plot import style

CLOCK = ("2015-10-12", "2015-10-20")
COLOURS = dict(zip(DEPTHS, style.LINES, strict=False))


def picture(kept: dict):
    """The clock, the last autumn, curves of the subsoil, and the water that passes 10 cm."""
    figure = style.figure(13.0, 9.0)
    axes = figure.subplots(2, 2)
    clock(axes[0, 0])
    autumn(axes[0, 1], kept)
    soil(axes[1, 0], kept, BETWEEN)
    water(axes[1, 1], kept)
    return figure


def readings(axes, here: Record) -> None:
    for k, d in enumerate(DEPTHS):
        axes.plot(here.edges, here.theta[:, k], color=COLOURS[d], label=f"{d:g} cm")


def rain(axes, here: Record, top: float) -> None:
    right = axes.twinx()
    right.bar(here.edges[:-1], 10.0 * here.rain, width=0.12, align="edge", color=style.RAIN, alpha=0.6)
    right.set_ylim(top, 0.0)
    right.set_ylabel("rain [mm in 3 h]")


def clock(axes) -> None:
    here = record(*CLOCK)
    readings(axes, here)
    stored = raw()[DEPTHS[1]].reindex(here.edges)
    axes.plot(here.edges, stored, "--", color=COLOURS[DEPTHS[1]], label="25 cm as stored")
    axes.tick_params("x", rotation=20, labelsize="small")
    rain(axes, here, 24.0)
    style.tidy(axes, "", "water content", "a storm, and the clock of the probe at 25 cm")
    axes.legend(frameon=False, fontsize="x-small", loc="upper left")


def autumn(axes, kept: dict) -> None:
    here = period("test")
    readings(axes, here)
    for (name, x), line in zip(list(kept["season"]["shown"].items())[:2], ("--", ":"), strict=True):
        for k, d in enumerate(DEPTHS):
            axes.plot(here.edges, np.array(x)[:, k], line, color=COLOURS[d], label=name if not k else None)
    axes.tick_params("x", rotation=20, labelsize="small")
    rain(axes, here, 40.0)
    style.tidy(axes, "", "water content", "the last autumn, predicted from its first reading and its weather")
    axes.legend(frameon=False, fontsize="x-small", loc="upper left")


def soil(axes, kept: dict, laws: dict) -> None:
    """Diffusivity of the soil of the lowest probe."""
    row = NAMES.index("ln D")
    for (name, setting), colour in zip(laws.items(), style.LINES, strict=False):
        band = kept["column"][name]["bands"][-1]
        theta, found, sd = (np.array(band[k]) for k in ("theta", "found", "after"))
        found, sd = found[row], sd[row]
        axes.fill_between(theta, np.exp(found - sd), np.exp(found + sd), color=colour, alpha=0.2, lw=0)
        axes.plot(theta, np.exp(found), color=colour, label=f"column, {name}")
        for i, p in enumerate(kept["networks"][name]["soils"]):
            d = np.exp(curves(setting.form, p[-1], theta)[row])
            axes.plot(theta, d, "--", color=colour, lw=0.9, label=None if i else f"networks, {name}, by seed")
    axes.set_yscale("log")
    style.tidy(axes, "water content", "diffusivity D [cm2/d]", "the subsoil; bands of one standard deviation")
    axes.legend(frameon=False, fontsize="x-small")


def water(axes, kept: dict) -> None:
    for (name, r), colour in zip(list(kept["networks"].items())[:2], style.LINES, strict=False):
        for i, p in enumerate(r["passed"]):
            axes.plot(r["days"][1:], p, color=colour, lw=0.9, label=None if i else f"networks, {name}, by seed")
    axes.plot(r["days"][1:], r["expected"], color=style.OBSERVED, label="rain less evaporation and storage above")
    style.tidy(axes, "days", "water through 10 cm [cm]", "what the networks say of a flux they were not told of")
    axes.legend(frameon=False, fontsize="x-small")
