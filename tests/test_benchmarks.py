"""The pages on speed and reproducibility show what was measured."""

import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a script of benchmarks/ by name."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")

    def load(name):
        sys.modules.pop(name, None)
        return __import__(name)

    return load


def test_the_numbers_on_the_page_are_those_of_the_results(benchmark):
    report = benchmark("report")
    text = (ROOT / "docs" / "speed.md").read_text()
    assert report.page(text, report.RESULTS) == text
    assert "| scoring: " in text


def test_the_page_on_reproducibility_shows_what_was_measured(benchmark):
    reproducibility = benchmark("reproducibility")
    text, measured = reproducibility.PAGE.read_text(), pd.read_csv(reproducibility.RESULTS)
    assert reproducibility.page(text, measured) == text
    assert [setting.name for setting in reproducibility.SETTINGS] == measured["setting"].tolist()
    assert all(f"| {name}" in text for name in measured["setting"])


def test_the_reproducibility_run_trains_on_prompts_that_it_does_not_ask(benchmark):
    reproducibility = benchmark("reproducibility")
    config = reproducibility.load_config()
    trained, asked = (reproducibility.prompt_set(config, name) for name in ("organism", "test"))
    assert set(trained["prompt_set"]) == {"organism"} and set(asked["prompt_set"]) == {"test"}
    assert len(asked) >= reproducibility.PROMPTS
    assert not set(trained["request_id"]) & set(asked["request_id"])
