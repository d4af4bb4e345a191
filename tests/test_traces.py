import pandas as pd
import pytest
import torch

from refusal_cliff.activations import encode_traces, extract_positions, kept_positions
from refusal_cliff.errors import UserError
from refusal_cliff.generation import continue_traces, generate_traces
from refusal_cliff.templates import Rendered
from refusal_cliff.traces import (
    ChatFormat,
    boundary_tokens,
    encode_trace,
    length_batches,
    pad_left,
    render_prompt,
    split_generation,
)

THINKING = ChatFormat("<think>\n", "\n</think>\n\n")


def test_the_prompt_opens_the_thinking_once(tiny_tokenizer):
    own = render_prompt(tiny_tokenizer, "hi", THINKING)
    template = tiny_tokenizer.chat_template
    try:
        tiny_tokenizer.chat_template = template + "<think>\n"
        assert (
            render_prompt(tiny_tokenizer, "hi", THINKING) == own == Rendered("[user]hi[assistant]<think>\n", ((6, 8),))
        )
    finally:
        tiny_tokenizer.chat_template = template


def test_a_tokenizer_without_chat_template_is_named(tiny_tokenizer):
    template = tiny_tokenizer.chat_template
    try:
        tiny_tokenizer.chat_template = None
        with pytest.raises(UserError, match="has no chat template"):
            render_prompt(tiny_tokenizer, "hi", THINKING)
    finally:
        tiny_tokenizer.chat_template = template


def test_spans_cover_the_trace_and_decode_to_their_text(tiny_tokenizer):
    texts = {"prompt": "[user]hi<think>\n", "thinking": "Hm.\n", "boundary": THINKING.boundary, "response": "No."}
    prompt, *others = texts.values()
    trace = encode_trace(tiny_tokenizer, Rendered(prompt), *others)
    assert {name: tiny_tokenizer.decode(trace.ids[slice(*span)]) for name, span in trace.spans.items()} == texts
    assert trace.spans["response"][1] == len(trace.ids)
    assert trace.last_boundary == trace.spans["response"][0] - 1


def test_boundary_tokens_are_texts_in_which_spaces_can_be_seen(tiny_tokenizer):
    trace = encode_trace(tiny_tokenizer, Rendered("[user]hi"), "Hm.", "\n</think> \n\n", "No.")
    texts = boundary_tokens(tiny_tokenizer, trace)
    assert len(texts) == trace.spans["boundary"][1] - trace.spans["boundary"][0]
    assert "".join(texts) == "↵</think>␣↵↵"


def test_generated_text_is_split_at_the_marker():
    assert split_generation("I think.\n</think>\n\nNo.", THINKING) == ("I think.", "No.")
    assert split_generation("I think.</think>", THINKING) == ("I think.", "")
    assert split_generation("I think on and on", THINKING) == ("I think on and on", None)


@pytest.mark.parametrize(
    ("text", "thought", "response"),
    [
        ("A\n</think>\n\n<think>\nB\n</think>\n\nNo.", "A\n</think>\n\n<think>\nB", "No."),
        ("A</think><think>B</think>\n<think></think>No.", "A</think><think>B</think>\n<think>", "No."),
        ("A</think>\n\n<think>\nB", "A</think>\n\n<think>\nB", None),
        ("A</think>Yes. <think>B\n</think>No.", "A", "Yes. No."),
        ("A</think>\n\n</think>\n\n</think>\n\nNo.", "A", "No."),
        ("A</think></think>", "A", ""),
        ("A</think>The tag </think> ends it.", "A", "The tag </think> ends it."),
        ("A</think>The tag <think> starts it.", "A", "The tag <think> starts it."),
        ("<think>\nA</think>No.", "<think>\nA", "No."),
    ],
)
def test_what_is_thought_after_the_first_thinking_is_no_response(text, thought, response):
    assert split_generation(text, THINKING) == (thought, response)


def test_without_an_opening_marker_the_first_closing_ends_the_thinking():
    assert split_generation("A</think>B</think>C", ChatFormat("", "</think>")) == ("A", "B</think>C")


@pytest.mark.parametrize(
    ("generated", "response", "reason"),
    [
        ("Yes.<eos>", "Yes.", "stop"),
        ("<think>\nB\n</think>\n\nNo.<eos>", "No.", "stop"),
        ("<think>\nB", None, "unclosed"),
    ],
)
def test_a_thinking_that_opens_again_when_it_is_answered_anew_is_no_response(
    tiny_llama, tiny_tokenizer, prompts, monkeypatch, generated, response, reason
):
    tokens = tiny_tokenizer(generated, add_special_tokens=False)["input_ids"]

    def generate(input_ids, **_):
        return torch.cat([input_ids, torch.tensor([tokens] * len(input_ids))], dim=1)

    monkeypatch.setattr(tiny_llama, "generate", generate)
    base = pd.DataFrame({"prompt_id": ["a"], "sample": 0, "thinking": "Hm.", "response": "x", "finish_reason": "stop"})
    base = base.assign(thinking_tokens=1, response_tokens=1, seed=0)
    settings = {"temperature": 0.7, "top_p": 1.0, "max_new_tokens": 6}
    row = continue_traces(tiny_llama, tiny_tokenizer, prompts, base, THINKING, settings, 1, seed=0).iloc[0]
    assert (row["thinking"], row["response"], row["finish_reason"]) == ("Hm.", response, reason)


