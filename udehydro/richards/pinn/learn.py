"""Learning the curves of soils from sensors by networks, from the same :class:`Inversion` that the column is fitted to.

The state between sensors, at the start and at unknown boundaries is what the networks find; known boundaries and known
states are used. Curves come out as unknowns of the inversion, ready to be polished on the column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.richards.inversion.curves import Bands
from udehydro.richards.inversion.fit import Fitted, fit
from udehydro.richards.inversion.gauge import heed
from udehydro.richards.inversion.inversion import Inversion
from udehydro.richards.inversion.visited import bands
from udehydro.richards.pinn.bridge import Bridge, days_of
from udehydro.richards.pinn.doubt import excess, heed_misfit
from udehydro.richards.pinn.problem import Counts
from udehydro.richards.pinn.solution import Solution, solution_of
from udehydro.richards.pinn.stages import GIVEN, Stage, ramped, train
from udehydro.richards.pinn.system import System
from udehydro.richards.pinn.train import Adam, Levenberg
from udehydro.training.levenberg import Normal, covariance_of

RAMP = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
"""Size of residuals of the physics, in units of the scales, that counts as one standard deviation: stage by stage."""


@dataclass(eq=False)
class Learned:
    """What networks have found of an inversion.

    Attributes
    ----------
    task : what was asked.
    solution : fields of all members.
    x : (members, P) search vector of the task, with the unknowns of soils as found; others where they started.
    misfit : (members,) chi2 by observation; ``physics`` (members,) root mean square of all residuals of the physics, in
        units of the scales, at points no stage has seen.
    tolerance : (members,) of the ramp, to which the physics is held: the least that did not cost the fit to data.
    """

    task: Inversion
    solution: Solution
    x: Tensor
    normal: Normal
    misfit: Tensor
    physics: Tensor
    tolerance: Tensor
    places: list[slice]

    @property
    def values(self) -> Tensor:
        """(members, P) in physical units, in the order of ``task.unknowns.names``."""
        return self.task.unknowns.physical(self.x)

    def curves(self, psi: Tensor, layer: int = 0) -> Bands:
        """Curves (members, N) at heads [cm] with standard deviations, by Laplace's approximation: data, physics to the
        tolerance, and priors linearised, networks marginal; times :attr:`excess`."""
        if self.task.forcing.batch:
            return bands(self.fitted(slice(None)), psi, layer)
        each = []
        for m in range(len(self.x)):
            with self.task.unknowns.weights_at(self.x[m : m + 1]):
                each.append(bands(self.fitted(slice(m, m + 1)), psi, layer))
        return Bands(*(torch.stack(parts) for parts in zip(*each, strict=True)))

    def ensemble(self, psi: Tensor, layer: int = 0) -> Bands:
        """Curves (N,) of one column by all its seeds, those that failed left out: the median, and the root of the mean
        variance of the seeds and of the variance between them (the law of total variance).

        Raises
        ------
        ConfigError
            Where members are columns.
        """
        if self.task.forcing.batch:
            raise ConfigError("Members are columns here, each with curves of its own: take curves(psi).")
        theta, theta_sd, log_k, log_k_sd = (c[~self.solution.failed] for c in self.curves(psi, layer))
        return Bands(*_pooled(theta, theta_sd), *_pooled(log_k, log_k_sd))

    def states(self) -> tuple[Tensor, Tensor]:
        """Heads [cm] and water contents (members, T + 1, cell) where the column has them: at the edges of intervals."""
        z = -torch.as_tensor(self.task.column.grid.depth)
        days = torch.as_tensor(days_of(self.task))
        at, shape = torch.cartesian_prod(days, z), (-1, len(days), len(z))
        return self.solution.psi(at).reshape(shape), self.solution.theta(at).reshape(shape)

    def fitted(self, which: slice) -> Fitted:
        """Members as the result of a fit of the column, with the networks marginal; nothing is known of what they do
        not find."""
        soils = self.solution.extra.values.shape[1]
        inner = covariance_of(self.normal.normal[which])[:, -soils:, -soils:]
        inner = inner * self.excess[which, None, None] ** 2
        x = self.x[which]
        precision = torch.zeros(*x.shape, x.shape[1], dtype=x.dtype, device=x.device)
        at = torch.cat([torch.arange(p.start, p.stop, device=x.device) for p in self.places])
        precision[:, at[:, None], at[None, :]] = torch.linalg.inv(inner)
        none = torch.zeros(len(x), device=x.device)
        return Fitted(self.task, x, self.normal.chi2[which], {}, {}, precision, none, none)

    @property
    def excess(self) -> Tensor:
        """(members,) what standard deviations are multiplied by, see :mod:`~udehydro.richards.pinn.doubt`."""
        return excess(self.misfit, self.physics, self.tolerance)

    def polish(self, **how) -> Fitted:
        """Fit the column, from the curves found on; ``how`` as for :func:`~udehydro.richards.inversion.fit`.

        One column with several members starts from the best one.
        """
        x = self.x if self.task.forcing.batch else self.x[self.best : self.best + 1]
        return fit(self.task, **{"gauge": "ignore", "x": x} | how)

    @property
    def best(self) -> int:
        """The member with the least misfit of data and physics together, of those that hold the physics closest and
        have not failed."""
        chi2 = torch.where(self.solution.failed, torch.inf, self.normal.chi2.nan_to_num(torch.inf))
        closest = torch.where(chi2.isfinite(), self.tolerance, torch.inf).min()
        return int(torch.where(self.tolerance <= closest, chi2, torch.inf).argmin())


def _pooled(curves: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
    """Median and standard deviation (N,) of curves (members, N) with standard deviations."""
    return curves.quantile(0.5, dim=0), (sd.square().mean(0) + curves.var(0, correction=0)).sqrt()


def learn(
    task: Inversion,
    *,
    seeds: Sequence[int] = (0,),
    ramp: Sequence[float] = RAMP,
    steps: int = 60,
    first: Adam | None = None,
    counts: Counts | None = None,
    width: int = 14,
    depth: int = 3,
    boundaries: bool = True,
    start: bool = True,
    gauge: Literal["warn", "refuse", "ignore"] = "warn",
    stretch: bool = True,
    early: float = 0.0,
    form: str = "mixed",
    flux_floor: float | None = None,
    settled: float = 0.01,
    given: float = GIVEN,
    device: torch.device | str = "cpu",
    keep: str | Path | None = None,
    progress: bool = False,
) -> Learned:
    """Find curves of soils from sensors.

    Parameters
    ----------
    task : column, forcing, soils with Free values, observations of theta and psi. Columns of a batch are members, each
        with data and unknowns of its own; one column has a member for every seed.
    seeds : of the networks.
    ramp, steps, first : stages: of Levenberg's steps as many for each of the ramp, after steps of Adam. A member goes
        no further along the ramp than its fit to data allows, see ``given``.
    counts, width, depth, stretch, early, form, flux_floor : of the networks and their problem, see :class:`Problem`.
    boundaries, start : whether known boundaries and a known state at the start are used. Atmospheric tops count as rain
        less evaporation at all times: where they pond or dry out, leave them out, or let the column decide (polish).
    gauge : as for :func:`~udehydro.richards.inversion.fit`.
    settled : of stages of the ramp but the last, see :class:`~udehydro.richards.pinn.train.Levenberg`.
    given : how many times larger chi2 by reading, or one, may get for physics that holds better. Where sigma is a guess
        or the soil does not quite obey the equation, 1.1 may stop too early; ``math.inf`` goes to the end of the ramp.
    device : where networks are trained; what is found comes back to the CPU, where columns are fitted.
    keep : folder for a checkpoint after every stage, as for :func:`~udehydro.richards.pinn.solve`.

    Raises
    ------
    ConfigError
        For what networks do not know: sinks, observations but theta and psi, support of sensors, unknowns that columns
        share, and soils by cell.

    Warns
    -----
    UserWarning
        For gauges that are open, ends that networks do not know, members that fail or do not follow their readings, and
        residuals that are much larger between the points trained on.
    """
    heed(task, gauge)
    bridge = Bridge(task, seeds, boundaries, start)
    problem = bridge.problem(form=form, stretch=stretch, early=early, flux_floor=flux_floor)
    rough, last = Levenberg(steps, settled=settled), Levenberg(steps)
    optimisers = [first or Adam(500), *[rough] * (len(ramp) - 1), last]
    plan = ramped(problem, bridge.readings, optimisers, ramp, counts or Counts(2000, 200))
    fields = problem.fields(bridge.seeds, width, depth, device)
    soils = bridge.extra().to(device)
    trained = train(plan, fields, soils, misfit=bridge.misfit, given=given, keep=keep, progress=progress).back(plan)
    system, stands = trained.system, trained.stands
    solution = solution_of(plan[int(stands.max())].problem, trained)
    now = _where_they_stand(plan, system, stands)
    held = [v for v, t in zip(solution.held_out().values(), system.terms, strict=True) if t.mean]
    physics = torch.stack(held).square().mean(0).sqrt()
    tolerance = physics.new_tensor([ramp[0], *ramp])[stands]
    misfit = system.of_data(now.parts) / bridge.measured()
    heed_misfit(misfit)
    return Learned(task, solution, bridge.x(system.extra), now, misfit, physics, tolerance, bridge.places)


def _where_they_stand(plan: Sequence[Stage], last: System, stands: Tensor) -> Normal:
    """Normal equations of members, each with the weights of the stage whose result it has."""
    x, parts = last.start(), []
    for number in stands.unique().tolist():
        which = (stands == number).nonzero().squeeze(1)
        system = plan[number].system(last.fields, number, last.extra)
        parts.append((which, system.normal(x[which], which)))
    order = torch.cat([which for which, _ in parts]).argsort()
    return Normal(*(torch.cat(several)[order] for several in zip(*(n.tensors() for _, n in parts), strict=True)))
