"""A fitted column moved along gauges: its soils, and the inversion of which it then is the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from udehydro.richards.column.boundary import Flux, Head
from udehydro.richards.column.problem import place
from udehydro.richards.column.run import WaterContent
from udehydro.richards.inversion.free import Free
from udehydro.richards.inversion.gauge import Gauge
from udehydro.richards.inversion.inversion import Inversion
from udehydro.richards.laws.gauged import Gauged

if TYPE_CHECKING:
    from udehydro.richards.inversion.fit import Fitted


class Orbit:
    """Places along gauges of what was found; ``values`` by label of a gauge, each (..., *batch)."""

    def __init__(self, fitted: Fitted, gauges: Sequence[Gauge], values: Mapping[str, Tensor]):
        self.fitted, self.gauges, self.values = fitted, [g for g in gauges if g.label in values], values
        self.task, self.now = fitted.inversion, fitted.setting

    def soil(self, layer: int) -> tuple[Gauged, dict]:
        """Law of a layer and its parameters, for heads (..., *batch, n)."""
        moved = {g.name: self.values[g.label] for g in self.gauges if layer in g.layers}
        p = {n: torch.as_tensor(v) for n, v in {**self.now.p[layer], **moved}.items()}
        return Gauged(self.now.column.layers[layer].law), {n: v.unsqueeze(-1) if v.ndim else v for n, v in p.items()}

    def inversion(self) -> Inversion:
        """The gauges as unknowns that start from here, of a column that starts from the same places of its curves, has
        the same water at its ends, and unknown fluxes moved along. Values are (*batch)."""
        now, task = self.now, self.task
        free = {g.label: Free(self.values[g.label], -np.inf, np.inf) for g in self.gauges}
        p = [{**v, **{g.name: free[g.label] for g in self.gauges if i in g.layers}} for i, v in enumerate(now.p)]
        layers = [replace(layer, law=Gauged(layer.law)) for layer in now.column.layers]
        column = replace(now.column, layers=layers, top=self._end("top"), bottom=self._end("bottom"))
        how = {"tableau": task.tableau, "steps": task.steps}
        return Inversion(column, task.forcing, p, self._start(), task.observed, **how)

    def _start(self) -> Tensor | WaterContent:
        psi0, task = self.now.psi0, self.task
        contents = isinstance(psi0, WaterContent)
        if contents and not isinstance(task.psi0.theta, Free):
            return psi0
        state = torch.as_tensor(psi0.theta if contents else psi0, dtype=torch.float64)
        state = state.expand(*task.forcing.batch, task.column.grid.cells)
        move = self._content if contents else self._head
        state = torch.cat([move(i, state[..., c]) for i, c in enumerate(task.column.cells_of_layers)], dim=-1)
        return WaterContent(state) if contents else state

    def _head(self, layer: int, psi: Tensor) -> Tensor:
        law, p = self.soil(layer)
        return law.image(psi, p).detach()

    def _content(self, layer: int, theta: Tensor) -> Tensor:
        law, p = self.soil(layer)
        v = law.values(p, theta)
        return (torch.lerp(v["theta_r"], theta, v["scale"]) + v["level"]).detach()

    def _end(self, where: str):
        end, asked, batch = getattr(self.now.column, where), getattr(self.task.column, where), self.task.forcing.batch
        name = {Head: "psi", Flux: "q"}.get(type(end))
        if name is None or name == "q" and not isinstance(asked.q, Free):
            return end
        value = place(self.now.column, self.task.forcing, (where, 0, name), getattr(end, name))[..., 0]
        value = value.reshape(len(value), *(batch if value.shape[1] > 1 else (1,) * len(batch)))
        if name == "psi":
            layer = 0 if where == "top" else len(self.now.column.layers) - 1
            return Head(self._head(layer, value.unsqueeze(-1)).squeeze(-1))
        by = {g.name: self.values[g.label] for g in self.gauges}
        return Flux(by.get("scale", 1.0) * (value - by.get("offset", 0.0)))
