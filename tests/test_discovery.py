"""Discovery: libraries and their units, the model of all candidates, nomination, ranking, engines."""

import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from tables import weather
from toy import U0, lotka_volterra

from udehydro import Balance, ConfigError, Forcing, FormulaLaw, Range, SolverError, StructureError, simulate
from udehydro.discovery import (
    Library,
    Samples,
    Task,
    Term,
    Union,
    describe,
    discover,
    nominate,
    outflows,
    polynomials,
    products,
    sample,
    search,
    shares,
)
from udehydro.discovery.engines import Operon, PySINDy, thresholded
from udehydro.discovery.library import fits, renamed
from udehydro.discovery.search import ranked
from udehydro.models import exphydro_mended
from udehydro.solvers import RK4, Compiled
from udehydro.training import Gaussian, LeastSquares, Observed

FILLING = "saturation(soil, smax)"
FACTOR = Range(-10.0, 10.0, "1/d", 0.01)
RATES = Compiled(RK4, stability="ignore")
TIMES = np.linspace(0.0, 3.0, 31)
DEFAULTS = {n: r.default for n, r in exphydro_mended.parameters.items()}
STORAGE0 = {"snow": 0.0, "soil": 300.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def planted(law, values, inputs, noise=0.0, members=5, seed=0):
    """Samples of a law with members that differ by a share of its mean size."""
    spread = noise * values.abs().mean() * torch.randn(members, len(values), generator=generator(seed))
    return Samples(inputs, {law: values + spread}, {})


def states(points=80, seed=0):
    x, y = 0.1 + torch.rand(2, points, generator=generator(seed)) * torch.tensor([[2.0], [5.0]])
    return {"x": x, "y": y}


def fillings(points=200, seed=0):
    soil, pet = torch.rand(2, points, generator=generator(seed)) * torch.tensor([[500.0], [5.0]])
    return {"soil": soil, "pet": pet, "smax": torch.full((points,), 500.0)}


# Libraries


@pytest.mark.parametrize(("degree", "count"), [(1, 3), (2, 6), (3, 10), (5, 21)])
def test_polynomials_are_complete(degree, count):
    library = polynomials(("x", "y"), degree, FACTOR)
    assert len(library) == count and len({t.text for t in library.terms}) == count
    assert library.terms[0].text == "1" and all(t.coefficient == FACTOR and t.free == 1 for t in library.terms)
    assert len(polynomials(("x", "y"), degree, FACTOR, more=("sin(x)", "sin(y)"))) == count + 2


def test_laws_of_a_library():
    library = polynomials(("x", "y"), 2, FACTOR, most=2)
    found = list(library.subsets())
    assert found == [(i,) for i in range(6)] + list(combinations(range(6), 2))
    with pytest.raises(ConfigError):
        Library([], 1)
    with pytest.raises(ConfigError):
        Library(library.terms, 0)


def test_products_that_do_not_fit_are_dropped():
    rate = Range(0.001, 1.0, "1/d", 0.1)
    factors = [Term("pet"), Term("prcp"), Term("soil"), Term("1"), Term("soil", {}, rate), Term("k*soil", {"k": rate})]
    shapes = [Term(FILLING), Term(f"power({FILLING}, m)", {"m": Range(0.2, 8.0, "1")}), Term("soil"), Term("1")]
    library = products(exphydro_mended, "et", factors, shapes)
    by_factor = {"pet": 3, "prcp": 3, "soil": 0, "k*soil": 3}
    assert len(library) == 3 + 3 + 3 + 3
    for text, count in by_factor.items():
        plain = [t for t in library.terms if t.coefficient is None]
        assert sum(t.text.startswith(f"({text})") or t.text == text for t in plain) == count
    assert "pet" in [t.text for t in library.terms]  # times one
    power = next(t for t in library.terms if t.text == f"(k*soil)*(power({FILLING}, m))")
    assert set(power.constants) == {"k", "m"} and power.free == 2


def test_products_that_make_no_sense():
    with pytest.raises(ConfigError, match="both have a constant"):
        k = {"k": Range(0.1, 1.0, "1")}
        products(exphydro_mended, "et", [Term("k*pet", k)], [Term("k", k)])
    with pytest.raises(ConfigError, match="unit of 'et'"):
        products(exphydro_mended, "et", [Term("soil")], [Term(FILLING)])
    with pytest.raises(StructureError, match="sol"):  # a name that is not known is no matter of units
        products(exphydro_mended, "et", [Term("pet")], [Term("saturation(sol, smax)")])


@pytest.mark.parametrize(
    ("law", "library"), [("et", shares("pet", FILLING)), ("discharge", outflows(FILLING, Range(0.1, 100.0, "mm/d")))]
)
def test_laws_of_the_field_have_the_unit_of_their_flux(law, library):
    assert all(fits(exphydro_mended, law, t) for t in library.terms)
    assert not any(fits(exphydro_mended, law, replace(t, text=f"soil*({t.text})")) for t in library.terms)


def test_a_filling_may_be_any_expression():
    """It is put in brackets: 1 - s squared is not (1 - s) squared."""
    s = 0.4
    rate = Range(0.1, 100.0, "mm/d")
    pairs = [(outflows("1 - snow_fraction", rate), outflows(FILLING, rate))]
    pairs.append((shares("pet", "1 - snow_fraction"), shares("pet", FILLING)))
    for library, other in pairs:
        for ours, theirs in zip(library.terms, other.terms, strict=True):
            one, two = (FormulaLaw(t.text, t.constants) for t in (ours, theirs))
            given = {n: torch.tensor(r.default) for n, r in ours.constants.items()}
            given |= {"snow_fraction": torch.tensor(1 - s), "soil": torch.tensor(500 * s), "smax": torch.tensor(500.0),
                      "pet": torch.tensor(3.0)}  # fmt: skip
            values = [law(*(given[n] for n in law.reads)) for law in (one, two)]
            assert torch.allclose(*map(torch.as_tensor, values)), ours.text
    assert all(fits(exphydro_mended, "discharge", t) for t in outflows("soil/smax", Range(0.1, 9.0, "mm/d")).terms)


def test_a_term_that_cannot_be_is_named():
    good = Term(f"pet*{FILLING}")
    with pytest.raises(StructureError, match="The term 'soil' cannot be a law of 'et'"):
        Union(exphydro_mended, {"et": Library([good, Term("soil")])})
    with pytest.raises(StructureError, match="The term 'pet.sol' cannot be.*Did you mean 'soil'"):
        Union(exphydro_mended, {"et": Library([good, Term("pet*sol")])})
    hamon = Term("17.9*dayl*exp(17.3*temp/(temp + 237.3))/(temp + 273.2)", empirical=True)
    union = Union(exphydro_mended, {"et": Library([good, hamon])})
    assert union.laws(((1,),), union.values(((1,),)))["et"].empirical
    assert not union.laws(((0,),), union.values(((0,),)))["et"].empirical


def test_names_are_swapped_all_at_once():
    assert renamed("a*x + b", {"a": "b", "b": "a"}) == renamed("b*x + a", {})
    assert str(Term("x", {}, FACTOR)) == "c*x" and str(Term("x")) == "x"


# The model of all candidates


@pytest.fixture(scope="module")
def bucket():
    """Laws of evapotranspiration and discharge of a bucket, to be found."""
    torch.set_default_dtype(torch.float64)
    libraries = {"et": shares("pet", FILLING), "discharge": outflows(FILLING, Range(0.1, 100.0, "mm/d", 5.0))}
    return Union(exphydro_mended, libraries)


def run(model, values, forcing=None):
    theta = {n: values[n] for n in model.parameter_names}
    return simulate(model, weather(30, 1) if forcing is None else forcing, theta=theta, storage0=STORAGE0)


@pytest.mark.parametrize("candidate", [((0,), (0,)), ((1,), (2,)), ((4,), (6,)), ((8,), (4,)), ((5,), (5,))])
def test_a_candidate_is_its_own_formula(bucket, candidate):
    """In the model of all candidates, as formulas of its own, and as these with constants at their defaults."""
    values = DEFAULTS | bucket.values(candidate)
    moved = dict(zip(bucket.free(candidate), (0.9, 1.2, 0.8, 1.1), strict=False))
    values |= {n: values[n] * f for n, f in moved.items()}
    whole = run(bucket.model, values)
    laws = bucket.laws(candidate, values)
    own = Balance(exphydro_mended, **laws)
    single = run(own, {n: r.default for n, r in own.structure.parameters.items()})
    assert torch.allclose(whole.storage, single.storage, rtol=1e-9) and whole.rate("et").mean() > 0.01
    assert torch.allclose(whole.rate("discharge"), single.rate("discharge"), rtol=1e-6, atol=1e-12)
    assert sum(len(law.constants) for law in laws.values()) == len(bucket.free(candidate))
    assert describe(laws).startswith("et = ")


def test_absent_terms_are_zero(bucket):
    values = bucket.values(((0,), (0,)))
    assert values["et_0"] == 1.0 and values["et_1"] == 0.0 and values["discharge_0"] == 5.0
    assert bucket.free(((1,), (3,))) == ["et_1_m", "discharge_3", "discharge_3_f"]
    assert bucket.factors(((1,), (3,))) == ["discharge_3"]


def test_short_names_do_not_clash():
    """With what the model has, nor between laws and terms."""
    library = Library([Term("x*y", {}, FACTOR), Term("a*x", {"a": FACTOR}), Term("a*y", {"a": FACTOR})], 2)
    extra = replace(lotka_volterra, parameters={**lotka_volterra.parameters, "u_x_k": Range(0.0, 1.0, "1/d")})
    union = Union(extra, {"u_x": library, "u_y": library})
    candidate = ((1, 2), (0,))
    laws = union.laws(candidate, union.values(candidate))
    assert set(laws["u_x"].constants) == {"u_x_a", "u_x_a2"} and set(laws["u_y"].constants) == {"u_y_k"}
    assert set(union.laws(((0,), (0,)), union.values(((0,), (0,))))["u_x"].constants) == {"u_x_k2"}


def test_factors_below_zero():
    library = Library([Term("x*y", {}, Range(-5.0, -0.1, "1/d", -1.0))])
    union = Union(lotka_volterra, {"u_x": library})
    assert union.model.structure.parameters["u_x_0"].high == 0.0
    with pytest.raises(ConfigError, match="Say which laws"):
        Union(lotka_volterra, {})


# Samples


def test_samples_are_what_members_say_along_one_trajectory():
    members, forcing = 3, Forcing.clock(days=TIMES, batch=(3, 1))
    model, beta = Balance(lotka_volterra), torch.tensor([0.8, 0.9, 1.0])[:, None]
    theta = {n: r.default for n, r in lotka_volterra.parameters.items()} | {"beta": beta}
    sim = simulate(model, forcing, theta=theta, storage0=U0, solver=RATES)
    found = sample(model, sim, ("u_x", "u_y"), member=1)
    x, y = (sim.store(n)[:-1, 1, 0] for n in "xy")
    assert torch.equal(found.inputs["x"], x) and torch.equal(found.inputs["y"], y)
    assert found.learned["u_x"].shape == (members, 30)
    assert torch.allclose(found.learned["u_x"], -beta * x * y)
    assert torch.allclose(found.median("u_x"), -0.9 * x * y)
    assert found.support["x"][0] == float(x.min()) and found.support["x"][3] == float(x.max())
    assert found.support["x"][0] < found.support["x"][1] < found.support["x"][2] < found.support["x"][3]
    one = sample(model, simulate(model, Forcing.clock(days=TIMES), storage0=U0, solver=RATES), ("u_x",))
    assert one.learned["u_x"].shape == (1, 30)
    with pytest.raises(ConfigError, match="no flux or quantity 'u_z'"):
        sample(model, sim, ("u_z",))


def test_rare_states_are_kept():
    """Of a thousand intervals with ten wet ones, and a hundred points, most of the wet are drawn."""
    prcp = torch.full((1000, 1), 0.1)
    prcp[::100] = 50.0
    forcing = weather(1000, 1)
    forcing = replace(forcing, values={**forcing.values, "prcp": prcp})
    sim = simulate(Balance(exphydro_mended), forcing, storage0=STORAGE0)
    found = sample(Balance(exphydro_mended), sim, ("discharge",), points=100)
    flow = sim.rate("discharge")
    peaks = flow > 0.8 * flow.max()
    drawn = int((found.learned["discharge"] > 0.8 * flow.max()).sum())
    assert len(found.inputs["soil"]) == 100 and drawn > 3 * 0.1 * int(peaks.sum())
    again = sample(Balance(exphydro_mended), sim, ("discharge",), points=100)
    assert torch.equal(found.inputs["soil"], again.inputs["soil"])


def test_weights_follow_the_spread():
    values = torch.ones(5, 40)
    values[:, 20:] += torch.randn(5, 20, generator=generator())
    weights = Samples({}, {"u": values}, {}).weights("u")
    floor = 0.02 * values.median(0).values.abs().mean()
    assert torch.allclose(weights[:20], 1.0 / floor) and bool((weights[20:] < 10).all())
    assert torch.allclose(Samples({}, {"u": values[:1]}, {}).weights("u")[:20].std(), torch.tensor(0.0), atol=1e-9)


# Nomination


def test_the_planted_law_is_nominated_first():
    inputs, library = states(), polynomials(("x", "y"), 5, FACTOR, more=("sin(x)", "sin(y)"))
    found = nominate(planted("u", -0.9 * inputs["x"] * inputs["y"], inputs), "u", library, 4)
    assert [library.terms[j].text for j in found[0][0]] == ["x*y"]
    assert found[0][1] == {(4, ""): pytest.approx(-0.9)}
    assert [len(c) for c, _ in found] == [1] * 23 + [2] * 4
    two = planted("u", 0.5 * inputs["x"] - 0.2 * inputs["y"] ** 2, inputs)
    best = next(c for c, _ in nominate(two, "u", library, 4) if len(c) == 2)
    assert [library.terms[j].text for j in best] == ["x", "y**2"]


@pytest.mark.parametrize("j", range(8))
def test_shape_constants_are_fitted(j):
    """Of each law of evapotranspiration itself: it comes first, or as good as a relative that contains it."""
    library, inputs = shares("pet", FILLING), fillings()
    term = library.terms[j]
    constants = {n: 0.7 * r.default for n, r in term.constants.items()}
    law = FormulaLaw(term.text, term.constants)
    values = law(*({**inputs, **{n: torch.tensor(v) for n, v in constants.items()}}[n] for n in law.reads))
    found = nominate(planted("et", values, inputs), "et", library)
    place = [c for c, _ in found].index((j,))
    assert place <= 3 and {n: v for (_, n), v in found[place][1].items() if n} == pytest.approx(constants, rel=1e-3)


def test_weights_decide_what_is_nominated():
    """A region in which networks disagree does not."""
    inputs, library = states(), polynomials(("x", "y"), 2, FACTOR, most=1)
    right = -0.9 * inputs["x"] * inputs["y"]
    wild = inputs["x"] > 1.0
    values = right + torch.where(wild, 8.0 * torch.randn(5, 1, generator=generator(2)) + 10.0, 0.0)
    weighted = nominate(Samples(inputs, {"u": values}, {}), "u", library)
    assert library.terms[weighted[0][0][0]].text == "x*y"
    alike = values.median(0).values.expand(5, -1)
    assert library.terms[nominate(Samples(inputs, {"u": alike}, {}), "u", library)[0][0][0]].text != "x*y"


def test_a_term_that_is_not_finite_comes_last():
    inputs = states()
    inputs["x"][0] = 0.0
    library = Library([Term("1/x", {}, FACTOR), Term("y**a/x", {"a": Range(0.1, 2.0, "1")}), Term("y", {}, FACTOR)], 2)
    found = nominate(planted("u", 2.0 * inputs["y"], inputs), "u", library)
    assert found[0][0] == (2,) and found[0][1][2, ""] == pytest.approx(2.0)


# Search and decision


@pytest.fixture(scope="module")
def prey():
    """Samples, union and task: the interaction in the prey's equation, with 1 % noise."""
    torch.set_default_dtype(torch.float64)
    library = polynomials(("x", "y"), 2, FACTOR, most=2)
    model = Balance(lotka_volterra)
    sim = simulate(model, Forcing.clock(days=TIMES), storage0=U0, solver=RATES)
    sigma = 0.01 * sim.storage.mean(0)
    noisy = sim.storage + sigma * torch.randn(31, 2, generator=generator(4))
    observed = [Observed(n, noisy[:, i], Gaussian(float(sigma[i]))) for i, n in enumerate("xy")]
    given = {n: r.default for n, r in lotka_volterra.parameters.items()}
    task = Task(Forcing.clock(days=TIMES, batch=(1,)), observed, given | U0, ("x", "y"), solver=RATES)
    found = sample(model, sim, ("u_x",))
    learned = found.learned["u_x"] * (1.0 + 0.03 * torch.randn(5, 1, generator=generator(5)))
    return replace(found, learned={"u_x": learned}), Union(lotka_volterra, {"u_x": library}), task


def texts(result, index):
    (chosen,), (library,) = result.candidates[index], result.union.libraries.values()
    return [library.terms[j].text for j in chosen]


@pytest.fixture(scope="module")
def decided(prey):
    samples, union, task = prey
    return discover(union, None, task, samples=samples, keep=5)


def test_a_planted_law_is_found(decided):
    assert texts(decided, decided.chosen) == ["x*y"]
    (law,) = decided.laws(decided.chosen).values()
    assert law.text == "u_x_k*x*y" and law.constants["u_x_k"].default == pytest.approx(-0.9, rel=0.03)
    assert len(decided.candidates) == 6 + 5  # all single terms are few
    assert decided.terms == tuple(len(c[0]) for c in decided.candidates) == decided.constants
    assert torch.equal(decided.criterion, decided.criterion.sort().values)


def test_a_chosen_law_goes_back_into_the_model(decided, prey):
    values, task = decided.values(decided.chosen), prey[2]
    model = Balance(lotka_volterra, **decided.laws(decided.chosen))
    theta = {n: r.default for n, r in model.structure.parameters.items()}
    sim = simulate(model, Forcing.clock(days=TIMES), theta=theta, storage0={n: values[n] for n in "xy"}, solver=RATES)
    chi2 = sum(((sim.store(o.name) - o.values) / o.loss.sigma).square().sum() for o in task.observed)
    assert float(chi2) == pytest.approx(float(decided.fits.chi2[decided.chosen]), rel=1e-9)


def test_the_class_and_the_front(decided):
    rivals, front = decided.rivals, decided.pareto()
    assert decided.chosen in rivals and rivals == list(range(len(rivals)))
    assert all(decided.criterion[i] <= decided.criterion[0] + decided.margin for i in rivals)
    sizes, fits = [decided.constants[i] for i in front], [float(decided.misfit[i]) for i in front]
    assert sizes == sorted(set(sizes)) and fits == sorted(fits, reverse=True) and decided.chosen in front
    for i in range(len(decided.candidates)):
        assert any(decided.constants[f] <= decided.constants[i] and fits[k] <= float(decided.misfit[i])
                   for k, f in enumerate(front))  # fmt: skip


def test_without_any_network(prey):
    _, union, task = prey
    found = discover(union, None, task, keep=100, starts=1, again=0)
    assert len(found.candidates) == 6 + 15 and texts(found, found.chosen) == ["x*y"]
    # nothing is left out for coming late in the library
    assert len(discover(union, None, task, keep=2, starts=1, again=0).candidates) == 6 + 15


def made(union, candidates, chi2, count):
    """Fits of made-up quality."""
    members = len(candidates)
    values, mask = {n: torch.zeros(members) for n in union.model.parameter_names}, torch.zeros(members, 1).bool()
    chi2 = torch.tensor(chi2)
    return LeastSquares(
        values, ("u_x_0",), mask, chi2, {"x": chi2}, {"x": count}, torch.zeros(members, 1, 1), mask[:, 0], mask[:, 0]
    )


def test_the_criterion_prefers_the_shorter_of_nested_laws(prey):
    """Where the longer hardly fits better; and the penalty is that of extended BIC."""
    _, union, _ = prey
    candidates, n = [((4,),), ((4, 5),)], 62
    close = ranked(union, candidates, made(union, candidates, [60.0, 58.0], n), 2, 1.0, 6.0)
    assert close.candidates[close.chosen] == ((4,),)
    expected = [n * np.log(60 / n) + 3 * np.log(n) + 2 * np.log(6), n * np.log(58 / n) + 4 * np.log(n) + 2 * np.log(15)]
    assert close.criterion.tolist() == pytest.approx(expected)
    better = ranked(union, candidates, made(union, candidates, [60.0, 40.0], n), 2, 1.0, 6.0)
    assert better.candidates[better.chosen] == ((4, 5),)
    # within the margin the shorter is taken although the longer is ahead
    ahead = ranked(union, candidates, made(union, candidates, [60.0, 52.0], n), 2, 1.0, 6.0)
    assert ahead.candidates[0] == ((4, 5),) and ahead.candidates[ahead.chosen] == ((4,),) and ahead.rivals == [0, 1]
    failed = ranked(union, candidates, made(union, candidates, [60.0, torch.inf], n), 2, 1.0, 6.0)
    assert failed.candidates[0] == ((4,),) and failed.rivals == [0]


def test_laws_without_any_free_value():
    """Such as a share of PET that has no constant: they are simulated, not fitted."""
    truth = Balance(exphydro_mended, et=FormulaLaw(f"pet*{FILLING}"))
    sim = simulate(truth, weather(60, 1), storage0=STORAGE0)
    observed = [Observed("soil", sim.store("soil"), Gaussian(1.0)), Observed("discharge", sim.discharge + 1e-3)]
    observed[1] = replace(observed[1], loss=Gaussian(0.01))
    library = Library([Term(f"pet*{FILLING}"), Term("pet"), Term(f"pet*{FILLING}*(2 - {FILLING})")])
    found = discover(exphydro_mended, {"et": library}, Task(weather(60, 1), observed, DEFAULTS | STORAGE0), starts=1)
    assert found.constants == (0, 0, 0) and texts(found, found.chosen) == [f"pet*{FILLING}"]


@pytest.mark.slow
def test_factors_stay_in_their_own_range():
    """That of the term, which need not hold the zero of absent terms: the law is what was fitted."""
    library = Library([Term("x*y", {}, Range(-5.0, -1.0, "1/d", -2.0))])
    sim = simulate(Balance(lotka_volterra), Forcing.clock(days=TIMES), storage0=U0, solver=RATES)
    observed = [Observed(n, sim.store(n), Gaussian(0.1)) for n in "xy"]
    start = {n: r.default for n, r in lotka_volterra.parameters.items()} | U0
    task = Task(Forcing.clock(days=TIMES, batch=(1,)), observed, start, solver=RATES)
    found = discover(lotka_volterra, {"u_x": library}, task, starts=1)
    assert found.values(0)["u_x_0"] == -1.0 == found.laws(0)["u_x"].constants["u_x_k"].default


@pytest.mark.slow
def test_searches_that_make_no_sense(prey):
    samples, union, task = prey
    with pytest.raises(ConfigError, match="more than most=3"):
        discover(union, None, task, samples=samples, most=3)
    with pytest.raises(ConfigError, match="no candidate"):
        search(union, [], task, [])
    with pytest.raises(ConfigError, match="Say which laws"):
        discover(lotka_volterra, None, task)
    for wrong in ({"start": {**task.start, "delt": 1.0}}, {"free": ["delt"]}):
        with pytest.raises(ConfigError, match="'delt'.*Did you mean 'delta'"):
            discover(union, None, replace(task, **wrong), starts=1)
    log = Term("log(x - 100)", {}, Range(-1.0, 1.0, "1/d", 0.1), empirical=True)
    infinite = Library([Term("x*y", {}, FACTOR), log])
    with pytest.raises(SolverError, match=r"Not finite there: 'c\*log\(x - 100\)' of u_x"):
        discover(lotka_volterra, {"u_x": infinite}, task, starts=1)
    broken = replace(samples, learned={"u_x": samples.learned["u_x"] * torch.nan})
    with pytest.raises(ConfigError, match="not finite everywhere"):
        discover(union, None, task, samples=broken)
    with pytest.raises(ConfigError, match="proposes no law for 'u_x'"):
        discover(union, None, task, samples=samples, engine=lambda *_: [])


# Engines


def test_pysindy_proposes_the_planted_law():
    pytest.importorskip("pysindy")
    inputs, library = states(), polynomials(("x", "y"), 3, FACTOR)
    found = PySINDy()(planted("u", -0.9 * inputs["x"] * inputs["y"], inputs, 0.01), "u", library, 4)
    assert [library.terms[j].text for j in found[0][0]] == ["x*y"] and found[0][1][4, ""] == pytest.approx(-0.9, 0.01)
    two = planted("u", 0.5 * inputs["x"] - 0.2 * inputs["y"] ** 2, inputs, 0.01)
    state = np.random.get_state()[1].copy()
    found = PySINDy()(two, "u", library, 4)
    assert [library.terms[j].text for j in next(c for c, _ in found if len(c) == 2)] == ["x", "y**2"]
    assert (np.random.get_state()[1] == state).all() and found == PySINDy()(two, "u", library, 4)


def test_pysindy_with_discover(prey):
    pytest.importorskip("pysindy")
    samples, union, task = prey
    found = discover(union, None, task, samples=samples, engine=PySINDy(), starts=1, again=0)
    assert texts(found, found.chosen) == ["x*y"]


def test_operon_maps_onto_the_library():
    pytest.importorskip("pyoperon")
    inputs, library = states(), polynomials(("x", "y"), 2, FACTOR)
    engine = Operon(generations=30)
    samples = planted("u_x", -0.9 * inputs["x"] * inputs["y"], inputs, 0.01)
    found = engine(samples, "u_x", library, 4)
    assert [library.terms[j].text for j in found[0][0]] == ["x*y"] and found[0][1][4, ""] == pytest.approx(-0.9, 0.02)
    assert found == Operon(generations=30)(samples, "u_x", library, 4)


def test_operon_adds_what_a_library_lacks():
    """With units by its scale, and a term of a trained factor where the law has a unit of its own."""
    pytest.importorskip("pyoperon")
    inputs = fillings()
    s = inputs["soil"] / inputs["smax"]
    samples = planted("et", inputs["pet"] * s * torch.exp(-2.3 * s), inputs, 0.01)
    library = Library([Term("pet"), Term(f"pet*{FILLING}")])
    engine = Operon(inputs={"s": FILLING}, scale="pet", generations=30, add=3)
    found = engine.extended(exphydro_mended, samples, "et", library)
    assert len(library) < len(found) <= len(library) + engine.add and found.terms[:2] == library.terms
    assert all(fits(exphydro_mended, "et", t) for t in found.terms)
    assert len({t.text for t in found.terms}) == len(found)
    best = engine(samples, "et", found, 4)[0]
    law = Union(exphydro_mended, {"et": found})
    values = law.values((best[0],)) | {law.names[0][j].own[n]: v for (j, n), v in best[1].items() if n}
    formula = law.laws((best[0],), values)["et"]
    given = inputs | {n: torch.tensor(r.default) for n, r in formula.constants.items()}
    assert torch.allclose(formula(*(given[n] for n in formula.reads)), samples.median("et"), atol=0.02)


@pytest.mark.slow
def test_operon_with_discover():
    """The interaction is not in the library, and comes with a factor that has the unit of the law."""
    pytest.importorskip("pyoperon")
    sim = simulate(Balance(lotka_volterra), Forcing.clock(days=TIMES), storage0=U0, solver=RATES)
    samples = sample(Balance(lotka_volterra), sim, ("u_x",))
    noisy = sim.storage * (1.0 + 0.01 * torch.randn(31, 2, generator=generator(7)))
    observed = [Observed(n, noisy[:, i], Gaussian(0.02)) for i, n in enumerate("xy")]
    start = {n: r.default for n, r in lotka_volterra.parameters.items()} | U0
    task = Task(Forcing.clock(days=TIMES, batch=(1,)), observed, start, ("x", "y"), solver=RATES)
    library = Library([Term("x", {}, FACTOR), Term("y", {}, FACTOR)])
    engine = Operon(symbols="add,mul,constant,variable", length=7, generations=30, add=1)
    found = discover(lotka_volterra, {"u_x": library}, task, samples=samples, engine=engine, starts=1, again=0)
    assert texts(found, found.chosen) == ["x*y"]
    assert found.values(found.chosen)["u_x_2"] == pytest.approx(-0.9, rel=0.02)


@pytest.mark.parametrize(("engine", "package"), [(PySINDy(), "pysindy"), (Operon(), "pyoperon.sklearn")])
def test_an_engine_without_its_package(engine, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    inputs = states()
    samples = planted("u", inputs["x"] * inputs["y"], inputs)
    with pytest.raises(ConfigError, match=r"pip install 'udehydro\[discovery\]'"):
        engine(samples, "u", polynomials(("x", "y"), 2, FACTOR), 4)


def test_operon_needs_an_input_that_varies():
    pytest.importorskip("pyoperon")
    samples = planted("u", torch.rand(50), {"x": torch.ones(50)})
    with pytest.raises(ConfigError, match="no input of 'u' that varies"):
        Operon()(samples, "u", Library([Term("x", {}, FACTOR)]), 4)
    with pytest.raises(ConfigError, match="samples have no z"):
        Operon(inputs={"z": "z"})(samples, "u", Library([Term("x", {}, FACTOR)]), 4)


@pytest.mark.parametrize("scaled", [False, True])
def test_thresholding(scaled):
    """It finds a clean law in a small library, and not in a large one with errors as smooth as those of networks."""
    inputs, library = states(), polynomials(("x", "y"), 2, FACTOR)
    samples = planted("u", 0.5 * inputs["x"] - 0.2 * inputs["y"] ** 2, inputs)
    chosen, start = thresholded(samples, "u", library, scaled=scaled)
    assert [library.terms[j].text for j in chosen] == ["x", "y**2"]
    assert start == pytest.approx({(1, ""): 0.5, (5, ""): -0.2})
    x, y = inputs.values()
    smooth = -0.9 * x * y * (1.0 + 0.1 * torch.sin(2.0 * x + y))
    large = polynomials(("x", "y"), 5, FACTOR)
    assert len(thresholded(planted("u", smooth, inputs), "u", large, threshold=0.01, scaled=scaled)[0]) > 2
    assert thresholded(samples, "u", library, threshold=1e6)[0] == ()
    with pytest.raises(ConfigError, match="coefficient of every term"):
        thresholded(samples, "u", Library([Term("x")]))
