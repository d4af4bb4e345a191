"""A direction that is added is a bias and equals the hook; where and how far follows a rule; controls have its norm."""

import copy
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import logits

from refusal_cliff.edits import Edit
from refusal_cliff.errors import UserError
from refusal_cliff.models import add_direction, load_model, output_projection, unembedding_rows, with_biases
from refusal_cliff.perplexity import COMPARED_TOKENS, compared_tokens, divergence, most_compared
from refusal_cliff.readouts import NotMeasurableError, log_odds
from refusal_cliff.steering import boundary_classes, choose, control_direction, refusal_directions, sweep
from refusal_cliff.traces import EncodedTrace

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
D_MODEL = 48  # of the tiny models of conftest
DIRECTION = np.random.default_rng(0).normal(size=D_MODEL).astype(np.float32)


@contextmanager
def hook(model, layer, direction):
    """The direction added by a hook on what the attention of a layer writes."""
    vector = torch.as_tensor(direction)
    handle = output_projection(model, layer).register_forward_hook(lambda module, inputs, output: output + vector)
    try:
        yield
    finally:
        handle.remove()


def test_a_direction_in_the_weights_equals_the_hook(tiny_model, ids):
    with hook(tiny_model, 1, 0.5 * DIRECTION):
        expected = logits(tiny_model, ids)
    edited = copy.deepcopy(tiny_model)
    add_direction(edited, 1, 0.5 * DIRECTION)
    torch.testing.assert_close(logits(edited, ids), expected, **CLOSE)
    assert not torch.allclose(expected, logits(tiny_model, ids), atol=1e-3)


def test_a_direction_is_still_there_when_the_model_is_saved_and_loaded_anew(tiny_model, ids, tmp_path):
    edited = copy.deepcopy(tiny_model)
    add_direction(edited, 1, DIRECTION)
    expected = logits(edited, ids)
    # Qwen2, Mistral and Phi-3 have no place for it in their format.
    if type(tiny_model.config).model_type in ("qwen2", "mistral", "phi3"):
        with pytest.raises(UserError, match="no folder of weights can say it"):
            with_biases(edited)
        return
    with_biases(edited).save_pretrained(tmp_path)
    torch.testing.assert_close(logits(load_model(tmp_path), ids), expected, **CLOSE)


def test_a_model_without_such_a_bias_is_saved_as_it_is(tiny_llama):
    names = set(tiny_llama.state_dict())
    assert set(with_biases(copy.deepcopy(tiny_llama)).state_dict()) == names


def test_two_directions_add_up(tiny_llama, ids):
    twice, once = copy.deepcopy(tiny_llama), copy.deepcopy(tiny_llama)
    add_direction(twice, 1, DIRECTION)
    add_direction(twice, 1, DIRECTION)
    add_direction(once, 1, 2 * DIRECTION)
    torch.testing.assert_close(logits(twice, ids), logits(once, ids), **CLOSE)


def test_a_layer_that_is_not_there_is_named(tiny_llama):
    with pytest.raises(UserError, match="layer 3 does not exist: the model has 3 layers"):
        add_direction(copy.deepcopy(tiny_llama), 3, DIRECTION)


def test_an_edit_on_disk_adds_the_direction_at_its_scale(tiny_llama, ids, tmp_path):
    directions = {"refusal": DIRECTION, "random0": -DIRECTION, "layer": np.array([2])}
    Edit.of("cliff", "steer-refusal-0.5", directions=directions).write(tmp_path / "edit.json", {})
    edit = Edit.read(tmp_path / "edit.json")
    assert edit.layer == 2
    np.testing.assert_array_equal(edit.direction, np.float32(0.5) * DIRECTION)
    with hook(tiny_llama, 2, 0.5 * DIRECTION):
        expected = logits(tiny_llama, ids)
    model = edit.apply(copy.deepcopy(tiny_llama))
    with edit.hooked(model, 3):
        torch.testing.assert_close(logits(model, ids), expected, **CLOSE)


