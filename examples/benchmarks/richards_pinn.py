"""Physics-informed networks of the Richards equation, forward: known soils, exact solutions, ten seeds each.

Parts are kept in a cache outside the repository. ``--part`` runs some of them again, ``--report`` writes the page from
what is there.
"""

from __future__ import annotations

import argparse
import json

import torch
from _pinn_page import SCRIPT, TITLE, body, picture
from _pinn_runs import BILAYERS, FORMS, LOAM, PLAIN, SEEDS, SQUARE, VERSATILE, choose, judge
from _pinn_tracy import before_training, shown
from _report import write
from bucket_and_hybrids import cache

from udehydro.files import write_json_atomic

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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=PARTS, help="run this part anew; may be given again")
    parser.add_argument("--fresh", action="store_true", help="forget the cache")
    parser.add_argument("--report", action="store_true", help="write the page from the cache, run nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    kept = cache().with_name(f"{SCRIPT}.json")
    found = json.loads(kept.read_text()) if kept.exists() and not options.fresh else {}
    for name in [] if options.report else options.part or [n for n in PARTS if n not in found]:
        print(name, flush=True)
        found[name] = PARTS[name]()
        write_json_atomic(kept, found)
        print(found[name], flush=True)
    if all(name in found for name in PARTS):
        picture(found)
        write(SCRIPT, TITLE, body(found))


if __name__ == "__main__":
    main()
