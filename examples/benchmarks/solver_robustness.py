"""Do the solvers converge, is what they return right, and how large is the error of a day's step?

Parts: ``a`` published EXP-HYDRO against an independent scalar solution; ``b`` random parameters, and networks with
weights too large; ``c`` HBV and GR4J with random parameters; ``d`` the error of each tableau's daily step.
"""

from __future__ import annotations

import argparse
import time

import torch
from _report import table, write
from robustness import basins, scalar
from robustness.runs import Batch, Tally, WatchedBlocks, WatchedCompiled, guarded

from udehydro.solvers import BACKWARD_EULER, SDIRK2

SCHEMES = (BACKWARD_EULER, SDIRK2)
BLOCKS = ("auto", 32, 128, 1024)
PARAMETERS = ("f", "smax", "qmax", "ddf", "tmax", "tmin")


def drivers(tableau, blocks=("auto",)):
    """Names and fresh drivers; every run starts cold."""
    yield "Compiled", WatchedCompiled(tableau, warm_start=False)
    for block in blocks:
        yield f"AllAtOnce, block {block}", WatchedBlocks(tableau, block=block, warm_start=False)


def publish(part: str, title: str, body: str, options) -> None:
    """Write a section of the page, or print it where the run is a quick one."""
    if options.quick:
        print(f"## {title}\n\n{body}\n")
    else:
        write(f"solver_robustness_{part}", f"Solver robustness: {title}", body, "solver_robustness")


def part_a(options) -> None:
    task = basins.published(*((20, 2) if options.quick else (1, 30)))
    batch = Batch(task.model, task.forcing, task.theta, task.storage0)
    forcing = {n: v.numpy() for n, v in task.forcing.values.items()}
    theta = torch.stack([task.theta[n] for n in PARAMETERS], -1).numpy()
    rows = []
    for tableau in SCHEMES:
        started = time.perf_counter()
        exact = torch.from_numpy(scalar.solve(forcing, theta, task.storage0.numpy(), tableau.a[0][0]))
        rows.append([tableau.name, "scalar root finding", *[""] * 7, f"{time.perf_counter() - started:.0f}"])
        for name, solver in drivers(tableau, BLOCKS):
            tally, result = guarded(batch, solver)
            difference = (result[0] - exact).abs().max().item() if tally.raised == 0 else float("nan")
            rows.append(
                [
                    *(tableau.name, name, str(tally.raised), str(tally.audit.unsolved + tally.audit.broken)),
                    _fallbacks(tally, solver, task.days),
                    f"{tally.iterations:,}",
                    *(f"{v:.1e}" for v in (difference, tally.audit.residual, tally.audit.closure)),
                    f"{tally.seconds:.0f}",
                ]
            )
            print(rows[-1], flush=True)
    head = ["scheme", "driver", "runs raised", "steps unsolved", "halved / stepped / intervals cut", "iterations"]
    head += ["largest difference, mm", "largest residual, mm", "balance error, mm", "s"]
    body = f"""EXP-HYDRO with the published parameters and initial storages, {task.basins} basins x {task.days} days, one
step a day. The scalar solution finds the root of every store's equation within a bracket, to round-off, from the
equations and without the package. Differences are those of storages. Residuals are computed from the storages returned;
a step is unsolved where its residual is above 1e-7 (1 + 1e-3 |S|) mm. Halved: blocks solved again in parts; stepped:
parts stepped through one day after the other; cut: days of a basin in sub-steps. Iterations are evaluations of a
block's rates and Jacobians, and of one store's of one step in the compiled driver.

{table(head, rows)}"""
    publish("a", "published EXP-HYDRO against an independent solution", body, options)


def _fallbacks(tally: Tally, solver, days: int) -> str:
    if isinstance(solver, WatchedCompiled):
        return f"- / - / {tally.cut}"
    return f"{tally.halved} / {tally.stepped} / {tally.cut}"


PARTS = {"a": part_a}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", default=",".join(PARTS), help="parts to run, by comma")
    parser.add_argument("--quick", action="store_true", help="small sizes, printed and not written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in options.part.split(","):
        PARTS[part.strip()](options)


if __name__ == "__main__":
    main()
