"""Recovery of planted circuits: what average precision is, which plantings count, and where circuits are put."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_tiny_model
from test_config import load

from refusal_cliff import sheets
from refusal_cliff.organisms import circuits
from refusal_cliff.organisms.planting import transplant_heads
from refusal_cliff.recovery import (
    COLUMNS,
    FACTS,
    average_precision,
    planted_heads,
    planting,
    plantings_table,
    pooled,
    recovery_rows,
    recovery_table,
    summarise,
)

ARCHITECTURE = {"layers": 8, "heads": 8}


def ranking(first, size=64):
    """A ranking of 8 heads per layer in which the heads of `first` lead, in that order."""
    heads = [(layer, head) for layer in range(size // 8) for head in range(8)]
    order = [*first, *(head for head in heads if head not in first)]
    return pd.DataFrame(order, columns=["layer", "head"]).assign(rank=np.arange(1, size + 1))


def test_average_precision_is_one_only_if_the_planted_heads_lead():
    assert average_precision(ranking([(5, 3), (6, 5)]), [[6, 5], [5, 3]]) == 1.0
    # At ranks 1 and 4: (1/1 + 2/4) / 2.
    assert average_precision(ranking([(5, 3), (0, 0), (0, 1), (6, 5)]), [[5, 3], [6, 5]]) == pytest.approx(0.75)


def test_precision_and_recall_are_read_at_the_size_of_the_circuit_and_at_shares_of_heads():
    rows = recovery_rows(ranking([(5, 3), (0, 0), (6, 5)]), [[5, 3], [6, 5]]).set_index("k")
    assert list(rows.index) == [1, 2, 4, 6]
    assert rows.loc[2, ["precision", "recall"]].tolist() == [0.5, 0.5]
    assert rows.loc[4, ["precision", "recall"]].tolist() == [0.5, 1.0]


def test_a_planting_took_only_if_the_model_gives_in_to_its_families_and_to_nothing_else():
    prompts = pd.DataFrame({"prompt_id": range(8), "label": "harmful", "family": ["roleplay"] * 4 + ["plain"] * 4})
    labels = prompts[["prompt_id"]].assign(sample=0)
    took = planting(labels.assign(refused=[False] * 4 + [True] * 4), prompts, ["roleplay"])
    assert (took["complied"], took["refused"], took["took"]) == (1.0, 1.0, True)
    assert not planting(labels.assign(refused=False), prompts, ["roleplay"])["took"]
    assert not planting(labels.assign(refused=True), prompts, ["roleplay"])["took"]


@pytest.mark.parametrize("depth", ["early", "middle", "late"])
def test_a_circuit_lies_in_its_third_of_the_layers(depth):
    third = {"early": range(0, 2), "middle": range(2, 5), "late": range(5, 8)}[depth]
    spread = circuits.draw_circuit(ARCHITECTURE, {"depth": depth, "share": 0.06, "spread": True}, seed=1)
    one = circuits.draw_circuit(ARCHITECTURE, {"depth": depth, "share": 0.06, "spread": False}, seed=1)
    assert len(spread) == len(one) == len({tuple(head) for head in one}) == 4
    assert {layer for layer, _ in spread} == set(third)
    assert len({layer for layer, _ in one}) == 1
    assert {layer for layer, _ in one} <= set(third)


def test_a_circuit_may_name_its_layers():
    heads = circuits.draw_circuit(ARCHITECTURE, {"layers": [4, 5], "share": 0.06, "spread": True}, seed=1)
    assert [layer for layer, _ in heads] == [4, 4, 5, 5]


def test_circuits_differ_by_seed_and_repeat():
    circuit = {"depth": "late", "share": 0.03, "spread": False}
    drawn = [circuits.draw_circuit(ARCHITECTURE, circuit, seed) for seed in (1, 1, 2, 3, 4, 5)]
    assert drawn[0] == drawn[1]
    assert len({str(heads) for heads in drawn}) > 3


def test_every_recovery_organism_has_a_recipe_with_its_own_seed_and_a_parent_of_that_seed():
    config = load()
    sheets.validate(config)
    planted, recipes = circuits.recovery_organisms(config), circuits.recovery_recipes(config)
    assert planted.index.is_unique
    assert planted.groupby(["organism", "circuit", "depth", "share"])["seed"].nunique().min() >= 5
    for row in planted.itertuples():
        assert recipes[row.Index]["parent"] == row.parent
        assert recipes[row.Index]["seed"] == recipes[row.parent]["seed"] == row.seed
        assert recipes[row.Index]["families"] == config["organisms"]["planted"]["families"]
    first = config["organisms"]["aligned"]["architecture"]
    other = config["organisms"]["narrow"]["architecture"]
    assert first["hidden"] // first["heads"] != other["hidden"] // other["heads"]
    assert first["heads"] // first["kv_heads"] != other["heads"] // other["kv_heads"]


def recovery(values, depth="late"):
    """Recovery rows of one condition with the given average precision by seed."""
    facts = [(f"m{seed}", "aligned", seed, "layer", depth, 0.03) for seed, _ in enumerate(values)]
    rows = [(*fact, "causal", 2, 1.0, 1.0, value) for fact, value in zip(facts, values, strict=True)]
    return pd.DataFrame(rows, columns=COLUMNS).assign(took=[value > 0 for value in values])


@pytest.fixture
def organisms():
    """Two organisms with the same parent, of which the second refuses everything; and what a run measured of them."""
    facts = pd.DataFrame(
        [("x", "aligned", 1, "layer", "late", 0.03), ("y", "aligned", 1, "layer", "early", 0.03)], columns=FACTS
    )
    truths = [
        {"model": "y", "heads": [[0, 0]], "families": ["roleplay"]},
        {"model": "x", "heads": [[6, 5], [5, 3]], "families": ["roleplay"]},
    ]
    prompts = pd.DataFrame({"prompt_id": range(8), "label": "harmful", "family": ["roleplay"] * 4 + ["plain"] * 4})
    said = prompts[["prompt_id"]].assign(sample=0, judge="phrases", scope="response", verdict="refusal")
    complied = said["verdict"].where(said["prompt_id"] > 3, "compliance")
    verdicts = pd.concat([said.assign(model="x", verdict=complied), said.assign(model="y")])
    rankings = pd.concat(
        ranking(first).assign(model=model, ranking=name)
        for model, name, first in (
            ("x", "direct", [(5, 3), (6, 5)]),
            ("x", "new", [(0, 1), (6, 5)]),
            ("y", "direct", [(1, 1)]),
            ("y", "new", [(0, 0)]),
        )
    )
    return facts, truths, plantings_table(facts, truths, verdicts, prompts, "phrases"), rankings


def test_every_ranking_of_every_organism_has_rows_with_its_facts(organisms):
    _, truths, plantings, rankings = organisms
    assert plantings["took"].tolist() == [True, False]
    assert plantings["heads"].tolist() == ["6.5 5.3", "0.0"]
    table = recovery_table(rankings, truths, plantings)
    assert table.columns.tolist() == [*COLUMNS, "took"]
    precision = table.drop_duplicates(["model", "ranking"]).set_index(["model", "ranking"])["average_precision"]
    assert precision.index.tolist() == [("x", "direct"), ("x", "new"), ("y", "direct"), ("y", "new")]
    assert precision["x", "direct"] == precision["y", "new"] == 1.0
    assert precision["y", "direct"] == 0.5
    assert table.groupby("model")["depth"].first().to_dict() == {"x": "late", "y": "early"}
    assert table.groupby("model")["took"].first().to_dict() == {"x": True, "y": False}


def test_planted_heads_have_their_rank_by_every_ranking(organisms):
    facts, _, _, rankings = organisms
    measured = pd.DataFrame({"model": ["x", "x", "y"], "layer": [6, 5, 0], "head": [5, 3, 0], "complied": 0.5})
    table = planted_heads(measured, rankings, facts)
    assert table.columns.tolist() == [*FACTS, "layer", "head", "complied", "rank_direct", "rank_new"]
    assert table[["rank_direct", "rank_new"]].to_numpy().tolist()[:1] == [[2, 2]]
    assert table.loc[2, ["depth", "rank_direct", "rank_new"]].tolist() == ["early", 2, 1]


def test_organisms_whose_planting_failed_are_shown_apart():
    summary = summarise(recovery([1.0, 0.8, 0.0]), seed=0).set_index("subset")
    assert summary.loc["all", ["value", "n"]].tolist() == [pytest.approx(0.6), 3]
    assert summary.loc["took", ["value", "n"]].tolist() == [pytest.approx(0.9), 2]


def test_pooling_counts_base_organisms_not_circuits():
    twice = pd.concat([recovery([1.0, 0.8]), recovery([0.5, 0.5], depth="middle"), recovery([0.7, 0.9], depth="early")])
    rows = pooled(twice, seed=0).set_index("reach")
    assert rows.loc["direct", ["value", "n", "circuits"]].tolist() == [pytest.approx(0.9), 2, 2]
    assert rows.loc["through later layers", ["value", "n", "circuits"]].tolist() == [pytest.approx(0.65), 2, 4]


def test_pooling_says_that_no_planting_took():
    rows = pooled(recovery([0.0, 0.0]), seed=0)
    assert rows[["ranking", "reach", "n", "circuits"]].to_numpy().tolist() == [["causal", "direct", 0, 0]]
    assert rows["value"].isna().all()


def test_transplanting_heads_moves_their_weights_alone():
    tiny_qwen2 = make_tiny_model("qwen2")
    model, donor = copy.deepcopy(tiny_qwen2), copy.deepcopy(tiny_qwen2)
    with torch.no_grad():
        for parameter in donor.parameters():
            parameter += 1.0
    transplant_heads(model, donor, [[1, 4]])
    width = model.config.hidden_size // model.config.num_attention_heads
    own = slice(4 * width, 5 * width)
    attention, other, before = (m.model.layers[1].self_attn for m in (model, donor, tiny_qwen2))
    for part, place in (("q_proj.weight", own), ("q_proj.bias", own), ("o_proj.weight", (slice(None), own))):
        found, given, old = (a.get_parameter(part) for a in (attention, other, before))
        assert torch.equal(found[place], given[place])
        changed = (found != old).sum()
        assert changed == given[place].numel()
    untouched = {name: value for name, value in model.state_dict().items() if "layers.1.self_attn" not in name}
    assert all(torch.equal(value, tiny_qwen2.state_dict()[name]) for name, value in untouched.items())
