"""Tabulate how much of a model's failure its top heads carry, whether that is a sparse circuit, and concentration."""

import pandas as pd

from refusal_cliff.artifacts import read_arrays, read_table
from refusal_cliff.evidence import ALIGNMENT_ASR
from refusal_cliff.job import job
from refusal_cliff.rankings import head_count
from refusal_cliff.sparsity import COLUMNS, concentration, repair
from refusal_cliff.tables import write_csv

job(snakemake)
params = snakemake.params
tables = [repair(read_table(snakemake.input.outcomes), params.fraction, ALIGNMENT_ASR, params.seed)]
for (model, ranking), path in zip(params.runs, snakemake.input.effects, strict=True):
    effects = read_arrays(path)["effects"]
    found = concentration(effects, head_count(params.fraction, effects[0].size), params.seed)
    tables.append(found.assign(model=model, ranking=ranking))
write_csv(pd.concat(tables, ignore_index=True)[COLUMNS], snakemake.output.csv, snakemake.output.markdown)
