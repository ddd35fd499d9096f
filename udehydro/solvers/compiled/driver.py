"""Compiled: the same schemes, one step after the other, with loops and laws compiled by numba."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache
from types import ModuleType
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from udehydro.balance import Balance
from udehydro.errors import ConfigError
from udehydro.laws.neural import Perceptron
from udehydro.solvers.adjoint import Tangents
from udehydro.solvers.compiled import module
from udehydro.solvers.march import March, Steps
from udehydro.solvers.one_step import Cuts, OneStep
from udehydro.solvers.problem import Problem, SolverReport
from udehydro.solvers.tableau import Tableau
from udehydro.solvers.warm import WarmStart

LANES, FEW = 8, 4
"""Basins that are computed side by side, and how many are worth it."""
_PROGRAMS: WeakKeyDictionary[Balance, dict] = WeakKeyDictionary()


@dataclass(frozen=True)
class Compiled(OneStep):
    """Sequential stepping in compiled loops on the CPU; options of every driver in
    :class:`OneStep`.

    The laws are traced once and compiled with the loops (some seconds for a new model, kept on disk). Stores that
    depend on each other are solved together, in the order of the graph.
    Values are computed in double precision whatever the precision of the inputs.

    Parameters
    ----------
    warm_start : start every step from the stages of the last run over the same intervals, where there is one.

    Raises
    ------
    ConfigError
        Without numba, and for tensors that are not on the CPU.
    StructureError
        For laws that look at values, and networks with a member axis.
    """

    _: KW_ONLY
    warm_start: bool = True
    memory: WarmStart = field(default_factory=WarmStart, init=False, repr=False, compare=False)

    def march(self, problem: Problem, y: Tensor, cuts: Cuts, report: SolverReport) -> March:
        if problem.days.device.type != "cpu":
            raise ConfigError(f"Compiled runs on the CPU, the forcing is on {problem.days.device}: use AllAtOnce.")
        program = compiled(problem)
        basins = math.prod(problem.batch)
        pieces = np.empty((len(problem.days), basins), dtype=np.int64)
        each = cuts.each
        pieces[:] = each.reshape(len(each), -1).numpy() if isinstance(each, Tensor) else each
        run = _Run(self, problem, program, y)
        needed = run.go(pieces, report)
        planned = pieces
        while (needed != pieces).any():
            # again with these cuts, now that the place of every step in the record is known
            pieces, needed = needed, run.go(needed, report)
        report.split_intervals += int((pieces != planned).sum())
        march = run.result()
        if self.warm_start:
            self.memory.keep(problem, march)
        return march


def compiled(problem: Problem, build: Callable[[Balance, int], ModuleType] = module.build) -> ModuleType:
    """The program that ``build`` makes of a problem's model, made once for few and once for many basins."""
    if not available():
        raise ConfigError("Compiled needs numba: pip install 'udehydro[fast]', or use AllAtOnce.")
    programs, key = _PROGRAMS.setdefault(problem.model, {}), _key(problem)
    if (build, key) not in programs:
        programs[build, key] = build(problem.model, key[0])
    return programs[build, key]


def _key(problem: Problem) -> tuple:
    """What a program depends on: basins side by side, and what tracing the laws turns into constants, which is which
    weights are trained, and settings of the laws."""
    lanes = LANES if math.prod(problem.batch) >= FEW else 1
    trained = tuple(p.requires_grad for p in problem.model.parameters())
    structure = problem.model.structure
    laws = [item.law for item in (*structure.quantities, *structure.fluxes)]
    parts = [part for law in laws for part in (law.modules() if isinstance(law, nn.Module) else [law])]
    return lanes, trained, tuple(setting for part in parts for setting in _settings(part))


_OF_MODULES = frozenset(vars(nn.Module()))


