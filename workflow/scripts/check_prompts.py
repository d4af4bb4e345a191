"""Check that a model can read a set of prompts: each in its template and in tokens, with room left for the answer.

Input: prompts, files (of a local folder) or checkpoint (of a GGUF file).
Params: row (of the model sheet), max_new_tokens. Output: page, Markdown.
"""

from pathlib import Path

from refusal_cliff.artifacts import read_table
from refusal_cliff.hub import take_model
from refusal_cliff.job import job
from refusal_cliff.model_check import check_prompts

job(snakemake)
row = snakemake.params.row
on_hub = row["source"] == "hub"
folder = take_model(row, weights=False) if on_hub else snakemake.input.get("checkpoint", row["location"])
prompts = read_table(snakemake.input.prompts, ("prompt", "dataset"))
page = check_prompts(folder, row, prompts, snakemake.params.max_new_tokens)
Path(snakemake.output.page).write_text(page, encoding="utf-8")
