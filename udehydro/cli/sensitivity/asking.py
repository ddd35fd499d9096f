"""Options that several commands share, declared once: a command is called with what they describe."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping


def asking(**readers: Callable) -> Callable[[Callable], Callable]:
    """A command that has the options of all readers, then its own.

    Parameters
    ----------
    readers : argument of the command -> function with typer options, whose result it is given.
    """

    def decorate(command: Callable) -> Callable:
        asked = {name: _options(reader) for name, reader in readers.items()}
        own = {n: p for n, p in _options(command).items() if n not in readers}

        @functools.wraps(command)
        def asks(**given):
            read = {name: readers[name](**{n: given.pop(n) for n in options}) for name, options in asked.items()}
            return command(**read, **given)

        options = [*(p for o in asked.values() for p in o.values()), *own.values()]
        asks.__signature__ = inspect.Signature(options)
        asks.__annotations__ = {p.name: p.annotation for p in options}
        del asks.__wrapped__  # typer would look there for annotations
        return asks

    return decorate


def _options(function: Callable) -> Mapping[str, inspect.Parameter]:
    found = inspect.signature(function, eval_str=True).parameters
    return {n: p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for n, p in found.items()}
