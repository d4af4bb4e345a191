"""Probes: directions in hidden states, one per layer, fitted to what the model did or meant to do.

Beside logistic regression stand two rivals that are not fitted to separate the classes: the difference of the class
means, and the direction in which the model's own unembedding reads its next word.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refusal_cliff.artifacts import LazyTensor
from refusal_cliff.errors import UserError
from refusal_cliff.traces import TRACE_KEY

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.preprocessing import StandardScaler

    States = NDArray | LazyTensor

POSITION_SETS = {
    "last_prompt": ("last_prompt",),
    "thinking": ("thinking",),
    "boundary": ("boundary", "last_boundary"),
    "last_boundary": ("last_boundary",),
}
"""Which kinds of kept position (activations.kept_positions) each position set of the config takes in."""
PARTS = 4
"""Equal parts of the requests, of which one is held out."""
MIN_REQUESTS = PARTS
"""Requests of each class that a probe needs, so that every part can have one."""
REFITS = 20
"""Bootstrap refits of a probe's last layer."""
CS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of the L2 penalty on standardised features, of which cross-validation chooses one per layer."""
DEFAULT_C = 1.0
FOLDS = 3
FOLD_SEEDS = range(5)
SIZES = [(share, draw) for share in (0.25, 0.5) for draw in range(3)]
"""Share of the training requests, and number of the draw."""
SWEEP = (
    *(f"C={c:g}" for c in CS),
    *(f"fold_seed={seed}" for seed in FOLD_SEEDS),
    *(f"size={share:g} draw={draw}" for share, draw in SIZES),
)
"""Settings of the robustness sweep of a probe's last layer, in the order of its tensors: see `sweep_direction`."""
MEMORY_LIMIT = 500 * 2**20
"""Bytes of a layer's training states in double precision above which they are read and fitted in mini-batches.
Fitting in memory holds a few copies."""
BATCH = 512
EPOCHS = 20
CHUNK = 4096
"""Rows of the dump that are read at once."""


class Fit(NamedTuple):
    """A direction of one layer in the units of its states, w [d_model] and b, and the C it was fitted with."""

    w: NDArray
    b: float
    c: float


