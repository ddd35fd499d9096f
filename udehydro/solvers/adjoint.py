"""The exact discrete adjoint of a march, and its forward counterpart.

At the stages Y_i of all steps, with rates q, incidence N, f = N^T q and Jacobians J_i = df/dY_i, the objective's
derivative by the state at the end of step m, lambda_m, and the multipliers mu_i of its stage equations follow from the
reverse recurrence in :func:`udehydro.solvers.chain.reverse`. The derivative by anything the rates read is then one
vector-Jacobian product of all rates together with the cotangents

    w_i = h b_i (v + N lambda) + h N sum_{j >= i} a_ji mu_j ,       v = dJ/d(volume).

This is the implicit function theorem for the equations of all steps: exact for the discrete solution to the residual
left in its stages, without a tape through time or Newton iterations. Everything is evaluated again in chunks of steps,
so memory holds one trajectory and the graph of one chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from udehydro.balance import Balance
from udehydro.errors import SolverError
from udehydro.laws.linearised import linearised
from udehydro.solvers import chain, newton
from udehydro.solvers.march import March, Steps, chunks
from udehydro.solvers.problem import Point, Problem, SolverReport
from udehydro.solvers.step import along_slopes
from udehydro.solvers.tableau import Tableau


def attach(
    problem: Problem, tableau: Tableau, march: March, storage0: Tensor, report: SolverReport
) -> tuple[Tensor, Tensor]:
    """Storage and volumes of the march with the exact discrete adjoint attached (first derivatives only).

    The backward pass leaves lambda in ``report.adjoint``.
    """
    return _Adjoint.apply(problem, tableau, march, report, storage0, *problem.leaves())


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, problem, tableau, march, report, storage0, *leaves):
        ctx.run = problem, tableau, march, report
        ctx.save_for_backward(storage0, *leaves)
        ctx.set_materialize_grads(False)
        return march.storage, march.volume

    @staticmethod
    def backward(ctx, g_storage, g_volume):
        problem, tableau, march, report = ctx.run
        inputs = ctx.saved_tensors  # raises where one was changed in place since
        with torch.no_grad():
            report.adjoint, gradients = march.pull(problem, tableau, g_storage, g_volume)
        asked = [g for g in (g_storage, g_volume) if g is not None]
        gradients = first_order([report.adjoint[0].clone(), *gradients], (*inputs, *asked))
        return None, None, None, None, *gradients


def first_order(gradients: list[Tensor], inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """The gradients, which raise where they are differentiated again by what they were made from."""
    return _FirstOrder.apply(len(gradients), *gradients, *inputs) if torch.is_grad_enabled() else gradients


class _FirstOrder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, count, *tensors):
        return tuple(t.clone() for t in tensors[:count])

    @staticmethod
    def backward(ctx, *cotangents):
        raise SolverError(
            "The adjoint gives first derivatives only. For second derivatives and Hessian-vector products use a solver "
            "with gradient='tape'."
        )


def pull(
    problem: Problem, tableau: Tableau, march: March, g_storage: Tensor | None, g_volume: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """Carry derivatives by storages (T + 1, *batch, S) and volumes (T, *batch, F) back through a march; None for zeros.

    Returns lambda (T + 1, *batch, S), the total derivative by the storage at every edge, and the derivative by every
    leaf of the problem.
    """
    steps, gradients = march.steps(), _Gradients(problem)
    g_storage = torch.zeros_like(march.storage) if g_storage is None else g_storage.detach()
    g_volume = torch.zeros_like(march.volume) if g_volume is None else g_volume.detach()
    g_edges, g_volume = g_storage.movedim(-1, 0), g_volume.movedim(-1, 0)
    after, adjoint = torch.zeros_like(g_edges[:, -1]), torch.zeros_like(g_edges)
    for part in chunks(problem, len(steps.interval), reverse=True):
        chunk, last = steps[part], steps.last[part]
        ends = last.reshape(-1, *(1,) * (g_edges.ndim - 2))
        external = g_edges[:, chunk.interval + 1] * ends
        lam, after = _pull_chunk(problem, tableau, chunk, external, g_volume[:, chunk.interval], after, gradients)
        adjoint.index_add_(1, chunk.interval + 1, lam * ends)
    adjoint[:, 0] = g_edges[:, 0] + after
    return adjoint.movedim(0, -1), gradients.totals


def _pull_chunk(problem, tableau: Tableau, steps: Steps, external, v, after, gradients: _Gradients):
    """Adjoint of some steps; returns lambda at their ends and what their start receives."""
    model, h = problem.model, steps.h
    stages = stage_states(model, tableau, problem.at(steps.interval), steps)
    with torch.enable_grad(), linearised(weights=True):
        point, inputs = gradients.open(steps)
        leaves = [[store.detach().requires_grad_() for store in y] for y in stages]
        fluxes = [model.fluxes(y, *point) for y in leaves]
        jacobians = [
            newton.rows(model, model.tendency(q), y, retain_graph=True) for q, y in zip(fluxes, leaves, strict=True)
        ]
        rates = [torch.stack([r.expand(h.shape[0], *v.shape[2:]) for r in q]) for q in fluxes]
    own = [(h * weight) * v for weight in tableau.b]
    direct = _grad(rates, [store for y in leaves for store in y], own, retain_graph=bool(inputs))
    direct = [torch.stack(direct[i : i + len(stages[0])]) for i in range(0, len(direct), len(stages[0]))]
    mu, lam, passed = chain.reverse(tableau, h, jacobians, direct, external, after)
    if inputs:
        cotangents = []
        for i, w in enumerate(own):
            z = (h * tableau.b[i]) * lam
            for j in range(i, tableau.stages):
                if tableau.a[j][i]:
                    z = z + (h * tableau.a[j][i]) * mu[j]
            cotangents.append(w + along_fluxes(model, z))
        gradients.add(steps, _grad(rates, inputs, cotangents))
    return lam, passed


def _grad(outputs, inputs, cotangents, retain_graph: bool = False) -> list[Tensor]:
    """Vector-Jacobian product that takes outputs without a graph and inputs nothing depends on."""
    pairs = [(o, g) for o, g in zip(outputs, cotangents, strict=True) if o.requires_grad]
    if not pairs:
        return [torch.zeros_like(i) for i in inputs]
    outputs, cotangents = zip(*pairs, strict=True)
    return torch.autograd.grad(
        outputs, inputs, cotangents, retain_graph=retain_graph, allow_unused=True, materialize_grads=True
    )


def stage_states(model: Balance, tableau: Tableau, point: Point, steps: Steps) -> tuple[Tensor, ...]:
    """States of all stages (S, n, *batch): as solved, or made again where the tableau is explicit."""
    if steps.solved:
        return steps.solved
    states, slopes = [], []
    for row in tableau.a:
        state = along_slopes(steps.y, steps.h, row, slopes)
        states.append(state)
        if len(states) < tableau.stages:
            slopes.append(newton.tendency(model, newton.rates(model, point, state)))
    return tuple(states)


def along_fluxes(model: Balance, z: Tensor) -> Tensor:
    """N z: what every flux (F, *points) does to a cotangent of the stores (S, *points)."""
    zero = torch.zeros_like(z[0])
    return torch.stack([
        (zero if sink is None else z[sink]) - (zero if source is None else z[source]) for source, sink in model.moves
    ])  # fmt: skip


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
            if timed:
                total.index_add_(0, steps.interval, gradient)
            else:
                total += gradient


class Tangents(NamedTuple):
    """Directions in which a march is differentiated.

    which : (P, *batch), the parameter or initial storage that is moved, as an index into the model's parameters and,
        behind them, its stores; -1 for none.
    forcing : per direction what the forcings of the problem change by (T, *batch), or None where they do not.
    """

    which: Tensor
    forcing: list[tuple[Tensor, ...] | None]


@torch.no_grad()
def push(
    problem: Problem, tableau: Tableau, march: March, tangents: Tangents, stores: Sequence[int], fluxes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Forward sensitivities: many right-hand sides of the same recurrence.

    Returns the derivatives, in every direction, of some storages at every edge (P, T + 1, *batch, len(stores)) and of
    some volumes (P, T, *batch, len(fluxes)).
    """
    model, steps, batch = problem.model, march.steps(), problem.batch
    which = tangents.which
    count, first_store = len(which), len(model.parameter_names)
    edge = [
        torch.stack([(w == first_store + i).to(steps.y.dtype) for i in range(len(model.store_names))]) for w in which
    ]
    storage = steps.y.new_zeros(count, len(stores), len(problem.days) + 1, *batch)
    volume = steps.y.new_zeros(count, len(fluxes), len(problem.days), *batch)
    moved = [_moved(problem, w, f) for w, f in zip(which, tangents.forcing, strict=True)]
    kept_stores, kept_fluxes = (torch.tensor(k, dtype=torch.long, device=steps.y.device) for k in (stores, fluxes))
    for p, start in enumerate(edge):
        storage[p, :, 0] = start[kept_stores]
    for part in chunks(problem, len(steps.interval)):
        chunk, last, h = steps[part], steps.last[part], steps.h[part]
        point = problem.at(chunk.interval)
        stages = stage_states(model, tableau, point, chunk)
        jacobians = [newton.rates_and_jacobian(model, point, y)[1] for y in stages]
        for p, tangent in enumerate(moved):
            direction = tangent.at(chunk.interval)
            explicit = [_jvp(model, y, None, point, direction) for y in stages]
            slopes = [newton.tendency(model, q) for q in explicit]
            sources = []
            for i, row in enumerate(tableau.a):
                sources.append(sum((h * row[j]) * slopes[j] for j in range(i + 1)))
            if not tableau.stiffly_accurate:
                sources.append(sum((h * w) * s for w, s in zip(tableau.b, slopes, strict=True)))
            changes, ends, _ = chain.forward(tableau, h, jacobians, sources, edge[p])
            for weight, y, dy in zip(tableau.b, stages, changes, strict=True):
                if weight:
                    rate = _jvp(model, y, dy, point, direction)
                    volume[p].index_add_(1, chunk.interval, (h * weight) * rate[kept_fluxes])
            storage[p][:, chunk.interval[last] + 1] = ends[kept_stores][:, last]
            edge[p] = ends[:, -1]
    return storage.movedim(1, -1), volume.movedim(1, -1)


