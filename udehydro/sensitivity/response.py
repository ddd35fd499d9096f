"""Response: a model as a function of factors, its samples side by side; and any function at many points of a space."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace

import torch
from torch import Tensor
from tqdm import tqdm

from udehydro.balance import Balance
from udehydro.errors import ConfigError, SolverError
from udehydro.forcing import Forcing
from udehydro.sensitivity.objectives import Objective
from udehydro.sensitivity.perturbed import PREFIX as ADDED
from udehydro.sensitivity.space import Space
from udehydro.simulate import simulate
from udehydro.simulation import Simulation
from udehydro.solvers import Automatic, Solver
from udehydro.structure import suggest

TIMES = "times_"
"""Prefix of a factor that multiplies a forcing; ``added_to_`` adds to it."""
HELD, HELD_GRADIENT = 3, 5
"""How often a run holds its storages, volumes, stages and prepared terms, without and with derivatives (measured)."""

Function = Callable[[Mapping[str, Tensor]], Tensor]
"""name -> values (N,) to results (N, *outputs), every row from its own values: a Response, or any function in torch."""


@dataclass(frozen=True)
class Response:
    """Objectives of a model as a function of factors: name -> (N,) to (N, *batch), every sample a member.

    A factor is a parameter, the initial storage of a store [mm], ``times_<forcing>`` [1], which multiplies a forcing,
    or ``added_to_<forcing>``, in its unit, also where that makes a rate negative: rain is better multiplied. A sample
    that the solver cannot run is NaN in the basins where it fails; the others are not lost.

    Parameters
    ----------
    forcing : batch () or (basins,); results have one number for each basin.
    objective : Simulation -> (*batch), or name -> such functions, which are then computed from the same runs: results
        are (N, objective, *batch).
    theta : parameters that are not varied, as in :func:`simulate`; declared defaults otherwise.
    storage0 : initial storages that are not varied, (*batch, S) or a value per store [mm]. ``None`` repeats the first
        year for every sample (up to 10 more years, and derivatives do not reach through them).
    memory : of a batch of runs, about [GiB]; samples are run in as few batches as that allows.
    """

    model: Balance
    forcing: Forcing
    objective: Objective | Mapping[str, Objective]
    _: KW_ONLY
    theta: Mapping[str, Tensor | float] = field(default_factory=dict)
    storage0: Tensor | Mapping[str, Tensor | float] | None = None
    solver: Solver = field(default_factory=lambda: Automatic(warm_start=False))
    memory: float = 1.0

    def __post_init__(self):
        if len(self.forcing.batch) > 1:
            raise ConfigError(f"Samples are members, so the forcing has a batch of basins, not {self.forcing.batch}.")
        if isinstance(self.objective, Mapping) and not self.objective:
            raise ConfigError("There is no objective.")

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of what is independent of each other: the basins."""
        return self.forcing.batch

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes of a result behind the samples."""
        return (*(("objective",) if isinstance(self.objective, Mapping) else ()), *("basin",) * len(self.batch))

    @property
    def coords(self) -> dict[str, list[str]]:
        named = {"objective": list(self.objective)} if isinstance(self.objective, Mapping) else {}
        return named | ({"basin": list(self.forcing.basins)} if self.forcing.basins else {})

    def most(self, gradient: bool) -> int:
        """How many samples run side by side within ``memory``; at least one."""
        words = 3 * len(self.model.store_names) + 2 * len(self.model.flux_names)
        each = 8 * len(self.forcing) * math.prod(self.batch) * words * (HELD_GRADIENT if gradient else HELD)
        return max(1, int(self.memory * 2**30 / each))

    def __call__(self, values: Mapping[str, Tensor]) -> Tensor:
        """Results (N, *outputs) at values (N,), or (N, *batch): one for each basin; all as one batch."""
        self._check(values)
        like, count = self.forcing.like, len(next(iter(values.values())))
        given = {n: v.to(like).reshape(count, *(v.shape[1:] or (1,) * len(self.batch))) for n, v in values.items()}
        lost = torch.zeros((count, *self.batch), dtype=torch.bool, device=like.device)
        while True:
            try:
                found = self._objectives(self._run(given, count))
                return torch.where(lost if found.ndim == lost.ndim else lost.unsqueeze(1), torch.nan, found)
            except SolverError as error:
                failed = error.failed
                if failed is None or failed.shape != lost.shape or not bool((failed & ~lost).any()):
                    raise
                # others need not suffer: once more, with harmless values where it failed
                lost = lost | failed
                given = {n: torch.where(lost, self._harmless(n), v) for n, v in given.items()}

    def _check(self, values: Mapping[str, Tensor]) -> None:
        model, weather = self.model, self.model.forcing_names
        known = (*model.parameter_names, *model.store_names, *(p + n for p in (TIMES, ADDED) for n in weather))
        for name in values:
            if name not in known:
                raise ConfigError(f"The model has no factor '{name}'.{suggest(name, known)}")
        if any(n in values for n in model.store_names):
            missing = [n for n in model.store_names if n not in values and n not in self._storages]
            if missing:
                raise ConfigError(f"Initial storages are varied, but not of {', '.join(missing)}: give storage0 of it.")

    def _harmless(self, name: str) -> float:
        """A value that changes nothing, or a declared default."""
        if name in self.model.parameter_names:
            return self.model.structure.parameters[name].default
        return 1.0 if name.startswith(TIMES) else 0.0

    def _run(self, values: Mapping[str, Tensor], count: int) -> Simulation:
        model, like, declared = self.model, self.forcing.like, self.model.structure.parameters
        theta = {n: declared[n].default for n in model.parameter_names} | dict(self.theta)
        theta = {n: torch.as_tensor(v, dtype=like.dtype, device=like.device) for n, v in theta.items()}
        # what varies in time gets a member axis behind time
        theta = {n: v.unsqueeze(1) if v.ndim > len(self.batch) else v for n, v in theta.items()}
        theta |= {n: v for n, v in values.items() if n in model.parameter_names}
        record, start = self.forcing.with_members(count), self.storage0
        series = {n: record.values[n] for n in model.forcing_names}
        series |= {n: v * values[TIMES + n] for n, v in series.items() if TIMES + n in values}
        series |= {n: v + values[ADDED + n] for n, v in series.items() if ADDED + n in values}
        if any(n in values for n in model.store_names):
            start = {n: values[n] if n in values else self._storages[n] for n in model.store_names}
        record = replace(record, values={**record.values, **series})
        return simulate(model, record, theta=theta, storage0=start, solver=self.solver)

    @property
    def _storages(self) -> Mapping[str, Tensor | float]:
        """Initial storages that were given, by store."""
        if isinstance(self.storage0, Tensor):
            return dict(zip(self.model.store_names, self.storage0.unbind(-1), strict=True))
        return self.storage0 or {}

    def _objectives(self, simulation: Simulation) -> Tensor:
        several = isinstance(self.objective, Mapping)
        found = [o(simulation) for o in (self.objective.values() if several else (self.objective,))]
        for value in found:
            if not isinstance(value, Tensor) or value.shape != simulation.forcing.batch:
                got = f"has shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"is a {type(value).__name__}"
                raise ConfigError(
                    f"An objective {got}, needs a tensor with one number for each sample and basin: "
                    f"{simulation.forcing.batch}."
                )
        return torch.stack(found, 1) if several else found[0]


def evaluate(
    function: Function, space: Space, unit: Tensor, *, gradient: bool = False, progress: str | None = "runs"
) -> tuple[Tensor, Tensor | None]:
    """Results (N, *outputs) of a function at points (N, K) of a space, and derivatives (N, K, *outputs) by them.

    Derivatives are by the share of a range, the logarithm of it where that is logarithmic; exact for the discrete run.
    Samples and basins do not depend on each other, so one backward pass gives the derivatives of all of them.

    Raises
    ------
    ConfigError
        For a function that does not return a row for every sample, or cannot be differentiated.
    """
    most = function.most(gradient) if isinstance(function, Response) else len(unit)
    run = _differentiated if gradient else _plain
    found = []
    with tqdm(total=len(unit), desc=progress or "", disable=progress is None, leave=False, delay=2.0) as bar:
        for part in unit.split(most):
            found.append(run(function, space, part))
            bar.update(len(part))
    values, derivatives = zip(*found, strict=True)
    return torch.cat(values), torch.cat(derivatives) if gradient else None


def output_dims(function: Function, found: Tensor) -> tuple[str, ...]:
    """Names of the axes of results (N, *outputs) behind the samples."""
    return getattr(function, "dims", tuple(f"output_{i}" for i in range(found.ndim - 1)))


@torch.no_grad()
def _plain(function: Function, space: Space, unit: Tensor) -> tuple[Tensor, None]:
    return _rows(function, space.values(unit), len(unit)), None


@torch.enable_grad()
def _differentiated(function: Function, space: Space, unit: Tensor) -> tuple[Tensor, Tensor]:
    count, batch = len(unit), getattr(function, "batch", ())
    leaf = unit.reshape(*unit.shape, *(1,) * len(batch)).expand(*unit.shape, *batch).clone().requires_grad_()
    found = _rows(function, space.values(leaf), count)
    if not found.requires_grad:
        raise ConfigError("The function does not depend on the factors in a way that can be differentiated.")
    finite = found.isfinite()
    # one pass for each output that shares its inputs with others: objectives, but not basins
    columns = torch.where(finite, found, 0.0).reshape(count, -1, *batch).unbind(1)
    passes = [torch.autograd.grad(c.sum(), leaf, retain_graph=c is not columns[-1])[0] for c in columns]
    derivatives = torch.stack(passes, 2).reshape(count, len(space), *found.shape[1:])
    return found.detach(), torch.where(finite.unsqueeze(1).to(unit.device), derivatives, torch.nan)


def _rows(function: Function, values: Mapping[str, Tensor], count: int) -> Tensor:
    found = function(values)
    if not isinstance(found, Tensor) or found.shape[:1] != (count,):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(f"The function has to return a tensor with a row for each of {count} samples, got {shape}.")
    return found
