"""Join the datasets of all attacks, and the requests as they are, into prompt sets: attack, and prefill.

Input: datasets, of each source in the order of OBJECTIVES; test (prompts).
Output: members (every prompt of every dataset), attack (every prompt once), own (those of each source, and the plain
requests), prefill.
"""

from itertools import chain

from refusal_cliff.artifacts import read_table, write_table
from refusal_cliff.attack_search import ATTACK, OBJECTIVES, PLAIN_SET, PREFILL, attack_name, attacked_requests, with_ids
from refusal_cliff.datasets import wrap
from refusal_cliff.job import job

job(snakemake)
params, output = snakemake.params, snakemake.output
names = {source: [attack_name(source, objective) for objective in OBJECTIVES] for source in params.sources}
settings = dict(params.items())
plain = wrap(attacked_requests(read_table(snakemake.input.test), params.requests), {})
attacks = {name: read_table(path) for name, path in zip(chain(*names.values()), snakemake.input.datasets, strict=True)}
members = with_ids({PLAIN_SET: plain} | attacks, ATTACK)
prefilled = with_ids({PREFILL: plain}, PREFILL)
once = members.drop_duplicates("prompt_id", ignore_index=True)
write_table(members, output.members, settings)
write_table(once, output.attack, settings)
write_table(prefilled, output.prefill, settings)
for own, path in zip(names.values(), output.own, strict=True):
    asked = members.loc[members["dataset"].isin([PLAIN_SET, *own]), "prompt_id"]
    write_table(once[once["prompt_id"].isin(asked)].reset_index(drop=True), path, settings)
