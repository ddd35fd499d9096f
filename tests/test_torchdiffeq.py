"""torchdiffeq as a backend: one test for every trap that was met, and its gradients against a converged one."""

from dataclasses import replace

import pytest
import torch
from tables import LAWS, MODELS, SCALE, name_of, shake, weather
from torch import nn
from torchdiffeq import odeint

from udehydro import Balance, ConfigError, NeuralLaw, Positive, SolverError, simulate
from udehydro.models import exphydro, exphydro_mended, linear
from udehydro.solvers import RK4, Stepping, Torchdiffeq
from udehydro.solvers.torchdiffeq import ADAPTIVE, FIXED

CONVERGED = Stepping(RK4, substeps=32)
VARIANTS = (
    Torchdiffeq("dopri5", rtol=1e-9, atol=1e-10),
    Torchdiffeq("dopri5", rtol=1e-9, atol=1e-10, adjoint=True),
    Torchdiffeq("dopri8", rtol=1e-10, atol=1e-11, adjoint=True),
    Torchdiffeq("rk4", step_size=1 / 32),
    Torchdiffeq("rk4", step_size=1 / 32, adjoint=True),
    Torchdiffeq("rk4", step_size=1 / 32, span="record"),
    Torchdiffeq("rk4", step_size=1 / 32, span="record", adjoint=True),
)
DAYS = 3


def gradients(model, theta, storage0, record, solver):
    """Gradients of a random combination of storages and volumes, by name."""
    theta = {n: v.clone().requires_grad_() for n, v in theta.items()}
    storage0 = storage0.clone().requires_grad_()
    values = {n: record.values[n].clone().requires_grad_() for n in model.forcing_names}
    run = simulate(model, replace(record, values=values), theta=theta, storage0=storage0, solver=solver)
    generator = torch.Generator().manual_seed(2)
    total = sum((p * torch.randn(p.shape, generator=generator)).sum() for p in (run.storage, run.volume))
    inputs = {**theta, "storage0": storage0, **values, **dict(model.named_parameters())}
    found = torch.autograd.grad(total, list(inputs.values()))
    return dict(zip(inputs, found, strict=True))


def assert_close(a, b, tolerance: float) -> None:
    """Relative, in norm, one input after the other."""
    assert a.keys() == b.keys()
    for name in b:
        scale = max(b[name].norm().item(), 1e-8)
        assert (a[name] - b[name]).norm().item() <= tolerance * scale, name


def smooth_start(model):
    """Deep snow and a bucket below capacity: no store crosses a kink of a law within the record.

    Across one, the gradient of a fixed-step scheme is off by the first power of the step, and nothing is converged.
    """
    values = {"snow": (80.0, 60.0), "soil": (180.0, 300.0), "storage": (40.0, 5.0)}
    return torch.tensor([values[n] for n in model.store_names]).T


@pytest.mark.parametrize("solver", VARIANTS, ids=name_of)
@pytest.mark.parametrize("case", [MODELS[1], MODELS[2], LAWS[1]], ids=name_of)
def test_gradients_agree_with_the_converged_ones(case, solver):
    """1e-4: what a continuous adjoint, solved backwards on its own steps, keeps of rtol 1e-9 across kinks.

    Of exphydro and exphydro_mended, ddf, tmin and tmax are read through terms that are evaluated once per run as well
    as (tmax, width; ddf in the mended one) directly by laws: a continuous adjoint that is given both counts them twice.
    """
    model, record = case.build(2, 1.0), weather(DAYS, seed=8)
    theta, storage0 = case.parameters(model), smooth_start(model)
    reference = gradients(model, theta, storage0, record, CONVERGED)
    assert_close(gradients(model, theta, storage0, record, solver), reference, 1e-4)


def test_a_parameter_read_directly_and_through_a_hoisted_quantity_counts_once():
    """The bug it was: ddf enters melt directly, and melt_potential, which depends on no store, once per run."""

    def melt(snow, melt_potential, ddf, width):
        return torch.minimum(snow, (melt_potential + ddf).clamp_min(0.0)) * width

    model = Balance(exphydro, melt=melt)
    assert "melt_potential" not in model.forcing_names
    case, record = MODELS[1], weather(DAYS, seed=8)
    theta = {**case.parameters(model), "width": torch.tensor([0.3, 0.2])}
    storage0 = smooth_start(model)
    reference = gradients(model, theta, storage0, record, CONVERGED)
    found = gradients(model, theta, storage0, record, Torchdiffeq("dopri5", rtol=1e-9, atol=1e-10, adjoint=True))
    assert bool((reference["ddf"] != 0).all())
    for name in ("ddf", "tmax", "tmin", "width"):
        assert torch.allclose(found[name], reference[name], rtol=1e-4, atol=1e-8), name


