"""Labels, layers and splits of probes; their fit in memory and in batches; and what they are measured against."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from refusal_cliff import probes as module
from refusal_cliff.artifacts import LazyTensor
from refusal_cliff.checkpoints import first_tokens, unembedding
from refusal_cliff.cliffs import score_traces
from refusal_cliff.errors import UserError
from refusal_cliff.judges import behaviour, trace_labels
from refusal_cliff.plots.probes import (
    plot_calibration,
    plot_probe_accuracy,
    plot_probe_directions,
    plot_probe_positions,
)
from refusal_cliff.plots.style import save
from refusal_cliff.probe_evaluation import (
    CALIBRATION_COLUMNS,
    COLUMNS,
    HELD_OUT,
    TEST,
    TRAINING,
    PromptSet,
    calibration,
    control_task,
    cosine,
    evaluate_probes,
    measure,
    places,
    probe_table,
    with_tokens,
)
from refusal_cliff.probes import (
    CS,
    REFITS,
    SWEEP,
    assign_folds,
    choose_c,
    choose_layers,
    draw_requests,
    fit_direction,
    logit_direction,
    logit_rival,
    opener_weights,
    split_requests,
    train_probe,
    training_rows,
)

RECIPE = {"positions": "last_boundary", "label": "behaviour", "datasets": ["harmful", "benign"]}
KINDS = ["last_prompt", "thinking", "thinking", "thinking", "boundary", "last_boundary"]


@pytest.fixture
def tables():
    """80 traces of six positions each: half of the harmful ones are refused, and all of them recognised.

    Two prompts wrap each request; of a harmful one the first is refused and the second answered.
    """
    ids = [f"p{number:02d}" for number in range(80)]
    kinds = ["harmful"] * 40 + ["benign"] * 40
    requests = [f"{kind}{number % 20:02d}" for number, kind in enumerate(kinds)]
    prompts = pd.DataFrame({"prompt_id": ids, "request_id": requests, "dataset": kinds, "label": kinds})
    rows = pd.DataFrame([(i, 0, kind, position) for i in ids for position, kind in enumerate(KINDS)])
    rows.columns = ["prompt_id", "sample", "kind", "position"]
    verdicts = [
        pd.DataFrame({"prompt_id": ids, "sample": 0, "judge": "phrases", "scope": scope, "verdict": verdict})
        for scope, verdict in (
            ("response", ["refusal"] * 20 + ["no_refusal"] * 60),
            ("thinking", ["refusal"] * 40 + ["no_refusal"] * 40),
        )
    ]
    return prompts, rows, pd.concat(verdicts, ignore_index=True)


@pytest.fixture
def few_fits(monkeypatch):
    """One refit and a short sweep, for tests of what does not depend on them."""
    for name, value in (("REFITS", 1), ("FOLD_SEEDS", ()), ("SIZES", ())):
        monkeypatch.setattr(module, name, value)


def states(rows, labels, strength, layer=1, seed=0):
    """Noise [row, 3, 6], plus a direction that carries the label, in one layer alone."""
    resid = np.random.default_rng(seed).normal(size=(len(rows), 3, 6))
    positive = rows.merge(labels, on=["prompt_id", "sample"])["positive"].to_numpy()
    resid[:, layer, 2] += strength * (2 * positive - 1)
    return resid


def labelled(tables, recipe=RECIPE):
    prompts, rows, verdicts = tables
    labels = trace_labels(verdicts, prompts, recipe["label"], "phrases")
    return training_rows(rows, prompts, labels, recipe), labels


def test_a_probe_finds_the_direction_and_only_in_its_layer(tables):
    chosen, labels = labelled(tables)
    resid, held_out = states(tables[1], labels, 4.0), split_requests(chosen, seed=0)
    probe = train_probe(resid, chosen[~held_out], [0, 1], seed=0)
    assert probe["w"].shape == probe["mean_difference_w"].shape == (2, 6)
    assert probe["b"].shape == probe["mean_difference_b"].shape == (2,)
    assert set(probe["C"]) <= set(CS)
    assert probe["refit_w"].shape == (REFITS, 6)
    assert probe["refit_b"].shape == probe["refit_C"].shape == (REFITS,)
    # Refits differ, as their samples do, but find the same direction.
    assert (np.abs(probe["refit_w"]).argmax(axis=1) == 2).all()
    assert np.ptp(probe["refit_w"][:, 2]) > 0
    part = chosen[held_out]
    for method in ("", "mean_difference_"):
        assert np.abs(probe[f"{method}w"][1]).argmax() == 2
        assert probe[f"{method}w"][1, 2] > 0
        accuracy = [
            (
                (resid[part["row"], layer] @ probe[f"{method}w"][layer] + probe[f"{method}b"][layer] > 0)
                == part["positive"]
            ).mean()
            for layer in (0, 1)
        ]
        assert accuracy[1] == 1.0
        assert accuracy[0] < 0.8


def test_labels_follow_verdicts_not_the_prompt_set(tables):
    chosen, _ = labelled(tables)
    assert chosen["positive"].sum() == 20
    assert (tables[1].loc[chosen["row"], "kind"] == "last_boundary").all()
    recognised, _ = labelled(tables, RECIPE | {"label": "recognition"})
    assert recognised["positive"].sum() == 40


def test_the_papers_label_leaves_out_answered_harmful_and_refused_benign_prompts(tables):
    verdicts = tables[2]
    said = (verdicts["scope"] == "response") & verdicts["prompt_id"].isin(["p78", "p79"])
    verdicts.loc[said, "verdict"] = ["refusal", None]
    chosen, labels = labelled(tables, RECIPE | {"label": "refused_harmful"})
    assert set(chosen.loc[chosen["positive"], "prompt_id"]) == {f"p{number:02d}" for number in range(20)}
    assert set(chosen.loc[~chosen["positive"], "prompt_id"]) == {f"p{number:02d}" for number in range(40, 78)}
    assert len(labels) == 58


def test_verdicts_on_the_thinking_are_no_behaviour(tables):
    assert behaviour(tables[2], "phrases")["refused"].sum() == 20
    assert len(behaviour(tables[2], "phrases")) == 80


def test_missing_verdicts_label_nothing(tables):
    verdicts = tables[2]
    verdicts.loc[:9, "verdict"] = None
    assert len(trace_labels(verdicts, tables[0], "behaviour", "phrases")) == 70
    assert len(trace_labels(verdicts, tables[0], "recognition", "phrases")) == 80


@pytest.mark.parametrize("verdict", ["refusal", "no_refusal"])
@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("refused_harmful", r"harmful, benign: .*harmful prompts of (0|20) requests.*benign prompts of (0|20); "),
        ("behaviour", r"refused prompts of (0|40) requests and answered .* (0|40); .*probes\.<name>\.datasets"),
        ("recognition", r"means to refuse in (0|40) requests and does not in (0|40); .*judges\.intentions"),
    ],
)
def test_an_empty_class_is_an_error_that_names_the_key(tables, verdict, label, message):
    prompts, rows, verdicts = tables
    with pytest.raises(UserError, match=message):
        labelled((prompts, rows, verdicts.assign(verdict=verdict)), RECIPE | {"label": label})


def test_samples_and_wrappings_of_one_request_are_no_two_refused_requests(tables):
    prompts, rows, verdicts = tables
    rows, verdicts = (pd.concat([part, part.assign(sample=1)], ignore_index=True) for part in (rows, verdicts))
    one = verdicts["prompt_id"].isin(["p00", "p20"])
    assert len(set(prompts.loc[prompts["prompt_id"].isin(["p00", "p20"]), "request_id"])) == 1
    verdicts["verdict"] = np.where(one, "refusal", "no_refusal")
    with pytest.raises(UserError, match="refused prompts of 1 requests and answered prompts of 39;"):
        labelled((prompts, rows, verdicts))


@pytest.mark.parametrize("label", ["refused_harmful", "behaviour", "recognition"])
def test_no_request_is_on_both_sides_of_the_split_or_in_two_folds(tables, label):
    chosen, _ = labelled(tables, RECIPE | {"positions": "thinking", "label": label})
    held_out = split_requests(chosen, seed=1)
    assert not set(chosen.loc[held_out, "request_id"]) & set(chosen.loc[~held_out, "request_id"])
    assert 0.2 < held_out.mean() < 0.3
    assert abs(chosen.loc[held_out, "positive"].mean() - chosen["positive"].mean()) < 0.05
    folds = assign_folds(chosen["positive"].to_numpy(), chosen["request_id"].to_numpy(), 3, seed=0)
    assert pd.Series(folds).groupby(chosen["request_id"]).nunique().eq(1).all()
    assert pd.crosstab(folds, chosen["positive"]).gt(0).all(axis=None)


def test_a_class_of_one_request_has_no_folds():
    truth = np.array([True, True, False, False])
    assert assign_folds(truth, np.array(["a", "a", "b", "c"]), 3, seed=0) is None
    train = pd.DataFrame({"row": range(4), "positive": truth, "request_id": ["a", "a", "b", "c"]})
    assert choose_c(np.eye(4)[:, None], 0, train, seed=0) == 1.0


def test_a_draw_takes_whole_requests_of_either_class(tables):
    chosen, _ = labelled(tables)
    size = chosen.groupby("request_id").size()
    half = draw_requests(chosen, np.random.default_rng(0), 0.5, replace=False)
    assert half.groupby("request_id").size().equals(size[half["request_id"].unique()].sort_index())
    assert half.groupby("request_id")["positive"].max().value_counts().to_dict() == {True: 10, False: 10}
    again = draw_requests(chosen, np.random.default_rng(0), 1.0, replace=True)
    assert len(again) == len(chosen)
    assert (again.groupby("request_id").size() % 2 == 0).all()
    assert again.groupby("request_id").size().max() > 2
    assert again["row"].is_monotonic_increasing


def test_refits_choose_folds_and_c_anew_and_the_sweep_has_every_setting(tables):
    chosen, labels = labelled(tables)
    resid = states(tables[1], labels, 0.3)
    probe = train_probe(resid, chosen, [1], seed=0)
    assert len(set(probe["refit_C"])) > 1
    sweep = dict(zip(SWEEP, range(len(SWEEP)), strict=True))
    assert list(SWEEP[:6]) == ["C=0.001", "C=0.01", "C=0.1", "C=1", "C=10", "fold_seed=0"]
    assert list(SWEEP[-2:]) == ["size=0.5 draw=1", "size=0.5 draw=2"]
    assert probe["sweep_w"].shape == (16, 6)
    assert probe["sweep_b"].shape == probe["sweep_C"].shape == (16,)
    assert probe["sweep_C"][:5].tolist() == list(CS)
    # The fold seed of the probe itself is one of those swept: same folds, same C, same direction.
    own = sweep["fold_seed=0"]
    assert probe["sweep_C"][own] == probe["C"][0]
    np.testing.assert_allclose(probe["sweep_w"][own], probe["w"][0])
    np.testing.assert_allclose(probe["sweep_b"][own], probe["b"][0])
    # A weaker penalty gives a longer direction, and draws differ.
    assert (np.diff(np.linalg.norm(probe["sweep_w"][:5], axis=1)) > 0).all()
    assert len(np.unique(probe["sweep_w"][-6:, 2].round(9))) == 6


def test_layers_count_from_either_end():
    assert choose_layers([], 3) == [0, 1, 2]
    assert choose_layers([-1, 0, 2], 3) == [0, 2]
    with pytest.raises(UserError, match=r"probes\.<name>\.layers: layer 3 does not exist; the model has 3"):
        choose_layers([3], 3)


def test_a_probe_of_some_layers_scores_traces_at_those(tiny_llama, tiny_tokenizer):
    from refusal_cliff.templates import Rendered
    from refusal_cliff.traces import encode_trace

    traces = pd.DataFrame({"prompt_id": ["a"], "sample": 0})
    encoded = [encode_trace(tiny_tokenizer, Rendered("Hello"), "let us see", "</think>")]
    w = np.random.default_rng(0).normal(size=(3, tiny_llama.config.hidden_size))
    probes = {"all": (w, np.zeros(3), np.arange(3)), "some": (w[[0, 2]], np.zeros(2), np.array([0, 2]))}
    refits = {name: (w[-1:], np.zeros(1), 2) for name in probes}
    table, refitted, _ = score_traces(tiny_llama, traces, encoded, probes, refits, {}, 0, batch_size=1, grid=3, tail=2)
    assert refitted["probe"].tolist() == ["all", "some"]
    found = table.set_index(["probe", "layer"])["final"]
    assert list(found["some"].index) == [0, 2]
    pd.testing.assert_series_equal(found["some"], found["all"][[0, 2]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_dump_is_read_in_parts_of_any_dtype(tmp_path, dtype):
    resid = torch.randn(5, 2, 3).to(dtype)
    save_file({"resid": resid}, tmp_path / "dump.safetensors")
    lazy = LazyTensor(tmp_path / "dump.safetensors", "resid")
    assert lazy.shape == (5, 2, 3)
    np.testing.assert_array_equal(lazy[1:3, 1], resid[1:3, 1].float().numpy())
    np.testing.assert_array_equal(lazy[4, 0], resid[4, 0].float().numpy())


def test_batches_and_memory_agree(tables, tmp_path, monkeypatch):
    chosen, labels = labelled(tables, RECIPE | {"positions": "thinking"})
    resid = states(tables[1], labels, 2.0)
    save_file({"resid": torch.as_tensor(resid)}, tmp_path / "dump.safetensors")
    lazy = LazyTensor(tmp_path / "dump.safetensors", "resid")
    in_memory = {c: fit_direction(lazy, 1, chosen, c, seed=0) for c in CS}
    monkeypatch.setattr(module, "MEMORY_LIMIT", 1000)
    monkeypatch.setattr(module, "CHUNK", 100)
    monkeypatch.setattr(module, "BATCH", 64)
    assert choose_c(lazy, 1, chosen, seed=0) in CS
    own = resid[chosen["row"], 1]
    for c, (w, b) in in_memory.items():
        w_batches, b_batches = fit_direction(lazy, 1, chosen, c, seed=0)
        assert cosine(w, w_batches) > 0.95
        assert ((own @ w + b > 0) == (own @ w_batches + b_batches > 0)).mean() > 0.95


@pytest.mark.usefixtures("few_fits")
def test_shuffled_labels_cannot_be_predicted(tables):
    prompts, rows, verdicts = tables
    chosen, labels = labelled(tables, RECIPE | {"label": "recognition"})
    resid, held_out = states(rows, labels, 4.0), split_requests(chosen, seed=0)
    probe = train_probe(resid, chosen[~held_out], [1], seed=0)
    right = control_task(resid, 1, chosen, held_out, float(probe["C"][0]), seed=0)
    assert 0.3 < right[HELD_OUT].mean() < 0.7
    assert len(right[HELD_OUT]) == 10  # requests
    assert len(right[TRAINING]) == 30
    fit = PromptSet(prompts, verdicts, rows, resid)
    recipe = RECIPE | {"label": "recognition"}
    table, _ = evaluate_probes({"mine": probe}, {"mine": recipe}, fit, fit, "phrases", seed=0)
    found = table.set_index(["quantity", "method", "data"])["value"]
    assert found["accuracy", "logistic", HELD_OUT] == 1.0
    assert found["selectivity", "logistic", HELD_OUT] == pytest.approx(1 - right[HELD_OUT].mean())


def test_positions_are_placed_within_their_trace(tables):
    rows = tables[1].iloc[: len(KINDS)]
    expected = ["last_prompt", "thinking 1/5", "thinking 3/5", "thinking 5/5", "boundary -1", "last_boundary"]
    assert list(places(rows)) == expected


def test_positions_and_wrappings_of_one_request_are_not_independent():
    requests, prompts = np.repeat(np.arange(10), 4), np.repeat(np.arange(20), 2)
    scored = pd.DataFrame(
        {"request_id": requests, "prompt_id": prompts, "sample": 0, "positive": requests < 5}
        | {"logit": np.where(requests < 6, 3, -3)}
    )
    found = measure(scored, seed=0, probability=True)
    assert {estimate.n for estimate in found.values()} == {10}
    assert found["accuracy"].value == pytest.approx(0.9)
    assert found["auroc"].value == pytest.approx(0.9)
    assert found["accuracy"].high - found["accuracy"].low > 0.3
    one_class = measure(scored[scored["positive"]], seed=0, probability=False)
    assert np.isnan(one_class["auroc"].value)
    assert one_class["auroc"].n == 5


def test_a_calibrated_probability_lies_on_the_diagonal():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 2, 4000)
    truth = rng.random(4000) < 1 / (1 + np.exp(-logit))
    bins = calibration(pd.DataFrame({"request_id": range(4000), "positive": truth, "logit": logit}))
    assert bins["n"].sum() == 4000
    assert ((bins["low"] <= bins["predicted"]) & (bins["predicted"] <= bins["high"])).mean() >= 0.8
    assert (bins["predicted"] - bins["observed"]).abs().max() < 0.1


@pytest.mark.parametrize("tied", [False, True])
def test_the_logit_direction_is_a_difference_of_unembeddings(tmp_path, tiny_llama, tiny_tokenizer, tied):
    weights = {"model.embed_tokens.weight": tiny_llama.get_input_embeddings().weight}
    if not tied:
        weights["lm_head.weight"] = tiny_llama.get_output_embeddings().weight
    save_file({name: weight.clone() for name, weight in weights.items()}, tmp_path / "model.safetensors")
    tiny_tokenizer.save_pretrained(tmp_path)
    responses = ["Sorry, no.", "Sorry.", "It is so.", "Yes."]
    traces = pd.DataFrame({"prompt_id": list("abcde"), "sample": 0, "response": [*responses, ""]})
    behaviours = traces[["prompt_id", "sample"]].assign(refused=[True, True, False, False, False])
    tokens = first_tokens(tmp_path, traces["response"])
    assert set(tokens) == set(responses)
    openers = opener_weights(traces, behaviours, tokens)
    sorry, it, yes = (tiny_tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("S", "I", "Y"))
    assert openers == {sorry: 1.0, it: -0.5, yes: -0.5}
    rows = weights["model.embed_tokens.weight" if tied else "lm_head.weight"].double().numpy()
    direction = logit_direction(unembedding(tmp_path), openers)
    np.testing.assert_allclose(direction, rows[sorry] - (rows[it] + rows[yes]) / 2, rtol=1e-6)


def test_the_logit_direction_needs_both_kinds_of_opener(tables):
    traces = pd.DataFrame({"prompt_id": ["a", "b"], "sample": 0, "response": ["Yes.", "Yes."]})
    behaviours = traces[["prompt_id", "sample"]].assign(refused=False)
    assert opener_weights(traces, behaviours, {"Yes.": 3}) == {}
    assert logit_rival(np.zeros((2, 1, 3)), None, np.zeros((5, 3)), {}) == {}


def trained(tables):
    """A dump whose last layer carries the label, an unembedding, and probes of different layers, one with a logit."""
    chosen, labels = labelled(tables)
    resid, held_out = states(tables[1], labels, 1.0, layer=2), split_requests(chosen, seed=0)
    train, unembedding_rows = chosen[~held_out], np.random.default_rng(1).normal(size=(5, 6))
    layers = {"all": [0, 1, 2], "last": [2], "first": [0]}
    probes = {name: train_probe(resid, train, chosen_layers, seed=0) for name, chosen_layers in layers.items()}
    probes["all"] |= logit_rival(resid, train, unembedding_rows, {1: 1.0, 3: -1.0})
    return resid, unembedding_rows, probes


def test_the_last_layer_is_that_of_each_model_and_probe():
    table = pd.DataFrame({"model": list("aaabb"), "probe": list("ppqpp"), "layer": [0, 1, 0, 1, 2]})
    assert probe_table(table)["last_layer"].tolist() == [False, True, True, False, True]


@pytest.mark.usefixtures("few_fits")
def test_every_number_has_an_interval_and_a_count(tables):
    prompts, rows, verdicts = tables
    resid, unembedding_rows, probes = trained(tables)
    labels = trace_labels(verdicts, prompts, "behaviour", "phrases")
    test = PromptSet(prompts, verdicts, rows, states(rows, labels, 1.0, layer=2, seed=7))
    fit = PromptSet(prompts, verdicts, rows, resid)
    table, bins = evaluate_probes(probes, dict.fromkeys(probes, RECIPE), fit, test, "phrases", seed=0)
    assert list(table.columns) == COLUMNS
    assert list(bins.columns) == CALIBRATION_COLUMNS
    assert not table.duplicated(COLUMNS[:7]).any()
    measured = table[~table["quantity"].isin(["C"]) & table["value"].notna()]
    assert (measured["low"] <= measured["value"] + 1e-9).all()
    assert (measured["value"] <= measured["high"] + 1e-9).all()
    assert table["n"].between(10, 40).all()
    told = with_tokens(table, ["</think>", "↵↵"]).drop_duplicates("position").set_index("position")["token"].dropna()
    assert told.to_dict() == {"boundary -1": "</think>", "last_boundary": "↵↵"}
    assert set(bins["data"]) == {HELD_OUT, TEST}
    layers = table[table["quantity"] == "accuracy"].groupby("probe")["layer"].unique().map(set)
    assert layers.to_dict() == {"all": {0, 1, 2}, "last": {2}, "first": {0}}
    # The whole dataset of benign prompts is answered: accuracy, but no AUROC.
    benign = table[(table["data"] == "benign") & (table["probe"] == "last")].set_index(["quantity", "method"])
    assert np.isnan(benign.loc[("auroc", "logistic"), "value"])
    assert benign.loc[("accuracy", "logistic"), "n"] == 20
    cosines = table[table["quantity"].str.startswith("cosine")].set_index(["probe", "method", "quantity"])["value"]
    assert cosines["all", "logistic", "cosine_last_probe"] == pytest.approx(1.0)
    assert ("all", "logistic", "cosine_first_probe") not in cosines.index
    expected = cosine(probes["all"]["w"][-1], unembedding_rows[1] - unembedding_rows[3])
    assert cosines["all", "logistic", "cosine_logit"] == pytest.approx(float(expected))
    assert ("last", "logistic", "cosine_logit") not in cosines.index


@pytest.mark.usefixtures("few_fits")
def test_scores_on_test_prompts_are_read_against_the_label_and_against_harm(tables):
    """A direction that reads harm: harmful prompts that were answered count against it only by the label."""
    prompts, rows, verdicts = tables
    recipe = RECIPE | {"label": "refused_harmful"}
    harm = prompts[["prompt_id"]].assign(sample=0, positive=prompts["label"] == "harmful")
    fit = PromptSet(prompts, verdicts, rows, states(rows, harm, 9.0, layer=2))
    chosen, _ = labelled(tables, recipe)
    recipes = {"paper": recipe, "behaviour": RECIPE}
    probe = train_probe(fit.resid, chosen[~split_requests(chosen, seed=0)], [2], seed=0)
    table, _ = evaluate_probes(dict.fromkeys(recipes, probe), recipes, fit, fit, "phrases", seed=0)
    assert set(table.loc[table["truth"] == "harmful", "data"]) == {TEST}
    auroc = table.query("data == @TEST and quantity == 'auroc' and method == 'logistic'")
    auroc = auroc.set_index(["probe", "truth", "position"])["value"]
    for place in ("thinking 5/5", "last_boundary"):
        assert auroc["paper", "label", place] == auroc["paper", "harmful", place] == 1.0
        assert auroc["behaviour", "harmful", place] == 1.0
        assert auroc["behaviour", "label", place] < 0.95
    # Traces that the label leaves out are among those that are harmful or not.
    accuracy = table.query("probe == 'paper' and quantity == 'accuracy' and position == 'last_boundary'")
    brier = table.query("quantity == 'brier' and data == @TEST")
    assert set(accuracy.query("data == @TEST")["truth"]) == {"label", "harmful"}
    assert set(brier["truth"]) == {"label"}


@pytest.mark.usefixtures("few_fits")
def test_figures_show_every_probe_and_keep_text_as_text(tables, tmp_path):
    prompts, rows, verdicts = tables
    resid, _, probes = trained(tables)
    fit = PromptSet(prompts, verdicts, rows, resid)
    table, bins = evaluate_probes(probes, dict.fromkeys(probes, RECIPE), fit, fit, "phrases", seed=0)
    measured = probe_table(with_tokens(table, ["</think>", "↵↵"]).assign(model="tiny"))
    figures = {
        "positions": plot_probe_positions(measured),
        "accuracy": plot_probe_accuracy(measured),
        "directions": plot_probe_directions(measured),
        "calibration": plot_calibration(bins.assign(model="tiny")),
    }
    for name, figure in figures.items():
        save(figure, tmp_path / f"{name}.svg", tmp_path / f"{name}.pdf")
        text = (tmp_path / f"{name}.svg").read_text()
        assert name == "directions" or re.search(r">last( \(n=\d+\))?</text>", text)
        assert "tiny" in text
