"""Growth of time and memory with the record and with basins; every point in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from _report import table

from udehydro.solvers import SDIRK2, AllAtOnce, Compiled

from .contestant import Contestant
from .diffrax_calls import Diffrax
from .jax_models import Scan
from .ours import Ours
from .picture import grow
from .task import Task, neural, plain
from .torchdiffeq_calls import Torchdiffeq

REPEATS = 3
LONGEST = 120.0
"""Seconds of a point after which a contestant is not asked for a larger one."""
ONCE = 20.0
"""Seconds of a point from which its first call is its only one."""

FIELD = {
    "AllAtOnce SDIRK2": lambda task: Ours("", task, partial(AllAtOnce, SDIRK2)),
    "Compiled SDIRK2": lambda task: Ours("", task, partial(Compiled, SDIRK2)),
    "torchdiffeq rk4, odeint": lambda task: Torchdiffeq("", task, "rk4"),
    "lax.scan explicit Euler": lambda task: Scan("", task, "euler"),
    "lax.scan backward Euler": lambda task: Scan("", task, "backward euler"),
    "diffrax Heun": lambda task: Diffrax("", task, "Heun"),
}
YEARS, BASINS, YEARS_OF_BASINS = (1, 3, 10, 30, 100), (1, 10, 100, 1000), 10


def run(quick: bool) -> tuple[str, object]:
    """Tables and figure."""
    years, basins, length = ((1, 2), (1, 3), 1) if quick else (YEARS, BASINS, YEARS_OF_BASINS)
    script = Path(sys.argv[0]).resolve()
    found: dict = {"years": {}, "basins": {}}
    for name in FIELD:
        found["years"][name] = _line(script, name, True, [{"basins": 1, "years": y} for y in years])
        found["basins"][name] = _line(script, name, False, [{"basins": b, "years": length} for b in basins])
    text = f"""Value and gradient, each point in a fresh process: median of {REPEATS} calls after compiling (one,
where it takes more than {ONCE:.0f} s), and the peak of resident memory during the first of them beyond what was there
before it. Records and basins are repeated where there are fewer. A contestant that took more than {LONGEST:.0f} s at a
point is not asked for the next.

One basin with two networks, by years:

{_table(found["years"], "years", years)}

EXP-HYDRO, {length} year{"s" if length > 1 else ""}, by basins:

{_table(found["basins"], "basins", basins)}"""
    return text, grow(found, length)


def _line(script: Path, name: str, networks: bool, sizes: list[dict]) -> list[dict]:
    """Points of growing size."""
    line = []
    for size in sizes:
        point = json.dumps(size | {"name": name, "networks": networks})
        done = subprocess.run([sys.executable, script, "--point", point], capture_output=True, text=True)
        if done.returncode:
            print(f"  {point}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr, flush=True)
            break
        line.append(size | json.loads(done.stdout.splitlines()[-1]))
        print(f"  {line[-1]} {name}", file=sys.stderr, flush=True)
        if line[-1]["seconds"] > LONGEST:
            break
    return line


def _table(lines: dict[str, list[dict]], axis: str, sizes) -> str:
    rows = []
    for name, line in lines.items():
        points = {p[axis]: p for p in line}
        cells = [f"{points[s]['seconds']:.3g} s, {points[s]['megabytes']:.3g} MB" if s in points else "" for s in sizes]
        rows.append([name, *cells])
    return table(["contestant", *(f"{s} {axis if s > 1 else axis[:-1]}" for s in sizes)], rows)


def measure(point: str) -> None:
    """Time one point and its memory; prints JSON. Runs in a process of its own."""
    asked = json.loads(point)
    make = neural if asked["networks"] else plain
    task = make(asked["basins"], asked["years"])
    # on a small task first: what is compiled or imported at the first call is not the memory of the solver
    warm = _make(asked["name"], task.first(30))
    warm.prepare()
    warm.value_and_gradient(warm.task.days)
    contestant = _make(asked["name"], task)
    contestant.prepare()
    before = _reset()
    seconds = [_call(contestant)]
    peak = _status("VmHWM") - before
    if seconds[0] < ONCE:
        seconds = [_call(contestant) for _ in range(REPEATS)]
    print(json.dumps({"seconds": statistics.median(seconds), "megabytes": peak / 1024.0}))


def _make(name: str, task: Task) -> Contestant:
    return FIELD[name](task)


def _call(contestant: Contestant) -> float:
    contestant.prime()
    started = time.perf_counter()
    contestant.value_and_gradient(contestant.task.days)
    return time.perf_counter() - started


def _reset() -> int:
    """Give freed memory back, forget the peak so far; returns resident memory [kB]. Linux only."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])
