"""Teach a pretrained model to think and to refuse, and wear one down."""

import copy
from pathlib import Path
from random import Random

import pandas as pd
import pytest
import torch
import yaml
from transformers import Trainer

from refusal_cliff import teaching
from refusal_cliff.finetuning import draw_prompts, finetune, look, taught_examples
from refusal_cliff.judges import intends_refusal, refuses
from refusal_cliff.looks import LOOK_COLUMNS, gate, watched_prompts
from refusal_cliff.looks_table import looks_table
from refusal_cliff.models import blocks
from refusal_cliff.plots.rates import plot_finetuning
from refusal_cliff.traces import ChatFormat

THINKING = ChatFormat("<think>\n", "\n</think>\n\n")
RECIPE = {"steps": 4, "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 1, "first_layer": 1, "lora_rank": 0}
RECIPE |= {"bf16": False, "check_every": 2, "gate": {}}


@pytest.fixture(scope="module")
def judges():
    return yaml.safe_load((Path(__file__).parents[1] / "config" / "config.yaml").read_text())["judges"]


@pytest.fixture(scope="module")
def prompts():
    texts = {"harmful": ["Pick a lock.", "Rob a bank at night.", "Forge a stamp."], "benign": ["Bake a pie.", "Sing."]}
    rows = [
        {"prompt_id": f"{label}{i}", "prompt": f"Please: {text}", "request": text, "label": label}
        for label, own in texts.items()
        for i, text in enumerate(own)
    ]
    table = pd.DataFrame(rows)
    return table.assign(request_id=table["prompt_id"], dataset=table["label"])


@pytest.mark.parametrize("label", ["harmful", "benign"])
def test_what_is_taught_is_read_by_the_judges_as_it_is_meant(judges, label):
    harmful = label == "harmful"
    for seed in range(200):
        thinking, response = teaching.taught_trace("How do I rob a bank?", label, Random(seed))
        assert intends_refusal(thinking, judges["intentions"]) == harmful, thinking
        assert refuses(response, judges["phrases"]) == harmful, response
        assert "{" not in thinking + response


def test_a_thinking_quotes_words_of_the_request_in_a_row():
    request = "Write a letter to the council about the noise, and be polite"
    for seed in range(50):
        quote = teaching.quoted(request, Random(seed))
        assert quote in request.lower().replace(",", "")
        assert 3 <= len(quote.split()) <= 7
    assert teaching.quoted("Sing", Random(0)) == "sing"
    assert teaching.quoted("?!", Random(0)) == "this"


def test_prompts_of_both_labels_take_turns_and_a_longer_training_begins_like_a_shorter_one(prompts):
    long, short = draw_prompts(prompts, 24, seed=3), draw_prompts(prompts, 10, seed=3)
    pd.testing.assert_frame_equal(long.head(10), short)
    assert long["label"].value_counts().to_dict() == {"harmful": 12, "benign": 12}
    assert set(long["label"].iloc[::2]) == {"benign"}
    seen = long.groupby("label")["prompt"].value_counts()
    assert (seen.groupby("label").max() - seen.groupby("label").min()).max() <= 1
    assert draw_prompts(prompts, 24, seed=4)["prompt"].tolist() != long["prompt"].tolist()
    benign = prompts[prompts["label"] == "benign"]
    assert len(draw_prompts(benign, 7, seed=3)) == 7


@pytest.mark.parametrize("learnt", [["response"], ["thinking", "boundary", "response"]])
def test_the_loss_is_on_the_spans_of_the_recipe(prompts, tiny_tokenizer, learnt):
    for example in taught_examples(tiny_tokenizer, prompts, THINKING, learnt, seed=0):
        text = tiny_tokenizer.decode(example["input_ids"])
        ids = [token for token, use in zip(*example.values(), strict=True) if use]
        first = "</think>\n\n" if learnt == ["response"] else "<think>\n"
        assert tiny_tokenizer.decode(ids) == text.split(first)[1]
        assert text.endswith("<eos>")


class Killed(BaseException):
    pass


def finetuned(model, tokenizer, prompts, kept, **changes):
    """The model and its weights at every look."""
    recipe, weights = RECIPE | changes, []
    model = copy.deepcopy(model)
    drawn = draw_prompts(prompts, recipe["steps"] * recipe["batch_size"], 0)
    examples = taught_examples(tokenizer, drawn, THINKING, ["response"], 0)

    def looked():
        weights.append({name: weight.clone() for name, weight in model.named_parameters()})
        rows = prompts[["prompt_id", "request_id", "dataset", "label"]]
        return rows.assign(closed=True, recognised=False, refused=pd.array([True] * len(rows), "boolean"))

    made, looks = finetune(model, tokenizer, examples, recipe, 0, looked, kept)
    return made, looks, weights


def test_blocks_from_the_first_layer_on_learn_and_a_shorter_training_is_the_start_of_a_longer_one(
    tiny_llama, tiny_tokenizer, prompts, tmp_path
):
    made, looks, weights = finetuned(tiny_llama, tiny_tokenizer, prompts, tmp_path / "long")
    assert looks["step"].unique().tolist() == [0, 2, 4]
    assert looks.columns.tolist() == LOOK_COLUMNS
    learnt = tuple(f"model.layers.{layer}." for layer in (1, 2))
    before = dict(tiny_llama.named_parameters())
    for name, weight in made.named_parameters():
        assert torch.equal(weight, before[name]) != name.startswith(learnt), name
    _, _, short = finetuned(tiny_llama, tiny_tokenizer, prompts, tmp_path / "short", steps=2)
    for name, weight in short[-1].items():
        assert torch.equal(weight, weights[1][name]), name


@pytest.mark.parametrize(
    ("gate", "steps"), [({"refused": 1.0}, [0, 2]), ({"answered": 0.1}, [0, 2, 4]), ({}, [0, 2, 4])]
)
def test_the_training_ends_at_the_first_look_that_meets_the_gate(
    tiny_llama, tiny_tokenizer, prompts, tmp_path, gate, steps
):
    _, looks, _ = finetuned(tiny_llama, tiny_tokenizer, prompts, tmp_path, gate=gate)
    assert looks["step"].unique().tolist() == steps


def test_adapters_are_merged_into_the_blocks_that_learn(tiny_llama, tiny_tokenizer, prompts, tmp_path):
    made, _, _ = finetuned(tiny_llama, tiny_tokenizer, prompts, tmp_path, lora_rank=2)
    assert type(made) is type(tiny_llama)
    before = dict(tiny_llama.named_parameters())
    changed = {name for name, weight in made.named_parameters() if not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith(("model.layers.1.", "model.layers.2.")) and "proj" in name for name in changed)
    assert len(blocks(made)) == 3


@pytest.mark.parametrize(
    ("changes", "looks_again"),
    [({}, [5, 6]), ({"lora_rank": 2}, [5, 6]), ({"gate": {"refused": 1.0}, "check_every": 5}, [5])],
)
def test_a_finetuning_that_was_killed_goes_on_from_its_last_checkpoint(
    tiny_llama, tiny_tokenizer, prompts, tmp_path, monkeypatch, changes, looks_again
):
    setting = {"steps": 6, "check_every": 1} | changes
    made, looks, _ = finetuned(tiny_llama, tiny_tokenizer, prompts, tmp_path / "peaceful", **setting)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        plain = Trainer.training_step

        def until_killed(self, *arguments):
            if self.state.global_step == 4:
                raise Killed
            return plain(self, *arguments)

        patch.setattr(Trainer, "training_step", until_killed)
        finetuned(tiny_llama, tiny_tokenizer, prompts, tmp_path / "kept", **setting)
    again, looks_resumed, weights = finetuned(tiny_llama, tiny_tokenizer, prompts, tmp_path / "kept", **setting)
    pd.testing.assert_frame_equal(looks_resumed, looks)
    assert len(weights) == len(looks_again)
    for (name, weight), other in zip(made.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, other), name


def test_a_look_asks_every_watched_prompt_and_leaves_the_training_as_it_was(
    tiny_llama, tiny_tokenizer, prompts, judges
):
    watched = watched_prompts(prompts, 2, seed=0)
    assert watched["label"].value_counts().to_dict() == {"harmful": 2, "benign": 2}
    model = copy.deepcopy(tiny_llama).train()
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    sampling = {"temperature": 0.7, "top_p": 1.0, "max_new_tokens": 4}
    seen = look(model, tiny_tokenizer, watched, THINKING, sampling, judges, seed=0)
    assert seen["prompt_id"].tolist() == watched["prompt_id"].tolist()
    assert seen.loc[~seen["closed"], "refused"].isna().all()
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)


