"""What a probe is worth: on held-out requests, on other datasets, at other positions, and against chance and rivals.

The unit of every number is the request: positions, samples and wrappings of one request are averaged first, because
they are not independent, and `n` counts requests.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refusal_cliff.judges import trace_labels
from refusal_cliff.probes import (
    POSITION_SETS,
    fit_direction,
    fit_logistic,
    fits_in_memory,
    labelled_rows,
    read_states,
    split_requests,
    state_chunks,
    training_rows,
)
from refusal_cliff.stats import (
    Estimate,
    bootstrap_mean,
    grouped_auroc,
    jackknife_interval,
    paired_difference,
    share,
)
from refusal_cliff.traces import TRACE_KEY

if TYPE_CHECKING:
    from refusal_cliff.probes import States

COLUMNS = ["probe", "method", "layer", "data", "position", "truth", "quantity", "value", "low", "high", "n"]
CALIBRATION_COLUMNS = ["probe", "data", "bin", "predicted", "observed", "low", "high", "n"]
HELD_OUT, TRAINING, TEST = "held_out", "training", "test"
LABEL, HARMFUL = "label", "harmful"
"""Truths a score is read against: the probe's own label of the trace, and whether its prompt is harmful."""
SHUFFLES = 5
"""Random labellings of the control task."""
GROUPS = 20
"""Groups of requests that are left out in turn, and directions fitted again, for intervals of cosines."""
FIFTHS = 5
BINS = 10

Direction = tuple[NDArray, float]


class PromptSet(NamedTuple):
    """What a model did with a prompt set: tables as in docs/architecture.md, and its dump [row, layer, d_model]."""

    prompts: pd.DataFrame
    verdicts: pd.DataFrame
    rows: pd.DataFrame
    resid: "States"


