"""Probes: directions in hidden states, one per layer, fitted to what the model did or meant to do.

Beside logistic regression stand two rivals that are not fitted to separate the classes: the difference of the class
means, and the direction in which the model's own unembedding reads its next word.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refusal_cliff.errors import UserError
from refusal_cliff.traces import TRACE_KEY

if TYPE_CHECKING:
    from sklearn.linear_model import SGDClassifier

    from refusal_cliff.artifacts import LazyTensor

    States = NDArray | LazyTensor

POSITION_SETS = {
    "last_prompt": ("last_prompt",),
    "thinking": ("thinking",),
    "boundary": ("boundary", "last_boundary"),
    "last_boundary": ("last_boundary",),
}
"""Which kinds of kept position (activations.kept_positions) each position set of the config takes in."""
HELD_OUT_SHARE = 0.25
REFITS = 20
"""Bootstrap refits of a probe's last layer."""
MIN_PROMPTS = 4
"""Prompts of each class that a probe needs: one is held out."""
CS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of the L2 penalty on standardised features, of which cross-validation chooses one per layer."""
DEFAULT_C = 1.0
FOLDS = 3
MEMORY_LIMIT = 500 * 2**20
"""Bytes of a layer's training states in double precision above which they are read and fitted in mini-batches.
Fitting in memory holds a few copies."""
BATCH = 512
EPOCHS = 20
CHUNK = 4096
"""Rows of the dump that are read at once."""


def labelled_rows(rows: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Rows of the activation dump whose trace has a label, in the order of the dump.

    Args:
        rows: prompt_id, sample, kind, position; its index is the row of the dump.
        labels: output of `judges.trace_labels`.

    Returns:
        The columns of `rows`, row and positive.
    """
    return rows.reset_index(names="row").merge(labels, on=TRACE_KEY, validate="many_to_one")


def training_rows(
    rows: pd.DataFrame, prompts: pd.DataFrame, labels: pd.DataFrame, recipe: Mapping[str, Any]
) -> pd.DataFrame:
    """Rows of the activation dump that a probe is trained and held out on, with their label.

    Args:
        recipe: positions, label and datasets of the probe.
        Others as for `labelled_rows`.

    Raises:
        UserError: fewer than `MIN_PROMPTS` prompts have a trace with the label, or as few have none.
    """
    wanted = prompts.loc[prompts["dataset"].isin(recipe["datasets"]), "prompt_id"]
    kinds = POSITION_SETS[recipe["positions"]]
    chosen = labelled_rows(rows[rows["kind"].isin(kinds) & rows["prompt_id"].isin(wanted)], labels)
    labelled = chosen.groupby("prompt_id")["positive"].max()  # as the split counts them
    positive = int(labelled.sum())
    if min(positive, len(labelled) - positive) < MIN_PROMPTS:
        datasets = ", ".join(recipe["datasets"])
        if recipe["label"] == "recognition":
            raise UserError(
                f"the thinking means to refuse in {positive} of {len(labelled)} prompts of {datasets}; a probe of "
                f"recognition needs at least {MIN_PROMPTS} that do and as many that don't: add datasets to "
                "probes.<name>.datasets, or check judges.intentions against the model's thinking"
            )
        raise UserError(
            f"the model refused {positive} of {len(labelled)} prompts of {datasets}; a probe of behaviour needs at "
            f"least {MIN_PROMPTS} refused and as many answered ones: add datasets to probes.<name>.datasets that the "
            "model refuses (or answers), or check judges.phrases against its responses"
        )
    return chosen


def split_prompts(chosen: pd.DataFrame, seed: int) -> NDArray:
    """True for held-out rows: a quarter of the prompts of each class, all positions of a prompt on one side."""
    from sklearn.model_selection import train_test_split

    prompts = chosen.groupby("prompt_id")["positive"].max()
    _, held_out = train_test_split(
        prompts.index.to_numpy(), test_size=HELD_OUT_SHARE, random_state=seed, stratify=prompts.to_numpy()
    )
    return chosen["prompt_id"].isin(held_out).to_numpy()


def choose_layers(layers: Sequence[int], n_layers: int) -> list[int]:
    """True layer indices, ascending: negative ones count from the last, an empty list is all of them.

    Raises:
        UserError: the model does not have a layer.
    """
    for layer in layers:
        if not -n_layers <= layer < n_layers:
            raise UserError(
                f"config: probes.<name>.layers: layer {layer} does not exist; the model has {n_layers}, 0 to "
                f"{n_layers - 1} or -{n_layers} to -1"
            )
    return sorted({layer % n_layers for layer in layers}) or list(range(n_layers))


