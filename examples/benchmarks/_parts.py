"""A benchmark in parts: which are asked for on the command line, and what is kept of those that ran before."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from pathlib import Path

import torch
from bucket_and_hybrids import cache


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
