"""check_gauge: what of theta(psi) and K(psi) observations leave open, said before anything is fitted.

theta_t = d/dz [D(theta) theta_z + K(theta)] with D = K dpsi/dtheta holds for other curves, too: with every head moved
by the same shift; with an offset added to K and heads that keep D; in heads, with theta and K multiplied by the same
scale, and with a level added to theta (:class:`~udehydro.richards.laws.Gauged` has these curves). Only what knows
heads, fluxes or contents from elsewhere decides between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.func import jvp

from udehydro.errors import ConfigError
from udehydro.richards.column.along import follow
from udehydro.richards.column.run import begin, collect, go
from udehydro.richards.inversion.anchors import anchors
from udehydro.richards.inversion.free import Free
from udehydro.richards.inversion.inversion import Inversion
from udehydro.richards.laws.gauged import Gauged

UNITS = {"shift": " cm", "offset": " cm/d", "scale": "", "level": ""}
START = {"shift": 0.0, "offset": 0.0, "scale": 1.0, "level": 0.0}
WIDEST = {"shift": 1e4, "offset": 1e2, "scale": 3.0, "level": 1.0}
"""Standard deviations before any data: what is free moves no further (of the offset, by the mean conductivity)."""
WEAK = {"shift": 5.0, "offset": 0.1, "scale": 0.1, "level": 0.02}
"""Standard deviations from which a gauge counts as hardly known; of the offset as a share of the mean conductivity."""
REMEDY = {
    "shift": "one tensiometer, a water table or a pond, where the soil is wet: a dry head says little, since heads at "
    "the wet end add up from where the soil conducts next to nothing",
    "offset": "a flux through one end (known weather, or measured outflow), or two tensiometers at unlike contents",
    "scale": "one increment of water content or storage, or one flux",
    "level": "one water content, where the head is known",
}
BETTER = (
    "a tensiometer with a smaller error, or where the soil is wetter, a water table or a pond: heads at the wet end "
    "add up from where the soil conducts next to nothing"
)
"""Remedy of a shift that a tensiometer hardly knows."""
MEANING = {
    "shift": "all heads moved by the same amount",
    "offset": "K + c with heads that keep the diffusivity, and fluxes less c",
    "scale": "theta - theta_r, K and fluxes multiplied by the same number",
    "level": "the same water added everywhere",
}


@dataclass(frozen=True, eq=False)
class Gauge:
    """A one-parameter family of curves, and whether the data decide within it.

    Attributes
    ----------
    name : ``shift`` [cm], ``offset`` [cm/d], ``scale`` or ``level`` [1].
    fixed_by : what decides; empty where nothing does, whatever the noise.
    sd : standard deviation (members,) to which the data of a linearised column know it, unknown states and fluxes being
        unknown, too; infinite where nothing decides.
    limit : from which it counts as hardly known.
    """

    name: str
    fixed_by: tuple[str, ...]
    sd: Tensor
    limit: float
    _laws: tuple = field(repr=False)

    @property
    def free(self) -> bool:
        return not self.fixed_by

    @property
    def weak(self) -> bool:
        """Decided in principle, hardly by these data."""
        return not self.free and bool((self.sd > self.limit).any())

    def direction(self, psi: Tensor, layer: int = 0) -> tuple[Tensor, Tensor]:
        """Change of theta and of K at heads ``psi`` per unit of the gauge: the null direction, where it is free."""
        law, p = self._laws[layer]
        law = Gauged(law)
        at = torch.tensor(START[self.name], dtype=psi.dtype, device=psi.device)

        def curves(value: Tensor) -> tuple[Tensor, Tensor]:
            values = {**p, self.name: value}
            return law.theta(psi, values), law.conductivity(psi, values)

        return jvp(curves, (at,), (torch.ones_like(at),))[1]

    def __str__(self) -> str:
        head = f"{self.name} ({MEANING[self.name]}): "
        if self.free:
            return head + f"FREE. Would decide: {REMEDY[self.name]}."
        sd = f"known to {float(self.sd.max()):.2g}{UNITS[self.name]} by {'; '.join(self.fixed_by)}"
        measured = any(by.startswith("psi") for by in self.fixed_by)
        remedy = BETTER if self.name == "shift" and measured else REMEDY[self.name]
        return head + (f"HARDLY KNOWN, {sd}. Would help: {remedy}." if self.weak else f"{sd}.")


@dataclass(frozen=True, eq=False)
class Gauges:
    """All gauges of an inversion."""

    gauges: Mapping[str, Gauge]

    def __getitem__(self, name: str) -> Gauge:
        return self.gauges[name]

    @property
    def free(self) -> tuple[str, ...]:
        """Names of those that nothing decides."""
        return tuple(n for n, g in self.gauges.items() if g.free)

    @property
    def weak(self) -> tuple[str, ...]:
        """Names of those that are hardly decided."""
        return tuple(n for n, g in self.gauges.items() if g.weak)

    @property
    def open(self) -> tuple[str, ...]:
        """Names of all that the data leave open, free or hardly decided."""
        return self.free + self.weak

    def __str__(self) -> str:
        return "\n".join(str(g) for g in self.gauges.values())


def check_gauge(inversion: Inversion, x: Tensor | None = None) -> Gauges:
    """Which parts of theta(psi) and K(psi) the data of an inversion cannot determine, were the curves free to move.

    What decides follows from the column and the kinds of data alone; how well, from the sensitivity of the data to each
    gauge at x, unknown initial states, fluxes and other gauges moving along.

    Parameters
    ----------
    x : (members, P) where to linearise, by default the start.
    """
    x = inversion.unknowns.start if x is None else x
    setting = inversion.at(x)
    laws = tuple((layer.law, p) for layer, p in zip(setting.column.layers, setting.p, strict=True))
    sd, mean = _sensitivity(inversion, x)
    found = {}
    for name, by in anchors(inversion).items():
        limit = WEAK[name] * (mean if name == "offset" else 1.0)
        spread = sd[name] if by else torch.full_like(sd[name], torch.inf)
        found[name] = Gauge(name, tuple(by), spread, limit, laws)
    return Gauges(found)


class _WithGauges(Inversion):
    """An inversion of gauges in place of soils: steps are those of the soils, which have the same values."""

    def run_along(self, x: Tensor, more: Mapping | None = None):
        now = self.at(x)
        plain = replace(now.column, layers=[replace(a, law=a.law.law) for a in now.column.layers])
        soils = [{n: v for n, v in p.items() if n not in START} for p in now.p]
        begun = begin(plain, self.forcing, soils, now.psi0, 0.0, self.tableau)
        found = go(begun, self.tableau, self.steps, True, False)
        run = collect(begun, found.psi, found.mass, found.volume, found)
        start = begin(now.column, self.forcing, now.p, now.psi0, 0.0, self.tableau)
        return run, follow(start, self.tableau, run, found, self.unknowns.along(x))


def _sensitivity(inversion: Inversion, x: Tensor) -> tuple[dict[str, Tensor], float]:
    """Standard deviations (members,) of all gauges, and the mean conductivity of the run."""
    u, fixed = inversion.unknowns, inversion.at(x)
    nuisance = u.keep(x, lambda key: key[0] != "soil")
    with torch.no_grad(), u.weights_at(x):
        mean = _mean_conductivity(inversion.run(x), fixed)
        widest = {**WIDEST, "offset": mean}
        lead = tuple(inversion.forcing.batch) if u.apart else ()
        gauges = {n: Free(torch.full(lead, v), prior=widest[n]) for n, v in START.items()}
        layers = [replace(layer, law=Gauged(layer.law)) for layer in inversion.column.layers]
        p = [{**values, **gauges} for values in fixed.p]
        task = _WithGauges(
            replace(nuisance.column, layers=layers),
            inversion.forcing,
            p,
            nuisance.psi0,
            inversion.observed,
            tableau=inversion.tableau,
            steps=inversion.steps,
        )
        jacobian = task.residuals(task.unknowns.start)[2]
    matrix = jacobian @ jacobian.mT + torch.diag_embed(task.unknowns.precision)
    root = matrix.diagonal(dim1=-2, dim2=-1).sqrt().clamp_min(1e-150)
    unit = matrix / root[:, :, None] / root[:, None, :] + 1e-14 * torch.eye(matrix.shape[-1]).to(matrix)
    sd = torch.linalg.inv(unit).diagonal(dim1=-2, dim2=-1).sqrt() / root
    labels = task.unknowns.names
    return {n: sd[:, labels.index(n)] for n in START}, mean


def _mean_conductivity(run, fixed) -> float:
    found = []
    for layer, p, cells in zip(fixed.column.layers, fixed.p, fixed.column.cells_of_layers, strict=True):
        psi = run.psi[..., cells]
        values = {n: torch.as_tensor(v, dtype=psi.dtype, device=psi.device) for n, v in p.items()}
        values = {n: v.unsqueeze(-1) if v.ndim and v.shape[-1:] != psi.shape[-1:] else v for n, v in values.items()}
        found.append(layer.law.conductivity(psi, values).flatten())
    return float(torch.cat(found).mean())


def refuse(found: Gauges) -> None:
    """Refuse to fit curves that data leave open.

    Raises
    ------
    ConfigError
        Where a gauge is free, or hardly known.
    """
    if found.open:
        lines = "\n".join(str(found[n]) for n in found.open)
        raise ConfigError(f"The data leave these families of curves open:\n{lines}")
