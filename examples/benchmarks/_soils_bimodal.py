"""Two pore systems of van Genuchten's shape (Durner 1994), with Mualem's conductivity (Priesack and Durner 2006)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from udehydro.richards.laws.base import LIMITS, RelativeLaw, Values, suction
from udehydro.structure import Range


class Durner(RelativeLaw):
    """``S = w S1 + (1 - w) S2``; ``K = Ks S^l (sum_i w_i a_i (1 - (1 - S_i^(1/m_i))^m_i) / sum_i w_i a_i)^2``, the
    first the coarser one: alpha of the second is that of the first times ``ratio``."""

    ranges = LIMITS | {
        "alpha": Range(1e-3, 0.5, "1/cm", default=0.1),
        "n": Range(1.01, 10.0, "1", default=1.8),
        "ratio": Range(1e-5, 1.0, "1", default=0.02),
        "n2": Range(1.01, 10.0, "1", default=1.4),
        "w": Range(0.0, 1.0, "1", default=0.4),
        "l": Range(-5.0, 10.0, "1", default=0.5, fixed=True),
    }

    def log_saturation(self, psi: Tensor, p: Values) -> Tensor:
        dry, systems = self._systems(psi, p)
        return torch.where(dry, torch.log(sum(w * s for w, _, s, _ in systems)), 0.0)

    def log_relative(self, psi: Tensor, p: Values) -> Tensor:
        v, (dry, systems) = self.values(p, psi), self._systems(psi, p)
        saturation = torch.log(sum(w * s for w, _, s, _ in systems))
        pores = sum(w * a * q for w, a, _, q in systems) / sum(w * a for w, a, _, _ in systems)
        return torch.where(dry, v["l"] * saturation + 2.0 * torch.log(pores.clamp_min(1e-150)), 0.0)

    def _systems(self, psi: Tensor, p: Values):
        """Share, alpha, saturation, and Mualem's 1 - (1 - S^(1/m))^m of both."""
        v = self.values(p, psi)
        dry, s = suction(psi)
        found = []
        for w, a, n in ((v["w"], v["alpha"], v["n"]), (1.0 - v["w"], v["alpha"] * v["ratio"], v["n2"])):
            m, x = 1.0 - 1.0 / n, n * torch.log(a * s)
            y = m * softplus(-x)  # -log of (1 - S^(1/m))^m
            found.append((w, a, torch.exp(-m * softplus(x)), -torch.expm1(-y)))
        return dry, found
