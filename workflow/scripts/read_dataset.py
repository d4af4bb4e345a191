"""Read one dataset of the sheet from the grammar or a local file; wrap its requests in jailbreaks and a context.

Input: file, of a dataset that has one. Params: row (of the dataset sheet), templates (of the row's jailbreak families),
context (its name and templates; empty for chat), sha256 (of the file), seed.
Output: table; its sidecar records the checksum of the file.
"""

from refusal_cliff.artifacts import write_table
from refusal_cliff.data_files import read_file
from refusal_cliff.datasets import select_rows, wrap
from refusal_cliff.job import job
from refusal_cliff.organisms.language import grammar_prompts

job(snakemake)
params = snakemake.params
row = params.row
raw = grammar_prompts(row["location"]) if row["source"] == "grammar" else read_file(snakemake.input.file)
table = wrap(select_rows(raw, row, params.seed), params.templates, params.context)
settings = {"row": row, "sha256": params.sha256, "templates": params.templates}
settings |= {"context": params.context, "seed": params.seed}
write_table(table, snakemake.output.table, settings)
