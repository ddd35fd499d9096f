"""Formulas as text: read without executing any of it, and written so that every digit is kept. Needs SymPy.

Text is read into the tree of Python's grammar, and a SymPy expression built from the few kinds of nodes a formula has.
Numbers alone are folded to numbers; functions are kept as written, sums, products and powers as SymPy orders them.
"""

from __future__ import annotations

import ast
import difflib
import keyword
import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple, NoReturn

import sympy
import torch
from sympy.printing.str import StrPrinter

from udehydro.errors import StructureError
from udehydro.laws.evaluate import OPERATIONS

LENGTH, DEPTH = 10_000, 60
"""Most characters of a text, and most expressions in each other."""
POWER = 64
"""Greatest whole exponent; more are typing errors, or meant to exhaust memory."""
_BITS = 512
_SETTLING = 10
_OTHER = re.compile(r"[^\w\s+\-*/().,]")


class _Smooth(sympy.Function):
    """A function of `udehydro.laws.smooth`, unevaluated; ``_form``: its LaTeX."""

    def _latex(self, printer, exp=None):
        text = self._form.format(*(printer._print(a) for a in self._parts()))
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"

    def _parts(self) -> tuple[sympy.Expr, ...]:
        return self.args


class saturation(_Smooth):
    nargs, _form = 2, r"\min\left(\max\left(\frac{{{0}}}{{{1}}}, 0\right), 1\right)"


class excess(_Smooth):
    nargs, _form = 2, r"\max\left({0}, 0\right)"

    def _parts(self):
        return (self.args[0] - self.args[1],)


class limiter(_Smooth):
    nargs, _form = 3, r"\min\left(\frac{{{0}}}{{{2}}}, {1}\right)"


class switch(_Smooth):
    nargs, _form = 2, r"\frac{{1}}{{2}}\left(1 + \tanh\left(\frac{{{0}}}{{{1}}}\right)\right)"


class power(_Smooth):
    nargs, _form = 2, r"\max\left({0}, 0\right)^{{{1}}}"


class Known(NamedTuple):
    """A function of formulas: its SymPy class, and the fewest and most arguments."""

    kind: Callable
    fewest: int = 1
    most: int = 1


FUNCTIONS: dict[str, Known] = {
    "exp": Known(sympy.exp),
    "log": Known(sympy.log),
    "sqrt": Known(sympy.sqrt),
    "tanh": Known(sympy.tanh),
    "sin": Known(sympy.sin),
    "cos": Known(sympy.cos),
    "abs": Known(sympy.Abs),
    "min": Known(sympy.Min, 2, 100),
    "max": Known(sympy.Max, 2, 100),
    "saturation": Known(saturation, 2, 2),
    "excess": Known(excess, 2, 2),
    "limiter": Known(limiter, 3, 3),
    "switch": Known(switch, 2, 2),
    "power": Known(power, 2, 2),
}
_NAMES = {k.kind: name for name, k in FUNCTIONS.items() if name != "sqrt"}


def settled(expression) -> tuple[sympy.Expr, str]:
    """A text or SymPy expression as the expression and the text that belong together: each is read as the other.

    Raises
    ------
    StructureError
        For anything but numbers, names, ``+ - * / **`` and calls of `FUNCTIONS`, and beyond `LENGTH` or `DEPTH`.
    """
    found = parse(expression if isinstance(expression, str) else write(expression))
    for _ in range(_SETTLING):
        text = write(found)
        again = parse(text)
        if again == found:
            return found, text
        found = again  # SymPy combined parts, such as numbers in powers
    raise StructureError(f"SymPy does not find a final form of {_short(text)}: write it another way.")


def parse(text: str) -> sympy.Expr:
    """The expression that a text stands for; see `settled`."""
    if len(text) > LENGTH:
        raise StructureError(f"A formula has at most {LENGTH} characters, this one {len(text)}.")
    if other := _OTHER.search(text):
        raise StructureError(
            f"A formula may hold numbers, names, + - * / ** and calls of functions, not {other[0]!r} "
            f"(character {other.start() + 1} of {_short(text)})."
        )
    text = " ".join(text.split())
    try:
        tree = ast.parse(text, mode="eval").body
        result = _Reader(text).expression(tree, 0)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        if isinstance(error, StructureError):
            raise
        reason = "it is nested too deeply" if isinstance(error, MemoryError | RecursionError) else error.args[0]
        raise StructureError(f"The formula {_short(text)} cannot be read: {reason}.") from None
    _check_size(result, text)
    return result


