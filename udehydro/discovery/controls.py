"""Controls: models that cannot know what a law claims. What they score as well, the law has not shown.

A hybrid that is no better than networks in a senseless structure, than networks that read another day's weather, or
than a free network of its size owes its score to flexibility (Acuna Espinoza et al. 2024, HESS 28:2705). Structure:
:mod:`udehydro.models.nonsense`. The control for the search, without networks, is ``discover(..., samples=None)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from udehydro.balance import Balance
from udehydro.errors import ConfigError
from udehydro.forcing import Forcing
from udehydro.laws import Head, Positive, SharedNetwork
from udehydro.structure import OUTLET, Flux, Quantity, Range, Structure, suggest

SUFFIX, NOWHERE = "_shuffled", "nowhere"


def shuffled(forcing: Forcing, names: Sequence[str], *, seed: int = 0) -> Forcing:
    """The record with a second copy ``<name>_shuffled`` of some forcings, its intervals drawn in another order.

    The copies have the distribution of the weather and nothing to do with its dates, the same order for all of them.
    """
    for name in names:
        if name not in forcing.values:
            raise ConfigError(f"The record has no forcing '{name}' to shuffle.{suggest(name, forcing.values)}")
    order = torch.randperm(len(forcing), generator=torch.Generator().manual_seed(seed)).to(forcing.like.device)
    values = {**forcing.values, **{n + SUFFIX: forcing.values[n][order] for n in names}}
    units = {**forcing.units, **{n + SUFFIX: forcing.units[n] for n in names}}
    return replace(forcing, values=values, units=units)


def reading_shuffled(structure: Structure, names: Sequence[str]) -> Structure:
    """The structure with the copies of :func:`shuffled` among its forcings, for laws that are to read these."""
    for name in names:
        if name not in structure.forcings:
            raise ConfigError(f"Model '{structure.name}' reads no forcing '{name}'.{suggest(name, structure.forcings)}")
    return replace(structure, forcings={**structure.forcings, **{n + SUFFIX: structure.forcings[n] for n in names}})


def free_network(
    forcings: Mapping[str, str],
    *,
    states: int = 2,
    hidden: Sequence[int] = (16, 16),
    members: int | None = None,
    seed: int | None = None,
) -> Balance:
    """Discharge from a network with memory and no physics: a leaky recurrent network in continuous time.

    h_i' = tanh(g_i) - h_i / tau_i for each state [1], discharge = softplus(g) [mm/d], where all g are outputs of one
    network of states and weather. No water is balanced, and none is missed.

    Parameters
    ----------
    forcings : name -> unit of the weather that the network reads.
    states : number of states, each with a trainable time constant tau_i [d]; they start at zero.
    hidden, members, seed : as in :class:`udehydro.NeuralLaw`.
    """
    names = [f"h{i + 1}" for i in range(states)]
    latent = [f"g{i + 1}" for i in range(states)]
    network = SharedNetwork(*names, *forcings, outputs=[*latent, "g"], hidden=hidden, members=members, seed=seed)
    fluxes = [Flux(f"gain_{h}", NOWHERE, h, _Gain(g), signed=True) for h, g in zip(names, latent, strict=True)]
    fluxes += [Flux(f"loss_{h}", h, NOWHERE, _Decay(h, f"tau_{h}"), signed=True) for h in names]
    structure = Structure(
        name="free network",
        stores=dict.fromkeys(names, "1"),
        forcings=dict(forcings),
        parameters={f"tau_{h}": Range(1.0, 1000.0, "d", 10.0 ** min(i + 1, 3)) for i, h in enumerate(names)},
        quantities=(Quantity("network", network, network.outputs),),
        fluxes=(*fluxes, Flux("discharge", NOWHERE, OUTLET, Head("g", Positive(), tau=None))),
        boundaries=(NOWHERE,),
        signed_stores=names,
    )
    return Balance(structure)


class _Gain:
    """tanh of an output of the network, per day."""

    def __init__(self, latent: str):
        self.reads = (latent,)

    def __call__(self, g: Tensor) -> Tensor:
        return torch.tanh(g)


class _Decay:
    """h / tau."""

    def __init__(self, state: str, tau: str):
        self.reads = (state, tau)

    def __call__(self, h: Tensor, tau: Tensor) -> Tensor:
        return h / tau
