"""Background: what is believed of storages and weather before flow is seen, and standard normal controls for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from udehydro.balance import Balance
from udehydro.errors import ConfigError, DataError
from udehydro.forcing import Forcing
from udehydro.simulate import initial_storage
from udehydro.structure import suggest

_LINEAR = 40.0
"""Where the softplus goes over to its asymptote: exp(-40) is less than the last bit of a double."""
_UNDERSHOOT = 1.0
"""What a background may fall below zero [mm], as runs of second order do by a little: it is then taken as empty."""


@dataclass(frozen=True)
class Background:
    """Initial storages and forcing of a window, and how wrong they may be.

    Parameters
    ----------
    storage : initial storages [mm] as :func:`udehydro.simulate` takes them: (*batch, S), or a value per store.
    storage_sd : their standard deviations [mm]: one for all stores, or by store, each a number or (*batch). A store
        that is not named is held at its background.
    multiplier_sd : forcing -> standard deviation of the logarithm of its multiplier, a number or (*batch). Multipliers
        have the median 1; a day without rain stays without.
    block : intervals that share a multiplier, counted back from the end of the window.
    correlation : between the logarithms of multipliers of blocks that follow each other, an AR(1) process.

    Errors of storages are Gaussian where the background is some standard deviations above zero, and log-normal of
    relative standard deviation one where it is far below one: ``S = sd softplus(softplus^-1(storage / sd) + z)`` with z
    standard normal. So an analysis is never negative, and an empty store stays empty: what it may hold has to be in its
    background. Stores that may be negative (``signed_stores``) are Gaussian.

    Raises
    ------
    ConfigError
        For standard deviations that are not finite and above zero, unknown names, a block or correlation that makes no
        sense.
    """

    storage: Tensor | Mapping[str, Tensor | float]
    storage_sd: float | Mapping[str, Tensor | float]
    multiplier_sd: Mapping[str, Tensor | float] = field(default_factory=dict)
    block: int = 1
    correlation: float = 0.0

    def __post_init__(self):
        named = dict(self.storage_sd) if isinstance(self.storage_sd, Mapping) else {"all": self.storage_sd}
        for name, sd in (*named.items(), *self.multiplier_sd.items()):
            sd = sd if isinstance(sd, Tensor) else np.asarray(sd)
            if not bool(((sd > 0) & (sd < math.inf)).all()):
                raise ConfigError(f"The standard deviation of '{name}' has to be finite and above zero, got {sd}.")
        if not (isinstance(self.block, int) and self.block >= 1) or not abs(self.correlation) < 1.0:
            raise ConfigError(
                "A background needs a block of at least 1 interval and a correlation within (-1, 1), got "
                f"{self.block} and {self.correlation}."
            )


@dataclass(frozen=True)
class Controls:
    """Standard normal controls ``z`` (*batch, P) of a window: one per store, then a block each of every forcing.

    Attributes
    ----------
    storage, storage_sd : (*batch, S) mm; a standard deviation of zero holds a store.
    gaussian : (S,) stores that may be negative.
    multiplier_sd : forcing -> (*batch).
    colour : (K, K) from white to correlated blocks.
    block_of : (T,) the block of every interval.
    """

    storage: Tensor
    storage_sd: Tensor
    gaussian: Tensor
    multiplier_sd: dict[str, Tensor]
    colour: Tensor
    block_of: Tensor

    @classmethod
    def of(cls, background: Background, model: Balance, forcing: Forcing) -> Controls:
        """Checked and aligned with a window. Raises ConfigError or DataError for what does not fit."""
        like, batch, names, s = forcing.like, forcing.batch, model.store_names, model.structure
        storage = initial_storage(model, forcing, background.storage).detach()
        given = background.storage_sd
        given = dict(given) if isinstance(given, Mapping) else dict.fromkeys(names, given)
        _known(given, names, "store")
        _known(background.multiplier_sd, model.forcing_names, "forcing that the model reads")
        sd = torch.stack([_aligned(n, given.get(n, 0.0), like, batch) for n in names], dim=-1)
        gaussian = torch.tensor([n in s.signed_stores for n in names], device=like.device)
        storage = torch.where((storage < 0.0) & (storage > -_UNDERSHOOT) & ~gaussian, 0.0, storage)
        if len(below := ((storage < 0.0) & ~gaussian).nonzero()):
            *element, i = below[0].tolist()
            raise DataError(
                f"The background of '{names[i]}' is {storage[tuple(below[0])].item():.3g} mm in "
                f"{forcing.label(0, element)}: it has to be zero or more."
            )
        multipliers = {n: _aligned(n, v, like, batch) for n, v in background.multiplier_sd.items()}
        blocks = -(-len(forcing) // background.block)
        from_end = torch.arange(len(forcing) - 1, -1, -1, device=like.device) // background.block
        colour = _colour(blocks, background.correlation, like)
        return cls(storage, sd, gaussian, multipliers, colour, blocks - 1 - from_end)

    @property
    def size(self) -> int:
        """Controls P of a window."""
        return self.storage.shape[-1] + len(self.multiplier_sd) * len(self.colour)

    def storage0(self, z: Tensor) -> Tensor:
        """Initial storages (*batch, S), mm."""
        moved, held = z[..., : self.storage.shape[-1]], self.storage_sd == 0.0
        sd = torch.where(held, 1.0, self.storage_sd)
        share = self.storage.clamp_min(0.0) / sd
        at = share + torch.log(-torch.expm1(-share))  # softplus^-1, minus infinity for an empty store
        positive = sd * softplus(at + moved, threshold=_LINEAR)
        return torch.where(held, self.storage, torch.where(self.gaussian, self.storage + sd * moved, positive))

    def multipliers(self, z: Tensor) -> dict[str, Tensor]:
        """Forcing -> factor of every interval (T, *batch)."""
        parts = z[..., self.storage.shape[-1] :].split(len(self.colour), dim=-1)
        logs = ((part @ self.colour.T).movedim(-1, 0)[self.block_of] for part in parts)
        return {n: torch.exp(sd * log) for (n, sd), log in zip(self.multiplier_sd.items(), logs, strict=False)}

    def storage0_spread(self, z: Tensor, covariance: Tensor) -> Tensor:
        """Spread of initial storages (*batch, S) to first order, from the covariance of z (*batch, P, P)."""
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(self.storage0(z).sum(), z)
        return (slope * covariance.diagonal(dim1=-2, dim2=-1).sqrt())[..., : self.storage.shape[-1]]

    def multiplier_spread(self, z: Tensor, covariance: Tensor) -> dict[str, Tensor]:
        """Forcing -> spread of its factors (T, *batch) to first order, from the covariance of z (*batch, P, P)."""
        found, factors, first = {}, self.multipliers(z), self.storage.shape[-1]
        for i, (name, sd) in enumerate(self.multiplier_sd.items()):
            part = slice(first + i * len(self.colour), first + (i + 1) * len(self.colour))
            variance = ((self.colour @ covariance[..., part, part]) * self.colour).sum(-1)
            found[name] = factors[name] * sd * variance.sqrt().movedim(-1, 0)[self.block_of]
        return found


def _colour(blocks: int, correlation: float, like: Tensor) -> Tensor:
    """Lower triangle C with C C' = correlation^|i - j|: the recursion of an AR(1) process of variance one."""
    lag = torch.arange(blocks, dtype=like.dtype, device=like.device)
    lag = lag[:, None] - lag
    powers = torch.where(lag >= 0, correlation ** lag.clamp_min(0.0), 0.0)
    fresh = torch.full_like(powers[0], math.sqrt(1.0 - correlation**2))
    fresh[0] = 1.0
    return powers * fresh


def _aligned(name: str, value: Tensor | float, like: Tensor, batch: tuple[int, ...]) -> Tensor:
    value = torch.as_tensor(value, dtype=like.dtype, device=like.device).detach()
    try:
        return value.broadcast_to(batch)
    except RuntimeError:
        raise ConfigError(
            f"The standard deviation of '{name}' has shape {tuple(value.shape)}, the batch is {batch}."
        ) from None


def _known(given: Mapping, names, what: str) -> None:
    for name in given:
        if name not in names:
            raise ConfigError(f"A standard deviation is given for '{name}', which is no {what}.{suggest(name, names)}")
