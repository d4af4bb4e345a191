"""Effects of heads on the probe and on openers, against plain runs of the whole model, on every architecture."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ARCHITECTURES, make_tiny_model

from refusal_cliff.errors import UserError
from refusal_cliff.head_effects import MEASURES, measure_effects, measured_rankings, ranking_traces
from refusal_cliff.hooks import attached, captured_final_residual, captured_heads, scaled_heads
from refusal_cliff.models import (
    blocks,
    final_norm,
    head_counts,
    output_projection,
    run,
    split_heads,
    unembedding_rows,
)
from refusal_cliff.readouts import log_odds
from refusal_cliff.traces import EncodedTrace

HEAD = (1, 4)
BOUNDARY = 3
REFUSALS, ANSWERS = [7, 31, 200], [12, 255]
SLIDING = {
    "mistral": {"sliding_window": 8},
    "phi3": {"sliding_window": 8},
    # The first layer sees everything, the others a window.
    "qwen2": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
}


@pytest.fixture
def encoded():
    """Traces of different lengths, the longest longer than a sliding window."""
    ids = torch.randint(10, 300, (4, 17), generator=torch.Generator().manual_seed(2))
    lengths = (17, 9, 5, 12)
    return [
        EncodedTrace(
            row[:length].tolist(), {"thinking": (1, length - BOUNDARY), "boundary": (length - BOUNDARY, length)}
        )
        for row, length in zip(ids, lengths, strict=True)
    ]


@pytest.fixture
def w():
    return np.random.default_rng(0).normal(size=48)


def of_probe(measure, model, encoded, w, pad_id, batch_size):
    """Effects on the logit of a probe alone."""
    return MEASURES[measure](model, encoded, [lambda states: states @ torch.as_tensor(w)], pad_id, batch_size)[0]


causal_effects, boundary_causal_effects, direct_contributions, gradient_effects = (
    partial(of_probe, name) for name in ("causal", "causal_boundary", "direct", "gradient")
)


def of_openers(measure, model, encoded, batch_size):
    """Effects on the log-odds of openers, beside those on a probe."""
    openers = log_odds(unembedding_rows(model, REFUSALS), unembedding_rows(model, ANSWERS))
    return MEASURES[measure](model, encoded, [lambda states: states.sum(-1), openers], 0, batch_size)[1]


def probe_of(w):
    return lambda outputs: float(outputs.hidden_states[-1][0, -1].double().numpy() @ w)


def log_odds_of(outputs):
    """By hand, from the logits of the whole vocabulary."""
    p = outputs.logits[0, -1].double().softmax(-1)
    return float(torch.log(p[REFUSALS].sum() / p[ANSWERS].sum()))


def recomputed(model, encoded, read, places):
    """The effect of every head by a whole run of each trace for each head, its z zeroed at `places`."""
    n_layers, n_heads, _ = head_counts(model)

    def logit(trace, *hooks):
        with torch.inference_mode(), attached(list(hooks)):
            return read(model(torch.tensor([trace.ids]), output_hidden_states=True))

    def zero(head):
        def function(projection_input):
            z = split_heads(projection_input, n_heads).clone()
            z[:, places, head] = 0
            return z.flatten(-2)

        return function

    effects = np.empty((len(encoded), n_layers, n_heads))
    for index, layer, head in np.ndindex(*effects.shape):
        ablated = logit(encoded[index], (output_projection(model, layer), zero(head)))
        effects[index, layer, head] = logit(encoded[index]) - ablated
    return effects


def check_exact(model, encoded, w):
    everywhere = recomputed(model, encoded, probe_of(w), slice(None))
    boundary = recomputed(model, encoded, probe_of(w), slice(-BOUNDARY, None))
    assert np.abs(everywhere - boundary).max() > 0.1
    for batch_size in (1, 3):
        found = causal_effects(model, encoded, w, pad_id=0, batch_size=batch_size)
        np.testing.assert_allclose(found, everywhere, rtol=1e-4, atol=1e-4)
        found = boundary_causal_effects(model, encoded, w, pad_id=0, batch_size=batch_size)
        np.testing.assert_allclose(found, boundary, rtol=1e-4, atol=1e-4)


def test_causal_effects_are_those_of_whole_runs(tiny_model, encoded, w):
    check_exact(tiny_model, encoded, w)
    assert tiny_model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("architecture", SLIDING)
def test_causal_effects_are_exact_with_a_sliding_window(architecture, encoded, w, monkeypatch):
    unlimited = causal_effects(make_tiny_model(architecture), encoded, w, pad_id=0, batch_size=2)
    monkeypatch.setitem(ARCHITECTURES, architecture, ARCHITECTURES[architecture] | SLIDING[architecture])
    model = make_tiny_model(architecture)
    assert np.abs(causal_effects(model, encoded, w, pad_id=0, batch_size=2) - unlimited)[0].max() > 0.1
    check_exact(model, encoded, w)


@pytest.mark.parametrize("budget", [1, 40, 200])
def test_causal_effects_do_not_depend_on_how_many_heads_run_together(tiny_llama, encoded, w, monkeypatch, budget):
    arguments = (tiny_llama, encoded, w, 0, 2)
    expected = [effects(*arguments) for effects in (causal_effects, boundary_causal_effects)]
    monkeypatch.setattr("refusal_cliff.head_effects.MAX_TOKENS", budget)
    for effects, own in zip((causal_effects, boundary_causal_effects), expected, strict=True):
        np.testing.assert_allclose(effects(*arguments), own, rtol=1e-4, atol=1e-4)


def test_a_boundary_may_be_one_token(tiny_model, encoded, w):
    short = [EncodedTrace(trace.ids, {"boundary": (len(trace.ids) - 1, len(trace.ids))}) for trace in encoded]
    expected = recomputed(tiny_model, short, probe_of(w), slice(-1, None))
    for batch_size in (1, 3):
        found = boundary_causal_effects(tiny_model, short, w, pad_id=0, batch_size=batch_size)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_head_that_writes_nothing_has_no_effect(encoded, w):
    model = make_tiny_model("llama")
    d_head = head_counts(model)[2]
    output_projection(model, 1).weight[:, 4 * d_head : 5 * d_head] = 0
    for effects in (direct_contributions, causal_effects, boundary_causal_effects, gradient_effects):
        found = np.abs(effects(model, encoded, w, pad_id=0, batch_size=2))
        assert found[:, 1, 4].max() < 1e-4
        assert (found.max(axis=0) > 1e-3).sum() == found[0].size - 1


def test_at_the_last_layer_only_the_last_position_matters(tiny_model, encoded, w):
    """Ablation in the last layer reaches the logit through the last position alone, wherever else it holds."""
    everywhere = causal_effects(tiny_model, encoded, w, pad_id=0, batch_size=2)[:, -1]
    np.testing.assert_allclose(
        boundary_causal_effects(tiny_model, encoded, w, pad_id=0, batch_size=2)[:, -1], everywhere, rtol=1e-4, atol=1e-4
    )


def test_what_follows_the_boundary_must_be_left_out(tiny_llama, w):
    encoded = [EncodedTrace([5, 6, 7, 8], {"boundary": (1, 3)})]
    with pytest.raises(ValueError, match="must end with their boundary"):
        boundary_causal_effects(tiny_llama, encoded, w, pad_id=0, batch_size=1)


def test_direct_contributions_and_the_other_writers_add_up_to_the_logit(tiny_model, w, ids):
    """Embedding + attention + MLP writes, seen through the frozen norm, are the probe's logit without its bias."""
    encoded = [EncodedTrace(row.tolist(), {}) for row in ids]
    contributions = direct_contributions(tiny_model, encoded, w, pad_id=0, batch_size=3)
    writes = {}

    def keep(name):
        def hook(module, inputs, output):
            writes[name] = (output[0] if isinstance(output, tuple) else output)[:, -1]

        return hook

    handles = [block.mlp.register_forward_hook(keep(index)) for index, block in enumerate(blocks(tiny_model))]
    with captured_final_residual(tiny_model) as kept, torch.inference_mode():
        states = run(tiny_model, ids, torch.ones_like(ids), output_hidden_states=True).hidden_states
    for handle in handles:
        handle.remove()
    last = kept["resid"][:, -1]
    normed = final_norm(tiny_model)(last)
    ratio = normed / last
    rest = states[0][:, -1] + sum(writes.values())
    expected = (normed.double().numpy() @ w) - ((rest * ratio).double().numpy() @ w)
    np.testing.assert_allclose(contributions.sum(axis=(1, 2)), expected, rtol=2e-3, atol=2e-3)


