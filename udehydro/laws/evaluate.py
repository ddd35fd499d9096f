"""A SymPy expression as a flat list of PyTorch operations, made once; nothing symbolic is left when it runs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Sequence
from functools import reduce

import torch
from torch import Tensor

from udehydro.laws import smooth

Value = Tensor | float


def _least(a: Value, b: Value) -> Tensor:
    """The lesser of two values, one of which may be a number."""
    if isinstance(b, Tensor):
        return torch.minimum(a, b) if isinstance(a, Tensor) else b.clamp_max(a)
    return a.clamp_max(b)


def _greatest(a: Value, b: Value) -> Tensor:
    if isinstance(b, Tensor):
        return torch.maximum(a, b) if isinstance(a, Tensor) else b.clamp_min(a)
    return a.clamp_min(b)


def _limiter(storage: Value, rate: Value, tau: Value) -> Tensor:
    if isinstance(rate, Tensor) and (isinstance(storage, Tensor) or isinstance(tau, Tensor)):
        return smooth.limiter(storage, rate, tau)
    return _least(storage / tau, rate)


def _power(base: Value, exponent: Value) -> Tensor:
    """`smooth.power`; a base that is a number lies above zero."""
    return smooth.power(base, exponent) if isinstance(base, Tensor) else base**exponent


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "Abs": torch.abs,
    "Min": lambda *values: reduce(_least, values),
    "Max": lambda *values: reduce(_greatest, values),
    "saturation": smooth.saturation,
    "excess": smooth.excess,
    "limiter": _limiter,
    "switch": smooth.switch,
    "power": _power,
}
"""By the name of a function of `udehydro.laws.expression`; an argument may be a number, at least one is a tensor."""


class Program:
    """Evaluates an expression at the values of ``names``, pointwise, over any shapes that broadcast.

    Equal parts are computed once, and whole powers as products that share their factors.
    """

    def __init__(self, expression, names: Sequence[str]):
        builder = _Builder(names)
        self._result = builder.place(expression)
        self._steps, self._start = tuple(builder.steps), tuple(builder.values)

    def __len__(self) -> int:
        return len(self._steps)

    def __call__(self, *values: Tensor) -> Tensor:
        at = list(self._start)
        at[: len(values)] = values
        for function, target, places in self._steps:
            at[target] = function(*[at[i] for i in places])
        result = at[self._result]
        if isinstance(result, Tensor):
            return result
        if values:
            return torch.full_like(values[0], result)
        return torch.tensor(result, dtype=torch.float64, device="cpu")


class _Builder:
    """Gives every part of an expression a place in a list of values: inputs, numbers, results of steps."""

    def __init__(self, names: Sequence[str]):
        self.steps: list[tuple[Callable, int, tuple[int, ...]]] = []
        self.values: list[float | None] = [None] * len(names)
        self._known: dict[Hashable, int] = {name: i for i, name in enumerate(names)}

    def place(self, e) -> int:
        """Where the value of ``e`` will be; adds the steps that it takes."""
        if e.is_Symbol:
            return self._known[e.name]
        if e.is_Number:
            return self._number(float(e))
        if e not in self._known:
            self._known[e] = self._made(e)
        return self._known[e]

    def _made(self, e) -> int:
        if e.is_Add:
            return self._sum(e)
        if e.is_Mul or (e.is_Pow and e.exp.is_Integer):
            return self._product(*e.as_coeff_mul(rational=False))
        if e.is_Pow:
            return self._step(_power, self.place(e.base), self.place(e.exp))
        # numbers last, where a minimum takes them as a bound
        args = sorted(e.args, key=lambda a: bool(a.is_Number)) if e.func.__name__ in ("Min", "Max") else e.args
        return self._step(OPERATIONS[e.func.__name__], *(self.place(a) for a in args))

    def _sum(self, e) -> int:
        plus, minus = [], []
        for term in sorted(e.args, key=lambda a: bool(a.is_Number)):
            coefficient, factors = term.as_coeff_mul(rational=False)
            place = self._product(abs(coefficient), factors) if factors else self._number(abs(float(coefficient)))
            (minus if coefficient < 0 else plus).append(place)
        total = plus.pop(0) if plus else self._step(operator.neg, minus.pop(0))
        for function, places in ((operator.add, plus), (operator.sub, minus)):
            for place in places:
                total = self._step(function, total, place)
        return total

    def _product(self, coefficient, factors) -> int:
        """``coefficient`` times ``factors``, with one division by all that have a negative whole exponent."""
        below = [f for f in factors if f.is_Pow and f.exp.is_Integer and f.exp < 0]
        above, under = ([self._whole(f) for f in part] for part in ([f for f in factors if f not in below], below))
        number, divisor = (coefficient.p, coefficient.q) if coefficient.is_Rational else (float(coefficient), 1)
        if divisor != 1:
            under.append(self._number(float(divisor)))
        if abs(number) != 1 or not above:
            above.append(self._number(abs(float(number))))
        total = self._chained(above)
        if under:
            total = self._step(operator.truediv, total, self._chained(under))
        return self._step(operator.neg, total) if number < 0 else total

    def _chained(self, places: list[int]) -> int:
        return reduce(lambda a, b: self._step(operator.mul, a, b), places)

    def _whole(self, factor) -> int:
        """A factor; a whole power as the product it is, without its sign."""
        if factor.is_Pow and factor.exp.is_Integer:
            return self._times(factor.base, abs(int(factor.exp)))
        return self.place(factor)

    def _times(self, base, n: int) -> int:
        """``base`` to the whole power ``n``, from lower powers of it."""
        if n == 1:
            return self.place(base)
        if (base, n) not in self._known:
            a, b = (n // 2, n // 2) if n % 2 == 0 else (n - 1, 1)
            self._known[base, n] = self._step(operator.mul, self._times(base, a), self._times(base, b))
        return self._known[base, n]

    def _number(self, value: float) -> int:
        key = ("number", value)
        if key not in self._known:
            self._known[key] = len(self.values)
            self.values.append(value)
        return self._known[key]

    def _step(self, function: Callable, *places: int) -> int:
        key = (function, places)
        if key not in self._known:
            self._known[key] = len(self.values)
            self.steps.append((function, len(self.values), places))
            self.values.append(None)
        return self._known[key]
