"""torchdiffeq as a backend: the same right-hand side through ``odeint`` or ``odeint_adjoint``.

Interval by interval by default: forcing is constant inside each call, so adaptive steps cannot jump a rain pulse and no
``jump_t`` is needed. The flux volumes of the interval are extra states, reset to zero each time and left out of the
error norm.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torchdiffeq import odeint, odeint_adjoint

from udehydro.errors import ConfigError, SolverError
from udehydro.solvers import newton
from udehydro.solvers.one_step import lowest
from udehydro.solvers.problem import Point, Problem, SolverReport

ADAPTIVE = ("dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun")
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams")


@dataclass(frozen=True)
class Torchdiffeq:
    """torchdiffeq solver (Chen 2018).

    Parameters
    ----------
    method : one of the adaptive or fixed-step methods of torchdiffeq 0.2.5 (it has no implicit Runge-Kutta method; use
        :class:`Stepping` for those). One step size serves the whole batch.
    adjoint : ``True`` for ``odeint_adjoint`` (continuous adjoint; every differentiable leaf is passed on), ``False``
        for backpropagation through the solver.
    rtol, atol : tolerances of adaptive methods, on storages only.
    step_size : step of fixed-step methods [d]; the whole interval by default.
    span : ``"interval"``, or ``"record"`` for one call over all intervals (fixed steps only, kept for benchmarks).

    Raises
    ------
    ConfigError
        For an unknown method, and for an adaptive one with ``step_size`` or over the whole record.
    SolverError
        Where torchdiffeq gives up or returns a value that is not finite.
    """

    method: str = "dopri5"
    adjoint: bool = False
    rtol: float = 1e-7
    atol: float = 1e-9
    step_size: float | None = None
    span: Literal["interval", "record"] = "interval"

    def __post_init__(self):
        if self.method not in (*ADAPTIVE, *FIXED):
            raise ConfigError(
                f"torchdiffeq method '{self.method}' is not available; adaptive: {', '.join(ADAPTIVE)}; fixed step: "
                f"{', '.join(FIXED)}. For implicit schemes use Stepping(SDIRK2) or Stepping(BACKWARD_EULER)."
            )
        if self.span not in ("interval", "record"):
            raise ConfigError(f"span must be 'interval' or 'record', got {self.span!r}.")
        if self.span == "record" and self.method in ADAPTIVE:
            raise ConfigError(
                f"'{self.method}' chooses its own steps and would step over rain pulses in one call (wrong by "
                "percents, jump_t notwithstanding). Use span='interval' or a fixed-step method."
            )
        if self.step_size is not None and self.method in ADAPTIVE:
            raise ConfigError(f"step_size does not apply to the adaptive method '{self.method}'; use rtol and atol.")

    def __call__(self, problem: Problem, storage0: Tensor) -> tuple[Tensor, Tensor, SolverReport]:
        name = f"Torchdiffeq({self.method}, adjoint={self.adjoint})"
        report = SolverReport(name, f"torchdiffeq {self.method}")
        solve = self._by_interval if self.span == "interval" else self._whole_record
        if self.adjoint and torch.is_grad_enabled():
            storage, volume = _isolated(problem, storage0.movedim(-1, 0), solve)
        else:
            storage, volume = solve(problem, storage0.movedim(-1, 0))
        finite = torch.isfinite(storage)
        if not storage.is_meta and not bool(finite.all()):
            k, *element = (~finite).any(-1).nonzero()[0].tolist()
            raise SolverError(
                f"{report.solver} returned a value that is not finite in {problem.label(max(k - 1, 0), element)}: use "
                "an implicit scheme (Stepping), smaller steps, or bound the law that grows there.",
                failed=(~finite).any(-1).any(0),
            )
        low = lowest(problem.model, storage).reshape(-1)
        report.undershoots = 0 if storage.is_meta else int((storage[1:] < low).any(-1).sum())
        return storage, volume, report

    def _by_interval(self, problem: Problem, y: Tensor) -> tuple[Tensor, Tensor]:
        n, flux_count = len(y), len(problem.model.flux_names)
        edges, volumes = [y], []
        for k, days in enumerate(problem.days.unbind(0)):
            field = _Interval(problem, problem.at(k))
            state = torch.cat([y, y.new_zeros(flux_count, *y.shape[1:])])
            end = self._solve(field, state, torch.stack([days * 0.0, days]), problem, k)[-1]
            y, volume = end[:n], end[n:]
            edges.append(y)
            volumes.append(volume)
        return torch.stack(edges).movedim(1, -1), torch.stack(volumes).movedim(1, -1)

    def _whole_record(self, problem: Problem, y: Tensor) -> tuple[Tensor, Tensor]:
        n, flux_count = len(y), len(problem.model.flux_names)
        edges = torch.cat([problem.days.new_zeros(1), problem.days.cumsum(0)])
        state = torch.cat([y, y.new_zeros(flux_count, *y.shape[1:])])
        path = self._solve(self.field(problem, edges), state, edges, problem, 0)
        return path[:, :n].movedim(1, -1), path[:, n:].diff(dim=0).movedim(1, -1)

    def field(self, problem: Problem, edges: Tensor) -> Record:
        """Right-hand side of a call over all intervals."""
        return Record(problem, edges)

    def options(self, times: Tensor, stores: int) -> dict:
        """Options of one call of torchdiffeq, whose state begins with the stores."""
        if self.method in ADAPTIVE:
            # an error norm per call, of the storages alone: volumes follow from the same stages. Land on the edges: a
            # step beyond would be interpolated back, outside the error control (dopri8: wrong by 1e-6 at 1e-10)
            return {"norm": lambda v: v[:stores].abs().pow(2).mean().sqrt(), "step_t": times}
        return {"perturb": True} | ({} if self.step_size is None else {"step_size": self.step_size})

    def leaves(self, field: _Interval | Record) -> tuple[Tensor, ...]:
        """What the continuous adjoint is told to differentiate by."""
        return tuple(field.leaves())

    def _solve(self, field: torch.nn.Module, state: Tensor, times: Tensor, problem: Problem, k: int) -> Tensor:
        options = self.options(times, len(problem.model.store_names))
        settings = dict(method=self.method, rtol=self.rtol, atol=self.atol, options=options)
        leaves = self.leaves(field) if torch.is_grad_enabled() else ()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", module="torchdiffeq")
                if self.adjoint and (leaves or state.requires_grad):
                    return odeint_adjoint(
                        field,
                        state,
                        times,
                        adjoint_params=leaves,
                        adjoint_options=_adjoint_options(options),
                        **settings,
                    )
                return odeint(field, state, times, **settings)
        except (AssertionError, UserWarning) as error:
            raise SolverError(
                f"torchdiffeq {self.method} gave up in {problem.label(k)}: {error}. Loosen rtol/atol, or use an "
                "implicit scheme (Stepping): a stiff store makes explicit steps vanish.",
            ) from error


def _isolated(problem: Problem, y: Tensor, solve) -> tuple[Tensor, Tensor]:
    """Solve on leaf copies of every tensor, joined to the outer graph by one Function.

    The continuous adjoint differentiates with respect to each tensor it is given. Terms evaluated once per run depend
    on parameters that laws may read directly as well: without the copies their gradient would be counted twice.
    """
    problem.check_reach()
    series = (*problem.forcing, *problem.theta)
    weights = [p for p in problem.model.parameters() if p.requires_grad]
    return _Isolate.apply(problem, solve, y, len(series), *series, *weights)


class _Isolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, problem, solve, y, count, *tensors):
        copies = [t.detach().requires_grad_(t.requires_grad) for t in (y, *tensors[:count])]
        split = 1 + len(problem.forcing)
        inner = problem.replace(forcing=tuple(copies[1:split]), theta=tuple(copies[split:]))
        with torch.enable_grad():
            ctx.outputs = solve(inner, copies[0])
        ctx.inputs = [*copies, *tensors[count:]]
        return tuple(o.detach() for o in ctx.outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        wanted = [t for t in ctx.inputs if t.requires_grad]
        found = iter(torch.autograd.grad(ctx.outputs, wanted, gradients, allow_unused=True))
        y, *rest = (next(found) if t.requires_grad else None for t in ctx.inputs)
        return None, None, y, None, *rest


def _adjoint_options(options: dict) -> dict:
    """Backward options: the forward ones, with parameter integrals left out of the error norm (Kidger et al. 2021)."""
    kept = {name: value for name, value in options.items() if name != "norm"}
    return {**kept, "norm": "seminorm"} if "norm" in options else kept


class _Interval(torch.nn.Module):
    """Right-hand side of storages and volumes with the forcing of one interval; time does not enter."""

    def __init__(self, problem: Problem, point: Point):
        super().__init__()
        self._model, self._point = (problem.model,), point

    def leaves(self) -> list[Tensor]:
        """Every tensor the adjoint must know of: the continuous adjoint drops others without an error."""
        (model,) = self._model
        return [t for t in (*self._point[0], *self._point[1], *model.parameters()) if t.requires_grad]

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        (model,) = self._model
        rates = newton.rates(model, self._point, state[: len(model.store_names)])
        return torch.cat([newton.tendency(model, rates), rates])


class Record(torch.nn.Module):
    """The same over a whole record: the interval is looked up by time, from the right at its start."""

    def __init__(self, problem: Problem, edges: Tensor):
        super().__init__()
        self._problem, self._edges = problem, edges.detach()

    def leaves(self) -> list[Tensor]:
        return self._problem.leaves()

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        k = torch.searchsorted(self._edges, t.detach(), right=True) - 1
        k = k.clamp(0, len(self._edges) - 2)
        return _Interval(self._problem, self._problem.at(int(k))).forward(t, state)
