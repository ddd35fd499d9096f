"""Networks whose weights are parameters: values, gradients, members, and every driver."""

import numpy as np
import pytest
import torch
from tables import weather
from toy import U0, lotka_volterra

from udehydro import Balance, Calibrated, Forcing, Fraction, Multiplier, NeuralLaw, Positive, StructureError, simulate
from udehydro.laws.small_network import Signed, SmallNetwork
from udehydro.models import exphydro_mended
from udehydro.sensitivity import differences
from udehydro.solvers import RK4, SDIRK2, AllAtOnce, Compiled, Stepping, Torchdiffeq

RECORD = Forcing.clock(days=np.linspace(0.0, 3.0, 31))
BENCHMARK = {"name": "net", "outputs": ("net_x", "net_y"), "activation": "gaussian"}
SCALE = {"soil": (200.0, 120.0), "temp": (2.0, 6.0)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def universal(law):
    """Lotka-Volterra with both unknown terms from one network."""
    return Balance(lotka_volterra, net=law, u_x=lambda net_x: net_x, u_y=lambda net_y: net_y)


def drawn(law, members=1, seed=0, size=1.0):
    """Start values, moved so that biases and zero layers are not special."""
    g = generator(seed + 100)
    found = law.initial(generator(seed), members)
    return {n: v + 0.1 * size * torch.randn(v.shape, generator=g) for n, v in found.items()}


def test_names_count_and_ranges():
    law = SmallNetwork("x", "y", **BENCHMARK)
    assert len(law.constants) == 87  # 2-5-5-5-2, as published
    assert {"net_w0_1_4", "net_w3_4_1", "net_b0_0", "net_b3_1"} <= set(law.constants)
    assert law.constants["net_b0_0"].unit == "1" and law.constants["net_b0_0"].default == 0.0
    assert law.reads == ("x", "y", *law.constants)
    assert (law.constants["net_b0_0"].low, law.constants["net_b0_0"].high) == (-50.0, 50.0)


def test_start_values():
    law = SmallNetwork("x", "y", **BENCHMARK)
    values = law.initial(generator(), 200)
    assert set(values) == set(law.constants) and all(v.shape == (200, 1) for v in values.values())
    assert all(bool((v == 0).all()) for n, v in values.items() if "_b" in n)
    for layer, (below, above) in enumerate([(2, 5), (5, 5), (5, 5), (5, 2)]):
        found = torch.cat([v for n, v in values.items() if n.startswith(f"net_w{layer}")])
        bound = (6.0 / (below + above)) ** 0.5
        assert found.abs().max() <= bound
        assert found.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)  # of 2000 draws and more
    again = law.initial(generator(), 200)
    assert all(torch.equal(values[n], again[n]) for n in values)


@pytest.mark.parametrize("output", [Positive(0.1), Fraction("pet"), Multiplier(3.0)], ids=lambda o: type(o).__name__)
def test_it_is_a_neural_law_with_the_same_weights(output):
    """In frame, scales and limiter; to round-off of sums in another order, 1e-12."""
    law = SmallNetwork("soil", "temp", name="et", hidden=(4, 3), output=output, scale=SCALE)
    other = NeuralLaw("soil", "temp", hidden=(4, 3), output=output, scale=SCALE, seed=0)
    values = {n: v[0, 0] for n, v in drawn(law).items()}
    with torch.no_grad():
        for k, (w, b) in enumerate(zip(other.net.weights, other.net.biases, strict=True)):
            for (i, j), _ in np.ndenumerate(w.numpy()):
                w[i, j], b[0, j] = values[f"et_w{k}_{i}_{j}"], values[f"et_b{k}_{j}"]
    forcing = weather(30)
    models = Balance(exphydro_mended, et=law), Balance(exphydro_mended, et=other)
    theta = {n: r.default for n, r in exphydro_mended.parameters.items()} | values
    one, two = (
        simulate(m, forcing, theta=theta if m is models[0] else None, storage0={"snow": 5.0, "soil": 200.0})
        for m in models
    )
    assert torch.allclose(one.storage, two.storage, rtol=0, atol=1e-9)  # the tolerance of the solver
    assert torch.allclose(one.rate("et"), two.rate("et"), rtol=0, atol=1e-9) and one.rate("et").std() > 1e-3


def test_a_multiplier_starts_as_the_formula():
    law = SmallNetwork("soil", name="et", output=Multiplier())
    theta = {n: r.default for n, r in exphydro_mended.parameters.items()}
    model, start = Balance(exphydro_mended, et=law), {"snow": 5.0, "soil": 200.0}
    run = simulate(model, weather(10), theta=theta | law.initial(generator(), 1), storage0=start)
    expected = simulate(Balance(exphydro_mended), weather(10), theta=theta, storage0=start)
    assert torch.equal(run.storage, expected.storage)


def test_one_output_replaces_a_quantity():
    """The limiter needs a source store, which a quantity has not."""
    law = SmallNetwork("temp", name="pet", output=Positive(), tau=None)
    run = simulate(Balance(exphydro_mended, pet=law), weather(5), storage0={"snow": 5.0, "soil": 200.0})
    assert run.model.structure.quantities[0].law is law


