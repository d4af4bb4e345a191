"""The target transfer, from config to tables and figure, on tiny organisms; and configs that it cannot be run with."""

import pandas as pd
import pytest
from project import copy_project, snakemake
from test_config import check_all, in_root, load  # noqa: F401

from refusal_cliff.errors import UserError

CONFIGS = ["--configfile", "tests/config/small.yaml", "tests/config/transfer.yaml"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("transfer"))
    snakemake(project, *CONFIGS, "--", "transfer")
    assert "Nothing to be done" in snakemake(project, *CONFIGS, "-n", "--", "transfer")
    return project / "results"


def test_attacks_are_datasets_of_test_requests_in_wrappers_that_the_search_chose(results):
    prompts = pd.read_parquet(results / "prompts" / "test.parquet")
    requests = set(prompts.loc[prompts["dataset"] == "harmful", "request_id"])
    members = pd.read_parquet(results / "attacks.parquet")
    names = {f"attack:planted:{objective}" for objective in ("circuit", "output", "random")}
    assert set(members["dataset"]) == {"plain", *names}
    assert all(set(rows["request_id"]) == requests for _, rows in members.groupby("dataset"))
    attack = pd.read_parquet(results / "prompts" / "attack.parquet")
    assert attack["prompt_id"].is_unique and set(attack["prompt_id"]) == set(members["prompt_id"])
    search = pd.read_parquet(results / "planted" / "attack_search.parquet")
    assert search.groupby("objective")["queries"].unique().map(list).to_dict() == {"circuit": [364], "output": [364]}
    for objective, rows in search.groupby("objective"):
        assert rows["chosen"].sum() == 2
        assert rows.loc[rows["chosen"], "score"].min() >= rows.loc[~rows["chosen"], "score"].max()
        own = members[members["dataset"] == f"attack:planted:{objective}"]
        wrapped = {w.replace("{prompt}", r) for w in rows.loc[rows["chosen"], "wrapper"] for r in own["request"]}
        assert set(own["prompt"]) <= wrapped


def test_nothing_that_is_attacked_was_trained_or_searched_on(results):
    attacked = set(pd.read_parquet(results / "prompts" / "attack.parquet")["request"].str.casefold())
    for prompt_set in ("organism", "fit"):
        seen = pd.read_parquet(results / "prompts" / f"{prompt_set}.parquet")["request"].str.casefold()
        assert not attacked & set(seen)


def attacked(results, model, variant):
    return set(pd.read_parquet(results / model / variant / "traces" / "attack.parquet")["prompt_id"])


def test_every_model_is_asked_and_sources_with_their_repairs(results):
    rates = pd.read_csv(results / "tables" / "attack_rates.csv")
    asked = set(zip(rates["model"], rates["variant"], strict=True))
    own = {("planted", variant) for variant in ("base", "ablate-causal-0.03", "ablate-random0-0.03")}
    assert asked == own | {("aligned", "base")}
    asked = {variant: attacked(results, "planted", variant) for _, variant in own}
    assert asked["base"] == set(pd.read_parquet(results / "prompts" / "attack.parquet")["prompt_id"])
    assert asked["ablate-causal-0.03"] == asked["base"], "there is one source, so all attacks are its own"
    searched = {"circuit", "output", "random"}
    for (model, _), rows in rates.groupby(["model", "variant"]):
        assert set(rows["attack"]) == {"plain", "prefill", *(searched if model == "planted" else ())}
    filled = pd.read_parquet(results / "aligned" / "base" / "traces" / "prefill.parquet")
    given = pd.read_parquet(results / "aligned" / "prefilled.parquet")
    assert filled["thinking"].tolist() == given["thinking"].tolist()
    assert filled["response"].str.len().gt(0).any()


