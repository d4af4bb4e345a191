"""What a refusal would teach a model, example by example: its loss, and which way its gradient points.

A small LESS (Xia et al. 2024, https://arxiv.org/abs/2402.04333): examples whose gradient points the same way as that of
a few known failures would mend those. Gradients are of the weights of the last block, sketched to few dimensions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

SKETCH = 4096
"""Dimensions that gradients are sketched to: inner products are kept within about 1 / √SKETCH of the norms."""
FAILURES = 8
"""Failures that examples are compared with, at most."""


def example_gradients(
    model: Any,
    examples: Sequence[Mapping[str, list[int]]],
    failures: Sequence[Mapping[str, list[int]]],
    seed: int,
) -> pd.DataFrame:
    """Loss of each example, and the cosine of its gradient with the mean direction of the failures' gradients.

    Args:
        model: no parameter of it requires a gradient; they do not change.
        examples, failures: output of `tuning.training_examples`, with the loss on the response alone.
        seed: of the sketch (a count sketch: every weight is added to one of `SKETCH` sums, with a sign).

    Returns:
        loss (mean nats per learnt token), gradient (in [-1, 1]), in the order of the examples.
    """
    import torch

    from refusal_cliff.models import blocks

    weights = [weight for weight in blocks(model)[-1].parameters() if weight.ndim == 2]
    generator = torch.Generator().manual_seed(seed)
    places = [torch.randint(SKETCH, (weight.numel(),), generator=generator) for weight in weights]
    signs = [torch.randint(2, (weight.numel(),), generator=generator) * 2 - 1 for weight in weights]

    def sketched(example: Mapping[str, list[int]]) -> tuple[float, np.ndarray]:
        ids = torch.tensor([example["input_ids"]], device=model.device)
        learnt = torch.tensor([example["completion_mask"]], device=model.device) == 1
        loss = model(input_ids=ids, labels=ids.masked_fill(~learnt, -100)).loss
        sketch = torch.zeros(SKETCH)
        for gradient, place, sign in zip(torch.autograd.grad(loss, weights), places, signs, strict=True):
            sketch.index_add_(0, place, gradient.float().cpu().flatten() * sign)
        return loss.item(), torch.nn.functional.normalize(sketch, dim=0).numpy()

    for weight in weights:
        weight.requires_grad_(True)
    try:
        direction = np.mean([sketched(failure)[1] for failure in failures], axis=0)
        direction /= np.linalg.norm(direction)
        # One sketch at a time: what is kept of an example is two numbers.
        rows = [(loss, float(sketch @ direction)) for loss, sketch in map(sketched, examples)]
    finally:
        for weight in weights:
            weight.requires_grad_(False)
    return pd.DataFrame(rows, columns=["loss", "gradient"])
