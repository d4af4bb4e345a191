"""Prompts: reading, choosing, wrapping, and prompt sets that share nothing."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import BENCHMARKS, needs_benchmarks

from refusal_cliff import datasets, sheets
from refusal_cliff.data_files import read_file
from refusal_cliff.errors import UserError
from refusal_cliff.organisms.language import grammar_prompts

ROOT = Path(__file__).parents[1]
ROW = {
    "dataset": "mine",
    "source": "file",
    "location": "mine.csv",
    "revision": "main",
    "subset": "",
    "hub_split": "train",
    "prompt_column": "goal",
    "category_column": "",
    "reference_column": "",
    "thinking_column": "",
    "response_column": "",
    "match": "",
    "where": "",
    "label": "harmful",
    "part": "0-1",
    "max_prompts": 0,
    "url": "https://example.org/mine",
}
FAMILIES = {"roleplay": ["Play: {prompt}", "Act: {prompt}"], "story": ["{prompt} As a tale."]}


def raw(n=100):
    return pd.DataFrame({"goal": [f"request {i}" for i in range(n)], "kind": ["a", "b"] * (n // 2)})


def table(*prompts, templates=None):
    rows = pd.DataFrame({"goal": prompts})
    return datasets.wrap(datasets.select_rows(rows, ROW, 0), templates or {})


def ready(rows, **cells):
    row = ROW | {"thinking_column": "thought", "response_column": "said", "markers": ["</think>", "<think>"]} | cells
    return datasets.select_rows(pd.DataFrame(rows, columns=["goal", "thought", "said"]), row, 0)


def test_a_ready_made_set_has_a_thinking_and_a_response_of_its_own():
    own = ready([("one", " It harms.\n", "No."), ("two", "So does it.", "Sorry, no.")]).set_index("prompt")
    assert own["thinking"].to_dict() == {"one": "It harms.", "two": "So does it."}
    assert own["response"].to_dict() == {"one": "No.", "two": "Sorry, no."}
    assert not {"thinking", "response"} & set(datasets.select_rows(raw(), ROW, 0))


@pytest.mark.parametrize(
    ("thought", "said", "cells", "message"),
    [
        ("", "No.", {}, r"'mine': mine\.csv, row 0, column 'thought': the thinking is empty \(1 of 1 rows"),
        ("Hm.", None, {}, r"mine\.csv, row 0, column 'said': the response is empty.*leave the row out by where"),
        ("Hm.", "<think>Hm.</think>No.", {}, r"column 'said': the response has '</think>' in it.*a column each"),
        ("Hm.", "No.", {"thinking_column": "cot"}, r"'mine': mine\.csv has no column 'cot', named in thinking_column"),
    ],
)
def test_a_ready_made_example_that_cannot_be_taught_is_named(thought, said, cells, message):
    with pytest.raises(UserError, match=message):
        ready([("one", thought, said)], **cells)


def test_no_example_of_a_ready_made_set_is_a_test_prompt():
    tables = {
        "test": table("Stay  out of it."),
        "star": datasets.wrap(ready([("stay out of it", "Hm.", "No."), ("new", "Ah.", "Never.")]), {}),
    }
    kept, dropped = datasets.assemble(tables, {"test": "test", "star": "ready"}, "ready")
    assert kept[["prompt", "thinking", "response"]].values.tolist() == [["new", "Ah.", "Never."]]
    assert dropped["kept_in"].tolist() == ["test"]


def test_transcripts_of_one_prompt_are_all_read_whoever_wrote_them():
    tables = {
        "fit": table("Learnt."),
        "one": datasets.wrap(ready([("task", "A", "1"), ("Task.", "B", "2"), ("learnt", "C", "3")]), {}),
        "two": datasets.wrap(ready([("task", "D", "4")]), {}),
    }
    sets = {"fit": "fit", "one": "recorded", "two": "recorded"}
    prompts, dropped = datasets.assemble(tables, sets, "recorded")
    assert prompts["dataset"].tolist() == ["one"] and set(prompts) == set(datasets.PROMPT_COLUMNS)
    assert dropped["kept_in"].tolist() == ["fit", "one", "one"]
    own, other = (datasets.recorded_traces([tables[name]], prompts) for name in ("one", "two"))
    assert sorted(own["thinking"] + own["response"]) == ["A1", "B2"] and own["sample"].tolist() == [0, 1]
    assert other[["prompt_id", "sample", "response"]].values.tolist() == [[prompts["prompt_id"][0], 0, "4"]]
    tables["two"] = tables["one"].iloc[:0].copy()
    with pytest.raises(UserError, match=r"dataset 'two' \(set recorded\) is empty"):
        datasets.assemble(tables, sets, "recorded")


def test_parts_are_disjoint_and_complete():
    parts = [datasets.select_rows(raw(), ROW | {"part": part}, 3) for part in ("0-0.33", "0.33-0.5", "0.5-1")]
    prompts = [prompt for part in parts for prompt in part["prompt"]]
    assert sorted(prompts) == sorted(raw()["goal"])
    assert parts[0]["prompt"].tolist() != raw()["goal"].head(len(parts[0])).tolist()  # shuffled


def test_parts_of_the_grammar_share_no_harmful_task():
    everything = grammar_prompts("harmful")
    row = ROW | {"source": "grammar", "location": "harmful", "prompt_column": "prompt"}
    task_of = everything.set_index("prompt")["task"]
    trained, tested = (
        datasets.select_rows(everything, row | part, 0)["prompt"].map(task_of)
        for part in ({"part": "0-0.8"}, {"part": "0.8-1", "max_prompts": 36})
    )
    assert trained.nunique() == 240 and len(trained) == 2400  # every wording of four tasks in five
    assert tested.nunique() == len(tested) == 36  # no task twice before all have had their turn
    assert not set(trained) & set(tested)


def test_parts_stay_disjoint_under_where():
    chosen = [
        set(datasets.select_rows(raw(), ROW | {"part": part, "where": where}, 0)["prompt"])
        for part, where in (("0-0.5", "kind=a"), ("0.5-1", ""))
    ]
    assert chosen[0] and not chosen[0] & chosen[1]


def test_max_prompts_and_missing_columns_stay_missing():
    chosen = datasets.select_rows(raw(), ROW | {"max_prompts": 7, "category_column": "kind"}, 0)
    assert len(chosen) == 7 and set(chosen["category"]) <= {"a", "b"}
    assert chosen[["reference", "match"]].isna().all(axis=None)


def test_number_reference_is_the_final_number():
    answers = ["3 * 6 = 18\n#### 1,018", r"\frac{1}{2}", "$42", "42 dollars", None]
    rows = pd.DataFrame({"goal": list("vwxyz"), "answer": answers})
    chosen = datasets.select_rows(rows, ROW | {"reference_column": "answer", "match": "number"}, 0)
    wanted = {"v": "1018", "w": "1/2", "x": "42", "y": "42"}
    assert chosen.dropna(subset="reference").set_index("prompt")["reference"].to_dict() == wanted


def test_a_reference_of_spaces_alone_is_none_and_others_are_trimmed():
    rows = pd.DataFrame({"goal": ["x", "y"], "answer": [" \u200b", " Paris "]})
    chosen = datasets.select_rows(rows, ROW | {"reference_column": "answer", "match": "contains"}, 0)
    assert chosen.dropna(subset="reference").set_index("prompt")["reference"].to_dict() == {"y": "Paris"}


def test_integers_beside_a_null_stay_integers_up_to_the_reference(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"goal": "x", "n": 18}\n{"goal": "y", "n": null}\n{"goal": "z", "n": true}\n')
    row = ROW | {"reference_column": "n", "match": "contains"}
    chosen = datasets.select_rows(read_file(tmp_path / "a.jsonl"), row, 0).set_index("prompt")["reference"]
    assert (chosen["x"], chosen["z"]) == ("18", "true") and pd.isna(chosen["y"])


def test_the_prompt_of_a_conversation_is_its_first_user_turn():
    turns = [
        [{"role": "system", "content": "s"}, {"role": "user", "content": "one"}, {"role": "user", "content": "no"}],
        [{"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "text", "text": "wo"}]}],
        [{"type": "text", "text": "thr", "image": None}, {"type": "text", "text": "ee"}],
    ]
    rows = pd.DataFrame({"goal": turns})
    assert sorted(datasets.select_rows(rows, ROW, 0)["prompt"]) == ["one", "three", "two"]


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("goal!=", "a b c d"),
        ("kind=x", "a "),
        ("kind!=x", "b c d"),
        ("kind!=x & goal!=", "b c d"),
        ("kind=x & goal!=", "a"),
        ("kind=Arts & Crafts", "d"),
        ("kind=Arts & Crafts & goal!=a", "d"),
        ("kind=a=b", "c"),
    ],
)
def test_where_has_conditions(where, kept):
    rows = pd.DataFrame({"goal": ["a", "\u200b", "b", "c", "d"], "kind": ["x", "x", None, "a=b", "Arts & Crafts"]})
    row = ROW | {"where": where}
    if kept.endswith(" "):
        with pytest.raises(UserError, match=f"row 1\\); write {where} & goal!= in column where"):
            datasets.select_rows(rows, row, 0)
    else:
        assert sorted(datasets.select_rows(rows, row, 0)["prompt"]) == kept.split()


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (raw(), {"prompt_column": "gaol"}, "'mine': mine.csv has no column 'gaol', named in prompt_column.*goal, kind"),
        (raw(), {"where": "color=red"}, "no column 'color', named in where"),
        (raw(), {"where": "kind=c"}, "'mine': no prompts left of 100 rows"),
        (raw(0), {}, "'mine': no prompts left of 0 rows"),
        (pd.DataFrame({"goal": ["a", " "]}), {}, "'mine': 1 of 2 prompts in column 'goal'.*empty"),
        (pd.DataFrame({"goal": ["a", None]}), {}, "'mine': 1 of 2 prompts in column 'goal'.*empty"),
    ],
)
def test_bad_rows_name_the_dataset(rows, changes, message):
    with pytest.raises(UserError, match=message):
        datasets.select_rows(rows, ROW | changes, 0)


def test_wrap_deals_every_template_and_keeps_the_request():
    wrapped = datasets.wrap(datasets.select_rows(raw(), ROW, 0), FAMILIES)
    assert wrapped["family"].value_counts().to_dict() == {"roleplay": 50, "story": 50}
    assert wrapped["prompt"].str.startswith("Act: ").sum() == 25
    assert all(request in prompt for request, prompt in zip(wrapped["request"], wrapped["prompt"], strict=True))


def test_wrap_takes_requests_with_braces():
    assert (
        table("print {x} {prompt}", templates={"story": ["Tale: {prompt}"]})["prompt"].item()
        == "Tale: print {x} {prompt}"
    )


def test_plain_prompts_are_their_requests():
    plain = table("a request")
    assert plain["family"].item() == datasets.PLAIN and plain["prompt"].item() == plain["request"].item()


@pytest.mark.parametrize("text", ["How do I?", "  how DO\ni", "\u201cHow\u201d do I\u2026", "\uff28ow do I!"])
def test_normalise_ignores_form(text):
    assert datasets.normalise(text) == "how do i"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 3 - 4?", "What is 3 + 4?"),
        ("What is -5 + 3?", "What is 5 + 3?"),
        ("What is -5?", "What is 5?"),
        ("What is -$5?", "What is $5?"),
        ("What is .5 + 3?", "What is 5 + 3?"),
        ("Is x <5?", "Is x >5?"),
        ("What is 2 * (3 + 4)?", "What is 2 * 3 + 4?"),
        ("What is -(3 + 4)?", "What is (3 + 4)?"),
        ("Solve -x = 3", "Solve x = 3"),
        ("What is 5\u00b2?", "What is 52?"),
        ("What is 5! + 3?", "What is 5 + 3?"),
    ],
)
def test_normalise_keeps_meaning(one, other):
    assert datasets.normalise(one) != datasets.normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is -5 + 3?", "what is -5 + 3"),
        ("What is (5)?", "What is 5"),
        ("It was 2024!", "It was 2024"),
        ("Count to ...5.", "Count to 5"),
        ("- 5 eggs", "- 5 eggs!"),
        ("ages 5-10", "ages 5-10."),
        ("rob\u200b a bank", "rob a bank"),
    ],
)
def test_normalise_ignores_form_in_arithmetic_too(one, other):
    assert datasets.normalise(one) == datasets.normalise(other)


@pytest.mark.parametrize(
    ("prompt", "known"),
    [
        ("How do I bake a cake?", "a2a7c2321b1cf78a"),
        ("List 3 facts (in 2024), e.g. *one* - or two!", "ff3e92a9ed1bbfa6"),
    ],
)
def test_the_id_of_an_ordinary_prompt_does_not_change(prompt, known):
    assert datasets.prompt_id(prompt) == known


def assemble_all(tables, sets):
    """Every prompt set as its own job makes it: from its datasets and those of the sets before it."""
    found, dropped = {}, []
    for number, prompt_set in enumerate(datasets.SETS):
        given = {name: tables[name] for name in tables if sets[name] in datasets.SETS[: number + 1]}
        if prompt_set in sets.values():
            found[prompt_set], left_out = datasets.assemble(given, sets, prompt_set)
            dropped.append(left_out)
    return found, pd.concat(dropped, ignore_index=True)


def test_no_request_in_two_sets():
    tables = {
        "train": table("Rob a bank.", "swim"),
        "fit": table("bake a CAKE!", "fly a kite", "swim"),
        "test": table("rob a bank", "climb a tree", "bake a cake"),
    }
    sets, dropped = assemble_all(tables, {"train": "organism", "fit": "fit", "test": "test"})
    assert sets["organism"]["request"].tolist() == ["Rob a bank.", "swim"]  # what a model has seen is a fact
    assert set(sets["test"]["request"]) == {"climb a tree", "bake a cake"}
    assert sets["fit"]["request"].tolist() == ["fly a kite"]
    kept_in = [("test", "organism"), ("fit", "test"), ("fit", "organism")]
    assert sorted(zip(dropped["dataset"], dropped["kept_in"], strict=True)) == sorted(kept_in)
    assert set(dropped["reason"]) == {"in another prompt set"}


def test_a_set_does_not_depend_on_those_behind_it():
    tables = {"train": table("a", "b"), "test": table("c", "d")}
    sets = {"train": "organism", "test": "test"}
    alone, _ = datasets.assemble({"train": tables["train"]}, sets, "organism")
    pd.testing.assert_frame_equal(alone, assemble_all(tables | {"test": table("a", "x")}, sets)[0]["organism"])


def test_one_request_in_two_jailbreaks_is_two_prompts():
    plain, wrapped = table("rob a bank"), table("rob a bank", templates=FAMILIES)
    prompts, dropped = datasets.assemble(
        {"plain": plain, "wrapped": wrapped}, {"plain": "test", "wrapped": "test"}, "test"
    )
    assert len(prompts) == 2 and dropped.empty
    assert prompts["prompt_id"].is_unique
    assert list(prompts.columns) == list(datasets.PROMPT_COLUMNS)


def test_duplicates_within_a_set_are_kept_once():
    prompts, dropped = datasets.assemble({"a": table("x", "y"), "b": table("X.", "z")}, {"a": "fit", "b": "fit"}, "fit")
    assert len(prompts) == 3
    assert dropped[["dataset", "reason", "kept_in"]].values.tolist() == [["b", "twice in this prompt set", "a"]]


def test_one_request_with_two_labels_is_an_error():
    harmful, benign = table("x", "Rob a bank."), table("y", "rob a bank", templates=FAMILIES).assign(label="benign")
    with pytest.raises(UserError, match=r"harmful in dataset 'a' and benign in 'b': 'Rob a bank\.'; leave it out"):
        datasets.assemble({"a": harmful, "b": benign}, {"a": "fit", "b": "fit"}, "fit")
    # Between sets the earlier one keeps it, with its label.
    fit, dropped = datasets.assemble({"a": harmful, "b": benign}, {"a": "test", "b": "fit"}, "fit")
    assert fit["request"].tolist() == ["y"] and dropped["kept_in"].tolist() == ["test"]


def test_dataset_that_decontamination_empties():
    with pytest.raises(UserError, match=r"dataset 'b' \(set fit\) is empty"):
        datasets.assemble({"a": table("x"), "b": table("X")}, {"a": "test", "b": "fit"}, "fit")


def test_check_files_says_where_to_get_the_file(tmp_path):
    sheet = pd.DataFrame([ROW]).set_index("dataset")
    with pytest.raises(
        UserError, match=r"dataset 'mine': no file .*mine\.csv; download it from https://example\.org/mine"
    ):
        datasets.check_files(sheet, tmp_path)
    (tmp_path / "mine.csv").write_text("gaol\nx\n")
    with pytest.raises(UserError, match="no column 'goal', named in prompt_column"):
        datasets.check_files(sheet, tmp_path)
    (tmp_path / "mine.csv").write_text("goal\nx\n")
    datasets.check_files(sheet, tmp_path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in for the hub: a snapshot folder with two configurations, as `snapshot_download` leaves it."""
    folder = tmp_path / "0123abcd"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: one\n  data_files:\n  - split: harmful\n    path: data/one.csv\n---\n"
    )
    (folder / "data/one.csv").write_text("goal,n\nNone,1\nlast,\n")
    (folder / "data/two.tsv").write_text("goal\nsecond\n")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return folder


