"""Where residuals are asked for: quasi-random points, dense where solutions change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from udehydro.richards.pinn.clock import Clock
from udehydro.richards.pinn.field import Box


def inside(box: Box, clock: Clock, n: int, seed: int, toward: Sequence[int] = (), until: float = 1.0) -> Tensor:
    """(n, D) points of a scrambled sequence of Sobol (1967) in a box, even by the clock.

    They crowd toward walls: ``toward`` has the number of an axis, or -1 - number for its lower side.
    Time goes to the share ``until`` of the clock.
    """
    u = _sobol(n, len(box.low), seed)
    for axis in toward:
        upper, i = axis >= 0, axis if axis >= 0 else -1 - axis
        u[:, i] = 1.0 - (1.0 - u[:, i]) ** 2 if upper else u[:, i] ** 2
    return _placed(u, box, clock, until)


def on_wall(box: Box, clock: Clock, axis: int, at: float, n: int, seed: int, until: float = 1.0) -> Tensor:
    """(n, D) points of a wall where a coordinate is ``at``."""
    points = _placed(np.insert(_sobol(n, len(box.low) - 1, seed), axis, 0.0, axis=1), box, clock, until)
    points[:, axis] = at
    return points


def grid(box: Box, *counts: int) -> Tensor:
    """(product of counts, D) points of a grid with its edges, the last coordinate running fastest."""
    axes = [np.linspace(a, b, c) for a, b, c in zip(box.low, box.high, counts, strict=True)]
    return torch.from_numpy(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes)))


def _sobol(n: int, dimensions: int, seed: int) -> np.ndarray:
    engine = qmc.Sobol(dimensions, seed=seed)
    return engine.random_base2(int(np.ceil(np.log2(max(n, 1)))))[:n]


def _placed(u: np.ndarray, box: Box, clock: Clock, until: float) -> Tensor:
    points = torch.from_numpy(np.asarray(box.low) + np.asarray(box.sides) * u)
    points[:, 0] = clock.spread(until * torch.from_numpy(u[:, 0]))
    return points
