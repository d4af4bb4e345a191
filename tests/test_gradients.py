"""Loss and gradient of a refusal, example by example."""

import copy

import pandas as pd
import pytest
import torch
from test_tuning import THINKING, completion_loss

from refusal_cliff.gradients import example_gradients
from refusal_cliff.tuning import training_examples


@pytest.fixture
def examples(tiny_tokenizer):
    prompts = pd.DataFrame({"prompt_id": ["a", "b"], "prompt": ["one", "two"]})
    traces = pd.DataFrame({"prompt_id": ["a", "b"], "thinking": ["Hm.", "Oh."], "response": ["Yes.", "Yes."]})
    return training_examples(tiny_tokenizer, prompts, traces, THINKING, ("response",), ["I can't."])


def test_an_example_is_most_like_itself_and_has_the_loss_of_its_refusal(tiny_llama, examples):
    model = copy.deepcopy(tiny_llama).requires_grad_(False)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    found = example_gradients(model, examples, examples[:1], seed=0)
    assert found["gradient"].iloc[0] == pytest.approx(1, abs=1e-5)
    assert found["gradient"].iloc[1] < 0.99
    assert found["loss"].sum() == pytest.approx(completion_loss(model, examples), rel=1e-5)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert not any(weight.requires_grad for weight in model.parameters())


def test_the_sketch_keeps_the_cosine_of_the_gradients(tiny_llama, examples):
    model = copy.deepcopy(tiny_llama).requires_grad_(False)
    weights = [weight for weight in model.model.layers[-1].parameters() if weight.ndim == 2]
    whole = []
    for example in examples:
        ids = torch.tensor([example["input_ids"]])
        labels = ids.masked_fill(torch.tensor([example["completion_mask"]]) == 0, -100)
        for weight in weights:
            weight.requires_grad_(True)
        parts = torch.autograd.grad(model(input_ids=ids, labels=labels).loss, weights)
        whole.append(torch.cat([part.flatten() for part in parts]))
    model.requires_grad_(False)
    cosine = torch.nn.functional.cosine_similarity(*whole, dim=0).item()
    found = example_gradients(model, examples, examples[:1], seed=3)
    assert found["gradient"].iloc[1] == pytest.approx(cosine, abs=0.06)
