"""The graph of a model: stores joined by fluxes, each flux obeying a law. No tensors live here.

A law is any function of named quantities; its argument names say what it reads: stores, forcings, parameters,
quantities, and fluxes evaluated before it. A flux leaves one node and enters another, so water is conserved by
construction, whatever computes the flux.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from udehydro.errors import StructureError

ATMOSPHERE = "atmosphere"
OUTLET = "outlet"
GROUNDWATER = "groundwater"
"""Aquifer outside the balance: a boundary for models that exchange water with it and list it in ``boundaries``."""

SOURCE = "<source>"
"""Late name a law may read: the storage its flux leaves (``None`` where the source is a boundary)."""
FORMULA = "<formula>"
"""Late name a law may read: the value of the formula that the law replaces."""
STEP = "h"
"""Name under which a :class:`Bound` reads the effective step [d]."""

Law = Callable[..., object]


@dataclass(frozen=True)
class Range:
    """Physical range of a parameter, with unit and default.

    ``fixed=True`` marks a constant (a smoothing width, a time constant) that calibration leaves at its default
    unless asked. Ranges that span more than a factor of 100 above zero are searched in the logarithm.
    """

    low: float
    high: float
    unit: str
    default: float | None = None
    fixed: bool = False

    def __post_init__(self):
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise StructureError(f"Range needs finite low < high, got low={self.low}, high={self.high}.")
        if self.default is None:
            object.__setattr__(self, "default", 0.5 * (self.low + self.high))
        if not self.low <= self.default <= self.high:
            raise StructureError(
                f"Default {self.default} lies outside its range [{self.low}, {self.high}] {self.unit}."
            )

    @property
    def logarithmic(self) -> bool:
        """Whether the range is searched in the logarithm: above zero, and spanning more than a factor of 100."""
        return self.low > 0 and self.high / self.low > 100


def reads(law: Law) -> tuple[str, ...]:
    """Names a law reads, in the order of its arguments (``law.reads`` where the law declares it)."""
    declared = getattr(law, "reads", None)
    if declared is not None:
        return tuple(declared)
    function = law.forward if hasattr(law, "forward") else law
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        raise StructureError(
            f"Law {law!r} takes *args or **kwargs, so its inputs have no names. Name its arguments, or give it a "
            "`reads` attribute with the names in order."
        )
    return tuple(p.name for p in parameters)


@dataclass(frozen=True)
class Flux:
    """Water moved per day from ``source`` to ``sink`` [mm/d]; made with :func:`flux`.

    ``signed=True`` allows the rate to reverse. ``formula`` remembers the law that a swapped one replaced.
    """

    name: str
    source: str
    sink: str
    law: Law
    signed: bool = False
    formula: Law | None = None


@dataclass(frozen=True)
class Quantity:
    """Named auxiliary (PET from temperature, a rain/snow partition); made with :func:`quantity`.

    ``outputs`` names what the law returns: one name, or several for a law that returns a tuple. ``unit`` of each, where
    declared, is what formula laws are checked with.
    """

    name: str
    law: Law
    outputs: tuple[str, ...]
    formula: Law | None = None
    unit: str | None = None


def flux(source: str, sink: str, *, signed: bool = False) -> Callable[[Law], Flux]:
    """Declare a function as the law of a flux from ``source`` to ``sink``; the function's name is the flux's.

    The law returns mm/d, positive from source to sink; ``signed=True`` states that it may reverse.
    """

    def declare(law: Law) -> Flux:
        return Flux(law.__name__, source, sink, law, signed)

    return declare


def quantity(law: Law | None = None, *, unit: str | None = None) -> Quantity | Callable[[Law], Quantity]:
    """Declare a function as a named auxiliary quantity: ``@quantity``, or ``@quantity(unit="mm/d")``."""

    def declare(law: Law) -> Quantity:
        return Quantity(law.__name__, law, tuple(getattr(law, "outputs", (law.__name__,))), unit=unit)

    return declare if law is None else declare(law)


@dataclass(frozen=True)
class Bound:
    """A number that has to stay below one for an implicit step to have one solution; made with :func:`bound`.

    ``law`` reads parameters and ``h``, the effective step [d]: length of the step times the diagonal entry of the
    tableau. It grows with ``h``. ``of`` names the fluxes and quantities whose formulas it was derived from; a model
    in which one of them has another law does not carry it.
    """

    name: str
    law: Law
    of: tuple[str, ...]

    def __call__(self, values: Mapping[str, object], h) -> object:
        """The number at parameters by name and effective step ``h`` [d]; elementwise."""
        return self.law(*(h if name == STEP else values[name] for name in reads(self.law)))

    def substeps(self, values: Mapping[str, object], h) -> int | None:
        """Fewest equal parts of ``h`` that meet the bound everywhere; ``None`` where a million do not."""

        def met(parts: int) -> bool:
            return bool((self(values, h / parts) < 1.0).all())

        high = 1
        while not met(high):
            high *= 2
            if high > 2**20:
                return None
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if met(middle) else (middle, high)
        return high

    def message(self, value: float, where: str, substeps: int | None) -> str:
        """Warning about a ``value`` of one or more at ``where`` (a basin), with the total ``substeps`` that mend it."""
        inputs = [name for name in reads(self.law) if name != STEP]
        remedy = f"Use substeps={substeps} or more, or change" if substeps else "No step is short enough: change"
        said = (self.law.__doc__ or "").strip().split("\n")[0].rstrip(".")
        return (
            f"{where}: {self.name} is {value:.3g} and has to stay below 1{f' ({said})' if said else ''}; beyond it an "
            f"implicit step may have several solutions, or none. {remedy} {', '.join(inputs)}."
        )


def bound(*of: str) -> Callable[[Law], Bound]:
    """Declare a function of parameters and ``h`` as a bound that the formulas of the fluxes ``of`` put on the step."""

    def declare(law: Law) -> Bound:
        return Bound(law.__name__, law, of)

    return declare


class _Sum:
    """The summed laws of a group of fluxes, as one law."""

    def __init__(self, laws: Iterable[Law]):
        self._laws = tuple(laws)
        self.reads = tuple(dict.fromkeys(name for law in self._laws for name in reads(law)))
        self._slots = tuple(tuple(self.reads.index(n) for n in reads(law)) for law in self._laws)

    def __call__(self, *values):
        return sum(law(*(values[i] for i in slots)) for law, slots in zip(self._laws, self._slots, strict=True))


def suggest(name: str, known: Iterable[str]) -> str:
    """``did you mean`` hint and the list of known names, for error messages."""
    known = list(known)
    lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = f" Did you mean '{lower[close[0]]}'?" if close else ""
    return f"{hint} Known: {', '.join(known) or 'none'}."


@dataclass(frozen=True)
class Structure:
    """A model as a graph, checked on construction.

    Parameters
    ----------
    stores, forcings : mapping name -> unit
    parameters : mapping name -> Range. Constants that laws bring (`FormulaLaw`) are added.
    fluxes : Flux in order of evaluation; a law may read earlier fluxes.
    quantities : Quantity in order of evaluation, before all fluxes.
    groups : name -> names of fluxes; ``discharge`` defaults to all fluxes into the outlet.
    boundaries : nodes outside the balance beside ATMOSPHERE and OUTLET, e.g. GROUNDWATER.
    bounds : Bound on parameters and step, below which an implicit step has one solution.
    signed_stores : names of stores that may be negative (a temperature, a deviation): no undershoot is reported there.

    Raises
    ------
    StructureError
        For a name that is unknown, taken twice, or read before it is known.
    """

    name: str
    stores: Mapping[str, str]
    forcings: Mapping[str, str]
    parameters: Mapping[str, Range]
    fluxes: tuple[Flux, ...]
    quantities: tuple[Quantity, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    boundaries: tuple[str, ...] = ()
    bounds: tuple[Bound, ...] = ()
    signed_stores: tuple[str, ...] = ()

    def __post_init__(self):
        for attribute in ("stores", "forcings", "parameters"):
            object.__setattr__(self, attribute, dict(getattr(self, attribute)))
        groups = {g: tuple(members) for g, members in self.groups.items()}
        names = [f.name for f in self.fluxes]
        leaving = tuple(f.name for f in self.fluxes if f.sink == OUTLET)
        if leaving and "discharge" not in groups and "discharge" not in names:
            groups["discharge"] = leaving
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "fluxes", tuple(self.fluxes))
        object.__setattr__(self, "quantities", tuple(self.quantities))
        object.__setattr__(self, "bounds", tuple(self.bounds))
        object.__setattr__(self, "signed_stores", tuple(self.signed_stores))
        for item in (*self.quantities, *self.fluxes):
            new = {n: r for n, r in _constants(item.law).items() if n not in self.parameters}
            self.parameters.update(new)
        _check_names(self)
        _check_graph(self)
        _check_reads(self)
        _check_bounds(self)
        _check_units(self)

    def __deepcopy__(self, memo) -> Structure:
        """A copy with laws of its own; the read-only mappings cannot be copied and need not be."""
        laws = {name: copy.deepcopy(getattr(self, name), memo) for name in ("fluxes", "quantities")}
        return _unchecked(self, **laws)

    @property
    def nodes(self) -> tuple[str, ...]:
        """What a flux may leave or enter: stores and boundaries."""
        return (*self.stores, ATMOSPHERE, OUTLET, *self.boundaries)

    def flux(self, name: str) -> Flux:
        """The flux called ``name``."""
        for f in self.fluxes:
            if f.name == name:
                return f
        raise StructureError(f"Model '{self.name}' has no flux '{name}'.{suggest(name, [f.name for f in self.fluxes])}")

    def without(self, *names: str) -> Structure:
        """The same graph without some fluxes."""
        for name in names:
            self.flux(name)
        groups = {g: tuple(m for m in members if m not in names) for g, members in self.groups.items()}
        return replace(
            self,
            fluxes=tuple(f for f in self.fluxes if f.name not in names),
            groups={g: m for g, m in groups.items() if m},
            bounds=_bounds_without(self, names),
        )

    def given(self, name: str, unit: str) -> Structure:
        """The same graph with a quantity read as a forcing of that unit instead of computed (PET from a file)."""
        if name not in [q.name for q in self.quantities]:
            raise StructureError(f"'{name}' is no quantity.{suggest(name, [q.name for q in self.quantities])}")
        kept = tuple(q for q in self.quantities if q.name != name)
        forcings = {**self.forcings, name: unit}
        return replace(self, quantities=kept, forcings=forcings, bounds=_bounds_without(self, (name,)))

    def replace(self, **laws: Law) -> Structure:
        """The same graph with other laws.

        Each keyword names a flux, a quantity, or a group of fluxes (the group becomes one flux, of the summed
        formula); a law with several ``outputs`` under a new name becomes a new quantity that others may read.
        Constants that a law brings (`FormulaLaw`) become parameters; one that has the name and the Range of a parameter
        is that parameter.
        """
        structure = self
        new = {n: law for n, law in laws.items() if _is_new_quantity(self, n, law)}
        for name, law in new.items():
            structure = _declare(structure, name, law)
            structure = replace(structure, quantities=_insert(structure, Quantity(name, law, law.outputs)))
        for name, law in laws.items():
            if name not in new:
                structure = _swap(structure, name, law)
        for name, law in laws.items():
            structure = _declare(structure, name, law)
        _check_reads(structure)
        _check_units(structure)
        return structure


def _is_new_quantity(structure: Structure, name: str, law: Law) -> bool:
    known = [f.name for f in structure.fluxes] + [q.name for q in structure.quantities]
    return name not in known and name not in structure.groups and len(getattr(law, "outputs", ())) > 1


def _insert(structure: Structure, new: Quantity) -> tuple[Quantity, ...]:
    """Quantities with ``new`` put in as early as what it reads allows."""
    known = {*structure.stores, *structure.forcings, *structure.parameters}
    position = 0
    for i, q in enumerate(structure.quantities):
        if set(reads(new.law)) <= known:
            break
        known.update(q.outputs)
        position = i + 1
    return (*structure.quantities[:position], new, *structure.quantities[position:])


def _constants(law: Law) -> Mapping[str, Range]:
    """Parameters that a law brings along."""
    constants = getattr(law, "constants", None)
    return constants if isinstance(constants, Mapping) else {}


def _declare(structure: Structure, name: str, law: Law) -> Structure:
    """The structure with the constants of the law of ``name`` among its parameters."""
    taken = dict(_names(structure))
    for constant, range_ in _constants(law).items():
        kind, there = taken.get(constant), structure.parameters.get(constant)
        if kind not in (None, "parameter"):
            raise StructureError(
                f"The law of '{name}' brings the constant '{constant}', which is a {kind} of model "
                f"'{structure.name}': rename the constant, or leave it out of the law's constants to read the {kind}."
            )
        if there is not None and there != range_:
            raise StructureError(
                f"The law of '{name}' brings the constant '{constant}' with {range_}, but model '{structure.name}' has "
                f"a parameter '{constant}' with {there}: give both the same range to share it, or rename the constant."
            )
    return _unchecked(structure, parameters={**structure.parameters, **_constants(law)})


def _with_shape(structure: Structure, law: Law, *ends: str) -> Law:
    """The law; one that reads nothing (the formula "0") reads the first store among ``ends``, or forcing, or store.

    Without, its value would have neither shape nor precision nor device.
    """
    if not hasattr(law, "shaped_like") or reads(law):
        return law
    known = {*structure.forcings, *structure.stores}
    return law.shaped_like(next(n for n in (*ends, *structure.forcings, *structure.stores) if n in known))


def _swap(structure: Structure, name: str, law: Law) -> Structure:
    if not callable(law):
        raise StructureError(f"The law given for '{name}' is not callable: {law!r}.")
    if name in [q.name for q in structure.quantities]:
        _check_outputs(structure, name, law)
        law = _with_shape(structure, law)
        swapped = tuple(replace(q, law=law, formula=q.law) if q.name == name else q for q in structure.quantities)
        return _unchecked(structure, quantities=swapped, bounds=_bounds_without(structure, (name,)))
    names = [f.name for f in structure.fluxes]
    if name in names:
        law = _with_shape(structure, law, structure.flux(name).source, structure.flux(name).sink)
        swapped = tuple(replace(f, law=law, formula=f.law) if f.name == name else f for f in structure.fluxes)
        return _unchecked(structure, fluxes=swapped, bounds=_bounds_without(structure, (name,)))
    if name in structure.groups:
        return _merge(structure, name, law)
    known = names + [q.name for q in structure.quantities] + list(structure.groups)
    raise StructureError(
        f"Model '{structure.name}' has no flux, quantity or group '{name}' to give a law to.{suggest(name, known)}"
    )


def _check_outputs(structure: Structure, name: str, law: Law) -> None:
    (old,) = (q for q in structure.quantities if q.name == name)
    outputs = tuple(getattr(law, "outputs", old.outputs))
    if len(outputs) != len(old.outputs):
        raise StructureError(
            f"Quantity '{name}' has the output(s) {', '.join(old.outputs)}, the law given for it returns "
            f"{len(outputs)} ({', '.join(outputs)}). Install that law under a new name, and give each reader a law "
            "that reads its outputs."
        )


def _merge(structure: Structure, group: str, law: Law) -> Structure:
    """Replace a group of parallel fluxes by one flux with the group's name."""
    members = [structure.flux(m) for m in structure.groups[group]]
    for m in members:
        if m.formula is not None:
            raise StructureError(f"'{group}' and its member '{m.name}' both get a law: give one to either of them.")
    ends = {(m.source, m.sink) for m in members}
    if len(ends) != 1:
        joined = ", ".join(f"{m.name}: {m.source} -> {m.sink}" for m in members)
        raise StructureError(
            f"Group '{group}' joins fluxes between different nodes ({joined}), so one law cannot replace it. Give a "
            "law to each member instead."
        )
    member_names = {m.name for m in members}
    for m in members:
        if inner := member_names & set(reads(m.law)):
            raise StructureError(f"Flux '{m.name}' reads {sorted(inner)} of its own group '{group}': not mergeable.")
    merged = Flux(
        group,
        members[0].source,
        members[0].sink,
        _with_shape(structure, law, members[0].source, members[0].sink),
        any(m.signed for m in members),
        _Sum(m.law for m in members),
    )
    first = min(i for i, f in enumerate(structure.fluxes) if f.name in member_names)
    fluxes = [f for f in structure.fluxes if f.name not in member_names]
    fluxes.insert(first, merged)
    groups = {}
    for other, names in structure.groups.items():
        if other != group:
            groups[other] = tuple(dict.fromkeys(group if n in member_names else n for n in names))
    bounds = _bounds_without(structure, member_names)
    return _unchecked(structure, fluxes=tuple(fluxes), groups=groups, bounds=bounds)