def train_probe(resid: "States", train: pd.DataFrame, layers: Sequence[int], seed: int) -> dict[str, NDArray]:
    """Fit logistic regression and the difference of class means in each of `layers`.

    Args:
        resid: [row, layer, d_model], the whole dump: an array, or a tensor that is read in parts.
        train: rows to fit on, columns row, positive, prompt_id.
        layers: true layer indices.

    Returns:
        layers [layer]; w [layer, d_model], b [layer] and the chosen C [layer] of P(positive) = sigmoid(w·h + b);
        mean_difference_w, mean_difference_b in the same shapes; refit_w [refit, d_model] and refit_b [refit], see
        `refit_direction`, of the last of `layers`.
    """
    rows, truth = train["row"].to_numpy(), train["positive"].to_numpy()
    fitted = [fit_direction(resid, layer, train, seed) for layer in layers]
    rivals = [midpoint_direction(*class_means(resid, layer, rows, truth)) for layer in layers]
    refit_w, refit_b = refit_direction(resid, layers[-1], train, seed, c=fitted[-1][2])
    return {
        "layers": np.array(layers, dtype=np.int64),
        "w": np.stack([w for w, _, _ in fitted]),
        "b": np.array([b for _, b, _ in fitted]),
        "C": np.array([c for _, _, c in fitted]),
        "mean_difference_w": np.stack([w for w, _ in rivals]),
        "mean_difference_b": np.array([b for _, b in rivals]),
        "refit_w": refit_w,
        "refit_b": refit_b,
    }


def fit_direction(
    resid: "States", layer: int, train: pd.DataFrame, seed: int, c: float | None = None
) -> tuple[NDArray, float, float]:
    """Logistic regression on one layer, in memory or, above MEMORY_LIMIT, in mini-batches.

    Features are standardised for the fit and the scale is folded back into w and b. Classes are weighted to balance.
    Arguments as for `train_probe`.

    Args:
        c: inverse strength of the L2 penalty; cross-validated over CS if not given.

    Returns:
        w [d_model] and b in the units of the states, and C.
    """
    rows, truth = train["row"].to_numpy(), train["positive"].to_numpy()
    folds = assign_folds(truth, train["prompt_id"].to_numpy(), seed)
    if not fits_in_memory(resid, len(rows)):
        return _fit_in_batches(resid, layer, rows, truth, folds, seed, c)
    features = read_states(resid, layer, rows)
    c = c or _choose_c(_standardise(features)[0], truth, folds)
    w, b = fit_logistic(features, truth, c)
    return w, b, c


def refit_direction(resid: "States", layer: int, train: pd.DataFrame, seed: int, c: float) -> tuple[NDArray, NDArray]:
    """The probe of one layer, fit on bootstrap resamples of its training prompts: how much it depends on them.

    Prompts are drawn with replacement within each class, and bring all their rows. Arguments as for `fit_direction`.

    Returns:
        w [refit, d_model], b [refit].
    """
    rng = np.random.default_rng(seed)
    rows = train.groupby("prompt_id").indices
    classes = train.groupby("prompt_id")["positive"].max()
    refits = []
    for _ in range(REFITS):
        drawn = [rng.choice(prompts, len(prompts)) for prompts in classes.groupby(classes).groups.values()]
        # In the order of the dump, which is read in parts.
        resampled = train.iloc[np.sort(np.concatenate([rows[prompt] for prompt in np.concatenate(drawn)]))]
        refits.append(fit_direction(resid, layer, resampled, seed, c)[:2])
    return np.stack([w for w, _ in refits]), np.array([b for _, b in refits])


def fits_in_memory(resid: "States", rows: int) -> bool:
    """Whether `rows` states of one layer stay below MEMORY_LIMIT in double precision."""
    return rows * resid.shape[-1] * np.dtype(float).itemsize <= MEMORY_LIMIT


