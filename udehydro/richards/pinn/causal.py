"""Causal weights: what is later counts once what is before it is solved.

Residuals of the physics are multiplied by weights w of their time, exp(-epsilon sum of the losses of all earlier times)
(Wang, Sankaran and Perdikaris 2022, there eq. 3.6). They are made anew for every stage, and constant within: a search
by Levenberg and Marquardt needs one and the same chi2 to tell whether it gains.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from udehydro.richards.pinn.system import System, Term

BINS = 10
"""Of time, each with as many points."""


def causal(system: System, epsilon: float) -> System:
    """The system with weights at the present state; each member has its own."""
    edges, w = weights(system, epsilon)
    terms = [_weighed(t, w[:, torch.bucketize(_times(t), edges)]) if t.mean else t for t in system.terms]
    return System(system.fields, terms, system.extra)


def weights(system: System, epsilon: float) -> tuple[Tensor, Tensor]:
    """Times [d] between bins (BINS - 1,), and weights (members, BINS)."""
    physics = [(t, r) for t, r in zip(system.terms, system.residuals(system.start()), strict=True) if t.mean]
    times = _times(physics[0][0])
    edges = times.quantile(torch.linspace(0.0, 1.0, BINS + 1).to(times)[1:-1])
    losses = sum(t.weight * _by_bin(r.square().sum(2), torch.bucketize(_times(t), edges)) for t, r in physics)
    return edges, torch.exp(-epsilon * (losses.cumsum(1) - losses))


def _times(term: Term) -> Tensor:
    """Of every row."""
    return term.points[:: term.group, 0].contiguous()


def _by_bin(squares: Tensor, bins: Tensor) -> Tensor:
    """Means (members, BINS) of squares (members, n); zero where there are none."""
    sums = squares.new_zeros(len(squares), BINS).index_add_(1, bins, squares)
    return sums / bins.bincount(minlength=BINS).clamp_min(1)


def _weighed(term: Term, weights: Tensor) -> Term:
    """A term whose squared residuals are multiplied by weights (members, rows)."""
    root = weights.sqrt().unsqueeze(-1)

    def rows(outputs, extra: Tensor, part: slice, index: Tensor) -> Tensor:
        mine = slice(part.start // term.group, part.stop // term.group)
        return root[index, mine] * term.rows(outputs, extra, part, index)

    return replace(term, rows=rows)
