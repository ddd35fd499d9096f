"""Free-form soil laws on real soils: Swiss retention and conductivity, and infiltration from rings in Kenya.

Strengths of priors, knots and sizes are chosen on some profiles (and plots); the others are opened once. Parts are kept
in a cache outside the repository; ``--report`` writes the page from what is there.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from _report import DOCS, write
from _soils_contest import Folds, choose, judge
from _soils_data import kenya, swiss, validation
from _soils_dense import dense
from _soils_figure import picture
from _soils_infiltration import formulas, invert
from _soils_page import page
from _soils_predict import predict
from bucket_and_hybrids import cache

from udehydro.files import write_atomic, write_json_atomic
from udehydro.plot import style

SCRIPT = "richards_real_soils"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="forget the cache")
    parser.add_argument("--report", action="store_true", help="write the page from the cache, run nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept, found = cache().with_name(f"{SCRIPT}.json"), {}
    if kept.exists() and not options.fresh:
        found = json.loads(kept.read_text())
    chosen, test = validation(swiss()[0])
    theta, k = ((kind(chosen), kind(test)) for kind in (Folds.of_theta, Folds.of_k))
    runs = kenya()
    parts = {
        "theta choice": lambda: choose(theta[0]),
        "k choice": lambda: choose(k[0]),
        "theta": lambda: judge(theta[1], found["theta choice"]),
        "k": lambda: judge(k[1], found["k choice"]),
        "prediction": lambda: predict(chosen, test, found["theta choice"]),
        "dense": lambda: dense(found["k choice"]),
        "rings": lambda: formulas(runs) | invert(runs),
    }
    for name, run in parts.items():
        if name not in found and not options.report:
            began = time.process_time()
            found[name] = run()
            found[f"{name} seconds"] = time.process_time() - began
            write_json_atomic(kept, found)
    plots = [i for i in range(len(runs)) if i % 3 != 2]
    write_atomic(DOCS / f"{SCRIPT}.png", style.png(picture(theta[1], k[1], found, runs, plots), dpi=100))
    write(SCRIPT, "Real soils: free-form laws against van Genuchten", page(found, theta[1], k[1], runs, plots))


if __name__ == "__main__":
    main()
