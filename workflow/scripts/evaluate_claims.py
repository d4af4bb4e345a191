"""Look up the number of every claim in the tables, for every model, and decide it."""

from pathlib import Path

import pandas as pd

from refusal_cliff.claims import evaluate
from refusal_cliff.job import job
from refusal_cliff.sheets import load_claims
from refusal_cliff.tables import write_csv

job(snakemake)
params = snakemake.params
tables = {Path(path).stem: pd.read_csv(path, float_precision="round_trip") for path in snakemake.input.tables}
claims = evaluate(load_claims(snakemake.input.claims), tables, params.probes, **params.claims)
write_csv(claims, snakemake.output.csv, snakemake.output.markdown)
