"""What learning found, alike for networks and the column: values, curves, and what sensors should have read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from udehydro.cli.richards.sensors import Sensor, simulated
from udehydro.richards.column import Column
from udehydro.richards.inversion import Fitted, visited
from udehydro.richards.inversion.doubts import at_limit
from udehydro.richards.inversion.summary import NOTHING

if TYPE_CHECKING:
    from udehydro.richards.pinn import Learned

HEADS = -np.logspace(-1.0, 5.0, 121)
"""Heads of curves [cm]: pF -1 to 5, a twentieth apart."""


@dataclass(frozen=True, eq=False)
class Fields:
    """States of a network where the column has them."""

    psi: Tensor
    theta: Tensor
    column: Column


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found, and by what.

    Attributes
    ----------
    how : in words.
    fitted : values and what is known of them; ``states`` (T + 1, cell) that belong to them.
    misfit : chi2 by observation.
    seeds : (seed, P) values that networks found, one row for each seed.
    """

    how: str
    fitted: Fitted
    states: object = field(repr=False)
    misfit: float
    seeds: Tensor | None = None

    @property
    def column(self) -> Column:
        return self.states.column

    def rows(self) -> list[dict]:
        """Name, start, value and standard deviation of everything found, and whether it ended at a limit; of values
        whose logarithm was searched the standard deviation is relative."""
        u, f = self.fitted.inversion.unknowns, self.fitted
        parts = (u.physical(u.start)[0], f.values[0], f.sd[0], u.logarithmic, at_limit(f)[0])
        names = ("start", "value", "sd", "relative", "at_limit")
        found = [
            dict(zip(("name", *names), (n, *row), strict=True))
            for n, *row in zip(u.names, *(p.tolist() for p in parts), strict=True)
        ]
        for i, row in enumerate(found):
            row["known"] = row["sd"] < NOTHING
            if self.seeds is not None and len(self.seeds) > 1:
                row["seeds"] = self.seeds[:, i].tolist()
        return found

    def curves(self, layer: int) -> dict[str, np.ndarray]:
        """Curves of a layer at :data:`HEADS` with bands of two standard deviations, and which heads were visited."""
        dry, wet = self.visited(layer)
        theta, theta_sd, log_k, log_k_sd = (
            v.reshape(-1).detach().numpy() for v in self.fitted.curves(torch.as_tensor(HEADS), layer)
        )
        low, high = (np.exp(np.clip(log_k + s * 2.0 * log_k_sd, -700.0, 700.0)) for s in (-1.0, 1.0))
        return {
            "psi_cm": HEADS,
            "theta": theta,
            "theta_low": np.clip(theta - 2.0 * theta_sd, 0.0, 1.0),
            "theta_high": np.clip(theta + 2.0 * theta_sd, 0.0, 1.0),
            "K_cm_per_d": np.exp(log_k),
            "K_low": low,
            "K_high": high,
            "visited": ((HEADS >= dry) & (HEADS <= wet)).astype(int),
        }

    def visited(self, layer: int) -> tuple[float, float]:
        """Driest and wettest head that most of a layer had [cm]."""
        return tuple(float(v) for v in visited(self.states, layer))

    def read(self, sensors: Sequence[Sensor]) -> list[np.ndarray]:
        """What every sensor should have read (T + 1,)."""
        found = simulated(sensors, self.fitted.inversion.observed, self.states, self.column)
        return [found[i].detach().numpy() for i in range(len(sensors))]


def of_column(fitted: Fitted, how: str, seeds: Tensor | None = None) -> Answer:
    """The answer of a fit of the column."""
    return Answer(how, fitted, fitted.run(), float(fitted.misfit[0]), seeds)


def of_networks(learned: Learned) -> Answer:
    """The answer of the best network: of the one with the least misfit of data and physics together."""
    best = learned.best
    psi, theta = (series[best] for series in learned.states())
    fitted, fields = learned.fitted(slice(best, best + 1)), Fields(psi, theta, learned.task.column)
    return Answer("networks", fitted, fields, float(learned.misfit[best]), learned.values)
