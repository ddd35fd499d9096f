"""Retention and conductivity learned by networks, from sensors whose truth is known, and polished on the column.

Parts are kept in a cache outside the repository. ``--part`` runs some of them again, ``--report`` writes the page from
what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from _curves_exact import Exact, broadbridge_white, gardner
from _curves_page import SCRIPT, TITLE, body, picture
from _parts import asked, carry_out, stopwatch
from _report import write
from _twin_bounds import curves, size, truly
from _twin_case import SOILS, observe, truth
from _twin_search import ITERATIONS, KINDS, SHOWN, inversion, limits

from udehydro.richards.pinn import Adam, Counts, Learned, learn

SEEDS = tuple(range(10))
WIDTH = 0.5
"""Of priors in the twin, as chosen there."""
SIDE = 3
"""Seeds of side runs."""


@dataclass(frozen=True)
class Setting:
    """How much is known of a soil with an exact solution, and how it is learned."""

    case: object
    noisy: bool
    tensiometers: int
    sigma: tuple[float, float]
    ramp: tuple[float, ...]
    steps: int = 40
    width: int = 16

    def learn(self, seeds: Sequence[int]) -> tuple[Exact, Learned]:
        case = self.case()
        task = case.task(seeds, self.sigma, self.noisy, self.tensiometers)
        how = dict(ramp=self.ramp, steps=self.steps, first=Adam(300), counts=Counts(1000, 200), width=self.width)
        return case, learn(task, seeds=seeds, gauge="ignore", stretch=False, start=False, **how)


RAMP = (0.1, 0.01, 0.003, 0.003)
EXACT = {
    "Gardner": Setting(gardner, False, 10, (1e-4, 1e-3), RAMP),
    "Broadbridge and White": Setting(broadbridge_white, False, 10, (1e-4, 1e-3), RAMP),
    "Gardner, one tensiometer": Setting(gardner, False, 1, (1e-4, 1e-3), RAMP),
    "Gardner, noise": Setting(gardner, True, 1, (0.005, 0.03), (0.1, 0.03, 0.01, 0.003), width=14),
}


def exactly(name: str, seeds: Sequence[int] = SEEDS) -> dict:
    """Errors of a soil with an exact solution, each seed its own noise and weights."""
    spent = stopwatch()
    case, found = EXACT[name].learn(seeds)
    spent = spent(len(seeds))
    return case.errors(found.curves(case.heads())) | told(found) | spent


def twin(soil: str, seeds: Sequence[int] = SEEDS) -> dict:
    """Errors of a soil of the inverse twin, by networks alone and polished, in order theta, K, log10 K."""
    true = truth(soil)
    task = inversion(KINDS["free form"], *observe(true, seeds), width=WIDTH)
    spent = stopwatch()
    found = learn(task, seeds=seeds, gauge="ignore")
    result = told(found) | spent(len(seeds))
    spent, exact = stopwatch(), truly(true.law, true.p, true.heads())
    polished = found.polish(steps=ITERATIONS)
    result["polish seconds"] = spent(len(seeds))["seconds"]
    result["polish chi2"] = polished.misfit.tolist()
    for name, bands in {"alone": found, "polished": polished}.items():
        result[name] = size(curves(bands.curves(true.heads())) - curves(exact), exact).tolist()
    shown = {n: curves(b.curves(SHOWN))[:3].tolist() for n, b in {"alone": found, "polished": polished}.items()}
    return result | {"shown": shown, "true": curves(truly(true.law, true.p, SHOWN)).tolist(), "range": true.range}


def told(found: Learned) -> dict:
    failed = int(found.solution.failed.sum())
    return {"misfit": found.misfit.tolist(), "physics": found.physics.tolist(), "failed": failed}


def bound(soil: str) -> dict:
    """What no unbiased search of the twin's data goes below."""
    return limits(truth(soil), KINDS["free form"], width=WIDTH)


PARTS = {
    **{n: lambda n=n: exactly(n, SEEDS[:SIDE] if n == "Gardner, one tensiometer" else SEEDS) for n in EXACT},
    **{soil: lambda s=soil: twin(s) for soil in SOILS},
    **{f"bound, {soil}": lambda s=soil: bound(s) for soil in SOILS},
}
"""Part -> its run; what it returns is kept."""


def main() -> None:
    todo, found, kept = asked(__doc__, PARTS, SCRIPT)
    carry_out(todo, PARTS, found, kept, silent=("shown", "true"))
    if all(name in found for name in PARTS):
        picture(found, SHOWN)
        write(SCRIPT, TITLE, body(found, {n: s.sigma for n, s in EXACT.items()}))


if __name__ == "__main__":
    main()