def test_download_reads_a_configuration_or_a_file(hub):
    read, commit = datasets.download(ROW | {"subset": "one", "hub_split": "harmful"})
    # The one reader: as in a local file, None is a word and 1 beside nothing no 1.0.
    pd.testing.assert_frame_equal(read, read_file(hub / "data/one.csv"))
    assert (read.to_dict("list"), commit) == ({"goal": ["None", "last"], "n": ["1", ""]}, "0123abcd")
    read, _ = datasets.download(ROW | {"subset": "data/two.tsv"})
    assert read["goal"].tolist() == ["second"]


def test_download_counts_rows_through_the_files_of_a_split(hub):
    (hub / "README.md").unlink()
    for path in (hub / "data").iterdir():
        path.unlink()
    for number, prompts in enumerate((["a", "b"], ["c"])):
        pd.DataFrame({"goal": prompts}).to_parquet(hub / f"data/train-0000{number}-of-00002.parquet")
    read, _ = datasets.download(ROW)
    assert (read["goal"].tolist(), read.index.tolist(), read.index.name) == (["a", "b", "c"], [1, 2, 3], "row")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset": "three"}, "'three' not found"),
        ({"subset": "one", "hub_split": "test"}, "no split 'test'; there are harmful"),
        ({"subset": "no.csv"}, "no such file"),
        ({"subset": "data/two.tsv"}, "two.tsv, line 3: 2 instead of 1"),
    ],
)
def test_download_of_an_unknown_part(hub, changes, message):
    (hub / "data/two.tsv").write_text("goal\nsecond\nthird\t1\n")
    with pytest.raises(UserError, match=rf"dataset 'mine': mine\.csv: check columns subset.*{message}"):
        datasets.download(ROW | changes)


