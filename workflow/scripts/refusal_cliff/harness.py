"""Utility by lm-evaluation-harness: its tasks, asked and answered the way this workflow speaks to a model.

The harness (https://github.com/EleutherAI/lm-evaluation-harness) has the tasks, prompts, filters and metrics. What it
does not know is how a reasoning model is spoken to: it stops a generation at a task's stop sequences, which may well
stand within the thinking, and takes a thinking that is never closed for the answer. Here the model thinks first, and
what follows the boundary is what the task reads; a trace that never closes its thinking has no answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from refusal_cliff.answers import is_correct
from refusal_cliff.errors import UserError
from refusal_cliff.traces import ChatFormat, render_prompt, split_generation

VERSION = "0.4.13"
REFERENCES = "references"
"""The task of this run's own test prompts that have a reference answer; any other name is one of the harness's."""
ITEM_COLUMNS = ["task", "filter", "metric", "doc", "value"]


def references_task(prompts: pd.DataFrame) -> dict[str, Any]:
    """A task of prompts that have a reference answer, right by the rule that the dataset sheet gives them.

    Args:
        prompts: prompt_id, prompt, reference, match; those without a reference are left out.

    Raises:
        UserError: no prompt has a reference.
    """
    from datasets import Dataset, DatasetDict

    asked = prompts.dropna(subset="reference")
    if asked.empty:
        raise UserError(f"harness.tasks: {REFERENCES}: no test prompt has a reference answer; name another task")
    documents = asked[["prompt_id", "prompt", "reference", "match"]].to_dict("records")

    def dataset(**_: Any) -> Any:
        return DatasetDict(test=Dataset.from_list(documents))

    def correct(document: Mapping[str, Any], answers: Sequence[str]) -> dict[str, float]:
        return {"acc": float(is_correct(answers[0], document["reference"], document["match"]))}

    return {
        "task": REFERENCES,
        "custom_dataset": dataset,
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{reference}}",
        "generation_kwargs": {"until": [], "do_sample": False},
        "process_results": correct,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }


def ask(
    model: Any,
    tokenizer: Any,
    chat: ChatFormat,
    tasks: Sequence[str | dict[str, Any]],
    limit: int,
    batch_size: int,
    max_new_tokens: int,
    seed: int,
) -> pd.DataFrame:
    """Every task's value of every item, greedily decoded.

    Args:
        tasks: names of the harness's tasks, or tasks as `references_task` makes them.
        limit: items of each task, the first of them; 0: all.
        max_new_tokens: of thinking and answer together.

    Returns:
        `ITEM_COLUMNS`: doc is the number of the item within the task, value a metric's value of this item.

    Raises:
        UserError: the harness is not installed, or has no such task.
    """
    try:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise UserError(
            f"lm-evaluation-harness is not installed: run with --software-deployment-method conda, or "
            f"`pip install lm-eval=={VERSION} -c constraints.txt`"
        ) from None
    manager = TaskManager()
    unknown = [task for task in tasks if isinstance(task, str) and task not in manager.all_tasks]
    if unknown:
        raise UserError(
            f"harness.tasks: lm-eval {lm_eval.__version__} has no task {', '.join(unknown)}; choose from those that "
            f"`lm_eval ls tasks` lists, or {REFERENCES}"
        )

    class Reasoning(HFLM):
        """A model that thinks before it answers."""

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            texts = [turn["content"] for turn in chat_history if turn["role"] == "user"]
            return render_prompt(tokenizer, "\n\n".join(texts), chat).text

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            stops = [request.args[1].get("until", []) for request in requests]
            for request in requests:
                context, options = request.args
                request.arguments = (context, options | {"until": [*chat.stops], "max_gen_toks": max_new_tokens})
            traces = super().generate_until(requests, disable_tqdm=disable_tqdm)
            return [answer(trace, chat, stop) for trace, stop in zip(traces, stops, strict=True)]

    found = lm_eval.simple_evaluate(
        Reasoning(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
        tasks=list(tasks),
        limit=limit or None,
        apply_chat_template=True,
        fewshot_as_multiturn=False,
        task_manager=manager,
        bootstrap_iters=0,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    rows = [
        (task, sample["filter"], metric, sample["doc_id"], float(sample[metric]))
        for task, samples in found["samples"].items()
        for sample in samples
        for metric in sample["metrics"]
    ]
    return pd.DataFrame(rows, columns=ITEM_COLUMNS)


def answer(trace: str, chat: ChatFormat, stops: Sequence[str]) -> str:
    """What a task reads of a generated text: the response up to the first of its stop sequences; empty if none came."""
    response = split_generation(trace, chat)[1] or ""
    for stop in stops:
        response = response.split(stop)[0] if stop else response
    return response
