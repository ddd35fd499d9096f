"""Adjoint of the column against central differences: every law, boundary and scheme."""

from __future__ import annotations

import itertools

import torch
from _report import table
from _richards_gradient_cases import BOTTOMS, DIRECTIONS, GRID, SCHEMES, STEPS, TOPS, Case, soils

from udehydro.errors import SolverError

GOAL = 1e-6


def run() -> dict:
    found = []
    for (name, (law, p)), top, bottom, tableau in itertools.product(soils().items(), TOPS, BOTTOMS, SCHEMES):
        row = {"law": name, "top": top, "bottom": bottom, "scheme": tableau.name}
        for steps in (3, 12, 48):
            case = Case(law, p, top, bottom, tableau, steps)
            try:
                found.append(row | {"steps": steps, "by": "inputs"} | case.by_inputs() | opened(case))
                if case.column.weights():
                    found.append(row | {"steps": steps, "by": "weights"} | case.by_weights())
                break
            except SolverError as failure:
                row["failure"] = str(failure)
        else:
            found.append(row)
    return {"rows": found}


def opened(case: Case) -> dict:
    """What the boundaries that switch have done: runoff, evaporation not delivered, outflow of faces [cm]."""
    with torch.no_grad():
        r = case.run(case.x[None])
    potential = sum(v * d for v, d in zip(case.series.get("pet", (0.0, 0.0)), (1.0, 2.0), strict=True))
    evaporated = float(r.evaporation.sum()) if "pet" in case.series else 0.0
    return {
        "runoff": float(r.runoff.sum()),
        "deficit": potential - evaporated,
        "up": float(r.top.sum()),
        "down": float(r.recharge.sum()),
    }


def section(found: dict) -> str:
    done = [r for r in found["rows"] if "error" in r]
    failed, bad = [r for r in found["rows"] if "error" not in r], [r for r in done if not r["error"] <= GOAL]
    inputs = [r for r in done if r["by"] == "inputs"]
    finer = [r for r in inputs if r["steps"] > 3]
    did = {n: max(r[n] for r in inputs) for n in ("runoff", "deficit")}
    sides = {"top": "up", "bottom": "down"}
    faces = [max(r[n] for r in inputs if r[side] == "seepage face") for side, n in sides.items()]
    return f"""The adjoint against central differences (relative changes of {", ".join(f"{h:g}" for h in STEPS)}, the
best of them, as [checks of gradients](sensitivity.md) do) for every law between every two boundaries by both schemes:
30 cm in {GRID.cells} cells, intervals of one and two days of three equal steps each, with other values of the
boundaries in each. The function adds heads of cells and ends, water contents, what moved through both ends, runoff,
evaporation, and the square of the storage. It is differentiated by parameters of the soil, initial heads and values of
boundaries, as factors of each, and by weights of networks along {DIRECTIONS} random directions. {len(inputs)}
combinations were solved; in them there were up to {did["runoff"]:.0f} cm of runoff, {did["deficit"]:.0f} cm of
evaporation not delivered, {faces[0]:.0f} and {faces[1]:.0f} cm through seepage faces at the top and at the bottom.

Worst relative error, by law:

{law_table(done)}

By boundaries, the worst of all laws and both schemes:

{pair_table(done)}

{verdict(bad, failed, finer, done)}"""


def verdict(bad: list, failed: list, finer: list, done: list) -> str:
    above = "; ".join(f"{called(r)}: {r['error']:.1e}" for r in bad)
    lines = [f"Goal: {GOAL:g}. Above it: {above or 'none'}."]
    kinks = [r for r in done if r["excluded"]]
    most = max((int(r["excluded"]) for r in kinks), default=0)
    lines.append(
        f"In {len(kinks)} comparisons a kink (a boundary that switches, an air entry) left out entries, {most} at most."
    )
    if finer:
        told = ", ".join(sorted({f"{r['top']} / {r['bottom']}" for r in finer}))
        lines.append(f"Three steps could not be solved, but 12 or 48, in {len(finer)}: {told}.")
    lines.append(f"Not solved at all: {'; '.join(called(r) for r in failed) or 'none'}.")
    if failed and all((r["top"], r["bottom"]) == ("pond", "free drainage") for r in failed):
        lines.append(
            "These soils have an air entry, up to which heads change no water: a column that a pond has saturated and "
            "that drains freely has no head to hold on to there, and Newton's iteration does not find the way out."
        )
    return " ".join(lines)


def called(r: dict) -> str:
    by = f", by {r['by']}" if "by" in r else ""
    return f"{r['law']}, {r['top']} / {r['bottom']}, {r['scheme']}{by}"


def law_table(done: list) -> str:
    rows = []
    for law in dict.fromkeys(r["law"] for r in done):
        row = [law]
        for by, scheme in itertools.product(("inputs", "weights"), SCHEMES):
            errors = [r["error"] for r in done if (r["law"], r["by"], r["scheme"]) == (law, by, scheme.name)]
            row.append(f"{max(errors):.1e}" if errors else "")
        rows.append(row)
    head = ["law", *(f"by {by}, {s.name}" for by, s in itertools.product(("inputs", "weights"), SCHEMES))]
    return table(head, rows)


def pair_table(done: list) -> str:
    def worst(top: str, bottom: str) -> str:
        errors = [r["error"] for r in done if (r["top"], r["bottom"]) == (top, bottom)]
        return f"{max(errors):.1e}" if errors else "not solved"

    return table(["top / bottom", *BOTTOMS], [[top, *(worst(top, b) for b in BOTTOMS)] for top in TOPS])
