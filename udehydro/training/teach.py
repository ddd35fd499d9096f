"""Teacher pretraining: networks first imitate the calibrated formulas they replace, where the model really went."""

from __future__ import annotations

import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import ConfigError
from udehydro.laws.neural import NeuralLaw, SharedNetwork
from udehydro.simulate import pose
from udehydro.simulation import Simulation
from udehydro.training.members import Members
from udehydro.training.optimisers import Adam, Cosine


def visited(model: Balance, simulation: Simulation) -> dict[str, Tensor]:
    """Everything a model's laws read and return at the states a simulation visited, by name; (T, *batch) each.

    States are those at the start of every interval, with the forcing and parameters of the simulation.
    """
    stores = simulation.storage[:-1].detach().unbind(-1)
    problem = pose(model, simulation.forcing, {n: v.detach() for n, v in simulation.theta.items()})
    with torch.no_grad():
        values = model.named(stores, *problem.at(slice(None)))
    shape = simulation.storage[:-1].shape[:-1]
    return {n: v.expand(shape) for n, v in values.items() if isinstance(v, Tensor)}  # an empty group is no tensor


def standardise(model: Balance, simulation: Simulation) -> None:
    """Set the input scales of every network from the states a simulation visited, per member where there are any."""
    for law in model.laws.values():
        if isinstance(law, NeuralLaw | SharedNetwork):
            law.standardise({n: v for n, v in visited(simulation.model, simulation).items() if n in law.inputs})


def teach(model: Balance, teacher: Simulation, *, steps: int = 500, learning_rate: float = 1e-2) -> Tensor:
    """Fit the networks of ``model`` to the fluxes of a calibrated formula model, point by point.

    Input scales are set first. The error of each swapped flux or quantity is measured in units of the teacher's
    standard deviation; Adam on all visited states. Returns the final mean square error per member (M,).

    Raises
    ------
    ConfigError
        Where the teacher has no flux, quantity or group of a law's name to imitate.
    """
    standardise(model, teacher)
    known = visited(teacher.model, teacher)
    names = [n for n in _swapped(model) if n in known]
    if not names:
        raise ConfigError(
            f"The teacher '{teacher.model.structure.name}' has nothing that the laws {list(model.laws)} could imitate."
        )
    batch = teacher.forcing.batch
    members = Members((model,), batch[0] if len(batch) > 1 else 1)
    stores = teacher.storage[:-1].detach().unbind(-1)
    theta = {n: v.detach() for n, v in teacher.theta.items() if n in model.structure.parameters}
    targets = {n: known[n] for n in names}
    spread = {n: (v - v.mean(0)).square().mean(0).sqrt() + 1e-9 for n, v in targets.items()}

    def evaluate(x: Tensor) -> tuple[Tensor, Tensor]:
        members.write(x)
        problem = pose(model, teacher.forcing, theta)
        values = model.named(stores, *problem.at(slice(None)))
        error = sum(((values[n] - targets[n]) / spread[n]).square().mean(0) for n in names)
        error = error.reshape(members.members, -1).mean(1)
        gradient = torch.autograd.grad(error.sum(), members.tensors, allow_unused=True)
        return error.detach(), members.gather(gradient)

    optimiser = Adam(learning_rate, schedule=Cosine(max(1, steps), 0.05))
    state = optimiser.init(members.read(), evaluate)
    for _ in range(steps):
        state = optimiser.step(state, evaluate)
    members.write(state.x)
    return state.loss


def _swapped(model: Balance) -> list[str]:
    """Names of fluxes and quantities whose law replaced a formula."""
    s = model.structure
    return [i.name for i in (*s.quantities, *s.fluxes) if i.formula is not None]
