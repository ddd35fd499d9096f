"""discover: from a trained hybrid to the formulas that the data bear out, and how sure one can be of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product

import torch

from udehydro.balance import Balance
from udehydro.discovery.library import Library
from udehydro.discovery.nominate import Nominee, nominate
from udehydro.discovery.sample import Samples
from udehydro.discovery.search import GAMMA, MARGIN, Ranked, Task, search
from udehydro.discovery.union import Candidate, Union
from udehydro.errors import ConfigError
from udehydro.structure import Structure

Engine = Callable[[Samples, str, Library, int], list[Nominee]]
"""Proposes laws: (samples, law, library, how many of each length) -> nominees, best first."""

EVERY = 1000
"""Most combinations of one-term laws that are refitted whatever the networks say."""


def discover(
    model: Structure | Balance | Union,
    libraries: Mapping[str, Library] | None,
    task: Task,
    *,
    samples: Samples | None = None,
    engine: Engine = nominate,
    keep: int = 8,
    starts: int = 2,
    again: int = 10,
    gamma: float = GAMMA,
    margin: float = MARGIN,
    every: int = EVERY,
    most: int = 5000,
    seed: int = 0,
) -> Ranked:
    """Find formulas for some laws of a model.

    Networks only nominate. Every combination of the ``keep`` best laws of every length, and of all one-term laws where
    these are few, is refitted through the ODE to the data themselves; an extended BIC decides, and what it cannot tell
    apart is reported as a class (``result.rivals``).

    Parameters
    ----------
    model : structure with a formula for all other laws; of a Balance its structure is taken. A :class:`Union`, made
        once for many searches, brings its libraries.
    libraries : flux, quantity or group -> :class:`Library`.
    task : data and settings of the refits.
    samples : learned laws at visited states (:func:`sample`); None searches without any network.
    engine : what nominates, by default :func:`nominate`; others are in :mod:`udehydro.discovery.engines`. One with a
        method ``extended`` may add what it finds to the libraries, unless these come in a :class:`Union`.
    starts : starts of every candidate, the first as nominated, others with constants and free values moved at random.
    again : how many of the best are fitted again from each other's values.
    gamma, margin : weight of the penalty on what was searched, and the gap within which the shortest law is taken.
    every : where there are at most so many combinations of one-term laws, all of them are refitted.
    most : most candidates; ConfigError beyond.
    """
    samples = None if samples is None else samples.knowing(task.start)
    if not isinstance(model, Union):
        structure = model.structure if isinstance(model, Balance) else model
        extended = getattr(engine, "extended", None)
        if samples is not None and extended is not None:
            libraries = {law: extended(structure, samples, law, lib) for law, lib in (libraries or {}).items()}
        model = Union(structure, libraries or {})
    union, libraries, nominees = model, model.libraries, []
    for law, library in libraries.items():
        found = engine(samples, law, library, keep) if samples is not None else [(c, {}) for c in library.subsets()]
        if not found:
            raise ConfigError(f"The engine proposes no law for '{law}': try another, or a longer library.")
        nominees.append(found)
    candidates = _combined(nominees, libraries, keep if samples is not None else most, every, most)
    given = [_starts(union, c, nominees) for c in candidates]
    generator = torch.Generator().manual_seed(seed)
    each = [
        [g, *(_moved(union, c, task, g, generator) for _ in range(starts - 1))]
        for c, g in zip(candidates, given, strict=True)
    ]
    return search(union, candidates, task, each, again=again, gamma=gamma, margin=margin)


def _combined(nominees, libraries: Mapping[str, Library], keep: int, every: int, most: int) -> list[Candidate]:
    """Combinations over the laws: of the best of each length, and of all one-term laws where these are few."""
    short = []
    for found, library in zip(nominees, libraries.values(), strict=True):
        best, counted = [], dict.fromkeys(range(1, library.most + 1), 0)
        for chosen, _ in found:
            if counted[len(chosen)] < keep:
                counted[len(chosen)] += 1
                best.append(chosen)
        short.append(best)
    singles = [[c for c, _ in found if len(c) == 1] for found in nominees]
    combined = list(product(*short))
    if math.prod(max(1, len(s)) for s in singles) <= every:
        combined += product(*singles)
    combined = list(dict.fromkeys(combined))
    if len(combined) > most:
        raise ConfigError(
            f"{len(combined)} candidates would be refitted, more than most={most}: lower keep={keep}, shorten the "
            "libraries, find fewer laws at once, or raise most."
        )
    return combined


def _starts(union: Union, candidate: Candidate, nominees: Sequence[Sequence[Nominee]]) -> dict[str, float]:
    """Start values that were nominated for a candidate, kept inside their ranges."""
    values = {}
    for chosen, found, names in zip(candidate, nominees, union.names, strict=True):
        nominated = next((start for c, start in found if c == chosen), {})
        for (j, own), value in nominated.items():
            name = names[j].factor if own == "" else names[j].own[own]
            range_ = union.model.structure.parameters[name]
            values[name] = min(max(value, range_.low), range_.high)
    return values


def _moved(union: Union, candidate: Candidate, task: Task, start, generator) -> dict[str, float]:
    """Another start: shape constants anew, anything else moved by up to a fifth."""
    shapes = {n for names, _ in union.terms(candidate) for n in names.own.values()}
    declared = {n: r.default for n, r in union.model.structure.parameters.items()}
    values = {**declared, **union.values(candidate), **task.start, **start}
    moved = {}
    for name in (*union.free(candidate), *task.free):
        range_ = task.ranges.get(name, union.model.structure.parameters.get(name))
        u = float(torch.rand((), generator=generator))
        if name in shapes:
            low, high = range_.low, range_.high
            moved[name] = low * (high / low) ** u if range_.logarithmic else low + (high - low) * u
        else:
            moved[name] = values[name] * (0.8 + 0.4 * u)
            if range_ is not None:
                moved[name] = min(max(moved[name], range_.low), range_.high)
    return {**start, **moved}
