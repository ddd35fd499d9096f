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
from typing import NamedTuple

import numpy as np
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import StructureError
from udehydro.files import write_atomic
from udehydro.solvers import newton
from udehydro.solvers.compiled import source, trace

HEADER = "import math\n\nimport numpy as np\nfrom numba import njit\n"
MARK = "# --- template ---\n"


class Program(NamedTuple):
    """A compiled module and what its loops have to be told."""

    module: ModuleType
    blocks: tuple[np.ndarray, ...]
    sizes: np.ndarray
    linear: np.ndarray
    moves: np.ndarray
    temporaries: int
    workspace: int


def weights_of(model: Balance) -> list[Tensor]:
    """Tensors that the laws hold, parameters first."""
    return [*model.parameters(), *(b for n, b in model.named_buffers() if n != "incidence")]


def flat_weights(model: Balance) -> np.ndarray:
    """All values that the laws hold, one behind the other."""
    parts = [w.detach().double().cpu().reshape(-1).numpy() for w in weights_of(model)]
    return np.concatenate([*parts, np.zeros(1)])


def build(model: Balance, forcing_wanted: Sequence[bool]) -> Program:
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
    blocks = newton.strongly_connected(model.dependence)
    text, linear, temporaries, workspace = [], [], 1, 1
    for number, block in enumerate(blocks):
        writer = source.Writer(trace.tendency_and_jacobian(model, block), offsets)
        parts, is_linear, count = _block(writer, block, number)
        text += parts
        linear.append(is_linear)
        temporaries, workspace = max(temporaries, count), max(workspace, writer.workspace)
    text += [_dispatch("prologue", "y, x, t, w, s, tmp", len(blocks))]
    text += [_dispatch("body", "y, x, t, w, s, tmp, f, jac", len(blocks))]
    n = trace.shapes(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    wanted = [f"gx[{i}]" for i in range(sum(forcing_wanted))] + [f"gt[{i}]" for i in range(n.theta)]
    entries = [f"jac[{i}, {j}]" for i, row in enumerate(model.dependence) for j, sees in enumerate(row) if sees]
    whole = (
        ("rates", "y, x, t, w, s, q", trace.rates(model), [f"q[{i}]" for i in range(n.fluxes)]),
        ("jacobian", "y, x, t, w, s, jac", trace.jacobian(model), entries),
        ("pull_stores", "y, x, t, c, w, s, gy", trace.pull_stores(model), [f"gy[{i}]" for i in range(n.stores)]),
        ("pull_inputs", "y, x, t, c, w, s, gx, gt, gw", trace.pull_inputs(model, forcing_wanted, trained),
         wanted + [f"gw|{offsets[id(p)][0]}" for p in trained]),
    )  # fmt: skip
    for name, arguments, traced, targets in whole:
        writer = source.Writer(traced, offsets)
        results = list(zip(targets, writer.outputs, strict=True))
        text.append(source.function(name, arguments, writer.lines, results, traced.inputs))
        workspace = max(workspace, writer.workspace)
    template = Path(__file__).with_name("kernels.py").read_text(encoding="utf-8").split(MARK)[1]
    moves = np.array([[-1 if end is None else end for end in move] for move in model.moves], dtype=np.int64)
    return Program(
        _load("\n\n\n".join([HEADER, *text, template])),
        tuple(np.array(block, dtype=np.int64) for block in blocks),
        np.array([len(block) for block in blocks]),
        np.array(linear),
        moves.reshape(-1, 2),
        temporaries,
        workspace,
    )


def _block(writer: source.Writer, block: Sequence[int], number: int) -> tuple[list[str], bool, int]:
    """Source of prologue and body of a block, whether its laws are linear in its stores, and temporaries needed."""
    own = {f"y{i}" for i in block}
    inside = [line for line in writer.lines if line.origins & own]
    outside = [line for line in writer.lines if not line.origins & own]
    size = len(block)
    tendencies, entries = writer.outputs[:size], writer.outputs[size:]
    targets = [f"f[{i}]" for i in block] + [f"jac[{i}, {j}]" for i in block for j in block]
    results = list(zip(targets, writer.outputs, strict=True))
    made = {line.writes for line in outside if not line.writes.startswith("s")}
    needed = sorted(made & ({r for line in inside for r in line.reads} | {v.key for v in writer.outputs}))
    inputs = sorted({o for line in writer.lines for o in line.origins} | {v.key for v in writer.outputs})
    inputs = [i for i in inputs if i[0] in "yxtc" and i[1:].isdigit()]
    saved = [(f"tmp[{k}]", source.View(name, ())) for k, name in enumerate(needed)]
    before = source.function(f"prologue_{number}", "y, x, t, w, s, tmp", outside, saved, inputs)
    loads = [source.Line([f"{name} = tmp[{k}]"], name, set(), set()) for k, name in enumerate(needed)]
    after = source.function(f"body_{number}", "y, x, t, w, s, tmp, f, jac", [*loads, *inside], results, inputs)
    del tendencies
    return [before, after], not any(writer.origins(v) & own for v in entries), max(1, len(needed))


def _dispatch(name: str, arguments: str, count: int) -> str:
    lines = ["@njit(cache=True, error_model='numpy')", f"def {name}(block, {arguments}):"]
    for k in range(count):
        lines += [f"    {'if' if k == 0 else 'elif'} block == {k}:", f"        {name}_{k}({arguments})"]
    return "\n".join(lines)


@lru_cache(maxsize=64)
def _load(text: str) -> ModuleType:
    """Write a module into the cache where it is not yet there, and import it."""
    name = "udehydro_kernels_" + hashlib.sha256(text.encode()).hexdigest()[:20]
    folder = Path(os.environ.get("UDEHYDRO_CACHE") or Path.home() / ".cache" / "udehydro")
    path = folder / f"{name}.py"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # numba's cache pickles by module name
    spec.loader.exec_module(module)
    return module
