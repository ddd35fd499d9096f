"""Inverse twin of the Richards column: retention and conductivity of three soils, learned from ten water contents and
a tensiometer, against what these sensors can tell at best.

Parts are kept in a cache outside the repository; ``--report`` writes the page from what is there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
from _report import write
from _twin_bounds import curves, truly
from _twin_case import SOILS, Truth, truth
from _twin_report import BEST, SCRIPT, TITLE, body, picture
from _twin_search import KINDS, SEEDS, SHOWN, choose, chosen, learn, limits
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
    keep = lambda: write_json_atomic(kept, found)  # noqa: E731
    if not options.report:
        truths = [truth(soil) for soil in SOILS]
        if "choice" not in found:
            found["choice"] = choose(truths, KINDS[BEST])
            keep()
        for true in truths:
            run(true, found.setdefault(true.soil, {}), chosen(found["choice"]), keep)
    picture(found)
    write(SCRIPT, TITLE, body(found))


def run(true: Truth, found: dict, width: float, keep: Callable) -> None:
    """What is missing of a soil."""
    found |= {"range": true.range, "true": curves(truly(true.law, true.p, SHOWN)).tolist()}
    parts = {f"{name}, bounds": lambda k=kind: limits(true, k, width=width) for name, kind in KINDS.items()}
    parts |= {name: lambda k=kind: learn(true, k, SEEDS, width=width) for name, kind in KINDS.items()}
    parts["alone"] = lambda: learn(true, KINDS[BEST], SEEDS[:1], width=width)
    for name, part in parts.items():
        if name not in found:
            print(true.soil, name, flush=True)
            found[name] = part()
            keep()


if __name__ == "__main__":
    main()
