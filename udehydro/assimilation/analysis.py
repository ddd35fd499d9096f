"""assimilate: the storages and rain of a window that observed flow and background together make most likely."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from udehydro.assimilation.background import Background, Controls
from udehydro.assimilation.cost import Cost
from udehydro.assimilation.observations import bound, discharge_of
from udehydro.balance import Balance
from udehydro.errors import ConfigError
from udehydro.forcing import Forcing
from udehydro.simulation import Simulation
from udehydro.solvers import Automatic, Solver
from udehydro.training.gaussian import Gaussian
from udehydro.training.observed import Observed
from udehydro.training.optimisers import CONVERGED, LBFGS

OPTIMISER = LBFGS(max_step=10.0, gradient_tolerance=1e-6, loss_tolerance=1e-10)
"""Lengths are standard deviations of the background: no move is longer than ten."""


@dataclass(frozen=True)
class Analysis:
    """The most likely course of every window, by element of the batch, without gradients.

    Attributes
    ----------
    controls : (*batch, P) in standard deviations of the background, which is zero.
    storage0 : initial storages (*batch, S), mm. ``multipliers`` : forcing -> factor of every interval (T, *batch).
    run, open_loop : the window as analysed and from the background; the forcing of ``run`` is the multiplied one.
    observed : discharge (T, *batch) mm/d; ``count`` (*batch) of values that are there, those of other series with it.
        Where there are none the analysis is the background.
    cost_background, cost_observations, cost_start : (*batch) 1/2 |z|^2, 1/2 |r|^2, and the latter of the open loop.
    converged : (*batch); ``evaluations`` : runs and backward passes made.
    storage0_sd, multiplier_sd : standard deviations after the analysis, to first order; None, {} where not asked for.
    """

    controls: Tensor
    storage0: Tensor
    multipliers: Mapping[str, Tensor]
    run: Simulation = field(repr=False)
    open_loop: Simulation = field(repr=False)
    observed: Tensor = field(repr=False)
    count: Tensor
    cost_background: Tensor
    cost_observations: Tensor
    cost_start: Tensor
    converged: Tensor
    evaluations: int
    storage0_sd: Tensor | None = None
    multiplier_sd: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def chi2(self) -> Tensor:
        """Twice the cost by the number of observations (*batch): about one where all assumed errors have the right size
        (Talagrand 1999); NaN without observations."""
        total = 2.0 * (self.cost_background + self.cost_observations)
        return torch.where(self.count > 0, total / self.count.clamp_min(1), torch.nan)

    def to_xarray(self):
        """Dataset of all of these, with units."""
        import xarray as xr

        forcing, s = self.run.forcing, self.run.model.structure
        dims, names = batch_axes(forcing)
        data = {}

        def put(name: str, value: Tensor, unit: str, *axes: str) -> None:
            data[name] = ((*axes, *dims), value.cpu().numpy(), {"units": unit})

        for i, (name, unit) in enumerate(s.stores.items()):
            put(f"storage0_{name}", self.storage0[..., i], unit)
            put(f"background_{name}", self.open_loop.storage[0, ..., i], unit)
            if self.storage0_sd is not None:
                put(f"storage0_sd_{name}", self.storage0_sd[..., i], unit)
            put(name, self.run.store(name), unit, "time_edge")
        for name, value in self.multipliers.items():
            put(f"multiplier_{name}", value, "1", "time")
        for name, value in self.multiplier_sd.items():
            put(f"multiplier_sd_{name}", value, "1", "time")
        series = {"discharge": self.run.discharge, "open_loop": self.open_loop.discharge, "observed": self.observed}
        for name, value in series.items():
            put(name, value, "mm/d", "time")
        for name in ("cost_background", "cost_observations", "cost_start", "count", "converged", "chi2"):
            put(name, getattr(self, name), "1")
        coords = {"time": forcing.time, "time_edge": forcing.time_edge, **names}
        return xr.Dataset(data, coords, {"title": f"4D-Var analysis with model {s.name}"})


def batch_axes(forcing: Forcing) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Dims of the batch in a Dataset, and the names along them."""
    dims = ("member", "basin")[2 - len(forcing.batch) :]
    names = {"member": list(forcing.members), "basin": list(forcing.basins)}
    return dims, {dim: names[dim] for dim in dims if names[dim]}


