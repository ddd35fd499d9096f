"""The graph of a model: every error names the culprit and the alternatives; swaps, merges, parameters by name."""

from dataclasses import replace

import pytest
import torch
from tables import MODELS, weather

from udehydro import (
    ATMOSPHERE,
    OUTLET,
    Balance,
    Flux,
    Multiplier,
    NeuralLaw,
    Positive,
    Quantity,
    Range,
    SharedNetwork,
    Structure,
    StructureError,
    flux,
    quantity,
    simulate,
)
from udehydro.models import exphydro, exphydro_mended, linear, m100
from udehydro.simulate import pose
from udehydro.structure import reads


def rain(prcp):
    return prcp


def outflow(storage, k):
    return k * storage


RAIN, OUTFLOW = Flux("rain", ATMOSPHERE, "storage", rain), Flux("outflow", "storage", OUTLET, outflow)


def reservoir(**changes) -> Structure:
    """The linear reservoir with something changed."""
    given = dict(
        name="mine",
        stores={"storage": "mm"},
        forcings={"prcp": "mm/d"},
        parameters={"k": Range(0.001, 1.0, "1/d")},
        fluxes=(RAIN, OUTFLOW),
    )
    return Structure(**{**given, **changes})


class TestErrors:
    @pytest.mark.parametrize(
        "changes, message",
        [
            ({"stores": {"storage": "mm", "1st": "mm"}}, "store name '1st' of model 'mine' is not a Python identifier"),
            ({"forcings": {"prcp": "mm/d", "k": "mm/d"}}, "uses 'k' as forcing and as parameter: rename one"),
            ({"stores": {"storage": "mm", "outlet": "mm"}}, "uses 'outlet' as store and as boundary"),
            ({"fluxes": (RAIN, OUTFLOW, OUTFLOW)}, "uses 'outflow' as flux and as flux"),
            (
                {"parameters": {"k": (0.0, 1.0)}},
                r"Parameter 'k' needs a Range\(low, high, unit, default\), got \(0.0, 1.0\)",
            ),
            ({"stores": {}}, "needs at least one store and one flux"),
            ({"fluxes": ()}, "needs at least one store and one flux"),
            (
                {"fluxes": (RAIN, replace(OUTFLOW, source="storge"))},
                "Flux 'outflow' has unknown source 'storge'. Did you mean 'storage'.*storage, atmosphere, outlet",
            ),
            (
                {"fluxes": (RAIN, replace(OUTFLOW, sink="sea"))},
                "Flux 'outflow' has unknown sink 'sea'. Known: storage,",
            ),
            ({"fluxes": (RAIN, replace(OUTFLOW, sink="storage"))}, "leaves and enters 'storage': it moves nothing"),
            (
                {"stores": {"storage": "mm", "ice": "mm"}},
                "No flux joins store 'ice' of model 'mine': remove it or join it",
            ),
            (
                {"groups": {"discharge": ("outflw",)}},
                "Group 'discharge' lists unknown flux 'outflw'. Did you mean 'outflow'.*Known: rain, outflow",
            ),
            (
                {"parameters": {"kk": Range(0.0, 1.0, "1/d")}},
                "Flux 'outflow' reads unknown name 'k'. Did you mean 'kk'.*Known: storage, prcp, kk",
            ),
            (
                {"fluxes": (replace(RAIN, law=lambda outflow: outflow), OUTFLOW)},
                "Flux 'rain' reads flux 'outflow', which is evaluated later: reorder them",
            ),
            (
                {"quantities": (Quantity("a", lambda b: b, ("a",)), Quantity("b", lambda prcp: prcp, ("b",)))},
                "Quantity 'a' reads quantity 'b', which is evaluated later",
            ),
            (
                {"fluxes": (replace(RAIN, law=NeuralLaw("prcp", output=Multiplier())), OUTFLOW)},
                "Flux 'rain' asks for the formula it replaces, but it replaces none",
            ),
            ({"fluxes": (replace(RAIN, law=lambda *a: a), OUTFLOW)}, r"takes \*args or \*\*kwargs.*Name its arguments"),
        ],
    )
    def test_on_construction(self, changes, message):
        with pytest.raises(StructureError, match=message):
            reservoir(**changes)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ((1.0, 1.0, "mm"), "finite low < high, got low=1.0, high=1.0"),
            ((0.0, float("inf"), "mm"), "finite low < high"),
            ((0.0, 1.0, "mm", 2.0), r"Default 2.0 lies outside its range \[0.0, 1.0\] mm"),
            ((float("nan"), 1.0, "mm"), "finite low < high"),
        ],
    )
    def test_of_a_range(self, arguments, message):
        with pytest.raises(StructureError, match=message):
            Range(*arguments)

    @pytest.mark.parametrize(
        "act, message",
        [
            (lambda s: s.flux("bseflow"), "has no flux 'bseflow'. Did you mean 'baseflow'"),
            (lambda s: s.without("melting"), "'exphydro' has no flux 'melting'. Did you mean 'melt'"),
            (lambda s: s.given("pett", "mm/d"), "'pett' is no quantity. Did you mean 'pet'"),
            (lambda s: s.replace(evap=rain), "no flux, quantity or group 'evap' to give a law to"),
            (lambda s: s.replace(et=3.0), "law given for 'et' is not callable: 3.0"),
            (lambda s: s.replace(et=lambda sol: sol), "Flux 'et' reads unknown name 'sol'. Did you mean 'soil'"),
            (lambda s: s.replace(et=NeuralLaw("soil", "tmp")), "Flux 'et' reads unknown name 'tmp'"),
            (lambda s: s.replace(melt=lambda overflow: overflow), "reads flux 'overflow', which is evaluated later"),
            (
                lambda s: s.replace(pet=SharedNetwork("soil", outputs=("a", "b"))),
                "Quantity 'pet' has the output.s. pet, the law given for it returns 2 .a, b.. Install that law under",
            ),
            (
                lambda s: replace(s, groups={"water": ("snowfall", "rainfall")}).replace(water=rain),
                "Group 'water' joins fluxes between different nodes .snowfall: atmosphere -> snow,",
            ),
        ],
    )
    def test_of_a_change(self, act, message):
        with pytest.raises(StructureError, match=message):
            act(exphydro)

    def test_of_a_group_whose_members_read_each_other(self):
        @flux("storage", OUTLET)
        def quick(storage, outflow):
            return 0.1 * outflow

        s = reservoir(fluxes=(RAIN, OUTFLOW, quick))
        with pytest.raises(StructureError, match=r"'quick' reads \['outflow'\] of its own group 'discharge'"):
            s.replace(discharge=NeuralLaw("storage"))


