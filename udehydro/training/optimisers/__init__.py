"""Batched optimisers over independent members."""

from udehydro.training.optimisers.adam import Adam, AdamState, Cosine
from udehydro.training.optimisers.base import Evaluate, Optimiser
from udehydro.training.optimisers.lbfgs import ACTIVE, CONVERGED, FAILED, LBFGS, STALLED, LBFGSState

__all__ = [
    "ACTIVE",
    "CONVERGED",
    "FAILED",
    "LBFGS",
    "STALLED",
    "Adam",
    "AdamState",
    "Cosine",
    "Evaluate",
    "LBFGSState",
    "Optimiser",
]
