"""check_gauge: what of theta(psi) and K(psi) observations leave open, said before anything is fitted.

theta_t = d/dz [D(theta) theta_z + K(theta)] with D = K dpsi/dtheta holds for other curves, too: with every head moved
by the same shift; with an offset added to K and heads that keep D; in heads, with theta and K multiplied by the same
scale, and with a level added to theta (:class:`~udehydro.richards.laws.Gauged` has these curves). Only what knows
heads, fluxes or contents from elsewhere decides between them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.func import jvp

from udehydro.errors import ConfigError
from udehydro.richards.column.along import follow
from udehydro.richards.column.problem import place
from udehydro.richards.column.result import ColumnRun
from udehydro.richards.column.run import begin, collect, go
from udehydro.richards.inversion.anchors import anchors, names, rows
from udehydro.richards.inversion.facts import levels, parameters
from udehydro.richards.inversion.free import Free
from udehydro.richards.inversion.inversion import Inversion
from udehydro.richards.laws.gauged import Gauged
from udehydro.training.levenberg import covariance_of

WAYS = ("warn", "refuse", "ignore")
"""What may be done about curves that data leave open."""
UNITS = {"shift": " cm", "offset": " cm/d", "scale": "", "level": ""}
START = {"shift": 0.0, "offset": 0.0, "scale": 1.0, "level": 0.0}
WIDEST = {"shift": 1e4, "offset": 1.0, "scale": 3.0, "level": 1.0}
"""Standard deviations before any data: what is free moves no further (of the offset: the mean conductivity)."""
WEAK = {"shift": 5.0, "offset": 0.1, "scale": 0.1, "level": 0.02}
"""Standard deviations from which a gauge counts as hardly known; of the offset as a share of the mean conductivity."""
GIVEN = 1e-4
"""Standard deviation of numbers that are given: of contents, and of conductivities as a share of theirs."""
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
    name : ``shift`` [cm], ``offset`` [cm/d], ``scale`` or ``level`` [1]. ``label`` says of which layer a level is,
        where soils differ; ``layers`` are those that move.
    fixed_by : what decides; empty where nothing does, whatever the noise.
    sd : standard deviation (members,) to which the data of a linearised column know it, unknown states and fluxes being
        unknown, too; infinite where nothing decides.
    limit : (members,) or one for all, from which it counts as hardly known.
    """

    name: str
    label: str
    layers: tuple[int, ...]
    fixed_by: tuple[str, ...]
    sd: Tensor
    limit: Tensor | float
    _laws: tuple = field(repr=False)

    @property
    def free(self) -> bool:
        return not self.fixed_by

    @property
    def weak(self) -> bool:
        """Decided in principle, hardly by these data."""
        return not self.free and bool((self.sd > self.limit).any())

    def direction(self, psi: Tensor, layer: int | None = None) -> tuple[Tensor, Tensor]:
        """Change of theta and of K of a layer, by default the first that moves, at heads ``psi`` per unit of the gauge:
        the null direction, where it is free."""
        layer = self.layers[0] if layer is None else layer
        if layer not in self.layers:
            return torch.zeros_like(psi), torch.zeros_like(psi)
        law, p = self._laws[layer]
        law = Gauged(law)
        at = torch.tensor(START[self.name], dtype=psi.dtype, device=psi.device)

        def curves(value: Tensor) -> tuple[Tensor, Tensor]:
            values = {**p, self.name: value}
            return law.theta(psi, values), law.conductivity(psi, values)

        return jvp(curves, (at,), (torch.ones_like(at),))[1]

    def __str__(self) -> str:
        head = f"{self.label} ({MEANING[self.name]}): "
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

    What decides follows from the column, the kinds of data, the numbers given for limits of curves, and which limits of
    its ends the column meets at x; how well, from the sensitivity of the data to each gauge at x, unknown initial
    states, fluxes and other gauges moving along. Every soil has a level of its own: "level of layer 1".

    Cells of finite size break the symmetry of an offset: where they are coarse its standard deviation is smaller than
    that of the equation, by a half with 12 cells in 30 cm, by a hundredth with 48.

    Parameters
    ----------
    x : (members, P) where to linearise, by default the start.
    """
    x = inversion.unknowns.start if x is None else x
    setting = inversion.at(x)
    laws = tuple((layer.law, p) for layer, p in zip(setting.column.layers, setting.p, strict=True))
    with torch.no_grad():
        run = inversion.run(x)
        mean = _mean_conductivity(inversion, x, run)
        sd = _sensitivity(inversion, x, mean)
    own, found = levels(inversion), {}
    for label, by in anchors(inversion, x, run).items():
        name = label.split()[0]
        limit = WEAK[name] * (mean if name == "offset" else 1.0)
        spread = sd[label] if by else torch.full_like(sd[label], torch.inf)
        layers = tuple(i for i, level in enumerate(own) if name != "level" or level == label)
        found[label] = Gauge(name, label, layers, tuple(by), spread, limit, laws)
    return Gauges(found)


class _WithGauges(Inversion):
    """An inversion of gauges in place of soils: steps are those of the soils, which have the same values."""

    def run_along(self, x: Tensor):
        now = self.at(x)
        plain = replace(now.column, layers=[replace(a, law=a.law.law) for a in now.column.layers])
        soils = [{n: v for n, v in p.items() if n not in START} for p in now.p]
        begun = begin(plain, self.forcing, soils, now.psi0, 0.0, self.tableau)
        found = go(begun, self.tableau, self.steps, True, False)
        run = collect(begun, found.psi, found.mass, found.volume, found)
        start = begin(now.column, self.forcing, now.p, now.psi0, 0.0, self.tableau)
        return run, follow(start, self.tableau, run, found, self.unknowns.along(x))


def _sensitivity(inversion: Inversion, x: Tensor, mean: Tensor) -> dict[str, Tensor]:
    """Standard deviations (members,) of all gauges; that of the offset before any data is the mean conductivity."""
    task, at = _with_gauges(inversion, x)
    with inversion.unknowns.weights_at(x):
        jacobian = task.residuals(task.unknowns.start)[2]
    precision = task.unknowns.precision.clone()
    precision[:, at["offset"]] = mean**-2
    numbers = rows(list(parameters(inversion, inversion.at(x).p)), list(at), len(x)).to(jacobian) / GIVEN
    given = jacobian.new_zeros(*numbers.shape[:2], jacobian.shape[1])
    given[..., list(at.values())] = numbers
    matrix = jacobian @ jacobian.mT + given.mT @ given + torch.diag_embed(precision)
    sd = covariance_of(matrix).diagonal(dim1=-2, dim2=-1).sqrt()
    return {n: sd[:, i] for n, i in at.items()}


def _with_gauges(inversion: Inversion, x: Tensor) -> tuple[_WithGauges, dict[str, int]]:
    """An inversion of the gauges of soils and of all that is free besides soils, and where in it the gauges are."""
    u, own = inversion.unknowns, levels(inversion)
    nuisance = u.keep(x, lambda key: key[0] != "soil")
    lead = tuple(inversion.forcing.batch) if u.apart else ()
    starts = {label: START[label.split()[0]] for label in names(inversion)}
    free = {n: Free(torch.full(lead, v), prior=WIDEST[n.split()[0]]) for n, v in starts.items()}
    layers = [replace(layer, law=Gauged(layer.law)) for layer in inversion.column.layers]
    common = {n: free[n] for n in ("shift", "offset", "scale")}
    p = [{**v, **common, "level": free[level]} for v, level in zip(inversion.at(x).p, own, strict=True)]
    how = {"tableau": inversion.tableau, "steps": inversion.steps}
    column = replace(nuisance.column, layers=layers)
    task = _WithGauges(column, inversion.forcing, p, nuisance.psi0, inversion.observed, **how)
    first = {id(item.free): int(task.unknowns.where[0, item.first]) for item in task.unknowns.items}
    return task, {n: first[id(f)] for n, f in free.items()}


def _mean_conductivity(inversion: Inversion, x: Tensor, run: ColumnRun) -> Tensor:
    """Of all cells and times of a run (members,)."""
    found, now = [], inversion.at(x)
    with inversion.unknowns.weights_at(x):
        for i, (layer, cells) in enumerate(zip(now.column.layers, now.column.cells_of_layers, strict=True)):
            psi = run.psi[..., cells].flatten(1, -2) if run.psi.ndim > 2 else run.psi[:, None, cells]
            own = {n: v for n, v in now.p[i].items() if n in layer.law.ranges}
            values = {n: place(now.column, inversion.forcing, ("soil", i, n), v)[0] for n, v in own.items()}
            found.append(layer.law.conductivity(psi, values))
    mean = torch.cat(found, dim=-1).mean((0, 2))
    return mean if inversion.unknowns.apart else mean.mean().reshape(1)


def heed(inversion: Inversion, gauge: str, x: Tensor | None = None, needed: bool = True) -> None:
    """Before a search: refuse or warn, as ``gauge`` says, of curves that data leave open, where it is ``needed``.
    Warnings point to the caller of what calls this.

    Raises
    ------
    ConfigError
        For another ``gauge`` than :data:`WAYS` has, and where one is open and to be refused.
    """
    if gauge not in WAYS:
        raise ConfigError(f"gauge is 'warn', 'refuse' or 'ignore', got {gauge!r}.")
    if gauge == "ignore" or not needed:
        return
    found = check_gauge(inversion, x)
    if gauge == "refuse":
        refuse(found)
    if found.open:
        warnings.warn(f"The data do not determine the curves:\n{found}", stacklevel=3)


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