def test_a_structure_keeps_its_own_copy():
    stores = {"storage": "mm"}
    mine = reservoir(stores=stores)
    stores["ice"] = "mm"
    assert list(mine.stores) == ["storage"]


def test_reads():
    assert reads(outflow) == ("storage", "k")
    assert reads(NeuralLaw("a", "b", output=Positive(1.0, "c"), tau=None)) == ("a", "b", "c")

    class Plain(torch.nn.Module):
        def forward(self, x, y):
            return x + y

    assert reads(Plain()) == ("x", "y")


def test_decorators():
    @flux(source="a", sink="b", signed=True)
    def exchange(a, b):
        return a - b

    @quantity
    def level(a):
        return a

    assert (exchange.name, exchange.source, exchange.sink, exchange.signed) == ("exchange", "a", "b", True)
    assert (level.name, level.outputs) == ("level", ("level",))


class TestWithout:
    def test_flux_group_and_parameters_go(self):
        less = exphydro_mended.without("overflow")
        assert [f.name for f in less.fluxes] == ["snowfall", "rainfall", "melt", "et", "baseflow"]
        assert less.groups["discharge"] == ("baseflow",)
        assert "overflow" in [f.name for f in exphydro_mended.fluxes]  # the original is untouched

    def test_parameters_no_longer_read_are_not_required(self):
        assert "qmax" not in Balance(exphydro_mended.without("baseflow")).parameter_names

    def test_an_orphaned_store_is_an_error(self):
        with pytest.raises(StructureError, match="No flux joins store 'snow'"):
            exphydro_mended.without("snowfall", "melt")


