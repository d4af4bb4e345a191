"""Download one dataset of the sheet from the Hugging Face hub; wrap its requests in jailbreaks and a context.

Params: row (of the dataset sheet), templates (of the row's jailbreak families), context (its name and templates;
empty for chat), seed.
Output: table; its sidecar records the commit that the revision stood for.
"""

from refusal_cliff.artifacts import write_table
from refusal_cliff.datasets import download, select_rows, wrap
from refusal_cliff.job import job

job(snakemake)
params = snakemake.params
raw, commit = download(params.row)
table = wrap(select_rows(raw, params.row, params.seed), params.templates, params.context)
settings = {"row": params.row, "commit": commit, "templates": params.templates}
settings |= {"context": params.context, "seed": params.seed}
write_table(table, snakemake.output.table, settings)
