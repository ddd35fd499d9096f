"""Forcing: named, unit-bearing series, constant within each interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from udehydro.errors import DataError
from udehydro.structure import suggest

DAY = np.timedelta64(1, "D") / np.timedelta64(1, "ns")
ORIGIN = np.datetime64("2000-01-01", "ns")
"""Date of day 0 of a record whose edges are numbers of days."""


@dataclass(frozen=True)
class Forcing:
    """Forcing of T contiguous intervals.

    Parameters
    ----------
    values : name -> Tensor (T, *batch); ``batch`` is ``()``, ``(basin,)`` or ``(member, basin)``.
    units : name -> unit.
    time_edge : (T + 1,) datetime64, edges of the intervals: interval k runs from edge k to edge k + 1.
    basins : names along the last batch dimension, for messages and output.
    members : names along the first of two batch dimensions.

    Raises
    ------
    DataError
        For shapes that differ, edges that do not increase, and values that are not finite (named with basin and date).
    """

    values: Mapping[str, Tensor]
    units: Mapping[str, str]
    time_edge: np.ndarray
    basins: tuple[str, ...] = ()
    members: tuple[str, ...] = ()

    def __post_init__(self):
        edges = np.asarray(self.time_edge, dtype="datetime64[ns]")
        object.__setattr__(self, "time_edge", edges)
        if len(edges) < 2 or not (np.diff(edges) > np.timedelta64(0)).all():
            raise DataError("Forcing needs at least one interval and strictly increasing time edges.")
        shapes = {n: tuple(v.shape) for n, v in self.values.items()}
        if not shapes or len(set(shapes.values())) != 1 or next(iter(shapes.values()))[0] != len(edges) - 1:
            raise DataError(f"Forcings need one common shape (T={len(edges) - 1}, *batch), got {shapes}.")
        if self.basins and self.basins != tuple(str(b) for b in self.basins):
            object.__setattr__(self, "basins", tuple(str(b) for b in self.basins))
        if self.basins and (not self.batch or self.batch[-1] != len(self.basins)):
            raise DataError(f"{len(self.basins)} basin names for a batch of shape {self.batch}.")
        self._check_finite()

    def _check_finite(self) -> None:
        for name, value in self.values.items():
            if value.is_meta or bool(torch.isfinite(value).all()):
                continue
            where = (~torch.isfinite(value)).nonzero()
            k, *element = where[0].tolist()
            raise DataError(
                f"Forcing '{name}' has {len(where)} missing or infinite value(s), first in {self.label(k, element)}: "
                "fill or drop them before simulating (udehydro.data.fill_gaps)."
            )

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape behind time: (), (basin,) or (member, basin)."""
        return tuple(next(iter(self.values.values())).shape[1:])

    @property
    def like(self) -> Tensor:
        """A tensor whose device and dtype everything follows."""
        return next(iter(self.values.values()))

    @property
    def time(self) -> np.ndarray:
        """Starts of the intervals (T,)."""
        return self.time_edge[:-1]

    @property
    def days(self) -> Tensor:
        """Length of every interval (T,), days."""
        days = np.diff(self.time_edge) / np.timedelta64(1, "ns") / DAY
        return torch.as_tensor(days, dtype=self.like.dtype, device=self.like.device)

    def __len__(self) -> int:
        return len(self.time_edge) - 1

    def label(self, k: int, element: Sequence[int] = ()) -> str:
        """``basin 01013500, 1983-04-02`` for messages."""
        parts = []
        if len(element) > 1:
            parts.append(f"member {self.members[element[0]] if self.members else element[0]}")
        if element and self.basins:
            parts.append(f"basin {self.basins[element[-1]]}")
        elif element and not self.members:
            parts.append(f"batch element {tuple(element)}")
        return ", ".join([*parts, date(self.time_edge[k])])

    def tensors(self, names: Sequence[str]) -> tuple[Tensor, ...]:
        """Series by name, in order; an unknown name is an error that lists what there is."""
        for name in names:
            if name not in self.values:
                raise DataError(f"The model needs forcing '{name}', which the data lack.{suggest(name, self.values)}")
        return tuple(self.values[n] for n in names)

    def isel(self, time: slice) -> Forcing:
        """Intervals ``time.start`` to ``time.stop`` (a slice without step)."""
        start, stop, _ = time.indices(len(self))
        values = {n: v[start:stop] for n, v in self.values.items()}
        return replace(self, values=values, time_edge=self.time_edge[start : stop + 1])

    def between(self, start: str, end: str) -> slice:
        """Slice of the intervals from date ``start`` to date ``end``, both inclusive."""
        first, last = np.datetime64(start, "D"), np.datetime64(end, "D") + np.timedelta64(1, "D")
        inside = (self.time >= first) & (self.time < last)
        if not inside.any():
            raise DataError(
                f"No data between {start} and {end}: the record runs from {date(self.time_edge[0])} to "
                f"{date(self.time_edge[-1])}."
            )
        indices = np.flatnonzero(inside)
        return slice(int(indices[0]), int(indices[-1]) + 1)

    def with_members(self, members: int) -> Forcing:
        """A leading member axis on the batch (a view: nothing is copied)."""
        values = {n: v.unsqueeze(1).expand(v.shape[0], members, *v.shape[1:]) for n, v in self.values.items()}
        return replace(self, values=values)

    def independent(self, starts: int = 1) -> Forcing:
        """Every basin, ``starts`` times, as a member of its own: batch (starts * basins, 1), starts outermost.

        Members share nothing, so parameters and networks with a leading member axis are trained side by side.
        """
        if len(self.batch) > 1:
            raise DataError(f"independent() takes a batch of basins, not {self.batch}.")
        names = self.basins or ("",)
        values = {n: v.reshape(len(self), -1).repeat(1, starts).unsqueeze(-1) for n, v in self.values.items()}
        members = tuple(f"{b} (start {i})" if starts > 1 else b for i in range(starts) for b in names)
        return replace(self, values=values, basins=(), members=members)

    def to(self, device=None, dtype=None) -> Forcing:
        """The same record on another device or in another precision."""
        return replace(self, values={n: v.to(device=device, dtype=dtype) for n, v in self.values.items()})

    @classmethod
    def clock(
        cls, time_edge=None, batch: Sequence[int] = (), *, days=None, members=(), basins=(), device=None, dtype=None
    ) -> Forcing:
        """A record without weather, for systems that read none; its one series is ``time`` [d].

        Parameters
        ----------
        time_edge : (T + 1,) datetime64; ``time`` is then counted from the first edge.
        batch : shape behind time: (), (basin,) or (member, basin).
        days : (T + 1,) the edges as numbers of days instead, e.g. ``np.linspace(0, 3, 31)``; day 0 is the 1 January
            2000 in messages and files, and where ``time`` is counted from.
        members, basins : names along the batch, as in :class:`Forcing`.

        Laws that read ``time`` see the middle of each interval, which makes what is held constant over it right to
        second order.
        """
        if (time_edge is None) == (days is None):
            raise DataError("A clock needs its edges either as dates (time_edge=) or as numbers of days (days=).")
        edges = edges_of_days(days) if time_edge is None else np.asarray(time_edge, dtype="datetime64[ns]")
        since = (edges - (ORIGIN if time_edge is None else edges[0])) / np.timedelta64(1, "ns") / DAY
        middle = torch.as_tensor(0.5 * (since[:-1] + since[1:]), dtype=dtype or torch.float64, device=device)
        if members and (len(batch) != 2 or len(members) != batch[0]):
            raise DataError(f"{len(members)} member names for a batch of shape {tuple(batch)}: give (member, basin).")
        series = middle.reshape(-1, *(1,) * len(batch)).expand(-1, *batch)
        return cls({"time": series}, {"time": "d"}, edges, tuple(basins), tuple(str(m) for m in members))

    @classmethod
    def from_dataset(cls, dataset, names: Sequence[str], *, device=None, dtype=None) -> Forcing:
        """Forcing from an xarray Dataset with dims (time, basin), as :func:`udehydro.data.read` returns it.

        Raises
        ------
        DataError
            For a missing variable, a unit other than the model's, or a gap in the dates.
        """
        for name in names:
            if name not in dataset:
                raise DataError(
                    f"The model needs forcing '{name}', which the data lack.{suggest(name, dataset.data_vars)}"
                )
        dtype = dtype or torch.float64
        values = {
            n: torch.as_tensor(
                np.ascontiguousarray(dataset[n].transpose("time", "basin").values), dtype=dtype, device=device
            )
            for n in names
        }
        units = {n: str(dataset[n].attrs.get("units", "")) for n in names}
        basins = tuple(str(b) for b in dataset["basin"].values)
        return cls(values, units, edges_of(dataset["time"].values), basins)