class TestGiven:
    def test_a_quantity_becomes_a_forcing(self):
        """PET from a file gives the numbers that PET computed gives."""
        record = weather(5)
        case = MODELS[2]
        model = Balance(exphydro_mended.given("pet", "mm/d"))
        assert "pet" in model.forcing_names and "dayl" not in model.forcing_names
        plain = case.build()
        theta = case.parameters(plain)
        values = pose(plain, record, theta).forcing
        pet = values[len(plain.forcing_names)]
        given = replace(record, values={**record.values, "pet": pet})
        a = simulate(plain, record, theta=theta, storage0=case.start())
        b = simulate(model, given, theta=theta, storage0=case.start())
        assert torch.equal(a.storage, b.storage)


class TestReplace:
    def test_a_parameter_that_no_law_reads_is_dropped(self):
        hybrid = Balance(exphydro_mended, melt=NeuralLaw("snow", "temp"))
        dropped = set(Balance(exphydro_mended).parameter_names) - set(hybrid.parameter_names)
        assert dropped == {"ddf", "tmax"}

    def test_a_multiplier_keeps_what_its_formula_reads(self):
        hybrid = Balance(exphydro_mended, melt=NeuralLaw("snow", "temp", output=Multiplier()))
        assert hybrid.parameter_names == Balance(exphydro_mended).parameter_names

    def test_a_forcing_that_no_law_reads_is_not_needed(self):
        """Nor a quantity that none reads: PET is not evaluated once the law of evapotranspiration does without."""
        assert "dayl" not in Balance(exphydro, et=NeuralLaw("soil", "temp")).forcing_names
        assert "ddf" not in Balance(exphydro, melt=NeuralLaw("snow", "temp")).parameter_names

    def test_a_group_becomes_one_flux(self):
        merged = Balance(exphydro, discharge=NeuralLaw("soil", "prcp"))
        assert merged.flux_names == ("snowfall", "rainfall", "melt", "et", "discharge")
        assert "discharge" not in merged.structure.groups
        record = weather(3)
        run = simulate(merged, record, storage0={"snow": 1.0, "soil": 100.0})
        assert torch.allclose(run.discharge, run.rate("discharge"), rtol=1e-15)

    @pytest.mark.parametrize("structure", [exphydro, exphydro_mended], ids=lambda s: s.name)
    def test_a_multiplier_of_a_group_starts_as_the_sum_of_its_formulas(self, structure):
        """1e-15 relative: one rounding, of the factor exp(0) = 1 there is none."""
        merged = Balance(structure, discharge=NeuralLaw("soil", output=Multiplier()))
        record = weather(8)
        case = MODELS[2]
        a = simulate(Balance(structure), record, theta=case.parameters(Balance(structure)), storage0=case.start())
        b = simulate(merged, record, theta=case.parameters(merged), storage0=case.start())
        # 1e-12: the balance adds two volumes to the store one after the other or as one
        assert torch.allclose(a.storage, b.storage, rtol=1e-12, atol=1e-12)
        assert torch.allclose(a.discharge, b.discharge, rtol=1e-12, atol=1e-12)

    def test_a_group_in_another_group(self):
        s = replace(exphydro, groups={"discharge": ("baseflow", "overflow"), "loss": ("et", "baseflow", "overflow")})
        assert s.replace(discharge=NeuralLaw("soil")).groups["loss"] == ("et", "discharge")

    def test_a_network_with_several_outputs_is_inserted_before_its_readers(self):
        model = m100()
        assert model.structure.quantities[0].name == "network"
        assert set(model.structure.quantities[0].outputs) == {"g_snow", "g_melt", "g_et", "g_discharge"}

    def test_outputs_that_take_a_known_name(self):
        with pytest.raises(StructureError, match="uses 'soil' as store and as quantity"):
            exphydro.replace(network=SharedNetwork("soil", outputs=("soil", "b")))

    def test_a_law_twice_replaced_multiplies_the_last(self):
        once = exphydro_mended.replace(et=NeuralLaw("soil"))
        twice = once.replace(et=NeuralLaw("soil", output=Multiplier()))
        assert twice.flux("et").formula is once.flux("et").law

    def test_module_weights_are_those_of_the_balance(self):
        law = NeuralLaw("soil")
        model = Balance(exphydro, et=law)
        assert {id(p) for p in model.parameters()} == {id(p) for p in law.parameters()}


