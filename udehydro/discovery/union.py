"""One model that holds every candidate: its laws are sums of all terms, and a candidate is a set of constants.

Members of a batch then differ in numbers alone, so that candidates of unlike structure are simulated and refitted side
by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from udehydro.balance import Balance
from udehydro.discovery.library import Library, Term, alone, renamed
from udehydro.errors import ConfigError
from udehydro.laws import FormulaLaw
from udehydro.structure import Range, Structure

Candidate = tuple[tuple[int, ...], ...]
"""Per law to be found, the terms it is made of."""

SWITCH = Range(0.0, 1.0, "1", 0.0)


@dataclass(frozen=True)
class Names:
    """Names of a term's constants in the model of all candidates: its factor, and its own constants."""

    factor: str
    own: dict[str, str]


@dataclass(frozen=True)
class Union:
    """The model of all candidates.

    Attributes
    ----------
    structure : without the laws to be found; ``libraries`` : law name -> Library.
    model : with all terms of all libraries; constants are zero where a candidate does not have a term.
    """

    structure: Structure
    libraries: Mapping[str, Library]
    model: Balance = field(init=False, repr=False)
    names: tuple[tuple[Names, ...], ...] = field(init=False, repr=False)

    def __post_init__(self):
        if not self.libraries:
            raise ConfigError(
                "Say which laws are to be found, e.g. libraries={'et': shares('pet', 'saturation(soil, smax)')}."
            )
        laws, names = {}, []
        for law, library in self.libraries.items():
            own = [_names(law, j, term) for j, term in enumerate(library.terms)]
            texts, constants = [], {}
            for term, n in zip(library.terms, own, strict=True):
                texts.append(f"{n.factor}*({renamed(term.text, n.own)})")
                factor = term.coefficient or SWITCH
                # zero has to be allowed where a term is absent
                constants[n.factor] = Range(min(0.0, factor.low), max(0.0, factor.high), factor.unit, 0.0)
                constants |= {n.own[k]: r for k, r in term.constants.items()}
            laws[law] = FormulaLaw(" + ".join(texts), constants, any(t.empirical for t in library.terms))
            names.append(tuple(own))
        # one by one first: an error about the sum would quote all terms, under names that nobody gave
        for law, library in self.libraries.items():
            for term in library.terms:
                alone(self.structure, law, term)
        object.__setattr__(self, "model", Balance(self.structure, **laws))
        object.__setattr__(self, "names", tuple(names))

    def terms(self, candidate: Candidate) -> list[tuple[Names, Term]]:
        """Names and terms a candidate is made of."""
        return [
            (self.names[i][j], library.terms[j])
            for i, (library, chosen) in enumerate(zip(self.libraries.values(), candidate, strict=True))
            for j in chosen
        ]

    def coefficients(self) -> dict[str, Range]:
        """Names of all factors that are trained where a candidate has their term -> the range of that term's own."""
        pairs = zip(self.names, self.libraries.values(), strict=True)
        every = [(n, t) for names, library in pairs for n, t in zip(names, library.terms, strict=True)]
        return {n.factor: t.coefficient for n, t in every if t.coefficient is not None}

    def free(self, candidate: Candidate) -> list[str]:
        """Names of the trained constants of a candidate."""
        found = []
        for names, term in self.terms(candidate):
            found += [names.factor] * (term.coefficient is not None) + [*names.own.values()]
        return found

    def factors(self, candidate: Candidate) -> list[str]:
        """Names of the trained factors of a candidate."""
        return [names.factor for names, term in self.terms(candidate) if term.coefficient is not None]

    def values(self, candidate: Candidate) -> dict[str, float]:
        """Start values of all constants: those of a candidate by their ranges, factors of all others zero."""
        values = {}
        for library, names in zip(self.libraries.values(), self.names, strict=True):
            for term, n in zip(library.terms, names, strict=True):
                values |= {n.factor: 0.0} | {n.own[k]: r.default for k, r in term.constants.items()}
        for names, term in self.terms(candidate):
            values[names.factor] = 1.0 if term.coefficient is None else term.coefficient.default
        return values

    def short(self, candidate: Candidate) -> dict[str, str]:
        """Names of the trained constants of a candidate -> the shorter ones they have in its formulas."""
        s = self.structure
        taken = {*s.parameters, *s.stores, *s.forcings, *s.groups, *s.nodes, *(f.name for f in s.fluxes)}
        taken |= {o for q in s.quantities for o in q.outputs}
        found = {}
        for law, names, library, chosen in zip(
            self.libraries, self.names, self.libraries.values(), candidate, strict=True
        ):
            for j in chosen:
                found |= {names[j].own[k]: _free(f"{law}_{k}", taken) for k in library.terms[j].constants}
                if library.terms[j].coefficient is not None:
                    found[names[j].factor] = _free(f"{law}_k", taken)
        return found

    def laws(self, candidate: Candidate, values: Mapping[str, float]) -> dict[str, FormulaLaw]:
        """The laws of a candidate, with constants of short names whose defaults are the ``values``."""
        laws, short = {}, self.short(candidate)
        for (law, library), names, chosen in zip(self.libraries.items(), self.names, candidate, strict=True):
            texts, constants = [], {}
            for j in chosen:
                term, n = library.terms[j], names[j]
                text = renamed(term.text, {k: short[n.own[k]] for k in term.constants})
                own = {short[n.own[k]]: _at(r, values[n.own[k]]) for k, r in term.constants.items()}
                if term.coefficient is not None:
                    factor = short[n.factor]
                    text = f"{factor}*({text})"
                    own = {factor: _at(term.coefficient, values[n.factor]), **own}
                texts.append(text)
                constants |= own
            empirical = any(library.terms[j].empirical for j in chosen)
            laws[law] = FormulaLaw(" + ".join(texts), constants, empirical)
        return laws


def _names(law: str, j: int, term: Term) -> Names:
    return Names(f"{law}_{j}", {k: f"{law}_{j}_{k}" for k in term.constants})


def _free(name: str, taken: set[str]) -> str:
    """``name``, or with a number where that is taken; it is taken from then on."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name}{number}", number + 1
    taken.add(found)
    return found


def _at(range_: Range, value: float) -> Range:
    return Range(range_.low, range_.high, range_.unit, min(max(float(value), range_.low), range_.high))


def describe(laws: Mapping[str, FormulaLaw]) -> str:
    """Laws on one line, for tables."""
    return "; ".join(f"{name} = {law.text}" for name, law in laws.items())
