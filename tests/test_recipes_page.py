"""The page on training recipes: its code runs, in order, in one namespace."""

from test_docs import run

PAGE = "docs/recipes.md"


def test_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = run(PAGE)
    assert (tmp_path / "waterfall.png").exists()
    assert all(bool(v.isfinite().all()) for v in namespace["losses"].values())
