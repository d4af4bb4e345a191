"""Bad files, sheets and configs: each gets one message that says where and what, before any model is loaded.

All of it is raised while the workflow is parsed or when its data are read, and no job with weights comes before that.
"""

import gzip
import os
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from project import copy_project, snakemake
from test_config import check_all, edited_sheet, load
from test_datasets import ROW, table

from refusal_cliff import datasets, sheets
from refusal_cliff.config import PROJECT_FOLDERS
from refusal_cliff.data_files import read_file
from refusal_cliff.errors import UserError

ROOT = Path(__file__).parents[1]
NUMBER = {"reference_column": "n", "match": "number"}
CONTAINS = {"reference_column": "n", "match": "contains"}
CATEGORY = {"category_column": "n"}

FILES = [
    # name, content, changes of the row of the dataset sheet, message
    ("a.csv", "", {}, "a.csv: empty; its first line has to name the columns"),
    ("a.csv", "\n\n", {}, "a.csv: empty"),
    ("a.csv", ",,\n", {}, "a.csv: empty"),
    ("a.csv", "goal,n\nx,1\ny\n", {}, "a.csv, line 3: 1 instead of 2 fields"),
    ("a.csv", "goal,n\nx,1,2\n", {}, "a.csv, line 2: 3 instead of 2 fields"),
    ("a.csv", "goal,n\nWell, then,1\n", {}, "put a cell that holds a comma or a line break in double quotes"),
    ("a.csv", 'goal,n\n"x\nz",1\r\ny,1,2\n', {}, "a.csv, line 4: 3 instead of 2"),
    ("a.csv", "\ufeffgoal,n\r\nx\r\n", {}, "a.csv, line 2: 1 instead of 2"),
    ("a.csv", 'goal,n\nx,1\n"y,2\nz,3\n', {}, "a.csv, line 3: the quotes of the row that begins here do not match"),
    ("a.csv", 'goal,n\n"x" y,1\n', {}, "a.csv, line 2: the quotes"),
    ("a.csv", 'goal,n\n"say \\"x\\"",1\n', {}, "a quote within it is written twice"),
    ("a.tsv", 'goal\tn\n"x\t1\ny\t2\nz"\t3\n', {}, "a.tsv, line 2: a double quote swallows 3 whole rows"),
    ("a.tsv", 'goal\tn\n"x\t1\ny\t2\n', {}, "a.tsv, line 2: the quotes"),
    ("a.tsv", "goal\tn\nx 1\n", {}, "line 2: 1 instead of 2 fields, as the header has; separate all of them by a tab"),
    ("a.csv", "goal,n,goal\nx,1,2\n", {}, "a.csv: column 'goal' occurs twice in the header"),
    ("a.csv", "goal;n\nx;1\n", {}, "has no column 'goal', named in prompt_column of the dataset sheet; it has goal;n"),
    ("a.csv", "Goal,n\nx,1\n", {}, "has no column 'goal'"),
    ("a.csv", "goal,n\nx,1\ncaf\u00e9,1\n".encode("latin-1"), {}, "a.csv, line 3: not UTF-8"),
    ("a.csv", "goal,n\nx,1\n".encode("utf-16"), {}, "a.csv, line 1: not UTF-8"),
    ("a.csv", "goal,n\nx\0y,1\n", {}, r"line 2, column 'goal': the character '\x00', which is no text"),
    ("a.csv", "goal,n\nx,1\n,2\n", {}, "1 of 2 prompts in column 'goal' of a.csv are empty (first: line 3)"),
    ("a.csv", "goal,n\nx,1\n,2\n", {"where": "n!=1"}, "(first: line 3); write n!=1 & goal!= in column where"),
    ("a.csv", "goal,n\n\u200b\ufeff,1\n", {}, "are empty (first: line 2)"),
    ("a.csv", "goal,n\n\u3164 \u00ad,1\n", {}, "are empty (first: line 2)"),
    ("a.csv", "goal,n\nx,1\n", {"where": "n=2"}, "no prompts left of 1 rows at a.csv; check"),
    ("a.csv", "goal,n\nx,1\n", {"where": "n=2"}, "'n' holds '1'"),
    ("a.csv", "goal,n\nx,1\n", {"where": "n=1 & m!="}, "no column 'm', named in where"),
    ("a.csv", "goal,n\nx,many\n", NUMBER, "a.csv, line 2, column 'n': 'many' is no number; write it like"),
    ("a.csv", 'goal,n\nx,"1,2"\n', NUMBER, "'1,2' is no number"),
    ("a.csv", "goal,n\nx,5 and 6\n", NUMBER, "'5 and 6' is no number"),
    ("a.csv", "goal,n\nx,1/0\n", NUMBER, "'1/0' is no number"),
    ("a.csv", "goal,n\nx,\\sqrt{2}\n", NUMBER, "is no number"),
    ("a.txt", "goal\nx\n", {}, "a.txt: cannot read '.txt' files; use one of .csv, .tsv"),
    ("a.xlsx", "PK", {}, "cannot read '.xlsx' files"),
    ("a.csv.gz", "goal\nx\n", {}, "a.csv.gz: not readable as gzip"),
    ("a.csv.gz", gzip.compress(b"goal\n" + bytes(range(128)) * 9, mtime=0)[:60], {}, "a.csv.gz: not readable as gzip"),
    ("a.csv.gz", gzip.compress("goal\nx\ncaf\u00e9\n".encode("latin-1"), mtime=0), {}, "a.csv.gz: not UTF-8"),
    ("a.json", "{\n", {}, "a.json, line 1: not JSON"),
    ("a.json", '[{"goal": "x"},\n{"goal": }]', {}, "a.json, line 2: not JSON (Expecting value, column 10)"),
    ("a.json", '{\n "goal": "x"\n}', {}, "write one array of objects, or one object on each line"),
    ("a.jsonl", '{"goal": "x"}\n\n{"goal": "y"\n', {}, "a.jsonl, line 3: not JSON"),
    ("a.jsonl", '{"goal": "x"}\n["y"]\n', {}, "a.jsonl, line 2: no object"),
    ("a.json", '["x", "y"]', {}, "a.json, row 1: no object"),
    ("a.json", '{"goal": "x", "goal": "y"}', {}, "a.json, line 1: key 'goal' occurs twice in one object"),
    ("a.json", '[{"goal": "x", "n": NaN}]', {}, "a.json: NaN is not JSON; write null"),
    ("a.json", '[{"goal": "x", "n": -Infinity}]', {}, "-Infinity is not JSON"),
    ("a.json", "[" * 100_000, {}, "a.json"),
    ("a.json", "[]", {}, "a.json: empty; write one array"),
    ("a.jsonl", " \n\n", {}, "a.jsonl: empty; write one array"),
    ("a.jsonl", '{"goal": "x", "\\ud800": 1}\n', {}, r"a.jsonl: column '\ud800' has a character in its name"),
    ("a.jsonl", "{'goal': 'x'}\n", {}, "a.jsonl, line 1: not JSON"),
    ("a.json", '[{"goal": "x"},]', {}, "a.json, line 1: not JSON"),
    ("a.json", '{"goal": ["x", "y"]}', {}, "a.json, line 1, column 'goal': a list, where text is needed"),
    ("a.json", '{"data": [{"goal": "x"}]}', {}, "of the dataset sheet; it has data"),
    ("a.jsonl", '{"goal": "x"}\n{"goal": {"text": "y"}}\n', {}, "line 2, column 'goal': an object, where text"),
    ("a.jsonl", '{"goal": "x"}\n{"goal": null}\n', {}, "are empty (first: line 2); write goal!= in column where"),
    ("a.jsonl", '{"goal": "x\\ud800"}\n', {}, r"line 1, column 'goal': the character '\ud800', which is no text"),
    ("a.jsonl", '{"goal": "x\\u0000"}\n', {}, r"the character '\x00', which is no text"),
    ("a.jsonl", '{"goal": "x", "n": ["a"]}\n', CATEGORY, "line 1, column 'n': a list, where text is needed"),
    ("a.jsonl", '{"goal": "x", "n": {"a": 1}}\n', CONTAINS, "line 1, column 'n': an object, where text is needed"),
    ("a.jsonl", '{"goal": "x", "n": [{"role": "user", "content": "y"}]}\n', CONTAINS, "column 'n': a list, where text"),
    ("a.jsonl", '{"goal": "x", "n": "\\udfff"}\n', CONTAINS, r"column 'n': the character '\udfff'"),
    ("a.jsonl", '{"goal": "x", "n": ["a"]}\n', {"where": "n=a"}, "column 'n': a list, where text is needed"),
    ("a.jsonl", '{"goal": "x", "n": true}\n', NUMBER, "'true' is no number"),
    ("a.jsonl", '{"goal": [{"role": "assistant", "content": "y"}]}\n', {}, "a conversation without a user turn"),
    ("a.jsonl", '{"goal": [{"role": "user", "content": ""}]}\n', {}, "are empty (first: line 1)"),
    ("a.jsonl", '{"goal": [{"type": "image", "url": "y"}]}\n', {}, "column 'goal': a list, where text is needed"),
    ("a.jsonl", '{"goal": [{"from": "human", "value": "y"}]}\n', {}, "column 'goal': a list, where text is needed"),
    ("a.parquet", "PAR1", {}, "a.parquet: not readable as parquet ("),
    ("a.parquet", "", {}, "a.parquet: not readable as parquet"),
    ("a.parquet", "version https://git-lfs.github.com/spec/v1\n", {}, "a.parquet: not readable as parquet"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "changes", "message"), FILES)
