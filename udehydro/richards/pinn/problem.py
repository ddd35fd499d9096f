"""What is to be solved: regions of soil, what holds at their walls, what was measured, and the system of it all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.func import hessian, jacfwd, vmap

from udehydro.errors import ConfigError
from udehydro.richards.pinn import points, residuals, volumes
from udehydro.richards.pinn.checks import check_box, check_places, check_soils, check_stack
from udehydro.richards.pinn.clock import Clock
from udehydro.richards.pinn.field import Ansatz, Box, Features, Field, Profile, product, start_gate, wall_gate
from udehydro.richards.pinn.jets import Jet
from udehydro.richards.pinn.network import Network
from udehydro.richards.pinn.residuals import Data
from udehydro.richards.pinn.soil import Soil
from udehydro.richards.pinn.system import Extra, System, Term
from udehydro.structure import suggest

FORMS = {"mixed": residuals.mixed, "pointwise": residuals.pointwise, "volume": volumes.volume}
KINDS = ("flux", "head", "drainage", "kept")


@dataclass(frozen=True, eq=False)
class Region:
    """One soil in a box.

    Attributes
    ----------
    box : where, time first [d], the vertical last [cm].
    soil : of it.
    psi0 : head [cm] at the start: a :class:`Profile`, or a function of places (n, D - 1), differentiable twice. It then
        holds exactly. None where it is not known.
    events : times [d] within the box at which a boundary jumps, the start often among them.
    crowd : walls toward which points crowd, as in :func:`~udehydro.richards.pinn.points.inside`.
    sink : water taken up [1/d] at points (n, D).
    ansatz : a form of the head instead of what ``psi0`` and kept walls make it; it has to keep these itself.

    Raises
    ------
    ConfigError
        For a box that ends before it begins.
    """

    box: Box
    soil: Soil
    psi0: Profile | Callable[[Tensor], Tensor] | None = None
    events: tuple[float, ...] = ()
    crowd: tuple[int, ...] = ()
    sink: Callable[[Tensor], Tensor] | None = None
    ansatz: Ansatz | None = None

    def __post_init__(self):
        check_box(self.box)

    def clock(self, early: float) -> Clock:
        return Clock(self.box.low[0], self.box.high[0], self.events, early)


@dataclass(frozen=True, eq=False)
class Wall:
    """What holds at a wall of a region.

    Attributes
    ----------
    kind : ``"flux"`` [cm/d, along the axis, upward positive], ``"head"`` [cm], ``"drainage"`` (free), or ``"kept"``:
        the head stays what it is at the start, exactly.
    value : of points (n, D), or a number.
    axis, upper : which wall: the coordinate, and whether it is at the upper end.
    region : whose.
    """

    kind: str
    value: Callable[[Tensor], Tensor] | float = 0.0
    axis: int = -1
    upper: bool = True
    region: int = 0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ConfigError(f"A wall is {', '.join(KINDS)}; not '{self.kind}'.")

    def __call__(self, at: Tensor) -> Tensor:
        return self.value(at) if callable(self.value) else at.new_full((len(at),), float(self.value))

    def place(self, box: Box) -> tuple[int, float]:
        """Its coordinate, and where it is along it."""
        axis = self.axis % len(box.low)
        return axis, (box.high if self.upper else box.low)[axis]


@dataclass(frozen=True)
class Counts:
    """Points of a stage: inside each region, on each wall and face, and until which share of the clock."""

    inside: int = 3000
    wall: int = 400
    until: float = 1.0


@dataclass(frozen=True)
class Weights:
    """Of mean squares of residuals in units of the scales. ``physics`` multiplies all that is not data."""

    flux: float = 9.0
    head: float = 9.0
    face: float = 9.0
    physics: float = 1.0


@dataclass(frozen=True, eq=False)
class Problem:
    """Regions, walls, data, and scales.

    Regions that touch are joined: above each other heads and fluxes agree, one after the other heads do. Edges touch
    where they are the same number.

    Attributes
    ----------
    regions, walls, data : what there is.
    flux, head : scales of fluxes [cm/d] and heads [cm].
    form : ``"mixed"``, with fluxes as outputs of the networks; ``"pointwise"``, from heads alone; or ``"volume"``, from
        heads alone, over control volumes (one dimension).
    stretch : whether heads are the hyperbolic sine of the network's output (:class:`Field`).
    early : how much finer time is right after jumps (:class:`Clock`).
    weights : of the residuals.
    flux_floor : share of the scale above which fluxes obey Darcy's law to a share of themselves, so that dry soil
        counts as wet soil does, 0.1 say; None for all to a share of the scale. Of the form ``"mixed"``.

    Raises
    ------
    ConfigError
        For an unknown form, scales that are not above zero, walls and data of a region that is not there, regions above
        each other that do not touch, and plain values of soils that a column would refuse.
    """

    regions: Sequence[Region]
    walls: Sequence[Wall]
    flux: float
    head: float
    data: Sequence[Data] = ()
    form: str = "mixed"
    stretch: bool = False
    early: float = 0.0
    weights: Weights = field(default_factory=Weights)
    flux_floor: float | None = None

    def __post_init__(self):
        if self.flux_floor is not None and (self.form != "mixed" or not self.flux_floor > 0.0):
            raise ConfigError(f"flux_floor={self.flux_floor} is above zero, and of form='mixed': fluxes as outputs.")
        if self.form not in FORMS:
            raise ConfigError(f"form is {', '.join(FORMS)}; not '{self.form}'.{suggest(self.form, FORMS)}")
        for name, unit in (("flux", "cm/d"), ("head", "cm")):
            if not 0.0 < (scale := getattr(self, name)) < math.inf:
                raise ConfigError(f"{name}={scale} is a scale [{unit}]: a usual size, above zero.")
        check_places({"wall": self.walls, "data": self.data}, len(self.regions))
        check_stack([r.box for r in self.regions])
        check_soils([r.soil for r in self.regions])

    def fields(
        self, seeds: Sequence[int], width: int = 14, depth: int = 3, device: torch.device | str = "cpu"
    ) -> list[Field]:
        """One field for each region, not trained, each with a network for every seed."""
        found = []
        for i, region in enumerate(self.regions):
            features = Features(region.box, region.clock(self.early))
            outputs = 1 + region.box.vertical * (self.form == "mixed")
            network = Network(features.count, outputs, width=width, depth=depth, seeds=[s + 7919 * i for s in seeds])
            known = gate = join = None
            if region.ansatz is not None:
                known, gate, join = region.ansatz.known, region.ansatz.gate, region.ansatz.join
            elif region.psi0 is not None:
                known, gate = self._known(region), self._gate(i)
            else:
                # unsaturated everywhere: where soil is saturated contents do not tell which way to go
                network.biases[-1].data[:, 0] = -math.asinh(1.0) if self.stretch else -1.0
            network = network.to(device)
            found.append(Field(network, features, self.head, self.stretch, self.flux, known, gate, join))
        return found

    def system(
        self, fields: Sequence[Field], seed: int = 0, counts: Counts | None = None, extra: Extra | None = None
    ) -> System:
        """All residuals at points of a seed, on the device of the fields."""
        like = fields[0].network.matrices[0]
        here = replace(self, regions=[replace(r, soil=r.soil.to(like)) for r in self.regions])
        return System(fields, here._terms(seed, counts or Counts(), like), extra)

    def _terms(self, seed: int, counts: Counts, like: Tensor) -> list[Term]:
        terms = []
        for i, r in enumerate(self.regions):
            at = points.inside(r.box, r.clock(self.early), counts.inside, seed + 31 * i, r.crowd, counts.until).to(like)
            name = "balance" if len(self.regions) == 1 else f"balance {i}"
            more = {} if self.flux_floor is None else {"floor": self.flux_floor}
            balance, clock, w = FORMS[self.form], r.clock(self.early), self.weights.physics
            terms.append(balance(name, at, r.box, i, r.soil, self.flux, clock, w, r.sink, **more))
        terms += [self._wall(w, seed + 1000 + n, counts, like) for n, w in enumerate(self.walls) if w.kind != "kept"]
        terms += self._faces(seed + 2000, counts, like)
        return terms + [self._data(d.to(like)) for d in self.data]

    def _wall(self, wall: Wall, seed: int, counts: Counts, like: Tensor) -> Term:
        region, i = self.regions[wall.region], wall.region
        box, (axis, place) = region.box, wall.place(region.box)
        at = points.on_wall(box, region.clock(self.early), axis, place, counts.wall, seed, counts.until)
        at = at.to(like)
        name, w = f"{wall.kind} at {'xyz'[axis - len(box.low)]}={place + 0.0:g}", self.weights  # -0.0 reads 0
        if wall.kind == "flux":
            return residuals.flux_through(name, at, box, i, region.soil, self.flux, wall, w.flux * w.physics, axis)
        if wall.kind == "head":
            return residuals.head_at(name, at, i, self.head, wall, w.head * w.physics)
        return residuals.free_drainage(name, at, box, i, 1.0, w.head * w.physics)

    def _faces(self, seed: int, counts: Counts, like: Tensor) -> list[Term]:
        """Where regions touch: above one another, or one after the other."""
        found, w = [], self.weights.face * self.weights.physics
        for i, one in enumerate(self.regions):
            for j, other in enumerate(self.regions):
                axis = _touch(one.box, other.box)
                if axis is None:
                    continue
                clock = one.clock(self.early)
                at = points.on_wall(one.box, clock, axis, one.box.high[axis], counts.wall, seed + i, counts.until)
                at = at.to(like)
                if axis == 0:
                    found.append(residuals.same_head(f"from {i} to {j}", at, (i, j), self.head, w))
                else:
                    soils = (one.soil, other.soil)
                    found.append(
                        residuals.interface(f"face of {i} and {j}", at, one.box, (i, j), soils, self.head, self.flux, w)
                    )
        return found

    def _data(self, data: Data) -> Term:
        soil, box = self.regions[data.region].soil, self.regions[data.region].box
        name = data.kind if len(self.regions) == 1 else f"{data.kind} in {data.region}"
        return residuals.measured(name, data, box, soil)

    def _known(self, region: Region):
        """u at the start, as jets, for all times."""
        profile = region.psi0 if isinstance(region.psi0, Profile) else _of_places(region.psi0)

        def known(now: Sequence[Jet]) -> Jet:
            jet = profile(now) * (1.0 / self.head)
            if not self.stretch:
                return jet
            root = torch.sqrt(1.0 + jet.value**2)
            return jet.through(torch.asinh(jet.value), 1.0 / root, -jet.value / root**3)

        return known

    def _gate(self, i: int):
        box = self.regions[i].box
        gates = [start_gate(self.regions[i].clock(self.early))]
        for wall in self.walls:
            if wall.kind == "kept" and wall.region == i:
                axis, place = wall.place(box)
                gates.append(wall_gate(axis, place, box.sides[axis]))
        return product(*gates)


def _touch(one: Box, other: Box) -> int | None:
    """The axis, time or the vertical, along which a box goes on from where one ends."""
    for axis in (0, one.vertical):
        rest = [k for k in range(len(one.low)) if k != axis]
        same = all(one.low[k] == other.low[k] and one.high[k] == other.high[k] for k in rest)
        if same and one.high[axis] == other.low[axis]:
            return axis
    return None


def _of_places(psi0: Callable[[Tensor], Tensor]) -> Callable[[Sequence[Jet]], Jet]:
    """Jets of a function of places (n, D - 1)."""

    def one(x: Tensor) -> Tensor:
        return psi0(x.unsqueeze(0))[0]

    def known(now: Sequence[Jet]) -> Jet:
        orders = now[0].orders
        places = torch.stack([j.value for j in now[1:]], dim=-1)
        slope, bend = vmap(jacfwd(one))(places), vmap(hessian(one))(places)
        zero = torch.zeros_like(slope[:, 0])
        first = [zero if i == 0 else slope[:, i - 1] for i in orders.first]
        second = [zero if i == 0 else bend[:, i - 1, i - 1] for i in orders.second]
        return Jet(torch.stack([psi0(places), *first, *second]), orders)

    return known
