"""Writes the result of a benchmark into its own section of docs/benchmarks.md, with machine, versions and date."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import torch

import udehydro
from udehydro.files import write_atomic

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "benchmarks.md"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
HEAD = "# Benchmarks\n\nEvery section is written by the script it names; run it again with `make benchmark`.\n"


def machine() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} thread(s)"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, udehydro {udehydro.__version__}"
    return f"{model}, {threads}; {versions}; {datetime.date.today().isoformat()}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def write(name: str, title: str, body: str, script: str | None = None) -> None:
    """Replace, or append, the section ``name``, written by ``script`` (of the same name by default)."""
    page = PAGE.read_text() if PAGE.exists() else HEAD
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    script = f"`examples/benchmarks/{script or name}.py`"
    section = f"{start}\n## {title}\n\n{body}\n\n{script}; {machine()}\n{end}"
    if start in page:
        before, rest = page.split(start, 1)
        page = before + section + rest.split(end, 1)[1]
    else:
        page = page.rstrip() + "\n\n" + section + "\n"
    write_atomic(PAGE, page)
    print(section)


def camels() -> Path:
    folder = SHARED / "camels-us"
    if not folder.exists():
        raise SystemExit(f"This benchmark needs the CAMELS-US tables in {folder}, which are not there.")
    return folder
