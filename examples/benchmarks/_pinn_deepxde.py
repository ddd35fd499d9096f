"""One training step of DeepXDE on the net and points of pinn_throughput.py, timed whenever a line comes in.

Runs under an interpreter of its own that has deepxde, torch, jax and flax: ``python _pinn_deepxde.py BACKEND DTYPE
THREADS FORM FILE`` with BACKEND pytorch or jax, FORM head or mixed, and FILE the weights and points. Prints the loss at
the weights in FILE, the mean square of residuals, and then for every line that it reads the seconds of one step.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np


def main() -> None:
    backend, dtype, threads, form, file = sys.argv[1:]
    os.environ.update(DDE_BACKEND=backend, OMP_NUM_THREADS=threads, JAX_ENABLE_X64=str(int(dtype == "float64")))
    told, sys.stdout = sys.stdout, sys.stderr  # what DeepXDE prints is no answer
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(every)[: int(threads)]))  # XLA makes as many threads as it sees cores
    step, loss = build(backend, dtype, int(threads), form, dict(np.load(file)))
    for task in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(task.name), every)  # the threads made so far may run wherever there is room
    print(repr(loss), file=told, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, file=told, flush=True)


def build(backend: str, dtype: str, threads: int, form: str, given: dict[str, np.ndarray]):
    """A training step of Adam, and the loss at the start."""
    import deepxde as dde

    dde.config.set_default_float(dtype)
    given = {k: v.astype(dtype) for k, v in given.items()}
    points, matrices, biases = given["points"], *(layers(given, k) for k in ("w", "b"))
    sizes = [w.shape[0] for w in matrices] + [matrices[-1].shape[1]]
    data = dde.data.PDE(dde.geometry.Rectangle([-1, -1], [1, 1]), balance(dde, backend, form), [], anchors=points)
    model = dde.Model(data, dde.nn.FNN(sizes, "tanh", "Glorot normal"))
    if backend == "pytorch":
        import torch

        torch.set_num_threads(threads)
        with torch.no_grad():
            for layer, w, b in zip(model.net.linears, matrices, biases, strict=True):
                layer.weight.copy_(torch.as_tensor(w.T))
                layer.bias.copy_(torch.as_tensor(b))
    model.compile("adam", lr=1e-12)  # so small that every step has the same numbers to work on
    inputs, *rest = model.data.train_next_batch()
    inputs = inputs.astype(dtype)
    if backend == "pytorch":
        loss = float(model.outputs_losses_train(inputs, None, None)[1].sum())
        return lambda: model._train_step(inputs, None, None), loss
    import jax

    model.params[0] = set_weights(model.params[0], matrices, biases)
    model.opt_state = model.opt.init(model.params)
    loss = float(model.outputs_losses_train(model.params, inputs, None)[1].sum())

    def step():
        model._train_step(inputs, None, None)
        jax.block_until_ready(model.params)

    return step, loss


def layers(given: dict[str, np.ndarray], kind: str) -> list[np.ndarray]:
    return [given[f"{kind}{i}"] for i in range(sum(k.startswith(kind) for k in given))]


def set_weights(params, matrices: list[np.ndarray], biases: list[np.ndarray]):
    """Parameters of flax with these weights; its layers are numbered in turn."""
    import jax.numpy as jnp

    names = sorted(params["params"], key=lambda name: int(name.split("_")[-1]))
    for name, w, b in zip(names, matrices, biases, strict=True):
        assert params["params"][name]["kernel"].shape == w.shape
        params["params"][name] = {"kernel": jnp.asarray(w), "bias": jnp.asarray(b)}
    return params


def balance(dde, backend: str, form: str):
    """The residuals of pinn_throughput.py."""
    if backend == "jax":
        from jax.numpy import exp

        def d(y, x, i, j):
            return dde.grad.jacobian(y, x, i=i, j=j)[0]

        def dd(y, x):
            return dde.grad.hessian(y, x, i=1, j=1)[0]

        def output(y, i):
            return y[0][:, i : i + 1]
    else:
        from torch import exp

        d = dde.grad.jacobian

        def dd(y, x):
            return dde.grad.hessian(y, x, i=1, j=1)

        def output(y, i):
            return y[:, i : i + 1]

    def head(x, y):
        k, slope = exp(output(y, 0)), d(y, x, 0, 1)
        return 0.34 * k * d(y, x, 0, 0) - k * (slope * (slope + 1.0) + dd(y, x))

    def mixed(x, y):
        k = exp(output(y, 0))
        return [0.34 * k * d(y, x, 0, 0) + d(y, x, 1, 1), output(y, 1) + k * (d(y, x, 0, 1) + 1.0)]

    return head if form == "head" else mixed


if __name__ == "__main__":
    main()
