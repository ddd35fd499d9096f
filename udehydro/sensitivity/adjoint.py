"""adjoint: the derivative of one number by everything a run depends on, at the price of one run and one backward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import ConfigError
from udehydro.forcing import Forcing
from udehydro.sensitivity.objectives import Objective
from udehydro.sensitivity.perturbed import PREFIX, perturbed
from udehydro.sensitivity.start import given_start
from udehydro.simulate import simulate
from udehydro.simulation import Simulation
from udehydro.solvers.one_step import OneStep


@dataclass(frozen=True)
class Adjoint:
    """Derivatives of an objective J, by basin and member; NaN where J is not finite.

    Attributes
    ----------
    value : J (*batch).
    parameters : name -> dJ/dtheta (*batch), or (T, *batch) of one that varies in time.
    storage0 : store -> dJ/dS0 (*batch); ``storage`` : store -> lambda (T + 1, *batch), the derivative by the storage at
        every edge, as if water were added there.
    forcing : name -> derivative by the mean of every interval (T, *batch).
    fluxes : name -> derivative by a flux's rate in every interval (T, *batch), the law itself unchanged.
    weights : name -> derivative of the sum over the batch by network weights, in their shape.
    run : the simulation, without gradients.
    """

    value: Tensor
    parameters: Mapping[str, Tensor]
    storage0: Mapping[str, Tensor]
    storage: Mapping[str, Tensor]
    forcing: Mapping[str, Tensor]
    fluxes: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    run: Simulation = field(repr=False)

    def elasticity(self) -> dict[str, Tensor]:
        """Percent of J per percent of a parameter, (*batch) or (T, *batch): dJ/dtheta x theta / J."""
        theta = self.run.theta
        return {n: g * theta[n].detach() / self.value for n, g in self.parameters.items()}

    def to_xarray(self, unit: str = ""):
        """Dataset of everything but weights, with units per unit; ``unit`` is that of the objective."""
        import xarray as xr

        forcing, s = self.run.forcing, self.run.model.structure
        dims = ("member", "basin")[2 - len(forcing.batch) :] if forcing.batch else ()
        per = f"{unit or 'unit of the objective'} per "
        data = {"objective": (dims, self.value.cpu().numpy(), {"units": unit})}

        def put(prefix: str, values: Mapping[str, Tensor], axis: str | None, units: Mapping[str, str]) -> None:
            for name, value in values.items():
                lead = (axis or "time",) if value.ndim > len(dims) else ()
                data[f"{prefix}_{name}"] = ((*lead, *dims), value.cpu().numpy(), {"units": per + units[name]})

        put("parameter", self.parameters, None, {n: r.unit for n, r in s.parameters.items()})
        put("storage0", self.storage0, None, s.stores)
        put("lambda", self.storage, "time_edge", s.stores)
        put("forcing", self.forcing, "time", s.forcings)
        put("flux", self.fluxes, "time", {n: self.run.unit(n) for n in self.fluxes})
        for name, value in self.elasticity().items():
            lead = ("time",) if value.ndim > len(dims) else ()
            data[f"elasticity_{name}"] = ((*lead, *dims), value.cpu().numpy(), {"units": "1"})
        coords = {"time": forcing.time_edge[:-1], "time_edge": forcing.time_edge}
        coords |= {"basin": list(forcing.basins)} if forcing.basins and dims else {}
        coords |= {"member": list(forcing.members)} if forcing.members and len(dims) == 2 else {}
        return xr.Dataset(data, coords, {"title": f"adjoint sensitivities of {s.name}"})


@torch.enable_grad()
def adjoint(
    model: Balance,
    forcing: Forcing,
    objective: Objective,
    *,
    theta: Mapping[str, Tensor | float] | None = None,
    storage0: Tensor | Mapping[str, Tensor | float],
    solver: OneStep | None = None,
    fluxes: bool = False,
) -> Adjoint:
    """Derivatives of an objective by parameters, initial storages, forcing of every interval, weights and fluxes.

    Exact for the discrete run: one backward pass gives all of them. Basins and members do not depend on each other, so
    each has its own derivatives, also by parameters that were given as one number.

    Parameters
    ----------
    objective : Simulation -> (*batch), such as those of :mod:`udehydro.sensitivity.objectives`.
    theta, solver : as in :func:`simulate`.
    storage0 : (*batch, S) or a value per store [mm].
    fluxes : also by the rate of every flux (the model is then run with a forcing added to each law).

    Raises
    ------
    ConfigError
        For an objective of another shape than the batch, or that does not depend on the run.
    """
    named, record = (model, forcing) if not fluxes else perturbed(model, forcing)
    batch = forcing.batch
    given = dict(zip(model.parameter_names, model.theta(theta, forcing.like), strict=True))
    free = {n: _leaf(v.expand((len(forcing), *batch) if v.ndim > len(batch) else batch)) for n, v in given.items()}
    start = _leaf(given_start(model, forcing, storage0))
    values = {n: _leaf(record.values[n]) for n in named.forcing_names}
    weights = {n: w for n, w in named.named_parameters() if w.requires_grad}
    record = replace(record, values={**record.values, **values})
    simulation = simulate(named, record, theta=free, storage0=start, solver=solver)
    value = objective(simulation)
    if not isinstance(value, Tensor) or value.shape != torch.Size(batch):
        got = f"has shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"is a {type(value).__name__}"
        raise ConfigError(f"The objective {got}, needs a tensor with one number for each of {batch}.")
    if not value.requires_grad:
        raise ConfigError("The objective does not depend on the run in a way that can be differentiated.")
    leaves = [*free.values(), start, *values.values(), *weights.values()]
    found = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
    found = iter([torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)])
    finite = value.detach().isfinite()

    def known(by: Tensor) -> Tensor:
        return torch.where(finite, by, torch.nan)  # a score without observations has no derivatives, not zeros

    by_theta = {n: known(next(found)) for n in free}
    by_start = {n: known(g) for n, g in zip(model.store_names, next(found).unbind(-1), strict=True)}
    by_forcing = {n: known(next(found)) for n in values}
    lam = simulation.report.adjoint
    by_storage = {n: known(lam[..., i]) for i, n in enumerate(model.store_names)} if lam is not None else {}
    run = replace(
        simulation, model=model, forcing=forcing, storage=simulation.storage.detach(), theta=given,
        volume=simulation.volume.detach(),
    )  # fmt: skip
    return Adjoint(
        value.detach(), by_theta, by_start, by_storage,
        {n: g for n, g in by_forcing.items() if not n.startswith(PREFIX)},
        {n.removeprefix(PREFIX): g for n, g in by_forcing.items() if n.startswith(PREFIX)},
        {n.replace(".law.", "."): next(found) for n in weights}, run,
    )  # fmt: skip


def _leaf(value: Tensor) -> Tensor:
    return value.detach().clone().requires_grad_()
