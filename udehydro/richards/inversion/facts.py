"""Facts: what a column and the kinds of data in it say about heads, fluxes, amounts and contents, whatever their noise.

Every fact fixes gauges (see :mod:`udehydro.richards.inversion.gauge`) or combinations of them. What holds only where a
limit is met asks a run whether it is; without a run it counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from udehydro.richards.column.boundary import Atmospheric, Flux, Head, SeepageFace, WaterTable
from udehydro.richards.column.problem import place
from udehydro.richards.column.result import ColumnRun
from udehydro.richards.column.run import WaterContent
from udehydro.richards.column.sinks import RootUptake
from udehydro.richards.inversion.free import Free
from udehydro.richards.inversion.inversion import Inversion
from udehydro.richards.inversion.observed import STATES, VOLUMES, Observed, weights

ROOT_HEADS = ("anaerobic", "wet", "dry", "wilting")


class Fact(NamedTuple):
    """Something known, in words, and what it fixes: combinations of gauges, each {gauge: coefficient (members,)}."""

    words: str
    fixes: tuple[dict[str, Tensor | float], ...]


def levels(inversion: Inversion) -> list[str]:
    """The gauge of every layer's level: layers of one soil share it, others have their own."""
    laws = [layer.law for layer in inversion.column.layers]
    values = [{n: id(v) if isinstance(v, Free) else v for n, v in p.items()} for p in inversion.unknowns.setting.p]
    soils = list(zip(laws, values, strict=True))
    first = [next(j for j, other in enumerate(soils) if _same(soil, other)) for soil in soils]
    return ["level" if not any(first) else f"level of layer {i}" for i in first]


def _same(one, other) -> bool:
    (law, p), (law2, p2) = one, other
    alike = law is law2 or type(law) is type(law2) and not (list(law.buffers()) or list(law.parameters()))
    return alike and p.keys() == p2.keys() and all(_equal(v, p2[n]) for n, v in p.items())


def _equal(a, b) -> bool:
    return a is b or np.shape(a) == np.shape(b) and bool((torch.as_tensor(a) == torch.as_tensor(b)).all())


def _single(words: str, *gauges: str) -> Fact:
    """A fact that fixes some gauges, each alone."""
    return Fact(words, tuple({g: 1.0} for g in gauges))


def facts(inversion: Inversion, run: ColumnRun | None = None) -> list[Fact]:
    """All that is known besides the parameters of soils."""
    known = _Known(inversion, run)
    heads = list(known.heads())
    found = [*known.series(), *known.start(), *known.fluxes(), *known.amounts()]
    found += [_single(h.words, "shift") for h in heads]
    if any(h.several for h in heads) or sum(h.sure for h in heads) > 1:
        found.append(_single("heads at several contents", "offset"))
    if len(set(known.levels)) > 1:
        found.append(_single("one head on both sides of an interface", "offset"))
    return found


def parameters(inversion: Inversion, p) -> Iterator[Fact]:
    """What given limits fix: theta_r + level, theta_r + level + scale (theta_s - theta_r), scale (Ks + offset).

    Parameters
    ----------
    p : numbers of all layers, those of free values, too.
    """
    setting, own = inversion.unknowns.setting, levels(inversion)
    for i, (given, level) in enumerate(zip(setting.p, own, strict=True)):
        known = {n for n in ("theta_r", "theta_s", "Ks") if n in given and not isinstance(given[n], Free)}
        where = f" of layer {i}" if len(own) > 1 else ""
        if inversion.weights is None and given and not any(isinstance(v, Free) for v in given.values()):
            yield _single(f"the known soil{where}", "shift", "offset", "scale", level)
            continue
        low, high, top = (_by_member(inversion, i, n, p[i]) for n in ("theta_r", "theta_s", "Ks"))
        if "theta_r" in known:
            yield Fact(f"theta_r{where}, which is given", ({level: 1.0},))
        if "theta_s" in known:
            yield Fact(f"theta_s{where}, which is given", ({"scale": high - low, level: 1.0},))
        if "Ks" in known:
            yield Fact(f"Ks{where}, which is given", ({"scale": 1.0, "offset": 1.0 / top},))


def _by_member(inversion: Inversion, layer: int, name: str, p) -> Tensor:
    """Mean of a parameter (members,); not a number where the law has none of that name."""
    if name not in p:
        return torch.tensor(torch.nan)
    value = place(inversion.column, inversion.forcing, ("soil", layer, name), p[name]).detach().mean(-1)[0]
    return value.expand(inversion.unknowns.columns) if inversion.unknowns.apart else value.mean().reshape(1)


class _Head(NamedTuple):
    """A known head; whether it counts as one among several, and whether it is several itself."""

    words: str
    sure: bool = True
    several: bool = False


