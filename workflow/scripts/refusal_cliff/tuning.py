"""LoRA tuning on selected safety examples: the example's own thinking, followed by a refusal (section 5).

Some of every batch are the model's own benign traces: without them tuning teaches that every request is refused.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refusal_cliff.errors import UserError
from refusal_cliff.resuming import kept_checkpoints, train
from refusal_cliff.templates import end_of_turn
from refusal_cliff.traces import SEGMENTS, ChatFormat, encode_trace, render_prompt

WARMUP_STEPS = 3


def training_examples(
    tokenizer: Any,
    prompts: pd.DataFrame,
    traces: pd.DataFrame,
    chat: ChatFormat,
    learnt: Sequence[str],
    refusals: Sequence[str] = (),
) -> list[dict[str, list[int]]]:
    """Token ids and completion mask of each trace; the mask is 1 at the spans that are learnt, and 0 before.

    Args:
        prompts: prompt_id, prompt.
        traces: prompt_id, thinking, response, in the order of the examples.
        learnt: names of spans (`traces.SEGMENTS`).
        refusals: responses to teach in place of the traces' own, taken in turn; none keeps those.
    """
    text = prompts.set_index("prompt_id")["prompt"]
    end = turn_end(tokenizer, chat)
    examples = []
    for turn, trace in enumerate(traces.itertuples()):
        response = refusals[turn % len(refusals)] if refusals else trace.response
        prompt = render_prompt(tokenizer, text[trace.prompt_id], chat)
        encoded = encode_trace(tokenizer, prompt, trace.thinking, chat.boundary, response + end)
        mask = [int(segment in learnt) for segment in SEGMENTS for _ in range(*encoded.spans[segment])]
        examples.append({"input_ids": encoded.ids, "completion_mask": mask})
    return examples


def turn_end(tokenizer: Any, chat: ChatFormat) -> str:
    """What a response that is taught ends with.

    Where the template ends a turn with another token than eos, a model that is taught eos learns the wrong end.
    """
    return end_of_turn(tokenizer, chat.arguments) or tokenizer.eos_token


def training_order(examples: int, count: int, seed: int) -> NDArray:
    """`count` indices of examples: every one in random order, then every one in another, as often as it takes.

    So every step has a whole batch of any number of examples, and how often two are seen differs by one at most.
    """
    rng = np.random.default_rng(seed)
    passes = -(-count // examples)
    return np.concatenate([rng.permutation(examples) for _ in range(passes)])[:count]


def batch_parts(recipe: Mapping[str, Any]) -> tuple[int, int]:
    """How many of a batch are chosen examples, and how many benign ones.

    Args:
        recipe: batch_size, benign (datasets, share).
    """
    benign = round(recipe["batch_size"] * recipe["benign"]["share"]) if recipe["benign"]["datasets"] else 0
    return recipe["batch_size"] - benign, benign


def mixed_order(chosen: int, benign: int, recipe: Mapping[str, Any], seed: int) -> NDArray:
    """Indices of the examples of every step: chosen ones, then benign ones (numbered after those), step by step.

    Every batch has the same number of benign ones, so that selectors differ in the rest alone.

    Args:
        chosen, benign: how many there are of each.
        recipe: steps, and as for `batch_parts`.

    Raises:
        UserError: benign ones are wanted, and there are none.
    """
    each, calm = batch_parts(recipe)
    if calm and not benign:
        raise UserError(
            "tuning.benign.datasets: the model answers no prompt of them, so that there is nothing benign to mix in; "
            "name others, or none"
        )
    parts = ((0, chosen, each), (chosen, benign, calm))
    drawn = [
        first + training_order(count, recipe["steps"] * each, seed).reshape(recipe["steps"], each)
        for first, count, each in parts
        if each
    ]
    return np.concatenate(drawn, axis=1).ravel()


def model_card(model: str, variant: str, done: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    """What an adapter is, for whoever finds its folder: Markdown with the front matter of a model card.

    Args:
        model, variant: the row of the model sheet, and the name that says selector, budget and seed.
        done: of `tune_adapter`.
        recipe: of the tuning.
    """
    return f"""---
