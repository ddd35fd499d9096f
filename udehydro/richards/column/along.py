"""flow_along: a run of a column with its exact derivatives along some directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.forcing import Forcing
from udehydro.richards.column.column import Column
from udehydro.richards.column.march import March
from udehydro.richards.column.problem import Key, place
from udehydro.richards.column.result import ColumnRun, States
from udehydro.richards.column.run import Start, WaterContent, begin, collect, evaporation, go, series
from udehydro.richards.column.steps import Adaptive, Fixed
from udehydro.richards.column.tangent import Directions, tangent, water
from udehydro.solvers.tableau import SDIRK2, Tableau


@torch.inference_mode(False)
@torch.no_grad()
def flow_along(
    column: Column,
    forcing: Forcing,
    p: Mapping[str, Tensor | float] | Sequence[Mapping[str, Tensor | float]] | None,
    psi0: Tensor | float | WaterContent,
    along: Mapping[Key | str | int, Tensor],
    *,
    pond0: Tensor | float = 0.0,
    tableau: Tableau = SDIRK2,
    steps: Fixed | Adaptive | None = None,
) -> tuple[ColumnRun, States]:
    """As :func:`~udehydro.richards.column.flow`, with exact derivatives of all states along P directions.

    Whatever is asked of the run, and whether along one direction or thirty, that costs less than one gradient of
    ``flow``: 10 to 25 times a run by compiled loops (columns of 10 and 100 cells), once or twice one in torch. Where
    few numbers are asked by hundreds of inputs, gradients are cheaper.

    Parameters
    ----------
    along : changes (P, ...) of values, with the shape of the value behind P: by their
        :data:`~udehydro.richards.column.problem.Key`, such as ("soil", 0, "Ks") or ("top", 0, "q"), of initial heads
        by "psi0" (of contents, where those are given, by "theta0"),
        of the weights of laws by their number in ``column.weights()``. What is not named stays as it is.

    Returns
    -------
    ColumnRun, States
        The batch of the derivatives is (P, *batch): psi is (T + 1, P, *batch, cell).

    Raises
    ------
    ConfigError, DataError, SolverError
        As ``flow``; for directions of what the column does not have.
    """
    start = begin(column, forcing, p, psi0, pond0, tableau)
    _count(along)
    found = go(start, tableau, steps, True, False)
    run = collect(start, found.psi, found.mass, found.volume, found)
    return run, follow(start, tableau, run, found, along)


def follow(start: Start, tableau: Tableau, run: ColumnRun, found: March, along: Mapping) -> States:
    """Derivatives of a march that was kept, along changes (see :func:`flow_along`)."""
    count, problem = _count(along), start.problem
    inputs, weights = _inputs(start, along, count), _weights(problem.column, along, count)
    at_rest = Directions(start.psi.new_empty(count, 0), inputs, weights)
    if start.contents:
        fixed = problem.geometry.cells(water(problem, start.psi, start.pond, at_rest, None).flatten(0, 1))
        change = _initial(start, along, "theta0") - fixed.reshape(count, *start.psi.shape) / problem.geometry.thickness
        psi_along = change / _capacity(start)
    else:
        psi_along = _initial(start, along, "psi0")
    directions = at_rest._replace(mass=water(problem, start.psi, start.pond, at_rest, psi_along))
    return _states(start, run, psi_along, directions, tangent(problem, tableau, found, directions))


def _count(along: Mapping) -> int:
    counts = {len(v) for v in along.values()}
    if len(counts) != 1 or 0 in counts:
        raise ConfigError(f"Changes have as many directions each, one or more, first; got {sorted(counts)}.")
    return counts.pop()


def _initial(start: Start, along: Mapping, name: str) -> Tensor:
    """Changes of the state at the start (P, columns, cell)."""
    if name not in along:
        return torch.zeros_like(start.psi).expand(_count(along), *start.psi.shape)
    change, batch = torch.as_tensor(along[name]).to(start.psi), start.problem.forcing.batch
    missing = 2 + len(batch) - change.ndim
    change = change.reshape(len(change), *(1,) * missing, *change.shape[1:])
    return change.expand(len(change), *batch, start.psi.shape[-1]).reshape(len(change), *start.psi.shape)


def _capacity(start: Start) -> Tensor:
    """d theta / d psi of all cells at the start (columns, cell); infinite where nothing is stored: heads stay there."""
    every = torch.arange(start.problem.columns, device=start.psi.device)
    soil = start.problem.system(start.problem.take(torch.zeros_like(every), every)).soil
    parts = zip(start.problem.column.layers, soil, start.problem.geometry.layers, strict=True)
    found = torch.cat([layer.law.capacity(start.psi[:, cells], p) for layer, p, cells in parts], dim=1)
    return torch.where(found > 0.0, found, torch.inf)


def _inputs(start: Start, along: Mapping, count: int) -> tuple[Tensor, ...]:
    """Changes of all inputs, (P, T or 1, columns or 1, width) in the shape of theirs."""
    problem = start.problem
    given, other = ("theta0", "psi0") if start.contents else ("psi0", "theta0")
    if other in along:
        raise ConfigError(f"The run starts from {given}: its initial state moves along {given!r}, not {other!r}.")
    known = {*problem.keys, given, *range(len(problem.column.weights()))}
    if wrong := [k for k in along if k not in known]:
        known = ", ".join(map(str, (*problem.keys, given)))
        raise ConfigError(f"The column has no {wrong[0]!r}; it has {known}.")
    found = []
    for key, value in zip(problem.keys, problem.inputs, strict=True):
        if key in along:
            moves = [place(problem.column, problem.forcing, key, v) for v in along[key]]
            found.append(torch.stack([m.expand_as(value) for m in moves]))
        else:
            found.append(torch.zeros_like(value).expand(count, *value.shape))
    return tuple(found)


def _weights(column: Column, along: Mapping, count: int) -> tuple[Tensor, ...]:
    moves = enumerate(column.weights())
    return tuple(along[i].to(w) if i in along else torch.zeros_like(w).expand(count, *w.shape) for i, w in moves)


def _states(start: Start, run: ColumnRun, psi_along: Tensor, directions: Directions, slopes) -> States:
    problem, count = start.problem, directions.count
    shape = (count, *problem.forcing.batch)

    def flat(x: Tensor) -> Tensor:
        """(P, T, columns, n) as (T, P x columns, n)."""
        return x.movedim(1, 0).flatten(1, 2)

    first = (psi_along.flatten(0, 1), directions.mass.flatten(0, 1))
    wet = (run.psi > 0.0).flatten(1, -2) if run.psi.ndim > 2 else (run.psi > 0.0).unsqueeze(1)
    potential = evaporation(problem, directions.inputs)
    potential = potential.expand(count, len(problem.forcing), problem.columns).movedim(1, 0).flatten(1)
    last = [flat(x) for x in slopes]
    return States(**series(problem, shape, first, last, lambda x: x * wet.repeat(1, count, 1), potential))
