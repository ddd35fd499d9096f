"""A perceptron of jets, many members at once: values and derivatives forward together, one backward pass by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from udehydro.errors import ConfigError
from udehydro.richards.pinn import activation
from udehydro.richards.pinn.jets import Orders


class Network(nn.Module):
    """Fully connected layers with tanh between them and, if ``adaptive``, a slope of its own for each activation.

    Slopes are those of Jagtap, Kawaguchi and Karniadakis (2020), layer by layer: tanh(s v), with s = 1 at the start.
    Weights start as in Glorot and Bengio (2010), biases at zero, each member from a seed of its own.

    Parameters
    ----------
    inputs, outputs : numbers of features and of quantities.
    width, depth : of the hidden layers.
    seeds : one for each member.
    adaptive : whether slopes are trained.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int = 1,
        *,
        width: int = 20,
        depth: int = 3,
        seeds: Sequence[int] = (0,),
        adaptive: bool = True,
    ):
        super().__init__()
        if min(inputs, outputs, width, depth, len(seeds)) < 1:
            raise ConfigError("A network needs at least one input, output, hidden layer, unit and seed.")
        sizes = [inputs, *[width] * depth, outputs]
        generators = [torch.Generator("cpu").manual_seed(int(s)) for s in seeds]
        self.sizes, self.seeds = tuple(sizes), tuple(int(s) for s in seeds)
        self.matrices, self.biases = nn.ParameterList(), nn.ParameterList()
        for a, b in zip(sizes, sizes[1:], strict=False):
            draws = [
                torch.randn(a, b, generator=g, dtype=torch.float64, device="cpu") * (2.0 / (a + b)) ** 0.5
                for g in generators
            ]
            self.matrices.append(nn.Parameter(torch.stack(draws)))
            self.biases.append(nn.Parameter(torch.zeros(len(seeds), b, dtype=torch.float64, device="cpu")))
        slopes = torch.ones(len(seeds), depth, dtype=torch.float64, device="cpu")
        self.slopes = nn.Parameter(slopes, requires_grad=adaptive)

    @property
    def members(self) -> int:
        return len(self.seeds)

    def weights(self) -> list[Tensor]:
        """Matrices (members, a, b) and biases (members, b) in turn, with slopes multiplied in."""
        found, last = [], len(self.matrices) - 1
        for i, (w, b) in enumerate(zip(self.matrices, self.biases, strict=True)):
            slope = 1.0 if i == last else self.slopes[:, i, None]
            found += [w if i == last else w * slope[..., None], b * slope]
        return found

    @torch.no_grad()
    def absorb(self) -> None:
        """Multiply slopes into the weights for good, so that :meth:`vector` has all there is."""
        for mine, whole in zip(self._in_turn(), self.weights(), strict=True):
            mine.copy_(whole)
        self.slopes.fill_(1.0)

    @torch.no_grad()
    def vector(self) -> Tensor:
        """All weights of each member in a row (members, P), in the order of :meth:`weights`."""
        return torch.cat([w.flatten(1) for w in self.weights()], dim=1)

    def split(self, x: Tensor) -> list[Tensor]:
        """Weights from rows (m, P)."""
        found, start = [], 0
        for w in self._in_turn():
            size = w[0].numel()
            found.append(x[:, start : start + size].reshape(len(x), *w.shape[1:]))
            start += size
        return found

    @torch.no_grad()
    def load(self, x: Tensor) -> None:
        """Set all weights to those of rows (members, P)."""
        self.slopes.fill_(1.0)
        for mine, new in zip(self._in_turn(), self.split(x), strict=True):
            mine.copy_(new)

    @property
    def size(self) -> int:
        """P, the number of weights of a member."""
        return sum(w[0].numel() for w in self._in_turn())

    def _in_turn(self) -> list[Tensor]:
        return [w for pair in zip(self.matrices, self.biases, strict=True) for w in pair]

    def forward(self, features: Tensor, orders: Orders, weights: Sequence[Tensor] | None = None) -> Tensor:
        """Jets (members, outputs, channel, n) at the jets of features (1 or members, inputs, channel, n)."""
        return _Jets.apply(features, orders, *(self.weights() if weights is None else weights))


