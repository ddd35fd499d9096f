"""Exact and trusted solutions of the Richards equation, by which solvers are judged; numpy only.

Arguments broadcast. Length in cm, time in d, pressure head psi negative where unsaturated; z and fluxes are positive
upward, z = 0 is said by each solution.
"""

from udehydro.richards.exact.broadbridge_white import BroadbridgeWhite
from udehydro.richards.exact.cases import CASES, Case
from udehydro.richards.exact.curves import MualemVanGenuchten
from udehydro.richards.exact.similarity import Absorption, absorption
from udehydro.richards.exact.srivastava_yeh import SrivastavaYeh
from udehydro.richards.exact.srivastava_yeh_layers import SrivastavaYehLayers
from udehydro.richards.exact.tracy import Tracy
from udehydro.richards.exact.travelling_wave import TravellingWave

__all__ = [
    "CASES",
    "Absorption",
    "BroadbridgeWhite",
    "Case",
    "MualemVanGenuchten",
    "SrivastavaYeh",
    "SrivastavaYehLayers",
    "Tracy",
    "TravellingWave",
    "absorption",
]