def _moved(problem: Problem, which: Tensor, forcing: tuple[Tensor, ...] | None) -> Problem:
    """The problem with tangents in place of forcing and parameters."""
    theta = tuple((which == i).to(p.dtype) for i, p in enumerate(problem.theta))
    if forcing is None:
        forcing = tuple(torch.zeros_like(f[:1]).expand(f.shape) for f in problem.forcing)
    return problem.replace(forcing=forcing, theta=theta, varying=(False,) * len(theta))


def _jvp(model: Balance, state: Tensor, moved: Tensor | None, point: Point, direction: Point) -> Tensor:
    """Derivative (F, *points) of the rates along tangents of state, forcing and parameters."""
    with forward_ad.dual_level():

        def dual(value: Tensor, tangent: Tensor | None) -> Tensor:
            if tangent is None:
                return value
            return forward_ad.make_dual(*(t.clone() for t in torch.broadcast_tensors(value, tangent)))

        y = dual(state, moved)
        forcing, theta = (
            tuple(dual(v, t) for v, t in zip(values, tangents, strict=True))
            for values, tangents in zip(point, direction, strict=True)
        )
        rates = newton.rates(model, (forcing, theta), y)
        tangent = forward_ad.unpack_dual(rates).tangent
    return torch.zeros_like(rates) if tangent is None else tangent
