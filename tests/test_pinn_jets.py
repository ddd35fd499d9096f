"""Jets: derivatives carried forward agree with those of nested differentiation."""

import pytest
import torch
from torch.func import hessian, jacfwd, vmap

from udehydro.errors import ConfigError
from udehydro.richards.pinn import activation
from udehydro.richards.pinn.clock import Clock
from udehydro.richards.pinn.field import Box, Features, Field, Profile, product, start_gate, wall_gate
from udehydro.richards.pinn.jets import Jet, Orders, coordinates
from udehydro.richards.pinn.network import Network, by_sample, run
from udehydro.solvers import chain_numba

T = torch.float64
ORDERS = [Orders((0, 1), (1,)), Orders((0, 1)), Orders(), Orders((1,), (1,)), Orders((0, 1, 2), (1, 2))]


def points(n=7, dimensions=3, seed=0):
    return torch.rand(n, dimensions, dtype=T, generator=torch.Generator().manual_seed(seed)) * 0.8 + 0.1


def features(at, orders):
    return torch.stack([j.channels for j in coordinates(at, orders)]).unsqueeze(0)


def expected(f, at, orders):
    """Channels of f(point) by nested differentiation."""
    slope, bend = vmap(jacfwd(f))(at), vmap(hessian(f))(at)
    return torch.stack([vmap(f)(at), *(slope[:, i] for i in orders.first), *(bend[:, i, i] for i in orders.second)])


