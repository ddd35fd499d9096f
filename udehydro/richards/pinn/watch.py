"""Watching a stage of training: a bar with the size of every term, and rows of a table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from torch import Tensor
from tqdm import tqdm

from udehydro.richards.pinn.system import System


class Watch:
    """Told of chi2 by term (members, series) step after step.

    Parameters
    ----------
    system : what is trained.
    steps : at most.
    bar : its words, or None for no bar.
    history : to which a row is added for every ``every``-th step: ``step``, ``train`` chi2 by member, and ``parts``,
        the size of every term by member (:meth:`System.sizes`).
    """

    def __init__(self, system: System, steps: int, bar: str | None, history: list[dict] | None, every: int = 1):
        self.system, self.history, self.every, self.step = system, history, every, 0
        self.bar = tqdm(total=steps, desc=bar or "", disable=bar is None, leave=False)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def __call__(self, parts: Tensor) -> None:
        self.step += 1
        self.bar.update()
        if (self.step - 1) % self.every or (self.bar.disable and self.history is None):
            return
        sizes = dict(zip(self.system.names, self.system.sizes(parts).unbind(1), strict=True))
        self.bar.set_postfix({n: f"{float(s.nanmedian()):.2g}" for n, s in sizes.items()})
        if self.history is not None:
            named = {n: s.tolist() for n, s in sizes.items()}
            self.history.append({"step": self.step, "train": parts.sum(1).tolist(), "parts": named})


def table(history: Sequence[dict]) -> pd.DataFrame:
    """Stage, step, and the median over members of chi2 and of the size of every term, a row for every row of history;
    ``table(history).plot(logy=True)`` draws it."""

    def median(values: Sequence[float | None]) -> float:
        return float(pd.Series(values, dtype=float).median())

    rows = [{n: row[n] for n in ("stage", "step")} | {"chi2": median(row["train"])} for row in history]
    sizes = [{n: median(v) for n, v in row["parts"].items()} for row in history]
    return pd.DataFrame([r | s for r, s in zip(rows, sizes, strict=True)])
