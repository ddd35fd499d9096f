"""The exact discrete adjoint of a march: backward through its stages, by the implicit function theorem.

A stage solves R(psi, known, values) = 0, and moves rates F(psi, known, values). Lengths of steps, which follow from the
error of the run itself, are taken for constants.
"""

from __future__ import annotations

import torch
from torch import Tensor

from udehydro.errors import SolverError
from udehydro.richards.column import tridiagonal
from udehydro.richards.column.march import March, Taken
from udehydro.richards.column.problem import Problem
from udehydro.solvers.tableau import Tableau


def attach(problem: Problem, tableau: Tableau, found: March, mass: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Heads, water and volumes of a march, with the gradient by the water at the start, all inputs and weights."""
    leaves = (*problem.inputs, *problem.column.weights())
    return _Attached.apply(problem, tableau, found, mass, *leaves)


class _Attached(torch.autograd.Function):
    @staticmethod
    def forward(ctx, problem, tableau, found, mass, *leaves):
        ctx.problem, ctx.tableau, ctx.tape = problem, tableau, found.tape
        ctx.wanted = ctx.needs_input_grad[4:]
        ctx.save_for_backward(*leaves)
        return found.psi, found.mass, found.volume

    @staticmethod
    def backward(ctx, *by):
        leaves = ctx.saved_tensors  # complains where one was changed in place since
        with torch.no_grad():
            gradients = _Attached.pull(ctx, *(g.detach() for g in by))
        return None, None, None, *_first_order(gradients, (*leaves, *by))

    @staticmethod
    def pull(ctx, by_psi, by_mass, by_volume) -> list[Tensor | None]:
        """Derivatives by the water at the start and by all leaves."""
        wanted, count = ctx.wanted, len(ctx.problem.inputs)
        grads: list[Tensor | None] = [None] * count
        weights = [w for w, want in zip(ctx.problem.column.weights(), wanted[count:], strict=True) if want]
        by_weights = [torch.zeros_like(w) for w in weights]
        lam = torch.zeros_like(by_mass[0])
        for step in reversed(ctx.tape):
            at = (step.interval, step.columns)
            ends = step.ends.unsqueeze(-1)
            after = lam[step.columns] + torch.where(ends, by_mass[at], 0.0)
            ahead = torch.where(ends, by_psi[at], 0.0)
            back, local, along = _step(ctx.problem, ctx.tableau, step, after, ahead, by_volume[at], wanted, weights)
            lam[step.columns] = back
            ctx.problem.give(grads, step.interval, step.columns, local)
            for total, part in zip(by_weights, along, strict=True):
                total += part
        given = iter(by_weights)
        return [lam, *grads, *(next(given) if want else None for want in wanted[count:])]


def _first_order(gradients: list[Tensor | None], inputs: tuple[Tensor, ...]) -> list[Tensor | None]:
    """The gradients, which raise where they are differentiated again by what they were made from."""
    if not torch.is_grad_enabled():
        return gradients
    at = [i for i, g in enumerate(gradients) if g is not None]
    for i, g in zip(at, _FirstOrder.apply(len(at), *(gradients[i] for i in at), *inputs), strict=True):
        gradients[i] = g
    return gradients


class _FirstOrder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, count, *tensors):
        return tuple(t.clone() for t in tensors[:count])

    @staticmethod
    def backward(ctx, *cotangents):
        raise SolverError(
            "Columns have first derivatives only: differentiate their gradient by finite differences, or take "
            "Gauss-Newton's approximation of second derivatives from flow_along."
        )


def _step(problem: Problem, tableau: Tableau, step: Taken, after, ahead, by_volume, wanted, weights):
    """Derivatives by the water at the start of a step, by its values, and by weights.

    ``after`` and ``ahead`` (n, node) are those by the water and by the heads at its end, ``by_volume`` (n, channel).
    """
    h, a, b = step.h.unsqueeze(-1), tableau.a, tableau.b
    values = [
        v.detach().requires_grad_(want)
        for v, want in zip(problem.take(step.interval, step.columns), wanted, strict=False)
    ]
    chosen = [v for v in values if v.requires_grad]
    stages, rates = [], []
    for i, psi in enumerate(step.stages):
        known = step.mass + sum((h * a[i][j] * rates[j] for j in range(i) if a[i][j]), torch.zeros_like(step.mass))
        stages.append(_Graph(problem, values, psi, known, step.h * a[i][i]))
        rates.append(stages[-1].stage.rate.detach())
    totals: list[Tensor | None] = [None] * len(chosen)
    along = [torch.zeros_like(w) for w in weights]
    kappa: list[Tensor] = [None] * len(stages)
    for i in reversed(range(len(stages))):
        by_rate = h * b[i] * after
        for j in range(i + 1, len(stages)):
            by_rate = by_rate + h * a[j][i] * kappa[j]
        kappa[i], found = stages[i].pull(
            by_rate, h * b[i] * by_volume, ahead if i + 1 == len(stages) else None, chosen + weights
        )
        for n, g in enumerate(found[: len(chosen)]):
            if g is not None:
                totals[n] = g if totals[n] is None else totals[n] + g
        for total, g in zip(along, found[len(chosen) :], strict=True):
            if g is not None:
                total += g
    given = iter(totals)
    return after + sum(kappa), [next(given) if v.requires_grad else None for v in values], along


class _Graph:
    """A solved stage with its graph."""

    def __init__(self, problem: Problem, values: list[Tensor], psi: Tensor, known: Tensor, tau: Tensor):
        self.psi, self.known = psi.detach().requires_grad_(), known.requires_grad_()
        self.linear = problem.system([v.detach() for v in values]).linear(psi, known.detach(), tau)
        with torch.enable_grad():
            self.stage = problem.system(values).stage(self.psi, self.known, tau)

    def pull(self, by_rate: Tensor, by_moved: Tensor, by_psi: Tensor | None, leaves: list[Tensor]):
        """Derivatives by ``known`` and by leaves, the heads eliminated: mu solves the transposed equations."""
        row, rate, moved = self.stage
        moves = [(v, g) for v, g in ((rate, by_rate), (moved, by_moved)) if v.requires_grad]
        outputs, by = zip(*moves, strict=True)
        (pulled,) = torch.autograd.grad(outputs, self.psi, by, retain_graph=True)
        if by_psi is not None:
            pulled = pulled + by_psi
        a = self.linear
        mu = tridiagonal.solve(*tridiagonal.transposed(a.lower, a.diagonal, a.upper), pulled)
        known, *found = torch.autograd.grad((row, *outputs), (self.known, *leaves), (-mu, *by), allow_unused=True)
        return known, found
