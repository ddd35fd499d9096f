"""What values of a column cannot be, or hardly are: said before anything is run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from udehydro.errors import ConfigError, DataError, UdehydroError
from udehydro.richards.column.boundary import Atmospheric, Head, WaterTable
from udehydro.richards.column.problem import Problem, parts
from udehydro.richards.laws.limits import Wrong, impossible, unusual


def check_values(problem: Problem) -> None:
    """Refuse parameters with which a law means nothing, and values that boundaries and sinks cannot have.

    Raises
    ------
    ConfigError, DataError
        Names layer or part, value, column and, of what varies in time, date; ``failed`` marks the columns (*batch).
    """
    for i, layer in enumerate(problem.column.layers):
        values = _values(problem, "soil", i)
        for wrong in impossible(layer.law.ranges, values):
            raise _error(problem, ConfigError, _of_soil(problem, i, wrong, values), wrong.where)
    for kind, i, part in parts(problem.column):
        values = _values(problem, kind, i)
        for wrong in part.impossible(values) if hasattr(part, "impossible") else ():
            series = isinstance(getattr(part, wrong.name), str)
            text = _of_part(problem, part, wrong, values, "it has to be ")
            raise _error(problem, DataError if series else ConfigError, text, wrong.where)


def check_start(problem: Problem, psi: Tensor, pond: Tensor) -> None:
    """Refuse a start beyond the limits of an Atmospheric top, which brings water from nowhere: soil (columns, cell)
    that is drier at the surface than its driest head, a pond (columns, 1) above that which overflows.

    Raises
    ------
    ConfigError
    """
    if not isinstance(problem.column.top, Atmospheric):
        return
    psi, pond, v = psi.detach(), pond.detach(), _values(problem, "top", 0)
    dry, high = psi[None, :, :1] < v["driest"][:1], pond[None] > v["pond"][:1]
    if bool(dry.any()):
        column = int(dry.flatten().nonzero()[0])
        text = (
            f"The soil starts at {float(psi[column, 0]):.4g} cm at the surface{problem.column_name(column)}, drier "
            "than 'driest' of Atmospheric, which would wet it: start wetter, or lower 'driest'."
        )
        raise _error(problem, ConfigError, text, dry)
    if bool(high.any()):
        column = int(high.flatten().nonzero()[0])
        text = (
            f"pond0={float(pond[column]):.4g} cm{problem.column_name(column)} is more than the 'pond' of Atmospheric, "
            "beyond which the surface overflows."
        )
        raise _error(problem, ConfigError, text, high)


def warn_of(problem: Problem, psi: Tensor, pond: Tensor, stacklevel: int) -> None:
    """Warn of parameters outside the ranges of their law, of unusual boundaries, and of heads at the start (columns,
    cell) that are all above zero where nothing saturates the soil. Python shows a warning once for a place and text."""
    for i, layer in enumerate(problem.column.layers):
        values = _values(problem, "soil", i)
        for wrong in unusual(layer.law.ranges, values):
            warnings.warn(_of_soil(problem, i, wrong, values), stacklevel=stacklevel + 1)
    for kind, i, part in parts(problem.column):
        values = _values(problem, kind, i)
        for wrong in part.unusual(values) if hasattr(part, "unusual") else ():
            warnings.warn(_of_part(problem, part, wrong, values, ""), stacklevel=stacklevel + 1)
    psi = psi.detach()
    wet = (psi > 0.0).all(1) & ~_saturates(problem, pond)
    if bool(wet.any()):
        column = int(wet.nonzero()[0])
        high = float(psi[column].max())
        instead = f"WaterContent({high:.3g}), for a water content?" if high < 1.0 else f"{-high:.4g}, for a suction?"
        warnings.warn(
            f"psi0 is above zero in all cells, up to {high:.4g} cm{problem.column_name(column)}: the soil starts "
            f"saturated. Heads are negative where it is not: {instead}",
            stacklevel=stacklevel + 1,
        )


def _saturates(problem: Problem, pond: Tensor) -> Tensor:
    """Columns (columns,) that something at their ends may have saturated: a pond, or a head that reaches so high."""
    found = pond[:, 0] > 0.0
    height = problem.geometry.depth * problem.geometry.gravity
    for kind, _, end in parts(problem.column)[:2]:
        v, rise = _values(problem, kind, 0), height if kind == "bottom" else 0.0
        if isinstance(end, Head):
            found = found | (v["psi"] > rise).any(0)[:, 0]
        elif isinstance(end, WaterTable):
            found = found | (v["depth"] <= 0.0).any(0)[:, 0]
    return found.expand(problem.columns)


def _values(problem: Problem, kind: str, i: int) -> dict[str, Tensor]:
    return {k[2]: v for k, v in zip(problem.keys, problem.inputs, strict=True) if k[:2] == (kind, i)}


def _of_soil(problem: Problem, layer: int, wrong: Wrong, values: Mapping[str, Tensor]) -> str:
    unit = problem.column.layers[layer].law.ranges[wrong.name].unit
    return _ended(
        f"Parameter '{wrong.name}' of layer {layer} is {_where(problem, wrong, values, unit)}; it {wrong.text}"
    )


def _of_part(problem: Problem, part, wrong: Wrong, values: Mapping[str, Tensor], verb: str) -> str:
    given = getattr(part, wrong.name)
    series = f" (series '{given}')" if isinstance(given, str) else ""
    text = f"The '{wrong.name}' of {type(part).__name__}{series} is {_where(problem, wrong, values)}; "
    return _ended(text + verb + wrong.text)


def _ended(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


@torch.no_grad()
def _where(problem: Problem, wrong: Wrong, values: Mapping[str, Tensor], unit: str = "1") -> str:
    """``-0.5 cm/d (basin b, 2001-05-03, cell 2)``: the first value that is wrong."""
    k, column, cell = wrong.where.nonzero()[0].tolist()
    value = float(values[wrong.name].expand_as(wrong.where)[k, column, cell])
    several = [size > 1 for size in wrong.where.shape]
    names = [problem.label(k, column).rpartition(", ")[0]] if several[1] else []
    names += [problem.label(k, column).rpartition(", ")[2]] if several[0] else []
    names += [f"cell {cell}"] if several[2] else []
    return f"{value:.3g}{'' if unit == '1' else f' {unit}'}" + (f" ({', '.join(names)})" if names else "")


def _error(problem: Problem, kind: type[UdehydroError], text: str, wrong: Tensor) -> UdehydroError:
    error = kind(text)
    error.failed = wrong.any(0).any(-1).expand(problem.columns).reshape(problem.forcing.batch)
    return error
