"""One step of a tableau, written once: marching and replaying differ only in how an implicit stage is solved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from udehydro.balance import Balance
from udehydro.solvers import newton
from udehydro.solvers.problem import Point
from udehydro.solvers.tableau import Tableau

StageSolver = Callable[[int, Tensor, Tensor], Tensor]
"""(stage index, known part of the stage, h times its diagonal entry) -> stage state (S, *points)."""


def along_slopes(y: Tensor, h: Tensor, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """y + h sum_j w_j f_j, over as many stages as have slopes yet."""
    for weight, slope in zip(weights, slopes, strict=False):
        if weight:
            y = y + (h * weight) * slope
    return y


def advance(
    model: Balance,
    tableau: Tableau,
    point: Point,
    h: Tensor,
    y: Tensor,
    solve: StageSolver,
    stages: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """State (S, *points) after one step and volumes (F, *points) moved; elementwise over one step or many.

    The states of all stages are added to ``stages`` where that is given.
    """
    slopes, volume = [], None
    for i, row in enumerate(tableau.a):
        state = along_slopes(y, h, row, slopes)
        if row[i]:
            state = solve(i, state, h * row[i])
        if stages is not None:
            stages.append(state)
        rate = newton.rates(model, point, state)
        if i + 1 < tableau.stages:
            slopes.append(newton.tendency(model, rate))
        if tableau.b[i]:
            part = (h * tableau.b[i]) * rate
            volume = part if volume is None else volume + part
    return y + newton.tendency(model, volume), volume


def path(model: Balance, tableau: Tableau, point: Point, h: Tensor, y: Tensor) -> list[Tensor]:
    """States that an explicit step visits after its start: the later stages and the end."""
    states, slopes = [y], []
    for row in (*tableau.a[1:], tableau.b):
        slopes.append(newton.tendency(model, newton.rates(model, point, states[-1])))
        states.append(along_slopes(y, h, row, slopes))
    return states[1:]


def replayed(
    model: Balance, point: Point, solved: Sequence[Tensor], jacobians: Sequence[Tensor], corrections: int = 1
) -> StageSolver:
    """Stages that were solved before, each corrected by differentiable Newton steps.

    Every correction with the frozen Jacobian makes one more order of derivatives exact.
    """

    def solve(i: int, base: Tensor, ha: Tensor) -> Tensor:
        state = solved[i]
        for _ in range(corrections):
            state = newton.correct(model, point, base, ha, state, jacobians[i])
        return state

    return solve
