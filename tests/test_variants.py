"""Names of variants read back, and a configuration asks for the variants it says."""

import pytest
from test_config import check_all, load

from refusal_cliff import plan, sheets
from refusal_cliff.errors import UserError
from refusal_cliff.organisms import families
from refusal_cliff.variant_pairs import references
from refusal_cliff.variants import EVERYWHERE, ON_HEADS, Variant

NAMES = {
    "base": Variant("base"),
    "ablate-causal-0.03": Variant("ablate", ranking="causal", fraction=0.03),
    "ablate-causal_boundary-1": Variant("ablate", ranking="causal_boundary", fraction=1.0),
    "ablate-random12-1e-05": Variant("ablate", ranking="random12", fraction=0.00001),
    "scale-causal-0.03-2": Variant("scale", ranking="causal", fraction=0.03, scale=2.0),
    "keep-0": Variant("keep", kept=0.0),
    "steer-rotated1-0.5": Variant("steer", direction="rotated1", scale=0.5),
    "both-causal-0.03-cliff-15-s1": Variant(
        "both", ranking="causal", fraction=0.03, selector="cliff", budget=15.0, seed=1
    ),
    "tune-cliff-0.017-s7": Variant("tune", selector="cliff", budget=0.017, seed=7),
    "tune-cliff_mean-15-s0": Variant("tune", selector="cliff_mean", budget=15.0, seed=0),
    "tune-star1-100-s0": Variant("tune", selector="star1", budget=100.0, seed=0),
    "early-cliff-15-20-s7": Variant("early", selector="cliff", budget=15.0, steps=20, seed=7),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_its_variant_and_the_other_way_round(name):
    assert Variant.parse(name) == NAMES[name]
    assert str(NAMES[name]) == name


@pytest.mark.parametrize(
    "name", ["", "ablate-causal", "ablate-causal-0.03-2", "keep-", "tune-cliff-0.017", "early-cliff-5-s0", "Base"]
)
def test_what_names_no_variant_is_refused(name):
    with pytest.raises(UserError, match="names no variant"):
        Variant.parse(name)


def test_draws_of_a_control_and_seeds_of_a_tuning_share_a_pool():
    assert str(Variant.parse("ablate-random12-0.03").pool) == "ablate-random-0.03"
    assert Variant.parse("tune-cliff-0.017-s7").pool == Variant.parse("tune-cliff-0.017-s0").pool
    assert str(Variant.parse("tune-cliff-0.017-s7").pool) == "tune-cliff-0.017"
    assert str(Variant.parse("early-cliff-15-20-s7").pool) == "early-cliff-15-20"
    assert Variant.parse("ablate-causal_boundary-0.03").pool == Variant.parse("ablate-causal_boundary-0.03")


def expanded(config):
    models, *_ = check_all(config)
    return families.expand(models, config["organisms"])


def test_every_planned_variant_reads_back():
    config = load(
        ablation={"rankings": {"causal": [0.00001, 0.03, 1]}},
        selection={"selectors": {"cliff": [0.017, 1]}, "seeds": [0, 7]},
        tuning={"early": [10, 20]},
        as_released=True,
        repairs={"steer": [0.5], "eliminate": ["causal"], "both": ["cliff"]},
    )
    names = plan.variants(config, expanded(config), "cliff-s0")
    assert len(set(names)) == len(names)
    assert {"ablate-causal-0.03", "ablate-causal-1", "ablate-random1-0.03", "tune-cliff-0.017-s7"} <= set(names)
    assert {"released-causal-0.03", "boundary-causal-0.03", "scale-causal-0.03-2", "keep-0.5"} <= set(names)
    assert {"steer-refusal-0.5", "steer-rotated1-0.5", "minimal-causal-0.1", "first-causal-0.1"} <= set(names)
    assert {"both-causal-0.03-cliff-0.017-s0", "both-causal-0.03-cliff-1-s7"} <= set(names)
    assert names[0] == "base"
    assert {"tune-whole-1-s0", "tune-whole-1-s7", "early-whole-1-20-s7", "early-cliff-0.017-10-s0"} <= set(names)
    assert [str(Variant.parse(name)) for name in names] == names
    assert {Variant.parse(name).kind for name in names} == {*EVERYWHERE, *ON_HEADS, "keep"}


def test_ready_made_sets_are_tuned_on_and_compared_with_cliff():
    config = load(selection={"ready": {"star1": [100]}, "seeds": [0, 7]}, tuning={"early": [10]})
    sheets.validate(config)
    assert {"tune-star1-100-s0", "tune-star1-100-s7"} <= set(plan.tuning_variants(config))
    assert "early-star1-100-10-s7" in plan.early_variants(config)
    pool = Variant.parse("tune-star1-100-s0").pool
    assert [str(other) for other in references(pool)] == ["base", "tune-cliff-100"]


def test_only_models_marked_so_are_ablated_and_tuned():
    config = load()
    models = expanded(config)
    ablations, tunings = plan.ablation_variants(config, models, "cliff-s0"), plan.tuning_variants(config)
    assert plan.variants(config, models, "cliff-s0") == ["base", *ablations, *tunings]
    zeroed = [name for name in ablations if name.startswith("ablate-")]
    assert plan.variants(config, models, "diffuse-s0") == ["base", *zeroed]
    assert plan.variants(config, models, "aligned") == ["base"]


def test_interventions_and_further_seeds_follow_the_operating_ranking():
    config = load(
        heads={"targets": ["probe", "openers"], "operating": "openers_gradient"},
        ablation={"rankings": {"openers_gradient": [0.03]}},
    )
    models = expanded(config)
    assert {"mean-openers_gradient-0.03", "boundary-openers_gradient-0.03"} <= set(
        plan.variants(config, models, "cliff-s0")
    )
    assert "ablate-openers_gradient-0.03" in plan.variants(config, models, "cliff-s1")
    assert "ablate-causal-0.03" not in plan.variants(config, models, "cliff-s1")


def test_further_seeds_have_what_the_excess_over_random_heads_needs():
    config = load()
    lean = plan.variants(config, expanded(config), "cliff-s1")
    assert set(lean) == {"base", "ablate-causal-0.03", "ablate-random0-0.03", "ablate-random1-0.03"}


def test_further_seeds_are_ablated_by_the_operating_measure_of_every_target():
    both = {"causal": [0.03, 0.1], "openers_causal": [0.01, 0.03], "openers_gradient": [0.03], "random": [0.03]}
    config = load(heads={"targets": ["probe", "openers"]}, ablation={"rankings": both, "random_draws": 1})
    lean = plan.variants(config, expanded(config), "cliff-s1")
    assert set(lean) == {"base", "ablate-causal-0.03", "ablate-openers_causal-0.03", "ablate-random0-0.03"}