def evaluate_probes(
    probes: Mapping[str, Mapping[str, NDArray]],
    recipes: Mapping[str, Mapping[str, Any]],
    fit: PromptSet,
    test: PromptSet,
    refusal_judge: str,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every number on the probes of one model.

    Args:
        probes: tensors of each probe file (output of `train_probe` and `logit_rival`).
        recipes: positions, label and datasets of each probe.
        fit, test: prompt set that probes were trained and held out on, and another one.

    Returns:
        Measurements with COLUMNS: accuracy, AUROC and Brier score on held-out requests in every layer; in the last
        layer of the probe also on its training requests, on each dataset of `test` and all of it, and there at each
        place; the control task; cosines. Accuracy and AUROC on all of `test` come against both truths: the probe's own
        label, on the traces that have it, and whether the prompt is harmful, on all traces. And calibration with
        CALIBRATION_COLUMNS.
    """
    rows, bins, fitted = [], [], {}
    for name, probe in probes.items():
        recipe = recipes[name]
        labels = trace_labels(fit.verdicts, fit.prompts, recipe["label"], refusal_judge)
        chosen = training_rows(fit.rows, fit.prompts, labels, recipe)
        held_out = split_requests(chosen, seed)
        found = _in_distribution(probe, recipe, fit.resid, chosen, held_out, seed)
        labels = trace_labels(test.verdicts, test.prompts, recipe["label"], refusal_judge)
        unseen = labelled_rows(test.rows, labels).merge(test.prompts, on="prompt_id")
        found += _out_of_distribution(probe, recipe, test, unseen, seed)
        rows += [(name, *row) for row in found]

        layer, logistic = int(probe["layers"][-1]), directions(probe, -1)["logistic"]
        own = unseen[unseen["kind"].isin(POSITION_SETS[recipe["positions"]])]
        for data, resid, part in ((HELD_OUT, fit.resid, chosen[held_out]), (TEST, test.resid, own)):
            logit = score(resid, layer, part["row"].to_numpy(), {"logistic": logistic})["logistic"]
            bins.append(calibration(part.assign(logit=logit)).assign(probe=name, data=data))
        fitted[name] = (probe, chosen[~held_out], layer)
    rows += _cosines(fitted, recipes, fit, seed)
    return pd.DataFrame(rows, columns=COLUMNS), pd.concat(bins, ignore_index=True)[CALIBRATION_COLUMNS]


def with_tokens(table: pd.DataFrame, boundary: Sequence[str]) -> pd.DataFrame:
    """Measurements with `token` after their position: its text where that is one token of the boundary, else missing.

    Args:
        boundary: the text of each boundary token.
    """
    names = [*(f"boundary {offset}" for offset in range(1 - len(boundary), 0)), "last_boundary"]
    table = table.copy()
    tokens = table["position"].map(dict(zip(names, boundary, strict=True)))
    table.insert(table.columns.get_loc("position") + 1, "token", tokens)
    return table


def probe_table(probes: pd.DataFrame) -> pd.DataFrame:
    """Measurements of several models (model, COLUMNS, token), with `last_layer`: whether of its probe's last."""
    last = probes.groupby(["model", "probe"])["layer"].transform("max")
    return probes.assign(last_layer=probes["layer"] == last)


def directions(probe: Mapping[str, NDArray], number: int) -> dict[str, Direction]:
    """w and b of each method in the layer at `number` of the probe's layers; the logit direction in the last alone."""
    found = {
        "logistic": (probe["w"][number], float(probe["b"][number])),
        "mean_difference": (probe["mean_difference_w"][number], float(probe["mean_difference_b"][number])),
    }
    if "logit_w" in probe and number in (-1, len(probe["layers"]) - 1):
        found["logit"] = (probe["logit_w"], float(probe["logit_b"][0]))
    return found


def score(resid: "States", layer: int, rows: NDArray, methods: Mapping[str, Direction]) -> dict[str, NDArray]:
    """w·h + b of each method at rows of the dump, ascending: method -> [row]."""
    w, b = np.stack([w for w, _ in methods.values()]), np.array([b for _, b in methods.values()])
    logits = np.empty((len(methods), len(rows)))
    for index, states in state_chunks(resid, layer, rows):
        logits[:, index] = w @ states.T + b[:, None]
    return dict(zip(methods, logits, strict=True))


def places(rows: pd.DataFrame) -> pd.Series:
    """Where in its trace each row of the dump lies.

    Args:
        rows: prompt_id, sample, kind, position; all kept positions of a trace, which span its thinking.

    Returns:
        last_prompt; `thinking 1/5` to `thinking 5/5`, by normalised position; `boundary -3` and the like, tokens from
        the last boundary token; last_boundary.
    """
    trace = [rows["prompt_id"], rows["sample"]]
    thought = rows["position"].where(rows["kind"] == "thinking").groupby(trace)
    first, last = thought.transform("min"), thought.transform("max")
    fifth = ((rows["position"] - first) / (last - first).clip(lower=1) * FIFTHS).clip(upper=FIFTHS - 1)
    end = rows["position"].where(rows["kind"] == "last_boundary").groupby(trace).transform("max")
    found = rows["kind"].astype(object)
    thinking, boundary = rows["kind"] == "thinking", rows["kind"] == "boundary"
    found[thinking] = [f"thinking {number + 1}/{FIFTHS}" for number in fifth[thinking].astype(int)]
    found[boundary] = [f"boundary {offset}" for offset in (rows["position"] - end)[boundary].astype(int)]
    return found


def measure(scored: pd.DataFrame, seed: int, *, probability: bool) -> dict[str, Estimate]:
    """Accuracy and AUROC of a direction, and its Brier score where its logits are those of a probability.

    Args:
        scored: request_id, prompt_id, sample, positive, logit.

    Returns:
        accuracy: share of right positions, by request, with the Wilson interval of n requests; auroc: of the mean logit
        of each trace, with the percentile bootstrap over requests, missing where a class is absent; brier: mean squared
        error of the probability, by request, with the percentile bootstrap.
    """
    right = right_shares(scored)
    logits = scored.groupby(TRACE_KEY, sort=False)["logit"].transform("mean")
    traces = scored.assign(logit=logits).drop_duplicates(TRACE_KEY)
    found = {
        "accuracy": share(float(right.sum()), len(right)),
        "auroc": grouped_auroc(traces["logit"], traces["positive"], traces["request_id"], seed),
    }
    if probability:
        from scipy.special import expit

        error = (expit(scored["logit"]) - scored["positive"]) ** 2
        found["brier"] = bootstrap_mean(error.groupby(scored["request_id"]).mean(), seed)
    return found


def right_shares(scored: pd.DataFrame) -> pd.Series:
    """Share of each request's positions on the right side of the threshold, indexed by request_id."""
    right = (scored["logit"] > 0) == scored["positive"]
    return right.groupby(scored["request_id"]).mean()


def calibration(scored: pd.DataFrame) -> pd.DataFrame:
    """Share of positive positions where the probe predicts it, in BINS of equal width; empty bins are left out.

    Args:
        scored: request_id, positive, logit.

    Returns:
        bin (from 0), predicted (mean probability), observed, with its Wilson interval and n: the requests that have a
        position in the bin, each counted once.
    """
    from scipy.special import expit

    table = scored[["request_id", "positive"]].assign(predicted=expit(scored["logit"]))
    table["bin"] = (table["predicted"] * BINS).astype(int).clip(upper=BINS - 1)
    requests = table.groupby(["bin", "request_id"])[["predicted", "positive"]].mean()
    rows = []
    for number, part in requests.groupby("bin"):
        observed = share(float(part["positive"].sum()), len(part))
        rows.append((number, part["predicted"].mean(), *observed))
    return pd.DataFrame(rows, columns=CALIBRATION_COLUMNS[2:])


def _in_distribution(
    probe: Mapping[str, NDArray],
    recipe: Mapping[str, Any],
    resid: "States",
    chosen: pd.DataFrame,
    held_out: NDArray,
    seed: int,
) -> list[tuple]:
    """Measurements on the requests of `fit`, without the name of the probe."""
    position, rows = recipe["positions"], []
    sides = {HELD_OUT: chosen[held_out], TRAINING: chosen[~held_out]}
    n = sides[TRAINING]["request_id"].nunique()
    for number, layer in enumerate(map(int, probe["layers"])):
        rows.append(("logistic", layer, TRAINING, position, LABEL, "C", float(probe["C"][number]), np.nan, np.nan, n))
        methods = directions(probe, number)
        last = number == len(probe["layers"]) - 1
        for data, part in sides.items() if last else [(HELD_OUT, sides[HELD_OUT])]:
            for method, logit in score(resid, layer, part["row"].to_numpy(), methods).items():
                found = measure(part.assign(logit=logit), seed, probability=method == "logistic")
                rows += [
                    (method, layer, data, position, LABEL, quantity, *estimate) for quantity, estimate in found.items()
                ]
    control = control_task(resid, layer, chosen, held_out, float(probe["C"][-1]), seed)
    for data, right in control.items():
        estimate = share(float(right.sum()), len(right))
        rows.append(("logistic", layer, data, position, LABEL, "control_accuracy", *estimate))
    part = sides[HELD_OUT]
    own = right_shares(part.assign(**score(resid, layer, part["row"].to_numpy(), {"logit": methods["logistic"]})))
    selectivity = paired_difference(control[HELD_OUT][own.index], own, seed)
    return [*rows, ("logistic", layer, HELD_OUT, position, LABEL, "selectivity", *selectivity)]


def control_task(
    resid: "States", layer: int, chosen: pd.DataFrame, held_out: NDArray, c: float, seed: int
) -> dict[str, pd.Series]:
    """How often a probe is right that was trained on labels shuffled over requests (Hewitt and Liang 2019).

    A probe of the same form and penalty, SHUFFLES times. Each request has one random label, the same for all its
    prompts and positions; both sides of the split keep how many requests have a positive trace.

    Returns:
        HELD_OUT, TRAINING -> share of right positions, over all shuffles, by request_id.
    """
    rng = np.random.default_rng(seed)
    right: dict[str, list[pd.Series]] = {HELD_OUT: [], TRAINING: []}
    for _ in range(SHUFFLES):
        sides = {}
        for data, part in ((HELD_OUT, chosen[held_out]), (TRAINING, chosen[~held_out])):
            labels = part.groupby("request_id")["positive"].max()
            shuffled = pd.Series(rng.permutation(labels.to_numpy()), index=labels.index)
            sides[data] = part.assign(positive=part["request_id"].map(shuffled))
        w, b = fit_direction(resid, layer, sides[TRAINING], c, seed)
        for data, part in sides.items():
            scored = part.assign(**score(resid, layer, part["row"].to_numpy(), {"logit": (w, b)}))
            right[data].append(right_shares(scored))
    return {data: pd.concat(shares, axis=1).mean(axis=1) for data, shares in right.items()}


def _out_of_distribution(
    probe: Mapping[str, NDArray], recipe: Mapping[str, Any], test: PromptSet, unseen: pd.DataFrame, seed: int
) -> list[tuple]:
    """Measurements on another prompt set in the last layer, without the name of the probe.

    Args:
        unseen: output of `labelled_rows` with the columns of `test.prompts`.
    """
    layer, own, found = int(probe["layers"][-1]), recipe["positions"], []
    every = test.rows.reset_index(names="row").merge(test.prompts, on="prompt_id")
    every = every.assign(positive=every["label"] == "harmful")
    for truth, table in ((LABEL, unseen), (HARMFUL, every)):
        table = table.assign(place=places(table))
        at_own = table["kind"].isin(POSITION_SETS[own])
        for method, logit in score(test.resid, layer, table["row"].to_numpy(), directions(probe, -1)).items():
            scored = table.assign(logit=logit)
            parts = [(TEST, own, scored[at_own])]
            if truth == LABEL:  # a dataset is harmful or it is not
                parts += [(dataset, own, part) for dataset, part in scored[at_own].groupby("dataset")]
            elsewhere = scored[scored["place"] != own]
            parts += [(TEST, place, part) for place, part in elsewhere.groupby("place", sort=False)]
            for data, position, part in parts:
                probability = method == "logistic" and position == own and truth == LABEL
                measured = measure(part, seed, probability=probability)
                found += [
                    (method, layer, data, position, truth, quantity, *estimate)
                    for quantity, estimate in measured.items()
                ]
    return found


def _cosines(
    fitted: Mapping[str, tuple[Mapping[str, NDArray], pd.DataFrame, int]],
    recipes: Mapping[str, Mapping[str, Any]],
    fit: PromptSet,
    seed: int,
) -> list[tuple]:
    """Cosines in the last layer: of directions with the logit direction, with the difference of means, and of probes.

    Intervals leave out one of GROUPS groups of requests at a time, the same groups for all probes; the logit direction
    is fixed. Without an interval where the states are too many to be fitted in memory.

    Args:
        fitted: name -> (probe, training rows, last layer).
    """
    requests = np.unique(fit.prompts["request_id"])
    group = pd.Series(np.random.default_rng(seed).permutation(len(requests)) % GROUPS, index=requests)
    without = {
        name: leave_groups_out(fit.resid, layer, train, group, probe["w"][-1], float(probe["C"][-1]))
        for name, (probe, train, layer) in fitted.items()
    }
    rows = []
    for number, (name, (probe, train, layer)) in enumerate(fitted.items()):
        own, position, trained = directions(probe, -1), recipes[name]["positions"], set(train["request_id"])
        pairs = [("logistic", "cosine_mean_difference", own["mean_difference"][0], without[name]["mean_difference"])]
        if "logit" in own:
            pairs += [(method, "cosine_logit", own["logit"][0], own["logit"][0]) for method in without[name]]
        for method, quantity, other, other_without in pairs:
            estimate = _cosine(own[method][0], other, without[name][method], other_without, len(trained))
            rows.append((name, method, layer, TRAINING, position, LABEL, quantity, *estimate))
        for rival, (rival_probe, rival_train, rival_layer) in list(fitted.items())[number + 1 :]:
            if rival_layer == layer:
                n = len(trained | set(rival_train["request_id"]))
                pair = without[name]["logistic"], without[rival]["logistic"]
                estimate = _cosine(probe["w"][-1], rival_probe["w"][-1], *pair, n)
                rows.append((name, "logistic", layer, TRAINING, position, LABEL, f"cosine_{rival}_probe", *estimate))
    return rows


def _cosine(a: NDArray, b: NDArray, a_without: NDArray, b_without: NDArray, n: int) -> Estimate:
    value = float(cosine(a, b))
    low, high = np.clip(jackknife_interval(value, cosine(a_without, b_without)), -1, 1)
    return Estimate(value, float(low), float(high), n)


def cosine(a: NDArray, b: NDArray) -> NDArray:
    """Cosine of vectors along the last axis; NaN for a vector of length zero."""
    with np.errstate(invalid="ignore"):
        return (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def leave_groups_out(
    resid: "States", layer: int, train: pd.DataFrame, group: pd.Series, w: NDArray, c: float
) -> dict[str, NDArray]:
    """Directions fitted without each of the groups of requests.

    Args:
        group: group of each request_id, from 0.
        w, c: the logistic direction on all of `train`, and its penalty.

    Returns:
        logistic, mean_difference -> [group, d_model]; NaN where a class would be empty, no groups at all where the
        states do not fit in memory.
    """
    truth = train["positive"].to_numpy()
    if not fits_in_memory(resid, len(train)):
        return dict.fromkeys(("logistic", "mean_difference"), np.empty((0, resid.shape[-1])))
    features = read_states(resid, layer, train["row"].to_numpy())
    groups = train["request_id"].map(group).to_numpy()
    logistic, difference = np.full((2, GROUPS, features.shape[1]), np.nan)
    for left_out in range(GROUPS):
        kept = groups != left_out
        if truth[kept].any() and not truth[kept].all():
            logistic[left_out], _ = fit_logistic(features[kept], truth[kept], c, start=w)
            difference[left_out] = features[kept & truth].mean(axis=0) - features[kept & ~truth].mean(axis=0)
    return {"logistic": logistic, "mean_difference": difference}
