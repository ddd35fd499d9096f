"""``udehydro sensitivity gradients``: every way to a gradient, by error, time and memory."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import typer

from udehydro import plot
from udehydro.cli.sensitivity.asking import asking
from udehydro.cli.sensitivity.case import Case, read_case
from udehydro.cli.sensitivity.goal import Asked, Goal, read_asked
from udehydro.cli.sensitivity.written import close, pictures, several, write
from udehydro.cli.tables import table
from udehydro.experiment.pictures import Drawn
from udehydro.report import Items, Section, Table, Text, number
from udehydro.sensitivity import compare_gradients, usual_ways
from udehydro.solvers import Torchdiffeq

OWN = 1e-6
"""Relative error from which on a gradient is not that of what was computed; round-off of a long run stays below."""
MEASURES = ("value_error", "own_error", "true_error", "seconds", "megabytes")
CAPTION = (
    "Of every way: the error of its gradient against the true one, which holds the error of the steps; against "
    "autograd through the same steps, which tells whether it is the gradient of what was computed; time and memory of "
    "one value with its gradient."
)


@asking(case=read_case, asked=read_asked)
def command(
    case: Case,
    asked: Asked,
    torchdiffeq: bool = typer.Option(False, "--torchdiffeq", help="Also by torchdiffeq, which takes minutes more."),
    repeats: int = typer.Option(3, "--repeats", min=1, metavar="N", help="Timed calls of each way."),
) -> None:
    """Which way to a gradient is right, and what does each cost, on your own model and record?

    \b
    udehydro sensitivity gradients --model exphydro --data demo:fulda --objective nse \\
      --period 1980-01-01/1980-12-31 --out out/gradients

    By all parameters and initial storages, all basins together. Two years take some minutes, most of it for autograd
    through single steps, against which the others are held. Times are those of this machine, as busy as it is.
    Exit code 1: no way arrived.
    """
    goal = asked.goal(case)
    ways = {n: w for n, w in usual_ways().items() if torchdiffeq or not isinstance(w.solver, Torchdiffeq)}
    options = {"ways": ways, "repeats": repeats, "progress": case.progress}
    found = compare_gradients(case.run.model, case.forcing, goal.objective, **case.given, **options)
    arrived = found[found["failure"] == ""]
    figures = []
    if len(arrived):
        figures.append(Drawn("gradients", "gradients", plot.png(plot.gradient_ways(found)), CAPTION))
    rows = {str(n): row for n, row in found.drop(columns=["value"]).to_dict("index").items()}
    dataset = found.to_xarray().assign_attrs(objective=goal.said, unit_of_objective=goal.unit)
    objective = {"name": goal.name, "unit": goal.unit, "said": goal.said}
    summary = {"analysis": "gradients", "objective": objective, "basins": list(case.basins), "ways": rows}
    title = f"Ways to the gradient of {goal.said}: {several(case.basins)}"
    write(case, dataset, summary, figures, title, _headline(arrived), _sections(goal, found, figures))
    print(table(["way", *MEASURES], [[n, *row[list(MEASURES)]] for n, row in found.iterrows()]))
    close(case, [] if len(arrived) else ["no way arrived at a gradient"])


def _headline(arrived: pd.DataFrame) -> str:
    if not len(arrived):
        return "No way arrived at a gradient."
    right = arrived[arrived["own_error"] < OWN]
    text = f"{len(right)} of {len(arrived)} ways give the gradient of what they compute."
    if len(right):
        first = right["seconds"].idxmin()
        text += f" The fastest of them is '{first}', {number(right.loc[first, 'seconds'])} s."
    return text


def _sections(goal: Goal, found: pd.DataFrame, figures: Sequence[Drawn]) -> list[Section]:
    rows = [[str(n), *row[list(MEASURES)].tolist()] for n, row in found.iterrows()]
    items = []
    for name, row in found.iterrows():
        if row["failure"]:
            items.append(f"{name}: failed. {row['failure']}")
        elif row["own_error"] >= OWN:
            items.append(f"{name}: is not the gradient of what was computed, but {row['own_error']:.1e} away from it.")
    headers = ["way", "error of the value", "own error", "true error", "seconds", "MB"]
    caption = (
        "Errors are relative. Own: against autograd through the same steps. True, and of the value: against steps with "
        "a local error of 1e-6 mm."
    )
    told = (
        f"The gradient of {goal.said} by all parameters and initial storages, in relative changes. An optimiser that "
        "is given the gradient of something else than what it lowers stalls, or goes astray; the gradient of a run in "
        "coarse steps is as far from the true one as these are."
    )
    return [
        Section("In words", [Text(told), Items(items or ["Every way gives the gradient of what it computes."])]),
        Section("Errors and costs", [Table(headers, rows, caption, digits=4), *pictures(figures, "gradients")]),
    ]
