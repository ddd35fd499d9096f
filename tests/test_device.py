"""Device cleanliness, tested without a device: nothing may be made on the default device, and no value be looked at.

Two instruments. Meta tensors have a shape but no values: code that runs on them looks at no value and makes no tensor
elsewhere. And a default device of "meta" while all inputs live on the CPU: whatever is made without following its
inputs becomes a meta tensor, which the recorder below sees (and which usually stops the run at once).
"""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from tables import LAWS, MODELS, SCALE, name_of, shake, weather
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from udehydro import Balance, Calibrated, NeuralLaw, Positive, Range, simulate
from udehydro.models import exphydro_mended, linear, m100
from udehydro.simulate import pose
from udehydro.solvers import BACKWARD_EULER, HEUN, RK4, SDIRK2, AllAtOnce, SolverReport, Stepping, Torchdiffeq, newton
from udehydro.solvers.adjoint import attach
from udehydro.solvers.march import March
from udehydro.training import losses

LOSSES = [losses.NSE(), losses.SqrtNSE(), losses.LogNSE(), losses.KGE()]


class Recorder(TorchDispatchMode):
    """Names of the operations that returned a tensor on another device than the CPU."""

    def __init__(self):
        super().__init__()
        self.strays: list[str] = []
        self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.operations += 1
        tensors = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        if any(t.device.type != "cpu" for t in tensors):
            self.strays.append(str(function))
        return out


@contextmanager
def elsewhere():
    """Another default device than that of the inputs; fails if anything lands on it."""
    before = torch.get_default_device()
    torch.set_default_device("meta")
    try:
        with Recorder() as recorder:
            yield recorder
    finally:
        torch.set_default_device(before)
    assert recorder.operations > 0
    assert recorder.strays == []


def test_the_recorder_sees_what_it_should():
    """A tensor made without a device, and a Python number turned into one."""
    x = torch.ones(3)
    for make in (lambda: torch.zeros(3), lambda: torch.as_tensor(1.0), lambda: torch.arange(3)):
        with pytest.raises(AssertionError), elsewhere():
            make()
    with elsewhere():
        torch.where(x > 0, x, 0.0) + 1.0 + x.new_zeros(3) + torch.zeros_like(x)


CASES = [MODELS[0], MODELS[1], MODELS[2], MODELS[4], LAWS[1], LAWS[2], LAWS[3]]
SOLVERS = [
    Stepping(HEUN, substeps=5),
    Stepping(RK4, substeps=4, gradient="tape"),
    Stepping(BACKWARD_EULER, gradient="tape"),
    Stepping(BACKWARD_EULER, gradient="tape", checkpoint=2),
    Stepping(SDIRK2),
    Stepping(SDIRK2, undershoot="split"),
    AllAtOnce(),
    Torchdiffeq("rk4", step_size=0.25),
    Torchdiffeq("dopri5", rtol=1e-3, atol=1e-4, adjoint=True),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_simulate_and_backward_follow_their_inputs(case, solver):
    """Alignment of theta, prepared terms, march, Newton, checks, replay and its backward pass, networks."""
    model, record = case.build(1, 1.0), weather(4, seed=8)
    theta = {n: v.requires_grad_() for n, v in case.parameters(model).items()}
    storage0 = torch.stack([case.start()[n] for n in model.store_names], dim=-1).requires_grad_()
    with elsewhere():
        run = simulate(model, record, theta=theta, storage0=storage0, solver=solver)
        (run.discharge.sum() + run.storage.square().sum()).backward()
        run.balance_error, run.balance_tolerance(), run.max_balance_error(), run.rate(model.flux_names[0])
    assert all(v.grad is not None for v in theta.values())


def test_the_split_path_follows_its_inputs():
    record = weather(4, 3, seed=1)
    theta = {"k": torch.tensor([0.3, 4.0, 1.0], requires_grad=True)}
    storage0 = torch.full((3, 1), 50.0)
    model = Balance(linear)
    with elsewhere():
        run = simulate(model, record, theta=theta, storage0=storage0, solver=Stepping(undershoot="split"))
        run.discharge.sum().backward()
    assert run.report.split_intervals > 0


def test_numbers_defaults_members_and_varying_parameters_follow_the_forcing():
    """Python numbers as theta and storage0, declared defaults, time-varying theta, a member axis."""
    law = NeuralLaw("soil", "temp", output=Positive(0.1, "dayl"), hidden=(3,), scale=SCALE, members=2, seed=1)
    model, record = Balance(exphydro_mended, et=law), weather(4)
    daily = torch.linspace(2.0, 3.0, 4).reshape(-1, 1, 1).expand(-1, 2, 2)
    numbers = {n: v[0] for n, v in MODELS[2].theta.items() if n in model.parameter_names}
    with elsewhere():
        members = record.with_members(2)
        simulate(model, members, theta={**numbers, "ddf": daily}, storage0={"snow": 0.0, "soil": 100.0})
        simulate(model, members, storage0={"snow": 0.0, "soil": 100.0})


def test_spin_up_follows_the_forcing():
    """Its parameters are numbers at the forcing's precision, not at the default one."""
    record = weather(10)
    with elsewhere():
        run = simulate(Balance(linear), record, theta={"k": 0.3})
    torch.set_default_dtype(torch.float32)
    again = simulate(Balance(linear), record, theta={"k": 0.3})
    assert torch.equal(run.storage, again.storage)


def test_calibrated_follows_its_tensors():
    ranges = {"k": Range(0.001, 1.0, "1/d"), "c": Range(1.0, 5.0, "mm"), "w": Range(0.1, 1.0, "mm", fixed=True)}
    provider = Calibrated(ranges, (2,), start={"k": 0.3}, initial={"storage": Range(0.0, 100.0, "mm")})
    with elsewhere():
        theta = provider()
        total = sum(v.sum() for v in theta.values()) + provider.storage0(("storage",)).sum()
        total.backward()
        provider.scatter(torch.Generator(device="cpu").manual_seed(0))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: type(x).__name__)
