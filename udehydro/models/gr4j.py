"""GR4J (Perrin et al. 2003) in the continuous state-space form of Santos et al. (2018, GMD 11:1591).

A cascade of ``n`` linear stores (Nash) takes the place of the unit hydrographs. Its rate is (n - 1) / x4, with n = 11:
so the code published with the paper computes the outflow coefficient, and refers to the paper's Table 1 for it
(hydroGR/GR4-StateSpace, CODE_GR4/GR4_STSP.f, version 1.0, doi 10.5281/zenodo.1118183). The response of the cascade then
peaks at x4, and its mean delay is n x4 / (n - 1). Codes with the rate n / x4 need an x4 larger by n / (n - 1).

The unit hydrograph peaks at x4 too, but cuts off there: its mean delay is 0.71 x4, and rain enters it at the start of a
day. For the same discharge the cascade needs a smaller x4, about 0.65 x4 - 0.6 d: hence a range that begins at 0.05 d,
where published ones of the unit hydrograph begin at 0.5 d.

Interception is a flux here, so that precipitation, evapotranspiration, exchange and discharge close the balance; what
stays in the store is that of net rainfall, as published. The direct branch, max(q1 + F, 0), loses no more than it
carries: the exchange that takes place, max(F, -q1), is a flux of its own.

Outside the physical range 0 <= S <= x1: evapotranspiration is constant above and the straight line 2 En s below, so
that it rises with the store everywhere; net rainfall all runs off above, and none below.
"""

import torch

from udehydro.errors import StructureError
from udehydro.laws.smooth import power, saturation
from udehydro.structure import (
    ATMOSPHERE,
    GROUNDWATER,
    OUTLET,
    Flux,
    Range,
    Structure,
    bound,
    flux,
    quantity,
)


@flux(ATMOSPHERE, "production")
def rainfall(prcp):
    """P, mm/d."""
    return prcp


@flux("production", ATMOSPHERE)
def interception(prcp, pet):
    """min(P, E), mm/d: evaporates on the way, no part of it enters a store."""
    return torch.minimum(prcp, pet)


@quantity(unit="mm/d")
def net_rain(prcp, pet):
    """Pn = max(P - E, 0), mm/d."""
    return (prcp - pet).clamp_min(0.0)


@quantity(unit="mm/d")
def net_pet(prcp, pet):
    """En = max(E - P, 0), mm/d."""
    return (pet - prcp).clamp_min(0.0)


@quantity(unit="1")
def filling(production, x1):
    """s = S / x1 in [0, 1]."""
    return saturation(production, x1)


@flux("production", ATMOSPHERE)
def et(production, net_pet, filling, x1):
    """Es = En s (2 - s), mm/d."""
    return net_pet * (filling * (2.0 - filling) + 2.0 * (production / x1).clamp_max(0.0))


@flux("production", "nash_1")
def runoff(net_rain, filling):
    """Pn - Ps = Pn s^2, mm/d."""
    return net_rain * filling**2


@flux("production", "nash_1")
def percolation(production, x1):
    """x1 / 4 (4 / 9)^4 s^5, mm/d."""
    return 0.25 * (4.0 / 9.0) ** 4 * x1 * power(production / x1, 5.0)


@quantity(unit="mm/d")
def potential_exchange(routing, x2, x3):
    """F = x2 (R / x3)^(7/2), mm/d: gained by each of the two branches where positive."""
    return x2 * power(routing / x3, 3.5)


@flux(GROUNDWATER, "routing", signed=True)
def exchange_routing(potential_exchange):
    """F, mm/d."""
    return potential_exchange


@flux(GROUNDWATER, OUTLET, signed=True)
def exchange_direct(potential_exchange, direct):
    """max(F, -q1), mm/d: the direct branch loses no more than it carries, so nothing where q1 is below zero."""
    return torch.maximum(potential_exchange, -direct.clamp_min(0.0))


@flux("routing", OUTLET)
def outflow(routing, x3):
    """Qr = x3 / 4 (R / x3)^5, mm/d."""
    return 0.25 * x3 * power(routing / x3, 5.0)


@bound("potential_exchange", "exchange_routing", "outflow")
def exchange_growth(x2, x3, h):
    """Exchange with x2 > 0 grows with the routing store faster than outflow drains it

    The slope of F - Qr in R, 3.5 c r^2.5 - 1.25 r^4 with c = x2 / x3, is largest where r^1.5 = 1.75 c: there it is
    1.3125 1.75^(5/3) c^(8/3) = 3.34 c^(8/3) per day. Below one over h a step has one solution.
    """
    return 1.3125 * 1.75 ** (5.0 / 3.0) * power(x2 / x3, 8.0 / 3.0) * h


def _store_outflow(k: int, n: int, share: float = 1.0):
    """Law of the outflow of cascade store k: (n - 1) / x4 times its storage, or a share of that, mm/d."""

    def law(storage, x4):
        return share * (n - 1) / x4 * storage

    law.reads = (f"nash_{k}", "x4")
    return law


def gr4j_cascade(n: int = 11) -> Structure:
    """GR4J with ``n`` stores in the cascade, at least two; more stores make its response narrower.

    Stores: ``production``, ``nash_1`` to ``nash_n``, ``routing`` [mm]. Forcings: ``prcp``, ``pet`` [mm/d].

    Raises
    ------
    StructureError
        For less than two stores: with one the rate (n - 1) / x4 would be zero.
    """
    if not isinstance(n, int) or n < 2:
        raise StructureError(f"The cascade of GR4J needs a whole number of stores, at least 2, not {n!r}.")
    cascade = tuple(Flux(f"nash_outflow_{k}", f"nash_{k}", f"nash_{k + 1}", _store_outflow(k, n)) for k in range(1, n))
    branches = (
        Flux("routed", f"nash_{n}", "routing", _store_outflow(n, n, 0.9)),
        Flux("direct", f"nash_{n}", OUTLET, _store_outflow(n, n, 0.1)),
    )
    return Structure(
        name="gr4j",
        stores={s: "mm" for s in ("production", *(f"nash_{k}" for k in range(1, n + 1)), "routing")},
        forcings={"prcp": "mm/d", "pet": "mm/d"},
        parameters={
            "x1": Range(1.0, 2000.0, "mm", default=350.0),
            "x2": Range(-20.0, 20.0, "mm/d", default=0.0),
            "x3": Range(1.0, 300.0, "mm", default=90.0),
            "x4": Range(0.05, 15.0, "d", default=0.5),
        },
        quantities=(net_rain, net_pet, filling, potential_exchange),
        fluxes=(
            *(rainfall, interception, et, runoff, percolation),
            *cascade,
            *branches,
            *(exchange_routing, exchange_direct, outflow),
        ),
        groups={
            "discharge": ("direct", "exchange_direct", "outflow"),
            "exchange": ("exchange_routing", "exchange_direct"),
            "evaporation": ("interception", "et"),
        },
        boundaries=(GROUNDWATER,),
        bounds=(exchange_growth,),
    )


gr4j = gr4j_cascade()