def assign_folds(truth: NDArray, prompts: NDArray, seed: int) -> NDArray | None:
    """Fold of each row for cross-validation: all rows of a prompt in one fold, classes spread evenly.

    Returns:
        int [row]; None where a class has a single prompt, so that there is nothing to validate on.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    count = min(FOLDS, len(np.unique(prompts[truth])), len(np.unique(prompts[~truth])))
    if count < 2:
        return None
    folds = np.empty(len(truth), dtype=int)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(truth)), truth, prompts)):
        folds[held_out] = fold
    return folds


def balance(truth: NDArray) -> NDArray:
    """Weights [row] that sum to the same over both classes and to the number of rows in all."""
    return len(truth) / (2 * np.where(truth, truth.sum(), (~truth).sum()))


def fit_logistic(features: NDArray, truth: NDArray, c: float, start: NDArray | None = None) -> tuple[NDArray, float]:
    """w [d_model] and b of logistic regression on `features` [row, d_model], classes balanced.

    Args:
        start: w to start from, in the units of the features.
    """
    from sklearn.linear_model import LogisticRegression

    standardised, mean, scale = _standardise(features)
    model = LogisticRegression(C=c, max_iter=1000, warm_start=start is not None)
    if start is not None:
        model.classes_, model.coef_, model.intercept_ = np.array([False, True]), start[None] * scale, np.zeros(1)
    model.fit(standardised, truth, sample_weight=balance(truth))
    w = model.coef_[0] / scale
    return w, float(model.intercept_[0] - w @ mean)


def _standardise(features: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Standardised features, their mean and their scale; a constant feature keeps its scale."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale == 0] = 1.0
    return (features - mean) / scale, mean, scale


def _choose_c(features: NDArray, truth: NDArray, folds: NDArray | None) -> float:
    """The C with the least class-balanced log loss over the folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    if folds is None:
        return DEFAULT_C
    losses = np.zeros(len(CS))
    for fold in np.unique(folds):
        held_out = folds == fold
        # The solution for one C is where the search for the next starts.
        model = LogisticRegression(max_iter=1000, warm_start=True)
        for number, c in enumerate(CS):
            model.set_params(C=c).fit(features[~held_out], truth[~held_out], sample_weight=balance(truth[~held_out]))
            predicted = model.predict_proba(features[held_out])
            losses[number] += log_loss(
                truth[held_out],
                predicted,
                normalize=False,
                sample_weight=balance(truth)[held_out],
                labels=[False, True],
            )
    return CS[int(losses.argmin())]


