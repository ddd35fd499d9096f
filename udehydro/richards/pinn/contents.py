"""Learning what moisture sensors alone can tell of a soil: D(theta), and K(theta) but for an offset.

Neither a state at the start, nor fluxes, nor the zero of heads are needed, as the equation in water contents knows none
of them. Retention follows as soon as somebody measures one head and one flux; until then there is a family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from udehydro.richards.pinn.field import Box
from udehydro.richards.pinn.problem import Counts, Problem, Region, Weights
from udehydro.richards.pinn.residuals import Data
from udehydro.richards.pinn.scales import storage_rate
from udehydro.richards.pinn.soil import Soil
from udehydro.richards.pinn.solution import Solution, solution_of
from udehydro.richards.pinn.stages import Stage, train
from udehydro.richards.pinn.system import Extra
from udehydro.richards.pinn.train import Adam, Levenberg
from udehydro.training.levenberg import covariance_of

RAMP = (0.1, 0.03, 0.03)
"""As for :func:`~udehydro.richards.pinn.learn`."""
LEVEL, RISE = 3.0, 1.0
"""Standard deviations of logarithms around the guess: of the first knot, and of the rise from knot to knot."""
HEADS = -torch.logspace(6.0, -2.0, 1601, dtype=torch.float64)
SATURATED = 0.97
"""Share of the guess's contents that the wettest reading stands for."""


class Transport(NamedTuple):
    """D [cm2/d] and K [cm/d], above its value at the driest knot, (members, n), with standard deviations."""

    diffusivity: Tensor
    conductivity: Tensor
    diffusivity_sd: Tensor
    conductivity_sd: Tensor