def _bounds_without(structure: Structure, changed: Iterable[str]) -> tuple[Bound, ...]:
    """The bounds that hold whatever the laws of ``changed`` are."""
    return tuple(b for b in structure.bounds if not set(changed) & set(b.of))


def _unchecked(structure: Structure, **changes) -> Structure:
    """A changed copy whose reads are checked later, once all laws of one call are in place."""
    new = object.__new__(Structure)
    for name in Structure.__dataclass_fields__:
        object.__setattr__(new, name, changes.get(name, getattr(structure, name)))
    return new


def _names(s: Structure) -> list[tuple[str, str]]:
    """Every name of a structure, and what it is of."""
    return [
        *((n, "store") for n in s.stores),
        *((n, "forcing") for n in s.forcings),
        *((n, "parameter") for n in s.parameters),
        *((n, "quantity") for q in s.quantities for n in q.outputs),
        *((f.name, "flux") for f in s.fluxes),
        *((n, "group") for n in s.groups),
        *((n, "boundary") for n in (ATMOSPHERE, OUTLET, *s.boundaries)),
        *((b.name, "bound") for b in s.bounds),
        *((STEP, "step of its bounds") for _ in s.bounds[:1]),
    ]


def _check_names(s: Structure) -> None:
    seen: dict[str, str] = {}
    for name, kind in _names(s):
        if not name.isidentifier():
            raise StructureError(f"{kind} name {name!r} of model '{s.name}' is not a Python identifier.")
        if name in seen:
            raise StructureError(f"Model '{s.name}' uses '{name}' as {seen[name]} and as {kind}: rename one.")
        seen[name] = kind
    for name, range_ in s.parameters.items():
        if not isinstance(range_, Range):
            raise StructureError(f"Parameter '{name}' needs a Range(low, high, unit, default), got {range_!r}.")


