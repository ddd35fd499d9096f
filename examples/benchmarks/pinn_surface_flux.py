"""An unknown flux through the surface of layered soil, from water contents below it, by physics-informed networks.

Parts are kept in a cache outside the repository. ``--part`` runs some of them again, ``--report`` writes the page from
what is there.
"""

from __future__ import annotations

from dataclasses import replace

from _flux_case import FOLDER, Case, errors, solved
from _flux_page import SCRIPT, TITLE, body, picture
from _parts import asked, carry_out, stopwatch
from _report import write

SEEDS, FEW = tuple(range(10)), tuple(range(3))
FIVE, FOUR, TWO = (1, 5, 9, 13, 17), (3, 7, 13, 17), (5, 15)
CASES = {
    "5 sensors": Case(FIVE, SEEDS),
    "4 sensors": Case(FOUR, SEEDS),
    "2 sensors": Case(TWO, FEW),
    "5 sensors, base unknown": Case(FIVE, FEW, base=False),
    "5 sensors, start known": Case(FIVE, FEW, start=True),
    "5 sensors, jumps known": Case(FIVE, FEW, jumps=True),
    "5 sensors, published data": Case(FIVE, FEW, published=True),
    "4 sensors, published data": Case(FOUR, FEW, published=True),
}
ALONE = "5 sensors"
"""Case of which one seed is run alone, too, to time it."""


def judge(name: str) -> dict:
    """Errors of each seed, and seconds of it, of the wall clock and of the processor."""
    spent = stopwatch()
    found = solved(CASES[name])
    result = spent(len(CASES[name].seeds)) | errors(CASES[name], found)
    if name == ALONE:
        spent = stopwatch()
        solved(replace(CASES[name], seeds=SEEDS[:1]))
        result["alone"] = spent(1)["seconds"]
    return result


def main() -> None:
    if not FOLDER.exists():
        raise SystemExit(f"This benchmark needs the published data in {FOLDER}, which are not there.")
    todo, found, kept = asked(__doc__, CASES, SCRIPT)
    silent = ("fluxes", "depth", "profiles", "true profiles")
    carry_out(todo, {n: lambda n=n: judge(n) for n in CASES}, found, kept, silent)
    if all(name in found for name in CASES):
        picture(found)
        write(SCRIPT, TITLE, body(found, CASES))


if __name__ == "__main__":
    main()
