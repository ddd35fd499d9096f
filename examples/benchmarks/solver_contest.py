"""Solvers of this package against their peers: the same equations on the same data, timed in turn in one process.

Run it on an idle machine. It needs the extra `benchmark`; Hy2DL, which asks for other versions of what is installed,
comes by `pip install --no-deps hy2dl`, or is left out. Cases: A one basin with networks, B 64 basins, C 120 basins over
30 years, D growth with record and basins, E models with many stores against eager loops.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from functools import partial

import peers  # noqa: F401, its settings have to come before everything else
import torch
from _report import DOCS, table, write
from peers import agreement, growth
from peers.contestant import Contestant
from peers.daily_loops import DailyLoop, Hy2dl
from peers.diffrax_calls import Diffrax, DiffraxBacksolve
from peers.jax_models import NEWTON, Scan
from peers.numba_loop import NumbaLoop
from peers.ours import Ours
from peers.picture import scatter
from peers.task import Task, many_stores, neural, plain
from peers.timing import Result, compete, spread, tabulate
from peers.torchdiffeq_calls import Torchdiffeq

from udehydro.solvers import BACKWARD_EULER, HEUN, SDIRK2, AllAtOnce, Automatic, Compiled, Stepping
from udehydro.solvers import Torchdiffeq as Adapter

COLD, WARM = "Automatic SDIRK2", "Automatic SDIRK2, warm"
YEAR = 365
SCRIPT = "solver_contest"
VERSIONS = ("torchdiffeq", "jax", "diffrax", "numba", "hy2dl")

DEFINITIONS = f"""Everyone solves the same equations (right-hand sides agree to 1e-12) over the same days in double
precision on one thread, and returns daily discharge *volumes*: our solvers and the scans weigh the stages of their
scheme, torchdiffeq and diffrax carry accumulated discharge as a third state. Value and gradient: mean squared error of
daily discharge against the gauge, and its derivative with respect to all parameters, weights and initial storages. One
step a day, forcing constant within it, unless a tolerance is given (then rtol = atol, and steps are cut at midnight but
where it says "not cut"). torchdiffeq's rk4 is the 3/8 rule.

Medians (lowest to highest) of interleaved repeats. Compiling is not part of them; solvers that share code compile it at
the first of them. "/ cold" and "/ warm" divide value + gradient by that of `{COLD}` from a cold start, and warm:
from its trajectory before all parameters and weights changed by 1 % (standard deviation). Scaled: timed on the days
named, times the ratio of the records. Errors are those of discharge and of the gradient (the whole vector, parameters
in units of their values) against SDIRK2 with many steps a day, so they include the error of each scheme's step."""


def our_solvers(task: Task, eager: bool = False) -> Iterator[Contestant]:
    """What `Automatic` chooses once a model is compiled, and the two drivers it chooses between."""
    for solver, options in ((Automatic, {"compile": True}), (AllAtOnce, {}), (Compiled, {})):
        for tableau, name in ((SDIRK2, "SDIRK2"), (BACKWARD_EULER, "backward Euler")):
            label, make = f"{solver.__name__} {name}", partial(solver, tableau, **options)
            # of many basins of a plain model it would take minutes, and `Automatic` never chooses it
            slow = solver is AllAtOnce and task.basins > 1 and not task.neural
            yield Ours(label, task, make, **({"days": YEAR, "repeats": 2} if slow else {}))
            if solver is not Compiled and not slow:
                yield Ours(f"{label}, warm", task, make, warm=True)
    if eager:
        yield from eager_solvers(task)


def eager_solvers(task: Task) -> Iterator[Contestant]:
    """Ours, step by step in eager PyTorch."""
    few = {"days": YEAR, "repeats": 3}
    for tableau, name in ((SDIRK2, "SDIRK2"), (HEUN, "Heun")):
        yield Ours(f"Stepping {name}", task, partial(Stepping, tableau), **few)
        yield Ours(f"Stepping {name}, tape", task, partial(Stepping, tableau, gradient="tape"), **few)
    daily = partial(Adapter, "dopri5", rtol=1e-4, atol=1e-4)
    yield Ours("solvers.Torchdiffeq rk4", task, partial(Adapter, "rk4", span="record"), **few)
    yield Ours("solvers.Torchdiffeq dopri5 1e-4, by day", task, daily, **few)


