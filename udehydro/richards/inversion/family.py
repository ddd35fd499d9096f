"""family: the curves that data cannot tell from those found, along the gauges that they leave open.

:func:`~udehydro.richards.inversion.check_gauge` says which. Members are what was found, moved along them
(:class:`~udehydro.richards.laws.Gauged`), as far as is plausible: the data say nothing of how far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from udehydro.errors import ConfigError
from udehydro.richards.inversion.gauge import START, UNITS, Gauge, Gauges, check_gauge
from udehydro.richards.inversion.orbit import Orbit
from udehydro.richards.inversion.visited import check_one_curve

if TYPE_CHECKING:
    from udehydro.richards.inversion.fit import Fitted
    from udehydro.richards.pinn.learn import Learned

AIR_ENTRY = 100.0
"""Suction [cm] within which soil begins to drain: no shift moves the wettest state beyond it."""
FULL = 0.95
"""Water content that no member exceeds."""
LEFT = 0.1
"""Share of the conductivity at the driest content that an offset below zero leaves: at none, heads have no end."""
ORDER = ("scale", "level", "offset", "shift")
"""Limits of later ones follow from where earlier ones are."""


@dataclass(frozen=True, eq=False)
class Family:
    """M pairs of curves that explain the data equally well; the first is what was found.

    Attributes
    ----------
    gauges : those along which members lie.
    values : by label of a gauge, where they are (M, *batch), in the units of the gauge.
    """

    gauges: tuple[Gauge, ...]
    values: Mapping[str, Tensor]
    _fitted: Fitted = field(repr=False)
    _heads: list[Tensor] = field(repr=False)
    _runs: bool = field(repr=False)

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def __repr__(self) -> str:
        ends = {g.label: (float(self.values[g.label].min()), float(self.values[g.label].max())) for g in self.gauges}
        spans = [f"{g.label} {ends[g.label][0]:.3g} to {ends[g.label][1]:.3g}{UNITS[g.name]}" for g in self.gauges]
        return f"Family({len(self)} members: {', '.join(spans)})"

    def curves(self, psi: Tensor, layer: int = 0) -> tuple[Tensor, Tensor]:
        """Water contents and conductivities [cm/d] of a layer, (M, *batch, N) at heads ``psi`` (N,)."""
        with self._weights(), torch.no_grad():
            law, p = self._all().soil(layer)
            psi = torch.as_tensor(psi).to(self._heads[layer])
            return self._each(law.theta(psi, p)), self._each(law.conductivity(psi, p))

    def visited(self, layer: int = 0, share: float = 0.9) -> tuple[Tensor, Tensor]:
        """Driest and wettest head (M, *batch) between which the middle ``share`` of a layer's heads lie: they move
        along."""
        tail = 0.5 * (1.0 - share)
        with self._weights(), torch.no_grad():
            law, p = self._all().soil(layer)
            ends = [torch.quantile(self._heads[layer], at, dim=-1, keepdim=True) for at in (tail, 1.0 - tail)]
            return tuple(self._each(law.image(end, p)).squeeze(-1) for end in ends)

    def chi2(self, which: Sequence[int] | None = None) -> Tensor:
        """Squared residuals of observations in units of sigma (M, members), with every member run on the column, or
        those that ``which`` counts; members that have an offset take long.

        Heads at the start and at the ends move along, fluxes where they are unknown. Cells of finite size break the
        symmetry of an offset; what that adds falls with the square of their size.

        Raises
        ------
        ConfigError
            For networks, which did not find the column's start and boundaries.
        """
        if not self._runs:
            raise ConfigError("Networks found no column that could be run: fit one, family(found.polish()).chi2().")
        found = []
        for i in range(len(self)) if which is None else which:
            with self._weights():
                task = Orbit(self._fitted, self.gauges, {n: v[i] for n, v in self.values.items()}).inversion()
                found.append(torch.cat(task.residuals(task.unknowns.start)[1], dim=-1).square().sum(-1))
        found = torch.stack(found)
        return found if found.shape[1] == len(self._fitted.x) else found.sum(1, keepdim=True)

    def _each(self, values: Tensor) -> Tensor:
        """Of every member, also what gauges do not change (M, *batch, n)."""
        return values.expand(*next(iter(self.values.values())).shape, values.shape[-1])

    def _all(self) -> Orbit:
        return Orbit(self._fitted, self.gauges, self.values)

    def _weights(self):
        return self._fitted.inversion.unknowns.weights_at(self._fitted.x)


def family(
    found: Fitted | Learned,
    gauges: Gauges | None = None,
    *,
    size: int = 9,
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> Family:
    """The curves that the data cannot tell from those found.

    Members lie on all combinations of the open gauges, evenly between limits that the nature of soils sets, since data
    do not. Heads visited stay below zero, and move to drier ones by no more than they span, the wettest of them within
    100 cm of zero. Conductivities stay above zero, and grow by no more than their mean. Contents stay between 0 and
    0.95, and a scale within as much to either side. Where data hardly decide, members are within two standard
    deviations, too: chi2 then rises by a few units, as it should.

    Parameters
    ----------
    found : of :func:`~udehydro.richards.inversion.fit`, or of networks (``learn``): of the best ones, if of one column.
    gauges : what :func:`~udehydro.richards.inversion.check_gauge` says; by default asked where the search ended.
    size : members along a gauge, beside what was found.
    limits : by label of a gauge, lowest and highest value in place of these.

    Raises
    ------
    ConfigError
        Where data decide all gauges, and for soils that differ by cell.
    """
    fitted, heads, runs = _parts(found)
    task, unknowns = fitted.inversion, fitted.inversion.unknowns
    for layer in range(len(heads)):
        check_one_curve(fitted, layer)
    gauges = check_gauge(task, fitted.x) if gauges is None else gauges
    if not gauges.open:
        raise ConfigError("The data decide all gauges: there is one pair of curves; found.curves(psi) has its bands.")
    along = tuple(sorted((gauges[n] for n in gauges.open), key=lambda g: ORDER.index(g.name)))
    values: dict[str, Tensor] = {}
    with torch.no_grad(), unknowns.weights_at(fitted.x):
        for gauge in along:
            given = (limits or {}).get(gauge.label) or _limits(gauge, Orbit(fitted, along, values), heads)
            count = len(next(iter(values.values()))) if values else 1
            low, high = (torch.as_tensor(v).to(heads[0]).expand(count, *task.forcing.batch) for v in given)
            steps = torch.linspace(0.0, 1.0, size).to(low).reshape(-1, *(1,) * low.ndim)
            new = torch.cat([torch.full_like(low, START[gauge.name])[None], torch.lerp(low, high, steps)])
            values = {n: v.expand(size + 1, *v.shape).flatten(0, 1) for n, v in values.items()}
            values[gauge.label] = new.flatten(0, 1)
    return Family(along, values, fitted, heads, runs)


def _parts(found: Fitted | Learned) -> tuple[Fitted, list[Tensor], bool]:
    """A fit, heads (*batch, n) of every layer, and whether a column runs to them."""
    if not hasattr(found, "solution"):
        column, psi = found.inversion.column, found.run().psi.detach()
        return found, [psi[..., c].movedim(0, -2).flatten(-2) for c in column.cells_of_layers], True
    task, batch = found.task, found.task.forcing.batch
    which = slice(None) if batch else slice(found.best, found.best + 1)
    psi = found.states()[0][which]
    heads = [psi[..., c].reshape(*batch, -1) for c in task.column.cells_of_layers]
    return found.fitted(which), heads, False


def _limits(gauge: Gauge, orbit: Orbit, heads: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Between which values (M or nothing, *batch) a gauge is plausible where others are as far as they are."""
    layers = range(len(heads)) if gauge.name in ("shift", "offset") else gauge.layers
    soils = [(heads[i], *orbit.soil(i)) for i in layers]

    def ends(of) -> tuple[Tensor, Tensor]:
        """Of all layers, something at their driest and wettest states (layer, ..., *batch, 1)."""
        found = [[of(psi, law, p) for psi in (h.amin(-1, True), h.amax(-1, True))] for h, law, p in soils]
        return tuple(torch.stack(side) for side in zip(*found, strict=True))

    if gauge.name == "shift":
        dry, wet = ends(lambda psi, law, p: law.image(psi, p))
        dry, wet = dry.amin(0), wet.amax(0)
        low, high = -torch.minimum(wet - dry, AIR_ENTRY + wet), -wet
    elif gauge.name == "offset":
        low = (LEFT - 1.0) * ends(lambda psi, law, p: law.law.conductivity(psi, p))[0].amin(0)
        high = torch.cat([law.law.conductivity(h, p) for h, law, p in soils], dim=-1).mean(-1, keepdim=True)
    elif gauge.name == "scale":
        room = ends(lambda psi, law, p: (FULL - p["theta_r"]) / (law.theta(law.image(psi, p), p) - p["theta_r"]))
        high = room[1].amin(0)
        low = 1.0 / high
    else:
        dry, wet = ends(lambda psi, law, p: law.theta(law.image(psi, p), p))
        low, high = (-dry).amax(0), (FULL - wet).amin(0)
    low, high = torch.broadcast_tensors(low.squeeze(-1), high.squeeze(-1))
    return _within(gauge, low, high, orbit)


def _within(gauge: Gauge, low: Tensor, high: Tensor, orbit: Orbit) -> tuple[Tensor, Tensor]:
    """Limits that leave what was found inside, of a gauge that is hardly known within what is known of it; one for all
    columns that share unknowns."""
    unknowns, batch, start = orbit.task.unknowns, orbit.task.forcing.batch, START[gauge.name]
    if not gauge.free:
        sd = gauge.sd.to(low).reshape(batch if unknowns.apart else ())
        low, high = torch.maximum(low, start - 2.0 * sd), torch.minimum(high, start + 2.0 * sd)
    if not unknowns.apart:
        columns = tuple(range(-len(batch), 0))
        low, high = low.amax(columns, keepdim=True), high.amin(columns, keepdim=True)
    return low.clamp_max(start), high.clamp_min(start)
