"""A small network whose weights are parameters of the model, like the constants of a formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from udehydro.errors import StructureError
from udehydro.laws.neural import Multiplier, Output, _limited
from udehydro.structure import SOURCE, Range

ACTIVATIONS = {"tanh": torch.tanh, "gaussian": lambda x: torch.exp(-x * x)}


@dataclass(frozen=True)
class Signed:
    """Rate of either sign: ``scale * g``, in the unit of the flux; for fluxes declared ``signed``."""

    scale: float = 1.0
    limited = False
    reads = ()

    def __call__(self, g: Tensor) -> Tensor:
        return self.scale * g

    def inverse(self, rate: Tensor) -> Tensor:
        """Latent value that gives ``rate``."""
        return rate / self.scale


class SmallNetwork:
    """A fully connected network with its weights in theta: calibrated, and with a member axis, like any parameter.

    It is made of scalar operations, so every driver runs it on any batch, the compiled one included. For a handful of
    units: the work grows with every weight, where :class:`NeuralLaw` multiplies matrices, and so does the time that
    compiling takes (2-5-5-5-2: a minute or two).

    Parameters
    ----------
    *inputs : names of what the network sees: stores, forcings, quantities, parameters, earlier fluxes.
    name : prefix of its parameters: ``{name}_w0_1_2`` is the weight of layer 0 from input 1 to unit 2, ``{name}_b0_2``
        the bias of that unit.
    outputs : none for the law of one flux or quantity. Several names make it a quantity that other laws read: install
        it under a new name.
    hidden : widths of the hidden layers.
    activation : ``"tanh"``, or ``"gaussian"``: exp(-x^2) (Rackauckas et al. 2020).
    output : frame of every output as in :class:`NeuralLaw`, or None (:class:`Signed`): linear.
    scale : per input (centre, spread), 0 and 1 where not given; inputs are standardised with them.
    tau : time constant [d] of the limiter that closes the flux as its source store empties, as in :class:`NeuralLaw`;
        by default 1 d for frames above zero in the law of one flux.
    limit : range of weights and biases, [-limit, limit].

    Attributes
    ----------
    constants : name -> Range of the weights, which join the parameters of a structure with the law. All default to 0.

    Raises
    ------
    StructureError
        For a name, shape, scale or frame that makes no network.
    """

    def __init__(
        self,
        *inputs: str,
        name: str,
        outputs: Sequence[str] = (),
        hidden: Sequence[int] = (5, 5, 5),
        activation: Literal["tanh", "gaussian"] = "tanh",
        output: Output | Signed | None = None,
        scale: Mapping[str, tuple[float, float]] | None = None,
        tau: float | None | str = "auto",
        limit: float = 50.0,
    ):
        self.inputs, self.name, self.activation = tuple(inputs), name, activation
        self.output = output or Signed()
        self.sizes = (len(inputs), *hidden, max(1, len(outputs)))
        if tau == "auto":
            tau = 1.0 if self.output.limited and not outputs else None
        self.tau = tau
        self.scale = {n: tuple(float(v) for v in pair) for n, pair in (scale or {}).items()}
        _check(self, outputs)
        if outputs:  # a law of one flux must not have this attribute: it takes the name of what it replaces
            self.outputs = tuple(outputs)
        self._weights = tuple(_layer(name, k, a, b) for k, (a, b) in enumerate(pairwise(self.sizes)))
        self.constants = {
            n: Range(-limit, limit, "1", default=0.0) for rows in self._weights for row in rows for n in row
        }
        late = (SOURCE,) if self.tau else ()
        self.reads = (*self.inputs, *self.output.reads, *late, *self.constants)

    def __repr__(self) -> str:
        names = f"{', '.join(self.inputs)} -> {', '.join(getattr(self, 'outputs', (self.name,)))}"
        shape = f"sizes={self.sizes}, activation={self.activation!r}, output={self.output}"
        return f"SmallNetwork({names}, {shape}, scale={self.scale}, tau={self.tau})"

    def __call__(self, *values: Tensor | None) -> Tensor | tuple[Tensor, ...]:
        count, framed = len(self.inputs), len(self.output.reads)
        given = values[count : count + framed]
        latent = self._latent(values[:count], iter(values[len(values) - len(self.constants) :]))
        rates = tuple(self.output(g, *given) for g in latent)
        if hasattr(self, "outputs"):
            return rates
        return rates[0] if self.tau is None else _limited(rates[0], values[count + framed], self.tau)

    def _latent(self, inputs: Sequence[Tensor], weights) -> list[Tensor]:
        """Network outputs; ``weights`` come in the order of ``constants``: unit by unit its bias, then its weights."""
        activate, layer = ACTIVATIONS[self.activation], []
        for name, value in zip(self.inputs, inputs, strict=True):
            centre, spread = self.scale.get(name, (0.0, 1.0))
            layer.append(value if (centre, spread) == (0.0, 1.0) else (value - centre) / spread)
        for number, units in enumerate(self._weights):
            if number:
                layer = [activate(x) for x in layer]
            above = []
            for _ in units:
                total = next(weights)
                for x in layer:
                    total = total + next(weights) * x
                above.append(total)
            layer = above
        return layer

    def initial(self, generator: torch.Generator, members: int) -> dict[str, Tensor]:
        """Start values (members, 1) by name: weights Glorot uniform, biases zero.

        Of a :class:`Multiplier` the last layer is zero, too: it starts as the formula exactly.
        """
        values = {}
        for number, units in enumerate(self._weights):
            bound = (6.0 / (self.sizes[number] + self.sizes[number + 1])) ** 0.5
            last = number == len(self._weights) - 1 and isinstance(self.output, Multiplier)
            for bias, *names in units:
                drawn = torch.rand(members, len(names), generator=generator, dtype=torch.float64) * 2.0 - 1.0
                values[bias] = torch.zeros(members, 1, dtype=torch.float64)
                columns = (bound * (0.0 if last else 1.0) * drawn).unbind(1)
                values |= {n: c.unsqueeze(1) for n, c in zip(names, columns, strict=True)}
        return values


def _layer(name: str, number: int, below: int, units: int) -> tuple[tuple[str, ...], ...]:
    """Per unit the name of its bias, then those of its weights."""
    return tuple((f"{name}_b{number}_{j}", *(f"{name}_w{number}_{i}_{j}" for i in range(below))) for j in range(units))


def _check(law: SmallNetwork, outputs: Sequence[str]) -> None:
    if not law.inputs or not str(law.name).isidentifier():
        raise StructureError(
            f"A small network needs inputs and a name, e.g. SmallNetwork('soil', 'temp', name='et'); got {law.inputs} "
            f"and {law.name!r}."
        )
    if isinstance(outputs, str) or len(outputs) == 1:
        raise StructureError(
            f"SmallNetwork(outputs={outputs!r}): give several names, or none for the law of one flux or quantity."
        )
    if not all(isinstance(n, int) and n > 0 for n in law.sizes):
        raise StructureError(f"hidden={law.sizes[1:-1]}: widths of hidden layers are whole numbers above zero.")
    if law.activation not in ACTIVATIONS:
        raise StructureError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {law.activation!r}.")
    if unknown := set(law.scale) - set(law.inputs):
        raise StructureError(f"Scales for {sorted(unknown)}, which '{law.name}' does not read: {law.inputs}.")
    if wrong := [n for n, pair in law.scale.items() if len(pair) != 2 or not pair[1] > 0.0]:
        raise StructureError(f"The scale of {wrong} must be (centre, spread) with a spread above zero.")
    if outputs and (isinstance(law.output, Multiplier) or law.tau is not None):
        raise StructureError(
            f"'{law.name}' has several outputs, which replace no formula and leave no store: no Multiplier and no tau. "
            "Frame them in the laws that read them (Head)."
        )
