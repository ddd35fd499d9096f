"""A benchmark in parts: which are asked for on the command line, and what is kept of those that ran before."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from bucket_and_hybrids import cache

from udehydro.files import write_json_atomic


def asked(doc: str, parts: Collection[str], script: str) -> tuple[list[str], dict, Path]:
    """Parts to run, in double precision on one thread; what was found of others, and the file where all is kept."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--part", action="append", choices=parts, help="run this part anew; may be given again")
    parser.add_argument("--fresh", action="store_true", help="forget the cache")
    parser.add_argument("--report", action="store_true", help="write the page from the cache, run nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    kept = cache().with_name(f"{script}.json")
    found = json.loads(kept.read_text()) if kept.exists() and not options.fresh else {}
    return [] if options.report else options.part or [n for n in parts if n not in found], found, kept


def carry_out(todo: Collection[str], parts: Mapping[str, Callable], found: dict, kept: Path, silent=()) -> None:
    """Run parts and keep what they return as soon as it is there; keys in ``silent`` are not printed."""
    for name in todo:
        print(name, flush=True)
        found[name] = parts[name]()
        write_json_atomic(kept, found)
        told = found[name]
        print({k: v for k, v in told.items() if k not in silent} if isinstance(told, dict) else told, flush=True)


def stopwatch() -> Callable[[int], dict[str, float]]:
    """Starts; asked with a number of seeds it says the seconds of one, by the clock and by the processor."""
    wall, used = time.perf_counter(), time.process_time()
    return lambda seeds: {
        "seconds": (time.perf_counter() - wall) / seeds,
        "processor": (time.process_time() - used) / seeds,
    }
