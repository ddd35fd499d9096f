"""The exact discrete tangent of a march: derivatives of all it found, forward through its stages.

What the adjoint (:mod:`udehydro.richards.column.adjoint`) does for one number and all inputs, this does for all numbers
and a few inputs. Where heads were is known from the tape, so that laws are differentiated at all stages of all steps at
once; what is left to do step by step is a tridiagonal system for every direction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap

from udehydro.richards.column import tridiagonal
from udehydro.richards.column.march import March, Taken
from udehydro.richards.column.problem import Problem
from udehydro.richards.column.system import System
from udehydro.solvers.tableau import Tableau

MOST = 1_000_000
"""Values (direction, step, node) that are differentiated at once: some 50 arrays of that size live together."""


class Directions(NamedTuple):
    """P directions: of the water at the start (P, columns, node), of all inputs and of all weights (P, *shape)."""

    mass: Tensor
    inputs: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]

    @property
    def count(self) -> int:
        return len(self.mass)


class Slopes(NamedTuple):
    """Derivatives along P directions of what a march found: heads and water (P, T, columns, node), volumes
    (P, T, columns, channel)."""

    psi: Tensor
    mass: Tensor
    volume: Tensor


@torch.no_grad()
def tangent(problem: Problem, tableau: Tableau, found: March, along: Directions) -> Slopes:
    """Derivatives of a march along directions; lengths of steps are taken for constants, as the adjoint does."""
    total = along.mass.clone()
    result = Slopes(*(x.new_zeros(along.count, *x.shape) for x in (found.psi, found.mass, found.volume)))
    for steps in _blocks(found.tape, along.count * along.mass.shape[2]):
        _follow(problem, tableau, steps, along, total, result)
    return result


def _blocks(tape: Sequence[Taken], each: int) -> Iterator[list[Taken]]:
    """Steps that are linearised at once, ``each`` so many values a column."""
    block, size = [], 0
    for step in tape:
        if block and (size + len(step.h)) * each > MOST:
            yield block
            block, size = [], 0
        block.append(step)
        size += len(step.h)
    if block:
        yield block


def _follow(problem: Problem, tableau: Tableau, steps: Sequence[Taken], along: Directions, total: Tensor, into: Slopes):
    """Go on through some steps, from derivatives ``total`` of the water (P, columns, node) to those at their end."""
    tape, a = _Tape.of(steps), tableau.a
    stages, start = _stages(problem, tableau, tape, along), 0
    for step in steps:
        at = slice(start, start + len(step.h))
        start, h = at.stop, step.h.unsqueeze(-1)
        rates, mass = [], total[:, step.columns]
        for i, stage in enumerate(stages):
            known = mass + sum((h * a[i][j] * rates[j] for j in range(i) if a[i][j]), torch.zeros_like(mass))
            psi = stage.solve(at, known)
            stage.known[:, at], stage.psi[:, at] = known, psi
            held = stage.capacity[at] * psi + stage.held[:, at]
            rates.append((held - known) / (h * a[i][i]))  # the equation of every node that stores water
        mass = mass + sum(h * b * f for b, f in zip(tableau.b, rates, strict=True))
        total[:, step.columns] = mass
        over = step.ends.nonzero()[:, 0]
        where = (slice(None), step.interval[over], step.columns[over])
        into.psi[where], into.mass[where] = psi[:, over], mass[:, over]
    every = torch.arange(along.count, device=tape.h.device).unsqueeze(1)
    for b, stage in zip(tableau.b, stages, strict=True):
        volume = (b * tape.h).unsqueeze(-1) * stage.moved()
        into.volume.index_put_((every, tape.interval, tape.columns), volume, accumulate=True)


def water(problem: Problem, psi: Tensor, pond: Tensor, along: Directions, psi_along: Tensor | None) -> Tensor:
    """Derivatives of the water in all nodes at the start (P, columns, node), from those of inputs and of heads."""
    psi_along = torch.zeros_like(psi) if psi_along is None else psi_along
    every = torch.arange(problem.columns, device=psi.device)
    interval = torch.zeros_like(every)

    def held(psi: Tensor, inputs, weights) -> Tensor:
        system = problem.system([_pick(x, interval, every) for x in inputs])
        return problem.geometry.spread(_Laws(problem.column).water(system, psi, weights), pond)

    def one(psi_dot: Tensor, inputs, weights) -> Tensor:
        point = (psi.contiguous(), *_own(problem))
        return jvp(held, point, (psi_dot, list(inputs), list(weights)))[1]

    return vmap(one)(psi_along.expand(along.count, *psi.shape), along.inputs, along.weights)


class _Tape(NamedTuple):
    """All steps one after the other: (N,), water at their starts (N, node), and heads of each stage."""

    columns: Tensor
    interval: Tensor
    h: Tensor
    mass: Tensor
    stages: tuple[Tensor, ...]

    @classmethod
    def of(cls, steps: Sequence[Taken]) -> _Tape:
        parts = [torch.cat([getattr(s, n) for s in steps]) for n in ("columns", "interval", "h", "mass")]
        return cls(*parts, tuple(torch.cat(x) for x in zip(*(s.stages for s in steps), strict=True)))


class _Laws(nn.Module):
    """The laws of a column as one module, to differentiate its equations by their weights."""

    def __init__(self, column):
        super().__init__()
        self.laws = nn.ModuleList({id(layer.law): layer.law for layer in column.layers}.values())
        self.names = {id(w): n for n, w in self.named_parameters()}
        self.order = [self.names[id(w)] for w in column.weights()]

    def forward(self, ask):
        return ask()

    def water(self, system: System, cells: Tensor, weights) -> Tensor:
        return functional_call(self, dict(zip(self.order, weights, strict=True)), (lambda: system.water(cells),))

    def stage(self, system: System, psi: Tensor, known: Tensor, tau: Tensor, weights):
        ask = lambda: (system.stage(psi, known, tau), system.water(system.geometry.cells(psi)))  # noqa: E731
        return functional_call(self, dict(zip(self.order, weights, strict=True)), (ask,))


class _Stage:
    """A stage of every step (N), linearised: by heads, by the water known before, and along directions.

    Attributes
    ----------
    row, held, moves : derivatives along inputs and weights, heads fixed, of the equations and of the water held
        (P, N, node), and of the rates that are counted (P, N, channel).
    capacity, by_known : (N, node) of the water by the heads, and of the equations by the water known before.
    by_heads, by_water : (N, channel, node) of the rates that are counted, by both.
    known, psi : (P, N, node) derivatives of both along all, as they are found.
    """

    def __init__(self, problem: Problem, tape: _Tape, psi: Tensor, known: Tensor, tau: Tensor, along: Directions):
        values = [_pick(x, tape.interval, tape.columns) for x in problem.inputs]
        self.linear = problem.system(values).linear(psi, known, tau)
        self.capacity = self.linear.capacity
        self.known, self.psi = (psi.new_zeros(along.count, *psi.shape) for _ in range(2))
        self.by_known, self.by_heads, self.by_water = _by_states(problem.system(values), psi, known, tau)
        parts = _parts(len(psi), along.count * psi.shape[1])
        found = [_along_inputs(problem, tape, part, (psi[part], known[part], tau[part]), along) for part in parts]
        self.row, self.held, self.moves = (torch.cat(x, dim=1) for x in zip(*found, strict=True))

    def solve(self, at: slice, known: Tensor) -> Tensor:
        """Derivatives of the heads, from those of the water known before."""
        right = -(self.row[:, at] + self.by_known[at] * known)
        a = self.linear
        sides = [x[at].expand_as(right).flatten(0, 1) for x in (a.lower, a.diagonal, a.upper)]
        return tridiagonal.solve(*sides, right.flatten(0, 1)).reshape_as(right)

    def moved(self) -> Tensor:
        """Derivatives (P, N, channel) of the rates that are counted, once those of heads and of water are found."""
        by_states = torch.einsum("ncj,pnj->pnc", self.by_heads, self.psi)
        return self.moves + by_states + torch.einsum("ncj,pnj->pnc", self.by_water, self.known)


@torch.enable_grad()
def _by_states(system: System, psi: Tensor, known: Tensor, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives of the equations by the known water of the same node, and of what is counted by heads and water."""
    psi, known = psi.detach().requires_grad_(), known.detach().requires_grad_()
    row, _, moved = system.stage(psi, known, tau)

    def pull(output: Tensor) -> tuple[Tensor, Tensor]:
        if not output.requires_grad:
            return torch.zeros_like(psi), torch.zeros_like(known)
        return torch.autograd.grad(
            output.sum(), (psi, known), retain_graph=True, allow_unused=True, materialize_grads=True
        )

    by_known = pull(row)[1]
    channels = [pull(m) for m in moved.unbind(1)]
    return by_known, *(torch.stack(x, dim=1) for x in zip(*channels, strict=True))


