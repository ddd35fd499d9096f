"""Learning what moisture sensors alone can tell of a soil: D(theta), and K(theta) but for an offset.

Neither a state at the start, nor fluxes, nor the zero of heads are needed, as the equation in water contents knows none
of them. Retention follows as soon as somebody measures one head and one flux; until then there is a family.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import jacfwd

from udehydro.errors import ConfigError
from udehydro.richards.inversion.observed import Observed
from udehydro.richards.laws import SoilLaw, VanGenuchten, soil_class
from udehydro.richards.pinn.content_law import ContentLaw
from udehydro.richards.pinn.doubt import excess, heed_misfit
from udehydro.richards.pinn.field import Box
from udehydro.richards.pinn.problem import Counts, Problem, Region
from udehydro.richards.pinn.residuals import Data
from udehydro.richards.pinn.scales import storage_rate
from udehydro.richards.pinn.soil import Soil
from udehydro.richards.pinn.solution import Solution, solution_of
from udehydro.richards.pinn.stages import ramped, train
from udehydro.richards.pinn.system import Extra
from udehydro.richards.pinn.train import Adam, Levenberg
from udehydro.training.levenberg import covariance_of

RAMP = (0.1, 0.03, 0.03)
"""Of residuals of the physics in units of the scales, stage by stage, as for :func:`~udehydro.richards.pinn.learn`."""
LEVEL = RISE = 2.0
"""Standard deviations of logarithms around the guess: of the first knot, and of the rise from there to the last."""
HEADS = -torch.logspace(6.0, -2.0, 1601, dtype=torch.float64)
DRY, SATURATED = (0.05, 0.8), 0.97
"""Least and largest saturation of the guess that the driest reading stands for, and the one that the wettest does."""
SHALLOW = 2.0
"""Depth [cm] of the lowest sensor below which a warning is due."""


class Transport(NamedTuple):
    """D [cm2/d] and K [cm/d], above its value at the driest knot, (members, n), with standard deviations of their
    natural logarithms: D exp(2 sd) is the upper edge of a band. At the driest knot, where K is none, it is NaN."""

    diffusivity: Tensor
    conductivity: Tensor
    log_diffusivity_sd: Tensor
    log_conductivity_sd: Tensor


@dataclass(eq=False)
class Contents:
    """What networks have found of moisture.

    Attributes
    ----------
    solution : its state is the water content; ``solution.theta`` between sensors, ``solution.flux`` but for an offset.
    law : of which ``solution.extra`` has the values: ln D and ln dK/dtheta at knots, the first and the rises.
    misfit : (members,) chi2 by reading; ``physics`` (members,) root mean square of residuals of the physics, in units
        of the scales, at points no stage has seen.
    covariance : (members, Q, Q) of those values by Laplace's approximation: readings, physics to the last tolerance of
        the ramp, and the prior around the guess, networks marginal; times the square of the
        :func:`~udehydro.richards.pinn.doubt.excess`.
    """

    solution: Solution
    law: ContentLaw
    misfit: Tensor
    physics: Tensor
    covariance: Tensor

    def curves(self, theta) -> Transport:
        """At water contents (n,) within the knots; beyond them nothing was seen, and they are refused."""
        theta = torch.as_tensor(theta, dtype=torch.float64)
        self._within(theta)
        found = [self._of_member(x, c, theta) for x, c in zip(self.solution.extra.values, self.covariance, strict=True)]
        return Transport(*(torch.stack(parts) for parts in zip(*found, strict=True)))

    def _of_member(self, x: Tensor, covariance: Tensor, theta: Tensor):
        jacobian = jacfwd(lambda x: self._ask(x, theta))(x)
        variance, found = torch.einsum("kni,ij,knj->kn", jacobian, covariance, jacobian), self._ask(x, theta)
        return *found, *(variance.sqrt() / found)  # not a number where the covariance is none

    def _ask(self, extra: Tensor, theta: Tensor) -> Tensor:
        """D and K (2, ..., n) for unknowns (..., 2 k)."""
        p = values(extra.unsqueeze(-2))
        return torch.stack([self.law.diffusivity(theta, p), self.law.conductivity(theta, p)])

    def heads(self, theta, theta0: float, psi0: float, offset: float) -> Tensor:
        """Heads [cm] (members, n) at water contents (n,): the retention curve for which theta0 is at psi0, and the
        conductivity at the driest knot is the offset [cm/d]. Each pair of the two is a member of a family that no
        moisture sensor tells apart.

        Raises
        ------
        ConfigError
            For contents outside the knots, an offset that is not above zero, and heads that would be.
        """
        theta = torch.as_tensor(theta, dtype=torch.float64)
        self._within(torch.cat([theta, theta.new_tensor([theta0])]))
        if not offset > 0.0:
            raise ConfigError(
                f"offset={offset:g} cm/d: soil conducts at the driest knot, too; give K there, above zero."
            )
        knots, share = self.law.knots, torch.linspace(0.0, 1.0, 4001, dtype=torch.float64)
        fine = knots[0] + (knots[-1] - knots[0]) * share**3  # close together where K is smallest
        diffusivity, k = self._ask(self.solution.extra.values, fine)
        psi = torch.cumulative_trapezoid(diffusivity / (k + offset), fine, dim=1).numpy()
        grid, at = fine.numpy(), np.append(theta.numpy(), theta0)
        rises = torch.as_tensor(np.stack([np.interp(at, grid, np.append(0.0, row)) for row in psi]))
        found = psi0 + rises[:, :-1] - rises[:, -1:]
        if bool((found > 0.0).any()):
            raise ConfigError(
                f"With {psi0:g} cm at {theta0:g}, heads of wetter soil are above zero: give a lower psi0."
            )
        return found

    def _within(self, theta: Tensor) -> None:
        low, high = float(self.law.knots[0]), float(self.law.knots[-1])
        if not bool(((theta >= low) & (theta <= high)).all()):
            raise ConfigError(f"Contents have to be within {low:.3f} to {high:.3f}, which sensors have seen.")


def values(extra: Tensor) -> dict[str, Tensor]:
    """Values of the law from unknowns (..., 2 k): of each curve the first knot and the rises."""
    first, second = extra.unflatten(-1, (2, -1)).cumsum(-1).unbind(-2)
    return {"D": first, "S": second}


def learn_contents(
    days,
    sensors: Observed,
    *,
    seeds: Sequence[int] = (0,),
    events: Sequence[float] = (),
    knots: int = 12,
    guess: tuple[SoilLaw, Mapping[str, float]] | None = None,
    ramp: Sequence[float] = RAMP,
    steps: int = 40,
    first: Adam | None = None,
    counts: Counts | None = None,
    width: int = 14,
    depth: int = 3,
    device: torch.device | str = "cpu",
    keep: str | Path | None = None,
    progress: bool = False,
) -> Contents:
    """Find D(theta) and K(theta) of one soil from moisture sensors, and nothing else.

    Parameters
    ----------
    days : times of the readings (T,) [d].
    sensors : of kind theta, values (T, sensor), or (T, member, sensor) where members have readings of their own; at
        three depths at least. NaN is missing.
    seeds : of the networks; readings of one for all, or one seed for each member of the readings.
    events : times [d] at which rain or irrigation starts or ends: rates jump there. If nobody knows them,
        :func:`~udehydro.richards.pinn.turns` finds those that a sensor tells.
    knots : of the curves, evenly between the 0.2 and the 99.8 % quantile of readings.
    guess : law and values around whose D and K the search begins and priors lie (one standard deviation is a factor of
        7 at the first knot, and of 7 on the rise from there to the last); a loam. The wettest reading stands for 97 %
        of its saturation, whatever it is, the driest one for what it is in the guess, 5 to 80 %.
    progress : show bars.
    ramp, steps, first, counts, width, depth, device, keep : as for :func:`~udehydro.richards.pinn.learn`, with
        defaults of their own.

    Raises
    ------
    ConfigError
        For other kinds of readings, fewer than three depths with readings, times that do not fit, members without
        readings, or readings all the same.

    Warns
    -----
    UserWarning
        For members that fail or do not follow their readings, sensors all within 2 cm of the surface, and residuals
        that are much larger between the points trained on.
    """
    days = torch.as_tensor(days, dtype=torch.float64)
    read, place = _readings(days, sensors, len(seeds))
    low, high = (float(torch.nanquantile(read, q)) for q in (0.002, 0.998))
    if knots < 3:
        raise ConfigError(f"knots={knots}: a curve takes three at least.")
    if not high > low:
        raise ConfigError(f"Readings are all {low:g}: no curve goes through them.")
    law = ContentLaw(torch.linspace(low, high, knots, dtype=torch.float64))
    extra = _start(law, *(guess or (VanGenuchten(), soil_class("loam") | {"entry": 2.0})), len(read))
    box = Box((float(days[0]), -max(place)), (float(days[-1]), -min(place)))
    at = torch.stack(torch.meshgrid(days, -torch.tensor(place, dtype=torch.float64), indexing="ij"), -1).reshape(-1, 2)
    data = Data("theta", at, read, _by_member(sensors.sigma.expand_as(sensors.values), len(seeds)))
    flux = storage_rate(days, sensors.values, max(place) - min(place))
    problem = Problem([Region(box, Soil(law, values), None, tuple(events))], [], flux, 0.5 * (high - low), [data])
    fields = problem.fields(seeds, width, depth, device)
    fields[0].network.biases[-1].data[:, 0] = float(read.nanmean()) / problem.head
    count = (~read.isnan()).sum(1)
    optimisers = [first or Adam(300), *[Levenberg(steps)] * len(ramp)]
    plan = ramped(problem, int(count.max()), optimisers, ramp, counts or Counts(1200, 200))
    trained = train(plan, fields, extra.to(device), keep=keep, progress=progress).back(plan)
    solution, system = solution_of(plan[-1].problem, trained), trained.system
    soil, misfit, physics = system.last, solution.parts["theta"] / count, solution.held_out()["balance"]
    heed_misfit(misfit)
    widen = excess(misfit, physics, physics.new_tensor(ramp[-1]))
    covariance = covariance_of(system.normal(system.start()).normal)[:, soil, soil] * widen[:, None, None] ** 2
    return Contents(solution, law, misfit, physics, covariance)


def _readings(days: Tensor, sensors: Observed, seeds: int) -> tuple[Tensor, list[float]]:
    """Readings (members, T x sensor), and depths [cm]."""
    place = np.atleast_1d(np.asarray(sensors.depth, float)).tolist()
    if sensors.kind != "theta" or sensors.log or sensors.support:
        raise ConfigError("Sensors of water content at points (theta, no log, no support) are needed.")
    if sensors.values.shape[-1] != len(place) or sensors.values.ndim not in (2, 3):
        raise ConfigError(f"Readings {tuple(sensors.values.shape)} do not have {len(place)} sensors last.")
    if len(sensors.values) != len(days) or len(days) < 3:
        raise ConfigError(
            f"{len(sensors.values)} rows of readings for {len(days)} times: as many are needed, three or more."
        )
    if not bool((days.diff() > 0.0).all()):
        row = int((~(days.diff() > 0.0)).nonzero()[0]) + 1
        raise ConfigError(
            f"Times have to rise, without doubles and gaps in them: {days[row]:g} d (row {row}) does not."
        )
    silent = sensors.values.isnan().flatten(0, -2).all(0)
    depths = {d for d, none in zip(place, silent.tolist(), strict=True) if not none}
    if len(depths) < 3:
        raise ConfigError(
            f"There are readings at {len(depths)} depths: three are needed for a flux that changes with depth."
        )
    if max(depths) < SHALLOW:
        warnings.warn(f"The lowest sensor is at {max(depths):g} cm: depths are in cm.", stacklevel=3)
    if sensors.values.ndim == 3 and sensors.values.shape[1] != seeds:
        raise ConfigError(f"Readings of {sensors.values.shape[1]} members need as many seeds, not {seeds}.")
    read = _by_member(sensors.values, seeds)
    if bool(read.isnan().all(1).any()):
        raise ConfigError(f"Member {int(read.isnan().all(1).nonzero()[0])} has no readings.")
    return read, place


def _by_member(series: Tensor, members: int) -> Tensor:
    """(T, sensor) or (T, member, sensor) as (members, T x sensor)."""
    series = series if series.ndim == 3 else series.unsqueeze(1).expand(-1, members, -1)
    return series.movedim(1, 0).reshape(members, -1)


def _start(law: ContentLaw, guess: SoilLaw, p: Mapping[str, float], members: int) -> Extra:
    """Unknowns at the guess, whose contents are stretched to the knots."""
    p = {n: torch.as_tensor(v, dtype=torch.float64) for n, v in p.items()}
    theta, k, capacity = (f(HEADS, p).numpy() for f in (guess.theta, guess.conductivity, guess.capacity))
    span = theta.max() - theta.min()
    driest = ((float(law.knots[0]) - theta.min()) / span).clip(*DRY)
    share = ((law.knots - law.knots[0]) / (law.knots[-1] - law.knots[0])).numpy()
    at = theta.min() + span * (driest + (SATURATED - driest) * share)
    inner = (capacity > 1e-12) & (np.gradient(theta) > 0.0)
    slope = np.gradient(k[inner], theta[inner]).clip(1e-6)
    logs = [np.interp(at, theta[inner], np.log(y)) for y in (k[inner] / capacity[inner], slope)]
    start = torch.cat([torch.as_tensor(np.diff(y, prepend=0.0)) for y in logs]).expand(members, -1).clone()
    sd = torch.full_like(start, RISE / (len(law.knots) - 1) ** 0.5).unflatten(1, (2, -1))
    sd[..., 0] = LEVEL
    return Extra(start, start - 20.0, start + 20.0, start.clone(), sd.flatten(1) ** -2)
