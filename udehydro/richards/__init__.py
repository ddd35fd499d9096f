"""Unsaturated flow: the Richards equation, and the hydraulic laws of soils that it needs.

Length in cm, time in d, pressure head psi in cm (negative where unsaturated); z and fluxes are positive upward.
"""

from udehydro.richards import column, exact, inversion, laws, link, pinn

__all__ = ["column", "exact", "inversion", "laws", "link", "pinn"]
