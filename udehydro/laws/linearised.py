"""Networks that bring their derivatives by the inputs along, made once by hand.

An automatic backward pass goes through all layers anew for every row of a Jacobian and every other cotangent, although
the derivatives are the same each time but for a factor at each point. The weights are pulled back by one pass of
their own, where they are asked for.

The n units of a layer at N points are (N, n), with members (M, N, n). Weights are (in, out) and biases (1, out), with
members (M, in, out) and (M, 1, out).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import reduce
from operator import add

import torch
from torch import Tensor
from torch.autograd import Function

from udehydro.errors import SolverError

POINTS = 1024
"""Points taken through all layers at once on a CPU: what passes between layers then stays in the cache of a core."""

_tanh_backward = torch.ops.aten.tanh_backward
_weights_wanted: ContextVar[bool | None] = ContextVar("linearised", default=None)


@contextmanager
def linearised(weights: bool) -> Iterator[None]:
    """Inside, on this thread, networks make their first derivatives by hand.

    They can be pulled back any number of times, but not be differentiated again. ``weights=False`` takes these as
    constants.
    """
    token = _weights_wanted.set(weights)
    try:
        yield
    finally:
        _weights_wanted.reset(token)


def active() -> bool:
    """Whether the caller is inside :func:`linearised`."""
    return _weights_wanted.get() is not None


def evaluate(net, centre: Tensor, spread: Tensor, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Outputs (*common), one by one, of a :class:`Perceptron` at ``(values - centre) / spread``.

    values: one per input, of shapes that broadcast to (*common); centre and spread (inputs,), with members
    (M, 1, inputs).
    """
    recorded, members = torch.is_grad_enabled(), net.members
    moving = [i for i, v in enumerate(values) if recorded and v.requires_grad]
    with torch.set_grad_enabled(recorded and bool(_weights_wanted.get())):
        weights, biases = zip(*net.layers(), strict=True)
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in (*weights, *biases))
    with torch.no_grad():
        x = torch.stack(torch.broadcast_tensors(*values))
        common, x = x.shape[1:], _units(x, members).sub_(centre).div_(spread)
        first = (weights[0].mT / spread).mT
        if 0 < len(moving) < len(values):
            first = torch.stack([first[..., i, :] for i in moving], dim=-2)
        outputs, slopes, pieces = [], [], []
        for part in x.split(_size(x), dim=-2):
            units, output = _forward(part, weights, biases)
            outputs.append(output)
            if moving:
                slopes.append(_slopes(units, [first, *weights[1:]], spare=not trained))
            if trained:
                pieces.append(units)
        results = _common(_joined(outputs), common, members).unbind()
        slopes = _common(_joined(slopes), common, members) if moving else None
    if trained:
        results = _ByWeights.apply(members, pieces, *results, *weights, *biases)
    return _ByInputs.apply(len(results), slopes, *results, *(values[i] for i in moving)) if moving else results