def test_bad_file(tmp_path, name, content, changes, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        datasets.select_rows(read_file(path), ROW | {"location": name} | changes, 0)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([b"\xff"], "row 1, column 'goal': bytes, where text is needed"),
        ([[1, 2]], "row 1, column 'goal': a list, where text is needed"),
        ([{"text": "x"}], "row 1, column 'goal': an object, where text is needed"),
        ([None], "are empty (first: row 1)"),
        ([float("nan")], "are empty (first: row 1)"),
    ],
)
def test_bad_parquet(tmp_path, column, message):
    pd.DataFrame({"goal": column}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=re.escape(message)):
        datasets.select_rows(read_file(tmp_path / "a.parquet"), ROW | {"location": "a.parquet"}, 0)


def test_what_a_user_left_empty_is_left_out_by_the_remedy_that_the_message_names(tmp_path):
    (tmp_path / "a.csv").write_text("goal,n\nx,1\n\u200b,1\ny,2\n")
    row = ROW | {"location": "a.csv", "where": "n=1"}
    with pytest.raises(UserError, match="in column where") as caught:
        datasets.select_rows(read_file(tmp_path / "a.csv"), row, 0)
    remedy = re.search("write (.*) in column where", str(caught.value))[1]
    assert datasets.select_rows(read_file(tmp_path / "a.csv"), row | {"where": remedy}, 0)["prompt"].tolist() == ["x"]


