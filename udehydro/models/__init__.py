"""Models: one file each, physics only."""

from udehydro.models.exphydro import exphydro
from udehydro.models.exphydro_mended import exphydro_mended
from udehydro.models.gr4j import gr4j, gr4j_cascade
from udehydro.models.hbv import hbv
from udehydro.models.hoege import m50, m100
from udehydro.models.linear import linear
from udehydro.models.nonsense import nonsense

__all__ = ["exphydro", "exphydro_mended", "gr4j", "gr4j_cascade", "hbv", "linear", "m50", "m100", "nonsense"]
