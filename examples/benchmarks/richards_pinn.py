"""Physics-informed networks of the Richards equation, forward: known soils, exact solutions, ten seeds each.

Parts are kept in a cache outside the repository. ``--part`` runs some of them again, ``--report`` writes the page from
what is there.
"""

from __future__ import annotations

from _parts import asked, carry_out
from _pinn_page import SCRIPT, TITLE, body, picture
from _pinn_runs import BILAYERS, FORMS, LOAM, PLAIN, SEEDS, SQUARE, VERSATILE, choose, judge
from _pinn_tracy import before_training, shown
from _report import write

RUNS = FORMS | VERSATILE | BILAYERS | SQUARE | LOAM
KEPT = {"square": shown}
"""What else is kept of a run."""
HASTE = [name for name in BILAYERS if not name.endswith("face 1")]
"""Runs without one of one seed alone, which would take as long as another's."""
PARTS = {
    "choice": choose,
    **{name: lambda n=name: judge(RUNS[n], keep=KEPT.get(n), alone=n not in HASTE) for name in RUNS},
    "untrained": before_training,
    **{name: lambda s=setting: judge(s, SEEDS[:3], alone=False) for name, setting in PLAIN.items()},
}
"""Part -> its run; what it returns is kept."""


def main() -> None:
    todo, found, kept = asked(__doc__, PARTS, SCRIPT)
    carry_out(todo, PARTS, found, kept)
    if all(name in found for name in PARTS):
        picture(found)
        write(SCRIPT, TITLE, body(found))


if __name__ == "__main__":
    main()