class TestBalance:
    def test_incidence(self):
        expected = [[1, 0], [0, 1], [-1, 1], [0, -1], [0, -1], [0, -1]]
        assert Balance(exphydro).incidence.tolist() == expected

    def test_tendency_is_rates_times_incidence(self):
        model = Balance(exphydro)
        rates = torch.randn(6, 5)
        assert torch.allclose(torch.stack(model.tendency(rates.unbind(0))), model.incidence.T @ rates, rtol=1e-14)

    def test_dependence(self):
        """Snow does not see soil; soil sees both. A network that reads both couples them."""
        assert Balance(exphydro).dependence == ((True, False), (True, True))
        coupled = Balance(exphydro, melt=NeuralLaw("snow", "soil", "temp"))
        assert coupled.dependence == ((True, True), (True, True))

    def test_dependence_covers_the_jacobian(self):
        """No entry of the Jacobian is nonzero outside the declared sparsity, for every model."""
        from udehydro.solvers import newton

        for case in MODELS:
            model, record = case.build(1, 2.0), weather(3)
            problem = pose(model, record, case.parameters(model))
            state = torch.stack([torch.tensor(v) for v in case.storage0.values()])
            state = state.unsqueeze(1).expand(-1, 3, -1) + 3.0
            _, jacobian = newton.rates_and_jacobian(model, problem.at(slice(0, 3)), state)
            for i, row in enumerate(model.dependence):
                for j, may in enumerate(row):
                    assert may or not bool((jacobian[i, j] != 0).any())

    def test_named(self):
        model, record = Balance(exphydro), weather(2)
        problem = pose(model, record)
        stores = (torch.full((2,), 5.0), torch.full((2,), 300.0))
        named = model.named(stores, *problem.at(0))
        assert {"snow", "prcp", "smax", "pet", "melt", "discharge"} <= set(named)
        assert torch.equal(named["discharge"], named["baseflow"] + named["overflow"])

    def test_state_dict_holds_the_weights_alone(self):
        assert list(Balance(exphydro).state_dict()) == []


