"""Contestants timed in turn, their errors, and the table."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from dataclasses import dataclass, field

import numpy as np
from _report import table

from .contestant import Contestant
from .ours import reference


@dataclass
class Result:
    """What was measured of one contestant; times in seconds, scaled to the whole record."""

    contestant: Contestant
    compiling: float = 0.0
    forward: list[float] = field(default_factory=list)
    both: list[float] = field(default_factory=list)
    rmse: float = np.nan
    nse: float = np.nan
    gradient_error: float = np.nan
    failure: str = ""


def compete(contestants: list[Contestant], repeats: int, checked: int, substeps: int) -> list[Result]:
    """Prepare and check every contestant, then time them in turn: each repeat runs all of them once.

    Errors are those of the first ``checked`` days against SDIRK2 with ``substeps`` steps a day.
    """
    results = [Result(c) for c in contestants]
    exact: dict[int, tuple] = {}
    for r in results:
        _attempt(r, _prepare)
    for r in results:
        if not r.failure:
            _attempt(r, _check, checked, substeps, exact)
    exact.clear()
    for i in range(repeats):
        for r in results:
            if not r.failure and i < (r.contestant.repeats or repeats):
                _attempt(r, _time)
        print(f"  repeat {i + 1} of {repeats}", file=sys.stderr, flush=True)
    return results


def _attempt(result: Result, step, *arguments) -> None:
    """A contestant that fails is reported and left out of what follows."""
    try:
        step(result, *arguments)
    except Exception as error:
        result.failure = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80]}"
        print(f"  {result.contestant.name}: {error}", file=sys.stderr, flush=True)


def _prepare(result: Result) -> None:
    result.compiling = result.contestant.prepare()


def _check(result: Result, checked: int, substeps: int, exact: dict) -> None:
    c, started = result.contestant, time.perf_counter()
    days = min(checked, c.task.days)
    if days not in exact:
        exact[days] = reference(c.task.first(days), substeps)
        print(f"  reference of {days} days: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    discharge, gradient = exact[days]
    c.prime()
    error = c.forward()[:days] - discharge
    result.rmse = float(np.sqrt((error**2).mean()))
    result.nse = float(1.0 - (error**2).sum() / ((discharge - discharge.mean(0)) ** 2).sum())
    if c.gradient:
        c.prime()
        result.gradient_error = c.task.gradient_error(c.value_and_gradient(days)[1], gradient)
    print(f"  {c.name}: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)


def _time(result: Result) -> None:
    c = result.contestant
    c.prime()
    result.forward.append(c.scale * _seconds(c.forward))
    if c.gradient:
        c.prime()
        result.both.append(c.scale * _seconds(c.value_and_gradient, c.task.days))


def _seconds(call, *arguments) -> float:
    # the garbage of one contestant is not collected on the time of another
    gc.collect()
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


HEAD = [
    *("contestant", "forward, ms", "value + gradient, ms", "/ cold", "/ warm", "compiling, s"),
    *("RMSE of Q, mm/d", "NSE of Q", "gradient error"),
]


def tabulate(results: list[Result], cold: str, warm: str) -> str:
    """The table of a case; the ratios are to the value and gradient of the rows named ``cold`` and ``warm``."""
    medians = {r.contestant.name: statistics.median(r.both) for r in results if r.both}
    rows = [_row(r, medians.get(cold, np.nan), medians.get(warm, np.nan)) for r in results]
    return table(HEAD, rows)


def _row(r: Result, cold: float, warm: float) -> list[str]:
    c = r.contestant
    name = c.name if c.scale == 1.0 else f"{c.name} ({c.task.days} d, scaled)"
    if r.failure:
        return [name, r.failure, *[""] * (len(HEAD) - 2)]
    both = statistics.median(r.both) if r.both else np.nan
    ratios = [f"{both / base:.3g}" if both / base == both / base else "" for base in (cold, warm)]
    compiling = f"{r.compiling:.1f}" if r.compiling > 0.05 else ""
    error = f"{r.gradient_error:.1e}" if r.both else ""
    return [name, spread(r.forward), spread(r.both), *ratios, compiling, f"{r.rmse:.1e}", f"{r.nse:.4f}", error]


def spread(seconds: list[float], unit: float = 1e-3) -> str:
    """Median (lowest to highest)."""
    if not seconds:
        return ""
    values = [figure(s / unit) for s in (statistics.median(seconds), min(seconds), max(seconds))]
    return f"{values[0]} ({values[1]} to {values[2]})" if len(seconds) > 1 else values[0]


def figure(value: float) -> str:
    """Three significant digits, never an exponent."""
    return f"{value:.0f}" if value >= 99.5 else f"{value:#.3g}".rstrip(".")
