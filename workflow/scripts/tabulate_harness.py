"""Table of utility by lm-evaluation-harness: every task, each variant beside its base model."""

import pandas as pd

from refusal_cliff.artifacts import read_table
from refusal_cliff.harness import ITEM_COLUMNS
from refusal_cliff.harness_table import tabulate
from refusal_cliff.job import job
from refusal_cliff.tables import write_csv

job(snakemake)
items = pd.concat(read_table(path, ("model", "variant", *ITEM_COLUMNS)) for path in snakemake.input)
write_csv(tabulate(items, snakemake.params.seed), snakemake.output.csv, snakemake.output.markdown)
