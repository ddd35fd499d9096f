"""Fluxes with a perturbation of their own: what would a millimetre more of this flux, on that day, have changed?"""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from udehydro.balance import Balance
from udehydro.forcing import Forcing
from udehydro.simulation import rate_unit
from udehydro.structure import Law, reads

PREFIX = "added_to_"
_MADE: WeakKeyDictionary[Balance, Balance] = WeakKeyDictionary()
"""Perturbed models by the model they are made of: what is compiled for one serves again."""


def perturbed(model: Balance, forcing: Forcing) -> tuple[Balance, Forcing]:
    """The model with a forcing ``added_to_<flux>`` [unit of the flux] added to every law, and the record with zeros.

    The run is the same; derivatives by the new forcings are those by the fluxes of every interval.
    """
    s = model.structure
    units = {PREFIX + f.name: rate_unit(s, [f.name]) for f in s.fluxes}
    if model not in _MADE:
        fluxes = tuple(replace(f, law=_added(f.law, PREFIX + f.name)) for f in s.fluxes)
        _MADE[model] = Balance(replace(s, fluxes=fluxes, forcings={**s.forcings, **units}))
    values = {**forcing.values, **dict.fromkeys(units, torch.zeros_like(forcing.like))}
    return _MADE[model], replace(forcing, values=values, units={**forcing.units, **units})


def _added(law: Law, name: str) -> Law:
    return _AddedModule(law, name) if isinstance(law, nn.Module) else _Added(law, name)


class _Added:
    """A law plus a forcing."""

    def __init__(self, law: Law, name: str):
        self.law, self.reads = law, (*reads(law), name)

    def __call__(self, *values: Tensor | None) -> Tensor:
        return self.law(*values[:-1]) + values[-1]


class _AddedModule(nn.Module):
    """The same of a law with weights, which stay those of the law."""

    def __init__(self, law: nn.Module, name: str):
        super().__init__()
        self.law, self.reads = law, (*reads(law), name)

    def forward(self, *values: Tensor | None) -> Tensor:
        return self.law(*values[:-1]) + values[-1]