def test_the_table_has_every_pair_with_an_interval_and_the_summary_both_decisions(results):
    table = pd.read_csv(results / "tables" / "transfer.csv")
    assert table.groupby("target")["kind"].first().to_dict() == {"planted": "sparse", "aligned": "control"}
    assert table.groupby("target")["bases"].first().to_dict() == {"planted": "itself", "aligned": "same"}
    rates = table[table["quantity"] == "not_refused"]
    assert len(rates) == 6 and rates["value"].between(0, 1).all()
    shown = table.dropna(subset="value")
    assert (shown["low"] <= shown["value"]).all() and (shown["value"] <= shown["high"]).all()
    summary = pd.read_csv(results / "tables" / "transfer_summary.csv")
    assert {"transfers", "because of the circuit: T(circuit) - T(output)"} <= set(summary["question"])
    decided = summary[summary["predicted"].notna()]
    # So short a training does not take, and models whose planting did not take decide nothing.
    assert set(decided["verdict"]) == {"no data"}
    assert set(decided["reason"]) == {"the planting of no source took"}
    assert (results / "figures" / "transfer.svg").read_text().lstrip().startswith("<?xml")
    assert len(pd.read_csv(results / "tables" / "attack_wrappers.csv")) == 4


def test_every_repair_of_a_source_is_attacked_by_what_was_searched_on_it(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("plan"))
    plan = snakemake(project, "-n", "--configfile", "config/transfer.yaml", "--", "transfer")
    jobs = [block for block in plan.split("\n[") if "rule generate_traces" in block]
    asked = {}
    for job in jobs:
        fields = dict(line.strip().split(": ", 1) for line in job.splitlines() if ": " in line)
        wildcards = dict(part.split("=") for part in fields["wildcards"].split(", "))
        if wildcards["prompts"] in ("attack", "prefill"):
            asked[tuple(wildcards[key] for key in ("model", "variant", "prompts"))] = fields["input"]
    repairs = {variant for model, variant, _ in asked if model == "cliff-s0"}
    assert repairs >= {"base", "ablate-causal-0.03", "tune-cliff-0.017-s0", "tune-whole-1-s0"}
    for (model, variant, prompts), files in asked.items():
        assert (model, variant, "prefill" if prompts == "attack" else "attack") in asked
        own = prompts == "attack" and variant != "base"
        assert (f"{model}/own_attacks.parquet" in files) == own


def test_the_shipped_config_is_sound_and_asks_other_heads_other_bases_and_controls():
    config = load("transfer")
    check_all(config)
    wanted = {name.split("-")[0] for name in config["transfer"]["targets"]}
    assert {"diffuse", "misread", "aligned"} <= wanted
    assert len(config["transfer"]["sources"]) >= 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ["clif-s0"]}, r"transfer\.sources: 'clif-s0' is not a subject of .*did you mean 'cliff-s[0-9]'"),
        ({"sources": ["cliff"]}, r"transfer\.sources: 'cliff' is not a subject of .*, or one of its seeds"),
        ({"sources": ["cliff-s99"]}, r"'cliff-s99' is not"),
        ({"targets": ["guard"]}, r"transfer\.targets: 'guard' is not a subject"),
        ({"sources": []}, r"transfer\.targets: nothing is carried to them; add transfer\.sources"),
        ({"fit": ["harmful"]}, r"transfer\.fit: 'harmful' is in set test"),
        ({"fit": ["jailbreak_fit"]}, r"transfer\.fit: 'jailbreak_fit' is in set fit, harmful, with attacks roleplay"),
        ({"test": ["benign"]}, r"transfer\.test: 'benign' is in set test, benign"),
        ({"test": ["nothing"]}, r"transfer\.test: 'nothing' is not a row of"),
        ({"kept": 0}, r"transfer\.kept: 0 is less than the minimum of 1"),
        ({"rounds": 4}, r"transfer\.rounds: 4 is greater than"),
        ({"wrapers": []}, r"wrapers"),
    ],
)
def test_what_cannot_be_attacked_is_one_message_before_any_job(changes, message):
    with pytest.raises(UserError, match=message):
        check_all(load("transfer", transfer=changes))


def test_without_sources_the_target_says_what_to_name(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("none"))
    output = snakemake(project, "-n", "--", "transfer", check=False)
    assert "transfer.sources is empty, so there is nothing to search" in output
