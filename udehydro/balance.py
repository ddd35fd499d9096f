"""Balance: a structure with its laws. It owns law weights and nothing else; dS/dt = rates @ incidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from udehydro.errors import StructureError
from udehydro.structure import FORMULA, SOURCE, STEP, Bound, Law, Quantity, Structure, reads, suggest


class _Step(NamedTuple):
    """One law call: the slots it reads (``None`` for an absent source store), the slots it fills."""

    law: Law
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]


class Exceeded(NamedTuple):
    """A bound that does not hold: where (``mask``, the shape of parameters and step), and how badly at worst.

    ``substeps``: fewest equal parts of the step with which it holds everywhere, ``None`` where there are none.
    """

    bound: Bound
    worst: float
    mask: Tensor
    substeps: int | None


class Balance(nn.Module):
    """A water balance: ``structure`` with some laws swapped for others.

    Parameters
    ----------
    structure : Structure
    **laws : law by name of a flux, quantity or group of fluxes; see :meth:`Structure.replace`.

    Attributes
    ----------
    store_names, forcing_names, parameter_names, flux_names : tuples of str
        What the installed laws need, in the order the hot entry :meth:`fluxes` takes and returns them. A parameter
        that no installed law reads is not required.
    incidence : Tensor (F, S)
        +1 where a flux enters a store, -1 where it leaves one.

    Examples
    --------
    >>> from udehydro import Balance, NeuralLaw
    >>> from udehydro.models import exphydro
    >>> hybrid = Balance(exphydro, et=NeuralLaw("soil", "temp"))
    """

    def __init__(self, structure: Structure, **laws: Law):
        super().__init__()
        self.structure = structure.replace(**laws)
        s = self.structure
        self.laws = nn.ModuleDict({i.name: i.law for i in (*s.quantities, *s.fluxes) if isinstance(i.law, nn.Module)})
        self.store_names = tuple(s.stores)
        self.flux_names = tuple(f.name for f in s.fluxes)
        self._quantities = _read_by_others(s)
        used = {n for i in (*self._quantities, *s.fluxes) for n in _everything_read(i)}
        used |= {n for b in s.bounds for n in reads(b.law)} - {STEP}
        self.forcing_names = tuple(n for n in s.forcings if n in used)
        self.parameter_names = tuple(n for n in s.parameters if n in used)
        self._compile()
        index = {n: i for i, n in enumerate(self.store_names)}
        self.moves = tuple((index.get(f.source), index.get(f.sink)) for f in s.fluxes)
        incidence = torch.zeros(len(s.fluxes), len(s.stores), dtype=torch.float64, device="cpu")
        for row, (source, sink) in enumerate(self.moves):
            if source is not None:
                incidence[row, source] -= 1
            if sink is not None:
                incidence[row, sink] += 1
        self.register_buffer("incidence", incidence, persistent=False)

    def extra_repr(self) -> str:
        return f"{self.structure.name}: {', '.join(self.store_names)}; {', '.join(self.flux_names)}"

    def _compile(self) -> None:
        """Bind names to slots once: no name is looked up, and nothing inspected, while solving."""
        s = self.structure
        slots: dict[str, int] = {}
        for name in (*self.store_names, *self.forcing_names, *self.parameter_names):
            slots[name] = len(slots)
        moving = set(self.store_names)
        driven, state = [], []
        # slots of driven terms come right behind the parameters, so that they can travel as extra forcings
        for item, outputs in [(q, q.outputs) for q in self._quantities] + [(f, (f.name,)) for f in s.fluxes]:
            depends = bool(moving & _everything_read(item))
            (state if depends else driven).append((item, outputs))
            if depends:
                moving.update(outputs)
        self._driven = tuple(step for item, outputs in driven for step in _bind(item, outputs, slots))
        self._first = len(self.store_names), len(self.forcing_names), len(self.parameter_names)
        self.driven_count = len(slots) - sum(self._first)
        first = sum(self._first[:2])
        read = {i for _, inputs, _ in self._driven for i in inputs if i is not None}
        self.driven_parameters = tuple(i for i in range(self._first[2]) if first + i in read)
        self._steps = tuple(step for item, outputs in state for step in _bind(item, outputs, slots))
        self._slot_count, self._slots = len(slots), slots
        self._flux_slots = tuple(slots[f] for f in self.flux_names)
        self.dependence = _dependence(s, self.store_names)

    def prepare(self, forcing: Sequence[Tensor], theta: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Forcings with the terms appended that no store influences, evaluated for all times at once.

        ``forcing`` has shapes (T, ...), in the order of :attr:`forcing_names`; the result is what :meth:`fluxes` takes.
        """
        values = self._filled((), forcing, theta)
        _run(self._driven, values)
        start = sum(self._first)
        return (*forcing, *values[start : start + self.driven_count])

    def fluxes(
        self, stores: Sequence[Tensor], forcing: Sequence[Tensor], theta: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Rates of all fluxes [mm/d]; elementwise over any common shape. The hot entry.

        Parameters
        ----------
        stores : storages [mm] in the order of :attr:`store_names`.
        forcing : result of :meth:`prepare` at the same points.
        theta : parameters in the order of :attr:`parameter_names`.
        """
        values = self._evaluate(stores, forcing, theta)
        return tuple(values[i] for i in self._flux_slots)

    def named(self, stores: Sequence[Tensor], forcing: Sequence[Tensor], theta: Sequence[Tensor]) -> dict[str, Tensor]:
        """Everything by name at the same points: stores, forcings, parameters, quantities, fluxes and their groups."""
        values = self._evaluate(stores, forcing, theta)
        named = {name: values[i] for name, i in self._slots.items() if FORMULA not in name}
        for group, members in self.structure.groups.items():
            named[group] = sum(named[m] for m in members)
        return named

    def _evaluate(self, stores: Sequence[Tensor], forcing: Sequence[Tensor], theta: Sequence[Tensor]) -> list:
        values = self._filled(stores, forcing, theta)
        _run(self._steps, values)
        return values

    def _filled(self, stores: Sequence[Tensor], forcing: Sequence[Tensor], theta: Sequence[Tensor]) -> list:
        """Slots with what is given put in: stores, forcings, parameters, driven terms where ``forcing`` has them."""
        values = [None] * self._slot_count
        n, given, parameters = self._first
        values[: len(stores)] = stores
        values[n : n + given] = forcing[:given]
        values[n + given : n + given + parameters] = theta
        start = n + given + parameters
        values[start : start + len(forcing) - given] = forcing[given:]
        return values

    def tendency(self, rates: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Net inflow of every store: ``rates @ incidence`` without building a matrix."""
        total: list[Tensor | None] = [None] * len(self.store_names)
        for rate, (source, sink) in zip(rates, self.moves, strict=True):
            if source is not None:
                total[source] = -rate if total[source] is None else total[source] - rate
            if sink is not None:
                total[sink] = rate if total[sink] is None else total[sink] + rate
        return tuple(total)

    @torch.no_grad()
    def exceeded(self, theta: Sequence[Tensor], h: Tensor | float) -> list[Exceeded]:
        """Bounds of the structure that do not hold, so that an implicit step may have several solutions or none.

        Parameters
        ----------
        theta : parameters in the order of :attr:`parameter_names`, static or varying in time.
        h : effective step [d], the length of a step times the diagonal entry of the tableau (1 for backward Euler); a
            number, or a tensor that broadcasts with theta, such as (T, 1) for T intervals.
        """
        values = dict(zip(self.parameter_names, theta, strict=True))
        h = torch.as_tensor(h, dtype=torch.float64)
        found = []
        for bound in self.structure.bounds:
            value = torch.as_tensor(bound(values, h))
            mask = ~(value < 1.0)  # catches a value that is not a number, too
            if not value.is_meta and bool(mask.any()):
                found.append(Exceeded(bound, value.max().item(), mask, bound.substeps(values, h)))
        return found

    def theta(self, given: dict[str, Tensor | float] | None, like: Tensor) -> tuple[Tensor, ...]:
        """Parameters as a tuple, declared defaults where ``given`` is None.

        Raises
        ------
        StructureError
            For a name the structure does not declare, or a required name that is missing.
        """
        declared = self.structure.parameters
        if given is None:
            given = {n: declared[n].default for n in self.parameter_names}
        for name in given:
            if name not in declared:
                raise StructureError(
                    f"Model '{self.structure.name}' has no parameter '{name}'.{suggest(name, declared)}"
                )
        missing = [n for n in self.parameter_names if n not in given and not declared[n].fixed]
        if missing:
            raise StructureError(
                f"Parameter(s) {', '.join(missing)} are missing; required: {', '.join(self.parameter_names)}. "
                "Pass theta=None for declared defaults."
            )
        values = (given.get(n, declared[n].default) for n in self.parameter_names)
        return tuple(torch.as_tensor(v, dtype=like.dtype, device=like.device) for v in values)

    def theta_units(self) -> dict[str, str]:
        """Unit of every parameter the installed laws need."""
        return {n: self.structure.parameters[n].unit for n in self.parameter_names}


def _run(steps: Sequence[_Step], values: list) -> None:
    for law, inputs, outputs in steps:
        result = law(*(None if i is None else values[i] for i in inputs))
        if len(outputs) == 1:
            values[outputs[0]] = result
        else:
            for slot, value in zip(outputs, result, strict=True):
                values[slot] = value


def _everything_read(item) -> set[str]:
    names = set(reads(item.law))
    if FORMULA in names:
        names |= set(reads(item.formula))
    if SOURCE in names and getattr(item, "source", None) is not None:
        names.add(item.source)
    return names - {SOURCE, FORMULA}


def _read_by_others(s: Structure) -> tuple[Quantity, ...]:
    """Quantities that some flux needs, in order: one that only a swapped-out law read is not evaluated any more."""
    needed = set().union(*(_everything_read(f) for f in s.fluxes))
    kept = []
    for q in reversed(s.quantities):
        if needed & set(q.outputs):
            needed |= _everything_read(q)
            kept.append(q)
    return tuple(reversed(kept))


def _bind(item, outputs: tuple[str, ...], slots: dict[str, int]) -> list[_Step]:
    """The call of an item's law, preceded by that of the formula it replaces where it reads that."""
    steps = []
    names = reads(item.law)
    local = {SOURCE: slots.get(getattr(item, "source", None))}
    if FORMULA in names:
        if isinstance(item.formula, nn.Module) or {SOURCE, FORMULA} & set(reads(item.formula)):
            raise StructureError(
                f"The law given for '{item.name}' asks for the formula it replaces, which is itself a law put in its "
                "place (a network): start from the structure with the plain formula."
            )
        local[FORMULA] = slots[f"{item.name}{FORMULA}"] = len(slots)
        steps.append(_Step(item.formula, tuple(slots[n] for n in reads(item.formula)), (local[FORMULA],)))
    for output in outputs:
        slots[output] = len(slots)
    inputs = tuple(local[n] if n in local else slots[n] for n in names)
    steps.append(_Step(item.law, inputs, tuple(slots[o] for o in outputs)))
    return steps


def _dependence(s: Structure, stores: tuple[str, ...]) -> tuple[tuple[bool, ...], ...]:
    """Sparsity of the Jacobian: [i][j] is True where the tendency of store i may depend on store j."""
    sees: dict[str, set[str]] = {n: {n} for n in stores}
    for item, outputs in [(q, q.outputs) for q in s.quantities] + [(f, (f.name,)) for f in s.fluxes]:
        seen = set().union(*(sees.get(n, set()) for n in _everything_read(item)))
        for output in outputs:
            sees[output] = seen
    rows = []
    for store in stores:
        touching = set().union(*(sees[f.name] for f in s.fluxes if store in (f.source, f.sink)))
        rows.append(tuple(other in touching for other in stores))
    return tuple(rows)
