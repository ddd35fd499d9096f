"""Gradient workshop: every way to a gradient on one's own model, by error, time and memory."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from udehydro.balance import Balance
from udehydro.errors import UdehydroError
from udehydro.forcing import Forcing
from udehydro.sensitivity.checks import own_size
from udehydro.sensitivity.naive import OneCall
from udehydro.sensitivity.objectives import Objective
from udehydro.sensitivity.peak import PeakMemory
from udehydro.sensitivity.start import given_start
from udehydro.simulate import pose, simulate
from udehydro.simulation import Simulation
from udehydro.solvers import SDIRK2, AllAtOnce, Compiled, Solver, Stepping, Torchdiffeq, compiled, forward_sensitivity

STEP = 1e-4
"""Relative step of central differences, a usual choice."""
ONCE = 20.0
"""Seconds from which a way is timed once."""
LIMITS = {"rtol": 1e-5, "atol": 1e-5}


@dataclass(frozen=True)
class Way:
    """A solver and how its run is differentiated.

    Attributes
    ----------
    by : ``"backward"`` by what the solver offers, ``"forward"`` sensitivities, or central ``"differences"``.
    same_steps : solver that takes the same steps and is differentiated by autograd through them, which is the gradient
        of what is computed; None where there is none.
    """

    solver: Solver
    by: Literal["backward", "forward", "differences"] = "backward"
    same_steps: Solver | None = None


def usual_ways() -> dict[str, Way]:
    """The ways at hand: SDIRK2 with one step per interval by our drivers, and torchdiffeq's dopri5 and rk4."""
    tape = Stepping(SDIRK2, gradient="tape")
    found = {
        "all at once, exact adjoint": Way(AllAtOnce(SDIRK2, warm_start=False), same_steps=tape),
        "compiled, exact adjoint": Way(Compiled(SDIRK2, warm_start=False), same_steps=tape),
        "stepping, backpropagation": Way(tape, same_steps=tape),
        "all at once, forward sensitivities": Way(AllAtOnce(SDIRK2, warm_start=False), "forward", tape),
        "all at once, central differences": Way(AllAtOnce(SDIRK2, warm_start=False), "differences", tape),
        "torchdiffeq dopri5 by interval, backpropagation": Way(Torchdiffeq(**LIMITS), same_steps=Torchdiffeq(**LIMITS)),
        "torchdiffeq dopri5 by interval, continuous adjoint": Way(
            Torchdiffeq(adjoint=True, **LIMITS), same_steps=Torchdiffeq(**LIMITS)
        ),
    }
    for name, options in {"": {}, " with jump_t": {"jumps": True}}.items():
        tape = OneCall(**LIMITS, **options)
        found[f"torchdiffeq dopri5 in one call{name}, backpropagation"] = Way(tape, same_steps=tape)
        found[f"torchdiffeq dopri5 in one call{name}, continuous adjoint"] = Way(
            replace(tape, adjoint=True), same_steps=tape
        )
    return found if compiled.available() else {n: w for n, w in found.items() if not isinstance(w.solver, Compiled)}


