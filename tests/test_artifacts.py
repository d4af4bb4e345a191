import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from project import small_disk

from refusal_cliff import artifacts
from refusal_cliff.architectures import check_model_folder
from refusal_cliff.artifacts import (
    open_dump,
    read_arrays,
    read_csv,
    read_json,
    read_table,
    settings_hash,
    whole_file,
    write_table,
    write_tensors,
)
from refusal_cliff.errors import UserError
from refusal_cliff.tables import write_csv


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder" / "table.csv"
    path.parent.mkdir()
    (path.parent / ".table.csv.draft.csv").write_text("left by a killed job, and longer")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as draft:
        draft.write_text("half")
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []
    with whole_file(path) as draft:
        draft.write_text("whole")
    assert [entry.name for entry in path.parent.iterdir()] == ["table.csv"]
    assert path.read_text() == "whole"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.parquet"
    write_table(pd.DataFrame({"a": [1]}), path, {})
    with pytest.raises(RuntimeError), whole_file(path):
        raise RuntimeError
    assert read_table(path)["a"].tolist() == [1]


def test_a_sidecar_tells_settings_versions_and_counts(tmp_path):
    write_table(pd.DataFrame({"a": [1, 2]}), tmp_path / "table.parquet", {"seed": 3})
    sidecar = json.loads((tmp_path / "table.json").read_text())
    assert sidecar["counts"] == {"rows": 2, "columns": ["a"]}
    assert sidecar["sha256"] == hashlib.sha256((tmp_path / "table.parquet").read_bytes()).hexdigest()
    assert sidecar["settings"] == {"seed": 3}
    assert sidecar["settings_hash"] == settings_hash({"seed": 3}) != settings_hash({"seed": 4})
    assert sidecar["versions"]["pandas"] == pd.__version__


def test_tensors_read_back(tmp_path):
    write_tensors({"w": torch.arange(6.0).reshape(2, 3).T}, tmp_path / "probe.safetensors", {})
    assert read_arrays(tmp_path / "probe.safetensors")["w"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_missing_column_is_named(tmp_path):
    write_table(pd.DataFrame({"a": [1]}), tmp_path / "table.parquet", {})
    with pytest.raises(UserError, match=r"table\.parquet: no column b"):
        read_table(tmp_path / "table.parquet", ("a", "b"))


DAMAGES = {
    "empty": lambda data: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "a pointer in its place": lambda data: b"version https://git-lfs.github.com/spec/v1\n",
    "one bit flipped": lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
    "something added": lambda data: data + b"0",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("table.parquet", read_table),
        ("probe.safetensors", read_arrays),
        ("probe.safetensors", lambda path: open_dump(path, "w", pd.DataFrame({"row": range(2)}))),
    ],
)
def test_a_damaged_file_is_named_with_the_command_that_rebuilds_it(tmp_path, name, read, damage):
    path = tmp_path / name
    if path.suffix == ".parquet":
        write_table(pd.DataFrame({"a": range(40)}), path, {})
    else:
        write_tensors({"w": torch.ones(2, 3)}, path, {})
    read(path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(UserError, match=rf"{name}: damaged or changed.*snakemake --cores 1 --force \S+{name}`"):
        read(path)


def test_a_table_that_lost_rows_or_columns_is_refused_with_what_it_had(tmp_path):
    path = tmp_path / "traces.parquet"
    table = pd.DataFrame({"a": range(40), "b": 1})
    write_table(table, path, {})
    for changed in (table.iloc[1:], table.drop(columns="b"), table.assign(a=0)):
        changed.to_parquet(path, index=False)
        with pytest.raises(UserError, match=r"says rows: 40, columns: \['a', 'b'\]"):
            read_table(path)


def test_a_table_beside_another_ones_sidecar_is_refused(tmp_path):
    write_table(pd.DataFrame({"a": [1]}), tmp_path / "one.parquet", {})
    write_table(pd.DataFrame({"a": [1]}), tmp_path / "two.parquet", {})
    sidecar = tmp_path / "one.json"
    sidecar.write_text((tmp_path / "two.json").read_text())
    with pytest.raises(UserError, match=r"one\.parquet: damaged or changed"):
        read_table(tmp_path / "one.parquet")
    sidecar.unlink()
    with pytest.raises(UserError, match=r"one\.json is missing.*--force"):
        read_table(tmp_path / "one.parquet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON"),
        ('{"artifact": ', "no JSON"),
        ("\0\0", "no JSON"),
        ("[]", "no keys"),
        ("{}", "lacks 'artifact'"),
        (None, "unknown key 'rows'"),
    ],
)
def test_a_damaged_sidecar_is_named(tmp_path, text, message):
    path, sidecar = tmp_path / "table.parquet", tmp_path / "table.json"
    write_table(pd.DataFrame({"a": [1]}), path, {})
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"rows": 1}) if text is None else text)
    with pytest.raises(UserError, match=rf"table\.json: .*{message}.*--force"):
        read_table(path)


