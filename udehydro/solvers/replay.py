"""Gradients of a march: replay its steps with a graph, all at once (discrete adjoint) or on the tape.

The adjoint is that of the discrete scheme, exact to the residual left in the stages. With one-step maps
``y_n = Phi_n(y_{n-1})`` and volumes ``V_n(y_{n-1})`` it solves, backwards,

    lambda_{n-1} = dJ/dy_{n-1} + A_n^T lambda_n + (dV_n/dy_{n-1})^T dJ/dV_n,     A_n = dPhi_n/dy_{n-1},

a linear recurrence, and then needs one vector-Jacobian product of all steps together. Memory holds one trajectory
and one chunk of graphs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from udehydro.solvers import newton
from udehydro.solvers.march import March, Steps
from udehydro.solvers.problem import Point, Problem
from udehydro.solvers.scan import reverse_scan
from udehydro.solvers.step import advance, replayed
from udehydro.solvers.tableau import Tableau


def replay_adjoint(problem: Problem, tableau: Tableau, march: March, storage0: Tensor) -> tuple[Tensor, Tensor]:
    """Storage and volumes of the march, with the exact discrete adjoint attached (first derivatives only)."""
    return _Adjoint.apply(problem, tableau, march, storage0, *problem.leaves())


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, problem, tableau, march, storage0, *leaves):
        ctx.run = problem, tableau, march
        return march.storage.clone(), march.volume.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, g_storage, g_volume):
        problem, tableau, march = ctx.run
        grads = _Gradients(problem)
        g_edges = g_storage.movedim(-1, 1)
        after = torch.zeros_like(g_edges[-1])
        last_of_interval = march.interval.diff(append=march.interval[-1:] + 1) > 0
        stop = len(march)
        for steps in march.chunks(problem, reverse=True):
            start = stop - len(steps.interval)
            ends = last_of_interval[start:stop]
            external = g_edges[steps.interval + 1].movedim(1, 0)
            external = external * ends.reshape(-1, *(1,) * (external.ndim - 2))
            after = _pull(problem, tableau, steps, external, g_volume[steps.interval].movedim(-1, 0), after, grads)
            stop = start
        initial = (after + g_edges[0]).movedim(0, -1)
        return None, None, None, initial, *grads.result()


def _pull(problem, tableau, steps: Steps, external, g_volume, after, grads: _Gradients) -> Tensor:
    """Carry the adjoint back through a chunk and add its share of every gradient; returns the adjoint at its start."""
    jacobians = _jacobians(problem, steps)
    with torch.enable_grad():
        point, inputs = grads.open(steps)
        y = steps.y.detach().requires_grad_()
        stages = replayed(problem.model, point, steps.solved, jacobians)
        end, volume = advance(problem.model, tableau, point, steps.h, y, stages)
        sums = [end[i].sum() for i in range(y.shape[0])]
    rows = [torch.autograd.grad(total, y, retain_graph=True)[0] for total in sums]
    transition = torch.stack(rows)
    through_volume = torch.zeros_like(y)
    if volume.requires_grad:
        (through_volume,) = torch.autograd.grad(
            volume, y, g_volume, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    # cotangent of the end of step m: external[m] + what step m + 1 passes back
    passed = reverse_scan(transition, external, through_volume, after)
    cotangent = external + torch.cat([passed[:, 1:], after.unsqueeze(1)], dim=1)
    if inputs:  # else the initial storage alone is asked for
        outputs = [(o, g) for o, g in ((end, cotangent), (volume, g_volume)) if o.requires_grad]
        outputs, cotangents = zip(*outputs, strict=True)
        grads.add(steps, torch.autograd.grad(outputs, inputs, cotangents, allow_unused=True))
    return passed[:, 0]


def _jacobians(problem: Problem, steps: Steps) -> list[Tensor]:
    """Jacobians (S, S, n, *batch) at the solved stages of all steps, without a graph."""
    point = problem.at(steps.interval)
    return [newton.rates_and_jacobian(problem.model, point, state)[1] for state in steps.solved]


class _Gradients:
    """Accumulates the gradient of every leaf over the chunks."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.totals = [torch.zeros_like(leaf) for leaf in problem.leaves()]

    def open(self, steps: Steps) -> tuple[Point, list[Tensor]]:
        """Forcing and parameters at the steps as fresh leaves, and all leaves in the order of ``problem.leaves()``."""
        forcing, theta = self.problem.at(steps.interval)
        originals = (*self.problem.forcing, *self.problem.theta)
        fresh, inputs = [], []
        for value, original in zip((*forcing, *theta), originals, strict=True):
            value = value.detach()
            if original.requires_grad:
                inputs.append(value.requires_grad_())
            fresh.append(value)
        inputs += [p for p in self.problem.model.parameters() if p.requires_grad]
        return (tuple(fresh[: len(forcing)]), tuple(fresh[len(forcing) :])), inputs

    def add(self, steps: Steps, gradients) -> None:
        series = [True] * len(self.problem.forcing) + list(self.problem.varying)
        originals = (*self.problem.forcing, *self.problem.theta)
        in_time = [s for s, o in zip(series, originals, strict=True) if o.requires_grad]
        in_time += [False] * (len(self.totals) - len(in_time))
        for total, gradient, timed in zip(self.totals, gradients, in_time, strict=True):
            if gradient is None:
                continue
            if timed:
                total.index_add_(0, steps.interval, gradient)
            else:
                total += gradient

    def result(self) -> list[Tensor]:
        return self.totals


def replay_tape(
    problem: Problem, tableau: Tableau, march: March, storage0: Tensor, window: int | None
) -> tuple[Tensor, Tensor]:
    """Storage and volumes by differentiable steps, one after the other; ``window`` steps are recomputed at a time.

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

    y, ends, volumes = storage0.movedim(-1, 0), [], []
    size = window or len(march)
    for start in range(0, len(march), size):
        steps = march.steps(start, min(start + size, len(march)))
        # Jacobians are made outside the window: a backward pass inside a checkpoint would recompute it every time
        arguments = (y, steps, _jacobians(problem, steps))
        y, e, v = run(*arguments) if window is None else checkpoint(run, *arguments, use_reentrant=False)
        ends.append(e)
        volumes.append(v)
    interval = march.interval
    last = interval.diff(append=interval[-1:] + 1) > 0
    storage = torch.cat([storage0.movedim(-1, 0).unsqueeze(0), torch.cat(ends)[last]]).movedim(1, -1)
    all_volumes = torch.cat(volumes)
    volume = all_volumes.new_zeros(len(problem.days), *all_volumes.shape[1:]).index_add(0, interval, all_volumes)
    return storage, volume.movedim(1, -1)
