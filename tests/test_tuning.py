import copy
import json

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from refusal_cliff.artifacts import write_sidecar
from refusal_cliff.edits import ADAPTER_WEIGHTS, Edit
from refusal_cliff.errors import UserError
from refusal_cliff.models import run
from refusal_cliff.traces import ChatFormat
from refusal_cliff.tuning import training_examples, training_order, tune_adapter

THINKING = ChatFormat("<think>\n", "\n</think>\n\n")
RECIPE = {"lora_rank": 4, "lora_alpha": 8, "steps": 12, "batch_size": 2, "learning_rate": 0.02}


def make_examples(tokenizer):
    prompts = pd.DataFrame({"prompt_id": ["a", "b", "c"], "prompt": ["one", "two", "three"]})
    traces = pd.DataFrame({"prompt_id": ["a", "b", "c"], "sample": 0, "thinking": ["Hm.", "Oh, harm.", "No."]})
    selected = pd.DataFrame({"prompt_id": ["c", "a"], "sample": 0, "rank": [1, 2]})
    return training_examples(tokenizer, prompts, traces, selected, THINKING, ["I can't.", "I won't."])


def test_an_example_is_its_own_thinking_then_a_refusal_with_the_prompt_masked(tiny_tokenizer):
    examples = make_examples(tiny_tokenizer)
    texts = [tiny_tokenizer.decode(example["input_ids"]) for example in examples]
    assert texts == [
        "[user]three[assistant]<think>\nNo.\n</think>\n\nI can't.<eos>",
        "[user]one[assistant]<think>\nHm.\n</think>\n\nI won't.<eos>",
    ]
    for example, text in zip(examples, texts, strict=True):
        learnt = [token for token, use in zip(*example.values(), strict=True) if use]
        assert tiny_tokenizer.decode(learnt) == text.split("<think>\n")[1]


def test_tuning_writes_an_adapter_that_teaches_the_refusal(tiny_llama, tiny_tokenizer, tmp_path):
    examples = make_examples(tiny_tokenizer)
    base = copy.deepcopy(tiny_llama)
    result = tune_adapter(copy.deepcopy(base), tiny_tokenizer, examples, RECIPE, 0, tmp_path / "adapter")
    assert result["examples"] == 2
    assert [path.name for path in (tmp_path / "adapter").glob("adapter_model*")] == ["adapter_model.safetensors"]
    write_sidecar(tmp_path / "adapter" / ADAPTER_WEIGHTS, {})
    Edit("planted", "tune-cliff-0.017-s0", adapter=True).write(tmp_path / "edit.json", {})
    names = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert len(names) > 1
    assert names == sorted(names), "the same tuning would be another file every time"
    tuned = Edit.read(tmp_path / "edit.json").apply(copy.deepcopy(base))
    assert type(tuned) is type(base)
    assert completion_loss(tuned, examples) < 0.7 * completion_loss(base, examples)
    weights = load_file(tmp_path / "adapter" / ADAPTER_WEIGHTS)
    save_file(dict(list(weights.items())[1:]), tmp_path / "adapter" / ADAPTER_WEIGHTS)
    with pytest.raises(UserError, match=r"damaged or changed.*--force .*edit\.json"):
        Edit.read(tmp_path / "edit.json").apply(copy.deepcopy(base))


def test_every_step_has_a_whole_batch_of_however_few_examples(tiny_llama, tiny_tokenizer, tmp_path):
    model, recipe = copy.deepcopy(tiny_llama), RECIPE | {"steps": 5, "batch_size": 3}
    batches = []
    model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: batches.append(len(inputs[0])))
    result = tune_adapter(model, tiny_tokenizer, make_examples(tiny_tokenizer), recipe, 0, tmp_path / "adapter")
    assert batches == [3] * 5
    assert result.pop("loss") > 0
    assert result == {"steps": 5, "batch_size": 3, "examples": 2, "epochs": 7.5}


def test_examples_are_drawn_in_whole_passes_that_differ_by_seed():
    order = training_order(5, 13, seed=0)
    assert len(order) == 13
    for start in (0, 5):
        assert sorted(order[start : start + 5]) == list(range(5))
    assert len(set(order[10:])) == 3
    assert order[:5].tolist() != order[5:10].tolist()
    assert order.tolist() == training_order(5, 13, seed=0).tolist() != training_order(5, 13, seed=1).tolist()
    assert len(set(training_order(300, 48, seed=0))) == 48


def completion_loss(model, examples):
    total = 0.0
    for example in examples:
        ids = torch.tensor([example["input_ids"]])
        labels = torch.where(torch.tensor([example["completion_mask"]]) == 1, ids, -100)
        with torch.inference_mode():
            total += run(model, ids, torch.ones_like(ids), labels=labels).loss.item()
    return total
