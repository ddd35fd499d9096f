"""The page on training recipes: its code runs, in order, in one namespace."""

from test_docs import ROOT, blocks

PAGE = "docs/recipes.md"


def test_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict = {"__name__": "page"}
    found = blocks(PAGE, "python")
    assert found
    for line, code in found:
        # blank lines in front, so that a traceback names the line of the page
        exec(compile("\n" * (line - 1) + code, str(ROOT / PAGE), "exec"), namespace)
    assert (tmp_path / "waterfall.png").exists()
    assert all(bool(v.isfinite().all()) for v in namespace["losses"].values())
