"""Automatic: the driver that is fastest for a problem, by a rule that rests on measurements."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field, fields

from torch import Tensor

from udehydro.laws.neural import Perceptron
from udehydro.solvers import compiled
from udehydro.solvers.all_at_once import AllAtOnce
from udehydro.solvers.compiled import Compiled
from udehydro.solvers.march import March
from udehydro.solvers.one_step import Cuts, OneStep
from udehydro.solvers.problem import Problem, SolverReport
from udehydro.solvers.stepping import Stepping
from udehydro.solvers.warm import WarmStart

WORTH = 1_000_000
"""Intervals x batch x runs from which compiling a model (some seconds, once) costs less than it saves."""


@dataclass(frozen=True)
class Automatic(OneStep):
    """Any one-step scheme by the driver that suits the problem (default solver); options in :class:`OneStep`.

    Explicit tableaux: :class:`Stepping`. Models with networks, and anything on an accelerator: :class:`AllAtOnce`.
    Plain models on the CPU: :class:`Compiled`, once the work makes up for compiling, where numba is installed; else
    AllAtOnce. All give the same numbers, to ``tolerance``. docs/benchmarks.md has the measurements behind the rule.

    Parameters
    ----------
    runs : how many runs like the first are to come; training sets it.
    warm_start : start every run from the last over the same intervals.
    """

    _: KW_ONLY
    runs: int = 1
    warm_start: bool = True
    memory: WarmStart = field(default_factory=WarmStart, init=False, repr=False, compare=False)

    def driver(self, problem: Problem) -> OneStep:
        """The driver for a problem, with these options and this memory."""
        options = {f.name: getattr(self, f.name) for f in fields(OneStep)}
        if not self.tableau.implicit:
            return Stepping(**options)
        chosen = (Compiled if self._worth_compiling(problem) else AllAtOnce)(**options, warm_start=self.warm_start)
        object.__setattr__(chosen, "memory", self.memory)
        return chosen

    def march(self, problem: Problem, y: Tensor, cuts: Cuts, report: SolverReport) -> March:
        driver = self.driver(problem)
        report.solver = f"{type(driver).__name__}({self.tableau.name})"
        return driver.march(problem, y, cuts, report)

    def _worth_compiling(self, problem: Problem) -> bool:
        if problem.days.device.type != "cpu" or not compiled.available():
            return False
        if any(isinstance(m, Perceptron) for m in problem.model.modules()):
            return False
        work = len(problem.days) * math.prod(problem.batch) * self.runs
        return work >= WORTH or compiled.is_built(problem)
