"""The Richards column: exact solutions, infiltration problems, a HYDRUS-1D run, gradients, and speed.

Parts are kept in a cache outside the repository. ``--part`` runs some of them again, ``--report`` writes the page from
what is there.
"""

from __future__ import annotations

import importlib

from _parts import asked
from _report import write
from _richards_common import SCRIPT, clocked

from udehydro.files import write_json_atomic

PARTS = {
    "exact": "Exact solutions",
    "cases": "Infiltration problems",
    "hydrus": "HYDRUS-1D, loam over sandy loam",
    "gradients": "Gradients",
    "speed": "Speed",
}
"""Part -> its title; each is a module ``_richards_PART`` with ``run() -> found`` and ``section(found) -> text``."""


def main() -> None:
    todo, found, kept = asked(__doc__, PARTS, SCRIPT)
    modules = {name: importlib.import_module(f"_richards_{name}") for name in PARTS}
    for name in todo:
        found[name], found[f"{name} seconds"] = clocked(modules[name].run)
        write_json_atomic(kept, found)
    report({name: modules[name].section(found[name]) for name in PARTS if name in found}, found)


def report(sections: dict[str, str], found: dict) -> None:
    body = "\n\n".join(f"### {PARTS[name]}\n\n{text}" for name, text in sections.items())
    seconds = ", ".join(f"{name} {found[f'{name} seconds']:.0f} s" for name in sections)
    body = f"""The column of `udehydro.richards.column` as it is: cell-centred finite volumes, arithmetic means of
conductivities, SDIRK2 with adaptive steps, where nothing else is said. Length in cm, time in d.

{body}

Parts took: {seconds}, on one thread of a machine with other work."""
    write(SCRIPT, "Richards column", body)


if __name__ == "__main__":
    main()
