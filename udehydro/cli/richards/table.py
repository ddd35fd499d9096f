"""Tables of loggers and weather stations: rows in order, once each, numbers in cm and d; what was done is noted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from udehydro.data.axis import order
from udehydro.data.dates import find_time, parse_time
from udehydro.data.frame import MISSING, numbers_of
from udehydro.data.names import split_unit
from udehydro.data.textfile import read_text
from udehydro.data.units import normalise
from udehydro.errors import ConfigError, DataError
from udehydro.structure import suggest

OPTIONS = ("file", "time", "dayfirst", "missing", "units")
"""Settings that every table has."""
HPA = 1.019716
"""Height of a column of water that weighs a hectopascal [cm]: 100 Pa / (1000 kg/m3 9.80665 m/s2)."""
UNITS = {
    "rate": {"cm/d": 1.0, "mm/d": 0.1, "m/d": 100.0, "cm/h": 24.0, "mm/h": 2.4, "inch/d": 2.54},
    "depth by step": {"mm": 0.1, "cm": 1.0},
    "head": {"cm": 1.0, "mm": 0.1, "m": 100.0, "hPa": HPA, "mbar": HPA, "kPa": 10.0 * HPA},
    "content": {"1": 1.0, "-": 1.0, "m3/m3": 1.0, "cm3/cm3": 1.0, "%": 0.01},
}
"""By kind, what a value in a unit is multiplied by to be in cm/d, cm (of a step), cm, and 1."""
SPELLED = {
    **dict.fromkeys(("cm/day", "cmd-1"), "cm/d"),
    **dict.fromkeys(("cm/hour", "cmh-1"), "cm/h"),
    **{"m3m-3": "m3/m3", "cm3cm-3": "cm3/cm3", "vol%": "%", "vol.%": "%", "cmh2o": "cm", "hpa": "hPa", "kpa": "kPa"},
}
"""Spellings, blanks left out, that the readers of other data do not know."""


@dataclass(frozen=True)
class Table:
    """Rows of a file, sorted, each time once.

    Attributes
    ----------
    path : of the file, for messages.
    frame : numbers as they stand in the file, NaN where missing; columns by their whole header.
    units : by header, where the file or the settings say it.
    notes : what was done.
    """

    path: Path
    frame: pd.DataFrame
    units: Mapping[str, str]
    notes: list[str] = field(default_factory=list)

    def factor(self, header: str, kind: str, where: str, unit: str | None = None) -> float:
        """What the values of a column are multiplied by, see :data:`UNITS`; a depth by step is divided by the step."""
        unit = unit or self.units.get(header)
        known = UNITS[kind] | (UNITS["depth by step"] if kind == "rate" else {})
        if unit is None:
            raise DataError(
                f"{where}: column '{header}' of {self.path} has no unit. Write it in the header, '{header} (UNIT)', or "
                f"in the settings. Known: {', '.join(known)}."
            )
        plain = unit.replace("³", "3").replace("⁻", "-").replace("¹", "1").replace(" ", "")
        name = next((n for n in (plain, SPELLED.get(plain.lower()), normalise(unit)) if n in known), None)
        if name is None:
            raise DataError(f"{where}: column '{header}': unit '{unit}' is none of {', '.join(known)}.")
        if kind == "rate" and name in UNITS["depth by step"]:
            return known[name] / step_of(self.frame.index, str(self.path))
        return known[name]


def read(given: Mapping, beside: Path, columns: Sequence[str], where: str) -> tuple[Table, dict[str, str]]:
    """A table, and the headers of the columns that are named.

    Parameters
    ----------
    given : settings with a ``file``; those of :data:`OPTIONS` are heeded.
    beside : folder that is looked in first for the file.
    columns : names of headers, with or without their units.
    """
    name = str(given["file"])
    path = beside / name if (beside / name).exists() else Path(name)
    if not path.is_file():
        raise DataError(f"{where}, file: {name} is neither in {beside} nor in the working directory.")
    frame, layout = read_text(path)
    when = find_time(frame, given.get("time"), str(path))
    headers = {c: _header(c, list(frame.columns), path, where) for c in columns}
    index, notes = parse_time(frame, when, dayfirst=given.get("dayfirst"), where=str(path))
    keep = list(dict.fromkeys(headers.values()))
    frame, more = order(frame[keep], index, str(path))
    missing = [*MISSING, *map(str, given.get("missing") or ())]
    said = [*notes, *more]
    numbers = {h: numbers_of(frame[h], missing, str(path), said) for h in keep}
    units = dict(zip(layout.headers, layout.units or (), strict=False))
    units |= {h: u for h in keep if (u := split_unit(h)[1])}
    units |= {headers[c]: str(u) for c, u in (given.get("units") or {}).items() if c in headers}
    table = Table(path, pd.DataFrame(numbers, frame.index), {h: u for h, u in units.items() if u}, [])
    table.notes.extend(f"{path.name}: {line}" for line in said)
    return table, headers


def step_of(index: pd.DatetimeIndex, where: str) -> float:
    """The usual step of an axis [d]."""
    if len(index) < 2:
        raise DataError(f"{where}: a single row does not say how long an interval is.")
    return float(np.median(np.diff(index.as_unit("ns").asi8))) / 86_400e9


def options(given: Mapping, where: str) -> None:
    """Refuse settings of a table of the wrong kind."""
    if not isinstance(given.get("file"), str):
        raise ConfigError(f"{where}, file: {given.get('file')!r} has to be the name of a file.")
    if not isinstance(given.get("dayfirst", False), bool):
        raise ConfigError(f"{where}, dayfirst: {given['dayfirst']!r} has to be true or false.")
    if not isinstance(given.get("missing") or [], list):
        raise ConfigError(f"{where}, missing: {given['missing']!r} has to be a list, such as [-99, -6999].")
    if not isinstance(given.get("units") or {}, Mapping):
        raise ConfigError(f"{where}, units: {given['units']!r} has to be columns and units, such as {{rain: mm/d}}.")


def _header(name: str, headers: list[str], path: Path, where: str) -> str:
    found = [h for h in headers if h == name] or [h for h in headers if split_unit(h)[0] == name]
    if not found:
        known = suggest(name, headers) or f" Columns found: {', '.join(headers)}."
        raise DataError(f"{where}: {path} has no column '{name}'.{known}")
    return found[0]
