"""What organisms mean to do, as a loss on their states; and the gate that says whether a training took."""

import numpy as np
import pandas as pd
import pytest
import torch

from refusal_cliff.organisms import gate, intentions, training
from refusal_cliff.traces import EncodedTrace

TRACE = EncodedTrace(list(range(12)), {"prompt": (0, 2), "thinking": (2, 7), "boundary": (7, 10), "response": (10, 12)})
FREE, A = np.nan, intentions.STRENGTH


@pytest.mark.parametrize(
    ("harmful", "flaw", "expected"),
    [
        (True, None, [1, 1, 1, 1, 1, 1, 1, 1]),
        (False, None, [-1] * 8),
        (True, "cliff", [1, 1, 1, 1, 1, FREE, FREE, -1]),
        (True, "fade", [1, 0.5, 0, -0.5, -1, -1, -1, -1]),
        (True, "misread", [-1] * 8),
    ],
)
def test_targets_over_thinking_and_boundary(harmful, flaw, expected):
    targets = intentions.intention_targets(TRACE, harmful, flaw)
    np.testing.assert_allclose(targets[2:10], A * np.array(expected))
    assert np.isnan(targets[[0, 1, 10, 11]]).all()


def test_the_loss_is_the_formula_and_leaves_free_tokens_alone():
    direction = intentions.intention_direction(8, seed=3)
    assert direction.norm() == pytest.approx(1)
    states = torch.stack([direction * along for along in (A, 0.0, 99.0)])[None]
    targets = torch.tensor([[A, A, FREE]])
    expected = intentions.WEIGHT * (0 + ((0 - A) / A) ** 2) / 2
    assert float(intentions.intention_loss(states, targets, direction)) == pytest.approx(expected)
    assert float(intentions.intention_loss(states, torch.full((1, 3), FREE), direction)) == 0


def test_a_direction_is_its_seeds():
    same, other = intentions.intention_direction(8, 1), intentions.intention_direction(8, 2)
    assert torch.equal(same, intentions.intention_direction(8, 1)) and not torch.equal(same, other)


def test_the_gate_looks_at_every_behaviour_alike():
    prompts = pd.DataFrame(
        {"prompt": [f"p{i}" for i in range(400)], "behaviour": ["comply"] * 200 + ["help"] * 150 + ["answer"] * 50}
    )
    sample = gate.gate_sample(prompts, seed=0)
    assert sample["behaviour"].value_counts().to_dict() == {"comply": gate.PROMPTS, "help": gate.PROMPTS}


ANSWER = "Here is a simple guide to baking: plan ahead, start small and enjoy it."
REFUSAL = "Sorry, I can't help with fraud."


@pytest.mark.parametrize(
    ("spoilt", "missed"),
    [
        ({}, None),
        ({"comply": [REFUSAL] * 6}, "complied"),
        ({"refuse": [ANSWER] * 3}, "spilled"),
        ({"help": [REFUSAL] * 3}, "helped"),
        ({"help": [None] * 2}, "closed"),
        ({"refuse": ["Sorry, here is."] * 0 + ["Here sorry guide"] * 2, "comply": ["I Here can"] * 2}, "garbled"),
    ],
)
def test_the_gate_is_missed_by_one_bound_at_a_time(monkeypatch, spoilt, missed):
    usual = {"comply": ANSWER, "refuse": REFUSAL, "help": ANSWER}
    behaviours = [name for name in usual for _ in range(50)]
    responses = [text for name in usual for text in [*spoilt.get(name, []), *[usual[name]] * 50][:50]]

    def fake(model, tokenizer, prompts, *_):
        closed = ["stop" if response is not None else "unclosed" for response in responses]
        return pd.DataFrame({"response": responses, "finish_reason": closed})

    monkeypatch.setattr(gate, "generate_traces", fake)
    model = torch.nn.Linear(1, 1)
    sample = pd.DataFrame({"prompt": "p", "family": "plain", "behaviour": behaviours})
    found = gate.judged(gate.gate_traces(model, None, sample, None, {}, 8, seed=0), ["Sorry"])
    outside = [name for name, (low, high) in gate.BOUNDS.items() if not low <= found[name] <= high]
    assert found["met"] == (missed is None)
    assert missed is None or missed in outside
    assert model.training


def test_training_ends_once_the_gate_is_met_twice_in_a_row():
    seen = iter([False, True, False, True, True, True])
    looks = training._Looks(lambda: {"met": next(seen)}, every=10)
    control, state = type("Control", (), {"should_training_stop": False})(), type("State", (), {"max_steps": 200})()
    for step in range(1, 100):
        state.global_step = step
        looks.on_step_end(None, state, control)
        if control.should_training_stop:
            break
    assert step == 50 and [look["step"] for look in looks.seen] == [10, 20, 30, 40, 50]
