"""Free-form formulas by PyOperon (Burlacu et al. 2020), brought into a library as terms with trained constants."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import torch

from udehydro.discovery.library import Library, Term, fits
from udehydro.discovery.nominate import Columns, Nominee
from udehydro.discovery.sample import Samples
from udehydro.errors import ConfigError, StructureError
from udehydro.laws import FormulaLaw
from udehydro.structure import Range, Structure

SMALL, SAME = 0.02, 0.02
"""Parts of a sum so small, and differences of a formula from terms of a library so small, are none: by root mean square
relative to the whole."""
WHOLE = 0.05
"""Constants as near to 1 or 2, relatively, are also tried as these."""
DECADE = 10.0
"""A shape constant is searched from a tenth to ten times what was found."""


@dataclass
class Operon:
    """Engine that searches expressions by genetic programming.

    It knows no units. Where inputs or the law have some, give it dimensionless ``inputs``, and as ``scale`` what has
    the unit of the law: it then looks for law / scale as a function of the inputs, and every constant is a number.

    Parameters
    ----------
    inputs : name -> expression of names of the model, e.g. ``{"s": "saturation(soil, smax)"}``; by default every name
        that terms of the library read. Those that do not vary are left out.
    scale : expression by which the law is divided, e.g. ``"pet"``.
    symbols : operations, in PyOperon's words.
    length, population, generations : most nodes of an expression, and the size of the search.
    add : most expressions that join a library.

    Raises ConfigError, when called, without pyoperon, and where no input varies.
    """

    inputs: Mapping[str, str] | None = None
    scale: str = "1"
    symbols: str = "add,sub,mul,div,exp,tanh,square,constant,variable"
    length: int = 12
    population: int = 200
    generations: int = 50
    add: int = 6
    seed: int = 0
    _found: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, samples: Samples, law: str, library: Library, keep: int = 8) -> list[Nominee]:
        """What was found and is a sum of terms of the library, shortest description first."""
        kept: dict[tuple[int, ...], Nominee] = {}
        for expression in self._expressions(samples, law, library):
            for nominee in self._same(samples, law, library, expression):
                kept.setdefault(nominee[0], nominee)
        return list(kept.values())[: keep * library.most]

    def extended(self, structure: Structure, samples: Samples, law: str, library: Library) -> Library:
        """The library with what was found, has the unit of the law, and is no sum of its terms.

        Constants become shape constants without unit. Where the unit of the law asks for it, the leading one becomes a
        factor with the range of a coefficient in the library.
        """
        ranges = dict.fromkeys((None, *(t.coefficient for t in library.terms)))
        new: dict[str, Term] = {}
        for expression in self._expressions(samples, law, library):
            if not self._same(samples, law, library, expression):
                terms = (self._term(expression, r) for r in ranges)
                for term in [t for t in terms if fits(structure, law, t)][:1]:
                    new.setdefault(term.text, term)
        return replace(library, terms=(*library.terms, *list(new.values())[: self.add]))

    def _expressions(self, samples: Samples, law: str, library: Library) -> list:
        """SymPy expressions of the inputs for law / scale; searched once for the same samples."""
        before, read = self._found.get(law), tuple(self._read(library).items())
        if before is None or before[0] is not samples or before[1] != read:
            self._found[law] = samples, read, self._searched(samples, law, library)
        return self._found[law][-1]

    def _searched(self, samples: Samples, law: str, library: Library) -> list:
        scale = _values(self.scale, samples.inputs)
        weights = samples.weights(law).numpy() * np.abs(scale)
        chosen = _resampled(weights)
        columns = {n: _values(text, samples.inputs) for n, text in self._read(library).items()}
        columns = {n: c for n, c in columns.items() if np.ptp(c[chosen]) > 1e-9 * np.abs(c[chosen]).max()}
        if not columns:
            raise ConfigError(f"Operon finds no input of '{law}' that varies: give inputs={{name: expression}}.")
        target = samples.median(law).numpy()[chosen] / scale[chosen]
        sigma = np.sqrt(len(weights) / np.square(weights).sum())
        front = self._front({n: c[chosen] for n, c in columns.items()}, target, sigma)
        found = dict.fromkeys(v for e in front for v in _variants(e, columns, weights))
        return list(found)[: 3 * self.add]

    def _read(self, library: Library) -> Mapping[str, str]:
        if self.inputs is not None:
            return self.inputs
        names = {n for t in library.terms for n in FormulaLaw(t.text, t.constants).reads if n not in t.constants}
        return {n: n for n in sorted(names)}

    def _front(self, columns: Mapping[str, np.ndarray], target: np.ndarray, sigma: float) -> Iterator:
        """Expressions of the Pareto front of misfit and length, shortest description first."""
        import sympy

        from udehydro.laws.expression import parse

        sizes = {n: np.sqrt(np.square(c).mean()) for n, c in columns.items()}
        size = max(float(np.sqrt(np.square(target).mean())), 1e-300)
        regressor = _regressor()(
            allowed_symbols=self.symbols, objectives=["mse", "length"], optimizer_iterations=10,
            population_size=self.population, generations=self.generations, max_length=self.length,
            uncertainty=[sigma / size], random_state=self.seed, n_threads=1,
        )  # fmt: skip
        matrix = np.stack([c / sizes[n] for n, c in columns.items()], axis=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of models without variables
            regressor.fit(matrix, target / size)
            front = sorted(regressor.pareto_front_, key=lambda p: p["minimum_description_length"])
            texts = [regressor.get_model_string(p["tree"], 17, list(columns)) for p in front]
        swap = {sympy.Symbol(n): sympy.Symbol(n) / s for n, s in sizes.items()}
        for text in texts:
            try:
                found = parse(text.replace("^", "**"))
            except StructureError:  # numbers beyond double precision, among them
                continue
            if {s.name for s in found.free_symbols} <= set(columns):
                yield sympy.Add(*(size * part for part in sympy.Add.make_args(found.xreplace(swap))))

    def _term(self, expression, coefficient: Range | None) -> Term:
        """An expression as a term; with a ``coefficient`` its leading constant becomes that."""
        import sympy

        from udehydro.laws.expression import parse, write

        parts = sympy.Add.make_args(expression)
        if coefficient is not None:
            leading = float(parts[0].as_coeff_Mul()[0])
            default = min(max(leading, coefficient.low), coefficient.high)
            coefficient = replace(coefficient, default=default)
            expression = _whole(sympy.Add(*(p / leading for p in parts)), 1e-12)
        inputs = {sympy.Symbol(n): parse(text) for n, text in (self.inputs or {}).items()}
        scale = parse(self.scale)
        taken = {s.name for e in (expression, scale, *inputs.values()) for s in e.free_symbols}
        prefix = next(p for p in ("c", "c_", "constant_") if not any(n.startswith(p) for n in taken))
        numbers = sorted(expression.atoms(sympy.Float), key=str)
        names = {v: f"{prefix}{i}" for i, v in enumerate(numbers)}
        swap = {v: sympy.Symbol(n) for v, n in names.items()}
        shape = expression.xreplace(swap).xreplace(inputs)
        return Term(write(scale * shape), {n: _around(float(v)) for v, n in names.items()}, coefficient)

    def _same(self, samples: Samples, law: str, library: Library, expression) -> list[Nominee]:
        """The shortest sums of terms that are this expression at the samples, but for small differences."""
        term = self._term(expression, None)
        values = _values(term.text, samples.inputs | {n: torch.tensor(r.default) for n, r in term.constants.items()})
        weights = samples.weights(law).numpy()
        columns = Columns.of(library, samples.inputs, values, weights)
        most = np.square(SAME * weights * values).sum()
        for size in range(1, library.most + 1):
            scored = sorted(map(columns.nominee, combinations(range(len(library)), size)), key=lambda s: s[0])
            if scored and scored[0][0] <= most:
                return [nominee for misfit, nominee in scored if misfit <= most]
        return []


def _variants(expression, columns: Mapping[str, np.ndarray], weights: np.ndarray) -> list:
    """An expression without the small parts of its sum, as it is and with constants near whole numbers as these."""
    import sympy

    given = {n: torch.from_numpy(c) for n, c in columns.items()}
    parts = {p: _rms(_values(p, given, len(weights)), weights) for p in sympy.Add.make_args(expression)}
    whole = _rms(_values(expression, given, len(weights)), weights)
    kept = sympy.Add(*(p for p, size in parts.items() if size > SMALL * whole))
    return [] if kept == 0 or not np.isfinite(whole) else [_whole(kept, WHOLE), kept]


def _whole(expression, near: float):
    """With numbers near 1 and 2, relatively, as these."""
    import sympy

    rounded = {v: round(float(v)) for v in expression.atoms(sympy.Float) if 0.5 < abs(v) < 2.5}
    swap = {v: sympy.Integer(n) for v, n in rounded.items() if abs(v - n) <= near * abs(n)}
    return expression.xreplace(swap)


def _around(value: float) -> Range:
    ends = sorted((value / DECADE, value * DECADE))
    return Range(*ends, "1", value)


def _values(expression, inputs: Mapping[str, torch.Tensor], count: int | None = None) -> np.ndarray:
    """An expression at the samples (N,)."""
    law = FormulaLaw(expression)
    count = count or len(next(iter(inputs.values())))
    if missing := [n for n in law.reads if n not in inputs]:
        raise ConfigError(f"The samples have no {', '.join(missing)}, which '{law.text}' reads.")
    value = torch.as_tensor(law(*(inputs[n] for n in law.reads)), dtype=torch.float64)
    return value.expand(count).numpy()


def _rms(values: np.ndarray, weights: np.ndarray) -> float:
    return float(np.sqrt(np.square(values * weights).mean()))


def _resampled(weights: np.ndarray) -> np.ndarray:
    """Indices that a regression without weights sees as one with them: points as often as their squared weight says."""
    share = np.cumsum(np.square(weights))
    return np.searchsorted(share / share[-1], (np.arange(len(weights)) + 0.5) / len(weights))


def _regressor():
    try:
        from pyoperon.sklearn import SymbolicRegressor
    except ImportError as error:
        raise ConfigError("The engine Operon needs pyoperon: pip install 'udehydro[discovery]'.") from error
    return SymbolicRegressor
