"""Infiltration problems that codes are compared on, as data: soils, columns, states, times and reference numbers.

Everything is in cm and d (sources that use m or s are converted here, with the factor visible). Heights are above the
base; fluxes positive upward. Soils carry the names that the laws of `udehydro.richards.laws` know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

SECONDS = 86400.0
"""Per day."""

Soil = Mapping[str, float]


def _soil(names: str, *values: float) -> Soil:
    return dict(zip(names.split(), values, strict=True))


VG = "theta_r theta_s alpha n Ks l"
HAVERKAMP = "theta_r theta_s alpha beta A gamma Ks"

NEW_MEXICO = _soil(VG, 0.102, 0.368, 0.0335, 2.0, 0.00922 * SECONDS, 0.5)
"""Celia et al. (1990), van Genuchten."""
SAND = _soil(HAVERKAMP, 0.075, 0.287, 1.611e6, 3.96, 1.175e6, 4.74, 0.00944 * SECONDS)
"""Haverkamp et al. (1977), law `Haverkamp`."""
YOLO = _soil(HAVERKAMP, 0.124, 0.495, 739.0, 4.0, 124.6, 1.77, 1.23e-5 * SECONDS)
"""Yolo light clay, Haverkamp et al. (1977), law `HaverkampLog`."""
BERINO = _soil(VG, 0.0286, 0.3658, 0.0280, 2.239, 541.0, 0.5)
GLENDALE = _soil(VG, 0.1060, 0.4686, 0.0104, 1.3954, 13.1, 0.5)
"""Loamy fine sand and clay loam of Hills et al. (1989)."""

MILLER = {
    "sand": _soil(VG, 0.093, 0.301, 5.470 / 100, 4.264, 5.040 * 100, 0.5),
    "loam": _soil(VG, 0.078, 0.430, 3.600 / 100, 1.560, 0.250 * 100, 0.5),
    "clay loam": _soil(VG, 0.095, 0.410, 1.900 / 100, 1.310, 0.062 * 100, 0.5),
}
"""Miller et al. (1998)."""
VANDERBORGHT = {
    "sand": _soil(VG, 0.045, 0.43, 0.15, 3.0, 1000.0, 0.5),
    "loam": _soil(VG, 0.08, 0.43, 0.04, 1.6, 50.0, 0.5),
    "clay": _soil(VG, 0.1, 0.4, 0.01, 1.1, 10.0, 0.5),
}
"""Vanderborght et al. (2005): 100 cm/d into soil at -400 cm, for `TravellingWave`."""
MATHIAS = {
    "sandstone": _soil(VG, 0.153, 0.25, 0.0079, 10.4, 108.0, 0.5),
    "silt loam": _soil(VG, 0.131, 0.396, 0.00423, 2.06, 4.96, 0.5),
    "clay": _soil(VG, 0.0, 0.446, 0.00152, 1.17, 0.082, 0.5),
}
"""Mathias and Sander (2021), horizontal absorption from a saturation of 0.01 to 0.99, for `absorption`."""


@dataclass(frozen=True)
class Case:
    """A vertical column and what is known of its solution.

    Attributes
    ----------
    law : class in `udehydro.richards.laws`; soil : its parameters [cm, d].
    length : [cm]. psi_i : initial head [cm]; None is hydrostatic, -z, above a water table at the base.
    psi_top, psi_base : heads held at both ends from t = 0 on [cm].
    times : at which the reference is given [d].
    specific_storage : of saturated soil [1/cm].
    depth : of the reference heads below the surface [cm]; psi : reference heads at the last time [cm].
    front : depth of the mean of the initial and the top's water content, at each time [cm].
    storage : water gained since t = 0, at each time [cm].
    source : of the problem and of the reference numbers.
    """

    law: Literal["VanGenuchten", "Haverkamp", "HaverkampLog"]
    soil: Soil
    length: float
    psi_i: float | None
    psi_top: float
    psi_base: float
    times: tuple[float, ...]
    source: str
    specific_storage: float = 0.0
    depth: tuple[float, ...] = ()
    psi: tuple[float, ...] = ()
    front: tuple[float, ...] = ()
    storage: tuple[float, ...] = field(default=())


_MILLER = "Miller et al. (1998), ponded, with sharp fronts; no reference numbers."

CASES: Mapping[str, Case] = {
    "celia": Case(
        "VanGenuchten", NEW_MEXICO, 100.0, -1000.0, -75.0, -1000.0, (0.25, 1.0),
        "Celia et al. (1990), New Mexico; reference by finite volumes, 800 cells, stiff integrator.",
        depth=(10.0, 20.0, 40.0, 50.0, 55.0), psi=(-76.87, -80.28, -100.4, -142.8, -255.0),
        front=(21.70, 50.39), storage=(1.742, 4.114),
    ),
    "haverkamp sand": Case(
        "Haverkamp", SAND, 40.0, -61.5, -20.7, -61.5, (360.0 / SECONDS,),
        "Celia et al. (1990), Haverkamp sand; reference by finite volumes, 400 cells, stiff integrator.",
        depth=(2.0, 5.0, 10.0, 15.0, 18.0, 20.0), psi=(-21.08, -21.94, -25.07, -37.1, -55.9, -60.8),
        front=(14.87,), storage=(2.3687,),
    ),
    "miller sand": Case(
        "VanGenuchten", MILLER["sand"], 1000.0, None, 10.0, 0.0, (0.18,), _MILLER, specific_storage=1e-6 / 100
    ),
    "miller loam": Case(
        "VanGenuchten", MILLER["loam"], 500.0, None, 10.0, 0.0, (2.25,), _MILLER, specific_storage=1e-6 / 100
    ),
    "miller clay loam": Case(
        "VanGenuchten", MILLER["clay loam"], 200.0, None, 10.0, 0.0, (1.0,), _MILLER, specific_storage=1e-6 / 100
    ),
}  # fmt: skip
"""Name -> case."""
