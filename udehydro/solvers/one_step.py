"""What all drivers of one-step schemes share: options, checks of the result, and the gradient of a march."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import ConfigError, SolverError
from udehydro.solvers import adjoint, newton, tape
from udehydro.solvers.march import March, Steps, chunks
from udehydro.solvers.problem import Problem, SolverReport
from udehydro.solvers.step import path
from udehydro.solvers.tableau import SDIRK2, Tableau

NEGATIVE = -1e-9
PROBES = 8
SAFETY = 1.25
"""Reserve in the substeps suggested: the accurate path may visit steeper states than the one that was refused."""


@dataclass(frozen=True)
class OneStep:
    """Options of every driver: the drivers differ in speed, not in numbers (to ``tolerance``).

    That holds where a step has one solution, as it has for laws that obey the slope rule (``report.min_pivot`` of one
    and more). Where a law falls steeply with its donor store, a step may have several, and drivers may find others.

    Parameters
    ----------
    tableau : scheme; SDIRK2 by default.
    substeps : equal steps per interval; a number, or whole numbers (T, *batch) of the record that is to be run.
    accuracy : None, or the local error [mm per interval] that no store and no volume may exceed: the substeps of every
        basin and interval are then chosen, starting from ``substeps``, and left in ``report.substeps`` with the errors
        in ``report.error``. ``inf`` estimates errors and refines nothing. A loss whose substeps change jumps a little:
        for training, choose once and pass ``substeps=report.substeps``.
    tolerance : residual of implicit stages [mm], scaled by 1 + 1e-3 |Y|.
    undershoot : what to do where a store ends an interval below zero: ``"report"`` counts it, ``"split"`` cuts that
        basin's interval into sub-steps, ``"raise"`` stops. Second-order schemes undershoot for fast decay (SDIRK2
        beyond h x rate = 2.414); backward Euler does not, for laws that vanish with their source. Nothing is ever
        clamped. The ``signed_stores`` of a structure may be negative and never count.
    stability : what explicit tableaux do where a step is beyond their stability limit or a state is not finite:
        ``"raise"``, or ``"ignore"``, for searches that drop what they cannot use, and for systems known to be mild.
    splits : how often an interval may be halved, for undershoot or where Newton fails, before SolverError.
    gradient : ``"adjoint"``: exact discrete adjoint, steps linearised together in chunks, memory of one trajectory;
        ``"tape"``: autograd through the steps, needed for second derivatives (Hessian-vector products).
    checkpoint : with ``"tape"``: steps per window that are recomputed in the backward pass, None to keep all.
    """

    tableau: Tableau = SDIRK2
    _: KW_ONLY
    substeps: int | Tensor = 1
    accuracy: float | None = None
    tolerance: float = 1e-9
    undershoot: Literal["report", "split", "raise"] = "report"
    stability: Literal["raise", "ignore"] = "raise"
    splits: int = 6
    gradient: Literal["adjoint", "tape"] = "adjoint"
    checkpoint: int | None = field(default=None, repr=False)
    splits_signed = False
    """Whether the driver's ``undershoot="split"`` leaves alone the stores that may be negative."""

    def __post_init__(self):
        if not isinstance(self.tableau, Tableau):
            raise ConfigError(f"The first argument is the Tableau, e.g. {type(self).__name__}(SDIRK2), not a "
                              f"{type(self.tableau).__name__}.")  # fmt: skip
        if isinstance(self.substeps, Tensor):
            if self.substeps.is_floating_point() or bool((self.substeps < 1).any()):
                raise ConfigError("substeps given as a tensor must be whole numbers of at least 1.")
        elif isinstance(self.substeps, bool) or not (isinstance(self.substeps, int) and self.substeps >= 1):
            raise ConfigError(f"substeps must be a whole number of at least 1, got {self.substeps!r}.")
        if self.undershoot not in ("report", "split", "raise"):
            raise ConfigError(f"undershoot must be 'report', 'split' or 'raise', got {self.undershoot!r}.")
        if self.stability not in ("raise", "ignore"):
            raise ConfigError(f"stability must be 'raise' or 'ignore', got {self.stability!r}.")
        if self.gradient not in ("adjoint", "tape"):
            raise ConfigError(f"gradient must be 'adjoint' or 'tape', got {self.gradient!r}.")
        for name in ("tolerance", "accuracy"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be above zero, got {value!r}.")

    def __call__(self, problem: Problem, storage0: Tensor) -> tuple[Tensor, Tensor, SolverReport]:
        report = SolverReport(f"{type(self).__name__}({self.tableau.name})", self.scheme)
        march = self.run(problem, storage0, report)
        wants = torch.is_grad_enabled() and (storage0.requires_grad or problem.leaves() or problem.stray_flux())
        if not wants:
            return march.storage, march.volume, report
        if self.gradient == "adjoint":
            problem.check_reach()
            return *adjoint.attach(problem, self.tableau, march, storage0, report), report
        return *tape.replay(problem, self.tableau, march, storage0, self.checkpoint), report

    def run(self, problem: Problem, storage0: Tensor, report: SolverReport) -> March:
        """March with the substeps that are asked for, and check the result."""
        from udehydro.solvers.refine import refine  # it marches with drivers, so they cannot be imported the other way

        signed = problem.model.structure.signed_stores
        if self.undershoot == "split" and signed and not self.splits_signed:
            raise ConfigError(
                f"{type(self).__name__} would split intervals for negative values of stores that may be negative "
                f"({', '.join(signed)}): use undershoot='report', or Stepping or AllAtOnce."
            )
        with torch.no_grad():
            y = storage0.detach().movedim(-1, 0)
            cuts = Cuts(problem, self.substeps)
            if self.accuracy is not None:
                march, cuts = refine(self, problem, y, report)
            else:
                march = self.march(problem, y, cuts, report)
        self._check(problem, march, cuts, report)
        self._check_bounds(problem, cuts, report)
        return march

    def over(self, part: slice) -> OneStep:
        """The solver for some intervals of the record, where its substeps are given interval by interval."""
        return replace(self, substeps=self.substeps[part]) if isinstance(self.substeps, Tensor) else self

    def options(self) -> dict[str, Any]:
        """The options that every driver has, as keywords for another driver."""
        return {f.name: getattr(self, f.name) for f in fields(OneStep)}

    @property
    def scheme(self) -> str:
        """What decides the numbers, whatever the driver."""
        steps = "" if isinstance(self.substeps, int) and self.substeps == 1 else f", substeps={self.substeps}"
        steps = ", substeps by interval" if isinstance(self.substeps, Tensor) else steps
        return self.tableau.name + (steps if self.accuracy is None else f", accuracy={self.accuracy:g} mm")

    @abstractmethod
    def march(self, problem: Problem, y: Tensor, cuts: Cuts, report: SolverReport) -> March:
        """Run from the state ``y`` (S, *batch), without a graph."""

    def check_rates(self, problem: Problem, y: Tensor, k: int, among: Tensor | None = None) -> None:
        """Name a law that is not finite at the start of an interval, of the elements ``among`` (*batch) where given.

        No step, however short, would help there.
        """
        broken = ~newton.rates(problem.model, problem.at(k), y).isfinite()
        broken = broken if among is None else broken & among
        if not bool(broken.any()):
            return
        flux, *element = broken.nonzero()[0].tolist()
        stores = zip(problem.model.store_names, y[(slice(None), *element)].tolist(), strict=True)
        raise SolverError(
            f"The law of flux '{problem.model.flux_names[flux]}' is not finite in {problem.label(k, element)}, at "
            f"{', '.join(f'{n} = {v:.6g} mm' for n, v in stores)}. Check its weights or parameters: training that "
            "diverged, or an input scale of zero.",
            failed=problem.spread(broken.any(0)),
        )

    def fail(
        self,
        problem: Problem,
        k: int,
        bad: Tensor,
        y: Tensor,
        residual: Tensor | None = None,
        failed: Tensor | None = None,
    ) -> None:
        """Raise for interval ``k``, which no halving solved in the elements ``bad``; ``failed``: in any interval."""
        element = bad.nonzero()[0].tolist()
        value = "; ".join(f"{n} = {y[(i, *element)].item():.6g} mm" for i, n in enumerate(problem.model.store_names))
        left = "" if residual is None else f", residual {residual[tuple(element)].item():.3g} mm"
        raise SolverError(
            f"{self.tableau.name} failed in {problem.label(k, element)}: after {self.splits} halvings of the interval "
            f"a stage is unsolved or a store below zero ({value} at the last sub-step{left}; {int(bad.sum())} of "
            f"{bad.numel()} batch elements). Check the forcing and parameters there; a law that falls with its donor "
            "store can make the step unsolvable.",
            failed=problem.spread(bad if failed is None else failed),
        )

    def _check_bounds(self, problem: Problem, cuts: Cuts, report: SolverReport) -> None:
        """Note parameters for which a step may have several solutions; :func:`udehydro.simulate` warns of them."""
        if not problem.model.structure.bounds or not self.tableau.implicit or problem.days.is_meta:
            return
        diagonal = max(row[i] for i, row in enumerate(self.tableau.a))
        pieces = cuts.each if isinstance(cuts.each, int) else int(cuts.each.min())
        step = problem.days.max().item() / pieces * diagonal
        for found in problem.model.exceeded([p.detach() for p in problem.theta], step):
            shape = torch.broadcast_shapes(found.mask.shape, problem.batch)
            element = found.mask.expand(shape).nonzero()[0].tolist()[len(shape) - len(problem.batch) :]
            more = None if found.substeps is None else found.substeps * pieces
            where = problem.label(0, element).rpartition(", ")[0] or "The parameters"
            report.bounds.append(found.bound.message(found.worst, where, more))

    def _check(self, problem: Problem, march: March, cuts: Cuts, report: SolverReport) -> None:
        if report.pivots:
            report.min_pivot = (
                float(torch.stack([p.amin() for p in report.pivots]).amin()) if not march.last.is_meta else math.nan
            )
            report.pivots.clear()
        if not self.tableau.implicit and self.stability == "raise":
            self._check_stability(problem, march, cuts)
        if march.last.is_meta:
            return
        low = march.storage[1:] < lowest(problem.model, march.storage).reshape(-1)
        below = low.any(-1)
        report.undershoots = int(below.sum())
        if report.undershoots and self.undershoot == "raise":
            k, *element = below.nonzero()[0].tolist()
            state, names = march.storage[k + 1][tuple(element)], problem.model.store_names
            units = problem.model.structure.stores
            i = int(torch.where(low[k][tuple(element)], state, torch.inf).argmin())
            raise SolverError(
                f"{self.tableau.name}: a store falls to {state[i].item():.3g} {units[names[i]]} "
                f"in {problem.label(k, element)} ({names[i]}; {report.undershoots} such intervals). Use "
                "undershoot='split', more substeps, backward Euler, or laws that vanish with their source.",
                failed=below.any(0),
            )

    def _check_stability(self, problem: Problem, march: March, cuts: Cuts) -> None:
        """Raise where h x spectral radius exceeds the real stability limit, or a state is not finite."""
        limit = self.tableau.real_stability_limit
        worst, first, steps = None, None, march.steps()
        for part in chunks(problem, len(steps.interval)):
            chunk = steps[part]
            z = torch.nan_to_num(self._steepest(problem, chunk) * chunk.h, nan=0.0, posinf=0.0)
            worst = z.amax(0) if worst is None else torch.maximum(worst, z.amax(0))
            broken = z > limit
            if first is None and bool(broken.any()):
                n, *element = broken.nonzero()[0].tolist()
                first = (int(chunk.interval[n]), element)
        infinite = (~march.storage[: march.reached + 1].isfinite()).any(-1)
        if bool(infinite.any()):
            k, *element = infinite.nonzero()[0].tolist()
            k = max(k - 1, 0)
            if first is None or k < first[0]:
                self.check_rates(problem, march.storage[k].movedim(-1, 0), k)
                first = (k, element)
        if first is None:
            return
        k, element = first
        product = worst[tuple(element)].item()
        most = max(cuts.most)
        needed = max(most + 1, math.ceil(SAFETY * most * worst.max().item() / limit))
        raise SolverError(
            f"{self.tableau.name} is unstable in {problem.label(k, element)}: h x spectral radius reaches "
            f"{product:.3g}, its limit is {limit:.3g}. Use substeps={needed}, or an implicit tableau "
            "(SDIRK2, backward Euler).",
            failed=(worst > limit) | infinite.any(0),
            substeps=needed,
        )

    def _steepest(self, problem: Problem, steps: Steps) -> Tensor:
        """Largest spectral radius (n, *batch) over the storages that each step passes.

        The start of a step alone does not tell: a bucket that fills within the day is carried across the range where
        baseflow is steep. So the start is judged, and points between the lowest and highest storage of stages and end.
        """
        model, point = problem.model, problem.at(steps.interval)
        low = high = steps.y
        with torch.no_grad():
            for state in path(model, self.tableau, point, steps.h, steps.y):
                low, high = torch.minimum(low, state), torch.maximum(high, state)
        radius = None
        for probe in (steps.y, *(low + (i / PROBES) * (high - low) for i in range(PROBES + 1))):
            _, jacobian = newton.rates_and_jacobian(model, point, probe)
            value = newton.spectral_radius(model, jacobian)
            radius = value if radius is None else torch.maximum(radius, value)
        return radius


class Cuts:
    """How the intervals of a problem are cut into steps: ``each`` a number or (T, *batch), ``most`` per interval."""

    def __init__(self, problem: Problem, substeps: int | Tensor):
        self.days, self.batch, self.each = problem.days, problem.batch, substeps
        if isinstance(substeps, Tensor):
            shape = (len(problem.days), *problem.batch)
            if tuple(substeps.shape) != shape:
                raise ConfigError(f"substeps has shape {tuple(substeps.shape)}, the problem needs {shape}.")
            self.most = substeps.reshape(len(substeps), -1).amax(1).tolist()
        else:
            self.most = [substeps] * len(problem.days)

    def at(self, k: int) -> int | Tensor:
        """Steps of interval ``k``."""
        return self.each[k] if isinstance(self.each, Tensor) else self.each

    def lengths(self, k: int) -> list[Tensor]:
        """Lengths of the steps of interval ``k``."""
        if isinstance(self.each, Tensor):
            return lengths(self.days[k], self.each[k], self.most[k])
        return [self.days[k] / self.each] * self.each

    def block(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Interval (n,) and length (n, *batch or ones) of the steps of some intervals."""
        device = self.days.device
        counts = torch.tensor(self.most[start:stop], device=device)
        interval = torch.arange(start, stop, device=device).repeat_interleave(counts)
        h = self.days[interval].reshape(-1, *(1,) * len(self.batch))
        if not isinstance(self.each, Tensor):
            return interval, h / self.each
        first = (counts.cumsum(0) - counts).repeat_interleave(counts)
        number = (torch.arange(len(interval), device=device) - first).reshape(h.shape)
        pieces = self.each[interval]
        return interval, torch.where(number < pieces, h / pieces, torch.zeros_like(h))

    def elements(self, index: Tensor) -> Cuts:
        """The cuts of some elements of the last batch axis."""
        part = object.__new__(Cuts)
        part.days, part.batch = self.days, (*self.batch[:-1], len(index))
        part.each = self.each[..., index] if isinstance(self.each, Tensor) else self.each
        part.most = self.most
        return part


def lowest(model: Balance, like: Tensor) -> Tensor:
    """What every store may fall to, (S, 1, ...) for states (S, *points): hardly below zero, or anything if signed."""
    signed = model.structure.signed_stores
    least = [-math.inf if name in signed else NEGATIVE for name in model.store_names]
    return torch.tensor(least, dtype=like.dtype, device=like.device).reshape(-1, *(1,) * (like.ndim - 1))


def lengths(days: Tensor, pieces: Tensor, most: int) -> list[Tensor]:
    """Lengths of ``most`` steps: each element's interval in as many equal ``pieces`` as it needs, then none."""
    h, zero = days / pieces, torch.zeros_like(days)
    return [torch.where(p < pieces, h, zero) for p in range(most)]
