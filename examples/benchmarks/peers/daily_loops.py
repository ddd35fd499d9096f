"""Eager daily loops as differentiable hydrology has them: one explicit pass a day, all basins at once.

HBV goes through its processes one after the other within the day (operator split, Feng et al. 2022), GR4J is explicit
Euler on the continuous equations (Santos et al. 2018). Hy2DL's HBV is the one of its package, in single precision.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from .contestant import Contestant
from .task import Task

SMALLEST = 1e-5
"""Soil moisture [mm] that the split loop keeps, so that powers of it have a gradient."""


def hbv_days(forcing: dict[str, Tensor], p: dict[str, Tensor], storage0: Tensor) -> Tensor:
    """Discharge (T, B) of HBV with operator splitting, mm/d."""
    prcp, temp, pet = (forcing[n] for n in ("prcp", "temp", "pet"))
    cold, warmth = temp < p["tt"], temp - p["tt"]
    rain, snowfall = torch.where(cold, 0.0, prcp), torch.where(cold, prcp, 0.0)
    melting, freezing = p["cfmax"] * warmth.clamp(min=0.0), p["cfr"] * p["cfmax"] * (-warmth).clamp(min=0.0)
    snow, water, soil, upper, lower = storage0.unbind(-1)
    demand_at, discharge = p["lp"] * p["fc"], []
    for ps, pr, mp, fp, ep in zip(*(x.unbind(0) for x in (snowfall, rain, melting, freezing, pet)), strict=True):
        snow = snow + ps
        melt = torch.minimum(snow, mp)
        snow, water = snow - melt, water + melt
        frozen = torch.minimum(water, fp)
        snow, water = snow + frozen, water - frozen
        release = (water - p["cwh"] * snow).clamp(min=0.0)
        water = water - release
        wet = pr + release
        recharge = wet * ((soil / p["fc"]) ** p["beta"]).clamp(0.0, 1.0)
        soil = soil + wet - recharge
        spill = (soil - p["fc"]).clamp(min=0.0)
        soil = soil - spill
        et = torch.minimum(soil, ep * ((soil / demand_at) ** p["betaet"]).clamp(0.0, 1.0))
        soil = (soil - et).clamp(min=SMALLEST)
        rise = torch.minimum(lower, p["c"] * lower * (1.0 - (soil / p["fc"]).clamp(max=1.0)))
        soil, lower = soil + rise, lower - rise
        upper = upper + recharge + spill
        percolation = torch.minimum(upper, p["perc"])
        upper = upper - percolation
        q0 = p["k0"] * (upper - p["uzl"]).clamp(min=0.0)
        upper = upper - q0
        q1 = p["k1"] * upper
        upper, lower = upper - q1, lower + percolation
        q2 = p["k2"] * lower
        lower = lower - q2
        discharge.append(q0 + q1 + q2)
    return torch.stack(discharge)


def gr4j_days(forcing: dict[str, Tensor], p: dict[str, Tensor], storage0: Tensor) -> Tensor:
    """Discharge (T, B) of continuous GR4J by explicit Euler; the cascade is one tensor (B, n)."""
    prcp, pet = forcing["prcp"], forcing["pet"]
    rain, demand = (prcp - pet).clamp(min=0.0), (pet - prcp).clamp(min=0.0)
    production, cascade, routing = storage0[:, 0], storage0[:, 1:-1], storage0[:, -1]
    rate = ((cascade.shape[1] - 1) / p["x4"]).unsqueeze(-1)
    seep, drain = 0.25 * (4.0 / 9.0) ** 4 * p["x1"], 0.25 * p["x3"]
    discharge = []
    for pn, en in zip(rain.unbind(0), demand.unbind(0), strict=True):
        s = production / p["x1"]
        runoff, percolation = pn * s.square(), seep * s**5
        production = production + pn - runoff - en * s * (2.0 - s) - percolation
        passed = rate * cascade
        entering = torch.cat([(runoff + percolation).unsqueeze(-1), passed[:, :-1]], dim=-1)
        cascade = cascade + entering - passed
        last, r = passed[:, -1], routing / p["x3"]
        exchange, outflow = p["x2"] * r**3.5, drain * r**5
        routing = routing + 0.9 * last + exchange - outflow
        discharge.append(outflow + (0.1 * last + exchange).clamp(min=0.0))
    return torch.stack(discharge)


LOOPS = {"hbv": hbv_days, "gr4j": gr4j_days}


class DailyLoop(Contestant):
    """A loop above, gradient by backpropagation through it."""

    def forward(self) -> np.ndarray:
        with torch.no_grad():
            return self.discharge(self.task.theta, self.task.storage0).numpy()

    def value_and_gradient(self, days: int) -> tuple[float, np.ndarray]:
        theta = {n: v.clone().requires_grad_() for n, v in self.task.theta.items()}
        storage0 = self.task.storage0.clone().requires_grad_()
        loss = (self.discharge(theta, storage0) - self.task.observed)[:days].square().mean()
        found = torch.autograd.grad(loss, [*theta.values(), storage0], allow_unused=True, materialize_grads=True)
        return loss.item(), torch.cat([g.flatten() for g in found]).numpy()

    def discharge(self, theta, storage0) -> Tensor:
        return LOOPS[self.task.name](self.task.forcing.values, theta, storage0)


class Hy2dl(DailyLoop):
    """``hy2dl.modelzoo.hbv.HBV``, one conceptual model per basin, static parameters; it has no capillary rise."""

    NAMES = {"snow": "SNOWPACK", "meltwater": "MELTWATER", "soil": "SM", "upper": "SUZ", "lower": "SLZ"}

    def __init__(self, name: str, task: Task, **limits):
        super().__init__(name, task, **limits)
        from hy2dl.modelzoo.hbv import HBV

        self.model = HBV(SimpleNamespace(num_conceptual_models=1, dynamic_parameterization_conceptual_model=[]))
        series = {"precipitation": "prcp", "temperature": "temp", "pet": "pet"}
        self.inputs = {n: self.task.forcing.values[v].T.float().contiguous() for n, v in series.items()}

    def discharge(self, theta, storage0) -> Tensor:
        parameters = {
            n.upper(): v.float()[:, None, None].expand(-1, self.task.days, 1) for n, v in theta.items() if n != "c"
        }
        start = {n: s.float().unsqueeze(-1) for n, s in zip(self.NAMES.values(), storage0.unbind(-1), strict=True)}
        return self.model(self.inputs, parameters, start)["y_hat"][..., 0].T.double()