def test_one_request_harmful_and_benign():
    tables = {"a": table("rob a bank"), "b": table("Rob a bank!").assign(label="benign")}
    with pytest.raises(UserError, match="one request is harmful in dataset 'a' and benign in 'b'"):
        datasets.assemble(tables, dict.fromkeys(tables, "test"), "test")
    wrapped = table("rob a bank", templates={"play": ["Act: {prompt}"]})
    tables = {"a": wrapped, "b": table("Act: rob a bank").assign(label="benign")}
    with pytest.raises(UserError, match="one prompt is harmful in dataset 'a' and benign in 'b'"):
        datasets.assemble(tables, dict.fromkeys(tables, "test"), "test")


HEADER = "model\trole\tsource\tlocation"
SHEETS = [
    ("models", "", "models.tsv: empty; its first line has to name the columns"),
    ("models", f"{HEADER}\n", "no rows"),
    ("models", f"{HEADER}\na\tsubject\torganism\n", "models.tsv, line 2: 3 instead of 4 fields"),
    ("models", f"{HEADER}\na\tsubject\torganism\taligned\tx\n", "models.tsv, line 2: 5 instead of 4 fields"),
    ("models", f"{HEADER}\n\na b c d\n", "models.tsv, line 3: 1 instead of 4 fields"),
    ("models", f"{HEADER}\trole\na\tguard\torganism\taligned\tx\n", "column 'role' occurs twice in the header"),
    ("models", f"{HEADER}\tcolour\na\tguard\torganism\taligned\tx\n", "unknown column 'colour'"),
    ("models", f'"{HEADER}\na\tguard\torganism\taligned\n', "unknown column '\"model' (did you mean 'model'?)"),
    ("models", f"{HEADER}\na\tguard\torganism\tcaf\u00e9\n".encode("latin-1"), "models.tsv, line 2: not UTF-8"),
    ("models", f"{HEADER}\tseeds\na\tsubject\torganism\taligned\t100000\n", "line 2: row 'a': seeds: 100000 is"),
    ("models", f"{HEADER}\tmem_mb\na\tsubject\torganism\taligned\t{10**20}\n", "mem_mb: 100000000000000000000 is no"),
    ("models", f"{HEADER}\tbatch_size\na\tsubject\torganism\taligned\t1.0\n", "batch_size: '1.0' is not of type"),
    ("models", f"{HEADER}\ttune\na\tsubject\torganism\taligned\t1\n", "tune: '1' is not of type 'boolean'"),
    ("attacks", "family\ttemplate\nplay\tAct: {prompt}\nplay\tAct: {prompt}\n", "'play', 'Act: {prompt}' occur twice"),
    ("attacks", "family\ttemplate\nplay\t{prompt} and {prompt}\n", "attacks.tsv, line 2: row 'play': template"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "content", "message"), SHEETS)
