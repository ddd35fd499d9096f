"""Soil laws with their slopes in one loop compiled by numba, for CPU tensors: most of the work of an iteration.

Values are those of the laws to rounding; laws without a loop here, and gradients, go by the laws themselves.
"""

from __future__ import annotations

from math import exp, expm1, log, log1p

import numpy as np
import torch
from torch import Tensor

from udehydro.richards.laws.base import SoilLaw
from udehydro.richards.laws.van_genuchten import VanGenuchten
from udehydro.solvers.chain_numba import njit, usable

Local = tuple[Tensor, Tensor, Tensor, Tensor]
"""Water content, its slope, conductivity, its slope, each of the shape of the heads."""


def local(law: SoilLaw, psi: Tensor, p: dict[str, Tensor]) -> Local:
    """Answers of a law at heads (columns, node) and their derivatives by the head, without a graph."""
    if type(law) is VanGenuchten and usable(psi):
        values = law.values(p, psi)
        names = ("theta_r", "theta_s", "Ks", "alpha", "n", "l", "entry")
        arrays = [np.broadcast_to(values[n].detach().numpy(), psi.shape) for n in names]
        found = [np.empty(psi.shape, dtype=arrays[0].dtype) for _ in range(4)]
        _van_genuchten(psi.detach().contiguous().numpy(), *arrays, *found)
        return tuple(torch.from_numpy(f) for f in found)
    with torch.enable_grad():
        a, b = psi.detach().requires_grad_(), psi.detach().requires_grad_()
        theta, k = law.theta(a, p), law.conductivity(b, p)
        total = theta.sum() + k.sum()
        slopes = torch.autograd.grad(total, [a, b], allow_unused=True, materialize_grads=True)
    return theta.detach(), slopes[0], k.detach(), slopes[1]


def _van_genuchten(psi, theta_r, theta_s, ks, alpha, n, l, entry, theta, c, k, k_slope):
    """As in the law, with x = log((alpha s)^n): log S = -m log(1 + e^x), pores = 1 - e^-y at y = m log(1 + e^-x)."""
    for b in range(psi.shape[0]):
        for i in range(psi.shape[1]):
            air = entry[b, i]
            if psi[b, i] >= -air:
                theta[b, i], c[b, i], k[b, i], k_slope[b, i] = theta_s[b, i], 0.0, ks[b, i], 0.0
                continue
            m = 1.0 - 1.0 / n[b, i]
            x = min(n[b, i] * log(-alpha[b, i] * psi[b, i]), 600.0)
            e = exp(-abs(x))
            tail, low = log1p(e), e / (1.0 + e)
            saturation, drop = -m * (max(x, 0.0) + tail), expm1(-m * (max(-x, 0.0) + tail))
            pores, above, below = -drop, 1.0 - low if x > 0.0 else low, low if x > 0.0 else 1.0 - low
            by_x = -m * n[b, i] / psi[b, i]
            s_slope, pores_slope = by_x * above, by_x * below * (1.0 + drop) / pores
            if air > 0.0:
                x0 = n[b, i] * log(alpha[b, i] * air)
                tail = log1p(exp(-abs(x0)))
                saturation += m * (max(x0, 0.0) + tail)
                pores /= -expm1(-m * (max(-x0, 0.0) + tail))
            held = (theta_s[b, i] - theta_r[b, i]) * exp(saturation)
            theta[b, i], c[b, i] = theta_r[b, i] + held, held * s_slope
            k[b, i] = ks[b, i] * exp(l[b, i] * saturation) * pores * pores
            k_slope[b, i] = k[b, i] * (l[b, i] * s_slope + 2.0 * pores_slope)


if njit is not None:
    _van_genuchten = njit(cache=True, error_model="numpy")(_van_genuchten)