def torchdiffeq_rk4(task: Task, **limits) -> Contestant:
    return Torchdiffeq("torchdiffeq rk4, odeint", task, "rk4", **limits)


def torchdiffeq_others(task: Task) -> Iterator[Contestant]:
    yield Torchdiffeq("torchdiffeq rk4, odeint_adjoint", task, "rk4", adjoint=True, repeats=3)
    few = {"days": YEAR, "repeats": 3, "rtol": 1e-4, "atol": 1e-4}
    midnights = torch.arange(1.0, min(YEAR, task.days), dtype=torch.float64)
    # a step that ends exactly on a jump switches all later jumps off: no step may be a whole day long
    jumps = {"jump_t": midnights, "max_step": 0.9}
    yield Torchdiffeq("torchdiffeq dopri5 1e-4, odeint", task, "dopri5", options=jumps, **few)
    yield Torchdiffeq("torchdiffeq dopri5 1e-4, odeint, not cut", task, "dopri5", **few)


def scans(task: Task) -> Iterator[Contestant]:
    yield Scan("lax.scan explicit Euler", task, "euler")
    yield Scan("lax.scan RK4", task, "rk4")
    yield Scan(f"lax.scan backward Euler, {NEWTON} Newton", task, "backward euler")


def diffrax_all(task: Task) -> Iterator[Contestant]:
    yield Diffrax("diffrax Heun", task, "Heun")
    yield DiffraxBacksolve("diffrax midpoint, backsolve", task)
    yield Diffrax("diffrax Tsit5", task, "Tsit5")
    yield Diffrax("diffrax Tsit5 1e-4", task, "Tsit5", tolerance=1e-4)
    yield Diffrax("diffrax implicit Euler", task, "implicit Euler")
    yield Diffrax("diffrax Kvaerno3", task, "Kvaerno3")
    yield Diffrax("diffrax Kvaerno3 1e-4", task, "Kvaerno3", tolerance=1e-4)


def one_basin(task: Task) -> list[Contestant]:
    return [
        *our_solvers(task, eager=True),
        torchdiffeq_rk4(task),
        *torchdiffeq_others(task),
        *scans(task),
        *diffrax_all(task),
    ]


def many_basins(task: Task) -> list[Contestant]:
    return [
        *our_solvers(task),
        *([] if task.neural else [NumbaLoop("numba scalar loop, backward Euler", task)]),
        *scans(task),
        Diffrax("diffrax Heun", task, "Heun"),
        torchdiffeq_rk4(task, days=YEAR, repeats=3),
    ]


def contest(key: str, title: str, task: Task, field: Callable[[Task], list[Contestant]], options, checked: int) -> None:
    """One table and one picture."""
    print(title, file=sys.stderr, flush=True)
    differ = agreement.check(task)
    substeps = 8 if options.quick else 32 if task.basins == 1 else 16
    results = compete(field(task), options.repeats, checked, substeps)
    size = f"{task.basins} basin{'s' if task.basins > 1 else ''} x {task.days} days"
    checked = min(checked, task.days)
    body = f"""{size}; {options.repeats} repeats; errors over the first {checked} days, against {substeps} steps a day;
right-hand sides differ by {differ:.0e}.{_residual(results)}

{tabulate(results, COLD, WARM)}"""
    publish(key, f"Solver contest: {title}", body, options, scatter(results, title))


def _residual(results: list[Result]) -> str:
    found = [
        r.contestant.residual() for r in results if isinstance(r.contestant, Scan) and "Newton" in r.contestant.name
    ]
    return f" The fixed Newton iterations of the scan leave a residual of up to {max(found):.0e} mm." if found else ""


