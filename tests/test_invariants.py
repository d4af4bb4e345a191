"""What must hold on every supported architecture, or nothing measured on it means anything."""

import copy
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ARCHITECTURES, logits, make_tiny_model

from refusal_cliff.activations import extract_positions, project_states
from refusal_cliff.architectures import SUPPORTED
from refusal_cliff.attention import boundary_attention
from refusal_cliff.edits import Edit
from refusal_cliff.errors import UserError
from refusal_cliff.head_effects import MEASURES
from refusal_cliff.head_means import benign_mean, boundary_mean, write_norms
from refusal_cliff.hooks import attached, captured_final_residual, captured_heads, scaled_heads, visit_states
from refusal_cliff.models import (
    blocks,
    final_norm,
    head_counts,
    output_projection,
    run,
    set_heads,
    unembedding_rows,
)
from refusal_cliff.readouts import log_odds
from refusal_cliff.traces import EncodedTrace, pad_left

HEAD = (1, 4)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def test_every_supported_architecture_is_tested():
    assert set(ARCHITECTURES) == set(SUPPORTED)


def test_our_forward_pass_is_hugging_faces(tiny_model, ids):
    with torch.inference_mode():
        expected = tiny_model(ids).logits
    torch.testing.assert_close(logits(tiny_model, ids), expected, rtol=1e-5, atol=1e-5)


def test_zeroing_a_head_by_hook_equals_zeroing_its_columns(tiny_model, ids):
    with scaled_heads(tiny_model, {HEAD: 0.0}):
        hooked = logits(tiny_model, ids)
    edited = copy.deepcopy(tiny_model)
    set_heads(edited, [(*HEAD, 0.0)])
    torch.testing.assert_close(hooked, logits(edited, ids), **CLOSE)
    assert not torch.allclose(hooked, logits(tiny_model, ids), atol=1e-3)


def test_scaling_a_head_touches_only_its_own_columns(tiny_model):
    edited = copy.deepcopy(tiny_model)
    set_heads(edited, [(*HEAD, 2.0)])
    _, n_heads, d_head = head_counts(tiny_model)
    before = output_projection(tiny_model, HEAD[0]).weight.unflatten(-1, (n_heads, d_head))
    after = output_projection(edited, HEAD[0]).weight.unflatten(-1, (n_heads, d_head))
    others = [head for head in range(n_heads) if head != HEAD[1]]
    assert torch.equal(after[:, HEAD[1]], 2 * before[:, HEAD[1]])
    assert torch.equal(after[:, others], before[:, others])


def test_an_empty_edit_leaves_logits_bit_identical(tiny_model, ids):
    edited = Edit().apply(copy.deepcopy(tiny_model))
    assert torch.equal(logits(edited, ids), logits(tiny_model, ids))


def test_capturing_leaves_logits_bit_identical_and_detaches(tiny_model, ids):
    plain = logits(tiny_model, ids)
    with captured_heads(tiny_model, torch.clone) as z, captured_final_residual(tiny_model):
        watched = logits(tiny_model, ids)
    assert torch.equal(plain, watched)
    n_layers, n_heads, d_head = head_counts(tiny_model)
    assert {layer: tuple(value.shape) for layer, value in z.items()} == {
        layer: (*ids.shape, n_heads, d_head) for layer in range(n_layers)
    }
    assert not any(module._forward_pre_hooks for module in tiny_model.modules())


def test_a_later_token_never_moves_an_earlier_state(tiny_model, ids):
    changed = ids.clone()
    changed[:, -3:] = 7
    with torch.inference_mode():
        before = run(tiny_model, ids, torch.ones_like(ids), output_hidden_states=True).hidden_states
        after = run(tiny_model, changed, torch.ones_like(ids), output_hidden_states=True).hidden_states
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one[:, :-3], other[:, :-3], **CLOSE)


def test_a_batch_of_one_equals_a_padded_batch(tiny_model, ids):
    sequences = [ids[0].tolist(), ids[1, :9].tolist(), ids[2, :4].tolist()]
    padded, mask = pad_left(sequences, pad_id=0)
    together = logits(tiny_model, torch.as_tensor(padded), torch.as_tensor(mask))
    for row, sequence in enumerate(sequences):
        alone = logits(tiny_model, torch.tensor([sequence]))
        torch.testing.assert_close(together[row, -len(sequence) :], alone[0], **CLOSE)


def test_visited_states_are_hugging_faces_hidden_states(tiny_model, ids):
    sequences = [ids[0].tolist(), ids[1, :6].tolist()]
    visited = {}
    n_layers = head_counts(tiny_model)[0]
    visit_states(tiny_model, *pad_left(sequences, pad_id=0), range(n_layers), visited.__setitem__)
    assert list(visited) == list(range(n_layers))
    for row, sequence in enumerate(sequences):
        with torch.inference_mode():
            own = tiny_model(torch.tensor([sequence]), output_hidden_states=True)
        for layer, expected in enumerate(own.hidden_states[1:]):
            torch.testing.assert_close(visited[layer][row, -len(sequence) :], expected[0], **CLOSE)
    # The last layer's state is the one the unembedding reads.
    read = tiny_model.get_output_embeddings()(visited[n_layers - 1][1, -6:])
    torch.testing.assert_close(read, own.logits[0], **CLOSE)
    # And its product with a token's row is the token's logit.
    rows = unembedding_rows(tiny_model, [9, 250])
    product = visited[n_layers - 1][1, -6:].double() @ rows.T
    torch.testing.assert_close(product.float(), own.logits[0][:, [9, 250]], **CLOSE)