def _along_inputs(problem: Problem, tape: _Tape, part: slice, at, along: Directions) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives of a stage along inputs and weights, where heads and known water are ``at``."""
    interval, columns = tape.interval[part], tape.columns[part]
    laws, (inputs, weights) = _Laws(problem.column), _own(problem)

    def stage(inputs, weights):
        system = problem.system([_pick(x, interval, columns) for x in inputs])
        found, cells = laws.stage(system, *at, weights)
        return found.row, problem.geometry.spread(cells), found.moved

    def one(inputs_along, weights_along):
        return jvp(stage, (inputs, weights), (list(inputs_along), list(weights_along)))[1]

    return vmap(one)(along.inputs, along.weights)


def _stages(problem: Problem, tableau: Tableau, tape: _Tape, along: Directions) -> list[_Stage]:
    h, found = tape.h.unsqueeze(-1), []
    for row, psi in zip(tableau.a, tape.stages, strict=True):
        i = len(found)
        known = tape.mass + sum((h * row[j] * found[j].linear.rate for j in range(i)), torch.zeros_like(tape.mass))
        found.append(_Stage(problem, tape, psi, known, tape.h * row[i], along))
    return found


def _pick(x: Tensor, interval: Tensor, columns: Tensor) -> Tensor:
    """The values (n or 1, width) of an input in some intervals and columns."""
    if x.shape[0] == 1 and x.shape[1] == 1:
        return x[0]
    zero = torch.zeros_like(columns)
    return x[interval if x.shape[0] > 1 else zero, columns if x.shape[1] > 1 else zero]


def _own(problem: Problem) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and weights, each with memory of its own: dual numbers refuse expanded tensors."""
    return [x.detach().contiguous() for x in problem.inputs], [w.detach() for w in problem.column.weights()]


def _parts(count: int, each: int) -> list[slice]:
    size = max(1, MOST // max(each, 1))
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]
