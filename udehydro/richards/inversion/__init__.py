"""Inversion of soil columns: free values found from what sensors and fluxes tell, and what they cannot tell."""

from udehydro.richards.inversion.curves import Bands, CurveFit, fit_curves
from udehydro.richards.inversion.family import Family, family
from udehydro.richards.inversion.fit import Fitted, fit
from udehydro.richards.inversion.free import Free, knots, pieces
from udehydro.richards.inversion.gauge import Gauge, Gauges, check_gauge
from udehydro.richards.inversion.inversion import Inversion
from udehydro.richards.inversion.observed import Observed
from udehydro.richards.inversion.visited import visited

__all__ = [
    "Bands",
    "CurveFit",
    "Family",
    "Fitted",
    "Free",
    "Gauge",
    "Gauges",
    "Inversion",
    "Observed",
    "check_gauge",
    "family",
    "fit",
    "fit_curves",
    "knots",
    "pieces",
    "visited",
]
