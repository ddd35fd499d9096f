"""The sweeps of :mod:`udehydro.solvers.chain` as loops compiled by numba, for CPU tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

try:
    from numba import njit
except ImportError:  # the sweeps are then done by recursive doubling in torch
    njit = None


def usable(like: Tensor) -> bool:
    """Whether the compiled sweeps take a tensor: real values on the CPU, and numba installed."""
    if njit is None or like.device.type != "cpu" or type(like) is not Tensor:
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(like)


def forward(tableau, h, jacobians, sources, start):
    shape = sources[0].shape
    j, s = _stacked(jacobians, 3), _stacked(sources)
    n_stores, n = shape[:2]
    start = np.zeros((n_stores, s.shape[3])) if start is None else _flat(start, 1)
    stages, ends = np.empty((tableau.stages, *s.shape[1:])), np.empty(s.shape[1:])
    a, b = _coefficients(tableau)
    pivot = _forward(j, s, _lengths(h, n, s.shape[3]), start, a, b, tableau.stiffly_accurate, stages, ends)
    return [_tensor(part, sources[0]) for part in stages], _tensor(ends, sources[0]), sources[0].new_tensor(pivot)


def reverse(tableau, h, jacobians, direct, external, after):
    j, g, e = _stacked(jacobians, 3), _stacked(direct), _flat(external, 2)
    n_stores, n, batch = e.shape
    mu, lam, passed = np.empty_like(g), np.empty_like(e), _flat(after, 1).copy()
    a, b = _coefficients(tableau)
    _reverse(j, g, e, _lengths(h, n, batch), a, b, mu, lam, passed)
    return [_tensor(m, external) for m in mu], _tensor(lam, external), _tensor(passed, after)


def _stacked(parts, leading: int = 2) -> np.ndarray:
    """(stages, S.., n, B) float64 from one tensor (S.., n, *batch) per stage."""
    return np.stack([_flat(p, leading) for p in parts])


def _flat(tensor: Tensor, leading: int) -> np.ndarray:
    """float64 array with the batch flattened into one axis behind ``leading`` axes."""
    array = tensor.detach().double().contiguous().numpy()
    return array.reshape(*array.shape[:leading], -1)


def _lengths(h: Tensor, n: int, batch: int) -> np.ndarray:
    flat = h.detach().double().reshape(n, -1).numpy()
    return np.ascontiguousarray(np.broadcast_to(flat, (n, batch)))


def _coefficients(tableau) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(tableau.a, float), np.asarray(tableau.b, float)


def _tensor(array: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(array).reshape(like.shape).to(like.dtype)


def _compiled(function):
    return function if njit is None else njit(cache=True, error_model="numpy")(function)


@_compiled
def _solve(m, x):
    """Solve m x = x in place, without pivoting; returns the smallest pivot."""
    n, smallest = x.shape[0], np.inf
    for p in range(n):
        smallest = min(smallest, m[p, p])
        for i in range(p + 1, n):
            if m[i, p] != 0.0:
                factor = m[i, p] / m[p, p]
                for j in range(p + 1, n):
                    m[i, j] -= factor * m[p, j]
                x[i] -= factor * x[p]
    for p in range(n - 1, -1, -1):
        for j in range(p + 1, n):
            x[p] -= m[p, j] * x[j]
        x[p] /= m[p, p]
    return smallest


@_compiled
def _forward(jacobians, sources, h, start, a, b, stiffly_accurate, stages, ends):
    count, n_stores, _, n, batch = jacobians.shape
    m, x = np.empty((n_stores, n_stores)), np.empty(n_stores)
    slopes, smallest = np.empty((count, n_stores)), np.inf
    for k in range(n):
        for e in range(batch):
            for i in range(count):
                for p in range(n_stores):
                    before = start[p, e] if k == 0 else ends[p, k - 1, e]
                    x[p] = before + sources[i, p, k, e]
                for j in range(i):
                    if a[i, j] != 0.0:
                        for p in range(n_stores):
                            x[p] += h[k, e] * a[i, j] * slopes[j, p]
                if a[i, i] != 0.0:
                    for p in range(n_stores):
                        for q in range(n_stores):
                            m[p, q] = -h[k, e] * a[i, i] * jacobians[i, p, q, k, e]
                        m[p, p] += 1.0
                    smallest = min(smallest, _solve(m, x))
                for p in range(n_stores):
                    stages[i, p, k, e] = x[p]
                if i + 1 < count or not stiffly_accurate:
                    for p in range(n_stores):
                        slope = 0.0
                        for q in range(n_stores):
                            slope += jacobians[i, p, q, k, e] * x[q]
                        slopes[i, p] = slope
            for p in range(n_stores):
                if stiffly_accurate:
                    ends[p, k, e] = stages[count - 1, p, k, e]
                else:
                    end = (start[p, e] if k == 0 else ends[p, k - 1, e]) + sources[count, p, k, e]
                    for i in range(count):
                        end += h[k, e] * b[i] * slopes[i, p]
                    ends[p, k, e] = end
    return smallest


@_compiled
def _reverse(jacobians, direct, external, h, a, b, mu, lam, passed):
    count, n_stores, _, n, batch = jacobians.shape
    m, x, known = np.empty((n_stores, n_stores)), np.empty(n_stores), np.empty(n_stores)
    for k in range(n - 1, -1, -1):
        for e in range(batch):
            for p in range(n_stores):
                passed[p, e] += external[p, k, e]
                lam[p, k, e] = passed[p, e]
            for i in range(count - 1, -1, -1):
                for p in range(n_stores):
                    value = b[i] * lam[p, k, e]
                    for j in range(i + 1, count):
                        value += a[j, i] * mu[j, p, k, e]
                    known[p] = h[k, e] * value
                for p in range(n_stores):
                    x[p] = direct[i, p, k, e]
                    for q in range(n_stores):
                        x[p] += jacobians[i, q, p, k, e] * known[q]
                if a[i, i] != 0.0:
                    for p in range(n_stores):
                        for q in range(n_stores):
                            m[p, q] = -h[k, e] * a[i, i] * jacobians[i, q, p, k, e]
                        m[p, p] += 1.0
                    _solve(m, x)
                for p in range(n_stores):
                    mu[i, p, k, e] = x[p]
            for i in range(count):
                for p in range(n_stores):
                    passed[p, e] += mu[i, p, k, e]