def test_download_of_a_format_that_is_not_read(hub):
    (hub / "README.md").unlink()
    (hub / "data/one.csv").unlink()
    (hub / "data/two.tsv").unlink()
    (hub / "data/train.txt").write_text("x")
    with pytest.raises(UserError, match=r"train\.txt is in none of the formats"):
        datasets.download(ROW)


def test_download_without_network(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"dataset 'mine': nobody/nothing cannot be reached.*HF_HOME"):
        datasets.download(ROW | {"location": "nobody/nothing"})


def sheet_tables(name, data_dir, monkeypatch):
    """Every dataset of a shipped config, read, and its sheet."""
    import yaml

    from refusal_cliff.organisms.language import grammar_prompts

    monkeypatch.chdir(ROOT)
    config = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    config["sheets"] = {"attacks": "config/attacks.tsv", "models": "config/models.tsv"} | config["sheets"]
    _, sheet, attacks = sheets.load_sheets(config)
    datasets.check_files(sheet, data_dir)
    tables = {}
    for dataset in sheet.index:
        row = sheets.record(sheet, dataset)
        whole = (
            grammar_prompts(row["location"]) if row["source"] == "grammar" else read_file(data_dir / row["location"])
        )
        templates = {family: attacks.loc[[family], "template"].tolist() for family in row["attacks"]}
        tables[dataset] = datasets.wrap(datasets.select_rows(whole, row, 0), templates)
    return tables, sheet["set"].to_dict()


