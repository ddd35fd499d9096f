"""Soil curves learned in the field: hourly soil moisture and weather of Schwingbach (Germany), 2014 to 2016.

Parts are kept in a cache outside the repository. ``--part`` runs some of them again, ``--report`` writes the page from
what is there. All choices are made on the periods for fitting and validation; parts named "test" open the last autumn.
"""

from __future__ import annotations

import time
import warnings

from _parts import asked
from _report import DOCS, write
from _schwingbach_data import raw
from _schwingbach_figure import picture
from _schwingbach_page import TITLE, body
from _schwingbach_runs import PARTS

from udehydro.files import write_atomic, write_json_atomic
from udehydro.plot import style

SCRIPT = "pinn_schwingbach"


def main() -> None:
    todo, found, kept = asked(__doc__, PARTS, SCRIPT)
    raw()  # or say at once that there are no data
    warnings.filterwarnings("ignore", "What was found is in doubt")  # values at limits, which the page tells of
    for name in todo:
        began = time.process_time()
        found[name] = PARTS[name](found) | {"seconds": time.process_time() - began}
        write_json_atomic(kept, found)
        print(f"{name}: {found[name]['seconds']:.0f} s", flush=True)
    if all(name in found for name in PARTS):
        write_atomic(DOCS / f"{SCRIPT}.png", style.png(picture(found), dpi=100))
        write(SCRIPT, TITLE, body(found))


if __name__ == "__main__":
    main()