class TestTheta:
    model = Balance(exphydro_mended)
    record = weather(6, 2)
    start = {"snow": 0.0, "soil": 100.0}

    def full(self, **changes):
        return {**{n: torch.tensor([v[0], v[1]]) for n, v in MODELS[2].theta.items()}, **changes}

    def run(self, theta):
        return simulate(self.model, self.record, theta=theta, storage0=self.start)

    def test_defaults(self):
        a = self.run(None)
        b = self.run({n: r.default for n, r in exphydro_mended.parameters.items()})
        assert torch.equal(a.storage, b.storage)

    def test_a_fixed_parameter_may_be_left_out(self):
        assert "tau" not in self.full()
        assert float(self.run(self.full()).theta["tau"]) == 1.0

    def test_unknown(self):
        with pytest.raises(StructureError, match="has no parameter 'smx'. Did you mean 'smax'.*Known: f, smax"):
            self.run(self.full(smx=1.0))

    def test_missing(self):
        theta = self.full()
        del theta["qmax"], theta["f"]
        with pytest.raises(StructureError, match=r"Parameter\(s\) f, qmax are missing; required: f, smax, qmax"):
            self.run(theta)

    def test_a_declared_parameter_that_no_law_reads_is_ignored(self):
        """Theta of the formula model can be handed to a hybrid as it is."""
        hybrid = Balance(exphydro_mended, melt=NeuralLaw("snow", "temp"))
        run = simulate(hybrid, self.record, theta=self.full(), storage0=self.start)
        assert "ddf" not in run.theta

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.tensor([1.0, float("nan")])])
    def test_not_finite(self, value):
        with pytest.raises(StructureError, match="Parameter 'ddf' is not finite: .*(nan|inf)"):
            self.run(self.full(ddf=value))

    @pytest.mark.parametrize(
        "shape",
        [(), (1,), (2,), (6, 2), (1, 2), (6, 1), (1, 1)],
    )
    def test_shapes_that_are_fine(self, shape):
        run = self.run(self.full(ddf=torch.full(shape, 2.5)))
        assert torch.equal(run.storage, self.run(self.full(ddf=2.5)).storage)

    @pytest.mark.parametrize("shape", [(3,), (5, 2), (6, 3), (6,), (6, 2, 1), (1, 6, 2)])
    def test_shapes_that_are_not(self, shape):
        with pytest.raises(StructureError, match=r"Parameter 'ddf' has shape .*6 intervals and batch \(2,\)"):
            self.run(self.full(ddf=torch.full(shape, 2.5)))

    def test_time_varying_values_apply_on_their_day(self):
        """A parameter that changes on day 3 changes nothing before."""
        daily = torch.full((6, 2), 2.5)
        daily[3:] = 4.0
        a, b = self.run(self.full(ddf=2.5)), self.run(self.full(ddf=daily))
        assert torch.equal(a.storage[:4], b.storage[:4])

    def test_time_varying_without_batch(self):
        """Without batch one dimension is time."""
        record = replace(self.record, values={n: v[:, 0] for n, v in self.record.values.items()}, basins=())
        theta = {n: v[0] for n, v in self.full().items()}
        simulate(self.model, record, theta={**theta, "ddf": torch.full((6,), 2.5)}, storage0=self.start)
        with pytest.raises(StructureError, match="Parameter 'ddf' has shape"):
            simulate(self.model, record, theta={**theta, "ddf": torch.full((5,), 2.5)}, storage0=self.start)

    def test_theta_units(self):
        assert self.model.theta_units()["ddf"] == "mm/d/K"


class TestStorage0:
    model, record = Balance(linear), weather(3, 2)

    @pytest.mark.parametrize(
        "given, message",
        [
            ({"soil": 1.0}, r"storage0 names \['soil'\], the stores are \['storage'\]"),
            (torch.zeros(2, 3), r"storage0 has shape \(2, 3\), needs \(2, 1\)"),
            (torch.zeros(1, 2, 1), "storage0 has shape"),
            (torch.zeros(3, 1), r"storage0 has shape \(3, 1\), needs \(2, 1\)"),
            (torch.tensor([[float("nan")], [1.0]]), "storage0 is not finite"),
            ({"storage": torch.zeros(3)}, r"[Ss]torage.*\(3,\)"),
        ],
    )
    def test_errors(self, given, message):
        with pytest.raises(StructureError, match=message):
            simulate(self.model, self.record, storage0=given)

    def test_broadcast(self):
        for given in (
            {"storage": 3.0},
            {"storage": torch.tensor([3.0, 3.0])},
            torch.tensor([3.0]),
            torch.full((2, 1), 3.0),
        ):
            assert simulate(self.model, self.record, storage0=given).storage[0].tolist() == [[3.0], [3.0]]


@pytest.mark.parametrize("output", [None, Multiplier()])
def test_a_network_cannot_be_the_formula_of_another(output):
    once = Balance(exphydro_mended, et=NeuralLaw("soil", output=output)).structure
    with pytest.raises(StructureError, match="et.*plain formula"):
        Balance(once, et=NeuralLaw("soil", output=Multiplier()))


def test_a_group_and_its_member_cannot_both_get_a_law():
    with pytest.raises(StructureError, match="'discharge' and its member 'baseflow' both get a law"):
        Balance(exphydro, baseflow=NeuralLaw("soil"), discharge=NeuralLaw("soil"))
