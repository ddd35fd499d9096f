"""The training objective: simulate, compare with observations, differentiate; one loss per member."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from udehydro.balance import Balance
from udehydro.errors import SolverError, StepBoundWarning
from udehydro.forcing import Forcing
from udehydro.simulate import simulate
from udehydro.simulation import Simulation
from udehydro.solvers import Solver
from udehydro.training.members import Members
from udehydro.training.observed import Target


@dataclass
class Objective:
    """``objective(x (M, P)) -> (loss (M,), gradient (M, P))``; a member that cannot be simulated has infinite loss.

    Attributes
    ----------
    forcing : record simulated in one continuous run.
    targets : what the run is compared with, and ``observed`` (T + lead, *batch) the values of each for that record; the
        loss is the weighted sum of theirs.
    train, valid : intervals scored; only ``train`` has a gradient. ``valid_loss`` (M,) is refreshed with every call,
        and ``parts``: per target its losses (M,) in both, as ``(train, valid)``.
    first : whether the record begins where that of the targets does.
    storage0 : initial storages where ``parameters`` calibrate none; None repeats the first year.
    penalty : weight of the mean square of network weights.
    """

    model: Balance
    parameters: nn.Module
    members: Members
    forcing: Forcing
    targets: Sequence[Target]
    train: slice
    valid: slice | None
    solver: Solver | None
    observed: Sequence[Tensor] | None = None
    first: bool = True
    storage0: Tensor | None = None
    penalty: float = 0.0
    valid_loss: Tensor | None = None
    parts: list[tuple[Tensor, Tensor | None]] = field(default_factory=list)
    final_storage: Tensor | None = None
    failures: int = 0
    safe: Tensor | None = field(default=None, repr=False)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        bad = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        used = x
        for _ in range(1 + len(x)):
            try:
                loss, gradient = self._evaluate(used)
                break
            except SolverError as error:
                self.failures += 1
                failed = self._failed(error, x)
                if self.safe is None or bool((failed & bad).any()) or not bool(failed.any()):
                    raise
                # the others need not suffer: replace those that failed by points that worked, and reject them
                bad |= failed
                used = torch.where(bad[:, None], self.safe, x)
        finite = loss.isfinite() & gradient.isfinite().all(1)
        base = x if self.safe is None else self.safe
        self.safe = torch.where((finite & ~bad)[:, None], x, base)
        return torch.where(bad, torch.full_like(loss, math.inf), loss), gradient

    def _failed(self, error: SolverError, x: Tensor) -> Tensor:
        if error.failed is None or error.failed.numel() % len(x):
            return torch.ones(len(x), dtype=torch.bool, device=x.device)
        return error.failed.reshape(len(x), -1).any(1)

    def _evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.members.write(x)
        simulation = self.simulate()
        scores = [self._scores(i, target, simulation) for i, target in enumerate(self.targets)]
        weights = [target.weight for target in self.targets]
        loss = sum(w * train for w, (train, _) in zip(weights, scores, strict=True))
        if self.valid is not None:
            self.valid_loss = sum(w * valid for w, (_, valid) in zip(weights, scores, strict=True))
        self.parts = [(train.detach(), valid) for train, valid in scores]
        self.final_storage = simulation.storage[-1].detach()
        total = loss + self._penalty() if self.penalty else loss
        gradient = torch.autograd.grad(total.sum(), self.members.tensors, allow_unused=True)
        return total.detach(), self.members.gather(gradient)

    def _scores(self, i: int, target: Target, simulation: Simulation) -> tuple[Tensor, Tensor | None]:
        """Losses (M,) of one target in both periods; that in validation without a graph."""
        series = target.observe(simulation)
        observed = target.values if self.observed is None else self.observed[i]
        rows = target.rows(self.train, self.first)
        train = self._per_member(target.prepared(series[rows], observed[rows]))
        if self.valid is None:
            return train, None
        with torch.no_grad():
            rows = target.rows(self.valid, self.first)
            return train, self._per_member(target.valid_score(series[rows].detach(), observed[rows]))

    def simulate(self) -> Simulation:
        """One run at the present values."""
        start = self.parameters.storage0(self.model.store_names)
        storage0 = self.storage0 if start is None else start
        theta = self.parameters(self.forcing)
        with warnings.catch_warnings():
            # a search passes through such parameters; whoever simulates what it found is warned
            warnings.simplefilter("ignore", StepBoundWarning)
            return simulate(self.model, self.forcing, theta=theta, storage0=storage0, solver=self.solver)

    def _per_member(self, loss: Tensor) -> Tensor:
        return loss.reshape(self.members.members, -1).mean(1)

    def _penalty(self) -> Tensor | float:
        weights = [p for n, p in self.model.named_parameters() if "weights" in n]
        if not weights:
            return 0.0
        squares = [w.reshape(self.members.members, -1).square().sum(1) for w in weights]
        return (
            self.penalty * sum(squares) / sum(w[0].numel() if self.members.members > 1 else w.numel() for w in weights)
        )