def test_a_visit_goes_no_further_than_it_must(tiny_model, ids):
    called, visited = [], []
    before = [len(module._forward_hooks) for module in tiny_model.modules()]
    handles = [
        module.register_forward_hook(lambda module, *_: called.append(module))
        for module in (*blocks(tiny_model), final_norm(tiny_model))
    ]
    visit_states(tiny_model, ids, torch.ones_like(ids), [1], lambda layer, _: visited.append(layer))
    for handle in handles:
        handle.remove()
    assert visited == [1]
    assert called == list(blocks(tiny_model)[:2])
    assert [len(module._forward_hooks) for module in tiny_model.modules()] == before


def test_projections_are_products_in_single_precision_of_a_narrow_models_states(ids):
    model = make_tiny_model("qwen3").bfloat16()
    encoded = [EncodedTrace(ids[0].tolist(), {}), EncodedTrace(ids[1, :6].tolist(), {})]
    directions = {layer: np.random.default_rng(layer).normal(size=(2 + layer, 48)) for layer in (2, 0)}
    with torch.inference_mode():
        states = run(model, *pad_left([trace.ids for trace in encoded], 0), output_hidden_states=True).hidden_states
    for index, products in project_states(model, encoded, directions, pad_id=0, batch_size=2):
        own = [states[layer + 1][index, -len(encoded[index].ids) :].double().numpy() for layer in directions]
        expected = np.concatenate([directions[layer] @ state.T for layer, state in zip(directions, own, strict=True)])
        assert products.dtype == np.float32
        np.testing.assert_allclose(products, expected, rtol=1e-5, atol=1e-5)


def traces_of(ids):
    spans = {"prompt": (0, 2), "thinking": (2, 6), "boundary": (6, 9)}
    return [EncodedTrace(row[:9].tolist(), spans) for row in ids]


def read_by_targets(function):
    def measure(model, encoded):
        openers = log_odds(unembedding_rows(model, [7, 31]), unembedding_rows(model, [12]))
        function(model, encoded, [lambda states: states.sum(-1), openers], pad_id=0, batch_size=2)

    return measure


def read_states(model, encoded):
    extract_positions(
        model, pd.DataFrame({"prompt_id": range(3), "sample": 0}), encoded, pad_id=0, batch_size=2, thinking_positions=2
    )


MEASUREMENTS = {
    **{name: read_by_targets(function) for name, function in MEASURES.items()},
    **{
        function.__name__: partial(function, pad_id=0, batch_size=2)
        for function in (benign_mean, boundary_mean, write_norms)
    },
    "extraction": read_states,
    "projection": lambda model, encoded: list(project_states(model, encoded, {1: np.ones((1, 48))}, 0, 2)),
    "attention": lambda model, encoded: list(boundary_attention(model, encoded, pad_id=0, batch_size=2)),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measurements_compute_no_logits(tiny_llama, ids, name):
    def refuse(*_):
        raise AssertionError("the unembedding was called")

    handle = tiny_llama.get_output_embeddings().register_forward_pre_hook(refuse)
    try:
        MEASUREMENTS[name](tiny_llama, traces_of(ids))
    finally:
        handle.remove()


@pytest.mark.parametrize("name", ["extraction", "projection"])
def test_a_state_that_is_not_finite_raises(ids, name):
    model = make_tiny_model("llama")
    blocks(model)[1].mlp.down_proj.weight[3] = float("inf")
    with pytest.raises(ValueError, match="trace 0: a hidden state is not finite"):
        MEASUREMENTS[name](model, traces_of(ids))


def test_extracted_states_are_those_of_the_kept_positions(tiny_model, ids):
    encoded = [
        EncodedTrace(ids[0].tolist(), {"prompt": (0, 4), "thinking": (4, 14), "boundary": (14, 17)}),
        EncodedTrace(ids[1, :9].tolist(), {"prompt": (0, 5), "thinking": (5, 5), "boundary": (5, 9)}),
    ]
    traces = pd.DataFrame({"prompt_id": ["a", "b"], "sample": 0})
    resid, rows = extract_positions(tiny_model, traces, encoded, pad_id=0, batch_size=2, thinking_positions=3)
    assert rows["prompt_id"].tolist() == ["a"] * 7 + ["b"] * 5
    for index, name in enumerate("ab"):
        with torch.inference_mode():
            own = tiny_model(torch.tensor([encoded[index].ids]), output_hidden_states=True).hidden_states[1:]
        expected = torch.cat(own)[:, rows.loc[rows["prompt_id"] == name, "position"].to_list()]
        found = resid[rows.index[rows["prompt_id"] == name].tolist()]
        torch.testing.assert_close(found, expected.transpose(0, 1), **CLOSE)


def test_a_hook_that_never_ran_raises(tiny_llama):
    with (
        pytest.raises(RuntimeError, match="1 of 1 hooks never ran"),
        attached([(output_projection(tiny_llama, 0), lambda z: None)]),
    ):
        pass


def test_a_head_that_does_not_exist_is_named(tiny_llama):
    with pytest.raises(UserError, match=r"head \(0, 6\) does not exist: the model has 3 layers of 6 heads"):
        set_heads(tiny_llama, [(0, 6, 0.0)])
