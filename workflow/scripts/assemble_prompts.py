"""Join the datasets into prompt sets that share no request and no prompt.

Input: tables, in the order of params.sets.
Params: sets (prompt set by dataset, in the order of the sheet).
Output: prompts (one table for each prompt set, named after it), dropped (CSV of what decontamination took out).
"""

from pathlib import Path
from typing import TYPE_CHECKING

from refusal_cliff.artifacts import read_table, whole_file, write_table
from refusal_cliff.datasets import assemble
from refusal_cliff.job import job

if TYPE_CHECKING:
    from snakemake.script import snakemake

job(snakemake)
sets = snakemake.params.sets
tables = {name: read_table(path) for name, path in zip(sets, snakemake.input.tables, strict=True)}
prompts, dropped = assemble(tables, sets)
for path in snakemake.output.prompts:
    prompt_set = Path(path).stem
    members = [name for name in sets if sets[name] == prompt_set]
    write_table(prompts[prompt_set], path, {"prompt_set": prompt_set, "datasets": members})
with whole_file(snakemake.output.dropped) as draft:
    dropped.to_csv(draft, index=False)
