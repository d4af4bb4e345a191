"""Check a model before the run: its tokenizer, template and config, and the names and shapes of its weights.

Of a model on the hub everything but the weights is fetched; they are compared when they are loaded.

Input: files (of a local folder), or checkpoint (of a GGUF file).
Params: row (of the model sheet), answers (of the guard that judges).
Output: page, Markdown.
"""

from pathlib import Path

from refusal_cliff.architectures import check_model_folder
from refusal_cliff.hub import take_model
from refusal_cliff.job import job
from refusal_cliff.model_check import check_model

job(snakemake)
row = snakemake.params.row
on_hub = row["source"] == "hub"
folder = take_model(row, weights=False) if on_hub else snakemake.input.get("checkpoint", row["location"])
if not on_hub:
    check_model_folder(folder, row["role"])
page = check_model(folder, row, snakemake.params.answers, weights=not on_hub)
Path(snakemake.output.page).write_text(page, encoding="utf-8")
