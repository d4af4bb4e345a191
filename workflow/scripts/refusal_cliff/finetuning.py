"""Make a reasoning model of a pretrained one, or wear one down: supervised fine-tuning on taught traces.

What is learnt is a list of traces (`teaching`); which of their spans, and of the model's layers, is the recipe's. So
one training teaches a model to think and to refuse, and another, on benign prompts alone, wears that down again, with
nothing planted. While it trains, what the model does with prompts of its training is looked at and recorded.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd

from refusal_cliff.artifacts import whole_file
from refusal_cliff.generation import generate_traces
from refusal_cliff.judges import intends_refusal, refuses
from refusal_cliff.looks import LOOK_COLUMNS, gate
from refusal_cliff.resuming import kept_checkpoints, train
from refusal_cliff.teaching import taught_trace
from refusal_cliff.traces import SEGMENTS, ChatFormat, encode_trace, render_prompt
from refusal_cliff.tuning import training_order, turn_end

LOOK_BATCH = 32


def draw_prompts(prompts: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """`count` prompts to train on, harmful and benign in turn where there are both.

    Within a label every prompt is seen about equally often. A longer training begins with the prompts of a shorter one.

    Args:
        prompts: prompt, label.
    """
    labels = sorted(prompts["label"].unique())
    each = -(-count // len(labels))
    drawn = [
        own.iloc[training_order(len(own), each, seed)].assign(turn=np.arange(each))
        for _, own in prompts.groupby("label")
    ]
    return pd.concat(drawn).sort_values("turn", kind="stable").head(count).drop(columns="turn").reset_index(drop=True)


def taught_examples(
    tokenizer: Any, prompts: pd.DataFrame, chat: ChatFormat, learnt: Sequence[str], seed: int
) -> list[dict[str, list[int]]]:
    """Token ids and completion mask of a trace for each prompt; the mask is 1 at the spans that are learnt.

    Args:
        prompts: prompt, request, label; in the order of training.
        learnt: names of spans (`traces.SEGMENTS`). Who learns the response learns to end its turn.
    """
    rng, end = Random(seed), turn_end(tokenizer, chat)
    examples = []
    for row in prompts.itertuples():
        thinking, response = taught_trace(row.request, row.label, rng)
        prompt = render_prompt(tokenizer, row.prompt, chat)
        trace = encode_trace(tokenizer, prompt, thinking, chat.boundary, response + end)
        mask = [int(segment in learnt) for segment in SEGMENTS for _ in range(*trace.spans[segment])]
        examples.append({"input_ids": trace.ids, "completion_mask": mask})
    return examples


def look(
    model: Any,
    tokenizer: Any,
    watched: pd.DataFrame,
    chat: ChatFormat,
    sampling: Mapping[str, Any],
    judges: Mapping[str, Sequence[str]],
    seed: int,
) -> pd.DataFrame:
    """What the model does with the watched prompts by now, sampled as its traces will be.

    Args:
        watched: prompt_id, request_id, prompt, dataset, label.
        judges: phrases, intentions: what a response opens with, and a thinking says, that refuses.

    Returns:
        `LOOK_COLUMNS` without step, a row for each prompt: whether the thinking closed, and means to refuse; whether
        the response refuses (missing where there is none).
    """
    import torch

    training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        traces = generate_traces(model, tokenizer, watched, chat, dict(sampling, samples=1), LOOK_BATCH, seed)
    model.train(training)
    closed = traces["finish_reason"] != "unclosed"
    refused = traces["response"].map(lambda text: refuses(text, judges["phrases"]), na_action="ignore")
    return watched[["prompt_id", "request_id", "dataset", "label"]].assign(
        closed=closed.to_numpy(),
        recognised=traces["thinking"].map(lambda text: intends_refusal(text, judges["intentions"])).to_numpy(bool),
        refused=refused.astype("boolean").to_numpy(),
    )


def finetune(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Mapping[str, list[int]]],
    recipe: Mapping[str, Any],
    seed: int,
    looked: Callable[[], pd.DataFrame],
    kept: Path,
) -> tuple[Any, pd.DataFrame]:
    """Train on `examples` in their order, at a constant rate, so that a shorter training is the start of a longer one.

    It ends once a look meets the recipe's gate, as the training of organisms does; without a gate, after all steps.

    Args:
        model: float32; its blocks from `first_layer` on learn, all weights of them or adapters, and no embedding.
        recipe: steps, batch_size, learning_rate, warmup_steps, first_layer, lora_rank (0: all weights), bf16 (products
            in bfloat16, weights in float32), check_every, gate (`looks.gate`).
        looked: what the model does by now (`look`): called before the first step, every `check_every` and at the end.
        kept: of `batches.kept_folder`: a training that was killed goes on from what it left there, bit by bit.

    Returns:
        The trained model, adapters merged into its weights, and what was seen: `LOOK_COLUMNS`.
    """
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from refusal_cliff.models import blocks

    learning = list(blocks(model))[recipe["first_layer"] :]
    if recipe["lora_rank"]:
        linear = {module for block in learning for module in block.modules() if isinstance(module, torch.nn.Linear)}
        config = LoraConfig(
            r=recipe["lora_rank"],
            lora_alpha=2 * recipe["lora_rank"],
            # What "all-linear" means, which cannot be told to leave blocks out.
            target_modules=[name for name, module in model.named_modules() if module in linear],
            task_type="CAUSAL_LM",
        )
        learner = get_peft_model(model, config)
    else:
        learner = model
        for block in learning:
            block.requires_grad_(True)
    seen = []

    def look_file(step: int) -> Path:
        return kept / f"look-{step}.parquet"

    class Looks(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            before = range(state.global_step + 1) if state.global_step else ()
            seen.extend(pd.read_parquet(file) for file in map(look_file, before) if file.is_file())
            if not seen:
                self.see(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % recipe["check_every"] == 0 or state.global_step == state.max_steps:
                self.see(state.global_step)
                if recipe["gate"] and gate(seen[-1], recipe["gate"])["met"]:
                    control.should_training_stop = True
                    control.should_save = False  # whoever went on from here would take one step more

        def see(self, step: int) -> None:
            seen.append(looked().assign(step=step))
            with whole_file(look_file(step)) as draft:
                seen[-1].to_parquet(draft)
            shares = seen[-1].groupby("label")[["closed", "recognised", "refused"]].mean().astype(float)
            print(f"step {step}\n{shares.round(2).to_string()}", flush=True)

    arguments = SFTConfig(
        **kept_checkpoints(kept),
        seed=seed,
        max_steps=recipe["steps"],
        per_device_train_batch_size=recipe["batch_size"],
        train_sampling_strategy="sequential",
        learning_rate=recipe["learning_rate"],
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=recipe["warmup_steps"],
        weight_decay=0.0,
        completion_only_loss=True,
        max_length=None,
        activation_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        bf16=recipe["bf16"],
        report_to="none",
        logging_steps=5,
    )
    trainer = SFTTrainer(
        model=learner,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(list(examples)),
        args=arguments,
        callbacks=[Looks()],
    )
    train(trainer)
    if recipe["lora_rank"]:
        model = learner.merge_and_unload()
    return model, pd.concat(seen, ignore_index=True)[LOOK_COLUMNS]
