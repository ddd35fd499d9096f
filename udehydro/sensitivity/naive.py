"""torchdiffeq as it is mostly called: once over the whole record. For comparison only: see what goes wrong."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

from torch import Tensor

from udehydro.errors import SolverError
from udehydro.solvers import Problem, Torchdiffeq
from udehydro.solvers.torchdiffeq import Record


@dataclass(frozen=True)
class OneCall(Torchdiffeq):
    """One adaptive call over all intervals, forcing looked up by time, steps chosen as if nothing jumped.

    :class:`Torchdiffeq` refuses this: error control sees a rain pulse only where a stage falls on it.

    Parameters
    ----------
    jumps : whether the edges are given as ``jump_t``. torchdiffeq 0.2.5 stops heeding them after a step that lands on
        one exactly, as steps of a day do.
    named : whether parameters and forcing are given as ``adjoint_params``; of others the continuous adjoint has no
        gradient, without an error.
    most : evaluations per interval, there and back together, after which SolverError is raised; interval by interval
        some 40 are needed.
    """

    span: Literal["record"] = "record"
    _: KW_ONLY
    jumps: bool = False
    named: bool = True
    most: int = 200

    def __post_init__(self):
        """Nothing is refused here."""

    def field(self, problem: Problem, edges: Tensor) -> Record:
        return _Counted(problem, edges, self.most * len(problem.days))

    def options(self, times: Tensor, stores: int) -> dict:
        kept = {n: v for n, v in super().options(times, stores).items() if n == "norm"}
        return kept | ({"jump_t": times[1:-1]} if self.jumps else {})

    def leaves(self, field: Record) -> tuple[Tensor, ...]:
        return super().leaves(field) if self.named else ()


class _Counted(Record):
    def __init__(self, problem: Problem, edges: Tensor, most: int):
        super().__init__(problem, edges)
        self.most, self.count = most, 0

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        self.count += 1
        if self.count > self.most:
            raise SolverError(f"Given up after {self.most} evaluations of the rates, at day {float(t.detach()):.3f}.")
        return super().forward(t, state)
