"""Elementary operations as source text that numba compiles: one function per traced graph.

Every value is a strided view of a buffer, so that reshaping, transposing and slicing cost nothing. A value of one
element lives in a variable; others, which only networks have, in a piece of a workspace.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from udehydro.errors import StructureError
from udehydro.solvers.compiled.trace import Traced


@dataclass(frozen=True)
class View:
    """Elements of a buffer. ``buffer`` is a variable or literal where ``offset`` is None, else an array.

    ``piece`` names what was allocated together, for finding out what depends on what.
    """

    buffer: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] = ()
    offset: int | None = None
    piece: str = ""

    @property
    def key(self) -> str:
        return self.piece or self.buffer

    def seen(self, shape: Sequence[int], strides: Sequence[int] = (), shift: int = 0) -> View:
        """The same buffer under another shape; of a variable nothing but the shape changes."""
        if self.offset is None:
            return replace(self, shape=tuple(shape))
        return replace(self, shape=tuple(shape), strides=tuple(strides), offset=self.offset + shift)

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def at(self, index: Sequence[str]) -> str:
        """Element at an index, given as text per dimension; missing leading dimensions are broadcast."""
        if self.offset is None:
            return self.buffer
        terms = ["WORKSPACE"] if self.buffer == "z" else []
        terms += [str(self.offset)] if self.offset else []
        index = index[len(index) - len(self.shape) :]
        for i, size, stride in zip(index, self.shape, self.strides, strict=True):
            if size > 1 and stride and i != "0":
                terms.append(i if stride == 1 else f"{i} * {stride}")
        return f"{self.buffer}[{' + '.join(terms) or '0'}]"


def _contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


_SIGN = "(1.0 if {0} > 0.0 else (-1.0 if {0} < 0.0 else 0.0))"
_LOW, _HIGH = "({0} if ({0} >= {1} or {0} != {0}) else {1})", "({0} if ({0} <= {1} or {0} != {0}) else {1})"
_UNARY = {
    "neg": "-{0}", "exp": "exp({0})", "log": "log({0})", "log1p": "log1p({0})", "expm1": "expm1({0})",
    "tanh": "tanh({0})", "sigmoid": "1.0 / (1.0 + exp(-{0}))", "sqrt": "np.sqrt({0})",
    "rsqrt": "1.0 / np.sqrt({0})", "abs": "abs({0})", "sign": _SIGN, "sgn": _SIGN,
    "sin": "math.sin({0})", "cos": "math.cos({0})", "atan": "math.atan({0})", "erf": "math.erf({0})",
    "reciprocal": "1.0 / {0}",
    "relu": "({0} if not {0} <= 0.0 else 0.0)", "logical_not": "not {0}", "bitwise_not": "not {0}",
    "isfinite": "np.isfinite({0})", "isnan": "np.isnan({0})", "floor": "np.floor({0})", "sinh": "math.sinh({0})",
    "cosh": "math.cosh({0})", "log2": "np.log2({0})", "log10": "np.log10({0})", "asinh": "math.asinh({0})",
}  # fmt: skip
_BINARY = {
    "mul": "{0} * {1}", "div": "{0} / {1}", "pow": "power({0}, {1})", "lt": "{0} < {1}", "le": "{0} <= {1}",
    "gt": "{0} > {1}", "ge": "{0} >= {1}", "eq": "{0} == {1}", "ne": "{0} != {1}", "logical_and": "({0} and {1})",
    "logical_or": "({0} or {1})", "bitwise_and": "({0} and {1})", "bitwise_or": "({0} or {1})",
    "minimum": "({0} if ({0} < {1} or {0} != {0}) else {1})", "maximum": "({0} if ({0} > {1} or {0} != {0}) else {1})",
    "clamp_min": _LOW, "clamp_max": _HIGH,
    "tanh_backward": "{0} * (1.0 - {1} * {1})", "sigmoid_backward": "{0} * {1} * (1.0 - {1})",
    "atan2": "math.atan2({0}, {1})", "heaviside": "({1} if {0} == 0.0 else (1.0 if {0} > 0.0 else 0.0))",
}  # fmt: skip
_TERNARY = {
    "where": "({1} if {0} else {2})", "masked_fill": "({2} if {1} else {0})",
    "threshold_backward": "(0.0 if {1} <= {2} else {0})", "addcmul": "{0} + {1} * {2}",
}  # fmt: skip
_ELEMENTARY = re.compile(r"\b(exp|expm1|tanh|log|log1p|power)\(")
"""Functions of :mod:`udehydro.solvers.compiled.elementary`."""
_SAME = ("detach", "alias", "clone", "lift_fresh_copy", "_to_copy", "contiguous", "lift_fresh", "view_of")
_MADE = {"zeros_like": 0.0, "ones_like": 1.0, "zeros": 0.0, "ones": 1.0, "new_zeros": 0.0, "new_ones": 1.0,
         "empty_like": 0.0}  # fmt: skip
_IDLE = ("dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking")
"""Options that do not change values; a change of dtype that does is refused."""


class Line(NamedTuple):
    """A statement: its text, what it writes and reads, and the graph inputs it depends on."""

    text: list[str]
    writes: str
    reads: set[str]
    origins: set[str]

    @property
    def piece(self) -> bool:
        """Whether it writes into the workspace, which needs no saving."""
        return self.writes.startswith("s")


class Writer:
    """Turns one traced graph into statements; remembers of each which inputs it depends on.

    ``weights`` are offsets in ``w`` by the identity of a tensor, ``copies`` those of transposed copies, and
    the shapes they are of, by offset.
    """

    def __init__(self, traced: Traced, weights: dict[int, tuple[int, Tensor]], copies: dict[int, tuple]):
        self.lines: list[Line] = []
        self.workspace = 0
        self._values: dict[object, object] = {}
        self._origins: dict[str, set[str]] = {}
        self._weights, self._copies = weights, copies
        self._run(traced)

    def _run(self, traced: Traced) -> None:
        names = iter(traced.inputs)
        for node in traced.graph.graph.nodes:
            if node.op == "placeholder":
                name = next(names)
                self._origins[name] = {name}
                self._values[node] = View(name, (1,))
            elif node.op == "get_attr":
                self._values[node] = self._constant(getattr(traced.graph, node.target))
            elif node.op == "call_function":
                self._values[node] = self._call(node)
            elif node.op == "output":
                flat: list = []
                _flatten(node.args[0], flat)
                self.outputs = [self._given(v) for v in flat]

    def _constant(self, value: Tensor) -> View:
        if id(value) in self._weights:
            offset, weight = self._weights[id(value)]
            return View("w", tuple(weight.shape), _contiguous(weight.shape), offset)
        if value.numel() == 1:
            return View(_literal(value.item()), tuple(value.shape))
        raise StructureError(
            "A law holds a tensor that is neither a parameter nor a buffer of its module, which cannot be compiled: "
            "register it, or use AllAtOnce."
        )

    def _given(self, value):
        if isinstance(value, torch.fx.Node):
            return self._values[value]
        if isinstance(value, bool | int | float):
            return View(_literal(value), ())
        return value

    def _call(self, node):
        target = node.target
        if getattr(target, "__name__", "") == "getitem":
            return self._values[node.args[0]][node.args[1]]
        name = target.overloadpacket.__name__ if hasattr(target, "overloadpacket") else str(target)
        inplace = name.endswith("_") and not name.endswith("__")
        name = name.rstrip("_") if inplace else name
        args = [
            [self._given(v) for v in a] if isinstance(a, list | tuple) and any(isinstance(v, torch.fx.Node) for v in a)
            else self._given(a) if isinstance(a, torch.fx.Node | bool | int | float) else a
            for a in node.args
        ]  # fmt: skip
        value = node.meta["val"]
        options = set(node.kwargs) - {*_IDLE, *(("alpha",) if name in ("add", "sub", "rsub") else ())}
        if options or (name == "_to_copy" and _rounds(node.args[0].meta["val"].dtype, value.dtype)):
            raise StructureError(
                f"A law uses '{name}' with {', '.join(sorted(options)) or value.dtype}, which the compiled driver does "
                "not know: use AllAtOnce or Stepping."
            )
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        if inplace:
            return self._inplace(name, args, node)
        return self._operation(name, args, shape, node)

    def _operation(self, name: str, args: list, shape: tuple[int, ...], node) -> object:
        if name in _SAME:
            return args[0]
        view = _view(name, args, shape, node)
        if view is not None:
            return view
        if name in _UNARY:
            return self._pointwise(_UNARY[name], args[:1], shape)
        if name in ("add", "sub", "rsub"):
            return self._sum(name, args, node.kwargs, shape, node.meta["val"].dtype == torch.bool)
        if name == "pow" and (text := _whole_power(args[1])):
            return self._pointwise(text, args[:1], shape)
        if name in _BINARY:
            return self._pointwise(_BINARY[name], args[:2], shape)
        if name in _TERNARY:
            return self._pointwise(_TERNARY[name], args[:3], shape)
        if name in _MADE:
            return View(repr(_MADE[name]), shape)
        if name in ("full_like", "full", "scalar_tensor", "new_full"):
            return self._given(args[0] if name == "scalar_tensor" else node.args[-1]).seen(shape)
        if name == "square":
            return self._pointwise("{0} * {0}", args, shape)
        if name == "clamp":
            low, high = [*args[1:], None, None][:2]
            text = "{0}" if low is None else _LOW
            first = self._pointwise(text, [args[0], low] if low is not None else args[:1], shape)
            return first if high is None else self._pointwise(_HIGH, [first, high], shape)
        if name == "softplus":
            beta, limit = _scalars(args[1:], (1.0, 20.0))
            text = f"({{0}} if {{0}} * {beta} > {limit} else log1p(exp({{0}} * {beta})) / {beta})"
            return self._pointwise(text, args[:1], shape)
        if name == "softplus_backward":
            beta, limit = _scalars(args[2:], (1.0, 20.0))
            text = f"({{0}} if {{1}} * {beta} > {limit} else {{0}} / (1.0 + exp(-{{1}} * {beta})))"
            return self._pointwise(text, args[:2], shape)
        if name in ("mm", "addmm", "bmm"):
            return self._product(name, args, shape)
        if name == "sum":
            return self._reduced(args, shape)
        if name in ("cat", "stack"):
            return self._joined(name, args, shape)
        if name in ("select_backward", "slice_backward"):
            return self._placed(name, args[0], shape, node)
        raise StructureError(
            f"A law uses the operation '{name}', which the compiled driver does not know: use AllAtOnce or Stepping."
        )

    def _inplace(self, name: str, args: list, node) -> View:
        """An operation on its first argument: later readers of that see the new value."""
        target = node.args[0]
        value = node.meta["val"]
        if name in ("copy", "fill"):
            result = args[1]
        elif name == "zero":
            result = View("0.0", tuple(value.shape))
        else:
            result = self._operation(name, args, tuple(value.shape), node)
        self._values[target] = result
        return result

    def _sum(self, name: str, args: list, kwargs: dict, shape, logical: bool) -> View:
        if logical:
            return self._pointwise("({0} or {1})", args[:2], shape)
        alpha = kwargs.get("alpha", _scalars(args[2:], (1,))[0])
        scale = "" if alpha == 1 else f"{_literal(alpha)} * "
        if name == "rsub":
            return self._pointwise(f"{{1}} - {scale}{{0}}", args[:2], shape)
        return self._pointwise(f"{{0}} {'+' if name == 'add' else '-'} {scale}{{1}}", args[:2], shape)

    def _pointwise(self, text: str, args: list[View], shape: tuple[int, ...]) -> View:
        if math.prod(shape) == 1:
            return self._scalar(text.format(*(_wrapped(a.at(["0"] * len(a.shape))) for a in args)), args, shape)
        out = self._allocate(shape)
        index = [f"i{d}" if n > 1 else "0" for d, n in enumerate(shape)]
        text = _ELEMENTARY.sub(r"vector_\1(", text)
        body = f"{out.at(index)} = {text.format(*(_wrapped(a.at(index)) for a in args))}"
        self._emit(_loops(shape, body), out, args)
        return out

    def _scalar(self, text: str, args: list[View], shape) -> View:
        out = View(f"v{len(self.lines)}", shape)
        self._emit([f"{out.buffer} = {text}"], out, args)
        return out

    def _product(self, name: str, args: list[View], shape) -> View:
        left, right = args[-2], self._turned(args[-1])
        out = self._allocate(shape)
        *lead, rows, columns = shape
        inner = left.shape[-1]
        index = [f"i{d}" if n > 1 else "0" for d, n in enumerate(lead)]
        text = _loops(tuple(lead), None)
        if rows > 1:
            text.append("    " * len(text) + f"for i in range({rows}):")
        pad, i = "    " * len(text), "i" if rows > 1 else "0"
        # some columns at a time, whose sums stay in registers: few where sums run along memory, more elsewhere
        width = 4 if right.strides[-2:-1] == (1,) else 16
        for first in range(0, columns, width):
            block = range(first, min(first + width, columns))
            text += [f"{pad}a{j} = {args[0].at([*index, i, str(j)]) if name == 'addmm' else '0.0'}" for j in block]
            text += [f"{pad}for k in range({inner}):", f"{pad}    factor = {left.at([*index, i, 'k'])}"]
            text += [f"{pad}    a{j} += factor * {right.at([*index, 'k', str(j)])}" for j in block]
            text += [f"{pad}{out.at([*index, i, str(j)])} = a{j}" for j in block]
        self._emit(text, out, args)
        return out

    def _turned(self, matrix: View) -> View:
        """The copy of a matrix of weights whose columns lie along memory, where there is one."""
        offset, shape = self._copies.get(matrix.offset, (0, ())) if matrix.buffer == "w" else (0, ())
        if matrix.shape != shape or matrix.strides != _contiguous(shape):  # a part of it, say
            return matrix
        return matrix.seen(shape, (1, shape[0]), offset - matrix.offset)

    def _reduced(self, args: list, shape) -> View:
        value = args[0]
        dims = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else range(len(value.shape))
        dims = {d % len(value.shape) for d in dims} if value.shape else set()
        if math.prod(value.shape[d] for d in dims) == 1:
            return _squeezed(value, shape)
        index = [f"i{d}" if n > 1 else "0" for d, n in enumerate(value.shape)]
        kept = [i for d, i in enumerate(index) if d not in dims]
        kept_shape = tuple(n for d, n in enumerate(value.shape) if d not in dims)
        out = self._allocate(kept_shape or (1,))
        kept = kept or ["0"]
        clear = _loops(
            kept_shape, f"{out.at([f'i{d}' if n > 1 else '0' for d, n in enumerate(kept_shape)] or ['0'])} = 0.0"
        )
        self._emit([*clear, *_loops(value.shape, f"{out.at(kept)} += {value.at(index)}")], out, [value])
        return _squeezed(out, shape)

    def _joined(self, name: str, args: list, shape) -> View:
        parts, dim = args[0], int(_scalars(args[1:], (0,))[0])
        out, position = self._allocate(shape), 0
        dim = dim % len(shape)
        text = []
        for part in parts:
            if name == "stack":
                part = part.seen(
                    (*part.shape[:dim], 1, *part.shape[dim:]), (*part.strides[:dim], 0, *part.strides[dim:])
                )
            size = part.shape[dim]
            index = [f"i{d}" if n > 1 else "0" for d, n in enumerate(part.shape)]
            target = list(index)
            target[dim] = str(position) if size == 1 else f"(i{dim} + {position})"
            text += _loops(part.shape, f"{out.at(target)} = {part.at(index)}")
            position += size
        self._emit(text, out, parts)
        return out

    def _placed(self, name: str, value: View, shape, node) -> View:
        """A part put back into zeros: the derivative of selecting and slicing."""
        dim = node.args[2] % len(shape)
        if name == "select_backward":
            start, step = node.args[3] % shape[dim], 1
            value = value.seen(
                (*value.shape[:dim], 1, *value.shape[dim:]), (*value.strides[:dim], 0, *value.strides[dim:])
            )
        else:
            start, step = node.args[3] or 0, node.args[5]
            start += shape[dim] if start < 0 else 0
        if math.prod(shape) == 1:
            return self._scalar(value.at(["0"] * len(value.shape)), [value], shape)
        out = self._allocate(shape)
        index = [f"i{d}" if n > 1 else "0" for d, n in enumerate(shape)]
        clear = _loops(shape, f"{out.at(index)} = 0.0")
        source = [f"i{d}" if n > 1 else "0" for d, n in enumerate(value.shape)]
        target = list(source)
        target[dim] = f"({source[dim]} * {step} + {start})" if value.shape[dim] > 1 else str(start)
        self._emit([*clear, *_loops(value.shape, f"{out.at(target)} = {value.at(source)}")], out, [value])
        return out

    def _allocate(self, shape: tuple[int, ...]) -> View:
        if math.prod(shape) == 1:
            # a variable, so that what is one number stays in a register
            return View(f"v{len(self.lines)}", shape)
        start, self.workspace = self.workspace, self.workspace + math.prod(shape)
        return View("z", shape, _contiguous(shape), start, f"s{start}")

    def _emit(self, text: list[str], out: View, args: Sequence[View]) -> None:
        key = out.key
        reads = {a.key for a in args if isinstance(a, View)}
        origins = set().union(*(self._origins.get(r, set()) for r in reads))
        self._origins[key] = origins | self._origins.get(key, set())
        self.lines.append(Line(text, key, reads, origins))

    def origins(self, view: View) -> set[str]:
        """Graph inputs a value depends on."""
        return self._origins.get(view.key, set())


def _rounds(before: torch.dtype, after: torch.dtype) -> bool:
    """Whether values change as a dtype does: everything is computed in double precision."""
    return after not in (before, torch.float64) and before != torch.bool


def _wrapped(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _literal(value) -> str:
    if isinstance(value, bool):
        return repr(value)
    value = float(value)
    if math.isnan(value) or math.isinf(value):
        return {True: "math.nan"}.get(math.isnan(value), "math.inf" if value > 0 else "-math.inf")
    return repr(value)


def _whole_power(exponent: View) -> str | None:
    """Products, for an exponent that is a small whole number."""
    try:
        value = float(exponent.buffer)
    except ValueError:
        return None
    if value not in range(-8, 9):
        return None
    product = " * ".join(["{0}"] * abs(int(value))) or "1.0"
    return product if value >= 0 else f"1.0 / ({product})"


def _scalars(given: Sequence, defaults: Sequence[float]) -> list[float]:
    values = [float(g.buffer) if isinstance(g, View) else g for g in given]
    return [*values, *defaults[len(values) :]][: len(defaults)]


def _loops(shape: tuple[int, ...], body: str | None) -> list[str]:
    lines, depth = [], 0
    for d, n in enumerate(shape):
        if n > 1:
            lines.append("    " * depth + f"for i{d} in range({n}):")
            depth += 1
    return lines if body is None else [*lines, "    " * depth + body]


def _flatten(value, out: list) -> None:
    if isinstance(value, list | tuple):
        for v in value:
            _flatten(v, out)
    elif value is not None:
        out.append(value)


def _squeezed(value: View, shape: tuple[int, ...]) -> View:
    """The same elements under a shape that differs by dimensions of one."""
    strides = iter([s for n, s in zip(value.shape, value.strides, strict=False) if n > 1])
    return value.seen(shape, [next(strides, 0) if n > 1 else 0 for n in shape])


def _view(name: str, args: list, shape: tuple[int, ...], node) -> object | None:
    """Result of an operation that only looks at its argument another way; None for any other operation."""
    if name not in _VIEWS:
        return None
    value, rank = args[0], len(args[0].shape)
    strides = value.strides or (0,) * rank
    if name in ("expand", "expand_as"):
        lead = len(shape) - rank
        kept = [s if n == m else 0 for n, m, s in zip(value.shape, shape[lead:], strides, strict=True)]
        return value.seen(shape, [0] * lead + kept)
    if name in ("t", "transpose", "permute"):
        order = list(range(rank))
        if name == "permute":
            order = [d % rank for d in node.args[1]]
        elif name == "t":
            order = order[::-1]
        else:
            a, b = (d % rank for d in node.args[1:3])
            order[a], order[b] = order[b], order[a]
        return value.seen(shape, [strides[d] for d in order])
    if name == "select":
        dim = node.args[1] % rank
        index = node.args[2] % value.shape[dim]
        return value.seen(shape, strides[:dim] + strides[dim + 1 :], index * strides[dim])
    if name == "slice":
        dim, start, _, step = [*node.args[1:], *(0, None, None, 1)[len(node.args) - 1 :]]
        dim = dim % rank
        start = (start or 0) + (value.shape[dim] if (start or 0) < 0 else 0)
        return value.seen(shape, [s * (step if d == dim else 1) for d, s in enumerate(strides)], start * strides[dim])
    if name == "unbind":
        dim = (node.args[1] if len(node.args) > 1 else 0) % rank
        rest = value.shape[:dim] + value.shape[dim + 1 :]
        kept = strides[:dim] + strides[dim + 1 :]
        return [value.seen(rest, kept, i * strides[dim]) for i in range(value.shape[dim])]
    if value.offset is None or [n for n in shape if n > 1] == [n for n in value.shape if n > 1]:
        return _squeezed(value, shape)
    if strides == _contiguous(value.shape):
        return value.seen(shape, _contiguous(shape))
    raise StructureError("A law reshapes a transposed array, which the compiled driver does not do: use AllAtOnce.")


_VIEWS = ("view", "reshape", "_unsafe_view", "unsqueeze", "squeeze", "view_as", "expand", "expand_as", "t", "transpose",
          "permute", "select", "slice", "unbind")  # fmt: skip


def function(name: str, arguments: str, lines, results: Sequence[tuple[str, View]], inputs, lanes: int) -> str:
    """Source of one function: loads the inputs it reads, runs some of a writer's statements, stores results; for lane
    after lane, in a loop over ``e``. Sums over arrays may be taken in any order."""
    text = [statement for line in lines for statement in line.text]
    wanted = {r for line in lines for r in line.reads} | {v.key for _, v in results}
    load = [f"{name} = {place}" for name, place in inputs if name in wanted]
    store = []
    for target, view in results:
        store += _store(target, view, lanes)
    body = [*load, *text, *store] or ["pass"]
    loop = [f"    for e in range({lanes}):"] if lanes > 1 else []
    body = ["    " * (1 + len(loop)) + b for b in body]
    order = ", fastmath={'reassoc', 'contract'}" if any(line.piece for line in lines) else ""
    head = f"@njit(cache=True, error_model='numpy', nogil=True{order})"
    return "\n".join([head, f"def {name}({arguments}):", *loop, *body])


def _store(target: str, view: View, lanes: int) -> list[str]:
    """Write a result into an array: ``target`` is the element of a single number, or ``array|offset`` of several."""
    if "|" not in target:
        return [f"{target} = {view.at(['0'] * len(view.shape))}"]
    array, offset = target.split("|")
    if lanes > 1:  # then every value is one number
        return [f"{array}[{int(offset) * lanes} + e] = {view.at(['0'] * len(view.shape))}"]
    flat = View(array, view.shape, _contiguous(view.shape), int(offset))
    index = [f"i{d}" if n > 1 else "0" for d, n in enumerate(view.shape)]
    return _loops(view.shape, f"{flat.at(index)} = {view.at(index)}")
