"""The search of a curve fit: the search vector of a soil law, and its curves and their derivatives at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacfwd, vmap

from udehydro.errors import ConfigError, DataError
from udehydro.richards.inversion.free import Coordinate, Free
from udehydro.richards.inversion.points import Points, tensor
from udehydro.richards.laws.base import SoilLaw
from udehydro.structure import suggest
from udehydro.training.levenberg import Normal


class Curves(nn.Module):
    """Both curves of a law as one module, to differentiate them by its weights."""

    def __init__(self, law: SoilLaw):
        super().__init__()
        self.law = law

    def forward(self, p, wet: Tensor, flowing: Tensor) -> tuple[Tensor, Tensor]:
        return self.law.theta(wet, p), self.law.log_conductivity(flowing, p)


class _Item(NamedTuple):
    """A free value with the names of the parameters that it is."""

    free: Free
    names: tuple[str, ...]
    coordinate: Coordinate


class Search:
    """The search vector x (sample, P): free parameters, then weights; and the curves of a law at it.

    Attributes
    ----------
    start (sample, P), low, high (P,) ; precision (P, P) of what is known beforehand.
    fixed : parameters that are known, (sample,) each.
    """

    def __init__(self, law: SoilLaw, p: Mapping, points: Mapping[str, Points], weights: float | None, smooth: Mapping):
        if not isinstance(law, SoilLaw):
            raise ConfigError(f"fit_curves needs a SoilLaw, got {type(law).__name__}.")
        self.law, self.given = law, {n: v if isinstance(v, Free) else tensor(v) for n, v in p.items()}
        self.items = self._items()
        self.shapes = {} if weights is None else {n: w.shape for n, w in law.named_parameters()}
        for what, sd in {"weights": weights, **smooth}.items():
            if sd is not None and not sd > 0.0:
                raise ConfigError(f"{what}={sd} is a standard deviation: above zero.")
        if not self.items and not self.shapes:
            raise ConfigError("Nothing is to be found: put Free(start) in place of a value of p, or weights=sd.")
        self.samples, self.several = self._samples(points)
        self.points = {n: q.spread(self.samples) for n, q in points.items()}
        self.fixed = {n: v.expand(self.samples) for n, v in self.given.items() if isinstance(v, Tensor)}
        self._begin(weights, smooth)
        self._check_told()

    def one(self, values: Tensor) -> Tensor:
        """Without the axis of samples, if there is one sample."""
        return values if self.several else values[0]

    def physical(self, x: Tensor) -> dict[str, Tensor | float]:
        """All parameters at x (sample, P), within limits to the last bit."""
        limited = [
            i.coordinate.back(x[:, k]).clamp(i.coordinate.low, i.coordinate.high) for k, i in enumerate(self.items)
        ]
        free = {n: self.one(v) for i, v in zip(self.items, limited, strict=True) for n in i.names}
        return {n: free.get(n, v) for n, v in self.given.items()}

    def weights(self, x: Tensor) -> dict[str, Tensor]:
        """Of one sample, at x (P,)."""
        parts = x[len(self.items) :].split([s.numel() for s in self.shapes.values()])
        return {n: w.reshape(s) for (n, s), w in zip(self.shapes.items(), parts, strict=True)}

    def curves(self, x: Tensor, fixed, wet: Tensor, flowing: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Water contents at heads ``wet``, logarithms of conductivity at ``flowing`` (sample, N), and
        derivatives (sample, N, P)."""
        ask = Curves(self.law)

        def one(x, fixed, wet, flowing):
            p = fixed | {n: i.coordinate.back(x[k]) for k, i in enumerate(self.items) for n in i.names}
            weights = {f"law.{n}": w for n, w in self.weights(x).items()}
            found = functional_call(ask, weights, (p, wet, flowing))
            return found, tuple(f.detach() for f in found)

        slopes, found = vmap(jacfwd(one, has_aux=True))(x, fixed, wet, flowing)
        return found, slopes

    def evaluate(self, x: Tensor, index: Tensor) -> Normal:
        points = [Points(*(t[index] for t in q[:4]), q.several) for q in self.points.values()]
        fixed = {n: v[index] for n, v in self.fixed.items()}
        found, slopes = self.curves(x, fixed, *(q.psi for q in points))
        weight = [q.measured / q.sigma for q in points]
        gaps = [w * (f - q.values) for w, f, q in zip(weight, found, points, strict=True)]
        gap = torch.cat(gaps, -1)
        jacobian = torch.cat([w[..., None] * s for w, s in zip(weight, slopes, strict=True)], 1)
        off = x - self.start[index]
        pull = off @ self.precision
        parts = torch.stack([*(g.square().sum(-1) for g in gaps), (off * pull).sum(-1)], -1)
        gradient = (jacobian.mT @ gap.unsqueeze(-1)).squeeze(-1) + pull
        chi2 = parts.sum(-1)
        bad = ~(chi2.isfinite() & jacobian.isfinite().flatten(1).all(-1))
        return Normal(torch.where(bad, torch.inf, chi2), gradient, jacobian.mT @ jacobian + self.precision, parts)

    def _items(self) -> list[_Item]:
        found: dict[int, list[str]] = {}
        for name, value in self.given.items():
            if isinstance(value, Free):
                if name not in self.law.ranges:
                    raise ConfigError(f"{type(self.law).__name__} has no '{name}'.{suggest(name, self.law.ranges)}")
                if value.spread is not None:
                    raise ConfigError(f"'{name}' is one number of a sample: spread= has no meaning here.")
                found.setdefault(id(value), []).append(name)
        items = [(self.given[names[0]], tuple(names)) for names in found.values()]
        return [_Item(f, names, f.within(self.law.ranges[names[0]], names[0])) for f, names in items]

    def _samples(self, points: Mapping[str, Points]) -> tuple[int, bool]:
        values = {n: v.start if isinstance(v, Free) else v for n, v in self.given.items()}
        sizes = {n: v.shape[0] if v.ndim == 1 else -1 for n, v in values.items() if v.ndim}
        sizes |= {n: q.psi.shape[0] for n, q in points.items() if q.several}
        if len(set(sizes.values())) > 1 or -1 in sizes.values():
            raise DataError(f"Samples come first, and are as many everywhere; got {sizes}.")
        samples = next(iter(sizes.values()), 1)
        for item in self.items:
            if samples > 1 and not item.free.start.ndim:
                raise ConfigError(
                    f"Samples share no unknown: '{item.names[0]}' needs a start for each, "
                    f"Free(torch.full(({samples},), {float(item.free.start):g}))."
                )
        return samples, bool(sizes)

    def _begin(self, weights: float | None, smooth: Mapping) -> None:
        count = sum(s.numel() for s in self.shapes.values())
        held = dict(self.law.named_parameters())
        start = [i.coordinate.forward(i.free.start).expand(self.samples) for i in self.items]
        own = [held[n].detach().to(torch.float64).flatten() for n in self.shapes]
        flat = torch.cat(own) if own else torch.empty(0, dtype=torch.float64)
        columns = torch.stack(start, -1) if start else flat.new_empty(self.samples, 0)
        self.start = torch.cat([columns, flat.expand(self.samples, -1)], 1)
        self.names = (*(i.names[0] for i in self.items), *(f"weight {i}" for i in range(count)))
        bounds = [i.coordinate.bounds for i in self.items] + [(-torch.inf, torch.inf)] * count
        self.low, self.high = torch.tensor(bounds, dtype=torch.float64).unbind(-1)
        known = [0.0 if i.free.prior is None else i.free.prior**-2 for i in self.items]
        known += [] if weights is None else [weights**-2] * count
        self.precision = torch.diag(torch.tensor(known, dtype=torch.float64))
        for prefix, sd in smooth.items():
            at = self._neighbours(prefix)
            differ = torch.eye(len(self.names), dtype=torch.float64)[at].diff(dim=0) / sd
            self.precision = self.precision + differ.T @ differ

    def _neighbours(self, prefix: str) -> list[int]:
        at = {
            int(n[len(prefix) :]): k
            for k, n in enumerate(self.names)
            if n.startswith(prefix) and n[len(prefix) :].isdigit()
        }
        if len(at) < 2:
            raise ConfigError(f"smooth: there are no free values {prefix}1, {prefix}2, ... to have neighbours.")
        return [at[i] for i in sorted(at)]

    def _check_told(self) -> None:
        """Refuse what points and priors cannot tell."""
        points = self.points.values()
        found, slopes = self.curves(self.start, self.fixed, *(q.psi for q in points))
        if any(f.shape != q.psi.shape for f, q in zip(found, points, strict=True)):
            raise ConfigError("The law has members: give one without, every sample has weights of its own.")
        told = torch.cat([q.measured[..., None] * s for q, s in zip(points, slopes, strict=True)], 1)
        blind = (told == 0.0).flatten(0, 1).all(0) & (self.precision.diagonal() == 0.0)
        if bool(blind.any()):
            names = ", ".join(n for n, b in zip(self.names, blind.tolist(), strict=True) if b)
            raise ConfigError(
                f"Where the search starts, no point tells of {names}: give points that do, another start, a prior, "
                "Free(prior=), or a number."
            )
        free = len(self.names) - int(torch.linalg.matrix_rank(self.precision))
        count = sum(q.measured.sum(-1) for q in points)
        if bool((count < free).any()):
            where = f" (sample {int(count.argmin())})" if self.several else ""
            raise ConfigError(
                f"{int(count.min())} points{where} cannot tell {free} values of which nothing is known beforehand: "
                "give priors, Free(prior=), leave fewer free, or measure more."
            )
