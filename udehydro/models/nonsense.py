"""A senseless structure, as a control: EXP-HYDRO with its snow the wrong way round. It conserves water all the same.

What falls on warm days is stored and let go when it freezes, and what falls on cold days goes straight to the soil. A
hybrid in it that scores like one in a sensible structure shows that its networks made up for the structure (after the
NonSense core of Acuna Espinoza et al. 2024, HESS 28:2705). Not for use as a model.
"""

from dataclasses import replace

from udehydro.laws.smooth import limiter
from udehydro.models.exphydro_mended import exphydro_mended
from udehydro.structure import ATMOSPHERE, flux


@flux(ATMOSPHERE, "snow")
def snowfall(prcp, snow_fraction):
    """Rain is stored: (1 - sigma(Tmin - T)) P, mm/d."""
    return (1.0 - snow_fraction) * prcp


@flux(ATMOSPHERE, "soil")
def rainfall(prcp, snow_fraction):
    """Snow is not: sigma(Tmin - T) P, mm/d."""
    return snow_fraction * prcp


@flux("snow", "soil")
def melt(snow, temp, ddf, tmax, tau):
    """What is stored is let go when it freezes: min(S0 / tau, Df max(Tmax - T, 0)), mm/d."""
    return limiter(snow, ddf * (tmax - temp).clamp_min(0.0), tau)


nonsense = replace(exphydro_mended, name="nonsense", fluxes=(snowfall, rainfall, melt, *exphydro_mended.fluxes[3:]))