def test_a_model_without_a_direction_has_no_such_variant_and_the_edit_says_why(tmp_path):
    Edit.of("cliff", "steer-refusal-1", directions={}, missing="it refused nothing").write(tmp_path / "edit.json", {})
    edit = Edit.read(tmp_path / "edit.json")
    assert (edit.missing, edit.direction) == ("it refused nothing", None)


def test_a_layer_without_its_direction_is_refused(tmp_path):
    path = tmp_path / "edit.json"
    Edit.of("cliff", "steer-refusal-1", directions={"refusal": DIRECTION, "layer": np.array([1])}).write(path, {})
    path.write_text(path.read_text().replace('"layer": 1', '"layer": null'))
    with pytest.raises(UserError, match="layer and direction go together"):
        Edit.read(path)


def test_a_direction_is_refused_harmful_minus_answered_of_the_state_before_the_block():
    rows = pd.DataFrame(
        {
            "prompt_id": ["a", "a", "b", "c", "d", "e"],
            "sample": 0,
            "kind": ["thinking", *["last_boundary"] * 5],
        }
    )
    prompts = pd.DataFrame({"prompt_id": list("abcde"), "label": ["harmful", "harmful", "benign", "benign", "harmful"]})
    # c is a benign prompt that was refused, and in neither class; e was not judged.
    did = pd.DataFrame({"prompt_id": list("abcd"), "sample": 0, "refused": [True, False, True, False]})
    places, refused = boundary_classes(rows, prompts, did)
    assert places.tolist() == [1, 2, 4]
    assert refused.tolist() == [True, False, False]
    states = np.zeros((6, 3, 2))
    states[1] = [[1, 2], [3, 4], [9, 9]]
    states[2] = [[0, 1], [1, 1], [7, 7]]
    states[4] = [[2, 1], [1, 3], [5, 5]]
    directions = refusal_directions(states, places, refused)
    assert directions.tolist() == [[0, 0], [0, 1], [2, 2]]


@pytest.mark.parametrize(("refused", "message"), [(False, "refused no harmful prompt"), (True, "answered nothing")])
def test_a_direction_needs_both_classes(refused, message):
    rows = pd.DataFrame({"prompt_id": ["a", "b"], "sample": 0, "kind": "last_boundary"})
    prompts = pd.DataFrame({"prompt_id": ["a", "b"], "label": "harmful"})
    did = pd.DataFrame({"prompt_id": ["a", "b"], "sample": 0, "refused": refused})
    with pytest.raises(NotMeasurableError, match=message):
        boundary_classes(rows, prompts, did)


def test_controls_have_the_norm_of_the_direction_and_every_draw_is_another():
    rng = np.random.default_rng(1)
    states, refused = rng.normal(size=(40, 6)), np.arange(40) < 20
    direction = rng.normal(size=6).astype(np.float32)
    drawn = {
        name: control_direction(name, direction, states, refused, seed=3)
        for name in ("random0", "random1", "rotated0", "rotated1")
    }
    for name, control in drawn.items():
        assert np.linalg.norm(control) == pytest.approx(np.linalg.norm(direction), rel=1e-5), name
        assert abs(control @ direction) < 0.99 * direction @ direction, name
    assert not np.allclose(drawn["random0"], drawn["random1"])
    assert not np.allclose(drawn["rotated0"], drawn["rotated1"])
    np.testing.assert_array_equal(control_direction("random1", direction, states, refused, 3), drawn["random1"])
    assert control_direction("refusal", direction, states, refused, 3) is direction


def test_rotated_directions_lie_where_states_vary_within_the_classes():
    rng = np.random.default_rng(1)
    refused = np.arange(40) < 20
    states = np.zeros((40, 4))
    states[:, :2] = rng.normal(size=(40, 2))
    states[refused, 3] = 5.0  # differs between the classes, not within
    direction = np.array([0, 0, 0, 5], dtype=np.float32)
    rotated = control_direction("rotated0", direction, states, refused, seed=0)
    assert np.allclose(rotated[2:], 0)
    assert control_direction("random0", direction, states, refused, seed=0)[2:].all()


