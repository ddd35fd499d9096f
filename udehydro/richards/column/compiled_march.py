"""The march through time by compiled loops where they take a column: one column after the other, on all threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from udehydro.richards.column import compiled, kernels, newton
from udehydro.richards.column.failure import GivenUp, refuse
from udehydro.richards.column.march import March, Taken
from udehydro.richards.column.march import march as in_torch
from udehydro.richards.column.problem import Problem
from udehydro.richards.column.steps import Adaptive, Fixed, error_weights
from udehydro.solvers.tableau import Tableau

ROOM = 4_000_000
"""Numbers of a tape that is filled before the loops return to Python."""


@torch.no_grad()
def march(
    problem: Problem, tableau: Tableau, steps: Fixed | Adaptive, psi: Tensor, mass: Tensor, keep: bool, tick=None
) -> March:
    """As :func:`.march.march`; steps, heads and failures are the same but for rounding."""
    if not compiled.usable(problem.column, psi):
        return in_torch(problem, tableau, steps, psi, mass, keep, tick)
    days, (columns, nodes), system = problem.forcing.days, psi.shape, problem.system(problem.inputs)
    given = (compiled.tables(system, psi), _rules(tableau, steps), compiled.array(days), _start(psi, mass, days, steps))
    numbers = given[-1].numbers
    edges, volume = np.empty((2, len(days), columns, nodes)), np.zeros((len(days), columns, system.channels))
    most = max(8, min(ROOM // (columns * nodes * (1 + tableau.stages)), 1000))
    finished, taken = 0, []
    while ((numbers[kernels.INTERVAL] < len(days)) & (numbers[kernels.FAILED] == 0)).any():
        tape = _tape(most if keep else 0, columns, nodes, tableau.stages)
        _go((*given, kernels.Found(edges, volume, *tape)), most)
        if keep:
            taken += _taken(numbers[kernels.RECORDED], *tape)
        now = int(numbers[kernels.INTERVAL].min())
        if tick is not None and now > finished:
            tick(now - finished)
        finished = now
    if numbers[kernels.FAILED].any():
        refuse(problem, _given_up(given[-1]))
    return March(*(torch.from_numpy(x) for x in (*edges, volume, *numbers[kernels.ACCEPTED :])), taken)


def _go(given: tuple, most: int) -> None:
    """All columns ``most`` steps further, in parts."""
    _, rules, _, state, found = given
    rows, columns = kernels.RATES + 2 * len(rules.scheme) - 3, state.numbers.shape[1]

    def part(first: int, last: int) -> None:
        room, moved = np.empty((rows, state.nodes.shape[2])), np.empty((2, found.volume.shape[2]))
        kernels.march(*given, room, moved, most, first, last)

    threads = min(torch.get_num_threads(), columns)
    if threads == 1:
        return part(0, columns)
    size = -(-columns // (4 * threads))  # several parts each, as some columns take longer than others
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda i: part(i, min(i + size, columns)), range(0, columns, size)))


def _rules(tableau: Tableau, steps: Fixed | Adaptive) -> kernels.Rules:
    scheme = np.zeros((tableau.stages + 2, tableau.stages + 1))
    scheme[:-2, :-1], scheme[-2, :-1], scheme[-1] = tableau.a, tableau.b, error_weights(tableau)
    rules = (newton.ITERATIONS, newton.SHORTER, newton.TOLERANCE, newton.WATER)
    rules += (newton.FLOOR, newton.BEYOND, newton.NO_WORSE, scheme)
    if isinstance(steps, Fixed):
        return kernels.Rules(*rules, steps.steps, 1.0, 0.0, np.inf, 0)
    return kernels.Rules(*rules, 0, steps.tolerance, steps.smallest, steps.largest, steps.most)


def _start(psi: Tensor, mass: Tensor, days: Tensor, steps: Fixed | Adaptive) -> kernels.State:
    nodes = torch.stack([psi, mass, torch.zeros_like(mass)])
    first = 0.0 if isinstance(steps, Fixed) else steps.first
    times = np.array([[float(days[0])], [first]]).repeat(len(psi), 1)
    return kernels.State(nodes.numpy(), np.zeros((8, len(psi)), np.int64), times)


def _tape(steps: int, columns: int, nodes: int, stages: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Room for the steps of a tape, as in `Found`."""
    each = (steps, columns)
    return np.empty((2, *each), np.int64), np.empty(each), np.empty((1 + stages, *each, nodes))


def _taken(count: np.ndarray, places: np.ndarray, lengths: np.ndarray, steps: np.ndarray) -> list[Taken]:
    """The first steps of all columns, then the second ones of those that took two, and so on."""
    intervals, ends, h, mass, *stages = (torch.from_numpy(x) for x in (*places, lengths, *steps))
    every, found = torch.arange(len(count), device="cpu"), []
    for m in range(count.max()):
        step = Taken(every, intervals[m], h[m], ends[m] > 0, mass[m], tuple(s[m] for s in stages))
        on = torch.from_numpy(count > m)
        found.append(step if bool(on.all()) else step.select(on.nonzero()[:, 0]))
    return found


def _given_up(state: kernels.State) -> GivenUp:
    at = state.numbers[kernels.FAILED].nonzero()[0]
    interval, solved = state.numbers[kernels.INTERVAL, at], state.numbers[kernels.SOLVED, at] > 0
    parts = (at, interval, state.times[kernels.REST, at], state.nodes[0, at], solved, state.nodes[2, at])
    return GivenUp(*(torch.from_numpy(x) for x in parts))
