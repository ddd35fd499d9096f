"""Speed of physics-informed networks: a residual and its gradient by jets, by nested differentiation, and by DeepXDE.

All variants take turns, in an order drawn anew each round, so that other work on the machine meets them alike; ratios
are taken within a round. ``--deepxde PYTHON`` names an interpreter with deepxde, torch, jax and flax; without it those
rows are left out.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _pinn_nested import CAPACITY, gradient, head, mixed
from _report import table, write
from torch import Tensor

from udehydro.richards.pinn.clock import Clock
from udehydro.richards.pinn.field import Box, Features, Field
from udehydro.richards.pinn.jets import Orders
from udehydro.richards.pinn.network import Network
from udehydro.richards.pinn.system import System, Term

SCRIPT = "pinn_throughput"
LAYERS, WIDTH = 5, 50
BLOCK = 500
"""Points that nested differentiation takes at once in its second variant; the package has blocks of its own."""
FORMS = {"head": (head, 1), "mixed": (mixed, 2)}
NESTED, JETS, DEEPXDE = "nested, {}", "jets, {}", "DeepXDE {}, {}"
CLOSE = {torch.float64: 1e-9, torch.float32: 1e-3}


def network(form: str, dtype: torch.dtype) -> Network:
    found = Network(2, FORMS[form][1], width=WIDTH, depth=LAYERS, adaptive=False)
    with torch.no_grad():
        for b in found.biases:  # zeros would hide a mistake
            b.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(1))
    return found.to(dtype)


def jets(form: str, net: Network, points: Tensor) -> Callable[[], tuple[float, list[Tensor]]]:
    """Loss and gradient as fields are trained: by a System of the package."""
    field = Field(net, Features(Box((-1.0, -1.0), (1.0, 1.0)), Clock(-1.0, 1.0)))

    def of_head(outputs, *_) -> Tensor:
        (psi,) = outputs[0]
        k, slope = torch.exp(psi.value), psi.d(1)
        return (CAPACITY * k * psi.d(0) - k * (slope * (slope + 1.0) + psi.dd(1))).unsqueeze(-1)

    def of_both(outputs, *_) -> Tensor:
        psi, q = outputs[0]
        k = torch.exp(psi.value)
        return torch.stack([CAPACITY * k * psi.d(0) + q.d(1), q.value + k * (psi.d(1) + 1.0)], dim=-1)

    orders, rows = (Orders((0, 1), (1,)), of_head) if form == "head" else (Orders((0, 1)), of_both)
    system = System([field], [Term("balance", points, (0,), orders, rows, weight=2.0, mean=False)])

    def run() -> tuple[float, list[Tensor]]:
        leaves = [w.detach().requires_grad_() for w in net.weights()]
        loss = system.loss([leaves], system.extra.values)
        return float(loss.sum()), [w.grad[0] for w in leaves]

    return run


def variants(dtype: torch.dtype, points: Tensor) -> dict[str, Callable[[], tuple[float, list[Tensor]]]]:
    found = {}
    for form, (loss, _) in FORMS.items():
        net = network(form, dtype)
        weights = [w[0].detach() for w in net.weights()]
        for label, block in (("all points at once", len(points)), (f"blocks of {BLOCK}", BLOCK)):
            found[f"{NESTED.format(form)}, {label}"] = lambda loss=loss, weights=weights, block=block: gradient(
                loss, weights, points, block
            )
        found[JETS.format(form)] = jets(form, net, points)
    return found


class DeepXDE:
    """Another process that makes one training step whenever it is called; gives the seconds of it."""

    def __init__(self, python: str, backend: str, dtype: torch.dtype, threads: int, form: str, folder: Path):
        self.file = folder / f"{form}-{dtype}.npz"
        script = Path(__file__).with_name("_pinn_deepxde.py")
        command = [python, script, backend, str(dtype).split(".")[1], str(threads), form, self.file]
        self.log = (folder / "log").open("a+")
        self.process = subprocess.Popen(
            [str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.loss = float(self._answer())

    @staticmethod
    def hand_over(folder: Path, form: str, dtype: torch.dtype, points: Tensor) -> None:
        """Write weights and points to a file."""
        weights = [w[0].detach().numpy() for w in network(form, dtype).weights()]
        pairs = {f"{'wb'[i % 2]}{i // 2}": w for i, w in enumerate(weights)}
        np.savez(folder / f"{form}-{dtype}.npz", points=points.numpy(), **pairs)

    def __call__(self) -> float:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise SystemExit(f"DeepXDE ended early:\n{self.log.read()[-2000:]}")
        return line

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def apart(found: list[Tensor], true: list[Tensor]) -> float:
    """Largest difference of gradients by the largest entry of each array."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, true, strict=True))


