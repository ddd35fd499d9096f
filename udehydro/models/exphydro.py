"""EXP-HYDRO (Patil and Stieglitz 2014) as the ODE M0 of Hoege et al. (2022, HESS 26:5085), as published.

sigma(x) = (1 + tanh(x / width)) / 2. Baseflow does not vanish with its store: at S1 = 0 it is 0.5 Qmax exp(-f Smax), so
the soil store falls below zero in some basins (to -0.9 mm). That is the model; nothing is clamped.
:mod:`udehydro.models.exphydro_mended` keeps the parameters and closes every outflow at the empty store.
"""

import torch

from udehydro.laws.smooth import excess, switch
from udehydro.structure import ATMOSPHERE, OUTLET, Range, Structure, flux, quantity


@quantity(unit="mm/d")
def pet(temp, dayl):
    """PET = 29.8 L 0.611 exp(17.3 T / (T + 237.3)) / (T + 273.2), mm/d, L in hours (Hamon)."""
    return 29.8 * dayl * 0.611 * torch.exp(17.3 * temp / (temp + 237.3)) / (temp + 273.2)


@quantity(unit="1")
def snow_fraction(temp, tmin, width):
    """Share of precipitation that falls as snow: sigma(Tmin - T)."""
    return switch(tmin - temp, width)


@flux(ATMOSPHERE, "snow")
def snowfall(prcp, snow_fraction):
    """Ps = sigma(Tmin - T) P, mm/d."""
    return snow_fraction * prcp


@flux(ATMOSPHERE, "soil")
def rainfall(prcp, snow_fraction):
    """Pr = sigma(T - Tmin) P = P - Ps, mm/d."""
    return (1.0 - snow_fraction) * prcp


@quantity(unit="mm/d")
def melt_potential(temp, ddf, tmax):
    """Df (T - Tmax), mm/d."""
    return ddf * (temp - tmax)


@quantity(unit="1")
def melting(temp, tmax, width):
    """sigma(T - Tmax)."""
    return switch(temp - tmax, width)


@flux("snow", "soil")
def melt(snow, melt_potential, melting, width):
    """M = sigma(T - Tmax) sigma(S0) min(S0, Df (T - Tmax)), mm/d."""
    return melting * switch(snow, width) * torch.minimum(snow, melt_potential)


@quantity(unit="1")
def full(soil, smax, width):
    """sigma(S1 - Smax): one where the bucket is full."""
    return switch(soil - smax, width)


@quantity(unit="1")
def wet(soil, width):
    """sigma(S1): one where the bucket holds water."""
    return switch(soil, width)


@flux("soil", ATMOSPHERE)
def et(soil, pet, smax, full, wet):
    """ET = sigma(S1) [sigma(S1 - Smax) PET + sigma(Smax - S1) PET S1 / Smax], mm/d."""
    return wet * pet * (full + (1.0 - full) * soil / smax)


@flux("soil", OUTLET)
def baseflow(soil, smax, f, qmax, full, wet):
    """Qb = sigma(S1) [sigma(S1 - Smax) Qmax + sigma(Smax - S1) Qmax exp(-f (Smax - S1))], mm/d.

    The exponential is held at one above Smax, where its factor sigma(Smax - S1) vanishes anyway: it stays finite.
    """
    return wet * qmax * (full + (1.0 - full) * torch.exp(-f * excess(smax, soil)))


@flux("soil", OUTLET)
def overflow(soil, smax, full, wet):
    """Qs = sigma(S1) sigma(S1 - Smax) (S1 - Smax), mm/d (a rate constant of 1/d)."""
    return wet * full * (soil - smax)


PARAMETERS = {
    "f": Range(0.001, 0.3, "1/mm", default=0.02),
    "smax": Range(50.0, 3000.0, "mm", default=500.0),
    "qmax": Range(1.0, 200.0, "mm/d", default=20.0),
    "ddf": Range(0.01, 10.0, "mm/d/K", default=2.5),
    "tmax": Range(-1.0, 8.0, "degC", default=1.0),
    "tmin": Range(-8.0, 1.0, "degC", default=-1.0),
    "width": Range(0.02, 2.0, "mm or K", default=0.2, fixed=True),
}
"""Wide enough for all published parameter sets, 378 of 569 of which lie outside the bounds of the published script
(f 0 to 0.1, Smax 100 to 1500, Qmax 10 to 50, Df 0.01 to 5, Tmax 0 to 3, Tmin -3 to 0)."""

exphydro = Structure(
    name="exphydro",
    stores={"snow": "mm", "soil": "mm"},
    forcings={"prcp": "mm/d", "temp": "degC", "dayl": "h"},
    parameters=PARAMETERS,
    quantities=(pet, snow_fraction, melt_potential, melting, full, wet),
    fluxes=(snowfall, rainfall, melt, et, baseflow, overflow),
    groups={"discharge": ("baseflow", "overflow")},
)
