"""Page and figure of the inverse twin."""

from __future__ import annotations

import numpy as np
from _report import DOCS, table
from _twin_bounds import CURVES
from _twin_case import (
    CELLS,
    DEPTHS,
    ENTRY,
    GUESS,
    HEIGHT,
    SCHEDULE,
    SIGMA_PSI,
    SIGMA_THETA,
    SOILS,
    TENSIOMETER,
    TRUE_CELLS,
)
from _twin_search import CHOICE, KINDS, KNOTS, PRIORS, PSI0, SHOWN, UNITS, chosen

from udehydro.files import write_atomic
from udehydro.plot import style

SCRIPT = "richards_twin"
TITLE = "Soil laws learned from a column: an inverse twin"
AIMS = (0.02, 0.05, 0.15)
"""What was aimed at: relative errors of theta and of K, and of log10 K."""
LIMIT, MINUTES = 1.5, 2.0
"""The median error is to be at most so many times the bound, within so many minutes a seed."""
BEST = "free form"
AGAINST = (BEST, "free form, wide priors", "free form, unknown start", "networks", "van Genuchten")
"""Kinds that are held against the bound."""


def body(found: dict) -> str:
    width = chosen(found["choice"])
    days = sum(length for length, _, _ in SCHEDULE)
    fluxes = ", ".join(f"{q:+g} cm/d for {length:g} d" for length, q, _ in SCHEDULE)
    return f"""Three soils (Carsel and Parrish 1988, l 0.5, with an air entry of {ENTRY:g} cm) in a column of
{HEIGHT:g} cm that drains freely, under the same known flux through the surface (upwards positive): {fluxes}. None
ponds, none fails to deliver the evaporation, and all begin at a line from -200 cm at the surface to -100 cm. In these
{days:g} days sensors at {", ".join(map(str, DEPTHS))} cm read water content {sum(n for *_, n in SCHEDULE) + 1} times
(error {SIGMA_THETA}), and a tensiometer at {TENSIOMETER:g} cm the head (error {100 * SIGMA_PSI:g} %). True columns have
{TRUE_CELLS} cells and steps to 1e-4, those of a search {CELLS} cells and steps to 1e-3.

**Free form** is `MonotoneSpline(free="parameters")` with {len(KNOTS)} knots, {2 * (len(KNOTS) - 1) + 3} free values.
Searches start from {GUESS}, whichever the soil, with weak priors around it (standard deviations: theta_r and theta_s
{width * PRIORS["theta_r"]:g}, logarithm of Ks {width * PRIORS["Ks"]:g}, of every rise {width * PRIORS["G"]:g}).
Ten seeds of the errors are ten columns of one `Inversion`. Errors of curves are taken at 100 heads, even in the
logarithm, over the range that holds the middle 90 % of all heads in the true column (all cells, all readings): relative
L2 of theta and of K, root mean square of log10 K.

The **bound** of Cramer and Rao is what the exact sensitivities of the column at the law nearest to the truth say of the
root mean square error of any unbiased search: J'J inverted, and propagated to the curves at the same heads (priors are
counted a millionth, for what no data tell). "With priors" it is the spread after the data of truths that come from the
priors. "Wide priors" are {KINDS["free form, wide priors"].wider:g} times as wide, next to none. The nearest law is off
by what the table says under "nearest", which no bound knows of; run on the coarser grid it misses data without errors
by chi2/N of at most {max(found[s][f"{BEST}, bounds"]["misfit"] for s in SOILS):.1g}.

### Against the bound

{against(found)}

{verdict(found)}

### What was found, and how fast

{all_kinds(found)}

{prose(found)}

![Curves of ten seeds]({SCRIPT}.png)

Curves of ten seeds and the truth (black); grey: the range that was visited; blue: two standard deviations that the
search of the first seed claims. Orange: the ten seeds without the tensiometer and without heads at the start."""


