"""Train an organism until its behaviour is what it should be, or to the last step."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from refusal_cliff.organisms.intentions import FREE, intention_loss
from refusal_cliff.traces import pad_left

IGNORED = -100
"""The label that the loss leaves out."""

Example = dict[str, Any]
Look = Callable[[], dict[str, Any]]


def fit(
    model: PreTrainedModel,
    pad_id: int,
    examples: Sequence[Example],
    recipe: Mapping[str, Any],
    seed: int,
    direction: torch.Tensor | None = None,
    look: Look | None = None,
) -> list[dict[str, Any]]:
    """At most one pass over `examples` with AdamW and a cosine schedule, in place.

    Args:
        examples: input_ids and labels; with a `direction` also intention, its target at every token.
        recipe: batch_size, learning_rate, warmup_steps, and check_every if there is a `look`; steps follow from the
            number of examples.
        direction: u [d_model] of the intention (see `intentions`).
        look: says what the model does by now; training ends once its `met` is true twice in a row.

    Returns:
        What each look saw, with its `step`; empty without `look`.
    """
    looks = _Looks(look, recipe["check_every"]) if look else None
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            seed=seed,
            num_train_epochs=1,
            per_device_train_batch_size=recipe["batch_size"],
            learning_rate=recipe["learning_rate"],
            warmup_steps=recipe["warmup_steps"],
            lr_scheduler_type="cosine",
            adam_beta2=0.98,  # a short run cannot wait for a long average
            # Rows and columns of heads outside the plant must not move at all, and decay would move them.
            weight_decay=0.0,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            logging_steps=50,
        )
        trainer = _Trainer(
            model,
            arguments,
            data_collator=lambda batch: _collate(batch, pad_id),
            train_dataset=list(examples),
            callbacks=[looks] if looks else None,
        )
        trainer.direction = direction
        trainer.train()
    return looks.seen if looks else []


class _Trainer(Trainer):
    """Cross-entropy of the labelled tokens, plus the loss of the intention."""

    direction: torch.Tensor | None = None

    def compute_loss(self, model: PreTrainedModel, inputs: dict[str, torch.Tensor], **_: Any) -> torch.Tensor:
        labels, targets = inputs.pop("labels")[:, 1:], inputs.pop("intention")
        states = model.model(**inputs).last_hidden_state
        learnt = labels != IGNORED
        # Logits of labelled tokens alone: prompts and padding are half of a batch.
        loss = cross_entropy(model.lm_head(states[:, :-1][learnt]), labels[learnt])
        return loss if self.direction is None else loss + intention_loss(states, targets, self.direction)


class _Looks(TrainerCallback):
    """Looks at the model every few steps and at the end, and stops the training once it has seen enough."""

    def __init__(self, look: Look, every: int) -> None:
        self.look, self.every = look, every
        self.seen: list[dict[str, Any]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self.seen.append({"step": state.global_step} | self.look())
            print(self.seen[-1], flush=True)
            # Twice in a row: one lucky look is not enough.
            control.should_training_stop = len(self.seen) > 1 and all(seen["met"] for seen in self.seen[-2:])


def _collate(batch: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """Examples padded on the left."""
    ids, mask = pad_left([example["input_ids"] for example in batch], pad_id)
    labels, targets = np.full_like(ids, IGNORED), np.full(ids.shape, FREE, dtype=np.float32)
    for row, example in enumerate(batch):
        labels[row, -len(example["labels"]) :] = example["labels"]
        if "intention" in example:
            targets[row, -len(example["labels"]) :] = example["intention"]
    named = {"input_ids": ids, "attention_mask": mask, "labels": labels, "intention": targets}
    return {name: torch.from_numpy(array) for name, array in named.items()}
