"""How training went: loss over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from udehydro.plot.style import LINES, figure, tidy


def training_curve(history: Sequence[Mapping[str, object]], *, title: str = "") -> Figure:
    """Loss of the training and validation period over optimiser steps: every member thin, the best one thick.

    Parameters
    ----------
    history : rows with ``stage`` (name), ``train`` and optionally ``valid``: a loss, or a list with one per member
        (dimensionless, smaller is better; NaN or None where not evaluated).
    """
    fig = figure(8.0, 4.0)
    axes = fig.subplots()
    steps = np.arange(1, len(history) + 1)
    best = best_member(history)
    for name, colour in (("train", LINES[0]), ("valid", LINES[1])):
        losses = _losses(history, name)
        seen = np.isfinite(losses).any(axis=1)
        if not seen.any():
            continue
        axes.plot(steps[seen], losses[seen], color=colour, linewidth=0.6, alpha=0.35)
        text = f"{name}: best of {losses.shape[1]} members" if losses.shape[1] > 1 else name
        axes.plot(steps[seen], losses[seen][:, best], color=colour, linewidth=2.0, label=text)
    values = np.concatenate([_losses(history, n).ravel() for n in ("train", "valid")])
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0:
        axes.set_yscale("log")
    tidy(axes, "optimiser step", "loss [-] (smaller is better)", title)
    _stages(axes, [str(row.get("stage", "")) for row in history])
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    return fig


def best_member(history: Sequence[Mapping[str, object]]) -> int:
    """The member with the smallest loss at any step, of the validation period where there is one."""
    for name in ("valid", "train"):
        losses = _losses(history, name)
        if np.isfinite(losses).any():
            return int(np.where(np.isfinite(losses), losses, np.inf).min(axis=0).argmin())
    return 0


def _losses(history: Sequence[Mapping[str, object]], name: str) -> np.ndarray:
    """Losses (rows, members), NaN where a row has none."""
    rows = [np.atleast_1d(np.asarray(_list(row.get(name)), dtype=float)) for row in history]
    members = max((len(row) for row in rows), default=1)
    return np.array([row if len(row) == members else np.full(members, np.nan) for row in rows]).reshape(-1, members)


def _list(value: object) -> object:
    if value is None:
        return np.nan
    return [np.nan if v is None else v for v in value] if isinstance(value, list | tuple) else value


def _stages(axes, names: list[str]) -> None:
    """A line and a name where a stage (Adam, L-BFGS) begins."""
    for i, name in enumerate(names):
        if name and (i == 0 or name != names[i - 1]):
            if i:
                axes.axvline(i + 0.5, color="0.5", linewidth=0.8, linestyle=":")
            axes.text(
                i + 1, 0.99, f" {name}", transform=axes.get_xaxis_transform(), va="top", color="0.35", fontsize="small"
            )
