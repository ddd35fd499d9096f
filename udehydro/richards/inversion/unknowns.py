"""The search vector of an inversion: free values of a column in a row, and back."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.forcing import Forcing
from udehydro.richards.inversion.free import Coordinate, Free
from udehydro.richards.inversion.setting import Setting, places, put


@dataclass(frozen=True, eq=False)
class Unknown:
    """A free value: its places, how it is searched, and where its D values begin among those of a column."""

    free: Free
    keys: tuple
    label: str
    coordinate: Coordinate
    first: int
    in_time: bool

    @property
    def place(self) -> slice:
        return slice(self.first, self.first + self.free.size)


class Unknowns:
    """All free values of a setting.

    Every column has D of them in a row, z (columns, D); x (members, P) holds each once. Columns that share no unknown
    are members of their own, with x = z; else there is one member.

    Attributes
    ----------
    names : of the P values of a member.
    start, low, high, precision : (members, P) of what is searched, which is the logarithm of the magnitude where limits
        are of one sign and far apart; precision is one over the squared standard deviation of the prior, or 0.
    logarithmic : (P,) whether it is.
    """

    def __init__(self, setting: Setting, forcing: Forcing, weights: float | None):
        self.setting, self.batch, self.columns = setting, forcing.batch, prod(forcing.batch)
        self.items = _find(setting)
        self.weights = [] if weights is None else [w.detach() for w in setting.column.weights()]
        if not self.items and not self.weights:
            raise ConfigError("Nothing is to be found: put Free(start) in place of a value of p, psi0 or a boundary.")
        count = sum(u.free.size for u in self.items) + sum(w.numel() for w in self.weights)
        self.along_count = count
        own = self._own()
        self.apart = self.columns == 1 or bool(own.all())
        where, names = self._map(own)
        self.like, self.where = forcing.like, where.to(forcing.like.device)
        self.names = tuple(names)
        self.start = self.pack(self._row(lambda u: u.coordinate.forward(u.free.start), lambda w: w))
        self.low = self.pack(self._row(lambda u: u.coordinate.bounds[0], lambda w: -torch.inf))
        self.high = self.pack(self._row(lambda u: u.coordinate.bounds[1], lambda w: torch.inf))
        known = 0.0 if weights is None else weights**-2
        self.precision = self.pack(
            self._row(lambda u: 0.0 if u.free.prior is None else u.free.prior**-2, lambda w: known)
        )
        self.logarithmic = self.pack(self._row(lambda u: abs(u.coordinate.sign), lambda w: 0.0))[0] > 0.0

    def pack(self, z: Tensor) -> Tensor:
        """(columns, D) -> (members, P)."""
        if self.apart:
            return z
        x = z.new_empty(1, len(self.names))
        x[0, self.where.flatten()] = z.flatten()
        return x

    def spread(self, x: Tensor) -> Tensor:
        """(members, P) -> (columns, D)."""
        return x if self.apart else x[0][self.where]

    def join(self, slopes: Tensor) -> Tensor:
        """Derivatives (columns, D, N) of the series of columns -> (members, P, columns / members x N)."""
        if self.apart:
            return slopes
        columns, _, n = slopes.shape
        joined = slopes.new_zeros(len(self.names), columns, n)
        every = torch.arange(columns, device=slopes.device).unsqueeze(1).expand_as(self.where)
        joined.index_put_((self.where, every), slopes, accumulate=True)
        return joined.flatten(1).unsqueeze(0)

    def physical(self, x: Tensor) -> Tensor:
        """Values (members, P) of what is searched."""
        z, found = self.spread(x), []
        for u in self.items:
            found.append(u.coordinate.back(z[:, u.place]))
        found.append(z[:, sum(u.free.size for u in self.items) :])
        return self.pack(torch.cat(found, dim=1))

    def put(self, x: Tensor) -> Setting:
        """The setting with numbers at x."""
        z = self.spread(x)
        return put(self.setting, {id(u.free): self._shaped(u, u.coordinate.back(z[:, u.place])) for u in self.items})

    def keep(self, x: Tensor, which) -> Setting:
        """The setting at x in which only the values of places (keys) that ``which`` answers for stay free."""
        z, numbers = self.spread(x), {}
        for u in self.items:
            values = u.coordinate.back(z[:, u.place])
            numbers[id(u.free)] = self._shaped(u, values)
            if any(which(key) for key in u.keys):
                start = values.reshape(*self.batch, -1) if u.free.lead else values[0]
                start = start if u.free.spread is not None else start.squeeze(-1)
                numbers[id(u.free)] = replace(u.free, start=start)
        return put(self.setting, numbers)

    def put_weights(self, x: Tensor) -> None:
        """Set the weights of the column's laws to those at x."""
        if self.weights:
            z, start = self.spread(x)[0], sum(u.free.size for u in self.items)
            for w in self.setting.column.weights():
                w.data.copy_(z[start : start + w.numel()].reshape(w.shape))
                start += w.numel()

    @contextmanager
    def weights_at(self, x: Tensor):
        """Within it, the weights of the column's laws are those at x."""
        before = [w.detach().clone() for w in self.setting.column.weights()] if self.weights else []
        try:
            self.put_weights(x)
            yield
        finally:
            for w, old in zip(self.setting.column.weights(), before, strict=False):
                w.data.copy_(old)

    def along(self, x: Tensor) -> dict:
        """Changes of values along D directions, as :func:`~udehydro.richards.column.flow_along` takes them."""
        z, found, start = self.spread(x), {}, 0
        for u in self.items:
            slope = u.coordinate.slope(z[:, u.place])
            moves = torch.stack([self._shaped(u, slope * one) for one in torch.eye(u.free.size).to(slope)])
            for key in u.keys:
                change = moves.new_zeros(self.along_count, *moves.shape[1:])
                change[u.place] = moves
                found[key] = change
            start = u.place.stop
        for i, w in enumerate(self.weights):
            change = w.new_zeros(self.along_count, w.numel())
            change[start : start + w.numel()] = torch.eye(w.numel()).to(w)
            found[i] = change.reshape(self.along_count, *w.shape)
            start += w.numel()
        return found

    def _own(self) -> Tensor:
        """(D,) whether every column has its own."""
        flags = [bool(u.free.lead) for u in self.items for _ in range(u.free.size)]
        return torch.tensor(flags + [False] * sum(w.numel() for w in self.weights))

    def _map(self, own: Tensor) -> tuple[Tensor, list[str]]:
        """Where in x the values of every column are (columns, D), and the names of x."""
        labels = [n for u in self.items for n in _numbered(u.label, u.free.size)]
        labels += [
            n for i, w in enumerate(self.weights) for n in _numbered(f"weights {i}", max(w.numel(), 2))[: w.numel()]
        ]
        if self.apart:
            return torch.arange(len(labels)).expand(self.columns, -1), labels
        where, names = torch.empty(self.columns, len(labels), dtype=torch.long), []
        for d, label in enumerate(labels):
            if own[d]:
                where[:, d] = len(names) + torch.arange(self.columns)
                names += [f"{label} of column {c}" for c in range(self.columns)]
            else:
                where[:, d] = len(names)
                names.append(label)
        return where, names

    def _row(self, of_item, of_weight) -> Tensor:
        """z (columns, D) of something of every free value."""
        rows = []
        for u in self.items:
            value = torch.as_tensor(of_item(u), dtype=torch.float64)
            if u.free.spread is None and value.ndim:
                value = value.unsqueeze(-1)
            lead = self.batch if u.free.lead else (1,) * len(self.batch)
            value = value.expand(*lead, u.free.size).expand(*self.batch, u.free.size)
            rows.append(value.reshape(self.columns, -1))
        for w in self.weights:
            value = torch.as_tensor(of_weight(w), dtype=torch.float64)
            rows.append((value.flatten() if value.ndim else value.expand(w.numel())).expand(self.columns, -1))
        return torch.cat(rows, dim=1).to(self.like)

    def _shaped(self, u: Unknown, values: Tensor) -> Tensor:
        """Values of an unknown (columns, k) in the shape of the place they belong to."""
        values = values.reshape(*self.batch, -1) if u.free.lead else values[0]
        if u.free.spread is None:
            by_cell = u.free.lead and isinstance(u.keys[0], str)
            return values if by_cell else values.squeeze(-1)
        values = values @ u.free.spread.to(values).T
        if not u.in_time:
            return values
        return values.movedim(-1, 0) if u.free.lead else values.reshape(-1, *(1,) * len(self.batch))


def _numbered(label: str, count: int) -> list[str]:
    return [label] if count == 1 else [f"{label}[{i}]" for i in range(count)]


def _find(setting: Setting) -> list[Unknown]:
    found: dict[int, dict] = {}
    for key, label, value, range_, in_time in places(setting):
        if isinstance(value, Free):
            at = found.setdefault(
                id(value), {"free": value, "label": label, "keys": [], "range": range_, "in_time": in_time}
            )
            at["keys"].append(key)
    items, first = [], 0
    for at in found.values():
        if len(at["keys"]) > 1 and all(k[0] == "soil" for k in at["keys"]):
            at["label"] = at["keys"][0][2]
        coordinate = at["free"].within(at.pop("range"), at["label"])
        items.append(Unknown(at["free"], tuple(at["keys"]), at["label"], coordinate, first, at["in_time"]))
        first += at["free"].size
    return items
