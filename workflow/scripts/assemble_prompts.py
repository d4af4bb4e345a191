"""Join the datasets of one prompt set; requests that an earlier set holds are dropped.

Input: tables, in the order of params.sets.
Params: sets (prompt set of each of these datasets, in the order of the sheet).
Output: prompts, dropped (CSV of what decontamination took out).
"""

from refusal_cliff.artifacts import read_table, whole_file, write_table
from refusal_cliff.datasets import assemble
from refusal_cliff.job import job

job(snakemake)
sets, prompt_set = snakemake.params.sets, snakemake.wildcards.prompts
tables = {name: read_table(path) for name, path in zip(sets, snakemake.input.tables, strict=True)}
prompts, dropped = assemble(tables, sets, prompt_set)
members = [name for name in sets if sets[name] == prompt_set]
write_table(prompts, snakemake.output.prompts, {"prompt_set": prompt_set, "datasets": members})
with whole_file(snakemake.output.dropped) as draft:
    dropped.to_csv(draft, index=False)
