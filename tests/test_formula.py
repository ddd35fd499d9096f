"""Formula laws: values, derivatives, drivers, constants as parameters, text that is never executed, dimensions."""

import copy
import pickle
import subprocess
import sys
import time

import pytest
import sympy
import torch
from tables import LAWS, MODELS, weather
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from udehydro import (
    ATMOSPHERE,
    OUTLET,
    Balance,
    Calibrated,
    Flux,
    FormulaLaw,
    Multiplier,
    NeuralLaw,
    Range,
    Structure,
    StructureError,
    flux,
    quantity,
    saved,
    simulate,
)
from udehydro.config import STRUCTURES
from udehydro.laws import Dimension, dimension_of, excess, limiter, power, saturation, switch
from udehydro.laws.evaluate import Program
from udehydro.laws.expression import parse, write
from udehydro.models import exphydro, exphydro_mended, linear
from udehydro.solvers import AllAtOnce, Compiled, Stepping
from udehydro.training import Stage, fit

A = Range(0.1, 20.0, "1", default=3.0)
ET = "pet * (1 - exp(-a * saturation(soil, smax)))"
CASE = LAWS[-1]

VALUES = {
    "x": (0.37, 2.9, -1.3),
    "y": (1.7, 0.4, 2.2),
    "z": (-0.6, 1.1, 3.4),
    "p": (0.7, 1.9, 3.2),
    "soil": (120.0, 251.3, -4.0),
    "pet": (0.4, 3.0, 1.1),
    "smax": (250.0, 400.0, 90.0),
    "tau": (1.0, 0.4, 2.0),
    "a": (3.0, 1.2, 9.0),
}
"""Away from every kink."""

FORMULAS = {
    "x*y - z/3": lambda x, y, z: x * y - z / 3,
    "-x - y - 1": lambda x, y: -x - y - 1,
    "1 - x": lambda x: 1 - x,
    "2/(x*y)": lambda x, y: 2 / (x * y),
    "(x + y)/(x - y)**2": lambda x, y: (x + y) / (x - y) ** 2,
    "x**7 + 0.1*x**3 - x**-2": lambda x: x**7 + 0.1 * x**3 - 1 / x**2,
    "sqrt(y) + y**p - y**0.3": lambda p, y: y.sqrt() + y**p - y**0.3,
    "x**0.5 + x**p": lambda p, x: power(x, 0.5) + power(x, p),
    "2**x + 2.5**(-y)": lambda x, y: 2**x + 2.5 ** (-y),
    "exp(-x**2)*tanh(y) + sin(z)*cos(x)": lambda x, y, z: (
        torch.exp(-x * x) * torch.tanh(y) + torch.sin(z) * torch.cos(x)
    ),
    "log(y) + abs(x)": lambda x, y: torch.log(y) + x.abs(),
    "min(x, y, 1) + max(0, z, x)": lambda x, y, z: (
        torch.minimum(x, y).clamp_max(1.0) + torch.maximum(z, x).clamp_min(0.0)
    ),
    "switch(x, 0.2) + switch(3, y)": lambda x, y: switch(x, 0.2) + switch(3.0, y),
    "excess(soil, smax) + excess(300, smax)": lambda smax, soil: excess(soil, smax) + excess(300.0, smax),
    "limiter(soil, pet, tau)": lambda pet, soil, tau: limiter(soil, pet, tau),
    "limiter(soil, 2, tau) + limiter(7, pet, 1)": lambda pet, soil, tau: (
        (soil / tau).clamp_max(2.0) + pet.clamp_max(7.0)
    ),
    "power(x, 2) + power(soil/smax, p)": lambda p, smax, soil, x: power(x, 2.0) + power(soil / smax, p),
    ET: lambda a, pet, smax, soil: pet * (1 - torch.exp(-a * saturation(soil, smax))),
    "x": lambda x: x,
}
"""Text, and the same by hand with its arguments sorted."""


def inputs(law, **options) -> list[torch.Tensor]:
    return [torch.tensor(VALUES[n], **options) for n in law.reads]


def model(**options) -> Balance:
    return Balance(exphydro_mended, et=FormulaLaw(ET, {"a": A}, **options))


