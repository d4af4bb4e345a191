"""LoRA tuning on selected safety examples: the example's own thinking, followed by a refusal (section 5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refusal_cliff.templates import end_of_turn
from refusal_cliff.traces import TRACE_KEY, ChatFormat, encode_trace, render_prompt


def training_examples(
    tokenizer: Any,
    prompts: pd.DataFrame,
    traces: pd.DataFrame,
    selected: pd.DataFrame,
    chat: ChatFormat,
    refusals: Sequence[str],
) -> list[dict[str, list[int]]]:
    """Token ids and completion mask of each selected example, prompt masked out of the loss.

    Args:
        prompts: prompt_id, prompt. traces: prompt_id, sample, thinking. selected: prompt_id, sample, rank.
        refusals: responses to teach, taken in turn.
    """
    text = prompts.set_index("prompt_id")["prompt"]
    end = turn_end(tokenizer, chat)
    chosen = selected.merge(traces, on=TRACE_KEY, validate="one_to_one").sort_values("rank")
    examples = []
    for turn, trace in enumerate(chosen.itertuples()):
        encoded = encode_trace(
            tokenizer,
            render_prompt(tokenizer, text[trace.prompt_id], chat),
            trace.thinking,
            chat.boundary,
            refusals[turn % len(refusals)] + end,
        )
        learnt_from = encoded.spans["thinking"][0]
        mask = [int(position >= learnt_from) for position in range(len(encoded.ids))]
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


def tune_adapter(
    model: Any,
    tokenizer: Any,
    examples: list[dict[str, list[int]]],
    recipe: Mapping[str, Any],
    seed: int,
    output_dir: Path,
) -> dict[str, float]:
    """Train a LoRA adapter for a fixed number of optimiser steps and save it as safetensors in `output_dir`.

    Every subset gets the same number of steps with batches of the same size, so that selectors differ in examples only.

    Args:
        model: the base model; its own weights stay as they are.
        recipe: lora_rank, lora_alpha, steps, batch_size, learning_rate.

    Returns:
        What the trainer did: steps, batch_size (examples in a step), examples, epochs (how often each was seen, on
        average), and the mean training loss.
    """
    import tempfile

    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    order = training_order(len(examples), recipe["steps"] * recipe["batch_size"], seed)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(examples).select(order),
            peft_config=LoraConfig(
                r=recipe["lora_rank"],
                lora_alpha=recipe["lora_alpha"],
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
            args=SFTConfig(
                output_dir=scratch,
                max_steps=recipe["steps"],
                per_device_train_batch_size=recipe["batch_size"],
                train_sampling_strategy="sequential",
                learning_rate=recipe["learning_rate"],
                lr_scheduler_type="linear",
                warmup_steps=0.1,
                completion_only_loss=True,
                max_length=None,
                activation_checkpointing=False,
                bf16=False,
                seed=seed,
                report_to="none",
                save_strategy="no",
                logging_steps=max(1, recipe["steps"] // 10),
            ),
        )
        result = trainer.train()
        # peft keeps the names of what is tuned in a set, and would write them in another order every time.
        config = trainer.model.peft_config["default"]
        config.target_modules = sorted(config.target_modules)
        trainer.model.save_pretrained(output_dir, safe_serialization=True)
    steps, args = trainer.state.global_step, trainer.args
    batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return {
        "steps": steps,
        "batch_size": batch_size,
        "examples": len(examples),
        "epochs": steps * batch_size / len(examples),
        "loss": result.training_loss,
    }
