"""Formulas beside the networks they were read from: curves along runs, and candidates by length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from udehydro.plot.style import LINES, figure, tidy
from udehydro.simulation import Simulation

BINS, FEWEST = 24, 5
"""Bins of the filling, and values that a bin needs."""


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
    for (label, run), colour in zip(runs.items(), LINES, strict=False):
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
    floor = max(0.0, float(np.nanquantile(valid[np.isfinite(valid)], 0.05)) - 0.05) if np.isfinite(valid).any() else 0.0
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
