"""What takes water out of cells, or puts it there: roots, and prescribed sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from udehydro.richards.laws.limits import Wrong


@dataclass(frozen=True)
class RootUptake:
    """Transpiration, shared out over depth, and reduced where the soil is too wet or too dry (Feddes et al. 1978).

    Uptake rises from zero at ``anaerobic`` to its potential at ``wet``, keeps it down to ``dry``, and falls to zero at
    ``wilting``; heads in cm.

    Parameters
    ----------
    transpiration : potential rate [cm/d].
    density : share of the potential uptake by cell, (cell,) or (*batch, cell); scaled to sum to one.
    """

    transpiration: float | str | Tensor
    density: Tensor
    anaerobic: float | str | Tensor = -10.0
    wet: float | str | Tensor = -25.0
    dry: float | str | Tensor = -400.0
    wilting: float | str | Tensor = -8000.0

    units = {"transpiration": "cm/d", **dict.fromkeys(("anaerobic", "wet", "dry", "wilting"), "cm")}
    cells = ("density",)

    def impossible(self, v: dict[str, Tensor]) -> Iterator[Wrong]:
        """Which values roots cannot have."""
        if bool((wrong := v["transpiration"] < 0.0).any()):
            yield Wrong("transpiration", "zero or more", wrong)
        if bool((wrong := (v["density"] < 0.0) | (v["density"].sum(-1, keepdim=True) <= 0.0)).any()):
            yield Wrong("density", "zero or more by cell, and not zero in all", wrong)
        order = "wilting < dry <= wet < anaerobic, heads below zero"
        for name, wrong in (
            ("wet", (v["wet"] >= v["anaerobic"]) | (v["wet"] > 0.0)),
            ("dry", v["dry"] > v["wet"]),
            ("wilting", v["wilting"] >= v["dry"]),
        ):
            if bool(wrong.any()):
                yield Wrong(name, f"in the order {order}", wrong)

    def uptake(self, psi: Tensor, v: dict[str, Tensor], thickness: Tensor) -> Tensor:
        """Water taken out of every cell (columns, cell), cm/d."""
        share = v["density"] / v["density"].sum(-1, keepdim=True)
        wetness = (v["anaerobic"] - psi) / (v["anaerobic"] - v["wet"])
        dryness = (psi - v["wilting"]) / (v["dry"] - v["wilting"])
        return v["transpiration"] * share * torch.minimum(wetness, dryness).clamp(0.0, 1.0)


@dataclass(frozen=True)
class Source:
    """Water put into cells (drip irrigation) or, where negative, taken out, whatever the state of the soil.

    Parameters
    ----------
    rate : volume per volume and day [1/d], (cell,), (*batch, cell) or (T, *batch, cell).
    """

    rate: Tensor

    units = {}
    cells = ("rate",)

    def uptake(self, psi: Tensor, v: dict[str, Tensor], thickness: Tensor) -> Tensor:
        """Water taken out of every cell (columns, cell), cm/d."""
        return -v["rate"] * thickness + 0.0 * psi
