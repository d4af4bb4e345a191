"""Read one dataset of the sheet from the grammar or a local file, and wrap its requests in jailbreaks.

Params: row (of the dataset sheet), templates (of the row's jailbreak families), data_dir, seed.
Output: table.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from refusal_cliff.artifacts import write_table
from refusal_cliff.datasets import read_file, select_rows, wrap
from refusal_cliff.job import job
from refusal_cliff.organisms.language import grammar_prompts

if TYPE_CHECKING:
    from snakemake.script import snakemake

job(snakemake)
params = snakemake.params
row = params.row
if row["source"] == "grammar":
    raw = grammar_prompts(row["location"])
else:
    raw = read_file(Path(params.data_dir) / row["location"])
table = wrap(select_rows(raw, row, params.seed), params.templates)
write_table(table, snakemake.output.table, {"row": row, "templates": params.templates, "seed": params.seed})
