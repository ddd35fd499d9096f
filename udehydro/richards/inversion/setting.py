"""Setting: a column with its soil and initial state, in which some values may be free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from udehydro.richards.column.column import Column
from udehydro.richards.column.problem import by_layer, parts
from udehydro.richards.column.run import WaterContent
from udehydro.richards.inversion.free import Free


@dataclass(frozen=True, eq=False)
class Setting:
    """A column with its soil and initial state, as :func:`~udehydro.richards.column.flow` takes them."""

    column: Column
    p: tuple[Mapping, ...]
    psi0: object


def places(setting: Setting):
    """Every value of a setting: key, label, value, range of the law, and whether it varies in time."""
    several = len(setting.column.layers) > 1
    for i, (layer, values) in enumerate(zip(setting.column.layers, setting.p, strict=True)):
        for name in values:
            label = f"layer {i} {name}" if several else name
            yield ("soil", i, name), label, values[name], layer.law.ranges.get(name), False
    for kind, i, part in parts(setting.column):
        for name in (*part.units, *getattr(part, "cells", ())):
            label = f"{kind} {i} {name}" if kind == "sink" else f"{kind} {name}"
            yield (kind, i, name), label, getattr(part, name), None, name in part.units
    inside = isinstance(setting.psi0, WaterContent)
    name = "theta0" if inside else "psi0"
    yield name, name, setting.psi0.theta if inside else setting.psi0, None, False


def put(setting: Setting, numbers: Mapping[int, Tensor]) -> Setting:
    def number(value):
        return numbers[id(value)] if isinstance(value, Free) else value

    def part(of):
        free = {n: number(getattr(of, n)) for n in (*of.units, *getattr(of, "cells", ()))}
        return replace(of, **free)

    column = setting.column
    column = replace(column, top=part(column.top), bottom=part(column.bottom), sinks=[part(s) for s in column.sinks])
    inside = isinstance(setting.psi0, WaterContent)
    psi0 = WaterContent(number(setting.psi0.theta)) if inside else number(setting.psi0)
    return Setting(column, tuple({n: number(v) for n, v in p.items()} for p in setting.p), psi0)


def setting(column: Column, p: Mapping | Sequence[Mapping] | None, psi0) -> Setting:
    """A setting with one mapping of soil parameters a layer."""
    return Setting(column, tuple(dict(values) for values in by_layer(column, p)), psi0)