class TestRainPulses:
    """Adaptive steps over a whole record pass over rain pulses: wrong by percents at rtol 1e-5."""

    theta = {"k": torch.tensor([0.05, 0.02], dtype=torch.float64)}

    def record(self):
        forcing = weather(80, 2, seed=1)
        rain = torch.zeros(80, 2)
        rain[[30, 31, 55], :] = 40.0  # long dry spells let the step grow past a day
        return replace(forcing, values={**forcing.values, "prcp": rain})

    def exact(self, record):
        k, s, total = self.theta["k"], torch.tensor([10.0, 10.0]), 0.0
        for p in record.values["prcp"]:
            end = p / k + (s - p / k) * torch.exp(-k)
            total, s = total + p + s - end, end
        return s, total

    def test_one_call_is_wrong(self):
        """What the package refuses to do, done with torchdiffeq itself: the error is there."""
        record, k = self.record(), self.theta["k"]
        rain = record.values["prcp"]

        def field(t, s):
            return rain[int(t.clamp(0, 79))] - k * s

        end = odeint(field, torch.tensor([10.0, 10.0]), torch.tensor([0.0, 80.0]), rtol=1e-5, atol=1e-6)[-1]
        exact, _ = self.exact(record)
        assert ((end - exact).abs() / exact).max().item() > 0.01

    @pytest.mark.parametrize("method", ADAPTIVE)
    def test_one_call_is_refused(self, method):
        with pytest.raises(ConfigError, match=f"'{method}' chooses its own steps.*span='interval'"):
            Torchdiffeq(method, span="record")

    def test_interval_by_interval_is_right(self):
        """rtol 1e-5 gives 1e-5 of the storages and volumes passed."""
        record = self.record()
        solver = Torchdiffeq("dopri5", rtol=1e-5, atol=1e-6)
        run = simulate(Balance(linear), record, theta=self.theta, storage0={"storage": 10.0}, solver=solver)
        end, total = self.exact(record)
        assert torch.allclose(run.store("storage")[-1], end, rtol=1e-5)
        assert torch.allclose(run.volume[..., 1].sum(0), total, rtol=1e-5)


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("span", ["interval", "record"])
def test_gradients_reach_what_lies_outside(adjoint, span):
    """theta made by a network outside the model: odeint_adjoint drops tensors it is not given, without an error."""
    case, record = MODELS[2], weather(DAYS, seed=8)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    attributes = torch.tensor([[0.1, 0.5, -0.2], [0.7, -0.3, 0.4]])
    model = case.build()

    def outer(solver):
        net.zero_grad(set_to_none=True)
        out = torch.sigmoid(net(attributes))
        theta = {
            **case.parameters(model),
            "ddf": 1.0 + 2.0 * out[:, 0],
            "smax": torch.tensor([240.0, 380.0]) + 20.0 * out[:, 1],
        }
        run = simulate(model, record, theta=theta, storage0=smooth_start(model), solver=solver)
        run.discharge.sum().backward()
        assert all(p.grad is not None for p in net.parameters())
        return torch.cat([p.grad.reshape(-1) for p in net.parameters()])

    reference = outer(CONVERGED)
    found = outer(Torchdiffeq("rk4", step_size=1 / 32, adjoint=adjoint, span=span))
    assert reference.norm().item() > 1e-3
    assert (found - reference).norm().item() <= 1e-4 * reference.norm().item()


def test_the_right_side_of_every_break():
    """Fixed steps in one call look the forcing up at interval ends: without ``perturb`` they take the wrong day's.

    Same method, same steps: record and interval mode agree to round-off of the summed time, 1e-9.
    """
    case, record = MODELS[2], weather(15, seed=8, hours=[24.0, 6.0, 36.0] * 5)
    model = case.build()
    options = {"theta": case.parameters(model), "storage0": case.start()}
    with torch.no_grad():
        for method in ("euler", "midpoint", "heun3", "rk4"):
            a, b = (
                simulate(model, record, solver=Torchdiffeq(method, step_size=0.25, span=span), **options)
                for span in ("interval", "record")
            )
            assert torch.allclose(a.storage, b.storage, rtol=1e-9, atol=1e-9), method
            assert torch.allclose(a.volume, b.volume, rtol=1e-9, atol=1e-9), method


@pytest.mark.parametrize("method", ["implicit_euler", "sdirk2", "backward_euler", "scipy_solver", "dopri"])
def test_methods_that_do_not_exist(method):
    with pytest.raises(ConfigError, match=rf"'{method}' is not available.*dopri5.*rk4.*Stepping\(SDIRK2\)"):
        Torchdiffeq(method)


