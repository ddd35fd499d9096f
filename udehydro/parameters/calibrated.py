"""Calibrated parameters: one free value per parameter and batch element, kept inside its range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from udehydro.errors import StructureError
from udehydro.parameters.transforms import from_unit, to_unit
from udehydro.structure import Range, suggest

INITIAL = Range(0.0, 2000.0, "mm", default=100.0)
"""Search range of initial storages; their influence is mostly gone after the warm-up year."""
EDGE = 1e-4
"""Start values closer to an edge than this share of the range are moved in: the logit is flat and infinite there."""


class Calibrated(nn.Module):
    """Free parameters in logit space, returned in physical units.

    Parameters
    ----------
    ranges : name -> Range, usually ``{n: structure.parameters[n] for n in model.parameter_names}``.
    batch : shape of the batch the values are for, e.g. ``(basins,)`` or ``(members, basins)``.
    start : name -> value(s) to start from; defaults otherwise. Values outside the range are an error.
    fixed : names held at their start value (besides those the ranges declare fixed).
    initial : store -> Range, to calibrate initial storages too; see :meth:`storage0`.

    Raises
    ------
    StructureError
        For an unknown name, a start value that is not finite or outside its range.
    """

    def __init__(
        self,
        ranges: Mapping[str, Range],
        batch: Sequence[int] = (),
        *,
        start: Mapping[str, Tensor | float] | None = None,
        fixed: Sequence[str] = (),
        initial: Mapping[str, Range] | None = None,
    ):
        super().__init__()
        self.ranges = dict(ranges)
        self.initial = dict(initial or {})
        self.batch = tuple(batch)
        for name in (*(start or {}), *fixed):
            if name not in self.ranges and name not in self.initial:
                raise StructureError(f"'{name}' is no parameter here.{suggest(name, (*self.ranges, *self.initial))}")
        start = dict(start or {})
        self.free = nn.ParameterDict()
        for name, range_ in (*self.ranges.items(), *self.initial.items()):
            value = torch.as_tensor(start.get(name, range_.default), dtype=torch.float64)
            try:
                value = value.detach().broadcast_to(self.batch).clone()
            except RuntimeError:
                raise StructureError(
                    f"Start value of '{name}' has shape {tuple(value.shape)}, the batch is {self.batch}."
                ) from None
            if range_.fixed or name in fixed:
                self.register_buffer(f"held_{name}", value)
            else:
                self.free[name] = nn.Parameter(_logit(name, value, range_))

    @classmethod
    def of(cls, model, batch: Sequence[int] = (), **options) -> Calibrated:
        """For the parameters that the installed laws of ``model`` need."""
        declared = model.structure.parameters
        return cls({n: declared[n] for n in model.parameter_names}, batch, **options)

    def forward(self, forcing=None) -> dict[str, Tensor]:
        """Theta in physical units, each of shape ``batch``."""
        return {n: self._value(n, r) for n, r in self.ranges.items()}

    def storage0(self, store_names: Sequence[str]) -> Tensor | None:
        """Calibrated initial storages (*batch, S) in mm, or None when none are calibrated."""
        if not self.initial:
            return None
        missing = [n for n in store_names if n not in self.initial]
        if missing:
            raise StructureError(f"Initial storage of {missing} has no range; give one for every store.")
        return torch.stack([self._value(n, self.initial[n]) for n in store_names], dim=-1)

    def _value(self, name: str, range_: Range) -> Tensor:
        if name in self.free:
            return from_unit(torch.sigmoid(self.free[name]), range_)
        return getattr(self, f"held_{name}")

    @torch.no_grad()
    def scatter(
        self, generator: torch.Generator, keep_first: bool = True, *, margin: float = 0.05, alike: int = 1
    ) -> None:
        """Spread members over their ranges, uniformly but for a share ``margin`` at both ends.

        ``alike`` members in a row (the basins of one start) get the same values; the first of these rows keeps its own.
        """
        for raw in self.free.values():
            shape = (raw.shape[0] // alike, *raw.shape[1:]) if raw.ndim else ()
            u = torch.rand(shape, generator=generator, dtype=raw.dtype, device=generator.device)
            drawn = torch.logit(margin + (1.0 - 2.0 * margin) * u).to(raw.device)
            if raw.ndim:
                drawn = drawn.repeat_interleave(alike, 0)
            raw.copy_(torch.cat([raw[:alike], drawn[alike:]]) if keep_first and raw.ndim else drawn)


def _logit(name: str, value: Tensor, range_: Range) -> Tensor:
    share = to_unit(value, range_)
    if not bool(((share >= -1e-12) & (share <= 1.0 + 1e-12)).all()):
        raise StructureError(
            f"Start value {value.tolist()} of '{name}' is outside its range [{range_.low}, {range_.high}] "
            f"{range_.unit}: start inside, or widen the range."
        )
    return torch.logit(share.clamp(EDGE, 1.0 - EDGE))
