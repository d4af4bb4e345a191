"""Put all tables on one page, to be sorted and searched."""

from pathlib import Path

from refusal_cliff.artifacts import read_csv, whole_file
from refusal_cliff.job import job
from refusal_cliff.tables_page import page

job(snakemake)
tables = {Path(path).stem: read_csv(path) for path in snakemake.input}
with whole_file(snakemake.output.page) as draft:
    draft.write_text(page(tables), encoding="utf-8")
