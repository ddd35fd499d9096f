"""Sensitivity analysis: what a result depends on, by the exact adjoint of the run."""

from udehydro.sensitivity.adjoint import Adjoint, adjoint
from udehydro.sensitivity.checks import Agreement, Differences, Taylor, differences, dot_product_test, taylor_test
from udehydro.sensitivity.forward import Forward, forward
from udehydro.sensitivity.information import Information, Spectrum, Windows
from udehydro.sensitivity.objectives import (
    flood_peak,
    low_flow_days,
    score,
    storage_at,
    volume,
)
from udehydro.sensitivity.perturbed import perturbed
from udehydro.sensitivity.verify import verify

__all__ = [
    "Adjoint",
    "Agreement",
    "Differences",
    "Forward",
    "Information",
    "Spectrum",
    "Taylor",
    "Windows",
    "adjoint",
    "differences",
    "dot_product_test",
    "flood_peak",
    "forward",
    "low_flow_days",
    "perturbed",
    "score",
    "storage_at",
    "taylor_test",
    "verify",
    "volume",
]
