"""Automatic: the driver that is fastest for a problem, by a rule that rests on measurements."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal
from weakref import WeakSet

from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import ConfigError, StructureError
from udehydro.solvers import compiled
from udehydro.solvers.all_at_once import AllAtOnce
from udehydro.solvers.compiled import Compiled
from udehydro.solvers.march import March
from udehydro.solvers.one_step import Cuts, OneStep
from udehydro.solvers.problem import Problem, SolverReport
from udehydro.solvers.stepping import Stepping
from udehydro.solvers.warm import WarmStart

_REFUSED: WeakSet[Balance] = WeakSet()
"""Models whose laws cannot be compiled."""
WORTH, WORTH_NETWORKS = 500_000, 10_000_000
"""Intervals x batch x runs from which compiling a model (some seconds, once) costs less than it saves."""


@dataclass(frozen=True)
class Automatic(OneStep):
    """Any one-step scheme by the driver that suits the problem (default solver); options in :class:`OneStep`.

    Explicit tableaux: :class:`Stepping`. On the CPU: :class:`Compiled`, once the work makes up for compiling, where
    numba is installed and the laws can be compiled (networks without a member axis). Else :class:`AllAtOnce`.
    All give the same numbers, to ``tolerance``. docs/benchmarks.md has the measurements behind the rule.

    Parameters
    ----------
    compile : ``True`` compiles any model that can be, ``False`` none, ``"auto"`` by the rule above.
    runs : how many runs like the first are to come; training sets it.
    warm_start : start every run from the last over the same intervals.
    """

    _: KW_ONLY
    compile: bool | Literal["auto"] = "auto"
    runs: int = 1
    warm_start: bool = True
    memory: WarmStart = field(default_factory=WarmStart, init=False, repr=False, compare=False)

    def driver(self, problem: Problem) -> OneStep:
        """The driver for a problem, with these options and this memory."""
        if not self.tableau.implicit:
            return Stepping(**self.options())
        chosen = (Compiled if self._compiles(problem) else AllAtOnce)(**self.options(), warm_start=self.warm_start)
        object.__setattr__(chosen, "memory", self.memory)
        return chosen

    def march(self, problem: Problem, y: Tensor, cuts: Cuts, report: SolverReport) -> March:
        driver = self.driver(problem)
        if isinstance(driver, Compiled) and self.compile == "auto":
            try:
                compiled.compiled(problem)
            except (StructureError, ConfigError, OSError) as error:
                _REFUSED.add(problem.model)
                report.notes.append(f"not compiled: {error}")
                driver = self.driver(problem)
        report.solver = f"{type(driver).__name__}({self.tableau.name})"
        return driver.march(problem, y, cuts, report)

    def _compiles(self, problem: Problem) -> bool:
        on_cpu = problem.days.device.type == "cpu"
        if self.compile is False or not (on_cpu and problem.separable and compiled.available()):
            return False
        if self.compile is True or compiled.is_built(problem):
            return True
        work = len(problem.days) * math.prod(problem.batch) * self.runs
        worth = WORTH_NETWORKS if compiled.has_networks(problem) else WORTH
        return work >= worth and problem.model not in _REFUSED
