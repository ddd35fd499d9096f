"""Random water balances for the tests of the solvers: cascades, loops, boundaries, laws that obey the slope rule."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from udehydro import ATMOSPHERE, GROUNDWATER, OUTLET, Balance, Flux, Forcing, Range, Structure, simulate
from udehydro.simulation import Simulation
from udehydro.solvers import Tableau

MIDPOINT = Tableau("implicit midpoint", ((0.5,),), (1.0,), 2)
"""Not stiffly accurate: the new state is none of the stages."""
_G = 0.435866521508459
_B1, _B2 = -(6 * _G**2 - 16 * _G + 1) / 4, (6 * _G**2 - 20 * _G + 5) / 4
SDIRK3 = Tableau("SDIRK3", ((_G, 0.0, 0.0), ((1 - _G) / 2, _G, 0.0), (_B1, _B2, _G)), (_B1, _B2, _G), 3)
"""Alexander 1977."""


@dataclass(frozen=True)
class Law:
    """A rate [mm/d] whose arguments are named when it is made."""

    form: str
    reads: tuple[str, ...]

    def __call__(self, *values):
        return _FORMS[self.form](*values)


_FORMS = {
    # of the donor; smooth where the storages of the tests are, so that differences meet no kink
    "linear": lambda k, s: k * s,
    "power": lambda k, s: 0.2 * k * s.clamp_min(0.0) ** 1.5,
    "saturating": lambda k, s: 20.0 * k * torch.tanh(s / 40.0),
    "exponential": lambda k, s: 10.0 * k * torch.expm1((s / 60.0).clamp_max(6.0)),
    # of donor and receiver
    "head": lambda k, s, other: 0.3 * k * (s - other),
    "blocked": lambda k, s, other: 0.5 * k * s * torch.exp(-other / 150.0),
    # of the weather, and of a boundary
    "rain": lambda k, prcp: (1.0 + k) * prcp,
    "evaporation": lambda k, s, pet: 0.3 * pet * torch.tanh(s / (5.0 + 50.0 * k)),
    "constant": lambda k: k,
    "exchange": lambda k, s: 0.1 * k * (s - 30.0),
}


def balance(stores: int, seed: int = 0) -> Balance:
    """Stores in a row, each passing water on by a law of its own; some also pass it back, or over a boundary."""
    rng = np.random.default_rng(seed)
    names = [f"s{i}" for i in range(stores)]
    fluxes: list[Flux] = []

    def add(form: str, source: str, sink: str, *read: str, signed: bool = False) -> None:
        number = len(fluxes)
        fluxes.append(Flux(f"q{number}", source, sink, Law(form, (f"k{number}", *read)), signed))

    add("rain", ATMOSPHERE, names[0], "prcp")
    for i, name in enumerate(names):
        sink = names[i + 1] if i + 1 < stores else OUTLET
        form = str(rng.choice(["linear", "power", "saturating", "exponential"]))
        if sink != OUTLET and rng.random() < 0.3:
            add("blocked", name, sink, name, sink)
        add(form, name, sink, name)
        if rng.random() < 0.3:
            add("evaporation", name, ATMOSPHERE, name, "pet")
        if rng.random() < 0.2:
            add("exchange", name, GROUNDWATER, name, signed=True)
        if i and rng.random() < 0.4:  # to a store above: these two and all between them depend on each other
            up = names[i - int(rng.integers(1, min(i, 3) + 1))]
            if rng.random() < 0.5:
                add("head", name, up, name, up, signed=True)
            else:
                add("blocked", name, up, name, up)
    parameters = {f"k{i}": Range(0.0, 1.0, "1", 0.2) for i in range(len(fluxes))}
    forcings = {"prcp": "mm/d", "pet": "mm/d"}
    units = {n: "mm" for n in names}
    return Balance(
        Structure(f"generated{stores}", units, forcings, parameters, tuple(fluxes), boundaries=(GROUNDWATER,))
    )


@dataclass(frozen=True)
class Inputs:
    """What a generated balance is run with."""

    record: Forcing
    theta: dict[str, Tensor]
    storage0: Tensor

    def leaves(self, model: Balance) -> list[Tensor]:
        return [*self.theta.values(), self.storage0, *(self.record.values[n] for n in model.forcing_names)]

    def moved(self, model: Balance, values) -> Inputs:
        """The same with other values, in the order of ``leaves``."""
        values = list(values)
        theta = dict(zip(self.theta, values, strict=False))
        series = dict(zip(model.forcing_names, values[len(theta) + 1 :], strict=True))
        return Inputs(replace(self.record, values={**self.record.values, **series}), theta, values[len(theta)])


def inputs(model: Balance, batch: tuple[int, ...] = (), intervals: int = 6, seed: int = 0) -> Inputs:
    """Uneven intervals of 3 h to 2 days, wet all the time; parameters shared, by basin, and varying in time."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)

    shape = (intervals, *batch)
    values = {"prcp": uniform(1.0, 25.0, *shape), "pet": uniform(0.5, 5.0, *shape)}
    hours = np.resize([24, 3, 48, 12, 24], intervals)
    edges = np.datetime64("2001-02-27", "h") + np.concatenate([[0], np.cumsum(hours)])
    theta = {}
    for i, name in enumerate(model.parameter_names):
        theta[name] = uniform(0.05, 0.6, *((), batch, shape)[i % 3])
    start = uniform(15.0, 60.0, *batch, len(model.store_names))
    return Inputs(Forcing(values, {"prcp": "mm/d", "pet": "mm/d"}, edges), theta, start)


def score(simulation: Simulation) -> Tensor:
    """A fixed random combination of every storage and volume."""
    generator, total = torch.Generator().manual_seed(5), 0.0
    for part in (simulation.storage, simulation.volume):
        total = total + (part * torch.randn(part.shape, generator=generator, dtype=part.dtype)).sum()
    return total


def solved(model: Balance, given: Inputs, solver) -> tuple[Simulation, list[Tensor]]:
    """The simulation and the gradients of its score, by parameters, initial storage, forcing and weights."""
    leaves = [v.detach().clone().requires_grad_() for v in given.leaves(model)]
    own = given.moved(model, leaves)
    run = simulate(model, own.record, theta=own.theta, storage0=own.storage0, solver=solver)
    return run, list(torch.autograd.grad(score(run), [*leaves, *model.parameters()]))