def _check_graph(s: Structure) -> None:
    if not s.stores or not s.fluxes:
        raise StructureError(f"Model '{s.name}' needs at least one store and one flux.")
    for f in s.fluxes:
        for end, node in (("source", f.source), ("sink", f.sink)):
            if node not in s.nodes:
                raise StructureError(f"Flux '{f.name}' has unknown {end} '{node}'.{suggest(node, s.nodes)}")
        if f.source == f.sink:
            raise StructureError(f"Flux '{f.name}' leaves and enters '{f.source}': it moves nothing.")
    for store in s.signed_stores:
        if store not in s.stores:
            raise StructureError(f"signed_stores lists unknown store '{store}'.{suggest(store, s.stores)}")
    for store in s.stores:
        if not any(store in (f.source, f.sink) for f in s.fluxes):
            raise StructureError(f"No flux joins store '{store}' of model '{s.name}': remove it or join it.")
    for group, members in s.groups.items():
        for member in members:
            if member not in [f.name for f in s.fluxes]:
                raise StructureError(
                    f"Group '{group}' lists unknown flux '{member}'.{suggest(member, [f.name for f in s.fluxes])}"
                )


def _check_reads(s: Structure) -> None:
    known = [*s.stores, *s.forcings, *s.parameters]
    late = {n: "flux" for n in (f.name for f in s.fluxes)} | {o: "quantity" for q in s.quantities for o in q.outputs}
    steps = [(f"Quantity '{q.name}'", q, q.outputs) for q in s.quantities]
    steps += [(f"Flux '{f.name}'", f, (f.name,)) for f in s.fluxes]
    for label, item, outputs in steps:
        laws = [item.law] + ([item.formula] if FORMULA in reads(item.law) and item.formula else [])
        for name in [n for law in laws for n in reads(law)]:
            if name == FORMULA and item.formula is None:
                raise StructureError(
                    f"{label} asks for the formula it replaces, but it replaces none: give it to a model that has one."
                )
            if name in known or name in (SOURCE, FORMULA):
                continue
            if name in late:
                raise StructureError(f"{label} reads {late[name]} '{name}', which is evaluated later: reorder them.")
            raise StructureError(f"{label} reads unknown name '{name}'.{suggest(name, known)}")
        known.extend(outputs)


def _check_bounds(s: Structure) -> None:
    known = [f.name for f in s.fluxes] + [q.name for q in s.quantities]
    for b in s.bounds:
        for name in b.of:
            if name not in known:
                raise StructureError(
                    f"Bound '{b.name}' is about unknown flux or quantity '{name}'.{suggest(name, known)}"
                )
        for name in reads(b.law):
            if name != STEP and name not in s.parameters:
                raise StructureError(
                    f"Bound '{b.name}' reads '{name}'; it may read parameters and '{STEP}', the step in days."
                    f"{suggest(name, s.parameters)}"
                )


def _check_units(s: Structure) -> None:
    """Dimensions of formula laws; see `udehydro.laws.dimensions`."""
    if any(hasattr(item.law, "expression") for item in (*s.quantities, *s.fluxes)):
        from udehydro.laws.dimensions import check_laws  # reads laws, which read this module

        check_laws(s)
