"""The networks and residuals of pinn_throughput.py in plain torch: derivatives by nested reverse differentiation.

    head:   0.34 k psi_t - k (psi_z (psi_z + 1) + psi_zz),                          k = exp(psi)
    mixed:  0.34 k psi_t + q_z   and   q + k (psi_z + 1),                           q a second output

This is how networks of physics are commonly trained: first derivatives by a backward pass that is itself recorded, the
second by one more, and the gradient by a last one through all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

CAPACITY = 0.34


def perceptron(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """Outputs (n, outputs) at x (n, inputs), tanh between layers; weights and biases in turn."""
    for w, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        x = torch.tanh(torch.addmm(b, x, w))
    return torch.addmm(weights[-1], x, weights[-2])


def head(weights: Sequence[Tensor], points: Tensor) -> Tensor:
    """Sum of squares of the residual."""
    t, z = (points[:, i : i + 1].clone().requires_grad_() for i in range(2))
    psi = perceptron(weights, torch.cat([t, z], 1))
    rate, slope = torch.autograd.grad(psi.sum(), (t, z), create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), z, create_graph=True)
    k = torch.exp(psi)
    return ((CAPACITY * k * rate - k * (slope * (slope + 1.0) + bend)) ** 2).sum()


def mixed(weights: Sequence[Tensor], points: Tensor) -> Tensor:
    """Sum of squares of both residuals."""
    t, z = (points[:, i : i + 1].clone().requires_grad_() for i in range(2))
    psi, q = perceptron(weights, torch.cat([t, z], 1)).unbind(1)
    rate, slope = torch.autograd.grad(psi.sum(), (t, z), create_graph=True)
    (change,) = torch.autograd.grad(q.sum(), z, create_graph=True)
    k = torch.exp(psi)
    balance = CAPACITY * k * rate.squeeze(1) + change.squeeze(1)
    return (balance**2).sum() + ((q + k * (slope.squeeze(1) + 1.0)) ** 2).sum()


def gradient(
    loss: Callable[[Sequence[Tensor], Tensor], Tensor], weights: Sequence[Tensor], points: Tensor, block: int
) -> tuple[float, list[Tensor]]:
    """A loss and its gradient, ``block`` points at once."""
    leaves, total = [w.detach().clone().requires_grad_() for w in weights], 0.0
    for part in points.split(block):
        value = loss(leaves, part)
        value.backward()
        total += value.item()
    return total, [w.grad for w in leaves]
