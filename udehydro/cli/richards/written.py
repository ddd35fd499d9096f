"""What learning writes: curves, values, a summary, figures; and the table that it prints."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from udehydro import plot
from udehydro.cli.richards.answer import HEADS, Answer
from udehydro.cli.richards.case import Case
from udehydro.cli.richards.figures import readings
from udehydro.cli.tables import table
from udehydro.files import write_atomic, write_json_atomic

FILES = ("curves.csv", "parameters.json", "summary.json", "figures")
DRAWN = slice(20, 101)
"""Of the heads, pF 0 to 4."""


def write(out: Path, case: Case, answer: Answer, gauges: dict, warnings: Sequence[str]) -> None:
    """All files of an answer; figures of an earlier one are removed."""
    layers = range(len(answer.column.layers))
    curves = pd.concat([pd.DataFrame({"layer": i, **answer.curves(i)}) for i in layers])
    write_atomic(out / "curves.csv", curves.to_csv(index=False, float_format="%.6g"))
    rows = answer.rows()
    write_json_atomic(out / "parameters.json", {r.pop("name"): r for r in answer.rows()})
    visited = [dict(zip(("driest_cm", "wettest_cm"), answer.visited(i), strict=True)) for i in layers]
    summary = {"schema": 1, "by": answer.how, "chi2_by_reading": answer.misfit, "gauges": gauges, "visited": visited}
    sensors = {s.name: {"kind": s.kind, "depth_cm": s.depth, "readings": int((~pd.isna(s.values)).sum())}
               for s in case.sensors}  # fmt: skip
    summary |= {"unknowns": len(rows), "sensors": sensors, "warnings": list(warnings), "notes": case.notes}
    write_json_atomic(out / "summary.json", summary)
    shutil.rmtree(out / "figures", ignore_errors=True)
    edges = case.forcing.time_edge
    write_atomic(out / "figures/readings.png", plot.png(readings(case.sensors, answer.read(case.sensors), edges)))
    psi = torch.as_tensor(HEADS[DRAWN])
    for i in layers:
        bands = answer.fitted.curves(psi, i)
        figure = plot.soil_curves({answer.how: bands}, psi, visited=answer.visited(i))
        name = "curves" if len(layers) == 1 else f"curves_layer_{i}"
        write_atomic(out / f"figures/{name}.png", plot.png(figure))


def summary_table(answer: Answer) -> str:
    """Values with standard deviations, and how well the model fits."""
    rows = []
    for r in answer.rows():
        sd = f"{100.0 * r['sd']:.2g} %" if r["relative"] else f"{r['sd']:.2g}"
        of_seeds = r.get("seeds")
        between = f"{min(of_seeds):.3g} to {max(of_seeds):.3g}" if of_seeds else "-"
        row = [r["name"], f"{r['start']:.4g}", f"{r['value']:.4g}", sd if r["known"] else "unknown", between]
        rows.append([*row, "at a limit" if r["at_limit"] else ""])
    headers = ["value", "start", "found", "sd", "networks", ""]
    if all(row[4] == "-" for row in rows):
        headers, rows = headers[:4] + headers[5:], [row[:4] + row[5:] for row in rows]
    dry, wet = answer.visited(0)
    fits = f"chi2 by reading {answer.misfit:.3g} (1 is expected), by {answer.how}"
    return f"{table(headers, rows)}\n{fits}; heads visited: {dry:.3g} to {wet:.3g} cm"
