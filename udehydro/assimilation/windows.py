"""Windows: pieces of a record before and after dates of issue, side by side as members of one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from udehydro.errors import ConfigError, DataError
from udehydro.forcing import DAY, Forcing, date, edges_of_days


@dataclass(frozen=True)
class Windows:
    """``past`` intervals before every date of issue and ``ahead`` from it on, cut out of a record.

    A forecast issued on a date knows what was observed until that date begins; the interval that starts there is the
    first one forecast. Windows have one time axis, counted in days from their issue (day 0 is labelled 2000-01-01); the
    real dates are the names of the members.

    Parameters
    ----------
    record : forcing with batch (basin,), of intervals of one length.
    issued : dates (ISO text or datetime64), starts of intervals of the record.
    past, ahead : intervals, at least 1 of the past.

    Raises
    ------
    DataError
        For a record of another batch or of uneven intervals, and windows that reach beyond it.
    ConfigError
        Without dates, or for a length that makes no sense.
    """

    record: Forcing
    issued: Sequence[str | np.datetime64]
    past: int
    ahead: int = 0

    def __post_init__(self):
        issued = np.asarray(self.issued, dtype="datetime64[ns]")
        object.__setattr__(self, "issued", issued)
        if issued.ndim != 1 or not len(issued) or self.past < 1 or self.ahead < 0:
            raise ConfigError(
                f"Windows need dates of issue, past >= 1 and ahead >= 0 intervals, got {issued.size} dates, "
                f"{self.past} and {self.ahead}."
            )
        record = self.record
        if len(record.batch) != 1:
            raise DataError(f"Windows are cut out of a record of basins, batch (basin,), not {record.batch}.")
        if len(np.unique(np.diff(record.time_edge))) > 1:
            raise DataError("Windows are cut out of a record whose intervals have one length: these differ.")
        edges = record.time_edge
        first = np.searchsorted(edges, issued)
        for moment, k in zip(issued, first, strict=True):
            if k - self.past < 0 or k + self.ahead > len(record) or edges[k] != moment:
                raise DataError(
                    f"No window of {self.past} intervals before and {self.ahead} after {date(moment)}: it has to start "
                    f"an interval, and the record runs from {date(edges[0])} to {date(edges[-1])}."
                )

    def cut(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Of a series (T, basin) what lies before issue (past, member, basin), and after (ahead, member, basin)."""
        if series.shape != self.record.like.shape:
            raise DataError(f"The series has shape {tuple(series.shape)}, the record {tuple(self.record.like.shape)}.")
        offset = torch.arange(-self.past, self.ahead, device=series.device)[:, None]
        pieces = series[self._first.to(series.device) + offset]
        return pieces[: self.past], pieces[self.past :]

    def start(self, storage: Tensor) -> Tensor:
        """Storages (member, basin, S) at the starts of the windows, of a run (T + 1, basin, S) over the record."""
        if storage.ndim != 3 or storage.shape[:2] != (len(self.record) + 1, *self.record.batch):
            raise DataError(f"storage has shape {tuple(storage.shape)}, needs (T + 1, basin, S) of the record.")
        return storage[self._first.to(storage.device) - self.past]

    @property
    def before(self) -> Forcing:
        """Forcing (past, member, basin) before issue."""
        return self._forcing(0)

    @property
    def after(self) -> Forcing:
        """Forcing (ahead, member, basin) from issue on: what really came, a perfect forecast of the weather."""
        if not self.ahead:
            raise ConfigError("These windows end at their issue: make them with ahead >= 1.")
        return self._forcing(1)

    @property
    def _first(self) -> Tensor:
        return torch.from_numpy(np.searchsorted(self.record.time_edge, self.issued))

    def _forcing(self, part: int) -> Forcing:
        step = (self.record.time_edge[1] - self.record.time_edge[0]) / np.timedelta64(1, "ns") / DAY
        counts = np.arange(-self.past, 1) if part == 0 else np.arange(self.ahead + 1)
        values = {n: self.cut(v)[part] for n, v in self.record.values.items()}
        names = tuple(date(moment) for moment in self.issued)
        return Forcing(values, self.record.units, edges_of_days(step * counts), self.record.basins, names)
