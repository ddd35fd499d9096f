"""Sensors of a soil file: readings of loggers at the edges of the weather's intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from udehydro.cli.richards import table
from udehydro.cli.richards.values import choice, number, numbers, only
from udehydro.errors import ConfigError, DataError
from udehydro.forcing import date
from udehydro.richards.inversion import Observed

KINDS = {"theta": "content", "psi": "head", "suction": "head"}
SETTINGS = ("kind", "depth", "sigma", "unit", "valid", "support")
TOLERANCE = "10min"
"""How far from an edge of the weather a reading may be to count as taken there."""
FINE = 1e-3
"""Water content that no sensor in soil is as good as."""


@dataclass(frozen=True, eq=False)
class Sensor:
    """One sensor.

    Attributes
    ----------
    name : of its column.
    kind : ``theta`` or ``psi``.
    depth, support : cm.
    sigma : of theta or psi [cm], or of the logarithm of psi where ``log``.
    values : (T + 1,) at the edges of intervals, NaN where there is none.
    """

    name: str
    kind: str
    depth: float
    support: float
    sigma: float
    log: bool
    values: np.ndarray = field(repr=False)


def sensors(given: object, beside: Path, edges: np.ndarray, where: str) -> tuple[list[Sensor], list[str]]:
    """All sensors of a list of files, and what was done to their readings."""
    if isinstance(given, Mapping):
        given = [given]
    if not isinstance(given, list) or not given:
        raise ConfigError(f"{where}: it has to be a list of files, each beginning with '- file: logger.csv'.")
    found, notes = [], []
    for i, one in enumerate(given):
        place = f"{where}, file {i}" if len(given) > 1 else where
        more, said = _file(one, beside, edges, place)
        found, notes = found + more, notes + said
    return found, notes


def observed(given: Sequence[Sensor]) -> list[Observed]:
    """Series of an inversion: sensors of one kind together."""
    groups: dict[tuple, list[Sensor]] = {}
    for s in given:
        groups.setdefault((s.kind, s.log, s.support), []).append(s)
    return [
        Observed(
            kind,
            np.stack([s.values for s in group], axis=1),
            torch.tensor([s.sigma for s in group], dtype=torch.float64),
            [s.depth for s in group],
            support,
            log,
        )
        for (kind, log, support), group in groups.items()
    ]


def simulated(given: Sequence[Sensor], series: Sequence[Observed], states, column) -> dict[int, Tensor]:
    """What a run has of every sensor (T + 1,), by its place among them."""
    found, left = {}, list(range(len(given)))
    for o in series:
        mine = [i for i in left if (given[i].kind, given[i].log, given[i].support) == (o.kind, o.log, o.support)]
        found |= dict(zip(mine, o.of(states, column).unbind(-1), strict=True))
        left = [i for i in left if i not in mine]
    return found


def _file(given: object, beside: Path, edges: np.ndarray, where: str) -> tuple[list[Sensor], list[str]]:
    given = only(given, (*table.OPTIONS, "columns", "tolerance"), where, ("file", "columns"))
    table.options(given, where)
    tolerance = _duration(given.get("tolerance", TOLERANCE), f"{where}, tolerance")
    columns = only(given["columns"], None, f"{where}, columns")
    found, headers = table.read(given, beside, list(columns), where)
    notes = found.notes
    made = []
    for name, settings in columns.items():
        place = f"{where}, '{name}'"
        settings = only(settings, SETTINGS, place, ("kind", "depth", "sigma"))
        made.append(_sensor(name, headers[name], settings, found, edges, tolerance, place))
    return made, notes


def _sensor(name, header, given: Mapping, found: table.Table, edges, tolerance, where: str) -> Sensor:
    kind = choice(given["kind"], tuple(KINDS), f"{where}, kind")
    factor = found.factor(header, KINDS[kind], where, None if given.get("unit") is None else str(given["unit"]))
    sigma, log = _sigma(given["sigma"], kind, factor, f"{where}, sigma")
    readings, said = _valid(found.frame[header], given.get("valid"), f"{where}, valid")
    if factor == 0.01 and kind == "theta" and sigma < FINE:
        said = [*said, f"sigma {given['sigma']} is in %, as the column: {sigma:g}. If {given['sigma']} is no per cent, "
                f"give {float(given['sigma']) / factor:g}"]  # fmt: skip
    sign = -1.0 if kind == "suction" else 1.0
    values, more = at_edges(readings, edges, tolerance)
    if not np.isfinite(values).any():
        raise DataError(
            f"{where}: none of {int(readings.notna().sum())} readings is within {_words(tolerance)} of an edge of the "
            f"weather's intervals, {date(edges[0])} to {date(edges[-1])}. Give tolerance:, split: the weather, or "
            "compare the dates."
        )
    parts = [f"{np.isfinite(values).sum()} of {len(readings)} readings used", *said, *more]
    found.notes.append(f"{found.path.name}: {name}: {', '.join(parts)}")
    depth, support = (number(given.get(n, 0.0), f"{where}, {n}", 0.0) for n in ("depth", "support"))
    kind = "psi" if kind == "suction" else kind
    return Sensor(name, kind, depth, support, sigma, log, sign * factor * values)


def at_edges(readings: pd.Series, edges: np.ndarray, tolerance: pd.Timedelta) -> tuple[np.ndarray, list[str]]:
    """Readings (T + 1,) at edges, the nearest within a tolerance, and what became of the others."""
    there = readings.dropna()
    at, ends = there.index.as_unit("ns").asi8, np.asarray(edges, "datetime64[ns]").astype("int64")
    near = np.clip(np.searchsorted(ends, at), 1, len(ends) - 1)
    near = near - (at - ends[near - 1] <= ends[near] - at)
    off = np.abs(at - ends[near])
    order = np.lexsort((off, near))
    order = order[off[order] <= tolerance.value]
    edge, first = np.unique(near[order], return_index=True)
    values = np.full(len(ends), np.nan)
    values[edge] = there.to_numpy(float)[order[first]]
    outside = int(((at < ends[0] - tolerance.value) | (at > ends[-1] + tolerance.value)).sum())
    counts = {
        "missing": len(readings) - len(there),
        "outside the weather": outside,
        "between edges": len(there) - outside - len(edge),
    }
    return values, [f"{n} {what}" for what, n in counts.items() if n]


def _sigma(given: object, kind: str, factor: float, where: str) -> tuple[float, bool]:
    """Standard deviation in cm or 1, or of the logarithm where it is given in per cent."""
    percent = isinstance(given, str) and given.strip().endswith("%")
    found = number(given.strip().removesuffix("%") if percent else given, where)
    if found <= 0.0:
        raise ConfigError(f"{where}: {given!r} has to be above zero, in the unit of the column.")
    if percent and kind == "theta":
        raise ConfigError(f"{where}: '{given}' of the reading? Water contents have errors in the unit of the column.")
    return (0.01 * found, True) if percent else (factor * found, False)


def _valid(readings: pd.Series, given: object, where: str) -> tuple[pd.Series, list[str]]:
    """Readings within the range of a sensor, in the unit of the column; others are missing."""
    if given is None:
        return readings, []
    low, high = numbers(given, where) if isinstance(given, list) and len(given) == 2 else (1.0, 0.0)
    if not low < high:
        raise ConfigError(f"{where}: {given!r} has to be [low, high] in the unit of the column, such as [-800, 0].")
    out = (readings < low) | (readings > high)
    return readings.mask(out), [f"{int(out.sum())} outside {low:g} to {high:g}"] if out.any() else []


def _duration(given: object, where: str) -> pd.Timedelta:
    try:
        found = pd.Timedelta(given) if isinstance(given, str) else pd.NaT
    except ValueError:
        found = pd.NaT
    if found is pd.NaT or found < pd.Timedelta(0):
        raise ConfigError(f"{where}: {given!r} has to be a length of time with its unit, such as 10min or 2h.")
    return found.as_unit("ns")


def _words(tolerance: pd.Timedelta) -> str:
    return f"{tolerance / pd.Timedelta(1, 'min'):g} min"
