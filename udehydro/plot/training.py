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
    drawn: list[np.ndarray] = []
    for first, rows in stages(history):
        best = best_member(rows)
        for name, colour in (("train", LINES[0]), ("valid", LINES[1])):
            losses = _losses(rows, name)
            seen = np.isfinite(losses).any(axis=1)
            if seen.any():
                steps = first + np.flatnonzero(seen)
                axes.plot(steps, losses[seen], color=colour, linewidth=0.6, alpha=0.35)
                axes.plot(steps, losses[seen][:, best], color=colour, linewidth=2.0, label=name)
                drawn.append(losses[seen].ravel())
        if first > 1:
            axes.axvline(first - 0.5, color="0.5", linewidth=0.8, linestyle=":")
        where = axes.get_xaxis_transform()
        axes.text(first, 0.99, f" {rows[0].get('stage', '')}", transform=where, va="top", color="0.35", size="small")
    values = np.concatenate([np.empty(0), *drawn])
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0:
        axes.set_yscale("log")
    tidy(axes, "optimiser step", "loss [-] (smaller is better)", title)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if handles:
        axes.legend(handles.values(), handles.keys(), frameon=False)
    return fig


def stages(history: Sequence[Mapping[str, object]]) -> list[tuple[int, list[Mapping[str, object]]]]:
    """Consecutive rows of one stage, with the step they begin at, counted from 1."""
    found: list[tuple[int, list[Mapping[str, object]]]] = []
    for i, row in enumerate(history):
        if not found or row.get("stage") != found[-1][1][0].get("stage"):
            found.append((i + 1, []))
        found[-1][1].append(row)
    return found


def best_member(history: Sequence[Mapping[str, object]]) -> int:
    """The member with the smallest loss at any step, in the validation period where there is one."""
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