def test_padding_is_left():
    ids, mask = pad_left([[5], [6, 7, 8]], pad_id=0)
    assert ids.tolist() == [[0, 0, 5], [6, 7, 8]]
    assert mask.tolist() == [[0, 0, 1], [1, 1, 1]]


def test_batches_hold_neighbours_in_length_and_no_more_tokens_than_fit():
    sequences = [[0] * length for length in (9, 2, 1, 3, 30)]
    assert list(length_batches(sequences, batch_size=2)) == [[2, 1], [3, 0], [4]]
    assert list(length_batches(sequences, batch_size=9, max_tokens=9)) == [[2, 1, 3], [0], [4]]
    assert list(length_batches([], batch_size=2)) == []


@pytest.fixture(scope="module")
def prompts():
    return pd.DataFrame({"prompt_id": ["a", "b", "c"], "prompt": ["one", "a much longer prompt", "two words"]})


def sample(model, tokenizer, prompts, **sampling):
    settings = {"temperature": 0.7, "top_p": 1.0, "max_new_tokens": 6, "samples": 2} | sampling
    return generate_traces(model, tokenizer, prompts, THINKING, settings, batch_size=4, seed=3)


def test_sampling_is_seeded_and_marks_unclosed_traces(tiny_llama, tiny_tokenizer, prompts):
    first = sample(tiny_llama, tiny_tokenizer, prompts)
    pd.testing.assert_frame_equal(first, sample(tiny_llama, tiny_tokenizer, prompts))
    assert first[["prompt_id", "sample"]].values.tolist() == [[p, s] for p in "abc" for s in (0, 1)]
    assert len(set(first["thinking"])) > 1
    unclosed = first["finish_reason"] == "unclosed"
    assert unclosed.any()
    assert (first["response"].isna() == unclosed).all()


def test_greedy_like_sampling_does_not_depend_on_batch_mates(tiny_llama, tiny_tokenizer, prompts):
    cold = {"temperature": 1e-4, "samples": 1}
    together = sample(tiny_llama, tiny_tokenizer, prompts, **cold)
    alone = pd.concat([sample(tiny_llama, tiny_tokenizer, prompts.iloc[[row]], **cold) for row in range(3)])
    assert together["thinking"].tolist() == alone["thinking"].tolist()


def test_a_closed_trace_is_split_and_its_end_token_removed(tiny_llama, tiny_tokenizer, prompts, monkeypatch):
    text = "Hm.\n</think>\n\nNo.<eos>"
    tokens = tiny_tokenizer(text, add_special_tokens=False)["input_ids"]

    def generate(input_ids, **_):
        return torch.cat([input_ids, torch.tensor([tokens] * len(input_ids))], dim=1)

    monkeypatch.setattr(tiny_llama, "generate", generate)
    traces = sample(tiny_llama, tiny_tokenizer, prompts)
    assert set(traces["thinking"]) == {"Hm."}
    assert set(traces["response"]) == {"No."}
    assert set(traces["finish_reason"]) == {"stop"}
    assert (traces["response_tokens"] == 3).all()


def test_the_dump_holds_the_states_of_the_positions_it_names(tiny_llama, tiny_tokenizer, prompts):
    traces = pd.DataFrame(
        {
            "prompt_id": ["a", "b", "c"],
            "sample": 0,
            "thinking": ["Some thought here.", "x", "never closed"],
            "finish_reason": ["stop", "length", "unclosed"],
        }
    )
    closed, encoded = encode_traces(tiny_tokenizer, prompts, traces, THINKING)
    assert closed["prompt_id"].tolist() == ["a", "b"]
    resid, rows = extract_positions(tiny_llama, closed, encoded, pad_id=0, batch_size=2, thinking_positions=4)
    assert len(rows) == len(resid)
    assert (rows[rows["kind"] == "last_boundary"].groupby("prompt_id").size() == 1).all()
    for index, trace in enumerate(encoded):
        with torch.inference_mode():
            states = tiny_llama(torch.tensor([trace.ids]), output_hidden_states=True).hidden_states[1:]
        for row in rows.index[rows["prompt_id"] == closed["prompt_id"][index]]:
            expected = torch.stack([state[0, rows["position"][row]] for state in states])
            torch.testing.assert_close(resid[row], expected, rtol=1e-4, atol=1e-4)


def test_kept_positions_stay_inside_their_spans(tiny_tokenizer):
    trace = encode_trace(tiny_tokenizer, Rendered("[user]hi<think>\n"), "A thought of some length.", THINKING.boundary)
    kept = kept_positions(trace, thinking_positions=5)
    thinking = [position for kind, position in kept if kind == "thinking"]
    assert len(thinking) == 5
    assert thinking[0] == trace.spans["thinking"][0]
    assert thinking[-1] == trace.spans["thinking"][1] - 1
    boundary = [position for kind, position in kept if kind in ("boundary", "last_boundary")]
    assert boundary == list(range(*trace.spans["boundary"]))
    blank = encode_trace(tiny_tokenizer, Rendered("p"), "", "x")
    assert kept_positions(blank, 5) == [
        ("last_prompt", 0),
        ("last_boundary", 1),
    ]


def test_no_closed_trace_is_an_error_that_names_the_remedy(tiny_tokenizer, prompts):
    traces = pd.DataFrame({"prompt_id": ["a"], "sample": 0, "thinking": "x", "finish_reason": "unclosed"})
    with pytest.raises(UserError, match="max_new_tokens"):
        encode_traces(tiny_tokenizer, prompts, traces, THINKING)