@dataclass(eq=False)
class Contents:
    """What networks have found of moisture.

    Attributes
    ----------
    solution : its state is the water content; ``solution.theta`` between sensors, ``solution.flux`` but for an offset.
    law : of which ``solution.extra`` has the values: ln D and ln dK/dtheta at knots, the first and the rises.
    misfit : (members,) chi2 by reading; ``physics`` (members,) root mean square of residuals of the physics, in units
        of the scales, at points no stage has seen.
    covariance : (members, Q, Q) of those values by Laplace's approximation, networks marginal.
    """

    solution: Solution
    law: ContentLaw
    misfit: Tensor
    physics: Tensor
    covariance: Tensor

    def curves(self, theta) -> Transport:
        """At water contents (n,) within the knots; beyond them nothing was seen."""
        theta = torch.as_tensor(theta, dtype=torch.float64)
        found = [self._of_member(x, c, theta) for x, c in zip(self.solution.extra.values, self.covariance, strict=True)]
        return Transport(*(torch.stack(parts) for parts in zip(*found, strict=True)))

    def _of_member(self, x: Tensor, covariance: Tensor, theta: Tensor):
        jacobian = jacfwd(lambda x: self._ask(x, theta))(x)
        variance = torch.einsum("kni,ij,knj->kn", jacobian, covariance, jacobian)
        return *self._ask(x, theta), *variance.clamp_min(0.0).sqrt()

    def _ask(self, extra: Tensor, theta: Tensor) -> Tensor:
        """D and K (2, ..., n) for unknowns (..., 2 k)."""
        p = values(extra.unsqueeze(-2))
        return torch.stack([self.law.diffusivity(theta, p), self.law.conductivity(theta, p)])

    def heads(self, theta, theta0: float, psi0: float, offset: float = 0.0) -> Tensor:
        """Heads [cm] (members, n) at water contents (n,): the retention curve for which theta0 is at psi0, and K is
        higher by the offset [cm/d]. Each pair of the two is a member of a family that no moisture sensor tells apart.

        Raises
        ------
        ConfigError
            For contents outside the knots, and for an offset that leaves no conductivity.
        """
        theta = torch.as_tensor(theta, dtype=torch.float64)
        low, high = float(self.law.knots[0]), float(self.law.knots[-1])
        if float(theta.min()) < low or float(theta.max()) > high or not low <= theta0 <= high:
            raise ConfigError(f"Contents have to be within {low:.3f} to {high:.3f}, which sensors have seen.")
        fine = torch.linspace(low, high, 2001, dtype=torch.float64)
        diffusivity, k = self._ask(self.solution.extra.values, fine)
        k = k + offset
        if bool((k[:, 1:] <= 0.0).any()):
            raise ConfigError(f"offset={offset:g} cm/d leaves no conductivity in dry soil: it must not be negative.")
        k = k.clamp_min(1e-12)
        rise = torch.cumulative_trapezoid(diffusivity / k, fine, dim=1)
        psi = torch.cat([torch.zeros_like(rise[:, :1]), rise], 1)
        grid = fine.numpy()
        rows = [psi0 + np.interp(theta, grid, row) - np.interp(theta0, grid, row) for row in psi.numpy()]
        return torch.as_tensor(np.stack(rows))


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
    events : times [d] at which rain or irrigation starts or ends, if somebody knows: rates jump there.
    knots : of the curves, evenly between the driest and the wettest reading.
    guess : law and values around whose D and K the search begins, stretched to the readings; a loam.
    ramp, steps, first, counts, width, depth, keep : as for :func:`~udehydro.richards.pinn.learn`.

    Raises
    ------
    ConfigError
        For other kinds of readings, fewer than three depths, times that do not fit, or readings all the same.
    """
    days = torch.as_tensor(days, dtype=torch.float64)
    read, place = _readings(days, sensors, len(seeds))
    low, high = (float(torch.nanquantile(read, q)) for q in (0.002, 0.998))
    if not high > low:
        raise ConfigError("All readings are the same: nothing moves, and nothing is told of how.")
    law = ContentLaw(torch.linspace(low, high, knots, dtype=torch.float64))
    extra = _start(law, *(guess or (VanGenuchten(), soil_class("loam") | {"entry": 2.0})), len(read))
    region = Region(
        Box((float(days[0]), -max(place)), (float(days[-1]), -min(place))), Soil(law, values), None, tuple(events)
    )
    at = torch.stack(torch.meshgrid(days, -torch.tensor(place, dtype=torch.float64), indexing="ij"), -1).reshape(-1, 2)
    sigma = sensors.sigma.expand_as(sensors.values)
    sigma = (sigma.movedim(1, 0) if sigma.ndim == 3 else sigma.unsqueeze(0)).reshape(-1, len(at)).expand_as(read)
    problem = Problem(
        [region],
        [],
        storage_rate(days, sensors.values, max(place) - min(place)),
        0.5 * (high - low),
        [Data("theta", at, read, sigma)],
    )
    fields = problem.fields(seeds, width, depth)
    fields[0].network.biases[-1].data[:, 0] = float(read.nanmean()) / problem.head
    number = int((~read.isnan()).sum(1).max())
    optimisers = [first or Adam(300), *[Levenberg(steps)] * len(ramp)]
    plan = []
    for optimiser, tolerance in zip(optimisers, [ramp[0], *ramp], strict=True):
        weighted = replace(problem, weights=Weights(physics=number / tolerance**2))
        plan.append(
            Stage(
                f"{type(optimiser).__name__}, physics to {tolerance:g}",
                optimiser,
                weighted,
                counts or Counts(1200, 200),
            )
        )
    trained = train(plan, fields, extra, keep=keep, progress=progress)
    solution, system = solution_of(plan[-1].problem, trained), trained.system
    now, soil = system.normal(system.start()), system.last
    held = solution.held_out()["balance"]
    count = (~read.isnan()).sum(1)
    return Contents(solution, law, solution.parts["theta"] / count, held, covariance_of(now.normal)[:, soil, soil])


def _readings(days: Tensor, sensors: Observed, seeds: int) -> tuple[Tensor, list[float]]:
    """Readings (members, T x sensor), and depths [cm]."""
    place = np.atleast_1d(np.asarray(sensors.depth, float)).tolist()
    if sensors.kind != "theta" or len(place) < 3:
        raise ConfigError("Sensors of water content (kind theta) at three depths or more are needed.")
    if len(sensors.values) != len(days) or not bool((days.diff() > 0.0).all()):
        raise ConfigError(
            f"There are {len(sensors.values)} rows of readings for {len(days)} times, which have to rise."
        )
    read = sensors.values if sensors.values.ndim == 3 else sensors.values.unsqueeze(1).expand(-1, seeds, -1)
    if read.shape[1] != seeds:
        raise ConfigError(f"Readings of {read.shape[1]} members need as many seeds, not {seeds}.")
    return read.movedim(1, 0).reshape(seeds, -1), place


def _start(law: ContentLaw, guess: SoilLaw, p: Mapping[str, float], members: int) -> Extra:
    """Unknowns at the guess, whose contents are stretched to the knots."""
    p = {n: torch.as_tensor(v, dtype=torch.float64) for n, v in p.items()}
    theta, k, capacity = (f(HEADS, p).numpy() for f in (guess.theta, guess.conductivity, guess.capacity))
    dry, wet = theta.min(), theta.min() + SATURATED * (theta.max() - theta.min())
    share = (law.knots - law.knots[0]) / (law.knots[-1] - law.knots[0])
    at = dry + (wet - dry) * (0.05 + 0.95 * share.numpy())
    inner = (capacity > 1e-12) & (np.gradient(theta) > 0.0)
    slope = np.gradient(k[inner], theta[inner]).clip(1e-6)
    logs = [np.interp(at, theta[inner], np.log(y)) for y in (k[inner] / capacity[inner], slope)]
    start = torch.cat([torch.as_tensor(np.diff(y, prepend=0.0)) for y in logs]).expand(members, -1).clone()
    sd = torch.full_like(start, RISE).unflatten(1, (2, -1))
    sd[..., 0] = LEVEL
    return Extra(start, start - 20.0, start + 20.0, start.clone(), sd.flatten(1) ** -2)