def labelled_rows(rows: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Rows of the activation dump whose trace has a label, in the order of the dump.

    Args:
        rows: prompt_id, sample, kind, position; its index is the row of the dump.
        labels: output of `judges.trace_labels`.

    Returns:
        The columns of `rows`, row and positive.
    """
    return rows.reset_index(names="row").merge(labels, on=TRACE_KEY, validate="many_to_one")


SHORTAGES = {
    "refused_harmful": (
        "the model refused harmful prompts of {} requests and answered benign prompts of {}",
        "add datasets to probes.<name>.datasets that are harmful and refused, or benign and answered, or check "
        "judges.phrases against its responses",
    ),
    "behaviour": (
        "the model refused prompts of {} requests and answered prompts of {}",
        "add datasets to probes.<name>.datasets that the model refuses (or answers), or check judges.phrases against "
        "its responses",
    ),
    "recognition": (
        "the thinking means to refuse in {} requests and does not in {}",
        "add datasets to probes.<name>.datasets, or check judges.intentions against the model's thinking",
    ),
}
"""What is said of each label where a class is too small: how many requests have it and have it not, and the remedy."""


def training_rows(
    rows: pd.DataFrame, prompts: pd.DataFrame, labels: pd.DataFrame, recipe: Mapping[str, Any]
) -> pd.DataFrame:
    """Rows of the activation dump that a probe is trained and held out on, with their label.

    Args:
        prompts: prompt_id, request_id, dataset.
        recipe: positions, label and datasets of the probe.
        Others as for `labelled_rows`.

    Returns:
        The columns of `labelled_rows`, and request_id.

    Raises:
        UserError: fewer than `MIN_REQUESTS` requests have a trace with the label, or as few have one without.
    """
    wanted = prompts.loc[prompts["dataset"].isin(recipe["datasets"]), ["prompt_id", "request_id"]]
    kinds = POSITION_SETS[recipe["positions"]]
    chosen = labelled_rows(rows[rows["kind"].isin(kinds)], labels)
    chosen = chosen.merge(wanted, on="prompt_id", validate="many_to_one")
    classes = [chosen.loc[chosen["positive"] == side, "request_id"].nunique() for side in (True, False)]
    if min(classes) < MIN_REQUESTS:
        found, remedy = SHORTAGES[recipe["label"]]
        raise UserError(
            f"{', '.join(recipe['datasets'])}: {found.format(*classes)}; a probe of {recipe['label']} needs at least "
            f"{MIN_REQUESTS} of each: {remedy}"
        )
    return chosen


def split_requests(chosen: pd.DataFrame, seed: int) -> NDArray:
    """True for held-out rows, a quarter of them, classes spread evenly: all prompts of a request are on one side."""
    return assign_folds(chosen["positive"].to_numpy(), chosen["request_id"].to_numpy(), PARTS, seed) == 0


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
        train: rows to fit on, columns row, positive, request_id.
        layers: true layer indices.

    Returns:
        layers [layer]; w [layer, d_model], b [layer] and the chosen C [layer] of P(positive) = sigmoid(w·h + b);
        mean_difference_w, mean_difference_b in the same shapes; of the last of `layers` refit_w, refit_b and refit_C
        (`refit_direction`), and sweep_w, sweep_b and sweep_C (`sweep_direction`).
    """
    rows, truth = train["row"].to_numpy(), train["positive"].to_numpy()
    chosen = [choose_c(resid, layer, train, seed) for layer in layers]
    fitted = [fit_direction(resid, layer, train, c, seed) for layer, c in zip(layers, chosen, strict=True)]
    rivals = [midpoint_direction(*class_means(resid, layer, rows, truth)) for layer in layers]
    return {
        "layers": np.array(layers, dtype=np.int64),
        "w": np.stack([w for w, _ in fitted]),
        "b": np.array([b for _, b in fitted]),
        "C": np.array(chosen),
        "mean_difference_w": np.stack([w for w, _ in rivals]),
        "mean_difference_b": np.array([b for _, b in rivals]),
        **_named("refit", refit_direction(resid, layers[-1], train, seed)),
        **_named("sweep", sweep_direction(resid, layers[-1], train, seed)),
    }


def _named(prefix: str, fits: Sequence[Fit]) -> dict[str, NDArray]:
    """Several fits as tensors: w [fit, d_model], b [fit] and C [fit] under a common prefix."""
    w, b, c = zip(*fits, strict=True)
    return {f"{prefix}_w": np.stack(w), f"{prefix}_b": np.array(b), f"{prefix}_C": np.array(c)}


def fit_direction(resid: "States", layer: int, train: pd.DataFrame, c: float, seed: int) -> tuple[NDArray, float]:
    """Logistic regression on one layer, in memory or, above MEMORY_LIMIT, in mini-batches.

    Features are standardised for the fit and the scale is folded back into w and b. Classes are weighted to balance.

    Args:
        c: inverse strength of the L2 penalty.
        seed: order of the mini-batches.
        Others as for `train_probe`.

    Returns:
        w [d_model] and b in the units of the states.
    """
    rows, truth = train["row"].to_numpy(), train["positive"].to_numpy()
    if fits_in_memory(resid, len(rows)):
        return fit_logistic(read_states(resid, layer, rows), truth, c)
    return _fit_in_batches(resid, layer, rows, truth, c, seed)


def choose_c(resid: "States", layer: int, train: pd.DataFrame, seed: int) -> float:
    """The C of CS with the least class-balanced log loss over FOLDS folds of requests, which `seed` draws.

    DEFAULT_C where a class has a single request, so that there is nothing to validate on. Arguments as for
    `fit_direction`.
    """
    rows, truth = train["row"].to_numpy(), train["positive"].to_numpy()
    folds = assign_folds(truth, train["request_id"].to_numpy(), FOLDS, seed)
    if folds is None:
        return DEFAULT_C
    if fits_in_memory(resid, len(rows)):
        losses = _losses(_standardise(read_states(resid, layer, rows))[0], truth, folds)
    else:
        losses = _losses_in_batches(resid, layer, rows, truth, folds, seed)
    return CS[int(losses.argmin())]


def refit_direction(resid: "States", layer: int, train: pd.DataFrame, seed: int) -> list[Fit]:
    """The probe of one layer trained again on REFITS bootstrap resamples of its training requests.

    Requests are drawn with replacement within each class; folds and C are chosen anew in each refit, because they too
    depend on the sample. Arguments as for `fit_direction`.
    """
    rng = np.random.default_rng(seed)
    fits = []
    for refit in range(REFITS):
        resampled = draw_requests(train, rng, 1.0, replace=True)
        c = choose_c(resid, layer, resampled, refit)
        fits.append(Fit(*fit_direction(resid, layer, resampled, c, refit), c))
    return fits


def sweep_direction(resid: "States", layer: int, train: pd.DataFrame, seed: int) -> list[Fit]:
    """The probe of one layer under each setting of `SWEEP`, to see how far a number depends on choices of training.

    Every C; the C that each fold seed chooses; and a share of the requests of each class, drawn without replacement,
    folds and C chosen anew. Arguments as for `fit_direction`.
    """
    by_c = {c: Fit(*fit_direction(resid, layer, train, c, seed), c) for c in CS}
    by_folds = [by_c[choose_c(resid, layer, train, fold_seed)] for fold_seed in FOLD_SEEDS]
    rng, by_size = np.random.default_rng(seed), []
    for share, draw in SIZES:
        part = draw_requests(train, rng, share, replace=False)
        c = choose_c(resid, layer, part, draw)
        by_size.append(Fit(*fit_direction(resid, layer, part, c, draw), c))
    return [*by_c.values(), *by_folds, *by_size]


def draw_requests(train: pd.DataFrame, rng: np.random.Generator, share: float, *, replace: bool) -> pd.DataFrame:
    """All rows of a share of the requests of each class, at least one: a request is positive if any of its traces is.

    A request that is drawn twice brings its rows twice. Rows stay in the order of the dump, which is read in parts.
    """
    rows = train.groupby("request_id").indices
    classes = train.groupby("request_id")["positive"].max()
    drawn = [
        rng.choice(requests, max(1, round(share * len(requests))), replace=replace)
        for requests in classes.groupby(classes).groups.values()
    ]
    return train.iloc[np.sort(np.concatenate([rows[request] for request in np.concatenate(drawn)]))]


def fits_in_memory(resid: "States", rows: int) -> bool:
    """Whether `rows` states of one layer stay below MEMORY_LIMIT in double precision."""
    return rows * resid.shape[-1] * np.dtype(float).itemsize <= MEMORY_LIMIT


def assign_folds(truth: NDArray, requests: NDArray, count: int, seed: int) -> NDArray | None:
    """Fold of each row: all rows of a request in one fold, classes spread evenly.

    Args:
        truth, requests: [row].
        count: folds; fewer where a class has fewer requests.

    Returns:
        int [row]; None where a class has a single request.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    count = min(count, len(np.unique(requests[truth])), len(np.unique(requests[~truth])))
    if count < 2:
        return None
    folds = np.empty(len(truth), dtype=int)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(truth)), truth, requests)):
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


def _losses(features: NDArray, truth: NDArray, folds: NDArray) -> NDArray:
    """Class-balanced log loss over all held-out rows, for each of CS."""
    from sklearn.linear_model import LogisticRegression

    losses = np.zeros(len(CS))
    for fold in np.unique(folds):
        held_out = folds == fold
        # The solution for one C is where the search for the next starts.
        model = LogisticRegression(max_iter=1000, warm_start=True)
        for number, c in enumerate(CS):
            model.set_params(C=c).fit(features[~held_out], truth[~held_out], sample_weight=balance(truth[~held_out]))
            losses[number] += _log_loss(model, features[held_out], truth[held_out], balance(truth)[held_out])
    return losses


def _losses_in_batches(
    resid: "States", layer: int, rows: NDArray, truth: NDArray, folds: NDArray, seed: int
) -> NDArray:
    """`_losses` of `_fit_in_batches`; never holds more than CHUNK rows."""
    scaler, weights = _scaler(resid, layer, rows), balance(truth)
    trials = {(fold, number): _sgd(c, resid, rows, seed) for fold in np.unique(folds) for number, c in enumerate(CS)}
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
            losses[number] += _log_loss(model, features[held_out], truth[index][held_out], weights[index][held_out])
    return losses


def _log_loss(
    model: "LogisticRegression | SGDClassifier", features: NDArray, truth: NDArray, weights: NDArray
) -> float:
    """Weighted sum of the log loss over rows; there may be none of them."""
    margin = model.decision_function(features) * np.where(truth, 1, -1) if len(truth) else np.empty(0)
    return float(weights @ np.logaddexp(0, -margin))


def _fit_in_batches(
    resid: "States", layer: int, rows: NDArray, truth: NDArray, c: float, seed: int
) -> tuple[NDArray, float]:
    """`fit_logistic` by averaged stochastic gradient descent; never holds more than CHUNK rows."""
    scaler, weights, model = _scaler(resid, layer, rows), balance(truth), _sgd(c, resid, rows, seed)
    for epoch in range(EPOCHS):
        for batch, states in _random_batches(resid, layer, rows, seed + epoch):
            _learn(model, scaler.transform(states), truth[batch], weights[batch])
    w = model.coef_[0] / scaler.scale_
    return w, float(model.intercept_[0] - w @ scaler.mean_)


def _scaler(resid: "States", layer: int, rows: NDArray) -> "StandardScaler":
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    for _, states in state_chunks(resid, layer, rows):
        scaler.partial_fit(states)
    return scaler


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
