"""The time axis: order, duplicates, step and gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..errors import DataError

DAY_NS = 86_400_000_000_000


def order(frame: pd.DataFrame, index: pd.DatetimeIndex, where: str) -> tuple[pd.DataFrame, list[str]]:
    """Rows sorted by time and unique.

    Unsorted rows are sorted and identical duplicates dropped, both with a note; two different rows for one
    time are an error, because there is no telling which is right.
    """
    frame = frame.set_index(index)
    said = []
    if not index.is_monotonic_increasing:
        back = int(np.flatnonzero(np.diff(index.asi8) < 0)[0]) + 1
        said.append(f"time: rows were not in order (first at {stamp(index[back])}), sorted")
        frame = frame.sort_index(kind="stable")
    twice = frame.index.duplicated(keep="first")
    if twice.any():
        kept = frame[~twice].loc[frame.index[twice]]
        again = frame[twice]
        same = ((kept == again) | (kept.isna() & again.isna())).all(axis=1).to_numpy()
        if not same.all():
            date = again.index[~same][0]
            raise DataError(
                f"{where}: {int((~same).sum())} date(s) occur twice with different values, "
                f"first {stamp(date)}. "
                "Remove the wrong rows."
            )
        said.append(
            f"time: {int(twice.sum())} duplicate row(s) with identical values dropped, first {stamp(again.index[0])}"
        )
        frame = frame[~twice]
    return frame, said


def steps_days(time: pd.DatetimeIndex) -> np.ndarray:
    """Distances of consecutive time stamps in d, shape ``(T-1,)``."""
    return np.diff(pd.DatetimeIndex(time).as_unit("ns").asi8) / DAY_NS


def interval_days(time: pd.DatetimeIndex) -> float:
    """The usual step in d: the median distance; 1 for a single row."""
    steps = steps_days(time)
    return float(np.median(steps)) if len(steps) else 1.0


def is_uniform(time: pd.DatetimeIndex) -> bool:
    """Whether the distances are all whole multiples of the usual step (so holes do not count)."""
    steps = steps_days(time)
    if not len(steps):
        return True
    ratio = steps / np.median(steps)
    return bool(np.all(np.abs(ratio - np.round(ratio)) < 1e-6) and np.all(np.round(ratio) >= 1))


def gaps(time: pd.DatetimeIndex) -> list[tuple[pd.Timestamp, int]]:
    """Holes in the axis: the first missing time and how many usual steps are missing.

    A distance above 1.5 usual steps is a hole, so that calendar months (28 to 31 d) are none.
    """
    steps = steps_days(time)
    if not len(steps):
        return []
    usual = float(np.median(steps))
    found = np.flatnonzero(steps > 1.5 * usual)
    return [(time[i] + pd.Timedelta(usual, "D"), round(steps[i] / usual) - 1) for i in found]


def require_contiguous(time: pd.DatetimeIndex, where: str) -> None:
    """Raise unless the axis is free of holes and of mixed steps."""
    steps = steps_days(time)
    if not len(steps):
        return
    usual = float(np.median(steps))
    small = steps < 0.5 * usual
    if small.any():
        where_first = time[int(np.flatnonzero(small)[0])]
        raise DataError(
            f"{where}: time steps of different length, {steps.min() * 24:g} h to {steps.max() * 24:g} h, "
            f"first change near {stamp(where_first)}. Bring the record to one step, "
            "or pass gaps='keep' to read it as it is."
        )
    holes = gaps(time)
    if holes:
        first, missing = holes[0]
        total = sum(n for _, n in holes)
        raise DataError(
            f"{where}: the record has {len(holes)} gap(s), {total} step(s) missing, "
            f"first from {stamp(first)} "
            f"({missing} step(s) of {usual * 24:g} h). Read with gaps='keep' and close it with "
            "udehydro.data.fill_gaps, or complete the file (missing flow may be left empty)."
        )


def stamp(time) -> str:
    """A time as short text: the date alone at midnight."""
    time = pd.Timestamp(time)
    return time.strftime("%Y-%m-%d") if time == time.normalize() else time.strftime("%Y-%m-%d %H:%M")
