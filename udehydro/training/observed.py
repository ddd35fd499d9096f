"""Observed variables: what a simulation is compared with, one series or several, each with a loss of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import ConfigError, DataError, StructureError
from udehydro.forcing import Forcing
from udehydro.simulation import Simulation
from udehydro.structure import OUTLET, suggest
from udehydro.training.losses import NSE, Loss, PreparedLoss

Observe = Callable[[Simulation], Tensor]


def discharge(simulation: Simulation) -> Tensor:
    """Default observable: discharge (T, *batch), mm/d."""
    return simulation.discharge


@dataclass(frozen=True, eq=False)
class Observed:
    """A measured series of one variable of the model, for :func:`udehydro.training.fit`.

    Parameters
    ----------
    name : ``"discharge"``, a flux, a group of fluxes, or a store.
    values : (T, *batch), NaN where missing, in the unit of the variable; tensor, array or DataArray. Of a store also
        (T + 1, *batch), at all edges of intervals.
    loss : made on the training period; :class:`Correlation` for sensors of unknown gain and offset.
    weight : of this loss in the sum that is lowered.
    at : what the values are of each interval. ``"mean"``: its mean rate, or the mean of the storages at its two ends;
        ``"end"``, ``"start"``: storage there; ``"edge"``: storage at all edges. By default ``"mean"`` for fluxes,
        ``"end"`` for stores with T values and ``"edge"`` for those with T + 1. The first edge belongs to the first
        interval, every other to the interval it ends.

    Raises
    ------
    ConfigError
        For a weight that is not above zero, or an unknown ``at``.
    """

    name: str
    values: Tensor = field(repr=False)
    loss: Loss = NSE()
    weight: float = 1.0
    at: Literal["mean", "end", "start", "edge"] | None = None

    def __post_init__(self):
        if not isinstance(self.values, Tensor):
            object.__setattr__(self, "values", torch.as_tensor(getattr(self.values, "values", self.values)))
        if not 0.0 < self.weight < float("inf"):
            raise ConfigError(f"Observed('{self.name}') needs a finite weight above zero, got {self.weight!r}.")
        if self.at not in (None, *_AT):
            raise ConfigError(f"Observed('{self.name}'): at is one of {', '.join(_AT)}, got {self.at!r}.")


_AT: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda storage: 0.5 * (storage[1:] + storage[:-1]),
    "end": lambda storage: storage[1:],
    "start": lambda storage: storage[:-1],
    "edge": lambda storage: storage,
}


@dataclass
class Target:
    """An observed series bound to a model and a record: what :class:`Objective` compares.

    Attributes
    ----------
    label : name in messages and history.
    values : (T + lead, *batch), NaN where nothing is scored. ``lead`` is 1 where a row precedes the first interval.
    observe : the series of a simulation, of the same shape.
    prepared, valid_score : the loss, made on the training and on the validation period.
    """

    label: str
    values: Tensor
    observe: Observe
    loss: Loss
    weight: float = 1.0
    lead: int = 0
    told: str = ""
    prepared: PreparedLoss | None = None
    valid_score: PreparedLoss | None = None

    def rows(self, part: slice, first: bool = True) -> slice:
        """Rows of some intervals (start, stop); ``first`` says whether rows begin with the whole record."""
        if not self.lead:
            return part
        return slice(part.start + (not (first and part.start == 0)), part.stop + 1)

    def until(self, end: int, warmup: int) -> None:
        """Cut to the first ``end`` intervals, and never score the first ``warmup`` of them."""
        self.values = self.values[: end + self.lead].clone()
        self.values[: warmup + self.lead if warmup else 0] = torch.nan

    def prepare(self, train: slice, valid: slice | None) -> Target:
        """Make the losses; DataError, naming the variable, where a period does not suffice for it."""
        self.prepared = self._made(train, "training")
        self.valid_score = None if valid is None else self._made(valid, "validation")
        return self

    def _made(self, part: slice, period: str) -> PreparedLoss:
        try:
            return self.loss.prepare(self.values[self.rows(part)])
        except DataError as error:
            said = str(error).replace("training period", f"{period} period")
            raise DataError(f"{self.label}: {said}" if self.label else said) from error

    def window(self, part: slice) -> Tensor:
        """Values of some intervals simulated by themselves."""
        return self.values[part.start : part.stop + self.lead]


def targets(
    observed: Tensor | Observed | Sequence[Observed],
    model: Balance,
    forcing: Forcing,
    loss: Loss | None = None,
    observe: Observe = discharge,
) -> list[Target]:
    """What ``fit`` was given as observations, bound to the model. A tensor is compared with ``observe``, by ``loss``.

    Raises
    ------
    ConfigError, DataError, StructureError
        For a mixture of both ways, a wrong number of values, and a name the model does not have.
    """
    if isinstance(observed, Tensor):
        loss = loss or NSE()
        told = f"{getattr(observe, '__qualname__', repr(observe))}, {loss!r}"
        found = [Target("", observed, observe, loss, told=told)]
    else:
        several = (observed,) if isinstance(observed, Observed) else tuple(observed)
        if not several or not all(isinstance(o, Observed) for o in several):
            raise ConfigError(
                "observed is a tensor (T, *batch), or one or several Observed(name, values); got "
                f"{[type(o).__name__ for o in several] or 'nothing'}."
            )
        if loss is not None or observe is not discharge:
            raise ConfigError("Every Observed has a name and a loss of its own: leave out loss= and observe=.")
        found = [_bind(o, model, forcing) for o in several]
        names = [o.name for o in several]
        for i, target in enumerate(found):
            target.label += f" ({i})" if names.count(target.label) > 1 else ""
    for target in found:
        if len(target.values) != len(forcing) + target.lead:
            of = f"'{target.label}'" if target.label else "observed"
            raise DataError(f"{of} has {len(target.values)} intervals, the forcing {len(forcing)}.")
    return found


def _bind(o: Observed, model: Balance, forcing: Forcing) -> Target:
    values = o.values.to(forcing.like)
    if o.name in model.store_names:
        at = o.at or ("edge" if len(values) == len(forcing) + 1 else "end")
        read = _AT[at]
        told = f"{o!r} {at}"
        return Target(
            o.name, values, lambda s: read(s.store(o.name)), o.loss, o.weight, lead=int(at == "edge"), told=told
        )
    known = _fluxes(model)
    if o.name not in known:
        raise StructureError(
            f"Model '{model.structure.name}' has no store, flux or group '{o.name}' to compare with observations."
            f"{suggest(o.name, (*model.store_names, *known))}"
        )
    if o.at not in (None, "mean"):
        raise ConfigError(f"'{o.name}' is a flux, known as a mean over each interval: at='{o.at}' is for stores.")
    read = discharge if o.name == "discharge" and o.name not in model.flux_names else lambda s: s.rate(o.name)
    return Target(o.name, values, read, o.loss, o.weight, told=repr(o))


def _fluxes(model: Balance) -> list[str]:
    """Names of fluxes and groups; discharge among them where something joins the outlet."""
    s = model.structure
    groups = [g for g, members in s.groups.items() if members and g != "discharge"]
    outlet = any(OUTLET in (f.source, f.sink) for f in s.fluxes)
    return list(dict.fromkeys([*model.flux_names, *groups, *(["discharge"] if outlet else [])]))