def test_settings():
    with pytest.raises(ConfigError, match="span must be 'interval' or 'record', got 'day'"):
        Torchdiffeq("rk4", span="day")
    with pytest.raises(ConfigError, match="step_size does not apply to the adaptive method 'dopri5'"):
        Torchdiffeq("dopri5", step_size=0.1)


@pytest.mark.parametrize("method", [*ADAPTIVE, *FIXED])
def test_every_method_runs(method):
    """Within 2 % of the converged discharge at loose tolerances: the name is passed on and the steps apply."""
    record = weather(4, 2)
    options = {"theta": {"k": torch.tensor([0.05, 0.1])}, "storage0": {"storage": 40.0}}
    adaptive = method in ADAPTIVE
    solver = Torchdiffeq(method, rtol=1e-3, atol=1e-4, step_size=None if adaptive else 0.1)
    with torch.no_grad():
        run = simulate(Balance(linear), record, solver=solver, **options)
        reference = simulate(Balance(linear), record, solver=CONVERGED, **options)
    assert torch.allclose(run.discharge, reference.discharge, rtol=0.02)


def test_volumes_are_left_out_of_the_error_norm():
    """A flux with a huge volume that moves between boundaries must not drive the step size of the stores."""
    calls = []

    def outflow(storage, k):
        calls.append(1)
        return k * storage

    def through(prcp, storage):
        return 1e6 * prcp * storage**2

    from udehydro import ATMOSPHERE, OUTLET, Flux
    from udehydro.structure import Structure

    def count(fluxes):
        calls.clear()
        structure = Structure("s", {"storage": "mm"}, {"prcp": "mm/d"}, linear.parameters, fluxes)
        record = weather(4, 1)
        record = replace(record, values={n: v + 1.0 for n, v in record.values.items()})
        simulate(
            Balance(structure),
            record,
            theta={"k": 0.5},
            storage0={"storage": 40.0},
            solver=Torchdiffeq("dopri5", rtol=1e-6, atol=1e-6),
        )
        return len(calls)

    plain = (linear.flux("rain"), Flux("outflow", "storage", OUTLET, outflow))
    passing = (*plain, Flux("through", ATMOSPHERE, OUTLET, through))
    assert count(passing) == count(plain)


@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_a_stiff_explosion_raises(method):
    """Not a number, not inf: an error that names basin, date and the way out."""
    record = weather(120, 2)
    options = {"theta": {"k": torch.tensor([0.5, 900.0])}, "storage0": {"storage": 10.0}}
    with pytest.raises(SolverError, match=r"not finite in basin b1, 20\d\d-\d\d-\d\d.*implicit scheme") as caught:
        simulate(Balance(linear), record, solver=Torchdiffeq(method), **options)
    assert caught.value.failed.tolist() == [False, True]


def test_an_adaptive_method_that_gives_up_raises():
    """Blow-up in finite time: the step underflows, and the error names the date and the way out."""

    def outflow(storage, k):
        return -k * storage * storage

    with pytest.raises(SolverError, match=r"torchdiffeq dopri5 gave up in .*2001-11-25.*Loosen rtol/atol"):
        simulate(
            Balance(linear, outflow=outflow),
            weather(3, 1),
            theta={"k": 1.0},
            storage0={"storage": 50.0},
            solver=Torchdiffeq("dopri5"),
        )


def test_a_warning_of_the_library_is_an_error():
    """implicit_adams goes on with unconverged steps and a warning; here that is an error."""
    with pytest.raises(SolverError, match="implicit_adams gave up in 2001-11-25.*did not converge"):
        simulate(
            Balance(linear),
            weather(3, 1),
            theta={"k": 0.9},
            storage0={"storage": 50.0},
            solver=Torchdiffeq("implicit_adams", rtol=1e-9, atol=1e-12, step_size=0.25),
        )


def test_networks_with_members_through_the_adjoint():
    """A leading member axis passes through; against the converged gradient, 1e-4."""
    law = NeuralLaw("soil", "temp", output=Positive(0.1, "dayl"), hidden=(3,), scale=SCALE, members=2, seed=1)
    model = shake(Balance(exphydro_mended, et=law), 3)
    case, record = MODELS[2], weather(4, seed=8).with_members(2)
    theta, storage0 = case.parameters(model), smooth_start(model) + torch.zeros(2, 2, 2)
    reference = gradients(model, theta, storage0, record, CONVERGED)
    found = gradients(model, theta, storage0, record, Torchdiffeq("dopri5", rtol=1e-9, atol=1e-10, adjoint=True))
    assert_close(found, reference, 1e-4)
