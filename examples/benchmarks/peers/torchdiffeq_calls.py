"""torchdiffeq in its fastest ordinary use: one call over the daily grid, plain torch right-hand side.

Forcing is looked up by whole days. Discharge is a third state that only accumulates, so daily volumes are its
differences. What depends on no store is computed for all days beforehand where that leaves the gradient right
(``odeint``); the continuous adjoint has to meet the parameters inside the right-hand side.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchdiffeq import odeint, odeint_adjoint

from .contestant import Contestant
from .task import WIDTH, Task


def switch(x: Tensor) -> Tensor:
    return 0.5 * (1.0 + torch.tanh(x / WIDTH))


def potential_evaporation(temp: Tensor, dayl: Tensor) -> Tensor:
    return 29.8 * dayl * 0.611 * torch.exp(17.3 * temp / (temp + 237.3)) / (temp + 273.2)


def weather(prcp: Tensor, temp: Tensor, pet: Tensor, theta: dict[str, Tensor]) -> Tensor:
    """What no store influences: snowfall, rainfall, melt potential, melting switch, PET and the raw series."""
    snowfall = switch(theta["tmin"] - temp) * prcp
    warmth = temp - theta["tmax"]
    return torch.stack([snowfall, prcp - snowfall, theta["ddf"] * warmth, switch(warmth), pet, prcp, temp], dim=-2)


def formula_fluxes(snow, soil, day, theta, networks) -> tuple[Tensor, Tensor]:
    """ET and discharge of EXP-HYDRO."""
    pet, above = day[4], soil - theta["smax"]
    full, wet = switch(above), switch(soil)
    below = 1.0 - full
    et = wet * pet * (full + below * soil / theta["smax"])
    base = theta["qmax"] * (full + below * torch.exp(theta["f"] * above.clamp(max=0.0)))
    return et, wet * (base + full * above)


def neural_fluxes(snow, soil, day, theta, networks) -> tuple[Tensor, Tensor]:
    """ET and discharge by networks: a share of PET and a softplus, neither more than the store in a day."""
    _, _, _, _, pet, prcp, temp = day
    share = torch.sigmoid(latent(networks["et"], snow, soil, temp))
    rate = torch.nn.functional.softplus(latent(networks["discharge"], soil, prcp))
    return torch.minimum(soil, share * pet), torch.minimum(soil, rate)


def latent(network: dict, *inputs: Tensor) -> Tensor:
    x = (torch.stack(inputs, dim=-1) - network["centre"]) / network["spread"]
    *hidden, last = zip(network["weights"], network["biases"], strict=True)
    for w, b in hidden:
        x = torch.tanh(torch.addmm(b, x, w))
    return torch.addmm(last[1], x, last[0]).squeeze(-1)


class RightHandSide:
    """Tendency of (snow, soil, accumulated discharge), a tensor (3, B)."""

    def __init__(self, task: Task, theta: dict[str, Tensor], networks: dict, ahead: bool):
        prcp, temp, dayl = (task.forcing.values[n] for n in ("prcp", "temp", "dayl"))
        raw = prcp, temp, potential_evaporation(temp, dayl)
        self.theta, self.networks = theta, networks
        self.fluxes = neural_fluxes if task.neural else formula_fluxes
        self.ahead, self.last = ahead, task.days - 1
        # a list of days: indexing one tensor would give every look-up a gradient of the length of the record
        self.day = weather(*raw, theta).unbind(0) if ahead else list(zip(*(r.unbind(0) for r in raw), strict=True))

    def __call__(self, t: Tensor, state: Tensor) -> Tensor:
        day = self.day[min(max(int(t), 0), self.last)]
        day = (day if self.ahead else weather(*day, self.theta)).unbind(0)
        snow, soil, _ = state.unbind(0)
        melt = day[3] * switch(snow) * torch.minimum(snow, day[2])
        et, discharge = self.fluxes(snow, soil, day, self.theta, self.networks)
        return torch.stack([day[0] - melt, day[1] + melt - et - discharge, discharge])


class Torchdiffeq(Contestant):
    """One ``odeint`` or ``odeint_adjoint`` call over all days."""

    def __init__(self, name: str, task: Task, method: str, adjoint: bool = False, **limits):
        settings = {k: limits.pop(k) for k in ("rtol", "atol", "options") if k in limits}
        super().__init__(name, task, **limits)
        if method == "rk4":
            settings = {"options": {"perturb": True}} | settings
        self.method, self.adjoint, self.settings = method, adjoint, settings
        self.edges = torch.arange(self.task.days + 1, dtype=torch.float64)

    def forward(self) -> np.ndarray:
        with torch.no_grad():
            return self._discharge(self.task.theta, self.networks(), self.task.storage0, odeint).numpy()

    def value_and_gradient(self, days: int) -> tuple[float, np.ndarray]:
        theta = {n: v.clone().requires_grad_() for n, v in self.task.theta.items()}
        storage0 = self.task.storage0.clone().requires_grad_()
        networks = self.networks(gradient=True)
        weights = [w for law in networks.values() for w in (*law["weights"], *law["biases"])]
        solve = odeint
        if self.adjoint:

            def solve(*args, **settings):
                return odeint_adjoint(*args, adjoint_params=(*theta.values(), *weights), **settings)

        discharge = self._discharge(theta, networks, storage0, solve)
        loss = (discharge - self.task.observed)[:days].square().mean()
        gradient = torch.autograd.grad(loss, [*theta.values(), *weights, storage0])
        return loss.item(), torch.cat([g.flatten() for g in gradient]).numpy()

    def networks(self, gradient: bool = False) -> dict:
        def copy(values):
            return [torch.as_tensor(v).clone().requires_grad_(gradient) for v in values]

        return {
            name: {"weights": copy(law["weights"]), "biases": copy(law["biases"])}
            | {n: torch.as_tensor(law[n]) for n in ("centre", "spread")}
            for name, law in self.task.networks().items()
        }

    def _discharge(self, theta, networks, storage0, solve) -> Tensor:
        rhs = RightHandSide(self.task, theta, networks, ahead=not self.adjoint)
        start = torch.cat([storage0.T, torch.zeros_like(storage0[:, :1]).T])
        accumulated = solve(rhs, start, self.edges, method=self.method, **self.settings)[:, 2]
        return accumulated.diff(dim=0)
