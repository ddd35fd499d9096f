"""Steps that are given up: why, as far as the state of the column tells, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from udehydro.errors import SolverError
from udehydro.richards.column.boundary import Atmospheric, Flux
from udehydro.richards.column.problem import Problem
from udehydro.richards.column.sinks import Source
from udehydro.richards.column.system import System

PARCHED = -1e5
"""Head [cm] of soil that gives no more water, whatever draws."""
FULL = 0.995
"""Share of its water from which a cell counts as saturated."""
STORAGE = "a specific storage: Layer(law, specific_storage=1e-6)."


class GivenUp(NamedTuple):
    """Steps that columns could not take, one a column (n,): which column, in which interval, and step [d]; heads at its
    start (n, node); whether its equations were solved, but not well enough, and what they miss (n, node)."""

    columns: Tensor
    interval: Tensor
    h: Tensor
    psi: Tensor
    solved: Tensor
    residual: Tensor

    def select(self, keep: Tensor) -> GivenUp:
        return GivenUp(*(t[keep] for t in self))

    @classmethod
    def join(cls, parts: Sequence[GivenUp]) -> GivenUp:
        """All of them, by column."""
        found = cls(*(torch.cat(x) for x in zip(*parts, strict=True)))
        return found.select(found.columns.argsort())


def refuse(problem: Problem, lost: GivenUp) -> NoReturn:
    """Say of the first column that failed why, and of all which they are.

    Raises
    ------
    SolverError
        Always.
    """
    failed = torch.zeros(problem.columns, dtype=torch.bool, device=lost.columns.device)
    failed[lost.columns] = True
    column, k, h = int(lost.columns[0]), int(lost.interval[0]), float(lost.h[0])
    where, elements = problem.label(k, column), f"{len(lost.columns)} of {problem.columns} column(s)"
    if bool(lost.solved[0]):
        raise SolverError(
            f"{where}: steps get shorter than {h:.3g} d, or too many ({elements}). Allow for a larger error, "
            "for more steps or for smaller ones: Adaptive(tolerance=, most=, smallest=).",
            failed.reshape(problem.forcing.batch),
        )
    residual = lost.residual[0].abs()
    worst = int(torch.where(residual.isfinite(), residual, torch.inf).argmax())
    raise SolverError(
        f"A step of {h:.3g} d cannot be solved: {where}, {problem.node_name(worst)} misses its balance by "
        f"{float(residual[worst]):.3g} cm ({elements}). {remedy(problem, k, column, lost.psi[0], residual)}",
        failed.reshape(problem.forcing.batch),
    )


@torch.no_grad()
def remedy(problem: Problem, k: int, column: int, psi: Tensor, residual: Tensor) -> str:
    """What to do about a column that could not take a step from heads ``psi`` (node,) in interval k."""
    at = torch.tensor([column], device=psi.device)
    system = problem.system(problem.take(torch.tensor([k], device=psi.device), at))
    found = (
        _dry(problem, system, psi)  # whose heads may run out of numbers
        or _undefined(residual)
        or _rain(problem, system)
        or _saturated(problem, system, psi)
        or _singular(problem, system)
        or _wet(problem, system, psi)
    )
    return found or "Shorter steps (Adaptive, not Fixed) or finer cells there may help."


def _undefined(residual: Tensor) -> str:
    if bool(residual.isfinite().all()):
        return ""
    return "A parameter, the law or a sink gave NaN or infinity: look at the values of this column."


def _dry(problem: Problem, system: System, psi: Tensor) -> str:
    """Soil that has nothing left, and what draws on it."""
    if float(psi.min()) > PARCHED:
        return ""
    top, bottom, column = system.top, system.bottom, problem.column
    if isinstance(column.top, Flux) and float(top["q"]) > 0.0:
        return (
            f"The soil cannot give the flux of {float(top['q']):.3g} cm/d through its top. Fluxes are positive "
            "upwards: infiltration is negative. Atmospheric takes what the soil gives."
        )
    if isinstance(column.bottom, Flux) and float(bottom["q"]) < 0.0:
        return (
            f"The soil cannot give the flux of {float(bottom['q']):.3g} cm/d through its bottom. Fluxes are positive "
            "upwards. FreeDrainage, SeepageFace and Head take what the soil gives."
        )
    if any(
        isinstance(s, Source) and bool((v["rate"] < 0.0).any()) for s, v in zip(column.sinks, system.sinks, strict=True)
    ):
        return "A Source takes out more than the soil has; RootUptake stops where soil is dry."
    return ""


def _rain(problem: Problem, system: System) -> str:
    q, ks = system.top.get("q"), system.soil[0].get("Ks")
    if not isinstance(problem.column.top, Flux) or ks is None or float(-q) <= float(ks[0, 0]):
        return ""
    return (
        f"{float(-q):.3g} cm/d shall enter, more than the {float(ks[0, 0]):.3g} cm/d that saturated soil conducts: "
        "Atmospheric lets the rest pond or run off."
    )


def _saturated(problem: Problem, system: System, psi: Tensor) -> str:
    """Saturated soil between two given fluxes: no heads balance them where they differ."""
    given = isinstance(problem.column.bottom, Flux) and isinstance(problem.column.top, Flux | Atmospheric)
    if not given or not _full(problem, system, psi):
        return ""
    return f"Saturated soil between two given fluxes needs a head at one end, or {STORAGE}"


def _wet(problem: Problem, system: System, psi: Tensor) -> str:
    if not _full(problem, system, psi):
        return ""
    return f"The soil is saturated throughout, and stores nothing. It may need {STORAGE}"


def _full(problem: Problem, system: System, psi: Tensor) -> bool:
    """Whether all cells hold what they can."""
    cells = problem.geometry.cells(psi.unsqueeze(0))
    return bool((system.water(cells) >= FULL * system.water(torch.zeros_like(cells))).all())


def _singular(problem: Problem, system: System) -> str:
    for i, (layer, p) in enumerate(zip(problem.column.layers, system.soil, strict=True)):
        if {"n", "entry"} <= layer.law.ranges.keys():
            entry = p.get("entry", torch.zeros(()))
            if bool(((p["n"] < 2.0) & (entry <= 0.0)).any()):
                return (
                    f"Layer {i} has n below 2 and no air entry: its conductivity is singular at saturation. "
                    "Give it entry=1 or 2 cm."
                )
    return ""
