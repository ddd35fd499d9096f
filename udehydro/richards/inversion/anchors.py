"""What decides between curves that the equation itself does not tell apart.

A gauge is decided where facts fix it alone: where it is in the row space of all combinations of gauges that they fix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from udehydro.richards.column.result import ColumnRun
from udehydro.richards.inversion.facts import Fact, facts, levels, parameters
from udehydro.richards.inversion.inversion import Inversion


def names(inversion: Inversion) -> list[str]:
    """The gauges of an inversion; every soil has a level of its own."""
    return ["shift", "offset", "scale", *dict.fromkeys(levels(inversion))]


def anchors(inversion: Inversion, x: Tensor | None = None, run: ColumnRun | None = None) -> dict[str, list[str]]:
    """What decides each gauge, in words; nothing where it is free.

    Parameters
    ----------
    x : (members, P) where numbers of free values are, by default the start.
    run : the column there, which says what limits are met; without it all are.
    """
    x, gauges = inversion.unknowns.start if x is None else x, names(inversion)
    known = [*facts(inversion, run), *parameters(inversion, inversion.at(x).p)]
    decided = _alone(rows(known, gauges, len(x)))
    words = [list(dict.fromkeys(f.words for f in known if any(n in row for row in f.fixes))) for n in gauges]
    return {n: w if d else [] for n, w, d in zip(gauges, words, decided, strict=True)}


def rows(known: Sequence[Fact], gauges: Sequence[str], members: int) -> Tensor:
    """All combinations of gauges that facts fix, (members, combination, gauge)."""
    found = torch.zeros(members, sum(len(fact.fixes) for fact in known), len(gauges), dtype=torch.float64)
    for i, row in enumerate(row for fact in known for row in fact.fixes):
        for name, value in row.items():
            found[:, i, gauges.index(name)] = torch.as_tensor(value).to(found)
    return found


def _alone(fixed: Tensor) -> list[bool]:
    """Whether unit vectors are in the row space of (members, combination, gauge), for all members."""
    fixed = fixed / fixed.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    inside = (torch.linalg.pinv(fixed, rtol=1e-9) @ fixed).diagonal(dim1=-2, dim2=-1)
    return (inside > 1.0 - 1e-6).all(0).tolist()
