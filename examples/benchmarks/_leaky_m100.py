"""M100 as published (Hoege et al. 2022, HESS 26:5085), for comparison only: it does not conserve water.

Rain and snow are free outputs of the network, not shares of precipitation; discharge exp(g) is reported, of which only
sigma(S1) exp(g) leaves the soil. Here the difference enters the soil from a boundary as the flux ``created``, so that
the solvers of this package run the published equations and the water they create can be counted. All hidden layers are
tanh; published are one such and then leaky ReLU.
"""

import torch

from udehydro import Structure
from udehydro.laws import SharedNetwork
from udehydro.laws.smooth import switch
from udehydro.models import exphydro_mended
from udehydro.structure import GROUNDWATER, OUTLET, flux

INPUTS = ("snow", "soil", "prcp", "temp")
OUTPUTS = ("g_snow", "g_rain", "g_melt", "g_et", "g_discharge")


@flux("soil", OUTLET)
def discharge(soil, smax, f, qmax, tau):
    """Discharge of the mended bucket as one flux: what the network is taught."""
    baseflow, overflow = (next(x.law for x in exphydro_mended.fluxes if x.name == n) for n in ("baseflow", "overflow"))
    return baseflow(soil, smax, f, qmax) + overflow(soil, smax, tau)


@flux(GROUNDWATER, "soil")
def created(soil, discharge):
    """(1 - sigma(S1)) Q, mm/d: discharge reported and not taken from the store."""
    return (1.0 - switch(soil)) * discharge


leaky = Structure(
    name="exphydro_leaky",
    stores=exphydro_mended.stores,
    forcings=exphydro_mended.forcings,
    parameters=exphydro_mended.parameters,
    quantities=exphydro_mended.quantities,
    fluxes=(*(x for x in exphydro_mended.fluxes if x.name not in ("baseflow", "overflow")), discharge, created),
    boundaries=(GROUNDWATER,),
)


def _snowfall(g_snow, temp):
    return (switch(-temp) * torch.sinh(g_snow)).clamp_min(0.0)


def _rainfall(g_rain):
    return torch.sinh(g_rain).clamp_min(0.0)


def _melt(g_melt, snow):
    return (switch(snow) * torch.sinh(g_melt)).clamp_min(0.0)


def _et(g_et, soil, dayl):
    return switch(soil) * dayl * torch.exp(g_et)


def _discharge(g_discharge):
    return torch.exp(g_discharge)


def leaky_laws(members: int | None, seed: int, hidden: tuple[int, ...]) -> dict:
    """The published heads on one network; to be put into :data:`leaky`."""
    network = SharedNetwork(*INPUTS, outputs=OUTPUTS, hidden=hidden, members=members, seed=seed)
    heads = {"snowfall": _snowfall, "rainfall": _rainfall, "melt": _melt, "et": _et, "discharge": _discharge}
    return {"network": network, **heads}
