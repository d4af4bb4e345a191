"""A generation that was killed goes on from its finished batches, and says what it would have said undisturbed."""

import json
import os

import pandas as pd
import pytest

from refusal_cliff.batches import KEEP_NONE, kept_batches
from refusal_cliff.edits import Edit
from refusal_cliff.generation import continue_traces, generate_traces
from refusal_cliff.traces import ChatFormat

THINKING = ChatFormat("<think>\n", "\n</think>\n\n")
SAMPLING = {"temperature": 0.7, "top_p": 1.0, "max_new_tokens": 6, "samples": 2}
PROMPTS = pd.DataFrame({"prompt_id": list("abcd"), "prompt": ["one", "a much longer prompt", "two words", "four"]})
RANKING = pd.DataFrame({"layer": [0, 1], "head": [3, 2], "rank": [2, 1]})
BATCHES = 4  # of two: four prompts, two samples


class Killed(BaseException):
    pass


@pytest.fixture
def output(tmp_path):
    return tmp_path / "traces" / "test.parquet"


@pytest.fixture
def given(tmp_path):
    """An input of the job, and a folder of weights."""
    (tmp_path / "prompts.parquet").write_text("prompts")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "model.safetensors").write_text("weights")
    return [tmp_path / "prompts.parquet", tmp_path / "checkpoint"]


def generate(model, tokenizer, batches, monkeypatch, kill_at=None, edit=None, base=None):
    """Traces, and how many batches were generated for them."""
    calls, plain = [], type(model).generate

    def counted(*arguments, **options):
        if len(calls) == kill_at:
            raise Killed
        calls.append(1)
        return plain(model, *arguments, **options)

    monkeypatch.setattr(model, "generate", counted)
    with (edit or Edit()).hooked(model, 3):
        if base is None:
            traces = generate_traces(model, tokenizer, PROMPTS, THINKING, SAMPLING, 2, 3, batches)
        else:
            traces = continue_traces(
                model, tokenizer, PROMPTS, base, THINKING, SAMPLING, 2, 3, kept=0.5, batches=batches
            )
    return traces, len(calls)


def base_traces():
    return pd.DataFrame(
        {
            "prompt_id": list("aabbccdd"),
            "sample": [0, 1] * 4,
            "thinking": ["Let me think.", "Hm.", "Oh well, what now?", "No.", "Yes.", "", "So.", "Then."],
            "response": "Yes.",
            "finish_reason": "stop",
            "prompt_tokens": 5,
            "thinking_tokens": 9,
            "response_tokens": 4,
            "seed": 7,
        }
    )


@pytest.mark.parametrize("kill_at", range(BATCHES))
@pytest.mark.parametrize("kind", ["whole", "continued", "hooked"])
def test_a_killed_generation_goes_on_and_says_the_same(
    tiny_llama, tiny_tokenizer, output, given, monkeypatch, kind, kill_at
):
    options = {"base": base_traces()} if kind != "whole" else {}
    if kind == "hooked":
        options["edit"] = Edit.of("planted", "boundary-causal-0.05", RANKING)
    expected, n_batches = generate(tiny_llama, tiny_tokenizer, KEEP_NONE, monkeypatch, **options)
    assert n_batches == BATCHES
    with pytest.raises(Killed), kept_batches(output, {"seed": 3}, given) as batches:
        generate(tiny_llama, tiny_tokenizer, batches, monkeypatch, kill_at, **options)
    with kept_batches(output, {"seed": 3}, given) as batches:
        found, n_batches = generate(tiny_llama, tiny_tokenizer, batches, monkeypatch, **options)
    pd.testing.assert_frame_equal(found, expected)
    assert n_batches == BATCHES - kill_at
    assert list(output.parent.glob(".*")) == []


def test_a_kill_after_the_last_batch_repeats_that_one_alone(tiny_llama, tiny_tokenizer, output, given, monkeypatch):
    edit = Edit.of("planted", "released-causal-0.05", RANKING)
    with pytest.raises(Killed), kept_batches(output, {}, given) as batches:
        expected, _ = generate(tiny_llama, tiny_tokenizer, batches, monkeypatch, edit=edit)
        raise Killed
    with kept_batches(output, {}, given) as batches:
        found, n_batches = generate(tiny_llama, tiny_tokenizer, batches, monkeypatch, edit=edit)
    pd.testing.assert_frame_equal(found, expected)
    assert n_batches == 1


def other_settings(settings, given):
    settings["generation"] = {"temperature": 1}


def other_code(settings, given):
    settings["code"] = "1"


def other_prompts(settings, given):
    given[0].write_text("prompt")


def weights_overwritten_in_place(settings, given):
    weights = given[1] / "model.safetensors"
    size, before = weights.stat().st_size, weights.stat().st_mtime_ns
    weights.write_text("WEIGHTS")
    os.utime(weights, ns=(before, before + 1))
    assert weights.stat().st_size == size


def another_file_in_the_checkpoint(settings, given):
    (given[1] / "generation_config.json").write_text("{}")


@pytest.mark.parametrize(
    "change",
    [other_settings, other_code, other_prompts, weights_overwritten_in_place, another_file_in_the_checkpoint],
)
def test_batches_of_anything_else_are_thrown_away(output, given, change):
    settings = {"code": "0"}
    with pytest.raises(Killed), kept_batches(output, dict(settings), given) as batches:
        batches.write(3, [[[1, 2], True]])
        raise Killed
    with pytest.raises(Killed), kept_batches(output, dict(settings), given) as batches:
        assert batches.read(3) == [[[1, 2], True]]
        raise Killed
    change(settings, given)
    with kept_batches(output, settings, given) as batches:
        assert batches.read(3) is None
        assert list(output.parent.rglob("*.json")) == []


def test_a_batch_that_a_power_failure_cut_off_is_not_finished(output, given):
    with kept_batches(output, {}, given) as batches:
        batches.write(3, [[[1, 2], True]])
        path = next(output.parent.rglob("3.json"))
        path.write_text(json.dumps([[[1, 2], True]])[:5])
        assert batches.read(3) is None
