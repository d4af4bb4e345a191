"""Check a model before the run: its tokenizer, template and config, and the names and shapes of its weights.

Of a model on the hub everything but the weights is fetched; they are compared when they are loaded.

Input: prompts (prompt sets), files (of a local folder). Params: row (of the model sheet), max_new_tokens, answers
(of the guard that judges).
Output: page, Markdown.
"""

from pathlib import Path

from refusal_cliff.artifacts import read_table
from refusal_cliff.hub import DESCRIPTION, take_snapshot
from refusal_cliff.job import job
from refusal_cliff.model_check import check_model

job(snakemake)
row, folder = snakemake.params.row, snakemake.params.row["location"]
on_hub = row["source"] == "hub"
if on_hub:
    patterns = DESCRIPTION + (["*.py"] if row["trust_remote_code"] else [])
    folder = take_snapshot(folder, "model", row["revision"], f"model {row['model']!r}: {folder}", patterns)
prompts = [prompt for path in snakemake.input.prompts for prompt in read_table(path, ("prompt",))["prompt"]]
page = check_model(folder, row, prompts, snakemake.params.max_new_tokens, snakemake.params.answers, weights=not on_hub)
Path(snakemake.output.page).write_text(page, encoding="utf-8")