class _Jets(torch.autograd.Function):
    """Jets of the outputs; the way back recomputes nothing and keeps one array per layer."""

    @staticmethod
    def forward(ctx, features, orders, *weights):
        ctx.orders, ctx.weights = orders, weights
        ctx.kept, out = run(features, orders, weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        found = [None] * len(ctx.weights)
        for i, delta, into in deltas(ctx.kept, ctx.weights, ctx.orders, grad):
            found[2 * i] = torch.bmm(into.flatten(2), delta.flatten(2).mT)
            found[2 * i + 1] = delta[:, :, 0].sum(-1)
        return None, None, *found


Kept = list[Tensor]
"""Features and, behind each activation, jets (members, width, channel, n). Points come last: there are enough of them
for what a processor does at once, which few units are not."""


class Scratch:
    """Arrays that one block of points takes after the other. New ones cost as much as a layer: the system gives fresh
    memory page by page."""

    def __init__(self):
        self.arrays: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, like: Tensor, *name: int) -> Tensor:
        """The array (members, width, channel, n) of a name that ends in this shape, with what was left in it."""
        found = self.arrays.get(name)
        if found is None:
            found = self.arrays[name] = like.new_empty(name[-4:])
        return found


def fresh(like: Tensor, *name: int) -> Tensor:
    return like.new_empty(name[-4:])


@torch.no_grad()
def run(features: Tensor, orders: Orders, weights: Sequence[Tensor], array=fresh) -> tuple[Kept, Tensor]:
    """All layers forward; ``array`` makes arrays, or takes them from a :class:`Scratch`."""
    members, (channels, n) = len(weights[0]), features.shape[2:]
    kept: Kept = [features.expand(members, -1, -1, -1).contiguous()]
    for w, b in zip(weights[::2], weights[1::2], strict=True):
        v = array(w, len(kept), members, w.shape[-1], channels, n)
        torch.bmm(w.mT, kept[-1].flatten(2), out=v.flatten(2))
        v[:, :, 0].add_(b.unsqueeze(-1))
        if 2 * len(kept) == len(weights):
            return kept, v
        activation.forward(v, orders.pairs)
        kept.append(v)
    raise AssertionError("a network has layers")


def deltas(kept: Kept, weights: Sequence[Tensor], orders: Orders, grad: Tensor, array=fresh):
    """From the last layer to the first: its number, derivatives by its jets before activation, and its inputs."""
    g = grad.contiguous()
    for i in range(len(kept) - 1, -1, -1):
        yield i, g, kept[i]
        if i:
            back = array(g, -1 - i % 2, *kept[i].shape)
            torch.bmm(weights[2 * i].detach(), g.flatten(2), out=back.flatten(2))
            activation.backward(kept[i], back, orders.pairs)
            g = back


@torch.no_grad()
def add_gradient(kept: Kept, weights: Sequence[Tensor], orders: Orders, grad: Tensor, array=fresh) -> None:
    """Add to ``grad`` of all weights the derivatives of a number, from those by its jets."""
    for i, delta, into in deltas(kept, weights, orders, grad, array):
        weights[2 * i].grad.baddbmm_(into.flatten(2), delta.flatten(2).mT)
        weights[2 * i + 1].grad += delta[:, :, 0].sum(-1)


def by_sample(kept: Kept, weights: Sequence[Tensor], orders: Orders, grad: Tensor, out: Tensor) -> None:
    """Write to ``out`` (members, n, P) derivatives of a number of each point by all weights, from those by its jets."""
    sizes = [w[0].numel() for w in weights]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    for i, delta, into in deltas(kept, weights, orders, grad):
        (a, channels, n), b = into.shape[1:], delta.shape[1]
        outer = into.movedim(-1, 1).reshape(-1, a, channels) @ delta.permute(0, 3, 2, 1).reshape(-1, channels, b)
        out[..., starts[2 * i] : starts[2 * i] + sizes[2 * i]] = outer.reshape(-1, n, sizes[2 * i])
        out[..., starts[2 * i + 1] : starts[2 * i + 1] + b] = delta[:, :, 0].mT