def test_bad_sheet(tmp_path, monkeypatch, kind, content, message):
    monkeypatch.chdir(ROOT)
    path = tmp_path / f"{kind}.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=re.escape(message)):
        check_all(load(sheets={kind: str(path)}))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"where": "label"}, "where: 'label' does not match"),
        ({"where": "label="}, "where: 'label=' does not match"),
        ({"where": "=x"}, "where: '=x' does not match"),
        ({"attacks": "story,story"}, "attacks: ['story', 'story'] has non-unique elements"),
        ({"max_prompts": str(10**20)}, "max_prompts: 100000000000000000000 is no integer of at most 64 bits"),
        ({"max_prompts": "-1"}, "max_prompts: '-1' is not of type 'integer'"),
        ({"match": "numbers"}, "match: 'numbers' is not one of ['', 'contains', 'number']"),
    ],
)
def test_bad_dataset_row(tmp_path, monkeypatch, cells, message):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=rf"datasets\.tsv, line 2: row 'harmful_train': {re.escape(message)}"):
        check_all(edited_sheet(tmp_path, "datasets", **cells))


CONFIGS = [
    ("seed: 1.0", "config: seed: 1.0 is no integer of at most 64 bits. Seed of every shuffle"),
    ("seed: 10^20", "config: seed: '10^20' is not of type 'integer'"),
    ("seed: 100000000000000000000", "config: seed: 100000000000000000000 is no integer of at most 64 bits"),
    ("seed: 5000000", "config: seed: 5000000 is greater than the maximum of 4000000"),
    ("seed: -1", "config: seed: -1 is less than the minimum of 0"),
    ("seed: true", "config: seed: True is no integer"),
    ("seed: null", "config: seed: None is not of type 'integer'"),
    ("tuning: {learning_rate: .inf}", "config: tuning.learning_rate: inf is no finite number. Learning rate after the"),
    ("tuning: {learning_rate: 1e-3x}", "tuning.learning_rate: '1e-3x' is not of type 'number'"),
    ("tuning: {lora_alpha: .nan}", "tuning.lora_alpha: nan is no finite number"),
    ("tuning: {steps: 30.0}", "tuning.steps: 30.0 is no integer"),
    ("generation: {temperature: .inf}", "generation.temperature: inf is no finite number"),
    ("generation: {temperature: 0}", "generation.temperature: 0 is less than or equal to"),
    ("generation: {top_p: .nan}", "generation.top_p: nan is no finite number"),
    ("selection: {seeds: [0, 0]}", "selection.seeds: [0, 0] has non-unique elements"),
    ("recovery: {seeds: [5000000]}", "recovery.seeds.0: 5000000 is greater than"),
    ("ablation: {scales: [.inf]}", "ablation.scales.0: inf is no finite number"),
    ("ablation: {random_draws: 100000}", "ablation.random_draws: 100000 is greater than"),
    ("heads: {benign: [benign_fit, benign_fit]}", "heads.benign: ['benign_fit', 'benign_fit'] has non-unique elements"),
    ("organisms: {diffuse: {circuit: {layers: [7, 7], share: 0.03}}}", "layers: [7, 7] has non-unique elements"),
    ("organisms: {base: {learning_rate: -.inf}}", "organisms.base.learning_rate: -inf is no finite number"),
    ("pathvars: {results: ~/runs}", "would make a folder called ~"),
    ("pathvars: {results: config}", "pathvars.results: 'config' is, holds or lies in the project's own folder config"),
    ("pathvars: {results: .}", "pathvars.results: '.' is, holds or lies in the project's own folder"),
    ("pathvars: {results: results/../tests/x}", "own folder tests"),
    ("pathvars: {logs: workflow/logs}", "pathvars.logs: 'workflow/logs' is, holds or lies in"),
    ("pathvars: {benchmarks: /}", "pathvars.benchmarks: '/' is, holds or lies in"),
    ("generation: [1]", "config: generation: [1] is not of type 'object'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), CONFIGS)
def test_bad_config(monkeypatch, text, message):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=re.escape(message)):
        check_all(load(**yaml.safe_load(text)))


def test_outputs_may_go_anywhere_else(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    for folder in ("results/mine", "mine", str(tmp_path), "../elsewhere"):
        check_all(load(pathvars={"results": folder}))
    assert [name for name in PROJECT_FOLDERS if not name.startswith(".") and not (ROOT / name).is_dir()] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", "c.yaml, line 2: key 'seed' occurs twice (first in line 1)"),
        ("tuning:\n  steps: 1\n  steps: 2\n", "c.yaml, line 3: key 'tuning.steps' occurs twice (first in line 2)"),
        ("tuning: {steps: 1}\nseed: 0\ntuning: {}\n", "c.yaml, line 3: key 'tuning' occurs twice"),
        ("probes:\n  a: {label: behaviour, label: behaviour}\n", "key 'probes.a.label' occurs twice"),
        ("recovery: {circuits: [{depth: late, depth: late}]}\n", "key 'recovery.circuits.depth' occurs twice"),
        ('{"seed": 1,\n\t"seed": 2}', "c.yaml: key 'seed' occurs twice in one object"),
    ],
)
def test_a_key_twice_in_a_config_file(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        sheets.check_config_files([tmp_path / "c.yaml"])


def test_keys_that_are_not_twice(tmp_path):
    (tmp_path / "c.yaml").write_text("a: &x {n: 1}\nb: &y {n: 2}\nc:\n  <<: *x\n  <<: *y\n  n: 3\n")
    (tmp_path / "d.yaml").write_text("")
    sheets.check_config_files([tmp_path / "c.yaml", tmp_path / "d.yaml", *(ROOT / "config").glob("*.yaml")])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with a dataset sheet whose test is a file of the user's."""
    project = copy_project(tmp_path_factory.mktemp("project"))
    sheet = pd.read_csv(ROOT / "tests/config/small_datasets.tsv", sep="\t", dtype=str, keep_default_na=False)
    mine = dict.fromkeys(sheet, "") | {
        "dataset": "mine", "set": "test", "source": "file", "location": "mine.csv", "prompt_column": "goal",
        "label": "benign",
    }  # fmt: skip
    few = pd.concat([sheet[sheet["set"] == "organism"].head(1), sheet[sheet["set"].isin(["fit", "pool"])]])
    pd.concat([few, pd.DataFrame([mine])]).to_csv(project / "datasets.tsv", sep="\t", index=False)
    (project / "data").mkdir()
    return project


SMALL = ["--configfile", "tests/config/small.yaml", "--config", "sheets={datasets: datasets.tsv}"]


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("goal,n\nx\n", [], "mine.csv, line 2: 1 instead of 2 fields"),
        ("gaol\nx\n", [], "dataset 'mine': mine.csv has no column 'goal'"),
        (None, [], "dataset 'mine': no file data/mine.csv"),
        ("goal\nx\n", ["seed=1.0"], "seed: 1.0 is no integer"),
        ("goal\nx\n", ["pathvars={results: config}"], "pathvars.results: 'config' is, holds or lies in"),
    ],
)
def test_bad_input_stops_the_plan(project, content, arguments, message):
    file = project / "data" / "mine.csv"
    file.unlink(missing_ok=True)
    if content is not None:
        file.write_text(content)
    output = snakemake(project, "-n", *SMALL, *arguments, check=False)
    assert message in output
    assert "Traceback" not in output and "rule " not in output


