"""Laws: derivatives, finiteness beyond the physical range, limits, monotonicity, members, partition, slopes."""

from dataclasses import replace

import pytest
import torch
from tables import CASES, LAWS, MODELS, SCALE, amplify, name_of, shake, weather

from udehydro import (
    ATMOSPHERE,
    Balance,
    Fraction,
    Head,
    Multiplier,
    NeuralLaw,
    Positive,
    SharedNetwork,
    StructureError,
    simulate,
)
from udehydro.laws import excess, limiter, saturation, switch
from udehydro.models import exphydro, exphydro_mended, linear, m100
from udehydro.simulate import pose
from udehydro.solvers import Stepping, newton

FORMULAS = [(s, i) for s in (exphydro, exphydro_mended, linear) for i in (*s.quantities, *s.fluxes)]
VALUES = {
    "snow": (8.0, 35.0),
    "soil": (120.0, 251.3),
    "storage": (10.0, 40.0),
    "prcp": (0.5, 7.0),
    "temp": (-4.1, 6.3),
    "dayl": (9.0, 14.0),
    "k": (0.1, 0.6),
    "width": (0.2, 0.5),
    "tau": (1.0, 0.4),
    **MODELS[2].theta,
    "pet": (0.4, 3.0),
    "snow_fraction": (0.2, 0.9),
    "melt_potential": (2.0, 11.0),
    "melting": (0.3, 0.9),
    "full": (0.1, 0.8),
    "wet": (0.9, 0.6),
}
"""Two points away from every kink, for what a law may read."""


def inputs_of(law, *more) -> list[torch.Tensor]:
    from udehydro.structure import reads

    return [torch.tensor(VALUES[n], requires_grad=True) for n in (*reads(law), *more)]


@pytest.mark.parametrize("structure, item", FORMULAS, ids=lambda x: x.name)
def test_gradcheck_of_every_formula(structure, item):
    """First and second derivatives against differences, torch's tolerances (1e-5 relative at eps 1e-6)."""
    inputs = inputs_of(item.law)
    assert torch.autograd.gradcheck(item.law, inputs)
    if item.law(*inputs).grad_fn is not None:
        assert torch.autograd.gradgradcheck(item.law, inputs, gen_non_contig_grad_outputs=False)


OUTPUTS = {
    "Positive": (Positive(0.3), ()),
    "Positive of dayl": (Positive(0.1, "dayl"), ("dayl",)),
    "Fraction": (Fraction(), ()),
    "Fraction of pet": (Fraction("pet"), ("pet",)),
    "Multiplier": (Multiplier(3.0), ("pet",)),
}


