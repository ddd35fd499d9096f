"""Values of settings: periods, names, numbers; each parser says what it wanted and names the setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date
from typing import NamedTuple

from udehydro.errors import ConfigError


class Period(NamedTuple):
    """Two dates, both inclusive, ISO format."""

    start: str
    end: str

    def __str__(self) -> str:
        return f"{self.start}/{self.end}"

    @classmethod
    def parse(cls, text: object, name: str = "period") -> Period:
        """``A/B`` with dates such as 1981-10-01/1990-09-30."""
        parts = [p.strip() for p in text.split("/")] if isinstance(text, str) else []
        try:
            start, end = (date.fromisoformat(p) for p in parts)
        except ValueError as error:
            why = f" ({error})" if len(parts) == 2 else ""
            raise ConfigError(
                f"{name}: '{text}' is no period{why}. Write two dates and a slash, e.g. {name}: 1981-10-01/1990-09-30."
            ) from None
        if start > end:
            raise ConfigError(f"{name}: it starts on {start}, after its end on {end}. Exchange the two dates.")
        return cls(start.isoformat(), end.isoformat())

    def overlaps(self, other: Period) -> bool:
        return self.start <= other.end and other.start <= self.end

    def contains(self, other: Period) -> bool:
        return self.start <= other.start and other.end <= self.end


def text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name}: {value!r} has to be text.")
    return value


def period(value: object, name: str) -> Period:
    return value if isinstance(value, Period) else Period.parse(value, name)


def names(value: object, name: str) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(i, str) for i in items):
        raise ConfigError(
            f"{name}: {value!r} has to be text: one name, several with commas, or a list. Put ids that are numbers in "
            "quotes, '01013500': YAML would drop the leading zero."
        )
    return tuple(i.strip() for i in items if i.strip())


def whole(lowest: int) -> Callable[[object, str], int]:
    def parse(value: object, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise ConfigError(f"{name}: {value!r} has to be a whole number, {lowest} or more.")
        return value

    return parse


def real(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{name}: {value!r} has to be a number.")
    return float(value)


def mapping(value: object, name: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for kv in value.items() for v in kv):
        raise ConfigError(f"{name}: {value!r} has to be a mapping of text to text, e.g. {name}: {{prcp: rain}}.")
    return dict(value)


def flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name}: {value!r} has to be true or false.")
    return value


def libraries(value: object, name: str) -> dict[str, dict]:
    """Candidate terms by flux, as plain values; whether they can be installed is seen where the model is."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: {value!r} has to be a mapping, e.g. {name}: {{et: {{terms: [pet*soil/smax]}}}}.")
    found = {}
    for flux, library in value.items():
        where = f"{name}: {flux}"
        _only(library, ("terms", "most"), where)
        terms = library.get("terms")
        if not isinstance(terms, list | tuple) or not terms:
            raise ConfigError(f"{where}: 'terms' has to be a list of at least one term.")
        parsed = [_term(t, f"{where}, term {i + 1}") for i, t in enumerate(terms)]
        found[str(flux)] = {"terms": parsed, "most": whole(1)(library.get("most", 1), f"{where}, most")}
    return found


def _term(value: object, where: str) -> str | dict:
    if isinstance(value, str):
        return text(value, where)
    _only(value, ("term", "constants", "factor"), where)
    constants = value.get("constants", {})
    if not isinstance(constants, Mapping):
        raise ConfigError(f"{where}: 'constants' has to map names to [low, high, unit, start].")
    found = {"term": text(value.get("term"), f"{where}, term")}
    if constants:
        found["constants"] = {str(n): _range(r, f"{where}, {n}") for n, r in constants.items()}
    return found | ({"factor": _range(value["factor"], f"{where}, factor")} if "factor" in value else {})


def _range(value: object, where: str) -> list:
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise ConfigError(f"{where}: {value!r} has to be [low, high, unit, start], e.g. [0.1, 20, '1', 3].")
    low, high, unit, start = value
    low, high, start = (real(v, where) for v in (low, high, start))
    if not low <= start <= high or low == high:
        raise ConfigError(f"{where}: the start {start:g} has to lie between {low:g} and {high:g}.")
    return [low, high, str(unit), start]


def _only(value: object, known: tuple[str, ...], where: str) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: {value!r} has to be a mapping with {', '.join(known)}.")
    if unknown := [str(n) for n in value if n not in known]:
        raise ConfigError(f"{where}: unknown '{unknown[0]}'. Known: {', '.join(known)}.")