def test_gradient_effect_is_the_causal_one_to_first_order(tiny_model, encoded, w):
    """The gradient effect is the slope of the logit in the factor that scales z."""
    effects = gradient_effects(tiny_model, encoded, w, pad_id=0, batch_size=2)
    assert effects.shape == (len(encoded), *head_counts(tiny_model)[:2])
    step = 0.01

    def logit(trace, scale):
        with torch.inference_mode(), scaled_heads(tiny_model, {HEAD: scale}):
            state = tiny_model(torch.tensor([trace.ids]), output_hidden_states=True).hidden_states[-1][0, -1]
        return float(state.double().numpy() @ w)

    for row, trace in enumerate(encoded[:2]):
        slope = (logit(trace, 1 + step) - logit(trace, 1 - step)) / (2 * step)
        np.testing.assert_allclose(effects[row, HEAD[0], HEAD[1]], slope, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize(("measure", "places"), [("causal", slice(None)), ("causal_boundary", slice(-BOUNDARY, None))])
def test_effects_on_openers_are_those_of_whole_runs(tiny_model, encoded, measure, places):
    expected = recomputed(tiny_model, encoded, log_odds_of, places)
    assert np.abs(expected).max() > 0.1
    for batch_size in (1, 3):
        found = of_openers(measure, tiny_model, encoded, batch_size)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_gradient_on_openers_is_the_slope_of_their_log_odds(tiny_model, encoded):
    found, step = of_openers("gradient", tiny_model, encoded, 2), 0.01

    def at(trace, scale):
        with torch.inference_mode(), scaled_heads(tiny_model, {HEAD: scale}):
            return log_odds_of(tiny_model(torch.tensor([trace.ids])))

    for row, trace in enumerate(encoded):
        slope = (at(trace, 1 + step) - at(trace, 1 - step)) / (2 * step)
        np.testing.assert_allclose(found[row, HEAD[0], HEAD[1]], slope, rtol=1e-2, atol=2e-3)


def test_direct_on_openers_is_the_slope_in_what_a_head_writes(tiny_model, encoded):
    """Each head's write is taken out of the last residual by a small share, and the frozen norm and logits follow."""
    found, step = of_openers("direct", tiny_model, encoded, 2), 1e-3
    d_head = head_counts(tiny_model)[2]
    unembedding = tiny_model.get_output_embeddings().weight.double()
    for row, trace in enumerate(encoded):
        with (
            torch.inference_mode(),
            captured_heads(tiny_model, lambda z: z[:, -1]) as z,
            captured_final_residual(tiny_model) as kept,
        ):
            final = tiny_model(torch.tensor([trace.ids]), output_hidden_states=True).hidden_states[-1][0, -1]
        frozen = (final / kept["resid"][0, -1]).double()
        columns = output_projection(tiny_model, HEAD[0]).weight[:, HEAD[1] * d_head : (HEAD[1] + 1) * d_head]
        write = frozen * (columns @ z[HEAD[0]][0, HEAD[1]]).double()

        def at(share, final=final, write=write):
            logits = unembedding @ (final.double() + share * write)
            return float(logits[REFUSALS].logsumexp(-1) - logits[ANSWERS].logsumexp(-1))

        slope = (at(step) - at(-step)) / (2 * step)
        np.testing.assert_allclose(found[row, HEAD[0], HEAD[1]], slope, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("measure", MEASURES)
def test_two_readouts_take_as_many_passes_as_one(tiny_llama, encoded, w, measure):
    openers = log_odds(unembedding_rows(tiny_llama, REFUSALS), unembedding_rows(tiny_llama, ANSWERS))
    readouts = {"probe": lambda states: states @ torch.as_tensor(w), "openers": openers}

    def passes(targets):
        calls = []
        handles = [block.register_forward_pre_hook(lambda *_: calls.append(1)) for block in blocks(tiny_llama)]
        effects = measure_effects(tiny_llama, encoded, {name: readouts[name] for name in targets}, [measure], 0, 2)
        for handle in handles:
            handle.remove()
        return len(calls), effects

    (one, alone), (other, openers_alone), (both, together) = map(passes, (["probe"], ["openers"], list(readouts)))
    assert one == other == both > 0
    # And none sees the others.
    for key, effects in (alone | openers_alone).items():
        np.testing.assert_array_equal(together[key], effects)


def test_rankings_are_measures_of_targets():
    assert measured_rankings(["probe"], MEASURES) == {name: (name, "probe") for name in MEASURES}
    both = measured_rankings(["probe", "openers"], ["gradient", "direct"])
    assert list(both) == ["direct", "gradient", "openers_direct", "openers_gradient"]
    assert both["openers_direct"] == ("direct", "openers")
    assert measure_effects(None, [], {}, list(MEASURES), 0, 1) == {}


def test_ranking_traces_are_closed_ones_of_the_named_datasets():
    prompts = pd.DataFrame({"prompt_id": list("abcd"), "dataset": ["jailbreak", "jailbreak", "benign", "jailbreak"]})
    traces = pd.DataFrame(
        {"prompt_id": list("abcd"), "sample": 0, "finish_reason": ["stop", "unclosed", "stop", "length"]}
    )
    assert sorted(ranking_traces(traces, prompts, ["jailbreak"], 10, seed=0)["prompt_id"]) == ["a", "d"]
    assert len(ranking_traces(traces, prompts, ["jailbreak"], 1, seed=0)) == 1
    with pytest.raises(UserError, match=r"heads\.datasets"):
        ranking_traces(traces, prompts, ["nothing"], 10, seed=0)