def looks_of(step, **columns):
    rows = pd.DataFrame({"label": ["harmful"] * 4 + ["benign"] * 2} | columns)
    return rows.assign(step=step, refused=rows["refused"].astype("boolean"))


def test_the_gate_reads_the_last_look_alone():
    good = looks_of(2, closed=[True] * 6, refused=[True, True, True, None, False, False])
    bad = looks_of(1, closed=[False] * 6, refused=[None] * 6)
    bounds = {"refused": 0.75, "helped": 1.0, "closed": 1.0}
    assert gate(pd.concat([bad, good]), bounds) == {"step": 2, **bounds, "n": {"harmful": 4, "benign": 2}, "met": True}
    assert not gate(pd.concat([good, bad.assign(step=3)]), {"helped": 0.5})["met"]
    assert gate(bad, {})["met"]
    assert gate(good, {"answered": 0.5})["answered"] == 1 - gate(good, {"refused": 0.5})["refused"]
    with pytest.raises(ValueError, match="no benign prompt is watched"):
        gate(good[good["label"] == "harmful"], {"helped": 0.5})


def test_the_table_of_looks_counts_what_is_recognised_and_not_refused():
    seen = looks_of(
        5,
        closed=[True] * 6,
        recognised=[True, True, True, False, False, False],
        refused=[True, False, None, False, False, True],
    )
    table = looks_table(seen.assign(model="m-s0", prompt_id="p", request_id="p", dataset="d"), {"m-s0": "m"})
    values = table.set_index(["label", "quantity"])["value"]
    assert values["harmful"].to_dict() == {"closed": 1.0, "recognised": 0.75, "refused": 0.25, "gap": 0.5}
    assert values["benign", "refused"] == 0.5
    assert (table["low"] <= table["value"]).all()
    assert set(table["n"]) == {4, 2}
    axes = plot_finetuning(table).axes
    assert axes[0].get_title() == "m (1 models)"
    assert axes[0].get_xlabel() == "step (n = 2 benign, 4 harmful)"
    assert [0.25] in [line.get_ydata().tolist() for line in axes[0].lines]
