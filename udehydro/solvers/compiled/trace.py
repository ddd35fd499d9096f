"""A model's laws as a graph of elementary operations at one point, recorded from PyTorch.

The laws are run once on one point, with the backward passes that make Jacobians and vector-Jacobian products, and every
elementary operation is recorded. So any law works that PyTorch can run without looking at its values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from udehydro.balance import Balance
from udehydro.errors import StructureError


class Traced(NamedTuple):
    """A graph and the names of its inputs, in order; outputs in the order the traced function returned them."""

    graph: fx.GraphModule
    inputs: tuple[str, ...]


class Shapes(NamedTuple):
    """How many values a model's laws read at a point."""

    stores: int
    forcing: int
    theta: int
    fluxes: int


def shapes(model: Balance) -> Shapes:
    return Shapes(
        len(model.store_names),
        len(model.forcing_names) + model.driven_count,
        len(model.parameter_names),
        len(model.flux_names),
    )


def tendency_and_jacobian(model: Balance, block: Sequence[int]) -> Traced:
    """Net inflow of the stores of a block, and its derivatives by these stores, row by row."""

    def function(stores, forcing, theta):
        own = [s.detach().requires_grad_(i in block) for i, s in enumerate(stores)]
        with torch.enable_grad():
            f = model.tendency(model.fluxes(own, forcing, theta))
            rows = [_derivatives(f[i], [own[j] for j in block]) for i in block]
        return [f[i] for i in block], rows

    return _trace(model, function)


def rates(model: Balance) -> Traced:
    """All fluxes."""
    return _trace(model, lambda stores, forcing, theta: model.fluxes(stores, forcing, theta))


def linearised(model: Balance, weights: Sequence[Tensor]) -> Traced:
    """What an adjoint step needs: derivatives of all tendencies by all stores, row by row without structural zeros; the
    vector-Jacobian product of the fluxes by the stores, with cotangents ``c``; and that by forcings, theta and weights,
    with cotangents ``d``."""

    def function(stores, forcing, theta, before, after):
        stores, forcing, theta = ([v.detach().requires_grad_() for v in part] for part in (stores, forcing, theta))
        with torch.enable_grad():
            fluxes = model.fluxes(stores, forcing, theta)
            f, rows = model.tendency(fluxes), []
            for i, sees in enumerate(model.dependence):
                if any(sees):
                    rows.append(_derivatives(f[i], [stores[j] for j, s in enumerate(sees) if s]))
            by_stores = _derivatives(_paired(fluxes, before), stores)
            return rows, by_stores, _derivatives(_paired(fluxes, after), [*forcing, *theta, *weights])

    return _trace(model, function, cotangents="cd")


def partials(model: Balance) -> tuple[Traced, list[tuple[int, str, int]]]:
    """Derivatives of every flux by the stores, forcings and parameters it depends on.

    Beside the graph, what its outputs are: flux, ``y``, ``x`` or ``t``, and which store, forcing or parameter.
    """
    entries: list[tuple[int, str, int]] = []

    def function(stores, forcing, theta):
        parts = [[v.detach().requires_grad_() for v in part] for part in (stores, forcing, theta)]
        inputs = [(name, i, v) for name, part in zip("yxt", parts, strict=True) for i, v in enumerate(part)]
        entries.clear()
        outputs = []
        with torch.enable_grad():
            for f, flux in enumerate(model.fluxes(*parts)):
                if not flux.requires_grad:
                    continue
                found = torch.autograd.grad(flux.sum(), [v for *_, v in inputs], retain_graph=True, allow_unused=True)
                for (name, i, _), derivative in zip(inputs, found, strict=True):
                    if derivative is not None:
                        entries.append((f, name, i))
                        outputs.append(derivative)
        return outputs

    return _trace(model, function), entries


def _paired(fluxes: Sequence[Tensor], cotangent: Sequence[Tensor]) -> Tensor:
    return sum((q * c).sum() for q, c in zip(fluxes, cotangent, strict=True))


def _derivatives(value: Tensor, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    if not (value.requires_grad and inputs):
        return [torch.zeros_like(i) for i in inputs]
    return torch.autograd.grad(value.sum(), inputs, retain_graph=True, allow_unused=True, materialize_grads=True)


def _trace(model: Balance, function: Callable, cotangents: str = "") -> Traced:
    n = shapes(model)
    parts = {"y": n.stores, "x": n.forcing, "t": n.theta} | dict.fromkeys(cotangents, n.fluxes)
    # values are of no account but must not be special: two of them equal would be recorded as one tie of a minimum
    values = [[torch.full((1,), 0.5 + 0.01 * i + j, dtype=torch.float64) for i in range(count)]
              for j, count in enumerate(parts.values())]  # fmt: skip
    try:
        graph = make_fx(function)(*values)
    except Exception as error:
        raise StructureError(
            f"The laws of '{model.structure.name}' cannot be compiled: {error}. A law that looks at the values of its "
            "inputs (if, float(), a loop until something holds) runs with AllAtOnce or Stepping."
        ) from error
    graph.graph.eliminate_dead_code()
    return Traced(graph, tuple(f"{name}{i}" for name, count in parts.items() for i in range(count)))