@pytest.mark.parametrize("signs", [{}, {"increasing": ("soil",), "decreasing": ("temp",)}], ids=["free", "monotone"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_gradcheck_of_every_neural_output(name, signs):
    """With respect to inputs and weights."""
    output, of = OUTPUTS[name]
    law = NeuralLaw("soil", "temp", output=output, hidden=(3, 3), scale=SCALE, tau=None, seed=0, **signs)
    shake(law, 1)
    weights = list(law.parameters())
    inputs = [torch.tensor(VALUES[n], requires_grad=True) for n in ("soil", "temp", *of)]

    def evaluate(*values):
        named = dict(zip([n for n, _ in law.named_parameters()], values[len(inputs) :], strict=True))
        return torch.func.functional_call(law, named, values[: len(inputs)])

    assert torch.autograd.gradcheck(evaluate, [*inputs, *weights])


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_finite_beyond_the_physical_range(case):
    """Iterates visit S < 0 and S > capacity: rates and derivatives are finite for S in [-100, 10 x capacity] mm."""
    for seed, gain in ((0, 1.0), (1, 5.0)):
        model, record = case.build(seed, gain), weather(4)
        theta = {n: v.clone().requires_grad_() for n, v in case.parameters(model).items()}
        problem = pose(model, record, theta)
        grids = [torch.linspace(-100.0, 10.0 * case.capacity[n], 61) for n in model.store_names]
        grids = [
            torch.cat([g, torch.tensor([0.0, case.capacity[n]])]) for g, n in zip(grids, case.capacity, strict=True)
        ]
        if len(grids) <= 2:
            points = torch.stack([p.flatten() for p in torch.meshgrid(*grids, indexing="ij")])
        else:  # too many combinations: every store visits all its values, in an order of its own
            generator = torch.Generator().manual_seed(seed)
            points = torch.stack([g[torch.randint(len(g), (4000,), generator=generator)] for g in grids])
        for k in range(4):
            forcing, parameters = problem.at(k)
            state = points.unsqueeze(-1).expand(-1, -1, 2).clone().requires_grad_()
            rates = newton.rates(model, (forcing, parameters), state)
            assert bool(rates.isfinite().all())
            leaves = [state, *theta.values(), *model.parameters()]
            found = torch.autograd.grad(rates.sum(), leaves, allow_unused=True, retain_graph=True)
            assert all(bool(g.isfinite().all()) for g in found if g is not None)


class TestSmooth:
    x = torch.arange(-500, 501).double() / 10.0

    def test_switch_is_a_partition(self):
        assert torch.equal(switch(self.x) + switch(-self.x), torch.ones_like(self.x))

    def test_limiter(self):
        """Below the potential the store drains with tau; at zero nothing; below zero it refills."""
        rate = limiter(self.x, torch.tensor(5.0), 2.0)
        assert bool((rate <= 5.0).all()) and rate[500].item() == 0.0
        assert torch.equal(rate[:500], self.x[:500] / 2.0)

    def test_excess_and_saturation(self):
        assert torch.equal(excess(self.x, 10.0) + torch.minimum(self.x, torch.tensor(10.0)), self.x)
        share = saturation(self.x, 20.0)
        assert share.min() == 0.0 and share.max() == 1.0


class TestNeuralLaw:
    @pytest.mark.parametrize("output", [Positive(0.5), Positive(0.1, "dayl"), Fraction("pet")], ids=str)
    @pytest.mark.parametrize("seed", range(3))
    def test_vanishes_with_its_source(self, output, seed):
        """At zero storage the flux is zero, below it the store refills, and it never takes more than S / tau."""
        law = amplify(NeuralLaw("soil", "temp", output=output, scale=SCALE, tau=0.5, seed=seed), 4.0)
        model, record = Balance(exphydro_mended, et=law), weather(3)
        problem = pose(model, record, MODELS[2].parameters(model))
        soil = torch.tensor([0.0, -3.0, 0.2, 5.0]).unsqueeze(-1).expand(-1, 2)
        et = model.fluxes((soil, soil), *problem.at(0))[3]
        assert bool((et[0] == 0.0).all()) and bool((et[1] < 0.0).all())
        assert bool((et <= soil / 0.5).all())

    @pytest.mark.parametrize("name", OUTPUTS)
    def test_bounds(self, name):
        """Sign and bound of each output type, for networks with large weights."""
        output, of = OUTPUTS[name]
        law = amplify(NeuralLaw("soil", "temp", output=output, scale=SCALE, tau=None, seed=0), 10.0)
        shake(law, 2, 3.0)
        soil, temp = torch.meshgrid(torch.linspace(-100, 4000, 50), torch.linspace(-30, 40, 20), indexing="ij")
        base = [torch.full_like(soil, 2.5) for _ in of]
        rate = law(soil, temp, *base)
        assert bool((rate >= 0.0).all())
        if isinstance(output, Fraction):
            assert bool((rate <= (2.5 if of else 1.0)).all())
        if isinstance(output, Multiplier):
            assert bool((rate <= 2.5 * 3.0 * (1 + 1e-12)).all()) and bool((rate >= 2.5 / 3.0 * (1 - 1e-12)).all())

    @pytest.mark.parametrize("name", OUTPUTS)
    def test_inverse(self, name):
        """``inverse`` undoes the output where it is not at its floor or bound: 1e-9."""
        output, of = OUTPUTS[name]
        g = torch.linspace(-2.0, 3.0, 11)
        base = [torch.full_like(g, 2.0) for _ in of]
        assert torch.allclose(output.inverse(output(g, *base), *base), g, atol=1e-9)

    def test_a_multiplier_that_returns_zero_is_the_formula(self):
        """Bit for bit: exp(0) is one."""
        record, case = weather(12), MODELS[2]
        plain = case.build()
        for name, inputs in (("et", ("soil", "temp")), ("melt", ("snow", "prcp")), ("pet", ("temp",))):
            hybrid = Balance(exphydro_mended, **{name: NeuralLaw(*inputs, output=Multiplier(), seed=3)})
            a, b = (simulate(m, record, theta=case.parameters(m), storage0=case.start()) for m in (plain, hybrid))
            assert torch.equal(a.storage, b.storage) and torch.equal(a.volume, b.volume)

    @pytest.mark.parametrize("seed", range(20))
    @pytest.mark.parametrize("output", [Positive(), Fraction(), Multiplier()], ids=str)
    def test_monotone_inputs(self, output, seed):
        """Over random weights, far outside the scales too; the free input is not monotone in some of them."""
        law = NeuralLaw(
            "snow", "soil", "temp", output=output, hidden=(8, 8), increasing=("snow",), decreasing=("temp",), tau=None
        )
        shake(law, seed, 1.5)
        x = torch.linspace(-20.0, 20.0, 401)
        others = torch.randn(3, 30, 1, generator=torch.Generator().manual_seed(seed)) * 3.0
        more = [torch.ones(30, 1)] if isinstance(output, Multiplier) else []
        rising = law(x.expand(30, -1), others[1], others[2], *more)
        falling = law(others[0], others[1], x.expand(30, -1), *more)
        assert bool((rising.diff(dim=1) >= 0.0).all())
        assert bool((falling.diff(dim=1) <= 0.0).all())

    def test_an_input_that_is_not_named_stays_free(self):
        law = shake(NeuralLaw("a", "b", increasing=("a",), tau=None, seed=0), 1, 1.5)
        rate = law(torch.zeros(401), torch.linspace(-5, 5, 401)).diff()
        assert bool((rate > 0).any()) and bool((rate < 0).any())

    def test_scales_travel_with_the_weights(self):
        law = NeuralLaw("soil", "temp", scale={"soil": (200.0, 50.0)}, seed=0)
        law.standardise({"temp": torch.tensor([1.0, 3.0]), "unrelated": (0.0, 1.0)})
        assert law.centre.tolist() == [200.0, 2.0]
        assert law.spread.tolist() == pytest.approx([50.0, 2.0**0.5])
        other = NeuralLaw("soil", "temp", seed=1)
        other.load_state_dict(law.state_dict())
        x = [torch.tensor([180.0]), torch.tensor([4.0]), torch.tensor([99.0])]
        assert torch.equal(other(*x), law(*x))

    def test_seed(self):
        a, b, c = (NeuralLaw("soil", seed=s) for s in (1, 1, 2))
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
        assert not torch.equal(a.net.weights[0], c.net.weights[0])

    def test_double_precision_by_default(self):
        torch.set_default_dtype(torch.float32)
        assert {p.dtype for p in NeuralLaw("soil").parameters()} == {torch.float64}

    @pytest.mark.parametrize(
        "make, message",
        [
            (lambda: NeuralLaw(), "needs at least one input name"),
            (lambda: NeuralLaw("soil", increasing=("snow",)), r"Monotone in \['snow'\], which the law does not read"),
            (lambda: Multiplier(1.0), r"Multiplier\(limit=1.0\) must exceed 1"),
        ],
    )
    def test_errors(self, make, message):
        with pytest.raises(StructureError, match=message):
            make()


class TestMembers:
    @pytest.mark.parametrize("output", [Positive(0.3), Fraction(), Multiplier()], ids=str)
    @pytest.mark.parametrize("signs", [{}, {"increasing": ("soil",)}], ids=["free", "monotone"])
    def test_together_equals_each_alone(self, output, signs):
        """1e-14: batched and single products may sum in another order."""
        together = NeuralLaw("soil", "temp", output=output, members=4, tau=None, scale=SCALE, **signs)
        shake(together, 0)
        soil, temp = torch.randn(5, 4, 3) * 50 + 200, torch.randn(5, 4, 3)
        more = [torch.full((5, 4, 3), 2.0)] if isinstance(output, Multiplier) else []
        rates = together(soil, temp, *more)
        assert rates.shape == (5, 4, 3)
        for i in range(4):
            alone = NeuralLaw("soil", "temp", output=output, tau=None, scale=SCALE, **signs)
            with torch.no_grad():
                for w, of in zip(alone.parameters(), together.parameters(), strict=True):
                    w.copy_(of[i].reshape(w.shape))
            expected = alone(soil[:, i], temp[:, i], *(m[:, i] for m in more))
            assert torch.allclose(rates[:, i], expected, rtol=1e-14, atol=1e-14)

    def test_a_member_does_not_see_the_others(self):
        """Simulated together, member 1 with other weights leaves member 0 bit for bit."""
        model = Balance(exphydro_mended, et=NeuralLaw("soil", "temp", members=2, scale=SCALE, seed=0))
        record, case = weather(8).with_members(2), MODELS[2]
        options = {"theta": case.parameters(model), "storage0": case.start(), "solver": Stepping()}
        before = simulate(model, record, **options).storage
        with torch.no_grad():
            for w in model.parameters():
                w[1] += 0.5
        after = simulate(model, record, **options).storage
        assert torch.equal(before[:, 0], after[:, 0]) and not torch.equal(before[:, 1], after[:, 1])


class TestPartition:
    @pytest.mark.parametrize("seed", range(3))
    def test_snow_and_rain_are_the_precipitation(self, seed):
        """M100: a network partitions, and no drop is lost or made; 1e-12 relative."""
        model, record = m100(seed=seed), weather(10)
        shake(model, seed, 0.3)
        run = simulate(model, record, theta=MODELS[2].parameters(model), storage0=MODELS[2].start())
        total = run.rate("snowfall") + run.rate("rainfall")
        assert torch.allclose(total, record.values["prcp"], rtol=1e-12, atol=1e-12)
        assert bool((run.rate("snowfall") >= 0).all()) and bool((run.rate("rainfall") >= 0).all())

    @pytest.mark.parametrize("case", CASES, ids=name_of)
    def test_discharge_is_the_volume_that_left(self, case):
        """Over the record: precipitation = discharge + other net outflow + storage change; 1e-9 mm."""
        model, record = case.build(1, 1.0), weather(10)
        with torch.no_grad():
            run = simulate(model, record, theta=case.parameters(model), storage0=case.start())
        out = (run.discharge * record.days.unsqueeze(1)).sum(0)
        for i, f in enumerate(model.structure.fluxes):
            lost = f.sink in (ATMOSPHERE, *model.structure.boundaries)
            gained = f.source in model.structure.boundaries
            out = out + (lost - gained) * run.volume[..., i].sum(0)
        change = (run.storage[-1] - run.storage[0]).sum(-1)
        assert torch.allclose(record.values["prcp"].sum(0), out + change, atol=1e-9)


def slopes(model, case, basins: int = 40):
    """Central differences of every flux with respect to every store on a grid, also outside the physical range."""
    generator = torch.Generator().manual_seed(0)

    def draw(low, high):
        return low + (high - low) * torch.rand(basins, generator=generator)

    theta = {n: draw(r.low, r.high) for n, r in model.structure.parameters.items() if n in model.parameter_names}
    record = weather(6, basins, seed=2)
    problem = pose(model, record, theta)
    smax = theta.get("smax", torch.full((basins,), 100.0))
    shares = torch.cat([torch.linspace(-0.5, 10.0, 80), torch.linspace(0.9, 1.1, 41), torch.linspace(-0.01, 0.01, 21)])
    stores = [shares.unsqueeze(1) * smax for _ in model.store_names]
    for k in range(6):
        forcing, parameters = problem.at(k)
        for j in range(len(stores)):
            h = 1e-4 * smax
            up = model.fluxes([s + h * (i == j) for i, s in enumerate(stores)], forcing, parameters)
            down = model.fluxes([s - h * (i == j) for i, s in enumerate(stores)], forcing, parameters)
            for flux, high, low in zip(model.structure.fluxes, up, down, strict=True):
                slope = ((high - low) / (2 * h)).expand(len(shares), basins)
                yield flux, model.store_names[j], slope


def broken_slopes(model, case) -> int:
    """Points at which an outflow falls with its donor or rises with its receiver, beyond round-off (1e-9 per day)."""
    count = 0
    for flux, store, slope in slopes(model, case):
        if store == flux.source:
            count += int((slope < -1e-9).sum())
        if store == flux.sink:
            count += int((slope > 1e-9).sum())
    return count


class TestSlopeRule:
    def test_mended(self):
        """No outflow falls with its donor or rises with its receiver, anywhere on the grid, over the whole ranges."""
        assert broken_slopes(Balance(exphydro_mended), MODELS[2]) == 0

    def test_linear(self):
        assert broken_slopes(Balance(linear), MODELS[0]) == 0

    def test_published(self):
        """As published it breaks the rule (overflow below capacity, the switches): the reason for the mended one."""
        assert broken_slopes(Balance(exphydro), MODELS[1]) > 0

    def test_a_network_that_rises_with_its_source(self):
        for seed in range(3):
            law = shake(NeuralLaw("soil", "temp", increasing=("soil",), scale=SCALE), seed, 1.0)
            assert broken_slopes(Balance(exphydro_mended, et=law), MODELS[2]) == 0


class TestShared:
    def test_heads(self):
        """A head frames one output; the network is evaluated once for all of them."""
        calls = []
        net = SharedNetwork("soil", "temp", outputs=("a", "b"), hidden=(4,), seed=0)
        net.register_forward_hook(lambda *args: calls.append(1))
        model = Balance(exphydro_mended, net=net, et=Head("a", Fraction("pet")), discharge=Head("b", tau=2.0))
        problem = pose(model, weather(2), MODELS[2].parameters(model))
        stores = (torch.tensor([3.0, 0.0]), torch.tensor([40.0, 0.0]))
        named = model.named(stores, *problem.at(0))
        assert len(calls) == 1
        a, b = net(stores[1], problem.at(0)[0][1])
        share = torch.sigmoid(a) * named["pet"]
        assert torch.equal(named["et"], torch.minimum(stores[1] / 1.0, share))
        assert torch.equal(named["discharge"], torch.minimum(stores[1] / 2.0, torch.nn.functional.softplus(b)))

    def test_a_law_of_a_flux_from_the_atmosphere_has_no_limiter(self):
        """There is no store that could empty."""
        model = Balance(exphydro_mended, snowfall=NeuralLaw("temp", "prcp"))
        record = weather(2)
        record = replace(record, values={n: v for n, v in record.values.items()})
        problem = pose(model, record, MODELS[2].parameters(model))
        rate = model.named((torch.zeros(2), torch.zeros(2)), *problem.at(0))["snowfall"]
        assert bool((rate > 0).all())


def test_the_table_covers_every_output_type():
    used = {type(i.output) for c in LAWS for i in c.build(0, 1.0).laws.values()}
    assert used == {Positive, Fraction, Multiplier}