def assimilate(
    model: Balance,
    forcing: Forcing,
    observed: Tensor,
    background: Background,
    errors: Gaussian,
    *,
    also: Observed | Sequence[Observed] = (),
    theta: Mapping[str, Tensor | float] | None = None,
    solver: Solver | None = None,
    steps: int = 100,
    spread: bool = False,
    progress: str | None = None,
) -> Analysis:
    """Strong-constraint 4D-Var: minimise the distance to background and observations, each in its standard deviations.

    Every element of the batch is a window of its own; all are minimised side by side, by L-BFGS on the exact gradient
    (Le Dimet and Talagrand 1986, Tellus 38A:97; in hydrology Seo et al. 2003, J. Hydrometeorol. 4:627; 2009, J. Hydrol.
    367:255).

    Parameters
    ----------
    forcing : the window, T intervals; those of many dates as members: :class:`Windows`.
    observed : discharge (T, *batch) mm/d, NaN where missing; tensor, array or DataArray.
    background : initial storages and forcing, and their errors.
    errors : of observed discharge; those of the model belong in here too, as it has no other place for them. See
        :func:`flow_error`.
    also : measured series of other variables, such as snow: ``Observed(name, values, Gaussian(sigma))``, in the unit of
        the variable and at the times that :class:`udehydro.training.Observed` says. Their errors are independent of
        those of discharge.
    theta, solver : as in :func:`udehydro.simulate`.
    steps : evaluations of cost and gradient at most.
    spread : also standard deviations after the analysis, which takes one more backward pass for every interval.
    progress : label of the progress bar, None for none.

    Raises
    ------
    DataError
        For observations of another shape, infinite ones, and storages below zero.
    ConfigError
        For a background, errors or further series that do not fit the batch or the model, and where the background has
        no finite cost.
    SolverError
        Where the background cannot be simulated.
    """
    observed, errors = discharge_of(observed, errors, forcing)
    if not (isinstance(steps, int) and steps >= 1):
        raise ConfigError(f"steps has to be a whole number of at least 1, got {steps!r}.")
    solver = solver or Automatic()
    if isinstance(solver, Automatic):
        solver = replace(solver, runs=steps)  # a copy, whose guesses are those of this window
    theta = theta if theta is None else {n: v.detach() if isinstance(v, Tensor) else v for n, v in theta.items()}
    controls, others = Controls.of(background, model, forcing), bound(also, model, forcing)
    cost = Cost(model, forcing, observed, controls, errors, theta, solver, others)
    state = _minimised(cost, steps, progress)
    return _analysis(cost, state, spread)


def _minimised(cost: Cost, steps: int, progress: str | None):
    """State of the optimiser after the last step."""
    elements = math.prod(cost.forcing.batch)
    start = cost.forcing.like.new_zeros(elements, cost.controls.size)
    state = OPTIMISER.init(start, cost)
    if not bool(state.loss.isfinite().all()):
        element = np.unravel_index(int((~state.loss.isfinite()).nonzero()[0]), cost.forcing.batch)
        raise ConfigError(
            f"The cost of the background is not finite in {cost.forcing.label(0, [int(i) for i in element])}: check "
            "observations, their errors, and the parameters."
        )
    with tqdm(total=steps, initial=1, desc=progress or "", disable=progress is None, leave=False) as bar:
        for _ in range(steps - 1):
            if not bool(state.active.any()):
                break
            state = OPTIMISER.step(state, cost)
            bar.update(1)
            bar.set_postfix({"cost": f"{float(state.loss.median()):.4g}", "open": int(state.active.sum())})
    return state


def _analysis(cost: Cost, state, spread: bool) -> Analysis:
    batch, controls = cost.forcing.batch, cost.controls
    z = state.x.reshape(*batch, -1)
    with torch.no_grad():
        run, open_loop = cost.run(z), cost.run(torch.zeros_like(z))
        parts = 0.5 * z.square().sum(-1), cost.fit(run), cost.fit(open_loop)
        storage0 = run.storage[0]
    storage0_sd, multiplier_sd = None, {}
    if spread:
        covariance = cost.covariance(z)
        storage0_sd = controls.storage0_spread(z, covariance)
        multiplier_sd = controls.multiplier_spread(z, covariance)
    return Analysis(
        z, storage0, controls.multipliers(z), run, replace(open_loop, forcing=cost.forcing), cost.observed,
        cost.seen.sum(0), *parts, (state.status == CONVERGED).reshape(batch),
        int(state.evaluations.max()), storage0_sd, multiplier_sd,
    )  # fmt: skip
