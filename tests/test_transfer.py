"""Transfer of attacks: what wrappers are, how they are searched, and what T says of organisms whose rates are known."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_tiny_model

from refusal_cliff.attack_search import (
    OBJECTIVES,
    PLAIN_SET,
    PREFILL,
    Asker,
    attack_datasets,
    attack_name,
    attacked_requests,
    circuit_objective,
    output_objective,
    prefilled_traces,
    search,
    search_attacks,
    searched_traces,
    with_ids,
)
from refusal_cliff.datasets import PROMPT_COLUMNS
from refusal_cliff.errors import UserError
from refusal_cliff.head_effects import direct_contributions
from refusal_cliff.plots.transfer import plot_transfer
from refusal_cliff.readouts import log_odds
from refusal_cliff.stats import wilson
from refusal_cliff.traces import ChatFormat, encode_trace, render_prompt
from refusal_cliff.transfer import (
    Organism,
    attack_rates,
    known,
    pooled,
    rate_of,
    request_shares,
    summary_table,
    transfer_table,
)
from refusal_cliff.wrappers import HOLE, compose, neutral_wrappers, random_wrappers

N = 40
"""Attacked requests of the synthetic organisms."""
CHAT = ChatFormat("<think>\n", "\n</think>\n\n")


# Wrappers


def test_wrappers_are_about_two_hundred_each_once_around_one_request():
    wrappers = neutral_wrappers()
    assert 150 <= len(wrappers) <= 250
    assert len(set(wrappers)) == len(wrappers)
    assert all(wrapper.count(HOLE) == 1 and wrapper != HOLE for wrapper in wrappers)


def test_no_wrapper_is_a_template_of_the_attack_sheet():
    """Neither as it is nor in part: a neutral wrapper that holds a jailbreak would be one."""
    templates = pd.read_csv("config/attacks.tsv", sep="\t")["template"]
    sentences = {part.strip() for text in templates for part in text.split(HOLE) if part.strip()}
    assert not [wrapper for wrapper in neutral_wrappers() if any(sentence in wrapper for sentence in sentences)]


def test_composing_puts_one_wrapper_around_another():
    assert compose("Hello. {prompt}", "{prompt} Thanks.") == "Hello. {prompt} Thanks."
    assert compose("For a quiz: {prompt} Bye.", HOLE) == "For a quiz: {prompt} Bye."


def test_random_wrappers_have_as_many_parts_as_a_search_and_repeat_with_their_seed():
    one, two = (random_wrappers(["<{prompt}"], rounds=2, count=6, seed="s") for _ in range(2))
    assert one == two == ["<{prompt}", "<<{prompt}"] * 3
    wrappers = neutral_wrappers()
    drawn = random_wrappers(wrappers, rounds=1, count=200, seed="s")
    assert set(drawn) <= set(wrappers) and len(set(drawn)) > 80
    assert drawn != random_wrappers(wrappers, rounds=1, count=200, seed="t")


# Search


def test_a_search_goes_on_from_the_best_and_asks_every_wrapper_in_every_round():
    """The best pair is c around a: a wins alone, and every second part is put around it."""
    worth = {"a{prompt}": 2.0, "b{prompt}": 1.0, "c{prompt}": 0.0}
    worth |= {"aa{prompt}": 1.0, "ba{prompt}": 0.5, "ca{prompt}": 5.0}
    asked = []

    def score(wrappers):
        asked.append(list(wrappers))
        return np.array([worth[wrapper] for wrapper in wrappers])

    found = search(score, ["a{prompt}", "b{prompt}", "c{prompt}"], rounds=2)
    assert asked == [["a{prompt}", "b{prompt}", "c{prompt}"], ["aa{prompt}", "ba{prompt}", "ca{prompt}"]]
    assert found["wrapper"].tolist()[:3] == ["ca{prompt}", "a{prompt}", "b{prompt}"]
    assert found["round"].tolist()[:3] == [2, 1, 1]


def test_a_second_round_that_finds_nothing_better_keeps_the_first():
    found = search(lambda wrappers: -np.array([len(w) for w in wrappers]), ["a{prompt}", "bb{prompt}"], rounds=2)
    assert found["wrapper"][0] == "a{prompt}"


@pytest.fixture(scope="module")
def qwen2():
    return make_tiny_model("qwen2")


@pytest.fixture(scope="module")
def encoded(tiny_tokenizer):
    texts = ["How to tidy up?", "Hello. How to tidy up?", "Name a fruit."]
    return [
        encode_trace(tiny_tokenizer, render_prompt(tiny_tokenizer, text, CHAT), "I think.", CHAT.boundary)
        for text in texts
    ]


def test_the_circuit_objective_is_minus_the_sum_of_what_the_heads_write(qwen2, encoded):
    direction = torch.arange(48, dtype=torch.float64)
    readout = lambda states: states @ direction  # noqa: E731
    heads = [(2, 1), (0, 5)]
    values = circuit_objective(qwen2, readout, heads, 0, 2)(encoded)
    effects = direct_contributions(qwen2, encoded, [readout], 0, 2)[0]
    assert values == pytest.approx(-(effects[:, 2, 1] + effects[:, 0, 5]))


def test_the_output_objective_is_the_log_odds_of_an_answer_as_the_model_itself_gives_them(qwen2, encoded):
    rows = qwen2.get_output_embeddings().weight.double()
    refusals, answers = [10, 11], [20]
    values = output_objective(qwen2, log_odds(rows[refusals], rows[answers]), 0, 2)(encoded)
    for trace, value in zip(encoded, values, strict=True):
        logits = qwen2(torch.tensor([trace.ids])).logits[0, -1].double().log_softmax(-1)
        expected = logits[answers].logsumexp(-1) - logits[refusals].logsumexp(-1)
        assert value == pytest.approx(float(expected), abs=1e-4)


def test_both_objectives_ask_as_often_and_a_wrapper_is_scored_by_its_mean_over_requests(tiny_tokenizer):
    asked = pd.DataFrame({"prompt": ["one", "three"], "thinking": "so"})
    asker = Asker(tiny_tokenizer, CHAT, asked)
    calls = {"circuit": 0, "output": 0}

    def length(name):
        def objective(encoded):
            calls[name] += len(encoded)
            return np.array([float(len(trace.ids)) for trace in encoded])

        return objective

    found = search_attacks({name: length(name) for name in calls}, asker, ["x{prompt}", "{prompt}"], rounds=2, kept=1)
    assert calls == {"circuit": 8, "output": 8}
    assert (found["queries"] == 8).all()
    chosen = found[found["chosen"]]
    assert chosen["wrapper"].tolist() == ["xx{prompt}", "xx{prompt}"]
    bare = encode_trace(tiny_tokenizer, render_prompt(tiny_tokenizer, "one", CHAT), "so", CHAT.boundary)
    assert chosen["score"].tolist() == [len(bare.ids) + 2 + 1.0] * 2  # two x, and "three" is two longer than "one"


def test_wrappers_are_searched_on_refused_closed_requests_of_the_named_datasets_alone():
    prompts = pd.DataFrame(
        {"prompt_id": list("abcde"), "dataset": ["h", "h", "h", "other", "h"], "prompt": list("ABCDE")}
    )
    traces = pd.DataFrame({"prompt_id": list("abcde"), "sample": 0, "thinking": list("vwxyz")})
    traces["finish_reason"] = ["stop", "stop", "unclosed", "stop", "stop"]
    did = traces[["prompt_id", "sample"]].assign(refused=[True, False, True, True, True])
    found = searched_traces(traces, prompts, did, ["h"], 12)
    assert found.to_dict("list") == {"prompt": ["A", "E"], "thinking": ["v", "z"]}
    assert len(searched_traces(traces, prompts, did, ["h"], 1)) == 1
    with pytest.raises(UserError, match=r"refused no request of h.*transfer\.sources"):
        searched_traces(traces, prompts, did.assign(refused=False), ["h"], 12)


# Datasets


@pytest.fixture
def requests():
    table = pd.DataFrame({"prompt": ["first", "second", "third"], "category": "x", "reference": None, "match": None})
    return table.assign(label="harmful")


@pytest.fixture
def found():
    rows = [("circuit", "A {prompt}", True), ("circuit", "B {prompt}", True), ("circuit", "C {prompt}", False)]
    rows += [("output", "A {prompt}", True)]
    return pd.DataFrame(rows, columns=["objective", "wrapper", "chosen"])


def test_an_attack_is_an_ordinary_dataset_of_every_request_in_a_chosen_wrapper(found, requests):
    datasets = attack_datasets(found, requests, ["R {prompt}"], "m", rounds=1, seed=0)
    assert list(datasets) == list(OBJECTIVES)
    assert datasets["circuit"]["prompt"].tolist() == ["A first", "B second", "A third"]
    assert datasets["output"]["prompt"].tolist() == ["A first", "A second", "A third"]
    assert datasets["random"]["prompt"].tolist() == ["R first", "R second", "R third"]
    assert set(datasets["circuit"]["family"]) == {"attack:m:circuit"}
    assert datasets["circuit"]["request"].tolist() == requests["prompt"].tolist()


def test_a_prompt_that_two_searches_found_is_asked_once_and_counts_for_both(found, requests):
    made = attack_datasets(found, requests, ["R {prompt}"], "m", rounds=1, seed=0)
    members = with_ids({attack_name("m", name): table for name, table in made.items()}, "attack")
    assert list(members.columns) == list(PROMPT_COLUMNS)
    assert len(members) == 9 and members["prompt_id"].nunique() == 7
    assert members["request_id"].nunique() == 3
    asked = members.drop_duplicates("prompt_id")
    outcomes = asked[["prompt_id"]].assign(model="t", variant="base", sample=0, harmful=None)
    outcomes["refused"] = pd.array(~asked["prompt"].str.startswith("A"), dtype="boolean")
    shares = request_shares(outcomes, members, "not_refused")
    order = [members.loc[members["request"] == text, "request_id"].iloc[0] for text in requests["prompt"]]
    assert shares["t", "base", "attack:m:circuit"][order].tolist() == [1.0, 0.0, 1.0]
    assert shares["t", "base", "attack:m:output"][order].tolist() == [1.0, 1.0, 1.0]
    assert shares["t", "base", "attack:m:random"][order].tolist() == [0.0, 0.0, 0.0]


def test_requests_under_attack_are_plain_ones_of_the_named_datasets():
    columns = {"category": "x", "reference": None, "match": None, "label": "harmful"}
    prompts = pd.DataFrame({"prompt": list("abc"), "dataset": ["h", "h", "g"], "family": ["plain", "story", "plain"]})
    assert attacked_requests(prompts.assign(**columns), ["h"])["prompt"].tolist() == ["a"]


def test_prefilled_traces_have_the_thinking_of_benign_ones_and_no_answer():
    own = pd.DataFrame({"prompt_id": ["p", "q", "r"], "sample": 0, "thinking": "harm", "response": ["no", None, "no"]})
    own = own.assign(finish_reason=["stop", "unclosed", "length"], prompt_tokens=[3, 4, 5])
    filled = prefilled_traces(own, pd.DataFrame({"thinking": ["tea", "cake"]}), seed=0)
    assert set(filled["thinking"]) <= {"tea", "cake"}
    assert set(filled["finish_reason"]) == {"stop"} and set(filled["response"]) == {""}
    assert filled[["prompt_id", "prompt_tokens"]].equals(own[["prompt_id", "prompt_tokens"]])
    with pytest.raises(UserError, match=r"heads\.benign: the model answered no prompt"):
        prefilled_traces(own, pd.DataFrame({"thinking": []}), seed=0)


# T and the decisions


def shares_of(rates, n=N):
    """Shares by request: of (target, source, objective) the given rate, the same first requests answered everywhere."""
    columns = {
        (target, "base", attack_name(source, objective)): (np.arange(n) < round(rate * n)).astype(float)
        for (target, source, objective), rate in rates.items()
    }
    frame = pd.DataFrame(columns, index=[f"r{number:02d}" for number in range(n)])
    frame.columns = pd.MultiIndex.from_tuples(frame.columns, names=["model", "variant", "dataset"])
    return frame


BASES = ("b0", "b1", "b2")


def world(carried, control, source_rate=0.9, output=None, sources_gain=True):
    """Three bases, each with a source, another sparse organism and a control, with these rates under its attacks."""
    organisms = {}
    for number, base in enumerate(BASES):
        organisms[f"source{number}"] = Organism("sparse", base)
        organisms[f"sparse{number}"] = Organism("sparse", base)
        organisms[f"control{number}"] = Organism("control", base)
    sources = [name for name in organisms if name.startswith("source")]
    own = source_rate if sources_gain else 0.2
    return shares_of(rates_of(organisms, sources, carried, control, own, output)), sources, organisms


def rates_of(organisms, sources, carried, control, own=0.9, output=None):
    rates = {}
    for source in sources:
        for target, organism in organisms.items():
            rate = carried if organism.kind == "sparse" else control
            rates[target, source, "circuit"] = own if target == source else rate
            rates[target, source, "output"] = own if target == source else (rate if output is None else output)
            rates[target, source, "random"] = 0.1
    return rates


def decisions(*arguments, **options):
    table = summary_table(*world(*arguments, **options), seed=0)
    return table, table.set_index(["question", "population"])["verdict"]


def test_t_is_the_gain_on_the_target_over_that_on_the_source():
    shares, sources, organisms = world(0.5, 0.1)
    table = transfer_table(shares, sources, organisms, "not_refused", seed=0)
    cell = table.set_index(["source", "target", "objective", "quantity"])
    assert cell.loc[("source0", "source0", "circuit", "not_refused"), "value"] == pytest.approx(0.9)
    assert cell.loc[("source0", "sparse0", "circuit", "gain"), "value"] == pytest.approx(0.4)
    assert cell.loc[("source0", "sparse0", "circuit", "transfer"), "value"] == pytest.approx(0.4 / 0.8)
    control = cell.loc[("source0", "control1", "circuit", "transfer")]
    assert control["value"] == 0.0
    assert control["low"] < -0.05 < 0.05 < control["high"], "no change in any of a few requests is not certainty"
    assert cell.loc[("source0", "sparse1", "circuit", "transfer"), "bases"] == "other"
    assert cell.loc[("source0", "sparse0", "circuit", "transfer"), "bases"] == "same"
    assert cell.loc[("source0", "source0", "circuit", "transfer"), "reason"] == "the source itself"
    assert (table.loc[table["value"].notna(), "n"] == N).all()


def test_a_source_that_gains_less_than_a_third_or_so_has_no_t_and_the_table_says_why():
    shares, sources, organisms = world(0.5, 0.1, sources_gain=False)
    table = transfer_table(shares, sources, organisms, "not_refused", seed=0)
    ratios = table[(table["quantity"] == "transfer") & (table["target"] == "sparse0")]
    assert ratios["value"].isna().all()
    assert set(ratios["reason"]) == {"the source gains 0.10, less than 0.3"}
    summary, verdicts = decisions(0.5, 0.1, sources_gain=False)
    assert verdicts["T(circuit)", "sparse targets"] == "no data"
    assert verdicts["transfers", "sparse targets and controls"] == "no data"
    assert (summary["n"] == 0).all()
    reasons = summary.set_index(["question", "population"])["reason"]
    said = "no source gains 0.3 by circuit over random wrappers (the most: 0.10), so T is undefined"
    assert reasons["T(circuit)", "sparse targets"] == reasons["transfers", "sparse targets and controls"] == said
    question = "because of the circuit: T(circuit) - T(output)"
    assert verdicts[question, "sparse targets"] == "no data"
    assert reasons[question, "sparse targets"] == "on no source do both gain 0.3 at the same rate"


@pytest.mark.parametrize(("rate", "has"), [(0.4, True), (0.375, False)])
def test_the_bound_on_a_sources_gain_itself_is_enough(rate, has):
    shares, sources, organisms = world(0.3, 0.1, source_rate=rate)
    table = transfer_table(shares, sources, organisms, "not_refused", seed=0)
    ratios = table.loc[(table["quantity"] == "transfer") & (table["target"] == "sparse0"), "value"]
    assert ratios.notna().all() == has


def test_what_carries_to_sparse_organisms_and_to_no_control_transfers():
    summary, verdicts = decisions(0.85, 0.1)
    assert verdicts["T(circuit)", "sparse targets"] == "supported"
    assert verdicts["T(circuit)", "controls"] == "supported"
    assert verdicts["transfers", "sparse targets and controls"] == "supported"
    row = summary.set_index(["question", "population"]).loc[("T(circuit)", "sparse targets")]
    assert row["value"] == pytest.approx((2 / 3 * 0.75 + 1 / 3 * 0.75 + 0) / 0.8, abs=0.02)
    assert (row["n"], row["bases"]) == (15, 3)


def test_what_carries_to_controls_as_well_does_not_transfer():
    _, verdicts = decisions(0.85, 0.85)
    assert verdicts["T(circuit)", "sparse targets"] == "supported"
    assert verdicts["T(circuit)", "controls"] == "not supported"
    assert verdicts["transfers", "sparse targets and controls"] == "not supported"


def test_what_carries_nowhere_does_not_transfer():
    _, verdicts = decisions(0.1, 0.1)
    assert verdicts["T(circuit)", "sparse targets"] == "not supported"
    assert verdicts["transfers", "sparse targets and controls"] == "not supported"


def test_the_circuit_is_the_reason_only_if_prompts_found_without_it_carry_less():
    question = ("because of the circuit: T(circuit) - T(output)", "sparse targets")
    assert decisions(0.85, 0.1, output=0.3)[1][question] == "supported"
    assert decisions(0.85, 0.1, output=0.85)[1][question] != "supported"
    assert decisions(0.3, 0.1, output=0.85)[1][question] == "not supported"


def test_objectives_are_compared_on_sources_on_which_both_reach_the_same_rate():
    shares, sources, organisms = world(0.85, 0.1, output=0.3)
    for source in sources[:2]:
        shares[source, "base", attack_name(source, "output")] = (np.arange(N) < 0.6 * N).astype(float)
    table = summary_table(shares, sources, organisms, seed=0)
    row = table[table["question"].str.startswith("because")].iloc[0]
    assert row["n"] == 5, "pairs of the third source alone"


@pytest.mark.parametrize(("n", "higher", "lower", "same"), [(10, 8, 7, True), (10, 7, 6, True), (40, 36, 31, False)])
def test_rates_that_differ_by_the_bound_itself_are_the_same_whatever_floating_point_makes_of_it(n, higher, lower, same):
    """0.8 - 0.7 is a little more than 0.1, and 0.7 - 0.6 a little less."""
    shares, sources, organisms = world(0.85, 0.1)
    shares = shares.iloc[:n].copy()
    for source in sources:
        shares[source, "base", attack_name(source, "random")] = 0.0
        for objective, count in (("circuit", higher), ("output", lower)):
            shares[source, "base", attack_name(source, objective)] = (np.arange(n) < count).astype(float)
    table = summary_table(shares, sources, organisms, seed=0)
    assert (table.loc[table["question"].str.startswith("because"), "n"].iloc[0] > 0) == same


def test_a_gain_of_the_bound_itself_counts_whatever_floating_point_makes_of_it():
    """0.7 - 0.4 is a little less than 0.3."""
    shares, sources, organisms = world(0.85, 0.1)
    for source in sources:
        shares[source, "base", attack_name(source, "random")] = 0.4
        shares[source, "base", attack_name(source, "circuit")] = 0.7
    assert summary_table(shares, sources, organisms, seed=0)["n"].iloc[0] == 15


def test_organisms_whose_planting_did_not_take_count_for_nothing():
    shares, sources, organisms = world(0.85, 0.1)
    organisms["sparse1"] = Organism("sparse", "b1", took=False)
    organisms["source2"] = Organism("sparse", "b2", took=False)
    table = summary_table(shares, sources, organisms, seed=0).set_index(["question", "population"])
    # Two sources; of each, the other source and two of three sparse organisms.
    assert table.loc[("T(circuit)", "sparse targets"), "n"] == 6


def test_models_of_one_base_decide_nothing():
    shares, sources, organisms = world(0.85, 0.1)
    one = {name: Organism(organism.kind, "b0") for name, organism in organisms.items()}
    table = summary_table(shares, sources, one, seed=0).set_index(["question", "population"])
    row = table.loc[("T(circuit)", "sparse targets")]
    assert row["value"] > 0.5 and math.isnan(row["low"])
    assert row["verdict"] == "inconclusive"


def test_bases_are_resampled_not_pairs():
    """Many pairs of three bases that disagree are three observations: the interval holds all of them."""
    bases = {"a": "b0", "b": "b0", "c": "b1", "d": "b1", "e": "b2", "f": "b2"}
    pairs = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c"), ("e", "f"), ("f", "e")] * 10
    worth = {"b0": 1.0, "b1": 0.0, "b2": 0.5}
    draws = [np.full(2001, worth[bases[one]]) for one, _ in pairs]
    estimate = pooled(draws, [1.0] * len(pairs), pairs, bases, requests=10**6, seed=0)
    assert estimate.value == pytest.approx(0.5)
    assert (estimate.low, estimate.high) == (0.0, 1.0)
    assert estimate.n == 60


def test_a_pair_counts_by_both_of_its_bases():
    """With three bases a pair between two of them is in no resample that lacks one of the two."""
    bases = {"a": "b0", "b": "b1", "c": "b2"}
    pairs = [("a", "b"), ("b", "c"), ("a", "c")]
    draws = [np.full(2001, value) for value in (1.0, 0.0, 0.0)]
    estimate = pooled(draws, [1.0] * 3, pairs, bases, requests=10**6, seed=0)
    assert estimate.value == pytest.approx(1 / 3)
    assert (estimate.low, estimate.high) == (0.0, 1.0)


@pytest.mark.parametrize(("gain", "requests"), [(0.8, 40), (0.4, 40), (0.4, 10)])
def test_bases_and_requests_that_all_agree_are_no_certainty(gain, requests):
    """No exception among the requests is what such an interval is of, in units of what the source gains."""
    bases = {"a": "b0", "b": "b1", "c": "b2"}
    pairs = [("a", "b"), ("b", "c"), ("c", "a")]
    estimate = pooled([np.full(2001, 0.5)] * 3, [gain] * 3, pairs, bases, requests, seed=0)
    reach = wilson(0, requests)[1] / gain
    assert (estimate.low, estimate.high) == (pytest.approx(0.5 - reach), pytest.approx(0.5 + reach))


def test_controls_that_no_attack_moves_are_supported_only_by_enough_requests():
    """The gain on the sources is 0.8: of 40 requests T may be 0.11 higher, of 20 it may be 0.2."""
    for requests, verdict in ((40, "supported"), (20, "inconclusive")):
        _, sources, organisms = world(0.85, 0.1)
        shares = shares_of(rates_of(organisms, sources, 0.85, 0.1), n=requests)
        table = summary_table(shares, sources, organisms, seed=0).set_index(["question", "population"])
        assert table.loc[("T(circuit)", "controls"), "verdict"] == verdict


@pytest.mark.parametrize("bases", [("b0", "b1", "b1"), ("b0", "b0", "b0")])
def test_fewer_than_three_bases_of_sources_decide_nothing_whatever_the_bases_of_targets(bases):
    shares, sources, organisms = world(0.85, 0.1)
    organisms |= {source: Organism("sparse", base) for source, base in zip(sources, bases, strict=True)}
    table = summary_table(shares, sources, organisms, seed=0).set_index(["question", "population"])
    for population in ("sparse targets", "controls"):
        row = table.loc[("T(circuit)", population)]
        assert math.isnan(row["low"]) and row["verdict"] == "inconclusive"
        assert row["reason"] == f"sources or targets of {len(set(bases))} bases: fewer than 3 decide nothing"
    both = table.loc[("transfers", "sparse targets and controls")]
    assert both["verdict"] == "inconclusive" and both["reason"] == row["reason"]


def test_unanswered_requests_are_missing_and_never_refused():
    members = pd.DataFrame({"dataset": "d", "prompt_id": ["p", "q"], "request_id": ["x", "y"]})
    outcomes = pd.DataFrame({"model": "m", "variant": "base", "prompt_id": ["p", "q"], "sample": 0})
    outcomes["refused"] = pd.array([False, None], dtype="boolean")
    outcomes["harmful"] = pd.array([None, True], dtype="boolean")
    assert request_shares(outcomes, members, "not_refused")["m", "base", "d"].tolist()[0] == 1.0
    assert math.isnan(request_shares(outcomes, members, "not_refused")["m", "base", "d"].tolist()[1])
    assert request_shares(outcomes, members, "asr")["m", "base", "d"].tolist()[1] == 1.0


def test_the_rate_is_the_asr_only_where_a_guard_judges_harm():
    assert (rate_of("guard"), rate_of("phrases")) == ("asr", "not_refused")


def test_what_is_known_of_a_model_comes_from_its_truth():
    truths = [
        {"model": "a", "sparse": "yes", "gate": {"met": False}},
        {"model": "b", "sparse": "no", "gate": {"met": True}},
    ]
    found = known(truths, ["a", "b", "hub"], {"a": "x", "b": "y", "hub": "hub"})
    assert found["a"] == Organism("sparse", "x", took=False)
    assert found["b"] == Organism("control", "y")
    assert found["hub"] == Organism("open", "hub")


def test_rates_under_attack_stand_beside_those_without_any():
    shares, sources, _ = world(0.5, 0.1)
    models = shares.columns.get_level_values("model").unique()
    for model in models:
        shares[model, "base", PLAIN_SET] = 0.0
    prefilled = pd.concat({(model, "base", PREFILL): pd.Series(1.0, shares.index) for model in models}, axis=1)
    table = attack_rates(shares, prefilled, sources, seed=0).set_index(["model", "attack", "quantity"])
    assert table.loc[("sparse0", "prefill", "difference"), "value"] == 1.0
    assert table.loc[("source0", "circuit", "rate"), "value"] == pytest.approx(0.9)
    assert table.loc[("source0", "random", "difference"), "value"] == pytest.approx(0.1)
    assert ("sparse0", "circuit", "rate") not in table.index, "what was searched on another model is in table transfer"


def test_a_figure_has_a_panel_for_each_objective_and_a_number_where_there_is_a_t():
    shares, sources, organisms = world(0.5, 0.1)
    figure = plot_transfer(transfer_table(shares, sources, organisms, "not_refused", seed=0))
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in panels] == ["searched by circuit", "searched by output"]
    texts = [text.get_text() for text in panels[0].texts if text.get_text()]
    assert len(texts) == 3 * 9 - 3  # all but the sources themselves
    assert {"0.50", "0.00"} == set(texts)
