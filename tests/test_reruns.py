"""Which rules a changed key or cell reruns: the table of docs/reliability.md, from Snakemake's own plans."""

import pytest
import reruns

from refusal_cliff.sheets import schema_of


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return reruns.effects(tmp_path_factory.mktemp("reruns"))


def test_the_page_shows_what_every_key_reruns(found):
    text = reruns.PAGE.read_text(encoding="utf-8")
    assert reruns.page(text, found) == text, "run: make reruns"


def test_every_column_and_key_is_there_or_told_why_not(found, tmp_path):
    columns = {f"{sheet}.{column}" for sheet in reruns.CELLS for column in schema_of(sheet)["properties"]}
    assert columns == {key for key in columns if key in found or key in reruns.KEPT}
    assert {key.partition(".")[0] for key in found} >= set(schema_of("config")["properties"]) - {"pathvars", "sheets"}
    assert not found.keys() & reruns.KEPT.keys()


@pytest.mark.parametrize("key", ["mem_mb", "gpus", "runtime_min"])
def test_what_a_model_needs_of_a_machine_reruns_nothing(found, key):
    assert found[f"models.{key}"] == (set(), set())


@pytest.mark.parametrize("key", ["licence", "url"])
def test_what_is_said_about_a_dataset_reruns_nothing(found, key):
    assert found[f"datasets.{key}"] == (set(), set())


@pytest.mark.parametrize("key", [f"claims.{column}" for column in reruns.CELLS["claims"]])
def test_a_claim_reruns_the_claims_alone(found, key):
    assert found[key] == ({"evaluate_claims"}, set())


@pytest.mark.parametrize("key", ["cliffs.probe", "claims.fraction", "claims.budget", "judges.harm"])
def test_what_tables_and_selections_go_by_measures_no_base_model_again(found, key):
    first, then = found[key]
    measured = {"train_organism", "train_probes", "measure_heads", "score_test_traces", "extract_activations"}
    assert not (first | then) & measured


def test_another_test_dataset_downloads_no_model_again(found):
    assert "download_dataset" in found["datasets.revision"][0]
    assert not any("download_model" in first | then for key, (first, then) in found.items() if key[:5] == "datas")


def test_a_changed_param_reruns_its_rule_and_what_reads_it():
    before = [
        reruns.Job("make", "1", (), ("a",)),
        reruns.Job("read", "", ("a",), ("b",)),
        reruns.Job("draw", "", ("b",), ("c",)),
        reruns.Job("other", "", (), ("d",)),
        reruns.Job("build_report", "1", ("c",), ("e",)),
    ]
    after = [before[0]._replace(params="2"), *before[1:]]
    assert reruns.consequences(before, after) == ({"make"}, {"read", "draw"})
    assert reruns.consequences(before, [*before, reruns.Job("new", "", ("d",), ("f",))]) == ({"new"}, set())
    assert reruns.consequences(before, list(reversed(before))) == (set(), set())
