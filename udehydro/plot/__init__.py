"""Figures a hydrologist would show: each function returns a matplotlib Figure and changes no global setting."""

from udehydro.plot.adjoint import elasticity_through_year, lambda_map, tornado
from udehydro.plot.assimilation import assimilated, skill_by_lead
from udehydro.plot.flood import flood_attribution
from udehydro.plot.formulas import candidates, laws_along_runs, profiles
from udehydro.plot.gradients import gradient_ways
from udehydro.plot.information import identifiability, sensitivities, spectrum
from udehydro.plot.laws import learned_flux
from udehydro.plot.screening import delsa_curves, dominant, morris_plane, sobol_bars
from udehydro.plot.series import flow_duration, hydrograph, storages
from udehydro.plot.soil import soil_column, soil_curves
from udehydro.plot.style import png
from udehydro.plot.training import training_curve
from udehydro.plot.water import water_balance
from udehydro.plot.waterfall import waterfall

__all__ = [
    "assimilated",
    "candidates",
    "delsa_curves",
    "dominant",
    "elasticity_through_year",
    "flood_attribution",
    "flow_duration",
    "gradient_ways",
    "hydrograph",
    "identifiability",
    "lambda_map",
    "laws_along_runs",
    "learned_flux",
    "morris_plane",
    "png",
    "profiles",
    "sensitivities",
    "skill_by_lead",
    "sobol_bars",
    "soil_column",
    "soil_curves",
    "spectrum",
    "storages",
    "tornado",
    "training_curve",
    "water_balance",
    "waterfall",
]
