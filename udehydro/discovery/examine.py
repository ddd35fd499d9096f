"""How sure chosen laws are: profiles of their constants and of the zeros of their stores, and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from udehydro.discovery.identify import Profile, offset_profile, profile
from udehydro.discovery.search import Ranked, Task
from udehydro.discovery.union import Union
from udehydro.discovery.verdict import Verdict, candidate, verdict, whitened


@dataclass(frozen=True)
class Examined:
    """What data say about chosen laws.

    Attributes
    ----------
    profiles : of every trained constant, under the names that the formulas use, and of the zero of every store.
    verdicts : store -> verdict on the laws of fluxes that leave it.
    """

    profiles: Mapping[str, Profile]
    verdicts: Mapping[str, Verdict]


def examine(found: Ranked, task: Task, values: Mapping[str, float], *, rounds: int = 1, steps: int = 20) -> Examined:
    """Profiles and verdicts of the chosen laws of a search.

    Errors of real records are correlated from day to day: standard deviation and lag-1 correlation are taken from the
    residuals (:func:`whitened`), and the laws are fitted again before anything is profiled. What the profiles show as
    best is therefore not quite what a least-squares fit gave.

    Parameters
    ----------
    found : the class of laws, with its choice.
    task : record, observations and free values.
    values : the chosen laws' values, fitted to that record.
    rounds, steps : as in :func:`profile`; most steps of each refit, which starts from the fit.
    """
    union, chosen = found.union, found.candidates[found.chosen]
    task = whitened(union.model, task, values)
    fit = task.fit(union, [chosen], [values])
    task = replace(task, steps=steps)
    model, ranged, _, _ = candidate(found, task)
    profiles = {}
    for name, short in union.short(chosen).items():
        profiles[short] = replace(profile(model, ranged, fit, name, rounds=rounds), name=short)
    verdicts, formulas = {}, found.laws(found.chosen)
    for store, laws in leaving(union).items():
        offset = profiles[f"offset of {store}"] = offset_profile(model, ranged, fit, store, rounds=rounds)
        constants = {n for law in laws for n in formulas[law].constants}
        own = [p for n, p in profiles.items() if n in constants]
        verdicts[store] = verdict(found, task, store, laws=laws, profiles=own, offset=offset)
    return Examined(profiles, verdicts)


def leaving(union: Union) -> dict[str, list[str]]:
    """Laws to be found by the store that their fluxes leave."""
    s, by_store = union.structure, {}
    for law in union.libraries:
        for source in {f.source for f in s.fluxes if f.name in s.groups.get(law, (law,)) and f.source in s.stores}:
            by_store.setdefault(source, []).append(law)
    return by_store
