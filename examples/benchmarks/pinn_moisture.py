"""What moisture sensors alone tell of a soil: D(theta) and K(theta) by networks, against the method of 2021.

Parts are kept in a cache outside the repository, the baseline's seed by seed, so that a run that was stopped goes on.
``--part`` runs some again, ``--report`` writes the page from what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import _moisture_baseline as baseline
import numpy as np
from _moisture_case import DAYS, DEPTHS, DRY, ENTRY, GUESS, HEIGHT, JUMPS, MOIST, SIGMAS, SOILS, Truth, observe, truth
from _moisture_page import SCRIPT, TITLE, body, picture, shown
from _parts import asked, carry_out, stopwatch
from _report import write

from udehydro.files import write_json_atomic
from udehydro.richards.inversion import Observed
from udehydro.richards.laws import VanGenuchten, soil_class
from udehydro.richards.pinn import Adam, Contents, Counts, learn_contents, turns

SEEDS, UNSEEN = tuple(range(10)), tuple(range(30, 40))
BEGIN = VanGenuchten(), soil_class(GUESS) | {"entry": ENTRY}
EXACT = 1e-3
"""What readings without errors count as being good to."""
true = cache(truth)


def ours(soil: str, sigma: float, events: Sequence[float] | None = None, seeds=SEEDS, psi0: float = DRY) -> dict:
    """What each seed finds, by itself, since its readings tell when it rained, unless ``events`` do; seconds of one."""
    spent = stopwatch()
    each = [one(true(soil, psi0), sigma, events, seed) for seed in seeds]
    result = {name: [found[name] for found in each] for name in each[0]}
    return result | spent(len(seeds)) | {"failed": sum(result["failed"])}


def one(there: Truth, sigma: float, events: Sequence[float] | None, seed: int) -> dict:
    """Errors of curves, also in units of their bands, and of the field between sensors."""
    sensors = Observed("theta", observe(there, sigma, [seed])[:, 0], sigma or EXACT, DEPTHS)
    known = turns(DAYS, sensors) if events is None else events
    found = learn_contents(DAYS, sensors, seeds=(seed,), events=known, guess=BEGIN)
    curves = found.curves(there.contents)
    d, k = (c[0].numpy() for c in (curves.diffusivity, curves.conductivity))
    told = {
        "misfit": float(found.misfit),
        "physics": float(found.physics),
        "field": _between(there, found.solution),
        **_bands(there, found),
        "turns": list(known),
        "failed": bool(found.solution.failed),
    }
    return there.errors(d, k) | told | (shown(curves) if sigma == SIGMAS[1] else {})


def _bands(there: Truth, found: Contents) -> dict[str, float]:
    """Mean of |error| of ln D and of ln K (above the driest knot) in standard deviations, and the share below two."""
    driest = float(found.law.knots[0])
    at = there.contents[there.contents > driest + 1e-3]
    curves, (d, k), (_, (k0,)) = found.curves(at), there.curves(at), there.curves(np.array([driest]))
    told = {}
    for name, true in (("diffusivity", d), ("conductivity", k - k0)):
        mine, sd = (getattr(curves, n)[0].numpy() for n in (name, f"log_{name}_sd"))
        off = np.abs(np.log(mine / true)) / sd
        told |= {f"z of {name}": float(off.mean()), f"within 2 sd of {name}": float((off < 2.0).mean())}
    return told


def untrained(soil: str) -> dict[str, float]:
    """Errors of the guess, from which the search begins."""
    there = true(soil)
    sensors = Observed("theta", observe(there, SIGMAS[1], SEEDS[:1]), SIGMAS[1], DEPTHS)
    none = dict(first=Adam(0), steps=0, ramp=(0.1,), counts=Counts(16, 16))
    curves = learn_contents(DAYS, sensors, guess=BEGIN, **none).curves(there.contents)
    return there.errors(curves.diffusivity[0].numpy(), curves.conductivity[0].numpy())


def _between(there: Truth, solution) -> float:
    """Root mean square of what contents are off by, at all cells between the outermost sensors."""
    cells = there.theta.shape[1]
    depth = (np.arange(cells) + 0.5) * HEIGHT / cells
    inner = (depth > min(DEPTHS)) & (depth < max(DEPTHS))
    at = np.stack(np.meshgrid(DAYS, -depth[inner], indexing="ij"), -1).reshape(-1, 2)
    off = solution.theta(at).numpy().reshape(len(DAYS), inner.sum()) - there.theta[:, inner]
    return float(np.sqrt((off**2).mean()))


CASES = [(soil, sigma) for sigma in SIGMAS for soil in SOILS]
PARTS = {
    **{f"{soil}, {sigma:g}": lambda a=(soil, sigma): ours(*a) for soil, sigma in CASES},
    **{f"known rains, {soil}": lambda s=soil: ours(s, SIGMAS[1], JUMPS) for soil in SOILS},
    **{f"no turns, {soil}": lambda s=soil: ours(s, SIGMAS[1], ()) for soil in SOILS},
    **{f"moist, {soil}": lambda s=soil: ours(s, SIGMAS[1], seeds=UNSEEN, psi0=MOIST) for soil in SOILS},
    **{f"unseen, {soil}": lambda s=soil: ours(s, SIGMAS[-1], seeds=UNSEEN) for soil in SOILS},
    **{f"guess, {soil}": lambda s=soil: untrained(s) for soil in SOILS},
    **{f"long, {soil}": lambda s=soil: baseline.run(true(s), SIGMAS[1], SEEDS[0], baseline.LONG) for soil in SOILS},
    **{f"2021, {soil}, {sigma:g}": None for soil, sigma in CASES},
}
"""Part -> its run; what it returns is kept. The baseline's is below."""


def main() -> None:
    todo, found, kept = asked(__doc__, PARTS, SCRIPT)
    unfinished = [n for n in PARTS if n.startswith("2021") and len(found.get(n, [])) < len(SEEDS)]
    curves = [f"curve of {n}" for n in ("diffusivity", "conductivity")]
    carry_out([n for n in todo if PARTS[n]], PARTS, found, kept, silent=curves)
    for count in range(1, len(SEEDS) + 1) if todo else ():
        for soil, sigma in CASES:
            name = f"2021, {soil}, {sigma:g}"
            if name in {*todo, *unfinished}:
                found[name] = baseline.all_of(true(soil), sigma, SEEDS[:count], found.get(name, []))
                write_json_atomic(kept, found)
    if all(name in found for name in PARTS):
        picture(found, {soil: true(soil) for soil in SOILS})
        write(SCRIPT, TITLE, body(found))


if __name__ == "__main__":
    main()