def publish(key: str, title: str, body: str, options, figure=None) -> None:
    """Write a section of the page, or print it where the run is a quick one."""
    name = f"{SCRIPT}_{key.lower()}"
    if options.quick:
        print(f"## {title}\n\n{body}")
        return
    if figure is not None:
        figure.savefig(DOCS / f"{name}.png", dpi=110)
        body += f"\n\n![{title}]({name}.png)"
    write(name, title, body, SCRIPT)


def case_a(options) -> None:
    contest("A", "one basin, two networks", neural(1, 1 if options.quick else 10), one_basin, options, 10**6)


def case_b(options) -> None:
    size = (4, 1) if options.quick else (64, 10)
    contest("B1", "many basins", plain(*size), many_basins, options, 1096)
    contest("B2", "many basins, two shared networks", neural(*size), many_basins, options, 1096)


def case_c(options) -> None:
    size = (6, 2) if options.quick else (120, 30)
    contest("C", "120 basins over 30 years", plain(*size), many_basins, options, 731)


def case_d(options) -> None:
    body, figure = growth.run(options.quick)
    publish("D", "Solver contest: growth with the record and with basins", body, options, figure)


def case_e(options) -> None:
    """HBV and GR4J, milliseconds per basin and year."""
    years, window = (1, YEAR) if options.quick else (10, 2 * YEAR)
    rows = []
    for name in ("hbv", "gr4j"):
        for basins in (1, 4) if options.quick else (1, 20, 100):
            task = many_stores(name, basins, years)
            field = [*our_solvers(task), DailyLoop("eager daily loop", task, days=window)]
            if name == "hbv" and _installed("hy2dl"):
                field.append(Hy2dl("Hy2DL HBV, float32", task, days=window, repeats=3))
            results = compete(field, options.repeats, checked=YEAR, substeps=16)
            cold = spread(results[0].both[:1], 1.0)
            rows += [_per_basin_year(r, name, task, results[0]) for r in results if cold]
    head = ["model", "basins", "contestant", "forward", "value + gradient", "/ cold", "NSE of Q"]
    body = f"""Milliseconds per basin and year; {options.repeats} interleaved repeats. Our solvers run {years} years,
the loops {window} days at a time, with the same default parameters. The loops take one explicit pass a day (HBV process
by process, GR4J explicit Euler; Hy2DL's HBV without capillary rise), so they solve cruder equations: NSE is that of
discharge against SDIRK2 with 16 steps a day over the first year.

{table(head, rows)}"""
    publish("E", "Solver contest: HBV and GR4J against eager loops", body, options)


def _per_basin_year(r: Result, name: str, task: Task, cold: Result) -> list[str]:
    row = [name, str(task.basins), r.contestant.name]
    if r.failure:
        return [*row, r.failure, "", "", ""]
    unit = 1e-3 * task.basins * task.days / 365.25
    ratio = sorted(r.both)[len(r.both) // 2] / sorted(cold.both)[len(cold.both) // 2]
    return [*row, spread(r.forward, unit), spread(r.both, unit), f"{ratio:.3g}", f"{r.nse:.4f}"]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        print(f"  {name} is not installed: left out", file=sys.stderr)
        return False
    return True


def introduction(options) -> None:
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in VERSIONS if _installed(n))
    publish("rules", "Solver contest", f"{DEFINITIONS}\n\nPeers: {versions}.", options)


CASES = {"A": case_a, "B": case_b, "C": case_c, "D": case_d, "E": case_e}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", default=",".join(CASES), help="cases to run, by comma")
    parser.add_argument("--repeats", type=int, default=None, help="interleaved repeats (5, quick: 1)")
    parser.add_argument("--quick", action="store_true", help="small sizes, printed and not written")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        growth.measure(options.point)
        return
    options.repeats = options.repeats or (1 if options.quick else 5)
    introduction(options)
    for key in options.case.split(","):
        CASES[key.strip().upper()](options)


if __name__ == "__main__":
    main()
