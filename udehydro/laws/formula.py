"""Formula laws: a flux or quantity computed by an expression that can be read, differentiated and calibrated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from udehydro.errors import ConfigError, StructureError
from udehydro.laws.evaluate import Program
from udehydro.structure import Range

if TYPE_CHECKING:
    import sympy


class FormulaLaw:
    """A law given by an expression, as text or by SymPy.

    It reads every name in the expression: those of the model, and the law's own ``constants``. These become parameters
    of the structure that the law is put into, and are then calibrated, saved and given in ``theta`` as all others; one
    with the name and the Range of a parameter there is that parameter.

    Text may hold numbers, names, ``+ - * / **``, ``exp log sqrt tanh sin cos abs min max``, and ``saturation excess
    limiter switch power`` of `udehydro.laws`. It is never executed. ``x**n`` with a whole number n up to 64 is a
    product. ``x**p`` with any other exponent, and ``sqrt``, is ``power(x, p) = max(x, 0)**p``, zero for x <= 0, so that
    a law stays finite where iterates leave the physical range. The arguments of ``exp``, ``log`` and divisions are
    yours to bound. SymPy simplifies powers before that: ``sqrt(x)**2`` is ``x``.

    Dimensions are checked where the law is put into a structure; see `udehydro.laws.dimensions`.

    Parameters
    ----------
    expression : text, or a SymPy expression. SymPy orders terms, and simplifies sums, products and powers.
    constants : name -> Range, with unit.
    empirical : numbers in the expression carry units, so that dimensions are not checked (Hamon's 237.3 degC).

    Attributes
    ----------
    expression : SymPy expression, of plain symbols.
    text : what it is written as; read again it gives the same law, to the last digit.
    reads : names in the order of a call: inputs sorted, then constants.

    Raises
    ------
    StructureError
        For text that is no formula, and constants that the expression does not have.
    ConfigError
        Without sympy.

    Examples
    --------
    >>> from udehydro import Balance, FormulaLaw, Range
    >>> from udehydro.models import exphydro_mended
    >>> law = FormulaLaw("pet * (1 - exp(-a * saturation(soil, smax)))", {"a": Range(0.1, 20, "1", default=3)})
    >>> model = Balance(exphydro_mended, et=law)
    """

    # outside __dict__, whose values are printed wherever a program is looked up by the settings of laws
    __slots__ = ("__dict__", "__weakref__", "_program", "expression")

    expression: sympy.Expr

    def __init__(
        self,
        expression: str | sympy.Expr,
        constants: Mapping[str, Range] | None = None,
        empirical: bool = False,
    ):
        self.expression, self.text = _symbolic().settled(expression)
        self.constants = dict(constants or {})
        self.empirical = bool(empirical)
        names = {s.name for s in self.expression.free_symbols}
        for name, range_ in self.constants.items():
            if not isinstance(range_, Range):
                raise StructureError(f"Constant '{name}' needs a Range(low, high, unit, default), got {range_!r}.")
            if name not in names:
                known = ", ".join(sorted(names)) or "no name"
                raise StructureError(f"The constant '{name}' does not occur in '{self.text}', which has {known}.")
        self.reads = (*sorted(names - set(self.constants)), *self.constants)
        self._program = Program(self.expression, self.reads)

    def __call__(self, *values: Tensor) -> Tensor:
        """The value [unit of what it computes] at values of :attr:`reads`, of any shapes that broadcast."""
        if len(values) != len(self.reads):
            raise StructureError(f"{self!r} reads {', '.join(self.reads) or 'nothing'}, got {len(values)} value(s).")
        return self._program(*values)

    def shaped_like(self, name: str) -> FormulaLaw:
        """The same law reading ``name``, too, for shape, precision and device: for a formula without any name."""
        law = FormulaLaw(self.text, self.constants, self.empirical)
        law.reads = (name, *law.reads)
        law._program = Program(law.expression, law.reads)
        return law

    def latex(self) -> str:
        """The expression in LaTeX."""
        return _symbolic().latex(self.expression)

    def __repr__(self) -> str:
        constants = f", {self.constants}" if self.constants else ""
        return f"FormulaLaw({self.text!r}{constants}{', empirical=True' if self.empirical else ''})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FormulaLaw) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((self.text, self.reads))

    def __reduce__(self):
        return _again, (self.text, self.constants, self.empirical, self.reads)

    def __copy__(self) -> FormulaLaw:
        return self

    def __deepcopy__(self, memo) -> FormulaLaw:
        """Itself: a formula has no weights, and does not change."""
        return self


def _again(text: str, constants: Mapping[str, Range], empirical: bool, reads: tuple[str, ...]) -> FormulaLaw:
    law = FormulaLaw(text, constants, empirical)
    return law if law.reads == reads else law.shaped_like(reads[0])


def _symbolic():
    """`udehydro.laws.expression`, which needs sympy."""
    try:
        from udehydro.laws import expression
    except ImportError as error:
        raise ConfigError("FormulaLaw needs sympy: pip install 'udehydro[discovery]'.") from error
    return expression
