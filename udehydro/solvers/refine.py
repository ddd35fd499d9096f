"""Error control: a local error for every interval and basin, and substeps that keep it below a tolerance.

The error of an interval is that of its end storage and of its volumes, for the start the run had: the interval is done
again in twice as many steps, and the difference tells (step doubling). All intervals are judged side by side, because
their starts are known.
"""

from __future__ import annotations

import torch
from torch import Tensor

from udehydro.errors import SolverError
from udehydro.solvers import newton
from udehydro.solvers.march import March, evaluation_points
from udehydro.solvers.one_step import Cuts, OneStep
from udehydro.solvers.problem import Point, Problem, SolverReport
from udehydro.solvers.step import advance
from udehydro.solvers.tableau import Tableau

ROUNDS = 12
MOST = 4096
"""Steps per interval beyond which refining gives up."""


def refine(solver: OneStep, problem: Problem, y: Tensor, report: SolverReport) -> tuple[March, Cuts]:
    """March with substeps that keep the local error of every interval and basin within ``solver.accuracy``.

    The substeps (T, *batch) are left in ``report.substeps``, the errors [mm] in ``report.error``. With an accuracy of
    infinity nothing is refined and the error alone is estimated.

    Raises SolverError where more than 4096 steps in an interval would be needed.
    """
    each = solver.substeps
    if not isinstance(each, Tensor):
        each = torch.full((len(problem.days), *problem.batch), each, device=y.device)
    for _ in range(ROUNDS):
        cuts = Cuts(problem, each)
        part = SolverReport(report.solver)
        march = solver.march(problem, y, cuts, part)
        report.solver, report.split_intervals, report.notes = part.solver, part.split_intervals, part.notes
        report.newton_iterations += part.newton_iterations
        report.pivots += part.pivots
        error = local_error(problem, solver.tableau, march, each, solver.tolerance)
        far = ~(error <= solver.accuracy)
        report.substeps, report.error = each, error
        if not bool(far.any()):
            return march, cuts
        excess = torch.nan_to_num(error / solver.accuracy, nan=torch.inf)
        factor = excess.pow(1.0 / solver.tableau.order).ceil().clamp(2.0, 8.0).to(each.dtype)
        each = torch.where(far, each * factor, each)
        if bool((each > MOST).any()):
            break
    k, *element = far.nonzero()[0].tolist()
    raise SolverError(
        f"{solver.tableau.name} does not reach accuracy={solver.accuracy:g} mm in {problem.label(k, element)} with "
        f"{int(each.max())} steps: the error of {error[k, *element].item():.3g} mm there does not fall fast enough. "
        "Ask for less accuracy, or look at the law there (a jump?).",
        failed=problem.spread(far.any(0)),
    )


@torch.no_grad()
def local_error(problem: Problem, tableau: Tableau, march: March, each: Tensor, tolerance: float) -> Tensor:
    """Largest error [mm] of any storage or volume (T, *batch), told by what twice the ``each`` steps would give."""
    # of the error at step h, a scheme of order p keeps 2^-p at half of it; the difference is the rest
    share = 1.0 - 2.0**-tableau.order
    start, end = march.storage[:-1].movedim(-1, 0), march.storage[1:].movedim(-1, 0)
    volume = march.volume.movedim(-1, 0)
    error = torch.zeros_like(start[0])
    for count in each.unique().tolist():
        chosen = each == count
        # every network of a member axis sees its own elements, so whole intervals are taken
        rows = chosen if problem.separable else chosen.reshape(len(each), -1).any(1)
        where = rows.nonzero(as_tuple=True)
        size = max(1, evaluation_points(problem))
        for part in range(0, len(where[0]), size):
            at = tuple(index[part : part + size] for index in where)
            point = problem.points(at[0], at[1:]) if problem.separable else problem.at(at[0])
            h = problem.days[at[0]] / (2 * count)
            h = h if problem.separable else h.reshape(-1, *(1,) * len(problem.batch))
            finer, moved, solved = _steps(problem, tableau, point, h, start[:, *at], 2 * count, tolerance)
            gap = torch.maximum((finer - end[:, *at]).abs().amax(0), (moved - volume[:, *at]).abs().amax(0))
            gap = torch.where(solved, gap / share, torch.inf)
            error[at] = gap if problem.separable else torch.where(chosen[at], gap, error[at])
    return error


def _steps(problem: Problem, tableau: Tableau, point: Point, h: Tensor, y: Tensor, count: int, tolerance: float):
    """``count`` steps from ``y`` at every point; returns end, volumes moved, and where all stages were solved."""
    volume, solved = 0.0, torch.ones_like(y[0], dtype=torch.bool)
    for _ in range(count):

        def solve(i: int, base: Tensor, ha: Tensor, y: Tensor = y) -> Tensor:
            nonlocal solved
            stage, done, _ = newton.solve_stage(problem.model, point, base, ha, y, tolerance)
            solved = solved & done
            return stage.state - stage.update

        y, moved = advance(problem.model, tableau, point, h, y, solve)
        volume = volume + moved
    return y, volume, solved
