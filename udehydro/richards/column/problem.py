"""A column bound to forcing and parameters: every value by interval and column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor

from udehydro.errors import ConfigError, DataError
from udehydro.forcing import Forcing
from udehydro.richards.column.column import Column
from udehydro.richards.column.geometry import Geometry
from udehydro.richards.column.system import System
from udehydro.structure import suggest

Key = tuple[str, int, str]
"""Where a value belongs: ("soil", layer, name), ("top", 0, name), ("bottom", 0, name) or ("sink", number, name)."""

LENGTHS = {"cm": 1.0, "mm": 0.1, "m": 100.0}
FACTORS = {"cm": LENGTHS, "cm/d": {u + per: f for u, f in LENGTHS.items() for per in ("/d", "/day", " d-1", " day-1")}}
"""What series of the forcing are multiplied by, by the unit a boundary needs and the unit they have."""


@dataclass(frozen=True)
class Problem:
    """Values of a run.

    Attributes
    ----------
    inputs : every value as (T or 1, columns or 1, width), in the order of ``keys``; the batch is flattened.
    """

    column: Column
    forcing: Forcing
    keys: tuple[Key, ...]
    inputs: tuple[Tensor, ...]

    @property
    def columns(self) -> int:
        return prod(self.forcing.batch)

    @cached_property
    def geometry(self) -> Geometry:
        return Geometry.of(self.column, self.forcing.like)

    def take(self, k: Tensor, columns: Tensor) -> list[Tensor]:
        """Values of some columns, each in an interval of its own: (n or 1, width)."""
        picked = []
        for x in self.inputs:
            varies, differs = x.shape[0] > 1, x.shape[1] > 1
            if varies:
                picked.append(x[k, columns if differs else torch.zeros_like(columns)])
            else:
                picked.append(x[0, columns] if differs and len(columns) < x.shape[1] else x[0])
        return picked

    def give(self, grads: list[Tensor | None], k: Tensor, columns: Tensor, local: list[Tensor | None]) -> None:
        """Add derivatives by what :meth:`take` returned to those by the inputs; the transpose of it."""
        for i, (x, g) in enumerate(zip(self.inputs, local, strict=True)):
            if g is None:
                continue
            if grads[i] is None:
                grads[i] = torch.zeros_like(x)
            varies, differs = x.shape[0] > 1, x.shape[1] > 1
            if varies:
                at = (k, columns if differs else torch.zeros_like(columns))
                grads[i].index_put_(at, g, accumulate=True)
            elif differs and len(columns) < x.shape[1]:
                grads[i][0].index_add_(0, columns, g)
            else:
                grads[i][0] += g

    def label(self, k: int, column: int) -> str:
        """``basin 3, 1983-04-02`` for messages."""
        return self.forcing.label(
            k, [int(i) for i in np.unravel_index(column, self.forcing.batch)] if self.forcing.batch else ()
        )

    def column_name(self, column: int | None) -> str:
        """``, basin 3`` for messages; nothing where there is only one, or all are meant."""
        if column is None or self.columns == 1:
            return ""
        return ", " + self.label(0, column).rpartition(", ")[0]

    def node_name(self, node: int) -> str:
        """``cell 4 at 22.5 cm`` for messages."""
        for i, n in enumerate(self.geometry.nodes):
            if n.start < node < n.stop - 1:
                cell = node - 1 - i
                return f"cell {cell} at {self.column.grid.depth[cell]:g} cm"
            if node == n.start and i:
                return f"the interface below layer {i - 1}"
        return "the surface" if node == 0 else "the bottom"

    def system(self, values: Sequence[Tensor]) -> System:
        """The equations of the columns that ``values`` were taken for."""
        return System.of(self.column, self.geometry, self.keys, values)


def bind(column: Column, forcing: Forcing, p: Mapping | Sequence[Mapping] | None) -> Problem:
    """Check and align every value of a column.

    Raises
    ------
    ConfigError
        For parameters that are missing, unknown, not finite or of a shape that does not fit.
    DataError
        For series that the forcing lacks, or has without a unit or in one that is none of length or length per time.
    """
    if not isinstance(column, Column) or not isinstance(forcing, Forcing):
        got = f"{type(column).__name__} and {type(forcing).__name__}"
        raise ConfigError(
            f"flow takes a Column and a Forcing, got {got}. Forcing(values, units, time_edge) holds series; "
            "Forcing.clock(days=...) where there are none."
        )
    found: dict[Key, Tensor] = {}
    for i, (layer, values) in enumerate(zip(column.layers, by_layer(column, p), strict=True)):
        for name in layer.law.ranges:
            if name in values:
                found["soil", i, name] = place(column, forcing, ("soil", i, name), values[name])
    for kind, i, part in parts(column):
        for name in (*part.units, *getattr(part, "cells", ())):
            found[kind, i, name] = place(column, forcing, (kind, i, name), getattr(part, name))
    return Problem(column, forcing, tuple(found), tuple(ordinary(v) for v in found.values()))


def ordinary(value: Tensor) -> Tensor:
    """A value that autograd may save, also where it was made in inference mode."""
    return value.clone() if value.is_inference() else value


def parts(column: Column) -> list[tuple[str, int, object]]:
    """What has values besides the layers: both ends and the sinks, with the beginning of their keys."""
    return [("top", 0, column.top), ("bottom", 0, column.bottom), *(("sink", i, s) for i, s in enumerate(column.sinks))]


def place(column: Column, forcing: Forcing, key: Key, value) -> Tensor:
    """A value as (T or 1, columns or 1, width): what belongs at ``key`` of a column, checked.

    Raises
    ------
    ConfigError, DataError
        As :func:`bind`.
    """
    kind, i, name = key
    if kind == "soil":
        cells = column.cells_of_layers
        where = f"parameter '{name}'" + (f" of layer {i}" if len(cells) > 1 else "")
        return _static(where, value, forcing, cells[i].stop - cells[i].start)
    part = {"top": column.top, "bottom": column.bottom}.get(kind) or column.sinks[i]
    where = f"'{name}' of {type(part).__name__}"
    if name in part.units:
        return _value(where, value, part.units[name], forcing)
    return _by_cell(where, value, forcing, column.grid.cells)


def by_layer(column: Column, p) -> list[Mapping]:
    """One mapping of parameters for every layer; one for all where one is given."""
    if not (p is None or isinstance(p, Mapping | Sequence)) or isinstance(p, str):
        raise ConfigError(f"p is a mapping of soil parameters, or one for every layer, got {type(p).__name__}.")
    p = [p] * len(column.layers) if p is None or isinstance(p, Mapping) else list(p)
    if len(p) != len(column.layers):
        raise ConfigError(f"p has parameters of {len(p)} layer(s), the column has {len(column.layers)} layer(s).")
    p = [layer.law.defaults if values is None else values for layer, values in zip(column.layers, p, strict=True)]
    known = {n for layer in column.layers for n in layer.law.ranges}
    for i, (layer, values) in enumerate(zip(column.layers, p, strict=True)):
        law = type(layer.law).__name__
        for name in values:
            if name not in known:
                raise ConfigError(f"p has '{name}', which no law of the column reads.{suggest(name, known)}")
        for name, range_ in layer.law.ranges.items():
            if name not in values and not range_.fixed:
                raise ConfigError(
                    f"{law} of layer {i} needs the parameter '{name}' [{range_.unit}].{suggest(name, values)}"
                )
    return p


def _static(where: str, value, forcing: Forcing, width: int) -> Tensor:
    """A parameter as (1, columns or 1, 1 or cells): broadcast to the batch, or with one more dimension, by cell."""
    value = _tensor(where, value, forcing)
    batch = forcing.batch
    if value.ndim <= len(batch) and _fits(value.shape, batch):
        return value.reshape(1, 1, 1) if value.numel() == 1 else value.expand(batch).reshape(1, -1, 1)
    if value.ndim == len(batch) + 1 and value.shape[-1] == width and _fits(value.shape[:-1], batch):
        return value.expand(*batch, width).reshape(1, -1, width)
    raise ConfigError(
        f"The {where} has shape {tuple(value.shape)}; it may broadcast to the batch {batch}, or have one dimension "
        f"more, of the {width} cell(s) of its layer."
    )


def _value(where: str, value, unit: str, forcing: Forcing) -> Tensor:
    """A boundary's value as (T or 1, columns or 1, 1)."""
    if isinstance(value, str):
        (series,) = forcing.tensors([value])
        given = forcing.units.get(value, "")
        factor = FACTORS[unit].get(given)
        if factor is None:
            says = f"is in {given}. Convert it to" if given else "has no unit. Give it in Forcing(units=),"
            raise DataError(f"The {where} needs {unit}; the series '{value}' {says} one of {', '.join(FACTORS[unit])}.")
        return (series if factor == 1.0 else factor * series).reshape(len(forcing), -1, 1)
    value = _tensor(where, value, forcing)
    batch = forcing.batch
    if value.ndim <= len(batch) and _fits(value.shape, batch):
        return value.reshape(1, 1, 1) if value.numel() == 1 else value.expand(batch).reshape(1, -1, 1)
    if value.ndim == len(batch) + 1 and _fits(value.shape, (len(forcing), *batch)):
        return value.expand(-1, *batch).reshape(value.shape[0], -1, 1)
    raise ConfigError(
        f"The {where} has shape {tuple(value.shape)}; it may broadcast to the batch {batch}, or vary in time as "
        f"({len(forcing)}, *{batch})."
    )


