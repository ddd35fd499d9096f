"""Damped Newton for implicit stages, elementwise over batch and time: small dense algebra unrolled over the stores.

Arrays are component first: a state is (S, *points). A stage solves ``r(Y) = Y - base - ha f(Y) = 0`` at every point
independently; ``ha`` is the step length times the diagonal entry of the tableau.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.solvers.problem import Point

HALVINGS = 6
DECREASE = 0.1


def rates(model: Balance, point: Point, state: Tensor) -> Tensor:
    """Rates (F, *points) at a state (S, *points)."""
    shape = state.shape[1:]
    return torch.stack([r.expand(shape) for r in model.fluxes(state.unbind(0), *point)])


def tendency(model: Balance, fluxes: Tensor) -> Tensor:
    """Net inflow (S, *points) from rates or volumes (F, *points)."""
    return torch.stack(model.tendency(fluxes.unbind(0)))


def rates_and_jacobian(model: Balance, point: Point, state: Tensor) -> tuple[Tensor, Tensor]:
    """Tendency (S, *points) and its Jacobian (S, S, *points), [i, j] = d f_i / d y_j, without a graph.

    The state is repeated S times and row i is read off copy i, so one backward pass gives the whole Jacobian.
    """
    n, shape = state.shape[0], state.shape[1:]
    with torch.enable_grad():
        copies = state.detach().unsqueeze(0).expand(n, *state.shape).requires_grad_()
        f = model.tendency(model.fluxes(copies.unbind(1), *point))
        f = [fi.expand(n, *shape) for fi in f]
        total = sum(fi[i].sum() for i, fi in enumerate(f))
        if not total.requires_grad:
            return torch.stack([fi[0] for fi in f]), copies.new_zeros(n, n, *shape)
        (jacobian,) = torch.autograd.grad(total, copies, allow_unused=True, materialize_grads=True)
    return torch.stack([fi[0] for fi in f]).detach(), jacobian


def eliminate(model: Balance, jacobian: Tensor, ha: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Solve (I - ha J) x = r by elimination without pivoting; returns x and the smallest pivot of every point.

    Laws that obey the slope rule make the matrix a column-dominant M-matrix, for which no pivoting is needed.
    Structural zeros of the declared graph are skipped.
    """
    n = r.shape[0]
    filled = [[i == j or model.dependence[i][j] for j in range(n)] for i in range(n)]
    m = [[-ha * jacobian[i, j] if filled[i][j] else None for j in range(n)] for i in range(n)]
    for i in range(n):
        m[i][i] = m[i][i] + 1.0
    x = list(r.unbind(0))
    for p in range(n):
        for i in range(p + 1, n):
            if m[i][p] is None:
                continue
            factor = m[i][p] / m[p][p]
            x[i] = x[i] - factor * x[p]
            for j in range(p + 1, n):
                if m[p][j] is not None:
                    fill = factor * m[p][j]
                    m[i][j] = -fill if m[i][j] is None else m[i][j] - fill
    for p in reversed(range(n)):
        for j in range(p + 1, n):
            if m[p][j] is not None:
                x[p] = x[p] - m[p][j] * x[j]
        x[p] = x[p] / m[p][p]
    pivot = m[0][0]
    for p in range(1, n):
        pivot = torch.minimum(pivot, m[p][p])
    return torch.stack(x), pivot


def tolerance(state: Tensor, absolute: float) -> Tensor:
    """Residual allowed at a state [mm]: scaled by 1 + 1e-3 |Y|, never below what the precision can reach."""
    size = state.abs()
    floor = 50.0 * torch.finfo(state.dtype).eps
    return (1.0 + 1e-3 * size) * (floor * (1.0 + size)).clamp_min(absolute)


class Stage(NamedTuple):
    """A stage being solved. ``size`` is the residual norm |r|_1 that a trial has to reduce."""

    state: Tensor
    update: Tensor
    size: Tensor
    damping: Tensor
    pivot: Tensor


