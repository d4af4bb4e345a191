"""lm-evaluation-harness: what a task reads of a trace, what a table says of items, and the harness if it is there."""

import numpy as np
import pandas as pd
import pytest

from refusal_cliff import harness
from refusal_cliff.errors import UserError
from refusal_cliff.harness_table import tabulate
from refusal_cliff.traces import ChatFormat

CHAT = ChatFormat("<think>\n", "\n</think>\n\n")
PROMPTS = pd.DataFrame(
    {
        "prompt_id": ["a", "b", "c"],
        "prompt": ["How many legs has a cat?", "What colour is snow?", "Say hello."],
        "reference": ["4", "white", None],
        "match": ["number", "contains", None],
    }
)


@pytest.mark.parametrize(
    ("trace", "stops", "text"),
    [
        ("They ask for 4.\n\nOr 5.\n</think>\n\nIt is 4.\n\nIs it?", ["\n\n"], "It is 4."),
        ("They ask for 4.\n</think>\n\nIt is 4.", ["", "Q:"], "It is 4."),
        ("They ask for 4, and I go on and on", [], ""),
    ],
    ids=["a stop within the thinking stops nothing", "an empty stop is none", "an open thinking is no answer"],
)
def test_a_task_reads_what_follows_the_thinking(trace, stops, text):
    assert harness.answer(trace, CHAT, stops) == text


def test_own_prompts_are_right_by_the_rule_of_their_dataset():
    task = harness.references_task(PROMPTS)
    documents = list(task["custom_dataset"]()["test"])
    assert [document["prompt_id"] for document in documents] == ["a", "b"]
    assert task["process_results"](documents[0], ["It has 4 legs, so the answer is 4."]) == {"acc": 1.0}
    assert task["process_results"](documents[1], ["It is black."]) == {"acc": 0.0}
    with pytest.raises(UserError, match=r"harness\.tasks: references: no test prompt has a reference answer"):
        harness.references_task(PROMPTS[2:])


def items(variant, values, metric="acc"):
    return pd.DataFrame(
        {
            "model": "m",
            "variant": variant,
            "task": "t",
            "filter": "none",
            "metric": metric,
            "doc": range(len(values)),
            "value": np.asarray(values, dtype=float),
        }
    )


def test_variants_stand_beside_their_base_item_by_item():
    table = tabulate(pd.concat([items("base", [1, 1, 1, 0] * 10), items("tuned", [0, 1, 1, 0] * 10)]), 0)
    base, tuned = table.to_dict("records")
    assert base["value"] == 0.75 and base["n"] == 40 and np.isnan(base["change"])
    assert 0.59 < base["low"] < 0.75 < base["high"] < 0.87
    assert tuned["change"] == -0.25 and tuned["change_low"] < -0.25 < tuned["change_high"] < 0
    other = tabulate(items("base", [0.25, 0.5, 3.5], "f1"), 0).iloc[0]
    assert other["value"] == pytest.approx(1.4167, abs=1e-3) and other["low"] < other["value"] < other["high"]


def test_without_the_harness_one_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    with pytest.raises(UserError, match=rf"pip install lm-eval=={harness.VERSION}"):
        harness.ask(None, None, CHAT, ["gsm8k"], 0, 1, 8, 0)


def test_a_model_is_asked_as_the_workflow_speaks_to_it(tiny_llama, tiny_tokenizer):
    pytest.importorskip("lm_eval", reason="needs lm-eval, which has an environment of its own (envs/harness.yaml)")
    model, tokenizer = tiny_llama, tiny_tokenizer
    found = harness.ask(model, tokenizer, CHAT, [harness.references_task(PROMPTS)], 1, 2, 8, 0)
    assert found[["task", "metric", "doc", "value"]].to_dict("records") == [
        {"task": "references", "metric": "acc", "doc": 0, "value": 0.0}
    ]
    with pytest.raises(UserError, match="has no task nonsense"):
        harness.ask(model, tokenizer, CHAT, ["nonsense"], 1, 2, 8, 0)
