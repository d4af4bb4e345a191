"""The page on speed shows what was measured."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_numbers_on_the_page_are_those_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    sys.modules.pop("report", None)
    import report

    text = (ROOT / "docs" / "speed.md").read_text()
    assert report.page(text, report.RESULTS) == text
    assert "| scoring: " in text
