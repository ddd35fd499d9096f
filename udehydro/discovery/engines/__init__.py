"""Engines: what proposes laws to :func:`udehydro.discovery.discover`, one file each.

An engine is called as ``engine(samples, law, library, keep)`` and returns nominees, best first. One that finds formulas
that no library has also has ``extended(structure, samples, law, library) -> Library``, which ``discover`` asks first.
The default is :func:`udehydro.discovery.nominate`.
"""

from udehydro.discovery.engines.operon import Operon
from udehydro.discovery.engines.pysindy import PySINDy
from udehydro.discovery.engines.thresholded import thresholded

__all__ = ["Operon", "PySINDy", "thresholded"]
