"""The soil of a region at points: a law of the column with known or unknown values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import functional_call

from udehydro.errors import ConfigError
from udehydro.richards.laws.base import SoilLaw
from udehydro.richards.pinn.content_law import ContentLaw

Known = Mapping[str, "Tensor | float"]


@dataclass(frozen=True, eq=False)
class Soil:
    """A law and its values, some of which may follow from the unknowns of a search.

    Attributes
    ----------
    law : as in a column, unchanged; or a ContentLaw, whose fields have water contents for heads.
    p : its values by name, numbers; or a function of the unknowns (members, n, Q) that gives them, each (members, n).
    weights : the same for weights of the law by name, each with (members, n, 1) in front.
    """

    law: SoilLaw | ContentLaw
    p: Known | Callable[[Tensor], Known]
    weights: Callable[[Tensor], Mapping[str, Tensor]] | None = None

    def to(self, like: Tensor) -> Soil:
        """With the law on the device of a tensor: a copy where it has to move."""
        own = [] if isinstance(self.law, ContentLaw) else [*self.law.parameters(), *self.law.buffers()]
        if all(t.device == like.device for t in own):
            return self
        return replace(self, law=copy.deepcopy(self.law).to(like.device))

    def at(self, extra: Tensor, psi: Tensor) -> Here:
        """The soil at heads (members, n), for unknowns (members, 1 or n, Q)."""
        return Here(
            self.law,
            self.p(extra) if callable(self.p) else self.p,
            None if self.weights is None else self.weights(extra),
            psi,
        )


@dataclass(frozen=True, eq=False)
class Here:
    """Answers of a soil at some heads, each (members, n)."""

    law: SoilLaw | ContentLaw
    p: Known
    weights: Mapping[str, Tensor] | None
    psi: Tensor

    def theta(self) -> Tensor:
        return self._ask("theta")

    def conductivity(self) -> Tensor:
        return self._ask("conductivity")

    def capacity(self) -> Tensor:
        """d theta / d psi [1/cm], of the law itself, or by differentiation where it has weights."""
        return self._slope("theta") if self.weights is not None else self.law.capacity(self.psi, self.p)

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """What a gradient of the state and what gravity are multiplied by: K both, or D and K where the state is the
        water content."""
        k = self.conductivity()
        return (self._ask("diffusivity"), k) if isinstance(self.law, ContentLaw) else (k, k)

    def conductivity_slope(self) -> tuple[Tensor, Tensor]:
        """Conductivity and its derivative by the head."""
        if isinstance(self.law, ContentLaw):
            raise ConfigError("form='pointwise' is for heads: take form='mixed' where the state is the water content.")
        return self.conductivity(), self._slope("conductivity")

    def _slope(self, name: str) -> Tensor:
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            psi = self.psi if self.psi.requires_grad else self.psi.detach().requires_grad_()
            answer = Here(self.law, self.p, self.weights, psi)._ask(name)
            return torch.autograd.grad(answer.sum(), psi, create_graph=again)[0]

    def _ask(self, name: str) -> Tensor:
        if self.weights is None:
            return getattr(self.law, name)(self.psi, self.p)
        wide = {n: v.unsqueeze(-1) if isinstance(v, Tensor) and v.ndim else v for n, v in self.p.items()}
        ask = _Ask(self.law)
        named = {f"law.{n}": w for n, w in self.weights.items()}
        return functional_call(ask, named, (name, self.psi.unsqueeze(-1), wide)).squeeze(-1)


class _Ask(torch.nn.Module):
    def __init__(self, law: SoilLaw):
        super().__init__()
        self.law = law

    def forward(self, name: str, psi: Tensor, p: Known) -> Tensor:
        return getattr(self.law, name)(psi, p)
