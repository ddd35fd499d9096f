"""The documents say what is so: code runs, public names are listed, links and commands exist."""

import configparser
import importlib
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from udehydro.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")))
EXECUTED = (
    "README.md",
    "docs/concepts.md",
    "docs/extending.md",
    "docs/models.md",
    "docs/sensitivity.md",
    "docs/identifiability.md",
    "docs/global_sensitivity.md",
    "docs/assimilation.md",
    "docs/unsaturated.md",
    "docs/inversion.md",
    "docs/recharge.md",
    "docs/pinn.md",
)
PACKAGES = (
    "",
    ".laws",
    ".models",
    ".parameters",
    ".solvers",
    ".training",
    ".discovery",
    ".data",
    ".experiment",
    ".plot",
    ".sensitivity",
    ".assimilation",
    ".richards",
    ".richards.laws",
    ".richards.exact",
    ".richards.column",
    ".richards.inversion",
    ".richards.pinn",
)

GROUPS = (("data",), ("sensitivity",), ("richards",))
"""Commands that have commands of their own."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(page: str, language: str) -> list[tuple[int, str]]:
    """Line number and text of the fenced blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [(text.count("\n", 0, m.start(2)) + 1, m[2]) for m in _FENCE.finditer(text) if m[1] == language]
    return [(line, code) for line, code in found]


@pytest.mark.parametrize("page", EXECUTED)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """In order, in one namespace, in an empty folder."""
    if page == "README.md":
        pytest.importorskip("pyet", reason="the README uses the demonstration data")
        pytest.importorskip("spotpy", reason="the README uses the demonstration data")
    if page == "docs/global_sensitivity.md":
        pytest.importorskip("SALib", reason="the page uses SALib")
    monkeypatch.chdir(tmp_path)
    run(page)


def run(page: str) -> dict:
    """Execute the Python of a page; what it defines."""
    namespace: dict = {"__name__": "page"}
    found = blocks(page, "python")
    assert found
    for line, code in found:
        # blank lines in front, so that a traceback names the line of the page
        exec(compile("\n" * (line - 1) + code, str(ROOT / page), "exec"), namespace)
    return namespace


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_in_the_api_page(package):
    listed = set(re.findall(r"`([A-Za-z_]\w*)", (ROOT / "docs/api.md").read_text(encoding="utf-8")))
    public = importlib.import_module(f"udehydro{package}").__all__
    assert [n for n in public if n not in listed] == []


def anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in _LINK.findall(_FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def commands(program: str) -> list[list[str]]:
    """Words of the commands of a program in the shell blocks of all pages."""
    found = []
    for page in PAGES:
        for _, text in blocks(page, "bash"):
            lines = [line.partition(" #")[0] for line in text.replace("\\\n", " ").splitlines()]
            found += [line.split() for line in lines if line.split()[:1] == [program]]
    return found


def test_command_line_options_exist():
    shown: dict[tuple, str] = {}
    assert commands("udehydro")
    for words in commands("udehydro"):
        command = tuple(w for w in words[1:3] if w.isalpha())
        command = command if command[:1] in GROUPS else command[:1]
        result = shown.setdefault(command, CliRunner().invoke(app, [*command, "--help"]).output)
        for option in (w for w in words if w.startswith("--")):
            assert re.search(rf"{option}\b", result), f"udehydro {' '.join(command)} has no {option}"


def test_make_targets_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert commands("make")
    assert [w[1] for w in commands("make") if w[1] not in targets] == []


def test_extras_exist():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    named = re.findall(r"udehydro\[([\w,]+)\]", "".join((ROOT / p).read_text(encoding="utf-8") for p in PAGES))
    assert named
    assert {e for n in named for e in n.split(",")} <= set(setup["options.extras_require"])
