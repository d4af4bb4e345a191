"""The page of verdicts and the last screen: what stands where, in words, within 120 columns, and nothing unescaped."""

import io
import re
from pathlib import Path

import pandas as pd
import pytest

from refusal_cliff import verdict_page
from refusal_cliff.claims import COLUMNS, INCONCLUSIVE, NO_DATA, NOT_SUPPORTED, SEED_COLUMNS, SUPPORTED
from refusal_cliff.sheets import load_claims

SHEETS = sorted((Path(__file__).parents[1] / "config").glob("*claims.tsv"))


def claim(family, verdict=SUPPORTED, expected="", **changes):
    said = {SUPPORTED: "yes", NOT_SUPPORTED: "no", INCONCLUSIVE: None}
    agrees = "" if not expected or verdict == NO_DATA else {None: "open", expected: "yes"}.get(said[verdict], "no")
    row = dict.fromkeys(COLUMNS, "") | {
        "id": "cliff_height",
        "claim": "The score falls",
        "kind": "paper",
        "family": family,
        "metric": "mean cliff",
        "predicted": "> 0.2",
        "estimate": 0.5,
        "low": 0.4,
        "high": 0.6,
        "n": 1234,
        "holds": "3 of 3",
        "paper": "It falls sharply",
        "headline": True,
    }
    return row | {"verdict": verdict, "expected": expected, "agrees": agrees} | changes


def table(*rows):
    """Claims as they come back from their file."""
    return pd.read_csv(io.StringIO(pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False)))


def seeds(*rows):
    return pd.DataFrame([dict.fromkeys(SEED_COLUMNS, "") | row for row in rows], columns=SEED_COLUMNS)


@pytest.mark.parametrize(
    ("expected", "verdict", "sentence"),
    [
        ("yes", SUPPORTED, "Holds on cliff and should."),
        ("no", NOT_SUPPORTED, "Does not hold on cliff and should not."),
        ("yes", NOT_SUPPORTED, "Does not hold on cliff but should."),
        ("no", SUPPORTED, "Holds on cliff but should not."),
        ("", SUPPORTED, "Holds on cliff."),
        ("no", INCONCLUSIVE, "Open on cliff."),
        ("yes", NO_DATA, "Not measured on cliff."),
    ],
)
def test_what_is_and_what_should_be_are_a_sentence(expected, verdict, sentence):
    found = verdict_page.headlines(table(claim("cliff", verdict, expected)), "paper")
    assert verdict_page.in_words(found) == sentence


def test_families_alike_share_a_sentence():
    found = table(*(claim(name, expected="yes") for name in ("cliff", "planted", "fade")), claim("aligned", NO_DATA))
    words = verdict_page.in_words(verdict_page.headlines(found, "paper"))
    assert words == "Holds on cliff, planted and fade and should. Not measured on aligned."


def test_the_paper_is_asked_by_its_own_probe_over_all_prompts():
    rows = [claim("cliff", probe=probe, estimate=value) for probe, value in (("paper", 0.5), ("behaviour", 0.9))]
    rows += [claim("cliff", probe="paper", population="vulnerable", estimate=0.8)]
    rows += [claim("cliff", id="other", headline=False)]
    assert verdict_page.headlines(table(*rows), "paper")["estimate"].tolist() == [0.5]
    assert verdict_page.headlines(table(*rows), "behaviour")["estimate"].tolist() == [0.9]


def test_the_page_shows_numbers_truth_and_what_is_missing_and_loads_nothing():
    rows = [
        claim("cliff", expected="yes"),
        claim("fade", expected="no", estimate=-0.001, low=-0.004, high=0.3),
        claim("aligned", NO_DATA, reason="about poorly aligned models"),
        claim("planted", id="repair", kind="control", paper="", claim="<b>Does</b> it repair?"),
    ]
    untaken = {"model": "planted-s1", "reason": "the planting did not take (compliance 0.84)"}
    html = verdict_page.page(table(*rows), seeds(untaken), "paper")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))
    assert "cliff ✓ 0.50 [0.40, 0.60] n 1,234, 3 of 3" in text
    assert "fade ✓ 0.00 [0.00, 0.30]" in text and "-0.00" not in text
    assert "1 of 2 verdicts on models whose truth is known are as expected" in text
    assert "aligned: about poorly aligned models" in text
    assert "planted-s1 (compliance 0.84)" in text
    assert "&lt;b&gt;Does&lt;/b&gt; it repair?" in html and "Control" in text
    assert not re.search(r"(src|href)=|url\(|@import|<script", html)


def test_without_any_truth_the_page_counts_nothing():
    html = verdict_page.page(table(claim("smollm")), seeds(), "paper")
    assert "whose truth is known" not in html and "Nothing is expected" in html


def test_the_screen_has_a_line_for_each_claim_in_120_columns():
    names = [f"a_model_of_{number}_billion" for number in range(9)]
    rows = [claim(name, id=id) for id in ("cliff_height", "a_claim_with_quite_a_long_name") for name in names]
    rows += [claim("fade", expected="no"), claim("aligned", NO_DATA)]
    untaken = {"model": "planted-s1", "reason": "the planting did not take (compliance 0.84)"}
    screen = verdict_page.screen(table(*rows), seeds(untaken), "paper")
    assert max(map(len, screen.splitlines())) <= 120
    assert all(screen.count(name) == 1 for name in names)
    assert "a_claim_with_quite_a_long_name" in screen and "0.50 ✓!" in screen
    assert "0 of 1 are as expected" in screen
    assert "aligned" not in screen
    assert "planting did not take: planted-s1 (compliance 0.84)" in screen


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda path: path.stem)
def test_a_sheet_has_as_many_headlines_as_fit_a_screen(sheet):
    shown = load_claims(str(sheet))["headline"].sum()
    assert 5 <= shown <= 20