def _fit_in_batches(
    resid: "States", layer: int, rows: NDArray, truth: NDArray, folds: NDArray | None, seed: int, c: float | None
) -> tuple[NDArray, float, float]:
    """`fit_direction` by averaged stochastic gradient descent; never holds more than CHUNK rows."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    for _, states in state_chunks(resid, layer, rows):
        scaler.partial_fit(states)
    weights = balance(truth)
    if c is None and folds is not None:
        trials = {
            (fold, number): _sgd(c, resid, rows, seed) for fold in np.unique(folds) for number, c in enumerate(CS)
        }
        for epoch in range(EPOCHS):
            for batch, states in _random_batches(resid, layer, rows, seed + epoch):
                features = scaler.transform(states)
                for (fold, _), model in trials.items():
                    used = folds[batch] != fold
                    if used.any():
                        _learn(model, features[used], truth[batch][used], weights[batch][used])
        losses = np.zeros(len(CS))
        for index, states in state_chunks(resid, layer, rows):
            features = scaler.transform(states)
            for (fold, number), model in trials.items():
                held_out = folds[index] == fold
                margin = model.decision_function(features[held_out]) * np.where(truth[index][held_out], 1, -1)
                losses[number] += (weights[index][held_out] * np.logaddexp(0, -margin)).sum()
        c = CS[int(losses.argmin())]
    c = c or DEFAULT_C
    model = _sgd(c, resid, rows, seed)
    for epoch in range(EPOCHS):
        for batch, states in _random_batches(resid, layer, rows, seed + epoch):
            _learn(model, scaler.transform(states), truth[batch], weights[batch])
    w = model.coef_[0] / scaler.scale_
    return w, float(model.intercept_[0] - w @ scaler.mean_), c


def _sgd(c: float, resid: "States", rows: NDArray, seed: int) -> "SGDClassifier":
    """Averaged SGD with the penalty of LogisticRegression(C) on as many rows.

    The curvature of the loss grows with the squared length of a standardised state, which is d_model: so must the
    inverse of a constant step.
    """
    from sklearn.linear_model import SGDClassifier

    step = {"learning_rate": "constant", "eta0": 2 / resid.shape[-1]}
    return SGDClassifier(loss="log_loss", alpha=1 / (c * len(rows)), average=True, random_state=seed, **step)


def _learn(model: "SGDClassifier", features: NDArray, truth: NDArray, weights: NDArray) -> None:
    model.partial_fit(features, truth, classes=[False, True], sample_weight=weights)


def state_chunks(resid: "States", layer: int, rows: NDArray) -> Iterator[tuple[NDArray, NDArray]]:
    """Yield (indices into `rows`, their states [index, d_model] in double precision), in the order of the dump.

    Args:
        rows: rows of the dump, ascending.
    """
    for start in range(0, resid.shape[0], CHUNK):
        stop = min(start + CHUNK, resid.shape[0])
        index = np.flatnonzero((rows >= start) & (rows < stop))
        if len(index):
            yield index, np.asarray(resid[start:stop, layer], dtype=float)[rows[index] - start]


def _random_batches(resid: "States", layer: int, rows: NDArray, seed: int) -> Iterator[tuple[NDArray, NDArray]]:
    """Yield (indices into `rows`, their states), BATCH random rows at a time: traces of one dataset lie together."""
    order = np.random.default_rng(seed).permutation(len(rows))
    for batch in np.split(order, range(BATCH, len(order), BATCH)):
        yield batch, np.stack([np.asarray(resid[int(row), layer], dtype=float) for row in rows[batch]])


def read_states(resid: "States", layer: int, rows: NDArray) -> NDArray:
    """States [row, d_model] of one layer in double precision. Arguments as for `state_chunks`."""
    return np.concatenate([states for _, states in state_chunks(resid, layer, rows)])


def class_means(resid: "States", layer: int, rows: NDArray, truth: NDArray) -> tuple[NDArray, NDArray]:
    """Mean state [d_model] of the negative rows and of the positive ones."""
    sums = np.zeros((2, resid.shape[-1]))
    for index, states in state_chunks(resid, layer, rows):
        sums += [states[~truth[index]].sum(axis=0), states[truth[index]].sum(axis=0)]
    return sums[0] / np.sum(~truth), sums[1] / np.sum(truth)


def midpoint_direction(negative: NDArray, positive: NDArray, w: NDArray | None = None) -> tuple[NDArray, float]:
    """A direction whose threshold is midway between the class means (each [d_model]).

    Args:
        w: the direction; the difference of the means if not given (Marks and Tegmark 2023, "mass mean").

    Returns:
        w and b; w·h + b > 0 is the positive side.
    """
    w = positive - negative if w is None else w
    return w, float(-w @ (positive + negative) / 2)


def opener_weights(traces: pd.DataFrame, behaviours: pd.DataFrame, first_tokens: Mapping[str, int]) -> dict[int, float]:
    """How much more often each token opens a refusal than an answer.

    Args:
        traces: prompt_id, sample, response; those whose behaviour is known and whose response is not empty count.
        behaviours: output of `judges.behaviour`.
        first_tokens: first token of each response.

    Returns:
        token -> its share of the refusals' openers minus its share of the answers' openers. Empty where the model only
        refused or only answered.
    """
    known = traces.merge(behaviours, on=TRACE_KEY, validate="one_to_one")
    known = known[known["response"].isin(first_tokens)]
    if known["refused"].nunique() < 2:
        return {}
    openers = known["response"].map(first_tokens)
    shares = pd.crosstab(openers, known["refused"], normalize="columns")
    return (shares[True] - shares[False]).to_dict()


def logit_direction(unembedding: "States", weights: Mapping[int, float]) -> NDArray:
    """Mean unembedding of refusal openers minus that of compliance openers: [d_model].

    Its product with the state after the final norm is the mean logit of the one kind of opener minus that of the other:
    it shows how much of a probe is just the next token.

    Args:
        unembedding: [vocabulary, d_model].
        weights: output of `opener_weights`, not empty.
    """
    return sum(weight * np.asarray(unembedding[int(token)], dtype=float) for token, weight in weights.items())


def logit_rival(
    resid: "States", train: pd.DataFrame, unembedding: "States", weights: Mapping[int, float]
) -> dict[str, NDArray]:
    """The logit direction as a classifier of the last layer's states, with its threshold midway between the classes.

    Arguments as for `train_probe` and `logit_direction`.

    Returns:
        logit_w [d_model] and logit_b [1]; nothing where the model only refused or only answered.
    """
    if not weights:
        return {}
    means = class_means(resid, resid.shape[1] - 1, train["row"].to_numpy(), train["positive"].to_numpy())
    w, b = midpoint_direction(*means, logit_direction(unembedding, weights))
    return {"logit_w": w, "logit_b": np.array([b])}
