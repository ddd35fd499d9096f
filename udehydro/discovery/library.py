"""Libraries: what a law may be made of, as candidate terms that are checked for their units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, combinations_with_replacement

from udehydro.errors import ConfigError, StructureError
from udehydro.structure import Range, Structure


@dataclass(frozen=True)
class Term:
    """A term of a law.

    Parameters
    ----------
    text : expression of names of the model and of the term's own ``constants``, as in :class:`FormulaLaw`.
    constants : shape constants, name -> Range; the names are the term's own.
    coefficient : range of a trained factor in front; None: the term enters as it is.
    empirical : numbers in the text carry units, so that its dimension is not checked.
    """

    text: str
    constants: Mapping[str, Range] = field(default_factory=dict)
    coefficient: Range | None = None
    empirical: bool = False

    def __post_init__(self):
        object.__setattr__(self, "constants", dict(self.constants))

    @property
    def free(self) -> int:
        """Trained constants."""
        return len(self.constants) + (self.coefficient is not None)

    def __str__(self) -> str:
        return self.text if self.coefficient is None else f"c*{self.text}"


@dataclass(frozen=True)
class Library:
    """Candidate terms for the law of one flux, quantity or group; a law is a sum of at most ``most`` of them."""

    terms: tuple[Term, ...]
    most: int = 1

    def __post_init__(self):
        object.__setattr__(self, "terms", tuple(self.terms))
        if not self.terms or not 1 <= self.most:
            raise ConfigError("A library needs at least one term, and laws of at least one (most=1).")

    def __len__(self) -> int:
        return len(self.terms)

    def subsets(self) -> Iterable[tuple[int, ...]]:
        """All laws as indices of terms, short ones first."""
        for size in range(1, self.most + 1):
            yield from combinations(range(len(self.terms)), size)


def polynomials(names: Sequence[str], degree: int, coefficient: Range, *, more: Sequence[str] = (), most: int = 2):
    """All monomials of some states up to a degree, the constant included, and ``more`` terms such as ``sin(x)``."""
    terms = ["1"]
    for power in range(1, degree + 1):
        for chosen in combinations_with_replacement(names, power):
            powers = [(n, chosen.count(n)) for n in dict.fromkeys(chosen)]
            terms.append("*".join(n if p == 1 else f"{n}**{p}" for n, p in powers))
    return Library([Term(t, {}, coefficient) for t in (*terms, *more)], most)


SHAPES = {
    "linear": ("{s}", {}),
    "power": ("power({s}, m)", {"m": Range(0.2, 8.0, "1", 1.5)}),
    "parabola": ("{s}*(2 - {s})", {}),
    "saturating exponential": ("(1 - exp(-a*{s}))", {"a": Range(0.1, 20.0, "1", 3.0)}),
    "hyperbolic tangent": ("tanh({s}/b)", {"b": Range(0.05, 5.0, "1", 0.5)}),
    "threshold": ("min(1, {s}/b)", {"b": Range(0.05, 1.0, "1", 0.6)}),
    "hyperbola": ("{s}/({s} + c)", {"c": Range(0.01, 10.0, "1", 0.5)}),
    "Hill": ("{s}**2/({s}**2 + c**2)", {"c": Range(0.02, 5.0, "1", 0.5)}),
    "none": ("1", {}),
}
"""Dependence of a share on a relative filling s in [0, 1]."""

OUTFLOWS = {
    "linear": ("{s}", {}),
    "square": ("{s}**2", {}),
    "power": ("power({s}, n)", {"n": Range(0.5, 20.0, "1", 3.0)}),
    "exponential": ("exp(f*({s} - 1))", {"f": Range(0.5, 40.0, "1", 6.0)}),
    "exponential through zero": ("(exp(f*{s}) - 1)/(exp(f) - 1)", {"f": Range(0.5, 40.0, "1", 6.0)}),
    "above a threshold": ("max({s} - c, 0)", {"c": Range(0.0, 0.99, "1", 0.3)}),
}
"""Dependence of an outflow on a relative filling s."""


def shares(of: str, filling: str) -> Library:
    """Laws of a flux that is a share of a potential rate ``of``, such as evapotranspiration of PET: rate x shape(s).

    ``filling`` is the text of s, e.g. ``"saturation(soil, smax)"``.
    """
    terms = [Term(f"{of}*{text.format(s=f'({filling})')}", constants) for text, constants in SHAPES.values()]
    terms[-1] = Term(of, {}, Range(0.0, 1.5, "1", 0.7))
    return Library(terms)


def outflows(filling: str, rate: Range) -> Library:
    """Laws of an outflow k x shape(s), and k s + c s^2; ``rate`` is the range of k."""
    filling = f"({filling})"
    terms = [Term(text.format(s=filling), constants, rate) for text, constants in OUTFLOWS.values()]
    k = Range(rate.low, rate.high, rate.unit, rate.default)
    terms.append(Term(f"(k*{filling} + c*{filling}**2)", {"k": k, "c": k}))
    return Library(terms)


def products(
    structure: Structure, flux: str, factors: Sequence[Term], shapes: Sequence[Term], most: int = 1
) -> Library:
    """All factors times shapes whose unit is that of the flux; the others are left out.

    Raises ConfigError where none is left.
    """
    kept = []
    for factor in factors:
        for shape in shapes:
            if clash := set(factor.constants) & set(shape.constants):
                raise ConfigError(f"Factor '{factor}' and shape '{shape}' both have a constant {sorted(clash)}.")
            text = (
                shape.text
                if factor.text == "1"
                else factor.text
                if shape.text == "1"
                else f"({factor.text})*({shape.text})"
            )
            term = Term(
                text, {**factor.constants, **shape.constants}, factor.coefficient or shape.coefficient,
                factor.empirical or shape.empirical,
            )  # fmt: skip
            if fits(structure, flux, term):
                kept.append(term)
    if not kept:
        raise ConfigError(f"No product of these factors and shapes has the unit of '{flux}'.")
    return Library(kept, most)


def from_plain(structure: Structure, name: str, plain: Mapping) -> Library:
    """The library of an experiment file for a flux or group: ``terms`` and ``most``.

    Raises StructureError for a term that cannot be a law of the flux, because of a name or a unit.
    """
    terms = []
    for given in plain["terms"]:
        given = {"term": given} if isinstance(given, str) else given
        constants = {n: Range(*r) for n, r in given.get("constants", {}).items()}
        term = Term(given["term"], constants, Range(*given["factor"]) if "factor" in given else None)
        alone(structure, name, term)
        terms.append(term)
    return Library(terms, plain.get("most", 1))


def fits(structure: Structure, flux: str, term: Term) -> bool:
    """Whether a term has the dimension of a flux. StructureError where it reads what the structure does not have."""
    alone(structure, flux, replace(term, empirical=True))  # says which name is not known
    try:
        alone(structure, flux, term)
    except StructureError:
        return False
    return True


def alone(structure: Structure, flux: str, term: Term) -> Structure:
    """The structure with a term as the law of a flux; StructureError, naming the term, where it cannot be."""
    from udehydro.laws import FormulaLaw

    constants = {f"own_{n}": r for n, r in term.constants.items()}
    law = renamed(term.text, {n: f"own_{n}" for n in term.constants})
    if term.coefficient is not None:
        law, constants = f"own_factor*({law})", {"own_factor": term.coefficient, **constants}
    try:
        return structure.replace(**{flux: FormulaLaw(law, constants, term.empirical)})
    except StructureError as error:
        why = str(error).replace("own_", "")
        raise StructureError(f"The term '{term}' cannot be a law of '{flux}': {why}") from None


def renamed(text: str, names: Mapping[str, str]) -> str:
    """Text of an expression with other names."""
    import sympy

    from udehydro.laws.expression import parse, write

    swap = {sympy.Symbol(old): sympy.Symbol(new) for old, new in names.items()}
    return write(parse(text).xreplace(swap))