def test_losses_follow_their_inputs(loss):
    observed = torch.rand(30, 2) + 0.1
    observed[3:6] = float("nan")
    simulated = torch.rand(30, 2).requires_grad_()
    with elsewhere():
        loss.prepare(observed)(simulated, observed).sum().backward()
    assert bool(simulated.grad.isfinite().all())


def test_forcing_follows_its_tensors():
    record = weather(5)
    with elsewhere():
        record.days, record.isel(slice(1, 3)).days, record.with_members(2)


class TestMeta:
    """No value is looked at where none may be: on a device each look would be a synchronisation."""

    def pose(self, case):
        model = case.build(1, 1.0).to("meta")
        record = weather(4).to(device="meta")
        theta = {n: v.to("meta").requires_grad_() for n, v in case.parameters(model).items()}
        state = torch.empty(len(model.store_names), 4, 2, device="meta")
        return model, pose(model, record, theta), state

    @pytest.mark.parametrize("case", CASES, ids=name_of)
    def test_rates_jacobian_and_one_newton_iteration(self, case):
        model, problem, state = self.pose(case)
        point = problem.at(slice(0, 4))
        assert newton.rates(model, point, state).shape == (len(model.flux_names), 4, 2)
        f, jacobian = newton.rates_and_jacobian(model, point, state)
        assert f.is_meta and jacobian.shape == (len(state), len(state), 4, 2)
        h = problem.days.reshape(-1, 1)
        stage, residual = newton.begin(model, point, state, h, state)
        done = torch.zeros_like(state[0], dtype=torch.bool)
        stage, done = newton.iterate(model, point, state, h, stage, done, 1e-9)
        assert stage.state.is_meta and done.shape == (4, 2)
        corrected = newton.correct(model, point, state, h, stage.state, jacobian)
        assert corrected.is_meta and corrected.requires_grad
        assert newton.spectral_radius(model, jacobian).is_meta

    @pytest.mark.parametrize("tableau", [HEUN, BACKWARD_EULER, SDIRK2], ids=name_of)
    @pytest.mark.parametrize("case", CASES, ids=name_of)
    def test_replay_and_its_backward_pass(self, case, tableau):
        model, problem, state = self.pose(case)
        march = March(state[:, 0], 4, len(model.flux_names))
        stages = tableau.stages if tableau.implicit else 0
        for k in range(4):
            volume = torch.empty(len(model.flux_names), 2, device="meta")
            h = problem.days[k]
            march.append(k, [(h, state[:, k], (state[:, k],) * stages, volume)], state[:, k])
        start = state[:, 0].movedim(0, -1).clone().requires_grad_()
        storage, volume = attach(problem, tableau, march, start, SolverReport("meta"))
        assert storage.shape == (5, 2, len(state)) and volume.shape == (4, 2, len(model.flux_names))
        (storage.sum() + volume.sum()).backward()
        assert start.grad.is_meta

    @pytest.mark.parametrize("loss", LOSSES, ids=lambda x: type(x).__name__)
    def test_losses(self, loss):
        observed, simulated = torch.empty(30, 2, device="meta"), torch.empty(30, 2, device="meta", requires_grad=True)
        loss.prepare(observed)(simulated, observed).sum().backward()
        assert simulated.grad.is_meta

    def test_calibrated(self):
        provider = Calibrated({"k": Range(0.001, 1.0, "1/d")}, (2,)).to("meta")
        assert provider()["k"].is_meta


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("solver", [*SOLVERS, Torchdiffeq("dopri5", adjoint=True)], ids=name_of)
def test_on_a_device(solver):
    """The same numbers as on the CPU, to the rounding of other kernels: 1e-9."""
    model, record = shake(m100(seed=0), 1, 0.1), weather(6)
    results = []
    for device in ("cpu", "cuda"):
        model = model.to(device)
        theta = {n: v.to(device).requires_grad_() for n, v in MODELS[4].parameters(model).items()}
        run = simulate(model, record.to(device=device), theta=theta, storage0=MODELS[4].start(), solver=solver)
        run.discharge.sum().backward()
        results.append((run.storage.detach().cpu(), theta["smax"].grad.cpu()))
        assert run.storage.device.type == device
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)


def test_a_model_moves_whole():
    """Every tensor a model owns, incidence and input scales too, moves with ``to``."""
    model = m100(seed=0).to("meta")
    assert model.incidence.is_meta
    assert all(t.is_meta for t in (*model.parameters(), *model.buffers()))
    assert replace(weather(2), basins=()).to(device="meta").like.is_meta
