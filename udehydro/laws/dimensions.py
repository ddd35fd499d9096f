"""Dimensions of units and of formulas: what may be added, and what a law has to return.

Only dimensions are compared, not scales: mm and m are both lengths, h and d both times, degC and K both temperatures,
and nothing is converted. A number is dimensionless, but for zero, which goes with everything. A symbol of a unit that
is not known here is a base dimension of its own ("hare"), and one that names alternatives ("mm or K") says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from udehydro.errors import StructureError


@dataclass(frozen=True)
class Dimension:
    """Exponents of base dimensions (length, time, temperature, mass, ...), sorted, without zeros."""

    exponents: tuple[tuple[str, Fraction], ...] = ()

    @classmethod
    def of(cls, **exponents: int | Fraction) -> Dimension:
        """From exponents by name, e.g. ``Dimension.of(length=1, time=-1)``."""
        return cls(tuple(sorted((n, Fraction(e)) for n, e in exponents.items() if e)))

    def __mul__(self, other: Dimension) -> Dimension:
        total = dict(self.exponents)
        for name, exponent in other.exponents:
            total[name] = total.get(name, Fraction(0)) + exponent
        return Dimension.of(**total)

    def __truediv__(self, other: Dimension) -> Dimension:
        return self * other**-1

    def __pow__(self, exponent: int | Fraction) -> Dimension:
        return Dimension.of(**{n: e * Fraction(exponent) for n, e in self.exponents})

    def __bool__(self) -> bool:
        """Whether it is one, and not the dimension of a number."""
        return bool(self.exponents)

    def __str__(self) -> str:
        def of(sign: int) -> list[str]:
            sizes = [(n, abs(e)) for n, e in self.exponents if e * sign > 0]
            return [n if e == 1 else f"{n}^{e}" if e.denominator == 1 else f"{n}^({e})" for n, e in sizes]

        return "/".join([" ".join(of(1)) or "1", *of(-1)]) if self else "dimensionless"


NONE = Dimension()
_L, _T, _M = Dimension.of(length=1), Dimension.of(time=1), Dimension.of(mass=1)
_FORCE = _M * _L / _T**2
_SYMBOLS: dict[str, Dimension] = {}
for _dimension, _symbols in (
    (NONE, "% rad deg dimensionless"),
    (_L, "m mm cm dm km um µm μm in inch ft"),
    (_L**2, "ha"),
    (_L**3, "L l"),
    (_T, "d day days h hr hour hours min s sec week month months a yr year years"),
    (_M, "kg g mg ug t"),
    (Dimension.of(temperature=1), "degC K °C C celsius degF °F kelvin"),
    (Dimension.of(amount=1), "mol mmol kmol"),
    (_FORCE, "N"),
    (_FORCE * _L, "J kJ MJ"),
    (_FORCE * _L / _T, "W kW MW"),
    (_FORCE / _L**2, "Pa hPa kPa MPa bar mbar"),
):
    _SYMBOLS |= dict.fromkeys(_symbols.split(), _dimension)

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_TOKEN = re.compile(
    r"\s*(?:(?P<symbol>%|°?[^\W\d_]+(?:_[^\W\d_]+)*)"
    r"(?:(?:\^|\*\*)?(?P<exponent>[+-]?\d+(?:\.\d+)?)|(?:\^|\*\*)\(\s*(?P<inner>[+-]?\d+(?:[./]\d+)?)\s*\))?"
    r"|(?P<number>\d+(?:\.\d+)?)|(?P<other>[()/*.·]))\s*"
)


def dimension_of(unit: str) -> Dimension | None:
    """Dimension of a unit: "mm/d", "mm d-1", "W/m2", "mm/d/K", "kg/(m2 s)", "m^(1/2)"; "1", "-", "%" and "" have none.

    Every "/" holds for the one factor behind it. None for a unit that names alternatives ("mm or K").

    Raises
    ------
    StructureError
        For text that is no product of units.
    """
    text = unit.strip().translate(_SUPERSCRIPTS)
    if " or " in text:
        return None
    if text in ("", "-"):
        return NONE
    tokens, position = [], 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if not found:
            raise _unreadable(unit)
        tokens.append(found)
        position = found.end()
    dimension, rest = _product(tokens, unit)
    if rest:
        raise _unreadable(unit)
    return dimension


def _product(tokens: Sequence[re.Match], unit: str) -> tuple[Dimension, Sequence[re.Match]]:
    """Dimension of a run of factors, up to a bracket that closes, and the tokens from there on."""
    total, sign, pending = NONE, 1, True
    while tokens and tokens[0]["other"] != ")":
        token, tokens = tokens[0], tokens[1:]
        if token["other"] and token["other"] != "(":
            if pending:
                raise _unreadable(unit)
            sign, pending = (-1 if token["other"] == "/" else 1), True
            continue
        if token["other"] == "(":
            factor, tokens = _product(tokens, unit)
            if not tokens:
                raise _unreadable(unit)
            tokens = tokens[1:]
        else:
            factor = _factor(token)
        total, sign, pending = total * factor**sign, 1, False
    if pending:
        raise _unreadable(unit)
    return total, tokens


def _factor(token: re.Match) -> Dimension:
    if token["number"]:
        return NONE
    base = _SYMBOLS.get(token["symbol"])
    if base is None:
        base = Dimension.of(**{token["symbol"]: 1})
    return base ** Fraction(token["exponent"] or token["inner"] or 1)


def _unreadable(unit: str) -> StructureError:
    return StructureError(f"The unit {unit!r} cannot be read: write it like 'mm/d', 'W/m2', 'kg/m3' or '1'.")


def check(expression, units: Mapping[str, str | None], want: str | None = None) -> Dimension | None:
    """Dimension of a SymPy expression, given the units of its symbols.

    Parameters
    ----------
    units : name -> unit. Of a symbol without one nothing is known, and nothing claimed about what it is multiplied by.
    want : unit whose dimension the expression should have; None asks for none.

    Returns
    -------
    None where it is not known.

    Raises
    ------
    StructureError
        Where terms of a sum differ, the argument of a function or an exponent has a dimension, a base with a dimension
        has an exponent that is not a number, or the result is not what is wanted.
    """
    found = _Checker(units).of(expression)
    wanted = None if want is None else dimension_of(want)
    if found is not None and wanted is not None and found != wanted:
        raise StructureError(f"'{_text(expression)}' is {found}, it should be {wanted} [{want}].{_HINT}")
    return found


_HINT = (
    " Numbers are dimensionless: make one that has a unit a constant, or pass empirical=True where numbers of an "
    "empirical formula carry units."
)


class _Checker:
    def __init__(self, units: Mapping[str, str | None]):
        self._units = units

    def of(self, e) -> Dimension | None:
        """Dimension of an expression, None where it is not known."""
        if e.is_Symbol:
            unit = self._units.get(e.name)
            return None if unit is None else dimension_of(unit)
        if e.is_Number:
            return None if e.is_zero else NONE
        if e.is_Add:
            return self._same(e, e.args)
        if e.is_Mul:
            return self._times([self.of(a) for a in e.args])
        return self._power(e) if e.is_Pow else self._function(e)

    def _function(self, e) -> Dimension | None:
        name = e.func.__name__
        if name in ("Min", "Max", "Abs", "excess"):
            return self._same(e, e.args)
        if name in ("saturation", "switch"):
            self._same(e, e.args)
            return NONE
        if name == "limiter":
            storage, rate, tau = e.args
            return self._same(e, (storage / tau, rate))
        if name == "power":
            return self._power(e)
        for a in e.args:
            self._needs_none(a, e)
        return NONE

    def _power(self, e) -> Dimension | None:
        base, exponent = e.args
        self._needs_none(exponent, e)
        found = self.of(base)
        if not exponent.is_Number:
            self._needs_none(base, e, " under an exponent that is not a number")
            return found
        return None if found is None else found ** Fraction(float(exponent)).limit_denominator(10_000)

    def _same(self, e, parts) -> Dimension | None:
        """The one dimension of several expressions."""
        known = [(p, d) for p in parts if (d := self.of(p)) is not None]
        for part, dimension in known[1:]:
            first, one = known[0]
            if dimension != one:
                raise StructureError(
                    f"'{_text(e)}' takes '{_text(first)}', which is {one}, together with '{_text(part)}', which is "
                    f"{dimension}.{_HINT}"
                )
        return known[0][1] if known else None

    def _needs_none(self, e, within, where: str = "") -> None:
        if found := self.of(e):
            raise StructureError(
                f"'{_text(e)}' in '{_text(within)}' is {found} and has to be dimensionless{where}.{_HINT}"
            )

    @staticmethod
    def _times(dimensions: Sequence[Dimension | None]) -> Dimension | None:
        total = NONE
        for d in dimensions:
            if d is None:
                return None
            total = total * d
        return total


def _text(expression) -> str:
    """An expression as a formula writes it, where one could hold it."""
    from udehydro.laws.expression import write  # needs sympy, which whoever has an expression has

    try:
        return write(expression)
    except StructureError:
        return str(expression)


def check_laws(structure) -> None:
    """Check the formula laws of a structure, from the units of all that it declares.

    A flux is its store's unit per day, a quantity what it declares.

    Raises
    ------
    StructureError
        That names the flux or quantity; see `check`.
    """
    laws = [i for i in (*structure.quantities, *structure.fluxes) if getattr(i.law, "empirical", None) is False]
    if not laws:
        return
    units = {**structure.stores, **structure.forcings, **{n: r.unit for n, r in structure.parameters.items()}}
    units |= {o: q.unit for q in structure.quantities for o in q.outputs}
    units |= {f.name: _rate(structure, f) for f in structure.fluxes}
    for item in laws:
        try:
            check(item.law.expression, units, units.get(item.name))
        except StructureError as error:
            raise StructureError(f"The law of '{item.name}': {error}") from None


def _rate(structure, flux) -> str | None:
    """Unit of a flux: that of the stores it joins (all stores, where it joins none) per day; None if they differ."""
    stores = [s for s in (flux.source, flux.sink) if s in structure.stores] or list(structure.stores)
    units = [structure.stores[s] for s in stores]
    same = len({dimension_of(u) for u in units}) == 1
    return f"{units[0] if units[0].strip() not in ('', '-') else '1'}/d" if same else None
