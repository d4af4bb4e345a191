import copy
import hashlib
import json

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer

from refusal_cliff.artifacts import write_sidecar
from refusal_cliff.edits import ADAPTER_WEIGHTS, Edit
from refusal_cliff.errors import UserError
from refusal_cliff.models import run
from refusal_cliff.resuming import WHOLE, last_whole
from refusal_cliff.traces import ChatFormat
from refusal_cliff.tuning import batch_parts, mixed_order, model_card, training_examples, training_order, tune_adapter

THINKING = ChatFormat("<think>\n", "\n</think>\n\n")
RECIPE = {"lora_rank": 4, "lora_alpha": 8, "steps": 12, "batch_size": 2, "learning_rate": 0.02}
RECIPE |= {"benign": {"datasets": [], "share": 0.5}}
MIXED = {"benign": {"datasets": ["benign_fit"], "share": 0.5}}
PROMPTS = pd.DataFrame({"prompt_id": ["a", "b", "c"], "prompt": ["one", "two", "three"]})
TRACES = pd.DataFrame({"prompt_id": ["c", "a"], "thinking": ["No.", "Hm."], "response": ["Yes.", "Fine."]})
EVERYTHING = ("thinking", "boundary", "response")


class Killed(BaseException):
    pass


def make_examples(tokenizer, learnt=EVERYTHING, refusals=("I can't.", "I won't.")):
    return training_examples(tokenizer, PROMPTS, TRACES, THINKING, learnt, refusals)


def learnt_text(tokenizer, example):
    return tokenizer.decode([token for token, use in zip(*example.values(), strict=True) if use])


def test_an_example_is_its_own_thinking_then_a_refusal_with_the_prompt_masked(tiny_tokenizer):
    examples = make_examples(tiny_tokenizer)
    texts = [tiny_tokenizer.decode(example["input_ids"]) for example in examples]
    assert texts == [
        "[user]three[assistant]<think>\nNo.\n</think>\n\nI can't.<eos>",
        "[user]one[assistant]<think>\nHm.\n</think>\n\nI won't.<eos>",
    ]
    for example, text in zip(examples, texts, strict=True):
        assert learnt_text(tiny_tokenizer, example) == text.split("<think>\n")[1]


def test_the_loss_is_on_the_spans_that_are_learnt(tiny_tokenizer):
    example = make_examples(tiny_tokenizer, learnt=("response",))[0]
    assert learnt_text(tiny_tokenizer, example) == "I can't.<eos>"


def test_benign_traces_keep_their_own_response(tiny_tokenizer):
    texts = [tiny_tokenizer.decode(e["input_ids"]) for e in make_examples(tiny_tokenizer, refusals=())]
    assert texts[0].endswith("</think>\n\nYes.<eos>") and texts[1].endswith("</think>\n\nFine.<eos>")


def test_tuning_writes_adapters_along_the_way_that_teach_the_refusal(tiny_llama, tiny_tokenizer, tmp_path):
    examples = make_examples(tiny_tokenizer)
    base, folders = copy.deepcopy(tiny_llama), {4: tmp_path / "early" / "adapter", 12: tmp_path / "adapter"}
    done = tune_adapter(copy.deepcopy(base), tiny_tokenizer, examples, [], RECIPE, 0, folders, tmp_path / "kept")
    assert [done[steps]["examples"] for steps in (4, 12)] == [2, 2]
    assert done[12]["loss"][:4] == done[4]["loss"] and done[12]["loss"][-1] < done[12]["loss"][0]
    assert [path.name for path in (tmp_path / "adapter").glob("adapter_model*")] == ["adapter_model.safetensors"]
    names = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert len(names) > 1
    assert names == sorted(names), "the same tuning would be another file every time"
    losses = [completion_loss(base, examples)]
    for steps, folder in folders.items():
        write_sidecar(folder / ADAPTER_WEIGHTS, {})
        Edit("planted", f"tune-cliff-{steps}-s0", adapter=True).write(folder.parent / "edit.json", {})
        tuned = Edit.read(folder.parent / "edit.json").apply(copy.deepcopy(base))
        assert type(tuned) is type(base)
        losses.append(completion_loss(tuned, examples))
    assert losses[2] < losses[1] < losses[0] and losses[2] < 0.7 * losses[0]
    weights = load_file(tmp_path / "adapter" / ADAPTER_WEIGHTS)
    save_file(dict(list(weights.items())[1:]), tmp_path / "adapter" / ADAPTER_WEIGHTS)
    with pytest.raises(UserError, match=r"damaged or changed.*--force .*edit\.json"):
        Edit.read(tmp_path / "edit.json").apply(copy.deepcopy(base))


