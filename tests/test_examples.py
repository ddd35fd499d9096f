"""The examples: every script runs, and the notebook stored beside it has the same cells and was executed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "examples").glob("[0-9]*.py"))
LARGEST = 3_000_000
"""Bytes of a stored notebook."""

PLACES = [str(p) for p in (ROOT, Path.home(), Path(sys.prefix)) if len(p.parts) > 1]
PRIVATE = re.compile("|".join(["/home/", "/Users/", "site-packages", r"[A-Z]:\\", *map(re.escape, PLACES)]))
"""What would tell on which machine a notebook was executed."""

LONG = ("03_", "05_", "06_", "07_")
"""Scripts that take more than a quarter of a minute: run with the slow tests."""

each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)


def stored(script: Path):
    """The notebook beside a script."""
    jupytext = pytest.importorskip("jupytext")
    return jupytext.read(script.with_suffix(".ipynb"))


def outputs(notebook) -> list:
    """All outputs of all cells."""
    return [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]


def test_there_are_examples():
    assert SCRIPTS


@each_script
def test_notebook_has_the_cells_of_the_script(script):
    jupytext = pytest.importorskip("jupytext")
    cells = [[(c.cell_type, c.source) for c in n.cells] for n in (jupytext.read(script), stored(script))]
    assert cells[0] == cells[1]


@each_script
def test_notebook_was_executed_in_order_without_error(script):
    code = [c for c in stored(script).cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    found = outputs(stored(script))
    assert [o for o in found if o.output_type == "error" or o.get("name") == "stderr"] == []
    assert any("image/png" in o.get("data", {}) for o in found)


@each_script
def test_notebook_says_nothing_of_the_machine(script):
    notebook = stored(script)
    assert [c.metadata for c in notebook.cells if "execution" in c.metadata] == []
    for output in outputs(notebook):
        texts = [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]
        assert not PRIVATE.search("".join(texts)), texts
    assert script.with_suffix(".ipynb").stat().st_size < LARGEST


@pytest.mark.parametrize(
    "script",
    [pytest.param(s, id=s.stem, marks=[pytest.mark.slow] if s.stem.startswith(LONG) else []) for s in SCRIPTS],
)
def test_script_runs(script, tmp_path):
    """With the budgets cut; the scores mean nothing then."""
    for name in ("IPython", "pyet", "spotpy"):
        pytest.importorskip(name, reason="the examples need the extras demo and notebooks")
    environment = os.environ | {"UDEHYDRO_QUICK": "1"}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(tmp_path.iterdir()) == []
