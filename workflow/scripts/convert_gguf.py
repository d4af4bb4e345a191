"""Unpack a GGUF file into a Hugging Face folder.

Input: weights, the file. Params: row (of the model sheet).
Output: checkpoint, the folder; source, JSON that says where the weights are from.
"""

from refusal_cliff.artifacts import write_json
from refusal_cliff.gguf_files import convert
from refusal_cliff.job import job

job(snakemake)
source = convert(snakemake.input.weights, snakemake.params.row, snakemake.output.checkpoint)
write_json(source, snakemake.output.source)
