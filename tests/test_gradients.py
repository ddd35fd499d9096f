"""Gradients of the march: central differences, adjoint against tape, members, time-varying parameters.

The scalar differentiated is a fixed random combination of every storage and every volume, so that no part of the
output is left out. Perturbed copies run side by side as a batch: one simulation gives all differences.
"""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from tables import CASES, LAWS, MODELS, SCALE, TABLEAUX, Case, name_of, shake, weather
from torch import Tensor

from udehydro import (
    ATMOSPHERE,
    Balance,
    Flux,
    Forcing,
    NeuralLaw,
    Positive,
    Range,
    SharedNetwork,
    Structure,
    StructureError,
    simulate,
)
from udehydro.errors import SolverError
from udehydro.models import exphydro_mended, linear, m100
from udehydro.sensitivity import differences
from udehydro.solvers import BACKWARD_EULER, HEUN, RK4, SDIRK2, AllAtOnce, Compiled, Stepping, Torchdiffeq

STEPS = (1e-3, 1e-4, 1e-5, 1e-6)
"""Relative step sizes of the differences: truncation falls with the square, round-off rises with the inverse."""
TIGHT = 1e-11
"""Residual of implicit stages [mm]."""
DAYS = 7


def tight(tableau, **options) -> Stepping:
    substeps = {"explicit Euler": 6, "Heun": 6, "RK4": 5}.get(tableau.name, 1)
    return Stepping(tableau, substeps=substeps, tolerance=TIGHT, **options)


@dataclass(frozen=True)
class Inputs:
    """What is differentiated, for one basin: theta and storage0 by name, forcing by name (T,)."""

    theta: dict[str, Tensor]
    storage0: dict[str, Tensor]
    forcing: dict[str, Tensor]

    def vector(self) -> Tensor:
        parts = [*self.theta.values(), *self.storage0.values(), *self.forcing.values()]
        return torch.cat([p.reshape(-1) for p in parts])

    def split(self, points: Tensor) -> "Inputs":
        """Vectors (P, n) as inputs of a batch of P."""
        parts, at = [], 0
        for group in (self.theta, self.storage0, self.forcing):
            new = {}
            for name, value in group.items():
                column = points[:, at : at + value.numel()]
                new[name] = column[:, 0] if value.ndim == 0 else column.movedim(0, 1)
                at += value.numel()
            parts.append(new)
        return Inputs(*parts)


def of_case(case: Case, model: Balance, basin: int, days: int = DAYS) -> tuple[Inputs, Forcing]:
    forcing = weather(days, seed=8)
    return Inputs(
        {n: v[basin] for n, v in case.parameters(model).items()},
        {n: v[basin] for n, v in case.start().items()},
        {n: forcing.values[n][:, basin].clone() for n in model.forcing_names},
    ), forcing


def scores(simulation) -> Tensor:
    """The random combination, one value per batch element."""
    generator = torch.Generator().manual_seed(5)
    batch = simulation.forcing.batch
    total = 0.0
    for part in (simulation.storage, simulation.volume):
        weight = torch.randn(part.shape[0], part.shape[-1], generator=generator)
        total = total + (part * weight.reshape(len(weight), *(1,) * len(batch), -1)).sum((0, -1))
    return total


def score(model, inputs: Inputs, like: Forcing, solver) -> Tensor:
    record = replace(like, values=inputs.forcing, basins=())
    storage0 = torch.stack([inputs.storage0[n] for n in model.store_names], dim=-1)
    return scores(simulate(model, record, theta=inputs.theta, storage0=storage0, solver=solver))


def assert_agrees(gradient: Tensor, evaluate, x: Tensor) -> None:
    """1e-6 in norm; at most one component in ten sits at a kink (dry days sit at none: rain enters linearly)."""
    found = differences(evaluate, x, steps=STEPS, round_off=1e-12).against(gradient)
    assert found.error <= 1e-6, found
    assert found.excluded <= max(1, found.size // 10), found


def check_inputs(case: Case, solver, basin: int = 0) -> None:
    model = case.build(3, 1.0)
    inputs, like = of_case(case, model, basin)
    x = inputs.vector()
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(model, inputs.split(leaf.unsqueeze(0)), like, solver).sum(), leaf)
    assert_agrees(gradient, lambda points: score(model, inputs.split(points), like, solver), x)