def assert_disjoint(sets):
    seen = set()
    for prompts in sets.values():
        texts = set(prompts["request"].map(datasets.normalise)) | set(prompts["prompt"].map(datasets.normalise))
        assert not seen & texts
        seen |= texts


def test_default_prompts(monkeypatch):
    tables, of = sheet_tables("config", ROOT, monkeypatch)
    sets, dropped = assemble_all(tables, of)
    assert dropped.empty
    assert_disjoint(sets)
    trained = set(sets["organism"]["family"]) | set(sets["pool"]["family"])
    unseen = sets["test"].query("dataset == 'jailbreak_unseen'")
    assert not set(unseen["family"]) & trained


@needs_benchmarks
def test_real_benchmarks(monkeypatch):
    """AdvBench and JailbreakBench share requests word for word: none of them may be on two sides."""
    tables, of = sheet_tables("benchmarks", BENCHMARKS, monkeypatch)
    sets, dropped = assemble_all(tables, of)
    assert_disjoint(sets)
    assert len(dropped) >= 11
    assert len(sets["test"].query("dataset == 'jailbreakbench'")) > 54  # of 60


@needs_benchmarks
def test_gsm8k_references_are_numbers():
    row = ROW | {"prompt_column": "question", "reference_column": "answer", "match": "number", "label": "benign"}
    chosen = datasets.select_rows(read_file(BENCHMARKS / "gsm8k/test.jsonl"), row, 0)
    assert len(chosen) == 1319 and chosen["reference"].str.fullmatch(r"-?\d+(\.\d+)?").all()
