"""Reading, checking, mending and making data: everything ends as one Dataset with dims (time, basin)."""

from .camels import read_camels_us
from .caravan import read_caravan
from .demo import FULDA_AREA_KM2, FULDA_LATITUDE, HYMOD_AREA_KM2, fulda, hymod_basin
from .folder import read, read_folder
from .frame import from_frame
from .gridded import from_xarray
from .mend import fill_gaps, swap_t
from .pet import add_day_length, add_pet, day_length
from .provenance import notes, with_notes
from .synthetic import weather
from .table import read_table
from .truth import planted_truth
from .validate import Finding, Report, check

__all__ = [
    "FULDA_AREA_KM2",
    "FULDA_LATITUDE",
    "HYMOD_AREA_KM2",
    "Finding",
    "Report",
    "add_day_length",
    "add_pet",
    "check",
    "day_length",
    "fill_gaps",
    "from_frame",
    "from_xarray",
    "fulda",
    "hymod_basin",
    "notes",
    "planted_truth",
    "read",
    "read_camels_us",
    "read_caravan",
    "read_folder",
    "read_table",
    "swap_t",
    "weather",
    "with_notes",
]