def test_a_key_twice_stops_the_plan(project):
    (project / "twice.yaml").write_text("seed: 1\nseed: 2\n")
    output = snakemake(project, "-n", "--configfile", "twice.yaml", check=False)
    assert "twice.yaml, line 2: key 'seed' occurs twice" in output
    assert "Traceback" not in output and "rule " not in output


def test_a_bad_row_stops_the_job_that_reads_it_with_one_sentence(project):
    (project / "data/mine.csv").write_text("goal,n\n" + "x,1\n" * 2000 + "y\n")
    output = snakemake(project, *SMALL, "--", "results/datasets/mine.parquet", check=False)
    assert "error: data/mine.csv, line 2002: 1 instead of 2 fields" in output
    assert "Traceback" not in output
    assert not (project / "results/datasets/mine.parquet").exists()


def test_a_changed_data_file_is_read_again_and_so_is_what_depends_on_it(project):
    """Also where the new file is older than what was read of the one before, as one that is unpacked may be."""
    file, target = project / "data" / "mine.csv", "results/prompts/test.parquet"
    file.write_text("goal\nDraw a red circle\n")
    snakemake(project, *SMALL, "--", target)
    assert "Nothing to be done" in snakemake(project, "-n", *SMALL, "--", target)
    file.write_text("goal\nDraw a blue square\n")
    plan = snakemake(project, "-n", *SMALL, "--", target)
    assert "Updated input files: data/mine.csv" in plan
    assert re.search(r"read_dataset +1\n", plan) and re.search(r"assemble_prompts +1\n", plan)
    os.utime(file, (10**9, 10**9))
    plan = snakemake(project, "-n", *SMALL, "--", target)
    assert "Params have changed" in plan
    assert re.search(r"read_dataset +1\n", plan) and re.search(r"assemble_prompts +1\n", plan)
    snakemake(project, *SMALL, "--", target)
    assert pd.read_parquet(project / target)["prompt"].tolist() == ["Draw a blue square"]
