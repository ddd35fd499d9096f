"""Hydraulic laws of soils: water content and conductivity as functions of pressure head."""

from udehydro.richards.laws.base import DRY, RelativeLaw, SoilLaw
from udehydro.richards.laws.broadbridge_white import BroadbridgeWhite
from udehydro.richards.laws.brooks_corey import BrooksCorey
from udehydro.richards.laws.classes import CLASSES, soil_class
from udehydro.richards.laws.corrected import Corrected
from udehydro.richards.laws.free_form import FreeForm
from udehydro.richards.laws.gardner import Gardner
from udehydro.richards.laws.gauged import Gauged
from udehydro.richards.laws.haverkamp import Haverkamp, HaverkampLog
from udehydro.richards.laws.monotone_net import MonotoneNet
from udehydro.richards.laws.monotone_spline import MonotoneSpline
from udehydro.richards.laws.van_genuchten import VanGenuchten

__all__ = [
    "CLASSES",
    "DRY",
    "BroadbridgeWhite",
    "BrooksCorey",
    "Corrected",
    "FreeForm",
    "Gardner",
    "Gauged",
    "Haverkamp",
    "HaverkampLog",
    "MonotoneNet",
    "MonotoneSpline",
    "RelativeLaw",
    "SoilLaw",
    "VanGenuchten",
    "soil_class",
]
