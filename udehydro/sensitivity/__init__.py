"""Sensitivity analysis: what a result depends on, by the exact adjoint of the run."""

from udehydro.sensitivity.adjoint import Adjoint, adjoint
from udehydro.sensitivity.objectives import (
    flood_peak,
    low_flow_days,
    score,
    storage_at,
    volume,
)
from udehydro.sensitivity.perturbed import perturbed

__all__ = [
    "Adjoint",
    "adjoint",
    "flood_peak",
    "low_flow_days",
    "perturbed",
    "score",
    "storage_at",
    "volume",
]
