"""Remedies in the words of the command line: messages name arguments of Python functions, people here type flags."""

from __future__ import annotations

import re
import shlex

_WORDS: tuple[tuple[str, str], ...] = (
    (r"area=<km2>", "--area KM2"),
    (r"lat= to the reader, or ds\.assign_coords\(.*?\]\)\), degrees north", "--lat DEG"),
    (r"dayfirst=True or dayfirst=False", "--dayfirst or --monthfirst"),
    (r"basins=\['([^']*)', \.\.\.\], or basins='all'", r"--basin \1,... or --basin all"),
    (r"Read with gaps='keep' and close it with udehydro\.data\.fill_gaps", "Close it with --fill-gaps N"),
    (r"udehydro\.data\.fill_gaps", "--fill-gaps N"),
    (r"; units='canonical' declares every column to be in the package's units", ""),
    (r"max_steps=(\d+)", r"--fill-gaps \1"),
    (r"raise max_steps", "raise that"),
)
_MAPPING = re.compile(r"\b(units|columns)(?:=|: )\{([^{}]*)\}")
_PAIR = re.compile(r"'?(\w+)'?: (?:'([^']*)'|(\.\.\.))")
_FLAGS = {"units": ("--unit", "UNIT"), "columns": ("--column", "COLUMN")}


def in_flags(message: str) -> str:
    """A message with the arguments it tells to pass replaced by flags; anything else stays as it is."""
    for pattern, flag in _WORDS:
        message = re.sub(pattern, flag, message)
    return _MAPPING.sub(_pairs, message)


def _pairs(found: re.Match) -> str:
    flag, unknown = _FLAGS[found[1]]
    pairs = _PAIR.findall(found[2])
    return " ".join(f"{flag} {shlex.quote(f'{name}={value or unknown}')}" for name, value, _ in pairs) or found[0]
