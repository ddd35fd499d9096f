"""One compiled module per model: functions made from its laws, and the loops of :mod:`kernels` around them.

Source is written once into a cache folder (``UDEHYDRO_CACHE``, by default ``~/.cache/udehydro``) under the hash of its
text, and numba keeps the machine code beside it, so that a model is compiled once per machine. The text is made from
the operations that tracing recorded, by a fixed table; nothing of it comes from data.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import ConfigError, StructureError
from udehydro.files import write_atomic
from udehydro.solvers import newton
from udehydro.solvers.compiled import source, trace

HEADER = """import math

import numpy as np
from numba import njit

from udehydro.solvers.compiled.elementary import as_bits, as_double
"""
VECTORS = """exp, expm1, log, log1p = vector_exp, vector_expm1, vector_log, vector_log1p
tanh, power = vector_tanh, vector_power"""
SCALARS = """exp, expm1, log, log1p = math.exp, math.expm1, np.log, np.log1p
tanh, power = math.tanh, math.pow"""
MARK = "# --- template ---\n"


def weights_of(model: Balance) -> list[Tensor]:
    """Tensors that the laws hold, parameters first."""
    return [*model.parameters(), *(b for n, b in model.named_buffers() if n != "incidence")]


def flat_weights(model: Balance) -> np.ndarray:
    """All values that the laws hold, one behind the other, and behind them the transposed matrices."""
    held = [w.detach().double().cpu() for w in weights_of(model)]
    parts = [*held, *(w.T for w in held if w.ndim == 2)]
    return np.concatenate([*(w.reshape(-1).numpy() for w in parts), np.zeros(1)])


def _offsets(model: Balance) -> tuple[dict[int, tuple[int, Tensor]], dict[int, tuple[int, tuple[int, ...]]]]:
    """Where :func:`flat_weights` puts tensors, by identity, and where the transposed copies of matrices of some shape,
    by the offset of the first."""
    offsets, copies, position = {}, {}, 0
    for weight in weights_of(model):
        offsets[id(weight)] = (position, weight)
        position += weight.numel()
    for offset, weight in offsets.values():
        if weight.ndim == 2:
            copies[offset] = position, tuple(weight.shape)
            position += weight.numel()
    return offsets, copies


def build(model: Balance, lanes: int) -> ModuleType:
    """Trace, write and load the module of a model that marches and walks back; compiling follows at its first run.

    ``lanes`` basins are computed side by side, unless laws hold arrays: these are run along instead.

    Raises StructureError for laws that cannot be compiled.
    """
    blocks = newton.strongly_connected(model.dependence)
    trained = [p for p in model.parameters() if p.requires_grad]
    traced = [*(trace.tendency_and_jacobian(model, b) for b in blocks), trace.rates(model)]
    *writers, flows, adjoint = _writers(model, [*traced, trace.linearised(model, trained)])
    places = _places(model, (*writers, flows, adjoint), lanes)
    n, offsets = places.counts, _offsets(model)[0]
    text = [writer for number, block in enumerate(blocks) for writer in _block(writers[number], block, number, places)]
    text += [_dispatch("prologue", len(blocks)), _dispatch("body", len(blocks))]
    inputs = [f"{name}{i}" for name, count in (("y", n.stores), ("x", n.forcing), ("t", n.theta)) for i in range(count)]
    rates = zip([places.of("Q", i) for i in range(n.fluxes)], flows.outputs, strict=True)
    text.append(source.function("rates", "z, w", flows.lines, [*rates], places.inputs(inputs), places.lanes))
    text += _adjoint(adjoint, model, [f"gw|{offsets[id(p)][0]}" for p in trained], places)
    constants = [
        f"MEMBERS = np.array({[i for block in blocks for i in block]})",
        f"BEGIN = np.array({[sum(len(b) for b in blocks[:k]) for k in range(len(blocks))]})",
        f"WIDTH = np.array({[len(b) for b in blocks]})",
        f"DENSE = np.ones(({n.stores}, {n.stores}), dtype=np.bool_)",
        f"FILLED = np.array({_filled(list(zip(*model.dependence, strict=True)))})",
    ]
    return _assembled(model, places, constants, text, ["kernels.py"])


def build_tangents(model: Balance, lanes: int) -> ModuleType:
    """Trace, write and load the module of a model that pushes tangents along a march; as :func:`build`."""
    traced, entries = trace.partials(model)
    (writer,) = _writers(model, [traced])
    places = _places(model, (writer,), lanes)
    n = places.counts
    begin = {"y": 0, "x": n.fluxes * n.stores, "t": n.fluxes * (n.stores + n.forcing)}
    width = {"y": n.stores, "x": n.forcing, "t": n.theta}
    rows = [begin[name] + f * width[name] + i for f, name, i in entries]
    at = [f"d[{r * places.lanes} + e]" if places.lanes > 1 else f"d[{r}]" for r in rows]
    inputs = [f"{name}{i}" for name, count in width.items() for i in range(count)]
    results = list(zip(at, writer.outputs, strict=True))
    text = [source.function("partials", "z, w, d", writer.lines, results, places.inputs(inputs), places.lanes)]
    found = {name: [[(f, name, i) in entries for i in range(width[name])] for f in range(n.fluxes)] for name in "yx"}
    constants = [
        f"BY_STORES = np.array({found['y']})",
        f"BY_FORCINGS = np.array({[row or [False] for row in found['x']]})",
        f"QX, QT, PARTIALS = {begin['x']}, {begin['t']}, {n.fluxes * (n.stores + n.forcing + n.theta)}",
        f"FILLED = np.array({_filled(model.dependence)})",
    ]
    return _assembled(model, places, constants, text, ["kernels.py", "tangents.py"])


def _writers(model: Balance, traced: Sequence[trace.Traced]) -> list[source.Writer]:
    """Statements of some traced functions."""
    if any(getattr(m, "members", None) is not None for m in model.modules()):
        raise StructureError(
            "Networks with a member axis have other weights for every member, which the compiled driver does not do: "
            "use AllAtOnce."
        )
    offsets, copies = _offsets(model)
    try:
        return [source.Writer(t, offsets, copies) for t in traced]
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StructureError(
            f"The laws of '{model.structure.name}' use an operation in a way the compiled driver does not know "
            f"({type(error).__name__}: {error}): use AllAtOnce or Stepping."
        ) from error


def _places(model: Balance, writers: Sequence[source.Writer], lanes: int) -> Places:
    places = Places(trace.shapes(model), max(len(b) for b in newton.strongly_connected(model.dependence)))
    places.workspace = max(w.workspace for w in writers)
    places.lanes = 1 if places.workspace else lanes
    return places


def _assembled(model: Balance, places: Places, constants, text, loops: Sequence[str]) -> ModuleType:
    """The module of constants, functions made from laws, and loops; ``text`` is complete, so all places are known."""
    moves = [[-1 if end is None else end for end in move] for move in model.moves]
    constants = [places.text(), *constants, f"MOVES = np.array({moves or [[-1, -1]]})"]
    functions, *loops = (
        Path(__file__).with_name(name).read_text(encoding="utf-8").split(MARK)[1] for name in ("elementary.py", *loops)
    )
    names = VECTORS if places.lanes > 1 else SCALARS
    text = [*text, *_transfers(places.counts)]
    return _load("\n\n\n".join([HEADER + "\n" + "\n".join(constants), functions, names, *text, *loops]))


def _filled(dependence) -> list[list[bool]]:
    """Where a matrix that has entries by ``dependence`` and on its diagonal, and its factors, can have entries."""
    n = len(dependence)
    filled = [[i == j or bool(dependence[i][j]) for j in range(n)] for i in range(n)]
    for p in range(n):
        for i in range(p + 1, n):
            if filled[i][p]:
                filled[i] = [a or (b and j > p) for j, (a, b) in enumerate(zip(filled[i], filled[p], strict=True))]
    return filled


class Places:
    """Where the numbers of a point lie in the array ``z``: rows of as many numbers as there are lanes."""

    def __init__(self, n: trace.Shapes, widest: int):
        self.counts, self.lanes, self.workspace, self.temporaries = n, 1, 0, 0
        sizes = {
            "Y": n.stores, "X": n.forcing, "T": n.theta, "C": n.fluxes, "F": n.stores, "J": n.stores**2, "Q": n.fluxes,
            "GY": n.stores, "GX": n.forcing, "GT": n.theta, "BASE": n.stores, "R": widest, "DX": n.stores,
            "NEW": widest, "OLD": widest, "M": n.stores**2, "START": n.stores, "END": n.stores, "TOTAL": n.fluxes,
            "LAM": n.stores,
        }  # fmt: skip
        single = "H HA COUNT LIVE OK RUN FINE SIZE TRIAL WORST DAMPING PIVOT LEAST FACTOR ALL".split()
        self.begin, self.end = {}, 0
        for name, size in {**sizes, **dict.fromkeys(single, 1)}.items():
            self.begin[name], self.end = self.end, self.end + size

    def of(self, name: str, i: int) -> str:
        return self._row(self.begin[name] + i)

    def temporary(self, i: int) -> str:
        self.temporaries = max(self.temporaries, i + 1)
        return self._row(self.end + i)

    def _row(self, i: int) -> str:
        return f"z[{i * self.lanes} + e]" if self.lanes > 1 else f"z[{i}]"

    def inputs(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """(variable, where it is loaded from) of graph inputs such as y0, x3; cotangents share their rows."""
        return [(name, self.of(name[0].upper().replace("D", "C"), int(name[1:]))) for name in names]

    def text(self) -> str:
        """Constants of the module. Temporaries come behind the scratch; networks have a workspace of their own."""
        n = self.counts
        lines = [f"STORES, FORCINGS, THETAS, FLUXES = {n.stores}, {n.forcing}, {n.theta}, {n.fluxes}"]
        lines += [f"{name} = {begin}" for name, begin in self.begin.items()]
        rows = self.end + self.temporaries
        return "\n".join([*lines, f"LANES, WORKSPACE, ROWS = {self.lanes}, {rows}, {rows + self.workspace}"])


def _block(writer: source.Writer, block: Sequence[int], number: int, places: Places) -> list[str]:
    """Source of prologue and body of a block."""
    stores = places.counts.stores
    targets = [places.of("F", i) for i in block] + [places.of("J", i * stores + j) for i in block for j in block]
    results = list(zip(targets, writer.outputs, strict=True))
    names = (f"prologue_{number}", "z, w"), (f"body_{number}", "z, w")
    return _split(writer, {f"y{i}" for i in block}, names, [], results, places)


def _adjoint(writer: source.Writer, model: Balance, weights: Sequence[str], places: Places) -> list[str]:
    """Source of linearise, and of pull_inputs, which goes on from what that has evaluated."""
    n, filled = places.counts, model.dependence
    entries = [places.of("J", i * n.stores + j) for i, row in enumerate(filled) for j, s in enumerate(row) if s]
    entries += [places.of("GY", i) for i in range(n.stores)]
    pulled = [places.of("GX", i) for i in range(n.forcing)] + [places.of("GT", i) for i in range(n.theta)]
    results = list(zip([*entries, *pulled, *weights], writer.outputs, strict=True))
    names = ("linearise", "z, w"), ("pull_inputs", "z, w, gw")
    late = {f"d{i}" for i in range(n.fluxes)}
    return _split(writer, late, names, results[: len(entries)], results[len(entries) :], places)


def _split(writer: source.Writer, late: set[str], names, first, second, places: Places) -> list[str]:
    """Source of two functions: statements that depend on none of the ``late`` inputs, with the results ``first``, and
    the others, with the results ``second``. What the others need of the former waits in temporaries."""
    inside = [line for line in writer.lines if line.origins & late]
    outside = [line for line in writer.lines if not line.origins & late]
    made = {line.writes for line in outside if not line.piece}
    needed = sorted(made & ({r for line in inside for r in line.reads} | {v.key for _, v in second}))
    inputs = {o for line in writer.lines for o in line.origins} | {v.key for v in writer.outputs}
    inputs = places.inputs(sorted(i for i in inputs if i[0] in "yxtcd" and i[1:].isdigit()))
    saved = [(places.temporary(k), source.View(name, ())) for k, name in enumerate(needed)]
    loads = [
        source.Line([f"{name} = {place}"], name, set(), set()) for name, (place, _) in zip(needed, saved, strict=True)
    ]
    (before, its), (after, others) = names
    return [
        source.function(before, its, outside, [*first, *saved], inputs, places.lanes),
        source.function(after, others, [*loads, *inside], second, inputs, places.lanes),
    ]


def _transfers(n: trace.Shapes) -> list[str]:
    """Source of what carries inputs into their rows and gradients out of them. Written out, because arrays of a tuple
    cost reference counts where they are picked by a variable."""

    series = [(f"x{i}", f"X + {i}", f"forcing[{i}]", "k") for i in range(n.forcing)]
    series += [(f"t{i}", f"T + {i}", f"theta[{i}]", f"k if moving[{i}] else 0") for i in range(n.theta)]
    load = ["load_point(z, forcing, theta, moving, k, base, width):"]
    for name, row, values, at in series:
        load += [f"{name}, at = {values}, {at}", "for e in range(LANES):",
                 f"    z[({row}) * LANES + e] = {name}[at, base + min(e, width - 1)]"]  # fmt: skip
    gather = ["gather_parameters(z, g_theta, moving, k, base, width):"]
    for i in range(n.theta):
        gather += [f"g, at = g_theta[{i}], k if moving[{i}] else 0", "for e in range(width):",
                   f"    g[at, base + e] += z[(GT + {i}) * LANES + e]"]  # fmt: skip
    head = "@njit(cache=True, error_model='numpy', nogil=True)\ndef "
    return [head + "\n    ".join([*lines, "return"]) for lines in (load, gather)]


def _dispatch(name: str, count: int) -> str:
    lines = ["@njit(cache=True, error_model='numpy', nogil=True)", f"def {name}(block, z, w):"]
    for k in range(count):
        lines += [f"    {'if' if k == 0 else 'elif'} block == {k}:", f"        {name}_{k}(z, w)"]
    return "\n".join(lines)


@lru_cache(maxsize=64)
def _load(text: str) -> ModuleType:
    """Write a module into the cache where it is not yet there, and import it."""
    name = "udehydro_kernels_" + hashlib.sha256(text.encode()).hexdigest()[:20]
    folder = Path(os.environ.get("UDEHYDRO_CACHE") or Path.home() / ".cache" / "udehydro")
    path = folder / f"{name}.py"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and (folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022):
        raise ConfigError(
            f"Compiled code is kept in {folder}, which others can write to: make it your own (chmod go-w), or set "
            "UDEHYDRO_CACHE to another folder."
        )
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # numba's cache pickles by module name
    spec.loader.exec_module(module)
    return module