@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(Stepping(RK4, substeps=3), marks=pytest.mark.slow),
        AllAtOnce(SDIRK2, tolerance=1e-12),
        Torchdiffeq("rk4", step_size=0.05),
    ],
    ids=lambda s: type(s).__name__,
)
def test_gradient_by_the_weights(solver):
    """Against central differences along random directions; the compiled driver is compared below."""
    law = SmallNetwork("x", "y", **BENCHMARK, hidden=(3,))
    model, values = universal(law), drawn(law)
    theta = {n: r.default for n, r in lotka_volterra.parameters.items()}
    record = Forcing.clock(days=np.linspace(0.0, 3.0, 31), batch=(1, 1))

    def value(points):
        """Mean square of the storages, for each of the points (N, P)."""
        found = []
        for point in points:
            parts = zip(values, point.split([v.numel() for v in values.values()]), strict=True)
            at = {n: part.reshape(values[n].shape) for n, part in parts}
            found.append(simulate(model, record, theta=theta | at, storage0=U0, solver=solver).storage.square().mean())
        return torch.stack(found)

    x = torch.cat([v.reshape(-1) for v in values.values()]).requires_grad_()
    (gradient,) = torch.autograd.grad(value(x[None]), x)
    found = differences(value, x.detach(), steps=(1e-3, 1e-4, 1e-5)).against(gradient)
    assert found.error < 1e-6 and found.excluded == 0


def test_members_are_single_runs():
    law = SmallNetwork("x", "y", **BENCHMARK)
    model, values = universal(law), drawn(law, members=4)
    theta = {n: r.default for n, r in lotka_volterra.parameters.items()}
    solver = AllAtOnce(SDIRK2, tolerance=1e-12)
    record = Forcing.clock(days=np.linspace(0.0, 3.0, 31), batch=(4, 1))
    together = simulate(model, record, theta=theta | values, storage0=U0, solver=solver).storage
    for m in range(4):
        own = {n: v[m, 0] for n, v in values.items()}
        alone = simulate(model, RECORD, theta=theta | own, storage0=U0, solver=solver).storage
        assert torch.allclose(together[:, m, 0], alone, rtol=0, atol=1e-10)


def test_compiled_is_all_at_once():
    """Eight members: states, volumes and gradients by all weights. (2-5-5-5-2 takes a minute and a half to compile.)"""
    law = SmallNetwork("x", "y", **BENCHMARK, hidden=(2,))
    model, record = universal(law), Forcing.clock(days=np.linspace(0.0, 3.0, 31), batch=(8, 1))
    theta = {n: r.default for n, r in lotka_volterra.parameters.items()}
    found = []
    for driver in (Compiled, AllAtOnce):
        leaves = {n: v.requires_grad_() for n, v in drawn(law, members=8).items()}
        run = simulate(model, record, theta=theta | leaves, storage0=U0, solver=driver(SDIRK2, tolerance=1e-12))
        value = run.storage.square().mean() + run.rate("u_x").square().mean()
        gradient = torch.autograd.grad(value, list(leaves.values()))
        found.append((run.storage.detach(), run.volume.detach(), torch.cat(gradient)))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-10)


def test_calibrated_takes_its_start_values():
    law = SmallNetwork("x", "y", **BENCHMARK)
    model, values = universal(law), law.initial(generator(), 3)
    parameters = Calibrated.of(model, (3, 1), start=values, fixed=("alpha", "delta"))
    found = parameters()
    # weights go through the logit of a range of 100: 1e-12
    assert all(torch.allclose(found[n], v, rtol=0, atol=1e-12) for n, v in values.items())
    assert len(list(parameters.parameters())) == 87


def test_signed_frame():
    law = SmallNetwork("x", name="n", hidden=(2,), output=Signed(3.0))
    plain = SmallNetwork("x", name="n", hidden=(2,))
    x, weights = torch.linspace(-1, 1, 5), [v[0, 0] for v in drawn(law).values()]
    assert torch.allclose(law(x, *weights), 3.0 * plain(x, *weights)) and (plain(x, *weights).abs() > 0).all()
    assert torch.allclose(Signed(3.0).inverse(Signed(3.0)(x)), x)


@pytest.mark.parametrize(
    ("inputs", "options", "says"),
    [
        ((), {}, "needs inputs and a name"),
        (("x",), {"name": "a b"}, "needs inputs and a name"),
        (("x",), {"outputs": ("one",)}, "several names, or none"),
        (("x",), {"outputs": "xy"}, "several names, or none"),
        (("x",), {"hidden": (0,)}, "above zero"),
        (("x",), {"activation": "relu"}, "one of tanh, gaussian"),
        (("x",), {"scale": {"y": (0, 1)}}, r"\['y'\], which 'n' does not read"),
        (("x",), {"scale": {"x": (0, 0)}}, "spread above zero"),
        (("x",), {"outputs": ("a", "b"), "output": Multiplier()}, "no Multiplier and no tau"),
        (("x",), {"outputs": ("a", "b"), "tau": 1.0}, "no Multiplier and no tau"),
    ],
)
def test_bad_settings(inputs, options, says):
    with pytest.raises(StructureError, match=says):
        SmallNetwork(*inputs, **{"name": "n", **options})