@pytest.mark.parametrize("tableau", TABLEAUX, ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_parameters_initial_storages_and_forcing(case, tableau):
    check_inputs(case, tight(tableau), basin=0)


@pytest.mark.parametrize("case", MODELS[:3], ids=name_of)
def test_all_at_once(case):
    check_inputs(case, AllAtOnce(SDIRK2, tolerance=1e-12, block=4), basin=1)


@pytest.mark.parametrize("tableau", [HEUN, SDIRK2], ids=name_of)
def test_split_intervals(tableau):
    """A stiff reservoir whose intervals are cut: the record holds steps of several lengths."""
    case = replace(MODELS[0], theta={"k": (4.0, 3.0)})
    solver, model = tight(tableau, undershoot="split"), case.build()
    inputs, like = of_case(case, model, 0)
    # rain on every day: differences on a dry day would ask for rain below zero, and split other intervals
    inputs = replace(inputs, forcing={"prcp": inputs.forcing["prcp"] + 1.0})
    x = inputs.vector()
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(model, inputs.split(leaf.unsqueeze(0)), like, solver).sum(), leaf)
    assert_agrees(gradient, lambda points: score(model, inputs.split(points), like, solver), x)


def neural(members):
    """A small hybrid with free, rising, limited and multiplied networks, one per member."""
    laws = {
        "et": NeuralLaw(
            "soil", "temp", output=Positive(0.1, "dayl"), hidden=(3,), scale=SCALE, members=members, seed=1
        ),
        "discharge": NeuralLaw("soil", hidden=(3,), scale=SCALE, increasing=("soil",), members=members, seed=2),
    }
    return Balance(exphydro_mended, **laws)


@pytest.mark.parametrize("tableau", TABLEAUX, ids=name_of)
def test_network_weights(tableau):
    """Every weight of the networks; the perturbed networks are the members of one model."""
    single, case, solver = shake(neural(1), 4), MODELS[2], tight(tableau)
    inputs, like = of_case(case, single, 0)
    shapes = [w.shape for w in single.parameters()]
    x = torch.cat([w.detach().reshape(-1) for w in single.parameters()])

    def evaluate(points):
        model = neural(len(points))
        at = 0
        with torch.no_grad():
            for weight, shape in zip(model.parameters(), shapes, strict=True):
                weight.copy_(points[:, at : at + shape.numel()].reshape(weight.shape))
                at += shape.numel()
        return run_members(model, len(points)).squeeze(-1)

    def run_members(model, members):
        record = replace(like, values={n: v.reshape(-1, 1) for n, v in inputs.forcing.items()}, basins=())
        record = record.with_members(members)
        storage0 = torch.stack([inputs.storage0[n] for n in model.store_names])
        return scores(simulate(model, record, theta=inputs.theta, storage0=storage0, solver=solver))

    total = run_members(single, 1).sum()
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(total, list(single.parameters()))])
    assert_agrees(gradient, evaluate, x)


@pytest.mark.parametrize("tableau", TABLEAUX, ids=name_of)
def test_time_varying_parameters(tableau):
    """Every daily value of a parameter that varies in time is a component of its own."""
    case, solver = MODELS[2], tight(tableau)
    model = case.build()
    inputs, like = of_case(case, model, 1)
    daily = torch.linspace(0.8, 1.2, DAYS)
    inputs = replace(inputs, theta={n: v * daily if n in ("qmax", "ddf") else v for n, v in inputs.theta.items()})
    x = inputs.vector()
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(model, inputs.split(leaf.unsqueeze(0)), like, solver).sum(), leaf)
    assert_agrees(gradient, lambda points: score(model, inputs.split(points), like, solver), x)


def all_gradients(model, record, theta, storage0, solver) -> list[Tensor]:
    """Gradients of the score with respect to everything."""
    theta = {n: v.clone().requires_grad_() for n, v in theta.items()}
    storage0 = storage0.clone().requires_grad_()
    values = {n: record.values[n].clone().requires_grad_() for n in model.forcing_names}
    total = scores(simulate(model, replace(record, values=values), theta=theta, storage0=storage0, solver=solver)).sum()
    return list(torch.autograd.grad(total, [*theta.values(), storage0, *values.values(), *model.parameters()]))


def assert_equal_gradients(a: list[Tensor], b: list[Tensor]) -> None:
    """To 1e-12 of each gradient's largest component: the same sums in another order."""
    for left, right in zip(a, b, strict=True):
        assert left.shape == right.shape
        assert (left - right).abs().max().item() <= 1e-12 * max(1.0, right.abs().max().item())


@pytest.mark.parametrize("tableau", TABLEAUX, ids=name_of)
@pytest.mark.parametrize("case", [MODELS[1], MODELS[2], MODELS[4], LAWS[3]], ids=name_of)
def test_adjoint_equals_tape(case, tableau):
    """With and without recomputed windows, one of which does not divide the number of steps."""
    model = case.build(3, 1.0)
    theta, record = case.parameters(model), weather(DAYS, seed=8)
    storage0 = torch.stack([case.start()[n] for n in model.store_names], dim=-1)
    adjoint = all_gradients(model, record, theta, storage0, tight(tableau))
    for checkpoint in (None, 4):
        tape = all_gradients(model, record, theta, storage0, tight(tableau, gradient="tape", checkpoint=checkpoint))
        assert_equal_gradients(adjoint, tape)


