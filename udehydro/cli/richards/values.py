"""Values of a soil file: plain, free, or by depth; each reader says what it wanted, and where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from udehydro.errors import ConfigError
from udehydro.richards.inversion import Free, knots
from udehydro.structure import suggest

FREE = ("free", "low", "high", "prior")


def only(value: object, known: Sequence[str] | None, where: str, needed: Sequence[str] = ()) -> dict:
    """A mapping with known names, those ``needed`` among them; None knows all."""
    if not isinstance(value, Mapping):
        example = f"{where.rpartition(', ')[2]}: {{{(list(needed) + list(known or ['name']))[0]}: ...}}"
        raise ConfigError(f"{where}: {value!r} has to be names and values, such as {example}.")
    value = {str(n): v for n, v in value.items()}
    for name in value:
        if known is not None and name not in known:
            hint = suggest(name, known) or f" Known: {', '.join(known)}."
            raise ConfigError(f"{where}: unknown setting '{name}'.{hint}")
    if missing := [n for n in needed if value.get(n) is None]:
        raise ConfigError(f"{where}: '{missing[0]}' is missing. Known: {', '.join(known or needed)}.")
    return value


def choice(value: object, known: Sequence[str], where: str) -> str:
    """One of some names."""
    if value not in known:
        raise ConfigError(f"{where}: '{value}' is not known.{suggest(str(value), known)}")
    return str(value)


def number(value: object, where: str, low: float = -math.inf) -> float:
    """A finite number; 1e-3, which YAML takes for text, is one."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or found < low:
        least = f", {low:g} or more" if low > -math.inf else ""
        raise ConfigError(f"{where}: {value!r} has to be a number{least}.")
    return found


def whole(value: object, where: str, low: int = 1) -> int:
    """A whole number from ``low`` on."""
    found = number(value, where, low)
    if found != int(found):
        raise ConfigError(f"{where}: {value!r} has to be a whole number.")
    return int(found)


def numbers(value: object, where: str) -> list[float]:
    """A list of numbers, at least one."""
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{where}: {value!r} has to be a list of numbers, such as [0, 30, 60].")
    return [number(v, where) for v in value]


def value(given: object, where: str) -> float | Free:
    """A number, or ``{free: start, low:, high:, prior:}``, a value to find."""
    if not isinstance(given, Mapping):
        return number(given, where)
    given = only(given, FREE, where, ("free",))
    return _free(number(given["free"], where), given, where)


def profile(given: object, at: object, depth: np.ndarray, where: str):
    """Values of cells at ``depth`` (cell,): one for all, or a list at the depths ``at``, straight between them; free
    or not."""
    start = given.get("free") if isinstance(given, Mapping) else given
    if not isinstance(start, list):
        if at is not None:
            raise ConfigError(f"{where}: 'at' goes with a list of values, one at each of its depths.")
        return value(given, where)
    start, at = numbers(start, where), numbers(at, f"{where}, at (the depths of the list of values)")
    if len(start) != len(at):
        raise ConfigError(f"{where}: {len(start)} values at {len(at)} depths. Give one for each.")
    try:
        spread = knots(at, depth)
    except ConfigError:
        raise ConfigError(f"{where}, at: {at} are depths in cm, each below the one before.") from None
    start = torch.tensor(start, dtype=torch.float64)
    if not isinstance(given, Mapping):
        return spread @ start
    return _free(start, only(given, FREE, where), where, spread)


def _free(start, given: Mapping, where: str, spread=None) -> Free:
    ends = {n: number(given[n], f"{where}, {n}") for n in FREE[1:] if given.get(n) is not None}
    try:
        return Free(start, **ends, spread=spread)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