class _Known:
    def __init__(self, inversion: Inversion, run: ColumnRun | None):
        self.inversion, self.run, self.column = inversion, run, inversion.column
        self.ends = (("top", self.column.top), ("bottom", self.column.bottom))
        self.levels = levels(inversion)

    def series(self) -> Iterator[Fact]:
        """What series of water say; those of heads are among the heads."""
        for s in self.inversion.observed:
            if s.kind in ("theta", *STATES, *VOLUMES) and self.tells(s.kind):
                rows = [{"scale": 1.0}]
                rows += [{"offset": 1.0}] if s.kind in VOLUMES and not self.column.horizontal else []
                yield Fact(s.name, (*rows, *self.contents(s)))

    def tells(self, kind: str) -> bool:
        """Whether a series is more than zero whatever the soil."""
        return kind not in ("pond", "evaporation", "runoff") or isinstance(self.column.top, Atmospheric)

    def contents(self, s: Observed) -> Iterator[dict[str, float]]:
        """What every sensor of water contents, or storage, sees of the levels of layers."""
        if s.kind == "theta":
            rows = weights(self.column, np.atleast_1d(s.depth), s.support)
        else:
            rows = torch.as_tensor(self.column.grid.thickness).expand(int(s.kind == "storage"), -1)
        for row in rows:
            seen = dict.fromkeys(self.levels, 0.0)
            for name, cells in zip(self.levels, self.column.cells_of_layers, strict=True):
                seen[name] += float(row[cells].sum())
            yield {n: v for n, v in seen.items() if v}

    def start(self) -> Iterator[Fact]:
        psi0 = self.inversion.psi0
        if isinstance(psi0, WaterContent) and not isinstance(psi0.theta, Free):
            yield _single("water contents given at the start", "scale", *dict.fromkeys(self.levels))

    def heads(self) -> Iterator[_Head]:
        psi0, run = self.inversion.psi0, self.run
        for s in self.inversion.observed:
            if s.kind == "psi" or s.kind == "pond" and self.tells("pond"):
                yield _Head(s.name, several=s.kind == "psi")
        for where, end in self.ends:
            name = {Head: "psi", WaterTable: "depth"}.get(type(end))
            if name and self.given(end, name):
                yield _Head(f"the head at the {where}", several=self.varies(self.values(where, 0, name)))
            if isinstance(end, (SeepageFace, Atmospheric)) and (run is None or self.limited(where)):
                yield _Head(f"the limits of the {type(end).__name__} at the {where}, where they are met", sure=False)
        if not isinstance(psi0, (WaterContent, Free)):
            cells = torch.as_tensor(psi0).detach().expand(*self.inversion.forcing.batch, self.column.grid.cells)
            yield _Head("heads given at the start", several=self.varies(cells.reshape(1, -1, cells.shape[-1])))
        for i, sink in enumerate(self.column.sinks):
            if isinstance(sink, RootUptake) and any(self.given(sink, n) for n in ROOT_HEADS) and self.reduces(i):
                yield _Head("the heads at which roots stop")
        if any(layer.specific_storage for layer in self.column.layers) and (run is None or bool((run.psi > 0.0).any())):
            yield _Head("specific storage, which begins at head zero", sure=False)

    def fluxes(self) -> Iterator[Fact]:
        """Of the two ends. Without gravity fluxes do not feel an offset, and none at all is no amount of water."""
        offset = () if self.column.horizontal else ("offset",)
        for where, end in self.ends:
            if isinstance(end, Flux) and self.given(end, "q"):
                amount = ("scale",) if self.moves(where, 0, "q") else ()
                yield _single(f"the flux through the {where}", *offset, *amount)
            if isinstance(end, Atmospheric) and self.given(end, "rain", "evaporation"):
                amount = ("scale",) if self.moves(where, 0, "rain") or self.moves(where, 0, "evaporation") else ()
                yield _single(f"the weather at the {where}", *offset, *amount)
            if isinstance(end, SeepageFace) and (self.run is None or self.closed(where)):
                yield _single(f"no flux through the SeepageFace at the {where}, where it is closed", *offset)

    def amounts(self) -> Iterator[Fact]:
        """Of sinks and of the water that soil is compressed by."""
        for i, sink in enumerate(self.column.sinks):
            name = "transpiration" if isinstance(sink, RootUptake) else "rate"
            if self.given(sink, name) and self.moves("sink", i, name):
                yield _single(f"the water that {type(sink).__name__} moves", "scale")
        if any(layer.specific_storage for layer in self.column.layers):
            yield _single("the water of specific storage", "scale")

    def given(self, part, *names: str) -> bool:
        return not any(isinstance(getattr(part, n), Free) for n in names)

    def values(self, kind: str, i: int, name: str) -> Tensor:
        """Known values (T or 1, columns or 1, width)."""
        part = self.column.sinks[i] if kind == "sink" else dict(self.ends)[kind]
        return place(self.column, self.inversion.forcing, (kind, i, name), getattr(part, name)).detach()

    def moves(self, kind: str, i: int, name: str) -> bool:
        return bool((self.values(kind, i, name) != 0.0).any())

    def varies(self, values: Tensor) -> bool:
        """Whether values (T, columns, width) differ, within every column where columns share nothing."""
        apart = self.inversion.unknowns.apart
        values = values.movedim(1, 0).flatten(1) if apart else values.reshape(1, -1)
        return bool((values.amax(1) > values.amin(1)).all())

    def limited(self, where: str) -> bool:
        """Whether an end of the run was at a limit that is a head: open, ponded, or as dry as may be."""
        psi, end = self.run.ends[..., ("top", "bottom").index(where)], dict(self.ends)[where]
        wet = bool((psi >= 0.0).any())
        if wet or isinstance(end, SeepageFace) or not self.given(end, "driest"):
            return wet
        return bool((psi.reshape(len(psi), -1) <= self.values(where, 0, "driest")[..., 0] * (1.0 - 1e-9)).any())

    def closed(self, where: str) -> bool:
        return bool((self.run.ends[..., ("top", "bottom").index(where)] < 0.0).any())

    def reduces(self, i: int) -> bool:
        """Whether roots take less than they might, at some time of the run."""
        sink = self.column.sinks[i]
        if self.run is None or not self.given(sink, "transpiration"):
            return True
        days, potential = self.inversion.forcing.days[:, None], self.values("sink", i, "transpiration")[..., 0]
        taken = self.run.uptake[..., i].reshape(len(days), -1)
        return bool((taken < potential * days * (1.0 - 1e-9)).any())
