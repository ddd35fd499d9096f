"""HBV in continuous form: the stores and fluxes of differentiable HBV (delta-HBV) as ordinary differential equations.

After Bergström (1976). Fluxes, with an exponent of evapotranspiration (Feng et al. 2022, WRR 58:e2022WR032404) and
capillary rise (Song et al. 2024, HESS 28:3051), and parameter ranges as in the codes of those papers. Published codes
limit an outflow by ``min(S, F)`` in mm per daily step, most of them one process after the other; here a store limits
its outflow at the rate ``S / tau``, so that ``tau`` [d] is explicit, 1 by default, and the same at every step length.
Parameters trained with one scheme do not carry over to another. Discharge leaves unrouted.

Thresholds are hard; every outflow vanishes with its store, rises with it and falls with the store it enters, also
outside the physical range. The one exception is the release of meltwater, which falls with the snow that retains it;
:data:`retention` bounds the step for it.
"""

import torch

from udehydro.laws.smooth import excess, limiter, power, saturation, switch
from udehydro.models.exphydro import rainfall, snowfall  # the same here, with TT for Tmin
from udehydro.structure import ATMOSPHERE, OUTLET, Range, Structure, bound, flux, quantity


@quantity(unit="1")
def snow_fraction(temp, tt, width):
    """Share of precipitation that falls as snow: sigma(TT - T), at width 0 the published step (one where T < TT).

    The step has no derivative in TT: keep a width where TT is learned.
    """
    smooth = switch(tt - temp, torch.where(width > 0, width, 1.0))
    return torch.where(width > 0, smooth, (temp < tt).to(smooth.dtype))


@quantity(unit="mm/d")
def melt_potential(temp, tt, cfmax):
    """CFMAX max(T - TT, 0), mm/d."""
    return cfmax * (temp - tt).clamp_min(0.0)


@quantity(unit="mm/d")
def refreezing_potential(temp, tt, cfmax, cfr):
    """CFR CFMAX max(TT - T, 0), mm/d."""
    return cfr * cfmax * (tt - temp).clamp_min(0.0)


@flux("snow", "meltwater")
def melt(snow, melt_potential, tau):
    """M = min(SP / tau, CFMAX max(T - TT, 0)), mm/d."""
    return limiter(snow, melt_potential, tau)


@flux("meltwater", "snow")
def refreezing(meltwater, refreezing_potential, tau):
    """R = min(MW / tau, CFR CFMAX max(TT - T, 0)), mm/d."""
    return limiter(meltwater, refreezing_potential, tau)


@flux("meltwater", "soil")
def release(snow, meltwater, cwh, tau):
    """I = max(MW - CWH SP, 0) / tau, mm/d: what the snowpack cannot hold."""
    return excess(meltwater, cwh * snow.clamp_min(0.0)) / tau


@flux("soil", "upper")
def recharge(soil, rainfall, release, fc, beta):
    """(Pr + I) min(SM / FC, 1)^BETA, mm/d."""
    return (rainfall + release) * power(saturation(soil, fc), beta)


@flux("soil", "upper")
def overflow(soil, fc, tau):
    """max(SM - FC, 0) / tau, mm/d."""
    return excess(soil, fc) / tau


@flux("soil", ATMOSPHERE)
def et(soil, pet, fc, lp, betaet, tau):
    """ET = min(SM / tau, PET min(SM / (LP FC), 1)^BETAET), mm/d."""
    return limiter(soil, pet * power(saturation(soil, lp * fc), betaet), tau)


@flux("lower", "soil")
def capillary(soil, lower, c, fc):
    """C SLZ (1 - min(SM / FC, 1)), mm/d."""
    return c * lower.clamp_min(0.0) * (1.0 - saturation(soil, fc))


@flux("upper", "lower")
def percolation(upper, perc, tau):
    """min(SUZ / tau, PERC), mm/d."""
    return limiter(upper, perc, tau)


@flux("upper", OUTLET)
def quickflow(upper, k0, uzl):
    """Q0 = K0 max(SUZ - UZL, 0), mm/d."""
    return k0 * excess(upper, uzl)


@flux("upper", OUTLET)
def interflow(upper, k1):
    """Q1 = K1 SUZ, mm/d."""
    return k1 * upper


@flux("lower", OUTLET)
def baseflow(lower, k2):
    """Q2 = K2 SLZ, mm/d."""
    return k2 * lower


@bound("refreezing", "release")
def retention(cwh, tau, h):
    """Meltwater that refreezes raises what the snowpack retains, which lowers its release

    Without melt, and with both fluxes limited by storage, the equation of a step for MW has the slope
    1 + 2 h / tau - CWH (h / tau)^2: above zero, and so one solution, where this number is below one. Beyond, steps from
    snow below zero (which stages of second-order schemes may leave) have several, and Newton's iterates go astray.
    """
    return cwh * h * h / (tau * (tau + 2.0 * h))


hbv = Structure(
    name="hbv",
    stores={"snow": "mm", "meltwater": "mm", "soil": "mm", "upper": "mm", "lower": "mm"},
    forcings={"prcp": "mm/d", "temp": "degC", "pet": "mm/d"},
    parameters={
        "beta": Range(1.0, 6.0, "1", default=2.0),
        "fc": Range(50.0, 1000.0, "mm", default=250.0),
        "k0": Range(0.05, 0.9, "1/d", default=0.3),
        "k1": Range(0.01, 0.5, "1/d", default=0.1),
        "k2": Range(0.001, 0.2, "1/d", default=0.03),
        "lp": Range(0.2, 1.0, "1", default=0.7),
        "perc": Range(0.0, 10.0, "mm/d", default=2.0),
        "uzl": Range(0.0, 100.0, "mm", default=20.0),
        "tt": Range(-2.5, 2.5, "degC", default=0.0),
        "cfmax": Range(0.5, 10.0, "mm/d/K", default=3.0),
        "cfr": Range(0.0, 0.1, "1", default=0.05),
        "cwh": Range(0.0, 0.2, "1", default=0.1),
        "betaet": Range(0.3, 5.0, "1", default=1.0),
        "c": Range(0.0, 1.0, "1/d", default=0.1),
        "width": Range(0.0, 2.0, "K", default=0.2, fixed=True),
        "tau": Range(0.005, 1.0, "d", default=1.0, fixed=True),
    },
    quantities=(snow_fraction, melt_potential, refreezing_potential),
    fluxes=(
        snowfall,
        rainfall,
        melt,
        refreezing,
        release,
        recharge,
        overflow,
        et,
        capillary,
        percolation,
        quickflow,
        interflow,
        baseflow,
    ),
    groups={"discharge": ("quickflow", "interflow", "baseflow")},
    bounds=(retention,),
)