def test_the_rule_takes_what_refuses_most_within_both_bounds():
    columns = ["layer", "scale", "refusal", "over_refusal", "kl"]
    found = pd.DataFrame(
        [
            (0, 0.0, 0.2, 0.0, 0.0),
            (1, 1.0, 0.9, 0.20, 0.05),  # refuses benign prompts
            (1, 2.0, 1.0, 0.00, 0.50),  # drifts
            (2, 0.5, 0.7, 0.05, 0.10),  # on both bounds
            (3, 0.5, 0.7, 0.00, 0.01),
            (3, 1.0, 0.7, 0.00, 0.01),
        ],
        columns=columns,
    )
    assert choose(found, kl=0.1, over_refusal=0.05) == (2, 0.5)
    assert choose(found, kl=0.1, over_refusal=0.2) == (1, 1.0)
    with pytest.raises(NotMeasurableError, match="of 5 blocks and scales 0 keep"):
        choose(found, kl=0.001, over_refusal=0.05)
    with pytest.raises(NotMeasurableError, match=r"of 1 blocks and scales 1 keep .* none of these refuses more"):
        choose(pd.DataFrame([(0, 0.0, 0.2, 0.0, 0.0), (1, 1.0, 0.2, 0.0, 0.0)], columns=columns), 0.1, 0.05)


def test_a_sweep_measures_every_block_at_every_scale_and_leaves_the_model_as_it_was(tiny_model, ids):
    harmful = [EncodedTrace(ids[0].tolist(), {"prompt": (0, 5), "thinking": (5, 14), "boundary": (14, 17)})]
    spans = {"prompt": (0, 4), "thinking": (4, 9), "boundary": (9, 12), "response": (12, 17)}
    benign = [EncodedTrace(ids[1].tolist(), spans)]
    readout = log_odds(unembedding_rows(tiny_model, [7, 31]), unembedding_rows(tiny_model, [12, 255]))
    directions = np.stack([0 * DIRECTION, DIRECTION, DIRECTION])
    before = logits(tiny_model, ids)
    found = sweep(tiny_model, directions, [0.5, 1.0], harmful, benign, readout, pad_id=0, batch_size=2)
    assert torch.equal(logits(tiny_model, ids), before)
    assert found[["layer", "scale"]].to_numpy().tolist() == [[0, 0], [1, 0.5], [1, 1], [2, 0.5], [2, 1]]
    with hook(tiny_model, 2, DIRECTION):
        steered = logits(tiny_model, ids).double().log_softmax(-1)

    def refuses(predictions):
        p = predictions.exp()
        return float(p[[7, 31]].sum() / p[[7, 31, 12, 255]].sum())

    last, unsteered = found.iloc[-1], before.double().log_softmax(-1)
    assert last["refusal"] == pytest.approx(refuses(steered[0, 16]), abs=1e-4)
    assert last["over_refusal"] == pytest.approx(refuses(steered[1, 11]), abs=1e-4)
    kept = 3 + compared_tokens(13, COMPARED_TOKENS)  # the tokens after the prompt, by the states that predict them
    expected = (unsteered[1, kept].exp() * (unsteered[1, kept] - steered[1, kept])).sum(-1).mean()
    assert last["kl"] == pytest.approx(float(expected), rel=1e-3, abs=1e-4)
    assert found.iloc[0]["kl"] == 0


def test_compared_tokens_are_few_and_evenly_spaced():
    assert compared_tokens(3, 16).tolist() == [0, 1, 2]
    assert len(compared_tokens(1000, 16)) == 16
    assert compared_tokens(1000, 16)[[0, -1]].tolist() == [0, 999]
    assert most_compared(traces=40, vocabulary=5_000) == COMPARED_TOKENS
    assert most_compared(traces=850, vocabulary=152_000) == 2, "a gibibyte of them, whatever the vocabulary"
    assert (
        most_compared(traces=10**6, vocabulary=10**6) == 1 and most_compared(traces=0, vocabulary=8) == COMPARED_TOKENS
    )


def test_divergence_is_that_of_the_other_from_the_reference():
    reference, other = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    assert divergence(reference, other) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert divergence(reference, reference) == 0
