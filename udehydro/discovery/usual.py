"""The usual libraries: terms that hydrological models have for a flux, from what the structure says about it."""

from __future__ import annotations

from udehydro.discovery.library import Library, Term, fits
from udehydro.errors import ConfigError
from udehydro.structure import ATMOSPHERE, Flux, Range, Structure, reads, suggest

RATE = Range(1e-3, 1e3, "mm/d", 5.0)
PART = Range(0.0, 2.0, "1", 0.3)
FACTOR = Range(0.05, 5.0, "1", 1.0)


def usual(structure: Structure, name: str) -> Library:
    """Candidate terms for a flux or group of fluxes that leaves one store; laws are sums of up to two.

    To the atmosphere: a potential rate, or one exponential in temperature times day length, by a factor and a function
    of the relative filling, also under snow; interception, a share of the rain, or a rate that saturates with it
    (Merriam 1960). Anywhere else: drainage by filling, and what flows into the store times a function of filling (rain
    and melt that run off). The filling is the storage over the parameter in mm that the formula reads with it.

    Raises ConfigError for a flux without such a store, parameter or potential rate: give a :class:`Library` then.
    """
    leaving = _members(structure, name)
    store = leaving[0].source
    if store not in structure.stores or any(f.source != store for f in leaving):
        raise ConfigError(f"'{name}' does not leave one store: there is no usual library for it, give a Library.")
    capacity = _capacity(structure, leaving, store)
    if leaving[0].sink == ATMOSPHERE:
        terms = _losses(structure, leaving, store, capacity)
    else:
        terms = _outflows(structure, leaving, store, capacity)
    kept = [t for t in terms if fits(structure, name, t)]
    if not kept:
        raise ConfigError(f"No usual term has the unit of '{name}': give a Library.")
    return Library(kept, most=2)


def _members(structure: Structure, name: str) -> list[Flux]:
    known = [f.name for f in structure.fluxes]
    if name not in known and name not in structure.groups:
        raise ConfigError(f"The model has no flux or group '{name}'.{suggest(name, (*known, *structure.groups))}")
    return [structure.flux(n) for n in structure.groups.get(name, (name,))]


def _capacity(structure: Structure, leaving: list[Flux], store: str) -> str:
    """The parameter that makes storage relative: one of its unit, read together with the store, by the flux first."""
    unit = structure.stores[store]
    sets = [reads(f.law) for f in leaving] + [reads(i.law) for i in (*structure.fluxes, *structure.quantities)]
    for names in sets:
        for n in names:
            declared = structure.parameters.get(n)
            if store in names and declared is not None and declared.unit == unit and not declared.fixed:
                return n
    raise ConfigError(
        f"No parameter in {unit} is read together with '{store}': give a Library with a filling of yours."
    )


def _losses(structure: Structure, leaving: list[Flux], store: str, capacity: str) -> list[Term]:
    units = dict(structure.forcings) | {o: q.unit for q in structure.quantities for o in q.outputs}
    rates = [n for f in leaving for n in reads(f.law) if units.get(n) == "mm/d"]
    if not rates:
        raise ConfigError(f"The formula of '{leaving[0].name}' reads no potential rate in mm/d: give a Library.")
    potential: dict[str, tuple] = {rates[0]: ({}, FACTOR)}
    if {"temp", "dayl"} <= set(structure.forcings):
        potential["dayl*exp(q*temp)"] = {"q": Range(0.0, 0.3, "1/K", 0.06)}, Range(1e-3, 2.0, "mm/d/h", 0.05)
    s = f"saturation({store}, {capacity})"
    shapes = {
        s: {},
        f"power({s}, m)": {"m": Range(0.1, 15.0, "1", 1.5)},
        f"min(1, {s}/b)": {"b": Range(0.02, 1.0, "1", 0.6)},
        f"(1 - exp(-a*{s}))": {"a": Range(0.2, 30.0, "1", 3.0)},
    }
    covers = {"": {}}
    if "snow" in structure.stores and store != "snow":
        covers["*exp(-max(snow, 0)/d)"] = {"d": Range(1.0, 1000.0, "mm", 30.0)}
    terms = [
        Term(f"{rate}*{shape}{cover}", {**other, **own, **depth}, factor)
        for rate, (other, factor) in potential.items()
        for shape, own in shapes.items()
        for cover, depth in covers.items()
    ]
    if structure.forcings.get("prcp") == "mm/d":
        saturating = {"p": Range(0.2, 100.0, "mm/d", 8.0)}
        terms += [Term("prcp", {}, PART), Term(f"{rates[0]}*(1 - exp(-prcp/p))", saturating, FACTOR)]
    return terms


def _outflows(structure: Structure, leaving: list[Flux], store: str, capacity: str) -> list[Term]:
    s, clipped = f"{store}/{capacity}", f"saturation({store}, {capacity})"
    terms = [
        Term(s, {}, RATE),
        Term(f"power({s}, n)", {"n": Range(0.3, 30.0, "1", 4.0)}, RATE),
        Term(f"power(max({s} - c, 0), n)", {"c": Range(0.0, 1.5, "1", 0.5), "n": Range(0.5, 8.0, "1", 2.0)}, RATE),
    ]
    # a law may read fluxes that are evaluated before its own
    before = structure.fluxes[: min(structure.fluxes.index(f) for f in leaving)]
    into = [f.name for f in before if f.sink == store]
    if into:
        wet = into[0] if len(into) == 1 else f"({' + '.join(into)})"
        terms += [Term(wet, {}, PART), Term(f"{wet}*power({clipped}, b)", {"b": Range(0.05, 20.0, "1", 2.0)}, PART)]
    return terms
