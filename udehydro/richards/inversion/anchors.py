"""What decides between curves that the equation itself does not tell apart: heads, fluxes, amounts and contents known.

These follow from the column and the kinds of data alone, whatever their noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from udehydro.richards.column.boundary import Atmospheric, Flux, Head, SeepageFace, WaterTable
from udehydro.richards.column.run import WaterContent
from udehydro.richards.column.sinks import RootUptake
from udehydro.richards.inversion.free import Free
from udehydro.richards.inversion.inversion import Inversion
from udehydro.richards.inversion.observed import STATES, VOLUMES


def anchors(inversion: Inversion) -> dict[str, list[str]]:
    """What decides each gauge, in words; nothing where it is free."""
    return {
        "shift": _heads(inversion),
        "offset": _offsets(inversion),
        "scale": _amounts(inversion),
        "level": _contents(inversion),
    }


def _known(value) -> bool:
    return not isinstance(value, Free)


def _ends(inversion: Inversion):
    return (("top", inversion.column.top), ("bottom", inversion.column.bottom))


def _heads(inversion: Inversion) -> list[str]:
    """What knows a head."""
    found = [s.name for s in inversion.observed if s.kind in ("psi", "pond")]
    for where, end in _ends(inversion):
        if isinstance(end, Head) and _known(end.psi) or isinstance(end, WaterTable) and _known(end.depth):
            found.append(f"the head at the {where}")
        if isinstance(end, (SeepageFace, Atmospheric)):
            found.append(f"the limits of the {type(end).__name__} at the {where}, where they are met")
    if not isinstance(inversion.psi0, WaterContent) and _known(inversion.psi0):
        found.append("heads given at the start")
    if any(isinstance(s, RootUptake) for s in inversion.column.sinks):
        found.append("the heads at which roots stop")
    if any(layer.specific_storage for layer in inversion.column.layers):
        found.append("specific storage, which begins at head zero")
    return found + _known_soils(inversion)


def _offsets(inversion: Inversion) -> list[str]:
    """What knows a flux, or heads at several contents. Without gravity fluxes do not feel an offset."""
    found = [] if inversion.column.horizontal else _fluxes(inversion)
    heads = [h for h in _heads(inversion) if "limits" not in h]
    several = isinstance(inversion.psi0, Tensor) and bool((inversion.psi0 != inversion.psi0.flatten()[0]).any())
    if len(heads) > 1 or several or any(s.kind == "psi" for s in inversion.observed):
        found.append("heads at several contents")
    if len(inversion.column.layers) > 1:
        found.append("one head on both sides of an interface")
    return found + _known_soils(inversion)


def _fluxes(inversion: Inversion) -> list[str]:
    found = [s.name for s in inversion.observed if s.kind in VOLUMES]
    for where, end in _ends(inversion):
        if isinstance(end, Flux) and _known(end.q):
            found.append(f"the flux through the {where}")
        if isinstance(end, Atmospheric) and _known(end.rain) and _known(end.evaporation):
            found.append(f"the weather at the {where}")
    return found


def _amounts(inversion: Inversion) -> list[str]:
    """What knows an amount of water."""
    found = [s.name for s in inversion.observed if s.kind in ("theta", *STATES, *VOLUMES)]
    for where, end in _ends(inversion):
        if isinstance(end, Flux) and _known(end.q) and not _zero(end.q):
            found.append(f"the flux through the {where}")
        if isinstance(end, Atmospheric) and _known(end.rain) and _known(end.evaporation):
            found.append(f"the weather at the {where}")
    if isinstance(inversion.psi0, WaterContent) and _known(inversion.psi0.theta):
        found.append("water contents given at the start")
    found += [f"the water that {type(s).__name__} moves" for s in inversion.column.sinks]
    if any(layer.specific_storage for layer in inversion.column.layers):
        found.append("the water of specific storage")
    return found + _known_soils(inversion)


def _contents(inversion: Inversion) -> list[str]:
    """What knows a water content itself, not its changes."""
    found = [s.name for s in inversion.observed if s.kind in ("theta", "storage")]
    if isinstance(inversion.psi0, WaterContent) and _known(inversion.psi0.theta):
        found.append("water contents given at the start")
    return found


def _zero(q) -> bool:
    return not isinstance(q, str) and bool((torch.as_tensor(q) == 0.0).all())


def _known_soils(inversion: Inversion) -> list[str]:
    """Layers of which nothing is free: their curves decide for the others."""
    if inversion.weights is not None or len(inversion.column.layers) < 2:
        return []
    setting = inversion.unknowns.setting
    return [f"the known soil of layer {i}" for i, p in enumerate(setting.p) if all(_known(v) for v in p.values())]
