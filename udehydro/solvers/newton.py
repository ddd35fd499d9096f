"""Damped Newton for implicit stages, elementwise over batch and time: small dense algebra unrolled over the stores.

Arrays are component first: a state is (S, *points). A stage solves ``r(Y) = Y - base - ha f(Y) = 0`` at every point
independently; ``ha`` is the step length times the diagonal entry of the tableau.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.laws.linearised import linearised
from udehydro.solvers import chain
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
    """Tendency (S, *points) and its Jacobian (S, S, *points), [i, j] = d f_i / d y_j, without a graph."""
    with torch.enable_grad(), linearised(weights=False):
        stores = [y.detach().requires_grad_() for y in state]
        f = model.tendency(model.fluxes(stores, *point))
        jacobian = rows(model, f, stores)
    return torch.stack([fi.detach().expand(state.shape[1:]) for fi in f]), jacobian


def rows(model: Balance, f: Sequence[Tensor], stores: Sequence[Tensor], retain_graph: bool = False) -> Tensor:
    """Jacobian (S, S, *points) of tendencies by the stores they were made from.

    One backward pass per group of rows that share no store, by the declared graph; each runs through nothing but what
    its rows depend on.
    """
    n, like, groups = len(stores), stores[0], row_groups(model.dependence)
    groups = [g for g in groups if any(f[i].requires_grad and any(model.dependence[i]) for i in g)]
    jacobian = like.detach().new_zeros(n, n, *like.shape)
    for number, group in enumerate(groups):
        own = [f[i] for i in group if f[i].requires_grad]
        seen = [j for j in range(n) if any(model.dependence[i][j] for i in group)]
        keep = retain_graph or number + 1 < len(groups)
        ones = [torch.ones_like(r) for r in own]
        columns = torch.autograd.grad(own, [stores[j] for j in seen], ones, retain_graph=keep, allow_unused=True)
        for j, column in zip(seen, columns, strict=True):
            if column is not None:
                row = next(i for i in group if model.dependence[i][j])
                jacobian[row, j] = column
    return jacobian


@lru_cache
def row_groups(dependence) -> tuple[tuple[int, ...], ...]:
    """Rows of the Jacobian whose stores do not overlap, grouped greedily (Curtis, Powell and Reid 1974)."""
    groups: list[list[int]] = []
    for i, row in enumerate(dependence):
        for group in groups:
            if not any(any(a and b for a, b in zip(row, dependence[k], strict=True)) for k in group):
                group.append(i)
                break
        else:
            groups.append([i])
    return tuple(tuple(g) for g in groups)


def eliminate(model: Balance, jacobian: Tensor, ha: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Solve (I - ha J) x = r; returns x and the smallest pivot of every point.

    Laws that obey the slope rule make the matrix a column-dominant M-matrix, for which no pivoting is needed.
    Structural zeros of the declared graph are skipped.
    """
    return chain.pivoted(jacobian, ha, r, model.dependence)


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
            part = jacobian[list(block)][:, list(block)].movedim((0, 1), (-2, -1))
            value = torch.linalg.eigvals(torch.nan_to_num(part)).abs().amax(-1)
        radius = torch.maximum(radius, value)
    return radius


@lru_cache
def strongly_connected(dependence) -> tuple[tuple[int, ...], ...]:
    """Groups of stores that depend on each other, each behind the groups it depends on (a handful of stores)."""
    n = len(dependence)
    reach = [[i == j or bool(dependence[i][j]) for j in range(n)] for i in range(n)]
    for k in range(n):
        for i in range(n):
            for j in range(n):
                reach[i][j] = reach[i][j] or (reach[i][k] and reach[k][j])
    blocks = {tuple(j for j in range(n) if reach[i][j] and reach[j][i]) for i in range(n)}
    # a group reaches all it depends on, so it reaches strictly more stores than any of those
    return tuple(sorted(blocks, key=lambda block: (sum(reach[block[0]]), block)))
