"""What a trained law did where the model really went: states visited, and what every network says there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import ConfigError
from udehydro.simulate import pose
from udehydro.simulation import Simulation
from udehydro.structure import Structure, suggest

SPREAD_FLOOR = 0.02
"""Least uncertainty of a learned law, as a share of its mean size: members agree too well where data are dense."""


@dataclass(frozen=True)
class Samples:
    """Laws at N visited points.

    Attributes
    ----------
    inputs : everything a law may read, by name, (N,).
    learned : law -> what each of M networks says there (M, N).
    support : name -> (lowest, 5 %, 95 %, highest) value visited: claims hold in there and nowhere else.
    """

    inputs: Mapping[str, Tensor] = field(repr=False)
    learned: Mapping[str, Tensor] = field(repr=False)
    support: Mapping[str, tuple[float, float, float, float]] = field(repr=False)

    def median(self, law: str) -> Tensor:
        """Median over networks (N,)."""
        return self.learned[law].median(0).values

    def knowing(self, values: Mapping[str, float]) -> Samples:
        """With parameters that the networks' model does not have at these values."""
        like = next(iter(self.inputs.values()))
        new = {n: torch.full_like(like, float(v)) for n, v in values.items() if n not in self.inputs}
        return replace(self, inputs={**self.inputs, **new})

    def weights(self, law: str) -> Tensor:
        """Weights (N,) of the median: one over its standard deviation."""
        values = self.learned[law]
        spread = values.std(0) if len(values) > 1 else torch.zeros_like(values[0])
        floor = SPREAD_FLOOR * values.median(0).values.abs().mean()
        return (spread.square() + floor.square()).clamp_min(1e-300).rsqrt()


def sample(
    model: Balance,
    simulation: Simulation,
    laws: Sequence[str],
    *,
    structure: Structure | None = None,
    member: int = 0,
    alone: bool = False,
    points: int = 500,
    seed: int = 0,
) -> Samples:
    """Evaluate the laws of all members of a trained model along the trajectory of one.

    Parameters
    ----------
    model, simulation : trained model and its run, batch (members, basins) or (basins,).
    laws : fluxes, quantities or groups to learn from.
    structure : the formula model, for quantities that formulas may read and the networks do not (PET, say).
    member : whose trajectory gives the points, usually that of the best fit.
    alone : leave out the other members. Storage that is not observed differs between members, by an offset at least:
        what others would say at this one's storage is then of no account.
    points : at most so many, drawn such that rare states are not outnumbered by common ones: with a chance that falls
        with the density of what the laws say there.
    """
    known = (*model.flux_names, *model.structure.groups, *(o for q in model.structure.quantities for o in q.outputs))
    for law in laws:
        if law not in known:
            raise ConfigError(f"The model has no flux or quantity '{law}' to sample.{suggest(law, known)}")
    batch = simulation.forcing.batch
    stores = [s[:-1].detach() for s in simulation.storage.unbind(-1)]
    if len(batch) == 2:
        stores = [s[:, member : member + 1].expand(-1, batch[0], -1) for s in stores]
    theta = {n: v.detach() for n, v in simulation.theta.items()}
    problem = pose(model, simulation.forcing, theta)
    with torch.no_grad():
        values = model.named(stores, *problem.at(slice(None)))
        if structure is not None:
            values = _quantities(structure, simulation, theta, stores) | values
    shape = (len(simulation.forcing), *batch)
    # (members, time x basins)
    members = batch[0] if len(batch) == 2 else 1
    flat = {n: v.expand(shape).reshape(shape[0], members, -1) for n, v in values.items() if isinstance(v, Tensor)}
    flat = {n: v.movedim(1, 0).flatten(1) for n, v in flat.items()}
    row = member if len(batch) == 2 else 0
    chosen = _thinned([flat[law][row] for law in laws], points, seed)
    inputs = {n: v[row, chosen] for n, v in flat.items()}
    learned = {law: (flat[law][row : row + 1] if alone else flat[law])[:, chosen] for law in laws}
    return Samples(inputs, learned, {n: _range(v[row]) for n, v in flat.items()})


def _quantities(structure: Structure, simulation: Simulation, theta, stores) -> dict[str, Tensor]:
    """Quantities of the formula model at the same points, as far as they read nothing but known parameters."""
    formula = Balance(structure)
    # what reads a parameter that the networks replaced comes out as NaN, and is left out
    nothing = torch.full((), torch.nan, dtype=simulation.storage.dtype, device=simulation.storage.device)
    known = tuple(theta.get(n, nothing) for n in formula.parameter_names)
    forcing = simulation.forcing.tensors(formula.forcing_names)
    values = formula.named(stores, formula.prepare(forcing, known), known)
    outputs = {o for q in structure.quantities for o in q.outputs}
    return {n: v for n, v in values.items() if n in outputs and not bool(v.isnan().any())}


def _thinned(values: Sequence[Tensor], points: int, seed: int) -> Tensor:
    """Indices of at most ``points`` values, of bins of equal width as evenly as there are values."""
    count = len(values[0])
    if count <= points:
        return torch.arange(count)
    weight = torch.ones(count, dtype=torch.float64)
    for v in values:
        edges = torch.linspace(float(v.min()), float(v.max()) + 1e-12, 21, dtype=v.dtype)
        bins = torch.bucketize(v.contiguous(), edges[1:-1])
        weight = weight / torch.bincount(bins, minlength=20)[bins]
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(weight, points, generator=generator).sort().values


def _range(values: Tensor) -> tuple[float, float, float, float]:
    quantiles = torch.tensor([0.0, 0.05, 0.95, 1.0], dtype=values.dtype)
    return tuple(torch.quantile(values, quantiles).tolist())
