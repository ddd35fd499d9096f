"""Data assimilation: storages and weather corrected by observed flow, and forecasts from there."""

from udehydro.assimilation.analysis import Analysis, assimilate
from udehydro.assimilation.background import Background
from udehydro.assimilation.forecast import Forecast, error_correlation, forecast, skill
from udehydro.assimilation.observations import flow_error
from udehydro.assimilation.windows import Windows

__all__ = [
    "Analysis",
    "Background",
    "Forecast",
    "Windows",
    "assimilate",
    "error_correlation",
    "flow_error",
    "forecast",
    "skill",
]
