"""M50 and M100: the neural variants of EXP-HYDRO by Hoege et al. (2022, HESS 26:5085), with the published leaks mended.

Mended: discharge is the volume that leaves the store (published: exp(g) reported, sigma(S1) exp(g) taken out), and
rain + snow = precipitation even where a network partitions them (published M100: two free outputs).
Both take standardised inputs; call ``law.standardise`` or :func:`udehydro.training.teach` before training.
"""

from udehydro.balance import Balance
from udehydro.laws.neural import Fraction, Head, NeuralLaw, Positive, SharedNetwork
from udehydro.models.exphydro_mended import exphydro_mended


def m50(seed: int | None = None, members: int | None = None) -> Balance:
    """EXP-HYDRO with networks for evapotranspiration (snow, soil, temperature) and discharge (soil, rain)."""
    return Balance(
        exphydro_mended,
        et=NeuralLaw("snow", "soil", "temp", output=Positive(0.1, "dayl"), members=members, seed=seed),
        discharge=NeuralLaw("soil", "prcp", members=members, seed=seed),
    )


def m100(seed: int | None = None, members: int | None = None) -> Balance:
    """EXP-HYDRO with all processes from one network of (snow, soil, rain, temperature)."""
    inputs, outputs = ("snow", "soil", "prcp", "temp"), ("g_snow", "g_melt", "g_et", "g_discharge")
    return Balance(
        exphydro_mended,
        network=SharedNetwork(*inputs, outputs=outputs, hidden=(32, 32, 32, 32, 32), members=members, seed=seed),
        snow_fraction=Head("g_snow", Fraction()),
        melt=Head("g_melt"),
        et=Head("g_et", Positive(0.1, "dayl")),
        discharge=Head("g_discharge"),
    )
