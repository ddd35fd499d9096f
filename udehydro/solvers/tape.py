"""Gradients of a march on the autograd tape: differentiable steps, one after the other. Second derivatives work."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from udehydro.solvers import newton
from udehydro.solvers.march import March, Steps
from udehydro.solvers.problem import Problem
from udehydro.solvers.step import advance, replayed
from udehydro.solvers.tableau import Tableau


def replay(
    problem: Problem, tableau: Tableau, march: March, storage0: Tensor, window: int | None
) -> tuple[Tensor, Tensor]:
    """Storage and volumes of the march by differentiable steps; ``window`` steps are recomputed at a time.

    First and second derivatives are exact.
    """

    def run(y: Tensor, steps: Steps, jacobians: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        ends, volumes = [], []
        for n, k in enumerate(steps.interval.tolist()):
            point = problem.at(k)
            solved, frozen = [s[:, n] for s in steps.solved], [j[:, :, n] for j in jacobians]
            stages = replayed(problem.model, point, solved, frozen, corrections=2)
            y, volume = advance(problem.model, tableau, point, steps.h[n], y, stages)
            ends.append(y)
            volumes.append(volume)
        return y, torch.stack(ends), torch.stack(volumes)

    steps = march.steps()
    y, ends, volumes = storage0.movedim(-1, 0), [], []
    size = window or len(steps.interval)
    for start in range(0, len(steps.interval), size):
        part = steps[start : start + size]
        point = problem.at(part.interval)
        # Jacobians are made outside the window: a backward pass inside a checkpoint would recompute it every time
        jacobians = [newton.rates_and_jacobian(problem.model, point, s)[1] for s in part.solved]
        arguments = (y, part, jacobians)
        y, e, v = run(*arguments) if window is None else checkpoint(run, *arguments, use_reentrant=False)
        ends.append(e)
        volumes.append(v)
    storage = torch.cat([storage0.movedim(-1, 0).unsqueeze(0), torch.cat(ends)[steps.last]]).movedim(1, -1)
    all_volumes = torch.cat(volumes)
    volume = all_volumes.new_zeros(len(problem.days), *all_volumes.shape[1:]).index_add(0, steps.interval, all_volumes)
    return storage, volume.movedim(1, -1)