def write(expression: sympy.Expr) -> str:
    """The text of an expression, with all digits of its numbers."""
    if not isinstance(expression, sympy.Expr):
        raise StructureError(f"A formula is a text or a SymPy expression, not {expression!r}.")
    for node in sympy.preorder_traversal(expression):
        if isinstance(node, sympy.Symbol):
            _check_name(node.name)
        elif not _is_known(node):
            raise _unknown(type(node).__name__, str(node))
    return _Printer().doprint(expression)


def latex(expression: sympy.Expr) -> str:
    """LaTeX of an expression; names of several letters upright, with what follows an underscore as index."""
    names = {}
    for symbol in expression.free_symbols:
        head, _, index = symbol.name.partition("_")
        if len(head) > 1 and sympy.latex(sympy.Symbol(head)) == head:
            index = index.replace("_", r"\_")
            names[symbol] = rf"\mathrm{{{head}}}" + (rf"_{{\mathrm{{{index}}}}}" if index else "")
    return sympy.latex(expression, symbol_names=names)


class _Reader:
    """Builds the expression of a tree of Python's grammar."""

    def __init__(self, text: str):
        self._text = text

    def expression(self, node: ast.AST, depth: int) -> sympy.Expr:
        if depth > DEPTH:
            raise StructureError(f"The formula {_short(self._text)} is nested more than {DEPTH} deep.")
        depth += 1
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return self._number(value, node)
            case ast.Name(id=name):
                _check_name(name)
                return sympy.Symbol(name)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                value = self.expression(operand, depth)
                return -value if isinstance(node.op, ast.USub) else value
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                return sympy.Add(*self._chain(node, ast.Add, ast.Sub, depth, lambda v: -v))
            case ast.BinOp(op=ast.Mult() | ast.Div()):
                return sympy.Mul(
                    *self._chain(node, ast.Mult, ast.Div, depth, lambda v: self._power(v, -sympy.S.One, node))
                )
            case ast.BinOp(left=base, op=ast.Pow(), right=exponent):
                return self._power(self.expression(base, depth), self.expression(exponent, depth), node)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self._call(name, args, node, depth)
        self._refuse(node, f"a formula may hold numbers, names, + - * / ** and calls of {', '.join(FUNCTIONS)}")

    def _chain(self, node, first: type, second: type, depth: int, turned: Callable) -> list[sympy.Expr]:
        """Operands of a run of sums or products, however long, those behind ``second`` turned."""
        found = []
        while isinstance(node, ast.BinOp) and isinstance(node.op, first | second):
            value = self.expression(node.right, depth)
            found.append(turned(value) if isinstance(node.op, second) else value)
            node = node.left
        return [self.expression(node, depth), *reversed(found)]

    def _number(self, value: int | float, node: ast.AST) -> sympy.Number:
        if isinstance(value, int):
            if value.bit_length() > _BITS:
                self._refuse(node, "the number is too large")
            return sympy.Integer(value)
        if not math.isfinite(value):
            self._refuse(node, "the number is not finite")
        return sympy.Float(value)

    def _power(self, base: sympy.Expr, exponent: sympy.Expr, node: ast.AST) -> sympy.Expr:
        if exponent.is_Float and float(exponent).is_integer():
            exponent = sympy.Integer(int(exponent))
        if base.is_Number and exponent.is_Number:
            return self._power_of_numbers(base, exponent, node)
        if exponent.is_Integer and abs(exponent) > POWER:
            self._refuse(node, f"a whole exponent is at most {POWER}")
        if base.is_Number and not base > 0:
            self._refuse(node, f"the base {write(base)} of an exponent that varies is not above zero")
        result = sympy.Pow(base, exponent)
        _check_size(result, self._text)
        return result

    def _power_of_numbers(self, base: sympy.Number, exponent: sympy.Number, node: ast.AST) -> sympy.Number:
        try:
            if base.is_Rational and exponent.is_Integer and base != 0 and abs(exponent) <= POWER:
                return _sized(sympy.Rational(Fraction(int(base.p), int(base.q)) ** int(exponent)))
            value = float(base) ** float(exponent)
        except (ZeroDivisionError, OverflowError):
            value = math.nan
        if isinstance(value, complex) or not math.isfinite(value):
            self._refuse(node, "it has no finite real value")
        return sympy.Float(value)

    def _call(self, name: str, args: list[ast.AST], node: ast.AST, depth: int) -> sympy.Expr:
        if name not in FUNCTIONS:
            raise _unknown(name, ast.get_source_segment(self._text, node))
        kind, fewest, most = FUNCTIONS[name]
        if not fewest <= len(args) <= most:
            count = fewest if fewest == most else f"{fewest} or more"
            self._refuse(node, f"'{name}' takes {count} argument(s), not {len(args)}")
        values = [self.expression(a, depth) for a in args]
        if name == "sqrt":
            return self._power(values[0], sympy.S.Half, node)
        if name == "power" and values[0].is_Number and not values[0] > 0:
            self._refuse(node, f"the base {write(values[0])} is not above zero")
        if all(v.is_Number for v in values):
            return self._folded(kind, values, node)
        return kind(*values, evaluate=False)

    def _folded(self, kind: Callable, values: list[sympy.Number], node: ast.AST) -> sympy.Number:
        """Value of a function of numbers, by the operation that would compute it."""
        tensors = [torch.tensor(float(v), dtype=torch.float64, device="cpu") for v in values]
        value = OPERATIONS[kind.__name__](*tensors).item()
        if not math.isfinite(value):
            self._refuse(node, "it has no finite real value")
        whole = value == int(value) and abs(value) < 2**53 and all(v.is_Rational for v in values)
        return sympy.Integer(int(value)) if whole else sympy.Float(value)

    def _refuse(self, node: ast.AST, why: str) -> NoReturn:
        part = ast.get_source_segment(self._text, node) or type(node).__name__
        raise StructureError(f"In the formula {_short(self._text)}, {_short(part)} cannot be used: {why}.")


