"""Sensitivity analysis: what a result depends on, by the exact adjoint of the run."""

from udehydro.sensitivity.adjoint import Adjoint, adjoint
from udehydro.sensitivity.checks import Agreement, Differences, Taylor, differences, dot_product_test, taylor_test
from udehydro.sensitivity.delsa import delsa
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
from udehydro.sensitivity.response import Response, evaluate
from udehydro.sensitivity.screening import dgsm, morris, pawn, rank_agreement, sobol
from udehydro.sensitivity.space import Space
from udehydro.sensitivity.verify import verify
from udehydro.sensitivity.workshop import Way, compare_gradients, usual_ways

__all__ = [
    "Adjoint",
    "Agreement",
    "Differences",
    "Forward",
    "Information",
    "Response",
    "Space",
    "Spectrum",
    "Taylor",
    "Way",
    "Windows",
    "adjoint",
    "compare_gradients",
    "delsa",
    "dgsm",
    "differences",
    "dot_product_test",
    "evaluate",
    "flood_peak",
    "forward",
    "low_flow_days",
    "morris",
    "pawn",
    "perturbed",
    "rank_agreement",
    "score",
    "sobol",
    "storage_at",
    "taylor_test",
    "usual_ways",
    "verify",
    "volume",
]