def begin(model: Balance, point: Point, base: Tensor, ha: Tensor, guess: Tensor) -> tuple[Stage, Tensor]:
    """Linearise at the guess; returns the stage and its residual."""
    f, jacobian = rates_and_jacobian(model, point, guess)
    r = guess - base - ha * f
    update, pivot = eliminate(model, jacobian, ha, r)
    size = r.abs().sum(0)
    return Stage(guess, update, size, torch.ones_like(size), pivot), r


def iterate(
    model: Balance, point: Point, base: Tensor, ha: Tensor, stage: Stage, done: Tensor, absolute: float
) -> tuple[Stage, Tensor]:
    """One damped Newton iteration at every point not done; returns the stage and a mask (*points) of those converged.

    A point whose trial does not reduce its residual keeps its state and halves its step, at most six times. One that is
    done keeps its state too, so that no result depends on how long others in the batch take.
    """
    trial = stage.state - stage.damping * stage.update
    f, jacobian = rates_and_jacobian(model, point, trial)
    r = trial - base - ha * f
    converged = (r.abs() <= tolerance(trial, absolute)).all(0)
    size = r.abs().sum(0)
    accept = converged | (size <= (1.0 - DECREASE * stage.damping) * stage.size)
    exhausted = stage.damping <= 0.5**HALVINGS
    accept = (accept | (exhausted & torch.isfinite(size))) & ~done
    update, pivot = eliminate(model, jacobian, ha, r)
    new = Stage(
        torch.where(accept, trial, stage.state),
        torch.where(accept, update, stage.update),
        torch.where(accept, size, stage.size),
        torch.where(accept, torch.ones_like(stage.damping), 0.5 * stage.damping),
        torch.where(accept, torch.minimum(stage.pivot, pivot), stage.pivot),
    )
    return new, done | (converged & accept)


def solve_stage(
    model: Balance,
    point: Point,
    base: Tensor,
    ha: Tensor,
    guess: Tensor,
    absolute: float = 1e-9,
    iterations: int = 60,
) -> tuple[Stage, Tensor, int]:
    """Solve one implicit stage at every point; returns the stage, a mask of converged points, and the evaluations.

    The state still lacks the last correction ``-update``, which makes it exact to round-off where the law is smooth.
    """
    stage, r = begin(model, point, base, ha, guess)
    done = (r.abs() <= tolerance(guess, absolute)).all(0)
    count = 1
    while not bool(done.all()) and count < iterations:
        stage, done = iterate(model, point, base, ha, stage, done, absolute)
        count += 1
    return stage, done, count


def correct(model: Balance, point: Point, base: Tensor, ha: Tensor, solved: Tensor, jacobian: Tensor) -> Tensor:
    """One Newton step from a solved stage, differentiable in ``base``, parameters, forcing and weights.

    With the Jacobian frozen at the solution this is the implicit function theorem: dY = (I - ha J)^-1 (dbase + ha df).
    """
    r = solved - base - ha * tendency(model, rates(model, point, solved))
    update, _ = eliminate(model, jacobian, ha, r)
    return solved - update


def spectral_radius(model: Balance, jacobian: Tensor) -> Tensor:
    """Spectral radius of J (S, S, *points) at every point, from the strongly connected blocks of the graph."""
    blocks = strongly_connected(model.dependence)
    radius = torch.zeros_like(jacobian[0, 0])
    for block in blocks:
        if len(block) == 1:
            value = jacobian[block[0], block[0]].abs()
        else:
            part = jacobian[block][:, block].movedim((0, 1), (-2, -1))
            value = torch.linalg.eigvals(torch.nan_to_num(part)).abs().amax(-1)
        radius = torch.maximum(radius, value)
    return radius


def strongly_connected(dependence) -> list[list[int]]:
    """Groups of stores that depend on each other, by transitive closure (a handful of stores)."""
    n = len(dependence)
    reach = [[i == j or bool(dependence[i][j]) for j in range(n)] for i in range(n)]
    for k in range(n):
        for i in range(n):
            for j in range(n):
                reach[i][j] = reach[i][j] or (reach[i][k] and reach[k][j])
    blocks: list[list[int]] = []
    for i in range(n):
        if not any(i in b for b in blocks):
            blocks.append([j for j in range(n) if reach[i][j] and reach[j][i]])
    return blocks
