"""The cost of strong-constraint 4D-Var, and its gradient by one run and one backward pass."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from udehydro.assimilation.background import Controls
from udehydro.balance import Balance
from udehydro.errors import SolverError, StepBoundWarning
from udehydro.forcing import Forcing
from udehydro.simulate import simulate
from udehydro.simulation import Simulation
from udehydro.solvers import Solver
from udehydro.training.gaussian import Gaussian
from udehydro.training.observed import Target


@dataclass(frozen=True)
class Cost:
    """``J(z) = 1/2 |z|^2 + 1/2 |r(z)|^2`` of every window, r the whitened residuals of discharge and further series.

    The controls are those of the background in units of its standard deviations, so its covariance is the identity: the
    transform by the square root of B (Lorenc 1988, Q. J. R. Meteorol. Soc. 114:205; Courtier et al. 1994, 120:1367).
    ``cost(x)`` takes and returns what the optimisers of :mod:`udehydro.training` do: x (N, P), loss (N,), gradient
    (N, P), an element of the batch being a member. An element that cannot be simulated has infinite cost.
    """

    model: Balance
    forcing: Forcing
    observed: Tensor
    controls: Controls
    errors: Gaussian
    theta: Mapping[str, Tensor | float] | None
    solver: Solver
    others: tuple[Target, ...] = ()

    def run(self, z: Tensor) -> Simulation:
        """The window from the storages and with the weather of controls (*batch, P)."""
        factors = self.controls.multipliers(z)
        values = {n: v * factors[n] if n in factors else v for n, v in self.forcing.values.items()}
        with warnings.catch_warnings():
            # the parameters are not searched here: whoever runs the model with them is warned
            warnings.simplefilter("ignore", StepBoundWarning)
            return simulate(
                self.model, replace(self.forcing, values=values), theta=self.theta,
                storage0=self.controls.storage0(z), solver=self.solver,
            )  # fmt: skip

    @property
    def seen(self) -> Tensor:
        """Which values are there (R, *batch), those of discharge before those of the other series."""
        return ~torch.cat([self.observed, *(o.values for o in self.others)]).isnan()

    def residuals(self, simulation: Simulation) -> Tensor:
        """Whitened residuals (R, *batch), zero where nothing was observed."""
        series = [(self.errors, simulation.discharge, self.observed)]
        series += [(o.loss, o.observe(simulation), o.values) for o in self.others]
        return torch.cat([e.whiten(e.residual(s, v)[0], ~v.isnan()) for e, s, v in series])

    def fit(self, simulation: Simulation) -> Tensor:
        """Half the sum of squared residuals (*batch)."""
        return 0.5 * self.residuals(simulation).square().sum(0)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        bad = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        while True:
            try:
                # the others need not suffer: the background stands in for those that fail
                loss, gradient = self._evaluate(torch.where(bad[:, None], 0.0, x))
                return torch.where(bad, math.inf, loss), gradient
            except SolverError as error:
                failed = bad if error.failed is None else error.failed.reshape(-1)
                if failed.shape != bad.shape or bool((failed & bad).any()) or not bool(failed.any()):
                    raise
                bad = bad | failed

    def _evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = x.detach().reshape(*self.forcing.batch, -1).requires_grad_()
        loss = 0.5 * z.square().sum(-1) + self.fit(self.run(z))
        (gradient,) = torch.autograd.grad(loss.sum(), z)
        return loss.detach().reshape(-1), gradient.reshape(x.shape)

    def covariance(self, z: Tensor) -> Tensor:
        """Covariance (*batch, P, P) of the controls at the minimum: inverse of the Gauss-Newton Hessian I + J' J.

        J, the derivatives of the residuals, by one backward pass for every row that has an observation. Its
        square is never formed: in single precision the Hessian of precise observations need not be positive.
        """
        z = z.detach().requires_grad_()
        residuals = self.residuals(self.run(z))
        unit = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device).expand(*z.shape[:-1], -1, -1)
        rows = [*unit.unbind(-2)]
        for k in self.seen.reshape(len(residuals), -1).any(1).nonzero()[:, 0].tolist():
            rows += torch.autograd.grad(residuals[k].sum(), z, retain_graph=True)
        root = torch.linalg.qr(torch.stack(rows, dim=-2), mode="r").R
        inverse = torch.linalg.solve_triangular(root, unit, upper=True)
        return inverse @ inverse.mT