@pytest.mark.parametrize("tableau", [RK4, BACKWARD_EULER, SDIRK2], ids=name_of)
def test_adjoint_equals_tape_with_members_and_time_varying_parameters(tableau):
    model = shake(neural(3), 6)
    record = weather(DAYS, seed=9).with_members(3)
    theta = {n: v for n, v in MODELS[2].parameters(model).items()}
    theta["ddf"] = theta["ddf"] * torch.linspace(0.9, 1.1, DAYS).reshape(-1, 1, 1).expand(-1, 3, 2)
    theta["tmax"] = theta["tmax"] + torch.zeros(3, 1)
    storage0 = torch.tensor([12.0, 240.0]) + torch.zeros(3, 2, 2)
    adjoint = all_gradients(model, record, theta, storage0, tight(tableau))
    tape = all_gradients(model, record, theta, storage0, tight(tableau, gradient="tape"))
    assert_equal_gradients(adjoint, tape)


def test_adjoint_equals_tape_over_split_intervals():
    model, record = Balance(linear), weather(8, 3, seed=1)
    theta, storage0 = {"k": torch.tensor([0.2, 4.0, 1.0])}, torch.full((3, 1), 50.0)
    options = {"undershoot": "split"}
    assert simulate(
        model, record, theta=theta, storage0=storage0, solver=tight(SDIRK2, **options)
    ).report.split_intervals
    adjoint = all_gradients(model, record, theta, storage0, tight(SDIRK2, **options))
    tape = all_gradients(model, record, theta, storage0, tight(SDIRK2, **options, gradient="tape"))
    assert_equal_gradients(adjoint, tape)


def test_gradient_does_not_depend_on_the_chunks(monkeypatch):
    """The adjoint is carried across the pieces of a long record."""
    from udehydro.solvers import march

    case = MODELS[2]
    model, record = case.build(), weather(DAYS, seed=8)
    storage0 = torch.stack([case.start()[n] for n in model.store_names], dim=-1)
    whole = all_gradients(model, record, case.parameters(model), storage0, tight(SDIRK2))
    monkeypatch.setattr(march, "POINTS", 6)
    pieces = all_gradients(model, record, case.parameters(model), storage0, tight(SDIRK2))
    assert_equal_gradients(whole, pieces)


@pytest.mark.parametrize("checkpoint", [None, 4])
def test_tape_gives_second_derivatives(checkpoint):
    """Linear reservoir, backward Euler, no rain: S_n = S0 (1 + k)^-n, so d2S/dk2 = n (n + 1) S0 (1 + k)^-(n + 2)."""
    record = weather(6, 1)
    record = replace(record, values={n: v * 0 for n, v in record.values.items()})
    k = torch.tensor(0.3, requires_grad=True)
    solver = Stepping(BACKWARD_EULER, gradient="tape", checkpoint=checkpoint)
    end = simulate(Balance(linear), record, theta={"k": k}, storage0={"storage": 50.0}, solver=solver).storage[-1, 0, 0]
    (first,) = torch.autograd.grad(end, k, create_graph=True)
    (second,) = torch.autograd.grad(first, k)
    assert first.item() == pytest.approx(-6 * 50.0 * 1.3**-7, rel=1e-12)
    assert second.item() == pytest.approx(42 * 50.0 * 1.3**-8, rel=1e-12)


@pytest.mark.parametrize("tableau", TABLEAUX, ids=name_of)
def test_second_derivatives_of_a_nonlinear_model(tableau):
    """Against differences of first derivatives: 1e-6, as for the first."""
    case = MODELS[1]
    model, record = case.build(), weather(5, seed=8)
    storage0 = torch.stack([case.start()[n] for n in model.store_names], dim=-1)

    def first(qmax, create_graph=False):
        theta = {**case.parameters(model), "qmax": qmax}
        solver = tight(tableau, gradient="tape")
        total = scores(simulate(model, record, theta=theta, storage0=storage0, solver=solver)).sum()
        return torch.autograd.grad(total, qmax, create_graph=create_graph)[0]

    x = case.parameters(model)["qmax"]
    leaf = x.clone().requires_grad_()
    (second,) = torch.autograd.grad(first(leaf, create_graph=True).sum(), leaf)
    h = 1e-4
    difference = (first((x + h).requires_grad_()) - first((x - h).requires_grad_())) / (2 * h)
    assert (second - difference).norm().item() <= 1e-6 * difference.norm().item()