def date(moment: np.datetime64) -> str:
    """ISO date, with the hour where it is not midnight."""
    text = np.datetime_as_string(moment, unit="m")
    return text[:10] if text.endswith("T00:00") else text


def edges_of_days(days) -> np.ndarray:
    """Edges (T + 1,) from numbers of days since 1 January 2000, each rounded by itself, so that nothing adds up.

    Numbers that mean whole seconds, as far as double precision tells, become those exactly: 0.1 d is 8640 s.

    Raises
    ------
    DataError
        For numbers that are not finite, or 90000 days and more from day 0.
    """
    moments = np.asarray(days, dtype="float64") * DAY
    if moments.ndim != 1 or not (np.abs(moments) < 9e4 * DAY).all():
        raise DataError("Edges in days must be a series of finite numbers between -90000 and 90000.")
    seconds = np.round(moments / 1e9) * 1e9
    slack = 0.5 + 4.0 * np.finfo("float64").eps * np.abs(moments)
    moments = seconds if (np.abs(seconds - moments) <= slack).all() else np.round(moments)
    return ORIGIN + moments.astype("int64").astype("timedelta64[ns]")


def edges_of(time: np.ndarray) -> np.ndarray:
    """Edges (T + 1,) of intervals that start at ``time`` and follow each other without a gap.

    Raises
    ------
    DataError
        Where the step changes: a gap is never filled silently.
    """
    time = np.asarray(time, dtype="datetime64[ns]")
    if len(time) < 2:
        raise DataError(f"A record of {len(time)} time step(s) is too short to find its step.")
    steps = np.diff(time)
    step = np.median(steps.astype("int64")).astype("timedelta64[ns]")
    odd = np.flatnonzero(steps != step)
    if len(odd):
        i = int(odd[0])
        raise DataError(
            f"The dates jump from {date(time[i])} to {date(time[i + 1])}, where the step is "
            f"{step / np.timedelta64(1, 'h'):g} h ({len(odd)} such place(s)): fill the gap on purpose "
            "(udehydro.data.fill_gaps) or cut the record."
        )
    return np.append(time, time[-1] + step)