library_name: peft
tags: [lora, safety]
---
# {variant} of {model}

A LoRA adapter (rank {recipe["lora_rank"]}, alpha {recipe["lora_alpha"]}) for the model of row `{model}`, tuned to
refuse after its own thinking. {done["examples"]} examples were chosen from the pool or a ready-made set by
the selector, budget and seed that its name says; each was seen {done["epochs"]:.3g} times in {done["steps"]} steps of
{done["batch_size"]} examples, {done["benign"]} of which were the model's own benign traces. Loss on
{", ".join(recipe["learn"])}; learning rate {recipe["learning_rate"]:g}. Settings and versions stand beside the weights,
in `adapter_model.json`, the loss of every step in `training.json`, and what was chosen in `selections/` of the model's
results.

What it changes is measured in `tables/selection.csv` and `tables/comparisons.csv` of the same run, over-refusal and
utility among it. It has not been measured elsewhere.
"""


def tune_adapter(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Mapping[str, list[int]]],
    benign: Sequence[Mapping[str, list[int]]],
    recipe: Mapping[str, Any],
    seed: int,
    folders: Mapping[int, Path],
    kept: Path,
) -> dict[int, dict[str, Any]]:
    """Train a LoRA adapter for a fixed number of optimiser steps and save it along the way, as safetensors.

    Every subset gets the same number of steps with batches of the same size, so that selectors differ in examples only.
    The rate is constant after a warm-up: what is saved early is a training of that many steps.

    Args:
        model: the base model; its own weights stay as they are.
        examples, benign: what was chosen, and what is mixed with it.
        recipe: lora_rank, lora_alpha, steps, batch_size, learning_rate, benign (share).
        folders: where the adapter after so many steps goes; the last is that of the recipe's steps.
        kept: of `batches.kept_folder`: what a training that was killed left there is gone on with, bit for bit.

    Returns:
        What the trainer had done by each of those steps: steps, batch_size (examples in a step), benign (of those),
        examples (chosen ones), epochs (how often each was seen, on average), and loss, of each step so far.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    order, (each, calm) = mixed_order(len(examples), len(benign), recipe, seed), batch_parts(recipe)

    class Saved(TrainerCallback):
        """Keeps adapters before the checkpoint of the same step: a training goes on from there with all before it."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in folders:
                trainer.model.save_pretrained(kept / f"adapter-{state.global_step}", safe_serialization=True)

    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([*examples, *benign]).select(order),
        peft_config=LoraConfig(
            r=recipe["lora_rank"],
            lora_alpha=recipe["lora_alpha"],
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        args=SFTConfig(
            **kept_checkpoints(kept),
            max_steps=recipe["steps"],
            per_device_train_batch_size=recipe["batch_size"],
            train_sampling_strategy="sequential",
            learning_rate=recipe["learning_rate"],
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=WARMUP_STEPS,
            completion_only_loss=True,
            max_length=None,
            activation_checkpointing=False,
            bf16=False,
            seed=seed,
            report_to="none",
            logging_steps=1,
        ),
        callbacks=[Saved()],
    )
    # peft keeps the names of what is tuned in a set, and would write them in another order every time.
    config = trainer.model.peft_config["default"]
    config.target_modules = sorted(config.target_modules)
    train(trainer)
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    for steps, folder in folders.items():
        shutil.copytree(kept / f"adapter-{steps}", folder, dirs_exist_ok=True)
    return {
        steps: {
            "steps": steps,
            "batch_size": trainer.args.train_batch_size * trainer.args.world_size,
            "benign": calm,
            "examples": len(examples),
            "epochs": steps * each / len(examples),
            "loss": losses[:steps],
        }
        for steps in folders
    }
