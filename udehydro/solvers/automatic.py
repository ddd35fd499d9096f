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
WORTH = 500_000
"""Intervals x batch x runs from which compiling a model (some seconds, once) costs less than it saves."""


@dataclass(frozen=True)
class Automatic(OneStep):
    """Any one-step scheme by the driver that suits the problem (default solver); options in :class:`OneStep`.

    Explicit tableaux: :class:`Stepping`. Anything on an accelerator, and networks: :class:`AllAtOnce`. Plain models on
    the CPU: :class:`Compiled`, once the work makes up for compiling, where numba is installed; else AllAtOnce. A
    network that was compiled before takes Compiled for a cold start, since its time depends little on the guess.
    All give the same numbers, to ``tolerance``. docs/benchmarks.md has the measurements behind the rule.

    Parameters
    ----------
    compile : ``True`` compiles any model that can be, ``False`` none, ``"auto"`` plain models by the rule above.
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
        if self.compile is False or problem.days.device.type != "cpu" or not compiled.available():
            return False
        if self.compile == "auto" and problem.model in _REFUSED:
            return False
        built = self.compile is True or compiled.is_built(problem)
        if compiled.has_networks(problem):
            return built and problem.separable and not (self.warm_start and self.memory.covers(problem))
        work = len(problem.days) * math.prod(problem.batch) * self.runs
        return built or work >= WORTH
