"""Interventions on heads: what is touched, where, and that nothing else is. On every supported architecture."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import logits

from refusal_cliff.activations import encode_traces
from refusal_cliff.errors import UserError
from refusal_cliff.generation import continue_traces, generate_traces, keep_thinking
from refusal_cliff.head_means import benign_mean, boundary_mean, reference_traces, write_norms
from refusal_cliff.hooks import attached, boundary_heads, captured_heads, renormalised_heads, scaled_heads
from refusal_cliff.models import head_counts, output_projection, set_heads, split_heads
from refusal_cliff.perplexity import measure_perplexity
from refusal_cliff.traces import ChatFormat, EncodedTrace, encode_trace, render_prompt

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
THINKING = ChatFormat("<think>\n", "\n</think>\n\n")
HEADS = [[0, 1, 0.0], [1, 4, 0.0], [1, 2, 0.0]]
SCALES = {(layer, head): scale for layer, head, scale in HEADS}
GREEDY = {"temperature": 1e-4, "top_p": 1.0, "max_new_tokens": 8, "samples": 1}
N_BOUNDARY = 3


@pytest.fixture
def prompts():
    return pd.DataFrame({"prompt_id": list("abc"), "prompt": ["one", "a much longer prompt", "two words"]})


@pytest.fixture
def traces():
    return pd.DataFrame(
        {
            "prompt_id": list("abc"),
            "sample": 0,
            "thinking": ["Let me think.", "Hm.", "Never ending"],
            "response": ["Yes.", "No.", None],
            "finish_reason": ["stop", "stop", "unclosed"],
            "prompt_tokens": 5,
            "thinking_tokens": 9,
            "response_tokens": [4, 3, 0],
            "seed": 7,
        }
    )


def values_for(model, *shape):
    return torch.randn(*shape, head_counts(model)[2], generator=torch.Generator().manual_seed(3))


def answer(model, tokenizer, prompts, traces, **options):
    return continue_traces(model, tokenizer, prompts, traces, THINKING, GREEDY, batch_size=2, seed=0, **options)


def test_a_mean_in_the_weights_equals_a_hook_that_puts_it_everywhere(tiny_model, ids):
    values = values_for(tiny_model, len(HEADS))
    n_heads = head_counts(tiny_model)[1]

    def replace(layer):
        def function(projection_input):
            z = split_heads(projection_input, n_heads).clone()
            for place, (own, head, _) in enumerate(HEADS):
                if own == layer:
                    z[..., head, :] = values[place]
            return z.flatten(-2)

        return function

    with attached([(output_projection(tiny_model, layer), replace(layer)) for layer in (0, 1)]):
        expected = logits(tiny_model, ids)
    edited = copy.deepcopy(tiny_model)
    set_heads(edited, HEADS, values)
    torch.testing.assert_close(logits(edited, ids), expected, **CLOSE)
    assert not torch.allclose(expected, logits(tiny_model, ids), atol=1e-3)


def test_a_boundary_hook_equals_the_everywhere_one_where_all_is_boundary(tiny_model, ids):
    with scaled_heads(tiny_model, SCALES):
        everywhere = logits(tiny_model, ids)
    with boundary_heads(tiny_model, SCALES, ids.shape[1]):
        torch.testing.assert_close(logits(tiny_model, ids), everywhere, **CLOSE)


def test_a_boundary_hook_changes_the_boundary_alone(tiny_model, ids):
    plain = logits(tiny_model, ids)
    with boundary_heads(tiny_model, SCALES, N_BOUNDARY):
        changed = logits(tiny_model, ids)
    assert torch.equal(changed[:, :-N_BOUNDARY], plain[:, :-N_BOUNDARY])
    assert not torch.allclose(changed[:, -N_BOUNDARY:], plain[:, -N_BOUNDARY:], atol=1e-3)


def test_restoring_a_traces_own_activations_changes_nothing(tiny_model, ids):
    encoded = [EncodedTrace(ids[0].tolist(), {"boundary": (17 - N_BOUNDARY, 17), "thinking": (5, 14)})]
    means = boundary_mean(tiny_model, encoded, pad_id=0, batch_size=1)
    values = torch.as_tensor(means[:, [0, 1, 1], [1, 4, 2]])
    with boundary_heads(tiny_model, SCALES, N_BOUNDARY, values):
        restored = logits(tiny_model, ids[:1])
        other = logits(tiny_model, ids[1:2])
    torch.testing.assert_close(restored, logits(tiny_model, ids[:1]), **CLOSE)
    assert not torch.allclose(other, logits(tiny_model, ids[1:2]), atol=1e-3)


def test_generation_reads_a_changed_boundary_but_is_not_itself_changed(tiny_model, tiny_tokenizer, prompts, traces):
    """Step by step: after a hooked prefill, each token comes from an unhooked pass on the changed cache."""
    n_boundary = len(tiny_tokenizer(THINKING.boundary)["input_ids"])
    with boundary_heads(tiny_model, {(1, 4): -3.0}, n_boundary):
        table = answer(tiny_model, tiny_tokenizer, prompts, traces)
    encoded = encode_trace(
        tiny_tokenizer, render_prompt(tiny_tokenizer, "one", THINKING), "Let me think.", "\n</think>\n\n"
    )
    with torch.inference_mode():
        with boundary_heads(tiny_model, {(1, 4): -3.0}, n_boundary):
            step = tiny_model(torch.tensor([encoded.ids]), use_cache=True)
        tokens = []
        while len(tokens) < GREEDY["max_new_tokens"]:
            tokens.append(int(step.logits[0, -1].argmax()))
            if tokens[-1] == tiny_tokenizer.eos_token_id:
                break
            step = tiny_model(torch.tensor([tokens[-1:]]), past_key_values=step.past_key_values, use_cache=True)
    kept = [token for token in tokens if token != tiny_tokenizer.eos_token_id]
    assert table["response"][0] == tiny_tokenizer.decode(kept).strip("\n")


def test_a_boundary_scaled_by_one_changes_nothing(tiny_llama, tiny_tokenizer, prompts, traces):
    plain = answer(tiny_llama, tiny_tokenizer, prompts, traces)
    n_boundary = len(tiny_tokenizer(THINKING.boundary)["input_ids"])
    with boundary_heads(tiny_llama, {(1, 4): 1.0}, n_boundary):
        pd.testing.assert_frame_equal(answer(tiny_llama, tiny_tokenizer, prompts, traces), plain)
    with boundary_heads(tiny_llama, {(1, 4): -3.0}, n_boundary):
        changed = answer(tiny_llama, tiny_tokenizer, prompts, traces)
    assert changed["response"][0] != plain["response"][0]


def test_a_boundary_hook_that_never_ran_raises(tiny_llama, ids):
    with pytest.raises(RuntimeError, match="1 of 1 hooks never ran"), boundary_heads(tiny_llama, {(0, 1): 0.0}, 2):
        pass
    with pytest.raises(RuntimeError, match="boundary was never changed"), boundary_heads(tiny_llama, {(0, 1): 0.0}, 2):
        logits(tiny_llama, ids[:, :1])
    with pytest.raises(RuntimeError, match="cannot hold the boundary"), boundary_heads(tiny_llama, {(0, 1): 0.0}, 20):
        logits(tiny_llama, ids)
    with (
        pytest.raises(ValueError, match="expected \\(2, 1, 8\\)"),
        boundary_heads(tiny_llama, {(0, 1): 0.0}, 2, torch.zeros(3, 1, 8)),
    ):
        pass


def test_renormalising_keeps_the_norm_of_a_layers_heads_and_mixes_a_batch(tiny_model, ids):
    seen = {}
    projection = output_projection(tiny_model, 1)

    def watch(name):
        return attached([(projection, lambda z: seen.__setitem__(name, z.detach().clone()))])

    with watch("plain"):
        plain = logits(tiny_model, ids)
    with renormalised_heads(tiny_model, {(1, 4): 0.0}), watch("released"):
        released = logits(tiny_model, ids)
    torch.testing.assert_close(seen["released"].norm(), seen["plain"].norm())
    z = split_heads(seen["released"], head_counts(tiny_model)[1])
    assert not z[..., 4, :].any()
    with renormalised_heads(tiny_model, {(1, 4): 0.0}):
        alone = logits(tiny_model, ids[:1])
    assert not torch.allclose(alone, released[:1], atol=1e-4)
    with renormalised_heads(tiny_model, {(1, 4): 1.0}):
        torch.testing.assert_close(logits(tiny_model, ids), plain, **CLOSE)


def test_averages_are_those_of_each_trace_alone(tiny_model, ids):
    encoded = [
        EncodedTrace(ids[0].tolist(), {"thinking": (5, 14), "boundary": (14, 17)}),
        EncodedTrace(ids[1, :9].tolist(), {"thinking": (2, 6), "boundary": (6, 9)}),
    ]
    alone = []
    for trace in encoded:
        with captured_heads(tiny_model, lambda z: z[0].clone()) as z:
            logits(tiny_model, torch.tensor([trace.ids]))
        alone.append(z)
    spans = [z[1][trace.spans["thinking"][0] :] for trace, z in zip(encoded, alone, strict=True)]
    mean = benign_mean(tiny_model, encoded, pad_id=0, batch_size=2)
    np.testing.assert_allclose(mean[1], torch.cat(spans).mean(dim=0), rtol=1e-4, atol=1e-4)
    boundary = boundary_mean(tiny_model, encoded, pad_id=0, batch_size=2)
    expected = torch.stack([z[2][-3:] for z in alone]).mean(dim=0)
    np.testing.assert_allclose(boundary[:, 2], expected, rtol=1e-4, atol=1e-4)
    # Without a head, the projection of the others is short of exactly what that head writes.
    norms = write_norms(tiny_model, encoded, pad_id=0, batch_size=2)
    n_layers, n_heads, d_head = head_counts(tiny_model)
    assert norms.shape == (n_layers, n_heads)
    weight = output_projection(tiny_model, 1).weight[:, 4 * d_head : 5 * d_head]
    np.testing.assert_allclose(norms[1, 4], np.mean([(weight @ z[1][-1, 4]).norm() for z in alone]), rtol=1e-4)


def test_keeping_all_continues_the_base_trace(tiny_llama, tiny_tokenizer, prompts, traces):
    table = answer(tiny_llama, tiny_tokenizer, prompts, traces, kept=1.0)
    assert table["thinking"].tolist() == traces["thinking"].tolist()
    prompt = render_prompt(tiny_tokenizer, "a much longer prompt", THINKING)
    encoded = encode_trace(tiny_tokenizer, prompt, "Hm.", THINKING.boundary)
    generated = tiny_llama.generate(
        torch.tensor([encoded.ids]), do_sample=False, max_new_tokens=8, pad_token_id=0, eos_token_id=2
    )[0, len(encoded.ids) :].tolist()
    kept = generated[: generated.index(2)] if 2 in generated else generated
    assert table["response"][1] == tiny_tokenizer.decode(kept).strip("\n")


def test_kept_thinking_is_cut_in_tokens_and_an_unclosed_trace_stays_missing(
    tiny_llama, tiny_tokenizer, prompts, traces
):
    assert keep_thinking(tiny_tokenizer, "abcdefgh", 0.5) == "abcd"
    none, half = (answer(tiny_llama, tiny_tokenizer, prompts, traces, kept=kept) for kept in (0.0, 0.5))
    assert none["thinking"].tolist() == ["", "", "Never ending"]
    assert none["thinking_tokens"].tolist()[:2] == [0, 0]
    assert half["thinking"][0] == "Let me"
    assert half.columns.tolist() == traces.columns.tolist()
    assert half["finish_reason"][2] == "unclosed"
    assert half["response"].isna().tolist() == [False, False, True]
    whole = generate_traces(tiny_llama, tiny_tokenizer, prompts, THINKING, GREEDY, batch_size=2, seed=0)
    assert whole.columns.tolist() == half.columns.tolist()


def test_without_a_closed_trace_there_is_nothing_to_answer_from(tiny_llama, tiny_tokenizer, prompts, traces):
    with pytest.raises(UserError, match="none of 3 base traces closed"):
        answer(tiny_llama, tiny_tokenizer, prompts, traces.assign(finish_reason="unclosed"))


def test_references_are_closed_traces_of_the_wanted_behaviour():
    prompts = pd.DataFrame({"prompt_id": list("abcd"), "dataset": ["x", "x", "x", "y"]})
    traces = pd.DataFrame(
        {"prompt_id": list("abcd"), "sample": 0, "finish_reason": ["stop", "stop", "unclosed", "stop"]}
    )
    did = pd.DataFrame({"prompt_id": list("abcd"), "sample": 0, "refused": [True, False, True, True]})
    assert reference_traces(traces, prompts, did, ["x"], refused=True)["prompt_id"].tolist() == ["a"]
    assert reference_traces(traces, prompts, did, ["x"], refused=False)["prompt_id"].tolist() == ["b"]
    assert reference_traces(traces, prompts, did, ["y"], refused=False).empty


def test_perplexity_is_that_of_hugging_faces_loss(tiny_model, tiny_tokenizer, prompts, traces):
    closed, encoded = encode_traces(tiny_tokenizer, prompts, traces, THINKING, with_response=True)
    table = measure_perplexity(tiny_model, closed, encoded, pad_id=0, batch_size=2, reference={})
    for row, trace in zip(table.itertuples(), encoded, strict=True):
        labels = torch.tensor([trace.ids])
        start = trace.spans["prompt"][1]
        with torch.inference_mode():
            loss = tiny_model(labels, labels=labels.clone().index_fill_(1, torch.arange(start), -100)).loss
        assert row.tokens == len(trace.ids) - start
        assert row.nll == pytest.approx(float(loss), rel=1e-4)
