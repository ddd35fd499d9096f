"""Planted laws in a bucket on real weather: which laws do ten years of discharge determine, and what breaks it?

Four evapotranspiration laws, three drainage laws and two basins; both laws are unknown, and capacity and initial
storage are fitted with every one of the 63 pairs, one setting for all. The truth is integrated with 24 steps a day, the
fits take one. Results are kept case by case; a stopped run goes on. ``--quick`` for a first look, ``--report`` writes
the page from what there is.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch
from _planted import DRAINAGE, ET, Case, solve
from _planted_networks import learn
from _planted_report import SCRIPT, report
from tqdm import tqdm

from udehydro.files import write_json_atomic

BASINS = ("02077200", "01013500")
SEEDS = 4
FEW = (("linear", "exponential"), ("saturating exponential", "exponential"), ("threshold", "linear"),
       ("parabola", "power"))  # fmt: skip
NETWORKS = "networks"
ORDER = (("narrow", "weekly storage", "backward Euler", "AR(1) 20 %"), (NETWORKS, "rain 10 %", "rain 30 %"),
         ("AR(1) 5 %", "SDIRK2 x2"))  # fmt: skip
KINDS = tuple(k for part in ORDER for k in part if k != "narrow")


def cases(seeds: int = SEEDS, few: int = 1) -> list[Case]:
    """All 24 truths with ideal data, and four pairs of laws in both basins with everything else; what matters first."""
    ideal = [[Case(b, e, d, s) for b in BASINS for e in ET for d in DRAINAGE] for s in range(seeds)]
    other = {k: [Case(b, e, d, s, k) for s in range(few) for b in BASINS for e, d in FEW] for k in KINDS}
    other["narrow"] = [Case(b, e, "exponential", s, "narrow") for s in range(few) for b in BASINS for e in ET]
    first, second, last = ORDER
    parts = [ideal[:1], [other[k] for k in first], ideal[1:2], [other[k] for k in second]]
    parts += [ideal[2:3], [other[k] for k in last], ideal[3:]]
    return [case for part in parts for group in part for case in group]


def kept() -> Path:
    folder = Path(os.environ.get("UDEHYDRO_CACHE") or Path.home() / ".cache" / "udehydro")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{SCRIPT}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one case of each kind")
    parser.add_argument("--report", action="store_true", help="write the page from what there is")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(kept().read_text()) if kept().exists() else {}
    every = cases()
    if options.quick:
        every = list({c.kind: c for c in reversed(every)}.values())
    for case in tqdm([] if options.report else every):
        if case.key not in results:
            results[case.key] = (learn if case.kind == NETWORKS else solve)(case)
            write_json_atomic(kept(), results)
    if not options.quick:
        report(results, every, NETWORKS)


if __name__ == "__main__":
    main()