def _settings(part: Callable) -> Iterator[tuple[str, str]]:
    """Attributes of a law, and what a function closes over."""
    held = {name: value for name, value in getattr(part, "__dict__", {}).items() if name not in _OF_MODULES}
    closure = getattr(part, "__closure__", None) or ()
    held |= {f"closure {i}": cell.cell_contents for i, cell in enumerate(closure)}
    for name, value in sorted(held.items()):
        if not isinstance(value, Tensor):
            yield name, repr(value)
        elif value.numel() == 1:
            yield name, repr(value.item())


def has_networks(problem: Problem) -> bool:
    """Whether any law is a network."""
    return any(isinstance(m, Perceptron) for m in problem.model.modules())


def is_built(problem: Problem) -> bool:
    """Whether the model was compiled before, by this process, for such a batch."""
    return (module.build, _key(problem)) in _PROGRAMS.get(problem.model, {})


class _Record(March):
    """A march of the compiled driver, which its compiled adjoint can walk back."""

    pieces: np.ndarray
    first: np.ndarray
    stages: np.ndarray
    inputs: tuple

    def pull(
        self, problem: Problem, tableau: Tableau, g_storage: Tensor | None, g_volume: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        if has_networks(problem):  # matrix products of many steps at once are faster
            return super().pull(problem, tableau, g_storage, g_volume)
        program, model = compiled(problem), problem.model
        intervals, basins = self.pieces.shape
        a, b = (np.array(c, dtype=float) for c in (tableau.a, tableau.b))
        forcing, theta, moving = self.inputs
        wanted = _padded(f.requires_grad for f in problem.forcing)
        adjoint = _cotangent(g_storage, self.storage).copy()
        g_forcing = np.zeros((max(1, int(wanted.sum())), intervals, basins))
        g_theta = tuple(np.zeros_like(t) for t in theta)
        weights = module.flat_weights(model)
        threads = _threads(basins, program.LANES)
        g_weights = [np.zeros(len(weights)) for _ in range(threads)]
        _share(
            basins, program.LANES, program.reverse, a, b, forcing, theta, moving, wanted, weights,
            problem.days.double().numpy(), self.pieces, self.first, self.stages, _cotangent(g_volume, self.volume),
            adjoint, g_forcing, g_theta, own=g_weights,
        )  # fmt: skip
        gradients = [torch.from_numpy(g).reshape(intervals, *problem.batch) for g in g_forcing[: int(wanted.sum())]]
        for value, varies, g in zip(problem.theta, problem.varying, g_theta, strict=False):
            if value.requires_grad:
                g = torch.from_numpy(g).reshape(intervals if varies else 1, *problem.batch)
                gradients.append(g if varies else _reduced(g[0], value.shape))
        position, g_weights = 0, sum(g_weights)
        for weight in model.parameters():
            if weight.requires_grad:
                part = g_weights[position : position + weight.numel()]
                gradients.append(torch.from_numpy(part).reshape(weight.shape))
            position += weight.numel()
        dtype = problem.days.dtype
        return torch.from_numpy(adjoint).reshape(self.storage.shape).to(dtype), [g.to(dtype) for g in gradients]

    def push(
        self, problem: Problem, tableau: Tableau, tangents: Tangents, stores: Sequence[int], fluxes: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        program = compiled(problem, module.build_tangents)
        intervals, basins = self.pieces.shape
        count, batch, n_forcings = len(tangents.which), problem.batch, len(problem.forcing)
        a, b = (np.array(c, dtype=float) for c in (tableau.a, tableau.b))
        given = [f for f in tangents.forcing if f is not None]
        driven = np.array([-1 if f is None else 0 for f in tangents.forcing])
        driven[driven == 0] = np.arange(len(given))
        tangent = np.zeros((max(1, len(given)), max(1, n_forcings), intervals if given else 1, basins))
        for place, series in zip(tangent, given, strict=False):
            for target, values in zip(place, series, strict=True):
                target[:] = values.double().reshape(intervals, basins).numpy()
        storage = np.zeros((count, len(stores), intervals + 1, basins))
        volume = np.zeros((count, len(fluxes), intervals, basins))
        which = tangents.which.expand(count, *batch).reshape(count, basins).contiguous().numpy()
        forcing, theta, moving = self.inputs
        _share(
            basins, program.LANES, program.push, a, b, forcing, theta, moving, module.flat_weights(problem.model),
            problem.days.double().numpy(), self.pieces, self.first, self.stages, which, driven, tangent,
            np.array(stores, dtype=np.int64), np.array(fluxes, dtype=np.int64), storage, volume,
        )  # fmt: skip
        storage, volume = (torch.from_numpy(v).unflatten(-1, batch or (1,)) for v in (storage, volume))
        if not batch:
            storage, volume = storage[..., 0], volume[..., 0]
        dtype = problem.days.dtype
        return storage.movedim(1, -1).to(dtype), volume.movedim(1, -1).to(dtype)


class _Run:
    """One run: arrays in, loops, arrays out."""

    def __init__(self, solver: Compiled, problem: Problem, program: ModuleType, y: Tensor):
        self.solver, self.problem, self.program, self.y = solver, problem, program, y
        self.basins = math.prod(problem.batch)
        self.forcing = _series(problem.forcing, (len(problem.days), *problem.batch))
        self.theta = _parameters(problem)
        self.moving = _padded(problem.varying)
        self.a, self.b = (np.array(c, dtype=float) for c in (solver.tableau.a, solver.tableau.b))
        self.days = problem.days.double().numpy()
        self.floor = 50.0 * torch.finfo(problem.days.dtype).eps

    def go(self, pieces: np.ndarray, report: SolverReport) -> np.ndarray:
        """Run with every interval cut into ``pieces`` (T, B) steps; returns the cuts that turned out to be needed."""
        solver, problem, program = self.solver, self.problem, self.program
        n_stores, n_fluxes = len(problem.model.store_names), len(problem.model.flux_names)
        most = pieces.max(1)
        self.pieces, self.first = pieces, np.concatenate([[0], np.cumsum(most)])
        self.interval = torch.from_numpy(np.repeat(np.arange(len(most)), most))
        steps = int(most.sum())
        self.storage = np.empty((n_stores, len(most) + 1, self.basins))
        self.storage[:, 0] = self.y.double().reshape(n_stores, -1).numpy()
        self.volume = np.empty((n_fluxes, len(most), self.basins))
        self.starts = np.zeros((n_stores, steps if steps > len(most) else 0, self.basins))
        self.stages = np.zeros((len(self.b), n_stores, steps, self.basins))
        guess = None
        if solver.warm_start:
            guess = solver.memory.guess(problem, self.interval, len(self.b))
        warm = self.stages
        if guess is not None:
            warm = np.stack([g.double().reshape(n_stores, steps, -1).numpy() for g in guess])
        needed, failed, worst = pieces.copy(), np.full(self.basins, -1), np.zeros(self.basins)
        weights, record = module.flat_weights(problem.model), (self.storage, self.volume, self.starts, self.stages)
        results = _share(
            self.basins, program.LANES, program.march, self.a, self.b, self.forcing, self.theta, self.moving, weights,
            self.days, pieces, self.first, guess is not None, warm, solver.tolerance, self.floor, solver.splits,
            solver.undershoot == "split", *record, needed, failed, worst,
        )  # fmt: skip
        report.newton_iterations += round(sum(evaluations for _, evaluations in results))
        report.pivots.append(torch.tensor(min(smallest for smallest, _ in results), dtype=torch.float64))
        if (failed >= 0).any():
            k = int(failed[failed >= 0].min())
            bad = torch.from_numpy(failed >= 0).reshape(problem.batch)
            first = torch.from_numpy(failed == k).reshape(problem.batch)
            y = torch.from_numpy(self.storage[:, k]).reshape(n_stores, *problem.batch)
            at = torch.where(first, y, torch.zeros_like(y))
            solver.check_rates(problem, at.to(problem.days.dtype), k, first)
            solver.fail(problem, k, first, y, torch.from_numpy(worst).reshape(problem.batch), bad)
        return needed

    def result(self) -> _Record:
        problem, dtype = self.problem, self.problem.days.dtype
        batch, n_steps = problem.batch, len(self.interval)

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).reshape(*array.shape[:2], *batch).to(dtype)

        edges, volume = tensor(self.storage), tensor(self.volume)
        solved = tuple(tensor(stage) for stage in self.stages)
        starts = edges[:, :-1]
        h = problem.days.reshape(-1, *(1,) * len(batch))
        if n_steps > len(problem.days):
            h, starts = self._lengths(), tensor(self.starts)
        record = _Record.of(Steps(self.interval, h, starts, solved), volume, edges)
        record.inputs = self.forcing, self.theta, self.moving
        record.pieces, record.first, record.stages = self.pieces, self.first, self.stages
        return record

    def _lengths(self) -> Tensor:
        """Length of every step (n, *batch) where intervals are cut."""
        days = self.problem.days
        number = torch.arange(len(self.interval)) - torch.from_numpy(self.first)[self.interval]
        pieces = torch.from_numpy(self.pieces)[self.interval]
        h = torch.where(number[:, None] < pieces, days[self.interval][:, None] / pieces, 0.0)
        return h.reshape(-1, *self.problem.batch).to(days.dtype)


def _threads(basins: int, lanes: int) -> int:
    """As many threads as PyTorch uses, but no more than tiles."""
    return min(torch.get_num_threads(), -(-basins // lanes))


def _share(basins: int, lanes: int, loop, *arguments, own: Sequence = ()) -> list:
    """Run a loop over tiles of basins on several threads; what is returned comes in order.

    ``own`` has one more argument for every thread.
    """
    tiles, threads = -(-basins // lanes), len(own) or _threads(basins, lanes)
    ends = [tiles * i // threads for i in range(threads + 1)]

    def part(i: int):
        return loop(ends[i], ends[i + 1], *arguments, *own[i : i + 1])

    if threads == 1:
        return [part(0)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(part, range(threads)))


def _reduced(gradient: Tensor, shape: torch.Size) -> Tensor:
    """Sum a gradient (*batch) over the elements that share a parameter of some shape."""
    gradient = gradient.sum(tuple(range(gradient.ndim - len(shape)))) if gradient.ndim > len(shape) else gradient
    shared = [d for d, n in enumerate(shape) if n == 1 and gradient.shape[d] > 1]
    return gradient.sum(shared, keepdim=True) if shared else gradient.reshape(shape)


def _cotangent(gradient: Tensor | None, like: Tensor) -> np.ndarray:
    """(T, B, .) from (T, *batch, .); zeros where nothing depends on the values."""
    shape = len(like), math.prod(like.shape[1:-1]), like.shape[-1]
    return np.zeros(shape) if gradient is None else gradient.detach().double().contiguous().reshape(shape).numpy()


def _series(values, shape) -> tuple[np.ndarray, ...]:
    """Forcings (T, B), one array each; one of zeros where there is none."""
    flat = [v.detach().double().expand(shape).contiguous().reshape(shape[0], -1).numpy() for v in values]
    return tuple(flat) or (np.zeros((shape[0], math.prod(shape[1:]))),)


def _parameters(problem: Problem) -> tuple[np.ndarray, ...]:
    """Parameters (T or 1, B)."""
    values = []
    for value, varies in zip(problem.theta, problem.varying, strict=True):
        value = value.detach().double()
        value = value.expand(len(problem.days), *problem.batch) if varies else value.expand(1, *problem.batch)
        values.append(value.contiguous().reshape(value.shape[0], -1).numpy())
    return tuple(values) or (np.zeros((1, math.prod(problem.batch))),)


def _padded(flags) -> np.ndarray:
    return np.array([*flags] or [False])


@lru_cache
def available() -> bool:
    """Whether numba can be imported."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True
