"""EXP-HYDRO with its leaks mended: every outflow vanishes with its store, and the bucket spills at capacity.

Same stores, parameters and ranges as :mod:`udehydro.models.exphydro`; the tanh switches of the stores are replaced by
limiters, so backward Euler keeps both stores non-negative. ``tau`` is the time constant of melt-out and of the spill.
"""

import torch

from udehydro.laws.smooth import excess, limiter, saturation
from udehydro.models.exphydro import PARAMETERS, exphydro, pet, rainfall, snow_fraction, snowfall
from udehydro.structure import ATMOSPHERE, OUTLET, Range, Structure, flux


@flux("snow", "soil")
def melt(snow, temp, ddf, tmax, tau):
    """M = min(S0 / tau, Df max(T - Tmax, 0)), mm/d."""
    return limiter(snow, ddf * (temp - tmax).clamp_min(0.0), tau)


@flux("soil", ATMOSPHERE)
def et(soil, pet, smax):
    """ET = PET min(max(S1, 0), Smax) / Smax, mm/d."""
    return pet * saturation(soil, smax)


@flux("soil", OUTLET)
def baseflow(soil, smax, f, qmax):
    """Qb = Qmax [exp(-f (Smax - S)) - exp(-f Smax)] with S = S1 held within [0, Smax], mm/d; zero at S1 = 0."""
    s = smax * saturation(soil, smax)
    return qmax * (torch.exp(-f * (smax - s)) - torch.exp(-f * smax))


@flux("soil", OUTLET)
def overflow(soil, smax, tau):
    """Qs = max(S1 - Smax, 0) / tau, mm/d: spill at capacity."""
    return excess(soil, smax) / tau


exphydro_mended = Structure(
    name="exphydro_mended",
    stores=exphydro.stores,
    forcings=exphydro.forcings,
    parameters={**PARAMETERS, "tau": Range(0.005, 1.0, "d", default=1.0, fixed=True)},
    quantities=(pet, snow_fraction),
    fluxes=(snowfall, rainfall, melt, et, baseflow, overflow),
    groups={"discharge": ("baseflow", "overflow")},
)
