"""What values of a column cannot be, or hardly are: said before anything is run."""

from __future__ import annotations

import warnings

import torch

from udehydro.errors import ConfigError
from udehydro.richards.column.problem import Problem
from udehydro.richards.laws.limits import Wrong, impossible, unusual


def check_soil(problem: Problem) -> None:
    """Refuse parameters with which a law means nothing.

    Raises
    ------
    ConfigError
        Names layer, parameter, value and column.
    """
    for i, (law, values) in enumerate(_soils(problem)):
        for wrong in impossible(law.ranges, values):
            raise ConfigError(_said(problem, i, wrong, values))


def warn_of_soil(problem: Problem, stacklevel: int) -> None:
    """Warn of parameters outside the ranges of their law; Python shows a warning once for every place and text."""
    for i, (law, values) in enumerate(_soils(problem)):
        for wrong in unusual(law.ranges, values):
            warnings.warn(_said(problem, i, wrong, values), stacklevel=stacklevel + 1)


def _soils(problem: Problem):
    for i, layer in enumerate(problem.column.layers):
        yield layer.law, {k[2]: v for k, v in zip(problem.keys, problem.inputs, strict=True) if k[:2] == ("soil", i)}


@torch.no_grad()
def _said(problem: Problem, layer: int, wrong: Wrong, values) -> str:
    """A sentence on the first value that is wrong."""
    _, column, cell = wrong.where.nonzero()[0].tolist()
    value = values[wrong.name].expand_as(wrong.where)[0, column, cell]
    where = problem.column_name(column if wrong.where.shape[1] > 1 else None)
    where += f", cell {cell} of the layer" if wrong.where.shape[2] > 1 else ""
    unit = problem.column.layers[layer].law.ranges[wrong.name].unit
    unit = "" if unit == "1" else f" {unit}"
    text = f"Layer {layer}{where}: {wrong.name} = {float(value):.3g}{unit} {wrong.text}"
    return text if text.endswith("?") else f"{text}."
