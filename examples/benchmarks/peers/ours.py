"""Our own solvers as contestants, and the reference that errors are measured against."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from udehydro import simulate
from udehydro.solvers import SDIRK2, Compiled, Solver

from .contestant import Contestant
from .task import Task

CHANGE = 0.01
"""Relative change of every parameter and weight that a warm start comes from, standard deviation."""


class Ours(Contestant):
    """A solver of ours, made anew for every call, or kept and primed at other parameters where it starts warm."""

    def __init__(self, name: str, task: Task, make: Callable[[], Solver], warm: bool = False, **limits):
        super().__init__(name, task, **limits)
        self.make, self.warm = make, warm
        self.solver = make()
        self.draws = torch.Generator().manual_seed(0)

    def prepare(self) -> float:
        started = time.perf_counter()
        short = Ours("", self.task.first(2), self.make)
        short.forward()
        short.value_and_gradient(2)
        return time.perf_counter() - started

    def prime(self) -> None:
        if not self.warm:
            self.solver = self.make()
            return
        with self._changed() as theta, torch.no_grad():
            self._discharge(theta, self.task.storage0)

    def forward(self) -> np.ndarray:
        with torch.no_grad():
            return self._discharge(self.task.theta, self.task.storage0).numpy()

    def value_and_gradient(self, days: int) -> tuple[float, np.ndarray]:
        theta = {n: v.clone().requires_grad_() for n, v in self.task.theta.items()}
        storage0 = self.task.storage0.clone().requires_grad_()
        discharge = self._discharge(theta, storage0)
        loss = (discharge - self.task.observed)[:days].square().mean()
        laws = self.task.model.laws.values()
        weights = [[*law.net.weights, *law.net.biases] for law in laws]
        wanted = [*theta.values(), *(w for law in weights for w in law), storage0]
        gradient = torch.autograd.grad(loss, wanted)
        return loss.item(), torch.cat([g.flatten() for g in gradient]).numpy()

    def _discharge(self, theta, storage0) -> torch.Tensor:
        task = self.task
        return simulate(task.model, task.forcing, theta=theta, storage0=storage0, solver=self.solver).discharge

    @contextmanager
    def _changed(self) -> Iterator[dict[str, torch.Tensor]]:
        """Parameters changed by one percent; the weights are changed in place meanwhile."""
        weights = list(self.task.model.parameters())
        kept = [w.detach().clone() for w in weights]
        with torch.no_grad():
            for w, old in zip(weights, kept, strict=True):
                w.copy_(self._nearby(old))
        try:
            yield {n: self._nearby(v) for n, v in self.task.theta.items()}
        finally:
            with torch.no_grad():
                for w, old in zip(weights, kept, strict=True):
                    w.copy_(old)

    def _nearby(self, value: torch.Tensor) -> torch.Tensor:
        return value * (1.0 + CHANGE * torch.randn(value.shape, generator=self.draws, dtype=value.dtype))


def reference(task: Task, substeps: int) -> tuple[np.ndarray, np.ndarray]:
    """Discharge and gradient converged in step size: SDIRK2 with ``substeps`` steps a day."""
    exact = Ours("reference", task, lambda: Compiled(SDIRK2, substeps=substeps))
    return exact.forward(), exact.value_and_gradient(task.days)[1]
