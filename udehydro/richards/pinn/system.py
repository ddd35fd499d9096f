"""A system of residuals: terms at points, their gradient, and their normal equations.

A point belongs to one row of a term, so that one backward pass of the sum of all rows has the derivatives of each by
its jets; by_sample of :mod:`.network` takes them on to the weights, without a loop over points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from udehydro.richards.pinn.field import Field
from udehydro.richards.pinn.jets import Jet, Orders
from udehydro.richards.pinn.network import Scratch, add_gradient, by_sample, fresh, run
from udehydro.training.levenberg import Normal

BLOCK, MOST = 500, 4000
"""Points of which normal equations are made at once; most points of which a gradient is."""
CACHE = 8_000_000
"""Bytes of jets that are worked on at once for a gradient, so that they stay in the cache."""

Outputs = Sequence[Sequence[Jet]]
"""Jets of the outputs of each field that a term asks for."""


@dataclass(frozen=True, eq=False)
class Term:
    """Residuals at points.

    Attributes
    ----------
    points : (n, D), time first; the same for all members, and frozen for as long as the system lives.
    rows : residuals (members, n / group, R) in units of their standard deviation, from the jets of the outputs of
        ``fields`` at the points, other unknowns (members, 1 or n, Q), and which points and which members these are.
    mean : whether the weight is divided by the number of rows.
    group : points that make one row; they follow each other.
    count : of data, how many there are of each member (members or 1,); None where a point is one.
    """

    name: str
    points: Tensor
    fields: tuple[int, ...]
    orders: Orders
    rows: Callable[[Outputs, Tensor, slice, Tensor], Tensor]
    weight: float = 1.0
    mean: bool = True
    group: int = 1
    count: Tensor | None = None

    @property
    def scale(self) -> float:
        """What residuals are multiplied by."""
        return (self.weight / (len(self.points) // self.group if self.mean else 1)) ** 0.5

    def blocks(self, points: int = BLOCK) -> list[slice]:
        """About so many points each, whole groups."""
        size = max(points // self.group, 1) * self.group
        return [slice(a, min(a + size, len(self.points))) for a in range(0, len(self.points), size)]


@dataclass(eq=False)
class Extra:
    """Unknowns beside the fields (members, Q), such as those of the soil: values, limits, what they are likely to be,
    and one over the squared standard deviation of that (0 where nothing is known)."""

    values: Tensor
    low: Tensor
    high: Tensor
    likely: Tensor
    precision: Tensor

    @classmethod
    def none(cls, members: int, like: Tensor) -> Extra:
        return cls(*(like.new_zeros(members, 0) for _ in range(5)))

    def to(self, device: torch.device | str) -> Extra:
        return Extra(*(getattr(self, f.name).to(device) for f in fields(self)))


class System:
    """Fields and terms over one search vector x (members, P): weights of the fields in turn, then other unknowns.

    Parameters
    ----------
    fields, terms : what is sought and what it has to fulfil.
    extra : unknowns beside the fields.
    """

    def __init__(self, fields: Sequence[Field], terms: Sequence[Term], extra: Extra | None = None):
        self.fields, self.terms = list(fields), list(terms)
        network = self.fields[0].network
        self.extra = extra or Extra.none(network.members, network.matrices[0])
        self.prepared = [[self.fields[f].prepare(t.points, t.orders) for f in t.fields] for t in self.terms]
        self.scratch = [Scratch() for _ in range(max(len(t.fields) for t in self.terms))]
        sizes = [f.network.size for f in self.fields]
        edges = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        self.places = [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]
        self.last = slice(edges[-1], edges[-1] + self.extra.values.shape[1])

    @property
    def names(self) -> list[str]:
        """Of the series that chi2 is made of: terms, numbered where two have the same name, and what is known of other
        unknowns, if any are."""
        names = [t.name for t in self.terms]
        own = [n if names.count(n) == 1 else f"{n} ({names[:i].count(n) + 1})" for i, n in enumerate(names)]
        return own + ["known beforehand"] * (self.last.stop > self.last.start)

    def start(self) -> Tensor:
        """The search vector at the present weights."""
        return torch.cat([*(f.network.vector() for f in self.fields), self.extra.values], dim=1)

    def limits(self) -> tuple[Tensor, Tensor]:
        """Of the search vector."""
        low = torch.full_like(self.start(), -torch.inf)
        high = -low
        low[:, self.last], high[:, self.last] = self.extra.low, self.extra.high
        return low, high

    def load(self, x: Tensor) -> None:
        """Put a search vector back into the fields."""
        for f, place in zip(self.fields, self.places, strict=True):
            f.network.load(x[:, place])
        self.extra.values = x[:, self.last].clone()

    def loss(self, weights: Sequence[Sequence[Tensor]], extra: Tensor) -> Tensor:
        """Half of chi2 by term (terms, members), its gradient added to that of ``weights`` and ``extra``, leaves."""
        found, every = [], torch.arange(len(extra), device=extra.device)
        for w in (w for several in weights for w in several if w.grad is None):
            w.grad = torch.zeros_like(w)
        for term, prepared in zip(self.terms, self.prepared, strict=True):
            total = 0.0
            for part in term.blocks(self._cached(term)):
                kept, leaves, outputs = self._open(term, prepared, weights, part, self.scratch)
                rows = term.scale * term.rows(outputs, extra.unsqueeze(1), part, every)
                half = 0.5 * (rows**2).sum((1, 2))
                half.sum().backward()
                total = total + half.detach()
                for (i, layers), jets, array in zip(kept, leaves, self.scratch, strict=False):
                    if jets.grad is not None:
                        add_gradient(layers, weights[i], term.orders, jets.grad, array)
            found.append(total)
        if extra.shape[1]:
            off = 0.5 * (self.extra.precision * (extra - self.extra.likely) ** 2).sum(1)
            off.sum().backward()
            found.append(off.detach())
        return torch.stack(found)

    def normal(self, x: Tensor, index: Tensor | None = None) -> Normal:
        """Normal equations of members (``index``, or all) with vectors x (m, P); infinite chi2 where something is not
        finite."""
        index = torch.arange(len(x), device=x.device) if index is None else index
        m, size = x.shape
        matrix, gradient = x.new_zeros(m, size, size), x.new_zeros(m, size)
        weights = self._split(x)
        parts = []
        for term, prepared in zip(self.terms, self.prepared, strict=True):
            chi2 = x.new_zeros(m)
            for part in term.blocks():
                places, residual, jacobian = self._rows(term, prepared, weights, x[:, self.last], part, index)
                chi2 += (residual**2).sum(1)
                right = (jacobian.mT @ residual.unsqueeze(-1)).squeeze(-1)
                square = jacobian.mT @ jacobian
                inner = _joined(places)
                for p, at in zip(places, inner, strict=True):
                    gradient[:, p] += right[:, at]
                    for q, to in zip(places, inner, strict=True):
                        matrix[:, p, q] += square[:, at, to]
            parts.append(chi2)
        if self.last.stop > self.last.start:
            precision, off = self.extra.precision[index], x[:, self.last] - self.extra.likely[index]
            parts.append((precision * off**2).sum(1))
            gradient[:, self.last] += precision * off
            matrix[:, self.last, self.last].diagonal(dim1=1, dim2=2).add_(precision)
        series = torch.stack(parts, dim=1)
        bad = ~(series.isfinite().all(1) & gradient.isfinite().all(1))
        chi2 = torch.where(bad, torch.inf, series.sum(1))
        return Normal(chi2, gradient, matrix, series)

    def residuals(self, x: Tensor) -> list[Tensor]:
        """Residuals (m, n, R) of every term at x, in units of their standard deviation."""
        every = torch.arange(len(x), device=x.device)
        weights = self._split(x)
        found = []
        for term, prepared in zip(self.terms, self.prepared, strict=True):
            rows = []
            for part in term.blocks():
                outputs = self._outputs(term, prepared, weights, part)
                rows.append(term.rows(outputs, x[:, self.last].unsqueeze(1), part, every).detach())
            found.append(torch.cat(rows, dim=1))
        return found

    def chi2(self, x: Tensor) -> Tensor:
        """chi2 (members, series) at x (members, P), as the parts of :meth:`normal`."""
        found = [(t.scale * r).square().sum((1, 2)) for t, r in zip(self.terms, self.residuals(x), strict=True)]
        if self.last.stop > self.last.start:
            found.append((self.extra.precision * (x[:, self.last] - self.extra.likely) ** 2).sum(1))
        return torch.stack(found, dim=1)

    def of_data(self, parts: Tensor) -> Tensor:
        """chi2 (members,) of data alone, from chi2 by term."""
        return parts[:, [i for i, t in enumerate(self.terms) if not t.mean]].sum(1)

    def sizes(self, parts: Tensor) -> Tensor:
        """Root mean squares (members, series) from chi2 by term: of the residuals of a point in units of the scales, of
        data in units of sigma, of other unknowns in units of what is known beforehand."""
        counts = [t.weight if t.mean else len(t.points) if t.count is None else t.count for t in self.terms]
        if self.last.stop > self.last.start:
            counts.append((self.extra.precision > 0.0).sum(1).clamp_min(1))
        return torch.stack([p / n for p, n in zip(parts.unbind(1), counts, strict=True)], dim=1).sqrt()

    def _split(self, x: Tensor) -> list[list[Tensor]]:
        """Weights of the fields from a search vector."""
        return [f.network.split(x[:, place]) for f, place in zip(self.fields, self.places, strict=True)]

    def _outputs(self, term: Term, prepared, weights, part: slice) -> Outputs:
        """Jets that a term asks for at some of its points, of all members."""
        outputs = []
        for i, p in zip(term.fields, prepared, strict=True):
            here, field = p.take(part), self.fields[i]
            channels = field.network(here.features, term.orders, weights[i])
            outputs.append(field.outputs(here, channels, term.orders))
        return outputs

    def _cached(self, term: Term) -> int:
        """Points whose jets fit into the cache."""
        w = self.fields[0].network
        size = w.members * term.orders.channels * sum(w.sizes[1:-1]) * w.matrices[0].element_size()
        return min(max(CACHE // size, BLOCK // 2), MOST)

    def _open(self, term: Term, prepared, weights, part: slice, arrays, index: Tensor | None = None):
        """Layers of the fields of a term at points, jets of their networks, which are leaves, and of their outputs."""
        kept, leaves, outputs = [], [], []
        for i, p, array in zip(term.fields, prepared, arrays, strict=False):
            here = p.take(part, index)
            layers, channels = run(here.features, term.orders, weights[i], array)
            channels = channels.detach().requires_grad_()  # a leaf of its own: the array is used again
            leaves.append(channels)
            kept.append((i, layers))
            outputs.append(self.fields[i].outputs(here, channels, term.orders))
        return kept, leaves, outputs

    def _rows(self, term: Term, prepared, weights, extra: Tensor, part: slice, index: Tensor):
        """Where derivatives belong, residuals (m, n R) and derivatives (m, n R, P) of points."""
        kept, leaves, outputs = self._open(term, prepared, weights, part, [fresh] * len(prepared), index)
        n = part.stop - part.start
        if extra.shape[1]:
            leaves.append(extra.unsqueeze(1).expand(-1, n, -1).clone().requires_grad_())
        other = leaves[-1] if extra.shape[1] else extra.unsqueeze(1)
        rows = term.scale * term.rows(outputs, other, part, index)
        places = [self.places[i] for i, _ in kept] + ([self.last] if extra.shape[1] else [])
        inner, count = _joined(places), rows.shape[-1]
        jacobian = rows.new_empty(len(extra), n, count, inner[-1].stop)
        for k in range(count):
            grads = torch.autograd.grad(
                rows[..., k].sum(), leaves, retain_graph=k + 1 < count, allow_unused=True, materialize_grads=True
            )
            for (i, layers), g, at in zip(kept, grads, inner, strict=False):
                by_sample(layers, weights[i], term.orders, g, jacobian[:, :, k, at])
            if extra.shape[1]:
                jacobian[:, :, k, inner[-1]] = grads[-1]
        if term.group > 1:
            jacobian = jacobian.unflatten(1, (-1, term.group)).sum(2)
        return places, rows.detach().flatten(1), jacobian.flatten(1, 2)


def _joined(places: Sequence[slice]) -> list[slice]:
    """Where places are when they stand one after the other."""
    edges = [0]
    for p in places:
        edges.append(edges[-1] + p.stop - p.start)
    return [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]
