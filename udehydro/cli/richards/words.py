"""Messages in the words of a soil file: those of the library name arguments of Python functions."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from udehydro.errors import UdehydroError

_WORDS: tuple[tuple[str, str], ...] = (
    (r"[Pp]ut Free\(start\) in place of a value of p, psi0 or a boundary", "write {free: start} in place of a number"),
    (r"[Pp]ut Free\(start\) in place of one in p", "write {free: start} in place of a number of the soil"),
    (r"(, or )?\b[Gg]ive Free\(low=, high=\)", r"\1give low: and high:"),
    (r"Wider limits, Free\(low=, high=\)\?", "Wider low: and high:?"),
    (r"fit\(steps=\)", "more --steps"),
    (r"Take more points \(counts\), another stage of Levenberg, or a smaller network", "Take more --points or --steps"),
    (r"Per cent\? Divide by 100\.", 'Per cent? unit: "%".'),
    (r" for what is missing\? Give NaN\.", " for what is missing? Name it in missing:."),
    (r"Correct it, or mask these values with NaN\.", "Correct it, or leave them out, valid: [low, high]."),
    (r"mask (?:them|those above zero) \(NaN\)", "leave them out, valid: [low, high]"),
    (r"or log=False", "or give sigma in the unit of the column"),
    (r"Suctions\? Heads are negative in unsaturated soil: give -psi\.", "Suctions? kind: suction."),
    (r"for example time='([^']*)'", r"for example time: \1"),
    (r"dayfirst=True or dayfirst=False", "dayfirst: true or dayfirst: false"),
    (r"Pass dayfirst:", "Give dayfirst:"),
    (r"missing=\[('[^']*')\]", r"missing: [\1]"),
    (r"\bLayer\(law, specific_storage=([\d.e-]+)\)", r"specific_storage: \1 of its layer"),
    (r"Networks learn columns without sinks\.", "Networks learn columns without roots: --column fits those."),
    (r"(Networks learn from theta and psi at points, not from .+)\.$", r"\1: --column takes those."),
    (r"WaterContent\(([\d.e-]+)\)", r"theta: \1"),
)


def in_yaml(message: str) -> str:
    """A message with arguments of functions replaced by settings; anything else stays as it is."""
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message


@contextmanager
def told(where: str = "") -> Iterator[list[str]]:
    """Within it errors and warnings of the library are in the words of a soil file, errors with its name in front;
    warnings are printed at once, and listed."""
    said: list[str] = []

    def show(message, *_, **__) -> None:
        said.append(in_yaml(str(message)))
        typer.echo(f"Warning: {said[-1]}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show
        try:
            yield said
        except UdehydroError as error:
            text = in_yaml(str(error))
            error.args = (text if not where or text.startswith(where) else f"{where}: {text}",)
            raise
