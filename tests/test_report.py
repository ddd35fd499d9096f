"""The report: one file that needs nothing else, and shows data as data."""

import re
from pathlib import Path

from udehydro.report import Code, Items, Picture, Section, Table, Text, number, write_report

PNG = b"\x89PNG\r\n\x1a\n"


def page(tmp_path: Path, *blocks) -> str:
    return write_report(tmp_path / "r.html", "Title", "Summary", [Section("One", blocks)]).read_text()


def test_the_page_is_self_contained(tmp_path: Path):
    html = page(tmp_path, Text("text"), Items(["a"]), Code("x < 1"), Table(["a"], [[1.0]]), Picture(PNG, "caption"))
    assert html.startswith("<!DOCTYPE html>")
    assert "data:image/png;base64," in html
    assert not re.search(r"https?://|<script|<link|@import|url\(", html)
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)', html))
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)', html))


def test_whatever_comes_from_data_is_escaped(tmp_path: Path):
    evil = '"><script>alert(1)</script>'
    html = page(tmp_path, Text(evil), Items([evil]), Code(evil), Table([evil], [[evil]], evil), Picture(PNG, evil))
    assert "<script" not in html and html.count("&lt;script&gt;") == 8
    assert "<script" not in write_report(tmp_path / "r.html", evil, evil, [Section(evil, [])]).read_text()


def test_numbers_for_people():
    assert [number(x) for x in (0.12345, None, float("nan"), 3, "a", 1e-12, 0.0, 2.5e7)] == [
        "0.123", "–", "–", "3", "a", "1.0e-12", "0.000", "2.5e+07",
    ]  # fmt: skip


def test_the_best_cell_is_bold(tmp_path: Path):
    html = page(tmp_path, Table(["m", "NSE"], [["a", 0.5], ["b", 0.75]], best=frozenset({(1, 1)})))
    assert '<td class="best">0.750</td>' in html and "<td>0.500</td>" in html
