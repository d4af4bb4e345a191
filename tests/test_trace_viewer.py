"""The trace viewer: scores of every token, whose text may be read, and the page in a browser where there is one."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from browser import needs_browser, opened

from refusal_cliff.cliffs import score_traces
from refusal_cliff.token_scores import chosen_prompts, score_tokens
from refusal_cliff.trace_viewer import HIDDEN, page
from refusal_cliff.traces import ChatFormat, encode_trace, render_prompt

CHAT = ChatFormat("<think>\n", "\n</think>\n\n")
NASTY = "</script><b>bold</b>"


def test_as_many_prompts_of_each_dataset_as_there_are():
    prompts = pd.DataFrame({"prompt_id": list("abcdefg"), "dataset": ["one"] * 5 + ["two"] * 2})
    assert chosen_prompts(prompts, 5)["prompt_id"].tolist() == ["a", "b", "c", "f", "g"]
    assert len(chosen_prompts(prompts, 100)) == 7


@pytest.fixture(scope="module")
def traces():
    return pd.DataFrame({"prompt_id": ["a", "b"], "sample": 0})


@pytest.fixture(scope="module")
def scored(tiny_llama, tiny_tokenizer, traces):
    """Scores of two traces by two probes, and what `cliffs` measures on the same."""
    rng, width = np.random.default_rng(0), tiny_llama.config.hidden_size
    probes = {
        "paper": (rng.normal(size=(2, width)), rng.normal(size=2), np.array([0, 2])),
        "thinking": (rng.normal(size=(1, width)), rng.normal(size=1), np.array([2])),
    }
    encoded = [
        encode_trace(tiny_tokenizer, render_prompt(tiny_tokenizer, prompt, CHAT), thought, CHAT.boundary, answer)
        for prompt, thought, answer in [
            ("Say hello.", "They want a hello.", "Hello."),
            (NASTY, "Short.", "No, I will not."),
        ]
    ]
    table = score_tokens(tiny_llama, tiny_tokenizer, traces, encoded, probes, batch_size=2)
    cliffs, *_ = score_traces(tiny_llama, traces, encoded, probes, {}, {}, 0, 2, grid=5, tail=3)
    return table, cliffs


def test_every_token_has_the_score_that_cliffs_are_measured_by(scored):
    table, cliffs = scored
    assert len(table) == 2 * 3
    merged = table.merge(cliffs, on=["prompt_id", "sample", "probe", "layer"], validate="one_to_one")
    assert len(merged) == len(table)
    for row in merged.itertuples():
        assert len(row.tokens) == len(row.scores) > row.boundary_stop
        thought = row.scores[row.prompt_stop : row.thinking_stop]
        assert row.scores[row.boundary_stop - 1] == pytest.approx(row.final, abs=1e-5)
        assert thought.max() == pytest.approx(row.plateau, abs=1e-5)


@pytest.fixture(scope="module")
def html(scored):
    table = pd.concat([scored[0].assign(model="mine", variant=variant) for variant in ("base", "ablate-causal-0.03")])
    outcomes = table[["model", "variant", "prompt_id", "sample"]].drop_duplicates()
    outcomes = outcomes.assign(
        dataset=np.where(outcomes["prompt_id"] == "a", "secret", "grammar"), refused=True, harmful=pd.NA
    )
    return page(table, outcomes, "paper", {"grammar"})


def test_the_page_loads_nothing_escapes_all_and_hides_what_may_not_be_read(html):
    assert html.count("</script>") == 2 and "<b>" not in html
    assert not re.search(r"(?:src|href)=|@import|fetch\(|url\(", html)
    data = json.loads(re.search(r'id="data">(.*?)</script>', html)[1])
    first, second = sorted(data["models"]["mine"]["variants"]["base"], key=lambda trace: trace["id"])
    assert {*first["tokens"][: first["stops"][1]], *first["tokens"][first["stops"][2] :]} == {HIDDEN}
    assert "".join(first["tokens"][first["stops"][1] : first["stops"][2]]) == "↵</think>↵↵"
    assert NASTY in "".join(second["tokens"]) and HIDDEN not in second["tokens"]
    assert first["said"] == "refused, harmful not judged"


@needs_browser
def test_a_browser_shows_a_trace_beside_its_ablation(html, tmp_path):
    (tmp_path / "traces.html").write_text(html, encoding="utf-8")
    with opened(tmp_path / "traces.html") as (page, trouble):
        page.locator("section").nth(1).wait_for()
        shown = page.inner_html("body")
        assert trouble == []
    assert shown.count("<section>") == 2 and "ablate-causal-0.03</h2>" in shown
    assert 'class="boundary"' in shown and "<path" in shown
    assert "<option>layer" not in shown and shown.count("<option>") >= 8
