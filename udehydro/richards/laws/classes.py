"""Van Genuchten parameters of the twelve USDA texture classes (means of Carsel and Parrish 1988)."""

from __future__ import annotations

from udehydro.errors import ConfigError
from udehydro.structure import suggest

_NAMES = ("theta_r", "theta_s", "alpha", "n", "Ks")

CLASSES = {
    "sand": (0.045, 0.43, 0.145, 2.68, 712.8),
    "loamy sand": (0.057, 0.41, 0.124, 2.28, 350.2),
    "sandy loam": (0.065, 0.41, 0.075, 1.89, 106.1),
    "loam": (0.078, 0.43, 0.036, 1.56, 24.96),
    "silt": (0.034, 0.46, 0.016, 1.37, 6.0),
    "silt loam": (0.067, 0.45, 0.020, 1.41, 10.8),
    "sandy clay loam": (0.100, 0.39, 0.059, 1.48, 31.44),
    "clay loam": (0.095, 0.41, 0.019, 1.31, 6.24),
    "silty clay loam": (0.089, 0.43, 0.010, 1.23, 1.68),
    "sandy clay": (0.100, 0.38, 0.027, 1.23, 2.88),
    "silty clay": (0.070, 0.36, 0.005, 1.09, 0.48),
    "clay": (0.068, 0.38, 0.008, 1.09, 4.8),
}
"""Class -> theta_r, theta_s, alpha [1/cm], n, Ks [cm/d]: class averages, of soils that differ widely."""


def soil_class(name: str) -> dict[str, float]:
    """Parameters of a texture class for :class:`VanGenuchten`: ``soil_class("sandy loam")["alpha"]`` is 0.075 1/cm.

    Raises
    ------
    ConfigError
        For a name that is none of the twelve.
    """
    if name not in CLASSES:
        raise ConfigError(f"'{name}' is no texture class.{suggest(name, CLASSES)}")
    return dict(zip(_NAMES, CLASSES[name], strict=True))