class TestValues:
    @pytest.mark.parametrize("text", FORMULAS)
    def test_as_by_hand(self, text):
        """1e-14 relative to the largest value: terms may be added in another order."""
        law = FormulaLaw(text)
        assert list(law.reads) == sorted(law.reads)
        found, expected = law(*inputs(law)), FORMULAS[text](*inputs(law))
        assert torch.allclose(found, expected, rtol=1e-15, atol=1e-15 * expected.abs().max().item() * 10)

    @pytest.mark.parametrize("text", FORMULAS)
    def test_derivatives(self, text):
        """Reverse and forward mode against differences; second derivatives, torch's tolerances."""
        law = FormulaLaw(text)
        values = inputs(law, requires_grad=True)
        assert torch.autograd.gradcheck(law, values, check_forward_ad=True)
        if law(*values).grad_fn is not None:
            assert torch.autograd.gradgradcheck(law, values)

    def test_forward_mode(self):
        law = FormulaLaw("x**2*y", {"y": A})
        with forward_ad.dual_level():
            x = forward_ad.make_dual(torch.tensor([3.0]), torch.tensor([1.0]))
            assert forward_ad.unpack_dual(law(x, torch.tensor([2.0]))).tangent.item() == 12.0

    @pytest.mark.parametrize("text", FORMULAS)
    def test_traced(self, text):
        law = FormulaLaw(text)
        values = inputs(law)
        assert torch.equal(make_fx(lambda *v: law(*v))(*values)(*values), law(*values))

    def test_any_shapes_that_broadcast(self):
        law = FormulaLaw("c*x + k", {"k": A, "c": A})
        assert law.reads == ("x", "k", "c")
        x, k, c = torch.rand(5, 3, 2), torch.rand(3, 1), torch.rand(())
        assert torch.equal(law(x, k, c), c * x + k)
        assert law(x.float(), k.float(), c.float()).dtype == torch.float32

    def test_powers_are_shared(self):
        """A polynomial of 23 terms: 20 products for the powers, and for each term two and a sum; nothing symbolic."""
        text = " + ".join(f"c_{i}*x**{i % 12}*y**{i // 2}" for i in range(23))
        law = FormulaLaw(text, {f"c_{i}": A for i in range(23)})
        assert len(law._program) < 20 + 3 * 23
        values = [torch.rand(40) for _ in law.reads]
        x, y, *c = values
        expected = sum(v * x ** (i % 12) * y ** (i // 2) for i, v in enumerate(c))
        assert torch.allclose(law(*values), expected, rtol=1e-14)

    def test_equal_parts_are_computed_once(self):
        names = ("x", "y")
        assert len(Program(parse("exp(-x*y)/(1 + exp(-x*y))"), names)) == 5

    @pytest.mark.parametrize("text", ["x**0.5", "x**p", "sqrt(x)*exp(-p)", "power(x, 0.3)", "x**(-0.5)"])
    def test_powers_stay_finite_below_zero(self, text):
        """Zero, with zero slopes, in front of which SymPy sees nothing to change."""
        law = FormulaLaw(text)
        values = [torch.tensor([0.4, 0.4, 0.4]), torch.tensor([-2.0, 0.0, -1e-300])][-len(law.reads) :]
        values = [v.requires_grad_() for v in values]
        result = law(*values)
        assert result.tolist() == [0.0] * 3
        assert all(g.tolist() == [0.0] * 3 for g in torch.autograd.grad(result.sum(), values))

    @pytest.mark.parametrize("text", ["x**3", "x**3.0", "x**1.5*x**1.5"])
    def test_whole_powers_keep_their_sign(self, text):
        assert FormulaLaw(text)(torch.tensor([-2.0])).item() == -8.0

    def test_calls_are_checked(self):
        with pytest.raises(StructureError, match="reads x, y, got 1 value"):
            FormulaLaw("x*y")(torch.ones(2))


class TestText:
    @pytest.mark.parametrize(
        "text",
        [
            *FORMULAS,
            "2*(x + y)*z",
            "z*(2*(x + y))",
            "(2*x)**0.5 - (x**0.5)**2",
            "sqrt(2*x)/sqrt(3)",
            "(-x)**0.5",
            "(2*x)**p",
            "x**p/x",
            "exp(x)*exp(y)*exp(-x)",
            "1/3*x**(1/3) - x*2/7",
            "-(x + 1)**2",
            "x*0.1234567890123456789 + 1e-17*y + 1.5e300 - 5e-324*z",
            "0.1*3*x",
            "exp(1)*x + log(2)*sqrt(2)",
            "2.5",
            "min(x, min(y, 2), 3, 4)",
        ],
    )
    def test_fixed_point(self, text):
        """Text -> expression -> text -> expression: the same from the first on."""
        law = FormulaLaw(text)
        again = FormulaLaw(law.text)
        assert again.expression == law.expression and again.text == law.text
        assert FormulaLaw(law.expression) == law
        values = [torch.rand(7) + 0.5 for _ in law.reads]
        assert torch.equal(law(*values), again(*values))

    def test_numbers_keep_all_digits(self):
        for value in (0.1, 1 / 3, 1e-300, 123456789.12345679, 2.0**-1022, 1e22):
            assert FormulaLaw(f"{value!r}*x")(torch.tensor([1.0])).item() == value
            assert FormulaLaw(sympy.Float(value) * sympy.Symbol("x"))(torch.tensor([1.0])).item() == value

    def test_of_sympy(self):
        x, y = sympy.symbols("x y", positive=True)
        law = FormulaLaw(sympy.pi * x**2 * sympy.exp(-y) + sympy.E * sympy.Max(x, y) + sympy.Rational(1, 3))
        a, b = torch.rand(4), torch.rand(4)
        expected = torch.pi * a**2 * torch.exp(-b) + torch.e * torch.maximum(a, b) + 1 / 3
        assert torch.allclose(law(a, b), expected, rtol=1e-14)
        assert law.expression.free_symbols == set(sympy.symbols("x y"))
        assert FormulaLaw(sympy.Function("saturation")(x, y)) == FormulaLaw("saturation(x, y)")

    def test_functions_are_kept(self):
        """SymPy would make re(x) of the first, and compare the arguments of the second."""
        assert FormulaLaw("abs(exp(x))").text == "abs(exp(x))"
        assert FormulaLaw("max(x, x + 1)").text == "max(x, x + 1)"

    def test_latex(self):
        assert FormulaLaw("tau*smax_1/2").latex() == r"\frac{\mathrm{smax}_{\mathrm{1}} \tau}{2}"
        assert r"\max\left(x - y, 0\right)" in FormulaLaw("excess(x, y)**2").latex()
        for name in ("saturation(x, y)", "limiter(x, y, z)", "switch(x, y)", "power(x, y)"):
            assert FormulaLaw(name).latex().count("{") == FormulaLaw(name).latex().count("}")

    def test_repr_copy_and_pickle(self):
        law = FormulaLaw(ET, {"a": A})
        assert eval(repr(law)) == law and "saturation(soil, smax)" in repr(law)
        for other in (copy.deepcopy(law), copy.copy(law), pickle.loads(pickle.dumps(law))):
            assert other == law and hash(other) == hash(law) and other.text == law.text
        assert law != FormulaLaw(ET) and law != FormulaLaw(ET, {"a": Range(0.1, 2.0, "1")})
        shaped = FormulaLaw("2").shaped_like("x")
        assert pickle.loads(pickle.dumps(shaped)).reads == ("x",)

    def test_settings_are_text(self):
        """What programs are looked up by: all digits, and no printing of expressions."""
        one, other = FormulaLaw("0.1*x"), FormulaLaw("0.10000000000000002*x")
        assert set(vars(one)) == {"text", "constants", "reads", "empirical"}
        assert repr(vars(one)) != repr(vars(other))


class TestSafety:
    @pytest.mark.parametrize(
        "text, message",
        [
            ("__import__('os').system('true')", 'not "\'"'),
            ("__import__(x)", "Unknown function '__import__'"),
            ("eval(x)", "Unknown function 'eval'"),
            ("x.__class__.__bases__", r"'x.__class__.__bases__' cannot be used"),
            ("exp.__globals__(x)", "cannot be used"),
            ("(lambda: x)()", "not ':'"),
            ("[i for i in x]", r"not '\['"),
            ("{x}", "not '{'"),
            ("'x'", 'not "\'"'),
            ("f(x)(y)", "cannot be used"),
            ("exp(*x)", r"'\*x' cannot be used"),
            ("exp(x=1)", "not '='"),
            ("(x := 1)", "not ':'"),
            ("x if y else z", "cannot be used"),
            ("x and y", "cannot be used"),
            ("x // y", "'x // y' cannot be used"),
            ("True*x", "'True' cannot be used"),
            ("2j*x", "'2j' cannot be used"),
            ("__x__ + 1", "'__x__' cannot be the name"),
            ("exp + 1", "'exp' is a function"),
            ("saturaton(x, y)", "Unknown function 'saturaton'.*Did you mean 'saturation'"),
            ("ln(x)", "Unknown function 'ln'.*Known: exp, log"),
            ("exp(x, y)", r"'exp' takes 1 argument\(s\), not 2"),
            ("min(x)", r"takes 2 or more argument\(s\)"),
            ("2x", "cannot be read"),
            ("", "cannot be read"),
            ("x y", "cannot be read"),
            ("9**9**9**9", "no finite real value"),
            ("9.0**9.0**9.0**9.0", "no finite real value"),
            ("exp(exp(exp(9)))", "no finite real value"),
            ("((2*x)**64)**64", "beyond 64|too large"),
            ("((((x + 1)**64)**64)**64)**64", "beyond 64"),
            ("x**65", "at most 64"),
            ("x**-1e300", "at most 64"),
            ("((1/7)**64)**64*x", "too large"),
            ("1e999*x", "not finite"),
            ("1" + "0" * 400 + "*x", "too large"),
            ("1" + "0" * 9000 + "*x", "cannot be read"),
            ("1/0", "no finite real value"),
            ("x/(y - y)", "no finite real value"),
            ("log(0)", "no finite real value"),
            ("(-8)**(1/3)", "no finite real value"),
            ("(-2)**x", "not above zero"),
            ("-" * 9000 + "x", "nested too deeply"),
            ("(" * 4000 + "x" + ")" * 4000, "cannot be read"),
            ("exp(" * 100 + "x" + ")" * 100, "nested more than 60 deep"),
            ("x**" * 3000 + "x", "nested too deeply"),
            ("+".join(["x"] * 4000), "nested too deeply"),
            ("x + " * 4000 + "x", "at most 10000 characters"),
        ],
        ids=lambda v: v[:24],
    )
    def test_refused_at_once(self, text, message):
        start = time.perf_counter()
        with pytest.raises(StructureError, match=message):
            FormulaLaw(text)
        assert time.perf_counter() - start < 2.0

    @pytest.mark.parametrize(
        "text",
        [
            "exp(" * 50 + "x" + ")" * 50,
            "(" * 25 + "x" + " + y)**p" * 25,
            "*".join(f"(x + c{i})" for i in range(300)),
            "min(" + ", ".join(f"x{i}*y" for i in range(100)) + ")",
        ],
        ids=lambda v: v[:24],
    )
    def test_large_ones_are_quick(self, text):
        start = time.perf_counter()
        FormulaLaw(text)
        assert time.perf_counter() - start < 10.0

    @pytest.mark.parametrize(
        "expression, message",
        [
            (sympy.tan(sympy.Symbol("x")), "Unknown function 'tan'.*Did you mean 'tanh'"),
            (sympy.oo, "Unknown function 'Infinity'"),
            (sympy.I * sympy.Symbol("x"), "Unknown function 'ImaginaryUnit'"),
            (sympy.Symbol("lambda"), "cannot be the name"),
            (sympy.Symbol("__import__('os')"), "cannot be the name"),
            (sympy.Symbol("x y"), "cannot be the name"),
            (sympy.Symbol("exp"), "is a function"),
            (sympy.Integral(sympy.Symbol("x")), "Unknown function 'Integral'"),
            (3.0, "a text or a SymPy expression, not 3.0"),
        ],
        ids=str,
    )
    def test_sympy_expressions_that_are_no_formula(self, expression, message):
        with pytest.raises(StructureError, match=message):
            FormulaLaw(expression)

    def test_write_refuses_what_parse_would_not_read(self):
        with pytest.raises(StructureError, match="Unknown function 'besselj'"):
            write(sympy.besselj(1, sympy.Symbol("x")))

    def test_sympy_is_needed_only_for_a_formula(self):
        code = (
            "import sys, udehydro; assert 'sympy' not in sys.modules; sys.modules['sympy'] = None\n"
            "try: udehydro.FormulaLaw('x')\n"
            "except udehydro.ConfigError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "pip install 'udehydro[discovery]'" in done.stdout


class TestConstants:
    def test_become_parameters(self):
        hybrid = model()
        assert hybrid.structure.parameters["a"] == A and "a" not in exphydro_mended.parameters
        assert "a" in hybrid.parameter_names and hybrid.theta_units()["a"] == "1"
        assert Calibrated.of(hybrid)()["a"].item() == pytest.approx(3.0, rel=1e-12)

    def test_of_a_law_that_is_swapped_out_again_are_not_asked_for(self):
        again = Balance(model().structure, et=exphydro_mended.flux("et").law)
        assert "a" not in again.parameter_names

    def test_a_shared_range_is_a_shared_parameter(self):
        own = {"smax": exphydro_mended.parameters["smax"]}
        s = exphydro_mended.replace(et=FormulaLaw("pet*saturation(soil, smax)", own))
        assert s.parameters == exphydro_mended.parameters
        two = Balance(
            exphydro_mended,
            et=FormulaLaw("a*pet*saturation(soil, smax)", {"a": A}),
            melt=FormulaLaw("limiter(snow, a*ddf*max(temp - tmax, 0), tau)", {"a": A}),
        )
        assert two.parameter_names.count("a") == 1

    @pytest.mark.parametrize(
        "constants, message",
        [
            ({"smax": A}, "'et' brings the constant 'smax' with Range.*a parameter 'smax' with Range.*rename"),
            ({"soil": A}, "'soil', which is a store of model 'exphydro_mended'"),
            ({"pet": A}, "'pet', which is a quantity"),
        ],
    )
    def test_taken_names(self, constants, message):
        with pytest.raises(StructureError, match=message):
            exphydro_mended.replace(et=FormulaLaw("pet*saturation(soil, smax)", constants))

    @pytest.mark.parametrize("name", ["overflow", "discharge", "atmosphere"])
    def test_names_taken_by_fluxes_groups_and_boundaries(self, name):
        with pytest.raises(StructureError, match=f"'{name}', which is a (flux|group|boundary)"):
            exphydro_mended.replace(et=FormulaLaw(f"pet*{name}", {name: A}))

    def test_two_laws_with_different_ranges(self):
        laws = {n: FormulaLaw("a*pet", {"a": Range(0.0, high, "1")}) for n, high in (("et", 1.0), ("melt", 2.0))}
        with pytest.raises(StructureError, match="brings the constant 'a'"):
            exphydro_mended.replace(**laws)

    def test_missing_unused_and_wrong(self):
        with pytest.raises(StructureError, match="'et' reads unknown name 'a'"):
            exphydro_mended.replace(et=FormulaLaw(ET))
        with pytest.raises(StructureError, match="constant 'b' does not occur in"):
            FormulaLaw(ET, {"a": A, "b": A})
        with pytest.raises(StructureError, match="Constant 'a' needs a Range"):
            FormulaLaw(ET, {"a": 3.0})

    def test_of_a_law_in_the_structure_itself(self):
        s = Structure(
            "mine",
            {"storage": "mm"},
            {"prcp": "mm/d"},
            {},
            (
                Flux("rain", ATMOSPHERE, "storage", FormulaLaw("prcp")),
                Flux("out", "storage", OUTLET, FormulaLaw("k*storage", {"k": linear.parameters["k"]})),
            ),
        )
        record, theta = weather(20), {"k": torch.tensor([0.1, 0.4])}
        a, b = (simulate(Balance(m), record, theta=theta, storage0={"storage": 9.0}) for m in (s, linear))
        assert torch.equal(a.discharge, b.discharge)

    def test_a_network_that_brings_constants(self):
        """Any law with a mapping ``constants``, here under a new name and with several outputs."""

        class Two:
            reads, outputs, constants = ("soil", "w"), ("one", "other"), {"w": Range(-1.0, 1.0, "1/mm")}

            def __call__(self, soil, w):
                return torch.tanh(w * soil), torch.exp(-w * soil)

        hybrid = Balance(exphydro_mended, net=Two(), et=lambda pet, one: pet * one)
        assert "w" in hybrid.parameter_names


class TestModels:
    def test_equals_the_same_law_by_hand(self):
        """1e-12 mm: the solver's tolerance acts on round-off of another order."""

        def et(pet, smax, soil, a):
            return pet * (1 - torch.exp(-a * saturation(soil, smax)))

        record, theta = weather(30), {"a": torch.tensor([3.0, 1.2])}
        s = model().structure
        theta |= {n: r.default for n, r in s.parameters.items() if n != "a"}
        run, other = (simulate(m, record, theta=theta, storage0=CASE.start()) for m in (Balance(s), Balance(s, et=et)))
        assert torch.allclose(run.storage, other.storage, rtol=0, atol=1e-12)

    def test_a_merged_group(self):
        hybrid = Balance(exphydro_mended, discharge=FormulaLaw("qmax*saturation(soil, smax)**3"))
        assert hybrid.flux_names[-1] == "discharge" and "f" not in hybrid.parameter_names
        run = simulate(hybrid, weather(20))
        assert bool((run.max_balance_error() <= run.balance_tolerance()).all())

    def test_compiled(self):
        """All operations, in values and gradients: 1e-9 relative, from the tolerance of both solvers."""
        texts = {
            "melt": "limiter(snow, ddf*max(temp - tmax, 0)*(1 + 0.1*sin(a)*cos(a)), tau)",
            "et": "pet*(1 - exp(-a*saturation(soil, smax)))*min(1, 0.5 + abs(tanh(a - 2)))",
            "baseflow": "qmax*(power(soil/smax, b)/2 + max(soil/smax, 0)**2.5/3 + 2**(-a)*(soil/smax)/log(3 + a**2))",
            "overflow": "switch(soil - smax, tau*qmax)*excess(soil, smax)/tau",
        }
        ranges = {"a": A, "b": Range(1.0, 6.0, "1")}
        read = {n: {s.name for s in parse(t).free_symbols} for n, t in texts.items()}
        laws = {n: FormulaLaw(t, {k: r for k, r in ranges.items() if k in read[n]}) for n, t in texts.items()}
        hybrid, record = Balance(exphydro_mended, **laws), weather(60)
        found = []
        for solver in (AllAtOnce(), Compiled()):
            theta = {n: v.clone().requires_grad_() for n, v in MODELS[2].parameters(hybrid).items() if n != "f"}
            theta |= {"a": torch.tensor([3.0, 1.2]).requires_grad_(), "b": torch.tensor([2.5, 1.5]).requires_grad_()}
            run = simulate(hybrid, record, theta=theta, storage0=CASE.start(), solver=solver)
            gradient = torch.autograd.grad(run.discharge.square().sum(), list(theta.values()))
            found.append((run.storage, *gradient))
        for one, other in zip(*found, strict=True):
            assert torch.allclose(one, other, rtol=1e-9, atol=1e-9 * one.abs().max().item())

    def test_programs_of_laws_that_differ_in_the_last_digit(self):
        """Each law is compiled for itself."""
        runs = []
        for number in ("0.1", "0.3"):
            hybrid = Balance(linear, outflow=FormulaLaw(f"{number}*k*storage"))
            options = {"theta": {"k": 0.5}, "storage0": {"storage": 10.0}, "solver": Compiled()}
            runs.append(simulate(hybrid, weather(10), **options).discharge)
        assert not torch.allclose(*runs)

    def test_member_axis_and_values_in_time(self):
        """Constants (M, 1), and (T, M, B), of which the static one is a case."""
        hybrid, record = model(), weather(15).with_members(3)
        theta = {n: torch.tensor(v[0]) for n, v in MODELS[2].theta.items()} | {"tau": torch.tensor(1.0)}
        a = torch.tensor([[1.0], [3.0], [9.0]])
        options = {"storage0": CASE.start()}
        run = simulate(hybrid, record, theta=theta | {"a": a}, **options)
        assert run.discharge.shape == (15, 3, 2)
        moving = simulate(hybrid, record, theta=theta | {"a": a.expand(15, 3, 2)}, **options)
        assert torch.allclose(run.storage, moving.storage, rtol=0, atol=1e-12)
        alone = simulate(hybrid, weather(15), theta=theta | {"a": a[1, 0]}, **options)
        assert torch.allclose(run.storage[:, 1], alone.storage, rtol=0, atol=1e-9)
        steps = torch.where(torch.arange(15) < 7, 1.0, 9.0)[:, None, None]
        changed = simulate(hybrid, record, theta=theta | {"a": steps}, **options)
        assert torch.allclose(changed.storage[:8, 0], run.storage[:8, 0], rtol=0, atol=1e-9)
        assert not torch.allclose(changed.storage[-1, 0], run.storage[-1, 0])

    def test_calibration_recovers_a_planted_constant(self):
        """From a = 3 to the planted 7, all else known: 1e-4, in 30 evaluations."""
        hybrid, record = model(), weather(400, 1, seed=4, warm=12.0)
        start = {n: hybrid.structure.parameters[n].default for n in hybrid.parameter_names}
        storage0 = {"snow": Range(0.0, 10.0, "mm"), "soil": Range(0.0, 1000.0, "mm")}
        begin = {"snow": 1.0, "soil": 300.0}
        observed = simulate(hybrid, record, theta=start | {"a": 7.0}, storage0=begin).discharge
        fixed = [n for n in hybrid.parameter_names if n != "a"] + ["snow", "soil"]
        provider = Calibrated.of(hybrid, (1,), start=begin, fixed=fixed, initial=storage0)
        fit(
            hybrid, provider, record, observed, train=("2001-11-25", "2002-12-29"), warmup_days=0,
            stages=[Stage("lbfgs", 30)], progress=None,
        )  # fmt: skip
        assert provider(record)["a"].item() == pytest.approx(7.0, abs=1e-4)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    @pytest.mark.parametrize("solver", [AllAtOnce(), Stepping()], ids=["all at once", "stepping"])
    def test_a_formula_without_a_name(self, dtype, solver):
        """Has the shape and the precision of what its flux joins; zero is of any unit."""
        hybrid = Balance(exphydro_mended, et=FormulaLaw("0"), snow_fraction=FormulaLaw("1/2"))
        assert hybrid.structure.flux("et").law.reads == ("soil",)
        run = simulate(hybrid, weather(8).to(dtype=dtype), storage0=CASE.start(), solver=solver)
        assert run.storage.dtype == dtype and bool((run.rate("et") == 0).all())
        assert torch.equal(run.rate("snowfall"), run.rate("rainfall"))
        assert FormulaLaw("2.5")().item() == 2.5

    def test_deep_copies_of_a_model(self):
        hybrid = model()
        other = copy.deepcopy(hybrid)
        runs = [simulate(m, weather(5), storage0=CASE.start()).storage for m in (hybrid, other)]
        assert torch.equal(*runs)

    def test_a_factor_on_a_formula(self):
        """A Multiplier keeps the formula it multiplies, and that its constants."""
        twice = Balance(model().structure, et=NeuralLaw("soil", output=Multiplier(), seed=0))
        assert "a" in twice.parameter_names
        runs = [simulate(m, weather(5), storage0=CASE.start()).storage for m in (model(), twice)]
        assert torch.equal(*runs)


class TestDimensions:
    @pytest.mark.parametrize(
        "law, name, message",
        [
            ("soil/smax", "et", "The law of 'et': 'soil/smax' is dimensionless, it should be length/time"),
            ("0.1*soil", "et", "is length, it should be length/time .mm/d..*Numbers are dimensionless"),
            ("pet + soil", "et", "takes 'pet', which is length/time, together with 'soil', which is length"),
            ("pet*exp(soil)", "et", "'soil' in 'exp\\(soil\\)' is length and has to be dimensionless"),
            ("pet*tanh(temp)", "et", "'temp' in 'tanh\\(temp\\)' is temperature"),
            ("pet*2**soil", "et", "'soil' in '2\\*\\*soil' is length"),
            ("pet*soil**wet", "et", "unknown name 'wet'"),
            ("pet*saturation(soil, temp)", "et", "'saturation\\(soil, temp\\)' takes 'soil', which is length"),
            ("limiter(soil, soil, tau)", "et", "'soil/tau', which is length/time, together with 'soil'"),
            ("pet*switch(temp, soil)", "et", "takes 'temp', which is temperature"),
            ("max(pet, 1)", "et", "together with"),
            (
                "min(temp, 0)",
                "snow_fraction",
                "'snow_fraction': 'min\\(0, temp\\)' is temperature, it should be dimensionless",
            ),
            ("qmax*soil**2.5", "discharge", r"is length\^\(7/2\)/time, it should be length/time"),
            ("prcp*soil**f", "snowfall", "'f' in 'soil\\*\\*f' is 1/length"),
            (
                "prcp*soil**snow_fraction",
                "snowfall",
                "'soil' in .* is length and has to be dimensionless under an exponent",
            ),
        ],
    )
    def test_refused(self, law, name, message):
        with pytest.raises(StructureError, match=message):
            exphydro_mended.replace(**{name: FormulaLaw(law)})

    @pytest.mark.parametrize(
        "law, name",
        [
            ("pet*(1 - exp(-f*soil))", "et"),
            ("max(temp - tmax, 0)*ddf", "melt"),
            ("sqrt(qmax*soil/tau)", "baseflow"),
            ("qmax*(soil/smax)**2.5*(soil/smax)**snow_fraction", "baseflow"),
            ("abs(excess(soil, smax))/tau + limiter(soil, qmax, tau)*power(soil/smax, 2)", "discharge"),
            ("switch(tmin - temp, width)*(dayl/dayl)", "snow_fraction"),  # width, "mm or K", is of no known dimension
            ("rainfall + snowfall", "overflow"),
            ("soil*f*qmax", "baseflow"),
        ],
    )
    def test_taken(self, law, name):
        exphydro_mended.replace(**{name: FormulaLaw(law)})

    def test_constants_carry_units(self):
        exphydro_mended.replace(et=FormulaLaw("k*soil", {"k": Range(0.0, 1.0, "1/d")}))
        with pytest.raises(StructureError, match="is length, it should be length/time"):
            exphydro_mended.replace(et=FormulaLaw("k*soil", {"k": Range(0.0, 1.0, "1")}))

    def test_empirical_formulas_are_not_checked(self):
        hamon = "29.8*dayl*0.611*exp(17.3*temp/(temp + 237.3))/(temp + 273.2)"
        with pytest.raises(StructureError, match="empirical=True"):
            exphydro.replace(pet=FormulaLaw(hamon))
        record = weather(10)
        plain, same = Balance(exphydro), Balance(exphydro, pet=FormulaLaw(hamon, empirical=True))
        runs = [simulate(m, record, storage0=CASE.start()).storage for m in (plain, same)]
        assert torch.allclose(*runs, rtol=0, atol=1e-9)

    def test_a_quantity_without_a_unit_makes_no_claim(self):
        @quantity
        def odd(storage):
            return storage

        @quantity(unit="1")
        def even(storage, odd):
            return storage / odd

        assert (odd.unit, even.unit) == (None, "1")
        s = Structure("mine", linear.stores, linear.forcings, linear.parameters, linear.fluxes, quantities=(odd, even))
        s.replace(outflow=FormulaLaw("odd*storage**2"))
        s.replace(outflow=FormulaLaw("k*(odd + storage)"))
        s.replace(odd=FormulaLaw("storage**3"))
        with pytest.raises(StructureError, match="'outflow'.*is length, it should be length/time"):
            s.replace(outflow=FormulaLaw("odd + storage"))
        with pytest.raises(StructureError, match=r"'even'.*is length\^2"):
            s.replace(even=FormulaLaw("storage**2"))

    def test_other_stores(self):
        """Hares are a dimension of their own, and a flux is its store's unit per day."""

        @flux("outside", "hares", signed=True)
        def births(hares, rate):
            return rate * hares

        s = Structure(
            "animals", {"hares": "hare"}, {}, {"rate": Range(0.0, 1.0, "1/d")}, (births,), boundaries=("outside",)
        )
        s.replace(births=FormulaLaw("rate*hares - eaten*hares**2", {"eaten": Range(0.0, 1.0, "1/hare/d")}))
        with pytest.raises(StructureError, match=r"hare\^2/time"):
            s.replace(births=FormulaLaw("rate*hares - rate*hares**2"))


class TestUnits:
    @pytest.mark.parametrize(
        "one, other",
        [
            ("mm/d", "m/h"),
            ("mm/d", "mm d-1"),
            ("mm/d", "mm.d^-1"),
            ("mm d⁻¹", "mm*d**-1"),
            ("degC", "K"),
            ("mm/d/K", "mm/(d K)"),
            ("mm/d/degC", "mm d-1 degC-1"),
            ("W/m2", "J/s/m^2"),
            ("Pa", "kg/(m s2)"),
            ("hPa", "N/m²"),
            ("m3/s", "L/s"),
            ("mm^2", "mm2"),
            ("m^(1/2)", "m^0.5"),
            ("1/d", "d-1"),
            ("1", "-"),
            ("%", ""),
            ("1", "mm/m"),
            ("hare/d", "hare/h"),
            ("ha", "km2"),
        ],
    )
    def test_the_same_dimension(self, one, other):
        assert dimension_of(one) == dimension_of(other)

    def test_different_dimensions(self):
        units = "1 mm mm/d 1/d 1/mm degC mm/d/K mm2/d h W/m2 Pa kg/m3 m3/s hare".split()
        assert len({dimension_of(u) for u in units}) == len(units)
        assert dimension_of("mm or K") is None
        rate = dimension_of("mm/d")
        assert str(rate) == "length/time" and str(rate**2 / rate) == "length/time" and not rate / rate
        assert rate == Dimension.of(length=1, time=-1) and str(dimension_of("1")) == "dimensionless"
        assert str(dimension_of("1/mm")) == "1/length" and str(dimension_of("hare^0.5")) == "hare^(1/2)"

    @pytest.mark.parametrize("unit", ["mm//d", "mm/", "/d", "mm/(d", "mm)", "mm^", "m*", "mm,d", "1/(d"])
    def test_unreadable(self, unit):
        with pytest.raises(StructureError, match="cannot be read: write it like 'mm/d'"):
            dimension_of(unit)

    def test_of_the_shipped_models(self):
        """Every declared unit can be read."""
        for s in STRUCTURES.values():
            for unit in (*s.stores.values(), *s.forcings.values(), *(r.unit for r in s.parameters.values())):
                dimension_of(unit)
            assert all(dimension_of(q.unit) is not None for q in s.quantities)


def test_saved_and_loaded(tmp_path):
    """Text with all digits; see test_saved for what is refused."""
    hybrid = CASE.build()
    theta = {n: v[0] for n, v in CASE.theta.items() if n in hybrid.parameter_names} | {"tau": 1.0}
    saved.save(tmp_path, hybrid, theta)
    loaded = saved.load(tmp_path, {"exphydro_mended": exphydro_mended})
    assert loaded.theta == theta and loaded.model.structure.parameters == hybrid.structure.parameters
    assert all(loaded.model.structure.flux(n).law == hybrid.structure.flux(n).law for n in ("et", "discharge"))
    runs = [simulate(m, weather(9), theta=theta, storage0=CASE.start()).storage for m in (hybrid, loaded.model)]
    assert torch.equal(*runs)
