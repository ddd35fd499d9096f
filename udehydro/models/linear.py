"""Linear reservoir: the one model with a closed form."""

from udehydro.structure import ATMOSPHERE, OUTLET, Range, Structure, flux


@flux(ATMOSPHERE, "storage")
def rain(prcp):
    """Rain, mm/d."""
    return prcp


@flux("storage", OUTLET)
def outflow(storage, k):
    """Q = k S, mm/d."""
    return k * storage


linear = Structure(
    name="linear",
    stores={"storage": "mm"},
    forcings={"prcp": "mm/d"},
    parameters={"k": Range(0.001, 1.0, "1/d", default=0.1)},
    fluxes=(rain, outflow),
)