@pytest.mark.parametrize("penalty", [0.0, 0.5])
@pytest.mark.parametrize("solver", [Stepping(), AllAtOnce(), Compiled()], ids=lambda s: type(s).__name__)
def test_adjoint_refuses_second_derivatives(solver, penalty):
    """Also where other paths lead to the parameter, which would otherwise be all that is returned."""
    k = torch.tensor(0.3, requires_grad=True)
    simulation = simulate(Balance(linear), weather(6, 1), theta={"k": k}, storage0={"storage": 50.0}, solver=solver)
    loss = simulation.storage[-1].sum() + penalty * k.square()
    (first,) = torch.autograd.grad(loss, k, create_graph=True)
    with pytest.raises(SolverError, match="first derivatives only.*gradient='tape'"):
        torch.autograd.grad(first, k)


def test_weights_that_are_frozen_get_no_gradient():
    model = shake(neural(None), 1)
    for weight in model.laws["et"].parameters():
        weight.requires_grad_(False)
    case = MODELS[2]
    scores(simulate(model, weather(5), theta=case.parameters(model), storage0=case.start())).sum().backward()
    assert all(w.grad is None for w in model.laws["et"].parameters())
    assert all(w.grad is not None and bool(w.grad.isfinite().all()) for w in model.laws["discharge"].parameters())


def test_gradients_through_a_shared_network_with_members():
    """M100 members side by side have the gradients that each has alone."""
    members = shake(m100(seed=0, members=2), 3, 0.1)
    members.laws["network"].standardise(SCALE)
    case, record = MODELS[4], weather(5)
    storage0 = torch.stack([case.start()[n] for n in members.store_names], dim=-1)
    theta = case.parameters(members)
    together = all_gradients(members, record.with_members(2), theta, storage0, tight(SDIRK2))
    assert isinstance(members.laws["network"], SharedNetwork)
    for i in range(2):
        single = m100(seed=0, members=1)
        single.laws["network"].standardise(SCALE)
        with torch.no_grad():
            for w, of in zip(single.parameters(), members.parameters(), strict=True):
                w.copy_(of[i : i + 1])
        alone = all_gradients(single, record.with_members(1), theta, storage0, tight(SDIRK2))
        count = len(list(single.parameters()))
        for a, b in zip(alone[-count:], together[-count:], strict=True):
            assert torch.allclose(a[0], b[i], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("solver", [AllAtOnce(), Stepping(gradient="tape"), Stepping(RK4)], ids=repr)
def test_initial_storage_alone(solver):
    """No parameter, forcing or weight wants a gradient: dS(T)/dS(0) of the linear reservoir is exp(-k t)."""
    forcing = weather(10, 1)
    start = torch.tensor([50.0], requires_grad=True)
    end = simulate(Balance(linear), forcing, theta={"k": 0.05}, storage0=start, solver=solver).storage[-1].sum()
    (gradient,) = torch.autograd.grad(end, start)
    assert gradient.item() == pytest.approx(math.exp(-0.5), rel=1e-4)


@pytest.mark.parametrize("solver", [AllAtOnce(), Stepping(gradient="tape"), Stepping(RK4)], ids=repr)
@pytest.mark.parametrize("of", ["share", "start"])
def test_a_model_that_no_store_influences(solver, of):
    """dS/dt = share x prcp: the Jacobian is zero, and so is the derivative of the volume to the storage."""
    rain = Flux("rain", ATMOSPHERE, "tank", lambda prcp, share: share * prcp)
    gauge = Structure("gauge", {"tank": "mm"}, {"prcp": "mm/d"}, {"share": Range(0.0, 1.0, "1")}, (rain,))
    forcing = weather(10, 1)
    leaves = {"share": torch.tensor(0.5), "start": torch.tensor([3.0])}
    leaves[of].requires_grad_()
    run = simulate(Balance(gauge), forcing, theta={"share": leaves["share"]}, storage0=leaves["start"], solver=solver)
    (gradient,) = torch.autograd.grad(run.storage[-1].sum() + run.volume.sum(), leaves[of])
    expected = 2.0 * forcing.values["prcp"].sum() if of == "share" else torch.tensor(1.0)
    assert gradient.sum().item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("solver", [AllAtOnce(), Stepping(), Torchdiffeq("rk4", adjoint=True)])
def test_a_law_that_closes_over_a_tensor_is_refused_by_adjoints(solver):
    """The adjoint cannot reach it: without the check its gradient would be None, with no error."""
    k = torch.tensor(0.1, requires_grad=True)
    model = Balance(linear, outflow=lambda storage: k * storage)
    with pytest.raises(StructureError, match="law of flux 'outflow' closes over a tensor"):
        simulate(model, weather(5), storage0={"storage": 10.0}, solver=solver)


def test_the_tape_reaches_a_tensor_a_law_closes_over():
    k = torch.tensor(0.1, requires_grad=True)
    model = Balance(linear, outflow=lambda storage: k * storage)
    s = simulate(model, weather(5), storage0={"storage": 10.0}, solver=Stepping(gradient="tape"))
    s.discharge.sum().backward()
    assert k.grad is not None and float(k.grad) > 0