def medians(found: dict, soil: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Median and worst of errors (3,)."""
    off = np.array(found[soil][kind]["errors"])
    return np.median(off, axis=0), off.max(axis=0)


def root_mean_square(found: dict, soil: str, kind: str) -> np.ndarray:
    return np.sqrt(np.mean(np.square(found[soil][kind]["errors"]), axis=0))


def against(found: dict) -> str:
    head = ["", "curve", "nearest", "bound", "bound with priors", "median of ten", "worst", "median / bound",
            "median / bound with priors", "root mean square / bound", "aim"]  # fmt: skip
    rows = []
    for kind in AGAINST:
        for soil in SOILS:
            b, (middle, worst) = found[soil][f"{kind}, bounds"], medians(found, soil, kind)
            rms = root_mean_square(found, soil, kind)
            for i, curve in enumerate(CURVES):
                bare, with_prior = b["bare"][i], b["prior"][i]
                numbers = (b["nearest"][i], bare, with_prior, middle[i], worst[i])
                ratios = (middle[i] / bare, middle[i] / with_prior, rms[i] / bare)
                first = f"{kind}: {soil}" if i == 0 else ""
                rows.append([first, curve, *(f"{v:.2g}" for v in numbers), *(f"{v:.2f}" for v in ratios), f"{AIMS[i]}"])
    return table(head, rows)


def verdict(found: dict) -> str:
    """Whether what was asked for is there."""
    ratios, aims = [], []
    for soil in SOILS:
        middle, _ = medians(found, soil, BEST)
        ratios += list(middle / found[soil][f"{BEST}, bounds"]["bare"])
        aims += list(middle / AIMS)
    alone = max(found[s]["alone"]["seconds"] for s in SOILS)
    return (
        f"Free form, known start: the median error is at most {max(ratios):.2f} times the bound (asked: {LIMIT}), and "
        f"at most {max(aims):.2f} times what was aimed at. One seed alone takes up to {alone:.0f} s (asked: "
        f"{60 * MINUTES:.0f})."
    )


def all_kinds(found: dict) -> str:
    rows = []
    for kind in KINDS:
        for soil in SOILS:
            f, (middle, worst) = found[soil][kind], medians(found, soil, kind)
            seeds, alone = len(f["seeds"]), found[soil]["alone"]["seconds"] if kind == BEST else None
            inside = np.mean(f["inside"], axis=0)
            rows.append([
                f"{kind}: {soil}", f"{np.median(f['chi2']):.2f}", f"{middle[0]:.2g} ({worst[0]:.2g})",
                f"{middle[1]:.2g} ({worst[1]:.2g})", f"{middle[2]:.2g} ({worst[2]:.2g})",
                " / ".join(f"{100 * v:.0f}" for v in inside[[0, 2]]),
                f"{int(np.median(f['iterations']))} ({max(f['iterations'])})", str(seeds - sum(f["converged"])),
                f"{f['seconds'] / seeds:.1f}" + ("" if alone is None else f"; {alone:.0f}"),
            ])  # fmt: skip
    head = ["", "chi2/N", "theta", "K", "log10 K", "% of the curve within 1.96 sd, theta / log10 K",
            "iterations (most)", "not converged", "seconds a seed; one alone"]  # fmt: skip
    return table(head, rows)


def prose(found: dict) -> str:
    """What the tensiometer is worth, and where priors come from."""
    with_it, without = (np.array([medians(found, s, k)[0] for s in SOILS]) for k in (BEST, "free form, neither"))
    chi2 = [np.median(found[s]["free form, neither"]["chi2"]) for s in SOILS]
    weak = sorted({g for s in SOILS for g in found[s]["free form, neither, bounds"]["weak"]})
    free = sorted({g for s in SOILS for g in found[s]["free form, neither, bounds"]["free"]})
    times = [f"{v:.0f}" for v in (without / with_it).mean(0)]
    said = f"free: {', '.join(free) or 'nothing'}; hardly known: {', '.join(weak) or 'nothing'}"
    tried = ", ".join(f"{w}: {np.exp(v - found['choice']['1.0']):.2f}" for w, v in found["choice"].items())
    return f"""Medians of ten seeds, in brackets the worst. "Neither" has no tensiometer and does not know the heads at
the start (a line with two free ends, from {PSI0:g} cm; so has "unknown start"). It fits as well, chi2/N
{min(chi2):.2f} to {max(chi2):.2f}, with curves that are wrong by {times[0]}, {times[1]} and {times[2]} times as much
(theta, K, log10 K; means of soils), and by more than their own standard deviations say. `check_gauge` says of it
beforehand: {said}. Two networks of {UNITS} units (`MonotoneNet`, weights with a prior of 1 around those that imitate
the guess) take the place of the splines under "networks", one seed after the other.

Knots, schedule and priors were set before these seeds were looked at; the width of the priors was chosen on seeds
{CHOICE[0]} to {CHOICE[-1]} by the mean of the logarithm of errors over soils and curves. Errors by width, in units of
those of the width 1: {tried}. Taken: {chosen(found["choice"]):g}; narrower ones would claim more of a texture class
than it is worth."""


def picture(found: dict) -> None:
    fig = style.figure(11.0, 6.5)
    axes = fig.subplots(2, len(SOILS), sharex=True)
    suction = -SHOWN.numpy()
    for column, soil in zip(axes.T, SOILS, strict=True):
        f = found[soil]
        for ax, i, name in zip(column, (0, 2), ("water content", "log10 K [cm/d]"), strict=True):
            low, high = f["range"]
            ax.axvspan(low, high, color="0.92", zorder=0)
            for curve in f["free form, neither"]["curves"]:
                ax.plot(suction, curve[i], color=style.LINES[4], linewidth=0.7)
            first, sd = np.array(f[BEST]["curves"][0][i]), np.array(f[BEST]["sd"][0][i])
            ax.fill_between(suction, first - 2 * sd, first + 2 * sd, color=style.LINES[5], alpha=0.35, linewidth=0)
            for curve in f[BEST]["curves"]:
                ax.plot(suction, curve[i], color=style.LINES[0], linewidth=0.7)
            ax.plot(suction, f["true"][i], color="black", linewidth=1.4)
            ax.set_xscale("log")
            ax.set_ylim(*((0.0, 0.5) if i == 0 else (-5.0, 3.0)))
            style.tidy(ax, "suction [cm]" if i else "", name if soil == SOILS[0] else "", soil if i == 0 else "")
    write_atomic(DOCS / f"{SCRIPT}.png", style.png(fig, dpi=100))
