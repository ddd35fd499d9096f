"""Inverse twin of the Richards column: retention and conductivity of three soils, learned from ten water contents and
a tensiometer, against what these sensors can tell at best.

Parts are kept in a cache outside the repository; ``--report`` writes the page from what is there.
"""

from __future__ import annotations

import argparse
import json

import torch
from _report import write
from _twin_bounds import curves, truly
from _twin_case import SOILS, truth
from _twin_report import SCRIPT, TITLE, body, picture
from _twin_search import KINDS, SEEDS, SHOWN, learn, limits
from bucket_and_hybrids import cache

from udehydro.files import write_json_atomic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="forget the cache")
    parser.add_argument("--report", action="store_true", help="write the page from the cache, run nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept, found = cache().with_name(f"{SCRIPT}.json"), {}
    if kept.exists() and not options.fresh:
        found = json.loads(kept.read_text())
    if not options.report:
        for soil in SOILS:
            run(soil, found.setdefault(soil, {}), lambda: write_json_atomic(kept, found))
    picture(found)
    write(SCRIPT, TITLE, body(found))


def run(soil: str, found: dict, keep) -> None:
    """What is missing of a soil."""
    true = truth(soil)
    found |= {"range": true.range, "true": curves(truly(true.law, true.p, SHOWN)).tolist()}
    parts = {f"{kind}, bounds": lambda k=kind: limits(true, KINDS[k]) for kind in KINDS}
    parts |= {kind: lambda k=kind: learn(true, KINDS[k], SEEDS) for kind in KINDS}
    parts["alone"] = lambda: learn(true, KINDS["free form"], SEEDS[:1])
    for name, part in parts.items():
        if name not in found:
            print(soil, name, flush=True)
            found[name] = part()
            keep()


if __name__ == "__main__":
    main()