def _by_cell(where: str, value, forcing: Forcing, width: int) -> Tensor:
    """A value by cell as (T or 1, columns or 1, cells)."""
    value = _tensor(where, value, forcing)
    batch = forcing.batch
    if value.ndim and value.shape[-1] == width:
        if value.ndim <= len(batch) + 1 and _fits(value.shape[:-1], batch):
            return value.expand(*batch, width).reshape(1, -1, width) if value.ndim > 1 else value.reshape(1, 1, width)
        if value.ndim == len(batch) + 2 and _fits(value.shape[:-1], (len(forcing), *batch)):
            return value.expand(-1, *batch, width).reshape(value.shape[0], -1, width)
    raise ConfigError(
        f"The {where} has shape {tuple(value.shape)}; it needs ({width},), (*{batch}, {width}) or "
        f"({len(forcing)}, *{batch}, {width})."
    )


def _tensor(where: str, value, forcing: Forcing) -> Tensor:
    try:
        value = torch.as_tensor(value, dtype=forcing.like.dtype, device=forcing.like.device)
    except (TypeError, ValueError, RuntimeError):
        raise ConfigError(f"The {where} is a number or an array of numbers, got {value!r}.") from None
    if not bool(torch.isfinite(value).all()):
        raise ConfigError(f"The {where} is not finite: {value.detach().flatten()[:5].tolist()}.")
    return value


def _fits(shape, target) -> bool:
    """Whether an array of ``shape`` expands to ``target``."""
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(a in (1, b) for a, b in pairs)
