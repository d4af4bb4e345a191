"""What must hold on every supported architecture, or nothing measured on it means anything."""

import copy

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES

from refusal_cliff.activations import stream_states
from refusal_cliff.architectures import SUPPORTED
from refusal_cliff.artifacts import write_json
from refusal_cliff.errors import UserError
from refusal_cliff.head_effects import causal_effects, direct_contributions, gradient_effects
from refusal_cliff.hooks import attached, captured_final_residual, captured_heads, scaled_heads
from refusal_cliff.models import apply_edit, final_norm, head_counts, layers, output_projection, run, set_heads
from refusal_cliff.traces import EncodedTrace, pad_left

HEAD = (1, 4)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture
def ids():
    return torch.randint(10, 300, (3, 17), generator=torch.Generator().manual_seed(2))


def logits(model, ids, mask=None):
    with torch.inference_mode():
        return run(model, ids, torch.ones_like(ids) if mask is None else mask).logits


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


def test_an_empty_edit_leaves_logits_bit_identical(tiny_model, ids, tmp_path):
    write_json({}, tmp_path / "edit.json")
    edited = apply_edit(copy.deepcopy(tiny_model), tmp_path)
    assert torch.equal(logits(edited, ids), logits(tiny_model, ids))


def test_capturing_leaves_logits_bit_identical_and_detaches(tiny_model, ids):
    plain = logits(tiny_model, ids)
    with captured_heads(tiny_model) as z, captured_final_residual(tiny_model):
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


def test_streamed_states_are_hugging_faces_hidden_states(tiny_model, ids):
    encoded = [EncodedTrace(ids[0].tolist(), {}), EncodedTrace(ids[1, :6].tolist(), {})]
    streamed = dict(stream_states(tiny_model, encoded, pad_id=0, batch_size=2))
    for index, trace in enumerate(encoded):
        with torch.inference_mode():
            own = tiny_model(torch.tensor([trace.ids]), output_hidden_states=True)
        expected = torch.stack(own.hidden_states[1:])[:, 0]
        torch.testing.assert_close(streamed[index], expected, **CLOSE)
    # The last layer's state is the one the unembedding reads.
    read = tiny_model.get_output_embeddings()(streamed[1][-1])
    torch.testing.assert_close(read, own.logits[0], **CLOSE)


def test_direct_contributions_and_the_other_writers_add_up_to_the_logit(tiny_model, ids):
    """Embedding + attention + MLP writes, seen through the frozen norm, are the probe's logit without its bias."""
    w = np.random.default_rng(0).normal(size=tiny_model.config.hidden_size)
    encoded = [EncodedTrace(row.tolist(), {}) for row in ids]
    contributions = direct_contributions(tiny_model, encoded, w, pad_id=0, batch_size=3)
    writes = {}

    def keep(name):
        def hook(module, inputs, output):
            writes[name] = (output[0] if isinstance(output, tuple) else output)[:, -1]

        return hook

    blocks = layers(tiny_model)
    handles = [block.mlp.register_forward_hook(keep(index)) for index, block in enumerate(blocks)]
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


def test_causal_effect_is_the_difference_two_runs_make(tiny_model, ids):
    w = np.random.default_rng(0).normal(size=tiny_model.config.hidden_size)
    encoded = [EncodedTrace(row.tolist(), {}) for row in ids]
    effects = causal_effects(tiny_model, encoded, w, pad_id=0, batch_size=2)
    edited = copy.deepcopy(tiny_model)
    set_heads(edited, [(*HEAD, 0.0)])
    with torch.inference_mode():
        clean = tiny_model(ids, output_hidden_states=True).hidden_states[-1][:, -1].double().numpy() @ w
        ablated = edited(ids, output_hidden_states=True).hidden_states[-1][:, -1].double().numpy() @ w
    np.testing.assert_allclose(effects[:, HEAD[0], HEAD[1]], clean - ablated, rtol=1e-3, atol=1e-3)
    assert effects.shape == (3, *head_counts(tiny_model)[:2])


def test_gradient_effect_is_the_causal_one_to_first_order(tiny_model, ids):
    """The gradient effect is the slope of the logit in the factor that scales z."""
    w = np.random.default_rng(0).normal(size=tiny_model.config.hidden_size)
    encoded = [EncodedTrace(ids[0].tolist(), {}), EncodedTrace(ids[1, :9].tolist(), {})]
    effects = gradient_effects(tiny_model, encoded, w, pad_id=0, batch_size=2)
    assert effects.shape == (2, *head_counts(tiny_model)[:2])
    step = 0.01

    def logit(trace, scale):
        with torch.inference_mode(), scaled_heads(tiny_model, {HEAD: scale}):
            state = tiny_model(torch.tensor([trace.ids]), output_hidden_states=True).hidden_states[-1][0, -1]
        return float(state.double().numpy() @ w)

    for row, trace in enumerate(encoded):
        slope = (logit(trace, 1 + step) - logit(trace, 1 - step)) / (2 * step)
        np.testing.assert_allclose(effects[row, HEAD[0], HEAD[1]], slope, rtol=1e-2, atol=2e-3)


def test_a_hook_that_never_ran_raises(tiny_llama):
    with (
        pytest.raises(RuntimeError, match="1 of 1 hooks never ran"),
        attached([(output_projection(tiny_llama, 0), lambda z: None)]),
    ):
        pass


def test_a_head_that_does_not_exist_is_named(tiny_llama):
    with pytest.raises(UserError, match=r"head \(0, 6\) does not exist: the model has 3 layers of 6 heads"):
        set_heads(tiny_llama, [(0, 6, 0.0)])
