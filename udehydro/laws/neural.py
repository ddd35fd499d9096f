"""Neural laws: a small network inside a physical frame (sign, bound, empty-store limiter, stored input scales)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from udehydro.errors import StructureError
from udehydro.laws import linearised
from udehydro.laws.smooth import limiter
from udehydro.structure import FORMULA, SOURCE


@dataclass(frozen=True)
class Positive:
    """Rate above zero: ``scale * softplus(g)`` [mm/d], times a named quantity where one is given (``of="dayl"``)."""

    scale: float = 1.0
    of: str | None = None
    limited = True

    @property
    def reads(self) -> tuple[str, ...]:
        return () if self.of is None else (self.of,)

    def __call__(self, g: Tensor, *of: Tensor) -> Tensor:
        value = self.scale * functional.softplus(g)
        return value * of[0] if of else value

    def inverse(self, rate: Tensor, *of: Tensor) -> Tensor:
        """Latent value that gives ``rate`` (for teacher fits); softplus inverse, floored at a thousandth."""
        y = (rate / (self.scale * (of[0] if of else 1.0))).clamp_min(1e-3)
        return y + torch.log(-torch.expm1(-y))


@dataclass(frozen=True)
class Fraction:
    """Share in (0, 1): ``sigmoid(g)``, times the named quantity it is a share of (``of="pet"``)."""

    of: str | None = None
    limited = True

    @property
    def reads(self) -> tuple[str, ...]:
        return () if self.of is None else (self.of,)

    def __call__(self, g: Tensor, *of: Tensor) -> Tensor:
        share = torch.sigmoid(g)
        return share * of[0] if of else share

    def inverse(self, rate: Tensor, *of: Tensor) -> Tensor:
        """Latent value that gives ``rate``, with the share kept within [0.001, 0.999]."""
        share = rate / of[0].clamp_min(1e-6) if of else rate
        return torch.logit(share.clamp(1e-3, 1.0 - 1e-3))


@dataclass(frozen=True)
class Multiplier:
    """The replaced formula times a factor: ``formula * exp(log(limit) * tanh(g))``; the formula itself at g = 0.

    The factor stays within [1/limit, limit]; it vanishes with its store where the formula does, so no further
    limiter is applied.
    """

    limit: float = 5.0
    limited = False
    reads = (FORMULA,)

    def __post_init__(self):
        if not self.limit > 1.0:
            raise StructureError(f"Multiplier(limit={self.limit}) must exceed 1.")

    def __call__(self, g: Tensor, formula: Tensor) -> Tensor:
        log_limit = torch.log(torch.full_like(g, self.limit))
        return formula * torch.exp(log_limit * torch.tanh(g))

    def inverse(self, rate: Tensor, formula: Tensor) -> Tensor:
        """Latent value that gives ``rate``, within 99.9 % of the limits."""
        ratio = torch.log(rate.clamp_min(1e-9) / formula.clamp_min(1e-9))
        bound = torch.log(torch.full_like(ratio, self.limit))
        return torch.atanh((ratio / bound).clamp(-0.999, 0.999))


Output = Positive | Fraction | Multiplier


class Perceptron(nn.Module):
    """Fully connected tanh network on standardised inputs; optional member axis and monotone inputs.

    Parameters
    ----------
    inputs : number of inputs; outputs : number of outputs; hidden : widths of the hidden layers.
    members : None, or the number M of independent networks. Inputs then have shape (..., M, B, inputs): the member
        axis is the last but one of the batch, and every member has its own weights (M, in, out).
    signs : per input +1 (output rises with it), -1 (falls), 0 (free). Where any is set, weights above the first layer
        are made positive, a sufficient condition for monotonicity (Sill 1998).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int = 1,
        hidden: Sequence[int] = (16, 16),
        members: int | None = None,
        signs: Sequence[int] = (),
    ):
        super().__init__()
        self.members = members
        self.monotone = any(signs)
        sizes = [inputs, *hidden, outputs]
        lead = () if members is None else (members,)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(*lead, a, b, dtype=torch.float64, device="cpu"))
            for a, b in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.empty(*lead, 1, b, dtype=torch.float64, device="cpu")) for b in sizes[1:]
        )
        signs = torch.tensor(list(signs) or [0] * inputs, dtype=torch.float64, device="cpu")
        self.register_buffer("signs", signs[:, None], persistent=False)
        self.reset()

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights (Glorot uniform; half width for the positive ones)."""
        with torch.no_grad():
            for w, b in zip(self.weights, self.biases, strict=True):
                bound = (6.0 / (w.shape[-2] + w.shape[-1])) ** 0.5
                w.uniform_(-bound, bound, generator=generator)
                b.zero_()

    def zero_output(self) -> None:
        """Make the network return zero everywhere, with hidden layers kept random."""
        with torch.no_grad():
            self.weights[-1].zero_()
            self.biases[-1].zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs); with members (..., M, B, inputs) -> (..., M, B, outputs)."""
        if self.members is None:
            return self._layers(x)
        # members first and all points of a member together: one matrix product per member and layer
        first = x.movedim(-3, 0)
        y = self._layers(first.reshape(self.members, -1, x.shape[-1]))
        return y.reshape(*first.shape[:-1], y.shape[-1]).movedim(0, -3)

    def layers(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Weights (in, out) and biases (1, out) as they act, layer by layer; with members (M, in, out), (M, 1, out)."""
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            if self.monotone:
                w = w.abs() if i else torch.where(self.signs == 0, w, self.signs * w.abs())
            yield w, b

    def _layers(self, x: Tensor) -> Tensor:
        for i, (w, b) in enumerate(self.layers()):
            if i:
                x = torch.tanh(x)
            x = x @ w + (b if self.members is not None else b[0])
        return x


class _Network(nn.Module):
    """What neural laws share: named inputs, their stored scales, a perceptron."""

    def __init__(self, inputs, outputs, hidden, scale, members, seed, increasing=(), decreasing=()):
        super().__init__()
        if not inputs:
            raise StructureError("A neural law needs at least one input name, e.g. NeuralLaw('soil', 'temp').")
        unknown = {*increasing, *decreasing} - set(inputs)
        if unknown:
            raise StructureError(f"Monotone in {sorted(unknown)}, which the law does not read: {inputs}.")
        self.inputs = tuple(inputs)
        signs = [(n in increasing) - (n in decreasing) for n in inputs]
        self.net = Perceptron(len(inputs), outputs, hidden, members, signs if any(signs) else ())
        if seed is not None:
            self.net.reset(torch.Generator(device="cpu").manual_seed(seed))
        lead = () if members is None else (members, 1)
        zeros = torch.zeros(*lead, len(inputs), dtype=torch.float64, device="cpu")
        self.register_buffer("centre", zeros)
        self.register_buffer("spread", zeros + 1.0)
        if scale:
            self.standardise(scale)

    def standardise(self, scale: Mapping[str, tuple[float, float] | Tensor]) -> None:
        """Store input scales: (centre, spread) per input, or samples (..., M, B) whose moments are taken per member."""
        for name, value in scale.items():
            if name not in self.inputs:
                continue
            i, members = self.inputs.index(name), self.net.members
            if isinstance(value, Tensor):
                value = value.movedim(-2, 0).flatten(1) if members else value.reshape(1, -1)
                value = value.mean(1), value.std(1).clamp_min(1e-6)
                value = [v.reshape(-1, 1) if members else v[0] for v in value]
            self.centre[..., i], self.spread[..., i] = value[0], value[1]

    def latent(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Network outputs (*common), one by one."""
        if linearised.active():
            return linearised.evaluate(self.net, self.centre, self.spread, values)
        x = torch.stack(torch.broadcast_tensors(*values), dim=-1)
        return self.net((x - self.centre) / self.spread).unbind(-1)


class NeuralLaw(_Network):
    """A flux or quantity computed by a network inside a physical frame.

    Parameters
    ----------
    *inputs : names of what the network sees: stores, forcings, quantities, parameters, earlier fluxes.
    output : :class:`Positive`, :class:`Fraction` or :class:`Multiplier` (starts as the replaced formula exactly).
    hidden : widths of the hidden tanh layers.
    scale : per input (centre, spread), stored with the weights; see also :meth:`standardise`.
    increasing, decreasing : names of inputs in which the network is monotone.
    tau : time constant [d] of the limiter ``min(source / tau, rate)`` that closes the flux as its source store empties.
        By default 1 d, and none for a Multiplier. ``tau=None`` switches it off.
    members : number of independent networks (seeds, basins) evaluated side by side; see :class:`Perceptron`.
    seed : draws the initial weights reproducibly.
    """

    def __init__(
        self,
        *inputs: str,
        output: Output | None = None,
        hidden: Sequence[int] = (16, 16),
        scale: Mapping[str, tuple[float, float]] | None = None,
        increasing: Sequence[str] = (),
        decreasing: Sequence[str] = (),
        tau: float | None | str = "auto",
        members: int | None = None,
        seed: int | None = None,
    ):
        super().__init__(inputs, 1, hidden, scale, members, seed, increasing, decreasing)
        self.output = output or Positive()
        self.tau = (1.0 if self.output.limited else None) if tau == "auto" else tau
        self.reads = (*self.inputs, *self.output.reads, *((SOURCE,) if self.tau else ()))
        if isinstance(self.output, Multiplier):
            self.net.zero_output()

    def extra_repr(self) -> str:
        return f"{', '.join(self.inputs)} -> {self.output}, tau={self.tau}"

    def forward(self, *values: Tensor | None) -> Tensor:
        n = len(self.inputs)
        (g,) = self.latent(*values[:n])
        rate = self.output(g, *values[n : n + len(self.output.reads)])
        return rate if self.tau is None else _limited(rate, values[-1], self.tau)


class SharedNetwork(_Network):
    """One network with several named outputs: a quantity that several :class:`Head` laws read (M100).

    Install it under a new name; its outputs become names that laws may read. ``outputs`` are those names, the rest is
    as in :class:`NeuralLaw`.
    """

    def __init__(self, *inputs: str, outputs: Sequence[str], hidden=(32, 32), scale=None, members=None, seed=None):
        super().__init__(inputs, len(outputs), hidden, scale, members, seed)
        self.outputs = tuple(outputs)
        self.reads = self.inputs

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        return self.latent(*values)


class Head:
    """A law that frames one output of a :class:`SharedNetwork`, called ``latent``; has no weights of its own.

    ``output`` and ``tau`` as in :class:`NeuralLaw`.
    """

    def __init__(self, latent: str, output: Output | None = None, tau: float | None | str = "auto"):
        self.output = output or Positive()
        self.tau = (1.0 if self.output.limited else None) if tau == "auto" else tau
        self.reads = (latent, *self.output.reads, *((SOURCE,) if self.tau else ()))

    def __call__(self, g: Tensor, *values: Tensor | None) -> Tensor:
        rate = self.output(g, *values[: len(self.output.reads)])
        return rate if self.tau is None else _limited(rate, values[-1], self.tau)


def _limited(rate: Tensor, source: Tensor | None, tau: float) -> Tensor:
    """Close the flux as its source store empties; a boundary never does."""
    return rate if source is None else limiter(source, rate, tau)