def compare_gradients(
    model: Balance,
    forcing: Forcing,
    objective: Objective,
    *,
    theta: Mapping[str, Tensor | float] | None = None,
    storage0: Tensor | Mapping[str, Tensor | float],
    ways: Mapping[str, Way] | None = None,
    reference: Solver | None = None,
    repeats: int = 3,
    progress: bool = False,
) -> pd.DataFrame:
    """Gradient of an objective by all parameters and initial storages, every way, on the user's own model.

    Parameters
    ----------
    objective : Simulation -> (*batch).
    theta, storage0 : as in :func:`udehydro.sensitivity.adjoint`; parameters that vary in time are not moved.
    ways : name -> Way; :func:`usual_ways` by default, the torchdiffeq ones of which take minutes for some years.
    reference : solver whose gradient counts as true: SDIRK2 with 64 steps per interval by default.
    repeats : timed calls, in turn; a way that takes more than 20 s is timed once.

    Returns
    -------
    Table by way. Errors are relative, of gradients in norm over relative changes of all values: ``value_error`` and
    ``true_error`` against the reference, ``own_error`` against autograd through the same steps: whether it is the
    gradient of what is computed. ``seconds`` (of warm calls) and ``megabytes`` (peak of tensors) are those of a value
    with its gradient; ``failure`` says why there are none.
    """
    ways = usual_ways() if ways is None else ways
    task = _Task(model, forcing, objective, theta, storage0)
    truth = task.backward(AllAtOnce(SDIRK2, substeps=64, warm_start=False) if reference is None else reference)
    rows, tapes = {}, {}
    for name, way in tqdm(ways.items(), "gradients", disable=not progress, leave=False):
        rows[name] = _measured(task, way, truth, tapes)
    seconds = {name: [] for name, row in rows.items() if not row["failure"]}
    for i in range(repeats):
        for name in tqdm(seconds, f"timing {i + 1} of {repeats}", disable=not progress, leave=False):
            if not seconds[name] or seconds[name][0] < ONCE:
                began = time.perf_counter()
                task.by(ways[name])
                seconds[name].append(time.perf_counter() - began)
    for name, row in rows.items():
        row["seconds"] = statistics.median(seconds[name]) if name in seconds else math.nan
    columns = ["value", "value_error", "own_error", "true_error", "seconds", "megabytes", "failure"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("way")


Found = tuple[Tensor, Tensor]
"""Value (*batch), and its gradient (P, *batch) by relative changes."""


def _measured(task: _Task, way: Way, truth: Found, tapes: dict) -> dict:
    row = dict.fromkeys(("value", "value_error", "own_error", "true_error", "megabytes"), math.nan)
    try:
        with PeakMemory() as memory:
            value, gradient = task.by(way)
        if way.same_steps is not None and way.same_steps not in tapes:
            tapes[way.same_steps] = gradient if way.same_steps == way.solver else task.backward(way.same_steps)[1]
    except (UdehydroError, RuntimeError, AssertionError) as error:
        return row | {"failure": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
    own = math.nan if way.same_steps is None else _apart(gradient, tapes[way.same_steps])
    return {
        "value": float(value.sum()),
        "value_error": _apart(value, truth[0]),
        "own_error": own,
        "true_error": _apart(gradient, truth[1]),
        "megabytes": memory.peak / 1e6,
        "failure": "",
    }


def _apart(found: Tensor, right: Tensor) -> float:
    gap = (found - right).norm()
    return float(gap / right.norm()) if gap != 0.0 else 0.0


@dataclass
class _Task:
    """The objective as a function of relative changes x (P, *batch) of parameters and initial storages."""

    model: Balance
    forcing: Forcing
    objective: Objective
    theta: Mapping[str, Tensor | float] | None
    storage0: Tensor | Mapping[str, Tensor | float]
    given: dict[str, Tensor] = field(init=False)
    base: dict[str, Tensor] = field(init=False)

    def __post_init__(self):
        batch, names = self.forcing.batch, self.model.parameter_names
        given = {n: v.detach() for n, v in zip(names, self.model.theta(self.theta, self.forcing.like), strict=True)}
        self.given = {n: v for n, v in given.items() if v.ndim > len(batch)}
        start = given_start(self.model, self.forcing, self.storage0).unbind(-1)
        moved = {n: v.expand(batch) for n, v in given.items() if n not in self.given}
        self.base = moved | dict(zip(self.model.store_names, start, strict=True))

    def at(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Parameters and initial storages (*batch, S)."""
        values = {n: v + own_size(v) * c for (n, v), c in zip(self.base.items(), x, strict=True)}
        start = torch.stack([values.pop(n) for n in self.model.store_names], dim=-1)
        return self.given | values, start

    def zero(self) -> Tensor:
        return torch.zeros_like(torch.stack(list(self.base.values())))

    def by(self, way: Way) -> Found:
        run: Callable[[Solver], Found] = getattr(self, way.by)
        return run(way.solver)

    def backward(self, solver: Solver) -> Found:
        x = self.zero().requires_grad_()
        theta, start = self.at(x)
        value = self.objective(simulate(self.model, self.forcing, theta=theta, storage0=start, solver=solver))
        (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient

    def forward(self, solver: Solver) -> Found:
        theta, start = self.at(self.zero())
        problem = pose(self.model, self.forcing, theta)
        moved = forward_sensitivity(problem, start, list(self.base), solver)
        storage, volume = (part.detach().requires_grad_() for part in moved.run)
        run = Simulation(self.model, self.forcing, storage, volume, moved.report, theta)
        value = self.objective(run)
        parts = torch.autograd.grad(value.sum(), [storage, volume], allow_unused=True)
        slopes = [(s * g).sum((1, -1)) for s, g in zip(moved[:2], parts, strict=True) if g is not None]
        return value.detach(), sum(slopes) * torch.stack([own_size(v) for v in self.base.values()])

    def differences(self, solver: Solver) -> Found:
        """Both ends of every difference, and the value itself, as members of one batch."""
        zero = self.zero()
        ends = STEP * torch.eye(len(zero), dtype=zero.dtype, device=zero.device)
        ends = ends.reshape(len(zero), -1, *(1,) * (zero.ndim - 1))
        x = torch.cat([zero[None], zero + ends, zero - ends]).movedim(0, 1)  # (P, members, *batch)
        members = x.shape[1]
        theta, start = self.at(x)
        theta = {n: v.unsqueeze(1) if n in self.given else v for n, v in theta.items()}
        record = self.forcing.with_members(members)
        with torch.no_grad():
            values = self.objective(simulate(self.model, record, theta=theta, storage0=start, solver=solver))
        up, down = values[1:].reshape(2, len(zero), *values.shape[1:])
        return values[0], (up - down) / (2.0 * STEP)
