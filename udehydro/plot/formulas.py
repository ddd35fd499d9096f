"""Formulas beside the networks they were read from: curves along runs, and candidates by length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from udehydro.plot.style import LINES, figure, tidy
from udehydro.simulation import Simulation

BINS, FEWEST = 24, 5
"""Bins of the filling, and values that a bin needs."""
THRESHOLD, PROFILE_TOP = 3.84, 20.0
"""95 % quantile of chi2 with one degree of freedom; profiles are cut above the other."""


def laws_along_runs(runs: Mapping[str, Simulation], name: str, *, element: int = 0, title: str = "") -> Figure:
    """A flux against the filling of the store it leaves, for several models, each along its own run.

    Filling is storage between its 1 and 99 % quantile, so that models whose storages differ by an offset or a scale can
    be compared. Lines are medians of bins, bands quartiles.

    Parameters
    ----------
    runs : name -> simulation, all with the flux or group ``name`` [mm/d].
    element : which batch element, in row-major order.
    """
    fig = figure(6.4, 3.6)
    axes = fig.subplots()
    for i, (label, run) in enumerate(runs.items()):
        colour = LINES[i % len(LINES)]
        structure = run.model.structure
        source = structure.flux(structure.groups.get(name, (name,))[0]).source
        rate = run.rate(name).detach().reshape(len(run.forcing), -1)[:, element].cpu().numpy()
        storage = run.store(source)[:-1].detach().reshape(len(rate), -1)[:, element].cpu().numpy()
        low, high = np.quantile(storage, [0.01, 0.99])
        filling = (storage - low) / max(high - low, 1e-12)
        which = np.clip((filling * BINS).astype(int), 0, BINS - 1)
        rows = [
            (b, np.quantile(rate[which == b], [0.25, 0.5, 0.75])) for b in range(BINS) if (which == b).sum() >= FEWEST
        ]
        if not rows:
            continue  # a run too short for curves
        at = (np.array([b for b, _ in rows]) + 0.5) / BINS
        lower, middle, upper = np.array([q for _, q in rows]).T
        axes.fill_between(at, lower, upper, color=colour, alpha=0.18, linewidth=0)
        axes.plot(at, middle, color=colour, label=f"{label} (storage {low:.0f} to {high:.0f} mm)")
    tidy(axes, f"filling of '{source}' [-]", f"{name} [mm/d]")
    axes.legend(frameon=False, fontsize="small")
    fig.suptitle(title, fontsize="medium", x=0.01, ha="left")
    return fig


def candidates(rows: Sequence[Mapping], chosen: int, *, title: str = "") -> Figure:
    """NSE of refitted candidates by number of constants, with the front of the best in validation.

    rows : of :class:`udehydro.discovery.Distilled`.
    """
    fig = figure(6.4, 3.6)
    axes = fig.subplots()
    constants = np.array([r["constants"] for r in rows])
    fit, valid = (np.array([r[k] for r in rows], dtype=float) for k in ("fit", "valid"))
    # a few candidates that fail badly are drawn at the lower edge
    floor = float(np.quantile(valid[np.isfinite(valid)], 0.05)) - 0.05 if np.isfinite(valid).any() else 0.0
    jitter = np.linspace(-0.25, 0.25, len(rows))
    axes.plot(constants + jitter, np.clip(fit, floor, None), "o", mfc="none", color=LINES[0], alpha=0.5, label="fit")
    axes.plot(constants + jitter, np.clip(valid, floor, None), "o", color=LINES[1], alpha=0.7, label="validation")
    lengths = np.unique(constants)
    best = np.maximum.accumulate([valid[constants == n].max() for n in lengths])
    axes.step(lengths, np.clip(best, floor, None), where="post", color=LINES[1], linewidth=1)
    axes.plot(constants[chosen] + jitter[chosen], valid[chosen], "*", ms=14, color="black", label="chosen")
    axes.set_ylim(bottom=floor)
    axes.xaxis.get_major_locator().set_params(integer=True)
    tidy(axes, "trained constants of the laws", "NSE [-]")
    axes.legend(frameon=False, fontsize="small")
    fig.suptitle(title, fontsize="medium", x=0.01, ha="left")
    return fig


def profiles(rows: Sequence[Mapping], *, title: str = "") -> Figure:
    """Profile likelihoods, one panel each, with the 95 % line; shaded: the interval.

    rows : of :class:`udehydro.discovery.Distilled`, or dictionaries with ``name``, ``grid``, ``ratio`` (twice the
        log-likelihood below its highest; None where no fit was found) and ``interval`` (None: open).
    """
    columns = min(3, max(1, len(rows)))
    fig = figure(9.0, 2.4 * math.ceil(len(rows) / columns) + 0.3)
    panels = fig.subplots(math.ceil(len(rows) / columns), columns, squeeze=False).flatten()
    for axes, row in zip(panels, rows, strict=False):
        grid, ratio = (np.array([np.nan if v is None else v for v in row[k]], dtype=float) for k in ("grid", "ratio"))
        low, high = (
            edge if end is None else end for end, edge in zip(row["interval"], (grid[0], grid[-1]), strict=True)
        )
        axes.axvspan(low, high, color=LINES[0], alpha=0.12, linewidth=0)
        axes.plot(grid, np.minimum(ratio, PROFILE_TOP), "o-", ms=4, color=LINES[0])
        axes.axhline(THRESHOLD, color="0.4", linewidth=0.8, linestyle="--")
        axes.set_ylim(0.0, PROFILE_TOP)
        if grid[0] > 0 and grid[-1] > 20 * grid[0]:
            axes.set_xscale("log")
        tidy(axes, row["name"] + (f" [{row['unit']}]" if row.get("unit") else ""), "2 x log-likelihood lost")
    for axes in panels[len(rows) :]:
        axes.set_visible(False)
    fig.suptitle(title, fontsize="medium", x=0.01, ha="left")
    return fig
