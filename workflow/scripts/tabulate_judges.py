"""Tabulate how the harm judge and the refusal judge agree."""

import pandas as pd

from refusal_cliff.artifacts import read_table
from refusal_cliff.job import job
from refusal_cliff.outcomes import judge_agreement
from refusal_cliff.tables import write_csv

job(snakemake)
outcomes, params = read_table(snakemake.input.outcomes), snakemake.params
if params.harm_judge == params.refusal_judge:
    # There is nothing to agree with.
    outcomes["harmful"] = pd.NA
table = judge_agreement(outcomes, params.seed)
write_csv(table, snakemake.output.csv, snakemake.output.markdown)
