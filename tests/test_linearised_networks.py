"""Networks with derivatives made by hand: the numbers of the ordinary operations, inside their context only."""

import threading

import pytest
import torch
from tables import SCALE, shake, weather
from torch._subclasses.fake_tensor import FakeTensorMode

from udehydro import Balance, NeuralLaw, Positive, SharedNetwork, SolverError
from udehydro.laws import linearised as module
from udehydro.laws.linearised import active, linearised
from udehydro.models import exphydro_mended, m100
from udehydro.simulate import pose
from udehydro.solvers import newton

HIDDEN = [(), (5,), (6, 4), (5, 4, 3)]
SHAPES = [(None, (7, 2)), (None, (1300,)), (3, (7, 3, 2)), (3, (3, 700))]
NETWORKS = {
    "one": lambda **options: NeuralLaw("a", "b", "c", **options),
    "monotone": lambda **options: NeuralLaw("a", "b", "c", increasing=("a",), decreasing=("c",), **options),
    "two": lambda **options: SharedNetwork("a", "b", "c", outputs=("p", "q"), **options),
    "many": lambda **options: SharedNetwork("a", "b", "c", outputs=("p", "q", "r", "s"), **options),
}


def network(kind: str, hidden=(6, 4), members=None, dtype=torch.float64):
    law = shake(NETWORKS[kind](hidden=hidden, members=members, seed=0), 1)
    law.standardise({"a": (0.3, 2.0), "b": (-1.0, 0.5), "c": (0.1, 1.5)})
    return law.to(dtype)


def inputs(shape, dtype=torch.float64, wanted=(True, True, True)):
    """One value per input; the second is the same for all but the last axis."""
    shapes = (shape, shape[-1:], shape)
    return [torch.randn(s, dtype=dtype).requires_grad_(w) for s, w in zip(shapes, wanted, strict=True)]


def derivatives(law, values):
    """Outputs; derivatives of all of them by inputs and weights, pulled twice; of the last by the inputs alone."""
    outputs = law.latent(*values)
    cotangents = [torch.linspace(0.5, 1.5, y.numel()).to(y).reshape(y.shape) for y in outputs]
    wanted = [v for v in (*values, *law.parameters()) if v.requires_grad]
    options = {"retain_graph": True, "materialize_grads": True}
    every = [torch.autograd.grad(outputs, wanted, cotangents, **options) for _ in range(2)]
    moving = [v for v in values if v.requires_grad]
    last = torch.autograd.grad(outputs[-1], moving, cotangents[-1], **options) if moving else ()
    return [y.detach() for y in outputs], [*every[0], *every[1], *last]