@pytest.mark.parametrize("orders", ORDERS, ids=str)
@pytest.mark.parametrize("compiled", [True, False], ids=["loops", "torch"])
def test_network_against_nested(orders, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(chain_numba, "usable", lambda like: False)
    at, network = points(), Network(3, 2, width=6, depth=3, seeds=(3, 4))
    found = network(features(at, orders), orders)
    for m in range(2):
        w = [x[m].detach() for x in network.weights()]

        def f(x, k=0, w=w):
            for i in range(0, 6, 2):
                x = torch.tanh(x @ w[i] + w[i + 1])
            return (x @ w[6] + w[7])[k]

        for k in range(2):
            true = expected(lambda x, f=f, k=k: f(x, k), at, orders)
            torch.testing.assert_close(found[m, k].detach(), true, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("orders", ORDERS, ids=str)
def test_gradients_of_jets(orders):
    network = Network(3, 2, width=4, depth=2, seeds=(0, 1))
    x = features(points(3), orders)
    assert torch.autograd.gradcheck(
        lambda *w: network(x, orders, w), [w.detach().requires_grad_() for w in network.weights()]
    )


@pytest.mark.parametrize("orders", ORDERS, ids=str)
def test_loops_are_torch(orders, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    v = torch.randn(2, 3, orders.channels, 700, dtype=T, generator=generator)  # more than a piece
    g = torch.randn(v.shape, dtype=T, generator=generator)
    found = []
    for usable in (chain_numba.usable, lambda like: False):
        monkeypatch.setattr(chain_numba, "usable", usable)
        y, back = v.clone(), g.clone()
        activation.forward(y, orders.pairs)
        activation.backward(y, back, orders.pairs)
        found.append((y, back))
    torch.testing.assert_close(found[0], found[1], rtol=1e-13, atol=1e-13)


def test_single_precision_stays_single():
    network = Network(2, 1, width=5).float()
    orders = ORDERS[0]
    out = network(features(points(5, 2).float(), orders), orders)
    assert out.dtype == torch.float32
    double = network.double()(features(points(5, 2), orders), orders)
    torch.testing.assert_close(out.double(), double, rtol=1e-4, atol=1e-5)


def test_by_sample_adds_up_to_the_gradient():
    orders, network = ORDERS[0], Network(2, 2, width=5, depth=2, seeds=(0, 1, 2))
    x, w = features(points(9, 2), orders), [w.detach().requires_grad_() for w in network.weights()]
    kept, out = run(x, orders, w)
    g = torch.randn(out.shape, dtype=T, generator=torch.Generator().manual_seed(0))
    rows = torch.empty(3, 9, network.size, dtype=T)
    by_sample(kept, w, orders, g, rows)
    whole = torch.cat([d.flatten(1) for d in torch.autograd.grad((network(x, orders, w) * g).sum(), w)], 1)
    torch.testing.assert_close(rows.sum(1), whole, rtol=1e-12, atol=1e-12)
    one = torch.zeros_like(g)
    one[..., 4] = g[..., 4]
    alone = torch.cat([d.flatten(1) for d in torch.autograd.grad((network(x, orders, w) * one).sum(), w)], 1)
    torch.testing.assert_close(rows[:, 4], alone, rtol=1e-12, atol=1e-12)


def test_graphs_do_not_disturb_each_other():
    """Arrays are overwritten on the way; none that another way back, or the same once more, still needs."""
    orders, network = ORDERS[0], Network(2, 2, width=5, depth=3)
    w = [x.detach().requires_grad_() for x in network.weights()]
    x, other = features(points(9, 2), orders), features(points(9, 2, seed=1), orders)
    alone = [torch.autograd.grad((network(f, orders, w) ** 2).sum(), w) for f in (x, other)]
    before = x.clone()
    losses = [(network(f, orders, w) ** 2).sum() for f in (x, other)]
    for i in (1, 0, 1, 0):
        again = torch.autograd.grad(losses[i], w, retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(alone[i], again, strict=True))
    assert torch.equal(x, before)


def test_members_do_not_see_each_other():
    orders, x = ORDERS[0], features(points(5, 2), ORDERS[0])
    together = Network(2, 1, width=5, seeds=(7, 8))(x, orders)
    for m, seed in enumerate((7, 8)):
        torch.testing.assert_close(together[m : m + 1], Network(2, 1, width=5, seeds=(seed,))(x, orders))


def test_slopes_are_absorbed():
    network, orders = Network(2, 1, width=5), ORDERS[0]
    with torch.no_grad():
        network.slopes.mul_(torch.tensor([[1.5, 0.7, 2.0]], dtype=T))
    x = features(points(5, 2), orders)
    before = network(x, orders).detach()
    network.absorb()
    torch.testing.assert_close(network(x, orders).detach(), before)
    vector = network.vector()
    network.load(torch.zeros_like(vector))
    assert not bool(network(x, orders).any())
    network.load(vector)
    torch.testing.assert_close(network(x, orders).detach(), before)


@pytest.mark.parametrize(
    ("jet", "plain"),
    [
        (lambda t, z: t * z + 2.0 * z + 1.0, lambda x: x[0] * x[1] + 2.0 * x[1] + 1.0),
        (lambda t, z: (t * z).tanh(), lambda x: torch.tanh(x[0] * x[1])),
        (lambda t, z: (z * z).sinh() * t, lambda x: torch.sinh(x[1] ** 2) * x[0]),
        (lambda t, z: (t + z).sqrt(), lambda x: torch.sqrt(x[0] + x[1])),
        (lambda t, z: (t * z * z).log1p(), lambda x: torch.log1p(x[0] * x[1] ** 2)),
    ],
)
def test_arithmetic(jet, plain):
    orders, at = ORDERS[0], points(6, 2)
    found = jet(*coordinates(at, orders))
    torch.testing.assert_close(found.channels, expected(plain, at, orders), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("early", [0.0, 10.0])
def test_clock(early):
    clock = Clock(0.0, 3.0, (0.0, 1.0), early)
    u = torch.linspace(0.0, 1.0, 201, dtype=T)
    t = clock.spread(u)
    assert float(t[0]) == 0.0 and float(t[-1]) == pytest.approx(3.0) and bool((t.diff() > 0).all())
    # even in s between jumps, and the rate is d share / d s
    first = t[t < 1.0]
    time = coordinates(first.unsqueeze(1), Orders((0,)))[0]
    span = Clock(0.0, 1.0, (0.0,), early)
    s = span.since(time, 0.0)
    assert float(s.value.diff().std() / s.value.diff().mean()) < 1e-6
    torch.testing.assert_close(clock.rate(first)[1:], 1.0 / s.d(0)[1:])
    with pytest.raises(ConfigError, match="Events"):
        Clock(0.0, 1.0, (2.0,))


def test_field_holds_what_is_known():
    box = Box((0.0, -10.0), (2.0, 0.0))
    clock = Clock(0.0, 2.0, (0.0,))
    z = torch.linspace(-10.0, 0.0, 50, dtype=T)
    gate = product(start_gate(clock), wall_gate(1, -10.0, 10.0))
    field = Field(
        Network(2, 1, seeds=(0, 1)), Features(box, clock), head=5.0, known=Profile(z, torch.sin(z)), gate=gate
    )
    start = torch.stack([torch.zeros_like(z), z], 1)
    torch.testing.assert_close(field(start)[0].value / 5.0, torch.sin(z).expand(2, -1), rtol=1e-12, atol=1e-12)
    base = torch.tensor([[1.0, -10.0], [2.0, -10.0]], dtype=T)
    torch.testing.assert_close(field(base)[0].value / 5.0, torch.sin(z[:1]).expand(2, 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stretch", [True, False])
def test_field_derivatives(stretch):
    box, clock = Box((0.0, -10.0), (2.0, 0.0)), Clock(0.0, 2.0, (0.0, 0.5), 3.0)
    z = torch.linspace(-10.0, 0.0, 50, dtype=T)
    field = Field(
        Network(3, 1),
        Features(box, clock),
        head=5.0,
        stretch=stretch,
        known=Profile(z, torch.sin(z)),
        gate=start_gate(clock),
    )
    at, orders, h = torch.tensor([[0.4, -3.0], [1.2, -7.0]], dtype=T), ORDERS[0], 1e-5

    def value(dt, dz):
        return field(at + torch.tensor([dt, dz], dtype=T))[0].value

    jet: Jet = field(at, orders)[0]
    torch.testing.assert_close(jet.d(0), (value(h, 0) - value(-h, 0)) / (2 * h), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(jet.d(1), (value(0, h) - value(0, -h)) / (2 * h), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(
        jet.dd(1), (value(0, 1e-3) - 2 * value(0, 0) + value(0, -1e-3)) / 1e-6, rtol=1e-4, atol=1e-5
    )


def test_network_needs_units():
    with pytest.raises(ConfigError, match="at least one"):
        Network(2, 1, width=0)