def check(runs: dict[str, Callable], dtype: torch.dtype) -> float:
    """Largest difference of a gradient from that by nested differentiation; stops where it is too large."""
    worst = 0.0
    for form in FORMS:
        loss, true = runs[f"{NESTED.format(form)}, all points at once"]()
        for name in (n for n in runs if form in n):
            other, found = runs[name]()
            off = max(apart(found, true), abs(other / loss - 1.0))
            if not off < CLOSE[dtype]:
                raise SystemExit(f"{name} in {dtype}: loss or gradient is off by {off:.1e}.")
            worst = max(worst, off)
    return worst


def contest(dtype: torch.dtype, threads: int, options: argparse.Namespace) -> dict:
    """Seconds (rounds,) of each variant, and how far gradients are apart."""
    torch.set_num_threads(threads)
    points = torch.rand(options.points, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    points = points.to(dtype)
    runs = variants(dtype, points)
    off = check(runs, dtype)
    clocks = {name: lambda run=run: timed(run) for name, run in runs.items()}
    with tempfile.TemporaryDirectory() as folder:
        others = {}
        if options.deepxde:
            for form in FORMS:
                DeepXDE.hand_over(Path(folder), form, dtype, points)
                loss = runs[JETS.format(form)]()[0] / len(points)
                for backend, label in (("pytorch", "PyTorch"), ("jax", "JAX")):
                    one = DeepXDE(options.deepxde, backend, dtype, threads, form, Path(folder))
                    if abs(one.loss / loss - 1.0) > CLOSE[dtype]:
                        raise SystemExit(f"DeepXDE {label}, {form}: loss {one.loss}, not {loss}.")
                    others[DEEPXDE.format(label, form)] = one
        seconds = rounds(clocks | others, options.repeats)
        for one in others.values():
            one.close()
    return {"seconds": seconds, "off": off}


def timed(run: Callable) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def rounds(clocks: dict[str, Callable[[], float]], repeats: int) -> dict[str, np.ndarray]:
    """Every variant twice in a row each round, in an order drawn anew, the second timed; two rounds warm up.

    Training makes one step after the other. The first call after another variant also takes back memory which that one
    left to the system, which no step of training does.
    """
    found, order, draw = {name: [] for name in clocks}, list(clocks), random.Random(0)
    for _ in range(repeats + 2):
        draw.shuffle(order)
        for name in order:
            clocks[name]()
            found[name].append(clocks[name]())
    return {name: np.array(s[2:]) for name, s in found.items()}


def ratio(seconds: dict[str, np.ndarray], slow: str, fast: str) -> np.ndarray | None:
    """How many times as fast, round by round."""
    return seconds[slow] / seconds[fast] if slow in seconds and fast in seconds else None


def told(values: np.ndarray | None, scale: float = 1.0, digits: int = 2) -> str:
    if values is None:
        return "not run"
    middle, low, high = (scale * v for v in (np.median(values), values.min(), values.max()))
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


WHOLE = "nested, {}, all points at once"
GOALS = [
    ("jets, head", WHOLE.format("head"), {"float64": 1.4, "float32": 2.0}),
    ("jets, head", f"nested, head, blocks of {BLOCK}", {}),
    ("jets, head", "DeepXDE PyTorch, head", {"float64": 1.3}),
    ("jets, head", "DeepXDE JAX, head", {"float64": 2.0}),
    ("jets, mixed", WHOLE.format("head"), {"float64": 2.0}),
    ("jets, mixed", WHOLE.format("mixed"), {}),
    ("jets, mixed", f"nested, mixed, blocks of {BLOCK}", {}),
    ("jets, mixed", "DeepXDE PyTorch, mixed", {}),
    ("jets, mixed", "DeepXDE JAX, mixed", {}),
]


def report(found: dict[tuple[str, int], dict], options: argparse.Namespace, load: tuple[float, float]) -> None:
    head_row = [f"{dtype}, {threads} thread{'s' if threads > 1 else ''}" for dtype, threads in found]
    names = list(next(iter(found.values()))["seconds"])
    times = [[n, *(told(f["seconds"][n], 1e3, 0) for f in found.values())] for n in names]
    ratios = []
    for fast, slow, goal in GOALS:
        cells = []
        for (dtype, threads), f in found.items():
            values = ratio(f["seconds"], slow, fast)
            aim = goal.get(dtype) if threads == 1 else None
            sign = "" if aim is None or values is None else f"; goal {aim:g}: {verdict(values, aim)}"
            cells.append(told(values) + sign)
        ratios.append([f"{fast} / {slow}", *cells])
    off = {d: max(f["off"] for (dtype, _), f in found.items() if dtype == d) for d in ("float64", "float32")}
    without = "" if options.deepxde else " DeepXDE was not run: no interpreter that has it was named (--deepxde)."
    body = f"""Residuals and their gradient by all weights at {options.points} points of a network of {LAYERS} layers of
{WIDTH} tanh units and two inputs:

- **head**: 0.34 k psi_t - k (psi_z (psi_z + 1) + psi_zz) with k = exp(psi), the soil of Srivastava and Yeh (1991);
  one output. Jets carry the value, t, z and zz.
- **mixed**: 0.34 k psi_t + q_z and q + k (psi_z + 1); two outputs, first derivatives only. Jets carry the value, t, z.

**jets** is `System.loss`, what fields are trained by, in blocks of points whose jets stay in the cache. **nested** is
reverse differentiation within reverse differentiation in plain torch. **DeepXDE** is one training step, of which Adam
is a small part. Gradients of jets and nested agree to {off["float64"]:.0e} in float64 and {off["float32"]:.0e} in
float32, of the largest entry of each array; losses of DeepXDE are the same.{without}

Milliseconds: median over {options.repeats} rounds (lowest-highest). In a round all take turns in an order drawn anew;
each runs twice and the second time counts, since training too makes one step after the other.

{table(["", *head_row], times)}

How many times as fast, round by round: median (lowest-highest). The mixed form is another problem than that of the
head; its row against nested, head says what the choice of the form is worth, those below it what jets are.

{table(["", *head_row], ratios)}

Jets lie with points last in memory, which processors take many of at once, and their arrays go from one block to the
next. In single precision most of what is left is products of matrices near the peak of the processor, of which nested
differentiation has as many.

Load of the machine (running tasks, mean of a minute) {load[0]:.1f} before and {load[1]:.1f} after, on
{os.cpu_count()} cores. Where that is above one or two, times are too long, and those of two threads say little."""
    write(SCRIPT, "Physics-informed networks: speed of residuals", body)


def verdict(values: np.ndarray, aim: float) -> str:
    return "met" if np.median(values) >= aim else "missed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--deepxde", help="an interpreter that has deepxde, torch, jax and flax")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--check", action="store_true", help="only see that gradients agree; no page")
    options = parser.parse_args()
    if options.check:
        options.points, options.repeats = 1200, 2
    before, found = os.getloadavg()[0], {}
    for threads in options.threads:
        for dtype in (torch.float64, torch.float32):
            one = contest(dtype, threads, options)
            found[str(dtype).split(".")[1], threads] = one
            for name, seconds in one["seconds"].items():
                print(f"{dtype}, {threads} thread(s), {name}: {told(seconds, 1e3, 1)} ms", flush=True)
    if not options.check:
        report(found, options, (before, os.getloadavg()[0]))


if __name__ == "__main__":
    main()
