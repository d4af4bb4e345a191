"""What a repair costs to find, in forward passes over one trace: a number that no machine changes.

Not counted is what all share: the traces of set `fit` themselves, and their verdicts. A backward pass counts as two.
"""

TRAINING_PASSES = 3
"""Forward and backward, of one example in one step of a tuning."""


def ranking_passes(measure: str, layers: int, heads: int, boundary_share: float) -> float:
    """What one trace costs a measure of head effects (docs/methods.md, head rankings).

    Args:
        measure: a key of `head_effects.MEASURES`.
        layers, heads: of the model; heads of one layer.
        boundary_share: of a trace's tokens, those of the boundary.
    """
    versions = heads * (layers + 1) / 2
    return {
        "direct": 1.0,
        "causal": 2 + versions,
        "causal_boundary": 1 + boundary_share * versions,
        "gradient": float(TRAINING_PASSES),
    }[measure]