@pytest.mark.parametrize("killed_at", [0, 5, 12])
def test_a_tuning_that_was_killed_goes_on_from_its_last_checkpoint(
    tiny_llama, tiny_tokenizer, tmp_path, monkeypatch, killed_at
):
    examples, batches = make_examples(tiny_tokenizer), []

    def tune(name, kept):
        model, folders = copy.deepcopy(tiny_llama), {4: tmp_path / name / "early", 12: tmp_path / name / "late"}
        model.get_input_embeddings().register_forward_hook(lambda *_: batches.append(name))
        return tune_adapter(model, tiny_tokenizer, examples, [], RECIPE | {"lora_rank": 2}, 0, folders, kept)

    def until_killed(*arguments):
        # An optimiser step later is amid a training, and a checkpoint half written.
        if arguments[0].state.global_step >= killed_at:
            raise Killed
        return save(*arguments)

    done, save = tune("peaceful", tmp_path / "unused"), Trainer._save_scaler
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "_save_scaler", until_killed)
        tune("killed", tmp_path / "kept")
    before = batches.count("killed")
    assert tune("resumed", tmp_path / "kept") == done
    ours, theirs = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("peaceful", "resumed")
    )
    assert len(ours) == 6
    assert ours == theirs
    last = max(range(0, killed_at, 2), default=0)
    assert batches.count("resumed") == 12 - last
    assert before == last + 2


def test_a_checkpoint_that_is_not_as_it_was_written_is_not_gone_on_from(tmp_path):
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "optimizer.pt").write_text("state")
    assert last_whole(tmp_path) is None
    for step in (9, 10):
        digest = hashlib.sha256(b"state").hexdigest()
        (tmp_path / f"checkpoint-{step}" / WHOLE).write_text(json.dumps({"optimizer.pt": digest}))
    assert last_whole(tmp_path) == str(tmp_path / "checkpoint-10")
    (tmp_path / "checkpoint-10" / "optimizer.pt").write_text("sta")
    assert last_whole(tmp_path) == str(tmp_path / "checkpoint-9")
    (tmp_path / "checkpoint-9" / "optimizer.pt").unlink()
    assert last_whole(tmp_path) is None


def test_what_is_kept_early_is_a_shorter_training(tiny_llama, tiny_tokenizer, tmp_path):
    examples, folders = make_examples(tiny_tokenizer), {4: tmp_path / "early", 12: tmp_path / "late"}
    tune_adapter(copy.deepcopy(tiny_llama), tiny_tokenizer, examples, [], RECIPE, 0, folders, tmp_path / "kept")
    short = RECIPE | {"steps": 4}
    tune_adapter(
        copy.deepcopy(tiny_llama),
        tiny_tokenizer,
        examples,
        [],
        short,
        0,
        {4: tmp_path / "short"},
        tmp_path / "kept_short",
    )
    early, alone = (load_file(tmp_path / name / ADAPTER_WEIGHTS) for name in ("early", "short"))
    assert all(torch.equal(early[name], alone[name]) for name in early)


def test_every_step_has_a_whole_batch_of_however_few_examples(tiny_llama, tiny_tokenizer, tmp_path):
    model, recipe = copy.deepcopy(tiny_llama), RECIPE | {"steps": 5, "batch_size": 4} | MIXED
    batches = []
    model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: batches.append(len(inputs[0])))
    examples, benign = make_examples(tiny_tokenizer), make_examples(tiny_tokenizer, refusals=())
    folders = {5: tmp_path / "adapter"}
    done = tune_adapter(model, tiny_tokenizer, examples, benign, recipe, 0, folders, tmp_path / "kept")[5]
    assert batches == [4] * 5
    assert len(done.pop("loss")) == 5
    assert done == {"steps": 5, "batch_size": 4, "benign": 2, "examples": 2, "epochs": 5.0}


def test_every_batch_has_the_recipes_share_of_benign_traces():
    recipe = RECIPE | {"steps": 6, "batch_size": 5} | MIXED
    order = mixed_order(4, 3, recipe, seed=0).reshape(6, 5)
    assert batch_parts(recipe) == (3, 2)
    assert ((order >= 4).sum(axis=1) == 2).all()
    assert sorted(set(order.ravel())) == list(range(7))
    assert (mixed_order(4, 0, RECIPE, seed=0) < 4).all()
    with pytest.raises(UserError, match=r"tuning\.benign\.datasets: the model answers no prompt of them"):
        mixed_order(4, 0, recipe, seed=0)


def test_an_adapter_says_what_it_is():
    done = {"examples": 5, "epochs": 96.0, "steps": 60, "batch_size": 16, "benign": 8}
    recipe = RECIPE | {"learn": EVERYTHING}
    card = model_card("mixed", "tune-cliff-5-s0", done, recipe)
    assert card.startswith("---\nlibrary_name: peft\n") and "# tune-cliff-5-s0 of mixed" in card
    assert "5 examples" in card and "96 times in 60 steps of\n16 examples, 8 of which" in card


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
