"""What regions cannot be: said before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch

from udehydro.errors import ConfigError
from udehydro.richards.column.problem import by_layer
from udehydro.richards.laws.base import SoilLaw
from udehydro.richards.laws.limits import impossible
from udehydro.richards.pinn.field import Box
from udehydro.richards.pinn.soil import Soil

if TYPE_CHECKING:
    from udehydro.richards.pinn.problem import Wall
    from udehydro.richards.pinn.residuals import Data


def check_box(box: Box) -> None:
    """Refuse a box that ends before it begins."""
    if len(box.low) != len(box.high) or not all(a < b for a, b in zip(box.low, box.high, strict=True)):
        raise ConfigError(
            f"A box goes from {box.low} to {box.high}: low has to be below high in time [d] and in every coordinate "
            "[cm]; heights are positive upward."
        )


def check_places(given: Mapping[str, Sequence[Wall | Data]], regions: int) -> None:
    """Refuse walls and data, by what they are called, of a region that is not there."""
    for what, several in given.items():
        for i, one in enumerate(several):
            if not 0 <= one.region < regions:
                raise ConfigError(f"region={one.region} of {what} {i} is none of the {regions}, 0 to {regions - 1}.")


def check_stack(boxes: Sequence[Box]) -> None:
    """Refuse boxes above one another, of the same times, between which there is a gap or an overlap."""
    order = sorted(range(len(boxes)), key=lambda i: boxes[i].low[-1])
    for k, i in enumerate(order):
        above = [j for j in order[k + 1 :] if _rest(boxes[j]) == _rest(boxes[i])]
        if above and (top := boxes[i].high[-1]) != (bottom := boxes[above[0]].low[-1]):
            raise ConfigError(
                f"Region {i} ends at z={top!r}, region {above[0]} above it begins at z={bottom!r}: "
                f"{'a gap' if top < bottom else 'they overlap'}, and nothing joins them. Give both the same number."
            )


def _rest(box: Box) -> tuple:
    """Its times and places but for the height."""
    return box.low[:-1], box.high[:-1]


def check_soils(soils: Sequence[Soil]) -> None:
    """Refuse plain values of soils by the rules of a column, a region for a layer; what follows from unknowns is left
    alone."""
    if not all(isinstance(s.law, SoilLaw) for s in soils):
        return
    by_layer(SimpleNamespace(layers=soils), [None if callable(s.p) else s.p for s in soils])
    for i, soil in enumerate(soils):
        given = {} if callable(soil.p) else soil.p
        known = [n for n in soil.law.ranges if n in given]
        values = {n: torch.as_tensor(given[n], dtype=torch.float64, device="cpu").detach() for n in known}
        for wrong in impossible(soil.law.ranges, values):
            value = values[wrong.name].expand_as(wrong.where)[wrong.where][0]
            text = f"Parameter '{wrong.name}' of region {i} is {float(value):.3g}; it {wrong.text}"
            raise ConfigError(text if text.endswith("?") else f"{text}.")
