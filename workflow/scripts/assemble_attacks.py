"""Join the datasets of all attacks, and the requests as they are, into prompt sets: attack, and prefill.

Input: datasets, in the order of params.datasets; test (prompts).
Output: members (every prompt of every dataset), attack (every prompt once), prefill.
"""

from typing import TYPE_CHECKING

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.attack_search import ATTACK, PLAIN_SET, PREFILL, attacked_requests, with_ids
from refusal_cliff.datasets import wrap
from refusal_cliff.errors import UserError
from refusal_cliff.job import job

if TYPE_CHECKING:
    from snakemake.script import snakemake

job(snakemake)
if not snakemake.params.datasets:
    raise UserError(
        "config: transfer.sources is empty, so there is nothing to search; name models, or add --configfile "
        "config/transfer.yaml"
    )
names, settings = snakemake.params.datasets, dict(snakemake.params.items())
plain = wrap(attacked_requests(read_table(snakemake.input.test), snakemake.params.requests), {})
attacks = {name: read_table(path) for name, path in zip(names, snakemake.input.datasets, strict=True)}
members = with_ids({PLAIN_SET: plain} | attacks, ATTACK)
prefilled = with_ids({PREFILL: plain}, PREFILL)
write_table(members, snakemake.output.members, settings)
write_table(members.drop_duplicates("prompt_id", ignore_index=True), snakemake.output.attack, settings)
write_table(prefilled, snakemake.output.prefill, settings)