def test_a_table_that_a_spreadsheet_saved_is_refused(tmp_path):
    csv, markdown = tmp_path / "rates.csv", tmp_path / "rates.md"
    write_csv(pd.DataFrame({"rate": ["asr", "utility"], "value": [0.012345678, 1]}), csv, markdown)
    assert read_csv(csv)["value"].tolist() == [0.0123457, 1]
    csv.write_text(csv.read_text().replace("0.0123457", "0.01"))
    with pytest.raises(UserError, match=r"rates\.csv: damaged or changed.*says rows: 2, columns: .*--force"):
        read_csv(csv)


def test_a_dump_with_another_number_of_rows_than_are_described_is_refused(tmp_path):
    write_tensors({"resid": torch.ones(4, 2, 3)}, tmp_path / "fit.safetensors", {})
    rows = pd.DataFrame({"prompt_id": list("abcd")})
    assert open_dump(tmp_path / "fit.safetensors", "resid", rows)[3, 1].tolist() == [1, 1, 1]
    with pytest.raises(UserError, match=r"fit\.safetensors: 4 rows, but 3 are described"):
        open_dump(tmp_path / "fit.safetensors", "resid", rows.iloc[1:])


SCRIPT = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pandas as pd
from refusal_cliff.artifacts import write_arrays, write_json, write_table
from refusal_cliff.job import job
disk = Path(sys.argv[1])
job(SimpleNamespace(log=[disk.with_name("log")], rule="rule", wildcards={}, resources={}))
try:
    WRITE
finally:
    disk.with_name("left").write_text(" ".join(os.listdir(disk)))
"""


@pytest.mark.parametrize(
    "write",
    [
        "write_table(pd.DataFrame({'a': np.random.rand(100000)}), disk / 'out.parquet', {})",
        "write_arrays({'a': np.zeros(100000)}, disk / 'out.safetensors', {})",
        "write_json('x' * 300000, disk / 'out.json')",
        "(disk / 'out').write_text('x' * 300000)",
    ],
)
def test_a_full_disk_is_one_sentence(tmp_path, write):
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.replace("WRITE", write), disk],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(artifacts.__file__).parents[1])},
        )
    assert done.returncode == 1
    assert re.search(
        r"^error: .*No space left on device.*free space on that disk.*run the same command again", done.stderr, re.M
    )
    assert "Traceback" not in done.stderr + (tmp_path / "log").read_text()
    assert (tmp_path / "left").read_text() == ("out" if "'out')" in write else "")


def model_folder(path, **config):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "llama"} | config))
    (path / "model.safetensors").write_bytes(bytes(9))
    (path / "tokenizer.json").touch()
    (path / "chat_template.jinja").write_text("{{ messages }}")
    return path


def test_a_complete_model_folder_passes(tmp_path):
    check_model_folder(model_folder(tmp_path / "model"), "subject")
    check_model_folder(model_folder(tmp_path / "guard", model_type="anything"), "guard")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_damaged_description_of_a_model_is_named(tmp_path, name):
    folder = model_folder(tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    (folder / name).write_text('{"model_type": ')
    with pytest.raises(UserError, match=rf"{name}: damaged, it is no JSON .*; fetch the model again"):
        check_model_folder(folder, "subject")


def test_a_json_file_of_the_workflows_own_is_named_with_the_command_that_rebuilds_it(tmp_path):
    (tmp_path / "truth.json").write_text("{'model': 1}")
    with pytest.raises(UserError, match=r"truth\.json: damaged, it is no JSON .*--force"):
        read_json(tmp_path / "truth.json")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "pickled weights are never loaded"),
        ("chat_template.jinja", "has no chat template; add a chat_template.jinja"),
    ],
)
def test_an_incomplete_model_folder_is_named(tmp_path, missing, message):
    folder = model_folder(tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(UserError, match=message):
        check_model_folder(folder, "subject")


def test_an_unknown_architecture_is_named(tmp_path):
    with pytest.raises(UserError, match=r"'mamba' is not supported \(supported: gemma, llama"):
        check_model_folder(model_folder(tmp_path / "model", model_type="mamba"), "subject")