def _size(units: Tensor) -> int:
    """Points (of each member) in a piece."""
    if units.device.type != "cpu":
        return max(1, units.shape[-2])
    return max(1, POINTS // (units.shape[0] if units.ndim == 3 else 1))


def _joined(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)


def _units(values: Tensor, members: int | None) -> Tensor:
    """(n, *common) -> (N, n); with members, whose axis is the last but one, -> (M, N, n)."""
    if members is None:
        return values.reshape(len(values), -1).mT
    return values.movedim(-2, 0).reshape(members, len(values), -1).mT


def _common(values: Tensor, common: Sequence[int], members: int | None) -> Tensor:
    """(n, N) -> (n, *common); with members (M, n, N)."""
    if members is None:
        return values.reshape(len(values), *common)
    return values.reshape(members, values.shape[1], *common[:-2], common[-1]).movedim(0, -2)


def _forward(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """What enters every layer, and the outputs (k, N)."""
    affine, units = torch.addmm if x.ndim == 2 else torch.baddbmm, [x]
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        units.append(affine(b, units[-1], w).tanh_())
    return units, affine(biases[-1].mT, weights[-1].mT, units[-1].mT)


def _slopes(units: list[Tensor], weights: Sequence[Tensor], spare: bool) -> Tensor:
    """Derivatives (k S, N) of k outputs by the S inputs the first weights belong to; writes over ``spare`` units."""
    inputs, outputs = weights[0].shape[-2], weights[-1].shape[-1]
    if outputs <= inputs:  # a pass back from every output, or else one forth from every input
        slopes = []
        for o, one in enumerate(torch.eye(outputs, dtype=units[0].dtype, device=units[0].device).split(1)):
            delta = _deltas(units, weights, one, spare and o + 1 == outputs)[0]
            slopes.append(weights[0] @ delta.mT)
        slopes = slopes[0] if outputs == 1 else torch.cat(slopes, dim=-2)
    else:
        slopes = torch.stack([_along(units, weights, i) for i in range(inputs)], dim=-2).flatten(-3, -2)
    return slopes.expand(*slopes.shape[:-1], units[0].shape[-2])


def _deltas(units: list[Tensor], weights: Sequence[Tensor], last: Tensor, spare: bool = False) -> list[Tensor]:
    """Derivatives (N, n) by what each layer adds up, from those of the last layer."""
    deltas = [last]
    for h, w in zip(reversed(units[1:]), reversed(weights[1:]), strict=True):
        slope = deltas[0] @ w.mT
        deltas.insert(0, _tanh_backward.grad_input(slope, h, grad_input=h) if spare else _tanh_backward(slope, h))
    return deltas


def _along(units: list[Tensor], weights: Sequence[Tensor], i: int) -> Tensor:
    """Derivatives (k, N) of the outputs by one input."""
    slope = weights[0][..., i : i + 1, :]
    for h, w in zip(units[1:], weights[1:], strict=True):
        slope = _tanh_backward(slope, h) @ w
    return slope.mT


def _first_order() -> None:
    """Raise where a derivative is to be differentiated again (``create_graph=True``): it would be taken as constant."""
    if torch.is_grad_enabled():
        raise SolverError(
            "A law that differentiates a network, and whose own derivatives are needed, must call the network's "
            "Perceptron (``net``): while equations are solved, a NeuralLaw or SharedNetwork has first derivatives only."
        )


class _ByInputs(Function):
    """``count`` outputs, with their derivatives ``slopes`` (count S, *common) by S inputs."""

    @staticmethod
    def forward(ctx, count, slopes, *tensors):
        ctx.slopes, ctx.shapes = slopes.unflatten(0, (count, -1)), [v.shape for v in tensors[count:]]
        ctx.set_materialize_grads(False)
        return tensors[:count]

    @staticmethod
    def backward(ctx, *g):
        _first_order()
        total = reduce(add, (one * slopes for one, slopes in zip(g, ctx.slopes, strict=True) if one is not None))
        return None, None, *g, *(t.sum_to_size(shape) for t, shape in zip(total, ctx.shapes, strict=True))


class _ByWeights(Function):
    """The outputs, with their derivatives by weights and biases; ``pieces``: what entered the layers."""

    @staticmethod
    def forward(ctx, members, pieces, *tensors):
        depth = len(pieces[0])
        ctx.made = members, pieces
        ctx.save_for_backward(*tensors[-2 * depth : -depth])
        return tensors[: -2 * depth]

    @staticmethod
    def backward(ctx, *g):
        _first_order()
        (members, pieces), weights = ctx.made, ctx.saved_tensors
        cotangents = _units(torch.stack(g), members)
        parts = zip(pieces, cotangents.split(_size(cotangents), dim=-2), strict=True)
        made = [_pull(units, weights, part) for units, part in parts]
        return None, None, *(None for _ in g), *(reduce(add, parts) for parts in zip(*made, strict=True))


def _pull(units: list[Tensor], weights: Sequence[Tensor], g: Tensor) -> list[Tensor]:
    """Derivatives by all weights, and then all biases, for cotangents g (N, k) of the outputs."""
    deltas = _deltas(units, weights, g)
    return [u.mT @ d for u, d in zip(units, deltas, strict=True)] + [d.sum(-2, keepdim=True) for d in deltas]
