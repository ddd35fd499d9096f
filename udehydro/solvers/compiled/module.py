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

HEADER = "import math\n\nimport numpy as np\nfrom numba import njit\n"
MARK = "# --- template ---\n"


def weights_of(model: Balance) -> list[Tensor]:
    """Tensors that the laws hold, parameters first."""
    return [*model.parameters(), *(b for n, b in model.named_buffers() if n != "incidence")]


def flat_weights(model: Balance) -> np.ndarray:
    """All values that the laws hold, one behind the other."""
    parts = [w.detach().double().cpu().reshape(-1).numpy() for w in weights_of(model)]
    return np.concatenate([*parts, np.zeros(1)])


def build(model: Balance) -> ModuleType:
    """Trace, write and load the module of a model; compiling follows at its first run.

    Raises StructureError for laws that cannot be compiled.
    """
    if any(getattr(m, "members", None) is not None for m in model.modules()):
        raise StructureError(
            "Networks with a member axis have other weights for every member, which the compiled driver does not do: "
            "use AllAtOnce."
        )
    offsets, position = {}, 0
    for weight in weights_of(model):
        offsets[id(weight)] = (position, weight)
        position += weight.numel()
    n, blocks = trace.shapes(model), newton.strongly_connected(model.dependence)
    places = Places(n, max(len(b) for b in blocks))
    writers = [source.Writer(trace.tendency_and_jacobian(model, b), offsets) for b in blocks]
    text = []
    for number, (block, writer) in enumerate(zip(blocks, writers, strict=True)):
        text += _block(writer, block, number, places)
    text += [_dispatch("prologue", len(blocks)), _dispatch("body", len(blocks))]
    trained = [p for p in model.parameters() if p.requires_grad]
    pulled = [places.of("GX", i) for i in range(n.forcing)] + [places.of("GT", i) for i in range(n.theta)]
    entries = [
        places.of("J", i * n.stores + j) for i, row in enumerate(model.dependence) for j, s in enumerate(row) if s
    ]
    whole = (
        ("rates", "z, w", trace.rates(model), [places.of("Q", i) for i in range(n.fluxes)]),
        ("linearise", "z, w", trace.linearised(model), entries + [places.of("GY", i) for i in range(n.stores)]),
        ("pull_inputs", "z, w, gw", trace.pull_inputs(model, trained),
         pulled + [f"gw|{offsets[id(p)][0]}" for p in trained]),
    )  # fmt: skip
    for name, arguments, traced, targets in whole:
        writer = source.Writer(traced, offsets)
        writers.append(writer)
        results = list(zip(targets, writer.outputs, strict=True))
        text.append(source.function(name, arguments, writer.lines, results, places.inputs(traced.inputs)))
    places.workspace = max(w.workspace for w in writers)
    template = Path(__file__).with_name("kernels.py").read_text(encoding="utf-8").split(MARK)[1]
    moves = [[-1 if end is None else end for end in move] for move in model.moves]
    constants = [
        places.text(),
        f"MEMBERS = np.array({[i for block in blocks for i in block]})",
        f"BEGIN = np.array({[sum(len(b) for b in blocks[:k]) for k in range(len(blocks))]})",
        f"WIDTH = np.array({[len(b) for b in blocks]})",
        f"MOVES = np.array({moves or [[-1, -1]]})",
    ]
    return _load("\n\n\n".join([HEADER + "\n" + "\n".join(constants), *text, template]))


class Places:
    """Where the numbers of a point lie in the array ``z``."""

    def __init__(self, n: trace.Shapes, widest: int):
        self.counts, self.workspace, self.temporaries = n, 0, 0
        sizes = {
            "Y": n.stores, "X": n.forcing, "T": n.theta, "C": n.fluxes, "F": n.stores, "J": n.stores**2, "Q": n.fluxes,
            "GY": n.stores, "GX": n.forcing, "GT": n.theta, "BASE": n.stores, "R": widest, "DX": n.stores,
            "OLD": widest, "M": n.stores**2,
        }  # fmt: skip
        self.begin, end = {}, 0
        for name, size in sizes.items():
            self.begin[name], end = end, end + size
        self.end = end

    def of(self, name: str, i: int) -> str:
        return f"z[{self.begin[name] + i}]"

    def temporary(self, i: int) -> str:
        self.temporaries = max(self.temporaries, i + 1)
        return f"z[{self.end + i}]"

    def inputs(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """(variable, where it is loaded from) of graph inputs such as y0, x3."""
        return [(name, self.of(name[0].upper(), int(name[1:]))) for name in names]

    def text(self) -> str:
        """Constants of the module. Temporaries come behind the scratch; networks have a workspace of their own."""
        n = self.counts
        lines = [f"STORES, FORCINGS, THETAS, FLUXES = {n.stores}, {n.forcing}, {n.theta}, {n.fluxes}"]
        lines += [f"{name} = {begin}" for name, begin in self.begin.items()]
        return "\n".join([*lines, f"WORKSPACE = {self.end + self.temporaries}",
                          f"SIZE = {self.end + self.temporaries + self.workspace}"])  # fmt: skip


def _block(writer: source.Writer, block: Sequence[int], number: int, places: Places) -> list[str]:
    """Source of prologue and body of a block."""
    own, stores = {f"y{i}" for i in block}, places.counts.stores
    inside = [line for line in writer.lines if line.origins & own]
    outside = [line for line in writer.lines if not line.origins & own]
    targets = [places.of("F", i) for i in block] + [places.of("J", i * stores + j) for i in block for j in block]
    results = list(zip(targets, writer.outputs, strict=True))
    made = {line.writes for line in outside if not line.piece}
    needed = sorted(made & ({r for line in inside for r in line.reads} | {v.key for v in writer.outputs}))
    inputs = sorted({o for line in writer.lines for o in line.origins} | {v.key for v in writer.outputs})
    inputs = places.inputs([i for i in inputs if i[0] in "yxt" and i[1:].isdigit()])
    saved = [(places.temporary(k), source.View(name, ())) for k, name in enumerate(needed)]
    before = source.function(f"prologue_{number}", "z, w", outside, saved, inputs)
    loads = [
        source.Line([f"{name} = {place}"], name, set(), set()) for name, (place, _) in zip(needed, saved, strict=True)
    ]
    after = source.function(f"body_{number}", "z, w", [*loads, *inside], results, inputs)
    return [before, after]


def _dispatch(name: str, count: int) -> str:
    lines = ["@njit(cache=True, error_model='numpy')", f"def {name}(block, z, w):"]
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