class _Printer(StrPrinter):
    """Text that `parse` reads back."""

    def _print_Float(self, expr):
        return repr(float(expr))

    def _print_NumberSymbol(self, expr):
        return repr(float(expr))

    _print_Pi = _print_Exp1 = _print_NumberSymbol

    def _print_Function(self, expr):
        name = _NAMES.get(expr.func, expr.func.__name__)
        return f"{name}({self.stringify(expr.args, ', ')})"

    _print_Abs = _print_Min = _print_Max = _print_LatticeOp = _print_Function


def _is_known(node: sympy.Basic) -> bool:
    if isinstance(node, sympy.Number):
        return bool(node.is_finite)
    if isinstance(node, sympy.core.function.AppliedUndef):
        return node.func.__name__ in FUNCTIONS
    return node.func in (sympy.Add, sympy.Mul, sympy.Pow, *_NAMES) or node in (sympy.pi, sympy.E)


def _check_name(name: str) -> None:
    if name in FUNCTIONS:
        raise StructureError(f"'{name}' is a function: call it, {name}(...), or give the variable another name.")
    if not name.isidentifier() or name.startswith("_") or keyword.iskeyword(name):
        raise StructureError(f"{_short(name)} cannot be the name of a variable: take letters, digits and underscores.")


def _unknown(name: str, where: str) -> StructureError:
    close = difflib.get_close_matches(name.lower(), FUNCTIONS, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return StructureError(f"Unknown function '{name}' in {_short(where)}.{hint} Known: {', '.join(FUNCTIONS)}.")


def _check_size(expression: sympy.Expr, text: str) -> None:
    """Every number is one in double precision, and exponents are moderate, also after SymPy combined some."""
    for node in sympy.preorder_traversal(expression):
        if isinstance(node, sympy.Number):
            _sized(node)
        elif node.is_Pow and node.exp.is_Integer and abs(node.exp) > POWER:
            raise StructureError(f"In the formula {_short(text)}, the exponent {node.exp} is beyond {POWER}.")
        elif not (node.is_Symbol or _is_known(node)):
            raise StructureError(f"The formula {_short(text)} holds {_short(str(node))}, which has no finite value.")


def _sized(number: sympy.Number) -> sympy.Number:
    bits = max(int(number.p).bit_length(), int(number.q).bit_length()) if number.is_Rational else 0
    if bits > _BITS or not math.isfinite(float(number)):
        raise StructureError("A number in the formula is too large, or not finite.")
    return number


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