def close(fast, slow, tolerance):
    """Relative to the largest value of each tensor."""
    for a, b in zip(fast, slow, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert (a - b).abs().max() <= tolerance * b.abs().max()


class TestNumbers:
    """Values, and derivatives by inputs and weights, of the ordinary operations: 1e-13."""

    @pytest.mark.parametrize("hidden", HIDDEN, ids=str)
    @pytest.mark.parametrize("members, shape", SHAPES, ids=str)
    @pytest.mark.parametrize("kind", NETWORKS)
    def test_as_by_the_tape(self, kind, members, shape, hidden):
        law, values = network(kind, hidden, members), inputs(shape)
        slow = derivatives(law, values)
        with linearised(weights=True):
            fast = derivatives(law, values)
        for a, b in zip(fast, slow, strict=True):
            close(a, b, 1e-13)

    @pytest.mark.parametrize("wanted", [(True, False, False), (False, True, True), (False, False, False)], ids=str)
    @pytest.mark.parametrize("kind", NETWORKS)
    def test_some_inputs_only(self, kind, wanted):
        law, values = network(kind), inputs((9, 2), wanted=wanted)
        slow = derivatives(law, values)
        with linearised(weights=True):
            fast = derivatives(law, values)
        for a, b in zip(fast, slow, strict=True):
            close(a, b, 1e-13)

    @pytest.mark.parametrize("kind", NETWORKS)
    def test_scalars(self, kind):
        law = network(kind)
        values = [torch.tensor(v).requires_grad_() for v in (0.2, -0.4, 1.0)]
        slow = derivatives(law, values)
        with linearised(weights=True):
            fast = derivatives(law, values)
        assert fast[0][0].shape == ()
        for a, b in zip(fast, slow, strict=True):
            close(a, b, 1e-13)

    @pytest.mark.parametrize("kind", NETWORKS)
    def test_single_precision(self, kind):
        """1e-5."""
        law, values = network(kind, dtype=torch.float32), inputs((50, 2), torch.float32)
        slow = derivatives(law, values)
        with linearised(weights=True):
            fast = derivatives(law, values)
        for a, b in zip(fast, slow, strict=True):
            close(a, b, 1e-5)

    def test_no_points(self):
        law, values = network("one"), inputs((0,))
        with linearised(weights=True):
            (y,) = law.latent(*values)
            gradients = torch.autograd.grad(y.sum(), [*values, *law.parameters()])
        assert y.shape == (0,) and not any(bool(g.any()) for g in gradients)

    def test_pieces_add_up(self, monkeypatch):
        """Any number of points at once gives the same: 1e-13."""
        law, values = network("one"), inputs((50, 2))
        with linearised(weights=True):
            whole = derivatives(law, values)
            monkeypatch.setattr(module, "POINTS", 7)
            pieces = derivatives(law, values)
        for a, b in zip(pieces, whole, strict=True):
            close(a, b, 1e-13)

    @pytest.mark.parametrize("make", [lambda: m100(seed=0), lambda: hybrid()], ids=["m100", "hybrid"])
    def test_jacobian_of_a_model(self, make):
        """Rates and Jacobian of whole models as by the tape: 1e-13."""
        model, record = shake(make(), 3, 0.1), weather(6)
        theta = {n: torch.full((2,), model.structure.parameters[n].default) for n in model.parameter_names}
        point = pose(model, record, theta).at(slice(0, 6))
        state = torch.rand(2, 6, 2) * 50.0 + 1.0
        f, jacobian = newton.rates_and_jacobian(model, point, state)
        stores = [y.clone().requires_grad_() for y in state]
        slow = model.tendency(model.fluxes(stores, *point))
        rows = [torch.autograd.grad(r.sum(), stores, retain_graph=True, materialize_grads=True) for r in slow]
        close([f], [torch.stack(slow).detach()], 1e-13)
        close([jacobian], [torch.stack([torch.stack(r) for r in rows])], 1e-13)


def hybrid():
    return Balance(
        exphydro_mended,
        et=NeuralLaw("snow", "soil", "temp", output=Positive(0.1, "dayl"), scale=SCALE, increasing=("soil",), seed=0),
        discharge=NeuralLaw("soil", "prcp", scale=SCALE, seed=1),
    )


class TestContext:
    def test_weights_are_constants_unless_asked_for(self):
        law = network("one")
        with linearised(weights=False):
            (y,) = law.latent(*inputs((5,), wanted=(False, False, False)))
            (z,) = law.latent(*inputs((5,)))
        assert not y.requires_grad and z.requires_grad
        w = law.net.weights[0]
        assert torch.autograd.grad(z.sum(), w, allow_unused=True) == (None,)

    def test_frozen_weights(self):
        law = network("one").requires_grad_(False)
        with linearised(weights=True):
            (y,) = law.latent(*inputs((5,), wanted=(False, False, False)))
        assert not y.requires_grad

    def test_without_a_graph(self):
        law, values = network("one"), inputs((5,))
        with torch.no_grad(), linearised(weights=True):
            (fast,) = law.latent(*values)
        assert not fast.requires_grad
        close([fast], [law.latent(*values)[0].detach()], 1e-13)

    def test_nested(self):
        assert not active()
        law, values = network("one"), inputs((5,))
        with linearised(weights=True):
            with linearised(weights=False):
                inner = law.latent(*values)[0]
            outer = law.latent(*values)[0]
        assert not active()
        w = law.net.weights[0]
        assert torch.autograd.grad(inner.sum(), w, allow_unused=True) == (None,)
        assert torch.autograd.grad(outer.sum(), w)[0].any()

    def test_an_exception_ends_it(self):
        with pytest.raises(ValueError), linearised(weights=True):
            raise ValueError
        assert not active()

    def test_other_threads_are_outside(self):
        seen = []
        with linearised(weights=True):
            thread = threading.Thread(target=lambda: seen.append(active()))
            thread.start()
            thread.join()
            assert active()
        assert seen == [False]

    def test_no_second_derivatives_inside(self):
        """An error, not a wrong number; outside there are second derivatives as ever."""
        law, values = network("one"), inputs((5,))
        with linearised(weights=True):
            (y,) = law.latent(*values)
        for wanted in (values, list(law.parameters())):
            with pytest.raises(SolverError, match="first derivatives only"):
                torch.autograd.grad(y.sum(), wanted, create_graph=True)
        (slope,) = torch.autograd.grad(law.latent(*values)[0].sum(), values[:1], create_graph=True)
        assert torch.autograd.grad(slope.sum(), values[0])[0].any()

    @pytest.mark.parametrize("members", [None, 2], ids=str)
    @pytest.mark.parametrize("kind", NETWORKS)
    def test_no_value_is_looked_at(self, kind, members):
        """Meta and fake tensors pass."""
        real, law = network(kind, members=members), network(kind, members=members).to("meta")
        values = [torch.empty(4, 2, 3, device="meta").requires_grad_() for _ in range(3)]
        with linearised(weights=True):
            outputs, made = derivatives(law, values)
        assert all(t.is_meta for t in (*outputs, *made)) and outputs[0].shape == (4, 2, 3)
        with FakeTensorMode(allow_non_fake_inputs=True), linearised(weights=True):
            outputs, made = derivatives(real, inputs((4, 2, 3)))
        assert outputs[0].shape == (4, 2, 3)
